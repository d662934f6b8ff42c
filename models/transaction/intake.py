"""Lists that a layer begins with: from bursts to checked rows of ids and masks (`hls.datapaths.selection_lists`).

    bursts -> FIFO of 2 -> a row of ids a cycle -> check -> FIFO -> register -> mask, a row a cycle

A layer starts when the last row is checked; what is selected behind it needs the masks too. A cycle is a step here:
lists are short.
"""

import numpy as np

from models.memory.compilation import Array, compiled
from models.transaction.mask_rows import mask_cycle


@compiled
def intake_cycles(
    arrivals: Array, ends: Array, reached: Array, full: Array, per_burst: int, mask_rows: int, depth: int
) -> Array:
    """The cycle in which the last row of all lists is checked, then those in which the masks of each leave.

    Args:
        arrivals: cycle in which each burst of the lists is offered, in order.
        ends: the burst is the last one of its list.
        reached: the last row of the mask that each row of ids reaches; -1 without ids.
        full: that row of ids ends with the last id of a row of the mask.
        per_burst: rows of ids of a burst.
        mask_rows: of the sequence.
        depth: rows of ids that wait for the mask.
    """
    bursts = arrivals.shape[0]
    total, made = bursts * per_burst, 0
    found = np.zeros(1 + ends.sum(), np.int64)
    cycle, given, held, taken_from = arrivals[0], 0, 0, 0  # bursts given to the FIFO, in it; rows taken from it
    row_there, checked, waiting, merged = False, 0, 0, False  # rows checked; in the FIFO behind; in the register
    masked, row, flushing, finished = 0, 0, False, False
    while made + 1 < found.shape[0] or checked < total:
        to, ends_mask, is_last = -1, False, False
        if merged:
            to, ends_mask = reached[masked], full[masked]
            is_last = ends[masked // per_burst] and (masked + 1) % per_burst == 0
        is_end = row == mask_rows - 1
        row, flushing, finished, emits, takes = mask_cycle(
            row, flushing, finished, merged, to, ends_mask, is_last, mask_rows, True
        )
        if emits and is_end:
            made += 1
            found[made] = cycle
        masked += takes
        # the register, the FIFO, the check, the FIFO of bursts
        room = waiting < depth
        moves = (takes or not merged) and waiting > 0
        merged = moves or (merged and not takes)
        waiting -= moves
        passes = row_there and room
        waiting += passes
        checked += passes
        if passes and checked == total:
            found[0] = cycle
        frees = not row_there or room
        steps = frees and held > 0
        row_there = steps or (row_there and not passes)
        popped = steps and (taken_from + 1) % per_burst == 0
        taken_from += steps
        enters = given < bursts and arrivals[given] <= cycle and held < 2
        held += enters - popped
        given += enters
        cycle += 1
    return found


def rows_of_ids(ids: Array, rows: int, lanes: int) -> tuple[Array, Array]:
    """Of each row of ids: the last row of the mask that it reaches, -1 without ids, and whether it ends that row."""
    reached, full = np.full(rows, -1, np.int64), np.zeros(rows, np.bool_)
    count = -(-len(ids) // lanes)
    ends = ids[np.minimum(np.arange(1, count + 1) * lanes, len(ids)) - 1]
    reached[:count], full[:count] = ends // lanes, ends % lanes == lanes - 1
    return reached, full
