"""Head walk: the surviving heads of a layer as jobs, in rising order (architecture page, datapath 15).

    Q of a head                 query_base + head * query_stride
    K, V and their LSB planes   base + (head div group) * stride
    m, x, m_v, sh_v             the head's entry of the head table

All heads are walked over, one a cycle, adding strides; those that survive are found. A job is held back until the next
one is found or the walk has ended, as it says whether it is the last of its K/V head, and of the layer:

    cycle    0        1           2           3
    head 0   walk     found       held
    head 1            walk (dead)
    head 2                        walk        found: head 0 leaves, kv_last if another K/V head begins

Every job goes to three FIFOs: of the rows, of the fetches and of the values.

Ports: `read_data`, `read_kind`, `read_last`, `read_valid`: the bursts of the head table pass by; `table_begin` (pulse,
before them) clears `table_bad`: an entry of a surviving head is out of range. `walk_start` (pulse); constant from
`table_begin` until the walk has ended: `layer_head_mask`, `layer_group`, `walk_...` (bases and strides in 512 bytes).
`job_rows_data` (`MachineSizes.job`), `job_rows_valid`, `job_rows_ready`, `job_fetch_...`, `job_value_...`.
`walk_busy`: the walk has not ended, or a job has not left.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.control_read import KIND_BITS, ReadKind
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.descriptor import HEAD_ENTRY, MAX_HEADS
from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes, Record
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, fifo, payload_register, produced, register, sink_ports
from hls.stream_flow import fork
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

GROUP_BITS = 7
JOBS = 4
CONSUMERS = ("rows", "fetch", "value")
KV_PLANES = ("key", "key_lsb", "value", "value_lsb")
ENTRY_BITS = 8 * HEAD_ENTRY.size_bytes
ENTRIES = BURST_BITS // ENTRY_BITS
ENTRY = Record((("mantissa", 16), ("exponent", 7), ("value_mantissa", 16), ("value_shift", 7)))
"""What is kept of an entry: its numbers in the bits of a job."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic that a schedule would cut: an addition a cycle."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The head walk as a netlist; `technology` changes nothing."""
    del technology
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        mask = pyrtl.Input(MAX_HEADS, "layer_head_mask")
        start = pyrtl.Input(1, "walk_start")
        table, bad = _table(mask, block)
        jobs, busy = _walk(sizes, mask, start, table, block)
        waiting = []
        for consumer, way in zip(CONSUMERS, fork(jobs, len(CONSUMERS), block=block), strict=True):
            queue = fifo(way, JOBS, block=block, prefix=f"{consumer}_queue_").stream
            sink_ports(queue, block, f"job_{consumer}_")
            waiting.append(queue.valid)
        output_ports({"table_bad": bad, "walk_busy": pyrtl.rtl_any(busy, *waiting)})
    block.sanity_check()
    return Netlist("head_walk", block)


def _table(mask: Wire, block: pyrtl.Block) -> tuple[list[pyrtl.MemBlock], Wire]:
    """The head table, a memory for each entry of a burst, and whether an entry of a surviving head is out of range."""
    data, kind = pyrtl.Input(BURST_BITS, "read_data"), pyrtl.Input(KIND_BITS, "read_kind")
    last, valid = pyrtl.Input(1, "read_last"), pyrtl.Input(1, "read_valid")
    row_bits = HEAD_BITS - (ENTRIES - 1).bit_length()
    row = register(row_bits, "table_row", block)
    arrives = valid & (kind == ReadKind.HEAD_TABLE)
    following = pyrtl.select(last, pyrtl.Const(0, row_bits), (row + 1)[:row_bits])
    row.next <<= pyrtl.select(arrives, following, row)
    alive = pyrtl.mux(row, *lanes_of(mask, 1 << row_bits))
    faults, table = [], []
    for i, part in enumerate(lanes_of(data, ENTRIES)):
        entry = _fields(part)
        memory = pyrtl.MemBlock(ENTRY.bits, row_bits, f"table_{i}", asynchronous=True, block=block)
        kept = {name: entry[name][:bits] for name, bits in ENTRY.fields}
        memory[row] <<= pyrtl.MemBlock.EnabledWrite(ENTRY.pack(kept), arrives)
        table.append(memory)
        outside = [entry[name][-1] ^ entry[name][-2] for name in ("exponent", "value_shift")]
        low = [~entry[name][-1] for name in ("mantissa", "value_mantissa")]
        faults.append(alive[i] & pyrtl.rtl_any(*outside, *low))
    bad = register(1, "table_bad_so_far", block)
    found = arrives & pyrtl.rtl_any(*faults)
    bad.next <<= ~pyrtl.Input(1, "table_begin") & (bad | found)
    return table, bad


def _fields(entry: Wire) -> dict[str, Wire]:
    return {field.name: entry[field.offset : field.offset + field.bits] for field in HEAD_ENTRY.fields}


def _walk(
    sizes: MachineSizes, mask: Wire, start: Wire, table: list[pyrtl.MemBlock], block: pyrtl.Block
) -> tuple[Stream, Wire]:
    """The jobs, and whether the walk is under way."""
    base = sizes.base_bits
    ports = {
        name: (pyrtl.Input(base, f"walk_{name}_base"), pyrtl.Input(base, f"walk_{name}_stride"))
        for name in ("query", *KV_PLANES)
    }
    group, head = pyrtl.Input(GROUP_BITS, "layer_group"), register(HEAD_BITS, "head", block)
    remaining, walking = register(MAX_HEADS, "remaining", block), register(1, "walking", block)
    in_group, group_has = register(GROUP_BITS, "in_group", block), register(1, "group_has_one", block)
    found, held = register(1, "found", block), register(1, "held", block)
    out_ready = pyrtl.WireVector(1, "job_moves")
    found_leaves = found & (~held | out_ready)
    steps = walking & (~found | found_leaves)
    alive, rest = remaining[0], remaining[1:]
    group_ends = (in_group + 1)[:GROUP_BITS] == group

    zero_head = pyrtl.Const(0, HEAD_BITS)
    head.next <<= pyrtl.select(start, zero_head, pyrtl.select(steps, (head + 1)[:HEAD_BITS], head))
    shifted = rest.zero_extended(MAX_HEADS)
    remaining.next <<= pyrtl.select(start, mask, pyrtl.select(steps, shifted, remaining))
    walking.next <<= start | (walking & ~(steps & (rest == 0)))
    after = pyrtl.select(group_ends, pyrtl.Const(0, GROUP_BITS), (in_group + 1)[:GROUP_BITS])
    in_group.next <<= pyrtl.select(start, pyrtl.Const(0, GROUP_BITS), pyrtl.select(steps, after, in_group))
    group_has.next <<= ~start & pyrtl.select(steps, (group_has | alive) & ~group_ends, group_has)
    bases = {}
    for name, (first, stride) in ports.items():
        here = payload_register(base, f"{name}_here", block)
        moves = steps if name == "query" else steps & group_ends
        here.next <<= pyrtl.select(start, first, pyrtl.select(moves, (here + stride)[:base], here))
        bases[f"{name}_base"] = here
    found.next <<= pyrtl.select(steps, alive, found & ~found_leaves)
    leaves = held & (found | ~walking) & out_ready
    held.next <<= found_leaves | (held & ~leaves)

    newest, oldest = {}, {}
    for name, wire in {"head": head, "kv_first": ~group_has, **bases}.items():
        newest[name], oldest[name] = (payload_register(len(wire), f"{stage}_{name}", block) for stage in ("new", "old"))
        newest[name].next <<= pyrtl.select(steps, wire, newest[name])
        oldest[name].next <<= pyrtl.select(found_leaves, newest[name], oldest[name])
    within = HEAD_BITS - table[0].addrwidth
    entries = []
    for i, memory in enumerate(table):
        entry = payload_register(ENTRY.bits, f"old_entry_{i}", block)
        entry.next <<= pyrtl.select(found_leaves, memory[newest["head"][within:]], entry)
        entries.append(entry)
    last = ~found
    of_head = ENTRY.unpack(pyrtl.mux(oldest["head"][:within], *entries))
    out = produced(
        sizes.job.pack({**oldest, **of_head, "kv_last": last | newest["kv_first"], "last": last}),
        held & (found | ~walking),
        block,
        "job_",
    )
    out_ready <<= out.ready
    return out, pyrtl.rtl_any(walking, found, held)
