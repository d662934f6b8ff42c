"""Linear symmetric quantization in two bit planes (algorithm page, section 5).

q = saturate(rint(x / s)),  s = max|x| / (2^(B-1) - 1),  B = M + L bits
operand = q << (W - B); in the first pass the L low bits of q read as the constant 2^(L-1)
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


def symmetric_scale(x: Tensor, bits: int, dims: tuple[int, ...]) -> Tensor:
    """Scale that lets `bits` bits span the largest magnitude over `dims`; 1 where all is zero.

    Args:
        x: any float dtype.
        bits: of the quantized number, sign included.
        dims: reduced, kept as size 1.

    Returns:
        float64.
    """
    largest = x.double().abs().amax(dim=dims, keepdim=True)
    return torch.where(largest > 0, largest / ((1 << (bits - 1)) - 1), 1.0)


def quantize(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Round `x / scale` half to even and saturate to +-(2^(bits-1) - 1).

    Returns:
        int32, shape of `x`.
    """
    limit = (1 << (bits - 1)) - 1
    return torch.clamp(torch.round(x.double() / scale), -limit, limit).to(torch.int32)


@dataclass(frozen=True)
class Planes:
    """Q, K or V of one layer as DRAM holds it: the bits of each element in an MSB and an LSB plane, and the scale.

    Attributes:
        q: int32, shape (..., heads, tokens, D), `msb_bits + lsb_bits` bits each, signed.
        scale: float64, shape (..., heads, 1, 1): real value of one unit of q.
        msb_bits: M.
        lsb_bits: L; 0 if there is only one plane.
    """

    q: Tensor
    scale: Tensor
    msb_bits: int
    lsb_bits: int = 0

    @property
    def bits(self) -> int:
        """B, all bits of an element."""
        return self.msb_bits + self.lsb_bits

    @property
    def msb(self) -> Tensor:
        """The plane of the M most significant bits, signed."""
        return self.q >> self.lsb_bits

    @property
    def lsb(self) -> Tensor:
        """The plane of the L least significant bits, unsigned."""
        return self.q & ((1 << self.lsb_bits) - 1)

    def operand(self, datapath_bits: int, full: bool) -> Tensor:
        """What the arrays see, W bits: all bits of the element, or its MSBs and the constant middle of its LSBs."""
        low = self.lsb_bits
        q = self.q if full or low == 0 else (self.msb << low) | (1 << (low - 1))
        return q << (datapath_bits - self.bits)

    def operand_scale(self, datapath_bits: int) -> Tensor:
        """Real value of one unit of the operand, float64, shape of `scale`."""
        return self.scale / (1 << (datapath_bits - self.bits))

    def select(self, heads: Tensor, tokens: Tensor) -> "Planes":
        """Return the planes of some heads and some tokens, both index tensors, in the order given."""
        q = self.q.index_select(-3, heads).index_select(-2, tokens)
        return replace(self, q=q, scale=self.scale.index_select(-3, heads))


def quantize_planes(x: Tensor, msb_bits: int, lsb_bits: int = 0, calibration_tokens: int | None = None) -> Planes:
    """Quantize Q, K or V of one layer with one scale per head.

    Args:
        x: real values, shape (..., heads, tokens, D).
        msb_bits: M.
        lsb_bits: L.
        calibration_tokens: the scale spans the first so many tokens (default: all); later ones saturate.
    """
    bits = msb_bits + lsb_bits
    scale = symmetric_scale(x[..., :calibration_tokens, :], bits, dims=(-2, -1))
    return Planes(quantize(x, scale, bits), scale, msb_bits, lsb_bits)
