"""One HBM2 channel, scheduled naively: every cycle, every request, every rule against the whole recent history.

The policy of `models/memory/engine.py` written a second time with lists and the checker's rules, for comparison
cycle by cycle; it shares neither the engine's delays nor its bookkeeping. Slow: some thousand cycles a second.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from models.memory.timing import Hbm2Timing
from verification.hbm2_checker import Rule, rules


class Request(NamedTuple):
    """One burst; `bank` counts over all bank groups."""

    issue: int
    pseudo_channel: int
    bank: int
    row: int
    column: int
    write: bool
    tag: int


class _Queued(NamedTuple):
    age: int
    request: Request


@dataclass
class _PseudoChannel:
    reads: list[_Queued] = field(default_factory=list)  # oldest first
    writes: list[_Queued] = field(default_factory=list)
    writing: bool = False
    refreshes: int = 0
    open_row: dict[int, int] = field(default_factory=dict)
    hits: dict[int, int] = field(default_factory=dict)  # bursts served since a bank was opened
    history: list[tuple[int, str, int]] = field(default_factory=list)  # cycle, command, bank

    @property
    def queue(self) -> list[_Queued]:
        return self.writes if self.writing else self.reads


class NaiveChannel:
    """`run` serves requests in order of arrival at the port and returns their cycles (accepted, done)."""

    def __init__(self, timing: Hbm2Timing) -> None:
        self.timing = timing
        self.side = [_PseudoChannel() for _ in range(timing.pseudo_channels)]
        self.row_bus_free = 0
        self.between: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules(timing):
            self.between.setdefault((rule.first, rule.second), []).append(rule)
        self.memory_cycles = max(max(r.cycles for r in rules(timing)), timing.four_activate_window_cycles) + 1

    def run(self, requests: Sequence[Request]) -> dict[int, tuple[int, int]]:
        """Cycles in which each tag was accepted and done."""
        port = deque(requests)
        accepted: dict[int, int] = {}
        done: dict[int, int] = {}
        now = 0
        while len(done) < len(requests):
            served = self._commands(now)
            if served is not None:
                t = self.timing
                latency = t.write_latency_cycles if served.write else t.read_latency_cycles
                done[served.tag] = now + latency + t.burst_cycles
            if port and port[0].issue <= now and self._has_room(port[0]):
                request = port.popleft()
                accepted[request.tag] = now
                side = self.side[request.pseudo_channel]
                (side.writes if request.write else side.reads).append(_Queued(now, request))
            now += 1
        return {tag: (accepted[tag], done[tag]) for tag in done}

    def _has_room(self, r: Request) -> bool:
        side = self.side[r.pseudo_channel]
        mine, others = (side.writes, side.reads) if r.write else (side.reads, side.writes)
        burst = (r.bank, r.row, r.column)
        hazard = any((o.request.bank, o.request.row, o.request.column) == burst for o in others)
        return len(mine) < self.timing.queue_depth and not hazard

    def _turn(self, side: _PseudoChannel) -> None:
        reads, writes, t = len(side.reads), len(side.writes), self.timing
        if not side.writing:
            side.writing = writes >= t.write_high_watermark or (writes > 0 and reads == 0)
        elif writes == 0 or (writes <= t.write_low_watermark and reads > 0):
            side.writing = False

    def _allowed(self, side: _PseudoChannel, name: str, bank: int, now: int) -> bool:
        t = self.timing
        group = bank // t.banks_per_group
        for cycle, first, other in side.history:
            for rule in self.between.get((first, name), ()):
                near = {"bank": other == bank, "group": other // t.banks_per_group == group}.get(rule.scope, True)
                if near and now - cycle < rule.cycles:
                    return False
        if name == "ACTIVATE":
            recent = [c for c, n, _ in side.history if n == "ACTIVATE" and now - c < t.four_activate_window_cycles]
            return len(recent) < 4
        if name in ("READ", "WRITE"):
            return all(self._bus_is_free(name, now, first, cycle) for cycle, first, _ in side.history)
        return True

    def _bus_is_free(self, name: str, now: int, first: str, cycle: int) -> bool:
        t = self.timing
        latency = {"READ": t.read_latency_cycles, "WRITE": t.write_latency_cycles}
        if first not in latency:
            return True
        gap = t.read_to_write_gap_cycles if (first, name) == ("READ", "WRITE") else 0
        return now + latency[name] >= cycle + latency[first] + t.burst_cycles + gap

    def _record(self, side: _PseudoChannel, now: int, name: str, bank: int) -> None:
        side.history = [h for h in side.history if now - h[0] < self.memory_cycles]
        side.history.append((now, name, bank))

    def _refresh_due(self, side: _PseudoChannel, now: int) -> bool:
        return now >= (side.refreshes + 1) * self.timing.refresh_interval_cycles

    def _commands(self, now: int) -> Request | None:
        for side in self.side:
            self._turn(side)
        served = self._column(now)
        self._row(now)
        return served

    def _column(self, now: int) -> Request | None:
        ready: list[tuple[int, _PseudoChannel, _Queued]] = []
        for side in self.side:
            if self._refresh_due(side, now):
                continue
            for queued in side.queue:
                r = queued.request
                hit = side.open_row.get(r.bank) == r.row
                if hit and self._allowed(side, "WRITE" if r.write else "READ", r.bank, now):
                    ready.append((queued.age, side, queued))
        if not ready:
            return None
        _, side, queued = min(ready, key=lambda candidate: candidate[0])
        side.queue.remove(queued)
        r = queued.request
        side.hits[r.bank] += 1
        self._record(side, now, "WRITE" if r.write else "READ", r.bank)
        return r

    def _row(self, now: int) -> None:
        ready: list[tuple[int, int, str, int, int]] = []  # age, pseudo-channel, command, bank, row
        for p, side in enumerate(self.side):
            if self._refresh_due(side, now):
                if not side.open_row and self._allowed(side, "REFRESH", -1, now):
                    ready.append((-1, p, "REFRESH", -1, -1))
                elif side.open_row and all(self._allowed(side, "PRECHARGE", b, now) for b in side.open_row):
                    ready.append((-1, p, "PRECHARGE_ALL", -1, -1))
                continue
            oldest: dict[int, _Queued] = {}
            for queued in side.queue:
                oldest.setdefault(queued.request.bank, queued)
            for bank, queued in oldest.items():
                name = self._next_row_command(side, bank, queued.request.row)
                if name and self._allowed(side, name, bank, now):
                    ready.append((queued.age, p, name, bank, queued.request.row))
        if not ready or now < self.row_bus_free:
            return
        _, p, name, bank, row = min(ready)
        side = self.side[p]
        self.row_bus_free = now + (self.timing.activate_bus_cycles if name == "ACTIVATE" else 1)
        if name == "ACTIVATE":
            side.open_row[bank], side.hits[bank] = row, 0
        if name == "REFRESH":
            side.refreshes += 1
        closed = sorted(side.open_row) if name == "PRECHARGE_ALL" else [bank] if name == "PRECHARGE" else []
        for b in closed:
            del side.open_row[b]
            self._record(side, now, "PRECHARGE", b)
        if not closed:
            self._record(side, now, name, bank)

    def _next_row_command(self, side: _PseudoChannel, bank: int, row: int) -> str | None:
        """What the oldest request of a bank needs: nothing if its row is open or others may still use the open one."""
        if bank not in side.open_row:
            return "ACTIVATE"
        if side.open_row[bank] == row:
            return None
        wanted = any(q.request.bank == bank and q.request.row == side.open_row[bank] for q in side.queue)
        return None if wanted and side.hits[bank] < self.timing.row_hit_cap else "PRECHARGE"
