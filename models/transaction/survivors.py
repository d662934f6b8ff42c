"""Survivors where only their number is known: every token has a rank drawn once, and the best ranks stay.

So counts that fall from layer to layer give the nested sets of a cascade (section 2), at random places. Real survivors
lie closer together or further apart; how much that matters to bursts can be seen with other seeds.
"""

import numpy as np

from models.transaction.workload import BoolArray, IntArray


def ranks(tokens: int, seed: int) -> IntArray:
    """A rank for each token id, the same for a token whatever the number of tokens; the lowest stay longest."""
    return np.asarray(np.random.default_rng(seed).integers(0, 1 << 62, tokens), np.int64)


def narrow(present: IntArray, count: int, protected: BoolArray, rank: IntArray) -> IntArray:
    """The ids of `present` (rising) that stay when `count` do; protected ids (bool by id) stay in any case."""
    if len(present) <= count:
        return present
    kept, free = present[protected[present]], present[~protected[present]]
    chosen = free[np.argsort(rank[free], kind="stable")[: max(0, count - len(kept))]]
    return np.sort(np.concatenate((kept, chosen)))


class FlatRows:
    """Spreads flat rows evenly: of any n rows in order, `share` times n are flat, rounded down."""

    def __init__(self, share: float) -> None:
        self._share, self._seen = share, 0

    def take(self, shape: tuple[int, int]) -> BoolArray:
        """Flags of the next rows, shape (heads, rows)."""
        index = self._seen + np.arange(shape[0] * shape[1] + 1)
        self._seen = int(index[-1])
        whole = np.floor(index * self._share)
        return np.asarray(np.diff(whole) > 0).reshape(shape)
