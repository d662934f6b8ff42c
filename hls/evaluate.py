"""The meaning of every node on Python integers, and an evaluator of whole graphs for debugging.

This is the executable definition that lowering is tested against; it knows neither widths nor stages.
Ports take and give raw integers (`real * 2^fraction`), nested lists for vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from hls.graph import Graph, Node, Port
from hls.types import Fixed, HlsError, Type, leaves, to_raw

Raw: TypeAlias = int | Sequence["Raw"]


def _concat(args: Sequence[int], widths: Sequence[int]) -> int:
    result, position = 0, 0
    for value, width in zip(args, widths, strict=True):
        result |= (value & ((1 << width) - 1)) << position
        position += width
    return result


def _not(args: Sequence[int], attributes: Sequence[int]) -> int:
    width, signed = attributes
    return ~args[0] if signed else ~args[0] & ((1 << width) - 1)


_Meaning: TypeAlias = Callable[[Sequence[int], Sequence[int]], int]
MEANING: dict[str, _Meaning] = {
    "add": lambda a, _: a[0] + a[1],
    "sub": lambda a, _: a[0] - a[1],
    "mul": lambda a, _: a[0] * a[1],
    "neg": lambda a, _: -a[0],
    "eq": lambda a, _: int(a[0] == a[1]),
    "lt": lambda a, _: int(a[0] < a[1]),
    "mux": lambda a, _: a[1] if a[0] else a[2],
    "table": lambda a, entries: entries[a[0]],
    "shift_left": lambda a, _: a[0] << a[1],
    "shift_right": lambda a, _: a[0] >> a[1],
    "shift_left_const": lambda a, k: a[0] << k[0],
    "shift_right_const": lambda a, k: a[0] >> k[0],
    "and": lambda a, _: a[0] & a[1],
    "or": lambda a, _: a[0] | a[1],
    "xor": lambda a, _: a[0] ^ a[1],
    "not": _not,
    "reduce_and": lambda a, k: int(~a[0] & ((1 << k[0]) - 1) == 0),
    "reduce_or": lambda a, _: int(a[0] != 0),
    "reduce_xor": lambda a, k: (a[0] & ((1 << k[0]) - 1)).bit_count() & 1,
    "slice": lambda a, k: (a[0] >> k[0]) & ((1 << k[1]) - 1),
    "wrap": lambda a, k: to_raw(a[0], k[0], signed=True),
    "concat": _concat,
    "assume": lambda a, _: a[0],
}


def evaluate_node(node: Node, args: Sequence[int]) -> int:
    """The result of one node that is not an input."""
    return node.range.low if node.kind == "const" else MEANING[node.kind](args, node.attributes)


def flatten(type_: Type, value: Raw, where: str) -> list[int]:
    """The scalars of a (nested) value, element 0 first, checked against the shape and range of `type_`."""
    if isinstance(type_, Fixed):
        if isinstance(value, Sequence):
            raise HlsError(f"{where}: expected one {type_}, got a sequence of {len(value)}")
        if int(value) not in type_.range:
            raise HlsError(f"{where}: {int(value)} is outside {type_.range} of {type_}")
        return [int(value)]
    if not isinstance(value, Sequence) or len(value) != type_.length:
        got = f"a sequence of {len(value)}" if isinstance(value, Sequence) else repr(value)
        raise HlsError(f"{where}: expected {type_}, got {got}")
    return [x for i, v in enumerate(value) for x in flatten(type_.element, v, f"{where}[{i}]")]


def unflatten(type_: Type, scalars: Sequence[int]) -> Raw:
    """The inverse of `flatten`: nested lists in the shape of `type_`."""
    if isinstance(type_, Fixed):
        return scalars[0]
    step = len(scalars) // type_.length
    return [unflatten(type_.element, scalars[i * step : (i + 1) * step]) for i in range(type_.length)]


def bind(ports: Sequence[Port], values: Mapping[str, Raw]) -> dict[int, int]:
    """Raw integer of every input node; HlsError for a missing, unknown or out-of-range input."""
    names = [port.name for port in ports]
    if set(names) != set(values):
        raise HlsError(f"inputs are {sorted(names)}, got {sorted(values)}")
    bound: dict[int, int] = {}
    for port in ports:
        bound.update(zip(port.nodes, flatten(port.type, values[port.name], port.name), strict=True))
    return bound


def evaluate_nodes(graph: Graph, values: Mapping[str, Raw]) -> list[int]:
    """The integer at every node; HlsError where a node leaves its range (a wrong `assume`)."""
    bound = bind(graph.inputs, values)
    results: list[int] = []
    for index, node in enumerate(graph.nodes):
        args = [results[arg] for arg in node.args]
        result = bound[index] if node.kind == "input" else evaluate_node(node, args)
        if result not in node.range:
            raise HlsError(
                f"{graph.name}: {graph.label(index)} is {result}, outside its range {node.range}; "
                "an assume() before it claims too little"
            )
        results.append(result)
    return results


def evaluate(graph: Graph, values: Mapping[str, Raw]) -> dict[str, Any]:
    """Run the graph on raw integers: {input: value} to {output: value}, nested lists for vectors."""
    results = evaluate_nodes(graph, values)
    return {port.name: unflatten(port.type, [results[node] for node in port.nodes]) for port in graph.outputs}


def pack(type_: Type, value: Raw) -> int:
    """The bits of a port that carries `value`: element 0 in the least significant bits."""
    bits, position = 0, 0
    for leaf, raw in zip(leaves(type_), flatten(type_, value, str(type_)), strict=True):
        bits |= (raw & ((1 << leaf.width) - 1)) << position
        position += leaf.width
    return bits


def unpack(type_: Type, bits: int) -> Any:
    """The value that the bits of a port encode; the inverse of `pack`."""
    scalars = []
    for leaf in leaves(type_):
        scalars.append(to_raw(bits, leaf.width, leaf.signed))
        bits >>= leaf.width
    return unflatten(type_, scalars)
