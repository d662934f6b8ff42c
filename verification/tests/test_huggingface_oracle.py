"""Pruned models, layer by layer, against an oracle that masks instead of gathering."""

from dataclasses import replace
from random import Random

import pytest
import torch

from models.config import KeepSchedule, PruningConfig
from models.reference.huggingface import slots, spatten_attention, state
from verification.tests.huggingface_models import GENERATE, HEADS, LAYERS, padded_batch, small_model
from verification.tests.huggingface_oracle import Oracle, OracleCache

KEEP = (0.9, 0.75, 0.5, 0.3)
HEAD_KEEP = (1.0, 0.84, 0.84, 0.5)
PRUNING = PruningConfig(tokens=KeepSchedule(ratios=KEEP), heads=KeepSchedule(ratios=HEAD_KEEP), value_ratio=0.6)


def oracle_for(model, pruning, merit="sum"):
    encoder = model.config.model_type == "bert"
    return Oracle(
        LAYERS,
        HEADS,
        KEEP,
        HEAD_KEEP,
        pruning.value_ratio,
        encoder,
        scope=pruning.scope,
        prune_prompt=pruning.prune_prompt,
        rescale=pruning.rescale,
        merit=merit,
    )


def layers_of(model):
    base = model.base_model
    return {"bert": lambda: base.encoder.layer, "gpt2": lambda: base.h, "llama": lambda: base.layers}[
        model.config.model_type
    ]()


def compare(controller, log):
    """Every layer of every call and sequence."""
    ours = [
        (sequence, result)
        for record in controller.passes
        for layer in range(LAYERS)
        for sequence, results in enumerate(record.sequences)
        for result in [results[layer]]
    ]
    assert len(ours) == len(log) > 0
    for (sequence, result), expected in zip(ours, log, strict=True):
        assert (result.layer, sequence) == (expected["layer"], expected["sequence"])
        assert result.tokens.tolist() == expected["tokens"]
        assert result.heads.tolist() == expected["heads"]
        torch.testing.assert_close(result.attention.prob, expected["prob"])
        torch.testing.assert_close(result.real_out, expected["out"])
        importance = torch.tensor(expected["importance"], dtype=torch.float64)
        torch.testing.assert_close(result.importance.tokens, importance)
        heads = torch.tensor(expected["head_importance"], dtype=torch.float64)
        torch.testing.assert_close(result.importance.heads, heads)


@pytest.mark.parametrize("merit", ["sum", "per_query", "recent", "first_recent"])
def test_encoder(merit):
    model = small_model("bert", torch.float64)
    rule = {"importance": merit} if merit == "per_query" else {} if merit == "sum" else {"selection": merit}
    pruning = replace(PRUNING, **rule)
    batch = padded_batch((19, 8, 13), "right")
    with torch.no_grad():
        with oracle_for(model, pruning, merit).attached(model, layers_of(model)) as oracle:
            expected = model(**batch)
        with spatten_attention(model, pruning) as controller:
            ours = model(**batch)
    assert [record.kind for record in controller.passes] == ["encoder"]
    compare(controller, oracle.log)
    torch.testing.assert_close(ours.logits, expected.logits)


def test_encoder_rows_keep_what_they_left_with():
    model = small_model("bert", torch.float64)
    batch = padded_batch((16, 11), "right")
    with torch.no_grad():
        with oracle_for(model, PRUNING).attached(model, layers_of(model)):
            expected = model.base_model(**batch).last_hidden_state
        with spatten_attention(model, PRUNING):
            ours = model.base_model(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[real], expected[real])


def generate_both(model, batch, pruning, merit="sum", oracle=None, **options):
    settings = {**GENERATE, "return_dict_in_generate": True, "output_logits": True, **options}
    oracle = oracle or oracle_for(model, pruning, merit)
    with oracle.attached(model, layers_of(model)):
        torch.manual_seed(5)
        expected = model.generate(**batch, **settings, past_key_values=OracleCache(oracle))
    with spatten_attention(model, pruning) as controller:
        torch.manual_seed(5)
        ours = model.generate(**batch, **settings)
    assert torch.equal(ours.sequences, expected.sequences)
    for a, b in zip(ours.logits, expected.logits, strict=True):
        torch.testing.assert_close(a, b)
    compare(controller, oracle.log)
    return controller, ours


@pytest.mark.parametrize("prune_prompt", [False, True])
@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_padded_batch(family, scope, prune_prompt):
    pruning = replace(PRUNING, scope=scope, prune_prompt=prune_prompt, rescale=scope == "step")
    batch = padded_batch((14, 9), "left")
    generate_both(small_model(family, torch.float64), batch, pruning, max_new_tokens=10, min_new_tokens=10)


@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize(
    "options", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}], ids=["beams", "sampling"]
)
def test_beams_and_sampling(scope, options):
    pruning = replace(PRUNING, scope=scope)
    batch = padded_batch((8, 12), "left")
    model = small_model("llama", torch.float64)
    _, ours = generate_both(model, batch, pruning, max_new_tokens=7, min_new_tokens=7, **options)
    assert len(ours.sequences) == (2 if "num_beams" in options else 4)


@pytest.mark.parametrize("merit", ["per_query", "recent", "first_recent"])
def test_selection_rules_in_generation(merit):
    rule = {"importance": merit} if merit == "per_query" else {"selection": merit}
    batch = padded_batch((11, 15), "left")
    model = small_model("gpt2", torch.float64)
    generate_both(model, batch, replace(PRUNING, **rule), merit, max_new_tokens=6, min_new_tokens=6)


@pytest.mark.parametrize("fault", ["filler is live", "later tokens visible", "beams not moved"])
def test_a_fault_is_caught(fault, monkeypatch):
    batch = padded_batch((14, 9), "left")
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    if fault == "filler is live":
        original = slots.lay_out

        def faulty(alive, padding):
            right = original(alive, padding)
            return replace(right, real=torch.ones_like(right.real))

        monkeypatch.setattr(state, "lay_out", faulty)
    elif fault == "later tokens visible":
        original_view = state.view_layer

        def faulty_view(active, mask, pruning):
            right = original_view(active, mask, pruning)
            return replace(right, bias=None, visible=right.visible | right.keys.real[:, None, :])

        monkeypatch.setattr("models.reference.huggingface.controller.view_layer", faulty_view)
    else:
        monkeypatch.setattr(state.Batch, "take", lambda self, index: self)
        options["num_beams"] = 3
    with pytest.raises((AssertionError, IndexError, RuntimeError)):
        generate_both(small_model("gpt2", torch.float64), batch, replace(PRUNING, scope="sequence"), **options)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(24))
def test_random_schedules(seed):
    random = Random(seed)
    keep = tuple(random.choice([1.0, 0.8, 0.5, 0.25, 0.1]) for _ in range(LAYERS))
    head_keep = tuple(random.choice([1.0, 0.7, 0.4]) for _ in range(LAYERS))
    pruning = PruningConfig(
        tokens=KeepSchedule(ratios=keep),
        heads=KeepSchedule(ratios=head_keep),
        value_ratio=random.choice([1.0, 0.5, 0.05]),
        scope=random.choice(["step", "sequence"]),
        prune_prompt=random.random() < 0.5,
        rescale=random.random() < 0.5,
    )
    model = small_model(random.choice(["gpt2", "llama"]), torch.float64)
    lengths = [random.randint(1, 14) for _ in range(random.randint(1, 3))]
    batch = padded_batch(lengths, "left", seed)
    options = {"num_beams": 2} if random.random() < 0.4 else {}
    oracle = oracle_for(model, pruning)
    oracle.keep, oracle.head_keep = keep, head_keep
    generate_both(model, batch, pruning, oracle=oracle, max_new_tokens=9, min_new_tokens=9, **options)
    encoder, batch = small_model("bert", torch.float64), padded_batch(lengths, "right", seed)
    oracle = oracle_for(encoder, pruning)
    oracle.keep, oracle.head_keep = keep, head_keep
    with torch.no_grad():
        with oracle.attached(encoder, layers_of(encoder)):
            expected = encoder(**batch)
        with spatten_attention(encoder, pruning) as controller:
            ours = encoder(**batch)
    compare(controller, oracle.log)
    torch.testing.assert_close(ours.logits, expected.logits)
