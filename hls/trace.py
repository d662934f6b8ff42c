"""Tracing: a plain annotated function becomes a dataflow graph. The module datapath authors import from.

`trace(function)` calls the function once with symbolic arguments. Types come from the annotations, either the
type itself (`x: SInt(12)`) or, as static checkers like it, `x: Annotated[Value, SInt(12)]`; `inputs=` gives
or overrides them; a parameter with a default and no type keeps its default. The function returns a Value, a
Vector (nested vectors, lists, tuples), or a dict of them, one entry per output port; a single result becomes
the port "out". A tutorial is in `hls.graph`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from hls.builder import Builder
from hls.errors import TraceError
from hls.evaluate import evaluate
from hls.graph import Graph, Port
from hls.names import check_identifier
from hls.operators import (
    Vector,
    concat,
    constant,
    maximum,
    minimum,
    one_hot,
    reduce_tree,
    select,
    table,
    vector,
)
from hls.types import Bool, Fixed, HlsError, Range, SInt, Type, UFixed, UInt, Vec, leaves, smallest_type
from hls.value import Constant, Value

__all__ = [
    "Bool",
    "Constant",
    "Fixed",
    "Graph",
    "HlsError",
    "Range",
    "SInt",
    "TraceError",
    "UFixed",
    "UInt",
    "Value",
    "Vec",
    "Vector",
    "concat",
    "constant",
    "evaluate",
    "maximum",
    "minimum",
    "one_hot",
    "reduce_tree",
    "select",
    "table",
    "trace",
    "vector",
]

Traced: TypeAlias = Value | Vector


def _declared(annotation: Any) -> Type | None:
    """The type in an annotation, or None if it names none."""
    if isinstance(annotation, Fixed | Vec):
        return annotation
    if get_origin(annotation) is Annotated:
        return next((a for a in get_args(annotation)[1:] if isinstance(a, Fixed | Vec)), None)
    return None


def _input_types(
    function: Callable[..., Any], inputs: Mapping[str, Type], name: str
) -> tuple[dict[str, Type], Type | None]:
    """The type of every parameter and of the result (None: not declared)."""
    signature = inspect.signature(function, eval_str=True)
    unknown = set(inputs) - set(signature.parameters)
    if unknown:
        raise HlsError(f"{name} has no parameter {sorted(unknown)}; it has {list(signature.parameters)}")
    types: dict[str, Type] = {}
    for parameter in signature.parameters.values():
        type_ = inputs.get(parameter.name) or _declared(parameter.annotation)
        if type_ is None and parameter.default is not parameter.empty:
            continue  # a Python constant
        if type_ is None:
            raise HlsError(
                f"{name}: parameter {parameter.name!r} has no hardware type; annotate it, for example "
                f"`{parameter.name}: Annotated[Value, SInt(12)]`, or pass inputs={{{parameter.name!r}: SInt(12)}}"
            )
        types[parameter.name] = type_
    return types, _declared(signature.return_annotation)


def _symbol(builder: Builder, type_: Type, nodes: list[int], name: str) -> Traced:
    """A fresh input of `type_`; its nodes are appended to `nodes`, element 0 first."""
    if isinstance(type_, Fixed):
        node = builder.input(type_.range)
        builder.set_name(node, name)
        nodes.append(node)
        return Value(builder, node, type_)
    return Vector([_symbol(builder, type_.element, nodes, f"{name}_{i}") for i in range(type_.length)])


def _result_type(value: Traced) -> Type:
    if isinstance(value, Value):
        return value.type
    types = [_result_type(v) for v in value]
    if all(t == types[0] for t in types):
        return Vec(types[0], len(types))
    if not all(isinstance(t, Fixed) for t in types):
        raise TraceError("the rows of a nested result have different types; narrow() them to one type")
    scalars = [t for t in types if isinstance(t, Fixed)]
    fraction = max(t.fraction for t in scalars)
    span = [
        Range(t.full_range.low << fraction - t.fraction, t.full_range.high << fraction - t.fraction) for t in scalars
    ]
    return Vec(smallest_type(reduce_tree(Range.union, span), fraction), len(types))


def _scalars(value: Traced) -> list[Value]:
    return [value] if isinstance(value, Value) else [s for v in value for s in _scalars(v)]


def _shape(type_: Type) -> tuple[int, ...]:
    return () if isinstance(type_, Fixed) else (type_.length, *_shape(type_.element))


def _output(builder: Builder, name: str, result: Any, declared: Type | None) -> Port:
    """The port of one result, converted without loss to the declared type."""
    if isinstance(result, int | Constant):
        lifted = Value(builder, builder.const(0), Bool)
        result = lifted._lift(result)
    if isinstance(result, list | tuple):
        result = vector(result)
    if not isinstance(result, Value | Vector):
        raise HlsError(
            f"{builder.name}: output {name!r} is {type(result).__name__}; return a Value, a Vector, "
            "a list of them or a dict of them"
        )
    found = _result_type(result)
    type_ = found if declared is None else declared
    if _shape(found) != _shape(type_):
        raise HlsError(f"{builder.name}: output {name!r} is {found}, declared {type_}")
    nodes = []
    for i, (scalar, leaf) in enumerate(zip(_scalars(result), leaves(type_), strict=True)):
        try:
            converted = scalar.narrow(leaf)
        except TraceError as error:
            place = f"{name}[{i}]" if _shape(type_) else name
            raise HlsError(f"{builder.name}: output {place!r}: {error}") from None
        builder.set_name(converted._node, f"{name}_{i}" if _shape(type_) else name)
        nodes.append(converted._node)
    return Port(name, type_, tuple(nodes))


def trace(
    function: Callable[..., Any],
    inputs: Mapping[str, Type] | None = None,
    outputs: Mapping[str, Type] | Type | None = None,
    name: str | None = None,
) -> Graph:
    """The dataflow graph of `function`.

    `inputs` gives the types of parameters that are not annotated, or overrides them (`SInt(12).within(a, b)`
    asserts a tighter range); `outputs` the types of results (one type, or one per key of a returned dict),
    which the ranges must prove lossless. HlsError (TraceError inside the function) says what to write instead.
    """
    name = check_identifier(name or getattr(function, "__name__", "datapath").strip("<>"), "graph")
    builder = Builder(name)
    types, declared = _input_types(function, inputs or {}, name)
    ports, symbols = [], {}
    for parameter, type_ in types.items():
        check_identifier(parameter, f"{name}: input")
        nodes: list[int] = []
        symbols[parameter] = _symbol(builder, type_, nodes, parameter)
        ports.append(Port(parameter, type_, tuple(nodes)))
    result = function(**symbols)
    named: Mapping[str, Any] = result if isinstance(result, Mapping) else {"out": result}
    if isinstance(outputs, Mapping):
        wanted: Mapping[str, Type] = outputs
    else:
        one = outputs or declared
        wanted = {} if one is None else {"out": one}
    if not set(wanted) <= set(named):
        raise HlsError(f"{name} returns {sorted(named)}, outputs= names {sorted(set(wanted) - set(named))}")
    for key in named:
        check_identifier(key, f"{name}: output")
    clash = set(named) & set(types)
    if clash:
        raise HlsError(f"{name}: {sorted(clash)} name both an input and an output")
    return builder.finish(ports, [_output(builder, key, value, wanted.get(key)) for key, value in named.items()])
