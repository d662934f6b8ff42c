"""Mutants of a netlist: one small fault each, enumerated completely and in a fixed order.

| operator        | fault                                                                     |
| --------------- | ------------------------------------------------------------------------- |
| operator        | an operator replaced by a near one (and/or/xor, +/-, * by +, compares)      |
| comparison      | `<` becomes `<=`, `>` becomes `>=`                                        |
| constant        | one bit of a constant flipped                                             |
| table           | one bit of one word of a read-only table flipped                          |
| selection       | a bit selection off by one, up or down                                    |
| width           | the top bit of a sum, difference or product lost                          |
| concatenation   | two neighbours of different content swapped                               |
| mux arms        | the arms of a multiplexer swapped                                         |
| mux select      | a multiplexer stuck at one arm                                            |
| inversion       | an inversion dropped                                                      |
| enable          | a register always loads, or never                                         |
| stage removed   | a register becomes a wire (where that makes no combinational loop)         |
| stage added     | one more register before a register                                       |
| reset value     | one bit of a state register's reset value flipped                         |
| memory write    | a write port always or never writes                                       |

State registers are those of one bit and those that depend on themselves; a payload register's
reset value is nobody's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pyrtl

from verification.equivalence.netlist import Memory, Net, Netlist, read_block, write_block
from verification.mutants.rewriting import Load, Patch, loads, pruned, reaches

_NEAR = {
    "&": "|^",
    "|": "&^",
    "^": "|&",
    "n": "&|",
    "+": "-",
    "-": "+",
    "*": "+",
    "=": "<>",
    "<": ">=",
    ">": "<=",
}


@dataclass(frozen=True)
class Mutant:
    """One fault: its operator, the wire or node it is at, what it does, and how to build the faulty block."""

    operator: str
    where: str
    what: str
    build: Callable[[], pyrtl.Block]


_Fault = tuple[str, str, Callable[[], Netlist]]


def _replaced(netlist: Netlist, old: Net, *new: Net) -> Netlist:
    return Patch(netlist).applied(old, *new)


def _operators(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        for op in _NEAR.get(net.op, ""):
            yield net.dest or "", f"{net.op} becomes {op}", partial(_with_operator, netlist, net, op)


def _with_operator(netlist: Netlist, net: Net, op: str) -> Netlist:
    if net.op != "*" or net.dest is None:
        return _replaced(netlist, net, replace(net, op=op))
    patch = Patch(netlist)
    width = netlist.widths[net.args[0]] + 1
    patch.fit(patch.net(op, net.args, width), width, net.dest)
    return patch.applied(net)


def _comparisons(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        if net.op in "<>":
            yield net.dest or "", f"{net.op} becomes {net.op}=", partial(_or_equal, netlist, net)


def _or_equal(netlist: Netlist, net: Net) -> Netlist:
    patch = Patch(netlist)
    opposite = patch.net("<" if net.op == ">" else ">", net.args, 1)
    return patch.applied(net, Net("~", (opposite,), net.dest))


def _constants(netlist: Netlist) -> Iterator[_Fault]:
    for name, value in netlist.constants.items():
        for bit in range(netlist.widths[name]):
            yield name, f"bit {bit} of {value} flipped", partial(_with_constant, netlist, name, value ^ (1 << bit))


def _with_constant(netlist: Netlist, name: str, value: int) -> Netlist:
    return replace(netlist, constants={**netlist.constants, name: value})


def _tables(netlist: Netlist) -> Iterator[_Fault]:
    for name, memory in netlist.memories.items():
        for address, word in enumerate(memory.contents or ()):
            for bit in range(memory.data_bits):
                what = f"bit {bit} of word {address} = {word} flipped"
                yield name, what, partial(_with_word, netlist, name, address, bit)


def _with_word(netlist: Netlist, name: str, address: int, bit: int) -> Netlist:
    memory = netlist.memories[name]
    words = list(memory.contents or ())
    words[address] ^= 1 << bit
    changed: Memory = replace(memory, contents=tuple(words))
    return replace(netlist, memories={**netlist.memories, name: changed})


def _selections(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        if net.op != "s":
            continue
        width = netlist.widths[net.args[0]]
        for step in (1, -1):
            moved = tuple(i + step for i in net.select)
            if min(moved) >= 0 and max(moved) < width:
                shifted = replace(net, select=moved)
                yield net.dest or "", f"bits moved by {step:+d}", partial(_replaced, netlist, net, shifted)


def _widths(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        if net.op in "+-*" and net.dest is not None and netlist.widths[net.dest] > 1:
            yield net.dest, "top bit lost", partial(_without_top_bit, netlist, net)


def _without_top_bit(netlist: Netlist, net: Net) -> Netlist:
    patch = Patch(netlist)
    width = netlist.widths[net.dest or ""] - 1
    patch.fit(patch.net(net.op, net.args, width), width, net.dest or "")
    return patch.applied(net)


def _concatenations(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        for i in range(len(net.args) - 1) if net.op == "c" else ():
            if net.args[i] != net.args[i + 1]:
                args = (*net.args[:i], net.args[i + 1], net.args[i], *net.args[i + 2 :])
                swapped = replace(net, args=args)
                yield (
                    net.dest or "",
                    f"parts {i} and {i + 1} swapped",
                    partial(_replaced, netlist, net, swapped),
                )


def _mux_arms(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        if net.op == "x" and net.args[1] != net.args[2]:
            swapped = replace(net, args=(net.args[0], net.args[2], net.args[1]))
            yield net.dest or "", "arms swapped", partial(_replaced, netlist, net, swapped)


def _mux_selects(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        for arm in (0, 1) if net.op == "x" else ():
            stuck = Net("w", (net.args[1 + arm],), net.dest)
            yield net.dest or "", f"stuck at arm {arm}", partial(_replaced, netlist, net, stuck)


def _inversions(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        if net.op == "~":
            yield net.dest or "", "inversion dropped", partial(_replaced, netlist, net, replace(net, op="w"))


def _enables(netlist: Netlist) -> Iterator[_Fault]:
    for name, load in loads(netlist).items():
        if load.hold is not None:
            for what, wire in (("always loads", load.data), ("never loads", name)):
                yield name, what, partial(_replaced, netlist, load.net, replace(load.net, args=(wire,)))


def _stages(netlist: Netlist) -> Iterator[_Fault]:
    for name, load in loads(netlist).items():
        if not reaches(netlist, load.data, name):
            yield name, "register becomes a wire", partial(_without_stage, netlist, name, load)


def _without_stage(netlist: Netlist, name: str, load: Load) -> Netlist:
    registers = {n: v for n, v in netlist.registers.items() if n != name}
    return _replaced(replace(netlist, registers=registers), load.net, Net("w", (load.data,), name))


def _added_stages(netlist: Netlist) -> Iterator[_Fault]:
    for name, load in loads(netlist).items():
        yield name, "one more register before it", partial(_with_stage, netlist, name, load)


def _with_stage(netlist: Netlist, name: str, load: Load) -> Netlist:
    patch = Patch(netlist)
    extra = patch.net("r", load.net.args, netlist.widths[name])
    patch.registers[extra] = netlist.registers[name]
    return patch.applied(load.net, replace(load.net, args=(extra,)))


def _reset_values(netlist: Netlist) -> Iterator[_Fault]:
    loaded = loads(netlist)
    for name, value in netlist.registers.items():
        width = netlist.widths[name]
        if value is None or (width > 1 and not reaches(netlist, loaded[name].data, name)):
            continue
        for bit in range(width):
            yield name, f"bit {bit} of {value} flipped", partial(_with_reset, netlist, name, value ^ (1 << bit))


def _with_reset(netlist: Netlist, name: str, value: int) -> Netlist:
    return replace(netlist, registers={**netlist.registers, name: value})


def _memory_writes(netlist: Netlist) -> Iterator[_Fault]:
    for net in netlist.nets:
        for enable in (0, 1) if net.op == "@" else ():
            what = "always writes" if enable else "never writes"
            yield net.memory or "", what, partial(_with_enable, netlist, net, enable)


def _with_enable(netlist: Netlist, net: Net, enable: int) -> Netlist:
    patch = Patch(netlist)
    return patch.applied(net, replace(net, args=(*net.args[:2], patch.constant(enable, 1))))


_OPERATORS: tuple[tuple[str, Callable[[Netlist], Iterator[_Fault]]], ...] = (
    ("operator", _operators),
    ("comparison", _comparisons),
    ("constant", _constants),
    ("table", _tables),
    ("selection", _selections),
    ("width", _widths),
    ("concatenation", _concatenations),
    ("mux arms", _mux_arms),
    ("mux select", _mux_selects),
    ("inversion", _inversions),
    ("enable", _enables),
    ("stage removed", _stages),
    ("stage added", _added_stages),
    ("reset value", _reset_values),
    ("memory write", _memory_writes),
)


def _built(make: Callable[[], Netlist]) -> pyrtl.Block:
    return write_block(pruned(make()), checked=False)


def netlist_mutants(block: pyrtl.Block | Netlist) -> list[Mutant]:
    """All mutants, in the order of the module's table and of the wires' names.

    The block is copied; neither it nor the working block changes when a mutant is built.
    """
    netlist = block if isinstance(block, Netlist) else read_block(block)
    return [
        Mutant(operator, where, what, partial(_built, make))
        for operator, enumerate_faults in _OPERATORS
        for where, what, make in enumerate_faults(netlist)
    ]
