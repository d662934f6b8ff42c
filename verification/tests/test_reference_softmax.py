import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.reference.arithmetic import hold_scale
from models.reference.softmax import bit_length, exponent_argument, exponential, integer_softmax

CONTRACT = 0.55  # units in the last of 12 bits
EXPONENTIAL_ERROR = 7.8e-6


def softmax64(score, visible, scale):
    highest = np.where(visible, score, np.iinfo(np.int64).min).max(axis=-1, keepdims=True)
    e = np.where(visible, np.exp(np.where(visible, score - highest, 0) * scale), 0)
    return e / e.sum(axis=-1, keepdims=True)


def check_contract(score, visible, scale):
    """Assert the contract of section 7 for rows of scores; returns the probabilities."""
    held = hold_scale(torch.tensor([scale], dtype=torch.float64))
    prob = integer_softmax(torch.from_numpy(score), torch.from_numpy(visible), held).numpy()
    exact = softmax64(score, visible, float(held.value)) * 4096
    saturating = exact > 4095
    assert np.abs(prob - exact)[~saturating].max(initial=0) <= CONTRACT
    assert (prob[saturating] == 4095).all()
    assert (prob[~visible] == 0).all()
    order = np.argsort(np.where(visible, score, np.iinfo(np.int64).min), axis=-1, kind="stable")
    assert (np.diff(np.take_along_axis(prob, order, -1), axis=-1) >= 0).all()
    return prob


def test_the_exponential_on_every_argument():
    previous, worst = None, 0.0
    for start in range(0, 1 << 25, 1 << 18):
        u = torch.arange(start, start + (1 << 18))
        e = exponential(u)
        worst = max(worst, float((e.double() / 2**24 - torch.exp(-u.double() / 2**20)).abs().max()))
        assert bool((e[1:] <= e[:-1]).all())
        assert previous is None or int(e[0]) <= previous
        previous = int(e[-1])
        assert start > 0 or int(e[0]) == 1 << 24
    assert worst <= EXPONENTIAL_ERROR
    assert previous == 0


scales = st.floats(-30, 12).map(lambda x: 2.0**x)


@given(data=st.data(), keys=st.integers(1, 64), bits=st.integers(1, 39), scale=scales)
def test_the_contract_on_any_scores(data, keys, bits, scale):
    limit = 2**bits
    score = np.array([data.draw(st.lists(st.integers(-limit, limit - 1), min_size=keys, max_size=keys))])
    visible = np.array([data.draw(st.lists(st.booleans(), min_size=keys, max_size=keys))])
    visible[0, 0] |= not visible.any()
    check_contract(score, visible, scale)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), keys=st.integers(1, 1024), spread=st.floats(0.01, 20))
def test_the_contract_on_long_rows(seed, keys, spread):
    score = np.random.default_rng(seed).normal(0, spread * 2**16, (4, keys)).astype(np.int64)
    check_contract(score, np.ones_like(score, dtype=bool), 2.0**-16)


@pytest.mark.parametrize("keys", [1, 2, 3, 1023, 1024])
def test_equal_scores_share_evenly(keys):
    prob = check_contract(np.full((1, keys), 12345), np.ones((1, keys), dtype=bool), 2.0**-10)
    assert set(prob.flatten()) == {min(4095, round(4096 / keys))} or keys in (3, 1023)
    assert len(set(prob.flatten())) == 1


@pytest.mark.parametrize("scale", [1e-300, 2.0**-60, 1.0, 2.0**40, 1e200])
def test_extreme_scales_and_scores_stay_in_the_contract(scale):
    score = np.array([[2**40 - 1, 2**40 - 2, 0, -(2**40)], [7, 7, 6, 5]])
    check_contract(score, np.ones_like(score, dtype=bool), scale)


@given(d=st.integers(0, 2**41 - 1), scale=st.floats(-200, 200).map(lambda x: 2.0**x))
def test_the_argument_is_the_scaled_distance_saturating(d, scale):
    held = hold_scale(torch.tensor([scale], dtype=torch.float64))
    m, x = int(held.mantissa), int(held.exponent)
    k = -(x + 5)
    expected = ((d * m + (1 << (k - 1))) >> k) if k > 0 else (d * m) << -k
    assert int(exponent_argument(torch.tensor([d]), held)) == min(2**25 - 1, expected)


@given(st.integers(1, 2**53 - 1))
def test_bit_length(x):
    assert int(bit_length(torch.tensor(x))) == x.bit_length()


def test_a_row_that_sees_nothing_has_no_probability():
    held = hold_scale(torch.tensor([1.0]))
    prob = integer_softmax(torch.tensor([[3, 4]]), torch.tensor([[False, False]]), held)
    assert prob.tolist() == [[0, 0]]


def test_the_taylor_seam_is_what_keeps_the_exponential_monotone():
    """Without the clamp of step 5 the same argument sweep finds upward seams: the check above can fail."""
    u = torch.arange(1 << 20, 6 << 20)
    n = (u * 1_512_775 + (1 << 39)) >> 40
    r = ((n * 744_261_118) >> 4) - (u << 6)
    a = torch.full_like(u, round(2**26 / math.factorial(5)))
    for k in range(4, -1, -1):
        a = round(2**26 / math.factorial(k)) + ((a * r + (1 << 25)) >> 26)
    e = (a + (1 << (1 + n))) >> (2 + n)
    assert bool((e[1:] > e[:-1]).any())
