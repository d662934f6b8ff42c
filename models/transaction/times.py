"""Cycles in which something happens again and again, known as soon as they can be computed, often before they come.

Modules of the row side compute when their rows come and go, so most of them need no step of the kernel: who needs the
n-th time of another module reads it, or waits until it is known. Nothing is known later than it happens. What follows
from such times alone is no process of the kernel: its steps go on as soon as a time is known (`follow`), which takes a
tenth of the time of an event.
"""

from collections.abc import Generator
from typing import Any

import simpy

from models.transaction.kernel import Event, Simulation


class Times:
    """The n-th time of something, n from 0; `values` are those known."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.values: list[int] = []
        self._following: list[Following] = []
        self._event = Event(simulation, name)

    def append(self, cycle: int) -> None:
        """The next time."""
        self.values.append(cycle)
        self._tell()

    def extend(self, cycles: list[int]) -> None:
        """The next times."""
        self.values.extend(cycles)
        self._tell()

    def _tell(self) -> None:
        self._event.notify()
        if self._following:
            following, self._following = self._following, []
            for steps in following:
                follow(steps)

    def at(self, index: int) -> Generator[simpy.Event, Any, int]:
        """The time of `index`, when it is known; 0 for those before the first."""
        if index < 0:
            return 0
        while len(self.values) <= index:
            yield self._event.wait()
        return self.values[index]

    def known(self, index: int) -> "Generator[Times, None, int]":
        """As `at`, in steps that `follow` takes."""
        if index < 0:
            return 0
        while len(self.values) <= index:
            yield self
        return self.values[index]

    def leads(self, steps: "Following") -> None:
        """The steps go on with the next time."""
        self._following.append(steps)

    def clear(self) -> None:
        """Begin anew; nobody may wait."""
        self.values = []


Following = Generator[Times, None, None]
"""Steps that wait for times only."""


def follow(steps: Following) -> None:
    """Take the steps, as far as they are known now, and the others when they are."""
    for times in steps:
        times.leads(steps)
        return
