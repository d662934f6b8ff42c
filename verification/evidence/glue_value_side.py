"""The value side alone: its modules together, with layers of all kinds and neighbours at random (`value_side_harness`).

Lists of values land segment by segment at any time, results wait, beats come late: FIFOs are full and empty, values of
flat rows are missing in every pattern. What a module does there is recorded.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from hls.datapaths.machine_sizes import MachineSizes
from hls.flatten import flatten
from hls.lower import Netlist
from verification.evidence.glue_recording import observed, port_name
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.value_side import MODULES, compose, netlists
from verification.evidence.value_side_harness import Pace, Surroundings
from verification.evidence.value_side_layer import random_layer

SIZES = MachineSizes.of(TINY)
PARTS = tuple(module.__name__.rpartition(".")[2] for module in MODULES)
NEVER_WAIT = "output_stage"
"""Its stream to head importance never waits in the machine: it is looked at where all is taken at once."""
KEEP_ALL = 1 << 16
PACES = (
    *(Pace(1.0, 1.0, (1, 3)), Pace(0.6, 0.3, (5, 90)), Pace(0.3, 1.0, (1, 200)), Pace(1.0, 0.2, (30, 60))),
    *(Pace(1.0, 0.8, (100, 900), 150), Pace(1.0, 1.0, (2500, 2600))),
)
MODES = (
    partial(random_layer, SIZES, generation=False, keys=13, ratio16=40_000, progressive=True, jobs=4, group_jobs=2),
    partial(random_layer, SIZES, generation=True, keys=40, ratio16=20_000, progressive=False, jobs=6, dimension=2),
    partial(random_layer, SIZES, generation=False, keys=9, ratio16=KEEP_ALL, progressive=True, jobs=3, causal=True),
    partial(random_layer, SIZES, generation=True, keys=33, ratio16=KEEP_ALL, progressive=True, jobs=9, dimension=1),
    partial(random_layer, SIZES, generation=False, keys=24, ratio16=20_000, progressive=True, rows=5, flat_share=1.0),
    partial(random_layer, SIZES, generation=False, keys=10, ratio16=50_000, progressive=True, dimension=2, jobs=2),
    partial(random_layer, SIZES, generation=True, keys=60, ratio16=30_000, progressive=True, jobs=12, group_jobs=3),
    partial(
        random_layer, SIZES, generation=False, keys=40, ratio16=60_000, progressive=True, rows=4, dimension=1, jobs=2
    ),
    partial(random_layer, SIZES, generation=True, keys=500, ratio16=KEEP_ALL, progressive=True, jobs=5),
    partial(random_layer, SIZES, generation=True, keys=500, ratio16=50_000, progressive=False, jobs=3),
    partial(random_layer, SIZES, generation=False, keys=500, ratio16=40_000, progressive=False, rows=8, jobs=1),
    partial(random_layer, SIZES, generation=False, keys=500, ratio16=60_000, progressive=False, rows=6, jobs=1),
)
"""Two for each pace. Where all is taken at once a layer of another dimension follows, which shows what one has left.
The last rows are nearly as long as a buffer: they wait for its segments, and fill the lanes."""


@cache
def _value_side(seed: int) -> dict[str, list[Row]]:
    """Ports of all modules, by `port_name`, from reset in each run: two layers, one behind the other."""
    simulator, found = WatchedSimulator(flatten(observed(compose(netlists(TINY)), PARTS))), {}
    for number, pace in enumerate(PACES):
        simulator.reset()
        rng = np.random.default_rng((seed, number))
        around = Surroundings(TINY, simulator, seed, pace)
        for mode in MODES[2 * number : 2 * number + 2]:
            around.run(mode(rng))
        found[f"values, {number}"] = simulator.rows
    return found


def values_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """What a module of the value side did.

    Raises:
        AssertionError: if a row is not what it should be.
    """
    ports = [*netlist.inputs, *netlist.outputs]
    return [
        replay_of(name, netlist, [{port: row[port_name(netlist.name, port)] for port in ports} for row in rows])
        for (name, rows), pace in zip(_value_side(seed).items(), PACES, strict=True)
        if netlist.name != NEVER_WAIT or pace.accept == 1.0
    ]
