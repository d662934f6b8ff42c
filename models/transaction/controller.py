"""Controller: the layers one after the other; descriptor and lists before a layer, selection and answer behind it.

As `hls.datapaths.controller`, `control_read`, `selection` and `control_write`. Nothing of a layer overlaps with the
next one: its survivors are known when the last row has been counted. What happens between two layers, the turnaround,
is the price of the cascade.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import simpy

from hls.datapaths.controller_descriptor import DESCRIPTOR_BURSTS
from hls.datapaths.crossbar import BURST_BITS, BURST_BYTES
from hls.datapaths.descriptor import HEAD_ENTRY, MAX_HEADS
from hls.datapaths.selection_lists import LIST_ID_BITS
from hls.stream import STORED_CYCLES
from models.config import AcceleratorConfig
from models.transaction.channel import In, Out
from models.transaction.end_loop import FAR
from models.transaction.ending import EngineA, counts_of, streams
from models.transaction.fetching import FetchSide
from models.transaction.intake import intake_cycles, rows_of_ids
from models.transaction.issue import RowIssue
from models.transaction.kernel import Event, Module, Simulation, Steps
from models.transaction.layer_plan import Following, LayerPlan
from models.transaction.loader import Jobs, OperandLoader
from models.transaction.machine_timing import MachineTiming
from models.transaction.quick_select import PassDraws
from models.transaction.register_timing import ControlTiming
from models.transaction.value_state import A
from models.transaction.values import ValuePath
from models.transaction.workload import Passes, Selection

LIST_IDS = BURST_BITS // LIST_ID_BITS


def _lists(plan: LayerPlan) -> list[tuple[str, int]]:
    """What a layer reads behind its descriptor, and bursts of it."""
    lists = []
    if plan.work.rows:
        lists.append(("head_table", -(-HEAD_ENTRY.size_bytes * plan.work.model.heads // BURST_BYTES)))
    lists.append(("survivors", -(-plan.work.keys // LIST_IDS)))
    if len(plan.protected):
        lists.append(("protected", -(-len(plan.protected) // LIST_IDS)))
    return lists


@dataclass(frozen=True)
class LayerTimes:
    """Cycles of a layer: asked for, started, last outputs, done; of its rows from `asked` on."""

    asked: int
    started: int
    ended: int
    done: int
    rows: list[int]
    outputs: list[int]


class Controller(Module):
    """Runs layers; `observe` is called after each. Where `stepwise`, each waits for `go`."""

    def __init__(
        self,
        simulation: Simulation,
        machine: AcceleratorConfig,
        plans: Iterator[tuple[LayerPlan, Selection | None, Selection | None, Following]],
        parts: tuple[Jobs, OperandLoader, RowIssue, ValuePath, FetchSide],
        observe: Callable[[LayerPlan, LayerTimes], None],
        stepwise: bool = False,
    ) -> None:
        super().__init__(simulation, "controller")
        self.machine, self.plans, self.observe = machine, plans, observe
        self.jobs, self.loader, self.issue, self.values, self.fetch = parts
        self.layers: list[Out[tuple[LayerPlan, int]]] = [Out(self, f"layers {i}") for i in range(4)]
        self.final: In[int] = In(self, "importance final")
        self.done: In[int] = In(self, "done")
        self.stepwise, self.go = stepwise, Event(simulation, "next layer")
        self.draws, self.timing = PassDraws(), MachineTiming.of(machine)
        self.control = ControlTiming.of(machine)
        self._least: tuple[tuple[object, ...], int] = ((), 0)
        self.start(self._main())

    def _main(self) -> Steps:
        while True:
            if self.stepwise:
                yield self.go.wait(rest=True)
            asking = next(self.plans, None)
            if asking is None:
                return
            plan, tokens, heads, following = asking
            asked = self.simulation.now_cycle
            started, held = yield from self._begin(plan, asked)
            for part in (self.jobs, self.loader, self.issue):
                part.clear()
            cleared = started + self._clear_cycles(plan)
            begins = max(started + self.control.begun, held + self.control.held_told)
            if plan.work.rows:
                self.values.begin(plan, cleared)
                self.fetch.begin(plan.work.flat.size, plan.parts, plan.progressive)
                for port in self.layers:
                    yield port.put((plan, started))
                final = yield self.final.get()
                begins = max(begins, final + self.control.importance_told)
            self._select_behind(plan, (tokens, heads), following, begins, cleared)
            heads_from, ended, rows, outputs = begins + self.control.heads_asked, started, [], []
            if plan.work.rows:
                ended = yield self.done.get()
                heads_from = max(heads_from, ended + self.control.outputs_told)
                rows, outputs = self.values.row_cycles, self.values.output_cycles
            idle = int(self.fetch.run.values["heads_ended"]) + STORED_CYCLES + self.timing.heads
            self.fetch.run.state["heads_from"] = max(heads_from + self.control.heads_read, idle)
            yield from self.fetch.writes_acknowledged()
            yield self.simulation.wait(self.control.done_told + 1)
            self.observe(plan, LayerTimes(asked, started, ended, self.simulation.now_cycle, rows, outputs))

    def _clear_cycles(self, plan: LayerPlan) -> int:
        """From the start of a layer until its token importance is cleared, where that is asked for."""
        clears = plan.place.get("clear_tokens", plan.work.layer == 0)
        rows = -(-self.machine.context_keys // self.machine.top_k_lanes)
        return self.control.clear_offered + rows + self.timing.sweep if clears else 0

    def _begin(self, plan: LayerPlan, asked: int) -> Generator[simpy.Event, Any, tuple[int, int]]:
        """Descriptor and lists are read; the cycles in which the layer starts, and from which the masks are there."""
        place = plan.place
        self.fetch.read(place["descriptor_address"], DESCRIPTOR_BURSTS, asked + self.control.first_read)
        yield from self.fetch.reads_answered()
        answers = self.fetch.run.read_cycles(int(self.fetch.run.state["reads_made"]), DESCRIPTOR_BURSTS)
        cycle = self._lists_asked(answers)
        lists = _lists(plan)
        for name, bursts in lists:
            self.fetch.read(place[f"{name}_address"], bursts, cycle)
            cycle += bursts + self.control.send_gap
        made = int(self.fetch.run.state["reads_made"])
        yield from self.fetch.reads_answered()
        checked, held = self._checked(plan, lists, self.fetch.run.read_cycles(made, sum(n for _, n in lists)))
        started = checked + self.control.launched
        yield self.simulation.wait(max(0, started - self.simulation.now_cycle))
        return started, held

    def least_before(self, plan: LayerPlan, read_cycles: int) -> int:
        """From a layer's start until its first job, where every read takes so many cycles from request to answer.

        Layers of a pass often have the same lists.
        """
        work = plan.work
        lists_of = (work.rows > 0, work.tokens, work.key_ids.tobytes(), plan.protected.tobytes(), read_cycles)
        if self._least[0] != lists_of:
            self._least = lists_of, self._count_before(plan, read_cycles)
        return self._least[1]

    def _count_before(self, plan: LayerPlan, read_cycles: int) -> int:
        first, lists = self.control.first_read + read_cycles, _lists(plan)
        cycle = self._lists_asked([first + i for i in range(DESCRIPTOR_BURSTS)])
        answers: list[int] = []
        for _, bursts in lists:
            answers += [cycle + read_cycles + i for i in range(bursts)]
            cycle += bursts + self.control.send_gap
        return self._checked(plan, lists, answers)[0] + self.control.launched

    def _given(self, answers: list[int], requests: Sequence[int] = ()) -> list[int]:
        """Cycles in which bursts of control reads are given on, in order, by those in which they were answered.

        Between two requests of so many bursts each is a gap.
        """
        timing, ends, given, found = self.control, set(accumulate(requests)), 0, []
        for at, answer in enumerate(answers):
            given = max(given + 1 + (timing.give_gap if at in ends else 0), answer + timing.answered)
            found.append(given)
        return found

    def _lists_asked(self, answers: list[int]) -> int:
        """When the first list is asked for, by the cycles of the answers of the descriptor's bursts."""
        return self._given(answers)[-1] + self.control.lists_asked

    def _checked(self, plan: LayerPlan, lists: list[tuple[str, int]], answers: list[int]) -> tuple[int, int]:
        """When both lists are checked and from when their masks are there, by the cycles of their bursts' answers."""
        work, lanes = plan.work, self.machine.top_k_lanes
        per_burst = LIST_IDS // lanes
        arrivals, ends, rows = [], [], []
        given = self._given(answers, [bursts for _, bursts in lists])
        at = 0
        for name, bursts in lists:
            if name != "head_table":
                arrivals += [cycle + self.control.given for cycle in given[at : at + bursts]]
                ends += [i == bursts - 1 for i in range(bursts)]
            at += bursts
            if name == "head_table":
                continue
            ids = work.key_ids if name == "survivors" else plan.protected
            rows.append(rows_of_ids(ids, bursts * per_burst, lanes))
        reached, full = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        masks = -(-work.tokens // lanes)
        depth = max(2, self.machine.context_keys // lanes)
        found = intake_cycles(np.array(arrivals), np.array(ends), reached, full, per_burst, masks, depth)
        checked, survivors, *protected = found.tolist()
        behind = [
            survivors + self.control.survivors_held,
            *(cycle + self.control.protected_held for cycle in protected),
        ]
        return checked, max(behind)

    def _select_behind(
        self,
        plan: LayerPlan,
        selections: tuple[Selection | None, Selection | None],
        following: Following,
        begins: int,
        cleared: int,
    ) -> None:
        """From `begins` on scores are swept, survivors selected, the answer is written, beside the last outputs.

        Without rows that may be before the scores have been `cleared`: the sweep waits, its first row on the way.
        """
        (tokens, heads), fetch, control = selections, self.fetch, self.control
        lanes = self.machine.top_k_lanes
        rows = -(-plan.work.tokens // lanes)
        written, bursts = streams(plan, len(following.tokens))
        numbers = {
            "sweep_cycles": self.timing.sweep,
            "sweep_from": max(begins + control.sweep_begun, cleared - STORED_CYCLES),
            "answer_cycles": control.answered_behind,
            "selects_tokens": tokens is not None,
            "selects_heads": heads is not None,
            "heads_end": FAR if heads is not None else begins + 1,
            "walk_from": begins + control.walk_begun if tokens is None else FAR,
            "list_rows": rows,
            "head_rows": MAX_HEADS // lanes,
            "list_lanes": lanes,
        }
        fetch.end(numbers, written, bursts)
        fetch.run.state["list_ids"][:rows] = counts_of(following.tokens, rows, lanes)
        self.start(self._select(plan, tokens, heads, following), f"selection {begins}")

    def _select(
        self, plan: LayerPlan, tokens: Selection | None, heads: Selection | None, following: Following
    ) -> Generator[simpy.Event, Any, None]:
        """Engine A, when the scores have been read."""
        fetch, engine, filter_free = self.fetch, EngineA(plan), 0
        if tokens is not None:
            read = yield from fetch.at_end("items_end")
            passes = self._passes(tokens)
            results = engine.tokens(read, following.tokens, passes)
            fetch.run.select(results, False, 0)
            self._count(tokens, passes, engine.taken_cycles)
        if heads is not None:
            read = yield from fetch.at_end("heads_in")
            passes = self._passes(heads)
            if tokens is not None:
                yield from fetch.at_end("results_end")
                filter_free = int(fetch.run.state["result_at"][int(fetch.run.state["results_n"]) - 1])
            results = engine.heads(read, following.heads, passes, filter_free)
            fetch.run.select(results, True, filter_free)
            self._count(heads, passes, engine.taken_cycles)

    def _passes(self, selection: Selection) -> Passes:
        """Of the quick-select."""
        known = selection.passes
        return self.draws.draw("importance", selection.candidates, selection.kept) if known is None else known

    def _count(self, selection: Selection, passes: Passes, taken: int) -> None:
        """Engine A has been at work."""
        rows, counts = -(-selection.candidates // self.machine.top_k_lanes), self.fetch.run.values
        counts["busy_cycles"][A] += taken + rows
        counts["item_rows_in"][A] += rows
        counts["pass_rows_in"][A] += taken - len(passes) * self.timing.engines[A].pass_overhead_cycles
