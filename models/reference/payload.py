"""Payload: bits of the elements that a layer asks DRAM for, by tensor and plane (section 10)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from models.config import QuantizationConfig
from models.reference.attention import Attention

OUTPUT_BITS = 16


@dataclass(frozen=True)
class Payload:
    """Bits asked for (Q, K, V) and written (outputs) by one layer, or by several added up."""

    q_bits: int = 0
    k_msb_bits: int = 0
    k_lsb_bits: int = 0
    v_msb_bits: int = 0
    v_lsb_bits: int = 0
    out_bits: int = 0

    def __add__(self, other: "Payload") -> "Payload":
        return Payload(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def read_bits(self) -> int:
        """All bits read."""
        return self.q_bits + self.k_msb_bits + self.k_lsb_bits + self.v_msb_bits + self.v_lsb_bits

    @property
    def total_bits(self) -> int:
        """All bits read and written."""
        return self.read_bits + self.out_bits


def layer_payload(
    attention: Attention,
    kv_heads: Tensor,
    head_dim: int,
    quantization: QuantizationConfig,
    datapath_bits: int,
    generation: bool,
) -> Payload:
    """Count one layer of one sequence.

    K, and in summarization V, is asked for once for each K/V head with a living query head (section 9), its LSB plane
    once if any row of these heads is flat (section 5; K: all resident keys; V: the values that flat rows keep). In
    generation each query head asks for V, of its kept values only, with the LSBs if its row is flat.

    Args:
        attention: heads x rows x keys.
        kv_heads: K/V head of each surviving query head, shape (heads,).
        head_dim: D, unpadded.
        quantization: M and L.
        datapath_bits: W, the width of a Q element.
        generation: one row against the cache, instead of summarization.
    """
    heads, rows, keys = attention.prob.shape
    m, low = quantization.msb_bits, quantization.lsb_bits
    groups = torch.unique(kv_heads)
    flat_kept = attention.kept & attention.flat[..., None]
    if generation:
        values, flat_values = int(attention.kept.sum()), int(flat_kept.sum())
    else:
        values = len(groups) * keys
        flat_values = sum(int(flat_kept[kv_heads == g].any(dim=0).any(dim=0).sum()) for g in groups)
    flat_groups = sum(bool(attention.flat[kv_heads == g].any()) for g in groups)
    return Payload(
        q_bits=heads * rows * head_dim * datapath_bits,
        k_msb_bits=len(groups) * keys * head_dim * m,
        k_lsb_bits=flat_groups * keys * head_dim * low,
        v_msb_bits=values * head_dim * m,
        v_lsb_bits=flat_values * head_dim * low,
        out_bits=heads * rows * head_dim * OUTPUT_BITS,
    )


def dense_payload(
    heads: int, kv_heads: int, rows: int, keys: int, head_dim: int, bits: int, generation: bool
) -> Payload:
    """Payload of a layer that keeps everything and holds every element of Q, K, V in `bits` bits."""
    values = (heads if generation else kv_heads) * keys
    return Payload(
        q_bits=heads * rows * head_dim * bits,
        k_msb_bits=kv_heads * keys * head_dim * bits,
        v_msb_bits=values * head_dim * bits,
        out_bits=heads * rows * head_dim * max(bits, OUTPUT_BITS),
    )
