"""Rows of prob x V as the reference computes them, and stimuli for the netlist (algorithm page, section 1, step 6)."""

from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.probability_value import ProbabilityValueTypes
from hls.simulate import Words
from models.config import AcceleratorConfig
from models.reference.arithmetic import exact_matmul, rshift, saturate
from verification.ports import Integers, from_port, to_port


@dataclass(frozen=True)
class ProbabilityValueBeats:
    """Inputs of consecutive cycles; rows end where `last` is 1.

    Attributes:
        prob: shape (cycles, lanes).
        value: shape (cycles, multipliers).
        lane_valid: 0 or 1, shape (cycles, lanes).
        dimension: index of D, the same through a row, shape (cycles,).
        last: 0 or 1, shape (cycles,).
    """

    prob: Integers
    value: Integers
    lane_valid: Integers
    dimension: Integers
    last: Integers

    def ports(self, config: AcceleratorConfig) -> dict[str, Words]:
        """The cycles as the netlist's input ports take them."""
        types = ProbabilityValueTypes.of(config)
        return {
            "prob": to_port(self.prob, PROBABILITY_BITS),
            "value": to_port(self.value, config.datapath_bits),
            "lane_valid": to_port(self.lane_valid, 1),
            "dimension": to_port(self.dimension, types.dimension.width),
            "last": to_port(self.last, 1),
        }


def random_beats(config: AcceleratorConfig, rows: int, seed: int, longest: int = 6) -> ProbabilityValueBeats:
    """`rows` rows of 1 to `longest` cycles, every D among them, many elements at an end of their range."""
    types, rng = ProbabilityValueTypes.of(config), np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, rows)
    cycles = int(lengths.sum())
    high = (1 << (config.datapath_bits - 1)) - 1

    def mixed(values: Integers, extremes: list[int]) -> Integers:
        share = rng.choice([0.0, 0.5, 1.0], (cycles, 1))
        return np.where(rng.random(values.shape) < share, rng.choice(extremes, (cycles, 1)), values)

    lanes = types.prob.length
    return ProbabilityValueBeats(
        prob=mixed(rng.integers(0, 1 << PROBABILITY_BITS, (cycles, lanes)), [0, 1, 2048, 4095]),
        value=mixed(rng.integers(-high - 1, high + 1, (cycles, types.value.length)), [-high - 1, -1, 1, high]),
        lane_valid=(rng.random((cycles, lanes)) < rng.choice([0.0, 0.5, 1.0], (cycles, 1), p=[0.1, 0.4, 0.5])).astype(
            np.int64
        ),
        dimension=np.repeat(rng.integers(0, len(types.head_dims), rows), lengths),
        last=(np.arange(cycles) + 1 == np.repeat(np.cumsum(lengths), lengths)).astype(np.int64),
    )


def extreme_beats(config: AcceleratorConfig) -> ProbabilityValueBeats:
    """For every D: the longest row at both ends of the range, sums at a tie of the rounding, one walking multiplier."""
    types = ProbabilityValueTypes.of(config)
    low, high = -(1 << (config.datapath_bits - 1)), (1 << (config.datapath_bits - 1)) - 1
    lanes, multipliers = types.prob.length, types.value.length
    longest = config.context_keys // lanes
    beats: list[tuple[Integers, Integers, int, bool]] = []
    for index in range(len(types.head_dims)):
        for value in (low, high):
            row = (np.full(lanes, 4095), np.full(multipliers, value), index)
            beats += [(*row, beat == longest - 1) for beat in range(longest)]
        for prob, value in ((2048, 1), (2048, -1), (2047, 1), (2049, -1), (4095, high), (4095, low)):
            only = np.where(np.arange(lanes) == 0, prob, 0)
            beats.append((only, np.full(multipliers, value), index, True))
    for i in range(multipliers):
        only = np.where(np.arange(multipliers) == i, high, 0)
        beats.append((4095 - np.arange(lanes), only, i % len(types.head_dims), True))
    return ProbabilityValueBeats(
        prob=np.array([b[0] for b in beats]),
        value=np.array([b[1] for b in beats]),
        lane_valid=np.ones((len(beats), lanes), dtype=np.int64),
        dimension=np.array([b[2] for b in beats]),
        last=np.array([int(b[3]) for b in beats]),
    )


def expected(config: AcceleratorConfig, beats: ProbabilityValueBeats) -> Integers:
    """The outputs of every row by the reference's exact product, rounding and saturation, shape (rows, largest D)."""
    types = ProbabilityValueTypes.of(config)
    ends = np.flatnonzero(beats.last)
    out = np.zeros((len(ends), types.out.length), dtype=np.int64)
    for row, (first, end) in enumerate(zip([0, *(ends[:-1] + 1)], ends + 1, strict=True)):
        dim = types.head_dims[beats.dimension[first]]
        lanes = types.value.length // dim
        kept = beats.lane_valid[first:end, :lanes].reshape(-1).astype(bool)
        prob = torch.from_numpy(beats.prob[first:end, :lanes].reshape(-1)[kept])
        value = torch.from_numpy(beats.value[first:end].reshape(-1, dim)[kept])
        total = exact_matmul(prob[None], value)[0]
        out[row, :dim] = saturate(rshift(total, PROBABILITY_BITS), config.datapath_bits).numpy()
    return out


def observed(config: AcceleratorConfig, words: Words) -> Integers:
    """The netlist's port `out` in the form of `expected`."""
    return from_port(words, ProbabilityValueTypes.of(config).out.length, config.datapath_bits, signed=True)
