"""What the accelerator must show while it computes one layer, from the integer reference.

The reference gives the pass that counts; the netlist also shows the first pass of a flat row, computed here again.
Order is the machine's: surviving heads rising, query rows rising, keys by slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from models.reference.stack import LayerResult, Run

Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LayerExpectation:
    """One layer of one pass; arrays are heads x rows x keys where nothing else is said.

    Attributes:
        first_score: of the first pass.
        first_prob: of the first pass.
        score: of the pass that counts.
        prob: of the pass that counts.
        flat: heads x rows.
        visible: rows, number of keys that a row sees (the first ones).
        kept: bool, the value is used.
        out: heads x rows x D.
        token_importance: by id, after the layer.
        head_importance: by head, after the layer.
        tokens: ids of the keys.
        heads: surviving heads.
        kv_heads: the K/V head of each surviving head.
    """

    first_score: Array
    first_prob: Array
    score: Array
    prob: Array
    flat: npt.NDArray[np.bool_]
    visible: Array
    kept: npt.NDArray[np.bool_]
    out: Array
    token_importance: Array
    head_importance: Array
    tokens: Array
    heads: Array
    kv_heads: Array

    @property
    def rows(self) -> int:
        """Query rows of a head."""
        return int(self.flat.shape[1])

    def key_lists(self) -> list[int]:
        """K/V heads that are asked for, rising."""
        return [int(head) for head in np.unique(self.kv_heads)]

    def flat_key_lists(self) -> list[int]:
        """K/V heads whose K LSB plane is asked for."""
        return [g for g in self.key_lists() if bool(self.flat[self.kv_heads == g].any())]

    def sparse_lists(self, kv_head: int) -> list[Array]:
        """Slots whose V LSBs the flat rows of a K/V head ask for in summarization, one list a row that misses any."""
        have = np.zeros(len(self.tokens), np.bool_)
        lists = []
        for head in np.flatnonzero(self.kv_heads == kv_head):
            for row in np.flatnonzero(self.flat[head]):
                missing = self.kept[head, row] & ~have
                have |= missing
                if missing.any():
                    lists.append(np.flatnonzero(missing))
        return lists


def query_planes(run: Run[Planes], result: LayerResult) -> Planes:
    """Q of all heads for the rows of the call, as the machine reads it; its row 0 is token `first_row`."""
    sequence = run.sequence
    length = (sequence.tokens if sequence.prompt is None else sequence.prompt) + result.step
    return run.arithmetic.hold_query(sequence.q[result.layer][:, first_row(run, result) : length])


def first_row(run: Run[Planes], result: LayerResult) -> int:
    """Token of the first row of a call: a generation step has only the current one."""
    sequence = run.sequence
    return (sequence.prompt or 0) + result.step - 1 if result.step else 0


def _integers(values: torch.Tensor) -> Array:
    return np.asarray(values.to(torch.int64).numpy(), np.int64)


def expectation(run: Run[Planes], result: LayerResult) -> LayerExpectation:
    """Everything that the netlist shows in one layer.

    Raises:
        TypeError: for a run that is not in integers.
    """
    arithmetic = run.arithmetic
    if not isinstance(arithmetic, IntegerArithmetic):
        raise TypeError(f"the netlist equals the integer reference, not {type(arithmetic).__name__}")
    start = first_row(run, result)
    q = query_planes(run, result).select(result.heads, result.rows - start)
    k, _ = run.key_value(result.layer, result.tokens, result.heads)
    attention = result.attention
    visible = attention.visible.expand_as(attention.prob)
    first_score = arithmetic.score(q, k, full=False)
    first_prob = arithmetic.softmax(first_score, q, k, visible, None)
    return LayerExpectation(
        first_score=_integers(first_score),
        first_prob=_integers(first_prob),
        score=_integers(attention.score),
        prob=_integers(attention.prob),
        flat=attention.flat.numpy(),
        visible=_integers(visible[0].sum(dim=-1)),
        kept=attention.kept.numpy(),
        out=_integers(attention.out),
        token_importance=_integers(result.importance.tokens),
        head_importance=_integers(result.importance.heads),
        tokens=_integers(result.tokens),
        heads=_integers(result.heads),
        kv_heads=_integers(run.sequence.kv_head_of(result.layer, result.heads)),
    )
