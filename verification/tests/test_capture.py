"""Capture from models: the operands recorded are those that the model computed its attention from."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import logging as transformers_logging

from traces.capture import capture, run_dense
from traces.npz import content_sha256, read_trace, write_trace
from traces.record import NAME, recorded_attention
from traces.tokens import generated_text
from traces.trace import TraceError
from verification.tests.tiny_models import TEXT, build_model, build_tokenizer, save_model

KINDS = ("bert", "gpt2", "llama")
IDS = (5, 9, 12, 3, 17, 8, 30, 11, 6, 40)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """A directory and its model for each kind."""
    made = {}
    for kind in KINDS:
        directory = tmp_path_factory.mktemp("models") / f"tiny-{kind}"
        made[kind] = (directory, save_model(directory, kind))
    return made


def model_attention(model, ids):
    """Inputs of each layer's output projection: attention outputs by the model's own stock eager path."""
    model.set_attn_implementation("eager")
    suffix = {"bert": "attention.output.dense", "gpt2": "attn.c_proj", "llama": "self_attn.o_proj"}
    outputs, handles = [], []
    for name, module in model.named_modules():
        if name.endswith(suffix[model.config.model_type]):
            handles.append(module.register_forward_pre_hook(lambda _, args: outputs.append(args[0][0].clone())))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return outputs


def attention_of_trace(q, k, v, scale, causal):
    """Attention written out in NumPy: heads x tokens x D, float64."""
    k, v = (np.repeat(x, len(q) // len(x), axis=0).astype(np.float64) for x in (k, v))
    score = scale * q.astype(np.float64) @ k.transpose(0, 2, 1)
    if causal:
        score = np.where(np.tri(score.shape[-1], dtype=bool), score, -np.inf)
    weight = np.exp(score - score.max(axis=-1, keepdims=True))
    return (weight / weight.sum(axis=-1, keepdims=True)) @ v


def worst_error(trace_layers, outputs, scale, causal):
    """Largest difference between recomputed and actual attention outputs, relative to the largest output."""
    worst = 0.0
    for (q, k, v), expected in zip(trace_layers, outputs, strict=True):
        heads = attention_of_trace(q, k, v, scale, causal)
        merged = heads.transpose(1, 0, 2).reshape(heads.shape[1], -1)
        worst = max(worst, float(np.abs(merged - expected.numpy()).max() / np.abs(expected.numpy()).max()))
    return worst


@pytest.mark.parametrize(("kind", "generate"), [("bert", 0), ("gpt2", 0), ("gpt2", 6), ("llama", 0), ("llama", 6)])
def test_operands_recompute_the_attention_of_the_stock_model(directories, kind, generate):
    directory, model = directories[kind]
    trace = capture(directory, TEXT, generate, dtype=np.float32).sequences[0]
    assert (trace.layers, trace.heads, trace.kv_heads, trace.head_dim) == (3, 4, 2 if kind == "llama" else 4, 8)
    outputs = model_attention(model, tuple(trace.token_ids.tolist()))
    layers = [(trace.q[i], trace.k[i], trace.v[i]) for i in range(3)]
    assert worst_error(layers, outputs, trace.softmax_scale, trace.causal) < 1e-5
    # Any of the three taken from a wrong place would be seen.
    assert worst_error(layers, outputs, trace.softmax_scale, not trace.causal) > 1e-2
    assert worst_error(layers, outputs, 1.0, trace.causal) > 1e-2
    shifted = [(np.roll(q, 1, axis=0), k, v) for q, k, v in layers]
    assert worst_error(shifted, outputs, trace.softmax_scale, trace.causal) > 1e-2


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rows_of_generated_tokens_equal_a_pass_over_the_whole_text(directories, kind):
    _, model = directories[kind]
    stepped = run_dense(model, IDS, generate=8)
    whole = run_dense(model, stepped.ids)
    for field in ("q", "k", "v"):
        for one, other in zip(getattr(stepped, field), getattr(whole, field), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
            assert one.shape[1] == len(IDS) + 8


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_generated_tokens_are_those_of_generate(directories, kind):
    _, model = directories[kind]
    chosen = run_dense(model, IDS, generate=8).ids
    with torch.no_grad():
        expected = model.generate(
            torch.tensor([IDS]),
            attention_mask=torch.ones(1, len(IDS), dtype=torch.int64),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    assert chosen == tuple(expected[0].tolist())


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_left_as_it_was(kind, implementation):
    model = build_model(kind)
    model.set_attn_implementation(implementation)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    config = model.config.to_dict()
    known = set(ALL_ATTENTION_FUNCTIONS)
    with torch.no_grad():
        before = model(input_ids=torch.tensor([IDS]))[0]
    run_dense(model, IDS, generate=0 if kind == "bert" else 2)
    with torch.no_grad():
        after = model(input_ids=torch.tensor([IDS]))[0]
    assert torch.equal(before, after)
    assert model.config._attn_implementation == implementation
    assert model.config.to_dict() == config
    assert set(ALL_ATTENTION_FUNCTIONS) == known
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_error_on_the_way_also_leaves_the_model_as_it_was():
    model = build_model("gpt2")
    model.set_attn_implementation("sdpa")
    known = set(ALL_ATTENTION_FUNCTIONS)

    def fail(call):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), recorded_attention(model, fail):
        model(input_ids=torch.tensor([IDS]))
    assert model.config._attn_implementation == "sdpa"
    assert set(ALL_ATTENTION_FUNCTIONS) == known


@pytest.mark.parametrize("kind", KINDS)
def test_recording_computes_what_stock_eager_attention_computes(kind):
    model = build_model(kind)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([IDS]))[0]
        with recorded_attention(model, lambda call: None):
            recorded = model(input_ids=torch.tensor([IDS]))[0]
    assert torch.equal(expected, recorded)


def test_layers_of_different_scale_share_one():
    model = build_model("gpt2", scale_attn_by_inverse_layer_idx=True)
    run = run_dense(model, IDS)
    outputs = model_attention(model, IDS)
    layers = [(q.numpy(), k.numpy(), v.numpy()) for q, k, v in zip(run.q, run.k, run.v, strict=True)]
    assert worst_error(layers, outputs, run.softmax_scale, causal=True) < 1e-5


def test_attention_that_a_trace_cannot_stand_for_is_refused(monkeypatch):
    model = build_model("gpt2")
    from transformers.models.gpt2 import modeling_gpt2

    stock = modeling_gpt2.eager_attention_forward

    def with_position_bias(module, query, key, value, mask, **kwargs):
        bias = torch.linspace(0, 4, key.shape[-2])
        return stock(module, query, key, value, bias if mask is None else mask + bias, **kwargs)

    monkeypatch.setattr(modeling_gpt2, "eager_attention_forward", with_position_bias)
    with pytest.raises(TraceError, match=r"attention of layer 0: computes something other than softmax"):
        run_dense(model, IDS)


def test_a_lost_causal_mask_is_seen(monkeypatch):
    """What happens to an attention function whose name has no mask function beside it."""
    monkeypatch.setattr("traces.record.eager_mask", lambda **kwargs: None)
    try:
        with pytest.raises(TraceError, match="attention of layer 0: computes something other than softmax"):
            run_dense(build_model("gpt2"), IDS)
    finally:
        AttentionMaskInterface.register(NAME, eager_mask)


def test_undefined_numbers_are_refused():
    model = build_model("gpt2")
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.bias[-1] = torch.nan
    with pytest.raises(TraceError, match="attention of layer 1: gives infinite or undefined numbers"):
        run_dense(model, IDS)


def test_a_model_in_training_is_refused():
    with pytest.raises(TraceError, match=r"call model\.eval\(\) first"):
        run_dense(build_model("gpt2").train(), IDS)


def test_several_texts_become_sequences(directories):
    steps = []
    texts = {"first": TEXT, "second": "The films, a storm."}
    trace = capture(directories["bert"][0], texts, progress=lambda *step: steps.append(step), notes="tiny")
    assert [s.name for s in trace.sequences] == ["first", "second"]
    assert [s.kind for s in trace.sequences] == ["encoder"] * 2
    assert [s.protected for s in trace.sequences] == [(0,), (0,)]
    second = trace.sequence("second")
    assert second.token_texts == ("[CLS]", "The", " film", "s", ",", " a", " storm", ".", "[SEP]")
    assert (trace.model.name, trace.model.source) == ("tiny-bert", "local directory tiny-bert")
    assert (trace.model.licence, trace.model.notes, trace.model.architecture) == ("not stated", "tiny", "bert")
    assert [done for done, _, _ in steps] == list(range(1, 8))
    assert {total for _, total, _ in steps} == {7}
    alone = capture(directories["bert"][0], {"second": texts["second"]}).sequences[0]
    assert np.array_equal(alone.k, second.k)


def test_pieces_of_text_join_to_the_text(directories):
    text = "the film was gööd,\n  but \N{FILM FRAMES} the end "
    trace = capture(directories["gpt2"][0], text, 5).sequences[0]
    assert "".join(trace.token_texts[: trace.prompt_length]) == text
    assert (trace.kind, trace.causal, trace.generated, trace.protected) == ("decoder", True, 5, ())


def test_a_character_in_pieces_belongs_to_its_last_token():
    tokenizer = build_tokenizer("gpt2")
    ids = tuple(tokenizer("a \N{FILM FRAMES}!")["input_ids"])
    assert generated_text(tokenizer, ids, 1) == (" ", "", "", "", "\N{FILM FRAMES}", "!")


def test_progress_counts_layers_and_tokens(directories):
    steps = []
    capture(directories["llama"][0], TEXT, 4, progress=lambda *step: steps.append(step))
    assert [(done, total) for done, total, _ in steps] == [(i, 8) for i in range(1, 9)]
    assert steps[0][2] == "loaded the model"
    assert steps[-1][2] == "text: generated token 4 of 4"


def test_capture_is_deterministic_and_survives_the_file(directories, tmp_path):
    first, second = (capture(directories["llama"][0], TEXT, 4) for _ in range(2))
    assert write_trace(tmp_path / "t.npz", first) == content_sha256(second)
    assert content_sha256(read_trace(tmp_path / "t.npz")) == content_sha256(first)


def test_the_library_is_as_talkative_as_before(directories):
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    capture(directories["bert"][0], TEXT)
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == (verbosity, bars)


def test_nothing_is_printed(directories, capfd):
    capture(directories["gpt2"][0], TEXT, 1)
    assert capfd.readouterr() == ("", "")


def test_licence_of_the_model_card(directories, tmp_path):
    shutil.copytree(directories["bert"][0], tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    assert capture(tmp_path / "m", TEXT).model.licence == "apache-2.0"


def refuse(directory, match, text=TEXT, generate=0, **options):
    with pytest.raises(TraceError, match=match):
        capture(directory, text, generate, **options)


def test_bad_arguments_are_refused(directories, tmp_path):
    bert, gpt2 = directories["bert"][0], directories["gpt2"][0]
    refuse(tmp_path / "nowhere", "nowhere: does not exist; give a local directory")
    refuse(bert / "config.json", "is not a directory")
    refuse(bert, r"is an encoder \(bert\) and generates nothing; leave --generate out", generate=3)
    refuse(bert, "text 'text': is empty", text=" \n")
    refuse(bert, "text: there is none", text={})
    refuse(gpt2, "should be an integer of 0 or more", generate=-1)
    refuse(bert, "is int8; should be float16 or float32", dtype=np.int8)
    refuse(bert, r"has 73 tokens, and the model has positions for 64; shorten it to 64", text="film " * 71)
    refuse(gpt2, "and 60 generated ones, and the model has positions for 64; shorten it to 4", generate=60)
    refuse(gpt2, "generate at most", generate=64)


def test_every_position_of_the_model_can_be_used(directories):
    room = 64 - capture(directories["gpt2"][0], TEXT).sequences[0].tokens
    assert capture(directories["gpt2"][0], TEXT, room).sequences[0].tokens == 64
    refuse(directories["gpt2"][0], "shorten it to", generate=room + 1)


def changed_copy(source, target, file, edit):
    shutil.copytree(source, target)
    if edit is None:
        (target / file).unlink()
    else:
        (target / file).write_bytes(edit((target / file).read_bytes()))
    return target


def set_config(**values):
    return lambda content: json.dumps(json.loads(content) | values).encode()


@pytest.mark.parametrize(
    ("kind", "file", "edit", "message"),
    [
        ("bert", "config.json", None, "is no Hugging Face model: there is no config.json"),
        ("bert", "config.json", lambda content: b"{", "config.json cannot be used"),
        ("bert", "config.json", lambda content: b"[]", "config.json cannot be used"),
        ("bert", "config.json", set_config(hidden_size="wide"), "config.json cannot be used"),
        (
            "bert",
            "config.json",
            set_config(model_type="t5"),
            "type 't5'; supported are bert .encoders. and gpt2, llama",
        ),
        ("bert", "config.json", set_config(model_type="nothing"), "type 'nothing'; supported are bert"),
        ("bert", "config.json", set_config(is_decoder=True), "supported are plain encoders"),
        ("bert", "config.json", set_config(num_hidden_layers=5), "weights lack 32 tensors of a BertModel"),
        ("bert", "config.json", set_config(hidden_size=64), "the weights cannot be loaded"),
        ("bert", "tokenizer.json", None, "has no tokenizer: there is no tokenizer.json or"),
        ("bert", "tokenizer.json", lambda content: content[:200], "the tokenizer cannot be loaded"),
        ("bert", "model.safetensors", None, "has no weights: there is no"),
        ("bert", "model.safetensors", lambda content: content[:5000], "the weights cannot be loaded"),
        ("gpt2", "config.json", set_config(vocab_size=8), "the model knows ids below 8; its tokenizer belongs to"),
    ],
)
def test_a_damaged_directory_is_refused(directories, tmp_path, kind, file, edit, message):
    refuse(changed_copy(directories[kind][0], tmp_path / "m", file, edit), message)


def test_values_beyond_float16_ask_for_float32(directories, tmp_path):
    model = build_model("gpt2")
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.bias[-1] = 1e5
    model.save_pretrained(tmp_path)
    build_tokenizer("gpt2").save_pretrained(tmp_path)
    refuse(tmp_path, "v: reaches 100.* in 'text', and float16 ends at 65504; use --dtype float32")
    trace = capture(tmp_path, TEXT, dtype=np.float32).sequences[0]
    assert trace.v.dtype == np.float32
    assert trace.v.max() > 9e4
