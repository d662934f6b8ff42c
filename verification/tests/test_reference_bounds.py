"""The integer path against exact arithmetic on the same operands, within bounds derived and not fitted."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.config import PruningConfig, QuantizationConfig
from models.reference import integer
from models.reference.floating import FloatArithmetic
from models.reference.integer import IntegerArithmetic
from models.reference.stack import prepare
from verification.bounds import UNIT, layer_errors
from verification.tests.sequences import quantizations, random_sequence


def both(seed, quantization, tokens, ratio, prompt=None, spread=1.5, bits=12):
    """One layer in integers and in float64 on the same operands, and the errors of the one against the other."""
    sequence = random_sequence(seed, layers=1, tokens=tokens, head_dim=16, prompt=prompt, spread=spread)
    pruning = PruningConfig(value_ratio=ratio)
    numbers = IntegerArithmetic(quantization, bits), FloatArithmetic(torch.float64, quantization, bits)
    runs = [prepare(sequence, a, pruning, quantization, bits) for a in numbers]
    got, exact = (next(run.passes()) for run in runs)
    return got, exact, layer_errors(got.attention, exact.attention, runs[0].v[0], bits)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    quantization=quantizations,
    tokens=st.integers(1, 40),
    ratio=st.sampled_from([1.0, 0.5, 0.1]),
    causal=st.booleans(),
    spread=st.sampled_from([0.1, 1.0, 3.0]),
)
@example(
    seed=4294967295, quantization=QuantizationConfig(4, 4, 0.3), tokens=12, ratio=1.0, causal=False, spread=1.0
)  # exact arithmetic alone takes a row for flat, and its second pass is far from the threshold
def test_every_error_is_within_its_bound(seed, quantization, tokens, ratio, causal, spread):
    got, exact, errors = both(seed, quantization, tokens, ratio, tokens if causal else None, spread)
    assert errors.within
    added = (got.importance.heads * UNIT - exact.importance.heads).abs()
    assert bool((added <= errors.head_bound)[errors.alike.all(dim=-1)].all())
    # only a row that is not flat still shows the probabilities that it was decided with
    decided = torch.where(exact.attention.flat[..., None], got.attention.prob.double(), exact.attention.prob / UNIT)
    near = (decided.amax(-1) - quantization.threshold12).abs() <= errors.prob_bound.amax(-1)
    assert bool((near | (got.attention.flat == exact.attention.flat)).all())


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("lsb_bits", [0, 4])
def test_wide_datapaths_are_within_the_same_bounds(bits, lsb_bits):
    quantization = QuantizationConfig(min(12, bits - lsb_bits), lsb_bits, 0.2 if lsb_bits else 0.0)
    assert both(1, quantization, 64, 1.0, bits=bits)[2].within


def test_the_bounds_are_not_idle():
    """Errors come near enough to their bounds that a bug of a few units is seen."""
    errors = both(2, QuantizationConfig(), 40, 1.0)[2]
    assert float((errors.prob / errors.prob_bound).max()) > 0.5
    assert float((errors.out / errors.out_bound).max()) > 0.15
    assert bool(errors.alike.any())


@pytest.mark.parametrize("fault", ["rshift", "saturate"])
def test_a_fault_in_the_integer_output_is_caught(monkeypatch, fault):
    right = getattr(integer, fault)
    wrong = {
        "rshift": lambda x, bits: (x >> bits) - 1,
        "saturate": lambda x, bits: right(x, bits - 4),
    }[fault]
    monkeypatch.setattr(integer, fault, wrong)
    assert not both(3, QuantizationConfig(), 4, 1.0)[2].within


def test_a_fault_in_the_scale_is_caught(monkeypatch):
    right = IntegerArithmetic.score_scale

    def off_by_one_percent(self, q, k):
        held = right(self, q, k)
        return type(held)(torch.round(held.mantissa * 0.99).long(), held.exponent)

    monkeypatch.setattr(IntegerArithmetic, "score_scale", off_by_one_percent)
    assert not both(4, QuantizationConfig(), 20, 1.0)[2].within
