"""List sequencer beside a plain model: rows of ids, list table, pending bits and order of requests, cycle by cycle."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.landing_lane import LISTS, list_entry
from hls.datapaths.list_sequencer import STREAMS, msb_window
from hls.datapaths.machine_sizes import Destination, MachineSizes, Source
from hls.simulate import Simulator
from models.config import AcceleratorConfig
from verification.evidence.words import joined, nth, pack

Fields = dict[str, int]
MOST_LATE = 4
"""Cycles from a request, or from the read that a fetch row waits for, in which it is not there."""


def begins_in_the_middle(request: Fields) -> bool:
    """Whether a list begins at the middle queue: values do, also single ones, and queries for odd lines."""
    to = request["destination"]
    return to in (Destination.VALUE, Destination.SPARSE) or (to == Destination.QUERY and request["place"] % 2 == 1)


def fetch_rows(sizes: MachineSizes, request: Fields, ids: list[int], dimension: int, length: int) -> list[Fields]:
    """What the fetcher must be given for a request, `ids` being those of its source."""
    rows = []
    for start in range(0, request["count"], sizes.fetch_lanes):
        here = range(start, min(start + sizes.fetch_lanes, request["count"]))
        tokens = [divmod(request["first"] + i, 1 << dimension) for i in here]
        rows.append(
            {
                "ids": joined(((ids[t] << dimension) + part for t, part in tokens), sizes.id_bits),
                "count": len(here),
                "last": int(start + sizes.fetch_lanes >= request["count"]),
                "turned": int(begins_in_the_middle(request)),
                "base": request["base"],
                "stride": length,
                "length": length,
            }
        )
    return rows


@dataclass
class Counts:
    """Vectors that have been asked for and have not landed, by destination, buffer and segment."""

    sizes: MachineSizes
    key: list[int] = field(init=False)
    value: list[int] = field(init=False)
    query: int = 0
    sparse: int = 0

    def __post_init__(self) -> None:
        self.key, self.value = ([0] * (2 * self.sizes.segments) for _ in range(2))

    def may_ask(self, request: Fields, offered: Iterable[Fields]) -> bool:
        """Whether no list for a buffer is on its way or offered beside this one but that of another plane."""
        if request["destination"] not in (Destination.KEY, Destination.VALUE):
            return True
        buffer = request["place"] & 1
        counts = self.key if request["destination"] == Destination.KEY else self.value
        waiting = counts[buffer * self.sizes.segments : (buffer + 1) * self.sizes.segments]
        same = [
            r for r in offered if r["destination"] == request["destination"] and r["place"] & 1 == request["place"] & 1
        ]
        whole = self.sizes.slots * self.sizes.segment_rows
        return len(same) + (max(waiting) > 0) < 2 and max(waiting) <= whole

    def add(self, request: Fields) -> None:
        """A request is accepted."""
        destination, buffer = request["destination"], request["place"] & 1
        if destination in (Destination.KEY, Destination.VALUE):
            counts = self.key if destination == Destination.KEY else self.value
            upper = self.sizes.rows // 2 if destination == Destination.KEY and request["place"] & 2 else 0
            for vector in range(request["count"]):
                row = upper + vector // self.sizes.slots
                counts[buffer * self.sizes.segments + row // self.sizes.segment_rows] += 1
        elif destination == Destination.QUERY:
            self.query += request["count"]
        else:
            self.sparse += request["count"]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.key) + sum(self.value) + self.query + self.sparse


@dataclass
class Reads:
    """A buffer of values of which rows are still to be read, now and then, and the lists that are walked.

    Attributes:
        given: of each fetch row that is to come: the buffer of values it is for or -1, and its last row there.
        late: cycles in which the next one might have come.
    """

    sizes: MachineSizes
    rng: np.random.Generator
    given: deque[tuple[int, int]] = field(default_factory=deque)
    valid: bool = False
    buffer: int = 0
    row: int = 0
    late: int = 0

    def step(self) -> Fields:
        """The ports of a cycle: a buffer that no list is walked for begins to be read, is read on, or is over."""
        if not self.valid and self.rng.random() < 0.03:
            self.buffer, self.row = int(self.rng.integers(0, 2)), int(self.rng.integers(0, self.sizes.rows // 8))
            self.valid = all(buffer != self.buffer for buffer, _ in self.given)
        elif self.valid and self.rng.random() < 0.3:
            self.row += int(self.rng.integers(1, 4))
            self.valid = self.row < self.sizes.rows and self.rng.random() < 0.95
        row = self.row if self.valid else int(self.rng.integers(0, self.sizes.rows))
        buffer = self.buffer if self.valid else int(self.rng.integers(0, 2))
        return {"unread_valid": int(self.valid), "unread_buffer": buffer, "unread_row": row}

    def accept(self, request: Fields) -> None:
        """A request is accepted."""
        buffer = request["place"] & 1 if request["destination"] == Destination.VALUE else -1
        for start in range(0, request["count"], self.sizes.fetch_lanes):
            last = min(start + self.sizes.fetch_lanes, request["count"]) - 1
            self.given.append((buffer, last // self.sizes.slots))

    def check(self, is_there: bool, is_taken: bool) -> None:
        """The next fetch row is there or not, and is taken or not: not too early, and without a needless wait."""
        if not self.given:
            return
        buffer, last = self.given[0]
        is_held = self.valid and buffer == self.buffer and last >= self.row
        assert not (is_there and is_held), f"a row of buffer {buffer} is given that is still to be read"
        self.late = 0 if is_held or is_there else self.late + 1
        assert self.late <= MOST_LATE, "a row that nothing holds does not come"
        if is_taken:
            self.given.popleft()


def _land(counts: Counts, rng: np.random.Generator, most: int, bits: int) -> Fields:
    """Let some vectors land."""

    def some(limit: int) -> int:
        return int(rng.integers(0, min(limit, most) + 1)) if limit else 0

    key, value = [some(n) for n in counts.key], [some(n) for n in counts.value]
    query, sparse = some(min(counts.query, 1)), some(min(counts.sparse, 1))
    while sum(key) + sum(value) + query + sparse > most:
        key, value = [n // 2 for n in key], [n // 2 for n in value]
    counts.key = [n - k for n, k in zip(counts.key, key, strict=True)]
    counts.value = [n - v for n, v in zip(counts.value, value, strict=True)]
    counts.query -= query
    counts.sparse -= sparse
    return {
        "landed_key": joined(key, bits),
        "landed_value": joined(value, bits),
        "landed_sparse": sparse,
        "landed_all": sum(key) + sum(value) + query + sparse,
    }


def _random_request(sizes: MachineSizes, rng: np.random.Generator, n: int, sizes_of: dict[int, int]) -> Fields:
    source = int(rng.integers(0, 4))
    tokens = sizes_of[source]
    first, count = 0, tokens * n - int(rng.integers(0, tokens * n)) * int(rng.integers(0, 2))
    if rng.random() < 0.3:
        first, count = int(rng.integers(0, tokens)) * n, n
    elif rng.random() < 0.3:
        first = int(rng.integers(0, tokens * n)) // sizes.fetch_lanes * sizes.fetch_lanes
        count = int(rng.integers(1, tokens * n - first + 1))
    destination = int(rng.integers(0, 4))
    if destination == Destination.VALUE:
        first = 0
    place = int(rng.integers(0, 64))
    if count > sizes.slots * sizes.rows // 2:
        # no half has room for it
        place &= ~2
    return {
        "source": source,
        "first": first,
        "count": count,
        "base": int(rng.integers(0, 1 << sizes.base_bits)),
        "plane": int(rng.integers(0, 3)),
        "destination": destination,
        "place": place,
    }


def run_sequencer(
    config: AcceleratorConfig, simulator: Simulator, cycles: int, seed: int, window: int, tokens: int = 24
) -> int:
    """Random lists, requests, stalls and landings; returns the rows that were compared.

    Raises:
        AssertionError: for anything that a plain model does not give.
    """
    rng, sizes = np.random.default_rng(seed), MachineSizes.of(config)
    dimension = int(rng.integers(0, len(sizes.parts)))
    lengths = {
        "msb": int(rng.choice([4, 6, 8])) * sizes.native,
        "lsb": 4 * sizes.native,
        "query": sizes.width * sizes.native,
    }
    bus = {"layer_dimension": dimension, **{f"layer_{name}_length": bits for name, bits in lengths.items()}}
    limit = min(tokens, config.context_keys >> dimension)
    lists = {
        s: rng.integers(0, config.context_keys >> dimension, int(rng.integers(1, limit + 1))).tolist() for s in range(4)
    }
    lanes = sizes.top_k_lanes
    for source, ids in lists.items():
        for start in range(0, len(ids), lanes):
            name = "survivor" if source == Source.SURVIVORS else "kept"
            packed = joined(ids[start : start + lanes], sizes.id_bits)
            simulator.step(
                {f"{name}_write": 1, f"{name}_row": start // lanes, f"{name}_ids": packed, "kept_which": source}
            )
    counts, reads, shown = Counts(sizes), Reads(sizes, rng), 0
    offered: dict[str, Fields] = {}
    wanted: deque[Fields] = deque()
    table: list[int] = []
    landed_width = simulator.netlist.inputs["landed_all"]
    most = (1 << landed_width) - 1
    compared, before, stalled = 0, 0, None
    accept = float(rng.choice([0.3, 1.0]))
    for _ in range(cycles):
        for stream in STREAMS:
            if stream not in offered and rng.random() < 0.1:
                request = _random_request(sizes, rng, 1 << dimension, {s: len(i) for s, i in lists.items()})
                if counts.may_ask(request, offered.values()):
                    offered[stream] = request
        behind = int(rng.random() < 0.1)
        # what has landed before this cycle is what the pending bits must show in it
        pending = {
            "key_pending": sum(int(n > 0) << b for b, n in enumerate(counts.key)),
            "value_pending": sum(int(n > 0) << b for b, n in enumerate(counts.value)),
            "sparse_pending": int(counts.sparse > 0),
        }
        outstanding = counts.total
        ports = bus | _land(counts, rng, most, landed_width) if rng.random() < 0.5 else dict(bus)
        ports |= {f"{s}_valid": 1 for s in offered}
        ports |= {f"{s}_data": pack(sizes.list_request, r) for s, r in offered.items()}
        ports |= {
            "lane_behind": behind << int(rng.integers(0, sizes.queues)),
            "fetch_ready": int(rng.random() < accept),
            **reads.step(),
        }
        seen = simulator.step(ports)
        for name, bits in pending.items():
            assert seen[name] == bits, f"{name} is {seen[name]}, not {bits}"
        assert seen["list_next"] == shown % (2 * LISTS), "not the number of lists"
        bits = list_entry(sizes).bits
        for i in range(max(0, shown - LISTS), shown):
            assert nth(seen["list_table"], bits, i % LISTS) == table[i], f"list {i} is not shown"
        reads.check(bool(seen["fetch_valid"]), bool(seen["fetch_valid"] and ports["fetch_ready"]))
        if seen["fetch_valid"]:
            assert wanted, "a row that no request asks for"
            row = wanted[0]
            assert all(seen[f"fetch_{name}"] == row[name] for name in row if name != "ids"), f"not row {row}"
            present = (1 << (row["count"] * sizes.id_bits)) - 1
            assert seen["fetch_ids"] & present == row["ids"], f"not the ids of {row}"
            if ports["fetch_ready"]:
                wanted.popleft()
                compared += 1
        assert stalled is None or seen["fetch_valid"], "a stalled row vanished"
        stalled = 1 if seen["fetch_valid"] and not ports["fetch_ready"] else None
        ready = [s for s in STREAMS if s in offered and seen[f"{s}_ready"]]
        full = before >= msb_window(window)
        may = [s for s in STREAMS if s in offered and not (full and offered[s]["plane"] == Plane.MSB)]
        assert ready in ([], may[:1]), f"{ready} are accepted of {list(offered)}"
        for stream in ready:
            assert not behind, "a list is added while a lane is behind"
            assert before < window, f"a list begins with {before} vectors on their way"
            request = offered.pop(stream)
            plane = "lsb" if request["plane"] == Plane.LSB else "msb"
            length = lengths["query" if request["destination"] == Destination.QUERY else plane]
            wanted.extend(fetch_rows(sizes, request, lists[request["source"]], dimension, length))
            table.append(pack(list_entry(sizes), request))
            counts.add(request)
            reads.accept(request)
            shown += 1
        before = outstanding
    return compared


def run_sequencers(config: AcceleratorConfig, simulator: Simulator, seeds: range, window: int) -> int:
    """`run_sequencer` for every seed from reset on; returns the rows that were compared."""
    compared = 0
    for seed in seeds:
        simulator.reset()
        compared += run_sequencer(config, simulator, 300, seed, window)
    return compared
