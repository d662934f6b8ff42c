"""Checks, their results, and the result files: JSON for our reports, JUnit XML for everything else.

A proof is a test case: it passes if its verdict is at least as strong as the check requires.
REFUTED, or evidence weaker than required, is a failure; UNKNOWN is an error. Neither passes.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from traces.atomic import write_atomically
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict

FORMAT = "spatten-results-1"
FULL_SAMPLES = 1000
"""From so many samples on, a run is the full evidence: what takes minutes is then done at full size, not at tiny's."""


@dataclass(frozen=True)
class Settings:
    """What every check is given: seed and number of samples, the folder for counterexamples, solver limits."""

    seed: int = 1
    samples: int = 100
    folder: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.samples} samples show nothing: ask for at least 1")

    @property
    def full(self) -> bool:
        """Whether this is the full evidence."""
        return self.samples >= FULL_SAMPLES


@dataclass(frozen=True)
class Check:
    """One claim about a block: how it is shown, and the weakest verdict that counts as showing it."""

    name: str
    method: str
    run: Callable[[Settings], Verdict]
    least: Kind = Kind.PROVED


@dataclass(frozen=True)
class Result:
    """What a check concluded, and how long it took."""

    block: str
    name: str
    method: str
    verdict: Verdict
    least: Kind
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the verdict is as strong as required."""
        return self.verdict.at_least(self.least)

    def record(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "block": self.block,
            "name": self.name,
            "method": self.method,
            "verdict": str(self.verdict.kind),
            "count": self.verdict.count,
            "required": str(self.least),
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "detail": self.verdict.detail,
            "counterexample": None if self.verdict.counterexample is None else str(self.verdict.counterexample),
        }


def write_json(results: Sequence[Result], path: Path, settings: Settings) -> None:
    """All results with the settings they were made with; the file appears complete or not at all."""
    document = {
        "format": FORMAT,
        "seed": settings.seed,
        "samples": settings.samples,
        "passed": all(r.passed for r in results) and bool(results),
        "results": [r.record() for r in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def _case(result: Result) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=f"verification.{result.block}", name=result.name, time=f"{result.seconds:.3f}"
    )
    verdict = result.verdict
    said = f"{verdict} by {result.method}: {verdict.detail}" if verdict.detail else f"{verdict} by {result.method}"
    if not result.passed:
        wrong = "error" if verdict.kind is Kind.UNKNOWN else "failure"
        message = said if not verdict.passes else f"{said}; {result.least} is required"
        ElementTree.SubElement(case, wrong, message=_printable(message), type=str(verdict.kind))
    text = said if verdict.counterexample is None else f"{said}\ncounterexample: {verdict.counterexample}"
    ElementTree.SubElement(case, "system-out").text = _printable(text)
    return case


def _printable(text: str) -> str:
    """XML 1.0 has no control characters."""
    return "".join(c if c in "\n\t" or c >= " " else "?" for c in text)


def write_junit(results: Sequence[Result], path: Path) -> None:
    """One suite a block, one case a check; the file appears complete or not at all."""
    root = ElementTree.Element("testsuites", name="spatten verify")
    for block in dict.fromkeys(r.block for r in results):
        own = [r for r in results if r.block == block]
        errors = sum(r.verdict.kind is Kind.UNKNOWN for r in own)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=block,
            tests=str(len(own)),
            failures=str(sum(not r.passed for r in own) - errors),
            errors=str(errors),
            time=f"{sum(r.seconds for r in own):.3f}",
        )
        suite.extend(_case(r) for r in own)
    ElementTree.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
