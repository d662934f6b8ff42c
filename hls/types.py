"""Types of the values that flow through a datapath, and the integer ranges they can hold.

A value is a two's-complement (or unsigned) integer `raw` with a binary point:
`real = raw / 2^fraction`. `Fixed(w, f)` is `sfix(w, f)` of the specification, `UFixed(w, f)` is `ufix(w, f)`:
`w` bits in all, `f` of them fraction. `Vec(element, length)` groups values; element 0 lies in the least
significant bits. `Range` is an interval of raw integers; all range analysis is interval arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

Rounding: TypeAlias = Literal["floor", "half_up", "half_even"]
ROUNDINGS: tuple[str, ...] = get_args(Rounding)


class HlsError(Exception):
    """A datapath cannot be traced, scheduled, lowered or simulated as written."""


@dataclass(frozen=True, slots=True)
class Range:
    """The raw integers `low <= raw <= high`."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise HlsError(f"empty range [{self.low}, {self.high}]: low must not exceed high")

    def __contains__(self, raw: int) -> bool:
        return self.low <= raw <= self.high

    def __str__(self) -> str:
        return f"[{self.low}, {self.high}]"

    def covers(self, other: Range) -> bool:
        """Whether every integer of `other` is in this range."""
        return self.low <= other.low and other.high <= self.high

    def intersect(self, other: Range) -> Range:
        """The integers in both ranges; HlsError if there is none."""
        return Range(max(self.low, other.low), min(self.high, other.high))

    def union(self, other: Range) -> Range:
        """The smallest range that covers both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    @property
    def signed(self) -> bool:
        """Whether a sign bit is needed."""
        return self.low < 0

    @property
    def width_bits(self) -> int:
        """Bits of the smallest type that holds the range (at least 1)."""
        if self.low >= 0:
            return max(1, self.high.bit_length())
        return max((~self.low).bit_length(), self.high.bit_length() if self.high > 0 else 0) + 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fixed-point number of `width` bits, `fraction` of them behind the binary point.

    `bounds` is a range asserted by the user that is tighter than the width (`within`); it is checked by the
    evaluator and trusted by the tracer. It takes no part in equality.
    """

    width: int
    fraction: int = 0
    signed: bool = True
    bounds: Range | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise HlsError(f"a type needs at least 1 bit, not {self.width}")
        if self.bounds is not None and not self.full_range.covers(self.bounds):
            raise HlsError(f"{self} holds {self.full_range}, not the asserted {self.bounds}")

    @property
    def full_range(self) -> Range:
        """Every raw integer that the bits can encode."""
        if self.signed:
            return Range(-(1 << (self.width - 1)), (1 << (self.width - 1)) - 1)
        return Range(0, (1 << self.width) - 1)

    @property
    def range(self) -> Range:
        """The raw integers that occur: the asserted bounds, or all."""
        return self.full_range if self.bounds is None else self.bounds

    @property
    def total_bits(self) -> int:
        """Bits on a wire."""
        return self.width

    def within(self, low: int, high: int) -> Fixed:
        """The same type with the asserted raw range [low, high]."""
        return replace(self, bounds=Range(low, high))

    def __str__(self) -> str:
        if self.fraction == 0:
            return f"{'SInt' if self.signed else 'UInt'}({self.width})"
        return f"{'Fixed' if self.signed else 'UFixed'}({self.width}, {self.fraction})"


@dataclass(frozen=True, slots=True)
class Vec:
    """`length` values of one type, element 0 in the least significant bits of the port."""

    element: Fixed | Vec
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise HlsError(f"a vector needs at least 1 element, not {self.length}")

    @property
    def total_bits(self) -> int:
        """Bits on a wire, all elements concatenated."""
        return self.length * self.element.total_bits

    def __str__(self) -> str:
        return f"Vec({self.element}, {self.length})"


Type: TypeAlias = Fixed | Vec


def UFixed(width: int, fraction: int) -> Fixed:  # noqa: N802 - reads as a type
    """Unsigned fixed point: `ufix(width, fraction)` of the specification."""
    return Fixed(width, fraction, signed=False)


def SInt(width: int) -> Fixed:  # noqa: N802 - reads as a type
    """Two's-complement integer of `width` bits."""
    return Fixed(width, 0, signed=True)


def UInt(width: int) -> Fixed:  # noqa: N802 - reads as a type
    """Unsigned integer of `width` bits."""
    return Fixed(width, 0, signed=False)


Bool = UInt(1)


def smallest_type(range_: Range, fraction: int = 0) -> Fixed:
    """The narrowest type that holds `range_`; unsigned if nothing in it is negative."""
    return Fixed(range_.width_bits, fraction, range_.signed)


def leaves(type_: Type) -> Iterator[Fixed]:
    """The scalar types of a (nested) vector, element 0 first."""
    if isinstance(type_, Fixed):
        yield type_
    else:
        for _ in range(type_.length):
            yield from leaves(type_.element)


def to_raw(bits: int, width_bits: int, signed: bool) -> int:
    """The integer that the low `width_bits` of `bits` encode."""
    bits &= (1 << width_bits) - 1
    return bits - (1 << width_bits) if signed and bits >> (width_bits - 1) else bits
