"""The fetcher beside a memory: what it must ask for, what it must deliver, and a run that compares every word.

`expected_words` and `expected_bursts` are written from the memory layout alone (algorithm page, sections 10 and 11).
The contents of DRAM are a hash of the address, so that a burst in the wrong place cannot go unnoticed.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hls.datapaths.fetcher_parts import FetcherTypes
from hls.datapaths.watchdog import Status
from hls.lower import Netlist
from hls.simulate import Backend, open_simulator
from models.config import AcceleratorConfig
from models.memory.interface import NONE, Memory, PortCycles
from models.memory.variants import AdversarialMemory, IdealMemory, PortDriven
from verification.evidence.same_behaviour import Stepped
from verification.evidence.words import joined, nth

BURST_BYTES = 32


@dataclass(frozen=True)
class FetchList:
    """One list: rising ids, byte address of vector 0 (a multiple of 512), bits from id to id and of a vector.

    A list without ids is a row that is empty. One that is turned begins at the middle queue.
    """

    ids: tuple[int, ...]
    base_bytes: int
    stride_bits: int
    length_bits: int
    turned: bool = False

    def bits_of(self, ident: int) -> tuple[int, int]:
        """First and last bit of a vector in DRAM."""
        first = 8 * self.base_bytes + ident * self.stride_bits
        return first, first + self.length_bits - 1


@dataclass(frozen=True)
class Word:
    """A word of a vector: its place in DRAM in words, first or last of the vector, the vector's bit in its first."""

    place: int
    first: bool
    last: bool
    offset: int


class SilentMemoryError(AssertionError):
    """The watchdog has ended a run; the message names who waits for whom."""


def burst_content(address: int) -> int:
    """The 32 bytes of burst `address`."""
    return int.from_bytes(hashlib.blake2b(address.to_bytes(8, "little"), digest_size=BURST_BYTES).digest(), "little")


def expected_bursts(lists: Sequence[FetchList]) -> Iterator[int]:
    """Bursts to be asked for, in list order: a neighbour's last burst is not asked for again."""
    for one in lists:
        before = None
        for ident in one.ids:
            first, last = (bit // (8 * BURST_BYTES) for bit in one.bits_of(ident))
            yield from range(first + (first == before), last + 1)
            before = last


def queue_of(config: AcceleratorConfig, turned: bool, place: int) -> int:
    """The queue of the vector at a place of a list; all begin at queue 0 where a row of ids is for all queues."""
    queues = config.fetch_queues
    return (place + (queues // 2 if turned and queues > config.hbm_channels else 0)) % queues


def expected_words(config: AcceleratorConfig, lists: Sequence[FetchList]) -> list[list[Word]]:
    """Words of every queue in order."""
    bits = 8 * config.data_queue_bytes
    queues: list[list[Word]] = [[] for _ in range(config.fetch_queues)]
    for one in lists:
        for place, ident in enumerate(one.ids):
            first, last = one.bits_of(ident)
            places = range(first // bits, last // bits + 1)
            queues[queue_of(config, one.turned, place)].extend(
                Word(p, p == places[0], p == places[-1], first % bits) for p in places
            )
    return queues


@dataclass(frozen=True)
class Fetched:
    """What a run took: cycles until the last word, requests, the cycle in which each was accepted, and its burst."""

    cycles: int
    requests: int
    accepted_cycles: tuple[int, ...]
    bursts: tuple[int, ...]

    def rate(self, channels: int, skip: float = 0.2) -> float:
        """Requests a channel and cycle, without the first and last share `skip` of the requests."""
        low, high = int(skip * self.requests), int((1 - skip) * self.requests) - 1
        return (high - low) / channels / (self.accepted_cycles[high] - self.accepted_cycles[low])


@dataclass
class _Port:
    """A channel's register between the netlist and the memory, so that neither waits for the other in a cycle."""

    request: tuple[int, int] | None = None


class HoardingMemory(PortDriven):
    """Accepts everything, answers nothing until nothing has come for `patience_cycles`, then all by tag.

    So all channels answer one queue after the other, which crowds the data crossbar. Tags that are not `hoarded` are
    answered at once, so that all that is under way becomes the others'.
    """

    def __init__(self, channels: int, patience_cycles: int = 12, hoarded: range | None = None) -> None:
        super().__init__(channels)
        self._patience_cycles, self._quiet_cycles, self._hoarded = patience_cycles, 0, hoarded
        self._held: list[list[int]] = [[] for _ in range(channels)]

    def _cycle(self, offers: Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        tags = np.full((2, self._channels), NONE)
        self._quiet_cycles += 1
        for c, held in enumerate(self._held):
            at_once = [tag for tag in held if self._hoarded is not None and tag not in self._hoarded]
            if at_once or (held and self._quiet_cycles > self._patience_cycles):
                tags[0, c] = held.pop(held.index(at_once[0]) if at_once else 0)
        for held, offer in zip(self._held, offers, strict=True):
            if offer is not None:
                held.append(offer[1])
                held.sort()
                self._quiet_cycles = 0
        return PortCycles(np.array([offer is not None for offer in offers]), tags[0], tags[1])

    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer."""
        return [f"channel {c} owes {len(held)} answers" for c, held in enumerate(self._held) if held]


class _Run:
    """Netlist and memory, cycle by cycle."""

    def __init__(self, config: AcceleratorConfig, simulator: Stepped, memory: Memory) -> None:
        self.config, self.simulator, self.memory = config, simulator, memory
        self.types = FetcherTypes.of(config)
        self.ports = [_Port() for _ in range(config.hbm_channels)]
        self.under_way: dict[int, tuple[int, int, int]] = {}
        self.asked: Counter[int] = Counter()
        self.accepted: list[int] = []
        self.order: list[int] = []
        self.cycle = 0

    def step(self, row: dict[str, int], out_ready: int) -> dict[str, int]:
        """One cycle of both; `row` is the offered row of ids."""
        channels = self.config.hbm_channels
        offers = [port.request for port in self.ports]
        reply = self.memory.step(
            [offer is not None for offer in offers],
            [BURST_BYTES * offer[0] if offer else 0 for offer in offers],
            [offer[1] if offer else 0 for offer in offers],
        )
        tag_bits = self.simulator.netlist.inputs["answer_tag"] // channels
        inputs = {**row, "out_ready": out_ready, "request_ready": 0}
        answers = {"answer_valid": 0, "answer_tag": 0, "answer_data": 0}
        for c, port in enumerate(self.ports):
            if reply.accepted[c]:
                port.request = None
            if port.request is None:
                inputs["request_ready"] |= 1 << c
            tag = int(reply.read_tag[c])
            if tag >= 0:
                address, channel, _ = self.under_way.pop(tag)
                assert channel == c, f"channel {c} answers a request of channel {channel}"
                answers["answer_valid"] |= 1 << c
                answers["answer_tag"] |= tag << (c * tag_bits)
                answers["answer_data"] |= burst_content(address) << (c * 8 * BURST_BYTES)
        seen = self.simulator.step(inputs | answers)
        self._take_requests(seen, tag_bits)
        self.cycle += 1
        return seen

    def _take_requests(self, seen: dict[str, int], tag_bits: int) -> None:
        bits = self.types.address.width
        for c, port in enumerate(self.ports):
            if not seen["request_valid"] >> c & 1 or port.request is not None:
                continue
            address = nth(seen["request_address"], bits, c)
            tag = nth(seen["request_tag"], tag_bits, c)
            assert tag not in self.under_way, f"tag {tag} is under way twice"
            try:
                served = int(self.memory.channel_of([BURST_BYTES * address])[0])
            except ValueError as error:
                raise AssertionError(f"a request that no list asks for: {error}") from error
            assert served == c, f"burst {address:#x} was asked of channel {c}, {served} has it"
            port.request = (address, tag)
            self.under_way[tag] = (address, c, self.cycle)
            owed = sum(channel == c for _, channel, _ in self.under_way.values())
            assert owed <= self.config.address_queue_depth, (
                f"channel {c} owes {owed} answers, more than it has room for"
            )
            self.asked[address] += 1
            self.accepted.append(self.cycle)
            self.order.append(address)

    def waiting(self, seen: dict[str, int]) -> str:
        """Who waits for whom."""
        slot_bits = (self.simulator.netlist.inputs["answer_tag"] // self.config.hbm_channels) - max(
            1, (self.config.fetch_queues - 1).bit_length()
        )
        lines = []
        for q in range(self.config.fetch_queues):
            mine = [(cycle, tag) for tag, (_, _, cycle) in self.under_way.items() if tag >> slot_bits == q]
            if seen["waiting"] >> q & 1 and mine:
                cycle, tag = min(mine)
                address, channel, _ = self.under_way[tag]
                lines.append(
                    f"queue {q} waits for place {tag & ((1 << slot_bits) - 1)}, burst {address:#x}, "
                    f"asked of channel {channel} in cycle {cycle}"
                )
        silent = [c for c in range(self.config.hbm_channels) if seen["silent"] >> c & 1]
        return "; ".join([f"channels {silent} are silent", *lines, *self.memory.waiting()])


def fetch(
    config: AcceleratorConfig,
    netlist: Netlist,
    memory: Memory,
    lists: Sequence[FetchList],
    seed: int = 0,
    offer: float = 1.0,
    accept: float = 1.0,
    backend: Backend = "fast",
    limit_cycles: int | None = None,
) -> Fetched:
    """Fetch the lists one behind the other; ids come, and words are taken, with these chances in a cycle.

    Raises:
        SilentMemoryError: if the watchdog ends the run.
        AssertionError: for a burst that is lost, doubled or misplaced, a request too many, or a broken handshake.
    """
    with open_simulator(netlist, backend) as simulator:
        return fetch_with(config, simulator, memory, lists, seed, offer, accept, limit_cycles)


def fetch_with(
    config: AcceleratorConfig,
    simulator: Stepped,
    memory: Memory,
    lists: Sequence[FetchList],
    seed: int = 0,
    offer: float = 1.0,
    accept: float = 1.0,
    limit_cycles: int | None = None,
) -> Fetched:
    """`fetch` in an open simulator, which must be idle."""
    rng = np.random.default_rng(seed)
    types, queues = FetcherTypes.of(config), config.fetch_queues
    rows = deque(_rows(config, types, lists))
    wanted = [deque(words) for words in expected_words(config, lists)]
    bursts = Counter(expected_bursts(lists))
    total = sum(map(len, wanted))
    limit = limit_cycles or 2000 + int(60 * (total + len(rows)) / (offer * accept))
    run = _Run(config, simulator, memory)
    word_bits, offset_bits = types.word.width, types.offset.width - types.word_bits
    held: dict[int, tuple[int, ...]] = {}
    offering, last_word = False, 0
    seen: dict[str, int] = {"status": Status.IDLE}
    while rows or any(wanted) or seen["status"] != Status.IDLE:
        assert run.cycle < limit, f"{sum(map(len, wanted))} of {total} words missing after {limit} cycles"
        offering = bool(rows) and (offering or bool(rng.random() < offer))
        accepts = (1 << queues) - 1
        if accept < 1:
            accepts = sum(int(bit) << q for q, bit in enumerate(rng.random(queues) < accept))
        seen = run.step({**rows[0], "in_valid": 1} if offering else {}, accepts)
        if seen["status"] == Status.SILENT:
            raise SilentMemoryError(f"cycle {run.cycle}: {run.waiting(seen)}")
        if offering and seen["in_ready"]:
            rows.popleft()
            offering = False
        for q in range(queues):
            valid = bool(seen["out_valid"] >> q & 1)
            item = (
                nth(seen["word"], word_bits, q),
                seen["word_first"] >> q & 1,
                seen["word_last"] >> q & 1,
                nth(seen["offset"], offset_bits, q),
            )
            assert q not in held or (valid and held[q] == item), f"queue {q}: a stalled word changed"
            held.pop(q, None)
            if valid and not accepts >> q & 1:
                held[q] = item
            elif valid:
                assert wanted[q], f"queue {q}: a word more than was asked for"
                word = wanted[q].popleft()
                content = burst_content(word.place // types.words) >> (word.place % types.words * word_bits)
                right = (content & ((1 << word_bits) - 1), int(word.first), int(word.last), word.offset)
                assert item == right, f"queue {q}: not word {word}"
                last_word = run.cycle
    assert run.asked == bursts, f"bursts asked for but not needed, or twice: {run.asked - bursts}"
    for _ in range(4):
        quiet = run.step({}, (1 << queues) - 1)
        assert not quiet["out_valid"], "a word more than was asked for"
        assert not quiet["request_valid"], "a request more than was asked for"
    return Fetched(last_word, len(run.accepted), tuple(run.accepted), tuple(run.order))


def _rows(config: AcceleratorConfig, types: FetcherTypes, lists: Sequence[FetchList]) -> Iterator[dict[str, int]]:
    """Rows of ids as the ports take them."""
    lanes, bits = config.hbm_channels, types.ids.element.total_bits
    for one in lists:
        for start in range(0, max(1, len(one.ids)), lanes):
            part = one.ids[start : start + lanes]
            yield {
                "ids": joined(part, bits),
                "count": len(part),
                "last": int(start + lanes >= len(one.ids)),
                "turned": int(one.turned),
                "base": one.base_bytes // 512,
                "stride": one.stride_bits,
                "length": one.length_bits,
            }


def random_lists(config: AcceleratorConfig, rng: np.random.Generator, longest: int = 20) -> list[FetchList]:
    """A few lists of survivors: any share kept, any width of elements, planes next to each other."""
    types = FetcherTypes.of(config)
    most = types.length.range.high
    lists = []
    for _ in range(int(rng.integers(1, 4))):
        dimension = int(rng.choice([1, 5, config.native_head_dim // 2, config.native_head_dim]))
        bits = min(int(rng.choice([4, 6, 8, 10, 12])), config.datapath_bits)
        length = int(rng.choice([dimension * bits, most, int(rng.integers(1, most + 1))], p=[0.7, 0.1, 0.2]))
        tokens = int(rng.integers(1, 2 * longest))
        kept = np.flatnonzero(rng.random(tokens) < rng.choice([0.1, 0.5, 0.9, 1.0]))
        kept = kept if len(kept) else np.array([tokens - 1])
        first = int(rng.integers(0, config.context_keys - tokens))
        ids = tuple(int(i) + first for i in kept[:longest])
        base_bytes, turned = 512 * int(rng.integers(0, 1 << 12)), bool(rng.random() < 0.5)
        lists.append(FetchList(ids if rng.random() < 0.9 else (), base_bytes, length, length, turned))
    return lists


def first_silence(netlist: Netlist, ident: int, limit_cycles: int) -> tuple[int, int, int] | None:
    """Cycles from the first request for vector `ident` of 96 bits, never accepted, to SILENT; `silent`, `waiting`."""
    row = {"ids": ident, "count": 1, "last": 1, "length": 96, "stride": 96, "in_valid": 1}
    asked = None
    with open_simulator(netlist, "fast") as simulator:
        for cycle in range(limit_cycles):
            seen = simulator.step({} if cycle else row)
            if seen["status"] == Status.SILENT and asked is not None:
                return cycle - asked, seen["silent"], seen["waiting"]
            if asked is None and seen["request_valid"]:
                asked = cycle
    return None


def random_memory(config: AcceleratorConfig, seed: int) -> Memory:
    """A memory that refuses, delays and reorders somehow, or an ideal one."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.1:
        return IdealMemory(config.hbm_channels, int(rng.integers(1, 40)))
    return AdversarialMemory(
        config.hbm_channels,
        seed,
        accept=float(rng.choice([0.2, 0.7, 1.0])),
        answer=float(rng.choice([0.1, 0.5, 1.0])),
        max_latency_cycles=int(rng.choice([5, 40, 200])),
        order=str(rng.choice(["random", "reverse", "oldest"])),
    )


def fetch_patterns(
    config: AcceleratorConfig,
    netlist: Netlist,
    patterns: int,
    seed: int,
    longest: int = 20,
    limit_cycles: int | None = None,
) -> int:
    """Random lists through random memories under random stalls; returns the bursts that were fetched.

    Raises:
        AssertionError: as `fetch`, naming the pattern.
    """
    bursts = 0
    with open_simulator(netlist, "fast") as simulator:
        for pattern in range(patterns):
            rng = np.random.default_rng((seed, pattern))
            lists, memory = random_lists(config, rng, longest), random_memory(config, int(rng.integers(1 << 31)))
            offer, accept = (float(rng.choice([0.3, 1.0])) for _ in range(2))
            try:
                bursts += fetch_with(config, simulator, memory, lists, pattern, offer, accept, limit_cycles).requests
            except AssertionError as error:
                raise AssertionError(f"pattern {pattern} of seed {seed}: {error}") from error
    return bursts
