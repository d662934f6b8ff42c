"""A pipeline of the netlist as a channel: all stages move together, or none (`hls/lower.py`).

    advance = out_ready | ~out_valid          in_ready = advance

An item put in a cycle in which the pipeline moves is at the output after `latency_cycles` cycles in which it moves.
While the first item is at the output and nobody takes it, nothing moves and nothing goes in; bubbles stay. One item a
cycle. With o(n) the cycle in which item n is at the output and g(n) that in which it is taken:

    o(n) = p(n) + latency + stalls since p(n)     stall n lasts from o(n) to before g(n)     p(n) is in no stall

A FIFO or skid buffer of the netlist is a `Fifo` with a latency and a credit of one cycle.
"""

from collections import deque
from typing import TypeVar

import simpy

from models.transaction.channel import ITEM, SPACE, Fifo
from models.transaction.kernel import Simulation
from models.transaction.waits import TransactionError, Wait

T = TypeVar("T")


class Pipeline(Fifo[T]):
    """A channel of `latency_cycles` stages that stall together; it is used as any `Fifo`.

    `can_put` and `try_put` see a stall end only after the item at the output was taken in this cycle.
    """

    def __init__(self, simulation: Simulation, name: str, latency_cycles: int) -> None:
        if latency_cycles < 1:
            raise TransactionError(f"pipeline {name}: a latency of {latency_cycles} cycles; it has at least 1 stage")
        super().__init__(simulation, name, latency_cycles, latency_cycles)
        self._inside: deque[tuple[int, T]] = deque()  # each with the move after which it is at the output
        self._stalled_cycles = 0
        self._next_move = 0  # the first in which another item can go in

    @property
    def occupancy(self) -> int:
        """Items put and not asked for."""
        return len(self._inside)

    def put(self, item: T) -> simpy.Event:
        """Put an item; the wait ends in the cycle in which it is in the first stage."""
        self._writers.setdefault(self._env.active_process)
        wait = Wait(self._env, self, SPACE, self._now(), claims=True)
        self._putters.append((wait, item))
        self._settle()
        return wait

    def get(self, rest: bool = False) -> simpy.Event:
        """Take the first item; the wait ends with it, in the cycle in which it comes out; `rest` as in `Fifo.get`."""
        self._readers.setdefault(self._env.active_process)
        wait = Wait(self._env, self, ITEM, self._now(), rest, claims=True)
        self._getters.append(wait)
        self._settle()
        return wait

    def try_put(self, item: T) -> bool:
        """Put an item if the pipeline moves in this cycle, as far as is known; says whether."""
        self._writers.setdefault(self._env.active_process)
        if not self.can_put():
            return False
        self._enter(self._now(), self._now(), item)
        return True

    def try_get(self) -> T | None:
        """Take the first item if it is at the output, else None."""
        self._readers.setdefault(self._env.active_process)
        if not self.can_get():
            return None
        item = self._leave(self._now())
        self._settle()
        return item

    def can_put(self) -> bool:
        """The pipeline moves in this cycle, as far as is known, and no other item goes in."""
        return not self._putters and self._can_enter(self._now()) and self._entry(self._now()) == self._now()

    def can_get(self) -> bool:
        """An item is at the output."""
        return bool(self._inside) and not self._getters and self._output_cycle() <= self._now()

    def readable(self) -> simpy.Event:
        """When `can_get` next holds; another reader may still be faster."""
        if self._inside:
            return self._simulation.wait(max(0, self._output_cycle() - self._now()))
        self._readable = self._readable or Wait(self._env, self, ITEM, self._now())
        return self._readable

    def writable(self) -> simpy.Event:
        """When `can_put` next holds; another writer may still be faster."""
        entry = self._entry(self._now())
        if not self._putters and self._can_enter(entry):
            return self._simulation.wait(entry - self._now())
        self._writable = self._writable or Wait(self._env, self, SPACE, self._now())
        return self._writable

    def _output_cycle(self) -> int:
        """The cycle in which the first item is at the output."""
        return self._inside[0][0] + self._stalled_cycles

    def _entry(self, requested: int) -> int:
        """The first cycle in which an item can go in if nothing stalls."""
        return max(requested, self._next_move + self._stalled_cycles)

    def _can_enter(self, cycle: int) -> bool:
        """No item is at the output that might stay."""
        return not self._inside or self._output_cycle() > cycle

    def _settle(self) -> None:
        """Let items out and in as far as requests allow."""
        while True:
            if self._inside and self._getters:
                wait = self._getters.popleft()
                cycle = max(wait.since, self._output_cycle())
                self.get_wait_cycles += cycle - wait.since
                wait.complete(self._leave(cycle, wait.since), cycle - self._now())
            elif self._putters and self._can_enter(self._entry(max(self._putters[0][0].since, self._now()))):
                put, item = self._putters.popleft()
                cycle = self._entry(max(put.since, self._now()))
                self.put_wait_cycles += cycle - put.since
                put.complete(None, cycle - self._now())
                self._enter(put.since, cycle, item)
            else:
                return

    def _enter(self, requested: int, cycle: int, item: T) -> None:
        for monitor in self.monitors:
            monitor.on_put(requested, cycle, item)
        move = cycle - self._stalled_cycles
        self._next_move = move + 1
        self._inside.append((move + self.latency_cycles, item))
        if self._readable is not None:
            self._readable.complete(None, max(0, self._output_cycle() - self._now()))
            self._readable = None

    def _leave(self, cycle: int, requested: int | None = None) -> T:
        self._stalled_cycles += cycle - self._output_cycle()
        _, item = self._inside.popleft()
        self.transfers += 1
        for monitor in self.monitors:
            monitor.on_get(cycle if requested is None else requested, cycle)
        if self._writable is not None:
            self._writable.complete(None, cycle - self._now())
            self._writable = None
        return item
