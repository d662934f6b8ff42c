"""A composition as one netlist, for FastSimulation, formal tools and mutants.

Every net of every part is copied. Wires of instance `a` are called `a.name`; temporaries stay temporaries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyrtl

from hls.compose import Composition, Source
from hls.lower import Netlist
from hls.netlist import Emitter, Wire

_TEMPORARY = re.compile(r"tmp(\d+)")


def _order(wire: Wire) -> tuple[int, str]:
    """Temporaries in the order of their creation, behind everything that has a name."""
    match = _TEMPORARY.match(wire.name)
    return (int(match.group(1)), wire.name) if match else (-1, wire.name)


class _Copy:
    """Copies of the wires and memories of one part in another block."""

    def __init__(self, netlist: Netlist, prefix: str, block: pyrtl.Block) -> None:
        self._block = block
        self._prefix = prefix
        self._wires: dict[int, Wire] = {}
        self._memories: dict[int, pyrtl.MemBlock] = {}
        for wire in sorted(netlist.block.wirevector_set, key=_order):
            self._wires[id(wire)] = self._wire(wire)
        memories = {id(net.op_param[1]): net.op_param[1] for net in netlist.block.logic if net.op in "m@"}
        for memory in sorted(memories.values(), key=lambda m: m.name):
            self._memories[id(memory)] = self._memory(memory)
        drivers = [net for net in netlist.block.logic if net.dests]
        writes = [net for net in netlist.block.logic if not net.dests]
        for net in sorted(drivers, key=lambda n: _order(n.dests[0])):
            self._net(net)
        for net in sorted(writes, key=lambda n: [_order(arg) for arg in n.args]):
            self._net(net)

    def _name(self, name: str) -> str:
        return "" if _TEMPORARY.match(name) else f"{self._prefix}.{name}"

    def _wire(self, wire: Wire) -> Wire:
        bits, name, block = len(wire), self._name(wire.name), self._block
        if isinstance(wire, pyrtl.Const):
            return pyrtl.Const(wire.val, bitwidth=bits, block=block)
        if isinstance(wire, pyrtl.Register):
            return pyrtl.Register(bits, name, reset_value=wire.reset_value, block=block)
        return pyrtl.WireVector(bits, name, block=block)

    def _memory(self, memory: pyrtl.MemBlock) -> pyrtl.MemBlock:
        size = {"bitwidth": memory.bitwidth, "addrwidth": memory.addrwidth, "name": self._name(memory.name)}
        limits = {"max_read_ports": None, "asynchronous": memory.asynchronous, "block": self._block}
        if isinstance(memory, pyrtl.RomBlock):
            data = memory.data
            return pyrtl.RomBlock(**size, romdata=data, pad_with_zeros=memory.pad_with_zeros, **limits)
        return pyrtl.MemBlock(**size, max_write_ports=None, **limits)

    def _net(self, net: pyrtl.LogicNet) -> None:
        args = tuple(self._wires[id(arg)] for arg in net.args)
        dests = tuple(self._wires[id(dest)] for dest in net.dests)
        param = net.op_param
        if net.op in "m@":
            memory = self._memories[id(param[1])]
            param = (memory.id, memory)
        if net.op == "r":
            dests[0].reg_in = args[0]
        copy = pyrtl.LogicNet(net.op, param, args, dests)
        self._block.add_net(copy)
        if net.op == "m":
            memory.readport_nets.append(copy)
        elif net.op == "@":
            memory.writeport_nets.append(copy)

    def __getitem__(self, wire: Wire) -> Wire:
        return self._wires[id(wire)]


def _joined(source: Source, wires: Mapping[tuple[str, str], Wire], emitter: Emitter) -> Wire:
    parts = [
        emitter.const(piece.low, piece.bits)
        if piece.is_constant
        else emitter.bits(wires[piece.part, piece.port], piece.low, piece.bits)
        for piece in source.pieces
    ]
    return emitter.concat(*parts)


def flatten(composition: Composition) -> Netlist:
    """One netlist with the ports of the composition."""
    block = pyrtl.Block()
    emitter = Emitter(block)
    wires: dict[tuple[str, str], Wire] = {
        ("", name): pyrtl.Input(bits, name, block=block) for name, bits in composition.inputs.items()
    }
    given: dict[tuple[str, str], Wire] = {}
    for part, netlist in composition.parts.items():
        copy = _Copy(netlist, part, block)
        for output in netlist.block.wirevector_subset(pyrtl.Output):
            wires[part, output.name] = copy[output]
        for port in netlist.block.wirevector_subset(pyrtl.Input):
            given[part, port.name] = copy[port]
    for part, ports in composition.connections.items():
        for port, source in ports.items():
            emitter.drive(given[part, port], _joined(source, wires, emitter))
    for name, source in composition.drivers.items():
        emitter.drive(pyrtl.Output(source.bits, name, block=block), _joined(source, wires, emitter))
    block.sanity_check()
    return Netlist(composition.name, block)
