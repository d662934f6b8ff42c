"""What drives an input in a composition: slices of ports and constants, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

from hls.types import HlsError


@dataclass(frozen=True)
class Piece:
    """Bits of one port, or of a constant.

    Attributes:
        part: instance whose output it is; empty for an input of the whole, and for a constant.
        port: the port; empty for a constant.
        low: first bit; a constant's value.
        bits: how many bits.
    """

    part: str
    port: str
    low: int
    bits: int

    @property
    def is_constant(self) -> bool:
        """Whether it is a constant of value `low`."""
        return not self.port

    def cut(self, low: int, bits: int) -> Piece:
        """Some of its bits."""
        if self.is_constant:
            return Piece("", "", (self.low >> low) & ((1 << bits) - 1), bits)
        return Piece(self.part, self.port, self.low + low, bits)

    def __str__(self) -> str:
        if self.is_constant:
            return f"{self.bits}'d{self.low}"
        name = f"{self.part}.{self.port}" if self.part else self.port
        return f"{name}[{self.low}:{self.low + self.bits}]"


@dataclass(frozen=True)
class Source:
    """What drives an input: pieces side by side, the lowest first; `source[lo:hi]`, `source[i]` are sources again."""

    pieces: tuple[Piece, ...]

    @property
    def bits(self) -> int:
        """How many bits it drives."""
        return sum(piece.bits for piece in self.pieces)

    def __len__(self) -> int:
        return self.bits

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> Source: ...

    def __getitem__(self, index: int | slice) -> Source:
        if isinstance(index, int):
            low, high, step = (index, index + 1, 1) if index >= 0 else (self.bits + index, self.bits + index + 1, 1)
        else:
            low, high, step = index.indices(self.bits)
            if index.stop is not None and index.stop > self.bits:
                high = index.stop
        if step != 1 or not 0 <= low < high <= self.bits:
            raise HlsError(
                f"bits [{low}:{high}] of {self}, which has {self.bits}: 0 <= low < high <= {self.bits} works"
            )
        found, position = [], 0
        for piece in self.pieces:
            begin, end = max(low - position, 0), min(high - position, piece.bits)
            if begin < end:
                found.append(piece.cut(begin, end - begin))
            position += piece.bits
        return Source(tuple(found))

    def chunks(self, count: int) -> list[Source]:
        """Split into `count` sources of equal width, the lowest first; HlsError if that does not divide."""
        size, rest = divmod(self.bits, count)
        if rest or not size:
            raise HlsError(f"{self} has {self.bits} bits, which are not {count} equal parts")
        return [self[i * size : (i + 1) * size] for i in range(count)]

    def __str__(self) -> str:
        return " ++ ".join(map(str, self.pieces))


def concat(*sources: Source) -> Source:
    """Sources side by side, the first in the least significant bits."""
    pieces: list[Piece] = []
    for piece in (piece for source in sources for piece in source.pieces):
        last = pieces[-1] if pieces else None
        same = last is not None and not piece.is_constant and (last.part, last.port) == (piece.part, piece.port)
        if last is not None and same and last.low + last.bits == piece.low:
            pieces[-1] = Piece(last.part, last.port, last.low, last.bits + piece.bits)
        else:
            pieces.append(piece)
    return Source(tuple(pieces))


def constant(value: int, bits: int) -> Source:
    """A constant; HlsError if it does not fit."""
    if bits < 1 or value < 0 or value >> bits:
        raise HlsError(f"constant {value} does not fit in {bits} bits; {max(1, value.bit_length())} would do")
    return Source((Piece("", "", value, bits),))
