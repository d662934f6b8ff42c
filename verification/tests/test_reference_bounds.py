"""The integer path against exact arithmetic on the same operands, within bounds derived and not fitted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import PruningConfig, QuantizationConfig
from models.reference import integer
from models.reference.floating import FloatArithmetic
from models.reference.integer import IntegerArithmetic
from models.reference.stack import prepare
from verification.bounds import UNIT, error_bounds
from verification.tests.sequences import quantizations, random_sequence


def both(seed, quantization, tokens, ratio, prompt=None, spread=1.5, bits=12):
    sequence = random_sequence(seed, layers=1, tokens=tokens, head_dim=16, prompt=prompt, spread=spread)
    pruning = PruningConfig(value_ratio=ratio)
    numbers = IntegerArithmetic(quantization, bits), FloatArithmetic(torch.float64, quantization, bits)
    runs = [prepare(sequence, a, pruning, quantization, bits) for a in numbers]
    return runs[0], next(runs[0].passes()), next(runs[1].passes())


def excess(run, got, exact, bits=12):
    """By how much each error exceeds its bound (not at all, if negative), where both sides decided alike."""
    a, b = got.attention, exact.attention
    v = run.v[0]
    unit = v.operand_scale(bits)
    operands = torch.stack([v.operand(bits, full) * unit for full in (False, True)])
    values = operands[a.flat.long(), torch.arange(len(a.flat))[:, None]]
    bounds = error_bounds(b.prob, b.visible, a.kept, values, b.out, unit)
    alike = a.flat == b.flat
    prob = ((a.prob * UNIT - b.prob).abs() - bounds.prob)[alike]
    alike = alike & (a.kept == b.kept).all(dim=-1)
    out = ((got.real_out - exact.real_out).abs() - bounds.out)[alike]
    heads = alike.all(dim=-1)
    added = got.importance.heads * UNIT - exact.importance.heads
    return prob, out, (added.abs() - bounds.head_importance)[heads], bounds


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    quantization=quantizations,
    tokens=st.integers(1, 40),
    ratio=st.sampled_from([1.0, 0.5, 0.1]),
    causal=st.booleans(),
    spread=st.sampled_from([0.1, 1.0, 3.0]),
)
def test_every_error_is_within_its_bound(seed, quantization, tokens, ratio, causal, spread):
    run, got, exact = both(seed, quantization, tokens, ratio, tokens if causal else None, spread)
    *errors, bounds = excess(run, got, exact)
    assert all(e.numel() == 0 or float(e.max()) <= 0 for e in errors)
    near = (exact.attention.prob.amax(-1) - quantization.threshold12 * UNIT).abs() <= bounds.prob.amax(-1)
    assert bool((near | (got.attention.flat == exact.attention.flat)).all())


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("lsb_bits", [0, 4])
def test_wide_datapaths_are_within_the_same_bounds(bits, lsb_bits):
    quantization = QuantizationConfig(min(12, bits - lsb_bits), lsb_bits, 0.2 if lsb_bits else 0.0)
    run, got, exact = both(1, quantization, 64, 1.0, bits=bits)
    *errors, _ = excess(run, got, exact, bits)
    assert all(float(e.max()) <= 0 for e in errors)


def test_the_bounds_are_not_idle():
    """They are within a factor of four of what happens, so that a bug of a few units is seen."""
    run, got, exact = both(2, QuantizationConfig(), 40, 1.0)
    prob, out, _, bounds = excess(run, got, exact)
    assert float(prob.max() / bounds.prob.max()) > -0.75
    assert float(out.max() / bounds.out.max()) > -0.9


@pytest.mark.parametrize("fault", ["rshift", "saturate"])
def test_a_fault_in_the_integer_output_is_caught(monkeypatch, fault):
    right = getattr(integer, fault)
    wrong = {
        "rshift": lambda x, bits: (x >> bits) - 1,
        "saturate": lambda x, bits: right(x, bits - 4),
    }[fault]
    monkeypatch.setattr(integer, fault, wrong)
    run, got, exact = both(3, QuantizationConfig(), 4, 1.0)
    _, out, _, _ = excess(run, got, exact)
    assert float(out.max()) > 0


def test_a_fault_in_the_scale_is_caught(monkeypatch):
    right = IntegerArithmetic.score_scale

    def off_by_one_percent(self, q, k):
        held = right(self, q, k)
        return type(held)(torch.round(held.mantissa * 0.99).long(), held.exponent)

    monkeypatch.setattr(IntegerArithmetic, "score_scale", off_by_one_percent)
    run, got, exact = both(4, QuantizationConfig(), 20, 1.0)
    assert float(excess(run, got, exact)[0].max()) > 0
