"""Transaction model against netlist: the same run on both, and how far the cycles of their rows are apart.

The netlist runs in lockstep with the reference (`verification.cosimulation.Lockstep`); the transaction model gets the
same layers (`models.transaction.replay`), the addresses of the same host, and a memory of its own of the same kind. A
row has two cycles, from the start of its layer: when it leaves the row queues, and when its outputs go to write-back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import Config
from models.reference.cascade import PassKind, plan_pass
from models.reference.quantization import Planes
from models.reference.stack import Run
from models.transaction.placement import Placement
from models.transaction.replay import replay
from models.transaction.system import LayerResult, simulate
from models.transaction.workload import IntArray, LayerWork
from verification.cosimulation import LayerRun, make_memory

Array = NDArray[np.int64]


@dataclass(frozen=True)
class LayerEquality:
    """A layer on both levels.

    Attributes:
        name: of the layer.
        rows: cycles of the model's rows less those of the netlist's.
        outputs: the same of their outputs.
        cycles: of the layer, the model's less the netlist's.
        netlist_cycles: of the layer.
    """

    name: str
    rows: Array
    outputs: Array
    cycles: int
    netlist_cycles: int

    @property
    def equal(self) -> bool:
        """Every row comes and goes in the same cycle on both."""
        return not self.rows.any() and not self.outputs.any()

    @property
    def worst_cycles(self) -> int:
        """Of all rows, the most cycles between both."""
        return int(max(np.abs(self.rows).max(initial=0), np.abs(self.outputs).max(initial=0)))


def model_layers(run: Run[Planes], config: Config, layers: Sequence[LayerRun], memory_kind: str) -> list[LayerResult]:
    """The transaction model's run of what the netlist ran.

    Args:
        run: of the reference, integer arithmetic.
        config: that it ran under.
        layers: what the netlist did, in order; those that only select are left out.
        memory_kind: of `verification.cosimulation.make_memory`.
    """
    machine = config.accelerator
    requests = iter([layer.request for layer in layers if layer.request.expected is not None])

    def placement(work: LayerWork) -> Placement:
        request = next(requests)
        return {**request.fields, "descriptor_address": request.address}

    def protected(work: LayerWork) -> IntArray:
        s = run.sequence
        kind: PassKind = "step" if work.step else "encoder" if s.prompt is None else "prompt"
        plan = plan_pass(run.pruning, kind, work.step, work.tokens, s.layers, s.heads)
        return np.flatnonzero(plan.protected.numpy())

    workload = replay(run, "compared", "the run of the netlist", machine.top_k_lanes)
    prunes = run.pruning.value_ratio16 < 1 << 16
    return simulate(workload, machine, make_memory(memory_kind, machine), placement, prunes, protected).layers


def compare(run: Run[Planes], config: Config, layers: Sequence[LayerRun], memory_kind: str) -> list[LayerEquality]:
    """Both levels, layer by layer; arguments as for `model_layers`.

    Raises:
        ValueError: if the netlist has not run all layers.
    """
    ran = [layer for layer in layers if layer.request.expected is not None]
    found = model_layers(run, config, layers, memory_kind)
    if len(found) != len(ran):
        raise ValueError(f"the netlist ran {len(ran)} layers, the workload has {len(found)}; run all of them")
    return [
        LayerEquality(
            name=netlist.request.name,
            rows=model.row_cycles - netlist.row_cycles,
            outputs=model.output_cycles - netlist.output_cycles,
            cycles=model.cycles - netlist.cycles,
            netlist_cycles=netlist.cycles,
        )
        for model, netlist in zip(found, ran, strict=True)
    ]
