"""Symbolic domain: hash-consed bit-vector terms, their evaluation, and their SMT-LIB text.

A term is an index into the node list of its `Formula`; equal terms have equal indices, so
cones that implementation and specification share meet before the solver sees them. Only
rewrites that cannot change a value are made: constants fold, a multiplexer with a known
select or equal arms goes, extraction looks through concatenation and extraction.
"""
# ruff: noqa: D102 (the operations are documented once, on `bits.Domain`)

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from verification.equivalence.bits import Bits, Concrete, Domain

_CONCRETE = Concrete()
_SMT_OPERATOR = {
    "not": "bvnot",
    "and": "bvand",
    "or": "bvor",
    "xor": "bvxor",
    "add": "bvadd",
    "sub": "bvsub",
    "mul": "bvmul",
    "select": "select",
    "store": "store",
}


@dataclass(frozen=True)
class Node:
    """One term: operator, argument terms, static parameters, width in bits (of an array: of a word).

    Arrays carry their address width in `address_bits`; bit-vectors have 0 there.
    """

    op: str
    args: tuple[int, ...]
    params: tuple[Any, ...]
    width: int
    address_bits: int = 0


@dataclass(frozen=True)
class Contents:
    """The value of an array: a default word and the words that differ."""

    default: int
    words: Mapping[int, int] = field(default_factory=dict)

    def read(self, address: int) -> int:
        """The word at an address."""
        return self.words.get(address, self.default)


class Formula(Domain):
    """A growing set of terms. Values of this domain are term indices."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._index: dict[Node, int] = {}

    def _make(self, op: str, args: tuple[int, ...], params: tuple[Any, ...], width: int, address: int = 0) -> int:
        node = Node(op, args, params, width, address)
        if node not in self._index:
            self._index[node] = len(self.nodes)
            self.nodes.append(node)
        return self._index[node]

    def variable(self, name: str, width: int) -> int:
        """A free bit-vector; the same name gives the same term."""
        return self._make("variable", (), (name,), width)

    def array(self, name: str, address_bits: int, data_bits: int) -> int:
        """A free array."""
        return self._make("variable", (), (name,), data_bits, address_bits)

    def table(self, contents: Sequence[int], address_bits: int, data_bits: int) -> int:
        """A constant array of 2^address_bits words."""
        return self._make("table", (), tuple(contents), data_bits, address_bits)

    def select(self, array: int, address: int) -> int:
        """The word of an array at an address."""
        node, known = self.nodes[array], self.known(address)
        if known is not None and node.op == "table":
            return self.constant(node.params[known], node.width)
        return self._make("select", (array, address), (), node.width)

    def store(self, array: int, address: int, data: int, enable: int) -> int:
        """The array with one word replaced where the one-bit enable is 1."""
        node = self.nodes[array]
        known = self.known(enable)
        if known == 0:
            return array
        stored = self._make("store", (array, address, data), (), node.width, node.address_bits)
        if known == 1:
            return stored
        return self._make("choose", (enable, stored, array), (), node.width, node.address_bits)

    def arrays_equal(self, a: int, b: int) -> int:
        """One bit: all words equal."""
        return self.constant(1, 1) if a == b else self._make("equal", (a, b), (), 1)

    def rebuilt(self, node: Node, args: tuple[int, ...]) -> int:
        """The same operation on other arguments of the same widths."""
        return self._make(node.op, args, node.params, node.width, node.address_bits)

    def bits(self, term: int) -> Bits:
        """A bit-vector term with operators."""
        return Bits(self, term, self.nodes[term].width)

    def constant(self, value: int, width: int) -> int:
        return self._make("constant", (), (value & ((1 << width) - 1),), width)

    def known(self, a: int) -> int | None:
        node = self.nodes[a]
        return int(node.params[0]) if node.op == "constant" else None

    def _fold(self, method: str, a: int, b: int, width: int, result_width: int) -> int | None:
        """The constant result if both operands are constants."""
        left, right = self.known(a), self.known(b)
        if left is None or right is None:
            return None
        return self.constant(getattr(_CONCRETE, method)(left, right, width), result_width)

    def invert(self, a: int, width: int) -> int:
        node = self.nodes[a]
        if node.op == "constant":
            return self.constant(~node.params[0], width)
        return node.args[0] if node.op == "not" else self._make("not", (a,), (), width)

    def _commutative(self, op: str, a: int, b: int, width: int) -> int:
        return self._make(op, (min(a, b), max(a, b)), (), width)

    def conjunction(self, a: int, b: int, width: int) -> int:
        ones = (1 << width) - 1
        for x, y in ((a, b), (b, a)):
            if self.known(x) == 0 or x == y or self.known(y) == ones:
                return x
        return self._commutative("and", a, b, width)

    def disjunction(self, a: int, b: int, width: int) -> int:
        ones = (1 << width) - 1
        for x, y in ((a, b), (b, a)):
            if self.known(x) == ones or x == y or self.known(y) == 0:
                return x
        return self._commutative("or", a, b, width)

    def exclusive(self, a: int, b: int, width: int) -> int:
        if a == b:
            return self.constant(0, width)
        folded = self._fold("exclusive", a, b, width, width)
        if folded is not None:
            return folded
        for x, y in ((a, b), (b, a)):
            if self.known(x) == 0:
                return y
        return self._commutative("xor", a, b, width)

    def add(self, a: int, b: int, width: int) -> int:
        folded = self._fold("add", a, b, width, width)
        if folded is not None:
            return folded
        for x, y in ((a, b), (b, a)):
            if self.known(x) == 0:
                return y
        return self._commutative("add", a, b, width)

    def subtract(self, a: int, b: int, width: int) -> int:
        folded = self._fold("subtract", a, b, width, width)
        if folded is not None:
            return folded
        return a if self.known(b) == 0 else self._make("sub", (a, b), (), width)

    def multiply(self, a: int, b: int, width: int) -> int:
        folded = self._fold("multiply", a, b, width, width)
        return folded if folded is not None else self._commutative("mul", a, b, width)

    def equal(self, a: int, b: int, width: int) -> int:
        if a == b:
            return self.constant(1, 1)
        folded = self._fold("equal", a, b, width, 1)
        return folded if folded is not None else self._commutative("equal", a, b, 1)

    def below(self, a: int, b: int, width: int) -> int:
        if a == b:
            return self.constant(0, 1)
        folded = self._fold("below", a, b, width, 1)
        return folded if folded is not None else self._make("below", (a, b), (), 1)

    def choose(self, condition: int, then: int, otherwise: int, width: int) -> int:
        known = self.known(condition)
        if known is not None or then == otherwise:
            return then if known == 1 else otherwise
        return self._make("choose", (condition, then, otherwise), (), width)

    def concatenate(self, parts: Sequence[tuple[int, int]]) -> int:
        merged: list[int] = []
        for term, _ in parts:
            node = self.nodes[term]
            for piece in node.args if node.op == "concat" else (term,):
                joined = self._join(merged[-1], piece) if merged else None
                if joined is None:
                    merged.append(piece)
                else:
                    merged[-1] = joined
        if len(merged) == 1:
            return merged[0]
        return self._make("concat", tuple(merged), (), sum(self.nodes[t].width for t in merged))

    def _join(self, high: int, low: int) -> int | None:
        """One term for two neighbours: both constants, or adjacent bits of one vector."""
        a, b = self.nodes[high], self.nodes[low]
        if a.op == b.op == "constant":
            return self.constant((a.params[0] << b.width) | b.params[0], a.width + b.width)
        if a.op == b.op == "extract" and a.args == b.args and a.params[0] == b.params[0] + b.width:
            source = a.args[0]
            return self.extract(source, self.nodes[source].width, b.params[0], a.width + b.width)
        return None

    def extract(self, a: int, width: int, low: int, count: int) -> int:
        node = self.nodes[a]
        if count == width:
            return a
        if node.op == "constant":
            return self.constant(node.params[0] >> low, count)
        if node.op == "extract":
            source = node.args[0]
            return self.extract(source, self.nodes[source].width, low + node.params[0], count)
        if node.op == "concat":
            return self._extract_of_concat(node, low, count)
        return self._make("extract", (a,), (low,), count)

    def _extract_of_concat(self, node: Node, low: int, count: int) -> int:
        parts: list[tuple[int, int]] = []
        position = 0
        for term in reversed(node.args):
            size = self.nodes[term].width
            first, last = max(low, position), min(low + count, position + size)
            if first < last:
                parts.append((self.extract(term, size, first - position, last - first), last - first))
            position += size
        return self.concatenate(parts[::-1])

    def cone(self, roots: Iterable[int]) -> list[int]:
        """All terms that the roots depend on, arguments before users (indices grow that way)."""
        seen: set[int] = set()
        stack = list(roots)
        while stack:
            term = stack.pop()
            if term not in seen:
                seen.add(term)
                stack.extend(self.nodes[term].args)
        return sorted(seen)

    def evaluate(self, roots: Sequence[int], model: Mapping[str, Any]) -> list[Any]:
        """Values of the roots: integers, and `Contents` for arrays.

        `model` gives integers (arrays: `Contents`) by variable name; what it leaves out is zero.
        """
        values: dict[int, Any] = {}
        for term in self.cone(roots):
            node = self.nodes[term]
            values[term] = _value(node, [values[a] for a in node.args], self.nodes, model)
        return [values[r] for r in roots]


def _value(node: Node, args: list[Any], nodes: list[Node], model: Mapping[str, Any]) -> Any:
    match node.op:
        case "constant":
            return node.params[0]
        case "variable":
            return model.get(node.params[0], Contents(0) if node.address_bits else 0)
        case "table":
            return Contents(0, dict(enumerate(node.params)))
        case "select":
            return args[0].read(args[1])
        case "store":
            return Contents(args[0].default, {**args[0].words, args[1]: args[2]})
        case "choose":
            return args[1] if args[0] else args[2]
        case "extract":
            return _CONCRETE.extract(args[0], 0, node.params[0], node.width)
        case "concat":
            return _CONCRETE.concatenate([(v, nodes[a].width) for v, a in zip(args, node.args, strict=True)])
        case "not":
            return _CONCRETE.invert(args[0], node.width)
        case "equal" if nodes[node.args[0]].address_bits:
            span = range(1 << nodes[node.args[0]].address_bits)
            return int(all(args[0].read(i) == args[1].read(i) for i in span))
    methods = {"and": "conjunction", "or": "disjunction", "xor": "exclusive", "sub": "subtract", "mul": "multiply"}
    return getattr(_CONCRETE, methods.get(node.op, node.op))(*args, node.width)


def _sort(node: Node) -> str:
    word = f"(_ BitVec {node.width})"
    return f"(Array (_ BitVec {node.address_bits}) {word})" if node.address_bits else word


def _literal(value: int, width: int) -> str:
    return f"(_ bv{value} {width})"


def _table_text(node: Node) -> str:
    """A constant array of the commonest word with stores of the others."""
    common = max(set(node.params), key=lambda word: (node.params.count(word), -word))
    text = f"((as const {_sort(node)}) {_literal(common, node.width)})"
    for address, word in enumerate(node.params):
        if word != common:
            text = f"(store {text} {_literal(address, node.address_bits)} {_literal(word, node.width)})"
    return text


def _text(node: Node, args: list[str]) -> str:
    match node.op:
        case "constant":
            return _literal(node.params[0], node.width)
        case "table":
            return _table_text(node)
        case "equal":
            return f"(ite (= {args[0]} {args[1]}) #b1 #b0)"
        case "below":
            return f"(ite (bvult {args[0]} {args[1]}) #b1 #b0)"
        case "choose":
            return f"(ite (= {args[0]} #b1) {args[1]} {args[2]})"
        case "concat":
            return f"(concat {' '.join(args)})"
        case "extract":
            return f"((_ extract {node.params[0] + node.width - 1} {node.params[0]}) {args[0]})"
    return f"({_SMT_OPERATOR[node.op]} {' '.join(args)})"


def _visiting_order(formula: Formula, roots: Sequence[int]) -> list[int]:
    """The cone of the roots, arguments before users, in an order that only its shape decides."""
    order: dict[int, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        term, expanded = stack.pop()
        if term in order:
            continue
        if expanded:
            order[term] = None
        else:
            stack.append((term, True))
            stack.extend((a, False) for a in reversed(formula.nodes[term].args))
    return list(order)


def definitions(formula: Formula, roots: Sequence[int]) -> tuple[str, dict[int, str], tuple[str, ...]]:
    """SMT-LIB text (QF_ABV) that defines the cone of the roots, what each term is called there, and its variables.

    Variable i of the text is called `vi`, its name in the formula is given; terms are numbered by position: roots of
    the same shape on different variables have the same text.
    """
    lines = ["(set-logic QF_ABV)"]
    names: list[str] = []
    called: dict[int, str] = {}
    for term in _visiting_order(formula, roots):
        node = formula.nodes[term]
        text = f"v{len(names)}"
        if node.op == "variable":
            names.append(str(node.params[0]))
            lines.append(f"(declare-const {text} {_sort(node)})")
        else:
            text = _text(node, [called[a] for a in node.args])
        called[term] = f"t{len(called)}"
        lines.append(f"(define-fun {called[term]} () {_sort(node)} {text})")
    return "\n".join(lines) + "\n", called, tuple(names)


def smtlib(formula: Formula, assertions: Sequence[int]) -> tuple[str, tuple[str, ...]]:
    """SMT-LIB text that asserts one-bit terms to be 1, and the formula's names of its variables (`definitions`)."""
    text, called, names = definitions(formula, assertions)
    return text + "".join(f"(assert (= {called[term]} #b1))\n" for term in assertions), names
