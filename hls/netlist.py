"""Dataflow nodes as PyRTL nets, built directly into a given block; the only home of PyRTL workarounds.

Arithmetic is modular in the width of the result, which the range analysis has proved wide enough: operands are
extended or cut to that width first. So a subtraction never uses the top bit of PyRTL's `-`, which
`pyrtl.synthesize` computes wrongly, and a signed comparison is an unsigned one with both top bits flipped.
A signed product is the unsigned product with its upper part corrected:
`a * b = a_u * b_u - 2^n * (a < 0 ? b_u : 0) - 2^m * (b < 0 ? a_u : 0)` modulo 2^W, for n-bit a, m-bit b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyrtl

from hls.graph import Node

Wire: TypeAlias = pyrtl.WireVector


def split(wire: Wire, widths: Iterable[int]) -> list[Wire]:
    """Fields side by side in a wire, the lowest first; what is above the last one is not looked at."""
    fields, low = [], 0
    for width in widths:
        fields.append(wire[low : low + width])
        low += width
    return fields


def lanes_of(wire: Wire, lanes: int) -> list[Wire]:
    """The equal parts of a wire, the lowest first."""
    return split(wire, [len(wire) // lanes] * lanes)


@dataclass(frozen=True)
class Operand:
    """A wire and whether its bits are two's complement."""

    wire: Wire
    signed: bool


class Emitter:
    """Adds nets to `block`; equal nets are built once."""

    def __init__(self, block: pyrtl.Block) -> None:
        self.block = block
        self._known: dict[tuple[object, ...], Wire] = {}

    def const(self, value: int, bits: int) -> Wire:
        """A constant of `bits` bits (two's complement if negative)."""
        key = ("const", value & ((1 << bits) - 1), bits)
        if key not in self._known:
            self._known[key] = pyrtl.Const(key[1], bitwidth=bits, block=self.block)
        return self._known[key]

    def net(self, op: str, args: Sequence[Wire], bits: int, param: tuple[int, ...] | None = None) -> Wire:
        """The result wire of a primitive."""
        key = (op, tuple(id(arg) for arg in args), bits, param)
        if key not in self._known:
            wire = pyrtl.WireVector(bitwidth=bits, block=self.block)
            self.block.add_net(pyrtl.LogicNet(op, param, tuple(args), (wire,)))
            self._known[key] = wire
        return self._known[key]

    def drive(self, target: Wire, source: Wire) -> None:
        """Connect `source` to a wire or output declared before."""
        self.block.add_net(pyrtl.LogicNet("w", None, (source,), (target,)))

    def named(self, source: Wire, name: str) -> Wire:
        """A wire that carries `source` under a name."""
        wire = pyrtl.WireVector(bitwidth=len(source), name=name, block=self.block)
        self.drive(wire, source)
        return wire

    def register(self, source: Wire, name: str, enable: Wire | None) -> Wire:
        """A register that takes `source` at every clock edge, or only where `enable` is 1; resets to 0."""
        register = pyrtl.Register(bitwidth=len(source), name=name, reset_value=0, block=self.block)
        following = source
        if enable is not None:
            following = pyrtl.WireVector(bitwidth=len(source), block=self.block)
            self.block.add_net(pyrtl.LogicNet("x", None, (enable, register, source), (following,)))
        register.reg_in = following
        self.block.add_net(pyrtl.LogicNet("r", None, (following,), (register,)))
        return register

    def bits(self, wire: Wire, low: int, count: int) -> Wire:
        """Bits low to low + count - 1."""
        if low == 0 and count == len(wire):
            return wire
        return self.net("s", (wire,), count, tuple(range(low, low + count)))

    def concat(self, *parts: Wire) -> Wire:
        """All parts side by side, the first the least significant."""
        if len(parts) == 1:
            return parts[0]
        return self.net("c", tuple(reversed(parts)), sum(len(part) for part in parts))

    def fit(self, operand: Operand, bits: int) -> Wire:
        """The operand modulo 2^bits: cut, or extended by zeros or its sign."""
        wire, missing = operand.wire, bits - len(operand.wire)
        if missing <= 0:
            return self.bits(wire, 0, bits)
        if not operand.signed:
            return self.concat(wire, self.const(0, missing))
        sign = self.bits(wire, len(wire) - 1, 1)
        return self.concat(wire, self.concat(*[sign] * missing))

    def invert(self, wire: Wire) -> Wire:
        """Every bit flipped."""
        return self.net("~", (wire,), len(wire))

    def mux(self, condition: Wire, if_true: Wire, if_false: Wire) -> Wire:
        """`if_true` where the one-bit condition is 1."""
        if if_true is if_false:
            return if_true
        return self.net("x", (condition, if_false, if_true), len(if_true))

    def mask(self, condition: Wire, wire: Wire) -> Wire:
        """The wire where the one-bit condition is 1, else zero."""
        return self.net("&", (wire, self.concat(*[condition] * len(wire))), len(wire))

    def emit(self, node: Node, args: Sequence[Operand]) -> Wire:
        """The wire of one node; its width is the node's."""
        return _EMIT[node.kind](self, node, args)


def _modular(op: str) -> Callable[[Emitter, Node, Sequence[Operand]], Wire]:
    def emit(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
        bits = node.width_bits
        return e.net(op, [e.fit(arg, bits) for arg in args], bits)

    return emit


def _neg(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    bits = node.width_bits
    return e.net("-", (e.const(0, bits), e.fit(args[0], bits)), bits)


def _mul(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    bits, (a, b) = node.width_bits, args
    wide = max(len(a.wire), len(b.wire))
    factors = [e.fit(Operand(arg.wire, False), wide) for arg in args]
    product = e.fit(Operand(e.net("*", factors, 2 * wide), False), bits)
    for factor, other in ((a, b), (b, a)):
        low = len(factor.wire)
        if factor.signed and low < bits:
            sign = e.bits(factor.wire, low - 1, 1)
            correction = e.mask(sign, e.fit(Operand(other.wire, False), bits - low))
            # At full width, so that synthesis can merge the subtraction with the adders of the product.
            product = e.net("-", (product, e.concat(e.const(0, low), correction)), bits)
    return product


def _common(e: Emitter, args: Sequence[Operand]) -> list[Wire]:
    """Both operands in a width that holds both values."""
    signed = any(arg.signed for arg in args)
    bits = max(len(arg.wire) + (signed and not arg.signed) for arg in args)
    return [e.fit(arg, bits) for arg in args]


def _eq(e: Emitter, _: Node, args: Sequence[Operand]) -> Wire:
    return e.net("=", _common(e, args), 1)


def _lt(e: Emitter, _: Node, args: Sequence[Operand]) -> Wire:
    wires = _common(e, args)
    if any(arg.signed for arg in args):
        wires = [_flip_top(e, wire) for wire in wires]
    return e.net("<", wires, 1)


def _flip_top(e: Emitter, wire: Wire) -> Wire:
    top = e.invert(e.bits(wire, len(wire) - 1, 1))
    return top if len(wire) == 1 else e.concat(e.bits(wire, 0, len(wire) - 1), top)


def _mux(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    bits = node.width_bits
    return e.mux(args[0].wire, e.fit(args[1], bits), e.fit(args[2], bits))


def _table(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    bits, index = node.width_bits, args[0].wire
    level = [e.const(entry, bits) for entry in node.attributes[: 1 << len(index)]]
    for position in range(len(index)):
        bit = e.bits(index, position, 1)
        pairs = [e.mux(bit, high, low) for low, high in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def _shift_left(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    bits, amount = node.width_bits, args[1].wire
    wire = e.fit(args[0], bits)
    for position in range(len(amount)):
        step = 1 << position
        kept = e.bits(wire, 0, bits - step) if step < bits else None
        shifted = e.const(0, bits) if kept is None else e.concat(e.const(0, step), kept)
        wire = e.mux(e.bits(amount, position, 1), shifted, wire)
    return wire


def _shift_right(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    value, amount = args[0], args[1].wire
    wire, signed, bits = value.wire, value.signed, len(value.wire)
    for position in range(len(amount)):
        fill = Operand(e.bits(wire, bits - 1, 1) if signed else e.const(0, 1), signed)
        step = 1 << position
        kept = fill if step >= bits else Operand(e.bits(wire, step, bits - step), signed)
        wire = e.mux(e.bits(amount, position, 1), e.fit(kept, bits), wire)
    return e.fit(Operand(wire, signed), node.width_bits)


def _not(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    return e.invert(e.fit(args[0], node.width_bits))


def _reduce_or(e: Emitter, _: Node, args: Sequence[Operand]) -> Wire:
    wire = args[0].wire
    return wire if len(wire) == 1 else e.invert(e.net("=", (wire, e.const(0, len(wire))), 1))


def _reduce_and(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    wire = e.fit(args[0], node.attributes[0])
    return e.net("=", (wire, e.const(-1, len(wire))), 1)


def _reduce_xor(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    wire = e.fit(args[0], node.attributes[0])
    while len(wire) > 1:
        half = (len(wire) + 1) // 2
        upper = e.fit(Operand(e.bits(wire, half, len(wire) - half), False), half)
        wire = e.net("^", (e.bits(wire, 0, half), upper), half)
    return wire


def _shift_left_const(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    step = node.attributes[0]
    return e.concat(e.const(0, step), e.fit(args[0], node.width_bits - step))


def _shift_right_const(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    step, bits = node.attributes[0], node.width_bits
    return e.bits(e.fit(args[0], step + bits), step, bits)


def _slice(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    low, bits = node.attributes[0], node.width_bits
    return e.bits(e.fit(args[0], low + bits), low, bits)


def _concat(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    parts = [e.fit(arg, width) for arg, width in zip(args, node.attributes, strict=True)]
    return e.fit(Operand(e.concat(*parts), False), node.width_bits)


def _cut(e: Emitter, node: Node, args: Sequence[Operand]) -> Wire:
    return e.fit(args[0], node.width_bits)


_EMIT: dict[str, Callable[[Emitter, Node, Sequence[Operand]], Wire]] = {
    "add": _modular("+"),
    "sub": _modular("-"),
    "and": _modular("&"),
    "or": _modular("|"),
    "xor": _modular("^"),
    "neg": _neg,
    "mul": _mul,
    "eq": _eq,
    "lt": _lt,
    "mux": _mux,
    "table": _table,
    "shift_left": _shift_left,
    "shift_right": _shift_right,
    "not": _not,
    "reduce_or": _reduce_or,
    "reduce_and": _reduce_and,
    "reduce_xor": _reduce_xor,
    "shift_left_const": _shift_left_const,
    "shift_right_const": _shift_right_const,
    "slice": _slice,
    "wrap": _cut,
    "assume": _cut,
    "concat": _concat,
}
