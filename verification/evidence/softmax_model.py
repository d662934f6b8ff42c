"""Rows of the softmax as the reference computes them, stimuli for the netlist, and when results should come out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hls.datapaths.softmax import SoftmaxPlan
from hls.datapaths.softmax_arithmetic import EXPONENT, MANTISSA, PROBABILITY, SoftmaxTypes
from hls.simulate import Words
from models.config import AcceleratorConfig, QuantizationConfig
from models.reference.arithmetic import HeldScale
from models.reference.integer import IntegerArithmetic
from models.reference.softmax import integer_softmax
from traces.trace import Trace
from verification.ports import Integers, from_port, to_port

LOWEST_M, HIGHEST_M = 1 << 15, (1 << 16) - 1


@dataclass(frozen=True)
class SoftmaxBeats:
    """Inputs of consecutive cycles; rows end where `last` is 1.

    Attributes:
        score: shape (cycles, lanes).
        lane_valid: 0 or 1, shape (cycles, lanes).
        last: 0 or 1, shape (cycles,).
        mantissa: shape (cycles,); that of a row's last cycle counts.
        exponent: as `mantissa`.
    """

    score: Integers
    lane_valid: Integers
    last: Integers
    mantissa: Integers
    exponent: Integers

    def ports(self, config: AcceleratorConfig) -> dict[str, Words]:
        """The cycles as the netlist's input ports take them."""
        return {
            "score": to_port(self.score, SoftmaxTypes.of(config).score.width),
            "lane_valid": to_port(self.lane_valid, 1),
            "last": to_port(self.last, 1),
            "mantissa": to_port(self.mantissa, MANTISSA.width),
            "exponent": to_port(self.exponent, EXPONENT.width),
        }


@dataclass(frozen=True)
class SoftmaxRow:
    """One row: its scores, which of them are keys (both of shape (keys,)), m and x."""

    score: Integers
    valid: Integers
    mantissa: int
    exponent: int


def beats_of(config: AcceleratorConfig, rows: Sequence[SoftmaxRow], seed: int = 0) -> SoftmaxBeats:
    """The rows `softmax_lanes` keys a cycle; what must not matter (padded scores, m and x before the end) is random."""
    types, rng = SoftmaxTypes.of(config), np.random.default_rng(seed)
    low, high = types.score.range.low, types.score.range.high
    lengths = np.array([-(-len(row.score) // types.lanes) for row in rows])
    cycles, ends = int(lengths.sum()), np.cumsum(lengths) - 1
    score = rng.choice(np.array([low, -1, 0, high]), (cycles, types.lanes))
    valid = np.zeros((cycles, types.lanes), dtype=np.int64)
    mantissa = rng.integers(LOWEST_M, HIGHEST_M + 1, cycles)
    exponent = rng.integers(EXPONENT.range.low, EXPONENT.range.high + 1, cycles)
    for row, length, end in zip(rows, lengths, ends, strict=True):
        first, keys = end + 1 - length, len(row.score)
        valid[first : end + 1].reshape(-1)[:keys] = row.valid
        score[first : end + 1].reshape(-1)[:keys][row.valid == 1] = row.score[row.valid == 1]
        mantissa[end], exponent[end] = row.mantissa, row.exponent
    last = np.zeros(cycles, dtype=np.int64)
    last[ends] = 1
    return SoftmaxBeats(score, valid, last, mantissa, exponent)


def random_rows(config: AcceleratorConfig, count: int, seed: int, longest_cycles: int = 6) -> list[SoftmaxRow]:
    """Rows of 1 to `longest_cycles` cycles, one cycle most often; spreads of scores and scales of every size."""
    types, rng = SoftmaxTypes.of(config), np.random.default_rng(seed)
    low, high, width = types.score.range.low, types.score.range.high, types.score.width
    rows = []
    for _ in range(count):
        cycles = 1 if rng.random() < 0.4 else int(rng.integers(1, longest_cycles + 1))
        keys = max(1, cycles * types.lanes - int(rng.integers(0, types.lanes)))
        spread = int(rng.integers(0, width + 1))
        middle = int(rng.integers(low, high + 1))
        score = np.clip(middle + rng.integers(0, 1 << spread, keys), low, high)
        if rng.random() < 0.2:
            score = rng.choice(np.array([low, low + 1, -1, 0, high - 1, high]), keys)
        # at 4 - spread, the largest distance is about the largest argument
        fitting = 4 - spread + int(rng.integers(-3, 8))
        exponent = fitting if rng.random() < 0.8 else int(rng.integers(EXPONENT.range.low, EXPONENT.range.high + 1))
        mantissa = rng.choice([LOWEST_M, HIGHEST_M, int(rng.integers(LOWEST_M, HIGHEST_M + 1))], p=[0.1, 0.1, 0.8])
        share = rng.choice([0.0, 0.5, 1.0], p=[0.05, 0.15, 0.8])
        valid = (rng.random(keys) < share).astype(np.int64)
        rows.append(SoftmaxRow(score, valid, int(mantissa), exponent))
    return rows


def extreme_rows(config: AcceleratorConfig) -> list[SoftmaxRow]:
    """Rows of one score and every length that changes t, one score above all others, every n, every x, all one lane."""
    types = SoftmaxTypes.of(config)
    low, high, keys = types.score.range.low, types.score.range.high, config.context_keys
    rows = []

    def row(score: Integers, mantissa: int = LOWEST_M, exponent: int = -20, valid: Integers | None = None) -> None:
        everything = np.ones(len(score), dtype=np.int64)
        rows.append(SoftmaxRow(score, everything if valid is None else valid, mantissa, exponent))

    for score in (low, high):
        row(np.full(keys, score))
    for step in range(keys.bit_length()):
        row(np.full(max(1, min(keys, (1 << step) - 1)), -3))
        row(np.full(min(keys, 1 << step), 5), HIGHEST_M)
    row(np.arange(keys) - keys, HIGHEST_M, -9)
    row(np.where(np.arange(keys) == keys - 1, high, low))
    row(np.where(np.arange(keys) % 2, high, low), HIGHEST_M, EXPONENT.range.low)
    for exponent in range(EXPONENT.range.low, EXPONENT.range.high + 1):
        fitting = np.array([0, 1, 2, 3, 1 << max(0, min(types.score.width - 2, 4 - exponent)), high])
        row(high - fitting, HIGHEST_M if exponent % 2 else LOWEST_M + 1, exponent)
    for n in range(48):  # arguments beside a change of n, both sides; 2^20 units of u are 1 for m * 2^(x-15) = 2^-20
        near = round((n + 0.5) * 2**20 * np.log(2)) + np.arange(-4, 4)
        row(np.concatenate([[0], -near]), LOWEST_M, -20)
    row(np.array([low]))
    row(np.full(types.lanes, high), valid=np.zeros(types.lanes, dtype=np.int64))
    for lane in range(types.lanes):
        row(np.arange(types.lanes), exponent=-3, valid=(np.arange(types.lanes) == lane).astype(np.int64))
        row(np.where(np.arange(types.lanes) == lane, low, low + 1 + np.arange(types.lanes)), exponent=-2)
    return rows


def trace_rows(trace: Trace, config: AcceleratorConfig, per_head: int, seed: int) -> list[SoftmaxRow]:
    """Rows of a trace with its own quantized Q, K and scales.

    Of every layer and head the last, which sees most keys, and up to `per_head - 1` others chosen by seed.
    """
    rng, rows = np.random.default_rng(seed), []
    arithmetic = IntegerArithmetic(QuantizationConfig(msb_bits=12), config.datapath_bits, trace.softmax_scale)
    for layer in range(trace.model.layers):
        tensors = trace.layer(layer)
        q = arithmetic.hold_query(torch.from_numpy(tensors.q))
        keys = np.repeat(tensors.k, trace.model.heads // trace.model.kv_heads, axis=0)
        k = arithmetic.hold_key_value(torch.from_numpy(keys), trace.prompt_length)
        score, scale = arithmetic.score(q, k, full=True).numpy(), arithmetic.score_scale(q, k)
        for head in range(trace.model.heads):
            chosen = {trace.tokens - 1} | {int(rng.integers(0, trace.tokens)) for _ in range(per_head - 1)}
            for token in sorted(chosen):
                seen = np.array(trace.visible(token))
                m, x = int(scale.mantissa[head].item()), int(scale.exponent[head].item())
                rows.append(SoftmaxRow(score[head, token, seen], np.ones(len(seen), dtype=np.int64), m, x))
    return rows


def expected(beats: SoftmaxBeats) -> dict[str, Integers]:
    """What the reference says of every cycle: `prob`, `prob_valid` (cycles, lanes), `prob_last`, `peak` (cycles, 1)."""
    ends, lanes = np.flatnonzero(beats.last), beats.score.shape[1]
    firsts = np.concatenate([[0], ends[:-1] + 1])
    longest = int((ends + 1 - firsts).max()) * lanes
    score, visible = np.zeros((len(ends), longest), dtype=np.int64), np.zeros((len(ends), longest), dtype=np.bool_)
    for row, (first, end) in enumerate(zip(firsts, ends, strict=True)):
        keys = (end + 1 - first) * lanes
        score[row, :keys] = beats.score[first : end + 1].reshape(-1)
        visible[row, :keys] = beats.lane_valid[first : end + 1].reshape(-1) == 1
    scale = HeldScale(*(torch.from_numpy(x[ends, None]) for x in (beats.mantissa, beats.exponent)))
    by_row = integer_softmax(torch.from_numpy(score), torch.from_numpy(visible), scale).numpy()
    peak = np.where(visible.any(axis=1), by_row.max(axis=1), (1 << PROBABILITY.width) - 1)
    prob = [by_row[row, : (end + 1 - first) * lanes] for row, (first, end) in enumerate(zip(firsts, ends, strict=True))]
    return {
        "prob": np.concatenate(prob).reshape(-1, lanes),
        "prob_valid": beats.lane_valid,
        "prob_last": beats.last[:, None],
        "peak": np.repeat(peak, ends + 1 - firsts)[:, None],
    }


def observed(config: AcceleratorConfig, outputs: dict[str, Words]) -> dict[str, Integers]:
    """The netlist's outputs in the form of `expected`."""
    lanes = config.softmax_lanes
    return {
        "prob": from_port(outputs["prob"], lanes, PROBABILITY.width, signed=False),
        "prob_valid": from_port(outputs["prob_valid"], lanes, 1, signed=False),
        "prob_last": from_port(outputs["prob_last"], 1, 1, signed=False),
        "peak": from_port(outputs["peak"], 1, PROBABILITY.width, signed=False),
    }


def scheduled_cycles(plan: SoftmaxPlan, sent_at: NDArray[np.uint64], last: Integers) -> Integers:
    """When each beat comes out of a softmax that is never stalled, from when it was sent (module `softmax`)."""

    def through_buffer(entered: Integers, wait: int) -> Integers:
        """A row leaves `wait` cycles after its last beat entered, behind the row before, without a gap."""
        row_end = entered[np.flatnonzero(last)][np.cumsum(last) - last]
        left = np.empty_like(entered)
        previous = -1
        for i, ready in enumerate(row_end + wait):
            previous = left[i] = max(previous + 1, ready)
        return left

    scores_left = through_buffer(sent_at.astype(np.int64), plan.maximum_cycles)
    return through_buffer(scores_left, plan.sum_cycles) + plan.normalize.latency_cycles
