"""Head walk and operand loader: jobs in order, K of every K/V head and the queries of every head, as early as they may.

As `hls.datapaths.head_walk` and `hls.datapaths.operand_loader`: a job goes to three FIFOs of `JOBS` (rows, fetches,
values); K goes into two buffers or four halves in turn, queries into a ring of lines, in chunks of half of it.
"""

from collections.abc import Generator
from typing import Any

import simpy

from hls.datapaths.head_walk import CONSUMERS, JOBS
from hls.datapaths.machine_sizes import QUERY_LINES
from hls.datapaths.operand_loader import CHUNK, KEY_JOBS, QUERY_JOBS
from models.transaction.channel import In
from models.transaction.fetch_state import KEY, PURPOSES, QUERY, TO_KEY, TO_QUERY
from models.transaction.fetching import FetchSide
from models.transaction.kernel import Module, Simulation, Steps
from models.transaction.layer_plan import LayerPlan
from models.transaction.register_timing import RowTiming
from models.transaction.times import Following, Times, follow


class Jobs:
    """Cycles of the jobs of a layer: given to each of the three FIFOs, and taken from it."""

    def __init__(self, simulation: Simulation) -> None:
        self.given = {name: Times(simulation, f"jobs given, {name}") for name in CONSUMERS}
        self.taken = {name: Times(simulation, f"jobs taken, {name}") for name in CONSUMERS}

    def clear(self) -> None:
        """A layer begins."""
        for times in (*self.given.values(), *self.taken.values()):
            times.clear()


class HeadWalk(Module):
    """Gives the jobs: each FIFO takes a job when it has room, and the next job follows when all have it."""

    def __init__(self, simulation: Simulation, timing: RowTiming, jobs: Jobs) -> None:
        super().__init__(simulation, "head walk")
        self.timing, self.jobs = timing, jobs
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self._offered = Times(simulation, "jobs offered")
        self.start(self._main())

    def _main(self) -> Steps:
        while True:
            plan, start = yield self.layers.fifo.get(rest=True)
            self._offered.clear()
            heads, walk = plan.work.heads.tolist(), start + self.timing.head_found
            for name in CONSUMERS:
                follow(self._give(name, len(heads)))
            follow(self._offer(heads, walk))

    def _offer(self, heads: list[int], walk: int) -> Following:
        """Jobs to all FIFOs."""
        held, left = 0, 0
        for j, head in enumerate(heads):
            # the head is found, moves on when the one before has left, and leaves when the next one is found
            found = walk + head
            held = max(found, left) + 1
            self._offered.append(max(held, walk + heads[j + 1]) if j + 1 < len(heads) else held)
            for name in CONSUMERS:
                left = max(left, (yield from self.jobs.given[name].known(j)) - 1)

    def _give(self, name: str, count: int) -> Following:
        """Jobs into one FIFO."""
        for j in range(count):
            cycle = yield from self._offered.known(j)
            if j >= JOBS:
                cycle = max(cycle, 1 + (yield from self.jobs.taken[name].known(j - JOBS)))
            self.jobs.given[name].append(cycle + 1)


class OperandLoader(Module):
    """Asks for keys and queries.

    Attributes:
        row_ends: cycle in which the n-th row needs K no more.
        key_ends: the same of the n-th K.
        loads: lists for K of all layers before this one.
    """

    def __init__(self, simulation: Simulation, timing: RowTiming, jobs: Jobs, fetch: FetchSide) -> None:
        super().__init__(simulation, "operand loader")
        self.timing, self.jobs, self.fetch = timing, jobs, fetch
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self.row_ends, self.key_ends = (Times(simulation, name) for name in ("rows without K", "K buffers free"))
        self.key_loads, self.query_jobs, self._query_ends = (
            Times(simulation, name) for name in ("K lists asked", "query jobs begun", "query jobs asked")
        )
        self.loads = 0
        self._number = 0
        self.start(self._main())

    def _main(self) -> Steps:
        while True:
            plan, _ = yield self.layers.fifo.get(rest=True)
            self._number += 1
            self.start(self._keys(plan), f"keys {self._number}")
            self.start(self._queries(plan), f"queries {self._number}")
            follow(self._begin_queries(plan))
            follow(self._take(plan))

    def _take(self, plan: LayerPlan) -> Following:
        """Jobs are taken when there is room for their lists."""
        taken, keys = 0, 0
        for j, (_, _, first, _) in enumerate(plan.jobs):
            taken = max(taken + 1, (yield from self.jobs.given["fetch"].known(j)))
            if keys >= KEY_JOBS:
                taken = max(taken, 1 + (yield from self.key_loads.known(keys - KEY_JOBS)))
            if j >= QUERY_JOBS:
                taken = max(taken, 1 + (yield from self.query_jobs.known(j - QUERY_JOBS)))
            keys += first
            self.jobs.taken["fetch"].append(taken)

    def clear(self) -> None:
        """A layer begins; the one before is over."""
        self.loads += len(self.key_loads.values)
        for times in (
            self.row_ends,
            self.key_ends,
            self.key_loads,
            self.query_jobs,
            self._query_ends,
        ):
            times.clear()

    def _keys(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        work, place, places = plan.work, plan.place, plan.key_places
        purpose = PURPOSES.index("k_msb")
        number, base = 0, self.loads
        for j, (_, kv, first, _) in enumerate(plan.jobs):
            if not first:
                continue
            load = 1 + (yield from self.jobs.taken["fetch"].at(j))
            if number >= places:
                load = max(load, self.timing.key_released + (yield from self.key_ends.at(number - places)))
            if number:
                yield from self.fetch.accepted(KEY)
                load = max(load, 1 + self.fetch.accepted_cycle(KEY, (base + number - 1) % places))
            self.key_loads.append(load)
            yield from self.fetch.request(
                KEY,
                load + 1,
                work.key_ids,
                plan.parts,
                0,
                work.keys * plan.parts,
                place["key_address"] + kv * place["key_stride"],
                plan.bits("msb"),
                destination=TO_KEY,
                buffer=(base + number) % places,
                place=0,
                purpose=purpose,
            )
            number += 1

    def _begin_queries(self, plan: LayerPlan) -> Following:
        """A job begins when all of the one before has been asked for, accepted or not."""
        for j in range(len(plan.jobs)):
            ended = yield from self._query_ends.known(j - 1)
            self.query_jobs.append(max(ended + 1, 1 + (yield from self.jobs.taken["fetch"].known(j))))

    def _queries(self, plan: LayerPlan) -> Generator[simpy.Event, Any, None]:
        work, place = plan.work, plan.place
        purpose = PURPOSES.index("q")
        lines = 0
        for j, (head, _, _, _) in enumerate(plan.jobs):
            load = yield from self.query_jobs.at(j)
            first = (work.keys - 1) * plan.parts if work.generation else 0
            left = plan.parts * work.rows
            while left:
                chunk = min(left, CHUNK)
                load += 1
                if lines:
                    yield from self.fetch.accepted(QUERY)
                    load = max(load, 1 + self.fetch.accepted_cycle(QUERY))
                needed = (lines + chunk - QUERY_LINES + plan.parts - 1) // plan.parts
                if needed > 0:
                    load = max(load, self.timing.lines_cleared + (yield from self.row_ends.at(needed - 1)))
                if chunk == left:
                    self._query_ends.append(load)
                yield from self.fetch.request(
                    QUERY,
                    load + 1,
                    work.key_ids,
                    plan.parts,
                    first,
                    chunk,
                    place["query_address"] + int(work.heads[head]) * place["query_stride"],
                    plan.bits("query"),
                    destination=TO_QUERY,
                    buffer=0,
                    place=lines % QUERY_LINES,
                    purpose=purpose,
                )
                lines += chunk
                first += chunk
                left -= chunk
