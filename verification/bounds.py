"""How far the integer path can be from exact arithmetic on the same quantized operands, derived step by step.

Scores are exact. The rest, with u = 2^-12 and the decisions (flat rows, kept values) equal on both sides:

- held scale: a rounded 16-bit mantissa is off by a relative 2^-16 at most. With a_j the scaled distance of key j from
  the row maximum, dp_j / d(ln scale) = p_j (E[a] - a_j). As p_j <= exp(-a_j), p_j a_j <= 1/e; as E[a] is the entropy
  less ln Z with Z >= 1, E[a] <= ln K. So a probability moves by at most 2^-16 max(1/e, ln K).
- softmax: 0.55 u by the contract of section 7, and what lies above 4095 u, where it saturates.
- output: sum of |value| times the error of its probability, and half a unit of rounding. Saturation to W bits never
  adds error, since no exact output is larger than the largest operand.
- importance: sums of these; a head adds the 2^-16 of its held scale and the floor of one unit per row.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

UNIT = 2.0**-12
CONTRACT_UNITS = 0.55
HELD_SCALE_ERROR = 2.0**-16
FLOAT64_SLACK = 1e-12


@dataclass(frozen=True)
class ErrorBounds:
    """Largest possible distance between integer and exact results of one layer, in real units.

    Attributes:
        prob: shape (heads, rows, keys).
        out: shape (heads, rows, D).
        head_importance: shape (heads,): of what the layer adds.
    """

    prob: Tensor
    out: Tensor
    head_importance: Tensor


def error_bounds(prob: Tensor, visible: Tensor, kept: Tensor, values: Tensor, out: Tensor, unit: Tensor) -> ErrorBounds:
    """Bound one layer.

    Args:
        prob: exact probabilities, float64, (heads, rows, keys).
        visible: bool, broadcasts against `prob`.
        kept: bool, shape of `prob`.
        values: V operands of each row as real numbers, (heads, rows or 1, keys, D).
        out: exact outputs, (heads, rows, D).
        unit: real value of one unit of output, (heads, 1, 1).
    """
    keys = torch.clamp(visible.sum(dim=-1, keepdim=True), min=1).double()
    held = HELD_SCALE_ERROR * (1 + 2.0**-15) * torch.clamp(torch.log(keys), min=1 / math.e)
    saturated = torch.clamp(prob - 4095 * UNIT, min=0)
    prob_bound = torch.where(visible, CONTRACT_UNITS * UNIT + held + saturated + FLOAT64_SLACK, 0.0)
    weighted = torch.where(kept, prob_bound, 0.0)[..., None, :] @ values.abs()
    out_bound = weighted.squeeze(-2) + unit / 2 + FLOAT64_SLACK
    per_row = out_bound.sum(dim=-1) + (out.abs() + out_bound).sum(dim=-1) * HELD_SCALE_ERROR + UNIT
    return ErrorBounds(prob_bound, out_bound, per_row.sum(dim=-1))
