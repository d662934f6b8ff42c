"""Landing beside plain models: a lane with a converter that is a row of places, and the ports of all lanes."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from hls.datapaths import bitwidth_converter
from hls.datapaths.bitwidth_converter import LSB_BITS, Plane
from hls.datapaths.fetch_side import SRAMS
from hls.datapaths.landing_lane import LISTS, landing_tag, list_entry
from hls.datapaths.landing_write import landing_groups
from hls.datapaths.machine_sizes import QUERY_LINES, Destination, MachineSizes, Source
from hls.simulate import Simulator
from models.config import AcceleratorConfig
from verification.evidence.fetcher_model import queue_of
from verification.evidence.list_sequencer_model import Fields, begins_in_the_middle
from verification.evidence.words import joined, nth, pack, split


def tag_of(sizes: MachineSizes, entry: Fields, i: int) -> int:
    """The tag of vector `i` of a list; where keys go, bit 1 of the place says which half of the buffer."""
    is_query = entry["destination"] == Destination.QUERY
    upper = sizes.slots * sizes.rows // 2 if entry["place"] & 2 else 0
    index = (entry["place"] + i) % QUERY_LINES if is_query else i | upper
    fields = {
        "destination": entry["destination"],
        "is_lsb": int(entry["plane"] == Plane.LSB),
        "buffer": entry["place"] & 1,
        "index": index,
    }
    return pack(landing_tag(sizes), fields)


def first_vector(config: AcceleratorConfig, lane: int, entry: Fields) -> int:
    """The lane's first vector of a list."""
    return (lane - queue_of(config, begins_in_the_middle(entry), 0)) % config.fetch_queues


@dataclass
class _Walk:
    """Where a lane is in the lists: a list ends with the lane's last vector, or costs a cycle if it has none."""

    config: AcceleratorConfig
    lane: int
    position: int = 0
    vector: int = 0
    behind: int = 0

    def step(self, entries: list[Fields], ended: bool) -> None:
        """A cycle in which these lists are shown and a vector of the lane ended or not."""
        self.behind = int(len(entries) - self.position >= LISTS - 1)
        if self.position == len(entries):
            return
        self.vector += ended
        entry = entries[self.position]
        next_vector = self.vector * self.config.fetch_queues + first_vector(self.config, self.lane, entry)
        if next_vector >= entry["count"]:
            self.position, self.vector = self.position + 1, 0


def run_lane(config: AcceleratorConfig, simulator: Simulator, cycles: int, seed: int) -> int:
    """Random lists and words through one lane; returns the vectors whose tags were compared.

    Raises:
        AssertionError: for a word, what goes with it, a tag that is not that of the vector in the converter, or
            `lane_behind` in another cycle than where the lists that are shown do not end in time.
    """
    rng, sizes = np.random.default_rng(seed), MachineSizes.of(config)
    lane, form = int(rng.integers(0, sizes.queues)), int(rng.integers(0, 5))
    record = list_entry(sizes)
    entries: list[Fields] = []
    words: deque[tuple[Fields, Fields]] = deque()
    sent: deque[Fields] = deque()
    stages: list[int | None] = [None] * bitwidth_converter.plan(config).latency_cycles
    vectors = compared = 0
    share, supply = rng.choice([0.4, 1.0]), rng.choice([0.4, 1.0])
    offering, walk = False, _Walk(config, lane)
    for cycle in range(cycles + 50 * cycles):
        ready = int(stages[-1] is None or rng.random() < share)
        ports = {"lane": lane, "layer_format": form, "list_next": len(entries) % (2 * LISTS), "convert_ready": ready}
        first = max(0, len(entries) - LISTS)
        ports["list_table"] = sum(
            pack(record, entry) << (i % LISTS * record.bits) for i, entry in enumerate(entries[first:], first)
        )
        offering = bool(words) and (offering or rng.random() < supply)
        if offering:
            ports |= {"word_valid": 1, **words[0][0]}
        seen = simulator.step(ports)
        behind = walk.behind
        assert seen["lane_behind"] == behind, (
            f"behind is {seen['lane_behind']}, {walk.position} of {len(entries)} lists"
        )
        if stages[-1] is not None:
            assert seen["tag"] == stages[-1], "not the tag of the vector that the converter gives"
            compared += ready
        if ready:
            stages = [None, *stages[:-1]]
        if seen["convert_valid"] and ready:
            assert sent, "a word that did not come"
            word = sent.popleft()
            assert all(seen[f"convert_{name}"] == word[name] for name in word if name != "tag"), f"not {word}"
            stages[0] = word["tag"] if word["last"] else None
        ended = False
        if offering and seen["word_ready"]:
            offering = False
            sent.append(words.popleft()[1])
            ended = bool(sent[-1]["last"])
        walk.step(entries, ended)
        if cycle < cycles and not behind and rng.random() < 0.2:
            # of a vector or two, of some for each lane, and up to a whole buffer
            longest = rng.choice([3, 5 * sizes.queues, sizes.slots * sizes.rows + 1], p=[0.5, 0.4, 0.1])
            count = int(rng.integers(1, longest))
            kinds = {"plane": int(rng.integers(0, 3)), "destination": int(rng.integers(0, 4))}
            entries.append({"count": count, **kinds, "place": int(rng.integers(0, 64))})
            for i in range(first_vector(config, lane, entries[-1]), count, sizes.queues):
                words.extend(_words_of(config, entries[-1], i, form, rng))
                vectors += 1
        if cycle >= cycles and not words and not sent and not any(s is not None for s in stages) and not behind:
            break
    assert compared == vectors, f"{compared} of {vectors} vectors came through"
    return compared


def run_lanes(config: AcceleratorConfig, simulator: Simulator, seeds: range) -> int:
    """`run_lane` for every seed from reset on; returns the vectors whose tags were compared."""
    compared = 0
    for seed in seeds:
        simulator.reset()
        compared += run_lane(config, simulator, 150, seed)
    return compared


def _words_of(
    config: AcceleratorConfig, entry: Fields, i: int, form: int, rng: np.random.Generator
) -> list[tuple[Fields, Fields]]:
    """Random words of a vector, as the fetcher offers them and as the converter must get them."""
    sizes, length = MachineSizes.of(config), int(rng.integers(1, 4))
    widest = (config.datapath_bits - 4) // 2
    if entry["plane"] == Plane.LSB:
        form = widest - 2  # M + 4 = W: LSBs are the lowest bits
    if entry["destination"] == Destination.QUERY:
        form = widest
    found, offset = [], int(rng.integers(0, 8 * config.data_queue_bytes))
    for n in range(length):
        common = {"word": int(rng.integers(0, 1 << 62)), "offset": offset}
        first, last = int(n == 0), int(n == length - 1)
        with_list = {"format": form, "plane": entry["plane"], "tag": tag_of(sizes, entry, i)}
        found.append(
            (common | {"word_first": first, "word_last": last}, common | {"first": first, "last": last} | with_list)
        )
    return found


Rows: TypeAlias = list[deque[tuple[Fields, int]]]
"""For every lane, the tags and data of its rows in order."""


@dataclass
class Landed:
    """What the write ports have put where: [buffer, row, slot, element] and lines, and what should be there."""

    sizes: MachineSizes
    got: dict[str, np.ndarray] = field(init=False)
    wanted: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        shape = (2, 1 << self.sizes.row_bits, self.sizes.slots)
        self.got = {name: np.zeros(shape, dtype=object) for name in SRAMS}
        self.got["query"] = np.zeros(QUERY_LINES, dtype=object)
        self.wanted = {name: array.copy() for name, array in self.got.items()}

    def equal(self) -> bool:
        """Whether everything is where it should be."""
        return all((self.got[name] == self.wanted[name]).all() for name in self.got)


def _joined(sizes: MachineSizes, old: int, new: int, is_lsb: int) -> int:
    element = (1 << (LSB_BITS if is_lsb else sizes.width)) - 1
    mask = joined([element] * sizes.native, sizes.width)
    return (old & ~mask) | (new & mask)


def _place(sizes: MachineSizes, buffer: int, row: int) -> int:
    """Number of the count of a segment."""
    return buffer * sizes.segments + row // sizes.segment_rows


def _counter_of(sizes: MachineSizes, tag: Fields) -> str:
    """Which of the landed counts a row belongs to."""
    place = _place(sizes, tag["buffer"], tag["index"] // sizes.slots)
    by_segment = {Destination.KEY: f"key {place}", Destination.VALUE: f"value {place}"}
    return by_segment.get(Destination(tag["destination"]), "query" if tag["destination"] == 2 else "sparse")


@dataclass
class Written:
    """What the ports wrote in a cycle: rows by SRAM and segment, query lines."""

    rows: dict[str, list[int]]
    lines: int = 0


@dataclass
class LandingRun:
    """What a run showed: rows taken, cycles, the most rows in one cycle."""

    rows: int
    cycles: int
    most: int


class Landing:
    """The landing netlist with rows to land: every lane has a queue of (tag fields, data), offered one by one."""

    def __init__(self, config: AcceleratorConfig, simulator: Simulator, dimension: int) -> None:
        self.sizes, self.simulator = MachineSizes.of(config), simulator
        self.layer = {"layer_dimension": dimension}
        self.dimension = dimension
        self.landed = Landed(self.sizes)
        self.slots: list[int] = []
        self._written = self._nothing_written()
        self.counted: Counter[str] = Counter()
        self.lines: list[int] = []

    def _nothing_written(self, lines: int = 0) -> Written:
        return Written({name: [0] * (2 * self.sizes.segments) for name in SRAMS}, lines)

    def write_slots(self, slots: list[int]) -> None:
        """The slot numbers of a sparse list."""
        lanes, bits = self.sizes.top_k_lanes, self.sizes.id_bits
        for start in range(0, len(slots), lanes):
            packed = joined(slots[start : start + lanes], bits)
            ports = {"kept_write": 1, "kept_which": Source.SPARSE, "kept_row": start // lanes, "sparse_slots": packed}
            self._step(self.layer | ports)
        for which in (Source.KEPT_FIRST, Source.KEPT_SECOND):
            self._step(self.layer | {"kept_write": 1, "kept_which": which, "sparse_slots": 1})
        self.slots = slots

    def run(self, queues: Rows, rng: np.random.Generator, supply: float = 1.0) -> LandingRun:
        """Land everything; rows are offered with chance `supply` in a cycle.

        Raises:
            AssertionError: if a row waits too long, or what landed or was counted is wrong.
        """
        sizes, record = self.sizes, landing_tag(self.sizes)
        total, cycles, most = sum(map(len, queues)), 0, 0
        expected = Counter(_counter_of(self.sizes, tag) for queue in queues for tag, _ in queue)
        offering, waited = [False] * sizes.queues, [0] * sizes.queues
        # each lane of the group once, behind a row of each other group; and the sparse rows, which have priority
        groups = landing_groups(sizes)
        patience = sizes.queues // groups * (groups + 2) + expected["sparse"]
        while any(queues):
            ports = {"landing_valid": 0, "landing_tag": 0, "landing_data": 0}
            for lane, queue in enumerate(queues):
                offering[lane] = bool(queue) and (offering[lane] or bool(rng.random() < supply))
                if offering[lane]:
                    tag, data = queue[0]
                    ports["landing_valid"] |= 1 << lane
                    ports["landing_tag"] |= pack(record, tag) << (lane * record.bits)
                    ports["landing_data"] |= data << (lane * sizes.line_bits)
            seen = self._step(self.layer | ports)
            taken = 0
            for lane, queue in enumerate(queues):
                waited[lane] = waited[lane] + 1 if offering[lane] else 0
                assert waited[lane] <= patience, f"lane {lane} waits for {waited[lane]} cycles"
                if offering[lane] and seen["landing_ready"] >> lane & 1:
                    self._expect(*queue.popleft())
                    offering[lane], waited[lane] = False, 0
                    taken += 1
            cycles, most = cycles + 1, max(most, taken)
        for _ in range(2 * sizes.queues + 8):
            self._step(self.layer)
        assert self.landed.equal(), "a row is not where it belongs"
        assert +self.counted == expected, f"{self.counted} are counted, not {expected}"
        return LandingRun(total, cycles, most)

    def _expect(self, tag: Fields, data: int) -> None:
        destination, index = tag["destination"], tag["index"]
        wanted = self.landed.wanted
        if destination == Destination.QUERY:
            wanted["query"][index] = data
            return
        if destination == Destination.SPARSE:
            token, part = divmod(index, 1 << self.dimension)
            index = self.slots[token] << self.dimension | part
        name = "key" if destination == Destination.KEY else "value"
        row, slot = divmod(index, self.sizes.slots)
        cell = tag["buffer"], row, slot
        wanted[name][cell] = _joined(self.sizes, wanted[name][cell], data, tag["is_lsb"])

    def _step(self, ports: Fields) -> Fields:
        """One cycle; what is written is put into the arrays, and must be counted in the next."""
        sizes, seen = self.sizes, self.simulator.step(ports)
        bits, before = self.simulator.netlist.outputs["landed_all"], self._written
        key, value = (split(seen[f"landed_{name}"], bits, 2 * sizes.segments) for name in SRAMS)
        assert key == before.rows["key"], f"{key} key rows are counted, not {before.rows['key']}"
        with_sparse = sum(value) + seen["landed_sparse"]
        assert with_sparse == sum(before.rows["value"]), f"{with_sparse} value rows are counted, not {before.rows}"
        assert seen["landed_all"] == sum(key) + with_sparse + before.lines, "not the number of all"
        self.counted += Counter({f"key {b}": n for b, n in enumerate(key)})
        self.counted += Counter({f"value {b}": n for b, n in enumerate(value)})
        self.counted += Counter(sparse=seen["landed_sparse"], query=before.lines)
        self._written = self._nothing_written(seen["query_write"])
        for name in SRAMS:
            for bank in range(2 * sizes.slots):
                if seen[f"{name}_write_valid"] >> bank & 1:
                    self._write(seen, name, bank)
        if seen["query_write"]:
            self.landed.got["query"][seen["query_write_line"]] = seen["query_write_data"]
            self.lines.append(seen["query_write_line"])
        return seen

    def _write(self, seen: Fields, name: str, bank: int) -> None:
        sizes = self.sizes

        def of_bank(port: str, bits: int) -> int:
            return nth(seen[f"{name}_write_{port}"], bits, bank)

        buffer, half = divmod(of_bank("address", sizes.row_bits), 1 << (sizes.row_bits - 1))
        cell = buffer, 2 * half + bank // sizes.slots, bank % sizes.slots
        got = self.landed.got[name]
        got[cell] = _joined(sizes, got[cell], of_bank("data", sizes.line_bits), of_bank("lsb", 1))
        self._written.rows[name][_place(sizes, buffer, cell[1])] += 1


def random_queues(
    sizes: MachineSizes, rng: np.random.Generator, rows: int, tokens: int, dimension: int
) -> tuple[Rows, list[int]]:
    """Up to `rows` rows a lane, each place once a destination and plane; and the slot numbers of the sparse ones.

    Of at most `tokens` tokens, and no more than a buffer holds.
    """
    n = 1 << dimension
    tokens = min(tokens, sizes.rows * sizes.slots // n)
    queues: Rows = [deque() for _ in range(sizes.queues)]
    kept = np.flatnonzero(rng.random(tokens) < 0.6).tolist() or [0]
    # rows of one place never meet, so that their order does not matter
    side = int(rng.integers(0, 2))
    lists = [(Destination.KEY, 0, side), (Destination.VALUE, 0, side), (Destination.QUERY, 0, 0)]
    if rng.random() < 0.5:
        lists += [(Destination.SPARSE, 1, 1 - side), (Destination.KEY, 1, 1 - side)]
    else:
        lists += [(Destination.VALUE, 1, 1 - side)]
    weights = rng.dirichlet([0.5] * len(lists))
    limits = {Destination.SPARSE: len(kept) * n, Destination.QUERY: QUERY_LINES}
    for (destination, is_lsb, buffer), weight in zip(lists, weights, strict=True):
        count = min(int(weight * rows * sizes.queues) + 1, limits.get(destination, tokens * n))
        for i in range(count):
            tag = {"destination": destination, "is_lsb": is_lsb, "buffer": buffer, "index": i}
            data = int.from_bytes(rng.bytes(-(-sizes.line_bits // 8)), "little") & ((1 << sizes.line_bits) - 1)
            first = sizes.half_turn if destination in (Destination.VALUE, Destination.SPARSE) else 0
            queues[(first + i) % sizes.queues].append((tag, data))
    for queue in queues:
        mixed = list(queue)
        rng.shuffle(mixed)
        queue.clear()
        queue.extend(mixed)
    return queues, [int(k) for k in kept]


def rows_of(destination: Destination, sizes: MachineSizes, vectors: int, buffer: int = 1) -> Rows:
    """The rows of one list, by lane."""
    queues: Rows = [deque() for _ in range(sizes.queues)]
    for i in range(vectors):
        queues[i % sizes.queues].append(
            ({"destination": destination, "is_lsb": 0, "buffer": buffer, "index": i}, i + 1)
        )
    return queues


def run_landings(config: AcceleratorConfig, simulator: Simulator, seeds: range) -> int:
    """Random rows through the landing netlist, then a list of queries, which come in turn; returns the rows landed.

    Raises:
        AssertionError: as `Landing.run`, and for queries out of turn.
    """
    sizes, landed = MachineSizes.of(config), 0
    for seed in seeds:
        simulator.reset()
        rng, dimension = np.random.default_rng(seed), seed % len(MachineSizes.of(config).parts)
        landing = Landing(config, simulator, dimension)
        queues, slots = random_queues(sizes, rng, 40, 32, dimension)
        landing.write_slots(slots)
        landed += landing.run(queues, rng, (1.0, 0.4)[seed & 1]).rows
    simulator.reset()
    landing = Landing(config, simulator, 0)
    run = landing.run(rows_of(Destination.QUERY, sizes, QUERY_LINES), np.random.default_rng(0))
    assert run.cycles <= QUERY_LINES, f"{QUERY_LINES} query rows take {run.cycles} cycles"
    assert landing.lines == list(range(QUERY_LINES)), f"the groups do not take turns: {landing.lines}"
    return landed + run.rows
