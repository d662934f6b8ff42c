"""Rows of probabilities to token importance and to local value pruning (algorithm page, sections 2 and 4).

Every beat of a row goes to the adding port of token importance. Where all values are kept (ratio16 = 65536) it also
goes on as it is; else to one of both top-k engines, which take turns, row by row:

    k_v = max(1, (visible * ratio16) >> 16)                k beats -> rows of T items -> FIFO -> engine B, A, B, ...

An item's id is the token in generation, where kept values are fetched by id, and its slot in summarization, where all
values are on chip. The FIFO holds the longest row, so that an engine is filled at its own rate, T items a cycle. While
the controller selects tokens or heads (`layer_selecting`) engine A has its items.

    beat -> fork -> importance
                 -> k_v, ids (pipeline) -> whole rows
                                        -> T items -> FIFO -> engine B
                                                           -> engine A <- select

Ports: beats (`beat_*`), the layer, `survivor_*`, `select_*`; out: `importance_*`, `row_added` (pulse, a cycle after the
last beat of a row has gone to token importance), `whole_beat_*` (rows that keep all), `engine_a_*`, `engine_b_*`
(inputs of the engines), `pruned_flat_*` (of every row that an engine has got).
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.top_k_graphs import TopKTypes
from hls.datapaths.top_k_wires import align, hold
from hls.datapaths.value_wires import (
    KEEP_ALL,
    RATIO_BITS,
    first_slot,
    fitted,
    ids_from,
    kept_beat,
    list_row,
    retired_beat,
    slots_from,
    survivor_list,
)
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.schedule import schedule
from hls.stream import Stream, drive, fifo, payload_register, produced, register, sink_ports, skid_buffer
from hls.stream_flow import fork
from hls.technology import Technology
from hls.trace import Graph, UInt, Value, maximum, trace
from models.config import AcceleratorConfig

ROWS_UNDER_WAY = 16
ID_STAGES = 3


def count_graph(config: AcceleratorConfig) -> Graph:
    """k_v of a row."""
    sizes = MachineSizes.of(config)

    def kept_values(visible: Value, ratio16: Value) -> dict[str, object]:
        return {"kept": maximum((visible * ratio16).shift_right(16, "floor"), 1)}

    count = UInt(sizes.count_bits).within(0, sizes.context)
    ratio = UInt(RATIO_BITS).within(0, 1 << KEEP_ALL)
    return trace(kept_values, {"visible": count, "ratio16": ratio}, {"kept": UInt(sizes.count_bits)})


def item_rows(sizes: MachineSizes) -> int:
    """Rows of items that wait for the engines: those of the longest row."""
    return max(2, -(-sizes.context // sizes.top_k_lanes))


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {"kept_values": count_graph(config)}


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the module reads of the layer."""

    generation: Wire
    dimension: Wire
    ratio16: Wire
    selecting: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    sizes, library = MachineSizes.of(config), technology or technologies.load()
    counting = schedule(count_graph(config), library, config.clock_period_ps)
    depth = max(counting.latency_cycles, ID_STAGES)
    beat = retired_beat(sizes)
    block = pyrtl.Block()
    with building(block):
        layer = _Layer(
            *(
                pyrtl.Input(bits, f"layer_{name}")
                for name, bits in (
                    ("generation", 1),
                    ("dimension", sizes.dimension_bits),
                    ("ratio16", RATIO_BITS),
                    ("selecting", 1),
                )
            )
        )
        arriving = Stream(
            beat.pack({name: pyrtl.Input(bits, f"beat_{name}") for name, bits in beat.fields}),
            pyrtl.Input(1, "beat_valid"),
            pyrtl.WireVector(1, "beat_taken"),
        )
        output_ports({"beat_ready": arriving.ready})
        adding, pruning = fork(skid_buffer(arriving, block=block, prefix="beat_skid_"), 2, block=block)
        _importance(sizes, layer, adding, block)

        fields = beat.unpack(pruning.data)
        advance = pyrtl.WireVector(1, "advance")
        counted = instantiate(
            counting, {"visible": fields["visible"], "ratio16": layer.ratio16}, block, advance, prefix="count_"
        )
        drive(pruning.ready, advance)
        ids = _ids(sizes, layer, fields["number"], advance, block)
        kept = align(counted.outputs["kept"], depth - counting.latency_cycles, "kept", advance)
        ids = [align(one, depth - ID_STAGES, f"id_{j}", advance) for j, one in enumerate(ids)]
        passing = kept_beat(sizes)
        beats = align(passing.pack({n: fields[n] for n, _ in passing.fields}), depth, "beat", advance)
        valid = register(1, "valid_d1", block)
        hold(valid, advance, pruning.valid)
        out_valid = align(valid, depth - 1, "valid_d1", advance)

        keeps_all = layer.ratio16[KEEP_ALL]
        whole = Stream(beats, out_valid & keeps_all, pyrtl.WireVector(1, "whole_ready"))
        sink_ports(skid_buffer(whole, block=block, prefix="whole_skid_"), block, "whole_beat_")
        pruned = Stream(
            pyrtl.concat(kept, pyrtl.concat_list(ids), beats),
            out_valid & ~keeps_all,
            pyrtl.WireVector(1, "pruned_ready"),
        )
        advance <<= ~out_valid | pyrtl.select(keeps_all, whole.ready, pruned.ready)
        _engines(sizes, TopKTypes.of(config), layer, _rows(sizes, pruned, block), block)
    block.sanity_check()
    return Netlist("row_values", block)


def _importance(sizes: MachineSizes, layer: _Layer, beats: Stream, block: pyrtl.Block) -> None:
    """Beats to token importance."""
    fields = retired_beat(sizes).unpack(beats.data)
    slot = first_slot(fields["number"], layer.dimension, sizes)
    placed = Stream(pyrtl.concat(fields["last"], slot, fields["lanes"], fields["prob"]), beats.valid, beats.ready)
    out = skid_buffer(placed, block=block, prefix="importance_skid_")
    prob_bits = sizes.slots * PROBABILITY_BITS
    ready, added = pyrtl.Input(1, "importance_ready"), register(1, "added", block)
    added.next <<= out.valid & ready & out.data[-1]
    output_ports(
        {
            "importance_prob": out.data[:prob_bits],
            "importance_lanes": out.data[prob_bits : prob_bits + sizes.slots],
            "importance_slot": out.data[prob_bits + sizes.slots : -1],
            "importance_valid": out.valid,
            "row_added": added,
        }
    )
    drive(out.ready, ready)


def _ids(sizes: MachineSizes, layer: _Layer, number: Wire, advance: Wire, block: pyrtl.Block) -> list[Wire]:
    """Ids of the lanes of a beat, `ID_STAGES` cycles after it: slot, row of the list, the ids in it."""
    survivors = survivor_list(sizes, "survivors", block)
    slot = align(first_slot(number, layer.dimension, sizes), 1, "slot", advance)
    row = align(survivors[list_row(slot, sizes)], 1, "list_row", advance)
    slot_of_row = align(slot, 1, "row_slot", advance)
    tokens, slots = ids_from(row, slot_of_row, sizes), slots_from(slot_of_row, sizes)
    chosen = [pyrtl.select(layer.generation, token, at) for token, at in zip(tokens, slots, strict=True)]
    return [align(one, 1, f"lane_id_{j}", advance) for j, one in enumerate(chosen)]


def _rows(sizes: MachineSizes, pruned: Stream, block: pyrtl.Block) -> Stream:
    """Beats to rows of T items (prob, then id), their valid bits, `last` and k; adds the stream `pruned_flat_*`."""
    beat_record = kept_beat(sizes)
    beat = beat_record.unpack(pruned.data[: beat_record.bits])
    id_bits = sizes.slots * sizes.id_bits
    ids = lanes_of(pruned.data[beat_record.bits : beat_record.bits + id_bits], sizes.slots)
    kept = pruned.data[beat_record.bits + id_bits :]
    probs = lanes_of(beat["prob"], sizes.slots)
    part_items = pyrtl.concat_list([pyrtl.concat(one, prob) for one, prob in zip(ids, probs, strict=True)])

    last, moves = beat["last"], pruned.valid & pruned.ready
    items, valids, emits = _joined(sizes, part_items, beat["lanes"], last, moves, block)
    flats = produced(beat["flat"], pyrtl.WireVector(1, "flat_arrives"), block, "flat_")
    rows = produced(
        pyrtl.concat(kept, last, pyrtl.concat_list(valids), pyrtl.concat_list(items)),
        pyrtl.WireVector(1, "row_arrives"),
        block,
        "row_",
    )
    room = rows.ready & flats.ready
    if emits is None:
        drive(pruned.ready, room)
        drive(rows.valid, pruned.valid & flats.ready)
    else:
        drive(pruned.ready, room | ~emits)
        drive(rows.valid, pruned.valid & emits & flats.ready)
    drive(flats.valid, pruned.valid & last & rows.ready)
    queued = fifo(flats, ROWS_UNDER_WAY, block=block, storage="memory", prefix="flats_")
    sink_ports(queued.stream, block, "pruned_flat_")
    return fifo(rows, item_rows(sizes), block=block, storage="memory", prefix="rows_").stream


def _joined(
    sizes: MachineSizes, part_items: Wire, lanes: Wire, last: Wire, moves: Wire, block: pyrtl.Block
) -> tuple[list[Wire], list[Wire], Wire | None]:
    """Items and valid bits of a row, part by part; whether it is emitted with this beat, None where every one is."""
    parts = sizes.top_k_lanes // sizes.slots
    if parts == 1:
        return [part_items], [lanes], None
    part = register((parts - 1).bit_length(), "part", block)
    is_full = part == parts - 1
    emits = is_full | last
    items, valids = [], []
    for p in range(parts - 1):
        here = part == p
        held, held_lanes = (
            payload_register(len(part_items), f"part_{p}", block),
            register(len(lanes), f"lanes_{p}", block),
        )
        hold(held, moves & here, part_items)
        now = pyrtl.select(here, lanes, held_lanes)
        held_lanes.next <<= pyrtl.select(moves, now & ~emits.sign_extended(len(lanes)), held_lanes)
        items.append(pyrtl.select(here, part_items, held))
        valids.append(now)
    items.append(part_items)
    valids.append(lanes & is_full.sign_extended(len(lanes)))
    hold(part, moves, pyrtl.select(emits, pyrtl.Const(0, len(part)), (part + 1)[: len(part)]))
    return items, valids, emits


def _engines(sizes: MachineSizes, types: TopKTypes, layer: _Layer, rows: Stream, block: pyrtl.Block) -> None:
    """Rows of items to both engines in turn; the controller's to engine A."""
    lanes, bits = sizes.top_k_lanes, PROBABILITY_BITS + sizes.id_bits
    turn = register(1, "turn", block)
    items = lanes_of(rows.data[: lanes * bits], lanes)
    values, ids = (
        [item[:PROBABILITY_BITS] for item in items],
        pyrtl.concat_list([item[PROBABILITY_BITS:] for item in items]),
    )
    valid = rows.data[lanes * bits : lanes * bits + lanes]
    last, kept = rows.data[lanes * bits + lanes], rows.data[lanes * bits + lanes + 1 :]
    hold(turn, rows.valid & rows.ready & last, ~turn)

    def entering(name: str, fields: list[Wire], given: Wire) -> Stream:
        return produced(pyrtl.concat_list(fields), given, block, f"to_{name}_")

    only_probabilities = [pyrtl.concat_list(values), ids, valid, last, kept]
    to_b = entering("b", only_probabilities, rows.valid & ~turn)
    wide = pyrtl.concat_list([value.zero_extended(HEAD_SCORE_BITS) for value in values])
    row = [wide, ids, valid, last, kept]
    names = ("value", "id", "valid", "last", "k")
    select = [pyrtl.Input(len(wire), f"select_{name}") for name, wire in zip(names, row, strict=True)]
    mixed = [pyrtl.select(layer.selecting, theirs, ours) for theirs, ours in zip(select, row, strict=True)]
    requested = pyrtl.Input(1, "select_request")
    to_a = entering("a", mixed, pyrtl.select(layer.selecting, requested, rows.valid & turn))
    drive(rows.ready, pyrtl.select(turn, to_a.ready & ~layer.selecting, to_b.ready))
    output_ports({"select_ready": layer.selecting & to_a.ready})
    for engine, stream, widths in (
        ("a", to_a, [len(wire) for wire in row]),
        ("b", to_b, [len(wire) for wire in only_probabilities]),
    ):
        out = skid_buffer(stream, block=block, prefix=f"engine_{engine}_skid_")
        for name, field in zip(names, split(out.data, widths), strict=True):
            output_ports({f"engine_{engine}_{name}": fitted(field, types.count.width) if name == "k" else field})
        output_ports({f"engine_{engine}_in_valid": out.valid})
        drive(out.ready, pyrtl.Input(1, f"engine_{engine}_in_ready"))
