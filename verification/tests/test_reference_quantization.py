import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.config import LSB_BITS, MSB_BITS
from models.reference.quantization import quantize, quantize_planes, symmetric_scale

WIDTHS = [(m, low) for m in MSB_BITS for low in LSB_BITS]


def every_value(m, low):
    """Planes that hold each number of m + low bits once, one unit worth 1."""
    limit = 2 ** (m + low - 1) - 1
    x = torch.arange(-limit, limit + 1, dtype=torch.float64).reshape(1, -1, 1)
    return quantize_planes(x, m, low)


@pytest.mark.parametrize(("m", "low"), WIDTHS)
def test_the_planes_recombine(m, low):
    planes = every_value(m, low)
    assert float(planes.scale) == 1.0
    assert torch.equal((planes.msb << low) | planes.lsb, planes.q)
    assert int(planes.msb.min()) >= -(2 ** (m - 1))
    assert int(planes.msb.max()) <= 2 ** (m - 1) - 1
    assert int(planes.lsb.max()) <= 2**low - 1
    w = max(12, m + low)
    assert torch.equal(planes.operand(w, full=True), planes.q << (w - m - low))


@pytest.mark.parametrize(("m", "low"), [(m, low) for m, low in WIDTHS if low])
def test_the_first_pass_sees_the_middle_of_what_the_lsbs_can_be(m, low):
    planes = every_value(m, low)
    w = max(12, m + low)
    first, full = planes.operand(w, full=False), planes.operand(w, full=True)
    assert int((first - full).abs().max()) == 2 ** (low - 1) << (w - m - low)
    assert torch.equal(first >> (w - m), planes.msb)


@pytest.mark.parametrize("m", MSB_BITS)
def test_one_plane_reads_the_same_in_every_pass(m):
    planes = every_value(m, 0)
    assert torch.equal(planes.operand(12, full=False), planes.operand(12, full=True))


@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(4, 16))
def test_no_element_is_off_by_more_than_half_a_unit(seed, bits):
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scale = symmetric_scale(x, bits, (-2, -1))
    q = quantize(x, scale, bits)
    assert float(((q * scale - x) / scale).abs().max()) <= 0.5 + 1e-9
    assert q.abs().amax(dim=(-2, -1)).tolist() == [2 ** (bits - 1) - 1] * 2


def test_rounding_is_half_to_even_and_zero_has_scale_one():
    x = torch.tensor([[[0.5], [1.5], [2.5], [-0.5], [-1.5], [7.0]]])
    assert quantize_planes(x, 4).q.flatten().tolist() == [0, 2, 2, 0, -2, 7]
    assert float(symmetric_scale(torch.zeros(1, 2, 2), 8, (-2, -1))) == 1.0


def test_tokens_after_the_calibration_saturate():
    x = torch.tensor([[[1.0], [-1.0], [5.0], [-5.0]]])
    planes = quantize_planes(x, 8, calibration_tokens=2)
    assert planes.q.flatten().tolist() == [127, -127, 127, -127]
    assert float(planes.scale) == pytest.approx(1 / 127)


def test_selection_takes_heads_with_their_scales():
    x = torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1) * torch.tensor([1.0, -0.5]).reshape(1, 2, 1)
    chosen = quantize_planes(x, 8, 4).select(torch.tensor([2, 2, 0]), torch.tensor([1]))
    assert chosen.q.shape == (3, 1, 1)
    assert chosen.scale.flatten().tolist() == pytest.approx([4 / 2047, 4 / 2047, 1 / 2047])
