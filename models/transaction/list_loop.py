"""A cycle of the survivors' way, compiled: from results of engine A, or a walk over the survivors, to rows of a list.

    results -> FIFO -> register -> masks -> register -.
    walk over the survivors --------------------------+-> FIFO -> zero eliminator -> row packer -> FIFO -> row held

As `hls.datapaths.selection`, `selection_lists.to_masks` and `selection_next.to_list`. What finds no room waits, up to
the filter of engine A: a memory that takes no writes holds up all of it. Heads take the same way as far as their mask.
When results come, if none is held up, is computed by `models.transaction.ending`.
"""

from hls.datapaths.control_write import ROWS
from hls.datapaths.selection_next import LISTED_ROWS, MASK_ROWS
from hls.datapaths.top_k import RESULT_ROWS
from models.memory.compilation import Record, compiled
from models.transaction.fetch_state import NOTHING, SWEPT
from models.transaction.mask_rows import mask_cycle

LAST, EMPTY = 1, 2
"""Bits of a packed row: the last of a list, and without ids."""
LIST_STREAM = 1
"""Of `hls.datapaths.control_write`."""


@compiled
def list_cycle(f: Record, cycle: int, queue0: int) -> None:
    """The cycle; `queue0`: rows of the list that waited to be written when it began."""
    mask_rows0 = f.mask_rows_n
    _hold(f, cycle, queue0, _pack(f, mask_rows0))
    room = mask_rows0 < MASK_ROWS
    if room and cycle >= f.walk_from and f.walk_row < f.list_rows:
        f.walk_row += 1
        f.mask_rows_n += 1
    if f.results_n:
        listed = f.mask_held != 0 and not f.mask_held_heads and room
        _mask(f, cycle, listed or not f.mask_held or f.mask_held_heads != 0)
        f.mask_rows_n += 1 if listed else 0


@compiled
def _hold(f: Record, cycle: int, queue0: int, packed: int) -> None:
    """The packed rows, and the one that is held until it is known whether it is the last; `packed`: one more, or -1."""
    valid, there, last = f.listed_n > 0, f.list_held != 0, f.list_held_last != 0
    head = f.listed[0]
    is_end = valid and head == LAST | EMPTY
    leaves = there and (last or (valid and not is_end)) and queue0 < ROWS
    enters = valid and not is_end and (not there or leaves)
    takes = not (there and last) if is_end else not there or leaves
    ended = last or (is_end and there)
    f.list_held_last = head & LAST if enters else 1 if ended and not leaves else 0
    f.list_held = 1 if enters or (there and not leaves) else 0
    if leaves:
        f.rows_queued[LIST_STREAM] += 1
        f.rows_taken[LIST_STREAM] += 1
        if f.rows_taken[LIST_STREAM] == f.rows_total[LIST_STREAM]:
            f.list_end = cycle
    if valid and takes:
        f.listed_n -= 1
        for k in range(LISTED_ROWS - 1):
            f.listed[k] = f.listed[k + 1]
    if packed >= 0:
        f.listed[f.listed_n] = packed
        f.listed_n += 1


@compiled
def _pack(f: Record, mask_rows0: int) -> int:
    """Rows of masks through the zero eliminator to the row packer; the row that it gives, -1 if none."""
    depth, lanes, room = f.list_pipe.shape[0], f.list_lanes, f.listed_n < LISTED_ROWS
    row, packed = f.list_pipe[depth - 1], NOTHING
    advances = row == NOTHING
    if f.list_flushing:
        if room:
            packed = LAST
            f.list_flushing = f.list_filled = 0
    elif row != NOTHING:
        total, is_last = f.list_filled + f.list_ids[row], row == f.list_rows - 1
        over = total > lanes
        emits, ends = total >= lanes or is_last, is_last and not over
        if room or not emits:
            advances = True
            if emits:
                packed = (LAST if ends else 0) | (EMPTY if total == 0 else 0)
            f.list_filled = 0 if ends else total - lanes if total >= lanes else total
            f.list_flushing = 1 if is_last and over else 0
    if advances:
        for k in range(depth - 1, 0, -1):
            f.list_pipe[k] = f.list_pipe[k - 1]
        f.list_pipe[0] = NOTHING
        if mask_rows0 > 0:
            f.list_pipe[0] = f.list_row
            f.list_row += 1
            f.mask_rows_n -= 1
    return packed


@compiled
def _mask(f: Record, cycle: int, moves: bool) -> None:
    """Rows of results to rows of masks, of tokens, then of heads; `moves`: the register behind takes a row."""
    row, at, there, flushing = f.mask_row, f.results_masked, f.result_there != 0, f.mask_flushing != 0
    of_heads = (at - 1 if flushing else at) >= f.first_heads
    rows, reached, full = f.head_rows if of_heads else f.list_rows, -1, False
    if there:
        reached, full = f.result_reached[at], f.result_full[at] != 0
    is_last = at + 1 == f.first_heads or at + 1 == f.results_n
    following, flushes, finished, emits, takes = mask_cycle(
        row, flushing, f.mask_finished != 0, there, reached, full, is_last, rows, moves
    )
    if moves:
        f.mask_held, f.mask_held_heads = 1 if emits else 0, 1 if of_heads else 0
        if emits and of_heads and row == rows - 1:
            f.heads_end = cycle + 1
    f.mask_row, f.mask_finished, f.mask_flushing = following, 1 if finished else 0, 1 if flushes else 0
    f.results_masked += 1 if takes else 0
    _result(f, cycle, takes)


@compiled
def _result(f: Record, cycle: int, takes: bool) -> None:
    """Rows out of the FIFO of results: each makes room for one that the filter has not given."""
    entered = f.results_entered
    enters = entered < f.results_n and f.result_at[entered] <= cycle and (takes or not f.result_there)
    f.result_there = 1 if enters or (f.result_there and not takes) else 0
    if not enters:
        return
    f.results_entered += 1
    behind = entered + RESULT_ROWS
    if behind < f.results_n:
        # given at the earliest in the next cycle, after the row before it by what the filter takes for it
        f.result_at[behind] = max(cycle + 2, f.result_at[behind - 1] + f.result_gap[behind])
        if behind == f.results_n - 1:
            f.results_end = cycle
            f.event |= SWEPT
