"""Latencies of the datapaths, in cycles, from the schedules and plans of `hls`.

Those of the control between them, which has no schedule, are counted (`models.transaction.register_timing`).
"""

from dataclasses import dataclass
from functools import cache

from hls import technology as technologies
from hls.datapaths import (
    flat_decision,
    head_importance,
    query_key,
    softmax,
    token_importance,
)
from hls.datapaths import top_k_graphs as top_k
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.stream import STORED_CYCLES
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class EngineTiming:
    """Of a top-k engine: rows in to the request, a pass beyond its rows, the threshold to a row of the result."""

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
        heads: a row's last elements at head importance to the score that holds them.
        engines: B, then A.
    """

    query_key: int
    maximum: int
    sums: int
    normalize: int
    decision: int
    sweep: int
    heads: int
    engines: tuple[EngineTiming, EngineTiming]

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "MachineTiming":
        """The latencies of `machine`, computed once."""
        return _timing(machine)


@cache
def _timing(machine: AcceleratorConfig) -> MachineTiming:
    library = technologies.load()
    soft, importance = softmax.plan(machine, library), token_importance.plan(machine, library)
    return MachineTiming(
        query_key=query_key.plan(machine, library).latency_cycles,
        maximum=soft.maximum_cycles,
        sums=soft.sum_cycles,
        normalize=soft.normalize.latency_cycles,
        decision=flat_decision.plan(machine, library).latency_cycles,
        sweep=importance.sweep_latency_cycles,
        heads=head_importance.plan(machine, library).latency_cycles,
        engines=tuple(_engine(machine, bits) for bits in (PROBABILITY_BITS, HEAD_SCORE_BITS)),  # type: ignore[arg-type]
    )


def _engine(machine: AcceleratorConfig, value_bits: int) -> EngineTiming:
    plan = top_k.plan(machine, technologies.load(), value_bits)
    return EngineTiming(
        fill_cycles=plan.fill_latency_cycles + STORED_CYCLES,
        pass_overhead_cycles=plan.pass_overhead_cycles,
        filter_cycles=plan.filter_latency_cycles + STORED_CYCLES,
    )
