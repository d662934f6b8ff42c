"""A glue module with its state on outputs, so that a simulator shows it: registers, and what is read from memories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyrtl

from hls.block_copy import BlockCopy
from hls.lower import Netlist, building


@dataclass(frozen=True)
class Observed:
    """The netlist with more outputs, and their names: by register, and by the wire that a written memory is read to."""

    netlist: Netlist
    registers: Mapping[str, str]
    reads: Mapping[str, str]


def observed(netlist: Netlist) -> Observed:
    """A copy of a netlist whose state is seen."""
    block = pyrtl.Block()
    nets = netlist.block.logic_subset("m")
    reads = [net.dests[0] for net in nets if not isinstance(net.op_param[1], pyrtl.RomBlock)]
    with building(block):
        copy = BlockCopy(netlist, block, keep={*netlist.inputs, *netlist.outputs})

        def shown(wires: list[pyrtl.WireVector], name: str) -> dict[str, str]:
            found = {}
            for i, wire in enumerate(sorted(wires, key=lambda w: str(w.name))):
                port = pyrtl.Output(len(wire), f"{name}_{i}_seen")
                port <<= copy[wire]
                found[wire.name] = port.name
            return found

        registers = shown(list(netlist.block.wirevector_subset(pyrtl.Register)), "register")
        return Observed(Netlist(f"{netlist.name}_seen", block), registers, shown(reads, "read"))
