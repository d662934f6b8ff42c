"""The operand loader alone: heads of many rows, which take the whole machine long, and neighbours at random.

The lists for K and for queries must be what the jobs ask for, in order; the ring of queries never holds more than it
has, nor the Key SRAM more heads than it has buffers, or halves of them where those are enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import QUERY_LINES, Destination, MachineSizes
from hls.datapaths.operand_loader import CHUNK
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import pack

LAYERS = (
    *((False, 512, 0, 2), (False, 250, 1, 3), (False, 127, 2, 3), (False, 33, 0, 12), (True, 509, 0, 30)),
    *((True, 128, 2, 25), (True, 255, 1, 20), (False, 1, 0, 40), (False, 32, 0, 5), (False, 384, 0, 2)),
)
"""Generation, keys, dimension, heads."""
SHARES = (1.0, 0.6, 0.25)
"""Chances that a neighbour does something in a cycle."""
QUIET_CYCLES = 30
SIZES = MachineSizes.of(TINY)
HALF = SIZES.slots * SIZES.rows // 2
"""Vectors of half a buffer."""


def loader_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Layers one behind the other, at each pace.

    Raises:
        AssertionError: if a list is not the one that is wanted next, or has no room.
    """
    simulator, found = WatchedSimulator(netlist), []
    for share in SHARES:
        simulator.reset()
        _run(simulator, Random(seed), share)
        found.append(replay_of(f"jobs at {share}", netlist, simulator.rows))
    return found


@dataclass
class _State:
    """What the neighbours know: lists that are to come, K buffers and query lines in use."""

    keys: deque[Row]
    queries: deque[Row]
    held: int = 0
    lines: int = 0
    places: int = 2


def _run(simulator: WatchedSimulator, random: Random, share: float) -> None:
    number = 0
    for generation, keys, dimension, heads in LAYERS:
        progressive = random.getrandbits(1)
        bus = {"layer_generation": int(generation), "layer_keys": keys, "layer_rows": 1 if generation else keys}
        bus |= {"layer_dimension": dimension, "layer_progressive": progressive}
        jobs = deque(_job(random, i, heads) for i in range(heads))
        state = _wanted(list(jobs), bus, number)
        number += len(state.keys)
        offered, quiet = False, 0
        for cycle in range(100_000):
            row = {**bus, "layer_start": int(cycle == 0)}
            offered = bool(jobs) and (offered or random.random() < share)
            row["job_fetch_valid"] = int(offered)
            row["job_fetch_data"] = pack(SIZES.job, jobs[0]) if offered else random.getrandbits(80)
            for stream in ("key_request", "query_request"):
                row[f"{stream}_ready"] = int(random.random() < share)
            row["key_release"] = int(state.held > 0 and random.random() < share / 4)
            row["query_freed"] = int(state.lines > 0 and random.random() < share)
            seen = simulator.step(row)
            if offered and seen["job_fetch_ready"]:
                jobs.popleft()
                offered = False
            _take(state, row, seen, SIZES.parts[dimension])
            quiet = 0 if jobs or state.keys or state.queries or state.held or state.lines else quiet + 1
            if quiet > QUIET_CYCLES:
                break
        assert quiet > QUIET_CYCLES, f"lists that never come: {state}"


def _job(random: Random, number: int, heads: int) -> Row:
    job = {name: random.getrandbits(bits) for name, bits in SIZES.job.fields}
    return job | {"kv_first": int(number == 0 or random.random() < 0.4), "last": int(number == heads - 1)}


def _wanted(jobs: list[Row], bus: Row, number: int) -> _State:
    """All lists of a layer; so many for K were before them."""
    n, generation = SIZES.parts[bus["layer_dimension"]], bus["layer_generation"]
    vectors = bus["layer_keys"] * n
    firsts, places = [job for job in jobs if job["kv_first"]], 4 if vectors <= HALF else 2
    whole = {"source": 0, "first": 0, "count": vectors, "plane": Plane.MSB if bus["layer_progressive"] else Plane.WHOLE}
    keys = [
        {**whole, "base": job["key_base"], "destination": Destination.KEY, "place": (number + i) % places}
        for i, job in enumerate(firsts)
    ]
    queries, place = [], 0
    for job in jobs:
        begins, ends = (vectors - n, vectors) if generation else (0, vectors)
        for first in range(begins, ends, CHUNK):
            count = min(CHUNK, ends - first)
            query = {"source": 0, "first": first, "count": count, "base": job["query_base"], "plane": Plane.WHOLE}
            queries.append({**query, "destination": Destination.QUERY, "place": place})
            place = (place + count) % QUERY_LINES
    return _State(deque(keys), deque(queries), places=places)


def _take(state: _State, row: Row, seen: Row, parts: int) -> None:
    """Lists that are taken, and what becomes free."""
    state.held -= row["key_release"]
    state.lines -= parts * row["query_freed"]
    for stream, wanted in (("key_request", state.keys), ("query_request", state.queries)):
        if seen[f"{stream}_valid"] and row[f"{stream}_ready"]:
            assert wanted, f"{stream}: nothing is wanted"
            expected = wanted.popleft()
            assert seen[f"{stream}_data"] == pack(SIZES.list_request, expected), f"{stream}: not {expected}"
            if stream == "key_request":
                state.held += 1
            else:
                state.lines += expected["count"]
    assert state.held <= state.places, "K of more heads than there are places"
    assert state.lines <= QUERY_LINES, "more queries than the ring has lines"
