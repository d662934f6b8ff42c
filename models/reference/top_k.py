"""Top-k: which k items are the largest, ties to the first, and the quick-select that finds them (section 6).

`largest_k` says what is selected; `quick_select` is the machine's way there, pivot by pivot, and counts its passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LFSR_POLYNOMIAL = 0xB400
LFSR_SEED = 0xACE1


def largest_k(value: Tensor, valid: Tensor, k: Tensor) -> Tensor:
    """Mark the k largest valid items along the last dimension, ties to the lowest position.

    Args:
        value: any ordered dtype, shape (..., n); a valid item is above the dtype's lowest number.
        valid: bool, broadcasts against `value`.
        k: int64, at least 1, shape (..., 1) or one that broadcasts.

    Returns:
        bool, shape of `value`; all valid items where there are no more than k.

    Raises:
        ValueError: for k below 1.
    """
    k = torch.as_tensor(k)
    if bool((k < 1).any()):
        raise ValueError(f"k = {int(k.min())} selects nothing; k must be at least 1")
    lowest = torch.finfo(value.dtype).min if value.is_floating_point() else torch.iinfo(value.dtype).min
    order = torch.sort(torch.where(valid, value, lowest), dim=-1, descending=True, stable=True).indices
    rank = torch.empty_like(order)
    rank.scatter_(-1, order, torch.arange(value.shape[-1]).expand_as(order))
    return (rank < k) & valid


@dataclass(frozen=True)
class Selection:
    """What a quick-select found and what it cost.

    Attributes:
        threshold: T, the k-th largest value.
        equal: `num_eq`, how many of the values equal to T are kept.
        kept: positions of the k largest items in input order.
        candidates: number of items each pass looked at, in order.
    """

    threshold: int | float
    equal: int
    kept: tuple[int, ...]
    candidates: tuple[int, ...]

    @property
    def passes(self) -> int:
        """Number of partition passes."""
        return len(self.candidates)


PivotRule = Callable[[int], int]
"""From the number of candidates to the position of the pivot among them."""


def lfsr_pivots(lanes: int) -> PivotRule:
    """Make the machine's pivot rule for one request: a 16-bit Galois LFSR picks a row of candidates, then a lane."""
    state = LFSR_SEED

    def pick(count: int) -> int:
        nonlocal state
        state = (state >> 1) ^ (LFSR_POLYNOMIAL if state & 1 else 0)
        rows = -(-count // lanes)
        row = ((state >> 8) * rows) >> 8
        lane = ((state & 0xFF) * min(lanes, count - row * lanes)) >> 8
        return row * lanes + lane

    return pick


def quick_select(values: Sequence[int] | Sequence[float], k: int, pivot_rule: PivotRule) -> Selection:
    """Select the k largest of `values` (the valid items of a request) as the engine does.

    Args:
        values: in input order; zero is a value like any other.
        k: at least 1; from len(values) on everything passes, without a partition pass.
        pivot_rule: position of each pass's pivot; `lfsr_pivots` is the machine's.

    Raises:
        ValueError: for k below 1 or no values.
    """
    if k < 1 or not values:
        raise ValueError(f"k = {k} of {len(values)} items: both must be at least 1")
    candidates = list(values)
    looked_at: list[int] = []
    target = k
    if k >= len(values):
        threshold, equal = min(candidates), candidates.count(min(candidates))
    else:
        while True:
            looked_at.append(len(candidates))
            threshold = candidates[pivot_rule(len(candidates))]
            larger = [v for v in candidates if v > threshold]
            num_equal = candidates.count(threshold)
            if len(larger) >= target:
                candidates = larger
            elif len(larger) + num_equal >= target:
                equal = target - len(larger)
                break
            else:
                target -= len(larger) + num_equal
                candidates = [v for v in candidates if v < threshold]
    return Selection(threshold, equal, filter_kept(values, threshold, equal), tuple(looked_at))


def filter_kept(values: Sequence[int] | Sequence[float], threshold: int | float, equal: int) -> tuple[int, ...]:
    """Return the positions of all values above `threshold` and of the first `equal` values equal to it."""
    kept = []
    for position, value in enumerate(values):
        if value > threshold or (value == threshold and equal > 0):
            equal -= value == threshold
            kept.append(position)
    return tuple(kept)


def eliminate_zeros(items: Sequence[object], valid: Sequence[bool]) -> list[list[tuple[object, bool]]]:
    """Pack the valid items to the front in order, as log2(n) conditional shifts; returns the row after every shift.

    Each valid item knows the number of gaps before it; round i shifts it left by 2^i where bit i of that number is set.
    """
    row = list(zip(items, valid, strict=True))
    gaps = [sum(not v for v in valid[:i]) for i in range(len(valid))]
    rounds = []
    for bit in range((len(row) - 1).bit_length()):
        shifted: list[tuple[object, bool]] = [(0, False)] * len(row)
        counts = [0] * len(row)
        for lane, ((item, is_valid), count) in enumerate(zip(row, gaps, strict=True)):
            if is_valid:
                to = lane - (1 << bit) if count >> bit & 1 else lane
                shifted[to], counts[to] = (item, True), count
        row, gaps = shifted, counts
        rounds.append(row)
    return rounds
