"""Rows of the flat-row decision as the reference computes them, and stimuli for the netlist (algorithm page, 5)."""

from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths.flat_decision import THRESHOLD
from hls.datapaths.softmax_arithmetic import PROBABILITY
from hls.simulate import Words
from verification.ports import Integers, from_port, to_port

LARGEST = (1 << PROBABILITY.width) - 1


@dataclass(frozen=True)
class DecisionBeats:
    """Inputs of consecutive cycles; rows end where `last` is 1.

    Attributes:
        prob: shape (cycles, lanes).
        lane_valid: 0 or 1, shape (cycles, lanes).
        last: 0 or 1, shape (cycles,).
        threshold: 0 to 4096, shape (cycles,); that of a row's last cycle counts.
    """

    prob: Integers
    lane_valid: Integers
    last: Integers
    threshold: Integers

    def ports(self) -> dict[str, Words]:
        """The cycles as the netlist's input ports take them."""
        return {
            "prob": to_port(self.prob, PROBABILITY.width),
            "lane_valid": to_port(self.lane_valid, 1),
            "last": to_port(self.last, 1),
            "threshold": to_port(self.threshold, THRESHOLD.width),
        }


def random_beats(lanes: int, rows: int, seed: int, longest: int = 5) -> DecisionBeats:
    """`rows` rows of 1 to `longest` cycles; thresholds at, beside and far from the largest probability of their row."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, rows)
    cycles, ends = int(lengths.sum()), np.cumsum(lengths) - 1
    prob = rng.integers(0, 1 + rng.choice([0, 1, 40, LARGEST], (cycles, 1)), (cycles, lanes))
    share = np.repeat(rng.choice([0.0, 0.3, 1.0], rows, p=[0.1, 0.4, 0.5]), lengths)
    valid = (rng.random((cycles, lanes)) < share[:, None]).astype(np.int64)
    last = np.zeros(cycles, dtype=np.int64)
    last[ends] = 1
    threshold = rng.integers(0, LARGEST + 2, cycles)
    for length, end in zip(lengths, ends, strict=True):
        largest = int((prob * valid)[end + 1 - length : end + 1].max())
        if rng.random() < 0.8:
            threshold[end] = np.clip(largest + rng.integers(-1, 3), 0, LARGEST + 1)
    return DecisionBeats(prob, valid, last, threshold)


def extreme_beats(lanes: int) -> DecisionBeats:
    """One probability at, above and below the threshold in every lane, first or last cycle; the same, invalid."""
    beats: list[tuple[Integers, Integers, int, int]] = []
    for threshold in (0, 1, 2, 410, 2048, LARGEST, LARGEST + 1):
        for step in (-1, 0, 1):
            value = min(max(threshold + step, 0), LARGEST)
            below = max(0, min(threshold - 1, LARGEST))
            for lane in range(lanes):
                prob = np.where(np.arange(lanes) == lane, value, below)
                others = (np.arange(lanes) != lane).astype(np.int64)
                everything, quiet = np.ones(lanes, dtype=np.int64), np.full(lanes, below)
                beats += [(prob, everything, 0, LARGEST + 1), (quiet, everything, 1, threshold)]
                beats += [(quiet, everything, 0, 0), (prob, everything, 1, threshold)]
                beats += [
                    (prob, others, 1, threshold),
                    (prob, 1 - others, 1, threshold),
                    (prob, 0 * others, 1, threshold),
                ]
    return DecisionBeats(
        prob=np.array([b[0] for b in beats]),
        lane_valid=np.array([b[1] for b in beats]),
        last=np.array([b[2] for b in beats]),
        threshold=np.array([b[3] for b in beats]),
    )


def expected(beats: DecisionBeats) -> dict[str, Integers]:
    """What the reference's rule says of every cycle; `flat` and `passed_last` of shape (cycles, 1)."""
    ends = np.flatnonzero(beats.last)
    flat = np.zeros((len(beats.last), 1), dtype=np.int64)
    for first, end in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        prob = torch.from_numpy(beats.prob[first : end + 1].reshape(1, -1))
        visible = torch.from_numpy(beats.lane_valid[first : end + 1].reshape(1, -1) == 1)
        seen = torch.where(visible, prob, 0)  # an invisible key has probability 0
        flat[end] = int(((seen.amax(dim=-1) < int(beats.threshold[end])) & visible.any(dim=-1)).item())
    return {
        "passed_prob": beats.prob,
        "passed_valid": beats.lane_valid,
        "passed_last": beats.last[:, None],
        "flat": flat,
    }


def observed(lanes: int, outputs: dict[str, Words]) -> dict[str, Integers]:
    """The netlist's outputs in the form of `expected`."""
    return {
        "passed_prob": from_port(outputs["passed_prob"], lanes, PROBABILITY.width, signed=False),
        "passed_valid": from_port(outputs["passed_valid"], lanes, 1, signed=False),
        "passed_last": from_port(outputs["passed_last"], 1, 1, signed=False),
        "flat": from_port(outputs["flat"], 1, 1, signed=False),
    }
