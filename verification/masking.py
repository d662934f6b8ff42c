"""An oracle for cascade pruning that masks instead of gathering, in NumPy float64, written apart from the reference.

Every layer computes all heads, rows and keys; dead keys get a score of minus infinity, dead rows and heads an output of
zero and no weight in any sum. What a gathering implementation yields for the survivors must be what stands here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import PruningConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MaskedLayer:
    """One layer: alive masks, probabilities and outputs at full size, importance after it."""

    step: int
    layer: int
    alive_tokens: NDArray[np.bool_]
    alive_heads: NDArray[np.bool_]
    prob: Floats
    out: Floats
    token_importance: Floats
    head_importance: Floats


def _keep_best(merit: Floats, candidates: list[int], count: int) -> set[int]:
    return set(sorted(candidates, key=lambda i: (-merit[i], i))[:count])


def _attention(q: Floats, k: Floats, v: Floats, mask: NDArray[np.bool_], value_ratio: float) -> tuple[Floats, Floats]:
    score = q @ k.T / np.sqrt(q.shape[-1])
    score[~mask] = -np.inf
    prob = np.zeros_like(score)
    out = np.zeros_like(q)
    for i in range(len(q)):
        if not mask[i].any():
            continue
        e = np.exp(score[i] - score[i].max())
        prob[i] = e / e.sum()
        visible = [int(j) for j in np.flatnonzero(mask[i])]
        k_v = max(1, (len(visible) * int(np.ceil(65536 * value_ratio))) // 65536)
        used = _keep_best(prob[i], visible, k_v)
        out[i] = sum((prob[i, j] * v[j] for j in sorted(used)), np.zeros(v.shape[1]))
    return prob, out


def masked_run(
    q: Any, k: Any, v: Any, prompt: int | None, pruning: PruningConfig, token_keep: list[float], head_keep: list[float]
) -> list[MaskedLayer]:
    """Run a sequence, all layers of all passes.

    Args:
        q: layers x heads x tokens x D.
        k: layers x K/V heads x tokens x D.
        v: as k.
        prompt: None for an encoder input.
        pruning: its value ratio, scope, rescale and importance rules; the cumulative and per-query selections.
        token_keep: share kept by layer.
        head_keep: share kept by layer.
    """
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (q, k, v))
    layers, heads, total, _ = q.shape
    group = heads // k.shape[1]
    s_t, s_h, seen = np.zeros(total), np.zeros(heads), np.zeros(total)
    gone = np.zeros((layers, total), dtype=bool)
    results = []
    first = total if prompt is None else prompt
    for step, n in enumerate(range(first, total + 1)):
        generating = step > 0
        prunes = prompt is None or generating or pruning.prune_prompt
        alive = np.arange(total) < n
        alive_heads = np.ones(heads, dtype=bool)
        protected = {i for i in pruning.protected_ids if i < n} | ({0} if prompt is None else {n - 1})
        for layer in range(layers):
            alive = alive & ~gone[layer]
            count = max(1, int(np.floor(token_keep[layer] * n))) if prunes else n
            ids = [int(i) for i in np.flatnonzero(alive)]
            if len(ids) > count:
                stay = protected & set(ids)
                merit = s_t / np.maximum(seen, 1) if pruning.importance == "per_query" else s_t
                stay |= _keep_best(merit, [i for i in ids if i not in stay], max(0, count - len(stay)))
                alive = np.isin(np.arange(total), sorted(stay))
            if pruning.scope == "sequence":
                gone[layer:, :n] |= ~alive[:n]
            head_count = max(1, int(np.floor(head_keep[layer] * heads))) if prunes else heads
            if layer > 0 and alive_heads.sum() > head_count:
                best = _keep_best(s_h, [int(h) for h in np.flatnonzero(alive_heads)], head_count)
                alive_heads = np.isin(np.arange(heads), sorted(best))
            rows = alive & (np.arange(total) == n - 1) if generating else alive
            mask = rows[:, None] & alive[None, :]
            if prompt is not None:
                mask &= np.tril(np.ones((total, total), dtype=bool))
            prob, out = np.zeros((heads, total, total)), np.zeros_like(q[layer])
            for h in np.flatnonzero(alive_heads):
                prob[h], out[h] = _attention(
                    q[layer, h], k[layer, h // group], v[layer, h // group], mask, pruning.value_ratio
                )
            s_t = s_t + prob.sum(axis=(0, 1))
            seen = seen + mask.sum(axis=0) * alive_heads.sum()
            s_h = s_h + np.abs(out).sum(axis=(1, 2))
            results.append(MaskedLayer(step, layer, alive, alive_heads, prob, out, s_t, s_h))
        if pruning.rescale and generating:
            s_t, seen = s_t / 2, np.floor((seen + 1) / 2)
    return results
