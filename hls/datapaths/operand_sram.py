"""Key SRAM and Value SRAM: rows of operands as slots with their own addresses, twice (architecture page, datapath 6).

A row has `qk_multipliers` elements of W bits: P = multipliers / native_head_dim slots, each a bank with an address of
its own, so that one cycle can read, say, the kept values of P different rows (algorithm page, section 4). A head
dimension above the native one takes neighbouring slots, which are then given equal addresses.

    key or value j of dimension D = native_head_dim:   slot j mod P, row j div P

Two buffers: reads are from the front one; writes go to the back one, or with `write_front` into the front one, which
is how LSB planes reach operands that are already in use. `swap` exchanges the buffers for the cycles after it. A bank
is W/2 memories of two bit positions of every element; `write_planes` says which of them a write changes: all for MSB
planes and static operands, those of the L low bits for an LSB plane, while the other bits keep what they are.

A read that is accepted in a cycle sees the writes of the cycles before, not those of its own; its data are out in the
next cycle. A lane that is not asked for is not read; its data mean nothing. Writes are never refused.

    cycle        0     1     2     3
    read_row     a     b     c           in_valid, in_ready
    out_data           [a]   [a]   [b]   out_ready 0 in cycle 1: b and c wait

Ports: `write_slots` (one bit a slot: write it), `write_row`, `write_data`, `write_planes`, `write_front`, `swap`;
`read_row`, `read_lanes` in and `out_data`, `out_lanes` out, both under ready/valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.lower import Netlist, building
from hls.netlist import Wire
from hls.stream import register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

PLANE_BITS = 2
"""Bit positions that are written together: W, L and every W - B are multiples of it."""


@dataclass(frozen=True)
class OperandSramSize:
    """Sizes of an operand SRAM.

    Attributes:
        slots: banks, each with its address.
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


def build_size(name: str, size: OperandSramSize) -> Netlist:
    """An operand SRAM of any size as a netlist."""
    block = pyrtl.Block()
    with building(block):
        write_slots, read_lanes = pyrtl.Input(size.slots, "write_slots"), pyrtl.Input(size.slots, "read_lanes")
        write_row = pyrtl.Input(size.slots * size.row_bits, "write_row")
        read_row = pyrtl.Input(size.slots * size.row_bits, "read_row")
        write_data = pyrtl.Input(size.slots * size.slot_bits, "write_data")
        write_planes = pyrtl.Input(size.planes, "write_planes")
        write_front, swap = pyrtl.Input(1, "write_front"), pyrtl.Input(1, "swap")
        in_valid, out_ready = pyrtl.Input(1, "in_valid"), pyrtl.Input(1, "out_ready")

        front = register(1, "front", block)
        front.next <<= front ^ swap
        valid = register(1, "valid", block)
        advance = out_ready | ~valid
        reads = in_valid & advance
        valid.next <<= pyrtl.select(advance, in_valid, valid)
        lanes = register(size.slots, "lanes", block)
        lanes.next <<= pyrtl.select(advance, read_lanes, lanes)
        written_buffer = ~(front ^ write_front)
        slots = []
        for s in range(size.slots):
            rows, data = slice(s * size.row_bits, (s + 1) * size.row_bits), slice(s * size.slot_bits, None)
            read_address = pyrtl.concat(front, read_row[rows])
            write_address = pyrtl.concat(written_buffer, write_row[rows])
            held = []
            for plane in range(size.planes):
                where = f"{s}_{plane}"
                memory = pyrtl.MemBlock(
                    size.elements * PLANE_BITS,
                    size.row_bits + 1,
                    f"bank_{where}",
                    max_read_ports=1,
                    max_write_ports=1,
                    asynchronous=False,
                )
                bits = _plane(write_data[data][: size.slot_bits], plane, size)
                memory[write_address] <<= pyrtl.MemBlock.EnabledWrite(bits, write_slots[s] & write_planes[plane])
                word = register(memory.bitwidth, f"word_{where}", block)
                word.next <<= pyrtl.select(reads & read_lanes[s], memory[read_address], word)
                held.append(word)
            slots.append(_joined(held, size))
        outputs = {
            "in_ready": advance,
            "out_valid": valid,
            "out_lanes": lanes,
            "out_data": pyrtl.concat(*reversed(slots)),
        }
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
