"""Whole arrays of elements as the words of a simulator's ports, and back.

A port carries its elements side by side, element 0 in the least significant bits (`hls.simulate`: rows of uint32
words, least significant first); here a row is an array of integers.
"""

import numpy as np
from numpy.typing import NDArray

from hls.simulate import Words, word_count

Integers = NDArray[np.int64]


def to_port(values: Integers, bits: int) -> Words:
    """Port words of rows of elements.

    Args:
        values: integers that fit `bits` bits, signed or unsigned, shape (rows, elements) or (rows,).
        bits: width of an element, at most 63.

    Returns:
        uint32, shape (rows, words of a port of elements * bits bits).
    """
    rows = np.asarray(values, dtype=np.int64).reshape(len(values), -1)
    if rows.size and (int(rows.max()) >= 1 << bits or int(rows.min()) < -(1 << (bits - 1))):
        raise ValueError(f"values {rows.min()} .. {rows.max()} do not fit {bits} bits")
    planes = ((rows[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(len(rows), -1)
    padded = np.zeros((len(rows), 32 * word_count(planes.shape[1])), dtype=np.uint8)
    padded[:, : planes.shape[1]] = planes
    return np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def from_port(words: Words, elements: int, bits: int, *, signed: bool) -> Integers:
    """The inverse of `to_port`: int64, shape (rows, elements)."""
    raw = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    planes = np.unpackbits(raw, axis=1, bitorder="little")[:, : elements * bits]
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    return np.asarray(planes.reshape(len(words), elements, bits).astype(np.int64) @ weights)
