"""Landing: operands of all lanes to the Key SRAM, the Value SRAM and the query buffer, many rows a cycle.

Vector i of a list for an operand SRAM belongs to bank i mod 2P (`hls.datapaths.operand_sram`), and comes from lane
i mod Q, or i + Q / 2 mod Q if lists can begin at the middle lane. So the lanes fall into G groups, lane l into l mod G,
with G = min(Q, 2P), or min(Q / 2, 2P), and each bank takes from one group only:

    lanes of a group -> in turn -> a register -> its banks of both SRAMs
                                              -> slow port -> query line, or the bank of a slot number

A group takes a row a cycle: half of the lanes of the published machine, each of which has a 4-bit row every second
cycle. What goes elsewhere, query rows and LSBs of single values, leaves the groups through the slow port, one row a
cycle, the groups in turn; only then is a row wider than its own bank's way to be multiplexed from all groups. Slot
numbers of a sparse list are kept here, for the vectors of the list in order. A sparse row has priority over a row of
the group at its bank.

    cycle            0     1     2     3     4
    operand          a                              landing_valid, landing_ready
    write port             a                        from the group's register
    slow port              a     a*                 * granted
    slot number                        a
    query, sparse                            a      write port

LSB planes change the 4 low bits of every element of a row, all else all of them: `write_lsb`.

Ports: by lane `landing_valid`, `landing_ready`, `landing_tag`, `landing_data`; `layer_dimension`;
`kept_write`, `kept_which`, `kept_row`, `sparse_slots`; for each SRAM (`key_`, `value_`) by bank `write_valid`,
`write_address`, `write_data`, `write_lsb`; `query_write`, `query_write_line`, `query_write_data`; vectors that have
been written, a cycle later, `landed_key`, `landed_value` (by buffer and segment), `landed_sparse`, `landed_all`.
Paths through the module: `landing_valid` and `landing_tag` to `landing_ready`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.landing_lane import landing_tag
from hls.datapaths.machine_sizes import LINE_BITS, Destination, MachineSizes, Source
from hls.datapaths.operand_sram import PARITIES
from hls.datapaths.top_k_wires import hold
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, payload_register, register
from hls.stream_flow import round_robin
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig


def landed_bits(sizes: MachineSizes) -> int:
    """Bits of the number of vectors that land in a cycle."""
    return (PARITIES * sizes.slots + 1).bit_length()


def landing_groups(sizes: MachineSizes) -> int:
    """Groups of lanes; both lanes that a vector can come from are in one."""
    return min(sizes.half_turn or sizes.queues, PARITIES * sizes.slots)


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


@dataclass(frozen=True, eq=False)
class _Group:
    """What the register of a group holds, and whether it leaves in this cycle (to be driven)."""

    valid: Wire
    is_key: Wire
    is_value: Wire
    tag: dict[str, Wire]
    data: Wire
    moves: Wire

    @property
    def needs_slow(self) -> Wire:
        """Of its row: the slow port is for the destinations QUERY and SPARSE."""
        return self.tag["destination"][1]


@dataclass(frozen=True, eq=False)
class _Slow:
    """A row at the end of the slow port."""

    valid: Wire
    is_query: Wire
    is_sparse: Wire
    data: Wire
    line: Wire
    vector: Wire
    buffer: Wire
    is_lsb: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The landing as a netlist; nothing in it depends on `technology`."""
    del technology
    sizes = MachineSizes.of(config)
    banks = PARITIES * sizes.slots
    block = pyrtl.Block()
    with building(block):
        groups = _groups(sizes, landing_groups(sizes), block)
        granted, slow = _slow_port(sizes, groups, block)
        bank_bits = banks.bit_length() - 1
        ports: dict[str, list[Wire]] = {}
        blocked: list[list[Wire]] = [[] for _ in groups]
        for bank in range(banks):
            number = bank % len(groups)
            group = groups[number]
            index = group.tag["index"]
            here = index[:bank_bits] == bank if banks > len(groups) else pyrtl.Const(1, 1)
            sparse = slow.is_sparse & (slow.vector[:bank_bits] == bank)
            blocked[number].append(here & sparse)
            address = _address(sizes, group.tag["buffer"], index)
            sparse_address = _address(sizes, slow.buffer, slow.vector)
            row = {
                "key_write_valid": here & group.is_key,
                "key_write_address": address,
                "key_write_data": group.data,
                "key_write_lsb": group.tag["is_lsb"],
                "value_write_valid": sparse | (here & group.is_value),
                "value_write_address": pyrtl.select(sparse, sparse_address, address),
                "value_write_data": pyrtl.select(sparse, slow.data, group.data),
                "value_write_lsb": pyrtl.select(sparse, slow.is_lsb, group.tag["is_lsb"]),
            }
            for name, wire in row.items():
                ports.setdefault(name, []).append(wire)
        for group, grant, stops in zip(groups, granted, blocked, strict=True):
            waits = group.is_value & pyrtl.rtl_any(*stops)
            drive(group.moves, group.valid & ~waits & (grant | ~group.needs_slow))
        outputs = {name: pyrtl.concat_list(wires) for name, wires in ports.items()}
        outputs |= {
            "query_write": slow.is_query,
            "query_write_line": slow.line,
            "query_write_data": slow.data,
            **_landed(sizes, groups, slow, block),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("landing_write", block)


def _address(sizes: MachineSizes, buffer: Wire, vector: Wire) -> Wire:
    """Of vector `vector` in its bank: {buffer, row div 2}."""
    low, bits = (PARITIES * sizes.slots).bit_length() - 1, sizes.row_bits - 1
    return pyrtl.concat(buffer, vector[low : low + bits].zero_extended(bits)) if bits else buffer


def segment_of(sizes: MachineSizes, buffer: Wire, vector: Wire) -> Wire:
    """{buffer, segment} of vector `vector` of a list."""
    bits = sizes.segment_bits
    low = sizes.slots.bit_length() - 1 + sizes.row_bits - bits
    return pyrtl.concat(buffer, vector[low : low + bits].zero_extended(bits)) if bits else buffer


def _groups(sizes: MachineSizes, count: int, block: pyrtl.Block) -> list[_Group]:
    """A register a group, filled by its lanes in turn."""
    record = landing_tag(sizes)
    valid = pyrtl.Input(sizes.queues, "landing_valid")
    tags = lanes_of(pyrtl.Input(sizes.queues * record.bits, "landing_tag"), sizes.queues)
    data = lanes_of(pyrtl.Input(sizes.queues * sizes.line_bits, "landing_data"), sizes.queues)
    ready = [pyrtl.WireVector(1, f"lane_{lane}_ready") for lane in range(sizes.queues)]
    groups = []
    for g in range(count):
        lanes = range(g, sizes.queues, count)
        sources = [Stream(pyrtl.concat(data[lane], tags[lane]), valid[lane], ready[lane]) for lane in lanes]
        chosen = sources[0]
        if len(sources) > 1:
            chosen = round_robin(sources, block=block, prefix=f"group_{g}_").stream
        full = register(1, f"group_{g}_full", block)
        held = payload_register(chosen.bits, f"group_{g}_held", block)
        moves = pyrtl.WireVector(1, f"group_{g}_moves")
        drive(chosen.ready, moves | ~full)
        hold(held, chosen.ready, chosen.data)
        hold(full, chosen.ready, chosen.valid)
        tag = record.unpack(held[: record.bits])
        is_key, is_value = (full & (tag["destination"] == sram) for sram in (Destination.KEY, Destination.VALUE))
        groups.append(_Group(full, is_key, is_value, tag, held[record.bits :], moves))
    output_ports({"landing_ready": pyrtl.concat_list(ready)})
    return groups


def _slow_port(sizes: MachineSizes, groups: Sequence[_Group], block: pyrtl.Block) -> tuple[list[Wire], _Slow]:
    """Which group may leave through the slow port in this cycle, found in the cycle before; the row at its end."""
    granted = register(len(groups), "granted", block)
    tags = [landing_tag(sizes).pack(group.tag) for group in groups]
    asking = [
        Stream(tags[g], group.valid & group.needs_slow & ~granted[g], pyrtl.WireVector(1, f"slow_{g}_next"))
        for g, group in enumerate(groups)
    ]
    arbiter = round_robin(asking, block=block, prefix="slow_")
    drive(arbiter.stream.ready, pyrtl.Const(1, 1))
    granted.next <<= pyrtl.concat_list([one.valid & one.ready for one in asking])

    def after(wire: Wire, name: str, resets: bool = False) -> pyrtl.Register:
        made = register if resets else payload_register
        later = made(len(wire), name, block)
        later.next <<= wire
        return later

    tag = landing_tag(sizes).unpack(after(arbiter.stream.data, "granted_tag"))
    number = after(arbiter.winner, "granted_group")
    rows = [group.data for group in groups]
    there = after(pyrtl.rtl_any(*granted), "slow_there", resets=True)
    data = after(rows[0] if len(rows) == 1 else pyrtl.mux(number, *rows), "slow_data")
    dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
    place, part = _by_dimension(sizes, tag["index"], dimension)
    held = {name: after(wire, f"slow_{name}") for name, wire in tag.items()}
    slot = _slot_number(sizes, after(place, "slow_place"))
    vector = _whole_vector(sizes, slot, after(part, "slow_part"), dimension)
    destination = held["destination"]
    return list(granted), _Slow(
        valid=after(there, "row_there", resets=True),
        is_query=after(there & (destination == Destination.QUERY), "query_row", resets=True),
        is_sparse=after(there & (destination == Destination.SPARSE), "sparse_row", resets=True),
        data=after(data, "last_data"),
        line=after(held["index"][:LINE_BITS], "query_line"),
        vector=after(vector, "sparse_vector"),
        buffer=after(held["buffer"], "sparse_buffer"),
        is_lsb=after(held["is_lsb"], "sparse_is_lsb"),
    )


def _of_dimension(choices: list[Wire], dimension: Wire) -> Wire:
    if len(choices) == 1:
        return choices[0]
    return pyrtl.mux(dimension, *choices, *choices[-1:] * ((1 << len(dimension)) - len(choices)))


def _by_dimension(sizes: MachineSizes, index: Wire, dimension: Wire) -> tuple[Wire, Wire]:
    """Place in its list of the token that vector `index` is a part of, and the number of the part."""
    last = len(sizes.parts) - 1
    places = [index[d:].zero_extended(len(index)) for d in range(last + 1)]
    parts = [index[:d].zero_extended(max(1, last)) if d else pyrtl.Const(0, max(1, last)) for d in range(last + 1)]
    place = _of_dimension(places, dimension)
    return place[: sizes.id_bits], _of_dimension(parts, dimension)


def _slot_number(sizes: MachineSizes, place: pyrtl.Register) -> Wire:
    """From the memory of slot numbers, T a row."""
    lanes = sizes.top_k_lanes
    below = lanes.bit_length() - 1
    memory = pyrtl.MemBlock(
        lanes * sizes.id_bits, sizes.list_row_bits, "slots", max_read_ports=1, max_write_ports=1, asynchronous=False
    )
    writes = pyrtl.Input(1, "kept_write") & (pyrtl.Input(2, "kept_which") == Source.SPARSE)
    written = pyrtl.Input(lanes * sizes.id_bits, "sparse_slots")
    memory[pyrtl.Input(sizes.list_row_bits, "kept_row")] <<= pyrtl.MemBlock.EnabledWrite(written, writes)
    row = memory[place[below : below + sizes.list_row_bits].zero_extended(sizes.list_row_bits)]
    return row if lanes == 1 else pyrtl.mux(place[:below], *lanes_of(row, lanes))


def _whole_vector(sizes: MachineSizes, slot: Wire, part: Wire, dimension: Wire) -> Wire:
    """Number of a vector from that of its token among the survivors."""
    bits = sizes.count_bits + 1
    choices = [
        pyrtl.concat(slot, part[:d]).zero_extended(bits + d)[:bits] if d else slot.zero_extended(bits)
        for d in range(len(sizes.parts))
    ]
    return _of_dimension(choices, dimension)


def _landed(
    sizes: MachineSizes, groups: Sequence[_Group], slow: _Slow, block: pyrtl.Block
) -> dict[str, pyrtl.Register]:
    """Numbers of vectors written, for the list sequencer."""
    bits = landed_bits(sizes)

    def counted(name: str, wires: Sequence[list[Wire]]) -> pyrtl.Register:
        count = register(len(wires) * bits if bits else 1, f"count_{name}", block)
        count.next <<= pyrtl.concat_list([_number_of(ones, bits) for ones in wires])
        return count

    found = {}
    moved_keys = [group.is_key for group in groups]
    moved_values = [group.is_value & group.moves for group in groups]
    for name, goes in (("key", moved_keys), ("value", moved_values)):
        places = [segment_of(sizes, group.tag["buffer"], group.tag["index"]) for group in groups]
        by_segment = [
            [g & (place == number) for g, place in zip(goes, places, strict=True)]
            for number in range(2 * sizes.segments)
        ]
        found[f"landed_{name}"] = counted(name, by_segment)
    fast = [key | value for key, value in zip(moved_keys, moved_values, strict=True)]
    found["landed_all"] = counted("all", [[*fast, slow.valid]])
    sparse = register(1, "count_sparse", block)
    sparse.next <<= slow.is_sparse
    return {**found, "landed_sparse": sparse}


def _number_of(ones: Sequence[Wire], bits: int) -> Wire:
    """How many of the wires are 1."""
    sums = list(ones)
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)] + sums[len(sums) & ~1 :]
    return sums[0].zero_extended(bits) if len(sums[0]) <= bits else sums[0][:bits]
