"""Whole runs over given Q, K and V of every token: an encoder stack, a decoder over prompt and generated tokens.

Open loop: Q, K and V come from a dense model (or are synthetic) and do not depend on what is pruned; which of them are
used does. `Sequence` is what a run reads, `LayerResult` what it yields for every layer of every pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic

import torch
from torch import Tensor

from models.config import PruningConfig, QuantizationConfig
from models.reference.attention import Arithmetic, Attention, H, attend
from models.reference.cascade import Cascade, PassKind, begin_pass, end_pass, enter_layer, plan_pass
from models.reference.importance import Importance, accumulate
from models.reference.payload import Payload, layer_payload


@dataclass(frozen=True)
class Sequence:
    """Q, K, V of every token of one sequence.

    Attributes:
        q: for each layer, shape (heads, tokens, D).
        k: for each layer, shape (K/V heads, tokens, D); heads is a multiple of K/V heads.
        v: as k.
        prompt: None for an encoder input; for a decoder, how many tokens the prompt has. The others are generated, one
            a step.

    Raises:
        ValueError: for shapes that do not go together.
    """

    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    prompt: int | None = None

    def __post_init__(self) -> None:
        if not len(self.q) == len(self.k) == len(self.v) > 0:
            raise ValueError(f"{len(self.q)} layers of Q, {len(self.k)} of K, {len(self.v)} of V: give as many of each")
        for layer, (q, k, v) in enumerate(zip(self.q, self.k, self.v, strict=True)):
            first = self.q[0].shape
            if q.shape != first or k.shape != v.shape or k.shape[1:] != q.shape[1:] or len(q) % len(k):
                raise ValueError(
                    f"layer {layer}: Q {tuple(q.shape)}, K {tuple(k.shape)}, V {tuple(v.shape)} do not go together; "
                    f"Q is (heads, tokens, D) = {tuple(first)} as in layer 0, K and V (heads / group, tokens, D)"
                )
        if self.prompt is not None and not 1 <= self.prompt <= self.tokens:
            raise ValueError(
                f"a prompt of {self.prompt} tokens in a sequence of {self.tokens}; give 1 to {self.tokens}"
            )

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.q)

    @property
    def heads(self) -> int:
        """H, query heads."""
        return self.q[0].shape[0]

    @property
    def tokens(self) -> int:
        """Tokens, prompt and generated."""
        return self.q[0].shape[1]

    @property
    def head_dim(self) -> int:
        """D."""
        return self.q[0].shape[2]

    def kv_head_of(self, layer: int, heads: Tensor) -> Tensor:
        """K/V head that each query head reads: the query heads of a group are consecutive."""
        return heads // (self.heads // len(self.k[layer]))


@dataclass(frozen=True)
class LayerResult:
    """One layer of one pass.

    Attributes:
        step: 0 for the encoder or prompt pass, then the generation step.
        layer: from 0.
        tokens: ids of the surviving keys, rising.
        rows: ids of the query rows.
        heads: surviving heads.
        attention: what they computed.
        real_out: outputs as real numbers, shape (heads, rows, D).
        importance: after this layer.
        payload: bits asked for.
    """

    step: int
    layer: int
    tokens: Tensor
    rows: Tensor
    heads: Tensor
    attention: Attention
    real_out: Tensor
    importance: Importance
    payload: Payload


@dataclass(frozen=True)
class Run(Generic[H]):
    """A sequence prepared for one arithmetic: K and V held with the scales fixed at the encoder input or the prompt.

    Attributes:
        sequence: what is run.
        arithmetic: in which numbers.
        pruning: what leaves when.
        quantization: by which the payload is counted.
        datapath_bits: W, by which the payload of Q is counted.
        k: held, for each layer.
        v: as k.
    """

    sequence: Sequence
    arithmetic: Arithmetic[H]
    pruning: PruningConfig
    quantization: QuantizationConfig
    datapath_bits: int
    k: tuple[H, ...]
    v: tuple[H, ...]

    def passes(self) -> Iterator[LayerResult]:
        """Run every pass; yield every layer."""
        s = self.sequence
        cascade = Cascade.start(s.layers, s.heads, self.arithmetic.importance_dtype)
        first = s.tokens if s.prompt is None else s.prompt
        for index, length in enumerate(range(first, s.tokens + 1)):
            kind: PassKind = "step" if index else "encoder" if s.prompt is None else "prompt"
            plan = plan_pass(self.pruning, kind, index, length, s.layers, s.heads)
            cascade = begin_pass(cascade, plan)
            for layer in range(s.layers):
                cascade = enter_layer(cascade, plan, self.pruning, layer)
                result = self.layer(cascade, index, layer)
                cascade = replace(cascade, importance=result.importance)
                yield result
            cascade = end_pass(cascade, plan, self.pruning)

    def layer(self, cascade: Cascade, step: int, layer: int) -> LayerResult:
        """Compute one layer of one pass for the tokens and heads that `cascade` says are alive."""
        s, tokens, heads = self.sequence, cascade.tokens, cascade.heads
        attention, v = self.attention(layer, step, tokens, heads)
        return LayerResult(
            step,
            layer,
            tokens,
            self._rows(step, tokens),
            heads,
            attention,
            self.arithmetic.real_output(attention.out, v),
            accumulate(cascade.importance, self.arithmetic, attention, v, tokens, heads),
            layer_payload(
                attention, s.kv_head_of(layer, heads), s.head_dim, self.quantization, self.datapath_bits, step > 0
            ),
        )

    def _rows(self, step: int, tokens: Tensor) -> Tensor:
        return tokens[-1:] if step else tokens

    def key_value(self, layer: int, tokens: Tensor, heads: Tensor) -> tuple[H, H]:
        """Return K and V of the surviving tokens, repeated for each surviving query head."""
        kv_heads = self.sequence.kv_head_of(layer, heads)
        return self.k[layer].select(kv_heads, tokens), self.v[layer].select(kv_heads, tokens)

    def attention(self, layer: int, step: int, tokens: Tensor, heads: Tensor) -> tuple[Attention, H]:
        """Compute one layer of one pass for given survivors.

        Args:
            layer: from 0.
            step: 0 for the encoder or prompt pass, then the generation step.
            tokens: ids of the surviving keys, rising.
            heads: surviving heads.

        Returns:
            what they compute, and the values they use, repeated for each query head.
        """
        s = self.sequence
        length = (s.tokens if s.prompt is None else s.prompt) + step
        rows = self._rows(step, tokens)
        start = length - 1 if step else 0
        q = self.arithmetic.hold_query(s.q[layer][:, start:length]).select(heads, rows - start)
        k, v = self.key_value(layer, tokens, heads)
        visible = torch.ones(1, len(rows), len(tokens), dtype=torch.bool)
        if s.prompt is not None:
            visible = (tokens <= rows[:, None])[None]
        return attend(self.arithmetic, q, k, v, visible, self.pruning.value_ratio16), v


def prepare(
    sequence: Sequence,
    arithmetic: Arithmetic[H],
    pruning: PruningConfig,
    quantization: QuantizationConfig | None = None,
    datapath_bits: int = 12,
) -> Run[H]:
    """Hold K and V of every layer, with scales over the encoder input or the prompt.

    Args:
        sequence: to run.
        arithmetic: in which numbers.
        pruning: schedule and rules.
        quantization: by which the payload is counted; default static at `datapath_bits` bits, at most 12.
        datapath_bits: W, by which the payload of Q is counted.
    """
    hold = arithmetic.hold_key_value
    return Run(
        sequence,
        arithmetic,
        pruning,
        quantization or QuantizationConfig(),
        datapath_bits,
        tuple(hold(k, sequence.prompt) for k in sequence.k),
        tuple(hold(v, sequence.prompt) for v in sequence.v),
    )
