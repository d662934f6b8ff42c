"""Trace objects and the synthetic traces: what fits together is accepted, everything else is refused by name."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from traces.synthetic import important_tokens, synthetic_trace
from traces.trace import ModelFacts, Trace, TraceError, TraceFile

FACTS = {
    "name": "m",
    "source": "here",
    "licence": "MIT",
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "softmax_scale": 8**-0.5,
}


def small(**changes: Any) -> Trace:
    return synthetic_trace(3, tokens=6, heads=4, kv_heads=2, head_dim=8, **changes)


def changed(trace: Trace, **fields: Any) -> Trace:
    return dataclasses.replace(trace, **fields)


def accumulated_importance(trace: Trace) -> NDArray[np.float64]:
    """Softmax attention in float64, summed over layers, heads and rows (section 2 of the algorithm page)."""
    total = np.zeros(trace.tokens)
    for index in range(trace.layers):
        q, k, _ = trace.layer(index)
        score = q @ np.repeat(k, trace.group_size, axis=0).transpose(0, 2, 1) * trace.softmax_scale
        if trace.causal:
            score[:, np.triu_indices(trace.tokens, 1)[0], np.triu_indices(trace.tokens, 1)[1]] = -np.inf
        prob = np.exp(score - score.max(axis=-1, keepdims=True))
        total += (prob / prob.sum(axis=-1, keepdims=True)).sum(axis=(0, 1))
    return total


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["encoder", "decoder"]),
    tokens=st.integers(1, 20),
    layers=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=st.integers(1, 70),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_synthetic_traces_have_the_asked_shape_and_repeat(seed, kind, tokens, layers, kv_heads, group, head_dim, data):
    arguments = {
        "kind": kind,
        "tokens": tokens,
        "generated": data.draw(st.integers(0, tokens - 1)) if kind == "decoder" else 0,
        "layers": layers,
        "heads": kv_heads * group,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "dtype": data.draw(st.sampled_from([np.float16, np.float32])),
    }
    trace = synthetic_trace(seed, **arguments)
    assert trace.q.shape == (layers, kv_heads * group, tokens, head_dim)
    assert trace.k.shape == trace.v.shape == (layers, kv_heads, tokens, head_dim)
    assert trace.q.dtype == trace.k.dtype == trace.v.dtype == arguments["dtype"]
    assert (trace.tokens, trace.group_size) == (tokens, group)
    assert trace.prompt_length + trace.generated == tokens
    again = synthetic_trace(seed, **arguments)
    assert all(np.array_equal(getattr(trace, x), getattr(again, x)) for x in ("q", "k", "v", "token_ids"))
    other = synthetic_trace(seed + 1, **arguments)
    assert not np.array_equal(trace.q, other.q)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_accumulated_importance_finds_the_planted_tokens(seed, kv_heads):
    trace = synthetic_trace(seed, tokens=64, kv_heads=kv_heads)
    planted = important_tokens(seed, 64)
    best = np.argsort(-accumulated_importance(trace))[: len(planted)]
    assert sorted(best.tolist()) == list(planted)
    assert [i for i, text in enumerate(trace.token_texts) if text == f"KEY{i}"] == list(planted)


def test_nothing_stands_out_without_strength():
    trace = synthetic_trace(0, tokens=64, strength=0.0)
    planted = important_tokens(0, 64)
    assert sorted(np.argsort(-accumulated_importance(trace))[: len(planted)].tolist()) != list(planted)


def test_a_decoder_sees_up_to_itself_and_an_encoder_everything():
    decoder = small(kind="decoder", generated=2)
    assert [len(decoder.visible(row)) for row in range(6)] == [1, 2, 3, 4, 5, 6]
    encoder = small()
    assert [len(encoder.visible(row)) for row in range(6)] == [6] * 6
    assert len(small(causal=True).visible(2)) == 3
    with pytest.raises(IndexError, match="row 6 of 6 tokens"):
        decoder.visible(6)
    with pytest.raises(IndexError, match="layer 2 of 2"):
        decoder.layer(2)


def test_arrays_are_read_only_and_layers_are_copies():
    trace = small()
    with pytest.raises(ValueError, match="read-only"):
        trace.q[0, 0, 0, 0] = 1
    q, _, _ = trace.layer(0)
    q[:] = 0
    assert trace.q[0].any()
    assert q.dtype == np.float64


def test_the_callers_array_stays_writable():
    q = np.array(small().q)
    changed(small(), q=q)
    q[0, 0, 0, 0] = 1


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"layers": 0}, "model.layers", "nearest: 1"),
        ({"heads": -4}, "model.heads", "nearest: 1"),
        ({"kv_heads": 3}, "model.kv_heads", "3 K/V heads do not divide 4 query heads; nearest that does: 2"),
        ({"head_dim": 8.0}, "model.head_dim", "an integer from 1"),
        ({"head_dim": True}, "model.head_dim", "an integer from 1"),
        ({"softmax_scale": math.nan}, "model.softmax_scale", "0.353553"),
        ({"softmax_scale": -1.0}, "model.softmax_scale", "positive"),
        ({"name": 4}, "model.name", "should be text"),
        ({"licence": "\ud800"}, "model.licence", "surrogate"),
    ],
)
def test_model_facts_that_make_no_sense(change, where, message):
    with pytest.raises(TraceError, match=message) as caught:
        ModelFacts(**{**FACTS, **change})
    assert caught.value.where == where


def with_value(array: NDArray[Any], value: float) -> NDArray[Any]:
    result = np.array(array)
    result[1, 1, 2, 3] = value
    return result


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (lambda t: {"q": t.q[:, :, :5]}, "q", r"has shape \(2, 4, 5, 8\); should be \(2, 4, 6, 8\)"),
        (lambda t: {"k": t.q}, "k", r"should be \(2, 2, 6, 8\)"),
        (lambda t: {"v": t.v[0]}, "v", "has shape"),
        (lambda t: {"q": t.q.astype(np.float64)}, "q", "float16 or float32"),
        (lambda t: {"q": t.q.astype(object)}, "q", "float16 or float32"),
        (lambda t: {"q": t.q.tolist()}, "q", "NumPy array"),
        (lambda t: {"k": t.k.astype(np.float32)}, "k", "should be float16, like q"),
        (lambda t: {"v": with_value(t.v, np.nan)}, "v", "nan at layer 1, head 1, token 2, element 3"),
        (lambda t: {"k": with_value(t.k, -np.inf)}, "k", "-inf at layer 1.*float32 holds larger"),
        (lambda t: {"token_ids": t.token_ids - 1}, "token_ids", "-1 at token 0"),
        (lambda t: {"token_ids": t.token_ids + 0.5}, "token_ids", "int32"),
        (lambda t: {"token_ids": t.token_ids.astype(np.int64) + 2**31}, "token_ids", "int32"),
        (lambda t: {"token_ids": t.token_ids.astype(np.int64) - 2**40}, "token_ids", "int32"),
        (lambda t: {"token_ids": t.token_ids.reshape(2, 3)}, "tokens", "is 0"),
        (lambda t: {"token_texts": t.token_texts[1:]}, "token_texts", "5 texts for 6 tokens"),
        (lambda t: {"token_texts": (*t.token_texts[1:], "\udfff")}, "token_texts[5]", "surrogate"),
        (lambda t: {"prompt_length": 5}, "prompt_length", "should be 6"),
        (lambda t: {"prompt_length": -1}, "prompt_length", "nearest: 1"),
        (lambda t: {"prompt_length": 7}, "prompt_length", "nearest: 6"),
        (lambda t: {"prompt_length": 4, "generated": 2}, "generated", "should be 0"),
        (lambda t: {"generated": -1}, "generated", "nearest: 0"),
        (lambda t: {"kind": "seq2seq"}, "kind", "encoder, decoder"),
        (lambda t: {"kind": "decoder"}, "causal", "should be true"),
        (lambda t: {"causal": 1}, "causal", "true or false"),
        (lambda t: {"protected": (6,)}, "protected[0]", "nearest: 5"),
        (lambda t: {"protected": (-1,)}, "protected[0]", "nearest: 0"),
        (lambda t: {"protected": (3, 3)}, "protected", "without repetition"),
        (lambda t: {"name": ""}, "name", "empty"),
        (lambda t: {"name": 4}, "name", "should be text"),
        (lambda t: {"model": "m"}, "model", "should be ModelFacts"),
    ],
)
def test_a_trace_that_does_not_fit_together(change, where, message):
    trace = small()
    with pytest.raises(TraceError, match=message) as caught:
        changed(trace, **change(trace))
    assert caught.value.where == where


def test_a_file_holds_sequences_of_one_model_by_name():
    first, second = small(name="short"), synthetic_trace(3, tokens=9, heads=4, kv_heads=2, head_dim=8, name="long")
    both = TraceFile(sequences=(first, second))
    assert both.model is first.model
    assert both.sequence("long") is second
    with pytest.raises(KeyError, match="there are short, long"):
        both.sequence("middle")
    for sequences, message in [
        ((), "holds no sequence"),
        ((first, first), "names differ"),
        ((first, synthetic_trace(4)), "other model facts"),
    ]:
        with pytest.raises(TraceError, match=message):
            TraceFile(sequences=sequences)
    with pytest.raises(TraceError, match=r"made_by: .*surrogate"):
        TraceFile(sequences=(first,), made_by="\ud800")


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"tokens": 0}, "tokens"),
        ({"head_dim": 0}, "model.head_dim"),
        ({"tokens": 4, "important": (4,)}, "important"),
        ({"kind": "decoder", "tokens": 4, "generated": 4}, "prompt_length"),
    ],
)
def test_synthetic_arguments_that_make_no_trace(arguments, where):
    with pytest.raises(TraceError) as caught:
        synthetic_trace(**arguments)
    assert caught.value.where == where


def test_a_fraction_of_important_tokens():
    assert important_tokens(0, 40, 1.0) == tuple(range(40))
    assert len(important_tokens(0, 3, 0.01)) == 1
    with pytest.raises(TraceError, match="above 0"):
        important_tokens(0, 40, 0)


def test_an_error_names_file_place_and_problem():
    error = TraceError("is wrong", where="s0.q.npy").inside("t.npz")
    assert str(error) == "t.npz: s0.q.npy: is wrong"
