"""The pruning state of a batch: each sequence has its own importance and survivors (algorithm page, sections 1 to 3).

A `Batch` lives as long as its sequences (with the KV cache), a `Pass` for one call of the model. Both are values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.config import PruningConfig
from models.reference.cascade import Cascade, PassKind, PassPlan, begin_pass, end_pass, enter_layer, plan_pass
from models.reference.huggingface.slots import Slots, gather_rows, lay_out
from models.reference.importance import Importance


@dataclass(frozen=True)
class Batch:
    """Sequences between two calls.

    Attributes:
        cascades: state of each.
        real: bool, shape (batch, columns): a token, not padding.
        passes: calls so far.
    """

    cascades: tuple[Cascade, ...]
    real: Tensor
    passes: int

    @classmethod
    def start(cls, batch: int, layers: int, heads: int, dtype: torch.dtype) -> "Batch":
        """Before the first call; `dtype` is that of the importance."""
        cascade = Cascade.start(layers, heads, dtype)
        return cls((cascade,) * batch, torch.zeros(batch, 0, dtype=torch.bool), 0)

    def take(self, index: Tensor) -> "Batch":
        """Sequences `index`, int64, in that order; one may occur several times (beam search)."""
        return replace(self, cascades=tuple(self.cascades[i] for i in index.tolist()), real=self.real[index])


@dataclass(frozen=True)
class Pass:
    """One call of the model on a batch.

    Attributes:
        kind: of the pass.
        past: columns before this call.
        batch: state so far.
        plans: of each sequence; None where the call brings it only padding.
    """

    kind: PassKind
    past: int
    batch: Batch
    plans: tuple[PassPlan | None, ...]

    @property
    def real(self) -> Tensor:
        """`Batch.real` with this call's columns."""
        return self.batch.real

    def with_importance(self, sequence: int, importance: Importance) -> "Pass":
        """Replace the importance of one sequence."""
        cascades = list(self.batch.cascades)
        cascades[sequence] = replace(cascades[sequence], importance=importance)
        return replace(self, batch=replace(self.batch, cascades=tuple(cascades)))


def begin(batch: Batch, causal: bool, real: Tensor, layers: int, pruning: PruningConfig) -> Pass:
    """Start a call.

    Args:
        batch: state so far.
        causal: a decoder.
        real: bool, shape (batch, past and new columns).
        layers: of the model.
        pruning: what leaves when.

    Raises:
        ValueError: for a call that brings no token at all.
    """
    past = batch.real.shape[1]
    new = real[:, past:]
    kind: PassKind = "encoder" if not causal else "step" if past and new.shape[1] == 1 else "prompt"
    plans: list[PassPlan | None] = []
    cascades = []
    for cascade, mine, added in zip(batch.cascades, real, new, strict=True):
        heads = len(cascade.importance.heads)
        plan = None
        if bool(added.any()):
            plan = plan_pass(pruning, kind, batch.passes, int(mine.sum()), layers, heads)
            cascade = begin_pass(cascade, plan)
        plans.append(plan)
        cascades.append(cascade)
    if all(plan is None for plan in plans):
        raise ValueError("attention_mask leaves no token in this call; give it at least one 1 in its last columns")
    return Pass(kind, past, replace(batch, cascades=tuple(cascades), real=real), tuple(plans))


def enter(active: Pass, pruning: PruningConfig, layer: int) -> Pass:
    """Narrow every sequence to what `layer` keeps.

    What leaves a prompt pass has no K/V from this layer on, so it is gone for good in either scope.
    """
    if active.kind == "prompt":
        pruning = replace(pruning, scope="sequence")
    cascades = tuple(
        cascade if plan is None else enter_layer(cascade, plan, pruning, layer)
        for cascade, plan in zip(active.batch.cascades, active.plans, strict=True)
    )
    return replace(active, batch=replace(active.batch, cascades=cascades))


def finish(active: Pass, pruning: PruningConfig) -> Batch:
    """The state after a call."""
    cascades = tuple(
        cascade if plan is None else end_pass(cascade, plan, pruning)
        for cascade, plan in zip(active.batch.cascades, active.plans, strict=True)
    )
    return replace(active.batch, cascades=cascades, passes=active.batch.passes + 1)


@dataclass(frozen=True)
class LayerView:
    """What one layer of one call computes on.

    Attributes:
        rows: slots of the call's own columns.
        keys: slots of all columns.
        row_columns: columns of `rows` counted from the first call on.
        heads: int64, shape (batch, surviving heads).
        visible: bool, shape (batch, row slots, key slots).
        bias: the model's own mask on these slots, same shape; None if it has none.
        frees: K/V of what is not in `keys` is given up.
    """

    rows: Slots
    keys: Slots
    row_columns: Tensor
    heads: Tensor
    visible: Tensor
    bias: Tensor | None
    frees: bool


def view_layer(active: Pass, mask: Tensor | None, pruning: PruningConfig) -> LayerView:
    """Lay out the layer that `active` has just entered.

    Args:
        active: the pass.
        mask: the model's own, shape (batch, 1, new columns, all columns); None if everything is visible.
        pruning: what leaves when.
    """
    real, past = active.real, active.past
    alive = torch.zeros_like(real)
    for mine, row, cascade in zip(real, alive, active.batch.cascades, strict=True):
        row[mine.nonzero().flatten()[cascade.tokens]] = True
    rows, keys = lay_out(alive[:, past:], ~real[:, past:]), lay_out(alive, ~real)
    row_columns = rows.columns + past
    visible = keys.real[:, None, :].expand(-1, rows.columns.shape[1], -1)
    if active.kind != "encoder":
        visible = visible & (keys.columns[:, None, :] <= row_columns[:, :, None])
    bias = None
    if mask is not None:
        bias = gather_rows(mask[:, 0], rows.columns)
        bias = gather_rows(bias.transpose(1, 2), keys.columns).transpose(1, 2)
        bias = bias.masked_fill(~keys.real[:, None, :], torch.finfo(bias.dtype).min)
    return LayerView(
        rows,
        keys,
        row_columns,
        torch.stack([_heads(cascade, active) for cascade in active.batch.cascades]),
        visible,
        bias,
        pruning.scope == "sequence" or active.kind == "prompt",
    )


def _heads(cascade: Cascade, active: Pass) -> Tensor:
    """Surviving heads; for a sequence without a row in this call, any as many as the others have."""
    most = max(len(c.heads) for c, plan in zip(active.batch.cascades, active.plans, strict=True) if plan is not None)
    return cascade.heads if len(cascade.heads) == most else torch.arange(most)


def real_columns(mask: Tensor | None, past: int, shape: Sequence[int], causal: bool) -> Tensor:
    """Tell tokens from padding by the mask that the model made.

    Args:
        mask: additive, 0 where visible, shape (batch or 1, 1, new columns, all columns); None if all is visible.
        past: columns before this call.
        shape: (batch, new columns).
        causal: a decoder.

    Returns:
        bool, shape (batch, past and new columns).

    Raises:
        ValueError: for a mask that is more than padding and causality (packed sequences, prefixes).
    """
    batch, new = shape
    if mask is None:
        return torch.ones(batch, past + new, dtype=torch.bool)
    if mask.shape[1:] != (1, new, past + new):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} for {new} rows of {past + new} keys is not supported; "
            "pass attention_mask as (batch, columns)"
        )
    seen = (mask[:, 0] == 0).expand(batch, -1, -1)
    real = seen[:, -1]
    expected = real[:, None, :].expand_as(seen)
    if causal:
        column = torch.arange(past + new)
        expected = expected & (column <= column[past:, None])
    if not torch.equal(seen, expected):
        raise ValueError(
            "the mask hides more than padding and later tokens; packed sequences and custom masks are not supported: "
            "pass attention_mask as (batch, columns) of 0 and 1, and one sequence per row"
        )
    return real
