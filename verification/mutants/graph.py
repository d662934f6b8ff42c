"""Mutants of a dataflow graph: faults of the arithmetic before scheduling and lowering.

| operator      | fault                                                                             |
| ------------- | --------------------------------------------------------------------------------- |
| operator      | an operation replaced by a near one (add/sub, mul by add, eq/lt, and/or/xor, ...)   |
| comparison    | `a < b` becomes `a <= b`, or `b < a`                                              |
| constant      | a constant one more, one less, or with one bit flipped                            |
| rounding      | half up becomes floor, or ceiling                                                 |
| narrowing     | a slice or wrap a bit higher, lower or narrower                                   |
| shift         | a constant shift one more or one less                                             |
| mux arms      | the arms of a choice swapped                                                      |
| concatenation | two neighbours of equal width swapped                                             |
| table         | one entry one more                                                                |

Every operation keeps the width that the design gave it: what no longer fits is cut, as a wire
would. Inputs and outputs keep their types, so that every check can run on a mutant.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import pyrtl

from hls.builder import Builder, rebuild
from hls.graph import Graph, Node
from hls.lower import lower
from hls.schedule import schedule
from hls.types import Range
from verification.mutants.netlist import Mutant

_NEAR = {
    "add": ("sub",),
    "sub": ("add",),
    "mul": ("add",),
    "and": ("or", "xor"),
    "or": ("and", "xor"),
    "xor": ("or", "and"),
    "eq": ("lt",),
    "lt": ("eq",),
    "reduce_and": ("reduce_or",),
    "reduce_or": ("reduce_and",),
    "reduce_xor": ("reduce_or",),
}
_Make = Callable[[Builder, Node, tuple[int, ...]], int]


def _fitted(builder: Builder, made: int, node: Node) -> int:
    """The result cut to the width and sign that the design gave the node."""
    if node.range.covers(builder.range(made)):
        return made
    if node.signed:
        return builder.op("wrap", made, attributes=(node.width_bits,))
    return builder.op("slice", made, attributes=(0, node.width_bits))


def _faithful(builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    """The node as designed, on arguments that may have changed."""
    if node.kind == "assume":
        return _fitted(builder, args[0], node)
    if node.kind == "table":
        bounded = builder.op("assume", args[0], within=Range(0, len(node.attributes) - 1))
        return _fitted(builder, builder.op("table", bounded, attributes=node.attributes), node)
    return _fitted(builder, builder.op(node.kind, *args, attributes=node.attributes), node)


def _as(kind: str, builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    width = max(builder.range(a).width_bits for a in args)
    attributes = (width,) if kind.startswith("reduce_") and kind != "reduce_or" else ()
    return builder.op(kind, *args, attributes=attributes)


def _swapped(first: int, second: int, builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    order = list(args)
    order[first], order[second] = order[second], order[first]
    return builder.op(node.kind, *order, attributes=node.attributes)


def _or_equal(builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    greater = builder.op("lt", args[1], args[0])
    return builder.op("not", greater, attributes=(1, 0))


def _with(attributes: tuple[int, ...], builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    return _faithful(builder, replace(node, attributes=attributes), args)


def _rounded(added: int, builder: Builder, node: Node, args: tuple[int, ...]) -> int:
    """The shift of `x + half`, given as `args`, with another constant in the place of the half."""
    half = builder.const(1 << (node.attributes[0] - 1))
    biased = builder.op("add", args[0], builder.const(added))
    return builder.op(node.kind, builder.op("sub", biased, half), attributes=node.attributes)


def _is_half(graph: Graph, node: Node) -> bool:
    """Whether a node is a shift to the right of something plus half of the last place."""
    if node.kind != "shift_right_const" or graph.nodes[node.args[0]].kind != "add":
        return False
    half = 1 << (node.attributes[0] - 1)
    return any(graph.nodes[a].range == Range(half, half) for a in graph.nodes[node.args[0]].args)


def _near(graph: Graph, node: Node) -> Iterator[tuple[str, str, _Make]]:
    for kind in _NEAR.get(node.kind, ()):
        yield "operator", f"{node.kind} becomes {kind}", partial(_as, kind)
    if node.kind == "neg":
        yield "operator", "sign change dropped", lambda builder, node, args: args[0]
    if node.kind == "not":
        yield "operator", "inversion dropped", lambda builder, node, args: args[0]
    if node.kind == "lt":
        yield "comparison", "< becomes <=", _or_equal
        yield "comparison", "operands swapped", partial(_swapped, 0, 1)
    if _is_half(graph, node):
        yield "rounding", "half up becomes floor", partial(_rounded, 0)
        yield "rounding", "half up becomes ceiling", partial(_rounded, (1 << node.attributes[0]) - 1)
    if node.kind == "mux":
        yield "mux arms", "arms swapped", partial(_swapped, 1, 2)


def _narrowings(graph: Graph, node: Node) -> Iterator[tuple[str, str, _Make]]:
    if node.kind == "slice":
        low, width = node.attributes
        yield "narrowing", "a bit higher", partial(_with, (low + 1, width))
        if low:
            yield "narrowing", "a bit lower", partial(_with, (low - 1, width))
    if node.kind in ("slice", "wrap") and node.attributes[-1] > 1:
        narrower = (*node.attributes[:-1], node.attributes[-1] - 1)
        yield "narrowing", "a bit narrower", partial(_with, narrower)
    if node.kind in ("shift_left_const", "shift_right_const"):
        for step in (1, -1):
            if node.attributes[0] + step >= 0:
                yield "shift", f"by {node.attributes[0] + step}", partial(_with, (node.attributes[0] + step,))
    if node.kind == "concat":
        for i in range(len(node.args) - 1):
            if node.attributes[i] == node.attributes[i + 1] and node.args[i] != node.args[i + 1]:
                yield "concatenation", f"parts {i} and {i + 1} swapped", partial(_swapped, i, i + 1)
    if node.kind == "table":
        for i, entry in enumerate(node.attributes):
            changed = (*node.attributes[:i], entry + 1, *node.attributes[i + 1 :])
            yield "table", f"entry {i} = {entry} becomes {entry + 1}", partial(_with, changed)


def _constants(graph: Graph, index: int) -> Iterator[tuple[str, Graph]]:
    node = graph.nodes[index]
    value = node.range.low
    others = [value + 1, value - 1] + [value ^ (1 << bit) for bit in range(max(1, value.bit_length()))]
    for other in dict.fromkeys(others):
        changed = replace(node, range=Range(other, other))
        yield (
            f"{value} becomes {other}",
            replace(graph, nodes=(*graph.nodes[:index], changed, *graph.nodes[index + 1 :])),
        )


def _mutated(graph: Graph, index: int, make: _Make) -> Graph:
    """The graph rebuilt with `make` in the place of one operation (none: index -1)."""
    following = (i for i, node in enumerate(graph.nodes) if node.kind not in ("input", "const"))

    def replaced(builder: Builder, node: Node, args: tuple[int, ...]) -> int:
        here = next(following)
        made = make(builder, node, args) if here == index else _faithful(builder, node, args)
        return _fitted(builder, made, node)

    return rebuild(graph, replaced)


@dataclass(frozen=True)
class _NoDelay:
    """A technology in which everything takes no time; it is its own flip-flop and cost."""

    delay_ps: int = 0
    setup_ps: int = 0
    clock_to_q_ps: int = 0
    clock_uncertainty_ps: int = 0

    @property
    def flip_flop(self) -> "_NoDelay":
        return self

    def cost(self, kind: str, in_bits: tuple[int, ...], out_bits: int, **attributes: int) -> "_NoDelay":
        return self


def combinational(graph: Graph) -> pyrtl.Block:
    """The graph lowered without registers: ports and handshake of `hls.lower`, latency 0.

    The lowering for function checks on mutants: a fault cannot show by a change of latency alone.
    """
    return lower(schedule(graph, _NoDelay(), clock_period_ps=1, output_register=False)).block


def graph_mutants(graph: Graph, lowering: Callable[[Graph], pyrtl.Block] = combinational) -> list[Mutant]:
    """All mutants of a graph; `lowering` makes of one the block that the checks take."""
    mutants = []
    for index, node in enumerate(graph.nodes):
        where = graph.label(index)
        if node.kind == "const":
            for what, faulty in _constants(graph, index):
                mutants.append(Mutant("constant", where, what, partial(_lowered, lowering, faulty, -1, _faithful)))
            continue
        for operator, what, make in (*_near(graph, node), *_narrowings(graph, node)):
            mutants.append(Mutant(operator, where, what, partial(_lowered, lowering, graph, index, make)))
    return mutants


def _lowered(lowering: Callable[[Graph], pyrtl.Block], graph: Graph, index: int, make: _Make) -> pyrtl.Block:
    return lowering(_mutated(graph, index, make))
