"""What slices and concatenations of a netlist are made of: ranges of bits of other wires.

PyRTL writes every slice and every concatenation as a net of its own, so that fields that are packed in one function and
unpacked in the next leave nets behind that only rename bits. `Pieces` looks through them to the wires on which
something is computed:

    c = {a, b}; d = c[7:2]; e = {d, x}        e = {a[1:0], b[5:2], x}        a, b: 6 bits

It stops at a concatenation that is read elsewhere too and of which a slice would be many pieces.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise

import pyrtl

BITS_A_PIECE = 32
"""A slice of a concatenation with other readers is looked through if each piece behind its first has as many bits."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Bits [low, low + bits) of a wire."""

    wire: pyrtl.WireVector
    low: int
    bits: int

    def cut(self, first: int, bits: int) -> Piece:
        """`bits` of them, from the first but `first` on."""
        return Piece(self.wire, self.low + first, bits)


class Pieces:
    """The pieces of the slices and concatenations of a block."""

    def __init__(self, block: pyrtl.Block) -> None:
        self._driver = {id(net.dests[0]): net for net in block.logic if net.dests}
        self._uses = Counter(id(arg) for net in block.logic for arg in net.args)
        self._places: dict[int, list[int]] = {}

    def of(self, net: pyrtl.LogicNet) -> list[Piece]:
        """Pieces of a net of operator `c` or `s`, the lowest first."""
        return _merged(self._inside(net, 0, len(net.dests[0])))

    def repeated_bit(self, wire: pyrtl.WireVector) -> Piece | None:
        """The bit of which a concatenation consists, if it is one and the same: a gate for all bits of something."""
        net = self._driver.get(id(wire))
        if net is None or net.op != "c" or len(net.args) < 2 or len(net.args) != len(wire):
            return None
        if any(arg is not net.args[0] for arg in net.args):
            return None
        found = self._resolved(Piece(net.args[0], 0, 1))
        return found[0] if len(found) == 1 and not isinstance(found[0].wire, pyrtl.Const) else None

    def _resolved(self, piece: Piece) -> list[Piece]:
        net = self._driver.get(id(piece.wire))
        if net is None or net.op not in "cs":
            return [piece]
        if net.op == "s":
            return self._inside(net, piece.low, piece.bits)
        places = self._places_of(net)
        first = bisect_right(places, piece.low)
        last = bisect_right(places, piece.low + piece.bits - 1)
        if self._uses[id(piece.wire)] > 1 and (last - first) * BITS_A_PIECE > piece.bits:
            return [piece]
        return self._inside(net, piece.low, piece.bits)

    def _places_of(self, net: pyrtl.LogicNet) -> list[int]:
        """Lowest bit of every argument of a concatenation, the lowest argument first; and its bits."""
        found = self._places.get(id(net.dests[0]))
        if found is None:
            found = [0, *accumulate(len(arg) for arg in reversed(net.args))]
            self._places[id(net.dests[0])] = found
        return found

    def _inside(self, net: pyrtl.LogicNet, low: int, bits: int) -> list[Piece]:
        """Pieces of bits [low, low + bits) of what a net drives."""
        if net.op == "s":
            chosen = net.op_param[low : low + bits]
            starts = [0, *(i for i in range(1, bits) if chosen[i] != chosen[i - 1] + 1), bits]
            runs = [Piece(net.args[0], chosen[start], stop - start) for start, stop in pairwise(starts)]
            return [piece for run in runs for piece in self._resolved(run)]
        places, found = self._places_of(net), []
        i = bisect_right(places, low) - 1
        while i < len(net.args) and places[i] < low + bits:
            first, stop = max(low, places[i]), min(low + bits, places[i + 1])
            if stop > first:
                found += self._resolved(Piece(net.args[-1 - i], first - places[i], stop - first))
            i += 1
        return found


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours that are neighbours in their wire too made one."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is not None and last.wire is piece.wire and last.low + last.bits == piece.low:
            found[-1] = Piece(last.wire, last.low, last.bits + piece.bits)
        else:
            found.append(piece)
    return found


def in_words(pieces: list[Piece], word_bits: int) -> list[list[Piece]]:
    """Pieces, the lowest first, cut into words of `word_bits`; the last may have fewer."""
    words: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        taken = 0
        while taken < piece.bits:
            if room == 0:
                words.append([])
                room = word_bits
            bits = min(room, piece.bits - taken)
            words[-1].append(piece.cut(taken, bits))
            taken, room = taken + bits, room - bits
    return words
