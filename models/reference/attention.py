"""Attention of one layer with progressive quantization and local value pruning (sections 1, 4 and 5).

`attend` is the order of the steps; an `Arithmetic`, float or integer, says how each is computed.
"""

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from models.reference.top_k import largest_k


class Held(Protocol):
    """Q, K or V of one layer in the form that an arithmetic keeps it, shape (..., heads, tokens, D)."""

    def select(self, heads: Tensor, tokens: Tensor) -> Self:
        """Return some heads and some tokens, both index tensors, in the order given."""
        ...


H = TypeVar("H", bound=Held)


class Arithmetic(Protocol[H]):
    """The steps of attention in one kind of number. Shapes: Q (..., heads, rows, D), K and V (..., heads, keys, D)."""

    @property
    def threshold(self) -> float:
        """A row whose largest probability is below this is flat."""
        ...

    @property
    def importance_dtype(self) -> torch.dtype:
        """Of accumulated importance."""
        ...

    @property
    def token_limit(self) -> float:
        """Where token importance saturates."""
        ...

    @property
    def head_limit(self) -> float:
        """Where head importance saturates."""
        ...

    def hold_query(self, q: Tensor) -> H:
        """Q of one call, scaled over all of its rows."""
        ...

    def hold_key_value(self, x: Tensor, calibration_tokens: int | None) -> H:
        """K or V of one layer, scaled over its first `calibration_tokens` tokens."""
        ...

    def score(self, q: H, k: H, full: bool) -> Tensor:
        """Scores, (..., heads, rows, keys), of the first pass or with all bits."""
        ...

    def softmax(self, score: Tensor, q: H, k: H, visible: Tensor, bias: Tensor | None) -> Tensor:
        """Probabilities, 0 where invisible."""
        ...

    def weigh(self, prob: Tensor, v: H, full: bool) -> Tensor:
        """Outputs, (..., heads, rows, D)."""
        ...

    def real_output(self, out: Tensor, v: H) -> Tensor:
        """Outputs as real numbers (section 8)."""
        ...

    def head_importance(self, out: Tensor, v: H) -> Tensor:
        """What each row adds to the importance of its head, (..., heads, rows) (section 3)."""
        ...


@dataclass(frozen=True)
class Attention:
    """What one layer computed, for its surviving heads, rows and keys.

    Attributes:
        score: of the pass that counts, shape (..., heads, rows, keys).
        prob: of the pass that counts, same shape.
        flat: bool, (..., heads, rows): the row was recomputed with all bits.
        kept: bool, shape of `prob`: the value was used.
        out: shape (..., heads, rows, D).
        visible: bool, broadcasts against `prob`.
    """

    score: Tensor
    prob: Tensor
    flat: Tensor
    kept: Tensor
    out: Tensor
    visible: Tensor


def kept_values(visible: Tensor, value_ratio16: int) -> Tensor:
    """k_v of section 4 for each row, shape (..., rows, 1)."""
    return torch.clamp((visible.sum(dim=-1, keepdim=True) * value_ratio16) >> 16, min=1)


def attend(
    arithmetic: Arithmetic[H],
    q: H,
    k: H,
    v: H,
    visible: Tensor,
    value_ratio16: int,
    bias: Tensor | None = None,
) -> Attention:
    """Compute one layer.

    Args:
        arithmetic: of the numbers that q, k and v hold.
        q: shape (..., heads, rows, D), surviving heads and rows.
        k: shape (..., heads, keys, D), surviving keys, repeated for each query head.
        v: as k.
        visible: bool, broadcasts against (..., heads, rows, keys).
        value_ratio16: share of visible keys whose value is used, in 1/65536.
        bias: added to float scores (a model's own mask); integer arithmetic goes by `visible` alone.
    """
    score = arithmetic.score(q, k, full=False)
    prob = arithmetic.softmax(score, q, k, visible, bias)
    flat = (prob.amax(dim=-1) < arithmetic.threshold) & visible.any(dim=-1)
    any_flat = bool(flat.any())
    if any_flat:
        full_score = arithmetic.score(q, k, full=True)
        full_prob = arithmetic.softmax(full_score, q, k, visible, bias)
        score = torch.where(flat[..., None], full_score, score)
        prob = torch.where(flat[..., None], full_prob, prob)
    kept = largest_k(prob, visible, kept_values(visible, value_ratio16))
    used = torch.where(kept, prob, 0)
    out = arithmetic.weigh(used, v, full=False)
    if any_flat:
        out = torch.where(flat[..., None], arithmetic.weigh(used, v, full=True), out)
    return Attention(score, prob, flat, kept, out, visible)
