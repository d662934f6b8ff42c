"""Naive models of the streams of `hls`, cycle by cycle: lists and loops, nothing of the hardware's structure.

A model's `cycle(offers, ready)` takes what every source offers (None: nothing) and what every sink is ready for, and
says what the hardware must show in that cycle: which sources it is ready for, and what every sink is offered.
Items are integers; a row of the packer is (elements, last).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

Item = int | tuple[tuple[int, ...], bool]
Offers = Sequence[Item | None]
Shown = tuple[list[bool], list[Item | None]]


class Model(Protocol):
    """What all models offer."""

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """One cycle: ready to each source, offer to each sink."""


@dataclass
class QueueModel:
    """FIFO of `depth` items, and skid buffer (`depth` 2)."""

    depth: int
    items: list[Item] = field(default_factory=list)

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """The oldest item is offered; an item goes in where there was room before the cycle."""
        has_room, oldest = len(self.items) < self.depth, self.items[0] if self.items else None
        if oldest is not None and ready[0]:
            self.items.pop(0)
        if offers[0] is not None and has_room:
            self.items.append(offers[0])
        return [has_room], [oldest]


@dataclass
class ForkModel:
    """Each item to each way once."""

    ways: int
    served: set[int] = field(default_factory=set)

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """The item is offered to those that have not had it."""
        shown = [None if way in self.served else offers[0] for way in range(self.ways)]
        have_it = self.served | {way for way in range(self.ways) if ready[way]}
        done = len(have_it) == self.ways
        self.served = set() if done or offers[0] is None else have_it
        return [done], shown


@dataclass
class JoinModel:
    """Items side by side, source 0 lowest."""

    bits: int

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """All move or none."""
        items = [offer for offer in offers if isinstance(offer, int)]
        complete = len(items) == len(offers)
        joined = sum(item << (self.bits * i) for i, item in enumerate(items)) if complete else None
        return [complete and ready[0]] * len(offers), [joined]


@dataclass
class ArbiterModel:
    """Sources in turn; the offered item is item + winner << bits."""

    bits: int
    order: list[int]

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """The first in turn that offers wins, and goes on winning until it is taken, then is the last in turn."""
        winner = next((i for i in self.order if offers[i] is not None), None)
        if winner is None:
            return [False] * len(offers), [None]
        at = self.order.index(winner) + ready[0]
        self.order = self.order[at:] + self.order[:at]
        item = offers[winner]
        assert isinstance(item, int)
        return [i == winner and ready[0] for i in range(len(offers))], [item + (winner << self.bits)]


@dataclass
class WidenModel:
    """`parts` words of `bits` bits side by side."""

    parts: int
    bits: int
    words: list[int] = field(default_factory=list)

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """The last part passes through."""
        last, word = len(self.words) == self.parts - 1, offers[0]
        takes = ready[0] or not last
        wide = None
        if last and isinstance(word, int):
            wide = sum(w << (self.bits * i) for i, w in enumerate([*self.words, word]))
        if isinstance(word, int) and takes:
            self.words = [] if last else [*self.words, word]
        return [takes], [wide]


@dataclass
class NarrowModel:
    """Words in `parts` parts of `bits` bits, the lowest first."""

    parts: int
    bits: int
    given: int = 0

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """The word stays until its last part is taken."""
        word, takes = offers[0], ready[0] and self.given == self.parts - 1
        part = (word >> (self.bits * self.given)) % (1 << self.bits) if isinstance(word, int) else None
        if part is not None and ready[0]:
            self.given = (self.given + 1) % self.parts
        return [takes], [part]


@dataclass
class PackerModel:
    """Groups of elements in full rows; a row is (elements, last)."""

    lanes: int
    elements: list[int] = field(default_factory=list)
    ended: bool = False

    def cycle(self, offers: Offers, ready: Sequence[bool]) -> Shown:
        """A row is offered as soon as it is full or ends its group; one row in and one out a cycle."""
        if self.ended:
            row = (tuple(self.elements), True)
            if ready[0]:
                self.elements, self.ended = [], False
            return [False], [row]
        if offers[0] is None:
            return [False], [None]
        assert isinstance(offers[0], tuple)
        elements, last = [*self.elements, *offers[0][0]], offers[0][1]
        first, rest = elements[: self.lanes], elements[self.lanes :]
        emits = last or len(first) == self.lanes
        takes = ready[0] or not emits
        if takes:
            self.elements = rest if emits else elements
            self.ended = last and bool(rest)
        return [takes], [(tuple(first), last and not rest) if emits else None]
