"""Which rows of a layer have told their importance: the selection of tokens need not wait for the outputs.

S_t of a layer is final when the last row has been added to token importance, and engine A is free for the selection
when no row is left in either top-k engine. V of the last rows, prob x V, outputs and S_h come later.

    row_added      pulse: the last beat of a row has been added
    row_kept       pulse: a row has left its engine; rows that keep all values never come to one
"""

from __future__ import annotations

from collections.abc import Mapping

import pyrtl

from hls.datapaths.value_wires import KEEP_ALL
from hls.lower import building
from hls.netlist import Wire
from hls.stream import register


def rows_told(layer: Mapping[str, Wire], start: Wire, block: pyrtl.Block) -> Wire:
    """1 from when all rows have told their importance until `start` of the next layer."""
    with building(block):
        last_row, last_head = (register(len(layer[name]), f"last_of_{name}", block) for name in ROWS_OF)
        for last, name in zip((last_row, last_head), ROWS_OF, strict=True):
            last.next <<= (layer[name] - 1)[: len(last)]
        added, kept = (
            _all_of(name, last_row, last_head, pyrtl.Input(1, f"row_{name}"), start, block)
            for name in ("added", "kept")
        )
        return added & (kept | layer["layer_ratio16"][KEEP_ALL])


ROWS_OF = ("layer_rows", "layer_heads")
"""Rows of each head, surviving heads."""


def _all_of(
    name: str, last_row: Wire, last_head: Wire, counts: Wire, start: Wire, block: pyrtl.Block
) -> pyrtl.Register:
    """Whether there have been as many pulses `counts` as the layer has rows."""
    row, head = register(len(last_row), f"{name}_row", block), register(len(last_head), f"{name}_head", block)
    row_ends, head_ends = row == last_row, head == last_head
    after_row = pyrtl.select(row_ends, pyrtl.Const(0, len(row)), (row + 1)[: len(row)])
    row.next <<= pyrtl.select(counts, after_row, row)
    after_head = pyrtl.select(head_ends, pyrtl.Const(0, len(head)), (head + 1)[: len(head)])
    head.next <<= pyrtl.select(counts & row_ends, after_head, head)
    everything = register(1, f"all_{name}", block)
    everything.next <<= ~start & (everything | (counts & row_ends & head_ends))
    return everything
