"""Bit-vectors over an exchangeable domain: one writing of a function, three meanings.

A specification is a plain function over `Bits`. Over the symbolic domain (`formula.Formula`)
it becomes SMT terms, over the bit-sliced one (`sliced.Sliced`) it runs on millions of cases
at once, over `Concrete` on Python integers. Widths are explicit: operands of `+ - & | ^` and of
comparisons must have equal widths, arithmetic wraps, and nothing extends by itself.
"""
# ruff: noqa: D102 (the operations are documented once, on `bits.Domain`)

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any


class Domain(ABC):
    """The primitive operations; `width` is the operands' width in bits, results are unsigned."""

    @abstractmethod
    def constant(self, value: int, width: int) -> Any:
        """`value` modulo 2^width."""

    @abstractmethod
    def known(self, a: Any) -> int | None:
        """The value if it does not depend on any variable and that is evident, else None."""

    @abstractmethod
    def invert(self, a: Any, width: int) -> Any:
        """Bitwise complement."""

    @abstractmethod
    def conjunction(self, a: Any, b: Any, width: int) -> Any:
        """Bitwise and."""

    @abstractmethod
    def disjunction(self, a: Any, b: Any, width: int) -> Any:
        """Bitwise or."""

    @abstractmethod
    def exclusive(self, a: Any, b: Any, width: int) -> Any:
        """Bitwise exclusive or."""

    @abstractmethod
    def add(self, a: Any, b: Any, width: int) -> Any:
        """Sum modulo 2^width."""

    @abstractmethod
    def subtract(self, a: Any, b: Any, width: int) -> Any:
        """Difference modulo 2^width."""

    @abstractmethod
    def multiply(self, a: Any, b: Any, width: int) -> Any:
        """Product modulo 2^width."""

    @abstractmethod
    def equal(self, a: Any, b: Any, width: int) -> Any:
        """One bit: a == b."""

    @abstractmethod
    def below(self, a: Any, b: Any, width: int) -> Any:
        """One bit: a < b, unsigned."""

    @abstractmethod
    def choose(self, condition: Any, then: Any, otherwise: Any, width: int) -> Any:
        """`then` where the one-bit condition is 1."""

    @abstractmethod
    def concatenate(self, parts: Sequence[tuple[Any, int]]) -> Any:
        """(value, width) parts, most significant first."""

    @abstractmethod
    def extract(self, a: Any, width: int, low: int, count: int) -> Any:
        """Bits low .. low + count - 1."""


class Concrete(Domain):
    """Python integers: the values that a simulation shows."""

    def constant(self, value: int, width: int) -> int:
        return value & ((1 << width) - 1)

    def known(self, a: int) -> int | None:
        return a

    def invert(self, a: int, width: int) -> int:
        return a ^ ((1 << width) - 1)

    def conjunction(self, a: int, b: int, width: int) -> int:
        return a & b

    def disjunction(self, a: int, b: int, width: int) -> int:
        return a | b

    def exclusive(self, a: int, b: int, width: int) -> int:
        return a ^ b

    def add(self, a: int, b: int, width: int) -> int:
        return self.constant(a + b, width)

    def subtract(self, a: int, b: int, width: int) -> int:
        return self.constant(a - b, width)

    def multiply(self, a: int, b: int, width: int) -> int:
        return self.constant(a * b, width)

    def equal(self, a: int, b: int, width: int) -> int:
        return int(a == b)

    def below(self, a: int, b: int, width: int) -> int:
        return int(a < b)

    def choose(self, condition: int, then: int, otherwise: int, width: int) -> int:
        return then if condition else otherwise

    def concatenate(self, parts: Sequence[tuple[int, int]]) -> int:
        return reduce(lambda high, part: (high << part[1]) | part[0], parts, 0)

    def extract(self, a: int, width: int, low: int, count: int) -> int:
        return self.constant(a >> low, count)


@dataclass(frozen=True, eq=False)
class Bits:
    """An unsigned bit-vector of `width` bits; indexing is Python's over bits, bit 0 lowest.

    `a[i]` is one bit, `a[low:high]` bits low .. high - 1. Integers on the right of an operator
    are constants of the left operand's width.
    """

    domain: Domain
    value: Any
    width: int

    def constant(self, value: int, width: int | None = None) -> "Bits":
        """A constant of this vector's domain, by default of its width; ValueError if it does not fit."""
        width = self.width if width is None else width
        if not -(1 << (width - 1)) <= value < 1 << width:
            raise ValueError(f"{value} does not fit {width} bits; {max(value.bit_length(), 1)} hold it")
        return Bits(self.domain, self.domain.constant(value, width), width)

    def _same(self, other: "Bits | int") -> "Bits":
        if isinstance(other, int):
            return self.constant(other)
        if other.width != self.width:
            wider = max(self.width, other.width)
            raise ValueError(
                f"operands of {self.width} and {other.width} bits: extend one with .zext({wider}) or .sext({wider})"
            )
        return other

    def _binary(self, name: str, other: "Bits | int", width: int | None = None) -> "Bits":
        right = self._same(other)
        value = getattr(self.domain, name)(self.value, right.value, self.width)
        return Bits(self.domain, value, self.width if width is None else width)

    def __and__(self, other: "Bits | int") -> "Bits":
        return self._binary("conjunction", other)

    def __or__(self, other: "Bits | int") -> "Bits":
        return self._binary("disjunction", other)

    def __xor__(self, other: "Bits | int") -> "Bits":
        return self._binary("exclusive", other)

    def __add__(self, other: "Bits | int") -> "Bits":
        return self._binary("add", other)

    def __sub__(self, other: "Bits | int") -> "Bits":
        return self._binary("subtract", other)

    def __mul__(self, other: "Bits | int") -> "Bits":
        return self._binary("multiply", other)

    def __invert__(self) -> "Bits":
        return Bits(self.domain, self.domain.invert(self.value, self.width), self.width)

    def __neg__(self) -> "Bits":
        return self.constant(0) - self

    def __eq__(self, other: object) -> "Bits":  # type: ignore[override]
        if not isinstance(other, Bits | int):
            raise TypeError(f"cannot compare Bits with {type(other).__name__}")
        return self._binary("equal", other, 1)

    def __ne__(self, other: object) -> "Bits":  # type: ignore[override]
        return ~(self == other)

    def __hash__(self) -> int:
        raise TypeError("Bits are compared into Bits, so they cannot be keys")

    def __lt__(self, other: "Bits | int") -> "Bits":
        return self._binary("below", other, 1)

    def __ge__(self, other: "Bits | int") -> "Bits":
        return ~(self < other)

    def __gt__(self, other: "Bits | int") -> "Bits":
        return self._same(other) < self

    def __le__(self, other: "Bits | int") -> "Bits":
        return ~(self > other)

    def signed_below(self, other: "Bits | int") -> "Bits":
        """One bit: self < other in two's complement."""
        flip = self.constant(1 << (self.width - 1))
        return (self ^ flip) < (self._same(other) ^ flip)

    def __bool__(self) -> bool:
        raise TypeError("a bit-vector has no truth value in Python: use choose(condition, then, otherwise)")

    def __len__(self) -> int:
        return self.width

    def __getitem__(self, item: "int | slice") -> "Bits":
        if isinstance(item, slice):
            low, high, step = item.indices(self.width)
            if step != 1 or high <= low:
                raise ValueError(f"slice {item} of {self.width} bits: use low:high with low < high")
        else:
            low = item + self.width if item < 0 else item
            high = low + 1
            if not 0 <= low < self.width:
                raise IndexError(f"bit {item} of {self.width}: the highest is {self.width - 1}")
        return Bits(self.domain, self.domain.extract(self.value, self.width, low, high - low), high - low)

    def zext(self, width: int) -> "Bits":
        """Zero-extended to `width` bits; ValueError if that is narrower."""
        if width < self.width:
            raise ValueError(f"zext to {width} bits would lose bits of {self.width}: slice instead")
        return self if width == self.width else concatenate(self.constant(0, width - self.width), self)

    def sext(self, width: int) -> "Bits":
        """Sign-extended to `width` bits; ValueError if that is narrower."""
        if width < self.width:
            raise ValueError(f"sext to {width} bits would lose bits of {self.width}: slice instead")
        return self if width == self.width else concatenate(*[self[-1]] * (width - self.width), self)

    def shifted_left(self, amount: "Bits | int") -> "Bits":
        """Same width, zeros enter below; the amount is unsigned and may exceed the width."""
        return self._shifted(amount, left=True)

    def shifted_right(self, amount: "Bits | int") -> "Bits":
        """Same width, zeros enter above; the amount is unsigned and may exceed the width."""
        return self._shifted(amount, left=False)

    def _shifted(self, amount: "Bits | int", *, left: bool) -> "Bits":
        if isinstance(amount, int):
            if amount < 0:
                raise ValueError(f"shift by {amount}: shift the other way by {-amount}")
            if amount == 0:
                return self
            if amount >= self.width:
                return self.constant(0)
            zeros = self.constant(0, amount)
            return concatenate(self[: self.width - amount], zeros) if left else concatenate(zeros, self[amount:])
        result = self
        for i in range(amount.width):
            result = choose(amount[i], result._shifted(1 << i, left=left), result)
        return result

    def any(self) -> "Bits":
        """One bit: some bit is 1."""
        return self != 0

    def all(self) -> "Bits":
        """One bit: every bit is 1."""
        return ~self == 0


def choose(condition: Bits, then: Bits, otherwise: Bits) -> Bits:
    """`then` where the one-bit condition is 1, else `otherwise`; ValueError on unequal widths."""
    if condition.width != 1:
        raise ValueError(f"a condition has 1 bit, this has {condition.width}: use .any() or a comparison")
    otherwise = then._same(otherwise)
    value = then.domain.choose(condition.value, then.value, otherwise.value, then.width)
    return Bits(then.domain, value, then.width)


def concatenate(*parts: Bits) -> Bits:
    """The parts as one vector, the first most significant."""
    if len(parts) == 1:
        return parts[0]
    domain = parts[0].domain
    return Bits(domain, domain.concatenate([(p.value, p.width) for p in parts]), sum(p.width for p in parts))


def conjunction(bits: Sequence[Bits]) -> Bits:
    """One-bit and of a non-empty sequence."""
    return reduce(lambda a, b: a & b, bits)


def total(terms: Sequence[Bits], width: int) -> Bits:
    """Sum modulo 2^width of zero-extended terms, from the left; the caller gives a width that holds it."""
    return reduce(lambda a, b: a + b, [t.zext(width) for t in terms])
