"""Streams that change shape: width adapter and row packer. The conventions are those of `hls.stream`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.lower import building
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, payload_register, produced, register
from hls.types import HlsError


def width_adapter(source: Stream, out_bits: int, *, block: pyrtl.Block, prefix: str = "width_") -> Stream:
    """Words of `out_bits` from words of another width that divides it or that it divides, least significant part first.

    Widening passes the last part through and holds the others; narrowing holds nothing but the number of the part.

    Raises:
        HlsError: if neither width divides the other.
    """
    wide, narrow = max(source.bits, out_bits), min(source.bits, out_bits)
    if narrow < 1 or wide % narrow:
        nearest = max(1, round(wide / max(narrow, 1))) * max(narrow, 1)
        raise HlsError(
            f"width adapter {prefix!r} from {source.bits} to {out_bits} bits: one must divide the other; "
            f"{nearest} bits instead of {wide} would do"
        )
    parts = wide // narrow
    with building(block):
        part = register(max(1, (parts - 1).bit_length()), f"{prefix}part", block)
        is_last = part == parts - 1
        if out_bits >= source.bits:
            held = [payload_register(narrow, f"{prefix}held_{i}", block) for i in range(parts - 1)]
            out = produced(pyrtl.concat_list([*held, source.data]), source.valid & is_last, block, prefix)
            drive(source.ready, out.ready | ~is_last)
            moves = source.valid & source.ready
            for i, word in enumerate(held):
                word.next <<= pyrtl.select(moves & (part == i), source.data, word)
        else:
            words = lanes_of(source.data, parts)
            chosen = words[-1]
            for i in reversed(range(parts - 1)):
                chosen = pyrtl.select(part == i, words[i], chosen)
            out = produced(chosen, source.valid, block, prefix)
            drive(source.ready, out.ready & is_last)
            moves = source.valid & out.ready
        following = pyrtl.select(is_last, pyrtl.Const(0, len(part)), (part + 1)[: len(part)])
        part.next <<= pyrtl.select(moves, following, part)
    return out


@dataclass(frozen=True, eq=False)
class Rows:
    """A stream of rows: `count` elements from lane 0 on (0 .. lanes); `last` ends a group of rows.

    Lanes from `count` on are zeros where they are zeros at the source.
    """

    elements: tuple[Wire, ...]
    count: Wire
    last: Wire
    valid: Wire
    ready: Wire


def row_bits(lanes: int, element_bits: int) -> int:
    """Bits of a row as the item of a `Stream`."""
    return lanes * element_bits + lanes.bit_length() + 1


def as_stream(rows: Rows, block: pyrtl.Block) -> Stream:
    """Rows as items: element 0 in the least significant bits, then `count`, then `last`."""
    with building(block):
        return Stream(pyrtl.concat_list([*rows.elements, rows.count, rows.last]), rows.valid, rows.ready)


def as_rows(stream: Stream, lanes: int, block: pyrtl.Block) -> Rows:
    """The inverse of `as_stream`."""
    element_bits = (stream.bits - row_bits(lanes, 0)) // lanes
    with building(block):
        elements = tuple(lanes_of(stream.data[: lanes * element_bits], lanes))
        count = stream.data[lanes * element_bits : -1]
        return Rows(elements, count, stream.data[-1], stream.valid, stream.ready)


def row_packer(source: Rows, *, block: pyrtl.Block, prefix: str = "pack_") -> Rows:
    """Full rows out of rows that are not: a group's elements in order, only its last row is partial.

    The elements that do not make a row yet are held; those of the next row are rotated behind them. A group whose
    last row overflows takes one cycle more; a group without elements is one empty row. Otherwise a row a cycle goes in.

    Raises:
        HlsError: if the number of lanes is not a power of two.
    """
    lanes, width = len(source.elements), len(source.elements[0])
    rounds = lanes.bit_length() - 1
    if lanes != 1 << rounds:
        raise HlsError(f"row packer {prefix!r} of {lanes} lanes: a power of two works; use {1 << (rounds + 1)}")
    with building(block):
        held = [payload_register(width, f"{prefix}held_{i}", block) for i in range(lanes - 1)]
        filled = register(max(1, rounds), f"{prefix}filled", block)
        flushing = register(1, f"{prefix}flushing", block)
        total = (filled + source.count)[: rounds + 1]
        is_full, overflows = total >= lanes, total > lanes
        ends = source.last & ~overflows
        rotated = rotate_up(source.elements, [filled[b] for b in range(rounds)])
        below = [filled > i for i in range(lanes - 1)]
        row = [pyrtl.select(b, old, new) for b, old, new in zip(below, held, rotated[:-1], strict=True)]

        emits = is_full | source.last
        ready = pyrtl.WireVector(1, f"{prefix}ready")
        takes = source.valid & ~flushing & (ready | ~emits)
        drive(source.ready, ~flushing & (ready | ~emits))
        leaves = flushing & ready
        empty = pyrtl.Const(0, len(filled))
        rest = pyrtl.select(ends, empty, total[:rounds]) if rounds else empty
        filled.next <<= pyrtl.select(takes, rest, pyrtl.select(leaves, empty, filled))
        flushing.next <<= pyrtl.select(takes, source.last & overflows, flushing & ~ready)
        for i, element in enumerate(held):
            element.next <<= pyrtl.select(takes, pyrtl.select(is_full, rotated[i], row[i]), element)

        count_bits = lanes.bit_length()
        passed = pyrtl.select(is_full, pyrtl.Const(lanes, count_bits), total[:count_bits])
        return Rows(
            # a rest that is flushed is at least one element and never a whole row
            (
                *row[:1],
                *(new & (b | ~flushing).sign_extended(width) for new, b in zip(row[1:], below[1:], strict=True)),
                rotated[-1] & (~flushing).sign_extended(width),
            )[-lanes:],
            pyrtl.select(flushing, filled.zero_extended(count_bits), passed),
            flushing | ends,
            flushing | (source.valid & emits),
            ready,
        )


def rotate_up(elements: Sequence[Wire], amount: Sequence[Wire]) -> list[Wire]:
    """Element i moves to lane (i + amount) mod lanes; `amount` is log2(lanes) bits, the lowest first."""
    row = list(elements)
    for b, moves in enumerate(amount):
        row = [pyrtl.select(moves, row[i - (1 << b)], row[i]) for i in range(len(row))]
    return row
