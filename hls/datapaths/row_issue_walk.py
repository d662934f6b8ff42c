"""First passes: walks jobs and their rows, one row ahead, and says whether that row may be issued.

A row of v visible keys of n vectors each reads span + 1 = v * n slots of the Key SRAM, P a beat: it has
(span div P) + 1 beats, the last one of (span mod P) + 1 slots. A causal row r sees the keys 0 .. r, all others see all
of them (algorithm page, section 1: visible).

The row may be issued when the first segment of K of its K/V head is there (`MachineSizes.segments`; its beats wait for
the others), its n query lines are, queue 1 has room for its beats, and fewer than `PENDING_ROWS` rows are under way.
What is true once remains so until it is issued, so all that is registered:

    cycle      0      1       2      3       4
    row        r                     r + 1                 issued in cycle 1: a row every 2 cycles at most
    eligible          r                      r + 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.machine_sizes import (
    LINE_BITS,
    PLACE_BITS,
    QUERY_LINES,
    MachineSizes,
    Record,
    key_place,
    pending_of_place,
)
from hls.datapaths.operand_loader import LOADS_BITS, by_dimension, vectors
from hls.datapaths.row_queues import FREED_BITS, PENDING_ROWS
from hls.lower import building, output_ports
from hls.netlist import Wire
from hls.stream import drive, payload_register, register, source_ports
from hls.types import HlsError

CLEAR_CYCLES = 2
"""From a row's release until its query lines count as empty: no query is issued then for what was there before."""


@dataclass(frozen=True)
class RowSizes:
    """Records and sizes of the rows of a machine.

    Attributes:
        machine: its sizes.
        lane_bits: of the number of a slot.
        row: a row that is to be issued; `span` is its slots of keys less one, `ends_key` marks the last of a K/V head.
        queue_beats: room in queue 1 and queue 2.
    """

    machine: MachineSizes
    lane_bits: int
    row: Record
    queue_beats: tuple[int, int]

    @property
    def span_bits(self) -> int:
        """Bits of `span`."""
        return self.machine.row_bits + self.lane_bits


@dataclass(frozen=True)
class Layer:
    """The inputs that are constant in a layer; in registers n, `parts`, and whether K takes turns in `halves`."""

    start: Wire
    keys: Wire
    rows: Wire
    dimension: Wire
    causal: Wire
    progressive: Wire
    parts: Wire
    halves: Wire


@dataclass(frozen=True)
class Opened:
    """A K/V head begins (`now`) in the place `place` of K; the LSB plane of its keys is at `lsb_base`.

    `pending`: by place the segments that vectors are on their way to.
    """

    now: Wire
    place: Wire
    lsb_base: Wire
    pending: Sequence[Wire]


@dataclass(frozen=True)
class FirstPasses:
    """The next row, and whether it may be issued."""

    row: Mapping[str, Wire]
    eligible: Wire
    opened: Opened


def layer_inputs(sizes: MachineSizes, block: pyrtl.Block) -> Layer:
    """The part of the layer bus that the rows need."""
    dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
    causal, generation = pyrtl.Input(1, "layer_causal"), pyrtl.Input(1, "layer_generation")
    parts = register(LINE_BITS + 1, "parts", block)
    parts.next <<= by_dimension(dimension, [pyrtl.Const(n, len(parts)) for n in sizes.parts])
    keys, halves = pyrtl.Input(sizes.count_bits, "layer_keys"), register(1, "halves", block)
    halves.next <<= ~(vectors(dimension, keys, sizes) > sizes.half_vectors)
    return Layer(
        start=pyrtl.Input(1, "layer_start"),
        keys=keys,
        rows=pyrtl.Input(sizes.count_bits, "layer_rows"),
        dimension=dimension,
        causal=causal & ~generation,
        progressive=pyrtl.Input(1, "layer_progressive"),
        parts=parts,
        halves=halves,
    )


def row_record(sizes: MachineSizes, lane_bits: int) -> Record:
    """A row that is to be issued."""
    return Record(
        (
            ("visible", sizes.count_bits),
            ("span", sizes.row_bits + lane_bits),
            ("line", LINE_BITS),
            ("place", PLACE_BITS),
            ("mantissa", 16),
            ("exponent", 7),
            ("ends_key", 1),
        )
    )


def moved(counter: Wire, fewer: Wire, more: Wire) -> Wire:
    """A counter less `fewer`, plus `more`, in its own bits."""
    bits = len(counter)
    for amount in (fewer, more):
        if len(amount) > bits:
            raise HlsError(f"counter {counter.name!r} of {bits} bits moved by one of {len(amount)}")
    return (counter - fewer.zero_extended(bits) + more.zero_extended(bits))[:bits]


def masked(wire: Wire, condition: Wire) -> Wire:
    """The wire where the condition is 1, else 0."""
    return pyrtl.select(condition, wire, pyrtl.Const(0, len(wire)))


def first_passes(sizes: RowSizes, layer: Layer, take: Wire, cleared: Wire, block: pyrtl.Block) -> FirstPasses:
    """Build the walk.

    Args:
        sizes: of the machine.
        layer: the layer bus.
        take: the row is issued, only where it is eligible.
        cleared: the query lines of a row are free.
        block: where to build.
    """
    with building(block):
        row, row_valid, opened = _rows(sizes, layer, take, block)
        beats_less_one = row["span"][sizes.lane_bits :]
        beats = (beats_less_one + 1)[: len(beats_less_one) + 1]
        room = register(sizes.queue_beats[0].bit_length(), "first_room", block, sizes.queue_beats[0])
        room.next <<= moved(room, masked(beats, take), pyrtl.Input(FREED_BITS, "first_freed"))
        places = register(PENDING_ROWS.bit_length(), "rows_free", block, PENDING_ROWS)
        places.next <<= moved(places, take, pyrtl.Input(1, "row_retired"))
        for stage in range(CLEAR_CYCLES):
            later = register(1, f"cleared_{stage}", block)
            later.next <<= cleared
            cleared = later
        output_ports({"query_freed": cleared})
        lines = register(QUERY_LINES.bit_length(), "lines_free", block, QUERY_LINES)
        lines.next <<= moved(lines, masked(layer.parts, take), masked(layer.parts, cleared))

        there = pyrtl.mux(row["line"], *_landed_queries(sizes.machine, layer, block))
        wide = max(len(room), len(beats_less_one))
        fits = room.zero_extended(wide) > beats_less_one.zero_extended(wide)
        eligible = register(1, "first_eligible", block)
        eligible.next <<= row_valid & there & fits & (places != 0) & (lines != 0) & ~take
    return FirstPasses(row, eligible, opened)


def _landed_queries(sizes: MachineSizes, layer: Layer, block: pyrtl.Block) -> list[Wire]:
    """For every line, whether all lines of a query that begins there hold landed vectors; a cycle late."""
    valid = pyrtl.Input(QUERY_LINES, "query_valid")
    landed = []
    for line in range(QUERY_LINES):
        # a query of n lines begins in a multiple of n
        choices = [pyrtl.corecircuits.rtl_all(*valid[line : line + n]) for n in sizes.parts if line % n == 0]
        landed.append(by_dimension(layer.dimension, choices))
    held = register(QUERY_LINES, "queries_landed", block)
    held.next <<= pyrtl.concat_list(landed)
    return list(held)


def _rows(sizes: RowSizes, layer: Layer, take: Wire, block: pyrtl.Block) -> tuple[Mapping[str, Wire], Wire, Opened]:
    """The row ahead, in a register, from the jobs; and the K/V heads as they begin."""
    machine = sizes.machine
    jobs = source_ports(machine.job.bits, block, "job_rows_")
    job = machine.job.unpack(jobs.data)
    job_valid, kv_open = register(1, "job_there", block), register(1, "kv_open", block)
    rows_left, visible = (payload_register(machine.count_bits, name, block) for name in ("rows_left", "row_visible"))
    line, begun = payload_register(LINE_BITS, "next_line", block), register(LOADS_BITS, "kv_begun", block)
    drive(jobs.ready, ~job_valid)
    load = jobs.valid & ~job_valid
    names = ("mantissa", "exponent", "kv_last", "key_lsb_base")
    held = {name: payload_register(len(job[name]), f"job_{name}", block) for name in names}
    for name, field in held.items():
        field.next <<= pyrtl.select(load, job[name], field)

    place = key_place(layer.halves, begun)
    pending = pending_of_place(machine, layer.halves, pyrtl.Input(2 * machine.segments, "key_pending"))
    landed = ~pyrtl.mux(place, *(segments[0] for segments in pending))
    place_now = payload_register(PLACE_BITS, "kv_place", block)
    opens = job_valid & ~kv_open & (pyrtl.Input(LOADS_BITS, "key_loads") != begun) & landed
    begun.next <<= pyrtl.select(opens, (begun + 1)[:LOADS_BITS], begun)
    place_now.next <<= pyrtl.select(opens, place, place_now)

    row_valid = register(1, "row_there", block)
    step = job_valid & kv_open & (~row_valid | take)
    last = rows_left == 1
    row_valid.next <<= step | (row_valid & ~take)
    job_valid.next <<= load | (job_valid & ~(step & last))
    closes = pyrtl.select(load, job["kv_first"], step & last & held["kv_last"])
    kv_open.next <<= opens | (kv_open & ~closes)
    rows_left.next <<= pyrtl.select(load, layer.rows, pyrtl.select(step, (rows_left - 1)[: len(rows_left)], rows_left))
    one = pyrtl.Const(1, len(visible))
    grown = pyrtl.select(step & layer.causal, (visible + 1)[: len(visible)], visible)
    visible.next <<= pyrtl.select(load, pyrtl.select(layer.causal, one, layer.keys), grown)
    line_after = pyrtl.select(step, (line + layer.parts[:LINE_BITS])[:LINE_BITS], line)
    line.next <<= pyrtl.select(layer.start, pyrtl.Const(0, LINE_BITS), line_after)

    slots = vectors(layer.dimension, visible, machine)
    span = (slots.zero_extended(max(sizes.span_bits, len(slots))) - 1)[: sizes.span_bits]
    fields = {
        "visible": visible,
        "span": span,
        "line": line,
        "place": place_now,
        "mantissa": held["mantissa"],
        "exponent": held["exponent"],
        "ends_key": last & held["kv_last"],
    }
    row = payload_register(sizes.row.bits, "row_ahead", block)
    row.next <<= pyrtl.select(step, sizes.row.pack(fields), row)
    return sizes.row.unpack(row), row_valid, Opened(opens, place, held["key_lsb_base"], pending)
