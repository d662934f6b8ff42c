"""What one lane of the softmax computes (algorithm page, section 7), written on bit-vectors and on integers.

A product is the sum of the products of its operands' halves, twice over: the law of distributivity is taken for
granted, and so are the products of the quarters (up to 16 x 9 bits); solvers prove neither.
"""

from collections.abc import Callable

import numpy as np
import pyrtl
import torch

from hls import technology
from hls.datapaths.softmax_arithmetic import ARGUMENT, EXP_ONE, PROBABILITY, SoftmaxTypes
from hls.graph import Graph
from hls.schedule import schedule
from models.config import AcceleratorConfig
from models.reference.softmax import exponential as reference_exponential
from verification.equivalence.bits import Bits, choose, concatenate
from verification.equivalence.problem import IntegerSpecification, Operands, Specification, Target
from verification.evidence.shared import combinational
from verification.ports import Integers

Claims = dict[Target, Bits]
_LEVELS = 2


def long_product(a: Bits, b: Bits, levels: int = _LEVELS) -> Bits:
    """The exact product a b as the sum of the products of halves of the wider operand, `levels` times over.

    The low bits of the lower product pass by the adder, as in long multiplication by hand.
    """
    width = a.width + b.width
    if not levels:
        wide = 2 * max(a.width, b.width)
        return (a.zext(wide) * b.zext(wide))[:width]
    wider, other = (a, b) if a.width > b.width else (b, a)
    half = wider.width // 2
    high, low = long_product(wider[half:], other, levels - 1), long_product(wider[:half], other, levels - 1)
    return concatenate(high + low[half:].zext(high.width), low[:half])


def _limited(value: Bits, bits: int) -> Bits:
    """min(value, 2^bits - 1)."""
    return choose(value[bits:].any(), value.constant((1 << bits) - 1, bits), value[:bits])


def argument(product: Bits, exponent: Bits) -> Bits:
    """Step 3: u is rshift(product, k) for k = -(x + 5), at most 2^25 - 1."""
    x = exponent.sext(9)
    k = -(x + 5)
    right = k.signed_below(k.constant(1, 9)) ^ 1  # k > 0
    wide = product.zext(product.width + 60)
    half = wide.constant(1, wide.width).shifted_left(k - 1)
    rounded = (wide + half).shifted_right(k)
    # to the left by more than 25, any product but 0 is above the limit
    distance = choose((-k) < 26, -k, k.constant(26, 9))
    return _limited(choose(right, rounded, wide.shifted_left(distance)), ARGUMENT.width)


def probability(weighted: Bits, shift: Bits) -> Bits:
    """Step 8: min(4095, rshift(e R, 37 + t))."""
    wide = weighted.zext(64)
    amount = shift.zext(64) + 37
    half = wide.constant(1, 64).shifted_left(amount - 1)
    return _limited((wide + half).shifted_right(amount), PROBABILITY.width)


def integer_exponential(u: Integers) -> Integers:
    """Steps 4 to 6 on integers: e; AssertionError where the reference, or the bound 2^24 on e, disagrees."""
    n = (u * 1_512_775 + (1 << 39)) // (1 << 40)
    r = n * 744_261_118 // 16 - 64 * u
    a = np.full_like(u, 559_241)
    for coefficient in (2_796_203, 11_184_811, 33_554_432, 67_108_864, 67_108_864):
        a = coefficient + (a * r + (1 << 25)) // (1 << 26)
    a = np.minimum(a, 94_905_202)
    divisor = np.int64(1) << (2 + np.minimum(n, 40))
    e = np.where(n > 40, 0, (a + divisor // 2) // divisor)
    if not np.array_equal(e, reference_exponential(torch.from_numpy(u)).numpy()) or int(e.max(initial=0)) > 1 << 24:
        raise AssertionError("the exponential on integers, the reference's and its bound do not agree")
    return e


def single_lane(config: AcceleratorConfig, part: Callable[[SoftmaxTypes], Graph]) -> pyrtl.Block:
    """A part of one lane without registers, with operators split as in the pipeline."""
    return combinational(
        schedule(part(SoftmaxTypes.of_lanes(config, 1)), technology.load(), config.clock_period_ps).graph
    )


def exponential_of_a_lane() -> IntegerSpecification:
    """Of `single_lane(config, exponential_graph)`."""
    return IntegerSpecification(lambda v: {"e": integer_exponential(v["u"])}, ("u",), ("e",))


def argument_of_a_lane(*, nodes: bool = True) -> Specification:
    """Of `single_lane(config, scale_graph)` for a normalized m; `nodes`: node by node, as the netlist names them."""

    def specification(operands: Operands) -> Claims:
        width = operands["score"].width
        # between scores of one row and their maximum, no difference leaves the bits of a distance
        distance = (operands["row_maximum"].sext(width + 1) - operands["score"].sext(width + 1))[:width]
        if nodes:
            distance = operands.cut("distance_0", distance)
        product = long_product(distance, operands["mantissa"])
        if nodes:
            product = operands.cut("product_0", product, fact=lambda v: (v == 0) | (v >= 1 << 15))
        return {"u": argument(product, operands["exponent"])}

    return specification


def probability_of_a_lane(*, nodes: bool = True) -> Specification:
    """Of `single_lane(config, normalize_graph)`; `nodes` as in `argument_of_a_lane`."""

    def specification(operands: Operands) -> Claims:
        weighted = long_product(operands["inverse"], operands["e"])
        if nodes:
            weighted = operands.cut("weighted_0", weighted)
        prob = probability(weighted, operands["shift"])
        largest = probability(
            concatenate(operands["inverse"], operands.constant(0, EXP_ONE.bit_length() - 1)), operands["shift"]
        )
        return {"prob": choose(operands["e_flags"][0], prob, prob.constant(0)), "peak": largest}

    return specification
