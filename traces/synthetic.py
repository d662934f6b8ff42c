"""Seeded synthetic traces with planted important tokens.

Queries, keys and values are standard Gaussian. Each layer and K/V head has a random unit direction `u`; the keys
of the planted tokens get `c * u` added and each query gets `g * c * u`, with `c^2 / sqrt(D) = strength` and a gain
`g` of its row drawn uniformly from [1/2, 3/2]. A planted key therefore stands out by `g * strength` in the softmax's
argument in every row, head and layer, and accumulated importance must find exactly the planted tokens. Rows with a
small gain are flat, so that progressive quantization decides both ways. The values of each K/V head have a gain
drawn from [1/4, 1], so that heads differ in importance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from traces.trace import Kind, ModelFacts, Trace, TraceError

FORMULA = "Gaussian Q, K, V; planted keys aligned with all queries"


def important_tokens(seed: int, tokens: int, fraction: float = 0.125) -> tuple[int, ...]:
    """Ids of a seeded choice of about `fraction` of the tokens (at least one), in rising order."""
    if not 0 < fraction <= 1:
        raise TraceError(f"is {fraction}; should be above 0 and at most 1", where="fraction")
    count = max(1, round(fraction * tokens))
    chosen = np.random.default_rng([seed, 1]).choice(tokens, size=count, replace=False)
    return tuple(sorted(int(i) for i in chosen))


def synthetic_trace(
    seed: int = 0,
    *,
    kind: Kind = "encoder",
    tokens: int = 64,
    generated: int = 0,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    head_dim: int = 64,
    important: Sequence[int] | None = None,
    strength: float = 4.0,
    causal: bool | None = None,
    dtype: DTypeLike = np.float16,
    name: str | None = None,
) -> Trace:
    """Draw a trace of `tokens` tokens, the last `generated` of them generated; the same arguments give the same bytes.

    `important` are the planted ids (default: `important_tokens(seed, tokens)`) and `strength` how far their keys
    stand out, in units of the softmax's argument. `kv_heads` defaults to `heads`, `causal` to whether the
    trace is a decoder's. Texts are `KEY<id>` for planted tokens and `t<id>` for the others.
    Token 0 of an encoder is protected. Raises `TraceError` for arguments that make no trace.
    """
    model = ModelFacts(
        name="synthetic",
        source=f"traces.synthetic, seed {seed}, strength {strength}",
        licence="MIT",
        layers=layers,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_dim=head_dim,
        softmax_scale=1 / math.sqrt(head_dim) if head_dim > 0 else 1.0,
        architecture="none",
        notes=FORMULA,
    )
    if tokens < 1:
        raise TraceError(f"is {tokens}; should be 1 or more", where="tokens")
    planted = set(important_tokens(seed, tokens) if important is None else important)
    if planted and not 0 <= min(planted) <= max(planted) < tokens:
        raise TraceError(f"ids {sorted(planted)} should be from 0 to {tokens - 1}", where="important")
    q, k, v = _tensors(np.random.default_rng([seed, 0]), model, tokens, sorted(planted), strength)
    return Trace(
        name=f"{kind}-{tokens}" if name is None else name,
        kind=kind,
        model=model,
        q=q.astype(dtype),
        k=k.astype(dtype),
        v=v.astype(dtype),
        token_ids=np.arange(tokens, dtype=np.int32),
        token_texts=tuple(f"KEY{i}" if i in planted else f"t{i}" for i in range(tokens)),
        prompt_length=tokens - generated,
        generated=generated,
        causal=kind == "decoder" if causal is None else causal,
        protected=(0,) if kind == "encoder" else (),
    )


def _tensors(
    rng: np.random.Generator, model: ModelFacts, tokens: int, planted: list[int], strength: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    shape = (model.layers, model.kv_heads, tokens, model.head_dim)
    q = rng.standard_normal((model.layers, model.heads, tokens, model.head_dim))
    k = rng.standard_normal(shape)
    v = rng.standard_normal(shape) * rng.uniform(0.25, 1, (model.layers, model.kv_heads, 1, 1))
    direction = rng.standard_normal((model.layers, model.kv_heads, 1, model.head_dim))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    offset = math.sqrt(abs(strength) * math.sqrt(model.head_dim))
    gain = rng.uniform(0.5, 1.5, (model.layers, model.heads, tokens, 1))
    q += gain * offset * np.repeat(direction, model.heads // model.kv_heads, axis=1)
    k[:, :, planted] += math.copysign(offset, strength) * direction
    return q, k, v
