"""A netlist with some of its packed ports split into a port a bit, and no more dependence between them than there is.

A packed vector of ready bits that depends, bit by bit, on another packed vector depends on all of it where tools look
at whole wires. Here the logic between split inputs and split outputs is rebuilt bit by bit through operators that keep
bits apart (wires, selections, concatenations, and, or, exclusive or, not, multiplexers).
"""

from __future__ import annotations

from collections.abc import Collection

import pyrtl

from hls.block_copy import BlockCopy
from hls.lower import Netlist
from hls.netlist import Emitter, Wire


def bit_port(port: str, bit: int) -> str:
    """Name of the port for one bit of a split port."""
    return f"{port}_bit{bit}"


class _Bits:
    """Single bits of the wires of a block, apart from one another as far as the operators allow."""

    def __init__(self, emitter: Emitter, split: dict[int, list[Wire]]) -> None:
        self._emitter = emitter
        self._split = split
        self._driver = {id(net.dests[0]): net for net in emitter.block.logic if net.dests}
        self._reached = self._readers()
        self._known: dict[tuple[int, int], Wire] = {}

    def _readers(self) -> set[int]:
        """Wires that depend on a split input without a register between."""
        readers: dict[int, list[Wire]] = {}
        for net in self._driver.values():
            if net.op != "r":
                for arg in net.args:
                    readers.setdefault(id(arg), []).append(net.dests[0])
        seen, stack = set(self._split), list(self._split)
        while stack:
            for wire in readers.get(stack.pop(), ()):
                if id(wire) not in seen:
                    seen.add(id(wire))
                    stack.append(id(wire))
        return seen

    def bit(self, wire: Wire, position: int) -> Wire:
        """One bit of a wire."""
        key = (id(wire), position)
        if key not in self._known:
            self._known[key] = self._build(wire, position)
        return self._known[key]

    def _build(self, wire: Wire, position: int) -> Wire:
        if id(wire) in self._split:
            return self._split[id(wire)][position]
        net = self._driver.get(id(wire)) if id(wire) in self._reached else None
        if net is None:
            return self._emitter.bits(wire, position, 1)
        match net.op:
            case "w":
                return self.bit(net.args[0], position)
            case "s":
                return self.bit(net.args[0], net.op_param[position])
            case "c":
                for arg in reversed(net.args):
                    if position < len(arg):
                        return self.bit(arg, position)
                    position -= len(arg)
            case "~" | "&" | "|" | "^" | "n":
                return self._emitter.net(net.op, [self.bit(arg, position) for arg in net.args], 1)
            case "x":
                choice, if_false, if_true = net.args
                return self._emitter.mux(self.bit(choice, 0), self.bit(if_true, position), self.bit(if_false, position))
        return self._emitter.bits(wire, position, 1)


def _prune(block: pyrtl.Block) -> None:
    """Remove nets whose result nothing reads; an input stays read by one."""
    dead = True
    while dead:
        used = {id(arg) for net in block.logic for arg in net.args}
        dead = False
        for net in list(block.logic):
            kept = net.op in "r@" or isinstance(net.dests[0], pyrtl.Output) or id(net.dests[0]) in used
            if not kept and not any(isinstance(arg, pyrtl.Input) for arg in net.args):
                block.logic.remove(net)
                block.remove_wirevector(net.dests[0])
                dead = True
    used = {id(arg) for net in block.logic for arg in net.args}
    for wire in block.wirevector_subset(pyrtl.Const):
        if id(wire) not in used:
            block.remove_wirevector(wire)


def split_ports(netlist: Netlist, ports: Collection[str]) -> Netlist:
    """The netlist with one port a bit, named by `bit_port`, in place of each of `ports`."""
    block = pyrtl.Block()
    keep = ({*netlist.inputs} | {*netlist.outputs}) - set(ports)
    copy = BlockCopy(netlist, block, keep=keep)
    emitter = Emitter(block)
    inputs = [w for w in netlist.block.wirevector_subset(pyrtl.Input) if w.name in ports]
    outputs = [w for w in netlist.block.wirevector_subset(pyrtl.Output) if w.name in ports]
    split = {
        id(copy[wire]): [pyrtl.Input(1, bit_port(wire.name, i), block=block) for i in range(len(wire))]
        for wire in sorted(inputs, key=lambda w: w.name)
    }
    bits = _Bits(emitter, split)
    for wire in inputs:
        emitter.drive(copy[wire], emitter.concat(*split[id(copy[wire])]))
    for wire in sorted(outputs, key=lambda w: w.name):
        for i in range(len(wire)):
            port = pyrtl.Output(1, bit_port(wire.name, i), block=block)
            emitter.drive(port, bits.bit(copy[wire], i))
    _prune(block)
    block.sanity_check()
    return Netlist(netlist.name, block, netlist.latency_cycles)
