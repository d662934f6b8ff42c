"""Floating-point numbers: attention as PyTorch's eager computation does it, optionally on quantized operands."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.config import QuantizationConfig
from models.reference.quantization import Planes, quantize_planes
from models.reference.softmax import float_softmax


@dataclass(frozen=True)
class FloatHeld:
    """Q, K or V in floating point.

    Attributes:
        first: what the first pass sees, shape (..., heads, tokens, D).
        full: what a pass with all bits sees; the same tensor where nothing is quantized.
    """

    first: Tensor
    full: Tensor

    def select(self, heads: Tensor, tokens: Tensor) -> "FloatHeld":
        """Return some heads and some tokens, both index tensors, in the order given."""
        first = self.first.index_select(-3, heads).index_select(-2, tokens)
        same = self.full is self.first
        return FloatHeld(first, first if same else self.full.index_select(-3, heads).index_select(-2, tokens))


@dataclass(frozen=True)
class FloatArithmetic:
    """Attention in floating point; implements `Arithmetic` on `FloatHeld`.

    Without quantization every operation and its order are those of the eager attention of `transformers`, so that
    results are bitwise equal when nothing is pruned. With it, operands are the real values of the quantized ones and
    everything after them is floating point: what the integer path approximates.

    Attributes:
        dtype: torch.float32 or torch.float64.
        quantization: of K and V; None leaves Q, K and V as they are.
        datapath_bits: W, the bits of a quantized Q.
        softmax_scale: factor of the scores; default D ** -0.5.
    """

    dtype: torch.dtype = torch.float32
    quantization: QuantizationConfig | None = None
    datapath_bits: int = 12
    softmax_scale: float | None = None

    def __post_init__(self) -> None:
        if self.quantization is not None:
            self.quantization.check_fits(self.datapath_bits)

    @property
    def threshold(self) -> float:
        """The threshold, rounded as the machine holds it."""
        return 0.0 if self.quantization is None else self.quantization.threshold12 / 4096

    @property
    def importance_dtype(self) -> torch.dtype:
        """Always float64, so that a long run does not lose small addends."""
        return torch.float64

    @property
    def token_limit(self) -> float:
        """Float importance does not saturate."""
        return float("inf")

    @property
    def head_limit(self) -> float:
        """Float importance does not saturate."""
        return float("inf")

    def hold_query(self, q: Tensor) -> FloatHeld:
        """Q as it is, or rounded to W bits."""
        if self.quantization is None:
            x = q.to(self.dtype)
            return FloatHeld(x, x)
        return self._dequantized(quantize_planes(q, self.datapath_bits))

    def hold_key_value(self, x: Tensor, calibration_tokens: int | None) -> FloatHeld:
        """K or V as it is, or rounded to M + L bits."""
        if self.quantization is None:
            x = x.to(self.dtype)
            return FloatHeld(x, x)
        bits = self.quantization
        return self._dequantized(quantize_planes(x, bits.msb_bits, bits.lsb_bits, calibration_tokens))

    def _dequantized(self, planes: Planes) -> FloatHeld:
        scale = planes.operand_scale(self.datapath_bits)
        first, full = ((planes.operand(self.datapath_bits, f) * scale).to(self.dtype) for f in (False, True))
        return FloatHeld(first, full)

    def score(self, q: FloatHeld, k: FloatHeld, full: bool) -> Tensor:
        """Scaled dot products."""
        scale = q.full.shape[-1] ** -0.5 if self.softmax_scale is None else self.softmax_scale
        return torch.matmul(q.full, (k.full if full else k.first).transpose(-1, -2)) * scale

    def softmax(self, score: Tensor, q: FloatHeld, k: FloatHeld, visible: Tensor, bias: Tensor | None) -> Tensor:
        """Softmax of the biased scores; without a model's own bias, invisible keys get the lowest score there is."""
        if bias is None:
            bias = score.new_zeros(visible.shape).masked_fill(~visible, torch.finfo(score.dtype).min)
        return float_softmax(score + bias)

    def weigh(self, prob: Tensor, v: FloatHeld, full: bool) -> Tensor:
        """Weighted sums of values."""
        return torch.matmul(prob, v.full if full else v.first)

    def real_output(self, out: Tensor, v: FloatHeld) -> Tensor:
        """Outputs are real numbers already."""
        return out

    def head_importance(self, out: Tensor, v: FloatHeld) -> Tensor:
        """`sum |out|` for each row, float64."""
        return out.double().abs().sum(dim=-1)
