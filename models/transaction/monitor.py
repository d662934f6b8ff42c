"""What went through a channel when: log, occupancy over time, utilization. Attach it to any `Fifo` before the run.

An item is inside from the cycle it is put in to the cycle it is taken, that one not included.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.transaction.channel import Fifo

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Transfer:
    """One item: cycles of the request to put and to get it, and of what came of them (None while it is inside)."""

    item: Any
    put_requested_cycle: int
    put_cycle: int
    get_requested_cycle: int | None = None
    get_cycle: int | None = None


@dataclass
class Monitor:
    """Records a channel; `describe` makes what the log keeps of an item, which by default is the item itself."""

    fifo: Fifo[Any]
    describe: Callable[[Any], Any] = lambda item: item
    _puts: list[tuple[int, int, Any]] = field(default_factory=list)
    _gets: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fifo.monitors.append(self)

    def on_put(self, requested: int, cycle: int, item: Any) -> None:
        """Called by the channel."""
        self._puts.append((requested, cycle, self.describe(item)))

    def on_get(self, requested: int, cycle: int) -> None:
        """Called by the channel."""
        self._gets.append((requested, cycle))

    def log(self) -> list[Transfer]:
        """Every item so far, in order."""
        gets: list[tuple[int | None, int | None]] = [*self._gets]
        gets += [(None, None)] * (len(self._puts) - len(gets))
        return [
            Transfer(item, requested, put, *got) for (requested, put, item), got in zip(self._puts, gets, strict=True)
        ]

    def occupancy(self) -> tuple[IntArray, IntArray]:
        """Steps of the number of items: the cycles, rising, in which it changes, and the number from there on."""
        puts = np.array([put for _, put, _ in self._puts], np.int64)
        gets = np.array([got for _, got in self._gets], np.int64)
        cycles = np.unique(np.concatenate((puts, gets)))
        inside = np.searchsorted(puts, cycles, "right") - np.searchsorted(gets, cycles, "right")
        changed = np.diff(inside, prepend=0) != 0
        return cycles[changed], inside[changed].astype(np.int64)

    def mean_occupancy(self, cycles: int) -> float:
        """Mean number of items over the first `cycles` cycles."""
        inside = sum(max(0, cycles - put) for _, put, _ in self._puts) - sum(max(0, cycles - g) for _, g in self._gets)
        return inside / cycles if cycles else 0.0

    def max_occupancy(self) -> int:
        """Most items at the end of a cycle."""
        return int(self.occupancy()[1].max(initial=0))

    def utilization(self, cycles: int) -> float:
        """Share of the first `cycles` cycles in which an item was taken."""
        taken = {got for _, got in self._gets if got < cycles}
        return len(taken) / cycles if cycles else 0.0
