"""State of the fetch side between two cycles: one record of integers, which compiled code takes as one pointer.

The parts are those of the netlist (`hls.datapaths.fetch_side`, `hls.datapaths.memory_port`): list sequencer, fetcher
(rows of vectors, a lane a queue, both crossbars), landing lanes with their converters, landing groups and the slow
port, and a channel's requests. Sizes and latencies are read from the netlist's own plans.
`models.transaction.fetch_loop` moves the state on.

Flags of lanes, groups and channels are masks, a bit each: a part of all lanes is a few operations on masks, then a loop
over those that move. What goes through a lane keeps its order, so it stands in one ring a lane, and FIFOs are
where in the ring each of the lane's parts is: nothing is copied from one to the next. The same holds for a channel's
requests, and its answers. `_any` is a mask of FIFOs that are not empty, `_full` of those without room.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hls.datapaths import bitwidth_converter, fetcher, selection_next
from hls.datapaths.crossbar import OUTPUT_DEPTH, burst_slots, data_parts
from hls.datapaths.descriptor import MAX_HEADS
from hls.datapaths.fetch_lane import BURSTS_AHEAD, VECTORS_AHEAD
from hls.datapaths.landing_write import landing_groups
from hls.datapaths.list_sequencer import STREAMS, WINDOW_PER_QUEUE
from hls.datapaths.machine_sizes import KEY_PLACES, QUERY_LINES, MachineSizes
from hls.datapaths.selection_next import LISTED_ROWS
from models.config import AcceleratorConfig, ConfigError
from models.memory.compilation import record_dtype

QUERY, KEY_LSB, KEY, VALUE = (STREAMS.index(f"{name}_request") for name in ("query", "key_lsb", "key", "value"))
"""Streams of list requests: the less, the more urgent."""
TO_KEY, TO_VALUE, TO_QUERY, TO_SPARSE = range(4)
"""Where lists go (`hls.datapaths.machine_sizes.Destination`)."""
PURPOSES = ("q", "k_msb", "k_lsb", "v_msb", "v_lsb", "control_read", "output", "control_write")
"""What bursts are for."""
PURPOSE_BITS = 3
ACCEPTED, LANDED, LINE, READ, WRITTEN, SWEPT, SCORES_READ = (1 << i for i in range(7))
"""Bits of `event`: a list is accepted that is not one of values, nothing is pending for a segment of a K buffer
that is watched, a query line has landed, all control reads are answered, all writes acknowledged; at the end of a layer
all S_t are read, and all S_h."""
LIST_RING = 32
"""Lists that lanes and landing may be at; those that are offered stand behind them, one a stream."""
RING = 1 << 14
"""Bursts of the controller and of the write-back that wait."""
BURST, SHAPE, PLACE = range(3)
"""Of a vector in a lane: its first burst; how it stands in its bursts; its list and number in it.

`SHAPE` has the number of further bursts, the first word of the first one and the last word of the last one, 8 bits
each, then `BEFORE` and `AFTER`: it shares its first burst with the vector before, its last one with that behind.
`PLACE` is `number * LIST_RING + list`."""
BEFORE, AFTER = 1 << 24, 1 << 25
NOTHING = -1
MOST = 64
"""Bits of a mask."""


@dataclass(frozen=True)
class FetchSizes:
    """Sizes and latencies of the fetch side of a machine.

    A segment has 2^`segment_shift` vectors, a row of a buffer 2^`slot_shift`; a row of the fetcher has vectors of
    2^`rate_shift` rows of a buffer, or of a part of one.
    """

    queues: int
    half_turn: int
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
    slot_shift: int
    rate_shift: int
    list_rows: int
    list_cycles: int
    result_rows: int

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "FetchSizes":
        """From the netlist's plans, computed once.

        Raises:
            ConfigError: for more queues or channels than a mask has bits.
        """
        return _sizes(machine)


@cache
def _sizes(machine: AcceleratorConfig) -> FetchSizes:
    answer_fifos, places = data_parts(machine) * machine.hbm_channels, burst_slots(machine)
    masks = (("fetch_queues", machine.fetch_queues), ("hbm_channels", answer_fifos), ("data_queue_depth", places))
    for name, count in masks:
        if count > MOST:
            wanted = getattr(machine, name)
            raise ConfigError(
                f"accelerator.{name}: {wanted} are more than the transaction model takes; use {wanted * MOST // count}"
            )
    sizes = MachineSizes.of(machine)
    return FetchSizes(
        queues=machine.fetch_queues,
        channels=machine.hbm_channels,
        address_depth=machine.address_queue_depth,
        answer_fifos=answer_fifos,
        places=places,
        locate_cycles=fetcher.plan(machine).locate.latency_cycles,
        convert_cycles=bitwidth_converter.plan(machine).latency_cycles,
        half_turn=sizes.half_turn,
        groups=landing_groups(sizes),
        vectors=16 * machine.context_keys,
        word_shift=(8 * machine.data_queue_bytes).bit_length() - 1,
        segments=sizes.segments,
        segment_shift=(sizes.slots * sizes.segment_rows).bit_length() - 1,
        slot_shift=sizes.slots.bit_length() - 1,
        rate_shift=sizes.fetch_rate_shift,
        list_rows=-(-machine.context_keys // machine.top_k_lanes),
        result_rows=-(-(machine.context_keys + MAX_HEADS) // machine.top_k_lanes) + 2,
        list_cycles=selection_next.plan(machine).latency_cycles,
    )


_MASKS = (
    # lanes: FIFOs of vectors, of requests behind it and in the skid buffer, of vectors to collect
    *("vectors_any", "vectors_full", "asked_any", "asked_full", "ask_any", "ask_full", "taken_full"),
    *("expected_any", "expected_full", "next_any", "next_full", "next_before", "next_after"),
    # the oldest burst of the reorder buffer, that behind it, and one that is offered to the next lane
    *("oldest", "head_filled", "offered"),
    # collected bursts, words, the word at the converter, the converter's row that nobody took
    *("ahead_any", "ahead_full", "ahead_last0", "ahead_last1", "words_any", "words_full", "word_last0", "word_last1"),
    *("converting", "converting_last", "due", "list_has", "list_over"),
    # groups; channels
    *("held", "held_slow", "segments_landed", "segments_watched"),
    *("credit_any", "route", "out_any", "room_any", "port_any", "port_full", "memory_any", "memory_full", "back_any"),
    *("requests_any", "turn0", "turn1", "answers_any", "answer_any", "answer_full"),
)
_SCALARS = (
    *("address_depth", "vectors_ahead", "convert_cycles", "burst_words", "word_shift", "segment_shift"),
    *("now", "event", "idle", "lists_taken", "slowest", "vectors_made", "active"),
    *(
        "sent",
        "row_there",
        "row_at",
        "row_count",
        "row_last",
        "row_list",
        "skid_n",
        "begins",
        "msb_begins",
        "sharing",
        "unread",
        "unread_buffer",
        "unread_row",
        "waits",
    ),
    *("slot_shift", "rate_shift", "half_turn"),
    *("behind_any", "on_the_way", "window", "msb_window", "group", "got_there", "got_at", "got_count"),
    *("got_last", "got_list", "slow_first", "slow_granted", "slow_1", "slow_2", "landed_all"),
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
        "data_turn",
        "offered_n",
        "rows_inside",
        "out_sent",
        "end_made",
        "end_sent",
        "owed_back",
        "owed_control",
    ),
    # the end of a layer
    *("ending", "ending_over", "sweep_cycles", "sweep_from", "swept", "sweep_asks", "sweep_pipe", "sweep_results"),
    *("items_taken", "item_served", "items_end", "tokens_end", "list_end", "heads_end", "words_end"),
    *("selects_tokens", "selects_heads", "heads_from", "heads_read", "head_read", "head_words", "word_served"),
    *("word_written", "head_items", "heads_in", "answer_at", "answer_cycles", "write_turn"),
    *("walk_from", "walk_row", "list_rows", "list_lanes", "list_row", "list_filled", "list_flushing", "listed_n"),
    *("list_held", "list_held_last", "mask_rows_n", "head_rows", "first_heads", "mask_row", "mask_flushing"),
    *("mask_finished", "mask_held", "mask_held_heads", "results_n", "results_entered", "results_masked", "results_end"),
    "result_there",
)


def _up(count: int) -> int:
    """The next power of two."""
    return 1 << (count - 1).bit_length()


def _shapes(s: FetchSizes) -> dict[str, tuple[int, ...]]:
    q, c, d = s.queues, s.channels, s.address_depth
    places = (2, KEY_PLACES, s.segments)
    of_lists = ["turn", "count", "first", "destination", "buffer", "place", "purpose", "base", "bits"]
    of_lanes = (
        # where a lane's parts are in its ring: pushed, asked for, collected, converted, landed
        *("v_in", "v_ask", "v_take", "v_end", "v_land"),
        *("done", "asked_n", "ask_head", "ask_in", "expected_n", "burst_at", "head", "tail", "taken"),
        *("words_left", "words_next", "position", "list_left", "data_first"),
        "data_winner",
    )
    of_channels = (
        *("requests", "xbar_first", "credit", "out_n", "room", "x_in", "x_out"),
        *("memory_n", "back_n", "control_owed", "back_owed"),
        *("accepted", "read_tag", "write_tag"),
    )
    return {
        "offer": (4,),
        "offered_from": (4,),
        "accepted_at": (4, KEY_PLACES),
        "skid": (2, 4),
        "pipe": (max(1, s.locate_cycles), 5),
        **dict.fromkeys(("landed", "left", "landed_at"), places),
        "values_pending": (2,),
        **{f"list_{name}": (LIST_RING + 4,) for name in of_lists},
        "lanes_at": (LIST_RING,),
        **dict.fromkeys(of_lanes, (q,)),
        **dict.fromkeys(of_channels, (c,)),
        "asked": (q, _up(d + 2)),
        "filled": (q,),
        "data_granted": (2, q),
        "convert_at": (q, _up(s.convert_cycles + 1)),
        "due_in": (_up(s.convert_cycles + 1),),
        "x_ring": (c, _up(OUTPUT_DEPTH + 3), 2),
        "memory": (c, 2, 4),
        **dict.fromkeys(("answers_n", "answers_h", "answers_in"), (s.answer_fifos,)),
        "answers": (s.answer_fifos, _up(d)),
        "back": (c, 2),
        "group_first": (s.groups,),
        "group_item": (s.groups,),
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
        **dict.fromkeys(("result_at", "result_gap", "result_reached", "result_full"), (s.result_rows,)),
        "list_ids": (s.list_rows,),
        "list_pipe": (s.list_cycles,),
        "listed": (LISTED_ROWS,),
    }


def new_state(machine: AcceleratorConfig) -> NDArray[np.void]:
    """The state after reset: an array of one record."""
    s = FetchSizes.of(machine)
    fields: dict[str, tuple[Any, tuple[int, ...]]] = {name: (np.int64, shape) for name, shape in _shapes(s).items()}
    fields |= dict.fromkeys((*_SCALARS, *_MASKS), (np.int64, ()))
    inside = VECTORS_AHEAD + s.address_depth + 2 + BURSTS_AHEAD + 3 + s.convert_cycles + 2
    fields |= {"item": (np.uint32, (s.queues, _up(inside), 3)), "vector": (np.int32, (_up(s.vectors),))}
    # what compiled code reads its length from: a constant there
    fields["places"] = (np.uint8, (s.places,))
    state = np.zeros(1, record_dtype(fields))
    state["room"], state["credit"] = s.address_depth, OUTPUT_DEPTH
    state["word_shift"], state["burst_words"] = s.word_shift, 256 >> s.word_shift
    state["segment_shift"], state["convert_cycles"] = s.segment_shift, s.convert_cycles
    state["half_turn"] = s.half_turn
    state["slot_shift"], state["rate_shift"] = s.slot_shift, s.rate_shift
    state["address_depth"], state["vectors_ahead"] = s.address_depth, VECTORS_AHEAD
    state["window"] = state["msb_window"] = WINDOW_PER_QUEUE * s.queues
    state["lanes_at"][0, 0] = s.queues
    state["credit_any"] = state["room_any"] = -1
    for name in ("offer", "active", "slow_granted", "slow_1", "slow_2"):
        state[name] = NOTHING
    state["idle"] = 1
    return state
