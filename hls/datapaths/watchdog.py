"""Watchdog over the channels of the memory: who owes something and moves nothing for too long is silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import pyrtl

from hls.lower import building
from hls.netlist import Wire
from hls.stream import register

PATIENCE_CYCLES = 8192
"""Far more than a refresh with full queues: a memory that is so long silent is broken."""


class Status(IntEnum):
    """What a `status` port says; SILENT stays until reset."""

    IDLE = 0
    BUSY = 1
    SILENT = 2


@dataclass(frozen=True, eq=False)
class Channel:
    """What the watchdog sees of a channel: it has something to accept or to answer; it does so in this cycle."""

    owes: Wire
    moves: Wire


def watchdog(channels: Sequence[Channel], patience_cycles: int, busy: Wire, block: pyrtl.Block) -> tuple[Wire, Wire]:
    """`status`, and one bit a channel: it was silent for `patience_cycles` while it owed something."""
    found = []
    with building(block):
        for c, channel in enumerate(channels):
            count = register(patience_cycles.bit_length(), f"silence_{c}", block)
            silent = register(1, f"silent_{c}", block)
            waits = channel.owes & ~channel.moves
            count.next <<= pyrtl.select(waits, (count + 1)[: len(count)], pyrtl.Const(0, len(count)))
            silent.next <<= silent | (waits & (count == patience_cycles - 1))
            found.append(silent)
        stopped = pyrtl.rtl_any(*found)
        status = pyrtl.select(stopped, pyrtl.Const(Status.SILENT, 2), busy.zero_extended(2))
        return status, pyrtl.concat_list(found)
