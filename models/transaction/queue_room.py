"""When queue 1 of `hls.datapaths.row_queues` has room: beats that left it, and those of flat rows that were dropped."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from models.transaction.workload import IntArray


def freed_cycle(left: IntArray, drops: Sequence[tuple[int, int]], wanted: int) -> int | None:
    """The cycle in which so many beats have been freed, None if that is not known.

    Args:
        left: cycles in which beats left, rising.
        drops: rows that are dropped beat by beat: cycle of the first beat, and how many; in order.
        wanted: beats, at least 1.
    """
    if not drops:
        return int(left[wanted - 1]) if wanted <= len(left) else None

    def freed(cycle: int) -> int:
        dropped = sum(min(max(0, cycle + 1 - begins), beats) for begins, beats in drops)
        return dropped + int(np.searchsorted(left, cycle, "right"))

    end = max(sum(drops[-1]), int(left[-1]) + 1 if len(left) else 0)
    found = bisect_left(range(end), wanted, key=freed)
    return found if found < end else None
