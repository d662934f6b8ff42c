"""Compiled loops over the engine: groups of bursts, skipping idle cycles, and the ports cycle by cycle.

Numba keys its cache by the file that a function stands in; the loops hold the engine's fingerprint, so that a
change there compiles them anew.
"""

import inspect
import zlib
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from models.memory import engine
from models.memory.engine import NEVER, NONE, Record, accept, commands, compiled, may_accept

Array = npt.NDArray[Any]


@compiled
def enqueue(channels: Record, requests: Array, first: int, last: int) -> None:
    """Put requests [first, last) at the ports of their channels, in order."""
    for i in range(first, last):
        channel = channels[requests[i].channel]
        if requests[i].issue < channel.now:
            channel.late += 1
        if channel.door_tail == NONE:
            channel.door_head = i
        else:
            requests[channel.door_tail].next = i
        channel.door_tail = i
        channel.unfinished += 1


@compiled
def _trace(channel: Record, c: int, now: int, trace: Array, traced: Array) -> None:
    """Append what the channel issued in this cycle to the trace, column command first."""
    for bus in range(2):
        if channel.log[bus, 0] == now:
            if traced[0] < trace.shape[0]:
                trace[traced[0]] = channel.log[bus]
                trace[traced[0], 1] = c
            traced[0] += 1


@compiled
def _acceptable(channel: Record, request: Record) -> bool:
    p, b, direction = request.pseudo_channel, request.bank, request.direction
    return may_accept(channel, p, b, request.row, request.column, direction)


def _loops(fingerprint: int) -> tuple[Callable[..., None], Callable[..., None]]:
    @compiled
    def advance(
        channels: Record,
        trace: Array,
        traced: Array,
        requests: Array,
        until: int,
        first: int,
        last: int,
        remaining: Array,
    ) -> None:
        """Simulate each channel c up to cycle `until`, or until `remaining[c]` of requests [first, last) are served."""
        _ = fingerprint
        for c in range(channels.shape[0]):
            channel = channels[c]
            now = channel.now
            left = remaining[c]
            while left > 0:
                event = NEVER
                for p in range(channel.delays.pseudo_channels):
                    event = min(event, channel.pseudo_channel[p].wake)
                head = channel.door_head
                if head != NONE and requests[head].issue < event and _acceptable(channel, requests[head]):
                    event = requests[head].issue
                event = max(event, now)
                if event >= until:
                    now = max(now, until)
                    break
                tag, done, _ = commands(channel, event)
                if tag != NONE:
                    requests[tag].done = done
                    channel.unfinished -= 1
                    if first <= tag < last:
                        left -= 1
                if head != NONE:
                    r = requests[head]
                    if r.issue <= event and _acceptable(channel, r):
                        accept(channel, r.pseudo_channel, r.bank, r.row, r.column, r.direction, head, event)
                        r.accepted = event
                        channel.door_head = r.next
                        if r.next == NONE:
                            channel.door_tail = NONE
                if trace.shape[0]:
                    _trace(channel, c, event, trace, traced)
                now = event + 1
            channel.now = now

    @compiled
    def steps(
        channels: Record,
        trace: Array,
        traced: Array,
        due: Array,
        start: int,
        valid: Array,
        location: Array,
        direction: Array,
        tags: Array,
        accepted: Array,
        answers: Array,
    ) -> None:
        """Cycles [start, start + n) of the ports; `location` is pseudo-channel, bank, row, column of each offer.

        Arrays are [cycle, channel]; `answers` [cycle, channel, 2] receives the tag that answers, or NONE.
        """
        _ = fingerprint
        ring = due.shape[2]
        for i in range(valid.shape[0]):
            now = start + i
            for c in range(valid.shape[1]):
                channel = channels[c]
                for kind in range(2):
                    answers[i, c, kind] = due[c, kind, now % ring]
                    due[c, kind, now % ring] = NONE
                tag, done, kind = commands(channel, now)
                if tag != NONE:
                    due[c, kind, done % ring] = tag
                if trace.shape[0]:
                    _trace(channel, c, now, trace, traced)
                channel.now = now + 1
                accepted[i, c] = False
                if not valid[i, c]:
                    continue
                p, b, row, column = location[i, c, 0], location[i, c, 1], location[i, c, 2], location[i, c, 3]
                if may_accept(channel, p, b, row, column, direction[i, c]):
                    accept(channel, p, b, row, column, direction[i, c], tags[i, c], now)
                    accepted[i, c] = True

    return advance, steps


advance, steps = _loops(zlib.crc32(inspect.getsource(engine).encode()))
