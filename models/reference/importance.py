"""Importance of tokens and heads, accumulated over a whole sequence (sections 2, 3 and 12).

S_t[j] += prob[i,j] over heads, rows, layers and passes;  S_h[h] += sum_d |out[i,d]| in real units
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.reference.attention import Arithmetic, Attention, H

_FRACTION_BITS = 12


@dataclass(frozen=True)
class Importance:
    """Accumulated importance; int64 (ufix(32,12), ufix(48,12)) or float64, as the arithmetic has it.

    Attributes:
        tokens: S_t by token id, shape (tokens,).
        heads: S_h by head, shape (heads,).
        rows_seen: int64, shape (tokens,): rows of all heads that could see the token.
    """

    tokens: Tensor
    heads: Tensor
    rows_seen: Tensor

    @classmethod
    def zero(cls, heads: int, dtype: torch.dtype) -> "Importance":
        """Importance before the first token."""
        return cls(torch.zeros(0, dtype=dtype), torch.zeros(heads, dtype=dtype), torch.zeros(0, dtype=torch.int64))

    def extend(self, tokens: int) -> "Importance":
        """Make room for a sequence of `tokens` tokens; new ones begin at 0."""
        new = tokens - len(self.tokens)
        return replace(
            self,
            tokens=torch.cat([self.tokens, self.tokens.new_zeros(new)]),
            rows_seen=torch.cat([self.rows_seen, self.rows_seen.new_zeros(new)]),
        )

    def halve(self) -> "Importance":
        """`rescale` of section 2: halve every S_t, rounding down. The rows seen fade alike, never to nothing."""
        halved = self.tokens >> 1 if not self.tokens.is_floating_point() else self.tokens / 2
        return replace(self, tokens=halved, rows_seen=(self.rows_seen + 1) >> 1)

    def per_query(self) -> Tensor:
        """S_t divided by the rows that could see the token (section 12), with 12 more fraction bits if integer.

        Returns:
            shape (tokens,), dtype of `tokens`; 0 for a token nobody could see yet.
        """
        rows = torch.clamp(self.rows_seen, min=1)
        return self.tokens / rows if self.tokens.is_floating_point() else (self.tokens << _FRACTION_BITS) // rows


def accumulate(
    importance: Importance,
    arithmetic: Arithmetic[H],
    attention: Attention,
    v: H,
    tokens: Tensor,
    heads: Tensor,
) -> Importance:
    """Add what one layer of one sequence computed.

    Args:
        importance: so far.
        arithmetic: that computed `attention`.
        attention: without batch dimension: heads x rows x keys.
        v: values of the layer, repeated for each query head (their scale gives heads comparable units).
        tokens: ids of the keys, shape (keys,).
        heads: ids of the heads, shape (heads,).
    """
    rows = attention.visible.expand_as(attention.prob)
    per_token = torch.where(rows, attention.prob, 0).sum(dim=(0, 1)).to(importance.tokens.dtype)
    sees_any = rows.any(dim=-1)
    per_head = torch.where(sees_any, arithmetic.head_importance(attention.out, v), 0).sum(dim=-1)
    return Importance(
        torch.clamp(importance.tokens.index_add(0, tokens, per_token), max=arithmetic.token_limit),
        torch.clamp(
            importance.heads.index_add(0, heads, per_head.to(importance.heads.dtype)), max=arithmetic.head_limit
        ),
        importance.rows_seen.index_add(0, tokens, rows.sum(dim=(0, 1))),
    )
