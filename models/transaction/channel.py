"""Bounded channels between modules, and the ports through which modules use them.

A `Fifo` is storage behind ready/valid in time; one of the netlist (`hls.stream`: FIFO, skid buffer of 2) has a latency
and a credit of one cycle. A pipeline of the netlist is a `models.transaction.pipeline.Pipeline`.

An item put in cycle t can be taken from t + `latency_cycles` on, in order; the slot it leaves can be filled
`credit_cycles` after it was taken. So with items put at p(n) and taken at g(n), and requests made at rp(n), rg(n):

    p(n) = max(rp(n), g(n - capacity) + credit_cycles)
    g(n) = max(rg(n), p(n) + latency_cycles)
"""

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import simpy

from models.transaction.kernel import Module, Simulation
from models.transaction.waits import TransactionError, Wait

if TYPE_CHECKING:
    from models.transaction.monitor import Monitor

T = TypeVar("T")
ITEM, SPACE = "item", "space"


class Fifo(Generic[T]):
    """A channel of at most `capacity` items.

    Blocking: `item = yield fifo.get()`, `yield fifo.put(item)`; requests are served in the order they were made.
    Non-blocking: `try_get`, `try_put`. `readable`, `writable` wait without taking or giving.

    Attributes:
        transfers: items taken so far.
        put_wait_cycles: cycles that writers waited for space.
        get_wait_cycles: cycles that readers waited for an item.
    """

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        capacity: int,
        latency_cycles: int = 0,
        credit_cycles: int = 0,
    ) -> None:
        if capacity < 1 or latency_cycles < 0 or credit_cycles < 0:
            raise TransactionError(
                f"channel {name}: {capacity} slots, latency {latency_cycles}, credit {credit_cycles} cycles; "
                f"needs at least 1 slot and no negative time"
            )
        self.name = simulation.claim_name(name)
        self.capacity, self.latency_cycles, self.credit_cycles = capacity, latency_cycles, credit_cycles
        self.transfers = self.put_wait_cycles = self.get_wait_cycles = 0
        self.monitors: list[Monitor] = []
        self.writer_module = self.reader_module = ""
        self._simulation, self._env = simulation, simulation.env
        self._items: deque[tuple[int, T]] = deque()  # each with the cycle from which it can be taken
        self._slots: deque[int] = deque([0] * capacity)  # cycle from which each free slot can be filled
        self._getters: deque[Wait] = deque()
        self._putters: deque[tuple[Wait, T]] = deque()
        self._readable: Wait | None = None
        self._writable: Wait | None = None
        self._writers: dict[simpy.Process | None, None] = {}
        self._readers: dict[simpy.Process | None, None] = {}
        simulation.channels.append(self)

    @property
    def occupancy(self) -> int:
        """Items put and not asked for."""
        return len(self._items)

    def put(self, item: T) -> simpy.Event:
        """Put an item; the wait ends in the cycle in which it is inside."""
        env = self._env
        self._writers.setdefault(env.active_process)
        wait = Wait(env, self, SPACE, int(env.now), claims=True)
        if self._slots:
            self._put_at(max(wait.since, self._slots.popleft()), wait, item)
        else:
            self._putters.append((wait, item))
        return wait

    def get(self, rest: bool = False) -> simpy.Event:
        """Take the first item; the wait ends with it, in the cycle in which it comes out.

        The run may end in it if it is at `rest`: where a reader has nothing unfinished and nothing more need come.
        """
        env = self._env
        self._readers.setdefault(env.active_process)
        wait = Wait(env, self, ITEM, int(env.now), rest, claims=True)
        if self._items:
            ready, item = self._items.popleft()
            self._get_at(max(wait.since, ready), wait, item)
        else:
            self._getters.append(wait)
        return wait

    def try_put(self, item: T) -> bool:
        """Put an item if there is space in this cycle; says whether."""
        self._writers.setdefault(self._env.active_process)
        if not self.can_put():
            return False
        self._slots.popleft()
        self._accept(self._now(), self._now(), item)
        return True

    def try_get(self) -> T | None:
        """Take the first item if it can be taken in this cycle, else None."""
        self._readers.setdefault(self._env.active_process)
        if not self.can_get():
            return None
        _, item = self._items.popleft()
        self._taken(self._now(), self._now())
        return item

    def can_put(self) -> bool:
        """There is space in this cycle."""
        return bool(self._slots) and self._slots[0] <= self._now()

    def can_get(self) -> bool:
        """An item can be taken in this cycle."""
        return bool(self._items) and self._items[0][0] <= self._now()

    def readable(self) -> simpy.Event:
        """When `can_get` next holds; another reader may still be faster."""
        if self._items:
            return self._simulation.wait(max(0, self._items[0][0] - self._now()))
        self._readable = self._readable or Wait(self._env, self, ITEM, self._now())
        return self._readable

    def writable(self) -> simpy.Event:
        """When `can_put` next holds; another writer may still be faster."""
        if self._slots:
            return self._simulation.wait(max(0, self._slots[0] - self._now()))
        self._writable = self._writable or Wait(self._env, self, SPACE, self._now())
        return self._writable

    def _now(self) -> int:
        return int(self._env.now)

    def _put_at(self, cycle: int, wait: Wait, item: T) -> None:
        """The item of a writer that waits is inside in `cycle`, now or later."""
        wait.complete(None, cycle - self._now())
        self.put_wait_cycles += cycle - wait.since
        self._accept(wait.since, cycle, item)

    def _get_at(self, cycle: int, wait: Wait, item: T) -> None:
        """A reader that waits has the item in `cycle`, now or later."""
        wait.complete(item, cycle - self._now())
        self.get_wait_cycles += cycle - wait.since
        self._taken(wait.since, cycle)

    def _accept(self, requested: int, cycle: int, item: T) -> None:
        for monitor in self.monitors:
            monitor.on_put(requested, cycle, item)
        ready = cycle + self.latency_cycles
        if self._getters:
            self._get_at(ready, self._getters.popleft(), item)
            return
        self._items.append((ready, item))
        if self._readable is not None:
            self._readable.complete(None, ready - self._now())
            self._readable = None

    def _taken(self, requested: int, cycle: int) -> None:
        self.transfers += 1
        for monitor in self.monitors:
            monitor.on_get(requested, cycle)
        free = cycle + self.credit_cycles
        if self._putters:
            self._put_at(free, *self._putters.popleft())
            return
        self._slots.append(free)
        if self._writable is not None:
            self._writable.complete(None, free - self._now())
            self._writable = None

    def missing(self, purpose: str) -> str:
        """What a process lacks that waits for this channel."""
        state = f"{self.name} ({self.occupancy} of {self.capacity})"
        return f"an item of {state}" if purpose == ITEM else f"space in {state}"

    def partners(self, purpose: str) -> tuple[simpy.Process, ...]:
        """The processes that used the other side, or could."""
        seen = self._writers if purpose == ITEM else self._readers
        module = self.writer_module if purpose == ITEM else self.reader_module
        used = tuple(p for p in seen if p is not None)
        return used or self._simulation.processes_of(module)


class _Port(Generic[T]):
    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, f"{module.name}.{name}"
        self._fifo: Fifo[T] | None = None

    @property
    def fifo(self) -> Fifo[T]:
        """The channel behind the port.

        Raises:
            TransactionError: if nothing is connected.
        """
        if self._fifo is None:
            raise TransactionError(f"port {self.name} is not connected; `connect` it to a port of another module")
        return self._fifo

    def bind(self, fifo: Fifo[T]) -> None:
        """Put a channel behind the port, once.

        Raises:
            TransactionError: if there is one already.
        """
        if self._fifo is not None:
            raise TransactionError(f"port {self.name} is connected to {self._fifo.name} already; it takes one channel")
        self._fifo = fifo


class Out(_Port[T]):
    """The port through which a module writes a channel."""

    def put(self, item: T) -> simpy.Event:
        """As `Fifo.put`."""
        return self.fifo.put(item)

    def try_put(self, item: T) -> bool:
        """As `Fifo.try_put`."""
        return self.fifo.try_put(item)


class In(_Port[T]):
    """The port through which a module reads a channel."""

    def get(self, rest: bool = False) -> simpy.Event:
        """As `Fifo.get`."""
        return self.fifo.get(rest)

    def try_get(self) -> T | None:
        """As `Fifo.try_get`."""
        return self.fifo.try_get()


def attach(writer: Out[T], reader: In[T], fifo: Fifo[T]) -> None:
    """Put a channel between two ports.

    Raises:
        TransactionError: if a port has one already.
    """
    writer.bind(fifo)
    reader.bind(fifo)
    fifo.writer_module, fifo.reader_module = writer.module.name, reader.module.name


def connect(
    writer: Out[T],
    reader: In[T],
    capacity: int,
    latency_cycles: int = 0,
    credit_cycles: int = 0,
    name: str = "",
) -> Fifo[T]:
    """Make a channel from a port to a port; its default name is `writer port -> reader port`."""
    simulation = writer.module.simulation
    fifo: Fifo[T] = Fifo(simulation, name or f"{writer.name} -> {reader.name}", capacity, latency_cycles, credit_cycles)
    attach(writer, reader, fifo)
    return fifo
