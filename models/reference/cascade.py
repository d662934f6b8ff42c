"""Cascade pruning: which tokens and heads are alive on entering each layer of a pass (sections 2, 3 and 12).

A pass is an encoder input, the prompt of a decoder, or one generation step. Values are immutable; the caller threads a
`Cascade` through `begin_pass`, then `enter_layer` and `importance` updates for each layer, then `end_pass`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from models.config import FRONT_HEADS, FRONT_TOKENS, PruningConfig
from models.reference.importance import Importance
from models.reference.top_k import largest_k

PassKind = Literal["encoder", "prompt", "step"]


@dataclass(frozen=True)
class PassPlan:
    """What the host knows when a pass begins.

    Attributes:
        kind: of the pass.
        index: 0 for the encoder or prompt pass, then the number of the generation step.
        length: N, tokens of the sequence, the current one included.
        token_counts: k_l for every layer.
        head_counts: k_h[l] for every layer.
        protected: bool by token id, shape (length,).
    """

    kind: PassKind
    index: int
    length: int
    token_counts: tuple[int, ...]
    head_counts: tuple[int, ...]
    protected: Tensor


def plan_pass(pruning: PruningConfig, kind: PassKind, index: int, length: int, layers: int, heads: int) -> PassPlan:
    """Compute the counts and protected ids of a pass over `length` tokens.

    Raises:
        ConfigError: if a schedule is written for another number of layers.
    """
    token_counts = pruning.tokens.layer_counts(layers, length, FRONT_TOKENS)
    head_counts = pruning.heads.layer_counts(layers, heads, FRONT_HEADS)
    if kind == "prompt" and not pruning.prune_prompt:
        token_counts, head_counts = (length,) * layers, (heads,) * layers
    protected = torch.zeros(length, dtype=torch.bool)
    protected[[i for i in pruning.protected_ids if i < length]] = True
    if kind != "encoder":
        protected[length - 1] = True
    elif pruning.protect_first:
        protected[0] = True
    return PassPlan(kind, index, length, token_counts, head_counts, protected)


@dataclass(frozen=True)
class Cascade:
    """State of one sequence between layers and passes.

    Attributes:
        importance: accumulated so far.
        freed: bool, (layers, tokens): with `sequence` scope, gone from this layer on for good.
        tokens: int64, rising ids alive in the current pass.
        heads: int64, rising heads alive in the current pass.
    """

    importance: Importance
    freed: Tensor
    tokens: Tensor
    heads: Tensor

    @classmethod
    def start(cls, layers: int, heads: int, dtype: torch.dtype) -> "Cascade":
        """State before the first pass; `dtype` of the importance: int64 or float64."""
        none = torch.zeros(0, dtype=torch.int64)
        return cls(Importance.zero(heads, dtype), torch.zeros(layers, 0, dtype=torch.bool), none, none)


def begin_pass(cascade: Cascade, plan: PassPlan) -> Cascade:
    """Start a pass from all tokens and all heads."""
    layers, known = cascade.freed.shape
    return Cascade(
        cascade.importance.extend(plan.length),
        torch.cat([cascade.freed, torch.zeros(layers, plan.length - known, dtype=torch.bool)], dim=1),
        torch.arange(plan.length),
        torch.arange(len(cascade.importance.heads)),
    )


def enter_layer(cascade: Cascade, plan: PassPlan, pruning: PruningConfig, layer: int) -> Cascade:
    """Narrow the alive tokens, then the alive heads, to what `layer` keeps."""
    present = cascade.tokens[~cascade.freed[layer, cascade.tokens]]
    tokens = select_tokens(cascade.importance, present, plan, pruning, layer)
    freed = cascade.freed
    if pruning.scope == "sequence":
        gone = torch.ones(plan.length, dtype=torch.bool)
        gone[tokens] = False
        freed = freed.clone()
        freed[layer:] |= gone
    heads = cascade.heads
    if layer > 0:
        heads = _largest(cascade.importance.heads[heads], heads, plan.head_counts[layer])
    return replace(cascade, freed=freed, tokens=tokens, heads=heads)


def end_pass(cascade: Cascade, plan: PassPlan, pruning: PruningConfig) -> Cascade:
    """Rescale the importance after a generation step, where the configuration asks for it."""
    if pruning.rescale and plan.kind == "step":
        return replace(cascade, importance=cascade.importance.halve())
    return cascade


def select_tokens(
    importance: Importance, present: Tensor, plan: PassPlan, pruning: PruningConfig, layer: int
) -> Tensor:
    """Return the ids of `present` (rising) that survive on entering `layer`, rising.

    Protected ids stay whatever the count; of the others, as many as the count leaves room for.
    """
    count = plan.token_counts[layer]
    if len(present) <= count:
        return present
    protected = plan.protected[present]
    free = present[~protected]
    room = count - int(protected.sum())
    chosen = free[:0] if room <= 0 else _largest(_merit(importance, free, plan, pruning, layer), free, room)
    return torch.sort(torch.cat([present[protected], chosen])).values


def _merit(importance: Importance, ids: Tensor, plan: PassPlan, pruning: PruningConfig, layer: int) -> Tensor:
    """By what the selection rule ranks tokens: the larger, the longer they stay."""
    if pruning.selection == "random":
        seed = (pruning.selection_seed * 1_000_003 + plan.index) * 1_000_003 + layer
        return torch.rand(plan.length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[ids]
    if pruning.selection == "recent":
        return ids
    if pruning.selection == "first_recent":
        return torch.where(ids < pruning.selection_first, ids + plan.length, ids)
    return (importance.per_query() if pruning.importance == "per_query" else importance.tokens)[ids]


def _largest(merit: Tensor, ids: Tensor, count: int) -> Tensor:
    return ids[largest_k(merit, torch.ones_like(ids, dtype=torch.bool), torch.tensor([count]))]
