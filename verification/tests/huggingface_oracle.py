"""A second writing of cascade pruning in a running model, which masks where SpAtten gathers.

Every row and every key is computed; a pruned key gets the score minus infinity, a pruned head the output 0, and the
hidden state of a pruned row is overwritten with the old one after each layer. Plain loops, nothing of the project.
"""

import math
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import eager_mask


class OracleCache(DynamicCache):  # type: ignore[misc]
    """A stock cache that tells the oracle when beam search moves sequences."""

    def __init__(self, oracle):
        super().__init__()
        self.oracle = oracle

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self.oracle.sequences = [self.oracle.sequences[i].copy() for i in beam_idx.tolist()]


class OracleSequence:
    """State of one sequence; columns count padding too."""

    def __init__(self, layers, heads):
        self.importance = []  # of each column
        self.rows_seen = []
        self.head_importance = [0.0] * heads
        self.freed: list[set[int]] = [set() for _ in range(layers)]  # columns gone for good, by layer
        self.real = []
        self.alive = []
        self.heads = []

    def copy(self):
        other = OracleSequence(0, 0)
        other.importance, other.rows_seen = list(self.importance), list(self.rows_seen)
        other.head_importance, other.freed = list(self.head_importance), [set(f) for f in self.freed]
        other.real, other.alive, other.heads = list(self.real), list(self.alive), list(self.heads)
        return other


class Oracle:
    """What each layer of each call saw, in `log`: one dictionary for each (call, sequence, layer)."""

    def __init__(self, layers, heads, keep, head_keep, value_ratio=1.0, encoder=False, **options):
        self.layers, self.head_count = layers, heads
        self.keep, self.head_keep, self.ratio16 = keep, head_keep, math.ceil(65536 * value_ratio)
        self.encoder = encoder
        self.scope = options.get("scope", "step")
        self.prune_prompt = options.get("prune_prompt", False)
        self.merit = options.get("merit", "sum")
        self.rescale = options.get("rescale", False)
        self.sequences = []
        self.log = []

    def begin(self, query, key, mask):
        rows, columns = query.shape[2], key.shape[2]
        self.past = columns - rows
        self.kind = "encoder" if self.encoder else "step" if self.past and rows == 1 else "prompt"
        if not self.past:
            self.sequences = [OracleSequence(self.layers, self.head_count) for _ in range(len(query))]
        for index, s in enumerate(self.sequences):
            s.real = [True] * columns if mask is None else (mask[index, 0, -1] == 0).tolist()
            new = columns - len(s.importance)
            s.importance += [0.0] * new
            s.rows_seen += [0] * new
            s.alive = [c for c in range(columns) if s.real[c]]
            s.heads = list(range(self.head_count))

    def narrow(self, s, layer):
        length = sum(s.real)
        prunes = self.kind != "prompt" or self.prune_prompt
        s.alive = [c for c in s.alive if c not in s.freed[layer]]
        count = max(1, math.floor(self.keep[layer] * length)) if prunes else length
        real = [c for c in range(len(s.real)) if s.real[c]]
        protected = real[0] if self.encoder else real[-1]
        if len(s.alive) > count:
            merit = {
                "sum": lambda c: s.importance[c],
                "per_query": lambda c: s.importance[c] / max(1, s.rows_seen[c]),
                "recent": lambda c: c,
                "first_recent": lambda c: (real.index(c) < 4, c),
            }[self.merit]
            ranked = sorted((c for c in s.alive if c != protected), key=lambda c: c)
            ranked.sort(key=merit, reverse=True)
            s.alive = sorted([protected, *ranked[: count - 1]])
        if self.scope == "sequence" or self.kind == "prompt":
            gone = {c for c in range(len(s.real)) if s.real[c] and c not in s.alive}
            for later in range(layer, self.layers):
                s.freed[later] |= gone
        if layer > 0 and prunes:
            heads = max(1, math.floor(self.head_keep[layer] * self.head_count))
            ranked = sorted(s.heads, key=lambda h: s.head_importance[h], reverse=True)
            s.heads = sorted(ranked[:heads])

    def attention(self, module, query, key, value, mask, scaling, **kwargs):
        layer = module.layer_idx
        group = query.shape[1] // key.shape[1]
        if layer == 0:
            self.begin(query, key, mask)
        out = torch.zeros_like(query)
        for index, s in enumerate(self.sequences):
            self.narrow(s, layer)
            hidden = [c for c in range(key.shape[2]) if c not in s.alive]
            rows = [c for c in s.alive if c >= self.past]
            probabilities = {}
            for head in range(self.head_count):
                score = query[index, head] @ key[index, head // group].T * scaling
                if mask is not None:
                    score = score + mask[index, 0]
                score[:, hidden] = -math.inf
                prob = score.softmax(dim=-1)
                if head not in s.heads:
                    continue
                used = prob.clone()
                for row in rows:
                    seen = [c for c in s.alive if self.encoder or c <= row]
                    line = prob[row - self.past]
                    for c in seen:
                        s.importance[c] += float(line[c])
                        s.rows_seen[c] += 1
                    kept = max(1, (len(seen) * self.ratio16) >> 16)
                    dropped = sorted(seen, key=lambda c: -float(line[c]))[kept:]
                    used[row - self.past, dropped] = 0
                out[index, head] = used @ value[index, head // group]
                s.head_importance[head] += float(out[index, head, [r - self.past for r in rows]].abs().sum())
                probabilities[head] = prob[[r - self.past for r in rows]][:, s.alive]
            offset = s.real.index(True)
            taken = [r - self.past for r in rows]
            self.log.append(
                {
                    "layer": layer,
                    "sequence": index,
                    "tokens": [sum(s.real[:c]) for c in s.alive],
                    "offset": offset,
                    "heads": list(s.heads),
                    "prob": torch.stack(list(probabilities.values())),
                    "out": out[index, s.heads][:, taken],
                    "importance": [v for v, real in zip(s.importance, s.real, strict=True) if real],
                    "head_importance": list(s.head_importance),
                }
            )
        if layer == self.layers - 1 and self.rescale and self.kind == "step":
            for s in self.sequences:
                s.importance = [v / 2 for v in s.importance]
                s.rows_seen = [(r + 1) // 2 for r in s.rows_seen]
        return out.transpose(1, 2), None

    def hold_rows(self, module, args, output):
        held = output.clone()
        for index, s in enumerate(self.sequences):
            for row in range(output.shape[1]):
                column = self.past + row
                if s.real[column] and column not in s.alive:
                    held[index, row] = args[0][index, row]
        return held

    @contextmanager
    def attached(self, model, layers):
        """Put the oracle on `model`."""
        AttentionInterface.register("masking_oracle", self.attention)
        AttentionMaskInterface.register("masking_oracle", eager_mask)
        before = model.config._attn_implementation
        model.set_attn_implementation("masking_oracle")
        hooks = [layer.register_forward_hook(self.hold_rows) for layer in layers]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()
            model.set_attn_implementation(before)
            del AttentionInterface._global_mapping["masking_oracle"]
            del AttentionMaskInterface._global_mapping["masking_oracle"]
