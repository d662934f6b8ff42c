"""What pruning costs a model: perplexity of a decoder, agreement of an encoder's embeddings with the dense model's.

Every rule that selects tokens is run at several kept shares, beside the same model with everything kept.

    perplexity = exp(mean of -log p(token | what came before))     agreement = cos(embedding, dense embedding)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers import DynamicCache

from models.config import KeepSchedule, PruningConfig
from models.reference.floating import FloatArithmetic
from models.reference.huggingface.controller import Controller, spatten_attention
from models.reference.huggingface.family import FAMILIES
from models.reference.integer import IntegerArithmetic
from models.reference.payload import Payload

Rule = Literal["importance", "per_query", "random", "recent", "first_recent"]
RULES: tuple[Rule, ...] = get_args(Rule)
Pooling = Literal["mean", "cls"]
Progress = Callable[[int, int], None]
"""Called with calls of the model done and to do."""


@dataclass(frozen=True)
class PerplexityPoint:
    """A decoder under one rule and share.

    Attributes:
        rule: that selected tokens; "dense" where all are kept.
        keep: share of tokens kept behind the front layers.
        perplexity: over `scored` tokens.
        scored: tokens predicted.
        payload_share: bits read from DRAM, as a share of those of the dense run.
    """

    rule: str
    keep: float
    perplexity: float
    scored: int
    payload_share: float


@dataclass(frozen=True)
class AgreementPoint:
    """An encoder under one rule and share.

    Attributes:
        rule: that selected tokens; "dense" where all are kept.
        keep: share of tokens kept behind the front layers.
        mean_cosine: over the inputs, between the embedding and that of the stock model.
        lowest_cosine: the worst input.
        inputs: how many.
        payload_share: bits read from DRAM, as a share of those of the dense run.
    """

    rule: str
    keep: float
    mean_cosine: float
    lowest_cosine: float
    inputs: int
    payload_share: float


def pruning_for(rule: Rule, keep: float, base: PruningConfig) -> PruningConfig:
    """`base` with tokens selected by `rule` and the same share `keep` in all layers behind the front ones.

    Raises:
        ValueError: for an unknown rule.
        ConfigError: for a share outside (0, 1].
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not known; there are {', '.join(RULES)}")
    tokens = KeepSchedule(average=keep, start=keep)
    if rule == "per_query":
        return replace(base, tokens=tokens, selection="importance", importance="per_query")
    return replace(base, tokens=tokens, selection=rule, importance="cumulative")


def _cases(
    keeps: Sequence[float], rules: Sequence[Rule], base: PruningConfig
) -> list[tuple[str, float, PruningConfig]]:
    dense = replace(base, tokens=KeepSchedule())
    pruned = [(rule, keep, pruning_for(rule, keep, base)) for keep in keeps for rule in rules]
    return [("dense", 1.0, dense), *pruned]


def _take_payload(controller: Controller) -> int:
    """Bits read by the recorded passes, which are forgotten."""
    total = Payload()
    for record in controller.passes:
        for layers in record.sequences:
            total = sum((result.payload for result in layers), total)
    controller.passes.clear()
    return total.read_bits


def perplexity(
    model: Any,
    ids: Tensor,
    keeps: Sequence[float],
    rules: Sequence[Rule] = RULES,
    *,
    prompt: int = 64,
    window: int = 256,
    windows: int = 8,
    pruning: PruningConfig | None = None,
    arithmetic: FloatArithmetic | IntegerArithmetic | None = None,
    progress: Progress | None = None,
) -> tuple[PerplexityPoint, ...]:
    """Perplexity of a causal language model that prunes as it would while generating.

    The stream is cut into windows that follow each other. Of each, the prompt is read at once and not scored; every
    later token is predicted and then read alone, through the cache, as if it had been generated (teacher forcing).

    Args:
        model: GPT-2- or Llama-type, with its language-model head.
        ids: token stream, int64, shape (tokens,).
        keeps: shares of tokens to keep.
        rules: that select them.
        prompt: tokens of a window that are its prompt.
        window: tokens of a window.
        windows: how many to use, from the start of the stream; fewer if it is shorter.
        pruning: everything but tokens and rule: heads, values, scope.
        arithmetic: default floating point.
        progress: called after every call of the model.

    Returns:
        First the point with all tokens kept, then for every share each rule.

    Raises:
        ValueError: for a model without causal head, a window that does not fit it, a stream shorter than a window.
    """
    config = model.config
    family = FAMILIES.get(config.model_type)
    if (family is not None and not family.causal) or model.get_output_embeddings() is None:
        raise ValueError(f"perplexity needs a causal language model, not a {type(model).__name__}")
    longest = config.max_position_embeddings
    if not 1 <= prompt < window <= longest:
        raise ValueError(
            f"a prompt of {prompt} tokens in a window of {window} for a model of {longest} positions: "
            f"give a window of 2 to {longest} and a shorter prompt"
        )
    count = min(windows, len(ids) // window)
    if count < 1:
        raise ValueError(f"{len(ids)} tokens in {windows} windows of {window}: give a longer text or a shorter window")
    stream = ids[: count * window].view(count, window)
    cases = _cases(keeps, rules, pruning or PruningConfig())
    calls = window - prompt
    points: list[PerplexityPoint] = []
    dense_bits = 0
    for index, (rule, keep, case) in enumerate(cases):
        loss, bits = 0.0, 0
        cache = DynamicCache(config=config)
        with torch.no_grad(), spatten_attention(model, case, arithmetic) as controller:
            for step in range(calls):
                new = stream[:, :prompt] if step == 0 else stream[:, prompt + step - 1 : prompt + step]
                logits = model(new, past_key_values=cache, use_cache=True).logits[:, -1]
                target = stream[:, prompt + step]
                loss += float(torch.nn.functional.cross_entropy(logits.double(), target, reduction="sum"))
                bits += _take_payload(controller)
                if progress is not None:
                    progress(index * calls + step + 1, len(cases) * calls)
        dense_bits = dense_bits or bits
        scored = count * calls
        points.append(PerplexityPoint(rule, keep, math.exp(loss / scored), scored, bits / dense_bits))
    return tuple(points)


def embedding_agreement(
    model: Any,
    inputs: Sequence[Sequence[int]],
    keeps: Sequence[float],
    rules: Sequence[Rule] = RULES,
    *,
    pooling: Pooling = "mean",
    batch: int = 16,
    pruning: PruningConfig | None = None,
    arithmetic: FloatArithmetic | IntegerArithmetic | None = None,
    progress: Progress | None = None,
) -> tuple[AgreementPoint, ...]:
    """Cosine between the embeddings of a pruned encoder and those of the stock model.

    Args:
        model: BERT-type.
        inputs: token ids of each input, special tokens included.
        keeps: shares of tokens to keep.
        rules: that select them.
        pooling: mean over all tokens of an input (a pruned one with the state in which it left), or its first token.
        batch: inputs computed at once.
        pruning: everything but tokens and rule.
        arithmetic: default floating point.
        progress: called after every call of the model.

    Returns:
        First the point with all tokens kept, then for every share each rule.

    Raises:
        ValueError: for a model that is not an encoder, no input or an empty one, an unknown pooling.
    """
    family = FAMILIES.get(model.config.model_type)
    if family is not None and family.causal:
        raise ValueError(f"embeddings are compared for encoders; for a {model.config.model_type} take the perplexity")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling {pooling!r} is not known; there are {', '.join(get_args(Pooling))}")
    if not inputs or not all(inputs):
        raise ValueError("an input without tokens: give at least one input, and at least one token in each")
    batches = [_padded(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
    cases = _cases(keeps, rules, pruning or PruningConfig())
    calls = (len(cases) + 1) * len(batches)
    done = 0

    def embed(ids: Tensor, mask: Tensor) -> Tensor:
        nonlocal done
        hidden: Tensor = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.double()
        done += 1
        if progress is not None:
            progress(done, calls)
        if pooling == "cls":
            return hidden[:, 0]
        weight = mask[..., None].double()
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1)

    points: list[AgreementPoint] = []
    dense_bits = 0
    with torch.no_grad():
        stock = torch.cat([embed(*one) for one in batches])
        for rule, keep, case in cases:
            bits = 0
            embedded = []
            with spatten_attention(model, case, arithmetic) as controller:
                for one in batches:
                    embedded.append(embed(*one))
                    bits += _take_payload(controller)
            dense_bits = dense_bits or bits
            cosine = torch.nn.functional.cosine_similarity(torch.cat(embedded), stock)
            share = bits / dense_bits
            points.append(
                AgreementPoint(rule, keep, float(cosine.mean()), float(cosine.min()), len(inputs), share),
            )
    return tuple(points)


def _padded(inputs: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (batch, columns), padded on the right; what a padding id is does not matter, it is masked."""
    longest = max(map(len, inputs))
    ids = torch.tensor([[*tokens, *[0] * (longest - len(tokens))] for tokens in inputs])
    mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in inputs])
    return ids, mask
