"""Combinational loops that a composition closes through its parts, true ones and those of packed ports.

Dependence is looked at by ports first. Packed vectors (ready bits of several lanes, say) may close a loop that none of
their bits closes; such ports are split into bits, for every tool looks at whole wires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyrtl
import scipy.sparse

from hls.lower import Netlist
from hls.sources import Piece, Source
from hls.split_ports import bit_port, split_ports
from hls.types import HlsError

if TYPE_CHECKING:
    from hls.compose import Composition

Port: TypeAlias = tuple[str, str]


def port_dependence(netlist: Netlist) -> dict[str, frozenset[str]]:
    """Inputs on which each output depends without a register between."""
    drivers = {id(net.dests[0]): net for net in netlist.block.logic if net.dests and net.op != "r"}
    names = list(netlist.inputs)
    masks = {id(wire): 1 << names.index(wire.name) for wire in netlist.block.wirevector_subset(pyrtl.Input)}
    outputs = netlist.block.wirevector_subset(pyrtl.Output)
    stack = list(outputs)
    while stack:
        wire = stack[-1]
        net = drivers.get(id(wire))
        unknown = [] if net is None or id(wire) in masks else [arg for arg in net.args if id(arg) not in masks]
        if unknown:
            stack += unknown
            continue
        stack.pop()
        if id(wire) not in masks:
            masks[id(wire)] = 0 if net is None else reduce(or_, (masks[id(arg)] for arg in net.args))
    return {
        output.name: frozenset(name for i, name in enumerate(names) if masks[id(output)] >> i & 1) for output in outputs
    }


Edges: TypeAlias = dict[Port, list[tuple[Port, str]]]


def dependence_edges(composition: Composition) -> Edges:
    """For every output of a part: the outputs that it depends on, and through which of the part's inputs."""
    edges: Edges = {}
    for part, netlist in composition.parts.items():
        for output, inputs in composition.dependence[id(netlist)].items():
            edges[part, output] = [
                ((piece.part, piece.port), port)
                for port in sorted(inputs)
                for piece in composition.connections[part][port].pieces
                if piece.part
            ]
    return edges


def find_loop(edges: Edges) -> list[tuple[Port, str]] | None:
    """A cycle: outputs, each with the input of its part through which it goes on to the next; None if there is none."""
    done: set[Port] = set()
    for root in edges:
        if root in done:
            continue
        path: list[Port] = [root]
        through: list[str] = []
        pending = [iter(edges[root])]
        active = {root}
        while path:
            step = next(pending[-1], None)
            if step is None:
                done.add(path[-1])
                active.discard(path.pop())
                pending.pop()
                if through:
                    through.pop()
                continue
            source, port = step
            if source in active:
                start = path.index(source)
                return list(zip(path[start:], [*through[start:], port], strict=True))
            if source not in done:
                path.append(source)
                through.append(port)
                active.add(source)
                pending.append(iter(edges[source]))
    return None


def _in_loops(edges: Edges) -> set[Port]:
    """All ports, inputs too, that lie on a loop."""
    nodes = {output: i for i, output in enumerate(edges)}
    pairs = [(nodes[output], nodes[source]) for output, sources in edges.items() for source, _ in sources]
    rows, columns = zip(*pairs, strict=True)
    graph = scipy.sparse.coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(nodes), len(nodes)))
    _, group = scipy.sparse.csgraph.connected_components(graph, connection="strong")
    found: set[Port] = set()
    for output, sources in edges.items():
        for source, port in sources:
            if group[nodes[output]] == group[nodes[source]]:
                found |= {output, source, (output[0], port)}
    return found


def without_false_loops(composition: Composition) -> Composition:
    """The composition itself, or with packed ports split into bits where these alone close no loop.

    Raises:
        HlsError: if outputs of parts depend on themselves without a register between; shows the path.
    """
    edges = dependence_edges(composition)
    if find_loop(edges) is None:
        return composition
    ports: dict[int, set[str]] = {}
    for part, port in _in_loops(edges):
        netlist = composition.parts[part]
        if {**netlist.inputs, **netlist.outputs}[port] > 1:
            ports.setdefault(id(netlist), set()).add(port)
    split = _split(composition, ports)
    loop = find_loop(dependence_edges(split))
    if loop is not None:
        steps = [f"{part}.{output} (from {part}.{port})" for (part, output), port in loop]
        raise HlsError(f"{composition.name}: combinational loop: {' <- '.join([*steps, steps[0]])}")
    return split


def _split(composition: Composition, ports: Mapping[int, set[str]]) -> Composition:
    """The composition with some ports (by identity of the netlist) split into bits."""
    modules = {
        id(netlist): split_ports(netlist, ports[id(netlist)]) if id(netlist) in ports else netlist
        for netlist in composition.modules
    }
    split = {part: ports.get(id(netlist), set()) for part, netlist in composition.parts.items()}

    def bits(source: Source) -> Source:
        pieces: list[Piece] = []
        for piece in source.pieces:
            if piece.port in split.get(piece.part, ()):
                pieces += [
                    Piece(piece.part, bit_port(piece.port, i), 0, 1) for i in range(piece.low, piece.low + piece.bits)
                ]
            else:
                pieces.append(piece)
        return Source(tuple(pieces))

    connections: dict[str, dict[str, Source]] = {}
    for part, sources in composition.connections.items():
        given = connections[part] = {}
        for port, source in sources.items():
            if port in split[part]:
                given |= {bit_port(port, i): bits(source[i]) for i in range(source.bits)}
            else:
                given[port] = bits(source)
    return replace(
        composition,
        parts={part: modules[id(netlist)] for part, netlist in composition.parts.items()},
        connections=connections,
        drivers={name: bits(source) for name, source in composition.drivers.items()},
    )
