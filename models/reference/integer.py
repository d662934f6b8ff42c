"""The machine's numbers: integers, exact to the bit (sections 1, 3, 5, 7 and 8)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import QuantizationConfig
from models.reference.arithmetic import (
    HeldScale,
    exact_matmul,
    hold_scale,
    rshift,
    saturate,
    shift_left_saturating,
)
from models.reference.quantization import Planes, quantize_planes
from models.reference.softmax import PROB_BITS, integer_softmax

TOKEN_IMPORTANCE_BITS = 32
HEAD_IMPORTANCE_BITS = 48


@dataclass(frozen=True)
class IntegerArithmetic:
    """Attention in integers; implements `Arithmetic` on `Planes`.

    Attributes:
        quantization: bits of K and V, and the threshold.
        datapath_bits: W.
        softmax_scale: factor of the scores; default 1 / sqrt(D).

    Raises:
        ConfigError: if K and V are wider than the datapath.
    """

    quantization: QuantizationConfig
    datapath_bits: int = 12
    softmax_scale: float | None = None

    def __post_init__(self) -> None:
        self.quantization.check_fits(self.datapath_bits)

    @property
    def threshold(self) -> float:
        """The threshold in units of a 12-bit probability."""
        return self.quantization.threshold12

    @property
    def importance_dtype(self) -> torch.dtype:
        """Integers of 64 bits, which hold both formats."""
        return torch.int64

    @property
    def token_limit(self) -> float:
        """Largest ufix(32,12)."""
        return (1 << TOKEN_IMPORTANCE_BITS) - 1

    @property
    def head_limit(self) -> float:
        """Largest ufix(48,12)."""
        return (1 << HEAD_IMPORTANCE_BITS) - 1

    def hold_query(self, q: Tensor) -> Planes:
        """Q in W bits, one plane, one scale per head over all rows of the call."""
        return quantize_planes(q, self.datapath_bits)

    def hold_key_value(self, x: Tensor, calibration_tokens: int | None) -> Planes:
        """K or V in M + L bits, one scale per head."""
        return quantize_planes(x, self.quantization.msb_bits, self.quantization.lsb_bits, calibration_tokens)

    def score(self, q: Planes, k: Planes, full: bool) -> Tensor:
        """Exact integer dot products, int64."""
        w = self.datapath_bits
        return exact_matmul(q.operand(w, full=True), k.operand(w, full).transpose(-1, -2))

    def score_scale(self, q: Planes, k: Planes) -> HeldScale:
        """Real value of one unit of score as the machine holds it, shape (..., heads, 1, 1)."""
        scale = q.operand_scale(self.datapath_bits) * k.operand_scale(self.datapath_bits)
        dim = q.q.shape[-1]
        return hold_scale(scale / math.sqrt(dim) if self.softmax_scale is None else scale * self.softmax_scale)

    def softmax(self, score: Tensor, q: Planes, k: Planes, visible: Tensor, bias: Tensor | None) -> Tensor:
        """Section 7; int64, ufix(12,12). `visible` stands for the bias, which only masks."""
        return integer_softmax(score, visible, self.score_scale(q, k))

    def weigh(self, prob: Tensor, v: Planes, full: bool) -> Tensor:
        """Exact weighted sums of values, rounded and saturated to W bits, int64."""
        total = exact_matmul(prob, v.operand(self.datapath_bits, full))
        return saturate(rshift(total, PROB_BITS), self.datapath_bits)

    def real_output(self, out: Tensor, v: Planes) -> Tensor:
        """`out * s_v / 2^(W-B)`, float64."""
        return out.double() * v.operand_scale(self.datapath_bits)

    def head_importance(self, out: Tensor, v: Planes) -> Tensor:
        """`(sum |out| * m_v) >> sh_v` for each row, int64, already saturated to 48 bits."""
        held = hold_scale(v.operand_scale(self.datapath_bits)[..., 0])
        product = out.abs().sum(dim=-1) * held.mantissa
        shift = 3 - held.exponent
        limit = (1 << HEAD_IMPORTANCE_BITS) - 1
        right = torch.clamp(product >> torch.clamp(shift, min=0, max=62), max=limit)
        left = shift_left_saturating(product, torch.clamp(-shift, min=0), limit)
        return torch.where(shift >= 0, right, left)
