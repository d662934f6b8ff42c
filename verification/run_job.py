"""`spatten run` as a result file (`run.json`): traces and recorded workloads under settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traces
from models.config import AcceleratorConfig
from traces.reading import read
from traces.trace import Trace, TraceFile
from traces.workload import RecordedWorkload

if TYPE_CHECKING:
    from verification.runs import Setting

SHIPPED = Path(traces.__file__).parent


def shipped_workloads() -> list[Path]:
    """Traces and recorded workloads that come with the project."""
    return sorted([*SHIPPED.glob("*.npz"), *SHIPPED.glob("*.csv")])


def traces_of(paths: Sequence[Path]) -> list[Trace]:
    """All traces in some files; recorded workloads have none."""
    contents = [read(path) for path in paths]
    return [trace for content in contents if isinstance(content, TraceFile) for trace in content.sequences]


def workload_facts(trace: Trace) -> dict[str, Any]:
    """What a report says of a trace."""
    return {
        "name": trace.name,
        "kind": trace.kind,
        "model": asdict(trace.model),
        "tokens": trace.tokens,
        "generated": trace.generated,
        "texts": list(trace.token_texts),
    }


def run_data(
    paths: Sequence[Path],
    settings: Sequence[Setting],
    machine: AcceleratorConfig,
    name: str,
    progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Run every trace under every setting, in integers and in float, and count recorded workloads.

    Args:
        paths: traces and recorded workloads.
        settings: each trace under each.
        machine: for the result.
        name: of the machine.
        progress: called with what is done.

    Raises:
        TraceError, ConfigError: for a file or a combination that cannot be.
    """
    from verification.recorded import recorded_as_json
    from verification.runs import summarize

    contents = {path: read(path) for path in paths}
    found = [trace for content in contents.values() if isinstance(content, TraceFile) for trace in content.sequences]
    return {
        "schema": "spatten-run-1",
        "version": version("spatten"),
        "accelerator": {"name": name, "parameters": asdict(machine)},
        "workloads": [workload_facts(trace) for trace in found],
        "runs": [summarize(trace, setting, progress).as_json() for trace in found for setting in settings],
        "recorded": [
            recorded_as_json(path.name, content)
            for path, content in contents.items()
            if isinstance(content, RecordedWorkload)
        ],
    }
