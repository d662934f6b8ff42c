"""Vectors of traced values and the operators that are functions: select, minimum, tables, reductions.

Every reduction is a balanced tree (depth `ceil(log2 n)`), which is what pipelining wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar, overload

from hls.errors import TraceError
from hls.types import Fixed, HlsError, Range, Rounding, smallest_type
from hls.value import Constant, Operand, Value

T = TypeVar("T")


def reduce_tree(combine: Callable[[T, T], T], items: Iterable[T]) -> T:
    """Combine neighbours pairwise, level by level, keeping the order: depth ceil(log2 n)."""
    level = list(items)
    if not level:
        raise HlsError("a reduction needs at least one item")
    while len(level) > 1:
        paired = [combine(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def _lifted(values: Sequence[Operand]) -> list[Value]:
    """All operands as values of one trace; TraceError if none of them is traced."""
    anchor = next((v for v in values if isinstance(v, Value)), None)
    if anchor is None:
        raise TraceError(f"none of {list(values)!r} is a traced value: compute it in Python")
    return [anchor._lift(v) for v in values]


def _is_bool(value: Value) -> bool:
    return value.type.width == 1 and not value.type.signed and value.fraction == 0


@overload
def select(condition: Value, if_true: Operand, if_false: Operand) -> Value: ...
@overload
def select(condition: Value, if_true: Vector, if_false: Vector) -> Vector: ...
def select(condition: Value, if_true: Any, if_false: Any) -> Any:
    """`if_true` where the Bool `condition` is 1, else `if_false`; vectors element by element."""
    if not isinstance(condition, Value):
        raise TraceError(f"the condition {condition!r} is not traced: a Python `if` will do")
    if not _is_bool(condition):
        raise TraceError(f"the condition is {condition.type}: compare it (x != 0, x > y) or take a bit x[i]")
    if isinstance(if_true, Vector) or isinstance(if_false, Vector):
        if not (isinstance(if_true, Vector) and isinstance(if_false, Vector)) or len(if_true) != len(if_false):
            raise TraceError("select between vectors needs two vectors of one length")
        return Vector([select(condition, a, b) for a, b in zip(if_true, if_false, strict=True)])
    a, b = condition._lift(if_true), condition._lift(if_false)
    fraction = max(a.fraction, b.fraction)
    result = condition._op("mux", condition._node, a._at(fraction), b._at(fraction), fraction=fraction)
    if a.type == b.type:  # a choice between equals keeps their type
        return Value(condition._builder, result._node, a.type)
    return result


def minimum(*values: Operand) -> Value:
    """The smallest of the values, in a balanced tree."""
    return _extreme(values, False)


def maximum(*values: Operand) -> Value:
    """The largest of the values, in a balanced tree."""
    return _extreme(values, True)


def _extreme(values: Sequence[Operand], largest: bool) -> Value:
    """Balanced tree of compare and select."""
    pick = max if largest else min

    def combine(a: Value, b: Value) -> Value:
        x, y, fraction = a._aligned(b)
        builder = a._builder
        ranges = builder.range(x), builder.range(y)
        within = Range(pick(r.low for r in ranges), pick(r.high for r in ranges))
        less = builder.op("lt", x, y)
        result = a._op("mux", less, *((y, x) if largest else (x, y)), fraction=fraction, within=within)
        return Value(builder, result._node, a.type) if a.type == b.type else result

    return reduce_tree(combine, _lifted(values))


def table(entries: Sequence[int], index: Value, type_: Fixed | None = None) -> Value:
    """The constant `entries[index]`, raw integers of `type_` (by default the smallest that holds them)."""
    if not isinstance(index, Value):
        raise TraceError(f"the index {index!r} is not traced: index the Python sequence")
    if index.fraction or index.range.low < 0 or index.range.high >= len(entries):
        raise TraceError(
            f"a table of {len(entries)} entries is indexed by an integer from 0 to {len(entries) - 1}, "
            f"not {index!r}: narrow or saturate the index, or lengthen the table"
        )
    span = Range(min(entries), max(entries))
    type_ = type_ or smallest_type(span)
    if not type_.full_range.covers(span):
        raise TraceError(f"the table entries are in {span}, which {type_} does not hold; {smallest_type(span)} would")
    node = index._builder.op("table", index._node, attributes=tuple(int(e) for e in entries))
    return Value(index._builder, node, type_)


def constant(value: float, type_: Fixed, rounding: Rounding = "half_even") -> Constant:
    """A real constant rounded to the binary point of `type_`; HlsError if the type does not hold it."""
    scaled = Fraction(value) * Fraction(2) ** type_.fraction
    raw = {
        "half_even": round(scaled),
        "half_up": math.floor(scaled + Fraction(1, 2)),
        "floor": math.floor(scaled),
    }[rounding]
    if raw not in type_.range:
        raise HlsError(f"the constant {value} is {raw} in {type_}, outside {type_.range}")
    return Constant(raw, type_.fraction)


def concat(*parts: Value) -> Value:
    """The bits of all parts as one unsigned integer; the first part is the least significant."""
    if not parts:
        raise TraceError("concat needs at least one value")
    lifted = _lifted(parts)
    widths = tuple(part.type.width for part in lifted)
    return lifted[0]._op("concat", *(part._node for part in lifted), attributes=widths, fraction=0)


def one_hot(index: Value, length: int) -> Vector:
    """`length` Bools, the one at `index` set."""
    return Vector([index == i for i in range(length)])


class Vector(Sequence["Any"]):
    """Traced values side by side (or vectors of them); arithmetic is element by element."""

    __slots__ = ("_items",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: Iterable[Value | Vector]) -> None:
        self._items: tuple[Any, ...] = tuple(items)
        if not self._items:
            raise TraceError("a vector needs at least one element")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, index: Any) -> Any:
        """An element, a slice as a Vector, or by a traced index the chosen element (a tree of muxes)."""
        if isinstance(index, Value):
            return self._choose(index)
        if isinstance(index, slice):
            return Vector(self._items[index])
        return self._items[index]

    def _choose(self, index: Value) -> Any:
        if index.fraction or index.range.low < 0 or index.range.high >= len(self):
            raise TraceError(f"index {index!r} for a vector of {len(self)}: narrow or saturate it first")
        reachable = self._items[: index.range.high + 1]
        level = list(reachable)
        for bit in range((len(reachable) - 1).bit_length()):
            odd = index[bit]
            pairs = [select(odd, b, a) for a, b in zip(level[::2], level[1::2], strict=False)]
            level = pairs + level[len(pairs) * 2 :]
        return level[0]

    def _zip(self, other: Any, f: Callable[[Any, Any], Any]) -> Vector:
        if isinstance(other, Vector):
            if len(other) != len(self):
                raise TraceError(f"vectors of {len(self)} and {len(other)} elements do not pair up")
            return Vector([f(a, b) for a, b in zip(self, other, strict=True)])
        return Vector([f(a, other) for a in self])

    def __add__(self, other: Vector | Operand) -> Vector:
        return self._zip(other, lambda a, b: a + b)

    def __sub__(self, other: Vector | Operand) -> Vector:
        return self._zip(other, lambda a, b: a - b)

    def __mul__(self, other: Vector | Operand) -> Vector:
        return self._zip(other, lambda a, b: a * b)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Operand) -> Vector:
        return Vector([other - a for a in self])

    def __neg__(self) -> Vector:
        return Vector([-a for a in self])

    def map(self, f: Callable[..., Any], *others: Iterable[Any]) -> Vector:
        """`f` on every element (and the elements of `others` beside it)."""
        return Vector([f(*items) for items in zip(self, *others, strict=True)])

    def chunks(self, size: int) -> Vector:
        """Consecutive groups of `size` elements, as a vector of vectors."""
        if len(self) % size:
            raise TraceError(f"{len(self)} elements do not divide into chunks of {size}")
        return Vector([Vector(self._items[i : i + size]) for i in range(0, len(self), size)])

    def sum(self) -> Any:
        """Exact sum in a balanced tree."""
        return reduce_tree(lambda a, b: a + b, self._items)

    def max(self) -> Value:
        """Largest element."""
        return maximum(*self._items)

    def min(self) -> Value:
        """Smallest element."""
        return minimum(*self._items)

    def any(self) -> Value:
        """Whether any element has a bit set."""
        bits: list[Value] = [v.any() for v in self._items]
        return reduce_tree(lambda a, b: a | b, bits)

    def all(self) -> Value:
        """Whether every element is nonzero."""
        bits: list[Value] = [v.any() for v in self._items]
        return reduce_tree(lambda a, b: a & b, bits)

    def __bool__(self) -> bool:
        raise TraceError("the truth of a traced vector is not known while tracing: use .any() or .all()")

    def __repr__(self) -> str:
        return f"Vector({list(self._items)!r})"


def vector(items: Iterable[Any]) -> Vector:
    """Values, vectors, constants, and lists or tuples of them as one Vector; one of the items must be traced."""
    listed = list(items)
    anchor = next((item for item in listed if isinstance(item, Value)), None)

    def element(item: Any) -> Value | Vector:
        if isinstance(item, Value | Vector):
            return item
        if isinstance(item, list | tuple):
            return vector(item)
        if anchor is None:
            raise TraceError(f"{item!r} in a vector without a traced value beside it: compute it in Python")
        return anchor._lift(item)

    return Vector([element(item) for item in listed])
