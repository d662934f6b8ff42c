"""Selection: the lists of a layer, and the survivors of the next one (algorithm page, sections 2 and 3).

Before the layer the survivors and the protected ids come in, are checked, and are held as masks by id:

    alive    a bit a token: it is a key of this layer
    fixed    protected and alive: it bypasses the selection, which keeps as many fewer, but not fewer than 0

After it, a row of `top_k_lanes` ids a cycle:

    alive -> token importance (sweep) -> S_t -> memory
                                          |---> engine A: alive and not fixed, the next_keys - fixed largest
    kept ids -> mask -> with the fixed ones -> list -> memory
    S_h of all heads -> memory; engine A behind the tokens: the next_heads largest of those alive -> mask of heads

Where the next layer keeps as many as there are, or only fixed ones, no engine is asked. Tokens need what all rows have
told of their importance, heads the outputs, which come later and have a pulse of their own. At the start of a layer the
scores are cleared if that is asked for; rows of the layer wait until that has passed.

Ports, all names of the accelerator: bursts of the lists `read_...`, `list_ready`; what the layer is, `layer_...`,
constant from `lists_begin` to `selection_done` (`layer_last_row`, `layer_last_lane`: where id position - 1 is;
`layer_select_tokens`, `layer_select_heads`: fewer stay than there are); pulses `lists_begin`, `layer_start`,
`selection_start`, `head_selection_start` (not before the other). Out: `survivors_checked`, `protected_checked` and what
was wrong with them, until `lists_begin`; `lists_held`: their masks are complete, `selection_start` may come; the copies
`survivor_write`, `survivor_row`, `survivor_ids`; `sweep_...` to the token importance and `sweep_score...` from it;
`head_clear_...`, `head_read...`, `head_idle` of the head importance; `select_...` to engine A, its results
`engine_a_kept_...` under `select_result_valid`, `select_result_ready`; `token_row_...`, `list_row_...`, `head_word_...`
to the control writes; `next_survivors`, `next_head_mask`; `selection_done` (pulse); `layer_selecting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.control_read import KIND_BITS, ReadKind
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.descriptor import MAX_HEADS
from hls.datapaths.head_walk import GROUP_BITS
from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes
from hls.datapaths.selection_heads import head_clear, head_scores
from hls.datapaths.selection_lists import (
    KEPT_HEADS,
    KEPT_TOKENS,
    PROTECTED,
    SURVIVORS,
    id_row,
    lane_bits,
    list_intake,
    mask_row,
    stage,
    to_masks,
)
from hls.datapaths.selection_next import MASK_ROWS, NextMode, NextPlan, graphs, plan, to_list
from hls.datapaths.selection_tokens import EngineRequest, SweepRequest, engine_rows, sweep, token_rows
from hls.datapaths.top_k_wires import align, remove_unread
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, register
from hls.technology import Technology
from hls.trace import HlsError
from models.config import AcceleratorConfig

__all__ = ["build", "graphs", "plan"]

LEAST_CONTEXT = MAX_HEADS


@dataclass(frozen=True, eq=False)
class Layer:
    """What the layer is: input ports."""

    keys: Wire
    position: Wire
    protected_count: Wire
    last_row: Wire
    last_lane: Wire
    halve: Wire
    clear_tokens: Wire
    clear_heads: Wire
    head_mask: Wire
    last_head: Wire
    next_keys: Wire
    next_heads: Wire
    select_tokens: Wire
    select_heads: Wire
    begins: Wire
    starts: Wire
    ends: Wire
    heads_end: Wire


def _layer(sizes: MachineSizes) -> Layer:
    count = sizes.count_bits
    return Layer(
        pyrtl.Input(count, "layer_keys"),
        pyrtl.Input(count, "layer_position"),
        pyrtl.Input(count, "layer_protected_count"),
        pyrtl.Input(sizes.list_row_bits, "layer_last_row"),
        pyrtl.Input(lane_bits(sizes), "layer_last_lane"),
        pyrtl.Input(1, "layer_halve"),
        pyrtl.Input(1, "layer_clear_tokens"),
        pyrtl.Input(1, "layer_clear_heads"),
        pyrtl.Input(MAX_HEADS, "layer_head_mask"),
        pyrtl.Input(HEAD_BITS, "layer_last_head"),
        pyrtl.Input(count, "layer_next_keys"),
        pyrtl.Input(GROUP_BITS, "layer_next_heads"),
        pyrtl.Input(1, "layer_select_tokens"),
        pyrtl.Input(1, "layer_select_heads"),
        pyrtl.Input(1, "lists_begin"),
        pyrtl.Input(1, "layer_start"),
        pyrtl.Input(1, "selection_start"),
        pyrtl.Input(1, "head_selection_start"),
    )


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The selection as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: for rows of ids that are no parts of a burst, or ids that do not hold the number of a head.
    """
    sizes, made = MachineSizes.of(config), plan(config, technology)
    if config.context_keys < LEAST_CONTEXT:
        raise HlsError(
            f"context_keys = {config.context_keys}: heads are selected as ids are, so ids must hold the number of a "
            f"head; use {LEAST_CONTEXT}"
        )
    block = pyrtl.Block()
    with building(block):
        layer = _layer(sizes)
        alive, fixed = (
            pyrtl.MemBlock(sizes.top_k_lanes, sizes.list_row_bits, name, asynchronous=True, block=block)
            for name in ("alive", "fixed")
        )
        ends = _later(layer.ends, "selection_starts", block)
        fixed_count = register(sizes.count_bits, "fixed_count", block)
        more = layer.next_keys > fixed_count
        chosen = pyrtl.select(more, pyrtl.Const(NextMode.SELECTED, 2), pyrtl.Const(NextMode.FIXED, 2))
        mode = _later(pyrtl.select(layer.select_tokens, chosen, pyrtl.Const(NextMode.ALL, 2)), "next_mode", block)
        selected, has_fixed = mode == NextMode.SELECTED, layer.protected_count != 0

        intake = _lists(sizes, layer, block)
        masks = to_masks(sizes, _merged(sizes, intake, ends & selected, block), layer.last_row, block)
        masks = stage(masks, block=block, prefix="mask_out_")
        lists_done, head_mask = _masks(sizes, made, layer, masks, (alive, fixed), (ends, mode), fixed_count, block)

        clearing = head_clear(block, layer.starts & layer.clear_heads)
        heads_end = _later(layer.heads_end, "head_selection_starts", block)
        heads, heads_done = head_scores(heads_end, layer.last_head, layer.head_mask, clearing, block)
        asked = SweepRequest(layer.starts & layer.clear_tokens, ends, layer.halve, layer.last_row)
        tokens, tokens_done = token_rows(sizes, sweep(sizes, asked, alive, block), layer.last_lane, block)
        request = EngineRequest(
            ends=ends,
            tokens=selected,
            heads=layer.select_heads,
            token_count=_later((layer.next_keys - fixed_count)[: sizes.count_bits], "token_count", block),
            head_count=layer.next_heads,
            fixed=fixed,
            has_fixed=has_fixed,
        )
        engine_rows(sizes, tokens, heads, request, block)

        _finish(ends, (tokens_done, heads_done, *lists_done), block)
        output_ports(
            {
                "next_survivors": pyrtl.select(
                    layer.select_tokens, pyrtl.select(more, layer.next_keys, fixed_count), layer.keys
                ),
                "next_head_mask": pyrtl.select(layer.select_heads, head_mask, layer.head_mask),
            }
        )
    remove_unread(block)
    block.sanity_check()
    return Netlist("selection", block)


def _later(wire: Wire, name: str, block: pyrtl.Block) -> pyrtl.Register:
    """The wire a cycle later."""
    later = register(len(wire), name, block)
    later.next <<= wire
    return later


def _lists(sizes: MachineSizes, layer: Layer, block: pyrtl.Block) -> Stream:
    """The lists that are read: checked, copied to `survivor_...`, as rows of ids."""
    data, kind = pyrtl.Input(BURST_BITS, "read_data"), pyrtl.Input(KIND_BITS, "read_kind")
    last, valid = pyrtl.Input(1, "read_last"), pyrtl.Input(1, "read_valid")
    is_protected = kind == ReadKind.PROTECTED
    room = pyrtl.WireVector(1, "bursts_room")
    bursts = Stream(pyrtl.concat(is_protected, last, data), valid & (kind >= ReadKind.SURVIVORS), room)
    intake = list_intake(sizes, bursts, (layer.keys, layer.protected_count), layer.position, block)
    fields = id_row(sizes).unpack(intake.rows.data)
    moves = intake.rows.valid & intake.rows.ready
    writes = moves & ~intake.kind & (fields["valid"] != 0)
    outputs = {
        "list_ready": room,
        "survivor_write": _later(writes, "copies", block),
        "survivor_row": _later(intake.number, "copied_row", block),
        "survivor_ids": _later(fields["ids"], "copied_ids", block),
    }
    for index, name in enumerate(("survivors", "protected")):
        mine = intake.kind == index
        seen = {"checked": intake.checked, "unordered": intake.unordered, "beyond": intake.beyond}
        for what, wire in seen.items():
            found = register(1, f"found_{name}_{what}", block)
            found.next <<= ~layer.begins & (found | (wire & mine))
            outputs[f"{name}_{what}"] = found
    output_ports(outputs)
    # a layer starts when its lists are checked: the mask of one, a row a cycle, does not hold up the check of the next
    rows = max(2, sizes.context // sizes.top_k_lanes)
    return fifo(intake.rows, rows, block=block, storage="memory", prefix="checked_").stream


def _merged(sizes: MachineSizes, lists: Stream, tokens_first: Wire, block: pyrtl.Block) -> Stream:
    """Rows of the lists that are read and, after the layer, rows that engine A kept: of tokens, then of heads."""
    lanes = sizes.top_k_lanes
    ids, last = pyrtl.Input(lanes * sizes.id_bits, "engine_a_kept_id"), pyrtl.Input(1, "engine_a_kept_last")
    count, valid = pyrtl.Input(lanes.bit_length(), "engine_a_kept_count"), pyrtl.Input(1, "select_result_valid")
    of_tokens, room = register(1, "result_of_tokens", block), pyrtl.WireVector(1, "merged_room")
    taken = room & ~lists.valid
    of_tokens.next <<= tokens_first | (of_tokens & ~(valid & taken & last))
    kind = pyrtl.select(of_tokens, pyrtl.Const(KEPT_TOKENS, 2), pyrtl.Const(KEPT_HEADS, 2))
    there = pyrtl.concat_list([count > i for i in range(lanes)])
    kept = id_row(sizes).pack({"ids": ids, "valid": there, "last": last, "kind": kind})
    output_ports({"select_result_ready": taken})
    drive(lists.ready, room)
    merged = Stream(pyrtl.select(lists.valid, lists.data, kept), lists.valid | valid, room)
    return stage(merged, block=block, prefix="merged_row_")


def _masks(
    sizes: MachineSizes,
    made: NextPlan,
    layer: Layer,
    masks: Stream,
    memories: tuple[pyrtl.MemBlock, pyrtl.MemBlock],
    ending: tuple[Wire, Wire],
    fixed_count: pyrtl.Register,
    block: pyrtl.Block,
) -> tuple[tuple[Wire, Wire], Wire]:
    """Rows of masks to where they belong. Gives pulses, the list and the mask of heads are complete, and that mask."""
    (alive, fixed), (ends, mode) = memories, ending
    mask = mask_row(sizes).unpack(masks.data)
    walking, walk_row = register(1, "walking", block), register(sizes.list_row_bits, "walk_row", block)
    place = pyrtl.select(walking, walk_row, mask["row"])
    alive_here = alive[place]
    fixed_here = fixed[place] & (layer.protected_count != 0).sign_extended(sizes.top_k_lanes)
    of = {kind: masks.valid & (mask["kind"] == kind) for kind in (SURVIVORS, PROTECTED, KEPT_TOKENS, KEPT_HEADS)}
    room = pyrtl.WireVector(1, "next_room")
    drive(masks.ready, ~of[KEPT_TOKENS] | room)

    alive[mask["row"]] <<= pyrtl.MemBlock.EnabledWrite(mask["bits"], of[SURVIVORS])
    fixed_bits = mask["bits"] & alive_here
    fixed[mask["row"]] <<= pyrtl.MemBlock.EnabledWrite(fixed_bits, of[PROTECTED])
    counted_bits, counting = (
        _later(wire, name, block) for name, wire in (("counted_bits", fixed_bits), ("counting", of[PROTECTED]))
    )
    tally = instantiate(made.tally, {"mask": counted_bits}, block, valid=counting, prefix="fixed_tally_")
    more = (fixed_count + tally.outputs["ones"])[: len(fixed_count)]
    counted = pyrtl.select(tally.out_valid, more, fixed_count)
    fixed_count.next <<= pyrtl.select(layer.begins, pyrtl.Const(0, len(fixed_count)), counted)
    protected_end = align(of[PROTECTED] & mask["last"], tally.latency_cycles + 2, "protected_end")
    held = []
    for name, end in (("survivors", of[SURVIVORS] & mask["last"]), ("protected", protected_end)):
        taken = register(1, f"all_{name}", block)
        taken.next <<= ~layer.begins & (taken | end)
        held.append(taken)
    output_ports({"lists_held": held[0] & (held[1] | (layer.protected_count == 0))})

    heads = register(MAX_HEADS, "next_heads_so_far", block)
    shifted = pyrtl.concat(mask["bits"], heads[sizes.top_k_lanes :])
    heads.next <<= pyrtl.select(of[KEPT_HEADS], shifted, heads)
    selects_heads = _later(layer.select_heads, "selects_heads", block)
    heads_done = pyrtl.select(selects_heads, of[KEPT_HEADS] & mask["last"], ends)

    walks = walking & room
    walk_last = walk_row == layer.last_row
    walking.next <<= (ends & (mode != NextMode.SELECTED)) | (walking & ~(walks & walk_last))
    following = pyrtl.select(walk_last, pyrtl.Const(0, len(walk_row)), (walk_row + 1)[: len(walk_row)])
    walk_row.next <<= pyrtl.select(walks, following, walk_row)
    kept = pyrtl.mux(mode, alive_here, mask["bits"] | fixed_here, fixed_here, default=fixed_here)
    last = pyrtl.select(walking, walk_last, mask["last"])
    row = Stream(pyrtl.concat(last, place, kept), walking | of[KEPT_TOKENS], room)
    listed = to_list(sizes, made, fifo(row, MASK_ROWS, block=block, prefix="next_row_").stream, block)
    ready = pyrtl.Input(1, "list_row_ready")
    drive(listed.ready, ready)
    output_ports({"list_row_data": listed.data[:-1], "list_row_last": listed.data[-1], "list_row_valid": listed.valid})
    return (listed.valid & ready & listed.data[-1], heads_done), heads


def _finish(ends: Wire, parts: Sequence[Wire], block: pyrtl.Block) -> None:
    """Ports `layer_selecting` and `selection_done`: all parts, which are pulses after `ends` or with it, are over."""
    selecting, left = register(1, "selecting", block), []
    for i, done in enumerate(parts):
        waits = register(1, f"part_{i}_left", block)
        waits.next <<= (ends | waits) & ~done
        left.append(waits)
    over = selecting & ~pyrtl.rtl_any(*left)
    selecting.next <<= ends | (selecting & ~over)
    output_ports({"layer_selecting": ends | selecting, "selection_done": over})
