"""Latencies of the row side, in cycles, from the schedules and plans of `hls`, and the registers between them.

A schedule says how long a datapath takes. Between datapaths stand FIFOs and skid buffers of `hls.stream`, a cycle each,
and registers of the control; how many of them a signal passes follows from the module that is named with each number.
"""

from dataclasses import dataclass
from functools import cache

from hls import technology as technologies
from hls.datapaths import flat_decision, kept_beats, probability_value, query_key, row_values, softmax
from hls.datapaths import top_k_graphs as top_k
from hls.datapaths.kept_beats import graphs as kept_graphs
from hls.datapaths.machine_sizes import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.row_issue_walk import CLEAR_CYCLES
from hls.datapaths.row_queues import PENDING_ROWS, queue_beats
from hls.datapaths.row_values import ID_STAGES
from hls.datapaths.value_dispatch import ROWS_UNDER_WAY
from hls.schedule import schedule
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
        prune: a beat out of `row_queues` to the row of items that an engine is offered.
        whole: a beat out of `row_queues` into the lanes' FIFOs of `value_dispatch`, where all values are kept.
        whole_row: the same to the record that says that a row has begun.
        gather: a row of a result to its first beat in the lanes' FIFOs.
        weigh: the last entries of a row to its outputs at the output stage.
        engines: B, then A.
    """

    query_key: int
    maximum: int
    sums: int
    normalize: int
    decision: int
    prune: int
    whole: int
    whole_row: int
    gather: int
    weigh: int
    engines: tuple[EngineTiming, EngineTiming]
    first_beats: int
    replay_beats: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "MachineTiming":
        """The latencies of `machine`, computed once."""
        return _timing(machine)


PENDING = PENDING_ROWS
CLEAR = CLEAR_CYCLES
DISPATCH_ROWS = ROWS_UNDER_WAY


@cache
def _timing(machine: AcceleratorConfig) -> MachineTiming:
    library, period = technologies.load(), machine.clock_period_ps
    soft, pv = softmax.plan(machine, library), probability_value.plan(machine, library)
    count = schedule(row_values.count_graph(machine), library, period).latency_cycles
    kept = {n: schedule(g, library, period).latency_cycles for n, g in kept_graphs(machine).items()}
    # row_values: skid buffer, then a pipeline as long as the ids or k take
    values = FIFO + max(count, ID_STAGES)
    first, replay = queue_beats(machine)
    return MachineTiming(
        query_key=query_key.plan(machine, library).latency_cycles,
        maximum=soft.maximum_cycles,
        sums=soft.sum_cycles,
        normalize=soft.normalize.latency_cycles,
        decision=flat_decision.plan(machine, library).latency_cycles,
        # FIFO of rows of items, skid buffer of the engine
        prune=values + 2 * FIFO,
        # skid buffers: whole beats, beats, beats of the dispatch
        whole=values + 3 * FIFO,
        # skid buffer of whole beats, FIFO of rows
        whole_row=values + 2 * FIFO,
        # skid buffer, grouping, its register, gathering, skid buffers of beats and of the dispatch
        gather=FIFO + kept["grouping"] + FIFO + kept["gather"] + 2 * FIFO,
        # entries read, SRAM, prob x V, FIFO of outputs
        weigh=2 + pv.latency_cycles + FIFO,
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


__all__ = ["CLEAR", "DISPATCH_ROWS", "FIFO", "PENDING", "EngineTiming", "MachineTiming", "kept_beats"]
