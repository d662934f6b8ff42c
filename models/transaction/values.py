"""From the row queues to the outputs: retiring, token importance, both top-k engines, V, prob x V, output stage.

As `hls.datapaths.row_queues`, `row_values`, `top_k`, `kept_beats`, `value_lists`, `value_sparse`, `value_dispatch`,
`probability_value` and `output_stage`. Rows come in order and leave in order; the stages are those of the netlist, and
each takes the row when it has come, when the stage is free, and when what is behind has room.
"""

from collections import deque
from collections.abc import Generator
from typing import Any

import simpy

from hls.datapaths.row_values import ROWS_UNDER_WAY as PRUNED_ROWS
from hls.datapaths.value_sparse import ID_CYCLES
from models.config import AcceleratorConfig
from models.transaction.channel import In, Out
from models.transaction.dispatch import Dispatch, Permit
from models.transaction.engine import Engine
from models.transaction.fetch_state import PURPOSES, TO_SPARSE, TO_VALUE, VALUE
from models.transaction.fetching import FetchSide
from models.transaction.issue import Row, RowIssue
from models.transaction.kernel import Module, Simulation, Steps
from models.transaction.layer_plan import LayerPlan
from models.transaction.loader import BUFFERS, Jobs
from models.transaction.machine_timing import DISPATCH_ROWS, FIFO, MachineTiming
from models.transaction.times import Times

QUEUE_CYCLES = 3
"""From the decision of a row (a beat of a second pass) until its first beat leaves `row_queues`."""
PRIME_CYCLES = 1
"""From leaving the queue to the beat at the output of `row_queues`."""
PLACES = 11
"""Beats between `row_queues` and the lanes' FIFOs."""
ENGINE_PLACES = 5
"""Beats between `row_queues` and the rows of items for the engines."""
LISTS = 2
"""Kept lists that are written before the first one's values have landed."""
SPARSE_CYCLES = ID_CYCLES + 5
"""From the last beat of a row in `value_sparse` until it is known what is missing."""
LIST_FREE = 2
"""From the start of a row until its list may be written again."""


class ValuePath(Module):
    """The modules behind the row queues.

    Attributes:
        row_cycles: cycles in which their last beats left the row queues.
    """

    def __init__(
        self,
        simulation: Simulation,
        machine: AcceleratorConfig,
        timing: MachineTiming,
        jobs: Jobs,
        issue: RowIssue,
        dispatch: Dispatch,
        fetch: FetchSide,
    ) -> None:
        super().__init__(simulation, "value path")
        self.machine, self.timing, self.jobs, self.fetch = machine, timing, jobs, fetch
        self.issue, self.dispatch = issue, dispatch
        self.rows: In[Row] = In(self, "rows")
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self.permits: Out[Permit] = Out(self, "permits")
        self.engines = [Engine(t) for t in timing.engines]
        self.row_cycles: list[int] = []
        self._accepted = Times(simulation, "V lists accepted")
        self._jobs = Times(simulation, "value jobs")
        self._loads = self._turn = self._number = 0
        self._taken_loads = 0
        self.start(self._main())

    def _main(self) -> Steps:
        while True:
            plan, _ = yield self.layers.fifo.get(rest=True)
            for times in (self._accepted, self._jobs):
                times.clear()
            self.row_cycles = []
            self._number += 1
            self.start(self._prefetch(plan), f"prefetch {self._number}")
            yield from self._layer(plan)
            self._loads += self._taken_loads

    def _prefetch(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        """Jobs, and V of all survivors where it is wanted before a row is known."""
        work, place = plan.work, plan.place
        number, passed, accepted = 0, 0, 0
        for j, (_, kv, first, _) in enumerate(plan.jobs):
            arrives = max(passed + 1, (yield from self.jobs.given.at(j)))
            if first if not work.generation else not plan.prunes:
                load = max(arrives, accepted + 1)
                if number >= BUFFERS:
                    load = max(load, 1 + (yield from self.dispatch.released.at(number - BUFFERS)))
                accepted = yield from self.fetch.request(
                    VALUE,
                    load + 1,
                    work.key_ids,
                    plan.parts,
                    0,
                    work.keys * plan.parts,
                    place["value_address"] + kv * place["value_stride"],
                    plan.bits("msb"),
                    destination=TO_VALUE,
                    buffer=(self._loads + number) % BUFFERS,
                    place=0,
                    purpose=PURPOSES.index("v_msb"),
                )
                self._accepted.append(accepted)
                number += 1
                arrives = accepted + 1
            passed = arrives
            self.jobs.taken["values"].append(passed)
            self._jobs.append(passed + 1)

    def _layer(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        t, work = self.timing, plan.work
        pushed = permit = 0
        retired, loads, passed, entered, spare = 0, 0, 0, 0, PLACES if not plan.prunes else ENGINE_PLACES
        results: list[int] = []
        items: deque[tuple[int, int]] = deque()  # rows of items before the engines: how many so far, when they left
        item_rows = 0
        flat_asked: set[int] = set()
        rows, last_job = work.rows, -1
        count = work.flat.size
        cycles: list[int] = []
        kept: list[int] = []
        kept_early: list[int] = []
        beats: list[int] = []
        lanes = t.engines[0].lanes
        longest = max(2, -(-self.machine.context_keys // lanes))
        buffer = 0
        for index in range(count):
            row: Row = yield self.rows.fifo.get()
            head, kv, first, last = plan.jobs[row.job]
            if row.job != last_job:
                last_job = row.job
                cycles, kept = plan.cycles(head), work.kept[head].tolist()
                if first or work.generation:
                    buffer = (self._loads + loads) % BUFFERS
                    loads += 1
                    flat_asked = set()
                if plan.prunes:
                    kept_early = plan.kept_before_last(head, lanes)
                    beats = plan.result_beats(head, lanes)
            r = row.row
            came = max((row.begins if row.flat else row.decided) + QUEUE_CYCLES, retired + 1)
            if index:
                came = max(came, passed - spare)
            row.retire_first = came
            retired = came + row.beats - 1
            row.retired = retired + PRIME_CYCLES
            self.row_cycles.append(row.retired)
            self.issue.tell_retired(retired)
            if plan.prunes:
                engine = self.engines[self._turn]
                self._turn ^= 1
                overflows = (kept_early[r] % lanes) + kept[r] - kept_early[r] > lanes
                passed = row.retired + t.prune - 2 * FIFO
                if index >= PRUNED_ROWS:
                    passed = max(passed, results[index - PRUNED_ROWS] + 1)
                item_rows += -(-row.visible // lanes)
                while items and items[0][0] < item_rows - longest:
                    items.popleft()
                if items and items[0][0] - item_rows + longest < 0:
                    passed = max(passed, items[0][1])
                entered = engine.fill(max(passed + 2 * FIFO, entered + -(-row.visible // lanes)), row.visible)
                items.append((item_rows, entered))
                wide = -(-kept[r] // lanes)
                room = results[-1] + 1 if results else 0
                if work.generation and index >= LISTS:
                    room = max(room, LIST_FREE + (yield from self.dispatch.starts.at(index - LISTS)))
                result = engine.select(entered, row.visible, plan.passes(head, r), overflows, wide, room)
                results.append(result)
                known = result + 2 if work.generation else result + 2 - (-(-kept[r] // lanes) - 1)
                pushed = max(result + t.gather, pushed + beats[r])
            else:
                known = row.retired - row.beats + 1 + t.whole_row
                pushed = max(row.retired + t.whole, pushed + row.beats)
            freed = 1 + (yield from self.dispatch.starts.at(index - DISPATCH_ROWS))
            pushed = max(pushed, freed)
            if not plan.prunes:
                passed = pushed
            permit = max(known, (yield from self._jobs.at(row.job)), permit + 1)
            permit = max(permit, freed)
            permit, sparse, pushed = yield from self._lists(
                plan, row, (head, kv), (permit, pushed), buffer, loads - 1, flat_asked
            )
            release = r == rows - 1 and (last or work.generation)
            yield self.permits.put(Permit(row, permit + 1, pushed + 1, buffer, sparse, cycles[r], release))
        self._taken_loads = loads

    def _lists(
        self,
        plan: LayerPlan,
        row: Row,
        heads: tuple[int, int],
        cycles: tuple[int, int],
        buffer: int,
        load: int,
        asked: set[int],
    ) -> Generator[simpy.Event, Any, tuple[int, bool, int]]:
        """Lists that a row needs: when all are accepted, whether one is sparse, and when its beats are in the lanes."""
        (head, kv), (cycle, pushed), work = heads, cycles, plan.work
        main = ("value_address", "value_stride", "msb", "v_msb")
        low = ("value_lsb_address", "value_lsb_stride", "lsb", "v_lsb")
        if work.generation:
            ids = plan.kept_ids(head)
            if plan.prunes:
                if load >= BUFFERS:
                    cycle = max(cycle, 1 + (yield from self.dispatch.released.at(load - BUFFERS)))
                cycle = 1 + (yield from self._ask(plan, ids, kv, cycle + 1, main, TO_VALUE, buffer))
            if row.flat:
                cycle = 1 + (yield from self._ask(plan, ids, kv, cycle + 1, low, TO_VALUE, buffer))
            return cycle, False, pushed
        if not row.flat:
            return cycle, False, pushed
        slots = plan.slots(head)[row.row].nonzero()[0].tolist()
        missing = [slot for slot in slots if slot not in asked]
        clears = -(-work.keys // plan.lanes) if not asked else 0
        asked.update(slots)
        if cycle > self.simulation.now_cycle:
            yield self.simulation.wait(cycle - self.simulation.now_cycle)
        goes = max(cycle, (yield from self.fetch.landed(TO_SPARSE, 0)))
        beats = len({slot // plan.lanes for slot in slots})
        taken = max(pushed - 1, goes + clears + beats)
        counted = taken + SPARSE_CYCLES
        if not missing:
            return counted + 1, False, taken + 1
        accepted = yield from self._ask(plan, work.key_ids[missing], kv, counted + 1, low, TO_SPARSE, buffer)
        return accepted + 1, True, taken + 1

    def _ask(
        self, plan: LayerPlan, ids: Any, kv: int, cycle: int, plane: tuple[str, str, str, str], to: int, buffer: int
    ) -> Generator[simpy.Event, Any, int]:
        base, stride, bits, purpose = plane
        return (
            yield from self.fetch.request(
                VALUE,
                cycle,
                ids,
                plan.parts,
                0,
                len(ids) * plan.parts,
                plan.place[base] + kv * plan.place[stride],
                plan.bits(bits),
                destination=to,
                buffer=buffer,
                place=buffer,
                purpose=PURPOSES.index(purpose),
            )
        )
