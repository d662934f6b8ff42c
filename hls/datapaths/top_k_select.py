"""The unit of the top-k engine that finds the threshold: quick-select, a row of candidates a cycle in every pass.

The first pass reads the ring `first`, later ones the FIFO `left` (what was smaller) or `right` (what was larger). Two
comparator arrays and an equality counter judge a row, two zero eliminators and row packers put the survivors behind
what the FIFOs hold. A pass writes no more rows than it has read, so a FIFO of a request's size never overflows.

A pass of R rows, where L is the latency of comparing and packing a row:

    cycle   0          1               2                     3 .. R + 1     R + 2 + L   R + 3 + L
    state   rowing     fetching        picking               streaming                  deciding
    does    pivot row  read it; lane   pivot; read row 0     read a row     last tally  where to go on

The pass after it, or the next request, begins in the cycle after `deciding`: a pass takes R + L + 4 cycles. Survivors
of the last row are written in the last two of them.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.top_k_graphs import LFSR_POLYNOMIAL, LFSR_SEED, TopKPlan
from hls.datapaths.top_k_wires import Chosen, align, hold
from hls.lower import instantiate, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, payload_register, register
from hls.stream_rows import Rows, row_packer

STATUS_OK, STATUS_ZERO_K, STATUS_EMPTY, STATUS_OVERFLOW = range(4)


def first_lfsr() -> int:
    """The state of the LFSR in the first pass of a request: it steps once before every pass."""
    return (LFSR_SEED >> 1) ^ (LFSR_POLYNOMIAL if LFSR_SEED & 1 else 0)


def build_select(
    made: TopKPlan,
    memories: tuple[pyrtl.MemBlock, pyrtl.MemBlock, pyrtl.MemBlock],
    requests: Stream,
    filter_free: Wire,
    block: pyrtl.Block,
) -> Chosen:
    """The unit; `memories` are `first`, `left`, `right`. Adds the ports `pass_starts` and `pass_candidates`."""
    types, lanes = made.types, made.types.lanes
    first, left, right = memories

    def part(name: str, **inputs: Wire) -> dict[str, Wire]:
        return dict(instantiate(made.one_cycle[name], inputs, block, prefix=f"select_{name}_").outputs)

    def reg(bits: int, name: str, reset_value: int = 0) -> pyrtl.Register:
        return register(bits, name, block, reset_value)

    def payload(bits: int, name: str) -> pyrtl.Register:
        return payload_register(bits, name, block)

    waiting = reg(1, "waiting", 1)
    rowing, fetching, picking, streaming, deciding = (
        reg(1, name) for name in ("rowing", "fetching", "picking", "streaming", "deciding")
    )
    count_bits = types.count.width
    count, target, smaller_total, larger_total, equal_total = (
        payload(count_bits, name) for name in ("count", "target", "smaller_total", "larger_total", "equal_total")
    )
    base, index, last_row, pivot_row = (
        payload(types.address.width, name) for name in ("base", "index", "last_row", "pivot_row")
    )
    row_count, rest_lanes = payload(types.row_count.width, "row_count"), payload(lanes, "rest_lanes")
    lfsr, pivot = payload(16, "lfsr"), payload(types.value.width, "pivot")
    sources = {name: payload(1, f"from_{name}") for name in ("first", "left", "right")}

    # a request: refused, passed on whole, or begun
    n, k, overflow = requests.data[:count_bits], requests.data[count_bits:-1], requests.data[-1]
    is_empty, is_zero_k = n == 0, k == 0
    refused = is_empty | is_zero_k | overflow
    whole = refused | (k >= n)
    offered = waiting & requests.valid
    starts = offered & ~whole
    passes_on = offered & whole & filter_free
    drive(requests.ready, waiting & (~whole | filter_free))
    status = pyrtl.select(is_zero_k, pyrtl.Const(STATUS_ZERO_K, 2), pyrtl.Const(STATUS_OVERFLOW, 2))
    status = pyrtl.select(is_empty, pyrtl.Const(STATUS_EMPTY, 2), status)
    status = pyrtl.select(refused, status, pyrtl.Const(STATUS_OK, 2))
    shape = part("shape", count=n)

    # where a pass leads
    totals = {"smaller": smaller_total, "larger": larger_total, "equal": equal_total}
    decided = part("decide", **totals, target=target)
    finds = deciding & decided["found"]
    continues = deciding & ~decided["found"]
    hands_over = finds & filter_free
    begins_pass = starts | continues

    def load(target_register: pyrtl.Register, at_start: Wire, at_continue: Wire) -> None:
        hold(target_register, begins_pass, pyrtl.select(waiting, at_start, at_continue))

    hold(waiting, starts | hands_over, hands_over)
    rowing.next <<= begins_pass
    fetching.next <<= rowing
    picking.next <<= fetching
    load(count, n, decided["next_count"])
    load(target, k, decided["next_target"])
    load(row_count, shape["row_count"], decided["next_row_count"])
    load(rest_lanes, shape["rest_lanes"], decided["next_rest_lanes"])
    load(lfsr, pyrtl.Const(first_lfsr(), 16), part("step", lfsr=lfsr)["stepped"])
    load(sources["first"], pyrtl.Const(1, 1), pyrtl.Const(0, 1))
    load(sources["left"], pyrtl.Const(0, 1), ~decided["up"])
    load(sources["right"], pyrtl.Const(0, 1), decided["up"])

    # the pivot, and the rows
    chosen_row = part("pivot_row", lfsr=lfsr, row_count=row_count)["row"]
    pivot_row.next <<= chosen_row
    last_row.next <<= (row_count - 1)[: types.address.width]
    issues, is_last = picking | streaming, index == last_row
    streaming.next <<= issues & ~is_last
    after = pyrtl.select(issues, (index + 1)[: len(index)], index)
    index.next <<= pyrtl.select(rowing, pyrtl.Const(0, len(index)), after)
    # the address is ready when the cycle begins, and so are the masks that choose a memory
    address = payload(types.address.width, "read_address")
    pivot_address = (base + chosen_row)[: types.address.width]
    onward = pyrtl.select(fetching, base, (address + 1)[: types.address.width])
    address.next <<= pyrtl.select(rowing, pivot_address, onward)
    row = payload(lanes * types.value.width, "row")
    read = [
        memory[address] & sources[name].sign_extended(len(row))
        for name, memory in (("first", first), ("left", left), ("right", right))
    ]
    hold(row, fetching | issues, read[0] | read[1] | read[2])
    if lanes > 1:
        lane = payload(types.lane_bits, "lane")
        rest = count[: types.lane_bits]
        lane.next <<= part("pivot_lane", lfsr=lfsr, rest=rest, is_last=pivot_row == last_row)["lane"]
        hold(pivot, picking, part("pick", value=row, lane=lane)["pivot"])
    else:
        hold(pivot, picking, row)
    row_valid, row_last = reg(1, "row_valid"), reg(1, "row_last")
    row_valid.next <<= issues
    row_last.next <<= issues & is_last

    # survivors
    in_row = rest_lanes | (~row_last).sign_extended(lanes)
    judged = part("partition", value=row, valid=in_row, pivot=pivot)
    depth = made.partition_latency_cycles
    tallies = {}
    for side in ("smaller", "larger", "equal"):
        instance = instantiate(made.candidate_tally, {"mask": judged[side]}, block, prefix=f"{side}_tally_")
        tallies[side] = align(instance.outputs["set_lanes"], depth - instance.latency_cycles, f"{side}_tally_aligned")
    out_valid, last_out = align(row_valid, depth, "judged_valid"), align(row_last, depth, "judged_last")
    deciding.next <<= last_out | (finds & ~filter_free)
    for side, total in (("smaller", smaller_total), ("larger", larger_total), ("equal", equal_total)):
        sum_now = pyrtl.select(out_valid, (total + tallies[side])[:count_bits], total)
        total.next <<= pyrtl.select(rowing, pyrtl.Const(0, count_bits), sum_now)
    starts_of = {}
    values = lanes_of(row, lanes)
    for side, memory in (("smaller", left), ("larger", right)):
        # a candidate is a value alone: its lowest bit goes where an item has its id
        ports = {
            "value": pyrtl.concat_list([value[1:] for value in values]),
            "id": pyrtl.concat_list([value[0] for value in values]),
            "valid": judged[side],
        }
        instance = instantiate(made.candidate_pack, ports, block, prefix=f"{side}_")
        upper, lowest = (
            align(instance.outputs[name], depth - instance.latency_cycles, f"{side}_{name}_aligned")
            for name in ("packed_value", "packed_id")
        )
        elements = tuple(
            pyrtl.concat(u, b) for u, b in zip(lanes_of(upper, lanes), lanes_of(lowest, lanes), strict=True)
        )
        ready = pyrtl.WireVector(1, f"{side}_row_ready")
        rows = row_packer(
            Rows(elements, tallies[side], last_out, out_valid, ready), block=block, prefix=f"{side}_pack_"
        )
        drive(rows.ready, pyrtl.Const(1, 1))
        start, tail = (payload(types.address.width, f"{side}_{name}") for name in ("start", "tail"))
        # a last row without survivors is written too: it comes after full rows, which leave a row of room
        memory[tail] <<= pyrtl.MemBlock.EnabledWrite(pyrtl.concat_list(rows.elements), rows.valid)
        hold(tail, rows.valid, (tail + 1)[: len(tail)])
        hold(start, rowing, tail)
        starts_of[side] = start

    first_base = reg(types.address.width, "first_base")
    hold(first_base, starts | passes_on, (first_base + shape["row_count"])[: len(first_base)])
    load(base, first_base, pyrtl.select(decided["up"], starts_of["larger"], starts_of["smaller"]))

    output_ports({"pass_starts": rowing, "pass_candidates": count})
    n_rows, n_rest = payload(types.row_count.width, "request_row_count"), payload(lanes, "request_rest_lanes")
    hold(n_rows, starts, shape["row_count"])
    hold(n_rest, starts, shape["rest_lanes"])
    return Chosen(
        valid=passes_on | hands_over,
        row_count=pyrtl.select(waiting, shape["row_count"], n_rows),
        rest_lanes=pyrtl.select(waiting, shape["rest_lanes"], n_rest),
        threshold=pyrtl.select(waiting, pyrtl.Const(0, types.value.width), pivot),
        num_equal=pyrtl.select(waiting, n, decided["num_equal"]),
        status=pyrtl.select(waiting, status, pyrtl.Const(STATUS_OK, 2)),
    )
