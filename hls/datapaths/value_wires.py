"""Records and small wiring that the modules between the rows of probabilities and prob x V share.

Names: a beat has P_D = P / n lanes, n the slots of a key; beat `number` has the keys from `number * P_D` on. In
summarization a key is its position in the survivor list, and so is its place in the Value SRAM; in generation with
pruned values its place is its position among the kept ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyrtl

from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes, Record
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, produced

RATIO_BITS = 17
KEEP_ALL = 16
"""The bit of `ratio16` that is set in 65536: nothing is pruned."""


def retired_beat(sizes: MachineSizes) -> Record:
    """A beat of a row as it leaves the row queues."""
    return Record((*kept_beat(sizes).fields, ("visible", sizes.count_bits)))


def kept_beat(sizes: MachineSizes) -> Record:
    """Kept probabilities of one row of the Value SRAM."""
    return Record(
        (
            ("prob", sizes.slots * PROBABILITY_BITS),
            ("lanes", sizes.slots),
            ("number", sizes.row_bits),
            ("last", 1),
            ("flat", 1),
        )
    )


def kept_row(sizes: MachineSizes) -> Record:
    """What is known of a row before its beats: `count` of kept values only where a list of them is fetched."""
    return Record((("count", sizes.count_bits), ("flat", 1)))


def kept_list(sizes: MachineSizes) -> Record:
    """Kept ids of a row, `top_k_lanes` at a time."""
    return Record(
        (
            ("ids", sizes.top_k_lanes * sizes.id_bits),
            ("count", sizes.top_k_lanes.bit_length()),
            ("last", 1),
        )
    )


VALUE_ROW = Record((("buffer", 1), ("release", 1), ("full", 1), ("sparse", 1)))
"""A row whose values have all been asked for: buffer of the Value SRAM, whether the row is the last to use it, whether
it reads LSBs, and whether it waits for a sparse list."""

OUTPUT_JOB = Record((("head", HEAD_BITS), ("mantissa", 16), ("shift", 7), ("last", 1)))
"""What the output stage needs of a job."""


def log2(power: int) -> int:
    """Of a power of two."""
    return power.bit_length() - 1


def lanes_by_dimension(sizes: MachineSizes) -> list[int]:
    """P_D by dimension code."""
    return [sizes.slots // n for n in sizes.parts]


def by_dimension(dimension: Wire, choices: Sequence[Wire]) -> Wire:
    """The choice of a dimension code."""
    chosen = choices[-1]
    for code in reversed(range(len(choices) - 1)):
        if choices[code] is not chosen:
            chosen = pyrtl.select(dimension == code, choices[code], chosen)
    return chosen


def fitted(wire: Wire, bits: int) -> Wire:
    """An unsigned number in `bits` bits, which hold its value."""
    return wire[:bits] if len(wire) >= bits else wire.zero_extended(bits)


def shifted_up(wire: Wire, amount: int, bits: int) -> Wire:
    """A number * 2^amount in `bits` bits, which hold its value."""
    return fitted(pyrtl.concat(wire, pyrtl.Const(0, amount)) if amount else wire, bits)


def first_slot(number: Wire, dimension: Wire, sizes: MachineSizes) -> Wire:
    """The key of lane 0 of a beat."""
    choices = [shifted_up(number, log2(lanes), sizes.id_bits) for lanes in lanes_by_dimension(sizes)]
    return by_dimension(dimension, choices)


def vectors(keys: Wire, dimension: Wire, sizes: MachineSizes) -> Wire:
    """Fetched vectors of a number of keys."""
    choices = [shifted_up(keys, code, sizes.count_bits) for code in range(len(sizes.parts))]
    return by_dimension(dimension, choices)


def survivor_list(sizes: MachineSizes, name: str, block: pyrtl.Block) -> pyrtl.MemBlock:
    """A copy of the survivor list, written through the ports `survivor_write`, `survivor_row`, `survivor_ids`."""
    bits = sizes.top_k_lanes * sizes.id_bits
    memory = pyrtl.MemBlock(bits, sizes.list_row_bits, name, asynchronous=True, block=block)
    row, ids = pyrtl.Input(sizes.list_row_bits, "survivor_row"), pyrtl.Input(bits, "survivor_ids")
    memory[row] <<= pyrtl.MemBlock.EnabledWrite(ids, pyrtl.Input(1, "survivor_write"))
    return memory


def list_row(slot: Wire, sizes: MachineSizes) -> Wire:
    """The row of a list that has a position."""
    return fitted(slot[log2(sizes.top_k_lanes) :], sizes.list_row_bits)


def ids_from(row: Wire, slot: Wire, sizes: MachineSizes) -> list[Wire]:
    """Ids of the lanes of a beat that begins at `slot`, a multiple of its lanes, out of the row of the list.

    A beat with lane j has 2^n lanes, more than j of them: it begins at one of the slots that are multiples of that.
    """
    slot_bits, ids = log2(sizes.top_k_lanes), lanes_of(row, sizes.top_k_lanes)
    found = []
    for lane in range(sizes.slots):
        least = lane.bit_length()
        choices = ids[lane :: 1 << least]
        found.append(pyrtl.mux(slot[least:slot_bits], *choices) if len(choices) > 1 else choices[0])
    return found


def slots_from(slot: Wire, sizes: MachineSizes) -> list[Wire]:
    """Slots of the lanes of a beat that begins at `slot`, a multiple of its lanes; those beyond mean nothing."""
    one = pyrtl.Const(1, 1)

    def of_lane(lane: int) -> Wire:
        return pyrtl.concat_list([one if lane >> b & 1 else slot[b] for b in range(len(slot))])

    return [of_lane(lane) if lane else slot for lane in range(sizes.slots)]


def pipe(valid: Wire, advance: Wire, data: Wire, ready: Wire, block: pyrtl.Block, prefix: str) -> Stream:
    """The end of a pipeline under `advance`, which this drives, and `ready`, its input's."""
    out = produced(data, valid, block, prefix)
    advance <<= out.ready | ~valid
    ready <<= advance
    return out
