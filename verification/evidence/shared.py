"""A block as a function inside a specification: parts proved once, by all inputs, and used wherever they repeat."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pyrtl

from hls import technology
from hls.graph import Graph
from hls.lower import lower
from hls.schedule import Schedule, schedule
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.problem import Operands
from verification.equivalence.unrolling import Sources, Unrolling

SMALLEST = replace(
    AcceleratorConfig.preset("tiny"),
    qk_multipliers=8,
    pv_multipliers=8,
    native_head_dim=4,
    max_head_dim=8,
    key_sram_bytes=6144,
    value_sram_bytes=6144,
    softmax_lanes=2,
    softmax_fifo_rows=256,
)
"""Two lanes and two head dimensions: the least that has every kind of node, for planted faults among gates."""


@cache
def combinational(graph: Graph) -> pyrtl.Block:
    """The graph as wires: one stage without a register, however long that takes."""
    plan = schedule(graph, technology.load(), 1_000_000, output_register=False)
    return lower(plan).block


def applied(part: Netlist | pyrtl.Block, inputs: Mapping[str, Bits], output: str) -> Bits:
    """The output of a combinational block for the given inputs; those not given are 0."""
    netlist = part if isinstance(part, Netlist) else read_block(part)
    domain = next(iter(inputs.values())).domain

    def wire(name: str, cycle: int) -> object:
        return inputs[name].value if name in inputs else domain.constant(0, netlist.width(name))

    def state(name: str) -> object:
        raise NetlistError(f"{name!r} is state: only a combinational block is a function")

    return Unrolling(netlist, domain, Sources(wire, state, state, state)).bits(output)


def by_dimension(dimension: Bits, choices: list[Bits]) -> Bits:
    """The choice of a dimension code; the last one's beyond."""
    chosen = choices[-1]
    for code in range(len(choices) - 2, -1, -1):
        chosen = choose(dimension == code, choices[code], chosen)
    return chosen


def named_stages(plan: Schedule, prefix: str = "") -> dict[str, int]:
    """The stage of every named node, by the name of its wire."""
    nodes = zip(plan.graph.nodes, plan.stages, strict=True)
    return {prefix + node.name: stage for node, stage in nodes if node.name and node.kind != "input"}


def elements(operands: Operands, port: str, width: int) -> list[Bits]:
    """The elements of an input port at cycle 0."""
    whole = operands[port]
    return [whole[low : low + width] for low in range(0, whole.width, width)]
