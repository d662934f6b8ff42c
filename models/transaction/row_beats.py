"""Beats of chosen rows through Q x K, and when their probabilities come out of the flat-row decision.

Three places, as in `hls.datapaths.row_issue`: the n query lines of a row are read, it waits for the row before, and its
beats go, one a cycle where the beat's segment of the K buffer has landed. From there nothing stalls, so softmax and
decision follow by their latencies (`hls.datapaths.softmax`):

    chosen T -> query read E >= T + 2n -> first beat S + 1, S >= E + 1 -> Q x K -> softmax -> probabilities
                                          beat of a segment that has landed in L: not before L + `landed_seen`

A pass has passed when all segments are there and no more of its beats are left than a new list for the buffer cannot
reach before them (`hls.datapaths.row_issue_replay`). All is computed as soon as it is known what has landed.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hls.datapaths.machine_sizes import MachineSizes
from models.config import AcceleratorConfig
from models.transaction.machine_timing import MachineTiming
from models.transaction.register_timing import RowTiming


@dataclass(slots=True)
class Row:
    """A query row of a head.

    `begins`: cycle of the first beat of its probabilities, of the latest pass, 0 before; `settled`: that is its last.
    """

    job: int
    row: int
    beats: int
    visible: int
    flat: bool
    ends_key: bool
    kv: int
    begins: int = 0
    settled: bool = False


@dataclass(slots=True)
class Chosen:
    """A pass of a row; cycles are 0 as long as they are not known.

    Attributes:
        row: the row.
        chosen: T.
        second: with all bits.
        landed: cycles from which segments of its K buffer are seen to be there, as they become known.
        read: E.
        begun: S.
        last: of its last beat.
        passed: from which it has passed; of a first pass, in which that is told.
    """

    row: Row
    chosen: int
    second: bool
    landed: Sequence[int]
    read: int = 0
    begun: int = 0
    last: int = 0
    passed: int = 0


class RowBeats:
    """The three places, for one layer after another.

    Attributes:
        latest: the last pass that was chosen, in this layer.
        known: how often something of a pass has become known.
    """

    def __init__(self, machine: AcceleratorConfig, timing: MachineTiming) -> None:
        sizes = MachineSizes.of(machine)
        self.timing, self.registers = timing, RowTiming.of(machine)
        self.segments, self.segment_rows = sizes.segments, sizes.segment_rows
        self.latest: Chosen | None = None
        self.known = 0
        self._rate_shift = sizes.fetch_rate_shift
        self._waiting: deque[Chosen] = deque()
        self._parts, self._progressive = 1, False
        self._begun = self._last = self._scores_end = self._exponentials_end = 0

    def begin(self, parts: int, progressive: bool) -> None:
        """A layer, of queries of `parts` lines each."""
        self._parts, self._progressive, self.latest = parts, progressive, None

    def choose(self, row: Row, cycle: int, second: bool, landed: Sequence[int]) -> Chosen:
        """The next pass."""
        self.latest = chosen = Chosen(row, cycle, second, landed)
        before = self._waiting[-1] if self._waiting else None
        self._waiting.append(chosen)
        if before is None or before.begun:
            self._read(chosen, before.begun if before is not None else self._begun)
        return chosen

    def advance(self, now: int) -> Iterator[Chosen]:
        """What is known in cycle `now`: passes of which everything is, in order."""
        waiting = self._waiting
        while waiting:
            chosen = waiting[0]
            if not chosen.begun:
                self._begun = chosen.begun = max(chosen.read + 1, self._last)
                self.known += 1
            if len(waiting) > 1 and not waiting[1].read:
                self._read(waiting[1], chosen.begun)
                self.known += 1
            if not (chosen.last or self._send(chosen)) or not self._passes(chosen, now):
                return
            waiting.popleft()
            self.known += 1
            yield chosen

    @property
    def due(self) -> int:
        """A cycle in which more will be known, whatever lands; 0 if there is none."""
        return self._waiting[0].last if self._waiting else 0

    def _read(self, chosen: Chosen, begun_before: int) -> None:
        registers, behind = self.registers, (self._parts - 1) * self.registers.next_query
        chosen.read = max(chosen.chosen + registers.first_query, begun_before + 1) + behind

    def _beat(self, chosen: Chosen, beat: int) -> int:
        """The cycle of a beat."""
        cycle = chosen.begun + 1 + beat
        for segment in range(1, beat // self.segment_rows + 1):
            cycle = max(cycle, chosen.landed[segment] + self.registers.landed_seen + beat - segment * self.segment_rows)
        return cycle

    def _send(self, chosen: Chosen) -> bool:
        """Its beats and what follows from them, if it is known when its keys have landed."""
        t, row = self.timing, chosen.row
        if len(chosen.landed) <= (row.beats - 1) // self.segment_rows:
            return False
        self._last = chosen.last = self._beat(chosen, row.beats - 1)
        scores = max(chosen.last + 1 + t.query_key + t.maximum, self._scores_end)
        exponentials = max(scores + row.beats - 1 + t.sums, self._exponentials_end)
        self._scores_end, self._exponentials_end = scores + row.beats, exponentials + row.beats
        row.begins = exponentials + t.normalize + t.decision
        self.known += 1
        return True

    def _passes(self, chosen: Chosen, now: int) -> bool:
        """When it has passed, if that is known or need not be."""
        if self._progressive and not chosen.second:
            return True
        # with its last beat at the latest
        over = chosen.last + chosen.second
        if len(chosen.landed) < self.segments:
            chosen.passed = over if now >= chosen.last else 0
            return now >= chosen.last
        spare = chosen.row.beats - 1 >> self._rate_shift
        before = chosen.row.beats - 1 - spare
        nearly = self._beat(chosen, before - 1) + 1 if before else chosen.begun + 1
        all_there = max(chosen.begun + self.registers.buffer_seen, max(chosen.landed) + self.registers.all_landed_seen)
        chosen.passed = min(over, max(nearly, all_there) + 1)
        return True
