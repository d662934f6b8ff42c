"""Symbolic values: what a datapath function computes with while it is traced.

Arithmetic is exact and grows: the result type comes from the range of what can occur. Bits are lost only in
`round` and `shift_right` (a named rounding), `saturate` and `wrap` (a named overflow); `narrow` changes the
type only if the ranges prove that nothing is lost. Python integers mix in as real numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, TypeAlias, Union

from hls.builder import Builder
from hls.errors import TraceError
from hls.names import check_identifier
from hls.types import ROUNDINGS, Fixed, Range, Rounding, smallest_type

Operand: TypeAlias = Union["Value", "Constant", int]


@dataclass(frozen=True, slots=True)
class Constant:
    """A fixed-point constant that is no Python integer; see `hls.trace.constant`."""

    raw: int
    fraction: int


class Value:
    """A fixed-point number inside a traced function. `type` says its bits, `range` the raw integers in it."""

    __slots__ = ("_builder", "_node", "type")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, node: int, type_: Fixed) -> None:
        self._builder = builder
        self._node = node
        self.type = type_

    # ---- helpers ----

    @property
    def range(self) -> Range:
        """The raw integers that can occur."""
        return self._builder.range(self._node)

    @property
    def fraction(self) -> int:
        """Bits behind the binary point."""
        return self.type.fraction

    def _op(
        self,
        kind: str,
        *args: int,
        attributes: tuple[int, ...] = (),
        fraction: int | None = None,
        within: Range | None = None,
    ) -> Value:
        """The value of a new node, its type the smallest for its range."""
        node = self._builder.op(kind, *args, attributes=attributes, within=within)
        fraction = self.fraction if fraction is None else fraction
        return Value(self._builder, node, smallest_type(self._builder.range(node), fraction))

    def _raw_const(self, raw: int, fraction: int) -> Value:
        return Value(self._builder, self._builder.const(raw), smallest_type(Range(raw, raw), fraction))

    def _lift(self, other: Operand) -> Value:
        """A Python integer as a value (the real number, so it is shifted to this binary point)."""
        if isinstance(other, Value):
            if other._builder is not self._builder:
                raise TraceError("the operands belong to two different traces; pass values as arguments")
            return other
        if isinstance(other, Constant):
            return self._raw_const(other.raw, other.fraction)
        if isinstance(other, int):
            return self._raw_const(int(other), 0)
        raise TraceError(
            f"cannot combine {self.type} with {type(other).__name__} {other!r}; "
            "write a real number as constant(value, type), which names its rounding"
        )

    def _aligned(self, other: Operand) -> tuple[int, int, int]:
        """Both nodes with the same binary point, and that point."""
        lifted = self._lift(other)
        fraction = max(self.fraction, lifted.fraction)
        return self._at(fraction), lifted._at(fraction), fraction

    def _at(self, fraction: int) -> int:
        """The node with `fraction` (no fewer than now) bits behind the point."""
        if fraction == self.fraction:
            return self._node
        return self._builder.op("shift_left_const", self._node, attributes=(fraction - self.fraction,))

    def _bits(self) -> int:
        return self.type.width

    def __repr__(self) -> str:
        return f"<{self.type} in {self.range}>"

    # ---- arithmetic: exact, growing ----

    def __add__(self, other: Operand) -> Value:
        a, b, fraction = self._aligned(other)
        return self._op("add", a, b, fraction=fraction)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Value:
        a, b, fraction = self._aligned(other)
        return self._op("sub", a, b, fraction=fraction)

    def __rsub__(self, other: Operand) -> Value:
        return self._lift(other) - self

    def __mul__(self, other: Operand) -> Value:
        b = self._lift(other)
        return self._op("mul", self._node, b._node, fraction=self.fraction + b.fraction)

    __rmul__ = __mul__

    def __neg__(self) -> Value:
        return self._op("neg", self._node)

    def __abs__(self) -> Value:
        if self.range.low >= 0:
            return self
        largest = max(abs(self.range.low), abs(self.range.high))
        negative = self.is_negative()
        return self._op("mux", negative._node, (-self)._node, self._node, within=Range(0, largest))

    def __truediv__(self, other: object) -> NoReturn:
        raise TraceError("there is no exact division; divide by a power of two with shift_right(n, rounding)")

    __floordiv__ = __mod__ = __rtruediv__ = __rfloordiv__ = __truediv__

    # ---- comparison ----

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        a, b, _ = self._aligned(other)  # type: ignore[arg-type]
        return self._op("eq", a, b, fraction=0)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return ~(self == other)

    def __lt__(self, other: Operand) -> Value:
        a, b, _ = self._aligned(other)
        return self._op("lt", a, b, fraction=0)

    def __gt__(self, other: Operand) -> Value:
        a, b, _ = self._aligned(other)
        return self._op("lt", b, a, fraction=0)

    def __le__(self, other: Operand) -> Value:
        return ~(self > other)

    def __ge__(self, other: Operand) -> Value:
        return ~(self < other)

    def is_negative(self) -> Value:
        """The sign as a Bool: the top bit, where there is one."""
        return self[-1] if self.type.signed else self < 0

    # ---- logic on bits ----

    def _logic(self, kind: str, other: Operand) -> Value:
        if isinstance(other, int):  # a mask is raw bits, not a number
            other = Constant(int(other), self.fraction)
        lifted = self._lift(other)
        if self.fraction != lifted.fraction:
            raise TraceError(f"bitwise {kind} of {self.type} and {lifted.type}: the binary points differ")
        return self._op(kind, self._node, lifted._node)

    def __and__(self, other: Operand) -> Value:
        return self._logic("and", other)

    def __or__(self, other: Operand) -> Value:
        return self._logic("or", other)

    def __xor__(self, other: Operand) -> Value:
        return self._logic("xor", other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Value:
        return self._op("not", self._node, attributes=(self._bits(), int(self.type.signed)))

    def any(self) -> Value:
        """Whether any bit is one."""
        return self._op("reduce_or", self._node, fraction=0)

    def all(self) -> Value:
        """Whether all bits of the type are one."""
        return self._op("reduce_and", self._node, attributes=(self._bits(),), fraction=0)

    def parity(self) -> Value:
        """The exclusive or of all bits of the type."""
        return self._op("reduce_xor", self._node, attributes=(self._bits(),), fraction=0)

    def __getitem__(self, index: int | slice) -> Value:
        """Bits `x[3]`, `x[low:high]` (least significant is 0, `high` excluded) as an unsigned integer."""
        width = self._bits()
        if isinstance(index, slice):
            if index.step is not None:
                raise TraceError("a bit slice has no step")
            low, high, _ = index.indices(width)
            stop = width if index.stop is None else index.stop + (width if index.stop < 0 else 0)
        else:
            low = index + width if index < 0 else index
            high = stop = low + 1
        if not 0 <= low < high or stop > width:
            raise TraceError(f"bits [{low}:{stop}] of {self.type}: it has bits 0 to {width - 1}")
        return self._op("slice", self._node, attributes=(low, high - low), fraction=0)

    # ---- shifts and binary point ----

    def __lshift__(self, amount: Operand) -> Value:
        """Times 2^amount, exact: the type grows."""
        if isinstance(amount, int):
            if amount < 0:
                raise TraceError(f"shift by {amount}: write shift_right({-amount}, rounding)")
            return self._op("shift_left_const", self._node, attributes=(amount,))
        return self._op("shift_left", self._node, self._amount(amount))

    def _amount(self, shift: Operand) -> int:
        amount = self._lift(shift)
        if amount.fraction or amount.range.low < 0 or amount.range.high > 1024:
            raise TraceError(f"a shift amount is an integer from 0 to 1024, not {amount!r}")
        return amount._node

    def __rshift__(self, amount: object) -> NoReturn:
        raise TraceError("`>>` would lose bits unnoticed: write x.shift_right(n, 'floor' | 'half_up' | 'half_even')")

    def shift_right(self, amount: Operand, rounding: Rounding) -> Value:
        """`raw / 2^amount` rounded to an integer raw, same binary point; `amount` may be a Value."""
        self._check_rounding(rounding)
        if isinstance(amount, int):
            if amount < 0:
                return self << -amount
            if amount == 0:
                return self
            return self._drop(amount, rounding, self.fraction)
        if rounding == "half_even":
            raise TraceError("shift_right by a variable amount rounds 'floor' or 'half_up'")
        node = self._amount(amount)
        if rounding == "floor":
            return self._op("shift_right", self._node, node)
        # floor((x + 2^(n-1)) / 2^n) = floor((floor(2x / 2^n) + 1) / 2), also for n = 0
        halves = self._op("shift_right", (self << 1)._node, node)
        return (halves + self._raw_const(1, self.fraction))._drop(1, "floor", self.fraction)

    def _check_rounding(self, rounding: str) -> None:
        if rounding not in ROUNDINGS:
            raise TraceError(f"rounding {rounding!r} is unknown; it is one of {', '.join(ROUNDINGS)}")

    def _drop(self, bits: int, rounding: Rounding, fraction: int) -> Value:
        """Divide the raw integer by 2^bits (bits >= 1) with rounding; the result has `fraction`."""
        node = self._node
        if rounding == "half_up":
            node = self._builder.op("add", node, self._builder.const(1 << (bits - 1)))
        elif rounding == "half_even":  # half - 1 + lowest kept bit
            odd = self._builder.op("slice", node, attributes=(bits, 1))
            node = self._builder.op("add", node, self._builder.const((1 << (bits - 1)) - 1))
            node = self._builder.op("add", node, odd)
        return self._op("shift_right_const", node, attributes=(bits,), fraction=fraction)

    def scale(self, exponent: int) -> Value:
        """Times 2^exponent by moving the binary point: no hardware, no loss."""
        return self.with_fraction(self.fraction - exponent)

    def with_fraction(self, fraction: int) -> Value:
        """The same raw integer with another binary point."""
        return Value(self._builder, self._node, Fixed(self._bits(), fraction, self.type.signed))

    # ---- conversion ----

    def round(self, fraction: int, rounding: Rounding) -> Value:
        """To `fraction` bits behind the point; the integer part grows as the rounding needs."""
        self._check_rounding(rounding)
        if fraction >= self.fraction:
            return self._op("shift_left_const", self._node, attributes=(fraction - self.fraction,), fraction=fraction)
        return self._drop(self.fraction - fraction, rounding, fraction)

    def _same_point(self, type_: Fixed, verb: str) -> int:
        """The node at the binary point of `type_`; TraceError if that drops bits."""
        if type_.fraction < self.fraction:
            raise TraceError(
                f"{verb}({type_}) drops {self.fraction - type_.fraction} fraction bits of {self.type}: "
                f"call .round({type_.fraction}, rounding) first"
            )
        return self._at(type_.fraction)

    def narrow(self, type_: Fixed) -> Value:
        """The same number in `type_`, lossless by proof from the range; TraceError if it might not fit."""
        node = self._same_point(type_, "narrow")
        range_ = self._builder.range(node)
        if not type_.full_range.covers(range_):
            enough = smallest_type(range_, type_.fraction)
            raise TraceError(
                f"narrow({type_}) could lose bits: the value is in {range_}, {type_} holds {type_.full_range}. "
                f"{enough} would do; else say .saturate({type_}), .wrap({type_}), or .assume(low, high) if you "
                "know a tighter range"
            )
        return Value(self._builder, node, type_)

    def saturate(self, type_: Fixed) -> Value:
        """Clamped to the range of `type_` (its asserted bounds, if any)."""
        node = self._same_point(type_, "saturate")
        return Value(self._builder, self._limited(node, type_.range), type_)

    def clamp(self, low: int, high: int) -> Value:
        """Limited to the raw range [low, high]."""
        node = self._limited(self._node, Range(low, high))
        return Value(self._builder, node, smallest_type(self._builder.range(node), self.fraction))

    def _limited(self, node: int, to: Range) -> int:
        """The node limited to a range; comparators only on the side where it can leave it."""
        builder, range_ = self._builder, self._builder.range(node)
        if range_.high < to.low or to.high < range_.low:
            return builder.const(to.low if range_.high < to.low else to.high)
        inside, limited = range_.intersect(to), node
        if range_.high > to.high:
            above = builder.op("lt", builder.const(to.high), node)
            within = Range(range_.low, to.high)
            limited = builder.op("mux", above, builder.const(to.high), limited, within=within)
        if range_.low < to.low:
            below = builder.op("lt", node, builder.const(to.low))
            limited = builder.op("mux", below, builder.const(to.low), limited, within=inside)
        return limited

    def wrap(self, type_: Fixed) -> Value:
        """The low bits, read as `type_`: overflow is modular."""
        node = self._same_point(type_, "wrap")
        if type_.full_range.covers(self._builder.range(node)):
            return Value(self._builder, node, type_)
        if type_.signed:
            node = self._builder.op("wrap", node, attributes=(type_.width,))
        else:
            node = self._builder.op("slice", node, attributes=(0, type_.width))
        return Value(self._builder, node, type_)

    def assume(self, low: int, high: int) -> Value:
        """The same value, claimed by the author to stay in the raw range [low, high].

        Use it where a fact that intervals cannot see bounds a value. The evaluator checks it; the netlist
        keeps only the bits of the claimed range, so a wrong claim is a bug that verification must look for.
        """
        if self.range.high < low or high < self.range.low:
            raise TraceError(f"assume([{low}, {high}]) contradicts the range {self.range}")
        return self._op("assume", self._node, within=Range(low, high))

    def named(self, name: str) -> Value:
        """Name the value in messages, Verilog and waveforms."""
        self._builder.set_name(self._node, check_identifier(name, "value"))
        return self

    # ---- counting bits ----

    def bit_length(self) -> Value:
        """Position of the highest one bit plus 1; 0 for 0. The value must not be negative."""
        if self.range.low < 0:
            raise TraceError(f"bit_length of {self!r}, which can be negative: take abs() or wrap first")
        rest, count = self.with_fraction(0), self._raw_const(0, 0)
        step = 1 << max(0, (self.range.width_bits - 1).bit_length() - 1)
        while step >= 1:
            if rest.range.width_bits > step:
                upper = rest._op("shift_right_const", rest._node, attributes=(step,))
                more = upper.any()
                rest = rest._op("mux", more._node, upper._node, rest[0:step]._node)
                count = count | (more << (step.bit_length() - 1))
            step >>= 1
        within = Range(self.range.low.bit_length(), self.range.high.bit_length())
        return self._op("add", count._node, rest.any()._node, fraction=0, within=within)

    def leading_zeros(self) -> Value:
        """Zero bits above the highest one, within the width of the type."""
        return self._bits() - self.bit_length()

    # ---- what a netlist cannot do ----

    def __bool__(self) -> NoReturn:
        raise TraceError(
            f"the truth of a traced value ({self.type}) is not known while tracing: use "
            "select(condition, a, b) instead of `if`, `&` `|` `~` instead of `and` `or` `not`, "
            "minimum/maximum instead of min/max"
        )

    def __index__(self) -> NoReturn:
        raise TraceError(
            f"a traced value ({self.type}) is not a Python integer: use table(entries, index) for a constant "
            "table, vector[index] for a choice among values, x.shift_right(n, rounding) for a shift"
        )

    __int__ = __float__ = __index__

    def __iter__(self) -> NoReturn:
        raise TraceError(f"a traced value ({self.type}) is not a sequence: take bits with x[low:high]")
