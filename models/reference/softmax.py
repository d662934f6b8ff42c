"""Softmax, in float and bit by bit (algorithm page, section 7).

    d = max(score) - score,  u = d * scale in ufix(25,20),  e = exp(-u) in 24 fraction bits,
    prob = e * floor(2^49 / (sum >> t)) rounded to ufix(12,12)

The exponential reduces its range by ln 2 and takes a fifth-order Taylor polynomial in Horner form.
"""

import math

import torch
from torch import Tensor

from models.reference.arithmetic import HeldScale, rshift, shift_left_saturating

PROB_BITS = 12
PROB_MAX = (1 << PROB_BITS) - 1
ARGUMENT_BITS = 25
EXP_FRACTION = 24

_LOG2_E = 1_512_775  # 2^20 log2 e
_LN_2 = 744_261_118  # 2^30 ln 2
_TAYLOR = tuple(round(2**26 / math.factorial(k)) for k in range(6))
_SEAM = 94_905_202  # removes the four upward seams of the range reduction


def exponential(u: Tensor) -> Tensor:
    """exp(-u) of section 7, steps 4 to 6.

    Args:
        u: int64, ufix(25,20).

    Returns:
        int64, 24 fraction bits, same shape; exactly 2^24 at 0.
    """
    n = (u * _LOG2_E + (1 << 39)) >> 40
    r = ((n * _LN_2) >> 4) - (u << 6)
    a = torch.full_like(u, _TAYLOR[5])
    for c in reversed(_TAYLOR[:5]):
        a = c + rshift(a * r, 26)
    a = torch.clamp(a, max=_SEAM)
    return torch.where(n > 40, 0, rshift(a, 2 + torch.clamp(n, max=40)))


def exponent_argument(distance: Tensor, scale: HeldScale) -> Tensor:
    """`u` of section 7, step 3: the scaled distance from the row maximum, saturating.

    Args:
        distance: int64, >= 0 and < 2^41, shape (..., heads, rows, keys).
        scale: shape (..., heads, 1, 1) or one that broadcasts.

    Returns:
        int64, ufix(25,20), the shape of `distance`.
    """
    limit = (1 << ARGUMENT_BITS) - 1
    product = distance * scale.mantissa
    shift = -(scale.exponent + 5)
    # A product is below 2^57, so that a shift of 61 already gives 0.
    right = torch.clamp(rshift(product, torch.clamp(shift, min=1, max=61)), max=limit)
    left = shift_left_saturating(product, torch.clamp(-shift, min=0), limit)
    return torch.where(shift > 0, right, left)


def bit_length(x: Tensor) -> Tensor:
    """Bits needed to write each positive int64 below 2^53."""
    return torch.frexp(x.double())[1].to(torch.int64)


def integer_softmax(score: Tensor, visible: Tensor, scale: HeldScale) -> Tensor:
    """Probabilities of integer scores, section 7.

    Args:
        score: int64, shape (..., heads, rows, keys).
        visible: bool, broadcasts against `score`; an invisible key enters neither maximum nor sum.
        scale: real value of one unit of score, shape (..., heads, 1, 1).

    Returns:
        int64, ufix(12,12), shape of `score`; 0 where invisible, and throughout a row that sees nothing.
    """
    lowest = torch.iinfo(torch.int64).min >> 2
    maximum = torch.where(visible, score, lowest).amax(dim=-1, keepdim=True)
    distance = torch.where(visible, maximum - score, 0)
    e = torch.where(visible, exponential(exponent_argument(distance, scale)), 0)
    total = torch.clamp(e.sum(dim=-1, keepdim=True), min=1 << EXP_FRACTION)
    t = bit_length(total) - (EXP_FRACTION + 1)
    reciprocal = (1 << 49) // (total >> t)
    return torch.clamp(rshift(e * reciprocal, 37 + t), max=PROB_MAX)


def float_softmax(score: Tensor) -> Tensor:
    """Softmax over the last dimension as the eager attention of `transformers` computes it, in at least float32."""
    working = torch.float64 if score.dtype == torch.float64 else torch.float32
    return torch.nn.functional.softmax(score, dim=-1, dtype=working).to(score.dtype)
