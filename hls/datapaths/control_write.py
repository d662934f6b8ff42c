"""Writes of the controller: four streams of rows to bursts at rising addresses (algorithm page, section 11).

    token rows   `top_k_lanes` scores S_t of 32 bits   -> from `token_scores_base` on
    list rows    `top_k_lanes` ids of 16 bits          -> from `next_survivors_base` on
    head words   a score S_h of 64 bits                -> from `head_scores_base` on
    answer rows  256 bits                              -> at `answer_base`

Rows are put together to bursts of 256 bits, or taken apart; the last row of a stream ends it, and what is missing to a
whole burst then is zeros. The next row of that stream begins at its base again. Streams take turns.

Ports: for each of `token_row`, `list_row`, `head_word`, `answer_row` (which has no last: each is one) `_data`, `_last`,
`_valid`, `_ready`; the bases (in 512 bytes), which do not change while a stream is open; `control_write_address` (in
bursts), `control_write_data`, `control_write_valid`, `control_write_ready`; `write_busy`: a row taken has not left yet.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.fetcher_parts import BASE_ALIGNMENT_BITS
from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.datapaths.selection_heads import WORD_BITS
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, fifo, payload_register, produced, register
from hls.stream_flow import round_robin
from hls.technology import Technology
from hls.trace import Graph, HlsError
from models.config import AcceleratorConfig

LIST_ID_BITS = 16
ROWS = 2
"""Rows of a stream that wait."""
ANSWER_ROWS = 1
BURSTS = 2
"""That wait for the memory port."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The control writes as a netlist; `technology` changes nothing."""
    del technology
    rows = {
        "token_row": (config.top_k_lanes * IMPORTANCE_BITS, "token_scores_base"),
        "list_row": (config.top_k_lanes * LIST_ID_BITS, "next_survivors_base"),
        "head_word": (WORD_BITS, "head_scores_base"),
        "answer_row": (BURST_BITS, "answer_base"),
    }
    block = pyrtl.Block()
    with building(block):
        streams, busy = [], []
        for name, (bits, base) in rows.items():
            data, valid = pyrtl.Input(bits, f"{name}_data"), pyrtl.Input(1, f"{name}_valid")
            is_single = name == "answer_row"
            item = data if is_single else pyrtl.concat(pyrtl.Input(1, f"{name}_last"), data)
            taken = Stream(item, valid, pyrtl.WireVector(1, f"{name}_room"))
            output_ports({f"{name}_ready": taken.ready})
            queued = fifo(taken, ANSWER_ROWS if is_single else ROWS, block=block, prefix=f"{name}_queue_").stream
            below = pyrtl.Const(0, BASE_ALIGNMENT_BITS - 5)
            first = pyrtl.concat(pyrtl.Input(BURST_ADDRESS_BITS - len(below), base), below)
            if is_single:
                streams.append(Stream(pyrtl.concat(queued.data, first), queued.valid, queued.ready))
            else:
                bursts = burst_packer(queued, block=block, prefix=f"{name}_pack_")
                streams.append(_addressed(bursts, first, block, name))
            busy.append(queued.valid)
        chosen = round_robin(streams, block=block).stream
        out = fifo(chosen, BURSTS, block=block, storage="memory", prefix="out_").stream
        drive(out.ready, pyrtl.Input(1, "control_write_ready"))
        outputs = {
            "control_write_address": out.data[:BURST_ADDRESS_BITS],
            "control_write_data": out.data[BURST_ADDRESS_BITS:],
            "control_write_valid": out.valid,
            "write_busy": pyrtl.rtl_any(*busy, out.valid),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("control_write", block)


def burst_packer(source: Stream, *, block: pyrtl.Block, prefix: str) -> Stream:
    """Rows (their last bit: the last row) to bursts of 256 bits (their last bit: the last burst).

    Several rows make a burst, with zeros behind the last one, or a row makes several bursts. The rows of a burst that
    is not complete are held here; so is nothing after a last row.

    Raises:
        HlsError: if neither is a multiple of the other.
    """
    bits = source.bits - 1
    wide, narrow = max(bits, BURST_BITS), min(bits, BURST_BITS)
    if narrow < 1 or wide % narrow:
        raise HlsError(
            f"burst packer {prefix!r}: rows of {bits} bits do not fit bursts of {BURST_BITS}; use {BURST_BITS}"
        )
    parts = wide // narrow
    row, last = source.data[:-1], source.data[-1]
    with building(block):
        part = register(max(1, (parts - 1).bit_length()), f"{prefix}part", block)
        is_end = part == parts - 1
        if bits > BURST_BITS:
            words = lanes_of(row, parts)
            whole: Wire = (
                pyrtl.mux(part, *words, default=words[-1]) if parts < 1 << len(part) else pyrtl.mux(part, *words)
            )
            out = produced(pyrtl.concat(last & is_end, whole), source.valid, block, prefix)
            drive(source.ready, out.ready & is_end)
            moves, wraps = source.valid & out.ready, is_end
        else:
            held = [payload_register(bits, f"{prefix}held_{i}", block) for i in range(parts - 1)]
            earlier = [word & (part > i).sign_extended(bits) for i, word in enumerate(held)]
            here = [row & (part == i).sign_extended(bits) for i in range(parts)]
            placed = [a | b for a, b in zip(earlier, here, strict=False)] + here[parts - 1 :]
            emits = is_end | last
            out = produced(pyrtl.concat_list([*placed, last]), source.valid & emits, block, prefix)
            drive(source.ready, out.ready | ~emits)
            moves, wraps = source.valid & (out.ready | ~emits), emits
            for i, word in enumerate(held):
                word.next <<= pyrtl.select(moves & (part == i), row, word)
        following = pyrtl.select(wraps, pyrtl.Const(0, len(part)), (part + 1)[: len(part)])
        part.next <<= pyrtl.select(moves, following, part)
    return out


def _addressed(bursts: Stream, first: Wire, block: pyrtl.Block, name: str) -> Stream:
    """Bursts with their addresses, from `first` on; the last one ends the count."""
    offset = register(BURST_ADDRESS_BITS, f"{name}_offset", block)
    ready = pyrtl.WireVector(1, f"{name}_sends")
    drive(bursts.ready, ready)
    following = pyrtl.select(bursts.data[-1], pyrtl.Const(0, len(offset)), (offset + 1)[: len(offset)])
    offset.next <<= pyrtl.select(bursts.valid & ready, following, offset)
    address = (first + offset)[:BURST_ADDRESS_BITS]
    return Stream(pyrtl.concat(bursts.data[:-1], address), bursts.valid, ready)
