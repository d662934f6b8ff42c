"""Slots: which columns of a batch a layer computes on, once its sequences have lost different numbers of tokens.

A column is a position of the (padded) batch, a token id counts the real tokens of one sequence (algorithm page,
section 1: padding enters nothing). As long as every token of the batch is alive, the slots are all columns, so that
the computation is that of the unpruned model; afterwards there are as many as the longest surviving sequence needs,
and a shorter one is filled up with columns that nobody sees.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Slots:
    """Columns to compute on, for each sequence of a batch.

    Attributes:
        columns: int64, shape (batch, slots), rising in each sequence.
        real: bool, same shape: an alive token; the others are filler.
        live: bool, same shape: an alive token or padding of the caller's; the others are dead tokens.
    """

    columns: Tensor
    real: Tensor
    live: Tensor


def lay_out(alive: Tensor, padding: Tensor) -> Slots:
    """Choose the slots.

    Args:
        alive: bool, shape (batch, columns).
        padding: bool, same shape, disjoint from `alive`; a column in neither is a dead token.
    """
    live = alive | padding
    width = alive.shape[1] if bool(live.all()) else int(alive.sum(dim=1).max())
    preference = alive.to(torch.int64) * 2 + padding.to(torch.int64)
    chosen = torch.sort(preference, dim=1, descending=True, stable=True).indices[:, :width].sort(dim=1).values
    return Slots(chosen, alive.gather(1, chosen), live.gather(1, chosen))


def gather_rows(x: Tensor, columns: Tensor) -> Tensor:
    """Pick columns of each sequence.

    Args:
        x: shape (batch, columns, width); a batch of 1 serves every sequence.
        columns: int64, shape (batch, slots).
    """
    x = x.expand(len(columns), *x.shape[1:])
    return x.gather(1, columns[..., None].expand(*columns.shape, x.shape[-1]))


def scatter_rows(x: Tensor, slots: Slots, rows: Tensor) -> Tensor:
    """Put `rows`, shape (batch, slots, width), back into a copy of `x`; dead tokens keep what they have."""
    index = slots.columns[..., None].expand_as(rows)
    return x.scatter(1, index, torch.where(slots.live[..., None], rows, x.gather(1, index)))


def gather_heads(x: Tensor, columns: Tensor) -> Tensor:
    """Pick columns of each sequence from `x`, shape (batch, heads, columns, D)."""
    return x.gather(2, columns[:, None, :, None].expand(len(columns), x.shape[1], columns.shape[1], x.shape[3]))
