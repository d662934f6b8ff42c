"""Streams without a throttle: what the machine takes for granted of them, asked of every recorded cycle.

`glue_throttles` leaves alone what nobody asks about: whether an importance still waits when a layer ends, whether the
scores are clear when the first one comes, and whether a tag stays beside the operands in the converter. With rows:

    a sweep that clears never waits, and nothing waits behind it: its results are dropped
    an importance waits only while a sweep clears
    no importance is offered from the start of a layer that clears to the first row of its sweep, nor from the first
        row of the sweep that ends a layer to the start of the next one
    a converter takes in a word in just those cycles in which the operands of its lane are taken, or are none

That head importance never waits is a promise of the output stage (`glue_promises`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from verification.evidence.glue_recording import Recording
from verification.evidence.glue_runs import TINY

CONVERTERS = tuple(f"converter_{q}" for q in range(TINY.fetch_queues))
PARTS = ("controller", "selection", "row_values", *CONVERTERS)
OPEN, ASKED, CLEARING, ENDING = range(4)
"""Of the scores: importance is added; they will be cleared; they are cleared; they are read for the last time."""

Cycles = npt.NDArray[np.bool_]


def _bits(recording: Recording, part: str, port: str) -> Cycles:
    return np.asarray(recording.words[part, port].any(axis=1))


def phases(recording: Recording) -> npt.NDArray[np.int64]:
    """What happens to the scores in each cycle, one of `OPEN` to `ENDING`."""
    start, clears, sweeps, sweep_clears, result, taken, last = (
        _bits(recording, "selection", port)
        for port in (
            *("layer_start", "layer_clear_tokens", "sweep_valid", "sweep_clear"),
            *("sweep_score_valid", "sweep_score_ready", "sweep_score_last"),
        )
    )
    found, phase = np.zeros(len(recording), np.int64), OPEN
    for t in np.flatnonzero(start | sweeps | (result & last)).tolist():
        before = phase
        if start[t]:
            phase = ASKED if clears[t] else OPEN
        if sweeps[t] and phase != CLEARING:
            phase = CLEARING if sweep_clears[t] else ENDING
        found[t:] = phase
        if before == CLEARING and result[t] and taken[t] and last[t]:
            phase = OPEN
            found[t + 1 :] = phase
    return found


def claims(recording: Recording) -> Iterator[tuple[str, Cycles]]:
    """Each claim, and in which cycles it holds."""
    with_rows, phase = _bits(recording, "controller", "layer_rows"), phases(recording)
    for what, valid, ready in (
        ("a sweep that clears", "sweep_valid", "sweep_ready"),
        ("a result that is dropped", "sweep_score_valid", "sweep_score_ready"),
    ):
        waits = _bits(recording, "selection", valid) & ~_bits(recording, "selection", ready)
        yield f"{what} never waits", ~(with_rows & waits & (phase == CLEARING))
    offered, taken = (_bits(recording, "row_values", f"importance_{end}") for end in ("valid", "ready"))
    yield "an importance waits only while a sweep clears", ~offered | taken | (phase == CLEARING)
    yield "no importance comes before the scores are cleared", ~offered | (phase != ASKED)
    yield "no importance comes after the scores are read", ~offered | (phase != ENDING)
    for name in CONVERTERS:
        takes, given, goes = (_bits(recording, name, port) for port in ("in_ready", "out_valid", "out_ready"))
        yield f"{name} moves as a whole", takes == (~given | goes)


def broken(recording: Recording) -> str | None:
    """Where a claim first breaks, in words."""
    for claim, holds in claims(recording):
        if not holds.all():
            return f"{recording.name}, cycle {int(np.argmin(holds))}: {claim}: not so"
    return None


def waits(recording: Recording) -> int:
    """Cycles in which an importance waits: without any, the claim about them says nothing."""
    offered, taken = (_bits(recording, "row_values", f"importance_{end}") for end in ("valid", "ready"))
    return int((offered & ~taken).sum())


def planted(recording: Recording) -> Iterator[tuple[str, Recording]]:
    """For each claim its name and the recording with one bit of one cycle changed, so that it breaks.

    Raises:
        ValueError: if it has no cycle in which a claim could break.
    """
    with_rows, phase = _bits(recording, "controller", "layer_rows"), phases(recording)
    offered = _bits(recording, "row_values", "importance_valid")
    clears = with_rows & (phase == CLEARING)
    added, converter = ("row_values", "importance_valid"), (CONVERTERS[0], "in_ready")
    for claim, where, cycles in (
        ("a sweep that clears", ("selection", "sweep_ready"), clears & _bits(recording, "selection", "sweep_valid")),
        (
            "a result that is dropped",
            ("selection", "sweep_score_ready"),
            clears & _bits(recording, "selection", "sweep_score_valid"),
        ),
        ("waits only while", ("row_values", "importance_ready"), offered & (phase == OPEN)),
        ("before the scores", added, (phase == ASKED) & _bits(recording, "row_values", "importance_ready")),
        ("after the scores", added, (phase == ENDING) & _bits(recording, "row_values", "importance_ready")),
        (f"{CONVERTERS[0]} moves", converter, np.ones(len(recording), np.bool_)),
    ):
        if not cycles.any():
            raise ValueError(f"{recording.name}: no cycle in which {claim!r} could break")
        changed = recording.words[where].copy()
        changed[np.flatnonzero(cycles)[-1]] ^= 1
        yield claim, replace(recording, words={**recording.words, where: changed})
