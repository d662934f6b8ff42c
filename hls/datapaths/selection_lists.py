"""Lists of rising ids to masks: rows of `top_k_lanes` bits, a bit an id (algorithm page, section 2).

    bursts -> rows of ids, a row a cycle -> checked -> masks, a row a cycle at most

A row of ids goes into the mask row of its first id, and the rest into the following ones, a mask row a cycle; ids are
OR-ed into the mask row until one of a later row comes, the row's last id has come, or the list ends. Then all rows up
to the last one of the sequence follow. So a list takes at most its own rows and those of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.machine_sizes import MachineSizes, Record
from hls.lower import building
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, fifo, payload_register, produced, register
from hls.trace import HlsError

LIST_ID_BITS = 16
ROW_KIND_BITS = 2
SURVIVORS, PROTECTED, KEPT_TOKENS, KEPT_HEADS = range(4)


def lane_bits(sizes: MachineSizes) -> int:
    """Bits of the number of a lane of a row of ids.

    Raises:
        HlsError: if rows are not whole parts of a burst of 16 ids.
    """
    lanes, most = sizes.top_k_lanes, BURST_BITS // LIST_ID_BITS
    if not 2 <= lanes <= most:
        raise HlsError(
            f"top_k_lanes = {lanes}: lists of ids come in bursts of {most}, of which rows are parts of 2 to {most}; "
            f"use {min(max(lanes, 2), most)}"
        )
    return lanes.bit_length() - 1


def id_row(sizes: MachineSizes) -> Record:
    """A row of ids of a list."""
    lanes = sizes.top_k_lanes
    return Record((("ids", lanes * sizes.id_bits), ("valid", lanes), ("last", 1), ("kind", ROW_KIND_BITS)))


def mask_row(sizes: MachineSizes) -> Record:
    """A row of a mask."""
    return Record((("bits", sizes.top_k_lanes), ("row", sizes.list_row_bits), ("last", 1), ("kind", ROW_KIND_BITS)))


def stage(source: Stream, *, block: pyrtl.Block, prefix: str) -> Stream:
    """One register on the way of a stream, at full rate; ready passes through it."""
    with building(block):
        data, valid = payload_register(source.bits, f"{prefix}data", block), register(1, f"{prefix}valid", block)
        out = produced(data, valid, block, prefix)
        moves = out.ready | ~valid
        data.next <<= pyrtl.select(moves & source.valid, source.data, data)
        valid.next <<= pyrtl.select(moves, source.valid, valid)
        drive(source.ready, moves)
    return out


@dataclass(frozen=True, eq=False)
class Intake:
    """Rows of the lists that were read: their kind and number; pulses: the list is checked, what is wrong with it."""

    rows: Stream
    kind: Wire
    number: Wire
    checked: Wire
    unordered: Wire
    beyond: Wire


def list_intake(
    sizes: MachineSizes, bursts: Stream, counts: tuple[Wire, Wire], position: Wire, block: pyrtl.Block
) -> Intake:
    """Bursts (16 ids, then `last` of the list, then whether it is that of protected ids) to checked rows of ids.

    `counts` of the survivors and of the protected ids: what is beyond is no id. An id that is not below `position` is
    left out.
    """
    lanes, low = sizes.top_k_lanes, lane_bits(sizes)
    parts = BURST_BITS // LIST_ID_BITS // lanes
    with building(block):
        queued = fifo(bursts, 2, block=block, prefix="bursts_").stream
        data, burst_last, kind = queued.data[:BURST_BITS], queued.data[BURST_BITS], queued.data[BURST_BITS + 1]
        row_width = lanes * LIST_ID_BITS
        words = lanes_of(data, parts)
        room = pyrtl.WireVector(1, "row_room")
        if parts == 1:
            here, is_end = words[0], pyrtl.Const(1, 1)
        else:
            part = register((parts - 1).bit_length(), "row_part", block)
            here, is_end = pyrtl.mux(part, *words), part == parts - 1
            part.next <<= pyrtl.select(queued.valid & room, (part + 1)[: len(part)], part)
        drive(queued.ready, room & is_end)
        row = stage(
            Stream(pyrtl.concat(kind, burst_last & is_end, here), queued.valid, room), block=block, prefix="row_"
        )
        ids = lanes_of(row.data[:row_width], lanes)
        last, kind = row.data[row_width], row.data[row_width + 1]

        number = register(LIST_ID_BITS - low, "row_number", block)
        count = pyrtl.select(kind, counts[1], counts[0]).zero_extended(LIST_ID_BITS)
        is_rest, is_whole = number == count[low:], number < count[low:]
        there = [is_whole | (is_rest & (count[:low] > i)) for i in range(lanes)]
        before = payload_register(LIST_ID_BITS, "id_before", block)
        is_first = number == 0
        falls = [there[0] & ~is_first & (ids[0] <= before)]
        falls += [there[i] & (ids[i] <= ids[i - 1]) for i in range(1, lanes)]
        outside = [there[i] & (ids[i] >= position.zero_extended(LIST_ID_BITS)) for i in range(lanes)]
        taken = pyrtl.WireVector(1, "checked_room")
        moves = row.valid & taken
        drive(row.ready, taken)
        following = pyrtl.select(last, pyrtl.Const(0, len(number)), (number + 1)[: len(number)])
        number.next <<= pyrtl.select(moves, following, number)
        before.next <<= pyrtl.select(moves, ids[-1], before)
        fields = {
            "ids": pyrtl.concat_list([wire[: sizes.id_bits] for wire in ids]),
            "valid": pyrtl.concat_list([t & ~o for t, o in zip(there, outside, strict=True)]),
            "last": last,
            "kind": pyrtl.concat(pyrtl.Const(0, 1), kind),
        }
        rows = Stream(id_row(sizes).pack(fields), row.valid, taken)
        place = number[: sizes.list_row_bits]
        return Intake(rows, kind, place, moves & last, moves & pyrtl.rtl_any(*falls), moves & pyrtl.rtl_any(*outside))


def to_masks(sizes: MachineSizes, rows: Stream, last_row: Wire, block: pyrtl.Block) -> Stream:
    """Rows of lists to rows 0 .. `last_row` of their masks; heads have as many rows as 64 bits need."""
    lanes, low = sizes.top_k_lanes, lane_bits(sizes)
    with building(block):
        given = id_row(sizes).unpack(rows.data)
        row = register(sizes.list_row_bits, "mask_row", block)
        held = register(lanes, "mask_bits", block)
        held_kind = payload_register(ROW_KIND_BITS, "mask_kind", block)
        flushing, finished = register(1, "mask_flushing", block), register(1, "mask_finished", block)
        taking = rows.valid & ~flushing
        ids = lanes_of(given["ids"], lanes)
        looks = taking & ~finished
        hits = [given["valid"][i] & looks & (ids[i][low:] == row) for i in range(lanes)]
        later = looks & pyrtl.rtl_any(*(given["valid"][i] & (ids[i][low:] > row) for i in range(lanes)))
        ones = [pyrtl.rtl_any(*(hits[i] & (ids[i][:low] == lane) for i in range(lanes))) for lane in range(lanes)]
        bits = held | pyrtl.concat_list(ones)
        kind = pyrtl.select(flushing, held_kind, given["kind"])
        heads_end = pyrtl.Const(min((1 << sizes.list_row_bits) - 1, 64 // lanes - 1), sizes.list_row_bits)
        is_end = row == pyrtl.select(kind == KEPT_HEADS, heads_end, last_row)

        emits = flushing | (looks & (later | bits[-1]))
        out = produced(
            mask_row(sizes).pack({"bits": bits, "row": row, "last": is_end, "kind": kind}), emits, block, "masks_"
        )
        goes = emits & out.ready
        takes = taking & ~later & (~emits | out.ready)
        drive(rows.ready, ~flushing & ~later & (~emits | out.ready))
        ends = (goes & flushing & is_end) | (takes & given["last"] & (finished | (goes & is_end)))
        nothing, start = pyrtl.Const(0, lanes), pyrtl.Const(0, len(row))
        row.next <<= pyrtl.select(ends, start, pyrtl.select(goes, (row + 1)[: len(row)], row))
        held.next <<= pyrtl.select(goes | ends, nothing, pyrtl.select(takes, bits, held))
        held_kind.next <<= pyrtl.select(takes, given["kind"], held_kind)
        flushing.next <<= pyrtl.select(takes & given["last"], ~ends, flushing & ~ends)
        finished.next <<= ~ends & (finished | (goes & is_end))
    return out
