"""Putting SpAtten on and taking it off: what stays behind (nothing), what is refused and how."""

import copy

import pytest
import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    DynamicCache,
    StaticCache,
)

from models.config import ConfigError, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.floating import FloatArithmetic
from models.reference.huggingface import attach, spatten_attention
from models.reference.integer import IntegerArithmetic
from verification.tests.huggingface_models import GENERATE, LAYERS, padded_batch, small_model

HALF = PruningConfig(tokens=KeepSchedule(ratios=(0.9, 0.5, 0.5, 0.5)), prune_prompt=True)
FAMILIES = ["bert", "gpt2", "llama"]


def fingerprint(model):
    """Everything about a model that attaching could leave changed."""
    hooks = [
        (name, list(module._forward_pre_hooks), list(module._forward_hooks), sorted(vars(module)))
        for name, module in model.named_modules()
    ]
    configs = [(m.config.to_dict(), m.config._attn_implementation) for m in model.modules() if hasattr(m, "config")]
    names = [sorted(interface._global_mapping) for interface in (AttentionInterface, AttentionMaskInterface)]
    weights = [(name, x.clone()) for name, x in model.state_dict().items()]
    return hooks, configs, names, weights


def same(before, after):
    return before[:3] == after[:3] and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(before[3], after[3], strict=True)
    )


def run(model):
    side = "right" if model.config.model_type == "bert" else "left"
    with torch.no_grad():
        return model(**padded_batch((9, 12), side)).logits


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_what_it_was(family, implementation):
    model = small_model(family)
    model.set_attn_implementation(implementation)
    stock = run(model)
    before = fingerprint(model)
    with spatten_attention(model, HALF):
        assert not same(before, fingerprint(model))
        assert not torch.equal(run(model), stock)
    assert same(before, fingerprint(model))
    assert torch.equal(run(model), stock)
    controller = attach(model, HALF)
    controller.detach()
    controller.detach()
    assert same(before, fingerprint(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_after_an_exception(family):
    model = small_model(family)
    stock = run(model)
    before = fingerprint(model)

    def fail(module, args, output):
        raise ZeroDivisionError

    layers = model.base_model.encoder.layer if family == "bert" else getattr(model.base_model, "h", None)
    layers = layers if layers is not None else model.base_model.layers
    hook = layers[2].register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), spatten_attention(model, HALF) as controller:
        run(model)
    assert controller.passes == []
    hook.remove()
    assert same(before, fingerprint(model))
    assert torch.equal(run(model), stock)


def test_a_call_after_a_failed_one_is_whole():
    model = small_model("bert")
    with spatten_attention(model, HALF) as controller:
        expected = run(model)
        hook = model.base_model.encoder.layer[1].register_forward_pre_hook(lambda module, args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(model)
        hook.remove()
        assert torch.equal(run(model), expected)
    assert len(controller.passes) == 2


def test_two_models_at_once():
    left, right = small_model("bert"), small_model("gpt2")
    expected = run(left), run(right)
    with spatten_attention(left) as a, spatten_attention(right) as b:
        assert torch.equal(run(left), expected[0])
        assert torch.equal(run(right), expected[1])
    assert (len(a.passes), len(b.passes)) == (1, 1)


def test_nothing_recorded_when_not_asked():
    model = small_model("gpt2")
    with spatten_attention(model, HALF, record=False) as controller:
        pruned = run(model)
    assert controller.passes == []
    with spatten_attention(model, HALF):
        assert torch.equal(run(model), pruned)


def test_attached_twice():
    model = small_model("bert")
    before = fingerprint(model)
    with spatten_attention(model):
        with pytest.raises(ValueError, match="attached to this model already; detach"):
            attach(model.base_model)
        run(model)
    assert same(before, fingerprint(model))


def test_unsupported_type_names_the_supported_ones():
    model = DistilBertModel(DistilBertConfig(vocab_size=9, dim=12, hidden_dim=12, n_layers=1, n_heads=2))
    with pytest.raises(ValueError, match="'distilbert' is not supported; there are bert, gpt2, llama"):
        attach(model)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = False"),
        ("bert", {"is_decoder": True}, "is_decoder = False"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
    ],
)
def test_unsupported_features(family, changes, message):
    with pytest.raises(ValueError, match=message):
        attach(small_model(family, **changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision(family, dtype):
    model = small_model(family, dtype)
    before = fingerprint(model)
    with pytest.raises(ValueError, match=r"model\.float\(\)"):
        attach(model)
    assert same(before, fingerprint(model))


@pytest.mark.parametrize(
    "pruning",
    [
        PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.5))),
        PruningConfig(heads=KeepSchedule(counts=(6, 6, 6, 6, 6))),
    ],
)
def test_wrong_number_of_layers(pruning):
    model = small_model("llama")
    before = fingerprint(model)
    with pytest.raises(ConfigError, match=f"for {LAYERS} layers; give {LAYERS}"):
        attach(model, pruning)
    assert same(before, fingerprint(model))


def test_training_and_dropout():
    model = small_model("bert", attention_probs_dropout_prob=0.1)
    with spatten_attention(model):
        run(model)
        model.train()
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            run(model)
        model.eval()
        model.base_model.encoder.layer[2].attention.self.train()
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            run(model)


def test_arithmetic_that_does_not_fit():
    model = small_model("gpt2")
    with pytest.raises(ValueError, match="leave it None"):
        attach(model, arithmetic=FloatArithmetic(softmax_scale=0.5))
    with pytest.raises(ValueError, match="give both the same"):
        attach(model, arithmetic=FloatArithmetic(dtype=torch.float64))


@pytest.mark.parametrize(
    ("pruning", "arithmetic"),
    [(HALF, None), (PruningConfig(), IntegerArithmetic(QuantizationConfig()))],
    ids=["pruned", "integers"],
)
def test_output_attentions(pruning, arithmetic):
    model = small_model("bert")
    batch = padded_batch((9, 12), "right")
    with spatten_attention(model, pruning, arithmetic), pytest.raises(ValueError, match=r"controller\.passes"):
        model(**batch, output_attentions=True)


def test_output_hidden_states():
    model = small_model("bert")
    batch = padded_batch((9, 12), "right")
    with spatten_attention(model, HALF), pytest.raises(ValueError, match="let layer 0 keep all tokens"):
        model(**batch, output_hidden_states=True)
    whole_first = PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.5, 0.5, 0.5)))
    with torch.no_grad(), spatten_attention(model, whole_first) as controller:
        states = model(**batch, output_hidden_states=True).hidden_states
    assert [tuple(x.shape) for x in states] == [(2, 12, 48)] * (LAYERS + 1)
    for sequence, length in enumerate((9, 12)):
        alive = set(controller.passes[0].sequences[sequence][1].tokens.tolist())
        for token in range(length):
            assert torch.equal(states[1][sequence, token], states[2][sequence, token]) == (token not in alive)


def test_masks_that_are_more_than_padding():
    model = small_model("gpt2")
    ids = padded_batch((6,), "left")["input_ids"]
    with spatten_attention(model):
        with pytest.raises(ValueError, match="custom masks are not supported"):
            model(ids, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2]]), use_cache=False)
        with pytest.raises(ValueError, match=r"\(batch, columns\)"):
            model(ids, attention_mask=torch.zeros(1, 6, 6, 6))


def test_caches():
    model = small_model("llama")
    ids = padded_batch((8,), "left")["input_ids"]
    filled, static = DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=20)
    ours = DynamicCache(config=model.config)
    with torch.no_grad():
        model(ids, past_key_values=filled)
        with spatten_attention(model):
            with pytest.raises(ValueError, match="without SpAtten; start from an empty cache"):
                model(ids[:, :1], past_key_values=filled)
            with pytest.raises(ValueError, match="StaticCache cannot prune"):
                model(ids, past_key_values=static)
            model(ids, past_key_values=ours)
            with pytest.raises(ValueError, match="cannot take tokens back"):
                ours.crop(-1)
            ours.crop(0)
            duplicate = copy.deepcopy(ours.layers[0].keys)
            ours.batch_repeat_interleave(2)
            assert torch.equal(ours.layers[0].keys, duplicate.repeat_interleave(2, dim=0))
            ours.batch_select_indices(torch.tensor([1]))
            assert torch.equal(ours.layers[0].keys, duplicate)
        with pytest.raises(RuntimeError, match="attach it again, or start from an empty cache"):
            model(ids[:, :1], past_key_values=ours)
        with spatten_attention(model):
            with pytest.raises(ValueError, match="earlier SpAtten attachment"):
                model(ids[:, :1], past_key_values=ours)
            ours.reset()


def test_a_reset_cache_starts_again():
    model = small_model("gpt2")
    ids = padded_batch((8,), "left")["input_ids"]
    cache = DynamicCache(config=model.config)
    with torch.no_grad(), spatten_attention(model, HALF) as controller:
        first = model(ids, past_key_values=cache).logits
        model(ids[:, :1], past_key_values=cache)
        cache.reset()
        assert cache.get_seq_length() == 0
        assert torch.equal(model(ids, past_key_values=cache).logits, first)
    assert [record.kind for record in controller.passes] == ["prompt", "step", "prompt"]


def test_a_mask_that_changes_its_mind():
    model = small_model("gpt2")
    batch = padded_batch((8, 5), "left")
    cache = DynamicCache(config=model.config)
    with torch.no_grad(), spatten_attention(model):
        model(**batch, past_key_values=cache)
        with pytest.raises(ValueError, match="differs from earlier calls"):
            model(batch["input_ids"][:, :1], past_key_values=cache)
        with pytest.raises(ValueError, match="no token in this call"):
            model(
                batch["input_ids"][:, :1],
                attention_mask=torch.cat([batch["attention_mask"], torch.zeros(2, 1).long()], dim=1),
                past_key_values=cache,
            )


def test_generation_without_a_cache_is_a_prompt_every_time():
    model = small_model("gpt2")
    with spatten_attention(model, HALF) as controller:
        model.generate(
            **padded_batch((5,), "left"), **{**GENERATE, "max_new_tokens": 3, "min_new_tokens": 3}, use_cache=False
        )
    assert {record.kind for record in controller.passes} == {"prompt"}


def test_a_model_without_a_head():
    model = small_model("bert")
    bare = BertModel(model.config, add_pooling_layer=False).eval()
    with torch.no_grad(), spatten_attention(bare, HALF) as controller:
        out = bare(**padded_batch((9, 12), "right"))
    assert out.last_hidden_state.shape == (2, 12, 48)
    assert [len(result.tokens) for result in controller.results(1)] == [10, 6, 6, 6]
