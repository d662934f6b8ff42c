"""How a run ends in which nothing happens any more: who waits for whom, round and round, and what every channel holds.

A process that waits for an item waits for the processes that write the channel, one that waits for space for those
that read it. A run has ended well if every process has ended or waits where it may rest, and the channels are empty.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import simpy

from models.transaction.waits import Channel, ProcessInfo, Several, TransactionError, Wait


@dataclass(frozen=True)
class Waiting:
    """One process of a deadlock: its name, what it lacks, since when, and the processes that could give it."""

    process: str
    lacks: str
    since_cycle: int | None
    partners: tuple[str, ...]

    def __str__(self) -> str:
        since = "" if self.since_cycle is None else f" since cycle {self.since_cycle}"
        return f"{self.process} waits for {self.lacks}{since}"


class DeadlockError(TransactionError):
    """Nothing can happen any more, and something should.

    Attributes:
        at_cycle: in which the run stopped.
        circle: the processes that wait for each other in a circle, each for the next and the last for the first; empty
            if there is no circle.
        waiting: every process that waits.
        occupancy: items inside and capacity of every channel, by name.
    """

    def __init__(
        self,
        at_cycle: int,
        circle: tuple[Waiting, ...],
        waiting: tuple[Waiting, ...],
        occupancy: dict[str, tuple[int, int]],
    ) -> None:
        self.at_cycle, self.circle, self.waiting, self.occupancy = at_cycle, circle, waiting, occupancy
        lines = [f"deadlock in cycle {at_cycle}: nothing is left to happen and the run has not ended"]
        if circle:
            lines.append("they wait in a circle: " + "; ".join(map(str, circle)) + f"; and {circle[0].process} again")
        lines.append("all that wait: " + ("; ".join(map(str, waiting)) or "nobody"))
        lines.append("channels: " + (", ".join(f"{n} {i} of {c}" for n, (i, c) in occupancy.items()) or "none"))
        super().__init__("\n".join(lines))


def check_ended(cycle: int, processes: Mapping[simpy.Process, ProcessInfo], channels: Sequence[Channel]) -> None:
    """Raise `DeadlockError` if a run in which nothing is left to happen has not ended well."""
    stuck = {p: info for p, info in processes.items() if p.is_alive}
    parts = {p: tuple(_parts(p.target)) for p in stuck}
    if all(getattr(p.target, "rest", False) for p in stuck) and not any(channel.occupancy for channel in channels):
        return
    partners = {p: tuple(q for e in parts[p] for q in _partners(e)) for p in stuck}

    def described(process: simpy.Process) -> Waiting:
        waits = [e for e in parts[process] if isinstance(e, Wait)]
        return Waiting(
            stuck[process].name,
            " or ".join(_missing(processes, e) for e in parts[process]),
            min((w.since for w in waits), default=None),
            tuple(dict.fromkeys(processes[q].name for q in partners[process] if q in processes)),
        )

    raise DeadlockError(
        cycle,
        tuple(described(p) for p in _circle({p: tuple(q for q in partners[p] if q in stuck) for p in stuck})),
        tuple(described(p) for p in stuck),
        {channel.name: (channel.occupancy, channel.capacity) for channel in channels},
    )


def _parts(event: simpy.Event | None) -> Iterator[simpy.Event]:
    """What is still to happen of what a process waits for."""
    if isinstance(event, Several):
        for part in event.parts:
            yield from _parts(part)
    elif event is not None and not event.triggered:
        yield event


def _partners(event: simpy.Event) -> tuple[simpy.Process, ...]:
    if isinstance(event, Wait):
        return event.source.partners(event.purpose)
    return (event,) if isinstance(event, simpy.Process) else ()


def _missing(processes: Mapping[simpy.Process, ProcessInfo], event: simpy.Event) -> str:
    if isinstance(event, Wait):
        return event.source.missing(event.purpose)
    if isinstance(event, simpy.Process) and event in processes:
        return f"the end of {processes[event].name}"
    return f"an event of its own ({type(event).__name__})"


def _circle(partners: dict[simpy.Process, tuple[simpy.Process, ...]]) -> list[simpy.Process]:
    """The first circle that a depth-first search finds, empty if there is none."""
    done: set[simpy.Process] = set()
    for start in partners:
        path = [start]
        choices = [iter(partners[start])]
        while path and start not in done:
            following = next(choices[-1], None)
            if following is None:
                done.add(path.pop())
                choices.pop()
            elif following in path:
                return path[path.index(following) :]
            elif following not in done:
                path.append(following)
                choices.append(iter(partners[following]))
    return []
