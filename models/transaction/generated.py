"""Workloads from a model's shape, a length and a schedule alone: counts by the rules of sections 2 to 5, ids drawn.

A generated workload has no values. Survivors are drawn (`models/transaction/survivors.py`), and a given share of the
rows is flat, spread evenly.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from models.config import FRONT_HEADS, FRONT_TOKENS, PruningConfig, QuantizationConfig
from models.transaction.survivors import FlatRows, narrow, ranks
from models.transaction.workload import LayerWork, ModelShape, Selection, Workload, WorkloadError

BERT_BASE = ModelShape("bert-base", layers=12, heads=12, kv_heads=12, head_dim=64)
BERT_LARGE = ModelShape("bert-large", layers=24, heads=16, kv_heads=16, head_dim=64)
GPT2_SMALL = ModelShape("gpt2-small", layers=12, heads=12, kv_heads=12, head_dim=64)
GPT2_MEDIUM = ModelShape("gpt2-medium", layers=24, heads=16, kv_heads=16, head_dim=64)
LLAMA_1B = ModelShape("llama-3.2-1b", layers=16, heads=32, kv_heads=8, head_dim=64)
ENCODERS = {shape.name: shape for shape in (BERT_BASE, BERT_LARGE)}
DECODERS = {shape.name: shape for shape in (GPT2_SMALL, GPT2_MEDIUM, LLAMA_1B)}


@dataclass(frozen=True)
class Profile:
    """What a generated workload is made of.

    Attributes:
        name: of the workload.
        model: its shape.
        tokens: length of an encoder input, or of a decoder's prompt.
        generated: tokens that a decoder generates.
        encoder: rows see every survivor, and nothing is generated.
        prompt_pass: whether the pass over a decoder's prompt is part of it.
        pruning: schedules; the selection rule has no values to go by and is not used.
        quantization: M and L.
        query_bits: bits of an element of Q.
        flat_share: share of rows that are recomputed with all bits.
        seed: of what is drawn.
        source: where the numbers are from, in words.
    """

    name: str
    model: ModelShape
    tokens: int
    generated: int = 0
    encoder: bool = True
    prompt_pass: bool = False
    pruning: PruningConfig = field(default_factory=PruningConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)
    query_bits: int = 12
    flat_share: float = 0.0
    seed: int = 0
    source: str = "generated"

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.generated < 0 or (self.encoder and self.generated):
            raise WorkloadError(
                f"{self.name}: {self.tokens} tokens and {self.generated} generated; give at least one token, and "
                f"generated tokens to a decoder only"
            )
        if not self.encoder and not self.prompt_pass and not self.generated:
            raise WorkloadError(f"{self.name}: neither a prompt pass nor generated tokens; there is nothing to run")
        if not 0 <= self.flat_share <= 1 or (self.flat_share and not self.quantization.lsb_bits):
            raise WorkloadError(f"{self.name}: a share of {self.flat_share:g} flat rows; 0 to 1, and 0 without LSBs")


def parse_profile(text: str, pruning: PruningConfig, quantization: QuantizationConfig, query_bits: int = 12) -> Profile:
    """A profile from a short text: `bert-base:384`, or `gpt2-medium:992+32` for a prompt and generated tokens.

    Raises:
        WorkloadError: naming what is wrong and a text that works.
    """
    name, _, lengths = text.partition(":")
    models = ENCODERS | DECODERS
    if name not in models:
        close = difflib.get_close_matches(name[:80], models, n=1, cutoff=0.0)[0]
        raise WorkloadError(f"no model {name[:80]!r}; did you mean {close!r}? There are {', '.join(models)}")
    wanted = r"([0-9]{1,9})" if name in ENCODERS else r"([0-9]{1,9})\+([0-9]{1,9})"
    found = re.fullmatch(wanted, lengths)
    if found is None:
        example = f"{name}:384" if name in ENCODERS else f"{name}:992+32"
        raise WorkloadError(f"{text[:80]!r} has no length that fits the model; write it like {example}")
    tokens, generated = (*map(int, found.groups()), 0)[:2]
    return Profile(
        name=text,
        model=models[name],
        tokens=tokens,
        generated=generated,
        encoder=name in ENCODERS,
        pruning=pruning,
        quantization=quantization,
        query_bits=query_bits,
        source="generated: survivors drawn, no row flat",
    )


def generate(profile: Profile) -> Workload:
    """The workload of a profile.

    Raises:
        ConfigError: for a schedule of another number of layers.
    """
    p = profile
    p.pruning.tokens.layer_counts(p.model.layers, p.tokens, FRONT_TOKENS)
    p.pruning.heads.layer_counts(p.model.layers, p.model.heads, FRONT_HEADS)
    bits = ((p.quantization.msb_bits, p.quantization.lsb_bits),)
    return Workload(p.name, p.source, p.model, p.tokens + p.generated, bits, lambda: _layers(p))


def _layers(p: Profile) -> Iterator[LayerWork]:
    rank = ranks(p.tokens + p.generated, p.seed)
    head_rank = ranks(p.model.heads, p.seed + 1)
    flat = FlatRows(p.flat_share)
    freed = np.zeros((p.model.layers, p.tokens + p.generated), np.bool_)
    first = 0 if p.encoder or p.prompt_pass else 1
    for step in range(first, p.generated + 1):
        length = p.tokens + step
        prunes = p.encoder or step > 0 or p.pruning.prune_prompt
        token_counts = p.pruning.tokens.layer_counts(p.model.layers, length, FRONT_TOKENS)
        head_counts = p.pruning.heads.layer_counts(p.model.layers, p.model.heads, FRONT_HEADS)
        protected = np.zeros(length, np.bool_)
        protected[[i for i in p.pruning.protected_ids if i < length]] = True
        if not p.encoder:
            protected[length - 1] = True
        elif p.pruning.protect_first:
            protected[0] = True
        tokens, heads = np.arange(length), np.arange(p.model.heads)
        for layer in range(p.model.layers):
            present = tokens[~freed[layer, tokens]]
            tokens = narrow(present, token_counts[layer] if prunes else length, protected, rank)
            if p.pruning.scope == "sequence":
                freed[layer:, np.setdiff1d(np.arange(length), tokens)] = True
            before = heads
            if layer > 0 and prunes:
                heads = narrow(heads, head_counts[layer], np.zeros(p.model.heads, np.bool_), head_rank)
            bypass = int(protected[present].sum())
            yield _work(
                p,
                step,
                layer,
                tokens,
                heads,
                flat,
                present if p.pruning.scope == "sequence" else None,
                None
                if len(tokens) == len(present) or len(tokens) == bypass
                else Selection(len(present) - bypass, len(tokens) - bypass),
                None if len(heads) == len(before) else Selection(len(before), len(heads)),
            )


def _work(
    p: Profile,
    step: int,
    layer: int,
    tokens: np.ndarray[tuple[int], np.dtype[np.int64]],
    heads: np.ndarray[tuple[int], np.dtype[np.int64]],
    flat: FlatRows,
    present: np.ndarray[tuple[int], np.dtype[np.int64]] | None,
    token_selection: Selection | None,
    head_selection: Selection | None,
) -> LayerWork:
    rows = tokens[-1:] if step else tokens
    visible = np.full(len(rows), len(tokens)) if p.encoder or step else np.arange(1, len(rows) + 1)
    kept = np.maximum(1, (visible * p.pruning.value_ratio16) >> 16)
    shape = (len(heads), len(rows))
    return LayerWork(
        model=p.model,
        step=step,
        layer=layer,
        causal=not p.encoder,
        tokens=p.tokens + step,
        key_ids=tokens,
        row_ids=rows,
        heads=heads,
        kept=np.broadcast_to(kept, shape),
        flat=flat.take(shape),
        msb_bits=p.quantization.msb_bits,
        lsb_bits=p.quantization.lsb_bits,
        query_bits=p.query_bits,
        token_selection=token_selection,
        present_ids=present,
        head_selection=head_selection,
        seed=p.seed,
    )
