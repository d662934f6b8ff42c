"""Elements side by side, and fields of a record, as one word of a port: the first one lowest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hls.datapaths.machine_sizes import Record


def joined(elements: Iterable[int], bits: int) -> int:
    """Elements of `bits` bits each, negative ones in two's complement, as a word."""
    mask = (1 << bits) - 1
    return sum((int(element) & mask) << (i * bits) for i, element in enumerate(elements))


def nth(word: int, bits: int, index: int) -> int:
    """One element of a word, unsigned."""
    return word >> (index * bits) & ((1 << bits) - 1)


def split(word: int, bits: int, count: int) -> list[int]:
    """The inverse of `joined` for unsigned elements."""
    return [nth(word, bits, i) for i in range(count)]


def pack(record: Record, values: Mapping[str, int]) -> int:
    """A record as a word, of values that have all its fields."""
    word = position = 0
    for name, bits in record.fields:
        word |= (int(values[name]) & ((1 << bits) - 1)) << position
        position += bits
    return word


def unpack(record: Record, word: int) -> dict[str, int]:
    """The inverse of `pack` for unsigned fields."""
    found = {}
    for name, bits in record.fields:
        found[name] = word & ((1 << bits) - 1)
        word >>= bits
    return found
