"""LSBs of values that flat rows keep: each is asked for once per K/V head (algorithm page, section 5).

In summarization the values of all survivors are on chip with their most significant bits. A flat row also needs the
LSBs of those it keeps. `asked` has a bit a value, in words as the beats are: lanes of a row of the Value SRAM. What of
a row is not in it becomes the sparse list, ids and slots in rising order, T a row:

    beat -> asked? -> slot -> row of the survivor list -> ids -> packed lanes -> packed rows -> missing_write

A row begins with `sparse_go` (with `sparse_clear` the first one of its K/V head: forget what was asked for) and ends
with `missing_total_valid`: `missing_total` ids are written from row 0 of the list on, both until the next `sparse_go`,
which says that the list may be written again. Beats wait for it; writing never waits. Forgetting takes a cycle a word
that the layer uses.
"""

from __future__ import annotations

import pyrtl

from hls import technology as technologies
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.top_k_wires import align, hold, remove_unread
from hls.datapaths.value_wires import (
    by_dimension,
    first_slot,
    fitted,
    ids_from,
    kept_beat,
    lanes_by_dimension,
    list_row,
    log2,
    slots_from,
    survivor_list,
)
from hls.datapaths.zero_eliminator import zero_eliminator_graph
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of
from hls.schedule import Schedule, schedule
from hls.stream import drive, payload_register, register, source_ports
from hls.stream_rows import Rows, row_packer
from hls.technology import Technology
from hls.trace import Bool, Graph, UInt, Value, Vec, Vector, trace
from models.config import AcceleratorConfig

ID_CYCLES = 3


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    sizes = MachineSizes.of(config)
    return {
        "pack_missing": zero_eliminator_graph(sizes.slots, sizes.id_bits, sizes.id_bits),
        "count_missing": _count_graph(sizes),
    }


def _count_graph(sizes: MachineSizes) -> Graph:
    """How many lanes of a mask are set."""

    def count_missing(mask: Vector) -> dict[str, Value]:
        return {"set_lanes": mask.sum()}

    return trace(count_missing, {"mask": Vec(Bool, sizes.slots)}, {"set_lanes": UInt(sizes.slots.bit_length())})


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    sizes, library = MachineSizes.of(config), technology or technologies.load()
    plans = {name: schedule(graph, library, config.clock_period_ps) for name, graph in graphs(config).items()}
    block = pyrtl.Block()
    with building(block):
        dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
        keys = pyrtl.Input(sizes.count_bits, "layer_keys")
        go, clear = pyrtl.Input(1, "sparse_go"), pyrtl.Input(1, "sparse_clear")
        beats = source_ports(kept_beat(sizes).bits, block, "sparse_beat_")
        beat = kept_beat(sizes).unpack(beats.data)

        clearing, working = register(1, "clearing", block), register(1, "working", block)
        row = register(sizes.row_bits, "cleared_row", block)
        last_key = (keys - 1)[: sizes.id_bits]
        final = by_dimension(
            dimension, [fitted(last_key[log2(lanes) :], sizes.row_bits) for lanes in lanes_by_dimension(sizes)]
        )
        cleared = row == final
        takes = beats.valid & working & ~clearing
        drive(beats.ready, working & ~clearing)
        clearing.next <<= pyrtl.select(go, clear, clearing & ~cleared)
        hold(row, clearing, pyrtl.select(cleared, pyrtl.Const(0, len(row)), (row + 1)[: len(row)]))
        working.next <<= pyrtl.select(go, pyrtl.Const(1, 1), working & ~(takes & beat["last"]))

        asked = pyrtl.MemBlock(sizes.slots, sizes.row_bits, "asked", asynchronous=True, block=block)
        before = asked[beat["number"]]
        written = pyrtl.select(clearing, row, beat["number"])
        after = (before | beat["lanes"]) & (~clearing).sign_extended(sizes.slots)
        asked[written] <<= pyrtl.MemBlock.EnabledWrite(after, clearing | takes)

        missing = align(beat["lanes"] & ~before, 1, "missing")
        slot = first_slot(align(beat["number"], 1, "number"), dimension, sizes)
        last, valid = align(beat["last"], 1, "last"), align(takes, 1, "valid")
        rows = _missing_ids(sizes, plans, missing, slot, (last, valid), block)
        _write(sizes, rows, go, block)
    remove_unread(block)
    block.sanity_check()
    return Netlist("value_sparse", block)


def _missing_ids(
    sizes: MachineSizes,
    plans: dict[str, Schedule],
    missing: Wire,
    slot: Wire,
    controls: tuple[Wire, Wire],
    block: pyrtl.Block,
) -> Rows:
    """Rows of T items (id, then slot); `controls` are `last` and `valid` of a beat."""
    survivors = survivor_list(sizes, "survivors", block)
    read_slot = align(slot, 1, "slot")
    row = align(survivors[list_row(read_slot, sizes)], 1, "list_row")
    row_slot = align(read_slot, 1, "row_slot")
    ids = align(pyrtl.concat_list(ids_from(row, row_slot, sizes)), 1, "ids")
    slots = align(pyrtl.concat_list(slots_from(row_slot, sizes)), 1, "slots")
    lanes = align(missing, ID_CYCLES, "id_missing")
    packing = instantiate(plans["pack_missing"], {"value": slots, "id": ids, "valid": lanes}, block, prefix="pack_")
    tally = instantiate(plans["count_missing"], {"mask": lanes}, block, prefix="tally_")
    depth = max(packing.latency_cycles, tally.latency_cycles)

    def aligned(wire: Wire, latency_cycles: int, name: str) -> Wire:
        return align(wire, depth - latency_cycles, name)

    packed_ids = aligned(packing.outputs["packed_id"], packing.latency_cycles, "packed_ids")
    packed_slots = aligned(packing.outputs["packed_value"], packing.latency_cycles, "packed_slots")
    items = [
        pyrtl.concat(at, one)
        for one, at in zip(lanes_of(packed_ids, sizes.slots), lanes_of(packed_slots, sizes.slots), strict=True)
    ]
    nothing = [pyrtl.Const(0, 2 * sizes.id_bits)] * (sizes.top_k_lanes - sizes.slots)
    last, valid = (align(wire, ID_CYCLES + depth, f"packed_{i}") for i, wire in enumerate(controls))
    count = aligned(tally.outputs["set_lanes"], tally.latency_cycles, "packed_count")
    arriving = Rows(
        (*items, *nothing),
        fitted(count, sizes.top_k_lanes.bit_length()),
        last,
        valid,
        # a row follows the last beat of another after several cycles: the packer is never flushing then
        pyrtl.WireVector(1, "packer_takes"),
    )
    return row_packer(arriving, block=block, prefix="packer_")


def _write(sizes: MachineSizes, rows: Rows, go: Wire, block: pyrtl.Block) -> None:
    """Rows to the sparse list, and their total."""
    drive(rows.ready, pyrtl.Const(1, 1))
    valid, last = align(rows.valid, 1, "written"), align(rows.last, 1, "written_last")
    count = align(rows.count, 1, "written_count")
    # both begin with `sparse_go`
    number, total = (
        payload_register(bits, name, block)
        for name, bits in (("list_number", sizes.list_row_bits), ("total", sizes.count_bits))
    )
    finished = register(1, "finished", block)
    after = pyrtl.select(valid, (number + 1)[: len(number)], number)
    number.next <<= pyrtl.select(go, pyrtl.Const(0, len(number)), after)
    added = pyrtl.select(valid, (total + count)[: len(total)], total)
    total.next <<= pyrtl.select(go, pyrtl.Const(0, len(total)), added)
    finished.next <<= ~go & (finished | (valid & last))
    output_ports(
        {
            "missing_write": valid & (count != 0),
            "missing_row": number,
            "missing_ids": align(
                pyrtl.concat_list([element[: sizes.id_bits] for element in rows.elements]), 1, "written_ids"
            ),
            "missing_slots": align(
                pyrtl.concat_list([element[sizes.id_bits :] for element in rows.elements]), 1, "written_slots"
            ),
            "missing_total": total,
            "missing_total_valid": finished,
        }
    )
