"""What a pass reads of operands: in progressive quantization M bits, then 4 low ones or the middle of what they can be.

The operand SRAM has an LSB plane in the lowest 4 bits of its words (`hls.datapaths.operand_sram`); in the operand it
belongs below the M bits of the MSB plane (algorithm page, section 5):

    bits of element i        [W - M, W)      [W - M - 4, W - M)     [0, W - M - 4)
    static                   data            data                   data
    progressive, `full`      data            data, bits [0, 4)      0
    progressive, first pass  data            8                      0

The LSB plane may reach the operand SRAM at any time, rows of the first pass must not see it. `format` is (M - 4) / 2.
Where M + 4 > W there is no LSB plane, and operands are read as they are.

Wires only: `data` (P * N * W bits, element 0 lowest), `full`, `format`, `progressive` in, `masked` out.
"""

from __future__ import annotations

from operator import or_

import pyrtl

from hls.datapaths.bitwidth_converter import LSB_BITS, BitwidthConverterTypes
from hls.datapaths.machine_sizes import MachineSizes
from hls.lower import Netlist, building
from hls.technology import Technology
from hls.trace import Graph, reduce_tree
from models.config import AcceleratorConfig


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The mask as a netlist; nothing in it depends on `technology`."""
    del technology
    sizes, types = MachineSizes.of(config), BitwidthConverterTypes.of(config)
    elements, width = sizes.slots * sizes.native, sizes.width
    block = pyrtl.Block()

    def in_all(wire: pyrtl.WireVector) -> pyrtl.WireVector:
        return pyrtl.concat(*[wire] * elements)

    with building(block):
        data = pyrtl.Input(elements * width, "data")
        full, form = pyrtl.Input(1, "full"), pyrtl.Input(types.format.width, "format")
        progressive = pyrtl.Input(1, "progressive")
        kept: pyrtl.WireVector = pyrtl.Const((1 << width) - 1, width)
        middle: pyrtl.WireVector = pyrtl.Const(0, width)
        moved = []
        for code, bits in enumerate(types.formats):
            low = width - bits - LSB_BITS
            if low < 0:
                continue
            chosen = progressive & (form == code)
            kept = pyrtl.select(chosen, pyrtl.Const(((1 << bits) - 1) << (width - bits), width), kept)
            middle = pyrtl.select(chosen & ~full, pyrtl.Const(1 << (low + LSB_BITS - 1), width), middle)
            raised = pyrtl.concat(data[: len(data) - low], pyrtl.Const(0, low)) if low else data
            plane = pyrtl.Const(((1 << LSB_BITS) - 1) << low, width)
            moved.append(raised & in_all(pyrtl.select(chosen & full, plane, pyrtl.Const(0, width))))
        masked = pyrtl.Output(len(data), "masked")
        masked <<= reduce_tree(or_, [data & in_all(kept), in_all(middle), *moved])
    block.sanity_check()
    return Netlist("operand_mask", block)
