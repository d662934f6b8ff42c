"""Attention of one layer on the slots of a batch, through `models.reference.attention.attend`.

Sequences and heads are one dimension here, "lanes": lane `s * H + h` is head h of sequence s, so that every sequence
keeps its own heads and scales while the batch is computed at once, as the model itself would.
"""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from models.config import QuantizationConfig
from models.reference.attention import Arithmetic, Attention, H, attend
from models.reference.huggingface.state import LayerView, Pass
from models.reference.importance import accumulate
from models.reference.payload import layer_payload
from models.reference.stack import LayerResult

Scales = tuple[Tensor, Tensor]


def with_softmax_scale(arithmetic: Arithmetic[H], scale: float) -> Arithmetic[H]:
    """The arithmetic with the model's own factor of the scores."""
    return cast(Arithmetic[H], replace(cast(Any, arithmetic), softmax_scale=scale))


def largest(x: Tensor, counted: Tensor) -> Tensor:
    """Largest magnitude of each head, shape (batch, heads), of `x`, shape (batch, heads, slots, D).

    `counted` is bool, shape (batch, slots).
    """
    return _only(x, counted).abs().amax(dim=(2, 3))


def _only(x: Tensor, counted: Tensor) -> Tensor:
    return x * counted[:, None, :, None]


def compute_layer(
    arithmetic: Arithmetic[H],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    view: LayerView,
    scales: Scales | None,
    value_ratio16: int,
) -> tuple[Tensor, Attention, H]:
    """Compute one layer of a batch.

    Args:
        arithmetic: in which numbers, with the model's softmax scale.
        q: shape (batch, heads, row slots, D).
        k: shape (batch, K/V heads, key slots, D).
        v: as `k`.
        view: which slots and heads.
        scales: largest |K| and |V| that their quantization spans; None leaves them unquantized.
        value_ratio16: share of values that are used.

    Returns:
        Outputs of all heads, shape (batch, heads, row slots, D), 0 for a pruned one; what was computed, by lane of the
        surviving heads; V as held, by lane of the K/V heads.
    """
    batch, heads, slots, dim = q.shape
    kv_heads = k.shape[1]
    lane = torch.arange(batch)[:, None]
    lanes = (lane * heads + view.heads).flatten()
    kv_lanes = (lane * kv_heads + view.heads // (heads // kv_heads)).flatten()
    if scales is None:
        held_k, held_v = (arithmetic.hold_key_value(x.reshape(-1, *x.shape[2:]), None) for x in (k, v))
    else:
        # A quantized call must not be scaled by filler rows; K and V must be by the prompt, which may be pruned by now.
        q = _only(q, view.rows.real)
        held_k, held_v = (_hold_with_scale(arithmetic, x, scale) for x, scale in zip((k, v), scales, strict=True))
    held_q = arithmetic.hold_query(q.reshape(-1, slots, dim))
    every_row, every_key = torch.arange(slots), torch.arange(k.shape[2])
    blind = ~view.visible.any(dim=-1, keepdim=True)
    attention = attend(
        arithmetic,
        held_q.select(lanes, every_row),
        held_k.select(kv_lanes, every_key),
        held_v.select(kv_lanes, every_key),
        (view.visible | blind).repeat_interleave(view.heads.shape[1], dim=0),
        value_ratio16,
        None if view.bias is None else view.bias.repeat_interleave(view.heads.shape[1], dim=0),
    )
    real = arithmetic.real_output(attention.out, held_v.select(kv_lanes, every_key)).to(q.dtype)
    out = real.new_zeros(batch * heads, slots, dim).index_copy(0, lanes, real)
    return out.view(batch, heads, slots, dim), attention, held_v


def _hold_with_scale(arithmetic: Arithmetic[H], x: Tensor, peak: Tensor) -> H:
    """Hold K or V with the scale that spans `peak`: as a first token, which is dropped again."""
    batch, heads, slots, dim = x.shape
    first = peak.reshape(-1, 1, 1).expand(-1, 1, dim).to(x.dtype)
    held = arithmetic.hold_key_value(torch.cat([first, x.reshape(-1, slots, dim)], dim=1), 1)
    return held.select(torch.arange(batch * heads), torch.arange(1, slots + 1))


def sequence_result(
    arithmetic: Arithmetic[H],
    active: Pass,
    view: LayerView,
    attention: Attention,
    held_v: H,
    kv_heads: int,
    sequence: int,
    layer: int,
    quantization: QuantizationConfig,
    datapath_bits: int,
) -> LayerResult:
    """Cut one sequence out of a computed layer, filler left out, and account for it.

    Args:
        arithmetic: that computed it.
        active: the pass, having entered `layer`.
        view: its slots.
        attention: by lane.
        held_v: V by lane of the K/V heads.
        kv_heads: K/V heads of one sequence.
        sequence: of the batch, from 0.
        layer: from 0.
        quantization: by which the payload is counted.
        datapath_bits: W, by which the payload of Q is counted.
    """
    alive = view.heads.shape[1]
    cascade = active.batch.cascades[sequence]
    heads = view.heads[sequence]
    group = len(cascade.importance.heads) // kv_heads
    rows = view.rows.real[sequence].nonzero().flatten()
    keys = view.keys.real[sequence].nonzero().flatten()
    mine = slice(sequence * alive, (sequence + 1) * alive)

    def cut(x: Tensor) -> Tensor:
        return x[mine].index_select(1, rows).index_select(2, keys)

    visible = view.visible[sequence : sequence + 1].index_select(1, rows).index_select(2, keys)
    own = Attention(
        cut(attention.score),
        cut(attention.prob),
        attention.flat[mine].index_select(1, rows),
        cut(attention.kept),
        attention.out[mine].index_select(1, rows),
        visible,
    )
    v = held_v.select(sequence * kv_heads + heads // group, keys)
    ids = active.real[sequence].cumsum(dim=0) - 1
    return LayerResult(
        active.batch.passes,
        layer,
        cascade.tokens,
        ids[view.row_columns[sequence, rows]],
        heads,
        own,
        arithmetic.real_output(own.out, v),
        accumulate(cascade.importance, arithmetic, own, v, cascade.tokens, heads),
        layer_payload(own, heads // group, own.out.shape[-1], quantization, datapath_bits, active.kind == "step"),
    )
