"""Latencies of the row side, in cycles, from the schedules and plans of `hls`, and the registers between them.

A schedule says how long a datapath takes. Between datapaths stand FIFOs and skid buffers of `hls.stream`, a cycle each,
and registers of the control; how many of them a signal passes follows from the module that is named with each number.
"""

from dataclasses import dataclass
from functools import cache

from hls import technology as technologies
from hls.datapaths import (
    controller_checks,
    flat_decision,
    head_importance,
    query_key,
    selection_next,
    softmax,
    token_importance,
)
from hls.datapaths import top_k_graphs as top_k
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.row_issue_walk import CLEAR_CYCLES
from hls.datapaths.row_queues import PENDING_ROWS, queue_beats
from models.config import AcceleratorConfig

FIFO = 1
"""A FIFO or skid buffer that is empty."""


@dataclass(frozen=True)
class EngineTiming:
    """Of a top-k engine: rows in to the request, a pass beyond its rows, the filter beyond its rows."""

    lanes: int
    rows: int
    fill_cycles: int
    pass_overhead_cycles: int
    filter_cycles: int


@dataclass(frozen=True)
class MachineTiming:
    """Latencies of a machine.

    Attributes:
        query_key: a beat of keys to its scores.
        maximum, sums, normalize: `SoftmaxPlan.maximum_cycles`, `sum_cycles`, and the rest.
        decision: a beat of probabilities to the same behind the flat decision.
        sweep: a row of ids that token importance takes in a sweep to the cycle after its score is out.
        checks: of the fields of a descriptor.
        heads: a row's last elements at head importance to the score that holds them.
        tally: of the protected ids of a row of their mask.
        engines: B, then A.
    """

    query_key: int
    maximum: int
    sums: int
    normalize: int
    decision: int
    sweep: int
    checks: int
    heads: int
    tally: int
    engines: tuple[EngineTiming, EngineTiming]
    first_beats: int
    replay_beats: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "MachineTiming":
        """The latencies of `machine`, computed once."""
        return _timing(machine)


PENDING = PENDING_ROWS
CLEAR = CLEAR_CYCLES


@cache
def _timing(machine: AcceleratorConfig) -> MachineTiming:
    library = technologies.load()
    soft, importance = softmax.plan(machine, library), token_importance.plan(machine, library)
    first, replay = queue_beats(machine)
    return MachineTiming(
        query_key=query_key.plan(machine, library).latency_cycles,
        maximum=soft.maximum_cycles,
        sums=soft.sum_cycles,
        normalize=soft.normalize.latency_cycles,
        decision=flat_decision.plan(machine, library).latency_cycles,
        # and the register between locating and merging
        sweep=importance.count.latency_cycles + importance.locate.latency_cycles + 1 + importance.merge.latency_cycles,
        checks=controller_checks.plan(machine, library).latency_cycles,
        heads=head_importance.plan(machine, library).latency_cycles,
        tally=selection_next.plan(machine, library).tally.latency_cycles,
        engines=tuple(_engine(machine, bits) for bits in (PROBABILITY_BITS, HEAD_SCORE_BITS)),  # type: ignore[arg-type]
        first_beats=first,
        replay_beats=replay,
    )


def _engine(machine: AcceleratorConfig, value_bits: int) -> EngineTiming:
    plan = top_k.plan(machine, technologies.load(), value_bits)
    pack = max(plan.kept_pack.latency_cycles, plan.kept_tally.latency_cycles)
    fill = max(plan.fill_pack.latency_cycles, plan.fill_tally.latency_cycles)
    return EngineTiming(
        lanes=machine.top_k_lanes,
        rows=machine.top_k_fifo_rows,
        fill_cycles=fill + FIFO,
        pass_overhead_cycles=plan.pass_overhead_cycles,
        # load, read, compare (`hls.datapaths.top_k_filter`)
        filter_cycles=3 + pack,
    )


__all__ = ["CLEAR", "FIFO", "PENDING", "EngineTiming", "MachineTiming"]
