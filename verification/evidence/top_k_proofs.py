"""Proofs about the top-k engine: the invariant of quick-select, its parts at full size, and its control.

The invariant: the k-th largest T of the input is the target-th largest of the live candidates,

    above < target <= reach      above = #{candidates > T}, reach = #{candidates >= T}

It holds when a request begins (target = k, all items are candidates). A pass keeps it: `prove_row` shows of any row,
any pivot and any T how smaller, larger and equal candidates relate to above and reach, and these relations add up over
rows; `prove_decide` shows, of any totals that are so related, that what the engine's own `decide` makes of them keeps
the invariant, or that the pivot is T and num_eq = target - above; and that fewer candidates are left. So a request of n
items ends after at most n passes, with the right T and num_eq.
"""

from functools import reduce

import numpy as np
import pyrtl
from numpy.typing import NDArray

from hls.datapaths.top_k_graphs import TopKPlan
from hls.lower import building, instantiate, lower
from hls.schedule import Schedule
from verification.equivalence.bits import Bits, choose, concatenate, conjunction, total
from verification.equivalence.exhaustive import exhaust
from verification.equivalence.function import prove
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, Target
from verification.equivalence.sequential import Environment, Invariant, Signals, prove_by_induction
from verification.equivalence.verdict import Verdict
from verification.evidence.stream_contracts import implies, now
from verification.results import Settings

Integers = NDArray[np.int64]


def whole(schedule: Schedule) -> pyrtl.Block:
    """A part of one cycle as a block of wires."""
    return lower(schedule).block


def decide_block(made: TopKPlan) -> pyrtl.Block:
    """`decide`, beside free inputs: where the pivot lies (`higher` or `lower` than T, or neither), `above`, `reach`.

    `above` and `reach` count, among the smaller candidates (pivot higher) or the larger ones (pivot lower), where T is.
    """
    block = pyrtl.Block()
    with building(block):
        bits = made.types.count.width
        ports = {name: pyrtl.Input(bits, name) for name in ("smaller", "larger", "equal", "target")}
        outputs = instantiate(made.one_cycle["decide"], ports, block, prefix="decide_").outputs
        for name, wire in outputs.items():
            port = pyrtl.Output(len(wire), name)
            port <<= wire
        for name, width in (("above", bits), ("reach", bits), ("higher", 1), ("lower", 1)):
            pyrtl.Input(width, name)
    return block


def decide_claims(made: TopKPlan) -> tuple[tuple[Invariant, ...], Environment]:
    """What `decide` must do, and what is known of the totals."""
    bits, capacity, lanes = made.types.count.width + 2, made.types.capacity, made.types.lanes

    def wide(s: Signals, *names: str) -> list[Bits]:
        return [s[name].zext(bits) for name in names]

    def known(s: Signals) -> Bits:
        smaller, larger, equal, target, above, reach = wide(s, "smaller", "larger", "equal", "target", "above", "reach")
        at, upper = ~s["higher"] & ~s["lower"], larger + equal
        return conjunction(
            [
                smaller + upper <= capacity,
                equal >= 1,
                target >= 1,
                target <= smaller + upper,
                ~(s["higher"] & s["lower"]),
                # of all candidates, larger + equal + above are above T, larger + equal + reach at least T
                implies(s["higher"], (target > upper) & (above < target - upper) & (target - upper <= reach)),
                implies(s["higher"], reach <= smaller),
                implies(s["lower"], (above < target) & (target <= reach) & (reach <= larger)),
                implies(at, (larger < target) & (target <= upper)),
            ]
        )

    def holds(s: Signals) -> Bits:
        above, reach, target, count = wide(s, "above", "reach", "next_target", "next_count")
        return (above < target) & (target <= reach) & (reach <= count)

    def found_where_it_is(s: Signals) -> Bits:
        return s["found"] == (~s["higher"] & ~s["lower"])

    def found_right(s: Signals) -> Bits:
        target, larger, equal, num_equal = wide(s, "target", "larger", "equal", "num_equal")
        return implies(s["found"], (num_equal == target - larger) & (num_equal >= 1) & (num_equal <= equal))

    def goes_up(s: Signals) -> Bits:
        return implies(s["lower"], s["up"] & holds(s))

    def goes_down(s: Signals) -> Bits:
        return implies(s["higher"], ~s["up"] & holds(s))

    def fewer(s: Signals) -> Bits:
        smaller, larger, equal, left = wide(s, "smaller", "larger", "equal", "next_count")
        return implies(~s["found"], (left < smaller + larger + equal) & (left >= 1))

    def shaped(s: Signals) -> Bits:
        left, rows = wide(s, "next_count", "next_row_count")
        needed = (left + (lanes - 1)).shifted_right(made.types.lane_bits)
        in_last = left - (needed - 1).shifted_left(made.types.lane_bits)
        used = [s["next_rest_lanes"][i] == (in_last > i) for i in range(lanes)]
        return implies(~s["found"], (rows == needed) & conjunction(used))

    claims = (
        now("found exactly where the pivot is the threshold", found_where_it_is),
        now("num_eq is what is left of the target", found_right),
        now("a pivot below the threshold leads up and keeps the invariant", goes_up),
        now("a pivot above the threshold leads down and keeps the invariant", goes_down),
        now("fewer candidates are left, and at least one", fewer),
        now("rows and lanes of what is left", shaped),
    )
    return claims, Environment(assume=known)


def prove_decide(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The step of the invariant, for all totals."""
    claims, environment = decide_claims(made)
    return prove_by_induction(block, claims, environment=environment, limits=settings.limits, folder=settings.folder)


def row_block(made: TopKPlan) -> pyrtl.Block:
    """A row through `partition` and the three tallies (as wires), beside a free `threshold`."""
    block, types = pyrtl.Block(), made.types
    tally = _combinational(made.candidate_tally)
    with building(block):
        ports = {
            "value": pyrtl.Input(types.lanes * types.value.width, "value"),
            "valid": pyrtl.Input(types.lanes, "valid"),
            "pivot": pyrtl.Input(types.value.width, "pivot"),
        }
        pyrtl.Input(types.value.width, "threshold")
        masks = instantiate(made.one_cycle["partition"], ports, block, prefix="partition_").outputs
        for side, mask in masks.items():
            count = instantiate(tally, {"mask": mask}, block, prefix=f"{side}_tally_").outputs["set_lanes"]
            for name, wire in ((side, mask), (f"{side}_tally", count)):
                port = pyrtl.Output(len(wire), name)
                port <<= wire
    return block


def _combinational(made: Schedule) -> Schedule:
    """The same graph in one stage without registers: what it computes does not depend on its stages."""
    stages = (0,) * len(made.stages)
    return Schedule(
        made.graph, made.clock_period_ps, made.overhead_ps, made.delays_ps, stages, 1, output_register=False
    )


def row_claims(made: TopKPlan) -> tuple[Invariant, ...]:
    """How a row's masks and tallies relate to its numbers of values above T, and of at least T."""
    types = made.types
    lanes, width, bits = types.lanes, types.value.width, types.lane_count.width + 2

    def values(s: Signals) -> list[Bits]:
        return [s["value"][i * width : (i + 1) * width] for i in range(lanes)]

    def masks(s: Signals) -> Bits:
        right = []
        for i, value in enumerate(values(s)):
            for side, holds in (
                ("smaller", value < s["pivot"]),
                ("larger", value > s["pivot"]),
                ("equal", value == s["pivot"]),
            ):
                right.append(s[side][i] == (s["valid"][i] & holds))
        return conjunction(right)

    def tallied(s: Signals) -> Bits:
        sides = ("smaller", "larger", "equal")
        return conjunction(
            [s[f"{side}_tally"].zext(bits) == total([s[side][i] for i in range(lanes)], bits) for side in sides]
        )

    def related(s: Signals) -> Bits:
        """Lane by lane, which is what adds up to the relations that `decide_claims` assumes."""
        higher, lower = s["pivot"] > s["threshold"], s["pivot"] < s["threshold"]
        right = []
        for i, value in enumerate(values(s)):
            above, reach = s["valid"][i] & (value > s["threshold"]), s["valid"][i] & (value >= s["threshold"])
            right += [
                implies(higher & (s["larger"][i] | s["equal"][i]), above),
                implies(lower & reach, s["larger"][i]),
                implies(~higher & ~lower, (above == s["larger"][i]) & (reach == (s["larger"][i] | s["equal"][i]))),
            ]
        return conjunction(right)

    return (
        now("each valid lane is on its side of the pivot", masks),
        now("tallies count lanes", tallied),
        now("lanes above the threshold and on each side", related),
    )


def prove_row(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """`row_claims`, for every row, pivot and threshold."""
    return prove_by_induction(block, row_claims(made), limits=settings.limits, folder=settings.folder)


def prove_compare(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The filter's comparison of a row."""
    types = made.types
    lanes, width, bits = types.lanes, types.value.width, types.lane_count.width

    def compare(op: Operands) -> dict[Target, Bits]:
        values = [op["value"][i * width : (i + 1) * width] for i in range(lanes)]
        equal = [op["valid"][i] & (v == op["threshold"]) for i, v in enumerate(values)]
        above = [op["valid"][i] & (v > op["threshold"]) for i, v in enumerate(values)]
        none = op.constant(0, bits)
        ahead = [total([none, *equal[:i]], bits) for i in range(lanes)]
        return {
            "above": concatenate(*reversed(above)),
            "equal": concatenate(*reversed(equal)),
            "ahead": concatenate(*[a[: types.ahead.width] for a in reversed(ahead)]),
            "row_equal": total([none, *equal], bits),
        }

    return prove(Problem("compare", block, compare), limits=settings.limits, folder=settings.folder)


def prove_admit(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """What the filter admits of a row, and what is left for the next."""
    types = made.types
    lanes, bits, wide = types.lanes, types.ahead.width, types.count.width

    def admit(op: Operands) -> dict[Target, Bits]:
        ahead = [op["ahead"][i * bits : (i + 1) * bits].zext(wide) for i in range(lanes)]
        kept = [op["above"][i] | (op["equal"][i] & (a < op["remaining"])) for i, a in enumerate(ahead)]
        here = op["row_equal"].zext(wide)
        left = choose(op["remaining"] > here, op["remaining"] - here, op.constant(0, wide))
        return {"kept": concatenate(*reversed(kept)), "next_remaining": left}

    def counted(op: Operands) -> Bits:
        return reduce(lambda a, b: a & b, [op["ahead"][i * bits : (i + 1) * bits] <= i for i in range(lanes)])

    problem = Problem("admit", block, admit, assume=counted)
    return prove(problem, limits=settings.limits, folder=settings.folder)


def prove_pivot_row(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """(lfsr[15:8] * rows) >> 8, for every state and number of rows."""

    def row(v: "dict[str, Integers]") -> dict[Target, Integers]:
        return {"row": (v["lfsr"] // 256 * v["row_count"]) // 256 % (1 << made.types.address.width)}

    problem = Problem(
        "pivot row",
        block,
        IntegerSpecification(row, ("lfsr", "row_count"), ("row",)),  # type: ignore[arg-type]
        assume=lambda op: op["row_count"] <= made.types.rows,
    )
    return exhaust(problem, folder=settings.folder)


def prove_pivot_lane(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """(lfsr[7:0] * valid lanes) >> 8, for every state, last row or full."""

    def lane(v: "dict[str, Integers]") -> dict[Target, Integers]:
        valid = np.where((v["is_last"] == 1) & (v["rest"] > 0), v["rest"], made.types.lanes)
        return {"lane": (v["lfsr"] % 256 * valid) // 256}

    problem = Problem(
        "pivot lane",
        block,
        IntegerSpecification(lane, ("lfsr", "rest", "is_last"), ("lane",)),  # type: ignore[arg-type]
    )
    return exhaust(problem, folder=settings.folder)
