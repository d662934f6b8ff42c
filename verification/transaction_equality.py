"""Transaction model against netlist: each layer on both, and how far the cycles of its rows are apart.

The model is stepped layer by layer beside the netlist. It gets what the netlist gets: the layer of the integer
reference, the addresses of the host, and a copy of the memory as it is when the layer begins, so with HBM2 the same
rows are open and the same refresh is due, and an adversarial memory stalls alike. A row has two cycles, from the start
of its layer: when it leaves the row queues, and when its outputs go to write-back. A layer has two: when the first
scores of its first row come out of Q x K, and when it is done, with its selection and answer. A pass that only selects
has no rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import Config
from models.memory.interface import Memory
from models.reference.quantization import Planes
from models.reference.stack import Run
from models.transaction.layer_plan import Following
from models.transaction.machine_timing import MachineTiming
from models.transaction.placement import Placement
from models.transaction.replay import layer_work, selection
from models.transaction.system import Asked, LayerResult, System
from models.transaction.workload import IntArray, LayerWork, ModelShape, Selection, Workload

if TYPE_CHECKING:
    from verification.accelerator_host import Request

Array = NDArray[np.int64]
BOUND = 0.01
"""Of a layer's cycles: a row that is further off is an error of the run. On an ideal memory and on HBM2 rows are
equal. A memory that stalls at random now and then lets another request of a channel go first."""
FAR_CYCLES = int(np.iinfo(np.int64).max >> 1)
"""Between what is there on one level only."""
NEAR_CYCLES = 8
"""So far off a row of any layer may be: such an exchange is more than a hundredth of a layer of some hundred cycles."""


@dataclass(frozen=True)
class LayerEquality:
    """A layer on both levels.

    Attributes:
        name: of the layer.
        rows: cycles of the model's rows less those of the netlist's.
        outputs: the same of their outputs.
        starts: the same of the first scores of the first row, out of Q x K; none without rows.
        cycles: of the layer, the model's less the netlist's.
        netlist_cycles: of the layer.
    """

    name: str
    rows: Array
    outputs: Array
    starts: Array
    cycles: int
    netlist_cycles: int

    @property
    def equal(self) -> bool:
        """Every row comes and goes in the same cycle on both; the layer starts and is done in the same ones."""
        return not self.rows.any() and not self.outputs.any() and not self.starts.any() and self.cycles == 0

    @property
    def worst_cycles(self) -> int:
        """Of all rows and of start and end of the layer, the most cycles between both."""
        of_rows = (np.abs(cycles).max(initial=0) for cycles in (self.rows, self.outputs, self.starts))
        return int(max(*of_rows, abs(self.cycles)))

    @property
    def within_bound(self) -> bool:
        """Neither a row nor the end is further off than `BOUND` and `NEAR_CYCLES` allow."""
        return self.worst_cycles <= self.far_cycles

    @property
    def far_cycles(self) -> float:
        """A row or an end that is further off is an error."""
        return max(BOUND * self.netlist_cycles, NEAR_CYCLES)


class TransactionLevel:
    """The model beside a netlist that runs the layers of a run."""

    def __init__(self, run: Run[Planes], config: Config, memory: Memory) -> None:
        s = run.sequence
        self.run, self.machine = run, config.accelerator
        self.shape = ModelShape("compared", s.layers, s.heads, len(s.k[0]), s.head_dim)
        self._request: Request | None = None
        self._scores = torch.zeros(s.tokens, dtype=torch.int64)  # S_t as the netlist has them
        bits = ((run.quantization.msb_bits, run.quantization.lsb_bits),)
        self.system = System(
            Workload("compared", "the run of the netlist", self.shape, s.tokens, bits, lambda: iter(())),
            self.machine,
            copy.deepcopy(memory),
            self._placement,
            self._protected,
            run.pruning.prunes_values,
            self._layers(),
        )

    def layer(self, request: Request, memory: Memory) -> LayerResult:
        """Run what the netlist is asked for, on the memory as it is before; the memory is not changed."""
        self._request = request
        return self.system.step(copy.deepcopy(memory))

    def compare(
        self,
        request: Request,
        memory: Memory,
        cycles: int,
        start_cycles: Array,
        row_cycles: Array,
        output_cycles: Array,
    ) -> LayerEquality:
        """A layer that the netlist has run, and the memory as it was before."""
        found = self.layer(request, memory)
        rows, outputs = (
            _differences(mine, theirs)
            for mine, theirs in ((found.row_cycles, row_cycles), (found.output_cycles, output_cycles))
        )
        # a beat, a cycle later beside the keys that it reads, and its scores behind Q x K
        scores = found.events.passes[:1, 2] + 2 + MachineTiming.of(self.machine).query_key
        starts = _differences(scores, start_cycles)
        return LayerEquality(request.name, rows, outputs, starts, found.cycles - cycles, cycles)

    def _asked(self) -> Request:
        assert self._request is not None
        return self._request

    def _layers(self) -> Iterator[Asked]:
        while True:
            request = self._asked()
            work = layer_work(self.run, self.shape, request.plan.length, request.result, self.machine.top_k_lanes)
            if request.expected is None:
                only = replace(work, present_ids=request.tokens).selection_on_entering()
                assert only is not None
                work = only
                self._scores = self._scores * (1 - request.fields["clear_tokens"])
            else:
                self._scores = request.result.importance.tokens
            after = Following(request.next_tokens, request.next_heads)
            yield work, self._tokens(request), self._heads(request), after
            self._scores = self._scores >> int(request.halve)

    def _placement(self, work: LayerWork) -> Placement:
        request = self._asked()
        return {**request.fields, "descriptor_address": request.address}

    def _protected(self, work: LayerWork) -> IntArray:
        return np.flatnonzero(self._asked().plan.protected.numpy())

    def _tokens(self, request: Request) -> Selection | None:
        """Of tokens, behind the layer."""
        ids, protected = torch.as_tensor(request.tokens), request.plan.protected
        free = ids[~protected[ids]]
        kept = request.fields["next_keys"] - (len(ids) - len(free))
        if request.fields["next_keys"] >= len(ids) or kept <= 0:
            return None
        return selection(self._scores[free], kept, self.machine.top_k_lanes)

    def _heads(self, request: Request) -> Selection | None:
        """Of heads, behind the layer."""
        heads, kept = request.result.heads, request.fields["next_heads"]
        if kept >= len(heads):
            return None
        return selection(request.result.importance.heads[heads], kept, self.machine.top_k_lanes)


def _differences(model: Array, netlist: Array) -> Array:
    """The model's cycles less the netlist's; where there are not as many, all of a layer's rows are far off."""
    if len(model) != len(netlist):
        return np.full(max(len(model), len(netlist)), FAR_CYCLES)
    return np.asarray(model - netlist, np.int64)


def summary(layers: Sequence[LayerEquality]) -> dict[str, Any]:
    """All layers of a run as JSON values: rows, those that come and go in the same cycle, the worst difference."""
    same = sum(int(((one.rows == 0) & (one.outputs == 0)).sum()) for one in layers if len(one.rows) == len(one.outputs))
    return {
        "rows": sum(len(one.rows) for one in layers),
        "equal_rows": same,
        "worst_cycles": max((one.worst_cycles for one in layers), default=0),
        "worst_share": max((one.worst_cycles / one.netlist_cycles for one in layers), default=0.0),
        "worst_start_cycles": max((int(np.abs(one.starts).max(initial=0)) for one in layers), default=0),
        "worst_layer_cycles": max((abs(one.cycles) for one in layers), default=0),
        "bound": BOUND,
    }


def record(found: LayerEquality) -> dict[str, Any]:
    """A layer as JSON values."""
    return {
        "equal_rows": int((found.rows == 0).sum()),
        "equal_outputs": int((found.outputs == 0).sum()),
        "rows": len(found.rows),
        "worst_cycles": found.worst_cycles,
        "start_cycles": found.starts.tolist(),
        "layer_cycles": found.cycles,
        "within_bound": found.within_bound,
    }
