from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.reference.arithmetic import exact_matmul, hold_scale, rshift, saturate, shift_left_saturating


@given(x=st.integers(-(2**60), 2**60), bits=st.integers(1, 61))
def test_rshift_rounds_half_up(x, bits):
    expected = (x + (1 << (bits - 1))) >> bits
    assert int(rshift(torch.tensor(x), bits)) == expected
    assert abs(Fraction(x, 1 << bits) - expected) <= Fraction(1, 2)


@given(x=st.integers(-(2**30), 2**30), bits=st.integers(0, 30))
def test_a_negative_rshift_goes_left(x, bits):
    assert int(rshift(torch.tensor(x), -bits)) == x << bits


def test_rshift_takes_a_shift_for_each_element():
    assert rshift(torch.tensor([5, 5, 5]), torch.tensor([1, 0, -1])).tolist() == [3, 5, 10]


@given(x=st.integers(-(2**62), 2**62), bits=st.integers(2, 40))
def test_saturate_clamps_to_the_signed_range(x, bits):
    assert int(saturate(torch.tensor(x), bits)) == max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, x))


@given(x=st.integers(0, 2**62), bits=st.integers(0, 1000), limit=st.integers(0, 2**62))
def test_shift_left_saturates_without_wrapping(x, bits, limit):
    assert int(shift_left_saturating(torch.tensor(x), bits, limit)) == min(x << bits, limit)


@given(st.floats(1e-30, 1e30))
def test_a_held_scale_is_normalized_and_near(scale):
    held = hold_scale(torch.tensor([scale], dtype=torch.float64))
    assert 2**15 <= int(held.mantissa) < 2**16
    assert abs(Fraction(float(held.value)) / Fraction(scale) - 1) <= Fraction(1, 2**16)


def test_a_held_scale_renormalizes_when_rounding_overflows():
    held = hold_scale(torch.tensor([2.0 - 2.0**-20], dtype=torch.float64))
    assert (int(held.mantissa), int(held.exponent)) == (2**15, 1)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="positive and finite"):
        hold_scale(torch.tensor([scale]))


@pytest.mark.parametrize(("bits", "terms"), [(12, 512), (16, 512), (16, 1024)])
def test_matmul_is_exact_at_the_extremes_and_between(bits, terms):
    generator = torch.Generator().manual_seed(bits + terms)
    limit = 2 ** (bits - 1)
    a = torch.randint(-limit, limit, (5, terms), generator=generator)
    a[0], a[1] = -limit, limit - 1
    b = torch.randint(-limit, limit, (terms, 7), generator=generator)
    b[:, 0] = -limit
    assert torch.equal(exact_matmul(a, b), (a[:, :, None] * b[None]).sum(dim=1))


def test_matmul_refuses_what_float64_could_not_hold():
    wide = torch.full((1, 4), 2**30)
    with pytest.raises(OverflowError, match="beyond 2\\^53"):
        exact_matmul(wide, wide.T)
