"""The end of a layer: when engine A gives the next survivors, and the heads, after the scores have been read.

It has nothing else to do. What becomes of that, and what is written when, is stepped beside the memory
(`models.transaction.list_loop`, `models.transaction.end_loop`).
"""

from dataclasses import dataclass

import numpy as np

from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.datapaths.selection_heads import WORD_BITS
from hls.datapaths.selection_lists import LIST_ID_BITS
from models.memory.compilation import Array
from models.transaction.intake import rows_of_ids
from models.transaction.layer_plan import LayerPlan
from models.transaction.machine_timing import MachineTiming
from models.transaction.register_timing import ControlTiming
from models.transaction.value_state import A
from models.transaction.workload import BoolArray, IntArray, Passes


def streams(plan: LayerPlan, kept_tokens: int) -> tuple[dict[str, list[int]], int]:
    """What is written (S_t, list, S_h, answer), as rows and bursts, and the bursts in all."""
    lanes, work, place = plan.machine.top_k_lanes, plan.work, plan.place
    rows = [-(-work.tokens // lanes), -(-kept_tokens // lanes), work.model.heads, 1]
    bits = [lanes * IMPORTANCE_BITS, lanes * LIST_ID_BITS, WORD_BITS, BURST_BITS]
    shares = [max(1, BURST_BITS // b) for b in bits]
    parts = [max(1, b // BURST_BITS) for b in bits]
    names = ("token_scores", "next_survivors", "head_scores", "answer")
    bursts = sum(-(-r // share) * part for r, share, part in zip(rows, shares, parts, strict=True))
    found = {
        "rows_total": rows,
        "row_bursts": parts,
        "burst_rows": shares,
        "write_burst": [place[f"{name}_address"] * 8 // BURST_BITS for name in names],
    }
    return found, bursts


def counts_of(ids: IntArray, rows: int, lanes: int) -> Array:
    """Ids of each row of a mask."""
    return np.bincount(np.asarray(ids, np.int64) // lanes, minlength=rows)


def result_rows(kept: BoolArray, lanes: int) -> Array:
    """In which cycles, from the first row of items on, the filter gives rows of a result; `kept`: of the items."""
    counts = np.bincount(np.arange(len(kept)) // lanes, weights=kept).astype(np.int64)
    found, held = [], 0
    for i, count in enumerate(counts.tolist()):
        held += count
        if held >= lanes:
            found.append(i)
            held -= lanes
    last = len(counts) - 1
    if held or not found or found[-1] != last:
        # a rest that does not fit comes a cycle later, and the end may be a row without items
        found.append(last + (1 if held and found and found[-1] == last else 0))
    return np.array(found, np.int64)


Results = tuple[Array, Array, Array]
"""Rows of a result: when each stands in its FIFO, if none is held up, the last row of the mask that it reaches, and
whether it ends that row."""


@dataclass
class EngineA:
    """Engine A in the selection of a layer, when it is free for the next request.

    Attributes:
        plan: of the layer.
        select_free: cycle from which passes may begin.
        taken_cycles: of the last request's passes.
    """

    plan: LayerPlan
    select_free: int = 0
    taken_cycles: int = 0

    def tokens(self, read: int, survivors: IntArray, passes: Passes) -> Results:
        """What it gives for `survivors`; the last scores were taken for it at `read`."""
        plan, lanes = self.plan, self.plan.machine.top_k_lanes
        free = np.setdiff1d(plan.work.key_ids, plan.protected)
        last = int((free // lanes == -(-plan.work.tokens // lanes) - 1).sum())
        # the last row of scores may fill a row of items, and leave a rest
        over = (len(free) - last) % lanes + last > lanes
        return self._results(read + over, free, np.setdiff1d(survivors, plan.protected), passes, 0)

    def heads(self, read: int, survivors: IntArray, passes: Passes, filter_free: int) -> Results:
        """What it gives for `survivors`; a score a row has come, the last one at `read`."""
        return self._results(read, self.plan.work.heads, survivors, passes, filter_free)

    def _results(self, read: int, items: IntArray, kept_ids: IntArray, passes: Passes, filter_free: int) -> Results:
        """Rows of the result, when the filter may begin from `filter_free` on."""
        machine = self.plan.machine
        engine, lanes = MachineTiming.of(machine).engines[A], machine.top_k_lanes
        self.taken_cycles = sum(-(-c // lanes) + engine.pass_overhead_cycles for c in passes)
        given = read + ControlTiming.of(machine).items_given
        begins = max(given + engine.fill_cycles, self.select_free)
        loads = max(begins + self.taken_cycles, filter_free)
        self.select_free = loads + 1
        gives = loads + engine.filter_cycles + result_rows(np.isin(items, kept_ids), lanes)
        return gives, *rows_of_ids(kept_ids, len(gives), lanes)
