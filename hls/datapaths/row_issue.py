"""Row issue: which row goes through Q x K next, and its beats (architecture page, 15; algorithm page, 1 and 5).

First passes of the rows in order (`hls.datapaths.row_issue_walk`) and second passes of the flat ones, also in order
(`hls.datapaths.row_issue_replay`), which go first. A row is only chosen when nothing can keep it: its keys and queries
begin to be there, and the queue behind the flat-row decision has room for all its beats. So Q x K, softmax and decision
never stall; beats wait for the keys of their segment. Three places, a row in each:

    chosen -> its query lines are read into `staged`, 2 cycles a line -> its beats, one a cycle

    cycle              0    1    2    3    4    5    6          n = 1, rows of 2 beats
    query_read_line    a         b         c
    staged                       a         b         c
    key_read_address                  a0   a1   b0   b1
    query_key_valid                        a0   a1   b0

Ports, beside those of the two parts: `layer_*` (the layer bus), `job_rows_*`; `key_loads` (`operand_loader`),
`key_pending` (`list_sequencer`: by buffer and segment, 1 from the cycle after a request was taken until its last vector
there is written); `query_valid`, `query_read_line`, `query_line` (a cycle later); `key_read_valid`, `key_read_lanes`,
`key_read_address` ({buffer, row}, for all slots), and beside the data that this reads, a cycle later:
`query_key_valid`, `query_key_query` (n lines of it mean something), `query_key_lane_valid`, `query_key_last`,
`key_full` (0: first pass of progressive quantization). `softmax_mantissa` and `softmax_exponent` of the row that leaves
Q x K: they move on with `score_valid & score_last`. `issued_valid`, `issued_replay`, `issued_visible`,
`issued_place`: a pass begins; `query_clear`: its query lines are free, and `query_freed`, for the operand loader;
`row_decided`, `row_flat`, `row_place`, `row_retired`, `first_freed`, `replay_freed`:
from `row_queues`. Outputs come from registers, `key_read_lanes`, `key_read_address` and `query_read_line` through two
gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.machine_sizes import PLACE_BITS, MachineSizes, segment_bit
from hls.datapaths.operand_loader import by_dimension
from hls.datapaths.row_issue_replay import Progress, replays
from hls.datapaths.row_issue_walk import Layer, RowSizes, first_passes, layer_inputs, row_record
from hls.datapaths.row_queues import queue_beats
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, payload_register, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

SCALES = 16
"""Rows in Q x K: their m and x wait for them."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def row_sizes(config: AcceleratorConfig) -> RowSizes:
    """Sizes of the rows of `config`."""
    machine = MachineSizes.of(config)
    lane_bits = machine.slots.bit_length() - 1
    return RowSizes(machine, lane_bits, row_record(machine, lane_bits), queue_beats(config))


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The row issue as a netlist; `technology` changes nothing."""
    del technology
    sizes = row_sizes(config)
    block = pyrtl.Block()
    with building(block):
        layer = layer_inputs(sizes.machine, block)
        names = ("first_taken", "replay_taken", "replay_read", "first_passed", "replays_issue", "cleared")
        told = {name: pyrtl.WireVector(1, name) for name in names}
        first = first_passes(sizes, layer, told["first_taken"], told["cleared"], block)
        progress = Progress(**{name: wire for name, wire in told.items() if name != "cleared"}, row=first.row)
        second = replays(sizes, layer, first.opened, progress, block)
        told["cleared"] <<= second.cleared

        fetch_free = pyrtl.WireVector(1, "fetch_free")
        told["replay_taken"] <<= second.eligible & fetch_free
        told["first_taken"] <<= first.eligible & fetch_free & ~second.eligible
        chosen = {name: pyrtl.select(second.eligible, second.row[name], first.row[name]) for name in first.row}
        taken = told["replay_taken"] | told["first_taken"]
        issued = _issue(sizes, layer, chosen, second.eligible, taken, second.landed, block)
        for name in ("replay_read", "first_passed", "replays_issue"):
            told[name] <<= issued[name]
        fetch_free <<= issued["fetch_free"]
    block.sanity_check()
    return Netlist("row_issue", block)


def _issue(
    sizes: RowSizes,
    layer: Layer,
    row: Mapping[str, Wire],
    is_replay: Wire,
    taken: Wire,
    landed: Sequence[tuple[Wire, Wire]],
    block: pyrtl.Block,
) -> dict[str, Wire]:
    """Reads the queries of chosen rows, then sends their beats; what the choice must know of it, by name."""
    fetched, staged = (payload_register(sizes.row.bits, name, block) for name in ("fetched", "staged"))
    fetched_replay, staged_replay = (payload_register(1, f"{name}_replay", block) for name in ("fetched", "staged"))
    fetching, staged_valid = (register(1, name, block) for name in ("fetching", "staged_there"))
    fetched.next <<= pyrtl.select(taken, sizes.row.pack(row), fetched)
    fetched_replay.next <<= pyrtl.select(taken, is_replay, fetched_replay)
    staged_takes = pyrtl.WireVector(1, "staged_takes")
    ends, lines = _query_lines(sizes, layer, sizes.row.unpack(fetched), fetching, ~staged_valid, block)
    fetching.next <<= taken | (fetching & ~ends)
    staged.next <<= pyrtl.select(ends, fetched, staged)
    staged_replay.next <<= pyrtl.select(ends, fetched_replay, staged_replay)
    staged_valid.next <<= ends | (staged_valid & ~staged_takes)

    known = sizes.row.unpack(staged)
    scales = fifo(
        Stream(pyrtl.concat(known["exponent"], known["mantissa"]), staged_takes, pyrtl.WireVector(1, "scales_room")),
        SCALES,
        block=block,
        prefix="scales_",
    )
    drive(scales.stream.ready, pyrtl.Input(1, "score_valid") & pyrtl.Input(1, "score_last"))
    beats = _beats(sizes, layer, known, staged_replay, staged_takes, lines, landed, block)
    staged_takes <<= staged_valid & beats.free & (scales.count != SCALES)
    issued = {"replay": staged_replay, "visible": known["visible"], "place": known["place"], "valid": staged_takes}
    for name, wire in issued.items():
        output_ports({f"issued_{name}": _later(f"issued_{name}", wire, name == "valid", block)})
    output_ports({"softmax_mantissa": scales.stream.data[:16], "softmax_exponent": scales.stream.data[16:]})
    return {
        "fetch_free": ~fetching | ends,
        "replay_read": ends & fetched_replay,
        "first_passed": beats.first_passed,
        "replays_issue": (fetching & fetched_replay) | (staged_valid & staged_replay) | beats.replay_issues,
    }


def _later(name: str, wire: Wire, decides: bool, block: pyrtl.Block) -> Wire:
    """The wire a cycle later; what decides has a reset value."""
    held = (register if decides else payload_register)(len(wire), f"{name}_held", block)
    held.next <<= wire
    return held


def _query_lines(
    sizes: RowSizes, layer: Layer, row: Mapping[str, Wire], fetching: Wire, free: Wire, block: pyrtl.Block
) -> tuple[Wire, list[Wire]]:
    """Reads the lines of a row one after another into the registers of a query, where those are free.

    Returns:
        Whether the last line comes in this cycle, and the registers.
    """
    machine = sizes.machine
    part_bits = max(1, machine.parts[-1].bit_length() - 1)
    part, there = register(part_bits, "query_part", block), register(1, "query_line_there", block)
    line = pyrtl.Input(machine.line_bits, "query_line")
    takes = fetching & there & free
    last_parts = [pyrtl.Const(n - 1, part_bits) for n in machine.parts]
    ends = takes & (part == by_dimension(layer.dimension, last_parts))
    there.next <<= fetching & ~there | there & ~takes
    part.next <<= pyrtl.select(takes, pyrtl.select(ends, pyrtl.Const(0, part_bits), (part + 1)[:part_bits]), part)
    registers = []
    for number in range(machine.parts[-1]):
        held = payload_register(machine.line_bits, f"query_staged_{number}", block)
        held.next <<= pyrtl.select(takes & (part == number), line, held)
        registers.append(held)
    output_ports({"query_read_line": row["line"] | part.zero_extended(len(row["line"]))})
    return ends, registers


def _in_half(row: Wire, half: Wire) -> Wire:
    """The row of a buffer, from that of a half of it."""
    return pyrtl.concat_list([*row[:-1], row[-1] | half])


@dataclass(frozen=True)
class _Beats:
    """Whether a new row may come, whether a first pass is nearly over, and whether a second one is before that."""

    free: Wire
    first_passed: Wire
    replay_issues: Wire


def _beats(
    sizes: RowSizes,
    layer: Layer,
    row: Mapping[str, Wire],
    is_replay: Wire,
    takes: Wire,
    lines: list[Wire],
    landed: Sequence[tuple[Wire, Wire]],
    block: pyrtl.Block,
) -> _Beats:
    """The beats of a row: the reads of its keys, and a cycle later what Q x K needs beside them.

    A row has `passed` when all its keys are there and no more of their rows are left than a new list for this buffer
    cannot reach before them (`hls.datapaths.row_issue_replay`).
    """
    slots = sizes.machine.slots
    beat = payload_register(sizes.machine.row_bits, "beat", block)
    span = payload_register(sizes.span_bits, "beat_span", block)
    place, replay = payload_register(PLACE_BITS, "beat_place", block), payload_register(1, "beat_replay", block)
    valid, begins = register(1, "beat_there", block), register(1, "query_begins", block)
    last = beat == span[sizes.lane_bits :]
    may, all_there = register(1, "beat_may", block), register(1, "keys_there", block)
    goes = valid & may
    following = pyrtl.select(goes, (beat + 1)[: len(beat)], beat)
    beat.next <<= pyrtl.select(takes, pyrtl.Const(0, len(beat)), following)
    ends = goes & last
    valid.next <<= takes | (valid & ~ends)
    of_pass = [pyrtl.select(replay, with_lsb, first) for first, with_lsb in landed]
    segments = pyrtl.mux(place, *of_pass)
    # the row's first keys are there, else it would not have been chosen
    all_there.next <<= ~takes & (all_there | pyrtl.corecircuits.rtl_all(*segments))
    may.next <<= takes | all_there | segment_bit(sizes.machine, segments, following)
    for held, wire in ((span, row["span"]), (place, row["place"]), (replay, is_replay)):
        held.next <<= pyrtl.select(takes, wire, held)
    begins.next <<= takes
    passed = register(1, "beats_passed", block)
    left = (span[sizes.lane_bits :] - beat)[: len(beat)]
    nearly = ~(pyrtl.shift_right_logical(span[sizes.lane_bits :], sizes.machine.fetch_rate_shift) < left)
    passed.next <<= ~takes & all_there & nearly
    told = register(1, "first_pass_told", block)
    first_passed = ~replay & ~told & (ends | (valid & passed))
    told.next <<= ~takes & (told | first_passed)
    held_lines = [payload_register(len(line), f"query_{number}", block) for number, line in enumerate(lines)]
    for held, line in zip(held_lines, lines, strict=True):
        held.next <<= pyrtl.select(begins, line, held)

    always: Wire = pyrtl.Const(1, 1)
    lanes = [always, *(~last | ~(span[: sizes.lane_bits] < slot) for slot in range(1, slots))]
    keys = [
        by_dimension(
            layer.dimension, [lanes[j * n] if j * n < slots else pyrtl.Const(0, 1) for n in sizes.machine.parts]
        )
        for j in range(slots)
    ]
    later = {
        "query_key_valid": goes,
        "query_key_last": last,
        "query_key_lane_valid": pyrtl.concat_list(keys),
        "key_full": replay | ~layer.progressive,
    }
    for name, wire in later.items():
        output_ports({name: _later(name, wire, name == "query_key_valid", block)})
    output_ports(
        {
            "query_key_query": pyrtl.concat_list(held_lines),
            "key_read_valid": goes,
            "key_read_lanes": pyrtl.concat_list(lanes),
            "key_read_address": pyrtl.concat(place[0], _in_half(beat, place[1])),
        }
    )
    return _Beats(~valid | ends, first_passed, valid & replay & ~passed)
