"""The landing alone: whole lists in every segment of both buffers, and rows of all kinds in any order.

In the machine few vectors of one segment land in one cycle, and rows for the slow port seldom meet. A lane alone: lists
as long as a buffer, and for its upper half.
"""

from __future__ import annotations

import numpy as np

from hls.datapaths.machine_sizes import Destination, MachineSizes
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.landing_model import Landing, Rows, random_queues, rows_of, run_lane

SIZES = MachineSizes.of(TINY)
WHOLE = SIZES.rows * SIZES.slots
"""Vectors of a full buffer."""
RANDOM_RUNS = 24
LANE_RUNS, LANE_CYCLES = 20, 150


def landing_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Each run from reset.

    Raises:
        AssertionError: if a row is not where it belongs, or not counted.
    """
    whole = {}
    for buffer in range(2):
        queues: Rows = rows_of(Destination.KEY, SIZES, WHOLE, buffer)
        for queue, values in zip(queues, rows_of(Destination.VALUE, SIZES, WHOLE, buffer), strict=True):
            queue.extend(values)
        whole[f"whole lists, buffer {buffer}"] = (queues, 1.0)
    whole["query lines"] = (rows_of(Destination.QUERY, SIZES, WHOLE // 8), 1.0)
    simulator = WatchedSimulator(netlist)
    found = [_run(simulator, name, queues, [], 0, seed, share) for name, (queues, share) in whole.items()]
    for number in range(RANDOM_RUNS):
        dimension = number % len(SIZES.parts)
        rng = np.random.default_rng((seed, number))
        queues, slots = random_queues(SIZES, rng, 40, (32, WHOLE)[number & 1], dimension)
        name = f"rows of all kinds, {number}"
        found.append(_run(simulator, name, queues, slots, dimension, seed, (1.0, 0.4)[number // 3 & 1]))
    return found


def lane_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Random lists through a lane, each run from reset.

    Raises:
        AssertionError: if a word or its tag is not what its list says.
    """
    simulator, found = WatchedSimulator(netlist), []
    for number in range(LANE_RUNS):
        simulator.reset()
        run_lane(TINY, simulator, LANE_CYCLES, seed + number)
        found.append(replay_of(f"random lists, run {number}", netlist, simulator.rows))
    return found


def _run(
    simulator: WatchedSimulator, name: str, queues: Rows, slots: list[int], dimension: int, seed: int, share: float
) -> Replay:
    simulator.reset()
    landing = Landing(TINY, simulator, dimension)
    landing.write_slots(slots)
    landing.run(queues, np.random.default_rng(seed), share)
    return replay_of(name, simulator.netlist, simulator.rows)
