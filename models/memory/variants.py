"""Memories for tests behind the same interface: ideal (a fixed latency) and adversarial (any legal order).

Both are written per cycle, plainly; groups of bursts are driven through the ports by `PortDriven`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.memory.address_map import AddressMap
from models.memory.interface import NONE, Completions, IntArray, PortCycles
from models.memory.timing import Hbm2Timing


@dataclass
class _Group:
    issue_cycles: IntArray
    addresses: IntArray
    writes: npt.NDArray[np.bool_]
    accepted: IntArray
    done: IntArray


@dataclass
class _Channel:
    door: deque[tuple[int, int]] = field(default_factory=deque)  # (ticket, index in the group)


class PortDriven(ABC):
    """Groups of bursts on top of `step`: each channel offers its oldest burst from its issue cycle on."""

    def __init__(self, channels: int, address_map: AddressMap | None = None) -> None:
        self.address_map = address_map or AddressMap.default(channels, Hbm2Timing.default())
        self._channels = channels
        self._now = 0
        self._doors = [_Channel() for _ in range(channels)]
        self._groups: dict[int, _Group] = {}
        self._owner: dict[int, tuple[int, int]] = {}
        self._tickets = 0
        self._tags = 0

    @abstractmethod
    def _cycle(self, offers: Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        """One cycle: each channel's offer is (address, tag, write) or None."""

    @abstractmethod
    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer."""

    @property
    def channels(self) -> int:
        """Number of ports."""
        return self._channels

    @property
    def now_cycle(self) -> int:
        """The next cycle that `step` simulates."""
        return self._now

    def channel_of(self, addresses: npt.ArrayLike) -> IntArray:
        """Port that serves each byte address."""
        return self.address_map.field(addresses, "channel")

    def step(
        self,
        valid: npt.ArrayLike,
        addresses: npt.ArrayLike,
        tags: npt.ArrayLike,
        writes: npt.ArrayLike | None = None,
    ) -> PortCycles:
        """One cycle of the ports; arguments [channels]."""
        offered = np.asarray(valid, dtype=np.bool_)
        if offered.shape != (self._channels,):
            raise ValueError(f"ports are {self._channels} channels wide, got an array of shape {offered.shape}")
        address = np.where(offered, np.asarray(addresses, dtype=np.int64), 0)
        wrong = offered & (self.channel_of(address) != np.arange(self._channels))
        if wrong.any():
            port = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"port {port} was offered address {int(address[port]):#x}, "
                f"which channel {int(self.channel_of(address)[port])} serves"
            )
        tag = np.broadcast_to(np.asarray(tags, dtype=np.int64), offered.shape)
        if (offered & (tag < 0)).any():
            raise ValueError("a tag is negative; 0 is the least that works")
        write = np.broadcast_to(np.asarray(False if writes is None else writes, dtype=np.bool_), offered.shape)
        reply = self._cycle(
            [(int(a), int(t), bool(w)) if v else None for v, a, t, w in zip(offered, address, tag, write, strict=True)]
        )
        self._now += 1
        return reply

    def steps(
        self,
        valid: npt.ArrayLike,
        addresses: npt.ArrayLike,
        tags: npt.ArrayLike,
        writes: npt.ArrayLike | None = None,
    ) -> PortCycles:
        """Several cycles of the ports; arguments [cycles, channels]."""
        offered = np.asarray(valid, dtype=np.bool_)
        others = (np.asarray(a) for a in (addresses, tags, False if writes is None else writes))
        address, tag, write = (np.broadcast_to(a, offered.shape) for a in others)
        cycles = [self.step(*row) for row in zip(offered, address, tag, write, strict=True)]
        return PortCycles(
            np.array([c.accepted for c in cycles]).reshape(offered.shape),
            np.array([c.read_tag for c in cycles]).reshape(offered.shape),
            np.array([c.write_tag for c in cycles]).reshape(offered.shape),
        )

    def submit(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> int:
        """Queue bursts [n] at their ports, by issue cycle within the group; returns the group's ticket."""
        address = np.atleast_1d(np.asarray(addresses, dtype=np.int64))
        channel = self.channel_of(address)
        issue = np.broadcast_to(np.asarray(issue_cycles, dtype=np.int64), address.shape)
        write = np.broadcast_to(np.asarray(False if writes is None else writes, dtype=np.bool_), address.shape)
        self._tickets += 1
        unknown = np.full(address.shape, NONE)
        self._groups[self._tickets] = _Group(issue, address, write, unknown, unknown.copy())
        for i in np.argsort(issue, kind="stable").tolist():
            self._doors[int(channel[i])].door.append((self._tickets, i))
        return self._tickets

    def advance(self, until_cycle: int) -> None:
        """Simulate every channel up to, not including, this cycle."""
        while self._now < until_cycle:
            self._drive()

    def _drive(self) -> None:
        n = self._channels
        valid, address, tag, write = np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
        for c, queue in enumerate(self._doors):
            if queue.door:
                ticket, i = queue.door[0]
                group = self._groups[ticket]
                valid[c] = group.issue_cycles[i] <= self._now
                address[c], write[c], tag[c] = group.addresses[i], group.writes[i], self._tags + c
        now = self._now
        reply = self.step(valid, address, tag, write)
        for c in np.flatnonzero(reply.accepted).tolist():
            ticket, i = self._doors[c].door.popleft()
            self._groups[ticket].accepted[i] = now
            self._owner[int(tag[c])] = (ticket, i)
        for done in (*reply.read_tag.tolist(), *reply.write_tag.tolist()):
            if done != NONE:
                ticket, i = self._owner.pop(done)
                self._groups[ticket].done[i] = now
        self._tags += n

    def completions(self, ticket: int) -> Completions:
        """What is known of a group so far."""
        if ticket not in self._groups:
            known = ", ".join(map(str, sorted(self._groups))) or "none"
            raise KeyError(f"no group has ticket {ticket}; unfinished: {known}")
        group = self._groups[ticket]
        return Completions(group.accepted.copy(), group.done.copy())

    def finish(self, ticket: int) -> Completions:
        """Simulate until every burst of the group is done, and forget the group."""
        while (self.completions(ticket).done_cycles == NONE).any():
            self._drive()
        result = self.completions(ticket)
        del self._groups[ticket]
        return result

    def run(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> Completions:
        """`submit` and `finish`."""
        return self.finish(self.submit(addresses, issue_cycles, writes))


class IdealMemory(PortDriven):
    """Accepts a request a channel and cycle and answers it `latency_cycles` later, in order."""

    def __init__(self, channels: int = 16, latency_cycles: int = 16, address_map: AddressMap | None = None) -> None:
        super().__init__(channels, address_map)
        if latency_cycles < 1:
            raise ValueError(f"latency_cycles = {latency_cycles} answers before the request; 1 is the least that works")
        self.latency_cycles = latency_cycles
        self._pending: list[deque[tuple[int, int, bool]]] = [deque() for _ in range(channels)]

    def _cycle(self, offers: Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        tags = np.full((2, self._channels), NONE)
        for c, pending in enumerate(self._pending):
            if pending and pending[0][0] == self._now:
                _, tag, write = pending.popleft()
                tags[int(write), c] = tag
            offer = offers[c]
            if offer is not None:
                pending.append((self._now + self.latency_cycles, offer[1], offer[2]))
        return PortCycles(np.array([offer is not None for offer in offers]), tags[0], tags[1])

    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer, saying how many and until when."""
        return [
            f"channel {c} owes {len(p)} answers, the next in cycle {p[0][0]}" for c, p in enumerate(self._pending) if p
        ]


class AdversarialMemory(PortDriven):
    """Refuses, delays and reorders at random within the rules of the ports; the same seed does the same again.

    `accept` and `answer` are chances per channel and cycle. `order`: "random", "reverse" (the youngest first) or
    "oldest" answers first. A request older than `max_latency_cycles` is the next to be answered, and surely.
    After `silent_after` accepted requests (None: never) it answers nothing more: what a watchdog must see.
    """

    def __init__(
        self,
        channels: int = 16,
        seed: int = 0,
        accept: float = 0.7,
        answer: float = 0.5,
        min_latency_cycles: int = 1,
        max_latency_cycles: int = 200,
        order: str = "random",
        silent_after: int | None = None,
        address_map: AddressMap | None = None,
    ) -> None:
        super().__init__(channels, address_map)
        for name, chance in (("accept", accept), ("answer", answer)):
            if not 0 < chance <= 1:
                raise ValueError(f"{name} = {chance} is not a chance above 0 and up to 1; 1 works")
        if not 1 <= min_latency_cycles <= max_latency_cycles:
            raise ValueError(
                f"latencies {min_latency_cycles} to {max_latency_cycles} do not fit; 1 <= min <= max works"
            )
        if order not in ("random", "reverse", "oldest"):
            raise ValueError(f"order = {order!r} is none of 'random', 'reverse', 'oldest'")
        self.accept, self.answer, self.order = accept, answer, order
        self.min_latency_cycles, self.max_latency_cycles = min_latency_cycles, max_latency_cycles
        self.silent_after = silent_after
        self._random = np.random.default_rng(seed)
        self._taken = 0
        self._pending: list[list[tuple[int, int, bool]]] = [[] for _ in range(channels)]

    @property
    def _silent(self) -> bool:
        return self.silent_after is not None and self._taken >= self.silent_after

    def _choose(self, pending: list[tuple[int, int, bool]]) -> int | None:
        """Position in `pending` (oldest first) of the request to answer now."""
        if not pending or self._silent:
            return None
        if self._now - pending[0][0] >= self.max_latency_cycles:
            return 0
        ripe = [i for i, p in enumerate(pending) if self._now - p[0] >= self.min_latency_cycles]
        if not ripe or self._random.random() >= self.answer:
            return None
        if self.order == "random":
            return ripe[int(self._random.integers(len(ripe)))]
        return ripe[-1] if self.order == "reverse" else ripe[0]

    def _cycle(self, offers: Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        tags = np.full((2, self._channels), NONE)
        accepted = np.zeros(self._channels, np.bool_)
        for c, pending in enumerate(self._pending):
            chosen = self._choose(pending)
            if chosen is not None:
                _, tag, write = pending.pop(chosen)
                tags[int(write), c] = tag
            offer = offers[c]
            if offer is not None and self._random.random() < self.accept:
                accepted[c] = True
                self._taken += 1
                pending.append((self._now, offer[1], offer[2]))
        return PortCycles(accepted, tags[0], tags[1])

    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer, saying how many and since when."""
        return [
            f"channel {c} owes {len(p)} answers, the oldest since cycle {p[0][0]}"
            for c, p in enumerate(self._pending)
            if p
        ]
