"""Bit-sliced domain: bit i of a vector is a NumPy word array with one case per bit position.

64 cases share a machine word, so a gate costs one word operation for 64 cases; arithmetic is
spelled out in gates (ripple carry, shift and add). A plane that is the same in all cases is a
NumPy scalar, all zeros or all ones.
"""
# ruff: noqa: D102 (the operations are documented once, on `bits.Domain`)

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from verification.equivalence.bits import Domain

MAX_INTEGER_BITS = 62
BLOCK_WORDS_BITS = 14
_PATTERNS = (
    0xAAAA_AAAA_AAAA_AAAA,
    0xCCCC_CCCC_CCCC_CCCC,
    0xF0F0_F0F0_F0F0_F0F0,
    0xFF00_FF00_FF00_FF00,
    0xFFFF_0000_FFFF_0000,
    0xFFFF_FFFF_0000_0000,
)
_ZERO = np.uint64(0)
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

Key = TypeVar("Key", bound=Hashable)
Plane = Any
Planes = tuple[Any, ...]


def _is_zero(plane: Plane) -> bool:
    return np.ndim(plane) == 0 and plane == _ZERO


def _is_ones(plane: Plane) -> bool:
    return np.ndim(plane) == 0 and plane == _ONES


def _and(a: Plane, b: Plane) -> Plane:
    if _is_zero(a) or _is_ones(b):
        return a
    return b if _is_zero(b) or _is_ones(a) else a & b


def _or(a: Plane, b: Plane) -> Plane:
    if _is_ones(a) or _is_zero(b):
        return a
    return b if _is_ones(b) or _is_zero(a) else a | b


def _mux(condition: Plane, then: Plane, otherwise: Plane) -> Plane:
    if _is_ones(condition) or then is otherwise:
        return then
    if _is_zero(condition):
        return otherwise
    return otherwise ^ (condition & (then ^ otherwise))


class Sliced(Domain):
    """Values are tuples of planes, lowest bit first."""

    def constant(self, value: int, width: int) -> Planes:
        return tuple(_ONES if (value >> i) & 1 else _ZERO for i in range(width))

    def known(self, a: Planes) -> int | None:
        if any(np.ndim(p) for p in a):
            return None
        return sum(1 << i for i, p in enumerate(a) if p)

    def invert(self, a: Planes, width: int) -> Planes:
        return tuple(~p for p in a)

    def conjunction(self, a: Planes, b: Planes, width: int) -> Planes:
        return tuple(_and(p, q) for p, q in zip(a, b, strict=True))

    def disjunction(self, a: Planes, b: Planes, width: int) -> Planes:
        return tuple(_or(p, q) for p, q in zip(a, b, strict=True))

    def exclusive(self, a: Planes, b: Planes, width: int) -> Planes:
        return tuple(p ^ q for p, q in zip(a, b, strict=True))

    def _sum(self, a: Planes, b: Planes, carry: Plane) -> Planes:
        planes = []
        for p, q in zip(a, b, strict=True):
            half = p ^ q
            planes.append(half ^ carry)
            carry = _or(_and(p, q), _and(half, carry))
        return tuple(planes)

    def add(self, a: Planes, b: Planes, width: int) -> Planes:
        return self._sum(a, b, _ZERO)

    def subtract(self, a: Planes, b: Planes, width: int) -> Planes:
        return self._sum(a, self.invert(b, width), _ONES)

    def multiply(self, a: Planes, b: Planes, width: int) -> Planes:
        result = self.constant(0, width)
        for i, bit in enumerate(b):
            if not _is_zero(bit):
                row = tuple(_and(p, bit) for p in a[: width - i])
                result = result[:i] + self._sum(result[i:], row, _ZERO)
        return result

    def equal(self, a: Planes, b: Planes, width: int) -> Planes:
        return (~reduce(lambda x, y: x | y, self.exclusive(a, b, width)),)

    def below(self, a: Planes, b: Planes, width: int) -> Planes:
        borrow: Plane = _ZERO
        for p, q in zip(a, b, strict=True):
            borrow = _or(_and(~p, q), _and(~(p ^ q), borrow))
        return (borrow,)

    def choose(self, condition: Planes, then: Planes, otherwise: Planes, width: int) -> Planes:
        return tuple(_mux(condition[0], p, q) for p, q in zip(then, otherwise, strict=True))

    def concatenate(self, parts: Sequence[tuple[Planes, int]]) -> Planes:
        return tuple(plane for value, _ in reversed(parts) for plane in value)

    def extract(self, a: Planes, width: int, low: int, count: int) -> Planes:
        return a[low : low + count]

    def select(self, table: Sequence[Planes], address: Planes) -> Planes:
        """The word of a read-only table at an address: a tree of multiplexers."""
        words = list(table)
        for bit in address:
            words = [
                self.choose((bit,), high, low, len(low)) for low, high in zip(words[::2], words[1::2], strict=True)
            ]
        return words[0]


def integers(planes: Planes, words: int) -> NDArray[np.int64]:
    """The vector's value in each of 64 * words cases; ValueError above 62 bits."""
    if len(planes) > MAX_INTEGER_BITS:
        raise ValueError(f"{len(planes)} bits do not fit an int64: split the operand into {MAX_INTEGER_BITS}-bit parts")
    values = np.zeros(64 * words, dtype=np.int64)
    for i, plane in enumerate(planes):
        full = np.broadcast_to(np.asarray(plane, dtype="<u8"), (words,))
        bits = np.unpackbits(np.ascontiguousarray(full).view(np.uint8), bitorder="little")
        values |= bits.astype(np.int64) << i
    return values


def sliced(values: NDArray[np.int64], width: int) -> Planes:
    """Planes of integers in 0 .. 2^width - 1, a multiple of 64 of them; ValueError outside."""
    if width > MAX_INTEGER_BITS:
        raise ValueError(f"{width} bits do not fit an int64: split the result into {MAX_INTEGER_BITS}-bit parts")
    if values.min() < 0 or int(values.max()) >> width:
        raise ValueError(f"values {values.min()} .. {values.max()} do not fit {width} unsigned bits")
    return tuple(
        np.packbits(((values >> i) & 1).astype(np.uint8), bitorder="little").view("<u8").astype(np.uint64)
        for i in range(width)
    )


def _counter_plane(bit: int, first_word: int, words: int) -> Any:
    """Bit `bit` of the case number, for 64 cases in each of `words` words from `first_word` on."""
    if bit < 6:
        return np.full(words, _PATTERNS[bit], dtype=np.uint64)
    index = np.arange(first_word, first_word + words, dtype=np.uint64)
    return np.uint64(0) - ((index >> np.uint64(bit - 6)) & np.uint64(1))


def all_cases(widths: Mapping[Key, int]) -> Iterator[dict[Key, Planes]]:
    """Planes of the variables, in blocks of at most 2^20 cases, over every combination of their values."""
    offsets: dict[Key, int] = {}
    position = 0
    for variable, width in widths.items():
        offsets[variable] = position
        position += width
    words = 1 << max(0, position - 6)
    block = min(words, 1 << BLOCK_WORDS_BITS)
    for first in range(0, words, block):
        yield {
            v: tuple(_counter_plane(offsets[v] + i, first, block) for i in range(width)) for v, width in widths.items()
        }


def first_case(plane: Plane) -> tuple[int, int]:
    """Word and bit of the first case in which a plane is 1."""
    plane = np.atleast_1d(plane)
    word = int(np.flatnonzero(plane)[0])
    return word, (int(plane[word]) & -int(plane[word])).bit_length() - 1


def case_value(planes: Planes, word: int, bit: int) -> int:
    """The integer that a vector has in one case."""
    value = 0
    for i, plane in enumerate(planes):
        chosen = plane if np.ndim(plane) == 0 else plane[word]
        value |= ((int(chosen) >> bit) & 1) << i
    return value
