"""Tokens of the next layer: the sweep of the token importance, S_t to memory, and the engine's rows (algorithm, 2).

A sweep gives the token importance the survivors of a row of ids a cycle, and gets S_t of that row some cycles later.
Before a layer it clears all rows of the machine, and what comes back is dropped; after a layer it goes up to the last
id of the sequence, and every row goes to memory and, if tokens are selected, to engine A.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.datapaths.selection_lists import lane_bits, stage
from hls.datapaths.token_importance_parts import SCORE
from hls.lower import building, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.stream import Stream, drive, fifo, register
from hls.stream_flow import fork

RESULTS = 2
"""Rows of scores that wait."""


@dataclass(frozen=True, eq=False)
class SweepRequest:
    """Pulses that ask for a sweep that clears, and for the one that ends a layer; what the latter is."""

    clears: Wire
    ends: Wire
    halve: Wire
    last_row: Wire


def sweep(sizes: MachineSizes, asked: SweepRequest, alive: pyrtl.MemBlock, block: pyrtl.Block) -> Stream:
    """Ports `sweep_...`; gives the results of the sweep that ends a layer: scores, survivors, row, last."""
    lanes = sizes.top_k_lanes
    with building(block):
        clear, final = register(1, "clear_asked", block), register(1, "sweep_asked", block)
        row, sending = register(sizes.list_row_bits, "sweep_row", block), register(1, "sweep_sending", block)
        clearing = register(1, "sweep_clearing", block)
        begins = ~sending & (clear | final)
        top = pyrtl.Const((sizes.context - 1) // lanes, sizes.list_row_bits)
        is_last = row == pyrtl.select(clearing, top, asked.last_row)
        survivor = alive[row] & (~clearing).sign_extended(lanes)
        room = pyrtl.WireVector(1, "sweep_room")
        halve = asked.halve & ~clearing
        request = stage(
            Stream(pyrtl.concat(is_last, clearing, halve, survivor), sending, room), block=block, prefix="sweep_out_"
        )
        goes = sending & room
        clear.next <<= asked.clears | (clear & ~begins)
        final.next <<= asked.ends | (final & ~(begins & ~clear))
        clearing.next <<= pyrtl.select(begins, clear, clearing)
        sending.next <<= begins | (sending & ~(goes & is_last))
        following = pyrtl.select(is_last, pyrtl.Const(0, len(row)), (row + 1)[: len(row)])
        row.next <<= pyrtl.select(goes, following, row)
        outputs = {
            "sweep_survivor": request.data[:lanes],
            "sweep_halve": request.data[lanes],
            "sweep_clear": request.data[lanes + 1],
            "sweep_last": request.data[lanes + 2],
            "sweep_valid": request.valid,
        }
        drive(request.ready, pyrtl.Input(1, "sweep_ready"))
        return _results(sizes, begins & clear, outputs, block)


def _results(sizes: MachineSizes, clears: Wire, outputs: dict[str, Wire], block: pyrtl.Block) -> Stream:
    """What the token importance gives back; the results of a sweep that clears come first and are dropped."""
    score = pyrtl.Input(sizes.top_k_lanes * SCORE.width, "sweep_score")
    survivor = pyrtl.Input(sizes.top_k_lanes, "sweep_score_survivor")
    row, last = pyrtl.Input(sizes.list_row_bits, "sweep_score_row"), pyrtl.Input(1, "sweep_score_last")
    room = pyrtl.WireVector(1, "sweep_results_room")
    given = Stream(pyrtl.concat(last, row, survivor, score), pyrtl.Input(1, "sweep_score_valid"), room)
    queued = fifo(given, RESULTS, block=block, prefix="sweep_results_queue_").stream
    output_ports({**outputs, "sweep_score_ready": room})
    dropping, taken = register(1, "dropping", block), pyrtl.WireVector(1, "scores_taken")
    dropping.next <<= clears | (dropping & ~(queued.valid & queued.data[-1]))
    drive(queued.ready, dropping | taken)
    return Stream(queued.data, queued.valid & ~dropping, taken)


def token_rows(sizes: MachineSizes, scores: Stream, last_lane: Wire, block: pyrtl.Block) -> tuple[Stream, Wire]:
    """Ports `token_row_...`: S_t, zeros behind the last id. Gives the same results, and a pulse: the last was taken."""
    lanes, bits = sizes.top_k_lanes, SCORE.width
    with building(block):
        words, items = fork(scores, 2, block=block, prefix="tokens_")
        is_last = words.data[-1]
        data = [
            word & (~is_last | (last_lane >= i)).sign_extended(bits)
            for i, word in enumerate(lanes_of(words.data[: lanes * bits], lanes))
        ]
        ready = pyrtl.Input(1, "token_row_ready")
        drive(words.ready, ready)
        outputs = {
            "token_row_data": pyrtl.concat_list(data),
            "token_row_last": is_last,
            "token_row_valid": words.valid,
        }
        output_ports(outputs)
        return items, words.valid & ready & is_last


@dataclass(frozen=True, eq=False)
class EngineRequest:
    """What engine A is asked for.

    Attributes:
        ends: pulse at the end of the layer.
        tokens, heads: whether it selects these; constant from `ends` on.
        token_count, head_count: k of both.
        fixed: rows of ids that bypass the selection.
        has_fixed: whether there are any.
    """

    ends: Wire
    tokens: Wire
    heads: Wire
    token_count: Wire
    head_count: Wire
    fixed: pyrtl.MemBlock
    has_fixed: Wire


def engine_rows(sizes: MachineSizes, tokens: Stream, heads: Stream, asked: EngineRequest, block: pyrtl.Block) -> None:
    """Ports `select_...`: the request of the tokens, then that of the heads, one a row."""
    lanes, low = sizes.top_k_lanes, lane_bits(sizes)
    value_bits, score_bits = HEAD_SCORE_BITS, SCORE.width
    with building(block):
        waits = register(1, "tokens_not_all_in", block)
        room = pyrtl.WireVector(1, "engine_row_room")
        takes_token = tokens.valid & asked.tokens
        takes_head = heads.valid & asked.heads & ~waits & ~takes_token
        drive(tokens.ready, ~asked.tokens | room)
        drive(heads.ready, ~asked.heads | (takes_head & room))
        waits.next <<= (asked.ends & asked.tokens) | (waits & ~(takes_token & room & tokens.data[-1]))

        scores = tokens.data[: lanes * score_bits]
        survivor = tokens.data[lanes * score_bits : lanes * (score_bits + 1)]
        row = tokens.data[lanes * (score_bits + 1) : -1]
        free = survivor & ~(asked.fixed[row] & asked.has_fixed.sign_extended(lanes))
        head = heads.data[value_bits : value_bits + HEAD_BITS]
        ids = [pyrtl.concat(row, pyrtl.Const(i, low)) for i in range(lanes)]
        ids[0] = pyrtl.select(takes_token, ids[0], head.zero_extended(len(ids[0])))
        values = lanes_of(scores, lanes)
        first = pyrtl.select(takes_token, values[0].zero_extended(value_bits), heads.data[:value_bits])
        head_lane = heads.data[value_bits + HEAD_BITS].zero_extended(lanes)
        fields = {
            "value": pyrtl.concat_list([first, *values[1:]]),
            "id": pyrtl.concat_list(ids),
            "valid": pyrtl.select(takes_token, free, head_lane),
            "last": pyrtl.select(takes_token, tokens.data[-1], heads.data[-1]),
            "k": pyrtl.select(takes_token, asked.token_count, asked.head_count.zero_extended(sizes.count_bits)),
        }
        packed = pyrtl.concat_list(list(fields.values()))
        out = stage(Stream(packed, takes_token | takes_head, room), block=block, prefix="engine_row_")
        found = dict(zip(fields, split(out.data, map(len, fields.values())), strict=True))
        upper = [found["value"][value_bits + i * score_bits :][:score_bits] for i in range(lanes - 1)]
        wide = [found["value"][:value_bits], *(wire.zero_extended(value_bits) for wire in upper)]
        found["value"] = pyrtl.concat_list(wide)
        output_ports({f"select_{name}": wire for name, wire in {**found, "request": out.valid}.items()})
        drive(out.ready, pyrtl.Input(1, "select_ready"))
