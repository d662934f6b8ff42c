"""Masks to lists: the survivors of the next layer, as rows of `top_k_lanes` ids, packed (algorithm page, section 2).

    rows of the mask -> zero eliminator -> row number in front -> row packer -> rows of the list

The mask of a row is, by what the selection asks for:

    ALL         the survivors of this layer                     no more of them than the next layer keeps
    SELECTED    what the top-k engine kept, and the fixed ones  fixed: protected and alive; they bypass the engine
    FIXED       the fixed ones                                  they are as many as the next layer keeps, or more
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import pyrtl

from hls import technology as technologies
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.selection_lists import LIST_ID_BITS, lane_bits
from hls.datapaths.top_k_wires import align
from hls.datapaths.zero_eliminator import zero_eliminator_graph
from hls.lower import building, instantiate
from hls.netlist import lanes_of
from hls.schedule import Schedule, schedule
from hls.stream import Stream, drive, fifo, payload_register, produced, register
from hls.stream_rows import Rows, as_rows, as_stream, row_packer
from hls.technology import Technology
from hls.trace import Bool, Graph, UInt, Vec, Vector, trace
from models.config import AcceleratorConfig

MASK_ROWS = 2
"""Rows of the mask that wait."""
LISTED_ROWS = 2
"""Packed rows that wait."""


class NextMode(IntEnum):
    """What the next layer's survivors are."""

    ALL = 0
    SELECTED = 1
    FIXED = 2


@dataclass(frozen=True)
class NextPlan:
    """The schedules of the parts."""

    pack: Schedule
    tally: Schedule

    @property
    def latency_cycles(self) -> int:
        """From a row of a mask to the row packer of its list."""
        return max(self.pack.latency_cycles, self.tally.latency_cycles)


def tally_graph(lanes: int) -> Graph:
    """How many bits of a row are 1."""

    def tally(mask: Vector) -> dict[str, object]:
        return {"ones": mask.sum()}

    return trace(tally, inputs={"mask": Vec(Bool, lanes)}, outputs={"ones": UInt(lanes.bit_length()).within(0, lanes)})


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    sizes = MachineSizes.of(config)
    return {
        "pack": zero_eliminator_graph(sizes.top_k_lanes, 1, lane_bits(sizes)),
        "tally": tally_graph(sizes.top_k_lanes),
    }


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> NextPlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    library, made = technology or technologies.load(), graphs(config)
    return NextPlan(**{name: schedule(graph, library, config.clock_period_ps) for name, graph in made.items()})


def to_list(sizes: MachineSizes, made: NextPlan, masks: Stream, block: pyrtl.Block) -> Stream:
    """Rows of a mask (bits, row number, last) to rows of its list: ids of 16 bits, zeros beyond the last; `last`."""
    lanes, low = sizes.top_k_lanes, lane_bits(sizes)
    with building(block):
        bits, row, last = masks.data[:lanes], masks.data[lanes:-1], masks.data[-1]
        advance = pyrtl.WireVector(1, "next_advance")
        numbers = pyrtl.concat_list([pyrtl.Const(i, low) for i in range(lanes)])
        inputs = {"value": pyrtl.Const(0, lanes), "id": numbers, "valid": bits}
        packing = instantiate(made.pack, inputs, block, advance, masks.valid, "next_pack_")
        tally = instantiate(made.tally, {"mask": bits}, block, advance, prefix="next_tally_")
        depth = made.latency_cycles
        packed, there, valid = (
            align(wire, depth - packing.latency_cycles, f"next_{name}", advance)
            for name, wire in (
                ("ids", packing.outputs["packed_id"]),
                ("there", packing.outputs["packed_valid"]),
                ("valid", packing.out_valid),
            )
        )
        count = align(tally.outputs["ones"], depth - tally.latency_cycles, "next_count", advance)
        number, ends = align(row, depth, "next_row", advance), align(last, depth, "next_last", advance)
        elements = tuple(
            pyrtl.concat(number, lane) & there[i].sign_extended(low + len(number))
            for i, lane in enumerate(lanes_of(packed, lanes))
        )
        entering = Rows(elements, count, ends, valid, pyrtl.WireVector(1, "next_packer_ready"))
        advance <<= ~valid | entering.ready
        drive(masks.ready, advance)
        full = as_stream(row_packer(entering, block=block, prefix="next_rows_"), block)
        return _ending(as_rows(fifo(full, LISTED_ROWS, block=block, prefix="next_list_").stream, lanes, block), block)


def _ending(rows: Rows, block: pyrtl.Block) -> Stream:
    """Rows of a list as items (`last` on top), the last row marked even where the packer ends with an empty one.

    A row is held back until the next one comes, or the end without any.
    """
    ids = pyrtl.concat_list([wire.zero_extended(LIST_ID_BITS) for wire in rows.elements])
    held, last = payload_register(len(ids), "held_row", block), register(1, "held_row_last", block)
    there = register(1, "held_row_valid", block)
    is_end = rows.last & (rows.count == 0)
    out = produced(pyrtl.concat(last, held), there & (last | (rows.valid & ~is_end)), block, "held_row_")
    leaves = out.valid & out.ready
    enters = rows.valid & ~is_end & (~there | leaves)
    drive(rows.ready, pyrtl.select(is_end, ~(there & last), ~there | leaves))
    held.next <<= pyrtl.select(enters, ids, held)
    ended = last | (rows.valid & is_end & there)
    last.next <<= pyrtl.select(enters, rows.last, ended & ~leaves)
    there.next <<= enters | (there & ~leaves)
    return out
