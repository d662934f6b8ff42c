"""Rows that still need K, in order: second passes of flat ones, the LSB plane of their keys, and what becomes free.

A row is known by what it needs from its first pass on. The oldest one is looked at: if it is not flat it is done, if it
is flat it is issued a second time when the LSBs of its first keys have landed and queue 2 has room, and is done when
its query has been read. Without progressive quantization it is done when its only pass is nearly over. Then its query
lines are free; and with the last row of a K/V head its place in the Key SRAM, when its second passes are nearly over
(algorithm page, section 5).

What is nearly over: a list goes to the fetcher in order, F vectors a cycle, so row r of the next keys is not written
before r * P / F cycles have passed (P vectors a row). With rows of b beats, the last b * P / F beats read their rows
before, so the place is free when these are left, and nothing can keep them: all keys are there.

The LSBs are asked for as soon as one row of the K/V head is decided to be flat, whatever rows are before it; so those
of the next K/V head are fetched beside the second passes of this one. A place's LSBs:

    nothing -> wanted (first flat row) -> requested -> waiting (taken: `key_pending` shows it) -> landed (not pending)

What has landed is known segment by segment: of the first passes' plane from the opening of the K/V head on, of the LSBs
from `waiting` on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import (
    KEY_PLACES,
    LINE_BITS,
    PLACE_BITS,
    QUERY_LINES,
    Destination,
    MachineSizes,
    Source,
    key_place,
)
from hls.datapaths.operand_loader import by_dimension, vectors
from hls.datapaths.row_issue_walk import Layer, Opened, RowSizes, masked, moved
from hls.datapaths.row_queues import PENDING_ROWS
from hls.lower import building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, payload_register, register


@dataclass(frozen=True)
class Progress:
    """What the issue of rows tells.

    Attributes:
        first_taken: `row` begins its first pass.
        replay_taken: the oldest row begins its second pass.
        replay_read: its query has been read.
        first_passed: a first pass is nearly over.
        replays_issue: some second pass is between its beginning and its last beats.
        row: the row of `first_taken`.
    """

    first_taken: Wire
    replay_taken: Wire
    replay_read: Wire
    first_passed: Wire
    replays_issue: Wire
    row: Mapping[str, Wire]


@dataclass(frozen=True)
class Replays:
    """The oldest row, whether it may be issued a second time, and whether its query lines become free.

    `landed`: segments that have landed, for each place those of the first passes and those with LSBs.
    """

    row: Mapping[str, Wire]
    eligible: Wire
    cleared: Wire
    landed: Sequence[tuple[Wire, Wire]]


def replays(sizes: RowSizes, layer: Layer, opened: Opened, progress: Progress, block: pyrtl.Block) -> Replays:
    """Build all of it; outputs `query_clear`, `key_release` and the stream `key_lsb_request`."""
    with building(block):
        issued = Stream(sizes.row.pack(progress.row), progress.first_taken, pyrtl.WireVector(1, "rows_room"))
        rows = fifo(issued, PENDING_ROWS, block=block, storage="memory", prefix="rows_").stream
        decided = {name: pyrtl.Input(1, f"row_{name}") for name in ("decided", "flat")}
        decided["place"] = pyrtl.Input(PLACE_BITS, "row_place")
        known = pyrtl.select(layer.progressive, decided["decided"], progress.first_passed)
        flats = fifo(
            Stream(decided["flat"] & layer.progressive, known, pyrtl.WireVector(1, "flats_room")),
            PENDING_ROWS,
            block=block,
            storage="memory",
            prefix="flats_",
        ).stream

        valid, flat = register(1, "oldest_there", block), payload_register(1, "oldest_flat", block)
        sent, read = register(1, "oldest_sent", block), register(1, "oldest_read", block)
        oldest = payload_register(sizes.row.bits, "oldest", block)
        row = sizes.row.unpack(oldest)
        done = valid & (~flat | read) & ~(row["ends_key"] & progress.replays_issue)
        load = rows.valid & flats.valid & (done | ~valid)
        for stream in (rows, flats):
            drive(stream.ready, load)
        oldest.next <<= pyrtl.select(load, rows.data, oldest)
        valid.next <<= load | (valid & ~done)
        flat.next <<= pyrtl.select(load, flats.data, flat)
        sent.next <<= ~load & (sent | progress.replay_taken)
        read.next <<= ~load & (read | progress.replay_read)

        frees = done & row["ends_key"]
        landed = _lsb_planes(sizes.machine, layer, opened, decided, frees, block)
        beats_less_one = row["span"][sizes.lane_bits :]
        beats = (beats_less_one + 1)[: len(beats_less_one) + 1]
        room = register(sizes.queue_beats[1].bit_length(), "replay_room", block, sizes.queue_beats[1])
        room.next <<= moved(room, masked(beats, progress.replay_taken), pyrtl.Input(1, "replay_freed"))
        wide = max(len(room), len(beats_less_one))
        fits = room.zero_extended(wide) > beats_less_one.zero_extended(wide)
        eligible = register(1, "replay_eligible", block)
        there = pyrtl.mux(row["place"], *(with_lsbs[0] for _, with_lsbs in landed))
        eligible.next <<= valid & flat & ~sent & there & fits & ~progress.replay_taken & ~load

        lines = pyrtl.concat_list([_holds(sizes.machine, layer, row["line"], i) for i in range(QUERY_LINES)])
        for name, wire in (("query_clear", lines & done.sign_extended(QUERY_LINES)), ("key_release", frees)):
            held = register(len(wire), f"{name}_held", block)
            held.next <<= wire
            output_ports({name: held})
    return Replays(row, eligible, done, landed)


def _holds(sizes: MachineSizes, layer: Layer, line: Wire, number: int) -> Wire:
    """Whether the query that begins in `line` has the line `number`."""
    choices = [line[code:] == (number >> code) for code in range(len(sizes.parts))]
    return by_dimension(layer.dimension, choices)


def _oldest(first: Wire, wanted: Sequence[Wire]) -> Wire:
    """The place that wants LSBs at or behind `first`, the one that becomes free next."""
    behind = [pyrtl.mux((first + steps)[:PLACE_BITS], *wanted) for steps in range(KEY_PLACES - 1)]
    steps: Wire = pyrtl.Const(KEY_PLACES - 1, PLACE_BITS)
    for number in reversed(range(KEY_PLACES - 1)):
        steps = pyrtl.select(behind[number], pyrtl.Const(number, PLACE_BITS), steps)
    return (first + steps)[:PLACE_BITS]


def _lsb_planes(
    sizes: MachineSizes,
    layer: Layer,
    opened: Opened,
    decided: Mapping[str, Wire],
    frees: Wire,
    block: pyrtl.Block,
) -> list[tuple[Wire, Wire]]:
    """For each place of K which segments have landed, those of the first passes and with LSBs; asks for these."""
    freed = register(PLACE_BITS, "places_freed", block)
    freed.next <<= moved(freed, pyrtl.Const(0, 1), frees)
    request_valid, request_place = register(1, "lsb_there", block), payload_register(PLACE_BITS, "lsb_place", block)
    request_base = payload_register(sizes.base_bits, "lsb_base", block)
    ready = pyrtl.Input(1, "key_lsb_request_ready")
    wanted = [register(1, f"lsb_wanted_{place}", block) for place in range(KEY_PLACES)]
    choice = _oldest(key_place(layer.halves, freed), wanted)
    asks = ~request_valid & pyrtl.rtl_any(*wanted)
    bases, landed = [], []
    for b in range(KEY_PLACES):
        mine = opened.now & (opened.place == b)
        base = payload_register(sizes.base_bits, f"lsb_base_{b}", block)
        base.next <<= pyrtl.select(mine, opened.lsb_base, base)
        bases.append(base)
        # a place is opened before anything is asked of it
        called, waiting = (payload_register(1, f"lsb_{name}_{b}", block) for name in ("called", "waiting"))
        first, here = (payload_register(sizes.segments, f"{name}_landed_{b}", block) for name in ("first", "lsb"))
        arrived = ~opened.pending[b]
        calls = decided["decided"] & decided["flat"] & (decided["place"] == b) & ~called
        asked = asks & (choice == b)
        taken = request_valid & ready & (request_place == b)
        called.next <<= ~mine & (called | calls)
        wanted[b].next <<= ~mine & ((wanted[b] & ~asked) | calls)
        waiting.next <<= ~mine & (waiting | taken)
        kept = (~mine).sign_extended(sizes.segments)
        first.next <<= kept & (first | arrived)
        here.next <<= kept & (here | (waiting.sign_extended(sizes.segments) & arrived))
        landed.append((first, here))
    request_valid.next <<= asks | (request_valid & ~ready)
    request_place.next <<= pyrtl.select(asks, choice, request_place)
    request_base.next <<= pyrtl.select(asks, pyrtl.mux(choice, *bases), request_base)
    count = register(sizes.count_bits, "key_vectors", block)
    count.next <<= vectors(layer.dimension, layer.keys, sizes)[: len(count)]
    fields = {
        "source": pyrtl.Const(Source.SURVIVORS, 2),
        "first": pyrtl.Const(0, sizes.count_bits),
        "count": count,
        "base": request_base,
        "plane": pyrtl.Const(Plane.LSB, 2),
        "destination": pyrtl.Const(Destination.KEY, 2),
        "place": request_place.zero_extended(LINE_BITS + 1),
    }
    output_ports({"key_lsb_request_data": sizes.list_request.pack(fields), "key_lsb_request_valid": request_valid})
    return landed
