"""The value dispatch alone: each lane's FIFO is full once, which rows of the machine are seldom lopsided enough for.

Rows as long as the Value SRAM come while no row may start; in each run one lane has an entry of every beat and the
others have some. Then rows start one by one, and prob x V stalls.
"""

from __future__ import annotations

from random import Random

from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.value_dispatch import FIFO_ROWS
from hls.datapaths.value_wires import VALUE_ROW, kept_beat
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import joined, nth, pack

SIZES = MachineSizes.of(TINY)
ROWS, QUIET_CYCLES, MOST_CYCLES = FIFO_ROWS + 2, 20, 4000
MOST_SHARE = 0.8
"""Of the beats in which another lane than the fullest one has an entry."""


def dispatch_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """A run for each lane, from reset.

    Raises:
        AssertionError: if a lane has not been full, or other entries come out.
    """
    simulator, found = WatchedSimulator(netlist), []
    for lane in range(SIZES.slots):
        simulator.reset()
        random = Random(f"{seed} {lane}")
        rows = [_row(random, lane) for _ in range(ROWS)]
        full = _run(simulator, random, [beat for row in rows for beat in row], lane)
        assert full, f"lane {lane} was not full"
        out = [row for row in simulator.rows if row["weigh_valid"] and row["weigh_ready"]]
        for q in range(SIZES.slots):
            probs = [nth(beat["prob"], PROBABILITY_BITS, q) for row in rows for beat in row if beat["lanes"] >> q & 1]
            seen = [nth(row["weigh_prob"], PROBABILITY_BITS, q) for row in out if row["weigh_lane_valid"] >> q & 1]
            assert seen == probs, f"other entries of lane {q}"
        assert sum(row["weigh_last"] for row in out) == ROWS, "another number of rows"
        found.append(replay_of(f"lane {lane} is full", netlist, simulator.rows))
    return found


def _row(random: Random, lane: int) -> list[Row]:
    """Beats of a row; every lane has an entry of the first one."""
    share, beats = random.random() * MOST_SHARE, []
    for number in range(SIZES.rows):
        others = sum(1 << q for q in range(SIZES.slots) if number == 0 or random.random() < share)
        beats.append(
            {
                "prob": joined((random.randrange(1 << PROBABILITY_BITS) for _ in range(SIZES.slots)), PROBABILITY_BITS),
                "lanes": others | 1 << lane,
                "number": number,
                "last": int(number == SIZES.rows - 1),
                "flat": 0,
            }
        )
    return beats


def _run(simulator: WatchedSimulator, random: Random, beats: list[Row], lane: int) -> bool:
    """Whether the lane was full before the first row started."""
    record, permits, quiet, full = kept_beat(SIZES), ROWS, 0, False
    while quiet < QUIET_CYCLES:
        assert len(simulator.rows) < MOST_CYCLES, "entries do not come out"
        row: Row = {"weigh_ready": int(random.random() < 0.8)}
        if beats:
            row |= {"value_beat_valid": 1, "value_beat_data": pack(record, beats[0])}
        full |= simulator.register(f"level_{lane}") == FIFO_ROWS * SIZES.rows
        if full and permits:
            row |= {"value_row_valid": 1, "value_row_data": pack(VALUE_ROW, dict.fromkeys(dict(VALUE_ROW.fields), 0))}
        seen = simulator.step(row)
        if beats and seen["value_beat_ready"]:
            beats.pop(0)
        permits -= "value_row_valid" in row and bool(seen["value_row_ready"])
        quiet = 0 if beats or permits or seen["weigh_valid"] else quiet + 1
    return full
