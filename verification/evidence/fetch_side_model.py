"""The fetch side beside a memory: lists in flight, and every vector in its place when its pending bit falls.

What is expected is written from the memory layout alone (algorithm page, sections 5 and 11): the elements of a vector
are bits of DRAM, whose contents are a hash of the address (`fetcher_model.burst_content`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hls.compose import Composer, Composition
from hls.datapaths import fetch_side
from hls.datapaths.bitwidth_converter import BitwidthConverterTypes, Plane
from hls.datapaths.crossbar import BURST_BITS, slot_bits
from hls.datapaths.fetch_side import SRAMS
from hls.datapaths.landing_lane import LISTS
from hls.datapaths.list_sequencer import STREAMS
from hls.datapaths.machine_sizes import QUERY_LINES, Destination, MachineSizes, Source
from hls.simulate import Simulator
from models.config import AcceleratorConfig
from models.memory.interface import Memory
from verification.evidence.fetch_side_lists import Layer, Request
from verification.evidence.fetcher_model import BURST_BYTES, burst_content
from verification.evidence.words import joined, nth, split

Integers = NDArray[np.int64]
Elements = list[list[int]]
LSB_BITS = 4


def compose(config: AcceleratorConfig) -> Composition:
    """The fetch side alone, its other signals as ports."""
    sizes, types = MachineSizes.of(config), BitwidthConverterTypes.of(config)
    composer = Composer("fetch_side")
    widths = {
        "layer_dimension": sizes.dimension_bits,
        "layer_format": types.format.width,
        "layer_elements": types.count.width,
        **{f"layer_{name}_length": sizes.length_bits for name in ("msb", "lsb", "query")},
        "survivor_write": 1,
        "survivor_row": sizes.list_row_bits,
        "survivor_ids": sizes.top_k_lanes * sizes.id_bits,
        "kept_write": 1,
        "kept_which": 2,
        "kept_row": sizes.list_row_bits,
        "kept_ids": sizes.top_k_lanes * sizes.id_bits,
        "sparse_slots": sizes.top_k_lanes * sizes.id_bits,
        **{f"{stream}_data": sizes.list_request.bits for stream in STREAMS},
        **{f"{stream}_valid": 1 for stream in STREAMS},
        "unread_valid": 1,
        "unread_buffer": 1,
        "unread_row": sizes.row_bits,
        "query_clear": QUERY_LINES,
        "query_read_line": (QUERY_LINES - 1).bit_length(),
    }
    for name, bits in widths.items():
        composer.input(name, bits)
    side = fetch_side.add(composer, config)
    for name in ("request_ready", "answer_tag", "answer_data", "answer_valid"):
        composer.connect(side.fetcher.name, name, composer.input(name, side.fetcher.inputs[name]))
    for name in ("request_address", "request_tag", "request_valid"):
        composer.output(name, side.fetcher[name])
    for name, sram in side.srams.items():
        for port in ("read_valid", "read_lanes", "read_address"):
            composer.connect(sram.name, port, composer.input(f"{name}_{port}", sram.inputs[port]))
        composer.output(f"{name}_out_data", sram["out_data"])
    for part in ("list_sequencer", "landing_write", "query_buffer", *_lanes(sizes)):
        composer.by_name(part)
    ready = tuple(f"{stream}_ready" for stream in STREAMS)
    for name in (*ready, "key_pending", "value_pending", "sparse_pending", "query_valid", "query_line"):
        composer.output(name, composer.signal(name))
    return composer.build()


def _lanes(sizes: MachineSizes) -> list[str]:
    return [f"landing_lane_{q}" for q in range(sizes.queues)]


def elements_in_dram(base: int, number: int, elements: int, bits: int) -> list[int]:
    """The elements of vector `number` of those bit-packed from `base` (in 512 bytes) on."""
    first = 8 * 512 * base + number * elements * bits
    low, high = first // BURST_BITS, (first + elements * bits - 1) // BURST_BITS
    bursts = joined(map(burst_content, range(low, high + 1)), BURST_BITS)
    return split(bursts >> (first % BURST_BITS), bits, elements)


@dataclass
class Expected:
    """What the memories hold: operand SRAMs [buffer, row, slot, element], query lines [line, element]."""

    sizes: MachineSizes
    width: int
    srams: dict[str, Integers] = field(init=False)
    query: Integers = field(init=False)

    def __post_init__(self) -> None:
        shape = (2, 1 << self.sizes.row_bits, self.sizes.slots, self.sizes.native)
        self.srams = {"key": np.zeros(shape, np.int64), "value": np.zeros(shape, np.int64)}
        self.query = np.zeros((QUERY_LINES, self.sizes.native), np.int64)

    def land(self, layer: Layer, request: Request) -> None:
        """Put all vectors of a list where they belong."""
        for i in range(request.count):
            self._land_one(layer, request, i)

    def _land_one(self, layer: Layer, request: Request, i: int) -> None:
        token, part = divmod(request.first + i, layer.parts)
        number = request.ids[token] * layer.parts + part
        is_query, is_lsb = request.destination is Destination.QUERY, request.plane is Plane.LSB
        bits = self.width if is_query else LSB_BITS if is_lsb else layer.msb_bits
        values = np.zeros(self.sizes.native, np.int64)
        values[: layer.elements] = elements_in_dram(request.base, number, layer.elements, bits)
        if is_query:
            self.query[(request.place + i) % QUERY_LINES] = values
            return
        place = i
        if request.destination is Destination.SPARSE:
            place = request.slots[token] * layer.parts + part
        name = "key" if request.destination is Destination.KEY else "value"
        row, slot = divmod(place, self.sizes.slots)
        row += self.sizes.rows // 2 if request.is_upper else 0
        cell = self.srams[name][request.buffer, row, slot]
        there = np.arange(self.sizes.native) < layer.elements
        if is_lsb:
            cell[:] = (cell & ~15) | values
        else:
            low = self.width - layer.msb_bits - LSB_BITS
            cell[:] = (values << (self.width - bits)) | (np.where(there, 8 << low, 0) if request.plane else 0)


@dataclass
class Finished:
    """What a run showed: cycles, vectors that landed, and the most lists that were outstanding at once."""

    cycles: int
    vectors: int
    lists_at_once: int


class Bench:
    """Composition and memory, cycle by cycle."""

    def __init__(self, config: AcceleratorConfig, simulator: Simulator, memory: Memory) -> None:
        self.config, self.simulator, self.memory = config, simulator, memory
        self.sizes = MachineSizes.of(config)
        self._asked: list[tuple[int, int] | None] = [None] * config.hbm_channels
        self._address_of: dict[int, int] = {}
        self._tag_bits = slot_bits(config) + max(1, (config.fetch_queues - 1).bit_length())
        self._every_slot = {"valid": 1, "lanes": (1 << self.sizes.slots) - 1}
        self.cycle = 0

    def step(self, inputs: dict[str, int]) -> dict[str, int]:
        """One cycle of both."""
        offers = self._asked
        reply = self.memory.step(
            [offer is not None for offer in offers],
            [BURST_BYTES * offer[0] if offer else 0 for offer in offers],
            [offer[1] if offer else 0 for offer in offers],
        )
        ports = {"request_ready": 0, "answer_valid": 0, "answer_tag": 0, "answer_data": 0}
        for c in range(self.config.hbm_channels):
            if reply.accepted[c]:
                self._asked[c] = None
            if self._asked[c] is None:
                ports["request_ready"] |= 1 << c
            tag = int(reply.read_tag[c])
            if tag >= 0:
                ports["answer_valid"] |= 1 << c
                ports["answer_tag"] |= tag << (c * self._tag_bits)
                ports["answer_data"] |= burst_content(self._address_of.pop(tag)) << (c * BURST_BITS)
        seen = self.simulator.step(inputs | ports)
        bits = self.simulator.netlist.outputs["request_address"] // self.config.hbm_channels
        for c in range(self.config.hbm_channels):
            if seen["request_valid"] >> c & 1 and self._asked[c] is None:
                address = nth(seen["request_address"], bits, c)
                tag = nth(seen["request_tag"], self._tag_bits, c)
                self._asked[c] = address, tag
                self._address_of[tag] = address
        self.cycle += 1
        return seen

    def read_rows(self, places: Sequence[tuple[int, int]], inputs: dict[str, int]) -> Iterator[dict[str, Elements]]:
        """Slots of rows (buffer, row) of both operand SRAMs, by SRAM, a row a cycle."""
        sizes = self.sizes
        ports = {f"{name}_read_{port}": value for name in SRAMS for port, value in self._every_slot.items()}
        for cycle, place in enumerate([*places, None]):
            asked = {}
            if place is not None:
                address = (place[0] << sizes.row_bits) | place[1]
                everywhere = sum(address << (s * (1 + sizes.row_bits)) for s in range(sizes.slots))
                asked = ports | {f"{name}_read_address": everywhere for name in SRAMS}
            seen = self.step(inputs | asked)
            if cycle:
                yield {name: _elements(seen[f"{name}_out_data"], sizes, sizes.slots) for name in SRAMS}

    def read_line(self, line: int, inputs: dict[str, int]) -> list[int]:
        """A query line, in two cycles."""
        self.step(inputs | {"query_read_line": line})
        return _elements(self.step(inputs)["query_line"], self.sizes, 1)[0]


def list_rows(sizes: MachineSizes, ids: Sequence[int], which: int, slots: Sequence[int] = ()) -> list[dict[str, int]]:
    """A list of ids as its ports take it, cycle by cycle."""
    lanes, bits = sizes.top_k_lanes, sizes.id_bits
    rows = []
    for start in range(0, len(ids), lanes):
        name = "survivor" if which == Source.SURVIVORS else "kept"
        here = slice(start, start + lanes)
        ports = {f"{name}_write": 1, f"{name}_row": start // lanes, f"{name}_ids": joined(ids[here], bits)}
        if which != Source.SURVIVORS:
            ports |= {"kept_which": which, "sparse_slots": joined(slots[here], bits)}
        rows.append(ports)
    return rows


def _elements(word: int, sizes: MachineSizes, slots: int) -> Elements:
    flat = split(word, sizes.width, slots * sizes.native)
    return [flat[s * sizes.native : (s + 1) * sizes.native] for s in range(slots)]


def run_layer(bench: Bench, expected: Expected, layer: Layer, rounds: Sequence[Sequence[Request]]) -> Finished:
    """Rounds of requests one behind the other; all of a round are offered together.

    When a pending bit falls, or a query line is valid, what the list brought is read in the next cycles and compared.
    At the end everything is: no write went astray.

    Raises:
        AssertionError: for a vector that is not where it belongs, or a pending bit that is not what it should be.
    """
    sizes, bus = bench.sizes, layer.bus(bench.config)
    begun, vectors, most = bench.cycle, 0, 0
    for ports in list_rows(sizes, layer.survivors, Source.SURVIVORS):
        bench.step(bus | ports)
    for requests in rounds:
        for request in requests:
            if request.source is not Source.SURVIVORS:
                for ports in list_rows(sizes, request.ids, request.source, request.slots):
                    bench.step(bus | ports)
        most = max(most, _run_round(bench, expected, layer, requests))
        vectors += sum(request.count for request in requests)
    _compare_everything(bench, expected, bus)
    return Finished(bench.cycle - begun, vectors, most)


def _pending(sizes: MachineSizes, seen: dict[str, int], request: Request) -> int:
    if request.destination is Destination.SPARSE:
        return seen["sparse_pending"]
    name = "key" if request.destination is Destination.KEY else "value"
    segments = seen[f"{name}_pending"] >> (request.buffer * sizes.segments)
    return segments & ((1 << sizes.segments) - 1)


def _run_round(bench: Bench, expected: Expected, layer: Layer, requests: Sequence[Request]) -> int:
    """Offer, wait until all have landed; returns the most lists outstanding at once."""
    sizes, bus = bench.sizes, layer.bus(bench.config)
    waiting = {s: deque(r for r in requests if r.stream == s) for s in STREAMS}
    outstanding: list[Request] = []
    limit, most = bench.cycle + 3000 + 200 * sum(r.count for r in requests), 0
    while any(waiting.values()) or outstanding:
        assert bench.cycle < limit, f"still waiting for {outstanding or waiting}"
        offered = {s: queue[0] for s, queue in waiting.items() if queue}
        ports = {f"{s}_valid": 1 for s in offered} | {f"{s}_data": r.word(sizes) for s, r in offered.items()}
        seen = bench.step(bus | ports)
        taken = [s for s in offered if seen[f"{s}_ready"]]
        assert taken in ([], [s for s in STREAMS if s in offered][:1]), "not the most urgent request alone"
        landed = []
        for request in outstanding:
            if request.destination is Destination.QUERY:
                lines = sum(1 << (request.place + i) % QUERY_LINES for i in range(request.count))
                if seen["query_valid"] & lines == lines:
                    landed.append(request)
            elif not _pending(sizes, seen, request):
                landed.append(request)
        outstanding = [request for request in outstanding if request not in landed]
        for request in landed:
            _compare(bench, expected, layer, request, bus)
        for stream in taken:
            request = waiting[stream].popleft()
            expected.land(layer, request)
            outstanding.append(request)
        most = max(most, len(outstanding))
        assert len(outstanding) <= LISTS + len(STREAMS)
    return most


def _compare(bench: Bench, expected: Expected, layer: Layer, request: Request, bus: dict[str, int]) -> None:
    """What a list brought, as soon as it is said to be there."""
    if request.destination is Destination.QUERY:
        clear = 0
        for i in range(request.count):
            line = (request.place + i) % QUERY_LINES
            assert bench.read_line(line, bus) == expected.query[line].tolist(), f"{request}: line {line}"
            clear |= 1 << line
        bench.step(bus | {"query_clear": clear})
        assert not bench.step(bus)["query_valid"] & clear, "a line that was freed is still there"
        return
    name = "key" if request.destination is Destination.KEY else "value"
    places = range(request.count)
    if request.destination is Destination.SPARSE:
        places = range(0, len(layer.survivors) * layer.parts)
    first = bench.sizes.rows // 2 if request.is_upper else 0
    rows = sorted({first + place // bench.sizes.slots for place in places})
    for row, seen in zip(rows, bench.read_rows([(request.buffer, row) for row in rows], bus), strict=True):
        assert seen[name] == expected.srams[name][request.buffer, row].tolist(), f"{request}: row {row}"


def _compare_everything(bench: Bench, expected: Expected, bus: dict[str, int]) -> None:
    places = [(buffer, row) for buffer in range(2) for row in range(1 << bench.sizes.row_bits)]
    for place, seen in zip(places, bench.read_rows(places, bus), strict=True):
        for name in SRAMS:
            assert seen[name] == expected.srams[name][place].tolist(), f"{name} SRAM: buffer and row {place}"
