"""The head walk alone: masks of heads with long gaps, and jobs that are taken at random times, which few layers have.

The bursts of a head table pass by, then the walk begins; the jobs must be those of the layer, in all three streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random

import numpy as np

from hls.datapaths.control_read import ReadKind
from hls.datapaths.head_walk import KV_PLANES
from hls.datapaths.machine_sizes import MachineSizes
from hls.lower import Netlist
from verification.evidence.controller_model import ALIGNMENT, HostLayer, jobs_of, random_layer
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import unpack

RUNS, BURST_BYTES, QUIET_CYCLES, MOST_CYCLES = 16, 32, 12, 20_000
STREAMS = ("rows", "fetch", "value")
CHANCES = (0.05, 0.2, 0.6, 1.0)
"""Of a stream to be taken in a cycle, one for each stream of a run."""
COMPARED = ("head", "kv_first", "kv_last", "last", "query_base", "key_base", "value_lsb_base", "mantissa")


def head_walk_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Layers from reset, one each.

    Raises:
        AssertionError: if other jobs come out.
    """
    simulator, found = WatchedSimulator(netlist), []
    for number in range(RUNS):
        simulator.reset()
        rng, random = np.random.default_rng((seed, number)), Random(f"{seed} {number}")
        layer = random_layer(TINY, rng, 1 << 16, heads=int(rng.choice([5, 12, 33, 64])))
        _run(simulator, layer, random)
        for stream in STREAMS:
            taken = (row for row in simulator.rows if row[f"job_{stream}_valid"] and row[f"job_{stream}_ready"])
            jobs = [_compared(unpack(MachineSizes.of(TINY).job, row[f"job_{stream}_data"])) for row in taken]
            assert jobs == [_compared(job) for job in jobs_of(layer)], f"other jobs: {stream}"
        found.append(replay_of(f"walk over heads, run {number}", netlist, simulator.rows))
    return found


def _compared(job: Mapping[str, int]) -> Row:
    return {name: job[name] for name in COMPARED}


def _run(simulator: WatchedSimulator, layer: HostLayer, random: Random) -> None:
    f, widths = layer.fields, simulator.netlist.inputs
    bus = {"layer_head_mask": f["head_mask"], "layer_group": f["group"]}
    for plane in ("query", *KV_PLANES):
        for what in ("base", "stride"):
            field = f[f"{plane}_{'address' if what == 'base' else 'stride'}"]
            bus[f"walk_{plane}_{what}"] = field // ALIGNMENT % (1 << widths[f"walk_{plane}_{what}"])
    chances = {f"job_{stream}_ready": random.choice(CHANCES) for stream in STREAMS}
    inputs, quiet = _inputs(layer), 0
    while quiet < QUIET_CYCLES and len(simulator.rows) < MOST_CYCLES:
        given = next(inputs, None)
        row = {**bus, **(given or {})}
        row |= {port: int(random.random() < chance) for port, chance in chances.items()}
        seen = simulator.step(row)
        quiet = quiet + 1 if given is None and not seen["walk_busy"] else 0


def _inputs(layer: HostLayer) -> Iterator[Row]:
    """What comes in before the walk, and its start."""
    table = layer.contents()[layer.fields["head_table_address"]]
    yield {"table_begin": 1}
    bursts = range(0, len(table), BURST_BYTES)
    for at in bursts:
        data = int.from_bytes(table[at : at + BURST_BYTES], "little")
        yield {
            "read_data": data,
            "read_kind": ReadKind.HEAD_TABLE,
            "read_valid": 1,
            "read_last": int(at == bursts[-1]),
        }
    yield {}
    yield {}
    yield {"walk_start": 1}
