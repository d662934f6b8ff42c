"""Integer arithmetic of the machine on int64 tensors: rounding shift, saturation, scales as hardware holds them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MANTISSA_BITS = 16


def rshift(x: Tensor, bits: Tensor | int) -> Tensor:
    """Shift right rounding half up, `(x + 2^(bits-1)) >> bits`; to the left for `bits` <= 0.

    Args:
        x: int64, |x| < 2^61.
        bits: at most 61; one for all of x, or a tensor that broadcasts against it.
    """
    k = torch.as_tensor(bits, dtype=torch.int64)
    right = torch.clamp(k, min=0)
    half = torch.where(k > 0, torch.bitwise_left_shift(torch.ones_like(k), torch.clamp(k - 1, min=0)), 0)
    return torch.where(k > 0, (x + half) >> right, x << torch.clamp(-k, min=0))


def saturate(x: Tensor, bits: int) -> Tensor:
    """Clamp to a signed number of `bits` bits."""
    return torch.clamp(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def shift_left_saturating(x: Tensor, bits: Tensor | int, limit: int) -> Tensor:
    """`min(x << bits, limit)` for x >= 0 and bits >= 0, exact however large `x << bits` would be."""
    k = torch.clamp(torch.as_tensor(bits, dtype=torch.int64), max=62)
    return torch.where(x > (limit >> k), limit, x << k)


@dataclass(frozen=True)
class HeldScale:
    """A positive real scale as hardware holds it, `mantissa * 2^(exponent - 15)`, the mantissa normalized to 16 bits.

    Attributes:
        mantissa: int64, any shape, in [2^15, 2^16).
        exponent: int64, same shape.
    """

    mantissa: Tensor
    exponent: Tensor

    @property
    def value(self) -> Tensor:
        """The scale as float64."""
        return torch.ldexp(self.mantissa.double(), self.exponent - (MANTISSA_BITS - 1))


def hold_scale(scale: Tensor) -> HeldScale:
    """Round positive float64 scales to the held form (section 7, step 1): half to even, an overflow renormalizes.

    Raises:
        ValueError: for a scale that is not positive and finite.
    """
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise ValueError(f"a scale must be positive and finite, found {scale.flatten().tolist()[:8]}")
    fraction, exponent = torch.frexp(scale.double())
    mantissa = torch.round(torch.ldexp(fraction, torch.tensor(MANTISSA_BITS))).to(torch.int64)
    overflow = mantissa == 1 << MANTISSA_BITS
    return HeldScale(
        torch.where(overflow, 1 << (MANTISSA_BITS - 1), mantissa),
        exponent.to(torch.int64) - 1 + overflow.to(torch.int64),
    )


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Product of integer matrices as int64, computed in float64, which is exact here.

    Every partial sum is an integer below 2^53: 16-bit operands and 1024 terms need 2^41.

    Args:
        a: integers of any dtype, shape (..., n, k).
        b: integers of any dtype, shape (..., k, m).

    Raises:
        OverflowError: if the operands are so large that a partial sum could leave float64's exact range.
    """
    if a.numel() and b.numel():
        bound = _magnitude(a) * _magnitude(b) * a.shape[-1]
        if bound >= 2.0**53:
            raise OverflowError(f"a sum of {a.shape[-1]} products could reach 2^{math.log2(bound):.1f}, beyond 2^53")
    return torch.matmul(a.double(), b.double()).to(torch.int64)


def _magnitude(x: Tensor) -> int:
    low, high = torch.aminmax(x)
    return max(-int(low), int(high))
