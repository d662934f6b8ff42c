"""The arithmetic of the softmax as dataflow graphs (algorithm page, section 7, steps 2 to 8).

    scale         u = min(2^25 - 1, rshift((max - score) * m, -(x + 5)))
    exponential   e = exp(-u): n = round(u log2 e), r = n ln 2 - u, Taylor of fifth order in r, shifted right by n
    reciprocal    R = floor(2^49 / (sum >> t)), t = bit_length(sum) - 25: long division, a bit of R a step
    normalize     prob = min(4095, rshift(e * R, 37 + t)), and the largest of the row: e = 2^24 of the largest score

with the trees of the row maximum and sum (their last step, across the cycles of a row, in one cycle each). Nodes are
named by what they are and `_i` for their lane.
"""

from __future__ import annotations

from dataclasses import dataclass

from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.query_key import QueryKeyTypes
from hls.trace import (
    Bool,
    Graph,
    SInt,
    UInt,
    Value,
    Vec,
    Vector,
    concat,
    maximum,
    minimum,
    select,
    trace,
    vector,
)
from hls.types import Fixed
from models.config import AcceleratorConfig

PROBABILITY = UInt(PROBABILITY_BITS)
MANTISSA = UInt(16)
EXPONENT = SInt(7)
ARGUMENT = UInt(25)
EXPONENTIAL = UInt(25)
RECIPROCAL = UInt(26)

LOG2_E = 1_512_775  # 2^20 log2 e
LN_2 = 744_261_118  # 2^30 ln 2
TAYLOR = (67_108_864, 67_108_864, 33_554_432, 11_184_811, 2_796_203, 559_241)  # 2^26 / k!
SEAM = 94_905_202
REMAINDER_BITS = 26  # |r| <= ln2 / 2 with 26 fraction bits
EXP_ONE = 1 << 24


@dataclass(frozen=True)
class SoftmaxTypes:
    """Sizes and port types of a machine's softmax.

    Attributes:
        lanes: scores a cycle.
        flags: what passes by of a cycle: which lanes are valid, lane 0 lowest, and on top whether it ends its row.
        score: as Q x K gives it.
        distance: of a score from the maximum of its row.
        partial: sum of the exponentials of a cycle.
        total: sum of the exponentials of a row.
        shift: t, what the sum has above the bits of one exponential.
    """

    lanes: int
    flags: Fixed
    score: Fixed
    distance: Fixed
    partial: Fixed
    total: Fixed
    shift: Fixed

    @classmethod
    def of(cls, config: AcceleratorConfig) -> SoftmaxTypes:
        """The types of `config`."""
        return cls.of_lanes(config, config.softmax_lanes)

    @classmethod
    def of_lanes(cls, config: AcceleratorConfig, lanes: int) -> SoftmaxTypes:
        """The types of `config` with another number of lanes."""
        score = QueryKeyTypes.of(config).score
        total_bits = max((config.context_keys * EXP_ONE).bit_length(), EXPONENTIAL.width + 1)
        most = total_bits - EXPONENTIAL.width
        return cls(
            lanes=lanes,
            flags=UInt(lanes + 1),
            score=score,
            distance=UInt(score.width),
            partial=UInt((lanes * EXPONENTIAL.full_range.high).bit_length()),
            total=UInt(total_bits),
            shift=UInt(most.bit_length()).within(0, most),
        )


def _saturated(value: Value, bits: int) -> Value:
    """min(value, 2^bits - 1), decided by the bits above instead of a comparator."""
    if value.range.high < 1 << bits:
        return value
    return select(value[bits:].any(), (1 << bits) - 1, value[:bits])


def lane_maximum_graph(types: SoftmaxTypes) -> Graph:
    """The largest valid score of a cycle, the lowest number if there is none; what belongs to the row passes by."""

    def lane_maximum(
        score: Vector, lane_valid: Vector, last: Value, mantissa: Value, exponent: Value
    ) -> dict[str, Value]:
        lowest = types.score.range.low
        level = [select(valid, s, lowest) for s, valid in zip(score, lane_valid, strict=True)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [maximum(a, b).named(f"largest_{len(level) // 2}_{i}") for i, (a, b) in enumerate(pairs)]
        return {"beat_maximum": level[0], "row_end": last, "row_mantissa": mantissa, "row_exponent": exponent}

    return trace(
        lane_maximum,
        inputs={
            "score": Vec(types.score, types.lanes),
            "lane_valid": Vec(Bool, types.lanes),
            "last": Bool,
            "mantissa": MANTISSA,
            "exponent": EXPONENT,
        },
        outputs={"beat_maximum": types.score, "row_mantissa": MANTISSA, "row_exponent": EXPONENT},
    )


def running_maximum_graph(types: SoftmaxTypes) -> Graph:
    """The largest score of a row so far."""

    def running_maximum(held: Value, beat_maximum: Value, first: Value) -> dict[str, Value]:
        return {"so_far": select(first | (held < beat_maximum), beat_maximum, held)}

    return trace(
        running_maximum,
        inputs={"held": types.score, "beat_maximum": types.score, "first": Bool},
        outputs={"so_far": types.score},
    )


def scale_graph(types: SoftmaxTypes) -> Graph:
    """The argument of every exponential. Nodes `distance_i`, `product_i`, `argument_i`.

    The shift of 2^10 d m to the right by 5 - x, 0 at least: beyond, every distance but 0 saturates anyway. After each
    stage of the shifter, bits that the rest of it cannot bring below 2^25 only say that the result saturates.
    """

    def scale(
        score: Vector, score_flags: Value, row_maximum: Value, mantissa: Value, exponent: Value
    ) -> dict[str, object]:
        amount = (5 - exponent).clamp(0, 5 - EXPONENT.range.low).named("amount")

        def argument(i: int) -> Value:
            distance = (row_maximum - score[i]).wrap(types.distance).named(f"distance_{i}")
            halves = (distance * mantissa).named(f"product_{i}") << 11
            for position in reversed(range(amount.type.width)):
                halves = select(amount[position], halves.shift_right(1 << position, "floor"), halves)
                halves = _saturated(halves, ARGUMENT.width + (1 << position))
            return _saturated(halves.shift_right(1, "half_up"), ARGUMENT.width).named(f"argument_{i}")

        return {"u": vector([argument(i) for i in range(types.lanes)]), "u_flags": score_flags}

    return trace(
        scale,
        inputs={
            "score": Vec(types.score, types.lanes),
            "score_flags": types.flags,
            "row_maximum": types.score,
            "mantissa": MANTISSA,
            "exponent": EXPONENT,
        },
        outputs={"u": Vec(ARGUMENT, types.lanes), "u_flags": types.flags},
    )


def exponential_graph(types: SoftmaxTypes) -> Graph:
    """exp(-u) of every lane, also of an invalid one. Nodes `multiple_i` (n), `rest_i` (r), `taylor_k_i`, `raised_i`."""

    def exponential(u: Vector, u_flags: Value) -> dict[str, object]:
        def lane(i: int) -> Value:
            n = (u[i] * LOG2_E).shift_right(40, "half_up").named(f"multiple_{i}")
            # r fits REMAINDER_BITS, so it is computed modulo 2^REMAINDER_BITS
            ln_2_times_n = (n * LN_2).shift_right(4, "floor").wrap(UInt(REMAINDER_BITS))
            u_in_place = u[i][: REMAINDER_BITS - 6] << 6
            r = (ln_2_times_n - u_in_place).wrap(SInt(REMAINDER_BITS)).named(f"rest_{i}")
            series = r * TAYLOR[-1]
            for k in reversed(range(len(TAYLOR) - 1)):
                a = (series.shift_right(26, "half_up") + TAYLOR[k]).named(f"taylor_{k}_{i}")
                series = a * r
            shifted = minimum(a, SEAM).shift_right(1, "floor").shift_right(n, "floor").shift_right(1, "half_up")
            return shifted.narrow(EXPONENTIAL).named(f"raised_{i}")

        return {"e": vector([lane(i) for i in range(types.lanes)]), "e_flags": u_flags}

    return trace(
        exponential,
        inputs={"u": Vec(ARGUMENT, types.lanes), "u_flags": types.flags},
        outputs={"e": Vec(EXPONENTIAL, types.lanes), "e_flags": types.flags},
    )


def lane_sum_graph(types: SoftmaxTypes) -> Graph:
    """The sum of the valid exponentials of a cycle. Nodes `sum_N_i` (N in that level)."""

    def lane_sum(e: Vector, e_flags: Value) -> dict[str, Value]:
        level = [select(e_flags[i], lane, 0) for i, lane in enumerate(e)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [(a + b).named(f"sum_{len(level) // 2}_{i}") for i, (a, b) in enumerate(pairs)]
        return {"partial": level[0], "row_end": e_flags[types.lanes]}

    return trace(
        lane_sum,
        inputs={"e": Vec(EXPONENTIAL, types.lanes), "e_flags": types.flags},
        outputs={"partial": types.partial, "row_end": Bool},
    )


def running_sum_graph(types: SoftmaxTypes) -> Graph:
    """The sum of a row so far; the sum of `context_keys` exponentials fits, each being 2^24 at most."""

    def running_sum(held: Value, partial: Value, first: Value) -> dict[str, Value]:
        return {"so_far": (select(first, 0, held) + partial).wrap(types.total)}

    return trace(
        running_sum,
        inputs={"held": types.total, "partial": types.partial, "first": Bool},
        outputs={"so_far": types.total},
    )


def reciprocal_graph(types: SoftmaxTypes) -> Graph:
    """R and t of a row. Nodes `divisor`, and for bit k of R: `trial_k`, `remainder_k`.

    With divisor D in [2^24, 2^25) and remainder_26 = 2^23 before the first step,
    trial_k = 2 remainder_(k+1) - D; bit k is trial_k >= 0, and then remainder_k = trial_k, else 2 remainder_(k+1).
    A row without a valid lane has the sum 0, which reads as 2^24: its probabilities are 0 by their exponentials.
    """

    def reciprocal(total: Value) -> dict[str, Value]:
        shift = total[EXPONENTIAL.width :].bit_length()
        divisor = (total.shift_right(shift, "floor")[: EXPONENTIAL.width - 1] | EXP_ONE).named("divisor")
        doubled: Value | int = EXP_ONE
        quotient: list[Value] = []
        for k in reversed(range(RECIPROCAL.width)):
            trial = (doubled - divisor).named(f"trial_{k}")
            below = trial[-1]
            remainder = select(below, doubled, trial).wrap(UInt(25)).named(f"remainder_{k}")
            quotient = [concat(~below, *quotient)]
            doubled = remainder << 1
        return {"inverse": quotient[0], "shift": shift}

    return trace(reciprocal, inputs={"total": types.total}, outputs={"inverse": RECIPROCAL, "shift": types.shift})


def normalize_graph(types: SoftmaxTypes) -> Graph:
    """The probability of every lane, 0 of an invalid one, and that of the row's largest score. Nodes `weighted_i`."""
    bits_of_one = EXP_ONE.bit_length() - 1

    def normalize(e: Vector, e_flags: Value, inverse: Value, shift: Value) -> dict[str, object]:
        def probability(shifted: Value) -> Value:
            halves = shifted.shift_right(shift, "floor")
            return _saturated(halves.shift_right(1, "half_up"), PROBABILITY.width)

        def lane(i: int) -> Value:
            weighted = (e[i] * inverse).named(f"weighted_{i}")
            return select(e_flags[i], probability(weighted.shift_right(36, "floor")), 0)

        peak = probability(inverse.shift_right(36 - bits_of_one, "floor")).named("largest")
        return {"prob": vector([lane(i) for i in range(types.lanes)]), "prob_flags": e_flags, "peak": peak}

    return trace(
        normalize,
        inputs={
            "e": Vec(EXPONENTIAL, types.lanes),
            "e_flags": types.flags,
            "inverse": RECIPROCAL,
            "shift": types.shift,
        },
        outputs={"prob": Vec(PROBABILITY, types.lanes), "prob_flags": types.flags, "peak": PROBABILITY},
    )
