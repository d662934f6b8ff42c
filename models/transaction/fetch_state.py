"""State of the fetch side between two cycles: one record of integers, which compiled code takes as one pointer.

The parts are those of the netlist (`hls.datapaths.fetch_side`, `hls.datapaths.memory_port`): list sequencer, fetcher
(rows of vectors, a lane a queue, both crossbars), landing lanes with their converters, landing groups and the slow
port, and a channel's requests. Vectors and lists stand in rings, by number, and the places of lanes hold these numbers.
Sizes and latencies are read from the netlist's own plans. `models.transaction.fetch_loop` moves the state on.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hls.datapaths import bitwidth_converter, fetcher
from hls.datapaths.crossbar import OUTPUT_DEPTH, burst_slots, data_parts
from hls.datapaths.fetch_lane import BURSTS_AHEAD, VECTORS_AHEAD
from hls.datapaths.list_sequencer import STREAMS, WINDOW_PER_QUEUE
from hls.datapaths.machine_sizes import QUERY_LINES, MachineSizes
from hls.datapaths.operand_sram import PARITIES
from models.config import AcceleratorConfig
from models.memory.compilation import record_dtype

QUERY, KEY_LSB, KEY, VALUE = (STREAMS.index(f"{name}_request") for name in ("query", "key_lsb", "key", "value"))
"""Streams of list requests: the less, the more urgent."""
TO_KEY, TO_VALUE, TO_QUERY, TO_SPARSE = range(4)
"""Where lists go (`hls.datapaths.machine_sizes.Destination`)."""
PURPOSES = ("q", "k_msb", "k_lsb", "v_msb", "v_lsb", "control_read", "output", "control_write")
"""What bursts are for."""
ACCEPTED, LANDED, LINE, READ, WRITTEN, SWEPT, SCORES_READ = (1 << i for i in range(7))
"""Bits of `event`: a list is accepted that is not one of values, nothing is pending for a segment of a K buffer, a
query line has landed, all control reads are answered, all writes acknowledged; at the end of a layer all S_t are read,
and all S_h."""
END, COLLECT, ASK = 1, 2, 4
"""Parts of a lane (`models.transaction.fetch_lanes`), bits of `awake`."""
LIST_RING = 32
"""Lists that lanes and landing may be at; those that are offered stand behind them, one a stream."""
RING = 1 << 14
"""Bursts of the controller and of the write-back that wait."""
NOTHING = -1


@dataclass(frozen=True)
class FetchSizes:
    """Sizes and latencies of the fetch side of a machine; a segment has 2^`segment_shift` vectors."""

    queues: int
    channels: int
    address_depth: int
    answer_fifos: int
    places: int
    locate_cycles: int
    convert_cycles: int
    groups: int
    vectors: int
    word_shift: int
    segments: int
    segment_shift: int
    list_rows: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "FetchSizes":
        """From the netlist's plans, computed once."""
        return _sizes(machine)


@cache
def _sizes(machine: AcceleratorConfig) -> FetchSizes:
    sizes = MachineSizes.of(machine)
    return FetchSizes(
        queues=machine.fetch_queues,
        channels=machine.hbm_channels,
        address_depth=machine.address_queue_depth,
        answer_fifos=data_parts(machine) * machine.hbm_channels,
        places=burst_slots(machine),
        locate_cycles=fetcher.plan(machine).locate.latency_cycles,
        convert_cycles=bitwidth_converter.plan(machine).latency_cycles,
        groups=min(sizes.queues, PARITIES * sizes.slots),
        vectors=16 * machine.context_keys,
        word_shift=(8 * machine.data_queue_bytes).bit_length() - 1,
        segments=sizes.segments,
        segment_shift=(sizes.slots * sizes.segment_rows).bit_length() - 1,
        list_rows=-(-machine.context_keys // machine.top_k_lanes),
    )


_SCALARS = (
    *("now", "event", "idle", "word_shift", "segment_shift", "lists_taken", "vectors_made", "active"),
    *("sent", "row_there", "row_at", "row_count", "row_last", "skid_n", "begins"),
    *("behind_any", "on_the_way", "window", "group", "got_there", "got_at", "got_count"),
    *("got_last", "slow_first", "slow_granted", "slow_1", "slow_2", "landed_all"),
    *(
        "landed_sparse",
        "sparse_left",
        "reads_made",
        "reads_sent",
        "reads_late",
        "reads_skid_n",
        "reads_done",
        "out_made",
    ),
    *(
        "data_granted_n",
        "data_leaving_n",
        "offered_n",
        "rows_inside",
        "out_sent",
        "end_made",
        "end_sent",
        "owed_back",
        "owed_control",
        "landing",
        "landing_from",
        "asking",
        "granting",
        "answers_inside",
    ),
    # the end of a layer
    *("ending", "ending_over", "sweep_cycles", "sweep_from", "swept", "sweep_asks", "sweep_pipe", "sweep_results"),
    *("items_taken", "item_served", "items_end", "tokens_end", "list_end", "heads_end", "words_end"),
    *("selects_tokens", "selects_heads", "heads_from", "heads_read", "head_read", "head_words", "word_served"),
    *("word_written", "head_items", "heads_in", "answer_at", "answer_cycles", "write_turn"),
)


def _shapes(s: FetchSizes) -> dict[str, tuple[int, ...]]:
    q, c, d = s.queues, s.channels, s.address_depth
    places = (2, 2, s.segments)
    of_lists = ["count", "first", "destination", "buffer", "place", "purpose"]
    of_vectors = ["burst", "span", "from", "to", "before", "after", "list", "index"]
    of_lanes = (
        *("vectors_n", "done", "asked_n", "asked_h", "ask_skid_n", "expected_n", "expected_h"),
        *("next_n", "head", "tail", "taken", "oldest", "burst_at", "offered"),
        *("ahead_n", "begun", "word_at", "words_n", "position", "lane_vector", "converting"),
        *("data_grant", "data_place", "data_first", "data_granted", "data_leaving", "awake", "convert_n", "convert_h"),
        *("granted", "popped", "was_offered", "shared", "shares"),
    )
    of_channels = (
        *("xbar_first", "credit", "route", "out_n", "room", "port_n", "turn"),
        *("memory_n", "back_n", "control_owed", "back_owed", "chosen"),
        *("accepted", "read_tag", "write_tag"),
    )
    return {
        "offer": (4,),
        "offered_from": (4,),
        "skid": (2, 3),
        "pipe": (max(1, s.locate_cycles), 4),
        **dict.fromkeys(("landed", "left", "landed_at"), places),
        "values_pending": (2,),
        **{f"list_{name}": (LIST_RING + 4,) for name in of_lists},
        **{f"v_{name}": (s.vectors,) for name in of_vectors},
        **dict.fromkeys(of_lanes, (q,)),
        **dict.fromkeys(of_channels, (c,)),
        "vectors": (q, VECTORS_AHEAD),
        "asked": (q, d, 2),
        "ask_skid": (q, 2, 2),
        "expected": (q, d),
        "next": (q, 2),
        "filled": (q, s.places),
        "ahead": (q, BURSTS_AHEAD, 2),
        "words": (q, 2),
        "convert": (q, s.convert_cycles),
        "convert_at": (q, s.convert_cycles),
        "route_item": (c, 3),
        "out": (c, OUTPUT_DEPTH, 3),
        "port": (c, 2, 3),
        "memory": (c, 2, 4),
        **dict.fromkeys(("answers_n", "answers_h", "answer_skid_n"), (s.answer_fifos,)),
        "answers": (s.answer_fifos, d),
        "answer_skid": (s.answer_fifos, 2),
        "back": (c, 2),
        "group_first": (s.groups,),
        "group_held": (s.groups,),
        "line_there": (QUERY_LINES,),
        "bursts": (len(PURPOSES),),
        "read_address": (RING,),
        "read_cycle": (RING,),
        "out_address": (RING,),
        "out_cycle": (RING,),
        "end_address": (RING,),
        "end_cycle": (RING,),
        **dict.fromkeys(
            (
                "rows_total",
                "rows_queued",
                "rows_taken",
                "rows_written",
                "row_part",
                "row_bursts",
                "burst_rows",
                "write_burst",
            ),
            (4,),
        ),
        "list_at": (s.list_rows,),
    }


def new_state(machine: AcceleratorConfig) -> NDArray[np.void]:
    """The state after reset: an array of one record."""
    s = FetchSizes.of(machine)
    shapes = _shapes(s)
    shapes |= dict.fromkeys(_SCALARS, ())
    state = np.zeros(1, record_dtype({name: (np.int64, shape) for name, shape in shapes.items()}))
    state["room"], state["credit"] = s.address_depth, OUTPUT_DEPTH
    state["word_shift"], state["segment_shift"] = s.word_shift, s.segment_shift
    state["window"] = WINDOW_PER_QUEUE * s.queues
    state["awake"] = END | COLLECT | ASK
    for name in ("oldest", "converting", "data_grant", "route", "group_held", "offer"):
        state[name] = NOTHING
    for name in ("active", "slow_granted", "slow_1", "slow_2"):
        state[name] = NOTHING
    state["idle"] = state["granting"] = 1
    return state
