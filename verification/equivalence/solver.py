"""Asking bitwuzla, in a process of its own, with limits on time and memory.

Whatever happens to that process (time, memory, a signal, a crash) becomes the answer "unknown"
for the query at hand; the remaining queries go to a fresh process.
"""

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verification.equivalence.formula import Contents

_GRACE_S = 2.0
_WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Limits:
    """What one query may cost."""

    time_s: float = 60.0
    memory_mib: int = 4096

    def __post_init__(self) -> None:
        if self.time_s <= 0 or self.memory_mib < 256:
            raise ValueError(
                f"limits of {self.time_s} s and {self.memory_mib} MiB: use more than 0 s and at least 256 MiB"
            )


@dataclass(frozen=True)
class Query:
    """An SMT-LIB script without `check-sat`, and the variables wanted from a model."""

    script: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """`status` is "unsat", "sat" or "unknown"; `model` by variable name; `reason` of an unknown."""

    status: str
    seconds: float
    model: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


class Worker:
    """A solver process, and the buffer of its answers."""

    def __init__(self, limits: Limits) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), str(limits.memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def ask(self, query: Query, limits: Limits) -> dict[str, Any]:
        """The worker's reply, or an "unknown" when it gives none in time."""
        return self.tell({"script": query.script, "names": query.names}, limits)

    def tell(self, message: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
        """The same of a message of any kind, which is told its limit too."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        limited = {**message, "limit_ms": max(1, int(limits.time_s * 1000))}
        try:
            self._process.stdin.write(json.dumps(limited).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._death()
        ready, _, _ = select.select([self._process.stdout], [], [], limits.time_s + _GRACE_S)
        if not ready:
            return {"status": "unknown", "reason": f"killed after {limits.time_s:g} s and {_GRACE_S:g} s of grace"}
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return self._death()
        reply: dict[str, Any] = json.loads(line)
        return {**reply, "alive": True}

    def _death(self) -> dict[str, Any]:
        code = self._process.wait()
        cause = f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        self._errors.seek(0)
        last = self._errors.read()[-400:].decode(errors="replace").strip().splitlines()
        return {"status": "unknown", "reason": f"the solver process {cause}" + (f": {last[-1]}" if last else "")}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def _model(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Contents(v["default"], {int(a): int(w) for a, w in v["words"]}) if isinstance(v, dict) else int(v)
        for name, v in raw.items()
    }


def solve(queries: Iterable[Query], limits: Limits) -> list[Answer]:
    """An answer to each query, in order; the limits hold for each query by itself."""
    answers: list[Answer] = []
    worker: Worker | None = None
    try:
        for query in queries:
            started = time.monotonic()
            worker = worker or Worker(limits)
            reply = worker.ask(query, limits)
            if not reply.get("alive"):
                worker.close()
                worker = None
            answers.append(
                Answer(
                    status=reply["status"],
                    seconds=time.monotonic() - started,
                    model=_model(reply.get("model", {})),
                    reason=reply.get("reason", ""),
                )
            )
    finally:
        if worker is not None:
            worker.close()
    return answers
