"""Top-k engine: when a request's items are taken, and when its results come (`hls.datapaths.top_k`).

Three units in a row: the fill packs items into a ring, the selection runs its passes, the filter reads the ring again.
Each takes the next request when it has done with one, and the unit behind it is free.
"""

from collections import deque

from hls.datapaths.top_k import WAITING_REQUESTS
from models.transaction.machine_timing import FIFO, EngineTiming
from models.transaction.workload import Passes

RESULT_ROWS = 2
"""Rows of results that wait at an engine."""


class Engine:
    """A top-k engine: fills, selects and filters up to four rows at once, in order (`hls.datapaths.top_k`)."""

    def __init__(self, timing: EngineTiming) -> None:
        self.timing = timing
        self.busy_cycles = self.item_rows = self.pass_rows = 0
        self._rows = 0
        self._select_free = self._filter_free = 0
        self._taken = (0, 0)  # when the last two rows of results were taken
        self._begun: list[int] = []
        self._reads: deque[tuple[int, int, int]] = deque()  # rows of a request in the ring, and when they are read

    def fill(self, last: int, items: int) -> int:
        """A request whose last row of items comes in `last`: when the engine has that row."""
        rows = -(-items // self.timing.lanes)
        if len(self._begun) >= WAITING_REQUESTS:
            last = max(last, self._begun[-WAITING_REQUESTS] + 1)
        needed = self._rows + rows - self.timing.rows
        while self._reads and needed > 0:
            begin, end, reads = self._reads[0]
            if needed <= end:
                last = max(last, reads + needed - begin)
                break
            self._reads.popleft()
        self._rows += rows
        return last

    def select(self, last: int, items: int, passes: Passes, overflows: bool, results: int, room: int) -> int:
        """What `fill` took in `last` is selected; the cycle in which the last of `results` rows is taken.

        Rows of results can be taken from `room` on.
        """
        t = self.timing
        rows = -(-items // t.lanes)
        begins = max(last + t.fill_cycles, self._select_free)
        ends = begins
        for candidates in passes:
            ends += -(-candidates // t.lanes) + t.pass_overhead_cycles
            self.pass_rows += -(-candidates // t.lanes)
        over = max(ends, self._filter_free)
        self._select_free = over + 1
        self._begun.append(begins if passes else over)
        self._reads.append((self._rows - rows, self._rows, over))
        leaves = over + rows - 1 + t.filter_cycles + overflows
        # a row leaves the filter when there is a place behind it
        if results <= RESULT_ROWS:
            leaves = max(leaves, self._taken[results - 1] + 1)
        taken = max(leaves + FIFO, room + results - 1)
        leaves = max(leaves, taken - RESULT_ROWS + 1) if results > RESULT_ROWS else leaves
        self._taken = (taken - 1 if results > 1 else self._taken[1], taken)
        self._filter_free = leaves + 1
        self.busy_cycles += max(ends - begins, rows)
        self.item_rows += rows
        return taken
