"""Copies of a netlist's wires, memories and nets in another block, in an order that depends on the netlist alone."""

from __future__ import annotations

import re
from collections.abc import Collection

import pyrtl

from hls.lower import Netlist
from hls.netlist import Wire

_TEMPORARY = re.compile(r"tmp(\d+)")


def _order(wire: Wire) -> tuple[int, str]:
    """Temporaries in the order of their creation, behind everything that has a name."""
    match = _TEMPORARY.match(wire.name)
    return (int(match.group(1)), wire.name) if match else (-1, wire.name)


class BlockCopy:
    """A copy of `netlist` in `block`: `copy[wire]` is the copy of a wire.

    Names get `prefix`, temporaries are temporaries again. Inputs and outputs become plain wires, but those named in
    `keep` stay ports.
    """

    def __init__(self, netlist: Netlist, block: pyrtl.Block, prefix: str = "", keep: Collection[str] = ()) -> None:
        self._block = block
        self._prefix = prefix
        self._keep = keep
        self._wires = {id(wire): self._wire(wire) for wire in sorted(netlist.block.wirevector_set, key=_order)}
        memories = {id(net.op_param[1]): net.op_param[1] for net in netlist.block.logic if net.op in "m@"}
        by_name = sorted(memories.values(), key=lambda memory: memory.name)
        self._memories = {id(memory): self._memory(memory) for memory in by_name}
        drivers = [net for net in netlist.block.logic if net.dests]
        writes = [net for net in netlist.block.logic if not net.dests]
        for net in sorted(drivers, key=lambda n: _order(n.dests[0])):
            self._net(net)
        for net in sorted(writes, key=lambda n: [_order(arg) for arg in n.args]):
            self._net(net)

    def _name(self, name: str) -> str:
        return "" if _TEMPORARY.match(name) else f"{self._prefix}{name}"

    def _wire(self, wire: Wire) -> Wire:
        bits, name, block = len(wire), self._name(wire.name), self._block
        if isinstance(wire, pyrtl.Const):
            return pyrtl.Const(wire.val, bitwidth=bits, block=block)
        if isinstance(wire, pyrtl.Register):
            return pyrtl.Register(bits, name, reset_value=wire.reset_value, block=block)
        if isinstance(wire, pyrtl.Input | pyrtl.Output) and wire.name in self._keep:
            return type(wire)(bits, name, block=block)
        return pyrtl.WireVector(bits, name, block=block)

    def _memory(self, memory: pyrtl.MemBlock) -> pyrtl.MemBlock:
        sizes = (memory.bitwidth, memory.addrwidth)
        names = {"name": self._name(memory.name), "max_read_ports": None, "block": self._block}
        names["asynchronous"] = True  # where an address comes from is no longer this block's to check
        if isinstance(memory, pyrtl.RomBlock):
            return pyrtl.RomBlock(*sizes, memory.data, pad_with_zeros=memory.pad_with_zeros, **names)
        return pyrtl.MemBlock(*sizes, max_write_ports=None, **names)

    def _net(self, net: pyrtl.LogicNet) -> None:
        args = tuple(self._wires[id(arg)] for arg in net.args)
        dests = tuple(self._wires[id(dest)] for dest in net.dests)
        param = net.op_param
        if net.op in "m@":
            memory = self._memories[id(param[1])]
            param = (memory.id, memory)
        copy = pyrtl.LogicNet(net.op, param, args, dests)
        self._block.add_net(copy)
        if net.op == "r":
            dests[0].reg_in = args[0]
        elif net.op == "m":
            memory.readport_nets.append(copy)
        elif net.op == "@":
            memory.writeport_nets.append(copy)

    def __getitem__(self, wire: Wire) -> Wire:
        return self._wires[id(wire)]
