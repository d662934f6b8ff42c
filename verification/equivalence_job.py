"""`spatten verify --trace` and the equivalence table of the report: traces on one machine's netlist, as a result file.

The netlist is built once. Traces that the machine cannot hold at all are named and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hls.simulate import Backend, open_simulator
from models.config import AcceleratorConfig
from traces.trace import Trace
from verification.cosimulation import accelerator_of
from verification.coverage import bins
from verification.runs import Setting
from verification.trace_evidence import Excerpt, Progress, verify_trace

SCHEMA = "spatten-equivalence-1"


@dataclass(frozen=True)
class EquivalenceJob:
    """What to run.

    Attributes:
        traces: to run.
        settings: each trace under each, with `machine` in the place of their own.
        machine: whose netlist it is.
        machine_name: for the result.
        memories: kinds of memory, each.
        excerpt: of every trace.
        seed: of adversarial memories.
        backend: simulator of the netlist.
    """

    traces: Sequence[Trace]
    settings: Sequence[Setting]
    machine: AcceleratorConfig
    machine_name: str
    memories: Sequence[str] = ("hbm2",)
    excerpt: Excerpt | None = None
    seed: int = 1
    backend: Backend = "auto"

    def run(self, folder: Path, progress: Progress = lambda done, total, what: None) -> dict[str, Any]:
        """Run everything; plain data for `equivalence.json`. Reproducers of mismatches go below `folder`.

        Raises:
            ConfigError, CosimulationError: as `verify_trace`.
        """
        fitting = [t for t in self.traces if t.model.head_dim <= self.machine.max_head_dim]
        left_out = [
            f"{t.name}: head dimension {t.model.head_dim}, the machine takes {self.machine.max_head_dim}"
            for t in self.traces
            if t not in fitting
        ]
        progress(0, 0, f"building the simulator of {self.machine_name}")
        results = []
        with open_simulator(accelerator_of(self.machine), self.backend) as simulator:
            for trace in fitting:
                for setting in self.settings:
                    for memory in self.memories:
                        simulator.reset()
                        where = folder / f"{trace.name}-{setting.name}-{memory}".replace(" ", "-")
                        result = verify_trace(
                            trace,
                            setting.name,
                            setting.config,
                            simulator,
                            memory,
                            self.excerpt,
                            self.seed,
                            where,
                            progress,
                        )
                        results.append(result)
            backend = simulator.backend
        return {
            "schema": SCHEMA,
            "machine": self.machine_name,
            "backend": backend,
            "left_out": left_out,
            "results": results,
            "unreached": unreached(results, self.machine),
        }


def unreached(results: Sequence[dict[str, Any]], machine: AcceleratorConfig) -> list[str]:
    """Coverage bins that no result has reached."""
    reached = {(group, name) for result in results for group, name, count in result["coverage"] if count}
    return [f"{b.group}: {b.name}" for b in bins(machine) if (b.group, b.name) not in reached]


def all_equal(data: dict[str, Any]) -> bool:
    """Whether something was compared, and nothing differed."""
    return bool(data["results"]) and all(result["equal"] for result in data["results"])
