"""The filter of the top-k engine: reads a request's items again and packs those that are kept into rows.

A row is read, compared with the threshold (above, equal, how many equal ones are ahead in the row), and admitted: what
is above, and what is equal while fewer than num_eq equal ones have passed. A zero eliminator and a row packer follow.
The whole pipeline stalls as one; a request is taken when the one before has left it.

    cycle   0     1        2      3      4 ..              L + 3
    does    load  read 0   compare  admit  zero eliminator   first row, if it is full or the last
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.top_k_graphs import TopKPlan
from hls.datapaths.top_k_wires import Chosen, align, hold
from hls.lower import instantiate
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, payload_register, register
from hls.stream_rows import Rows, row_packer


@dataclass(frozen=True, eq=False)
class Filtered:
    """The filter's result rows; whether it can take a request; and the row of `items` that it reads next."""

    result: Stream
    free: Wire
    read_pointer: Wire


def build_filter(made: TopKPlan, items: pyrtl.MemBlock, chosen: Chosen, block: pyrtl.Block) -> Filtered:
    """The unit; `items` is a ring whose rows before `read_pointer` may be written again.

    Fields of the result, the lowest bits first: values, ids, count, last, status, threshold, num_eq.
    """
    types, lanes = made.types, made.types.lanes
    advance = pyrtl.WireVector(1, "filter_advance")

    def reg(bits: int, name: str, reset_value: int = 0) -> pyrtl.Register:
        return register(bits, f"filter_{name}", block, reset_value)

    def payload(bits: int, name: str) -> pyrtl.Register:
        return payload_register(bits, f"filter_{name}", block)

    def staged(wire: Wire, name: str) -> Wire:
        return align(wire, 1, f"filter_{name}", advance)

    # reading
    load, refused = chosen.valid, chosen.status != 0
    idle, reading = reg(1, "idle", 1), reg(1, "reading")
    status, threshold = payload(2, "status"), payload(types.value.width, "threshold")
    num_equal, remaining = payload(types.count.width, "num_equal"), payload(types.count.width, "remaining")
    index, last_row = payload(types.address.width, "index"), payload(types.address.width, "last_row")
    rest_lanes, read_pointer = payload(lanes, "rest_lanes"), reg(types.row_count.width, "read_pointer")
    for target, wire in ((status, chosen.status), (threshold, chosen.threshold), (num_equal, chosen.num_equal)):
        hold(target, load, wire)
    # a refused request is one row of no items; those that it has in the ring are skipped
    nothing = pyrtl.Const(0, types.address.width)
    hold(last_row, load, pyrtl.select(refused, nothing, (chosen.row_count - 1)[: len(last_row)]))
    hold(rest_lanes, load, chosen.rest_lanes & (~refused).sign_extended(lanes))
    is_last = index == last_row
    reads = reading & advance
    hold(reading, load | (reads & is_last), load)
    index.next <<= pyrtl.select(load, nothing, pyrtl.select(reads, (index + 1)[: len(index)], index))
    frees_row = reads & (status == 0)
    one_on = pyrtl.select(frees_row, (read_pointer + 1)[: len(read_pointer)], read_pointer)
    skipped = (read_pointer + chosen.row_count)[: len(read_pointer)]
    read_pointer.next <<= pyrtl.select(load & refused, skipped, one_on)

    row, row_valid = staged(items[read_pointer[: types.address.width]], "row"), staged(reading, "row_valid")
    row_last = staged(reading & is_last, "row_last")

    # comparing and admitting
    values = pyrtl.concat_list([item[: types.value.width] for item in lanes_of(row, lanes)])
    in_row = rest_lanes | (~row_last).sign_extended(lanes)
    compared = instantiate(
        made.one_cycle["compare"],
        {"value": values, "valid": in_row, "threshold": threshold},
        block,
        prefix="filter_compare_",
    ).outputs
    marks = {name: staged(wire, name) for name, wire in compared.items()}
    judged, judged_valid, judged_last = (
        staged(wire, f"judged_{name}") for name, wire in (("row", row), ("valid", row_valid), ("last", row_last))
    )
    admitted = instantiate(
        made.one_cycle["admit"], {**marks, "remaining": remaining}, block, prefix="filter_admit_"
    ).outputs
    left = pyrtl.select(judged_valid & advance, admitted["next_remaining"], remaining)
    remaining.next <<= pyrtl.select(load, chosen.num_equal, left)

    # packing
    judged_items = lanes_of(judged, lanes)
    ports = {
        "value": pyrtl.concat_list([item[: types.value.width] for item in judged_items]),
        "id": pyrtl.concat_list([item[types.value.width :] for item in judged_items]),
        "valid": admitted["kept"],
    }
    packing = instantiate(made.kept_pack, ports, block, advance, judged_valid, "filter_pack_")
    tally = instantiate(made.kept_tally, {"mask": admitted["kept"]}, block, advance, prefix="filter_tally_")
    depth = made.kept_latency_cycles

    def aligned(wire: Wire, latency_cycles: int, name: str) -> Wire:
        return align(wire, depth - latency_cycles, f"filter_{name}", advance)

    kept_values, kept_ids, kept_valid = (
        aligned(wire, packing.latency_cycles, f"kept_{name}")
        for name, wire in (
            ("value", packing.outputs["packed_value"]),
            ("id", packing.outputs["packed_id"]),
            ("valid", packing.out_valid),
        )
    )
    kept_items = zip(lanes_of(kept_values, lanes), lanes_of(kept_ids, lanes), strict=True)
    entering = Rows(
        tuple(pyrtl.concat(ident, value) for value, ident in kept_items),
        aligned(tally.outputs["set_lanes"], tally.latency_cycles, "kept_count"),
        aligned(judged_last, 0, "kept_last"),
        kept_valid,
        pyrtl.WireVector(1, "filter_row_ready"),
    )
    rows = row_packer(entering, block=block, prefix="filter_rows_")
    advance <<= ~kept_valid | entering.ready
    leaves = rows.valid & rows.ready & rows.last
    hold(idle, load | leaves, leaves)

    fields = (
        pyrtl.concat_list([element[: types.value.width] for element in rows.elements]),
        pyrtl.concat_list([element[types.value.width :] for element in rows.elements]),
        rows.count,
        rows.last,
        status,
        threshold,
        num_equal,
    )
    result = Stream(pyrtl.concat_list(fields), rows.valid, rows.ready)
    return Filtered(result, idle, read_pointer)
