"""The one interface of every memory: per cycle for the netlist's ports, per group of bursts for the transaction model.

Ports: a channel takes at most one request and gives at most one read answer and one write acknowledgement a cycle.
A request offered but not accepted is offered again, unchanged, until it is. Answers carry the request's tag and may
come in any order.
Groups: `submit` puts bursts at the ports, each no earlier than its issue cycle, and `finish` says when each is done.
One memory is driven through one face at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.memory.energy import EnergyBreakdown

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
NONE = -1


@dataclass(frozen=True)
class PortCycles:
    """What the ports answered: arrays [channels] of one cycle or [cycles, channels] of several.

    `accepted`: the offer was taken. `read_tag`, `write_tag`: tag of the read whose last data beat has arrived, or of
    the write whose data the memory has taken; -1 where there is none.
    """

    accepted: BoolArray
    read_tag: IntArray
    write_tag: IntArray


@dataclass(frozen=True)
class Completions:
    """Cycles in which bursts were accepted by their port and done, in the order submitted; -1 where not yet."""

    accepted_cycles: IntArray
    done_cycles: IntArray

    @property
    def last_cycle(self) -> int:
        """Cycle in which the last burst is done; -1 for an empty group."""
        return int(self.done_cycles.max(initial=NONE))


@dataclass(frozen=True)
class MemoryStatistics:
    """Totals since cycle 0. Queueing is from acceptance to the read or write command.

    `row_hits` are bursts that found their row opened by an earlier one; `late_requests` were submitted after their
    channel had been simulated past their issue cycle.
    """

    cycles: int
    reads: int
    writes: int
    activates: int
    precharges: int
    refreshes: int
    row_hits: int
    queue_cycles: int
    queue_cycles_max: int
    late_requests: int
    burst_bytes: int
    peak_bytes_per_cycle: float
    energy: EnergyBreakdown

    @property
    def bursts(self) -> int:
        """Reads and writes."""
        return self.reads + self.writes

    @property
    def row_hit_rate(self) -> float:
        """Share of bursts that hit an open row; 0 where there were none."""
        return self.row_hits / self.bursts if self.bursts else 0.0

    @property
    def mean_queue_cycles(self) -> float:
        """Mean queueing of a burst; 0 where there were none."""
        return self.queue_cycles / self.bursts if self.bursts else 0.0

    @property
    def bytes_per_cycle(self) -> float:
        """Bandwidth over all cycles; GB/s at 1 GHz."""
        return self.bursts * self.burst_bytes / self.cycles if self.cycles else 0.0

    @property
    def efficiency(self) -> float:
        """Bandwidth over the peak of all channels."""
        return self.bytes_per_cycle / self.peak_bytes_per_cycle


class Memory(Protocol):
    """A memory behind `channels` ports; every method raises ValueError for an address outside it."""

    @property
    def channels(self) -> int:
        """Number of ports."""

    @property
    def now_cycle(self) -> int:
        """The next cycle that `step` simulates."""

    def channel_of(self, addresses: npt.ArrayLike) -> IntArray:
        """Port that serves each byte address."""

    def step(
        self,
        valid: npt.ArrayLike,
        addresses: npt.ArrayLike,
        tags: npt.ArrayLike,
        writes: npt.ArrayLike | None = None,
    ) -> PortCycles:
        """One cycle of the ports; arguments [channels], `writes` all reads by default, tags not negative."""

    def steps(
        self,
        valid: npt.ArrayLike,
        addresses: npt.ArrayLike,
        tags: npt.ArrayLike,
        writes: npt.ArrayLike | None = None,
    ) -> PortCycles:
        """Several cycles of the ports; arguments [cycles, channels]. An offer lasts the cycle it stands in."""

    def submit(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> int:
        """Queue bursts [n] at their ports, first come first served within a channel; returns the group's ticket."""

    def advance(self, until_cycle: int) -> None:
        """Simulate every channel up to, not including, this cycle."""

    def completions(self, ticket: int) -> Completions:
        """What is known of a group so far."""

    def finish(self, ticket: int) -> Completions:
        """Simulate until every burst of the group is done, and forget the group."""

    def run(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> Completions:
        """`submit` and `finish`."""

    def waiting(self) -> Sequence[str]:
        """For a watchdog: one line a channel that owes an answer, saying how many and since when."""
