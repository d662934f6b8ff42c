"""`spatten report`, the main job: what makes each of its result files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.config import AcceleratorConfig

MACHINE = "spatten"
NETLIST_MACHINE = "tiny"
QUICK_TOKENS, QUICK_STEPS, QUICK_LAYERS = 12, 2, 2
TOKENS, STEPS = 40, 4
PUBLISHED = ("gpt2-small-wikitext2", "gpt2-medium-wikitext2", "bert-base-squad-v1")
"""Published workloads that the report simulates; the first one where it is short."""
RECORDED = Path(__file__).parents[2] / "shared" / "workloads" / "gpt2-small-wikitext2.csv"
"""The released form of the first one, simulated too where it lies beside the checkout."""
Progress = Callable[[int, int, str], None]


def results(quick: bool, out: Path) -> dict[str, Callable[[Progress], dict[str, Any]]]:
    """What makes each result file, by its name."""
    from verification.equivalence_job import EquivalenceJob
    from verification.estimate_job import machine_estimate
    from verification.run_job import run_data, shipped_workloads, traces_of
    from verification.runs import strengths
    from verification.simulate_job import simulate_data, usual_setting
    from verification.trace_evidence import Excerpt

    machine, small = AcceleratorConfig.preset(MACHINE), AcceleratorConfig.preset(NETLIST_MACHINE)
    paths = shipped_workloads()
    excerpt = Excerpt(QUICK_TOKENS, QUICK_STEPS, QUICK_LAYERS) if quick else Excerpt(TOKENS, STEPS)
    traces = traces_of([path for path in paths if path.suffix == ".npz"])
    every = 2 if quick else 1
    recorded = [RECORDED] if RECORDED.exists() else []
    simulated = [*map(str, [*paths, *recorded]), *PUBLISHED[: 1 if quick else None]]
    job = EquivalenceJob(traces, strengths(small)[::every], small, NETLIST_MACHINE, excerpt=excerpt)
    return {
        "run": lambda progress: run_data(paths, strengths(machine)[::every], machine, MACHINE, progress),
        "equivalence": lambda progress: job.run(out / "mismatches", progress),
        "estimate": lambda progress: machine_estimate(machine, MACHINE),
        "simulate": lambda progress: simulate_data(simulated, usual_setting(machine), MACHINE, out, progress),
    }
