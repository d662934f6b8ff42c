"""Top-k engine: the k largest of a request's items in input order, ties to the first, by quick-select.

A request is a stream of rows of (value, id, valid), the last one marked; k comes with that row. (algorithm page,
section 6; architecture page, "Top-k engine".) Three units work on up to three requests at once:

- fill (here) packs the valid items into full rows: whole items into the ring `items`, values also into `first`;
- select (`hls.datapaths.top_k_select`) finds the threshold T and num_eq, a row of candidates a cycle in every pass;
- the filter (`hls.datapaths.top_k_filter`) reads `items` again, lets pass what is above T and the first num_eq equal
  values, packs them into rows, and frees the rows that the fill of later requests waits for.

Ports in, under `in_valid`, `in_ready`: `value`, `id`, `valid` (lane 0 in the least significant bits), `last`, `k`.
Ports out, under `out_valid`, `out_ready`: rows `kept_value`, `kept_id`, `kept_count`, all full but the last one of a
request (0 items to a full row), which has `kept_last`; with it `status`, `threshold` and `num_equal` (0 and n where
k >= n: then everything passes without a pass). A refused request (status not 0: k = 0, no valid items, or more of them
than the FIFOs hold) gives one row without items. `pass_starts` shows every pass, `pass_candidates` how many items it
looks at.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.number_formats import IMPORTANCE_BITS, PROBABILITY_BITS
from hls.datapaths.top_k_filter import build_filter
from hls.datapaths.top_k_graphs import TopKPlan, TopKTypes, plan
from hls.datapaths.top_k_select import build_select
from hls.datapaths.top_k_wires import align, hold, remove_unread
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.stream import Stream, drive, fifo, payload_register, register
from hls.stream_rows import Rows, row_packer
from hls.technology import Technology
from models.config import AcceleratorConfig

WAITING_REQUESTS = 2
RESULT_ROWS = 2


def build(
    config: AcceleratorConfig, technology: Technology | None = None, value_bits: int = IMPORTANCE_BITS
) -> Netlist:
    """The whole engine as a netlist, for values of `value_bits` bits (default: token importances).

    Raises:
        ScheduleError, HlsError: if the clock is too fast for the technology, or for values of fewer than 2 bits.
    """
    return build_plan(plan(config, technology, value_bits))


def build_probability(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The engine of local value pruning: probabilities of 12 bits."""
    return build(config, technology, PROBABILITY_BITS)


def build_plan(made: TopKPlan) -> Netlist:
    """The engine of a plan."""
    block, types = pyrtl.Block(), made.types
    with building(block):
        items, first, left, right = (
            pyrtl.MemBlock(types.lanes * bits, types.address.width, name, asynchronous=True, block=block)
            for name, bits in (
                ("items", types.item_bits),
                *((name, types.value.width) for name in ("first", "left", "right")),
            )
        )
        read_pointer = pyrtl.WireVector(types.row_count.width, "read_pointer")
        requests = _build_fill(made, items, first, read_pointer, block)
        filter_free = pyrtl.WireVector(1, "filter_free")
        chosen = build_select(made, (first, left, right), requests, filter_free, block)
        filtered = build_filter(made, items, chosen, block)
        read_pointer <<= filtered.read_pointer
        filter_free <<= filtered.free
        # two places written in turn: no multiplexer behind the row packer, no path from `out_ready` into the engine
        queued = fifo(filtered.result, RESULT_ROWS, block=block, storage="memory", prefix="result_")
        _result_ports(types, queued.stream)
    remove_unread(block)
    block.sanity_check()
    return Netlist("top_k", block)


def _result_ports(types: TopKTypes, result: Stream) -> None:
    """The result's fields as ports; their order is that of `build_filter`."""
    values = types.lanes * types.value.width
    ids = types.lanes * types.id.width
    fields = {
        "kept_value": values,
        "kept_id": ids,
        "kept_count": types.lane_count.width,
        "kept_last": 1,
        "status": 2,
        "threshold": types.value.width,
        "num_equal": types.count.width,
    }
    output_ports(dict(zip(fields, split(result.data, fields.values()), strict=True)))
    output_ports({"out_valid": result.valid})
    drive(result.ready, pyrtl.Input(1, "out_ready"))


def _build_fill(
    made: TopKPlan, items: pyrtl.MemBlock, first: pyrtl.MemBlock, read_pointer: Wire, block: pyrtl.Block
) -> Stream:
    """From the input ports to both rings; gives a stream of requests: n, k, overflow, the lowest bits first."""
    types = made.types
    lanes = types.lanes
    value, ident = pyrtl.Input(lanes * types.value.width, "value"), pyrtl.Input(lanes * types.id.width, "id")
    valid, last = pyrtl.Input(lanes, "valid"), pyrtl.Input(1, "last")
    k, in_valid = pyrtl.Input(types.count.width, "k"), pyrtl.Input(1, "in_valid")

    advance = pyrtl.WireVector(1, "fill_advance")
    ports = {"value": value, "id": ident, "valid": valid}
    packing = instantiate(made.fill_pack, ports, block, advance, in_valid, "fill_")
    tally = instantiate(made.fill_tally, {"mask": valid}, block, advance, prefix="fill_tally_")
    depth = made.fill_latency_cycles

    def aligned(wire: Wire, latency_cycles: int, name: str) -> Wire:
        return align(wire, depth - latency_cycles, f"fill_{name}", advance)

    packed_values, packed_ids, row_valid = (
        aligned(wire, packing.latency_cycles, name)
        for name, wire in (
            ("row_value", packing.outputs["packed_value"]),
            ("row_id", packing.outputs["packed_id"]),
            ("row_valid", packing.out_valid),
        )
    )
    row_k = aligned(k, 0, "row_k")
    entering = Rows(
        tuple(
            pyrtl.concat(i, v) for v, i in zip(lanes_of(packed_values, lanes), lanes_of(packed_ids, lanes), strict=True)
        ),
        aligned(tally.outputs["set_lanes"], tally.latency_cycles, "row_count"),
        aligned(last, 0, "row_last"),
        row_valid,
        pyrtl.WireVector(1, "fill_row_ready"),
    )
    rows = row_packer(entering, block=block, prefix="fill_pack_")
    enters = entering.valid & entering.ready
    held_k = payload_register(types.count.width, "fill_k", block)
    held_k.next <<= pyrtl.select(enters, row_k, held_k)

    write_pointer = register(types.row_count.width, "write_pointer", block)
    written = register(types.row_count.width, "fill_written", block)
    overflow = register(1, "fill_overflow", block)
    used = (write_pointer - read_pointer)[: types.row_count.width]
    has_items, at_limit = rows.count != 0, written == types.rows
    wants_room = has_items & ~at_limit
    has_room = ~wants_room | (used != types.rows)
    overflows = overflow | (has_items & at_limit)

    whole = pyrtl.concat(written, pyrtl.Const(0, types.lane_bits)) if types.lane_bits else written
    rest = pyrtl.select(at_limit, pyrtl.Const(0, len(rows.count)), rows.count)
    count = (whole + rest)[: types.count.width].zero_extended(types.count.width)
    request = pyrtl.concat(overflows, pyrtl.select(enters, row_k, held_k), count)
    ended = Stream(request, rows.valid & rows.last & has_room, pyrtl.WireVector(1, "request_ready"))
    requests = fifo(ended, WAITING_REQUESTS, block=block, prefix="requests_").stream

    ready = has_room & (~rows.last | ended.ready)
    drive(rows.ready, ready)
    takes = rows.valid & ready
    writes = takes & wants_room
    address = write_pointer[: types.address.width]
    items[address] <<= pyrtl.MemBlock.EnabledWrite(pyrtl.concat_list(rows.elements), writes)
    only_values = pyrtl.concat_list([element[: types.value.width] for element in rows.elements])
    first[address] <<= pyrtl.MemBlock.EnabledWrite(only_values, writes)
    hold(write_pointer, writes, (write_pointer + 1)[: len(write_pointer)])
    after = pyrtl.select(rows.last, pyrtl.Const(0, len(written)), (written + wants_room)[: len(written)])
    hold(written, takes, after)
    hold(overflow, takes, overflows & ~rows.last)

    advance <<= ~row_valid | entering.ready
    in_ready = pyrtl.Output(1, "in_ready")
    in_ready <<= advance
    return requests
