"""The end of a layer: when rows of the next survivors come, and the heads, after the scores have been read.

Cycles of `hls.datapaths.selection` and of engine A, which has nothing else to do. What is written and when its rows are
taken is stepped beside the memory (`models.transaction.end_loop`).
"""

from dataclasses import dataclass

import numpy as np

from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.descriptor import MAX_HEADS
from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.datapaths.selection_heads import WORD_BITS
from hls.datapaths.selection_lists import LIST_ID_BITS
from hls.datapaths.top_k import RESULT_ROWS
from models.memory.compilation import Array, compiled
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


def list_cycles(counts: Array, arrives: Array, lanes: int) -> list[int]:
    """When each row of a list can be taken, by the ids of each row of its mask and when that is at the row packer."""
    entered, held = [], 0
    for count, cycle in zip(counts.tolist(), arrives.tolist(), strict=True):
        held += count
        if held >= lanes:
            entered.append(cycle)
            held -= lanes
    end = int(arrives[-1])
    if held:
        # the last row of the mask may fill a row of the list, and leave a rest
        full = bool(entered) and entered[-1] == end
        end += 1 if full else 0
        entered.append(end)
    # a row is held until the next one or the end comes
    following = [*entered[1:], end]
    return [
        max(cycle + 1, after + (1 if i == len(entered) - 1 else 0))
        for i, (cycle, after) in enumerate(zip(entered, following, strict=True))
    ]


def counts_of(ids: IntArray, rows: int, lanes: int) -> Array:
    """Ids of each row of a mask."""
    return np.bincount(np.asarray(ids, np.int64) // lanes, minlength=rows)


def walked(plan: LayerPlan, begins: int, ids: IntArray) -> list[int]:
    """When rows of the list can be taken where nothing is selected, or protected ids only; `begins`: the selection."""
    timing, lanes = ControlTiming.of(plan.machine), plan.machine.top_k_lanes
    rows = -(-plan.work.tokens // lanes)
    arrives = begins + timing.walk_begun + timing.listed + np.arange(rows)
    return list_cycles(counts_of(ids, rows, lanes), arrives, lanes)


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


@compiled
def mask_cycles(gives: Array, reached: Array, full: Array, mask_rows: int, free: int) -> tuple[Array, int, int]:
    """When each row of a mask is there (`hls.datapaths.selection_lists.to_masks`), of rows that the filter gives.

    A row of results that finds no room holds up the filter, and so all that it has not given yet: rows of results do
    not come as early as if they waited for the masks in a queue without end.

    Args:
        gives: when rows of results stand in their FIFO, if none is held up.
        reached: the last row of the mask that each reaches; -1 without ids.
        full: a row of results ends with the last id of a row of the mask.
        mask_rows: of the sequence.
        free: cycle from which rows of results are taken.

    Returns:
        Cycles of the rows of the mask, that of the last row of results in the FIFO, and when the next can be taken.
    """
    found, count, stands = np.zeros(mask_rows, np.int64), gives.shape[0], gives.copy()
    cycle, row, at, there, entered = gives[0], 0, 0, False, 0
    flushing = False
    while row < mask_rows or at < count:
        taking = there and not flushing and cycle >= free
        later = taking and reached[at] > row
        emits = flushing or (taking and (later or (full[at] and reached[at] == row)))
        takes = taking and not later
        if emits:
            found[row] = cycle + 1
            row += 1
        if takes:
            at += 1
            flushing = at == count
        enters = entered < count and stands[entered] <= cycle and (takes or not there)
        if enters:
            behind = entered + RESULT_ROWS
            if behind < count:
                # given at the earliest in the next cycle, after the row before it by what the filter takes for it
                stands[behind] = max(cycle + 2, stands[behind - 1] + gives[behind] - gives[behind - 1])
            entered += 1
        there = enters or (there and not takes)
        cycle += 1
    return found, stands[-1], cycle


@dataclass
class EngineA:
    """Engine A and the masks behind it, in a selection: when they are free for the next request.

    Attributes:
        plan: of the layer.
        select_free: cycle from which passes may begin.
        filter_free: the same of the filter.
        masks_free: the same of the masks.
        taken_cycles: of the last request's passes.
    """

    plan: LayerPlan
    select_free: int = 0
    filter_free: int = 0
    masks_free: int = 0
    taken_cycles: int = 0

    def tokens(self, read: int, survivors: IntArray, passes: Passes) -> list[int]:
        """When rows of the list of `survivors` can be taken; the last scores were taken for the engine at `read`."""
        plan, lanes = self.plan, self.plan.machine.top_k_lanes
        rows = -(-plan.work.tokens // lanes)
        free = np.setdiff1d(plan.work.key_ids, plan.protected)
        last = int((free // lanes == rows - 1).sum())
        # the last row of scores may fill a row of items, and leave a rest
        over = (len(free) - last) % lanes + last > lanes
        masks = self._masks(read + over, free, np.setdiff1d(survivors, plan.protected), passes, rows)
        arrives = masks + ControlTiming.of(plan.machine).listed
        return list_cycles(counts_of(survivors, rows, lanes), arrives, lanes)

    def heads(self, read: int, survivors: IntArray, passes: Passes) -> int:
        """When the mask of `survivors` is complete; a score a row has come, the last one at `read`."""
        rows = MAX_HEADS // self.plan.machine.top_k_lanes
        return int(self._masks(read, self.plan.work.heads, survivors, passes, rows)[-1])

    def _masks(self, read: int, items: IntArray, kept_ids: IntArray, passes: Passes, rows: int) -> Array:
        """When the rows of a mask are there."""
        machine = self.plan.machine
        engine, lanes = MachineTiming.of(machine).engines[A], machine.top_k_lanes
        self.taken_cycles = sum(-(-c // lanes) + engine.pass_overhead_cycles for c in passes)
        given = read + ControlTiming.of(machine).items_given
        begins = max(given + engine.fill_cycles, self.select_free)
        loads = max(begins + self.taken_cycles, self.filter_free)
        gives = loads + engine.filter_cycles + result_rows(np.isin(items, kept_ids), lanes)
        reached, full = rows_of_ids(kept_ids, len(gives), lanes)
        masks, self.filter_free, self.masks_free = mask_cycles(gives, reached, full, rows, self.masks_free)
        self.select_free = loads + 1
        return masks
