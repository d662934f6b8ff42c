"""Where the planes of K and V go in DRAM so that the lists of vectors read in turn do not close each other's rows.

A head's planes are side by side, then come those of the next head, V that of some heads before (`LAG_HEADS`):

    one plane                    K15 V12 K16 V13 K17 V14 ..             in the order in which they are read
    two planes                   K15 k15 V15 v15 K16 k16 V16 v16 ..     (small letters: LSBs, which flat rows need)
    two, some values skipped     K15 k15 V13 v13 K16 k16 V14 v14 ..

So lists that are read one behind the other, or with two planes in any order within two heads, are in the same open
rows or in different banks: with two planes K and V of two heads take turns as their buffers become free, and LSBs come
when rows are known to be flat. V of which some vectors are skipped is asked for later, behind its row's top-k.

Any other placement works too: the descriptor has a base and a stride for each plane.
"""

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT_BYTES = 512
"""Of every plane of every head (algorithm page, section 11)."""
LAG_HEADS = {(1, False): 3, (1, True): 3, (2, False): 0, (2, True): 2}
"""Heads by which V is behind K, by the planes that each has and whether values are skipped: the fastest measured."""


class OperandLayout(NamedTuple):
    """K and V of a layer, all in bytes from where they begin: first of each plane, from a head to the next, the end."""

    keys: tuple[int, ...]
    key_stride: int
    values: tuple[int, ...]
    value_stride: int
    end: int


def operand_layout(
    key_bytes: Sequence[int], value_bytes: Sequence[int], heads: int, prunes_values: bool
) -> OperandLayout:
    """The layout of so many K/V heads.

    Args:
        key_bytes: of each plane of a head's K.
        value_bytes: of each plane of a head's V, as many.
        heads: K/V heads.
        prunes_values: rows skip values of small probability.
    """
    offsets, stride = [], 0
    for size in (*key_bytes, *value_bytes):
        offsets.append(stride)
        stride += -(-max(1, size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    planes = len(key_bytes)
    lag = min(LAG_HEADS[planes, prunes_values], heads) * stride
    values = tuple(lag + offset for offset in offsets[planes:])
    return OperandLayout(tuple(offsets[:planes]), stride, values, stride, lag + heads * stride)
