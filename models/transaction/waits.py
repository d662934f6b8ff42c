"""What a process can wait for besides time, and what the kernel knows of processes and channels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import simpy


class TransactionError(RuntimeError):
    """A model that is put together or used wrongly; says what, where and what would work."""


class Awaited(Protocol):
    """What a process can wait for besides time: a channel or an event, known by name."""

    @property
    def name(self) -> str:
        """Unique in the simulation."""

    def missing(self, purpose: str) -> str:
        """What a process lacks that waits for this `purpose`, in words."""

    def partners(self, purpose: str) -> "tuple[simpy.Process, ...]":
        """The processes that could end such a wait."""


class Channel(Awaited, Protocol):
    """What the kernel knows of a channel."""

    @property
    def occupancy(self) -> int:
        """Items inside."""

    @property
    def capacity(self) -> int:
        """Most items inside."""


class Wait(simpy.Event):
    """A wait for `purpose` of a channel or an event, begun in `since`.

    At `rest` the run may end in it. One that `claims` takes or gives an item when it ends, waited for or not.
    """

    def __init__(
        self,
        env: simpy.Environment,
        source: Awaited,
        purpose: str,
        since: int,
        rest: bool = False,
        claims: bool = False,
    ) -> None:
        super().__init__(env)
        self.source, self.purpose, self.since, self.rest, self.claims = source, purpose, since, rest, claims

    def complete(self, value: object, delay_cycles: int) -> None:
        """End the wait with `value`, so many cycles from now."""
        self._ok, self._value = True, value
        self.env.schedule(self, delay=delay_cycles)


class Several(simpy.events.Condition):
    """A wait for all, or the first, of several; at `rest` if the run may end in it."""

    def __init__(
        self, env: simpy.Environment, parts: Iterable[simpy.Event], all_of_them: bool, rest: bool = False
    ) -> None:
        self.parts, self.rest = tuple(parts), rest
        super().__init__(env, self.all_events if all_of_them else self.any_events, self.parts)


@dataclass(frozen=True)
class ProcessInfo:
    """A process: its name and the module it belongs to."""

    name: str
    module: str
