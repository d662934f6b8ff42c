"""The dataflow graph of a datapath, and how to write one.

Tutorial
--------
A datapath is a plain function over annotated values; `hls.trace.trace` runs it once on symbols::

    from typing import Annotated
    from hls.trace import Bool, SInt, Value, Vec, Vector, evaluate, select, trace

    def dot(
        query: Annotated[Vector, Vec(SInt(12), 64)],
        key: Annotated[Vector, Vec(SInt(12), 64)],
        clear: Annotated[Value, Bool],
    ) -> Annotated[Value, SInt(12)]:
        score = (query * key).sum().named("score")  # exact: grows to SInt(30), balanced tree
        score = select(clear, 0, score)             # `if clear:` would raise and say so
        return score.shift_right(6, "half_up").saturate(SInt(12))

    graph = trace(dot)
    evaluate(graph, {"query": [1] * 64, "key": [2] * 64, "clear": 0})      # {"out": 2}
    plan = schedule(graph, technology, clock_period_ps=1000)               # hls.schedule
    netlist = lower(plan)                                                  # hls.lower, ready/valid
    with open_simulator(netlist) as simulator: ...                         # hls.simulate

Nodes
-----
Every node is a function on unbounded integers; the interval of its results is known and gives its width:
`smallest_type(node.range)`. The binary point lives in the traced values and port types only. Kinds:

    input const                                          arithmetic  add sub mul neg
    comparison  eq lt                                    choice      mux(condition, if_true, if_false) table
    shifts      shift_left(x, n) shift_right(x, n)       bits        and or xor not(width, signed)
    reductions  reduce_and(width) reduce_or reduce_xor(width)
    wiring      shift_left_const(n) shift_right_const(n) slice(lsb, width) wrap(width) concat(widths)
                assume

`shift_right*` rounds to minus infinity. `slice` is unsigned, `wrap` is the signed reading of the low bits;
`concat` takes the first argument as the least significant. `assume` is the identity with a range claimed by
the author: the evaluator checks it, the netlist relies on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hls.types import Range, Type

WIRING = frozenset({"input", "const", "shift_left_const", "shift_right_const", "slice", "wrap", "concat", "assume"})
COMMUTATIVE = frozenset({"add", "mul", "eq", "and", "or", "xor"})


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: `kind` on the results of the nodes `args`, with the range of what comes out."""

    kind: str
    args: tuple[int, ...]
    range: Range
    attributes: tuple[int, ...] = ()
    name: str = ""

    @property
    def width_bits(self) -> int:
        """Bits of the result."""
        return self.range.width_bits

    @property
    def signed(self) -> bool:
        """Whether the result has a sign bit."""
        return self.range.low < 0


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output: its type and the node of each scalar, element 0 first."""

    name: str
    type: Type
    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """An immutable dataflow graph; `nodes` are in topological order, arguments before users."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def label(self, index: int) -> str:
        """How messages and reports call a node: its name, or kind and number."""
        node = self.nodes[index]
        return node.name or f"{node.kind}_{index}"

    def count(self) -> dict[str, int]:
        """How many nodes there are of each kind."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            counts[node.kind] = counts.get(node.kind, 0) + 1
        return dict(sorted(counts.items()))

    def assumptions(self) -> Iterator[tuple[int, Range]]:
        """The ranges that the author claims inside the graph, to be proved elsewhere: (node, range)."""
        return ((i, node.range) for i, node in enumerate(self.nodes) if node.kind == "assume")
