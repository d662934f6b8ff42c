"""Perplexity and embedding agreement, against numbers computed another way."""

import math
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.huggingface.evaluate import RULES, embedding_agreement, perplexity, pruning_for
from models.reference.integer import IntegerArithmetic
from verification.tests.huggingface_models import HEADS, LAYERS, VOCABULARY, small_model
from verification.tests.huggingface_oracle import Oracle

STREAM = torch.randint(2, VOCABULARY - 1, (49,), generator=torch.Generator().manual_seed(1))
SIZES: dict[str, Any] = {"prompt": 9, "window": 16, "windows": 9}
INPUTS = [[5, 9, 33, 4, 8, 20, 11, 2, 7, 50], [6, 3, 2], [17, 18, 19, 20, 21, 9]]


def loss_of_one_call(model):
    """Perplexity of the scored tokens by plain calls, each window at once."""
    windows = STREAM[:48].view(3, 16)
    with torch.no_grad():
        logits = model(windows).logits[:, 8:-1]
    losses = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), windows[:, 9:].reshape(-1))
    return math.exp(float(losses))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_dense_perplexity(family):
    model = small_model(family, torch.float64)
    points = perplexity(model, STREAM, [1.0], ["importance", "recent"], **SIZES)
    assert [(p.rule, p.keep, p.scored) for p in points] == [("dense", 1, 21), ("importance", 1, 21), ("recent", 1, 21)]
    for point in points:
        assert point.perplexity == pytest.approx(loss_of_one_call(model), rel=1e-6)
        assert point.payload_share == 1


def test_pruned_perplexity_is_that_of_the_masking_oracle():
    model = small_model("gpt2", torch.float64)
    point = perplexity(model, STREAM, [0.4], ["importance"], **SIZES)[1]
    oracle = Oracle(LAYERS, HEADS, (1.0, 0.4, 0.4, 0.4), (1.0,) * 4)
    windows = STREAM[:48].view(3, 16)
    cache = DynamicCache(config=model.config)
    loss = 0.0
    with torch.no_grad(), oracle.attached(model, model.base_model.h):
        for end in range(9, 16):
            part = windows[:, :9] if end == 9 else windows[:, end - 1 : end]
            logits = model(part, past_key_values=cache).logits[:, -1]
            loss -= float(logits.log_softmax(dim=-1).gather(1, windows[:, end : end + 1]).sum())
    assert point.perplexity == pytest.approx(math.exp(loss / 21), rel=1e-9)
    assert point.perplexity != pytest.approx(loss_of_one_call(model), rel=1e-3)
    assert point.payload_share < 0.9


def test_every_rule_differs_and_progress_is_told():
    told = []
    points = perplexity(
        small_model("gpt2"), STREAM, [0.3], **SIZES, progress=lambda done, total: told.append((done, total))
    )
    assert [point.rule for point in points] == ["dense", *RULES]
    assert len({point.perplexity for point in points}) == len(points)
    assert told == [(i + 1, 42) for i in range(42)]


def test_agreement():
    model = small_model("bert", torch.float64)
    told = []
    points = embedding_agreement(
        model, INPUTS, [1.0, 0.5], ["importance"], batch=2, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(i + 1, 8) for i in range(8)]
    assert [(p.rule, p.keep, p.inputs) for p in points] == [
        ("dense", 1, 3),
        ("importance", 1, 3),
        ("importance", 0.5, 3),
    ]
    assert points[0].lowest_cosine == pytest.approx(1, abs=1e-12)
    assert points[1].lowest_cosine == pytest.approx(1, abs=1e-12)
    cosines = []
    layers = model.base_model.encoder.layer
    for tokens in INPUTS:
        with torch.no_grad():
            stock = model.base_model(torch.tensor([tokens])).last_hidden_state.mean(dim=1)
            with Oracle(LAYERS, HEADS, (1.0, 0.5, 0.5, 0.5), (1.0,) * 4, encoder=True).attached(model, layers):
                pruned = model.base_model(torch.tensor([tokens])).last_hidden_state.mean(dim=1)
        cosines.append(float(torch.cosine_similarity(stock, pruned)))
    assert points[2].mean_cosine == pytest.approx(sum(cosines) / 3, rel=1e-9)
    assert points[2].lowest_cosine == pytest.approx(min(cosines), rel=1e-9)
    assert points[2].payload_share < 0.9


def test_pooling_and_integers():
    model = small_model("bert")
    arithmetic = IntegerArithmetic(QuantizationConfig(8, 4, 0.1))
    first = embedding_agreement(model, INPUTS, [0.5], ["importance"], pooling="cls", arithmetic=arithmetic)
    mean = embedding_agreement(model, INPUTS, [0.5], ["importance"], arithmetic=arithmetic)
    assert 0.99 < first[0].mean_cosine < 1
    assert first[1].mean_cosine != mean[1].mean_cosine


@pytest.mark.parametrize("rule", RULES)
def test_rules(rule):
    pruning = pruning_for(rule, 0.5, PruningConfig(scope="sequence", selection="random", importance="per_query"))
    assert pruning.scope == "sequence"
    assert pruning.tokens == KeepSchedule(average=0.5, start=0.5)
    expected = ("importance", "per_query") if rule == "per_query" else (rule, "cumulative")
    assert (pruning.selection, pruning.importance) == expected


def test_what_cannot_be_evaluated():
    bert, gpt2 = small_model("bert"), small_model("gpt2")
    with pytest.raises(ValueError, match="needs a causal language model, not a BertForSequenceClassification"):
        perplexity(bert, STREAM, [0.5])
    with pytest.raises(ValueError, match="not a GPT2Model"):
        perplexity(gpt2.base_model, STREAM, [0.5])
    with pytest.raises(ValueError, match="give a window of 2 to 128"):
        perplexity(gpt2, STREAM, [0.5], window=129)
    with pytest.raises(ValueError, match="shorter prompt"):
        perplexity(gpt2, STREAM, [0.5], prompt=20, window=20)
    with pytest.raises(ValueError, match="give a longer text"):
        perplexity(gpt2, STREAM, [0.5], prompt=20, window=80)
    with pytest.raises(ValueError, match="take the perplexity"):
        embedding_agreement(gpt2, INPUTS, [0.5])
    with pytest.raises(ValueError, match="there are mean, cls"):
        embedding_agreement(bert, INPUTS, [0.5], pooling="max")  # type: ignore[arg-type]
    for inputs in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one"):
            embedding_agreement(bert, inputs, [0.5])
    with pytest.raises(ValueError, match="there are importance, per_query, random"):
        pruning_for("oldest", 0.5, PruningConfig())  # type: ignore[arg-type]
