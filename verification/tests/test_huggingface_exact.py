"""Everything kept: bitwise what the stock model computes with eager attention, through the same code."""

from dataclasses import replace

import pytest
import torch

from models.config import PruningConfig
from models.reference import attention as reference_attention
from models.reference.huggingface import attention, spatten_attention
from verification.tests.huggingface_models import (
    GENERATE,
    LAYERS,
    minilm,
    padded_batch,
    small_gpt2_checkpoint,
    small_model,
)


@pytest.fixture
def attend_calls(monkeypatch):
    """Counts calls of the reference attention; `calls.fault` is added to every output."""

    class Calls:
        count = 0
        fault = 0.0

    def counted(*args):
        Calls.count += 1
        result = reference_attention.attend(*args)
        return replace(result, out=result.out + Calls.fault)

    monkeypatch.setattr(attention, "attend", counted)
    return Calls


def outputs(model, batch):
    with torch.no_grad():
        out = model(**batch, output_hidden_states=True, output_attentions=True)
    return [out.logits, *out.hidden_states, *out.attentions]


def all_equal(left, right):
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize(
    ("family", "side", "dtype"),
    [
        ("bert", "right", torch.float32),
        ("bert", "right", torch.float64),
        ("gpt2", "left", torch.float32),
        ("gpt2", "right", torch.float64),
        # Not in float64: there Llama's own eager attention still takes its softmax in float32.
        ("llama", "left", torch.float32),
        ("llama", "right", torch.float32),
    ],
)
def test_padded_batch_with_head(family, side, dtype, scope, attend_calls):
    model = small_model(family, dtype)
    for lengths in [(17, 9, 30), (12,), (12, 12)]:
        batch = padded_batch(lengths, side)
        stock = outputs(model, batch)
        attend_calls.count = 0
        with spatten_attention(model, PruningConfig(scope=scope)):
            ours = outputs(model, batch)
        assert all_equal(stock, ours)
        assert attend_calls.count == LAYERS
    without_mask = {"input_ids": padded_batch((20, 20), "right")["input_ids"]}
    stock = outputs(model, without_mask)
    with spatten_attention(model, PruningConfig(scope=scope)):
        assert all_equal(stock, outputs(model, without_mask))


def test_a_fault_in_the_reference_attention_shows(attend_calls):
    model = small_model("bert")
    batch = padded_batch((9, 14), "right")
    stock = outputs(model, batch)
    attend_calls.fault = 1e-6
    with spatten_attention(model):
        assert not all_equal(stock, outputs(model, batch))


@pytest.mark.parametrize("changes", [{"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}])
def test_the_scale_of_the_scores_is_the_model_s(changes):
    model = small_model("gpt2", **changes)
    batch = padded_batch((9, 14), "left")
    stock = outputs(model, batch)
    with spatten_attention(model):
        assert all_equal(stock, outputs(model, batch))


def generated(model, batch, **options):
    torch.manual_seed(11)
    out = model.generate(**batch, **GENERATE, return_dict_in_generate=True, output_logits=True, **options)
    return [out.sequences, *out.logits]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("scope", "options"),
    [
        ("step", {}),
        ("sequence", {}),
        ("step", {"do_sample": True, "num_return_sequences": 2}),
        ("sequence", {"num_beams": 3}),
    ],
    ids=["greedy-step", "greedy-sequence", "sampling", "beams"],
)
def test_twenty_generated_tokens(family, scope, options, monkeypatch):
    for name, value in options.items():
        monkeypatch.setitem(GENERATE, name, value)
    model = small_model(family)
    batch = padded_batch((7, 15), "left")
    stock = generated(model, batch)
    with spatten_attention(model, PruningConfig(scope=scope)) as controller:
        assert all_equal(stock, generated(model, batch))
    assert [record.kind for record in controller.passes] == ["prompt"] + ["step"] * 19


def test_minilm():
    model, tokenizer = minilm()
    texts = [
        "A short one.",
        "The published machine prunes tokens and heads, layer by layer, and never looks back. " * 3,
    ]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        stock = model(**batch)
        with spatten_attention(model):
            ours = model(**batch)
    assert torch.equal(stock.last_hidden_state, ours.last_hidden_state)
    assert torch.equal(stock.pooler_output, ours.pooler_output)


def test_small_gpt2_checkpoint():
    model, tokenizer = small_gpt2_checkpoint()
    batch = tokenizer("The river rises in the mountains and flows south through the old town .", return_tensors="pt")
    stock = generated(model, batch)
    with spatten_attention(model):
        assert all_equal(stock, generated(model, batch))
