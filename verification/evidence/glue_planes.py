"""Recorded words as planes and back: bit i of a port in all cycles, 64 of them to a machine word.

A column of words [cycles, words] holds a port, row after row; planes hold its bits, cycle after cycle, filled up with
zeros to whole machine words (`verification.equivalence.sliced`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hls.simulate import Words, word_count
from verification.equivalence.sliced import Planes

WORD_BITS, CASES = 32, 64


def plane_words(count: int) -> int:
    """Machine words of a plane of `count` cycles."""
    return -(-count // CASES)


def _packed(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    found = np.zeros(8 * plane_words(len(bits)), np.uint8)
    packed = np.packbits(bits, bitorder="little")
    found[: len(packed)] = packed
    return found.view("<u8").astype(np.uint64)


def planes_of(words: Words, bits: int) -> Planes:
    """Planes of a column of words, the lowest bit first."""
    columns = [np.ascontiguousarray(words[:, i]) for i in range(words.shape[1])]
    return tuple(
        _packed((columns[i // WORD_BITS] >> np.uint32(i % WORD_BITS) & np.uint32(1)).astype(np.uint8))
        for i in range(bits)
    )


def cycles_in(plane: Any, count: int) -> NDArray[np.uint8]:
    """A plane as an array of a number, 0 or 1, for each cycle."""
    full = np.ascontiguousarray(np.broadcast_to(np.asarray(plane, dtype="<u8"), (plane_words(count),)))
    return np.unpackbits(full.view(np.uint8), bitorder="little")[:count]


def cases_of(plane: Any, count: int) -> NDArray[np.int64]:
    """Numbers of the cycles in which a plane is 1."""
    return np.flatnonzero(cycles_in(plane, count))


def words_of(planes: Sequence[Any], count: int) -> Words:
    """The column of words of `count` cycles: the inverse of `planes_of`."""
    words = np.zeros((count, word_count(len(planes))), np.uint32)
    for i, plane in enumerate(planes):
        words[:, i // WORD_BITS] |= cycles_in(plane, count).astype(np.uint32) << np.uint32(i % WORD_BITS)
    return words


def integers_of(words: Words) -> list[int]:
    """Python integers of a column of words."""
    if words.shape[1] == 1:
        return [int(value) for value in words[:, 0].tolist()]
    if words.shape[1] == 2:
        return [int(value) for value in np.ascontiguousarray(words, "<u4").view("<u8")[:, 0].tolist()]
    raw, size = np.ascontiguousarray(words, "<u4").tobytes(), 4 * words.shape[1]
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]


def one_plane(bits: NDArray[np.bool_]) -> Any:
    """A plane of an array of truth values, one for each cycle."""
    return _packed(bits.astype(np.uint8))
