"""Rows of rising ids to rows of a mask, a row a cycle (`hls.datapaths.selection_lists.to_masks`).

A row of ids waits while the rows of the mask before its ids are emitted. It is taken with the row of the mask that it
reaches, which is emitted too if no later id can be in it. Behind the last row of ids all rows that are left follow.
"""

from models.memory.compilation import inlined


@inlined
def mask_cycle(
    row: int,
    flushing: bool,
    finished: bool,
    there: bool,
    reached: int,
    full: bool,
    last: bool,
    rows: int,
    moves: bool,
) -> tuple[int, bool, bool, bool, bool]:
    """The cycle.

    Args:
        row: of the mask, the next one.
        flushing: the last row of ids is taken.
        finished: the last row of the mask is emitted.
        there: there is a row of ids; the next three are of it.
        reached: the last row of the mask that it reaches, -1 without ids.
        full: it ends with the last id of a row of the mask.
        last: it is the last one of its list.
        rows: of the mask.
        moves: what is emitted finds room.

    Returns:
        `row`, `flushing` and `finished` behind it; whether a row is emitted if it finds room, a row of ids is taken.
    """
    taking = there and not flushing
    looks = taking and not finished
    later = looks and reached > row
    emits = flushing or later or (looks and reached == row and full)
    goes = emits and moves
    takes = taking and not later and (moves or not emits)
    ends, fills = takes and last, goes and row == rows - 1
    over = (fills and flushing) or (ends and (finished or fills))
    following = 0 if over else row + 1 if goes else row
    return following, not over and (ends or flushing), not over and (finished or fills), emits, takes
