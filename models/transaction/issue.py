"""Row issue: which row goes through Q x K next.

As `hls.datapaths.row_issue` and the two parts of it: a first pass when its query and the first segment of its keys are
there and everything behind has room, a second one, which goes before, when the first segment has its LSBs too. What
follows from then on is computed by `models.transaction.row_beats`.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import simpy

from hls.datapaths.machine_sizes import QUERY_LINES
from hls.datapaths.row_queues import PENDING_ROWS, queue_beats
from models.config import AcceleratorConfig
from models.transaction.channel import Fifo, In
from models.transaction.fetch_state import KEY, KEY_LSB, PURPOSES, TO_KEY
from models.transaction.fetching import FetchSide
from models.transaction.kernel import Event, Module, Simulation, Steps
from models.transaction.layer_plan import LayerPlan
from models.transaction.loader import Jobs, OperandLoader
from models.transaction.machine_timing import MachineTiming
from models.transaction.observation import Pass
from models.transaction.queue_room import freed_cycle
from models.transaction.register_timing import RowTiming
from models.transaction.row_beats import Chosen, Row, RowBeats
from models.transaction.times import Following, Times, follow
from models.transaction.value_loop import FAR


class RowIssue(Module):
    """The module.

    Attributes:
        give: takes rows, in order, when it is known when their probabilities come.
        beats: of all passes.
        passes: first and second ones.
        log: those of the layer, in order.
        key_there: cycle from which the first segment of the n-th K of the layer is there.
        key_taken: cycle in which its first row was taken.
    """

    def __init__(
        self,
        simulation: Simulation,
        machine: AcceleratorConfig,
        timing: MachineTiming,
        jobs: Jobs,
        loader: OperandLoader,
        fetch: FetchSide,
    ) -> None:
        super().__init__(simulation, "row issue")
        self.jobs, self.loader, self.fetch = jobs, loader, fetch
        self.timing, self._first_beats, self._replay_beats = RowTiming.of(machine), *queue_beats(machine)
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self.give: Callable[[Row], None]
        self._left = Event(simulation, "rows left the row queues")
        self.beats = self.passes = 0
        self.log: list[Pass] = []
        self.key_there: list[int] = []
        self.key_taken: list[int] = []
        self._row_beats = RowBeats(machine, timing)
        self._keys: list[list[int]] = []  # landing of the segments of each K
        self._coming: deque[Row] = deque()  # of which the value path does not know yet
        self._taken = Times(simulation, "rows taken")
        self._changed = Event(simulation, "row issue changed")
        self._first: tuple[Row, int] | None = None
        self._lsbs: dict[int, tuple[int, list[int]]] = {}
        self._ended = self._due = self._number = 0
        self._asks: Fifo[tuple[LayerPlan, int, int]] = Fifo(simulation, "LSB lists", 1 << 16)
        self._asked: set[int] = set()
        self._beats_in = self._dropped_beats = self._freed_beats = self._freed_at = 0
        self._drops: deque[tuple[int, int]] = deque()  # dropped first passes: first beat, and how many
        self._landing: Fifo[tuple[int, list[int]]] = Fifo(simulation, "K that lands", 1 << 16)
        self._is_progressive = self._tells_decisions = False
        self._plan: LayerPlan
        self._last_steps = Times(simulation, "last rows of jobs seen")
        self.start(self._main())
        self.start(self._land_keys(), "keys")
        self.start(self._ask(), "LSBs")

    def clear(self) -> None:
        """A layer begins."""
        self._taken.clear()
        self._last_steps.clear()
        self._lsbs.clear()
        self._keys, self._ended, self.log, self.key_there, self.key_taken = [], 0, [], [], []

    def _main(self) -> Steps:
        while True:
            plan, _ = yield self.layers.fifo.get(rest=True)
            self._plan, self._is_progressive = plan, plan.progressive
            self._row_beats.begin(plan.parts, plan.progressive)
            self._tells_decisions = plan.progressive and plan.work.generation and not plan.prunes
            follow(self._take_jobs(plan))
            if plan.progressive:
                self._number += 1
                self.start(self._walk(plan), f"walk {self._number}")
                yield from self._progressive(plan)
            else:
                yield from self._static(plan)

    def _choose(self, row: Row, cycle: int, second: bool) -> Chosen:
        """A pass of `row` is taken."""
        if row.kv == len(self.key_taken):
            self.key_taken.append(cycle)
        if not second:
            self._coming.append(row)
        landed = self._lsbs[row.kv][1] if second else self._keys[row.kv]
        chosen = self._row_beats.choose(row, cycle, second, landed)
        self._advance()
        return chosen

    def _advance(self) -> None:
        """What follows from what is known by now."""
        known = self._row_beats.known
        for chosen in self._row_beats.advance(self.simulation.now_cycle):
            row = chosen.row
            self.beats += row.beats
            self.busy_cycles += row.beats
            self.passes += 1
            decided = row.begins + row.beats - 1
            self.log.append(
                Pass(row.job, row.row, chosen.begun, row.beats, decided, row.kv, chosen.second, chosen.last)
            )
            if not chosen.second and self._tells_decisions:
                self._tell_decision(row.begins)
            row.settled = chosen.second or not (row.flat and self._is_progressive)
            if not self._is_progressive:
                self._ended = max(chosen.passed + self.timing.passed_seen, self._ended + 1)
                self._end(row, self._ended)
            elif row.flat and not chosen.second:
                self._drops.append((row.begins, row.beats))
                self._dropped_beats += row.beats
                self._left.notify()
                if row.kv not in self._lsbs and row.kv not in self._asked:
                    self._asked.add(row.kv)
                    self._asks.try_put((self._plan, row.kv, row.begins + self.timing.lsb_asked))
        while self._coming and self._coming[0].settled:
            self.give(self._coming.popleft())
        due = self._row_beats.due
        if due > self._due:
            self._due = due
            self.simulation.call(max(0, due - self.simulation.now_cycle), self._advance)
        if self._row_beats.known != known:
            self._changed.notify()

    def _tell_decision(self, cycle: int) -> None:
        """The value side may ask for LSBs then."""
        run = self.fetch.run
        run.layer["decided"][int(run.values["decisions"])] = cycle
        run.values["decisions"] += 1
        self.fetch.tell_values()

    def _land_keys(self) -> Steps:
        """Of one K after the other: rows need the segments of the next one later."""
        while True:
            yield from self._land(*(yield self._landing.get(rest=True)))

    def _land(self, buffer: int, landed: list[int]) -> Generator[simpy.Event, Any, None]:
        """Segments of a buffer land behind the first one; in generation every row needs all of them."""
        behind = range(1, self._row_beats.segments)
        for segment in reversed(behind) if self._plan.work.generation else ():
            if self.fetch.pending(buffer, segment):
                yield from self.fetch.landed(buffer, segment)
        for segment in behind:
            landed.append((yield from self.fetch.landed(buffer, segment)))
            self._advance()

    def _next_rows(self, plan: LayerPlan) -> Iterator[tuple[Row, bool, int]]:
        """Rows in order, whether a job begins with it, and the number of its K."""
        number = -1
        for j, (head, _, first, last) in enumerate(plan.jobs):
            number += first
            flat = plan.work.flat[head].tolist()
            for r in range(plan.work.rows):
                ends = last and r == plan.work.rows - 1
                yield Row(j, r, plan.beats[r], plan.visible[r], flat[r], ends, number), r == 0, number

    def _take_jobs(self, plan: LayerPlan) -> Following:
        """A job is taken when the last row of the one before is ahead, issued or not."""
        for j in range(len(plan.jobs)):
            seen = yield from self._last_steps.known(j - 1)
            self.jobs.taken["rows"].append(max(seen + 1 if j else 0, (yield from self.jobs.given["rows"].known(j))))

    def _load(self, plan: LayerPlan, row: Row, state: list[int]) -> Generator[simpy.Event, Any, None]:
        """A job is loaded, and its K is there; `state`: this, that, and the row before taken."""
        load = yield from self.jobs.taken["rows"].at(row.job)
        if plan.jobs[row.job][2]:
            yield from self.loader.key_loads.at(row.kv)
            buffer = (self.loader.loads + row.kv) % plan.key_places
            landed = yield from self.fetch.landed(buffer, 0)
            shown = self.timing.loads_shown + self.fetch.accepted_cycle(KEY, buffer)
            self.key_there.append(max(shown, landed))
            state[1] = max(load + 1, shown, landed) + 1
            self._keys.append([landed])
            self._landing.try_put((buffer, self._keys[-1]))
        state[0] = load

    def _eligible(self, plan: LayerPlan, index: int, state: list[int]) -> Generator[simpy.Event, Any, int]:
        """The first cycle in which a row may be taken, `state` as for `_load`."""
        timing, step = self.timing, max(state[0] + 1, state[1], state[2])
        if (index + 1) % plan.work.rows == 0:
            self._last_steps.append(step)
        eligible = max(step + timing.eligible, timing.query_seen + (yield from self.fetch.query(index)))
        eligible = max(eligible, timing.retired_seen + (yield from self._retired(index - PENDING_ROWS)))
        ring = QUERY_LINES // plan.parts
        if index >= ring:
            eligible = max(eligible, timing.lines_seen + (yield from self.loader.row_ends.at(index - ring)))
        return eligible

    def _retired(self, index: int) -> Generator[simpy.Event, Any, int]:
        """When the last beat of the layer's row `index` leaves its queue; 0 for those before the first."""
        values = self.fetch.run.values
        if index < 0:
            return 0
        while values["retired_n"] <= index:
            values["watch_rows"] = min(int(values["watch_rows"]), index + 1)
            yield self._left.wait()
        return int(self.fetch.run.layer["retired"][index])

    def _room(self, beats: int) -> Generator[simpy.Event, Any, int]:
        """When queue 1 has room for a row of so many beats, by those that left it or were dropped before."""
        self._beats_in += beats
        values, needed = self.fetch.run.values, self._beats_in - self._first_beats
        if needed <= 0:
            return 0
        while True:
            found = self._freed(needed)
            if found is not None and found <= self.simulation.now_cycle:
                self._freed_at = found
                return found + self.timing.room_seen
            values["watch_beats"] = min(int(values["watch_beats"]), needed - self._dropped_beats)
            waits = [self._left.wait()]
            if found is not None:
                waits.append(self.simulation.wait(found - self.simulation.now_cycle))
            yield self.simulation.any_of(waits) if len(waits) > 1 else waits[0]

    def _second_room(self, beats: int) -> int | None:
        """When queue 2 has room for so many beats of the layer, if that is known."""
        values, needed = self.fetch.run.values, beats - self._replay_beats
        if needed <= 0:
            return 0
        if values["second_left_n"] >= needed:
            return int(self.fetch.run.layer["second_left"][needed - 1]) + self.timing.second_room_seen
        values["watch_seconds"] = needed
        return None

    def _freed(self, needed: int) -> int | None:
        """The cycle in which `needed` beats are free, as far as is known; it rises with `needed`."""
        left, n, drops = self.fetch.run.layer["left"], int(self.fetch.run.values["left_n"]), self._drops
        while drops and drops[0][0] + drops[0][1] <= self._freed_at:
            self._freed_beats += drops.popleft()[1]
        wanted = needed - self._freed_beats
        return freed_cycle(left[:n], drops, wanted) if wanted > 0 else self._freed_at

    def _begin(self) -> None:
        self._beats_in = self._dropped_beats = self._freed_beats = self._freed_at = 0
        self._drops.clear()

    def _static(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        self._begin()
        state = [0, 0, 0]
        for index, (row, begins, _) in enumerate(self._next_rows(plan)):
            if begins:
                yield from self._load(plan, row, state)
            taken = yield from self._eligible(plan, index, state)
            taken = max(taken, (yield from self._room(row.beats)))
            latest = self._row_beats.latest
            if latest is not None:
                while not latest.read:
                    yield self._changed.wait()
                taken = max(taken, latest.read)
            self._choose(row, taken, False)
            state[2] = taken

    def _walk(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        self._begin()
        state = [0, 0, 0]
        for index, (row, begins, _) in enumerate(self._next_rows(plan)):
            if begins:
                yield from self._load(plan, row, state)
            state[2] = yield from self._taken.at(index - 1)
            taken = yield from self._eligible(plan, index, state)
            taken = max(taken, (yield from self._room(row.beats)))
            self._first = (row, taken)
            self._changed.notify()

    def _progressive(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        """The earlier of the next first pass and the oldest second one, where it is known that nothing comes before."""
        sim, timing, total = self.simulation, self.timing, plan.work.flat.size
        pending: deque[Row] = deque()  # after their first pass, still needing K
        second_beats, ended, taken_rows, done_rows = 0, 0, 0, 0
        replay: Chosen | None = None  # the last second pass
        self._first = None
        while done_rows < total:
            oldest = pending[0] if pending else None
            done = self._done(oldest, replay, ended) if oldest is not None else 0
            if oldest is not None and done:
                pending.popleft()
                ended = done
                self._end(oldest, ended)
                done_rows += 1
                continue
            latest = self._row_beats.latest
            read = 0 if latest is None else latest.read
            second: int | None = None
            if oldest is not None and oldest.flat and oldest.begins and not (replay and replay.row is oldest):
                lsbs, room = self._lsbs.get(oldest.kv), self._second_room(second_beats + oldest.beats)
                if lsbs is not None and room is not None:
                    shown = max(oldest.begins + timing.decision_seen, ended + 1)
                    second = max(shown + timing.second_eligible, lsbs[0], room, read)
            first = None if self._first is None else max(self._first[1], read)
            known = [cycle for cycle in (first, second) if cycle is not None]
            is_open = (first is None and taken_rows < total) or (oldest is not None and second is None)
            if not known or not (latest is None or read) or (is_open and min(known) > sim.now_cycle):
                waits = [self._changed.wait()]
                if known and min(known) > sim.now_cycle:
                    waits.append(sim.wait(min(known) - sim.now_cycle))
                yield sim.any_of(waits) if len(waits) > 1 else waits[0]
                continue
            if oldest is not None and second is not None and (first is None or second <= first):
                second_beats += oldest.beats
                replay = self._choose(oldest, second, True)
            else:
                assert self._first is not None
                assert first is not None
                row = self._first[0]
                self._first = None
                taken_rows += 1
                pending.append(row)
                self._choose(row, first, False)
                self._taken.append(first)
        self._asked.clear()

    def _done(self, row: Row, replay: Chosen | None, ended: int) -> int:
        """When the oldest row, the one before it having `ended`, needs K no more, if that is known, else 0."""
        replays = replay is not None and replay.row is row
        if replays:
            assert replay is not None
            if not replay.read:
                return 0
            ended = replay.read + 1
        elif row.flat or not row.begins:
            return 0
        else:
            ended = max(row.begins + self.timing.decision_seen, ended + 1)
        if not row.ends_key or replay is None:
            return ended
        return max(ended, replay.passed) if replay.passed else 0

    def _end(self, row: Row, cycle: int) -> None:
        """The row needs K no more."""
        self.loader.row_ends.append(cycle)
        if row.ends_key:
            self.loader.key_ends.append(cycle)

    def tell_retired(self) -> None:
        """A row or beat that was waited for has left its queue."""
        values = self.fetch.run.values
        values["watch_rows"] = values["watch_beats"] = values["watch_seconds"] = FAR
        self._left.notify()
        self._changed.notify()

    def _ask(self) -> Steps:
        while True:
            plan, number, cycle = yield self._asks.get(rest=True)
            work, place = plan.work, plan.place
            kv = [job[1] for job in plan.jobs if job[2]][number]
            buffer = (self.loader.loads + number) % plan.key_places
            yield from self.fetch.request(
                KEY_LSB,
                cycle,
                work.key_ids,
                plan.parts,
                0,
                work.keys * plan.parts,
                place["key_lsb_address"] + kv * place["key_lsb_stride"],
                plan.bits("lsb"),
                destination=TO_KEY,
                buffer=buffer,
                place=0,
                purpose=PURPOSES.index("k_lsb"),
            )
            yield from self.fetch.accepted(KEY_LSB)
            accepted = self.fetch.accepted_cycle(KEY_LSB, buffer)
            self.start(self._wait_lsb(number, buffer, accepted), f"LSBs {self._number}.{number}")

    def _wait_lsb(self, number: int, buffer: int, accepted: int) -> Generator[simpy.Event, Any, None]:
        landed = yield from self.fetch.landed(buffer, 0)
        self._lsbs[number] = (max(accepted + self.timing.lsb_settled, landed + self.timing.lsb_seen), [landed])
        self._changed.notify()
        yield from self._land(buffer, self._lsbs[number][1])
