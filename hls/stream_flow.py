"""Streams that split, meet and share: fork, join, round-robin arbiter. The conventions are those of `hls.stream`.

All three pass items through in the cycle in which they are offered; only what they must remember is in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.lower import building
from hls.netlist import Wire
from hls.stream import Stream, drive, produced, register, ring_next
from hls.types import HlsError


@dataclass(frozen=True, eq=False)
class Arbitrated:
    """An arbiter's output, and the number of the source that its item is from."""

    stream: Stream
    winner: Wire


def fork(source: Stream, ways: int, *, block: pyrtl.Block, prefix: str = "fork_") -> tuple[Stream, ...]:
    """Give every item to each of `ways` streams, to each when it is ready; the next item comes when all have it.

    A bit a way remembers who has the item already, so that nobody waits for another to become valid or ready.

    Raises:
        HlsError: for fewer than 1 way.
    """
    if ways < 1:
        raise HlsError(f"fork {prefix!r} into {ways} streams: it needs at least 1")
    with building(block):
        served = [register(1, f"{prefix}served_{i}", block) for i in range(ways)]
        outputs = tuple(produced(source.data, source.valid & ~served[i], block, f"{prefix}{i}_") for i in range(ways))
        have_it = [bit | out.ready for bit, out in zip(served, outputs, strict=True)]
        done = pyrtl.rtl_all(*have_it)
        for bit, has_it in zip(served, have_it, strict=True):
            bit.next <<= source.valid & has_it & ~done
        drive(source.ready, done)
    return outputs


def join(sources: Sequence[Stream], *, block: pyrtl.Block, prefix: str = "join_") -> Stream:
    """One item from each source side by side, source 0 in the least significant bits; all move together.

    Raises:
        HlsError: for no sources.
    """
    if not sources:
        raise HlsError(f"join {prefix!r} of no streams: it needs at least 1")
    with building(block):
        valid = pyrtl.rtl_all(*(source.valid for source in sources))
        data = pyrtl.concat_list([source.data for source in sources])
        out = produced(data, valid, block, prefix)
        for source in sources:
            drive(source.ready, out.ready & valid)
    return out


def round_robin(sources: Sequence[Stream], *, block: pyrtl.Block, prefix: str = "arbiter_") -> Arbitrated:
    """Pass on items of sources of one width in turn: of n sources that are valid, each waits for at most n - 1 items.

    `first` is the source that comes first in the cyclic order. It moves behind the winner that was accepted, and to
    the winner that was not, which so keeps winning while it stalls.

    Raises:
        HlsError: for no sources, or sources of different widths.
    """
    widths = sorted({source.bits for source in sources})
    if len(widths) != 1:
        raise HlsError(f"arbiter {prefix!r}: its sources have widths {widths}; give at least one, all of one width")
    count = len(sources)
    index_bits = max(1, (count - 1).bit_length())
    with building(block):
        first = register(index_bits, f"{prefix}first", block)
        waiting = [source.valid & (first <= i) for i, source in enumerate(sources[:-1])] + [sources[-1].valid]
        any_waiting = pyrtl.rtl_any(*waiting)
        grants = [
            pyrtl.select(any_waiting, behind, before)
            for behind, before in zip(_lowest(waiting), _lowest([s.valid for s in sources]), strict=True)
        ]
        winner = _chosen(grants, [pyrtl.Const(i, index_bits) for i in range(count)])
        valid = pyrtl.rtl_any(*(source.valid for source in sources))
        out = produced(_chosen(grants, [source.data for source in sources]), valid, block, prefix)
        for source, grant in zip(sources, grants, strict=True):
            drive(source.ready, out.ready & grant)
        moved = pyrtl.select(out.ready, ring_next(winner, count), winner)
        first.next <<= pyrtl.select(valid, moved, first)
    return Arbitrated(out, winner)


def _lowest(bits: Sequence[Wire]) -> list[Wire]:
    """The same bits without all but the lowest that is set."""
    return [bit & ~pyrtl.rtl_any(*bits[:i]) if i else bit for i, bit in enumerate(bits)]


def _chosen(grants: Sequence[Wire], values: Sequence[Wire]) -> Wire:
    """The value whose grant is 1, 0 if there is none."""
    masked = [value & grant.sign_extended(len(value)) for grant, value in zip(grants, values, strict=True)]
    while len(masked) > 1:
        masked = [a | b for a, b in zip(masked[::2], masked[1::2], strict=False)] + masked[len(masked) & ~1 :]
    return masked[0]
