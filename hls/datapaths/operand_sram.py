"""Key SRAM and Value SRAM: rows of operands as slots with their own addresses, twice (architecture page, datapath 6).

A row has `qk_multipliers` elements of W bits: P = multipliers / native_head_dim slots, each with an address of its
own, so that one cycle can read, say, the kept values of P different rows (algorithm page, section 4). A head dimension
above the native one takes neighbouring slots, which are then given equal addresses.

    key or value j of dimension D = native_head_dim:   slot j mod P, row j div P

Two buffers, named by the highest bit of an address: one is read while the other is filled. A slot is two banks, one of
its even and one of its odd rows, so that 2P rows can be written in a cycle, which is what the lanes of the fetcher
give of 4-bit elements:

    vector i of a list:   bank i mod 2P = slot + P * (row mod 2), address {buffer, row div 2} = {buffer, i div 2P}

A bank is W/2 memories of two bit positions of every element; `write_planes` says which of them a write changes: all
for MSB planes and static operands, those of the 4 low bits for an LSB plane, while the other bits keep what they are.

Nothing stalls: reads in a cycle see the writes of the cycles before, not those of their own; their data are out in the
next cycle and stay until the slot is read again. A slot that is not asked for is not read; its data mean nothing.

    cycle          0     1     2
    read_address   a     b           read_valid, read_lanes
    out_data            [a]   [b]    out_valid, out_lanes

Ports: a bit or field a bank `write_valid`, `write_address`, `write_data`, `write_planes`; a field a slot
`read_address` ({buffer, row}), `read_lanes`; `read_valid`; `out_data`, `out_lanes`, `out_valid`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.lower import Netlist, building
from hls.netlist import Wire
from hls.stream import payload_register, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

PLANE_BITS = 2
"""Bit positions that are written together: W, L and every W - B are multiples of it."""
PARITIES = 2
"""Banks of a slot: even rows, odd rows."""


@dataclass(frozen=True)
class OperandSramSize:
    """Sizes of an operand SRAM.

    Attributes:
        slots: parts of a row, each with its address.
        elements: operands of a slot.
        bits: bits of an operand.
        rows: rows of one buffer.
    """

    slots: int
    elements: int
    bits: int
    rows: int

    @classmethod
    def of(cls, config: AcceleratorConfig, sram_bytes: int) -> OperandSramSize:
        """The memory of `sram_bytes`, both buffers together."""
        row_bits = config.qk_multipliers * config.datapath_bits
        return cls(
            slots=config.qk_multipliers // config.native_head_dim,
            elements=config.native_head_dim,
            bits=config.datapath_bits,
            rows=sram_bytes * 8 // (2 * row_bits),
        )

    @property
    def row_bits(self) -> int:
        """Bits of the number of a row in its buffer."""
        return max(1, (self.rows - 1).bit_length())

    @property
    def read_bits(self) -> int:
        """Bits of an address to read, {buffer, row}."""
        return 1 + self.row_bits

    @property
    def write_bits(self) -> int:
        """Bits of an address in a bank, {buffer, row div 2}."""
        return self.row_bits

    @property
    def banks(self) -> int:
        """Rows of slots that can be written in a cycle."""
        return PARITIES * self.slots

    @property
    def slot_bits(self) -> int:
        """Bits of a slot."""
        return self.elements * self.bits

    @property
    def planes(self) -> int:
        """Groups of bit positions that are written together."""
        return self.bits // PLANE_BITS


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def _plane(slot: Wire, plane: int, size: OperandSramSize) -> Wire:
    """The bits of one plane of every element, element 0 lowest."""
    first = [element * size.bits + plane * PLANE_BITS for element in range(size.elements)]
    return pyrtl.concat(*[slot[low : low + PLANE_BITS] for low in reversed(first)])


def _joined(planes: list[Wire], size: OperandSramSize) -> Wire:
    """The inverse of `_plane` for all planes."""
    parts = [
        plane[element * PLANE_BITS : (element + 1) * PLANE_BITS] for element in range(size.elements) for plane in planes
    ]
    return pyrtl.concat(*reversed(parts))


def _field(wire: Wire, number: int, bits: int) -> Wire:
    return wire[number * bits : (number + 1) * bits]


def build_size(name: str, size: OperandSramSize) -> Netlist:
    """An operand SRAM of any size as a netlist."""
    block = pyrtl.Block()
    with building(block):
        write_valid = pyrtl.Input(size.banks, "write_valid")
        write_address = pyrtl.Input(size.banks * size.write_bits, "write_address")
        write_data = pyrtl.Input(size.banks * size.slot_bits, "write_data")
        write_planes = pyrtl.Input(size.banks * size.planes, "write_planes")
        read_valid, read_lanes = pyrtl.Input(1, "read_valid"), pyrtl.Input(size.slots, "read_lanes")
        read_address = pyrtl.Input(size.slots * size.read_bits, "read_address")

        valid, lanes = register(1, "valid", block), register(size.slots, "lanes", block)
        valid.next <<= read_valid
        lanes.next <<= pyrtl.select(read_valid, read_lanes, lanes)

        def memory(bank: int, plane: int) -> pyrtl.MemBlock:
            made = pyrtl.MemBlock(
                size.elements * PLANE_BITS,
                size.write_bits,
                f"bank_{bank}_{plane}",
                max_read_ports=1,
                max_write_ports=1,
                asynchronous=False,
            )
            bits = _plane(_field(write_data, bank, size.slot_bits), plane, size)
            writes = write_valid[bank] & write_planes[bank * size.planes + plane]
            made[_field(write_address, bank, size.write_bits)] <<= pyrtl.MemBlock.EnabledWrite(bits, writes)
            return made

        slots = []
        for s in range(size.slots):
            where = _field(read_address, s, size.read_bits)
            held = []
            for plane in range(size.planes):
                even, odd = (memory(s + size.slots * parity, plane)[where[1:]] for parity in range(PARITIES))
                word = payload_register(len(even), f"word_{s}_{plane}", block)
                word.next <<= pyrtl.select(read_valid & read_lanes[s], pyrtl.select(where[0], odd, even), word)
                held.append(word)
            slots.append(_joined(held, size))
        outputs = {"out_valid": valid, "out_lanes": lanes, "out_data": pyrtl.concat(*reversed(slots))}
        for port_name, wire in outputs.items():
            port = pyrtl.Output(len(wire), port_name)
            port <<= wire
    block.sanity_check()
    return Netlist(name, block, latency_cycles=1)


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The Key SRAM. Memories are what they are: `technology` changes nothing."""
    del technology
    return build_size("key_sram", OperandSramSize.of(config, config.key_sram_bytes))


def build_value(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The Value SRAM."""
    del technology
    return build_size("value_sram", OperandSramSize.of(config, config.value_sram_bytes))
