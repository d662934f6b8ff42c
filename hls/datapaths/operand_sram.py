"""Key SRAM and Value SRAM: rows of operands as slots with their own addresses, twice (architecture page, datapath 6).

A row has `qk_multipliers` elements of W bits: P = multipliers / native_head_dim slots, each with an address of its
own, so that one cycle can read, say, the kept values of P different rows (algorithm page, section 4). A head dimension
above the native one takes neighbouring slots, which are then given equal addresses.

    key or value j of dimension D = native_head_dim:   slot j mod P, row j div P

Two buffers, named by the highest bit of an address: one is read while the other is filled. A slot is two banks, one of
its even and one of its odd rows, so that 2P rows can be written in a cycle, which is what the lanes of the fetcher
give of 4-bit elements:

    vector i of a list:   bank i mod 2P = slot + P * (row mod 2), address {buffer, row div 2} = {buffer, i div 2P}

A bank is two memories, of the 4 low bits and of the other bits of every element. Operands and MSB planes are written
whole. An LSB plane (`write_lsb`) changes the low bits alone, whichever bits of the operand they are: it lands while
the MSB plane beside it is in use, and `hls.datapaths.operand_mask` puts it in its place when both are read.

Nothing stalls: reads in a cycle see the writes of the cycles before, not those of their own; their data are out in the
next cycle and stay until the slot is read again. A slot that is not asked for is not read; its data mean nothing.

    cycle          0     1     2
    read_address   a     b           read_valid, read_lanes
    out_data            [a]   [b]    out_valid, out_lanes

Ports: a bit or field a bank `write_valid`, `write_address`, `write_data`, `write_lsb`; a field a slot
`read_address` ({buffer, row}), `read_lanes`; `read_valid`; `out_data`, `out_lanes`, `out_valid`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.bitwidth_converter import LSB_BITS
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import payload_register, register
from hls.technology import Technology
from hls.trace import Graph, HlsError
from models.config import AcceleratorConfig

PARITIES = 2
"""Banks of a slot: even rows, odd rows."""


@dataclass(frozen=True)
class OperandSramSize:
    """Sizes of an operand SRAM.

    Attributes:
        slots: parts of a row, each with its address.
        elements: operands of a slot.
        bits: bits of an operand, more than an LSB plane has.
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


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def _parts(slot: Wire, size: OperandSramSize) -> dict[str, Wire]:
    """The low bits of every element, element 0 lowest, and the other bits of every element."""
    elements = lanes_of(slot, size.elements)
    return {
        "low": pyrtl.concat_list([element[:LSB_BITS] for element in elements]),
        "high": pyrtl.concat_list([element[LSB_BITS:] for element in elements]),
    }


def _joined(low: Wire, high: Wire, size: OperandSramSize) -> Wire:
    """The inverse of `_parts`."""
    elements = zip(lanes_of(low, size.elements), lanes_of(high, size.elements), strict=True)
    return pyrtl.concat_list([part for element in elements for part in element])


def build_size(name: str, size: OperandSramSize) -> Netlist:
    """An operand SRAM of any size as a netlist.

    Raises:
        HlsError: for operands that have no bits above an LSB plane.
    """
    if size.bits <= LSB_BITS:
        raise HlsError(f"operand SRAM of {size.bits}-bit operands: more than {LSB_BITS} bits work; use {LSB_BITS + 1}")
    block = pyrtl.Block()
    with building(block):
        write_valid = pyrtl.Input(size.banks, "write_valid")
        write_address = lanes_of(pyrtl.Input(size.banks * size.write_bits, "write_address"), size.banks)
        write_data = lanes_of(pyrtl.Input(size.banks * size.slot_bits, "write_data"), size.banks)
        write_lsb = pyrtl.Input(size.banks, "write_lsb")
        read_valid, read_lanes = pyrtl.Input(1, "read_valid"), pyrtl.Input(size.slots, "read_lanes")
        read_address = pyrtl.Input(size.slots * size.read_bits, "read_address")

        valid, lanes = register(1, "valid", block), register(size.slots, "lanes", block)
        valid.next <<= read_valid
        lanes.next <<= pyrtl.select(read_valid, read_lanes, lanes)

        def memories(bank: int) -> dict[str, pyrtl.MemBlock]:
            written = _parts(write_data[bank], size)
            writes = {"low": write_valid[bank], "high": write_valid[bank] & ~write_lsb[bank]}
            made = {}
            for part, bits in written.items():
                made[part] = pyrtl.MemBlock(
                    len(bits),
                    size.write_bits,
                    f"bank_{bank}_{part}",
                    max_read_ports=1,
                    max_write_ports=1,
                    asynchronous=False,
                )
                made[part][write_address[bank]] <<= pyrtl.MemBlock.EnabledWrite(bits, writes[part])
            return made

        slots = []
        for s, where in enumerate(lanes_of(read_address, size.slots)):
            even, odd = (memories(s + size.slots * parity) for parity in range(PARITIES))
            held = {}
            for part in even:
                word = payload_register(even[part].bitwidth, f"word_{s}_{part}", block)
                read = pyrtl.select(where[0], odd[part][where[1:]], even[part][where[1:]])
                word.next <<= pyrtl.select(read_valid & read_lanes[s], read, word)
                held[part] = word
            slots.append(_joined(held["low"], held["high"], size))
        outputs = {"out_valid": valid, "out_lanes": lanes, "out_data": pyrtl.concat_list(slots)}
        output_ports(outputs)
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


def build_both(config: AcceleratorConfig) -> tuple[Netlist, Netlist]:
    """The Key SRAM and the Value SRAM, one and the same module if they have one size."""
    key, value = (OperandSramSize.of(config, size) for size in (config.key_sram_bytes, config.value_sram_bytes))
    if key == value:
        both = build_size("operand_sram", key)
        return both, both
    return build(config), build_value(config)
