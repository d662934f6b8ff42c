"""Where the planes of K and V go in DRAM so that the lists of vectors read in turn do not close each other's rows.

Lists of K and V take turns, and that of V is some heads behind:

    one plane     K15 V12 K16 V13 K17 V14 ..          `STATIC_LAG_HEADS`
    two planes    K15 V14 k14 v14 V15 k15 K16 v15 ..  `PROGRESSIVE_LAG_HEADS` (small letters: LSBs of flat rows)

With one plane they are in DRAM as they are read, K of a head beside V of one before it: one list goes on where the last
one ended, in the same open rows or in the next banks.

With two planes each, which of them are read depends on the rows. MSB and LSB plane of a head's K are side by side, then
come those of the next head; the same for V. Both walk over the banks at the same pace, and V begins half a round over
the banks, and the lag, behind K: then K and V that are read beside each other are half a round apart. It begins with a
bank or in the middle of one, since many lists have the size of half a bank.

Any other placement works too: the descriptor has a base and a stride for each plane.
"""

from collections.abc import Sequence
from typing import NamedTuple

from models.memory.timing import Hbm2Timing

ALIGNMENT_BYTES = 512
"""Of every plane of every head (algorithm page, section 11)."""
STATIC_LAG_HEADS = 3
PROGRESSIVE_LAG_HEADS = 0.5


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

    keys, key_stride = side_by_side(key_bytes, 0)
    if len(key_bytes) == len(value_bytes) == 1:
        values, beside = side_by_side(value_bytes, key_stride)
        stride = key_stride + beside
        first = values[0] + min(STATIC_LAG_HEADS, heads) * stride
        return OperandLayout(keys, stride, (first,), stride, first + heads * stride)
    timing = Hbm2Timing.default()
    bank = channels * timing.pseudo_channels * timing.bank_groups * timing.row_bytes
    all_banks = bank * timing.banks_per_group
    halves = int((all_banks + 2 * PROGRESSIVE_LAG_HEADS * key_stride) / bank + 0.5)
    lead = halves * bank // 2 % all_banks
    start = lead + -(-max(0, heads * key_stride - lead) // all_banks) * all_banks
    values, value_stride = side_by_side(value_bytes, start)
    return OperandLayout(keys, key_stride, values, value_stride, start + heads * value_stride)
