"""`spatten verify`: the evidence of datapaths, and traces on the netlist of a machine, with their result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from models.config import AcceleratorConfig, require_choice
from traces.atomic import write_atomically
from verification.configurations import load_on
from verification.console import progress_bar

if TYPE_CHECKING:
    from verification.results import Result
    from verification.trace_evidence import Excerpt


def verify_blocks(block: list[str], seed: int, samples: int, jobs: int, out: Path, quiet: bool) -> list[Result]:
    """Run the evidence of some datapaths (none: all), and write `verify.json` and `verify.xml`."""
    from verification.results import Settings, write_json, write_junit
    from verification.runner import available_blocks, rich_progress, run_checks

    for name in block:
        require_choice(name.replace("-", "_"), available_blocks(), "block")
    settings = Settings(seed, samples, out / "counterexamples")
    with rich_progress(Console(stderr=True, quiet=quiet)) as progress:
        results = run_checks(block, progress=progress, jobs=jobs, settings=settings)
    write_json(results, out / "verify.json", settings)
    write_junit(results, out / "verify.xml")
    return results


def verify_traces(
    paths: list[Path],
    configs: list[Path],
    memories: list[str],
    preset: str,
    excerpt: Excerpt,
    seed: int,
    out: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Run traces on the netlist of a preset, and write `equivalence.json`.

    Raises:
        ConfigError, TraceError: for what cannot be run.
    """
    from verification.cosimulation import MEMORIES
    from verification.equivalence_job import EquivalenceJob
    from verification.run_job import traces_of
    from verification.runs import Setting, strengths

    loaded, machine, name = load_on(configs, preset)
    for kind in memories:
        require_choice(kind, MEMORIES, "memory")
    settings = [Setting(path.stem, config) for path, config in zip(configs, loaded, strict=True)]
    job = EquivalenceJob(traces_of(paths), settings or list(strengths(machine)), machine, name, memories, excerpt, seed)
    with progress_bar(quiet) as progress:
        data = job.run(out / "mismatches", progress)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "equivalence.json", json.dumps(data, indent=1).encode())
    return data


def build_block(name: str, preset: str) -> Any:
    """Netlist of a datapath in the size of a preset.

    Raises:
        ConfigError: for an unknown name; the message has the closest one.
    """
    from hls.datapaths.catalog import BLOCKS

    require_choice(name.replace("-", "_"), tuple(BLOCKS), "block")
    return BLOCKS[name.replace("-", "_")](AcceleratorConfig.preset(preset))
