"""`spatten simulate`: workloads on the transaction model, as a result file (`simulate.json`) and timelines.

A workload is a trace (.npz), a recorded workload (.csv), one of the published benchmarks by name, or a model and a
length (`bert-base:384`, `gpt2-medium:992+32`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.config import AcceleratorConfig, Config, ConfigError, PruningConfig, QuantizationConfig
from models.transaction.benchmarks import benchmark, benchmark_names
from models.transaction.generated import DECODERS, ENCODERS, generate, parse_profile
from models.transaction.summary import simulate_as_json, simulate_as_timeline
from models.transaction.system import simulate
from models.transaction.workload import Workload, WorkloadError
from traces.atomic import write_atomically
from traces.reading import read
from traces.trace import TraceFile
from verification.transaction_workloads import read_recorded, trace_workload

SCHEMA = "spatten-simulate-1"
Progress = Callable[[int, int, str], None]


def workloads_of(name: str, config: Config) -> Iterator[Workload]:
    """The workloads of a name or a file.

    Args:
        name: path of a trace or a recorded workload, name of a published benchmark, or model and length.
        config: machine; pruning and quantization of traces and of models with a length.

    Raises:
        TraceError, ConfigError, WorkloadError: for what cannot be read or does not exist.
    """
    if name in benchmark_names():
        yield generate(benchmark(name))
    elif ":" in name and not Path(name).exists():
        yield generate(parse_profile(name, config.pruning, config.quantization))
    elif not name or not (Path(name).suffix or Path(name).exists()):
        raise WorkloadError(_unknown(name))
    elif isinstance(content := read(name), TraceFile):
        for trace in content.sequences:
            yield trace_workload(trace, config)
    else:
        yield read_recorded(name, config.accelerator)


def _unknown(name: str) -> str:
    """What to write in place of a name that is neither a file nor known."""
    examples = [f"{model}:384" for model in ENCODERS] + [f"{model}:992+32" for model in DECODERS]
    close = difflib.get_close_matches(name[:80], [*benchmark_names(), *examples], n=1, cutoff=0.0)[0]
    return f"no file, benchmark or model with a length is called {name[:80]!r}; did you mean {close!r}?"


def simulate_data(
    names: Sequence[str],
    config: Config,
    machine_name: str,
    timelines: Path | None = None,
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Run workloads; plain data for `simulate.json`.

    Args:
        names: as `workloads_of`.
        config: under which.
        machine_name: for the result.
        timelines: folder for a timeline of each workload in Chrome's trace-event format; None writes none.
        progress: called before each workload.

    Raises:
        TraceError, ConfigError, WorkloadError: as `workloads_of`; also for a workload that the machine cannot hold.
    """
    workloads = [workload for name in names for workload in _checked(name, config)]
    results, files = [], _files([workload.name for workload in workloads])
    for i, (workload, file) in enumerate(zip(workloads, files, strict=True)):
        progress(i, len(workloads), workload.name)
        result = simulate(workload, config.accelerator)
        results.append(simulate_as_json(result))
        if timelines is not None:
            timeline = simulate_as_timeline(result)
            write_atomically(timelines / file, timeline.as_json())
            results[-1]["timeline"] = {"file": file, "slices_dropped": timeline.dropped}
    return {"schema": SCHEMA, "machine": machine_name, "config": asdict(config), "results": results}


def _checked(name: str, config: Config) -> Iterator[Workload]:
    """The workloads of a name or a file, that the machine can hold: known before the first one is run."""
    try:
        for workload in workloads_of(name, config):
            workload.check(config.accelerator)
            yield workload
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _files(names: Sequence[str]) -> list[str]:
    """Of the timelines: a name each; workloads of one name are numbered."""
    found: list[str] = []
    for name in names:
        plain, number = name.replace(":", "-").replace("/", "-"), 1
        file = f"{plain}.trace.json"
        while file in found:
            number += 1
            file = f"{plain}-{number}.trace.json"
        found.append(file)
    return found


def usual_setting(machine: AcceleratorConfig) -> Config:
    """Pruning and quantization for workloads that bring none: half of the tokens and values, 8 + 4 bits."""
    pruning = PruningConfig(value_ratio=0.5)
    return Config(machine, pruning, QuantizationConfig(8, 4, 0.1))
