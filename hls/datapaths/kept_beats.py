"""Results of local value pruning to rows of the Value SRAM (algorithm page, section 4).

Results of the engines B, A, B, ... in the order of their rows, T items a cycle, become beats: all kept items of a row
of the Value SRAM, each in its lane (`hls.datapaths.kept_beats_graphs`). Rows that keep all come as beats already.

    engine B, A -> result FIFO -> fork -> kept_list        ids, generation only: what to fetch
                                       -> kept_row         generation: at the last row of the result, with the count
                                       -> group -> gather a beat a cycle -> beats
    whole_beat  --------------------------------- fork -> kept_row (first beat), beats
    beats -> FIFO -> fork -> value_beat                    to the lanes
                          -> sparse_beat                   flat rows in summarization

In summarization `kept_row` comes with the first items: a flat row's beats go nowhere until it is known. A result may
end in a row without items; that is a beat without lanes. `row_kept`: a pulse in the cycle after a result has ended.
While the controller selects (`layer_selecting`), engine A's results are its own: `select_result_valid` and
`select_result_ready` beside the engine's ports.

Two paths are combinational, of a gate each: `engine_a_out_valid` to `select_result_valid`, `select_result_ready` to
`engine_a_out_ready`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.kept_beats_graphs import gather_graph, group_graph
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.top_k_wires import align, hold
from hls.datapaths.value_wires import (
    KEEP_ALL,
    RATIO_BITS,
    kept_beat,
    kept_list,
    kept_row,
)
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.schedule import Schedule, schedule
from hls.stream import Stream, drive, fifo, payload_register, produced, register, sink_ports, skid_buffer, source_ports
from hls.stream_flow import fork
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    sizes = MachineSizes.of(config)
    return {"grouping": group_graph(sizes), "gather": gather_graph(sizes)}


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the module reads of the layer."""

    generation: Wire
    dimension: Wire
    keeps_all: Wire
    selecting: Wire


@dataclass(frozen=True, eq=False)
class _Result:
    """A row of a result."""

    probs: Wire
    ids: Wire
    count: Wire
    last: Wire
    flat: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    sizes, library = MachineSizes.of(config), technology or technologies.load()
    plans = {name: schedule(graph, library, config.clock_period_ps) for name, graph in graphs(config).items()}
    block = pyrtl.Block()
    with building(block):
        generation, dimension, ratio16, selecting = (
            pyrtl.Input(bits, f"layer_{name}")
            for name, bits in (
                ("generation", 1),
                ("dimension", sizes.dimension_bits),
                ("ratio16", RATIO_BITS),
                ("selecting", 1),
            )
        )
        layer = _Layer(generation, dimension, ratio16[KEEP_ALL], selecting)
        to_list, to_row, to_group = fork(_results(sizes, layer, block), 3, block=block, prefix="result_fork_")
        _list(sizes, layer, to_list, block)
        pruned = _beats(sizes, layer, to_group, plans, block)
        whole = source_ports(kept_beat(sizes).bits, block, "whole_beat_")
        whole_row, whole_beats = fork(whole, 2, block=block, prefix="whole_fork_")
        _rows(sizes, layer, to_row, whole_row, block)

        arriving = produced(
            pyrtl.select(layer.keeps_all, whole_beats.data, pruned.data),
            pyrtl.select(layer.keeps_all, whole_beats.valid, pruned.valid),
            block,
            "beats_",
        )
        drive(whole_beats.ready, arriving.ready & layer.keeps_all)
        drive(pruned.ready, arriving.ready & ~layer.keeps_all)
        queued = skid_buffer(arriving, block=block, prefix="beats_skid_")
        to_lanes, to_sparse = fork(queued, 2, block=block, prefix="beats_fork_")
        sink_ports(to_lanes, block, "value_beat_")
        flat = kept_beat(sizes).unpack(to_sparse.data)["flat"] & ~generation
        sparse = produced(to_sparse.data, to_sparse.valid & flat, block, "sparse_")
        drive(to_sparse.ready, sparse.ready | ~flat)
        sink_ports(sparse, block, "sparse_beat_")
    block.sanity_check()
    return Netlist("kept_beats", block)


def _results(sizes: MachineSizes, layer: _Layer, block: pyrtl.Block) -> Stream:
    """Rows of results in the order of their requests, each with the flat bit of its request."""
    lanes = sizes.top_k_lanes
    engines = []
    for name, bits in (("a", HEAD_SCORE_BITS), ("b", PROBABILITY_BITS)):
        value = pyrtl.Input(lanes * bits, f"engine_{name}_kept_value")
        engines.append(
            (
                pyrtl.concat_list([one[:PROBABILITY_BITS] for one in lanes_of(value, lanes)]),
                pyrtl.Input(lanes * sizes.id_bits, f"engine_{name}_kept_id"),
                pyrtl.Input(lanes.bit_length(), f"engine_{name}_kept_count"),
                pyrtl.Input(1, f"engine_{name}_kept_last"),
                pyrtl.Input(1, f"engine_{name}_out_valid"),
            )
        )
    turn = register(1, "turn", block)
    probs, ids, count, last, valid = (pyrtl.select(turn, a, b) for a, b in zip(*engines, strict=True))
    flats = source_ports(1, block, "pruned_flat_")
    there = valid & ~layer.selecting & flats.valid
    rows = produced(pyrtl.concat(flats.data, last, count, ids, probs), there, block, "result_")
    takes = rows.valid & rows.ready
    hold(turn, takes & last, ~turn)
    kept = register(1, "kept", block)
    kept.next <<= takes & last
    drive(flats.ready, takes & last)
    ours = rows.ready & ~layer.selecting & flats.valid
    output_ports(
        {
            "engine_a_out_ready": pyrtl.select(layer.selecting, pyrtl.Input(1, "select_result_ready"), ours & turn),
            "engine_b_out_ready": ours & ~turn,
            "row_kept": kept,
            "select_result_valid": engines[0][-1] & layer.selecting,
        }
    )
    return skid_buffer(rows, block=block, prefix="result_skid_")


def _fields(sizes: MachineSizes, data: Wire) -> _Result:
    lanes = sizes.top_k_lanes
    return _Result(*split(data, (lanes * PROBABILITY_BITS, lanes * sizes.id_bits, lanes.bit_length(), 1, 1)))


def _list(sizes: MachineSizes, layer: _Layer, results: Stream, block: pyrtl.Block) -> None:
    """Ids to fetch."""
    row = _fields(sizes, results.data)
    ids = kept_list(sizes).pack({"ids": row.ids, "count": row.count, "last": row.last})
    out = produced(ids, results.valid & layer.generation, block, "list_")
    drive(results.ready, out.ready | ~layer.generation)
    sink_ports(out, block, "kept_list_")


def _rows(sizes: MachineSizes, layer: _Layer, results: Stream, whole: Stream, block: pyrtl.Block) -> None:
    """What is known of every row, as soon as it is."""
    row = _fields(sizes, results.data)
    so_far, first = register(sizes.count_bits, "so_far", block), register(1, "first_result", block, 1)
    total = (so_far + row.count)[: sizes.count_bits]
    moves = results.valid & results.ready
    hold(so_far, moves, pyrtl.select(row.last, pyrtl.Const(0, sizes.count_bits), total))
    hold(first, moves, row.last)
    known = pyrtl.select(layer.generation, row.last, first)

    beat = kept_beat(sizes).unpack(whole.data)
    first_beat = register(1, "first_beat", block, 1)
    hold(first_beat, whole.valid & whole.ready, beat["last"])
    record = kept_row(sizes)
    arriving = produced(
        record.pack(
            {
                "count": pyrtl.select(layer.keeps_all, pyrtl.Const(0, sizes.count_bits), total),
                "flat": pyrtl.select(layer.keeps_all, beat["flat"], row.flat),
            }
        ),
        pyrtl.select(layer.keeps_all, whole.valid & first_beat, results.valid & known),
        block,
        "row_",
    )
    drive(results.ready, arriving.ready | ~known)
    drive(whole.ready, arriving.ready | ~first_beat)
    sink_ports(fifo(arriving, 2, block=block, prefix="rows_").stream, block, "kept_row_")


def _beats(
    sizes: MachineSizes, layer: _Layer, results: Stream, plans: dict[str, Schedule], block: pyrtl.Block
) -> Stream:
    """Items to beats: grouped in a pipeline, then a group a cycle."""
    row = _fields(sizes, results.data)
    number = register(sizes.list_row_bits, "result_row", block)
    moves = results.valid & results.ready
    after = pyrtl.select(row.last, pyrtl.Const(0, len(number)), (number + 1)[: len(number)])
    hold(number, moves, after)

    grouping = pyrtl.WireVector(1, "grouping")
    grouped = instantiate(
        plans["grouping"],
        {
            "id": row.ids,
            "count": row.count,
            "row": number,
            "generation": layer.generation,
            "dimension": layer.dimension,
        },
        block,
        grouping,
        results.valid,
        "group_",
    )
    drive(results.ready, grouping)
    latency = plans["grouping"].latency_cycles
    passing = align(pyrtl.concat(row.flat, row.last, row.probs), latency, "grouped_row", grouping)

    names = ("number", "lane", "group", "item_valid", "last_group")
    held = {name: payload_register(len(grouped.outputs[name]), f"held_{name}", block) for name in names}
    held_row = payload_register(len(passing), "held_row", block)
    occupied, chosen = register(1, "occupied", block), register(len(held["last_group"]), "chosen", block)
    gathering = pyrtl.WireVector(1, "gathering")
    ends = chosen == held["last_group"]
    takes = ~occupied | (gathering & ends)
    grouping <<= takes | ~grouped.out_valid
    hold(occupied, takes, grouped.out_valid)
    for name in names:
        hold(held[name], takes, grouped.outputs[name])
    hold(held_row, takes, passing)
    step = pyrtl.select(gathering & occupied, (chosen + 1)[: len(chosen)], chosen)
    chosen.next <<= pyrtl.select(takes, pyrtl.Const(0, len(chosen)), step)

    items = {name: held[name] for name in ("number", "lane", "group", "item_valid")}
    probs = held_row[: sizes.top_k_lanes * PROBABILITY_BITS]
    gathered = instantiate(
        plans["gather"], {"prob": probs, **items, "chosen": chosen}, block, gathering, occupied, "gather_"
    )
    latency = plans["gather"].latency_cycles
    last, flat = (
        align(wire, latency, f"gathered_{name}", gathering)
        for name, wire in (("last", held_row[-2] & ends), ("flat", held_row[-1]))
    )
    out = produced(
        kept_beat(sizes).pack(
            {
                "prob": gathered.outputs["beat_prob"],
                "lanes": gathered.outputs["beat_lanes"],
                "number": gathered.outputs["beat_number"],
                "last": last,
                "flat": flat,
            }
        ),
        gathered.out_valid,
        block,
        "gathered_",
    )
    gathering <<= out.ready | ~gathered.out_valid
    return out
