"""Builds dataflow graphs: range analysis, constant folding, common subexpressions, dead code.

`Builder.op` is the only way nodes come to be. It derives the range of the result by interval arithmetic,
returns an existing node for an expression already built, and folds what the ranges decide: a result of one
possible value is a constant, a comparison of disjoint ranges is decided, a product by a power of two is wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hls.evaluate import MEANING
from hls.graph import COMMUTATIVE, Graph, Node, Port
from hls.types import HlsError, Range


def _corners(a: Range, b: Range, f: Callable[[int, int], int]) -> Range:
    values = [f(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Range(min(values), max(values))


def _bits_range(width: int, signed: bool) -> Range:
    return Range(-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else Range(0, (1 << width) - 1)


def _bitwise(a: Range, b: Range) -> Range:
    signed = a.low < 0 or b.low < 0
    return _bits_range(max(r.width_bits + (signed and r.low >= 0) for r in (a, b)), signed)


def _slice_range(a: Range, lsb: int, width: int) -> Range:
    low, high, full = a.low >> lsb, a.high >> lsb, _bits_range(width, False)
    return Range(low, high) if low >= 0 and high <= full.high else full


def _wrap_range(a: Range, width: int) -> Range:
    full = _bits_range(width, True)
    return a if full.covers(a) else full


def _not_range(a: Range, width: int, signed: int) -> Range:
    return Range(~a.high, ~a.low) if signed else Range(*((1 << width) - 1 - x for x in (a.high, a.low)))


def _lt_range(a: Range, b: Range) -> Range:
    return Range(int(a.high < b.low), int(a.low < b.high))


def _eq_range(a: Range, b: Range) -> Range:
    return Range(int(a == b and a.low == a.high), int(a.low <= b.high and b.low <= a.high))


def result_range(kind: str, args: Sequence[Range], attributes: tuple[int, ...]) -> Range:
    """The integers that `kind` can give on arguments in the ranges `args`."""
    a = args[0]
    b = args[1] if len(args) > 1 else a
    match kind:
        case "add":
            return Range(a.low + b.low, a.high + b.high)
        case "sub":
            return Range(a.low - b.high, a.high - b.low)
        case "mul":
            return _corners(a, b, lambda x, y: x * y)
        case "neg":
            return Range(-a.high, -a.low)
        case "eq":
            return _eq_range(a, b)
        case "lt":
            return _lt_range(a, b)
        case "mux":
            return args[1].union(args[2])
        case "table":
            reachable = attributes[a.low : a.high + 1]
            return Range(min(reachable), max(reachable))
        case "shift_left":
            return _corners(a, b, lambda x, y: x << y)
        case "shift_right":
            return _corners(a, b, lambda x, y: x >> y)
        case "shift_left_const":
            return Range(a.low << attributes[0], a.high << attributes[0])
        case "shift_right_const":
            return Range(a.low >> attributes[0], a.high >> attributes[0])
        case "and" if a.low >= 0 or b.low >= 0:
            return Range(0, min(r.high for r in (a, b) if r.low >= 0))
        case "and" | "or" | "xor":
            return _bitwise(a, b)
        case "not":
            return _not_range(a, *attributes)
        case "reduce_or":
            return Range(int(0 not in a), int(a != Range(0, 0)))
        case "reduce_and" | "reduce_xor":
            return Range(0, 1)
        case "slice":
            return _slice_range(a, *attributes)
        case "wrap":
            return _wrap_range(a, attributes[0])
        case "concat":
            return Range(0, (1 << sum(attributes)) - 1)
    raise HlsError(f"unknown node kind {kind!r}")


class Builder:
    """A graph under construction; node numbers index it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Node] = []
        self._names: dict[int, str] = {}
        self._index: dict[tuple[object, ...], int] = {}

    def range(self, node: int) -> Range:
        """The range of a node."""
        return self._nodes[node].range

    def kind(self, node: int) -> str:
        """The kind of a node."""
        return self._nodes[node].kind

    def input(self, range_: Range) -> int:
        """A new input of the given range."""
        self._nodes.append(Node("input", (), range_))
        return len(self._nodes) - 1

    def const(self, value: int) -> int:
        """The constant `value`."""
        return self._intern("const", (), Range(value, value), ())

    def set_name(self, node: int, name: str) -> None:
        """Name a node for messages, waveforms and Verilog; the first name of a node stays."""
        self._names.setdefault(node, name)

    def op(self, kind: str, *args: int, attributes: tuple[int, ...] = (), within: Range | None = None) -> int:
        """A node of the given kind, folded where possible; `within` is a range the caller has proved."""
        ranges = [self._nodes[arg].range for arg in args]
        if kind == "assume":
            assert within is not None
            if within.covers(ranges[0]):
                return args[0]
            return self._intern(kind, args, ranges[0].intersect(within), ())
        range_ = result_range(kind, ranges, attributes)
        if within is not None:
            range_ = range_.intersect(within)
        if range_.low == range_.high:
            return self.const(range_.low)
        if all(r.low == r.high for r in ranges):
            return self.const(MEANING[kind]([r.low for r in ranges], attributes))
        folded = self._fold(kind, args, ranges, attributes)
        if folded is not None:
            return folded
        if kind in COMMUTATIVE and args[0] > args[1]:
            args = (args[1], args[0])
        return self._intern(kind, args, range_, attributes)

    def _fold(self, kind: str, args: tuple[int, ...], ranges: list[Range], attributes: tuple[int, ...]) -> int | None:
        """An existing or simpler node that computes the same, if one of the identities applies."""
        constants = [r.low if r.low == r.high else None for r in ranges]
        match kind:
            case "add" | "sub" | "or" | "xor" | "shift_left" | "shift_right" if constants[1] == 0:
                return args[0]
            case "add" | "or" | "xor" if constants[0] == 0:
                return args[1]
            case "sub" if constants[0] == 0:
                return self.op("neg", args[1])
            case "mul":
                return self._fold_mul(args, constants)
            case "and":
                return self._fold_and(args, ranges, constants)
            case "eq" if args[0] == args[1]:
                return self.const(1)
            case "lt" | "xor" | "sub" if args[0] == args[1]:
                return self.const(0)
            case "mux" if constants[0] is not None:
                return args[1] if constants[0] else args[2]
            case "mux" if args[1] == args[2]:
                return args[1]
            case "mux" if constants[1:] == [1, 0]:
                return args[0]
            case "shift_left" | "shift_right" if constants[1] is not None:
                return self.op(kind + "_const", args[0], attributes=(constants[1],))
            case "shift_left_const" | "shift_right_const" if attributes[0] == 0:
                return args[0]
            case "slice" if attributes[0] == 0 and Range(0, (1 << attributes[1]) - 1).covers(ranges[0]):
                return args[0]
            case "wrap" if _bits_range(attributes[0], True).covers(ranges[0]):
                return args[0]
            case "reduce_or" if ranges[0] == Range(0, 1):
                return args[0]
        return None

    def _fold_mul(self, args: tuple[int, ...], constants: list[int | None]) -> int | None:
        for constant, other in zip(constants, reversed(args), strict=True):
            if constant == -1:
                return self.op("neg", other)
            if constant is not None and constant > 0 and constant & (constant - 1) == 0:
                return self.op("shift_left_const", other, attributes=(constant.bit_length() - 1,))
        return None

    def _fold_and(self, args: tuple[int, ...], ranges: list[Range], constants: list[int | None]) -> int | None:
        if args[0] == args[1]:
            return args[0]
        for constant, other, range_ in zip(constants, reversed(args), reversed(ranges), strict=True):
            if constant is None or constant <= 0 or constant & (constant + 1):
                continue
            if Range(0, constant).covers(range_):
                return other
            return self.op("slice", other, attributes=(0, constant.bit_length()))
        return None

    def _intern(self, kind: str, args: tuple[int, ...], range_: Range, attributes: tuple[int, ...]) -> int:
        key = (kind, args, range_.low, range_.high, attributes)
        known = self._index.get(key)
        if known is None:
            known = len(self._nodes)
            self._nodes.append(Node(kind, args, range_, attributes))
            self._index[key] = known
        return known

    def finish(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> Graph:
        """The graph of everything that an output needs; inputs stay, they are the interface."""
        alive = {node for port in (*inputs, *outputs) for node in port.nodes}
        for index in range(len(self._nodes) - 1, -1, -1):
            if index in alive:
                alive.update(self._nodes[index].args)
        order = sorted(alive)
        moved = {old: new for new, old in enumerate(order)}
        nodes = []
        for old in order:
            node = self._nodes[old]
            args = tuple(moved[arg] for arg in node.args)
            nodes.append(Node(node.kind, args, node.range, node.attributes, self._names.get(old, "")))
        return Graph(
            self.name,
            tuple(nodes),
            tuple(Port(p.name, p.type, tuple(moved[n] for n in p.nodes)) for p in inputs),
            tuple(Port(p.name, p.type, tuple(moved[n] for n in p.nodes)) for p in outputs),
        )


def rebuild(graph: Graph, replace: Callable[[Builder, Node, tuple[int, ...]], int]) -> Graph:
    """The graph with every operation built anew by `replace(builder, node, new_args)`."""
    builder = Builder(graph.name)
    moved: list[int] = []
    for node in graph.nodes:
        if node.kind == "input":
            new = builder.input(node.range)
        elif node.kind == "const":
            new = builder.const(node.range.low)
        else:
            new = replace(builder, node, tuple(moved[arg] for arg in node.args))
        if node.name:
            builder.set_name(new, node.name)
        moved.append(new)
    inputs, outputs = (
        [Port(p.name, p.type, tuple(moved[n] for n in p.nodes)) for p in ports]
        for ports in (graph.inputs, graph.outputs)
    )
    return builder.finish(inputs, outputs)
