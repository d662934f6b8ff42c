"""Where the planes of K and V go in DRAM so that the lists of vectors read in turn do not close each other's rows.

Lists follow each other like this: K of a head, V of a head some heads before, LSB planes between them. The MSB and LSB
planes of a head's K are side by side, then come those of the next head; the same for V. Both walk over the banks at the
same pace, so V begins three quarters of a round over the banks behind K: then the V that is read beside some K is in
another bank, unless it is of a head as far back as fills three banks.

    round over the banks     0    1    2    3    0    1    2    3
    K of head 0, 1, ..       K0 K1 K2 K3 ..
    V of head 0, 1, ..                      V0 V1 V2 V3 ..

Any other placement works too: the descriptor has a base and a stride for each plane.
"""

from collections.abc import Sequence
from typing import NamedTuple

from models.memory.timing import Hbm2Timing

ALIGNMENT_BYTES = 512
"""Of every plane of every head (algorithm page, section 11)."""


class OperandLayout(NamedTuple):
    """K and V of a layer, all in bytes from where they begin: first of each plane, from a head to the next, the end."""

    keys: tuple[int, ...]
    key_stride: int
    values: tuple[int, ...]
    value_stride: int
    end: int


def operand_layout(key_bytes: Sequence[int], value_bytes: Sequence[int], heads: int, channels: int) -> OperandLayout:
    """The layout of so many K/V heads.

    Args:
        key_bytes: of each plane of a head's K.
        value_bytes: of each plane of a head's V.
        heads: K/V heads.
        channels: of the memory.
    """

    def side_by_side(sizes: Sequence[int], start: int) -> tuple[tuple[int, ...], int]:
        offsets, at = [], start
        for size in sizes:
            offsets.append(at)
            at += -(-max(1, size) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return tuple(offsets), at - start

    timing = Hbm2Timing.default()
    all_banks = channels * timing.pseudo_channels * timing.banks * timing.row_bytes
    keys, key_stride = side_by_side(key_bytes, 0)
    lead = 3 * all_banks // 4
    start = lead + -(-max(0, heads * key_stride - lead) // all_banks) * all_banks
    values, value_stride = side_by_side(value_bytes, start)
    return OperandLayout(keys, key_stride, values, value_stride, start + heads * value_stride)
