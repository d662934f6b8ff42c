"""Rows of the flat-row decision by its rule, and stimuli for the netlist (algorithm page, 5)."""

from dataclasses import dataclass

import numpy as np

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
        peak: 0 to 4095, shape (cycles,); that of a row's first cycle counts.
        threshold: 0 to 4096, as `peak`.
    """

    prob: Integers
    lane_valid: Integers
    last: Integers
    peak: Integers
    threshold: Integers

    def ports(self) -> dict[str, Words]:
        """The cycles as the netlist's input ports take them."""
        return {
            "prob": to_port(self.prob, PROBABILITY.width),
            "lane_valid": to_port(self.lane_valid, 1),
            "last": to_port(self.last, 1),
            "peak": to_port(self.peak, PROBABILITY.width),
            "threshold": to_port(self.threshold, THRESHOLD.width),
        }


def firsts_of(last: Integers) -> Integers:
    """The first cycle of each row."""
    return np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])


def peaks_of(prob: Integers, lane_valid: Integers, last: Integers) -> Integers:
    """The largest valid probability of the row that each cycle is of, by the definition."""
    firsts = firsts_of(last)
    largest = np.maximum.reduceat((prob * lane_valid).max(axis=1), firsts)
    return np.repeat(largest, np.diff([*firsts, len(last)]))


def random_beats(lanes: int, rows: int, seed: int, longest: int = 5) -> DecisionBeats:
    """`rows` rows of 1 to `longest` cycles; thresholds at, beside and far from the largest probability of their row.

    Most rows have a key in their first cycle. Peak and threshold are anything behind it.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, rows)
    cycles, ends = int(lengths.sum()), np.cumsum(lengths) - 1
    prob = rng.integers(0, 1 + rng.choice([0, 1, 40, LARGEST], (cycles, 1)), (cycles, lanes))
    share = np.repeat(rng.choice([0.0, 0.3, 1.0], rows, p=[0.1, 0.4, 0.5]), lengths)
    valid = (rng.random((cycles, lanes)) < share[:, None]).astype(np.int64)
    last = np.zeros(cycles, dtype=np.int64)
    last[ends] = 1
    firsts = firsts_of(last)
    peak, threshold = rng.integers(0, LARGEST + 1, cycles), rng.integers(0, LARGEST + 2, cycles)
    peak[firsts] = peaks_of(prob, valid, last)[firsts]
    near = firsts[rng.random(rows) < 0.8]
    threshold[near] = np.clip(peak[near] + rng.integers(-1, 3, len(near)), 0, LARGEST + 1)
    return DecisionBeats(prob, valid, last, peak, threshold)


def extreme_beats(lanes: int) -> DecisionBeats:
    """Rows of one and of two cycles; a peak at, above and below each threshold, one key in every lane, all and none."""
    beats: list[tuple[Integers, Integers, int, int, int]] = []
    for threshold in (0, 1, 2, 410, 2048, LARGEST, LARGEST + 1):
        for step in (-1, 0, 1):
            peak = min(max(threshold + step, 0), LARGEST)
            for lane in range(lanes):
                only = (np.arange(lanes) == lane).astype(np.int64)
                prob, everything = only * peak, np.ones(lanes, dtype=np.int64)
                contrary = LARGEST - peak, LARGEST + 1 - threshold
                beats += [(prob, everything, 0, peak, threshold), (prob, only, 1, *contrary)]
                beats += [(prob, only, 1, peak, threshold), (prob, 0 * only, 1, peak, threshold)]
    return DecisionBeats(
        prob=np.array([b[0] for b in beats]),
        lane_valid=np.array([b[1] for b in beats]),
        last=np.array([b[2] for b in beats]),
        peak=np.array([b[3] for b in beats]),
        threshold=np.array([b[4] for b in beats]),
    )


def expected(beats: DecisionBeats) -> dict[str, Integers]:
    """What the rule says of every cycle; `flat` and `passed_last` of shape (cycles, 1)."""
    firsts = firsts_of(beats.last)
    flat = np.zeros((len(beats.last), 1), dtype=np.int64)
    flat[firsts, 0] = beats.lane_valid[firsts].any(axis=1) & (beats.peak[firsts] < beats.threshold[firsts])
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
