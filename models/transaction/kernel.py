"""Modules, processes and events in integer cycles: SystemC's notions on SimPy's event queue (design page, "levels").

SimPy or a kernel of our own: both were measured on ten modules in a row with a bounded channel between neighbours,
where a step is one item read, held for some cycles and written by one module (`verification/bench_transaction.py`, CPU
time of one core, CPython 3.11): 228 k steps/s on `simpy.Store`, 223 k on `models.transaction.channel`, which adds
latency, counters and names, 1,453 k on generators and `heapq` without any of it. Ten modules need 15 k steps/s for
12,288 rows in 8 s and 25 k for 147 k rows in 60 s: SimPy takes a ninth of that time, so a well-kept library it is.
What it lacks is added here: time in whole cycles, names for whatever can wait, and a run that says why it stands still.

Order: what happens in one cycle happens in the order in which it was scheduled, the same in every run. Processes that
only use blocking transport (`put`, `get`) and one reader and one writer a channel compute times that do not depend on
that order at all; non-blocking transport sees what happened before it in the cycle.
"""

import operator
from collections.abc import Callable, Generator, Iterable
from typing import Any

import simpy
from simpy.events import NORMAL, EventPriority

from models.transaction.deadlock import check_ended
from models.transaction.waits import Channel, ProcessInfo, Several, TransactionError, Wait

BEHIND = EventPriority(NORMAL + 1)
"""Of events that come last in their cycle."""
Steps = Generator[simpy.Event, Any, Any]
"""A process: a generator that yields what it waits for, and receives what comes of it."""


class Simulation:
    """Time, processes and channels of one run. Time is a whole number of cycles from 0 on."""

    def __init__(self) -> None:
        self.env = simpy.Environment()
        self.processes: dict[simpy.Process, ProcessInfo] = {}
        self.channels: list[Channel] = []
        self._names: set[str] = set()

    @property
    def now_cycle(self) -> int:
        """The current cycle."""
        return int(self.env.now)

    def claim_name(self, name: str) -> str:
        """Reserve a name.

        Raises:
            TransactionError: if something else has it.
        """
        if not name or name in self._names:
            raise TransactionError(f"the name {name!r} is taken or empty; names are unique in a simulation")
        self._names.add(name)
        return name

    def wait(self, cycles: int) -> simpy.Event:
        """Some cycles from now; 0 lets what else is scheduled in this cycle go first.

        Raises:
            TypeError: for a time that is not a whole number.
            ValueError: for a negative one.
        """
        return self.env.timeout(operator.index(cycles))

    def call(self, cycles: int, function: Callable[[], None]) -> None:
        """Call a function some cycles from now: a process for what takes one step."""
        callbacks = self.wait(cycles).callbacks
        assert callbacks is not None
        callbacks.append(lambda _: function())

    def wait_behind(self, cycles: int) -> simpy.Event:
        """Some cycles from now, behind all else that happens in that cycle."""
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        self.env.schedule(event, BEHIND, operator.index(cycles))
        return event

    def any_of(self, events: Iterable[simpy.Event], rest: bool = False) -> simpy.Event:
        """When the first of `events` happens. The run may end in it if it is at `rest`.

        Raises:
            TransactionError: if one would take or give an item even when another is first.
        """
        parts = tuple(events)
        for part in parts:
            if isinstance(part, Wait) and part.claims:
                raise TransactionError(
                    f"one of several waits would use {part.source.name} even if another is first; "
                    f"wait until it is readable or writable, then try"
                )
        return Several(self.env, parts, all_of_them=False, rest=rest)

    def all_of(self, events: Iterable[simpy.Event]) -> simpy.Event:
        """When all of `events` have happened, processes that end included."""
        return Several(self.env, events, all_of_them=True)

    def start(self, steps: Steps, name: str, module: str = "") -> simpy.Process:
        """Start a process, `name`, a part of `module`, in the current cycle."""
        info = ProcessInfo(self.claim_name(name), module or name)
        process = self.env.process(steps)
        self.processes[process] = info
        return process

    def processes_of(self, module: str) -> tuple[simpy.Process, ...]:
        """The processes of a module, in the order of their start."""
        return tuple(p for p, info in self.processes.items() if info.module == module)

    def run(self, until_cycle: int | None = None) -> int:
        """Run until nothing is left to happen, or up to, not including, `until_cycle`; returns the cycle then.

        Raises:
            DeadlockError: if nothing is left to happen while a process waits where it may not rest, or a channel is
                not empty.
            ValueError: for an `until_cycle` that is not in the future.
        """
        self.env.run(until=until_cycle)
        if until_cycle is None:
            check_ended(self.now_cycle, self.processes, self.channels)
        return self.now_cycle


class Event:
    """Something that happens again and again and holds nothing: whoever waits when it is notified goes on."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = simulation.claim_name(name)
        self._simulation = simulation
        self._waiting: list[Wait] = []

    def wait(self, rest: bool = False) -> simpy.Event:
        """The next notification; one in the past is not remembered. The run may end in it if it is at `rest`."""
        wait = Wait(self._simulation.env, self, "notification", self._simulation.now_cycle, rest)
        self._waiting.append(wait)
        return wait

    def notify(self, value: object = None, delay_cycles: int = 0) -> None:
        """Let every process that waits go on in this cycle, or so many cycles later; each receives `value`."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            wait.complete(value, delay_cycles)

    def missing(self, purpose: str) -> str:
        """What a waiting process lacks."""
        return f"a notification of {self.name}"

    def partners(self, purpose: str) -> tuple[simpy.Process, ...]:
        """Nobody in particular notifies an event."""
        return ()


class Module:
    """A part of the machine: a name, ports, and processes that `start` begins. Counts the cycles it is busy."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = simulation.claim_name(name)
        self.busy_cycles = 0

    def start(self, steps: Steps, name: str = "main") -> simpy.Process:
        """Start a process of this module."""
        return self.simulation.start(steps, f"{self.name}.{name}", self.name)

    def busy(self, cycles: int) -> simpy.Event:
        """Wait that counts as work."""
        self.busy_cycles += cycles
        return self.simulation.wait(cycles)
