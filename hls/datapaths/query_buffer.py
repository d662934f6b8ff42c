"""Query buffer: a ring of lines of native dimension, with a bit a line that says whether its vector has landed.

The loader of operands reserves lines and asks for their vectors; they come in any order. A row of queries is issued
when all of its lines are there, and frees them: `query_clear`. A line that is freed and landed in one cycle is there.

    cycle               0     1     2
    query_write         a
    query_valid               a
    query_read_line           a
    query_line                      [a]

Ports: `query_write`, `query_write_line`, `query_write_data`; `query_clear` in, `query_valid` out, a bit a line;
`query_read_line`, one cycle later `query_line`.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.machine_sizes import LINE_BITS, QUERY_LINES, MachineSizes
from hls.lower import Netlist, building, output_ports
from hls.stream import payload_register, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The buffer as a netlist. Memories are what they are: `technology` changes nothing."""
    del technology
    bits = MachineSizes.of(config).line_bits
    block = pyrtl.Block()
    with building(block):
        write, line = pyrtl.Input(1, "query_write"), pyrtl.Input(LINE_BITS, "query_write_line")
        memory = pyrtl.MemBlock(bits, LINE_BITS, "lines", max_read_ports=1, max_write_ports=1, asynchronous=False)
        memory[line] <<= pyrtl.MemBlock.EnabledWrite(pyrtl.Input(bits, "query_write_data"), write)
        read = payload_register(bits, "read", block)
        read.next <<= memory[pyrtl.Input(LINE_BITS, "query_read_line")]
        landed = register(QUERY_LINES, "landed", block)
        lands = pyrtl.concat_list([write & (line == i) for i in range(QUERY_LINES)])
        landed.next <<= (landed & ~pyrtl.Input(QUERY_LINES, "query_clear")) | lands
        output_ports({"query_line": read, "query_valid": landed})
    block.sanity_check()
    return Netlist("query_buffer", block)
