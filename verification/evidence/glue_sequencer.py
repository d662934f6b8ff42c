"""The list sequencer alone: lists as long as a buffer, which no short layer has, in random order with random landings.

Requests, stalls and landings are those of `list_sequencer_model`, which checks every row and every bit.
"""

from __future__ import annotations

from hls.datapaths.list_sequencer import WINDOW_PER_QUEUE
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.list_sequencer_model import run_sequencer

RUNS, CYCLES = 10, 1200


def sequencer_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Random runs from reset.

    Raises:
        AssertionError: for anything that the model does not give.
    """
    simulator, found = WatchedSimulator(netlist), []
    for number in range(RUNS):
        simulator.reset()
        run_sequencer(TINY, simulator, CYCLES, seed + number, WINDOW_PER_QUEUE * TINY.fetch_queues, TINY.context_keys)
        found.append(replay_of(f"long lists, run {number}", netlist, simulator.rows))
    return found
