"""HBM2 behind the interface of `interface.py`: both faces drive the same compiled engine (`engine.py`).

architecture.md, datapath 14: 16 channels of 128 bits at 2 GT/s, 32 GB/s each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.memory import engine, ports, state
from models.memory.address_map import AddressMap
from models.memory.energy import Hbm2Energy
from models.memory.interface import NONE, BoolArray, Completions, IntArray, MemoryStatistics, PortCycles
from models.memory.timing import Hbm2Timing


def _shaped(values: npt.ArrayLike, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.asarray(values, dtype)
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    return np.ascontiguousarray(array)


class Command(NamedTuple):
    """One command of the trace; `bank` counts over all groups, -1 where a field does not apply."""

    cycle: int
    channel: int
    pseudo_channel: int
    name: str
    bank: int
    row: int
    column: int
    tag: int


class Hbm2Memory:
    """HBM2 of `channels` channels; see `interface.Memory` for the methods shared by all memories.

    Arguments: channels (a power of two), timing, address map, energy, and `trace_capacity`, the number of commands to
    keep for `trace` (0: none). Raises ValueError where the address map does not cover the organization.
    """

    def __init__(
        self,
        channels: int = 16,
        timing: Hbm2Timing | None = None,
        address_map: AddressMap | None = None,
        energy: Hbm2Energy | None = None,
        trace_capacity: int = 0,
    ) -> None:
        self.timing = timing or Hbm2Timing.default()
        self.address_map = address_map or AddressMap.default(channels, self.timing)
        self.energy = energy or Hbm2Energy.default()
        self._channels = channels
        self._check_map()
        self._layout = self.address_map.layout()
        self._state = state.new_state(channels, self.timing.delays(), self._layout, trace_capacity)
        self._requests = np.zeros(0, state.REQUEST)
        self._filled = 0
        self._groups: dict[int, tuple[int, int, IntArray]] = {}
        self._tickets = 0

    def _check_map(self) -> None:
        t = self.timing
        sizes = {
            "channel": self._channels,
            "pseudo_channel": t.pseudo_channels,
            "bank_group": t.bank_groups,
            "bank": t.banks_per_group,
            "row": t.rows,
            "column": t.columns,
        }
        for field, size in sizes.items():
            bits = self.address_map.bits_of(field)
            if 1 << bits != size:
                need = (size - 1).bit_length()
                raise ValueError(f"address map gives {field} {bits} bits, but there are {size}; {need} bits work")
        if t.queue_depth > engine.NO_SLOT:
            raise ValueError(f"queue_depth = {t.queue_depth} is too large; {engine.NO_SLOT} works")
        if self.address_map.burst_bytes != t.burst_bytes:
            raise ValueError(
                f"address map has bursts of {self.address_map.burst_bytes} bytes, the memory of {t.burst_bytes}"
            )

    @property
    def channels(self) -> int:
        """Number of ports."""
        return self._channels

    @property
    def now_cycle(self) -> int:
        """The next cycle that `step` simulates: the furthest that any channel has got."""
        return int(self._state.channel["now"].max())

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
        offer, address, tag = (np.asarray(a)[None] for a in (valid, addresses, tags))
        reply = self.steps(offer, address, tag, None if writes is None else np.asarray(writes)[None])
        return PortCycles(reply.accepted[0], reply.read_tag[0], reply.write_tag[0])

    def steps(
        self,
        valid: npt.ArrayLike,
        addresses: npt.ArrayLike,
        tags: npt.ArrayLike,
        writes: npt.ArrayLike | None = None,
    ) -> PortCycles:
        """Several cycles of the ports in one compiled call; arguments [cycles, channels].

        Raises RuntimeError while a submitted group is unfinished.
        """
        s = self._state
        if self._groups and s.channel["unfinished"].any():
            raise RuntimeError("a submitted group is unfinished; finish() it before stepping the ports")
        offered: BoolArray = np.ascontiguousarray(valid, dtype=np.bool_)
        shape = offered.shape
        if len(shape) != 2 or shape[1] != self._channels:
            raise ValueError(f"ports are {self._channels} channels wide, got an array of shape {shape}")
        address = _shaped(addresses, np.dtype(np.int64), shape)
        tag = _shaped(tags, np.dtype(np.int64), shape)
        write = _shaped(False if writes is None else writes, np.dtype(np.bool_), shape)
        refused = ports.refused_offer(offered, address, tag, self._layout)
        if refused != NONE:
            cycle, port = divmod(refused, self._channels)
            self._refuse(port, int(address[cycle, port]), int(tag[cycle, port]))
        accepted, answers = np.zeros(shape, np.bool_), np.empty((2, *shape), np.int64)
        ports.steps(*s, offered, address, write, tag, accepted, answers)
        return PortCycles(accepted, answers[engine.READ], answers[engine.WRITE])

    def _refuse(self, port: int, address: int, tag: int) -> None:
        if tag < 0:
            raise ValueError(f"port {port} was offered a request with tag {tag}; 0 is the least that works")
        channel = int(self.channel_of(address))
        raise ValueError(f"port {port} was offered address {address:#x}, which channel {channel} serves")

    def submit(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> int:
        """Queue bursts [n] at their ports; returns the group's ticket.

        Within the group a channel takes bursts by issue cycle, ties in order; groups queue behind one another. Raises
        RuntimeError while a request taken by `step` is unanswered.
        """
        if self._state.channel["owes"].any():
            raise RuntimeError("the ports owe answers to step(); step until they came before submitting a group")
        address = np.ascontiguousarray(addresses, dtype=np.int64)
        (count,) = address.shape
        issue = _shaped(issue_cycles, np.dtype(np.int64), (count,))
        write = _shaped(False if writes is None else writes, np.dtype(np.bool_), (count,))
        order = np.empty(count, np.int64)
        outside = ports.channel_order(address, self._layout, np.zeros(self._channels + 1, np.int64), order)
        if outside != NONE:
            self.channel_of(address[outside])
        if (issue[1:] < issue[:-1]).any():
            order = np.lexsort((issue, self.channel_of(address)))
        first, last = self._filled, self._filled + count
        if last > len(self._requests):
            grown = np.empty(max(last, 2 * len(self._requests)), state.REQUEST)
            grown[:first] = self._requests[:first]
            self._requests = grown
        new = self._requests[first:last]
        ports.fill(self._state.channel, new, order, address, issue, write, self._layout)
        ports.enqueue(self._state.channel, self._requests, first, last)
        self._filled = last
        self._tickets += 1
        self._groups[self._tickets] = (first, last, order)
        return self._tickets

    def advance(self, until_cycle: int) -> None:
        """Simulate every channel up to, not including, this cycle."""
        self._advance(until_cycle, (0, 0), np.full(self._channels, engine.NEVER))

    def _advance(self, until_cycle: int, group: tuple[int, int], remaining: IntArray) -> None:
        s = self._state
        ports.advance(s.channel, s.trace, s.traced, self._requests, until_cycle, *group, remaining)

    def completions(self, ticket: int) -> Completions:
        """What is known of a group so far."""
        first, last, order = self._group(ticket)
        accepted, done = np.empty(last - first, np.int64), np.empty(last - first, np.int64)
        ports.outcome(self._requests[first:last], order, accepted, done)
        return Completions(accepted, done)

    def finish(self, ticket: int) -> Completions:
        """Simulate until every burst of the group is served, and forget the group.

        Each channel stops after its last command for the group, so a later group may still share it from then on.
        """
        first, last, _ = self._group(ticket)
        left = np.zeros(self._channels, np.int64)
        ports.unserved(self._requests[first:last], left)
        self._advance(engine.NEVER, (first, last), left)
        result = self.completions(ticket)
        del self._groups[ticket]
        if not self._groups:
            self._filled = 0
        return result

    def run(
        self,
        addresses: npt.ArrayLike,
        issue_cycles: npt.ArrayLike = 0,
        writes: npt.ArrayLike | None = None,
    ) -> Completions:
        """`submit` and `finish`."""
        return self.finish(self.submit(addresses, issue_cycles, writes))

    def _group(self, ticket: int) -> tuple[int, int, IntArray]:
        if ticket not in self._groups:
            known = ", ".join(map(str, sorted(self._groups))) or "none"
            raise KeyError(f"no group has ticket {ticket}; unfinished: {known}")
        return self._groups[ticket]

    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer to the ports, saying how many."""
        return [f"channel {c} owes {n} answers" for c, n in enumerate(self._state.channel["owes"].tolist()) if n]

    def statistics(self) -> MemoryStatistics:
        """Totals since cycle 0, over all channels."""
        s = self._state
        p = s.channel["pseudo_channel"]
        total = {name: int(p[name].sum()) for name in state.PSEUDO_CHANNEL.names or ()}
        burst = self.timing.burst_bytes
        return MemoryStatistics(
            cycles=max(self.now_cycle, int(s.channel["last_done"].max())),
            reads=total["reads"],
            writes=total["writes"],
            activates=total["activates"],
            precharges=total["precharges"],
            refreshes=total["refreshes"],
            row_hits=total["row_hits"],
            queue_cycles=total["queue_cycles"],
            queue_cycles_max=int(p["queue_cycles_max"].max()),
            late_requests=int(s.channel["late"].sum()),
            burst_bytes=burst,
            peak_bytes_per_cycle=self._channels * self.timing.peak_bytes_per_cycle,
            energy=self.energy.of(total["activates"], burst * total["reads"], burst * total["writes"]),
        )

    def trace(self) -> list[Command]:
        """Commands so far, by cycle. Raises RuntimeError where they did not fit `trace_capacity`."""
        count = int(self._state.traced[0])
        if count > len(self._state.trace):
            raise RuntimeError(f"{count} commands did not fit trace_capacity = {len(self._state.trace)}; {count} works")
        rows = self._state.trace[:count].tolist()
        commands = [Command(c, ch, p, engine.COMMAND_NAMES[name], *rest) for c, ch, p, name, *rest in rows]
        return sorted(commands, key=lambda command: command.cycle)
