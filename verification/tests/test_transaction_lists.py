"""The survivors' way to memory in the transaction model, alone: what is not taken waits, up to where it comes from."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths.control_write import ROWS
from models.config import AcceleratorConfig
from models.transaction.end_loop import FAR, LIST
from models.transaction.fetch_state import NOTHING, new_state
from models.transaction.fields import Fields
from models.transaction.list_loop import list_cycle

TINY = AcceleratorConfig.preset("tiny")
LANES = TINY.top_k_lanes
LAST_CYCLE = 2000


class Walk:
    """A walk over survivors: so many in each row of their mask."""

    def __init__(self, counts: list[int]) -> None:
        self.states = new_state(TINY)
        state = self.state = Fields(self.states)
        state["list_ids"][: len(counts)] = counts
        state["list_pipe"][:] = NOTHING
        state["list_rows"], state["list_lanes"], state["list_end"] = len(counts), LANES, FAR
        state["rows_total"][LIST] = self.rows = -(-sum(counts) // LANES)
        self.cycle = 0

    def step(self, takes: bool) -> bool:
        """A cycle in which a row of the list may be taken or not; whether one was."""
        before = int(self.state["rows_taken"][LIST])
        list_cycle(self.states[0], self.cycle, 0 if takes else ROWS)
        self.cycle += 1
        return int(self.state["rows_taken"][LIST]) > before

    def end(self) -> int:
        """The cycle in which the last row is taken, when all are from now on."""
        while self.state["list_end"] == FAR and self.cycle < LAST_CYCLE:
            self.step(True)
        return int(self.state["list_end"])


def test_a_list_that_is_not_taken_holds_up_the_walk() -> None:
    counts = [2] * (TINY.context_keys // LANES)
    held, free = Walk(counts), Walk(counts)
    for _ in range(LAST_CYCLE // 4):
        held.step(False)
    reached = int(held.state["walk_row"])
    assert LANES < reached < len(counts)
    for _ in range(LAST_CYCLE // 4):
        held.step(False)
    assert held.state["walk_row"] == reached
    # what is left of the mask is still a row a cycle, so it does not end as early as if only the last row had waited
    left = len(counts) - reached
    assert held.end() >= LAST_CYCLE // 2 + left > LAST_CYCLE // 2 > free.end()


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, LANES), min_size=1, max_size=TINY.context_keys // LANES).filter(any),
    stalls=st.lists(st.booleans(), max_size=80),
)
def test_whatever_stalls_no_row_is_lost_or_comes_twice(counts: list[int], stalls: list[bool]) -> None:
    walk, free = Walk(counts), Walk(counts)
    taken = sum(walk.step(not stall) for stall in stalls)
    assert taken <= stalls.count(False)
    assert free.end() <= walk.end() < LAST_CYCLE
    assert walk.state["rows_taken"][LIST] == walk.rows
    for _ in range(8):
        assert not walk.step(True)
