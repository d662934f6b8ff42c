"""State of the value side between two cycles: one record of integers, which compiled code takes as one pointer.

The parts are those of the netlist, from the row queues to write-back: `hls.datapaths.row_queues`, `row_values`, both
engines of `top_k`, `kept_beats`, `value_lists`, `value_sparse`, `value_dispatch`, `probability_value`, `output_stage`
and the rows of `write_back`. A skid buffer or FIFO is the number of items in it (`_n`) and the items, the oldest first;
a pipeline is what stands in each of its stages. Rows go by their number in the layer, beats by row and number in it
(`BEAT`). Sizes and latencies are read from the netlist's own plans.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hls import technology as technologies
from hls.datapaths import kept_beats, probability_value, row_values, value_dispatch, value_lists, value_sparse
from hls.datapaths import top_k_graphs as top_k
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.output_stage import JOBS as OUTPUT_JOBS
from hls.datapaths.top_k import RESULT_ROWS, WAITING_REQUESTS
from hls.schedule import schedule
from models.config import AcceleratorConfig
from models.memory.compilation import record_dtype
from models.transaction.register_timing import RowTiming

BEAT = 20
"""A beat is `row << BEAT | number`."""
NOTHING = -1
SKID = 2
"""Places of a skid buffer, and of the FIFOs between two parts."""
B, A = 0, 1
"""The engines, the first one of a row first."""
RETIRED, JOB, DONE, FINAL = 1, 2, 4, 8
"""Bits of `event`: a row or beat that is waited for has left the row queues, a job is taken, the last outputs are
made, the last row has told its importance and left its engine."""


@dataclass(frozen=True)
class ValueSizes:
    """Sizes and latencies of the value side of a machine.

    Attributes:
        slots: P.
        top_k_lanes: T.
        lane_entries: of a lane's FIFO of the dispatch.
        value_cycles: of the pipeline of `row_values`.
        item_rows: of its FIFO of rows of items.
        fill_cycles: from a row at an engine to its row packer, of both engines.
        pass_cycles: of a pass beyond its rows.
        pack_cycles: from an admitted row to the filter's row packer.
        ring_rows: of an engine.
        group_cycles: of the grouping of `kept_beats`.
        gather_cycles: of its gathering.
        missing_cycles: of counting and packing what a beat lacks.
        weigh_cycles: of prob x V.
        segment_shift: a segment of a buffer of the Value SRAM has 2^this rows.
        segments: of a buffer.
        values_decided: as in `RowTiming`.
    """

    slots: int
    top_k_lanes: int
    lane_entries: int
    value_cycles: int
    item_rows: int
    fill_cycles: tuple[int, int]
    pass_cycles: tuple[int, int]
    pack_cycles: tuple[int, int]
    ring_rows: int
    group_cycles: int
    gather_cycles: int
    missing_cycles: int
    weigh_cycles: int
    segment_shift: int
    segments: int
    values_decided: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "ValueSizes":
        """From the netlist's plans, computed once."""
        return _sizes(machine)


@cache
def _sizes(machine: AcceleratorConfig) -> ValueSizes:
    sizes, library, period = MachineSizes.of(machine), technologies.load(), machine.clock_period_ps
    engines = [top_k.plan(machine, library, bits) for bits in (PROBABILITY_BITS, HEAD_SCORE_BITS)]

    def longest(graphs: dict[str, object]) -> dict[str, int]:
        return {n: schedule(g, library, period).latency_cycles for n, g in graphs.items()}  # type: ignore[arg-type]

    kept, missing = longest(dict(kept_beats.graphs(machine))), longest(dict(value_sparse.graphs(machine)))
    counting = longest(dict(row_values.graphs(machine)))
    weigh_cycles = probability_value.plan(machine, library).latency_cycles
    return ValueSizes(
        slots=sizes.slots,
        top_k_lanes=sizes.top_k_lanes,
        lane_entries=value_dispatch.FIFO_ROWS * sizes.rows,
        value_cycles=max(counting["kept_values"], row_values.ID_STAGES),
        item_rows=row_values.item_rows(sizes),
        fill_cycles=(engines[0].fill_latency_cycles, engines[1].fill_latency_cycles),
        pass_cycles=(engines[0].pass_overhead_cycles, engines[1].pass_overhead_cycles),
        pack_cycles=(engines[0].kept_latency_cycles, engines[1].kept_latency_cycles),
        ring_rows=engines[0].types.rows,
        group_cycles=kept["grouping"],
        gather_cycles=kept["gather"],
        missing_cycles=value_sparse.ID_CYCLES + max(missing.values()),
        weigh_cycles=weigh_cycles,
        segment_shift=sizes.segment_rows.bit_length() - 1,
        segments=sizes.segments,
        values_decided=RowTiming.of(machine).values_decided,
    )


LAYER = (
    *("generation", "keeps_all", "asks_decided", "parts", "beat_keys", "head_rows", "head_dim", "keys"),
    *("layer_rows", "layer_beats"),
)
"""What a layer is: a generation step, all values are kept, LSBs are asked for when a row is decided, parts of a key,
keys of a beat, rows of a head, D, keys, rows of all heads and their beats."""
JOB_FIELDS = 4
ROWS = (
    *("jobs", "given", "ids", "bits", "beats", "visible", "kept", "flat", "begins", "decided", "pass_rows", "passes"),
    *("filtered", "filtered_at", "grouped", "grouped_at", "lanes", "places", "lanes_at", "slots", "slots_at"),
    *("retired", "left", "second_left", "shown", "outputs", "started", "taken"),
)
"""What is known of its rows, in the order in which they go, one behind the other in an array of integers; the record
has, as `d_` and the name, where each begins (`models.transaction.value_layer`).

    jobs                      first of its K/V head, last of it, bursts of V and of its LSBs: of each job
    given                     cycle from which each job is there
    ids, bits                 of the keys; of a vector of V, of its LSBs
    beats, visible, kept, flat   of each row; `visible` in keys
    begins, decided           cycle of the first beat of the probabilities of each row, of its last pass and its first
    pass_rows, passes         of its selection
    filtered, filtered_at     kept values of each row of items; where a row's begin
    grouped, grouped_at       groups of each row of a result; where a row's begin
    lanes, places, lanes_at   of each beat of a result a bit a lane and its row of the Value SRAM; where a row's begin
    slots, slots_at           kept slots; where a row's begin

and cycles, as they happen:

    retired           last beat of each row out of its queue
    left, second_left each beat of first passes, and of second ones, out of its queue
    shown, outputs    last beat of each row at the output of `row_queues`, its outputs at write-back
    started, taken    each row in prob x V; each job
"""

MACHINE = (
    *("slots", "top_k_lanes", "lane_entries", "ring_rows", "missing_cycles", "weigh_cycles"),
    *("segment_shift", "segments", "values_decided"),
)
"""What a machine is, of `ValueSizes`."""
_SCALARS = (
    # of the machine
    *MACHINE,
    # of the layer
    *LAYER,
    *(f"d_{name}" for name in ROWS),
    # of the run
    *(
        "event",
        "known",
        "wakes",
        "watch_rows",
        "watch_beats",
        "watch_seconds",
        "retired_n",
        "left_n",
        "second_left_n",
        "started_n",
    ),
    *("jobs_given", "output_burst", "ended", "heads_ended", "added_beats", "kept_rows", "final"),
    # row queues
    *("first_row", "first_beat", "first_committed", "first_read", "first_empty", "first_valid"),
    *("second_row", "second_beat", "second_committed", "second_read", "second_empty", "second_valid"),
    *("out_row", "out_beat", "beat_there", "beat_held", "rows_inside"),
    # row values
    *("importance_from", "importance_n", "served_importance", "served_values"),
    *("beat_skid_n", "whole_skid_n", "items_n", "items_h", "flats_n", "turn"),
    # kept beats
    *("result_turn", "result_skid_n", "served_list", "served_row", "served_group", "first_result", "result_row"),
    *("result_number", "group_row", "group_number", "occupied", "held_groups", "held_row", "chosen", "gathered_row"),
    *("gathered_number", "rows_n", "beats_skid_n", "whole_served_row", "whole_served_beat"),
    *("served_lanes", "served_sparse"),
    # value lists
    *("used", "following", "request_there", "request_owner", "job_next", "job_granted", "job_seen", "jobs_n"),
    *("lists_held", "lists_written", "main_done", "extra_done", "went", "cleared", "own_buffer", "row", "event_row"),
    *("job_of_rows", "release", "row_started"),
    *("decisions", "decision_next", "decided_asked", "held_jobs_n"),
    # sparse
    *("clearing", "working", "cleared_row", "missing_n", "missing_last", "counted_at"),
    # dispatch
    *("dispatch_skid_n", "counting", "rows_in_n", "permits_n", "running", "left", "run_release"),
    *("run_buffer", "may", "all_there", "index", "told", "arrived"),
    *("counted", "flow", "most", "read_unread"),
    *("read_there", "read_last", "read_release", "weigh_there", "weigh_last", "weighing"),
    # output stage and write-back
    *("outputs_n", "output_jobs_n", "served_memory", "served_heads", "output_beat", "output_part", "output_row"),
    *("back_n", "back_filled", "back_flushing", "back_rows"),
    # counts
    *("product_cycles", "waited_cycles", "asked_msb", "asked_lsb"),
)


def _shapes(s: ValueSizes, context: int) -> dict[str, tuple[int, ...]]:
    skids = ("beat_skid", "whole_skid", "result_skid", "beats_skid", "dispatch_skid", "back")
    engines = ("engine_skid_n", "filled", "flushing", "fill_row", "written", "read", "requests_n", "waiting")
    filters = ("select_done", "select_row", "filter_idle", "filter_row", "filter_at", "packed", "packing_flush")
    counts = ("results_n", "fill_depth", "filter_depth", "pass_cycles", "busy_cycles", "item_rows_in", "pass_rows_in")
    return {
        **dict.fromkeys(skids, (SKID, 2)),
        "rows": (SKID,),
        "values": (s.value_cycles,),
        "items": (s.item_rows,),
        **dict.fromkeys((*engines, *filters, *counts, "filter_result", "packed_row"), (2,)),
        "engine_skid": (2, SKID),
        "fill": (2, max(s.fill_cycles)),
        "requests": (2, WAITING_REQUESTS),
        "filter": (2, 2 + max(s.pack_cycles)),
        "results": (2, RESULT_ROWS, 2),
        "group": (s.group_cycles,),
        "gather": (s.gather_cycles,),
        "jobs": (value_lists.JOBS_AHEAD, 2),
        "held_jobs": (value_lists.JOBS_AHEAD, 2),
        "missing": (context,),
        "asked": (context,),
        "rows_in": (value_dispatch.ROWS_UNDER_WAY, 1 + s.slots),
        "permits": (value_dispatch.ROWS_UNDER_WAY, 3),
        "run": (3,),
        "level": (s.slots,),
        "count": (s.slots,),
        "remaining": (s.slots,),
        "output_jobs": (OUTPUT_JOBS,),
    }


def new_value_state(machine: AcceleratorConfig) -> NDArray[np.void]:
    """The state after reset: an array of one record."""
    s = ValueSizes.of(machine)
    shapes = _shapes(s, machine.context_keys) | dict.fromkeys(_SCALARS, ())
    state = np.zeros(1, record_dtype({name: (np.int64, shape) for name, shape in shapes.items()}))
    for name in MACHINE:
        state[name] = getattr(s, name)
    state["fill_depth"], state["pass_cycles"] = s.fill_cycles, s.pass_cycles
    # a row is read and judged before it is packed
    state["filter_depth"] = [2 + cycles for cycles in s.pack_cycles]
    for name in ("values", "fill", "filter", "group", "gather"):
        state[name] = NOTHING
    for name in ("first_empty", "second_empty", "first_result", "waiting", "filter_idle"):
        state[name] = 1
    return state
