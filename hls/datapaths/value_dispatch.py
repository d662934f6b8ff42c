"""Kept probabilities to the lanes of prob x V: a FIFO a lane, and the rows that may start (algorithm page, section 4).

Every slot of the Value SRAM is a bank with its own address, so a lane goes through its own entries (prob, row of the
SRAM), and a row takes as many cycles as its fullest lane has entries. A lane's FIFO holds two of the longest rows. A
row starts when all its values are on chip: its record of `value_row` comes when they have been asked for,
`value_pending` and `sparse_pending` say when they have landed. In generation entry i of a lane is row i of the SRAM, so
a row starts with the first segment (`MachineSizes.segments`) and waits for each of the others.

A row whose last beat is in the FIFOs is counted: it is known how many entries each lane has. One that is not starts
too, if it has begun and none is before it. Until it is counted an entry goes where every lane has one and the fullest
one has another: it is not the row's last one then, and no lane has had its last one.

    cycle         0      1                    2
    entries       read   value_read_*         weigh_*, value_full, beside the SRAM's data
    value_started 1, when all values of a row that is under way have landed
    value_release                             1, if the row is the buffer's last one, and this was its last cycle

In generation a buffer is released before that: all values are there, the first ones have been read, and the row is
counted, or half of the buffer's rows have been read (before that, values of later rows would be asked for too soon,
and keys wait behind them). What is still to be read is told to the sequencer: while `unread_valid`, rows of buffer
`unread_buffer` from `unread_row` on, and no vector for them goes to the fetcher. So the entries may wait, for beats or
for prob x V, as long as they like; neither needs the fetcher any more.

All three move together where prob x V takes what it is offered: `value_read_valid` is 0 elsewhere, and the SRAM must
keep its data until the next read. So `weigh_ready` goes through a gate to `value_read_valid`; `value_beat_ready` and
`value_row_ready` do not depend on it.

For D above the native one a lane is n slots, with equal addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.machine_sizes import MachineSizes, Record, segment_bit
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.top_k_wires import hold
from hls.datapaths.value_wires import VALUE_ROW, by_dimension, kept_beat
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, fifo, payload_register, produced, register, ring_next, skid_buffer, source_ports
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

ROWS_UNDER_WAY = 8
FIFO_ROWS = 2
BANK_ENTRIES = 512
"""A deeper FIFO is several memories in turn, chosen from in the cycle after they are read."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def _count_bits(sizes: MachineSizes) -> int:
    return sizes.rows.bit_length()


def _counts(sizes: MachineSizes) -> Record:
    """Entries of a row: the fullest lane's, and every lane's."""
    bits = _count_bits(sizes)
    return Record((("cycles", bits), ("entries", sizes.slots * bits)))


@dataclass(frozen=True, eq=False)
class _Lanes:
    """The lanes' FIFOs: what their memories show, which of these is the oldest entry, what takes it, its next level."""

    entries: list[list[Wire]]
    banks: list[Wire]
    pops: list[Wire]
    after: list[Wire]


@dataclass(frozen=True, eq=False)
class _Filling:
    """The row whose beats come.

    Attributes:
        cycles: entries of its fullest lane.
        grows: a beat comes and makes them more.
        completes: a beat comes and is the last one.
        follows: the row has started, so that nothing of it waits to be counted; the caller drives it.
    """

    cycles: Wire
    grows: Wire
    completes: Wire
    follows: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist; `technology` changes nothing."""
    del technology
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        beats = skid_buffer(source_ports(kept_beat(sizes).bits, block, "value_beat_"), block=block, prefix="beat_skid_")
        lanes, filling, counted = _lanes(sizes, beats, block)
        rows = fifo(counted, ROWS_UNDER_WAY, block=block, storage="memory", prefix="rows_").stream
        permits = fifo(
            source_ports(VALUE_ROW.bits, block, "value_row_"), ROWS_UNDER_WAY, block=block, prefix="permits_"
        ).stream
        _rows(sizes, lanes, filling, rows, permits, block)
    block.sanity_check()
    return Netlist("value_dispatch", block)


def _lanes(sizes: MachineSizes, beats: Stream, block: pyrtl.Block) -> tuple[_Lanes, _Filling, Stream]:
    """Beats into the lanes' FIFOs; gives the row that is filled, and the entries of every one that is in them."""
    beat = kept_beat(sizes).unpack(beats.data)
    depth, bits = FIFO_ROWS * sizes.rows, _count_bits(sizes)
    address_bits = (depth - 1).bit_length()
    bank_bits = max(0, address_bits - (BANK_ENTRIES - 1).bit_length())
    counted = produced(
        pyrtl.WireVector(_counts(sizes).bits, "counted"), pyrtl.WireVector(1, "row_counted"), block, "counted_"
    )
    moves = pyrtl.WireVector(1, "beat_moves")
    cycles = register(bits, "cycles", block)
    lanes = _Lanes([], [], [], [])
    full, counts, fuller = [], [], []
    for lane, prob in enumerate(lanes_of(beat["prob"], sizes.slots)):
        memories = [
            pyrtl.MemBlock(
                PROBABILITY_BITS + sizes.row_bits,
                address_bits - bank_bits,
                f"lane_{lane}_{bank}",
                asynchronous=True,
                block=block,
            )
            for bank in range(1 << bank_bits)
        ]
        head, tail = (register(address_bits, f"{name}_{lane}", block) for name in ("head", "tail"))
        level = register(depth.bit_length(), f"level_{lane}", block)
        count = register(bits, f"count_{lane}", block)
        push, pop = moves & beat["lanes"][lane], pyrtl.WireVector(1, f"pop_{lane}")
        for bank, memory in enumerate(memories):
            here = push & (tail[:bank_bits] == bank) if bank_bits else push
            entry = pyrtl.concat(beat["number"], prob)
            memory[tail[bank_bits:]] <<= pyrtl.MemBlock.EnabledWrite(entry, here)
        hold(tail, push, ring_next(tail, depth))
        hold(head, pop, ring_next(head, depth))
        one_more = pyrtl.select(push & ~pop, (level + 1)[: len(level)], level)
        level_after = pyrtl.select(pop & ~push, (level - 1)[: len(level)], one_more)
        level.next <<= level_after
        lanes.after.append(level_after)
        after = (count + beat["lanes"][lane])[:bits]
        hold(count, moves, pyrtl.select(beat["last"], pyrtl.Const(0, bits), after))
        full.append(level == depth)
        counts.append(after)
        fuller.append(beat["lanes"][lane] & (count == cycles))
        lanes.entries.append([memory[head[bank_bits:]] for memory in memories])
        lanes.banks.append(head[:bank_bits] if bank_bits else pyrtl.Const(0, 1))
        lanes.pops.append(pop)
    is_fuller = pyrtl.rtl_any(*fuller)
    most = (cycles + is_fuller)[:bits]
    hold(cycles, moves, pyrtl.select(beat["last"], pyrtl.Const(0, bits), most))
    room = ~pyrtl.rtl_any(*full)
    drive(beats.ready, room & (counted.ready | ~beat["last"]))
    moves <<= beats.valid & beats.ready
    filling = _Filling(cycles, moves & is_fuller, moves & beat["last"], pyrtl.WireVector(1, "follows"))
    drive(counted.data, _counts(sizes).pack({"cycles": most, "entries": pyrtl.concat_list(counts)}))
    drive(counted.valid, beats.valid & room & beat["last"] & ~filling.follows)
    return lanes, filling, counted


def _rows(
    sizes: MachineSizes, lanes: _Lanes, filling: _Filling, rows: Stream, permits: Stream, block: pyrtl.Block
) -> None:
    """Rows, one after another, through the Value SRAM to prob x V."""
    bits = _count_bits(sizes)
    dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
    generation = pyrtl.Input(1, "layer_generation")
    pending, sparse_pending = pyrtl.Input(2 * sizes.segments, "value_pending"), pyrtl.Input(1, "sparse_pending")
    by_buffer = [~pending[: sizes.segments], ~pending[sizes.segments :]]
    weigh_valid = register(1, "weigh_occupied", block)
    go = pyrtl.Input(1, "weigh_ready") | ~weigh_valid

    row, counts = VALUE_ROW.unpack(permits.data), _counts(sizes).unpack(rows.data)
    there = pyrtl.select(row["buffer"], by_buffer[1], by_buffer[0])
    enough = pyrtl.select(generation, there[0], pyrtl.corecircuits.rtl_all(*there))
    landed = enough & ~(row["sparse"] & sparse_pending)
    running = register(1, "running", block)
    left = payload_register(bits, "left", block)
    current = payload_register(VALUE_ROW.bits, "current", block)
    counted, flows_on = register(1, "row_is_counted", block), payload_register(1, "entries_flow", block)
    ends = counted & (left == 1)
    may, all_there = payload_register(1, "entries_may", block), register(1, "values_there", block)
    reads = running & may & (counted | flows_on)
    free = ~running | (go & may & ends)
    drive(filling.follows, running & ~counted)
    has_begun = ~rows.valid & (filling.cycles != 0) & ~filling.completes
    starts = free & (rows.valid | has_begun) & permits.valid & landed
    drive(rows.ready, free & permits.valid & landed)
    drive(permits.ready, free & (rows.valid | has_begun) & landed)
    hold(running, free, starts)
    counted.next <<= pyrtl.select(starts, rows.valid, counted | (filling.follows & filling.completes))
    moves = reads & go
    fewer = pyrtl.select(moves, (left - 1)[:bits], left)
    waiting = pyrtl.select(starts, filling.cycles, fewer)
    grows = filling.grows & (starts | filling.follows)
    grown = pyrtl.select(grows, (waiting + 1)[:bits], waiting)
    is_known = starts & rows.valid
    left.next <<= pyrtl.select(is_known, counts["cycles"], grown)
    hold(current, starts, permits.data)

    # all in the FIFO of a lane is of a row that is not counted
    mirrors = pyrtl.select(starts, ~rows.valid, filling.follows)
    taken, ahead = [], []
    of_lanes = zip(lanes.pops, lanes.after, lanes_of(counts["entries"], sizes.slots), strict=True)
    for lane, (pop, level, entries) in enumerate(of_lanes):
        remaining = payload_register(bits, f"remaining_{lane}", block)
        is_left = remaining != 0
        pop <<= moves & is_left
        after = pyrtl.select(pop, (remaining - 1)[:bits], remaining)
        other = pyrtl.select(mirrors, level[:bits], after)
        remaining.next <<= pyrtl.select(is_known, entries, other)
        taken.append(is_left)
        has_keys = [pyrtl.Const(int(lane << code < sizes.slots), 1) for code in range(len(sizes.parts))]
        ahead.append(~(by_dimension(dimension, has_keys) & (after == 0)))
    flows_on.next <<= ~starts & (fewer > 1) & pyrtl.corecircuits.rtl_all(*ahead)

    def stage(wire: Wire, name: str, *, decides: bool = False) -> Wire:
        held = register(len(wire), name, block) if decides else payload_register(len(wire), name, block)
        hold(held, go, wire)
        return held

    at = VALUE_ROW.unpack(current)
    index = payload_register(sizes.row_bits, "index", block)
    following = pyrtl.select(moves, (index + 1)[: sizes.row_bits], index)
    index.next <<= pyrtl.select(starts, pyrtl.Const(0, sizes.row_bits), following)
    segments = pyrtl.select(at["buffer"], by_buffer[1], by_buffer[0])
    all_there.next <<= ~starts & (all_there | pyrtl.corecircuits.rtl_all(*segments))
    may.next <<= starts | all_there | segment_bit(sizes, segments, following)
    # behind its first entry: what `stage` has is of this row
    begun = index != 0
    early = running & generation & at["release"] & all_there & begun & (counted | index[-1])
    told = register(1, "release_told", block)
    told.next <<= ~starts & (told | early)
    # the row's list of ids is not read any more
    arrived = register(1, "arrived_told", block)
    arrives = running & ~arrived & (all_there | (moves & ends))
    arrived.next <<= ~starts & (arrived | arrives)
    read_valid = stage(reads, "read_occupied", decides=True)
    lanes_read = stage(pyrtl.concat_list(taken), "read_lanes")
    entries_read = []
    for lane, (entries, bank) in enumerate(zip(lanes.entries, lanes.banks, strict=True)):
        held = [stage(entry, f"read_entry_{lane}_{b}") for b, entry in enumerate(entries)]
        entries_read.append(held[0] if len(held) == 1 else pyrtl.mux(stage(bank, f"read_bank_{lane}"), *held))
    last, release = stage(ends, "read_last"), stage(at["release"] & ~early & ~told, "read_release")
    buffer, full = stage(at["buffer"], "read_buffer"), stage(at["full"], "read_full")
    unread, unread_row = stage(running & (told | early), "read_unread", decides=True), stage(index, "read_index")

    hold(weigh_valid, go, read_valid)
    numbers = [pyrtl.concat(buffer, entry[PROBABILITY_BITS:]) for entry in entries_read]

    def source(slot: int, of: list[Wire]) -> Wire:
        return by_dimension(dimension, [of[slot >> code] for code in range(len(sizes.parts))])

    valid_of = [lanes_read[lane] for lane in range(sizes.slots)]
    output_ports(
        {
            "value_read_valid": read_valid & go,
            "value_read_lanes": pyrtl.concat_list([source(slot, valid_of) for slot in range(sizes.slots)]),
            "value_read_address": pyrtl.concat_list([source(slot, numbers) for slot in range(sizes.slots)]),
            "weigh_prob": stage(pyrtl.concat_list([entry[:PROBABILITY_BITS] for entry in entries_read]), "weigh_probs"),
            "weigh_lane_valid": stage(lanes_read, "weigh_lanes"),
            "weigh_last": stage(last, "weigh_is_last"),
            "weigh_valid": weigh_valid,
            "value_full": stage(full, "weigh_full"),
            "value_release": _later((early & ~told) | (read_valid & go & last & release), "released", block),
            "value_started": _later(arrives, "values_arrived", block),
            "unread_valid": unread | (running & told),
            "unread_buffer": buffer,
            "unread_row": unread_row,
        }
    )


def _later(wire: Wire, name: str, block: pyrtl.Block) -> Wire:
    held = register(len(wire), name, block)
    held.next <<= wire
    return held
