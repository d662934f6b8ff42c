"""Splits operators that are slower than a clock cycle into parts that pipeline.

    a * b           = ((a >> k) * b << k) + (a mod 2^k) * b          a the wider operand, k half its bits
    a + b, a - b    = concat of the low half and the high half with the carry between them
    a < b           = high(a) < high(b), or equal and low(a) < low(b)
    x << n, x >> n  = one mux for every bit of n

The parts are split again while they are too slow. Each rewriting is exact on all integers, so the rewritten
graph has the same meaning; the range of the original node is kept for the last part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from hls.builder import Builder, rebuild
from hls.graph import Graph, Node
from hls.types import Range

DelayOf: TypeAlias = Callable[[str, tuple[int, ...], int, tuple[int, ...]], int]
"""Delay in ps from (kind, widths of arguments, width of result, attributes)."""

_SMALLEST_PART_BITS = 4


def decompose(graph: Graph, delay_of: DelayOf, budget_ps: int) -> Graph:
    """The graph with every operator slower than `budget_ps` split, as far as it can be."""

    def slow(builder: Builder, node: Node, args: tuple[int, ...]) -> bool:
        widths = tuple(builder.range(arg).width_bits for arg in args)
        return delay_of(node.kind, widths, node.width_bits, node.attributes) > budget_ps

    def replace(builder: Builder, node: Node, args: tuple[int, ...]) -> int:
        parts = _PARTS.get(node.kind)
        if parts is None or not slow(builder, node, args):
            return builder.op(node.kind, *args, attributes=node.attributes, within=node.range)

        def part(kind: str, *part_args: int, within: Range | None = None) -> int:
            """A node of the decomposition, itself split if it is still too slow."""
            probe = builder.op(kind, *part_args, within=within)
            if builder.kind(probe) != kind or kind not in _PARTS:
                return probe
            return replace(builder, Node(kind, part_args, builder.range(probe)), part_args)

        whole = parts(builder, part, args, node.range)
        if whole is None:
            return builder.op(node.kind, *args, attributes=node.attributes, within=node.range)
        return whole

    if all(
        delay_of(n.kind, tuple(graph.nodes[a].width_bits for a in n.args), n.width_bits, n.attributes) <= budget_ps
        for n in graph.nodes
        if n.kind in _PARTS
    ):
        return graph
    return rebuild(graph, replace)


_Part: TypeAlias = Callable[..., int]
_Split: TypeAlias = Callable[[Builder, _Part, tuple[int, ...], Range], int | None]


def _low(builder: Builder, node: int, bits: int) -> int:
    return builder.op("slice", node, attributes=(0, bits))


def _high(builder: Builder, node: int, bits: int) -> int:
    return builder.op("shift_right_const", node, attributes=(bits,))


def _join(builder: Builder, high: int, low: int, bits: int, within: Range) -> int:
    """`high * 2^bits + low` for low in [0, 2^bits): wiring."""
    width = builder.range(high).width_bits
    if builder.range(high).low >= 0:
        return builder.op("concat", low, high, attributes=(bits, width), within=within)
    joined = builder.op("concat", low, high, attributes=(bits, width))
    return builder.op("wrap", joined, attributes=(bits + width,), within=within)


def _split_mul(builder: Builder, part: _Part, args: tuple[int, ...], range_: Range) -> int | None:
    a, b = sorted(args, key=lambda arg: builder.range(arg).width_bits)[::-1]
    width = builder.range(a).width_bits
    if width <= _SMALLEST_PART_BITS:
        return None
    bits = width // 2
    high = part("mul", _high(builder, a, bits), b)
    low = part("mul", _low(builder, a, bits), b)
    # the low bits of the lower product pass by the adder
    upper = part("add", high, _high(builder, low, bits), within=Range(range_.low >> bits, range_.high >> bits))
    return _join(builder, upper, _low(builder, low, bits), bits, range_)


def _split_add(builder: Builder, part: _Part, args: tuple[int, ...], range_: Range) -> int | None:
    width = max(builder.range(arg).width_bits for arg in args)
    if width <= _SMALLEST_PART_BITS:
        return None
    bits = width // 2
    a, b = args
    low = part("add", _low(builder, a, bits), _low(builder, b, bits))
    carry = _high(builder, low, bits)
    high = part("add", part("add", _high(builder, a, bits), _high(builder, b, bits)), carry)
    return _join(builder, high, _low(builder, low, bits), bits, range_)


def _split_sub(builder: Builder, part: _Part, args: tuple[int, ...], range_: Range) -> int | None:
    width = max(builder.range(arg).width_bits for arg in args)
    if width <= _SMALLEST_PART_BITS:
        return None
    bits = width // 2
    a, b = args
    low = part("sub", _low(builder, a, bits), _low(builder, b, bits))
    borrow = _high(builder, low, bits)  # 0 or -1
    high = part("add", part("sub", _high(builder, a, bits), _high(builder, b, bits)), borrow)
    return _join(builder, high, _low(builder, low, bits), bits, range_)


def _split_lt(builder: Builder, part: _Part, args: tuple[int, ...], _: Range) -> int | None:
    width = max(builder.range(arg).width_bits for arg in args)
    if width <= _SMALLEST_PART_BITS:
        return None
    bits = width // 2
    a, b = args
    high_a, high_b = _high(builder, a, bits), _high(builder, b, bits)
    low = part("lt", _low(builder, a, bits), _low(builder, b, bits))
    tie = builder.op("and", builder.op("eq", high_a, high_b), low)
    return builder.op("or", part("lt", high_a, high_b), tie)


def _split_shift(kind: str) -> _Split:
    """One mux for each bit of the amount: the narrow shifts first to the left, the wide ones first to the right."""

    def split(builder: Builder, _: _Part, args: tuple[int, ...], range_: Range) -> int:
        value, amount = args
        positions = range(builder.range(amount).width_bits)
        order = list(positions if kind == "shift_left" else reversed(positions))
        for position in order:
            bit = builder.op("slice", amount, attributes=(position, 1))
            shifted = builder.op(f"{kind}_const", value, attributes=(1 << position,))
            within = range_ if position == order[-1] else None
            value = builder.op("mux", bit, shifted, value, within=within)
        return value

    return split


_PARTS: dict[str, _Split] = {
    "mul": _split_mul,
    "add": _split_add,
    "sub": _split_sub,
    "lt": _split_lt,
    "shift_left": _split_shift("shift_left"),
    "shift_right": _split_shift("shift_right"),
}
