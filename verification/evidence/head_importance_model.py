"""Head importance as the reference adds it up, and stimuli for the netlist (algorithm page, section 3)."""

from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths.head_importance import MANTISSA, SCORE, SHIFT, HeadImportanceTypes
from hls.simulate import Words
from models.config import AcceleratorConfig
from models.reference.arithmetic import shift_left_saturating
from verification.ports import Integers, to_port


@dataclass(frozen=True)
class OutputBeats:
    """Inputs of consecutive cycles; rows end where `last` is 1.

    Attributes:
        element: shape (cycles, native head dimension).
        head, mantissa, shift: what counts is the last cycle of a row, shape (cycles,).
        last: 0 or 1, shape (cycles,).
    """

    element: Integers
    head: Integers
    mantissa: Integers
    shift: Integers
    last: Integers

    def ports(self, config: AcceleratorConfig, heads: int) -> dict[str, Words]:
        """The cycles as the netlist's input ports take them."""
        return {
            "element": to_port(self.element, config.datapath_bits),
            "head": to_port(self.head, HeadImportanceTypes.of(config, heads).head.width),
            "mantissa": to_port(self.mantissa, MANTISSA.width),
            "shift": to_port(self.shift, SHIFT.width),
            "last": to_port(self.last, 1),
        }


def random_beats(config: AcceleratorConfig, heads: int, rows: int, seed: int) -> OutputBeats:
    """`rows` rows of one to the most cycles, the same head often twice running; scales from 0 to saturation."""
    types, rng = HeadImportanceTypes.of(config, heads), np.random.default_rng(seed)
    lengths = rng.integers(1, types.row_cycles + 1, rows)
    cycles = int(lengths.sum())
    high = (1 << (config.datapath_bits - 1)) - 1
    element = rng.integers(-high - 1, high + 1, (cycles, types.element.length))
    extreme = rng.choice([-high - 1, -1, 0, high], (cycles, 1))
    head = np.where(rng.random(rows) < 0.5, rng.integers(0, min(2, heads), rows), rng.integers(0, heads, rows))
    shift = np.where(rng.random(rows) < 0.2, rng.integers(-64, 64, rows), rng.integers(-8, 24, rows))
    mantissa = np.where(rng.random(rows) < 0.3, rng.choice([1 << 15, (1 << 16) - 1], rows), 0)
    mantissa = np.where(mantissa == 0, rng.integers(1 << 15, 1 << 16, rows), mantissa)
    return OutputBeats(
        element=np.where(rng.random((cycles, 1)) < 0.4, extreme, element),
        head=np.repeat(head, lengths),
        mantissa=np.repeat(mantissa, lengths),
        shift=np.repeat(shift, lengths),
        last=(np.arange(cycles) + 1 == np.repeat(np.cumsum(lengths), lengths)).astype(np.int64),
    )


def extreme_beats(config: AcceleratorConfig, heads: int) -> OutputBeats:
    """The largest row at every shift, with both ends of the mantissa, over all heads in turn and twice running."""
    types = HeadImportanceTypes.of(config, heads)
    low = -(1 << (config.datapath_bits - 1))
    rows = [(shift, mantissa) for shift in range(-64, 64) for mantissa in (1 << 15, (1 << 16) - 1)]
    cycles = len(rows) * types.row_cycles
    row = np.repeat(np.arange(len(rows)), types.row_cycles)
    return OutputBeats(
        element=np.full((cycles, types.element.length), low),
        head=(row // 2) % heads,
        mantissa=np.array([m for _, m in rows])[row],
        shift=np.array([s for s, _ in rows])[row],
        last=(np.arange(cycles) % types.row_cycles == types.row_cycles - 1).astype(np.int64),
    )


def expected(beats: OutputBeats, heads: int, start: Integers | None = None) -> Integers:
    """Scores of all heads after the rows, from `start` (default 0), shape (heads,)."""
    limit = SCORE.full_range.high
    scores = torch.zeros(heads, dtype=torch.int64) if start is None else torch.from_numpy(start.copy())
    ends = np.flatnonzero(beats.last)
    for first, end in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        magnitude = torch.from_numpy(beats.element[first : end + 1]).abs().sum()
        product, shift = magnitude * int(beats.mantissa[end]), int(beats.shift[end])
        if shift >= 0:
            row = torch.clamp(product >> min(shift, 62), max=limit)
        else:
            row = shift_left_saturating(product, -shift, limit)
        head = int(beats.head[end])
        scores[head] = torch.clamp(scores[head] + row, max=limit)
    return scores.numpy()
