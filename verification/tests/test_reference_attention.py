"""The reference as a whole: eager attention, the masking oracle, what pruning must and must not do."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.cascade import plan_pass, select_tokens
from models.reference.floating import FloatArithmetic
from models.reference.importance import Importance
from models.reference.integer import IntegerArithmetic
from models.reference.payload import Payload, dense_payload
from models.reference.stack import Sequence, prepare
from verification.masking import masked_run
from verification.tests.sequences import cases, prunings, quantizations, random_sequence

STATIC12 = QuantizationConfig()
SOME = PruningConfig(
    tokens=KeepSchedule(ratios=(1.0, 0.6, 0.3)), heads=KeepSchedule(ratios=(1.0, 0.75, 0.5)), value_ratio=0.5
)


def run(sequence, pruning=PruningConfig(), quantization=STATIC12, arithmetic=None):  # noqa: B008 (frozen)
    return list(prepare(sequence, arithmetic or IntegerArithmetic(quantization), pruning, quantization).passes())


def eager(q, k, v, causal):
    """The eager attention of `transformers`, written out."""
    groups = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(groups, dim=0), v.repeat_interleave(groups, dim=0)
    weights = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    lowest = torch.finfo(q.dtype).min
    mask = torch.full((q.shape[1], k.shape[1]), lowest, dtype=q.dtype).triu(1 + k.shape[1] - q.shape[1])
    weights = weights + (mask if causal else torch.zeros_like(mask))
    weights = torch.nn.functional.softmax(weights, dim=-1)
    return weights, torch.matmul(weights, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prompt", [None, 9])
@pytest.mark.parametrize("group", [1, 4])
def test_keeping_everything_is_eager_attention_bit_by_bit(dtype, prompt, group):
    s = random_sequence(1, tokens=13, head_dim=64, group=group, prompt=prompt)
    q, k, v = (tuple(x.to(dtype) for x in t) for t in (s.q, s.k, s.v))
    s = Sequence(q, k, v, prompt)
    for result in run(s, arithmetic=FloatArithmetic(dtype)):
        length = s.tokens if prompt is None else prompt + result.step
        rows = slice(length - 1, length) if result.step else slice(0, length)
        k_layer, v_layer = (x[result.layer][:, :length] for x in (s.k, s.v))
        weights, out = eager(s.q[result.layer][:, rows], k_layer, v_layer, prompt is not None)
        assert torch.equal(result.attention.prob, weights)
        assert torch.equal(result.attention.out, out)


@settings(max_examples=60)
@given(cases())
def test_gathering_equals_the_masking_oracle(case):
    sequence, pruning = case
    q, k, v = (torch.stack(x).numpy() for x in (sequence.q, sequence.k, sequence.v))
    shares = list(pruning.tokens.ratios), list(pruning.heads.ratios)
    expected = masked_run(q, k, v, sequence.prompt, pruning, *shares)
    results = run(sequence, pruning, arithmetic=FloatArithmetic(torch.float64))
    for got, want in zip(results, expected, strict=True):
        length = len(got.importance.tokens)
        assert got.tokens.tolist() == np.flatnonzero(want.alive_tokens).tolist()
        assert got.heads.tolist() == np.flatnonzero(want.alive_heads).tolist()
        h, r, t = (x.numpy() for x in (got.heads, got.rows, got.tokens))
        np.testing.assert_allclose(got.attention.prob, want.prob[np.ix_(h, r, t)], atol=1e-12)
        np.testing.assert_allclose(got.attention.out, want.out[np.ix_(h, r)], atol=1e-12)
        np.testing.assert_allclose(got.importance.tokens, want.token_importance[:length], atol=1e-10)
        np.testing.assert_allclose(got.importance.heads, want.head_importance, atol=1e-10)


def test_the_oracle_sees_a_wrong_selection():
    s = random_sequence(3)
    q, k, v = (torch.stack(x).numpy() for x in (s.q, s.k, s.v))
    right = masked_run(q, k, v, None, SOME, [1.0, 0.6, 0.3], [1.0, 0.75, 0.5])
    wrong = run(s, replace(SOME, selection="recent"), arithmetic=FloatArithmetic(torch.float64))
    assert any(g.tokens.tolist() != np.flatnonzero(w.alive_tokens).tolist() for g, w in zip(wrong, right, strict=True))


@settings(max_examples=60)
@given(cases(), quantizations)
def test_alive_sets_shrink_and_counts_hold(case, quantization):
    sequence, pruning = case
    previous = None
    for result in run(sequence, pruning, quantization):
        tokens, heads = set(result.tokens.tolist()), set(result.heads.tolist())
        if previous is not None and previous.step == result.step:
            assert tokens <= set(previous.tokens.tolist())
            assert heads <= set(previous.heads.tolist())
        length = len(result.importance.tokens)
        prunes = sequence.prompt is None or result.step > 0 or pruning.prune_prompt
        if prunes:
            assert len(tokens) <= max(1, int(pruning.tokens.ratios[result.layer] * length))
            if result.layer:
                assert len(heads) <= max(1, int(pruning.heads.ratios[result.layer] * sequence.heads))
        assert (0 if sequence.prompt is None else length - 1) in tokens
        previous = result


@settings(max_examples=40)
@given(cases(), quantizations)
def test_a_dropped_token_of_sequence_scope_never_returns(case, quantization):
    sequence, pruning = case
    gone: list[set[int]] = [set() for _ in range(sequence.layers)]
    for result in run(sequence, replace(pruning, scope="sequence"), quantization):
        tokens = set(result.tokens.tolist())
        assert not gone[result.layer] & tokens
        for layer in range(result.layer, sequence.layers):
            gone[layer] |= set(range(len(result.importance.tokens))) - tokens


def flipped(sequence, layer, token):
    """The sequence with one token's Q, K, V negated from `layer` on: other values, the same scales."""

    def flip(tensors):
        tensors = [x.clone() for x in tensors]
        for x in tensors[layer:]:
            x[:, token] *= -1
        return tuple(tensors)

    return Sequence(flip(sequence.q), flip(sequence.k), flip(sequence.v), sequence.prompt)


@settings(max_examples=40)
@given(cases(), quantizations, st.booleans())
def test_a_pruned_token_has_no_influence_on_anything_later(case, quantization, integer):
    sequence, pruning = case
    arithmetic = IntegerArithmetic(quantization) if integer else FloatArithmetic(torch.float64)
    results = run(sequence, pruning, quantization, arithmetic)
    last = [r for r in results if r.step == results[-1].step]
    pruned = [(r.layer, t) for r in last for t in range(len(r.importance.tokens)) if t not in r.tokens.tolist()]
    if not pruned or (sequence.prompt is not None and len(last) != len(results)):
        return  # with earlier passes, the token was alive in them
    token = pruned[-1][1]
    first = min(lay for lay, t in pruned if t == token)
    for a, b in zip(results, run(flipped(sequence, first, token), pruning, quantization, arithmetic), strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.attention.out, b.attention.out)
        assert torch.equal(a.importance.tokens, b.importance.tokens)
        assert a.payload == b.payload


def test_a_token_that_is_alive_does_have_influence():
    sequence = random_sequence(4)
    changed = run(flipped(sequence, 0, 5), SOME)
    assert any(
        not torch.equal(a.importance.tokens, b.importance.tokens)
        for a, b in zip(run(sequence, SOME), changed, strict=True)
    )


@settings(max_examples=40)
@given(cases(), quantizations)
def test_each_row_adds_one_to_importance_up_to_rounding(case, quantization):
    sequence, pruning = case
    before = 0
    for result in run(sequence, replace(pruning, rescale=False), quantization):
        after = int(result.importance.tokens.sum())
        heads, rows, keys = result.attention.prob.shape
        # Each probability is off by at most 0.55 units, one near 1 by one unit more (it saturates at 4095).
        assert abs(after - before - 4096 * heads * rows) <= heads * rows * (0.55 * keys + 1)
        before = after
    exact = run(sequence, replace(pruning, rescale=False), arithmetic=FloatArithmetic(torch.float64))
    rows = sum(len(result.heads) * len(result.rows) for result in exact)
    assert float(exact[-1].importance.tokens.sum()) == pytest.approx(rows)


@settings(max_examples=40)
@given(cases(), st.sampled_from([(4, 4), (6, 4), (8, 4)]), st.sampled_from([0.05, 0.1, 0.3, 0.6, 1.0]))
def test_flat_rows_are_those_below_the_threshold_and_leave_no_first_pass(case, bits, threshold):
    sequence, _ = case
    keep_all = PruningConfig(value_ratio=0.5)
    m, low_bits = bits
    low, full = QuantizationConfig(m, low_bits, 0.0), QuantizationConfig(m, low_bits, 1.0)
    first = run(sequence, keep_all, low)  # threshold 0: nothing is ever flat
    every = run(sequence, keep_all, full)  # threshold 1: every probability is below 4096
    mixed = run(sequence, keep_all, QuantizationConfig(m, low_bits, threshold))
    for a, b, m in zip(first, every, mixed, strict=True):
        assert not a.attention.flat.any()
        assert bool(b.attention.flat.all())
        flat = a.attention.prob.amax(dim=-1) < round(4096 * threshold)
        assert torch.equal(m.attention.flat, flat)
        for name in ("score", "prob", "kept", "out"):
            x, y, z = (getattr(r.attention, name) for r in (a, b, m))
            assert torch.equal(z, torch.where(flat[..., None], y, x))


@settings(max_examples=60)
@given(cases(), quantizations)
def test_payload_is_conserved(case, quantization):
    sequence, pruning = case
    d = sequence.head_dim
    for result in run(sequence, pruning, quantization):
        a, p = result.attention, result.payload
        kv = {int(h) // (sequence.heads // len(sequence.k[0])) for h in result.heads}
        heads, rows, keys = a.prob.shape
        assert p.q_bits == heads * rows * d * 12
        assert p.out_bits == heads * rows * d * 16
        assert p.k_msb_bits == len(kv) * keys * d * quantization.msb_bits
        assert p.k_lsb_bits * quantization.msb_bits <= p.k_msb_bits * quantization.lsb_bits
        assert p.v_lsb_bits * quantization.msb_bits <= p.v_msb_bits * quantization.lsb_bits
        assert (p.k_lsb_bits > 0) == bool(a.flat.any() and quantization.lsb_bits)
        assert (p.v_lsb_bits > 0) == (p.k_lsb_bits > 0)
        if result.step:
            assert p.v_msb_bits == int(a.kept.sum()) * d * quantization.msb_bits
        else:
            assert p.v_msb_bits == p.k_msb_bits
        length = len(result.importance.tokens)
        dense = dense_payload(
            sequence.heads, len(sequence.k[0]), rows if result.step else length, length, d, 12, result.step > 0
        )
        assert p.read_bits <= dense.read_bits
        assert p.total_bits == p.read_bits + p.out_bits == (p + Payload()).total_bits


def test_keeping_everything_asks_for_the_dense_payload():
    for prompt in (None, 10):
        sequence = random_sequence(5, group=2, prompt=prompt)
        for result in run(sequence):
            length = len(result.importance.tokens)
            dense = dense_payload(4, 2, len(result.rows), length, 8, 12, generation=result.step > 0)
            assert result.payload == dense


@settings(max_examples=30)
@given(prunings(), st.integers(0, 2**32 - 1))
def test_value_pruning_keeps_the_share_asked_for(pruning, seed):
    for result in run(random_sequence(seed, prompt=8), pruning):
        visible = result.attention.visible.expand_as(result.attention.prob)
        assert not (result.attention.kept & ~visible).any()
        seen = visible.sum(dim=-1)
        expected = torch.clamp((seen * pruning.value_ratio16) // 65536, min=1)
        assert torch.equal(result.attention.kept.sum(dim=-1), expected)
        lowest_kept = torch.where(result.attention.kept, result.attention.prob, 5000).amin(dim=-1)
        highest_cut = torch.where(visible & ~result.attention.kept, result.attention.prob, -1).amax(dim=-1)
        assert bool((highest_cut <= lowest_kept).all())


def test_the_published_importance_example():
    """Figure 5: of 14 tokens the five with the smallest importance go."""
    importance = [4, 10, 3, 12, 17, 10, 4, 18, 6, 19, 14, 3, 9, 4]
    pruning = PruningConfig(tokens=KeepSchedule(counts=(9,)), protect_first=False)
    plan = plan_pass(pruning, "encoder", 0, 14, 1, 1)
    state = Importance(torch.tensor(importance), torch.zeros(1, dtype=torch.int64), torch.ones(14, dtype=torch.int64))
    kept = select_tokens(state, torch.arange(14), plan, pruning, 0).tolist()
    assert sorted(set(range(14)) - set(kept)) == [0, 2, 6, 11, 13]


@pytest.mark.parametrize("scope", ["step", "sequence"])
def test_protected_ids_stay_even_if_they_outnumber_the_count(scope):
    pruning = PruningConfig(tokens=KeepSchedule(counts=(2, 2, 2)), protected_ids=(1, 4, 7), scope=scope)
    for result in run(random_sequence(6, prompt=10), pruning):
        if result.step:
            assert result.tokens.tolist() == [1, 4, 7, 9 + result.step]
    for result in run(random_sequence(6), pruning):
        assert result.tokens.tolist() == [0, 1, 4, 7]


def test_rescale_halves_importance_after_each_generation_step():
    sequence = random_sequence(7, layers=1, prompt=8)
    plain, halved = (run(sequence, PruningConfig(rescale=r)) for r in (False, True))
    added = [b.importance.tokens[:8] - a.importance.tokens[:8] for a, b in itertools.pairwise(plain)]
    expected = halved[0].importance.tokens[:8]
    for step, result in enumerate(halved[1:]):
        expected = expected + added[step]
        assert torch.equal(result.importance.tokens[:8], expected)
        expected = expected >> 1


@pytest.mark.parametrize("selection", ["random", "recent", "first_recent"])
def test_comparison_rules_keep_the_same_counts(selection):
    sequence = random_sequence(8, tokens=40, prompt=36)
    pruning = replace(SOME, selection=selection, selection_first=2)
    for result in run(sequence, pruning):
        n = len(result.importance.tokens)
        if result.step and result.layer:
            kept = result.tokens.tolist()
            assert len(kept) == SOME.tokens.layer_counts(3, n, 0.15)[result.layer]
            if selection == "recent":
                assert kept == list(range(n - len(kept), n))
            elif selection == "first_recent":
                assert kept == [0, 1, *range(n - len(kept) + 2, n)]
            else:
                assert kept != list(range(n - len(kept), n))


def test_per_query_importance_undoes_the_advantage_of_age():
    """With uniform attention every visible token is worth the same per row, though the first collects the most."""
    flat = tuple(torch.zeros(1, 8, 4, dtype=torch.float64) for _ in range(1))
    result = run(Sequence(flat, flat, flat, 8), arithmetic=FloatArithmetic(torch.float64))[0]
    assert result.importance.tokens.tolist() == sorted(result.importance.tokens.tolist(), reverse=True)
    expected = [sum(1 / n for n in range(j + 1, 9)) / (8 - j) for j in range(8)]
    assert result.importance.per_query().tolist() == pytest.approx(expected)
    assert result.importance.rows_seen.tolist() == [8 - j for j in range(8)]


@pytest.mark.parametrize(
    ("shapes", "hint"),
    [
        (((2, 4, 8), (2, 4, 8), (2, 5, 8)), "do not go together"),
        (((3, 4, 8), (2, 4, 8), (2, 4, 8)), "do not go together"),
        (((2, 4, 8), (2, 4, 6), (2, 4, 6)), "do not go together"),
    ],
)
def test_tensors_that_do_not_go_together_are_refused(shapes, hint):
    q, k, v = ((torch.zeros(s),) for s in shapes)
    with pytest.raises(ValueError, match=hint):
        Sequence(q, k, v)


def test_a_prompt_longer_than_the_sequence_and_missing_layers_are_refused():
    x = (torch.zeros(1, 3, 4),)
    with pytest.raises(ValueError, match="give 1 to 3"):
        Sequence(x, x, x, 4)
    with pytest.raises(ValueError, match="as many of each"):
        Sequence(x, x, ())
