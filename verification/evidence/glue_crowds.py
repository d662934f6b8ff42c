"""Recorded items of a glue module's streams again, at other times: crowds that fill its FIFOs, and stalls.

What a module hands over does not depend on when it gets its items, nor on when its neighbours take its own: the same
items have to come out. The times are random, in phases: all comes in and nothing is taken, all is taken, or both
half of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of

PHASE_CYCLES = 400
PHASES = ((1.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.2, 1.0))
"""Chances, in a cycle, that a stream offers its next item, and that a neighbour is ready."""
END_CYCLES = 100
MOST_CYCLES = 50_000


@dataclass(frozen=True)
class Moves:
    """A stream by its ports: items move where `valid` and `ready` are 1."""

    valid: str
    ready: str
    payload: tuple[str, ...]

    def items(self, rows: Sequence[Row]) -> list[Row]:
        """What moved."""
        return [{port: row[port] for port in self.payload} for row in rows if row[self.valid] and row[self.ready]]


@dataclass(frozen=True)
class Crowd:
    """Streams into a module, streams out of it, and inputs that say that something is not there yet.

    Attributes:
        runs: whose items come again; in them the inputs that no stream has do not change.
    """

    into: tuple[Moves, ...]
    out: tuple[Moves, ...]
    waits: tuple[str, ...]
    runs: tuple[str, ...]


CROWDS = {
    "value_dispatch": Crowd(
        (
            Moves("value_beat_valid", "value_beat_ready", ("value_beat_data",)),
            Moves("value_row_valid", "value_row_ready", ("value_row_data",)),
        ),
        (Moves("weigh_valid", "weigh_ready", ("weigh_lane_valid", "weigh_last", "value_full")),),
        ("value_pending", "sparse_pending"),
        ("long lists", "twelve heads of one K", "four parts, replays"),
    ),
    "output_stage": Crowd(
        (
            Moves("weighed_valid", "weighed_ready", ("weighed_data",)),
            Moves("output_job_valid", "output_job_ready", ("output_job_data",)),
        ),
        (Moves("output_valid", "output_ready", ("output_element", "output_count", "output_last", "output_base")),),
        (),
        ("long lists", "twelve heads of one K"),
    ),
}
"""By module."""


def crowded(replay: Replay, netlist: Netlist, crowd: Crowd, seed: int) -> Replay:
    """The recorded items of one layer, at other times.

    Raises:
        AssertionError: if other items come out.
    """
    random, simulator = Random(seed), WatchedSimulator(netlist)
    recorded = list(replay.rows())
    first = next(i for i, row in enumerate(recorded) if any(row[m.valid] for m in crowd.into))
    waiting = {moves: moves.items(recorded) for moves in crowd.into}
    offering: set[Moves] = set()
    row = {port: recorded[first][port] for port in netlist.inputs}
    quiet = 0
    while quiet < END_CYCLES and len(simulator.rows) < MOST_CYCLES:
        comes, taken = PHASES[len(simulator.rows) // PHASE_CYCLES % len(PHASES)]
        row.update({port: int(random.random() >= taken) * 3 for port in crowd.waits})
        row.update({moves.ready: int(random.random() < taken) for moves in crowd.out})
        for moves, items in waiting.items():
            if items and (moves in offering or random.random() < comes):
                offering.add(moves)
            row[moves.valid] = int(moves in offering)
            row.update(items[0] if items and moves in offering else {})
        row.update({port: row[port] & (1 << netlist.inputs[port]) - 1 for port in crowd.waits})
        seen = simulator.step(row)
        for moves, items in waiting.items():
            if moves in offering and seen[moves.ready]:
                items.pop(0)
                offering.remove(moves)
        busy = taken == 0.0 or any(waiting.values()) or any(seen[m.valid] for m in crowd.out)
        quiet = 0 if busy else quiet + 1
    for moves in crowd.out:
        found = moves.items(simulator.rows)
        assert found == moves.items(recorded), f"{replay.name!r}: other items of {moves.valid} come out"
    return replay_of(f"{replay.name}, crowded", netlist, simulator.rows)
