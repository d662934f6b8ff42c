"""Combinational dependence of a netlist's outputs on its inputs, and loops that a composition closes through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import pyrtl

from hls.lower import Netlist
from hls.types import HlsError

if TYPE_CHECKING:
    from hls.compose import Composition

Port: TypeAlias = tuple[str, str]


def port_dependence(netlist: Netlist) -> dict[str, frozenset[str]]:
    """Inputs on which each output depends without a register between."""
    drivers = {id(net.dests[0]): net for net in netlist.block.logic if net.dests}
    found = {}
    for output in netlist.block.wirevector_subset(pyrtl.Output):
        seen, stack, inputs = {id(output)}, [output], set()
        while stack:
            wire = stack.pop()
            if isinstance(wire, pyrtl.Input):
                inputs.add(wire.name)
            net = drivers.get(id(wire))
            if net is None or net.op == "r":
                continue
            for arg in net.args:
                if id(arg) not in seen:
                    seen.add(id(arg))
                    stack.append(arg)
        found[output.name] = frozenset(inputs)
    return found


def _edges(composition: Composition) -> dict[Port, list[tuple[Port, str]]]:
    """For every output of a part: the outputs that it depends on, and through which of the part's inputs."""
    dependence = {id(netlist): port_dependence(netlist) for netlist in composition.modules}
    edges: dict[Port, list[tuple[Port, str]]] = {}
    for part, netlist in composition.parts.items():
        for output, inputs in dependence[id(netlist)].items():
            edges[part, output] = [
                ((piece.part, piece.port), port)
                for port in sorted(inputs)
                for piece in composition.connections[part][port].pieces
                if piece.part
            ]
    return edges


def find_loop(edges: Mapping[Port, list[tuple[Port, str]]]) -> list[tuple[Port, str]] | None:
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


def check_no_loop(composition: Composition) -> None:
    """HlsError with the path if outputs of parts depend on themselves without a register between."""
    loop = find_loop(_edges(composition))
    if loop is not None:
        steps = [f"{part}.{output} (from {part}.{port})" for (part, output), port in loop]
        raise HlsError(f"{composition.name}: combinational loop: {' <- '.join([*steps, steps[0]])}")
