"""First pass of progressive quantization: the low bits of operands read as the middle of what they can be.

    operand[i] = data[i]                                        where `full`
               = data[i] with 8 in its bits [W - M - 4, W - M)   else           (algorithm page, section 5)

The LSB plane may reach the operand SRAM at any time, rows of the first pass must not see it. `format` is (M - 4) / 2.
Where M + 4 > W there is no LSB plane, and every pass is full.

Wires only: `data` (P * N * W bits, element 0 lowest), `full`, `format` in, `masked` out.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.bitwidth_converter import LSB_BITS, BitwidthConverterTypes
from hls.datapaths.machine_sizes import MachineSizes
from hls.lower import Netlist, building
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The mask as a netlist; nothing in it depends on `technology`."""
    del technology
    sizes, types = MachineSizes.of(config), BitwidthConverterTypes.of(config)
    elements = sizes.slots * sizes.native
    block = pyrtl.Block()
    with building(block):
        data = pyrtl.Input(elements * sizes.width, "data")
        full, form = pyrtl.Input(1, "full"), pyrtl.Input(types.format.width, "format")
        covered: pyrtl.WireVector = pyrtl.Const(0, sizes.width)
        middle: pyrtl.WireVector = pyrtl.Const(0, sizes.width)
        for code, bits in enumerate(types.formats):
            low = sizes.width - bits - LSB_BITS
            if low >= 0:
                chosen = ~full & (form == code)
                plane = pyrtl.Const(((1 << LSB_BITS) - 1) << low, sizes.width)
                covered = pyrtl.select(chosen, plane, covered)
                middle = pyrtl.select(chosen, pyrtl.Const(1 << (low + LSB_BITS - 1), sizes.width), middle)
        masked = pyrtl.Output(len(data), "masked")
        kept, put = (pyrtl.concat(*[wire] * elements) for wire in (~covered, middle))
        masked <<= (data & kept) | put
    block.sanity_check()
    return Netlist("operand_mask", block)
