"""Pruning inside running models: integers against the open-loop reference, what is really saved, batches, rules."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface, DynamicCache

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.huggingface import attach, spatten_attention
from models.reference.huggingface.cache import PrunedLayer
from models.reference.huggingface.slots import gather_rows, lay_out, scatter_rows
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from verification.tests.huggingface_models import (
    GENERATE,
    HEADS,
    LAYERS,
    minilm,
    padded_batch,
    small_gpt2_checkpoint,
    small_model,
)

KEEP = (1.0, 0.7, 0.5, 0.3)
PRUNING = PruningConfig(
    tokens=KeepSchedule(ratios=KEEP), heads=KeepSchedule(ratios=(1.0, 1.0, 0.67, 0.5)), value_ratio=0.7
)
INTEGERS = IntegerArithmetic(QuantizationConfig(6, 4, 0.3))


@pytest.fixture
def captured(monkeypatch):
    """Q that reaches the attention of the attached model, and K and V that it adds to the cache, by layer."""

    class Captured:
        def __init__(self):
            self.q: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]
            self.k: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]
            self.v: list[list[torch.Tensor]] = [[] for _ in range(LAYERS)]

        def listen(self, model):
            name = model.config._attn_implementation
            original = AttentionInterface._global_mapping[name]

            def wrapped(module, query, key, value, *args, **kwargs):
                self.q[module.layer_idx].append(query)
                if model.config.model_type == "bert":
                    self.k[module.layer_idx].append(key)
                    self.v[module.layer_idx].append(value)
                return original(module, query, key, value, *args, **kwargs)

            monkeypatch.setitem(AttentionInterface._global_mapping, name, wrapped)

        def sequence(self, index, real, prompt):
            """One sequence of the batch, without its padding."""
            q, k, v = (
                tuple(torch.cat(layer, dim=2)[index][:, real] for layer in tensors)
                for tensors in (self.q, self.k, self.v)
            )
            return Sequence(q, k, v, prompt)

    captured = Captured()
    original_update = PrunedLayer.update

    def update(self, key_states, value_states, *args, **kwargs):
        captured.k[self.index].append(key_states)
        captured.v[self.index].append(value_states)
        return original_update(self, key_states, value_states, *args, **kwargs)

    monkeypatch.setattr(PrunedLayer, "update", update)
    return captured


def same_integers(ours, run):
    """Every layer of every pass, to the bit; returns how many rows were flat."""
    flat = 0
    expected = list(run.passes())
    assert len(ours) == len(expected) > 0
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine.step, mine.layer) == (theirs.step, theirs.layer)
        for name in ("tokens", "rows", "heads"):
            assert torch.equal(getattr(mine, name), getattr(theirs, name))
        for name in ("score", "prob", "flat", "kept", "out"):
            left, right = getattr(mine.attention, name), getattr(theirs.attention, name)
            assert left.dtype == right.dtype
            assert torch.equal(left, right)
        for name in ("tokens", "heads", "rows_seen"):
            assert torch.equal(getattr(mine.importance, name), getattr(theirs.importance, name))
        assert mine.payload == theirs.payload
        flat += int(mine.attention.flat.sum())
    return flat


@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_integers_of_generation_are_those_of_the_open_loop(family, scope, captured):
    model = small_model(family)
    lengths, new = (13, 8), 9
    batch = padded_batch(lengths, "left")
    pruning = replace(PRUNING, scope=scope)
    controller = attach(model, pruning, INTEGERS)
    captured.listen(model)
    model.generate(**batch, **{**GENERATE, "max_new_tokens": new, "min_new_tokens": new})
    head_dim = captured.q[0][0].shape[-1]
    arithmetic = replace(INTEGERS, softmax_scale=head_dim**-0.5)
    for index, length in enumerate(lengths):
        real = torch.arange(max(lengths) - length, max(lengths) + new - 1)
        sequence = captured.sequence(index, real, length)
        run = prepare(sequence, arithmetic, pruning, INTEGERS.quantization)
        assert same_integers(list(controller.results(index)), run) > 0


def test_integers_of_an_encoder_are_those_of_the_open_loop(captured):
    model = small_model("bert")
    lengths = (17, 10)
    pruning = replace(PRUNING, tokens=KeepSchedule())
    controller = attach(model, pruning, INTEGERS)
    captured.listen(model)
    with torch.no_grad():
        model(**padded_batch(lengths, "right"))
    arithmetic = replace(INTEGERS, softmax_scale=model.base_model.encoder.layer[0].attention.self.scaling)
    for index, length in enumerate(lengths):
        run = prepare(captured.sequence(index, torch.arange(length), None), arithmetic, pruning, INTEGERS.quantization)
        assert same_integers(list(controller.results(index)), run) > 0


def test_a_wrong_scale_shows_in_the_integers(captured):
    model = small_model("gpt2")
    controller = attach(model, PRUNING, INTEGERS)
    captured.listen(model)
    model.generate(**padded_batch((9,), "left"), **{**GENERATE, "max_new_tokens": 4, "min_new_tokens": 4})
    run = prepare(captured.sequence(0, torch.arange(12), 8), INTEGERS, PRUNING, INTEGERS.quantization)
    with pytest.raises(AssertionError):
        same_integers(list(controller.results()), run)


def test_later_layers_compute_fewer_rows():
    model = small_model("bert")
    rows = []
    for layer in model.base_model.encoder.layer:
        layer.intermediate.dense.register_forward_hook(lambda m, args, out: rows.append(out.shape[1]))
    with torch.no_grad(), spatten_attention(model, PRUNING) as controller:
        model(**padded_batch((20, 30), "right"))
    assert rows == [30, 21, 15, 9]
    kept = [[len(result.tokens) for result in sequence] for sequence in controller.passes[0].sequences]
    assert kept == [[20, 14, 10, 6], [30, 21, 15, 9]]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("scope", ["step", "sequence"])
def test_memory_of_the_cache(family, scope):
    model = small_model(family)
    with spatten_attention(model, replace(PRUNING, scope=scope)):
        out = model.generate(**padded_batch((40,), "left"), **GENERATE, return_dict_in_generate=True)
    cache = out.past_key_values
    assert type(cache) is DynamicCache
    assert [cache.get_seq_length(layer) for layer in range(LAYERS)] == [59] * LAYERS
    stored = [layer.keys.shape[2] for layer in cache.layers]
    assert stored == ([59, 59, 59, 59] if scope == "step" else [59, 41, 29, 17])
    assert stored == [layer.values.shape[2] for layer in cache.layers]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_padding_changes_nothing(family):
    model = small_model(family, torch.float64)
    lengths = (21, 6, 12)
    batch = padded_batch(lengths, "right" if family == "bert" else "left")
    batch["position_ids"] = (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    pruning = replace(PRUNING, prune_prompt=True)
    with torch.no_grad(), spatten_attention(model, pruning) as together:
        logits = model(**batch).logits
    for index, length in enumerate(lengths):
        mine = slice(0, length) if family == "bert" else slice(21 - length, 21)
        with torch.no_grad(), spatten_attention(model, pruning) as alone:
            alone_logits = model(**{name: x[index : index + 1, mine] for name, x in batch.items()}).logits
        expected = logits[index : index + 1] if family == "bert" else logits[index : index + 1, mine]
        torch.testing.assert_close(alone_logits, expected)
        for a, b in zip(alone.results(), together.results(index), strict=True):
            assert torch.equal(a.tokens, b.tokens)
            assert torch.equal(a.heads, b.heads)
            torch.testing.assert_close(a.importance.tokens, b.importance.tokens)
        assert [len(r.tokens) for r in alone.results()] == [max(1, int(k * length)) for k in KEEP]


def test_random_selection_is_seeded():
    model = small_model("gpt2")
    batch = padded_batch((25,), "left")

    def survivors(seed):
        pruning = replace(PRUNING, selection="random", selection_seed=seed)
        with spatten_attention(model, pruning) as controller:
            model.generate(**batch, **{**GENERATE, "max_new_tokens": 4, "min_new_tokens": 4})
        return [result.tokens.tolist() for result in controller.results()]

    first = survivors(1)
    assert first == survivors(1)
    assert first != survivors(2)
    assert [len(tokens) for tokens in first[LAYERS : 2 * LAYERS]] == [int(k * 26) for k in KEEP]
    assert all(tokens[-1] == 25 for tokens in first[LAYERS : 2 * LAYERS])


def test_protected_ids_stay():
    model = small_model("bert")
    pruning = replace(PRUNING, protected_ids=(5, 9))
    with torch.no_grad(), spatten_attention(model, pruning) as controller:
        model(**padded_batch((20,), "right"))
    assert all({0, 5, 9} <= set(result.tokens.tolist()) for result in controller.results())


def test_heads_start_from_all_in_every_pass():
    model = small_model("gpt2")
    with spatten_attention(model, replace(PRUNING, scope="sequence")) as controller:
        model.generate(**padded_batch((10,), "left"), **GENERATE)
    heads = [len(result.heads) for result in controller.results()]
    assert heads == [HEADS] * LAYERS + [6, 6, 4, 3] * 19


def test_a_prompt_in_two_calls_is_the_prompt_in_one():
    model = small_model("llama", torch.float64)
    ids = padded_batch((24,), "left")["input_ids"]

    def last(*parts):
        cache = DynamicCache(config=model.config)
        with torch.no_grad(), spatten_attention(model, replace(PRUNING, scope="sequence")) as controller:
            logits = [model(part, past_key_values=cache).logits[:, -1] for part in parts]
        return logits[-1], [record.kind for record in controller.passes], list(controller.results())[-1]

    once, kinds, one = last(ids[:, :23], ids[:, 23:])
    twice, kinds_twice, two = last(ids[:, :15], ids[:, 15:23], ids[:, 23:])
    assert (kinds, kinds_twice) == (["prompt", "step"], ["prompt", "prompt", "step"])
    torch.testing.assert_close(once, twice)
    assert torch.equal(one.tokens, two.tokens)


def test_a_sequence_taken_out_of_a_batch_goes_on_as_if_alone():
    model = small_model("gpt2", torch.float64)
    ids = padded_batch((14, 14), "left")["input_ids"]
    pruning = replace(PRUNING, scope="sequence", prune_prompt=True)

    def last(prompt, taken):
        cache = DynamicCache(config=model.config)
        with torch.no_grad(), spatten_attention(model, pruning, INTEGERS) as controller:
            model(prompt, past_key_values=cache)
            cache.batch_select_indices(torch.tensor([taken]))
            for token in (5, 8):
                logits = model(torch.tensor([[token]]), past_key_values=cache).logits
        return logits, controller.passes[-1].sequences[0]

    from_batch, layers = last(ids, 1)
    alone, layers_alone = last(ids[1:], 0)
    torch.testing.assert_close(from_batch, alone)
    for a, b in zip(layers, layers_alone, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.importance.tokens, b.importance.tokens)
        assert torch.equal(a.attention.out, b.attention.out)


def test_minilm_and_checkpoint_prune():
    model, tokenizer = minilm()
    batch = tokenizer("Attention to every word costs time that most words do not repay.", return_tensors="pt")
    with torch.no_grad():
        dense = model(**batch).last_hidden_state[:, 0]
        with spatten_attention(model, PruningConfig(tokens=KeepSchedule(average=0.8, start=0.9))) as controller:
            pruned = model(**batch).last_hidden_state[:, 0]
    assert 0.8 < float(torch.cosine_similarity(dense, pruned)) < 0.9999
    tokens = [len(result.tokens) for result in controller.results()]
    assert tokens == sorted(tokens, reverse=True)
    model, tokenizer = small_gpt2_checkpoint()
    batch = tokenizer("The river rises in the mountains .", return_tensors="pt")
    with spatten_attention(model, replace(PRUNING, scope="sequence"), INTEGERS) as controller:
        model.generate(**batch, **GENERATE)
    assert sum(result.payload.total_bits for result in controller.results()) > 0


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_slots(data):
    batch, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    kinds = data.draw(
        st.lists(
            st.lists(st.sampled_from("apd"), min_size=columns, max_size=columns), min_size=batch, max_size=batch
        ).filter(lambda rows: any("a" in row for row in rows))
    )
    alive, padding = (torch.tensor([[kind == name for kind in row] for row in kinds]) for name in "ap")
    slots = lay_out(alive, padding)
    dead = bool((~alive & ~padding).any())
    assert slots.columns.shape[1] == (int(alive.sum(dim=1).max()) if dead else columns)
    for row, (taken, real, live) in enumerate(zip(slots.columns, slots.real, slots.live, strict=True)):
        assert taken.tolist() == sorted(set(taken.tolist()))
        assert taken[real].tolist() == alive[row].nonzero().flatten().tolist()
        assert taken[~real & live].tolist() == [c for c in taken.tolist() if bool(padding[row, c])]
    x = torch.arange(batch * columns * 2.0).view(batch, columns, 2)
    back = scatter_rows(x, slots, gather_rows(x, slots.columns) + 100)
    touched = torch.zeros_like(alive).scatter(1, slots.columns, slots.live)
    assert torch.equal(back, x + 100 * touched[..., None])
