"""DRAM as the host lays it out for the accelerator: regions from 512-byte addresses on, vectors packed bit by bit.

Token vectors are bit-packed, least significant bit first, by id; each (tensor, K/V head, plane) begins at an address
that is a multiple of 512 (algorithm page, section 11). Outputs are int16, importance uint32 and uint64, survivors
uint16, all little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ALIGNMENT_BYTES = 512
BURST_BYTES = 32

Bytes = npt.NDArray[np.uint8]


def packed(values: npt.ArrayLike, bits: int) -> Bytes:
    """Integers of `bits` bits, two's complement or unsigned, side by side as bytes.

    Args:
        values: any shape, read in C order; each must fit in `bits` bits, signed or unsigned.
        bits: of each.

    Raises:
        ValueError: for a value that does not fit.
    """
    flat = np.asarray(values, dtype=np.int64).reshape(-1)
    if flat.size and (flat.min() < -(1 << (bits - 1)) or flat.max() >= 1 << bits):
        raise ValueError(f"values from {flat.min()} to {flat.max()} do not fit in {bits} bits")
    single = ((flat[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    return np.packbits(single.reshape(-1), bitorder="little")


def unpacked(data: Bytes, count: int, bits: int) -> npt.NDArray[np.int64]:
    """The inverse of `packed` for unsigned integers."""
    single = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    return np.asarray((single.astype(np.int64) << np.arange(bits)).sum(axis=1), np.int64)


@dataclass(frozen=True)
class Region:
    """Some parts of equal size, one behind the other, each at an aligned address.

    Attributes:
        address: of the first part.
        stride_bytes: from one part to the next.
        parts: how many.
    """

    address: int
    stride_bytes: int
    parts: int

    def part(self, index: int) -> int:
        """Address of one part.

        Raises:
            IndexError: for a part that is not there.
        """
        if not 0 <= index < self.parts:
            raise IndexError(f"part {index} of a region of {self.parts}")
        return self.address + index * self.stride_bytes


class MemoryImage:
    """The content of DRAM and where the next region goes; filled with ones, so that nothing is right by chance."""

    def __init__(self, size_bytes: int, first_address: int = 0) -> None:
        whole = -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        self.data: Bytes = np.full(whole, 0xFF, np.uint8)
        self._next = -(-first_address // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def allocate(self, part_bytes: int, parts: int = 1) -> Region:
        """A new region.

        Raises:
            MemoryError: if it does not fit any more.
        """
        stride = -(-max(1, part_bytes) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        region = Region(self._next, stride, parts)
        self._next += stride * parts
        if self._next > len(self.data):
            raise MemoryError(f"DRAM of {len(self.data)} bytes is full: {self._next} are needed")
        return region

    def write(self, address: int, content: Bytes) -> None:
        """Put bytes at an address."""
        self.data[address : address + len(content)] = content

    def read(self, address: int, size_bytes: int) -> Bytes:
        """A copy of bytes."""
        return self.data[address : address + size_bytes].copy()


def list_bursts(ids: npt.ArrayLike, address: int, vector_bits: int) -> npt.NDArray[np.int64]:
    """Bursts that a list of vectors asks for, in list order; neighbours that share one ask once (section 10).

    Args:
        ids: numbers of the vectors.
        address: of vector 0, bytes.
        vector_bits: bits of a vector, and from one to the next.
    """
    ids = np.asarray(ids, dtype=np.int64)
    first = address // BURST_BYTES + ids * vector_bits // (8 * BURST_BYTES)
    ending = address // BURST_BYTES + (ids * vector_bits + vector_bits - 1) // (8 * BURST_BYTES)
    bursts = [np.arange(a, b + 1) for a, b in zip(first, ending, strict=True)]
    for i in range(1, len(bursts)):
        if ending[i - 1] == first[i]:
            bursts[i] = bursts[i][1:]
    return np.concatenate(bursts) if bursts else np.zeros(0, np.int64)
