"""Operand loader: asks for K of every K/V head and for the queries of every head, as early as they have room.

Jobs (surviving heads, `MachineSizes.job`) part into two walks, since K of the next K/V head is wanted while the queries
of this one still wait for room:

    K        one list for each K/V head: all survivors, keys * n vectors (n vectors a key), MSB plane or whole, into
             the two buffers of the Key SRAM in turn, when fewer than two hold keys that are still needed; where
             half a buffer holds a head's K, into four halves in turn, when fewer than four do
    queries  summarization: all rows of the head, in chunks of half the ring of `QUERY_LINES` lines at most, each as
             soon as the ring has room for it; generation: the last survivor's query, n vectors

(architecture page, datapath 15: double buffering; algorithm page, section 5: which planes.) The ring begins anew at
line 0 with each layer, so that the first of the n lines of a query is a multiple of n.

Ports: `layer_*` (the layer bus); `job_fetch_*`; `key_request_*` and `query_request_*` (`MachineSizes.list_request`);
`key_release`: the oldest K buffer is free again; `query_freed`: the n lines of one query are; `key_loads`:
lists for K that were taken, modulo 8, `LOADS_DELAY_CYCLES` after the request: then `key_pending` has risen. The number
of a list, through all layers, says where it goes (`machine_sizes.key_place`). All outputs come from registers.

Four halves because a row of few keys is latency from end to end: its list, DRAM, Q x K, softmax and decision take as
long for a hundred keys as for a few, and only then may the next list overwrite the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import (
    KEY_PLACES,
    LINE_BITS,
    PLACE_BITS,
    QUERY_LINES,
    Destination,
    MachineSizes,
    Source,
    key_place,
)
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, payload_register, register, source_ports
from hls.technology import Technology
from hls.trace import Graph, HlsError
from models.config import AcceleratorConfig

LOADS_BITS = PLACE_BITS + 1
LOADS_DELAY_CYCLES = 2
CHUNK = QUERY_LINES // 2
KEY_JOBS = 2
QUERY_JOBS = 8


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def by_dimension(dimension: Wire, choices: Sequence[Wire]) -> Wire:
    """The choice of the layer's log2(D / native_head_dim)."""
    chosen = choices[0]
    for code, choice in enumerate(choices[1:], 1):
        chosen = pyrtl.select(dimension == code, choice, chosen)
    return chosen


def vectors(dimension: Wire, keys: Wire, sizes: MachineSizes) -> Wire:
    """Vectors of `keys` keys: n times as many; in as many more bits as the largest n needs."""
    most = len(sizes.parts) - 1
    shifted = [keys.zero_extended(len(keys) + most)]
    shifted += [pyrtl.concat(keys, pyrtl.Const(0, code)).zero_extended(len(keys) + most) for code in range(1, most + 1)]
    return by_dimension(dimension, shifted)


@dataclass(frozen=True)
class _Layer:
    """Inputs that are constant in a layer, and what follows from them, in registers."""

    start: Wire
    generation: Wire
    key_vectors: Wire
    row_vectors: Wire
    parts: Wire
    key_plane: Wire
    halves: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The loader as a netlist; `technology` changes nothing.

    Raises:
        HlsError: if half the ring of queries does not hold whole rows of the fetcher and whole queries.
    """
    del technology
    sizes = MachineSizes.of(config)
    needed = max(sizes.fetch_lanes, sizes.parts[-1])
    if needed > CHUNK:
        raise HlsError(
            f"operand loader: {sizes.fetch_lanes} channels and queries of {sizes.parts[-1]} lines with a ring of "
            f"{QUERY_LINES} lines; at most {CHUNK} of each work"
        )
    block = pyrtl.Block()
    with building(block):
        layer = _layer(sizes, block)
        jobs = source_ports(sizes.job.bits, block, "job_fetch_")
        job = sizes.job.unpack(jobs.data)
        ready = {way: pyrtl.WireVector(1, f"{way}_has_room") for way in ("key", "query")}
        both = ready["key"] & ready["query"]
        drive(jobs.ready, both)
        keys = fifo(
            Stream(job["key_base"], jobs.valid & both & job["kv_first"], ready["key"]),
            KEY_JOBS,
            block=block,
            prefix="key_jobs_",
        )
        queries = fifo(
            Stream(job["query_base"], jobs.valid & both, ready["query"]), QUERY_JOBS, block=block, prefix="query_jobs_"
        )
        _keys(sizes, layer, keys.stream, block)
        _queries(sizes, layer, queries.stream, block)
    block.sanity_check()
    return Netlist("operand_loader", block)


def _layer(sizes: MachineSizes, block: pyrtl.Block) -> _Layer:
    count = sizes.count_bits
    keys, rows = pyrtl.Input(count, "layer_keys"), pyrtl.Input(count, "layer_rows")
    dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
    progressive = pyrtl.Input(1, "layer_progressive")
    held = {}
    for name, wire in (("key_vectors", keys), ("row_vectors", rows), ("parts", pyrtl.Const(1, count))):
        held[name] = register(count, name, block)
        held[name].next <<= vectors(dimension, wire, sizes)[:count]
    halves = register(1, "halves", block)
    halves.next <<= ~(vectors(dimension, keys, sizes) > sizes.half_vectors)
    plane = register(2, "key_plane", block)
    plane.next <<= pyrtl.select(progressive, pyrtl.Const(Plane.MSB, 2), pyrtl.Const(Plane.WHOLE, 2))
    start, generation = pyrtl.Input(1, "layer_start"), pyrtl.Input(1, "layer_generation")
    return _Layer(start, generation, **held, key_plane=plane, halves=halves)


def _request(name: str, sizes: MachineSizes, load: Wire, fields: dict[str, Wire], block: pyrtl.Block) -> Stream:
    """A request in registers, written where `load`, which asks that none is there."""
    data, valid = payload_register(sizes.list_request.bits, f"{name}_held", block), register(1, f"{name}_there", block)
    ready = pyrtl.Input(1, f"{name}_ready")
    data.next <<= pyrtl.select(load, sizes.list_request.pack(fields), data)
    valid.next <<= load | (valid & ~ready)
    output_ports({f"{name}_data": data, f"{name}_valid": valid})
    return Stream(data, valid, ready)


def _keys(sizes: MachineSizes, layer: _Layer, jobs: Stream, block: pyrtl.Block) -> None:
    """A list for each K/V head, when a place is free; `used` counts those that are not."""
    release = pyrtl.Input(1, "key_release")
    used, loads = (
        register(KEY_PLACES.bit_length(), "key_places_used", block),
        register(LOADS_BITS, "key_loads_taken", block),
    )
    free = pyrtl.WireVector(1, "key_request_free")
    has_place = ~pyrtl.select(layer.halves, used[2], used[1])
    load = jobs.valid & free & has_place
    drive(jobs.ready, free & has_place)
    more, fewer = load & ~release, release & ~load
    bits = len(used)
    used.next <<= pyrtl.select(more, (used + 1)[:bits], pyrtl.select(fewer, (used - 1)[:bits], used))
    fields = {
        "source": pyrtl.Const(Source.SURVIVORS, 2),
        "first": pyrtl.Const(0, sizes.count_bits),
        "count": layer.key_vectors,
        "base": jobs.data,
        "plane": layer.key_plane,
        "destination": pyrtl.Const(Destination.KEY, 2),
        "place": key_place(layer.halves, loads).zero_extended(LINE_BITS + 1),
    }
    request = _request("key_request", sizes, load, fields, block)
    free <<= ~request.valid
    loads.next <<= pyrtl.select(request.valid & request.ready, (loads + 1)[:LOADS_BITS], loads)
    shown: Wire = loads
    for stage in range(LOADS_DELAY_CYCLES):
        later = register(LOADS_BITS, f"key_loads_{stage}", block)
        later.next <<= shown
        shown = later
    output_ports({"key_loads": shown})


def _queries(sizes: MachineSizes, layer: _Layer, jobs: Stream, block: pyrtl.Block) -> None:
    """The queries of each head, chunk by chunk; `room` counts the free lines of the ring, `place` is the next one."""
    count = sizes.count_bits
    freed = pyrtl.Input(1, "query_freed")
    active, base = register(1, "query_active", block), payload_register(sizes.base_bits, "query_base", block)
    chunk_bits = CHUNK.bit_length()
    first = payload_register(count, "query_first", block)
    left = payload_register(max(count, chunk_bits), "query_left", block)
    # loaded when the layer starts, and its jobs come later
    place = payload_register(LINE_BITS, "query_place", block)
    room = register(LINE_BITS + 1, "query_room", block, QUERY_LINES)

    begin = ~active & jobs.valid
    drive(jobs.ready, ~active)
    whole = pyrtl.Const(CHUNK, chunk_bits)
    longer = pyrtl.rtl_any(*left[chunk_bits - 1 :])
    chunk = pyrtl.select(longer, whole, left[:chunk_bits])
    free = pyrtl.WireVector(1, "query_request_free")
    load = active & free & ~(room < chunk)
    remaining = (left - chunk)[: len(left)]
    active.next <<= begin | (active & ~(load & (remaining == 0)))
    base.next <<= pyrtl.select(begin, jobs.data, base)
    last_key = (layer.key_vectors - layer.parts)[:count]
    begin_first = pyrtl.select(layer.generation, last_key, pyrtl.Const(0, count))
    first.next <<= pyrtl.select(begin, begin_first, pyrtl.select(load, (first + chunk)[:count], first))
    left.next <<= pyrtl.select(begin, layer.row_vectors.zero_extended(len(left)), pyrtl.select(load, remaining, left))
    moved = pyrtl.select(load, (place + chunk)[:LINE_BITS], place)
    place.next <<= pyrtl.select(layer.start, pyrtl.Const(0, LINE_BITS), moved)
    taken = pyrtl.select(load, chunk, pyrtl.Const(0, chunk_bits))
    more = pyrtl.select(freed, layer.parts, pyrtl.Const(0, count))
    room.next <<= (room - taken + more)[: LINE_BITS + 1]
    fields = {
        "source": pyrtl.Const(Source.SURVIVORS, 2),
        "first": first,
        "count": chunk.zero_extended(max(count, chunk_bits))[:count],
        "base": base,
        "plane": pyrtl.Const(Plane.WHOLE, 2),
        "destination": pyrtl.Const(Destination.QUERY, 2),
        "place": place.zero_extended(LINE_BITS + 1),
    }
    request = _request("query_request", sizes, load, fields, block)
    free <<= ~request.valid
