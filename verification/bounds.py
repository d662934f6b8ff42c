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

from models.reference.attention import Attention
from models.reference.quantization import Planes

UNIT = 2.0**-12
CONTRACT_UNITS = 0.55
HELD_SCALE_ERROR = 2.0**-16
FLOAT64_SLACK = 1e-12


@dataclass(frozen=True)
class LayerErrors:
    """Errors of the integer path in one layer, over the rows where both sides decided alike.

    Attributes:
        prob: |error| of each probability in units of 2^-12, (heads, rows, keys); 0 in rows that do not count.
        out: |error| of each output in units of the integer output, (heads, rows, D); 0 in rows that do not count.
        prob_bound: what `prob` may be.
        out_bound: what `out` may be.
        head_bound: what the importance that the layer adds to each head may be off by, real units, (heads,).
        alike: bool, (heads, rows): same flat decision and same kept values.
    """

    prob: Tensor
    out: Tensor
    prob_bound: Tensor
    out_bound: Tensor
    head_bound: Tensor
    alike: Tensor

    @property
    def within(self) -> bool:
        """No error exceeds its bound."""
        return bool((self.prob <= self.prob_bound).all()) and bool((self.out <= self.out_bound).all())


def layer_errors(got: Attention, exact: Attention, v: Planes, datapath_bits: int) -> LayerErrors:
    """Hold one layer of the integer path against exact arithmetic on the same operands.

    Args:
        got: by the integer path, heads x rows x keys.
        exact: in float64, for the same rows, keys and heads.
        v: values that `got` used, repeated for each query head.
        datapath_bits: W.
    """
    unit = v.operand_scale(datapath_bits)
    first, full = (v.operand(datapath_bits, f).abs().double() for f in (False, True))
    keys = torch.clamp(exact.visible.sum(dim=-1, keepdim=True), min=1).double()
    held = HELD_SCALE_ERROR * (1 + 2.0**-15) * torch.clamp(torch.log(keys), min=1 / math.e)
    saturated = torch.clamp(exact.prob - 4095 * UNIT, min=0)
    prob_bound = torch.where(exact.visible, CONTRACT_UNITS * UNIT + held + saturated + FLOAT64_SLACK, 0.0)
    weight = torch.where(got.kept, prob_bound, 0.0)
    out_bound = torch.where(got.flat[..., None], weight @ full, weight @ first) + 0.5 + FLOAT64_SLACK
    row_bound = out_bound.sum(dim=-1) + (exact.out.abs() / unit + out_bound).sum(dim=-1) * HELD_SCALE_ERROR
    head_bound = (row_bound * unit[..., 0] + UNIT).sum(dim=-1)

    flat_alike = got.flat == exact.flat
    alike = flat_alike & (got.kept == exact.kept).all(dim=-1)
    prob = torch.where(flat_alike[..., None], (got.prob - exact.prob / UNIT).abs(), 0.0)
    out = torch.where(alike[..., None], (got.out - exact.out / unit).abs(), 0.0)
    return LayerErrors(prob, out, prob_bound / UNIT, out_bound, head_bound, alike)
