"""Structural composition: instances of netlists and what drives each of their inputs.

A composition adds no logic. Every input of a part, and every output of the whole, is driven by a `Source`: slices of
the parts' outputs, of the whole's inputs and constants side by side, the first in the least significant bits. Several
instances may share one netlist, which is then one module of the exported Verilog, compiled once.

    c = Composer("pair")
    x = c.input("x", 8)
    first, second = c.part("first", adder), c.part("second", adder)
    c.connect("first", "a", x)
    c.connect("second", "a", concat(first["sum"][4:], constant(0, 4)))
    c.by_name("first")                                  # whatever is left: the signal of the same name
    c.output("y", second["sum"])
    composition = c.build()                             # checked: complete, widths, no combinational loop

`hls.flatten` makes one netlist of it, `hls.verilog_hierarchy` the Verilog; simulators take it as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hls.combinational import port_dependence, without_false_loops
from hls.lower import Netlist
from hls.names import check_identifier
from hls.sources import Piece, Source, concat, constant
from hls.types import HlsError

__all__ = ["Composer", "Composition", "Part", "Piece", "Source", "concat", "constant"]


@dataclass(frozen=True)
class Composition:
    """Parts and their connections, checked.

    Attributes:
        name: of the module.
        parts: netlist of every instance, in the order in which they were added.
        connections: for every instance, what drives each of its inputs.
        inputs: input ports and their bits, by name.
        drivers: what drives each output port, by name.
    """

    name: str
    parts: Mapping[str, Netlist]
    connections: Mapping[str, Mapping[str, Source]]
    inputs: Mapping[str, int]
    drivers: Mapping[str, Source]

    @cached_property
    def outputs(self) -> dict[str, int]:
        """Output ports and their bits, by name."""
        return {name: source.bits for name, source in self.drivers.items()}

    @property
    def latency_cycles(self) -> int:
        """A composition is no pipeline: 0."""
        return 0

    @cached_property
    def modules(self) -> tuple[Netlist, ...]:
        """The distinct netlists, in the order in which they were first used."""
        return tuple({id(netlist): netlist for netlist in self.parts.values()}.values())

    @cached_property
    def dependence(self) -> dict[int, dict[str, frozenset[str]]]:
        """For every module (by identity): inputs on which each output depends without a register between."""
        return {id(netlist): port_dependence(netlist) for netlist in self.modules}

    @cached_property
    def acyclic(self) -> Composition:
        """For tools that look at whole ports: itself, or with ports split into bits that close no loop.

        Raises:
            HlsError: for a combinational loop, as a path.
        """
        return without_false_loops(self)

    @property
    def register_bits(self) -> int:
        """Flip-flops of all instances."""
        return sum(netlist.register_bits for netlist in self.parts.values())


def nearest(name: str, known: Iterable[str]) -> str:
    """For a message: the known name that is closest, or all if there are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1, 0.5)
    return (
        f"; {close[0]!r} would do" if close else f"; there are {', '.join(names) or 'none'}" if len(names) < 12 else ""
    )


class Part:
    """An instance while composing: `part[port]` is an output, `part.inputs` and `part.outputs` its ports."""

    def __init__(self, name: str, netlist: Netlist) -> None:
        self.name = name
        self.netlist = netlist

    def __getitem__(self, port: str) -> Source:
        if port not in self.netlist.outputs:
            raise HlsError(f"part {self.name!r} has no output {port!r}{nearest(port, self.netlist.outputs)}")
        return Source((Piece(self.name, port, 0, self.netlist.outputs[port]),))

    @property
    def inputs(self) -> Mapping[str, int]:
        """Input ports and their bits."""
        return self.netlist.inputs

    @property
    def outputs(self) -> Mapping[str, int]:
        """Output ports and their bits."""
        return self.netlist.outputs


class Composer:
    """Builds a composition step by step; every step raises HlsError, naming part and port, for what cannot be."""

    def __init__(self, name: str) -> None:
        self.name = check_identifier(name, "module")
        self._parts: dict[str, Part] = {}
        self._inputs: dict[str, int] = {}
        self._connections: dict[str, dict[str, Source]] = {}
        self._drivers: dict[str, Source] = {}

    def _new_port(self, name: str) -> str:
        check_identifier(name, "port")
        if name in self._inputs or name in self._drivers or name == self.name:
            raise HlsError(f"{self.name}: the port name {name!r} is taken; '{name}_out' would do")
        return name

    def input(self, name: str, bits: int) -> Source:
        """An input port of the whole."""
        if bits < 1:
            raise HlsError(f"{self.name}: input {name!r} of {bits} bits; 1 is the least that works")
        self._inputs[self._new_port(name)] = bits
        return Source((Piece("", name, 0, bits),))

    def output(self, name: str, source: Source) -> None:
        """An output port of the whole."""
        self._drivers[self._new_port(name)] = self._known(source, f"output {name!r}")

    def part(self, name: str, netlist: Netlist) -> Part:
        """An instance of a netlist; give the same netlist object to instances that are to share a module."""
        check_identifier(name, "instance")
        if name in self._parts:
            raise HlsError(f"{self.name}: there is a part {name!r} already; '{name}_{len(self._parts)}' would do")
        self._parts[name] = Part(name, netlist)
        self._connections[name] = {}
        return self._parts[name]

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise HlsError(f"{self.name} has no part {name!r}{nearest(name, self._parts)}")
        return self._parts[name]

    def _known(self, source: Source, where: str) -> Source:
        """The source itself, if it is one of this composition."""
        if not source.pieces:
            raise HlsError(f"{self.name}: {where} is driven by nothing")
        for piece in source.pieces:
            bits = None
            if piece.part:
                bits = self._part(piece.part)[piece.port].bits
            elif piece.port:
                bits = self._inputs.get(piece.port)
                if bits is None:
                    raise HlsError(
                        f"{self.name}: {where} is driven by {piece.port!r}, which is no input"
                        f"{nearest(piece.port, self._inputs)}"
                    )
            if bits is not None and piece.low + piece.bits > bits:
                raise HlsError(f"{self.name}: {where} is driven by {piece}, but that port has {bits} bits")
        return source

    def connect(self, part: str, port: str, source: Source | int) -> None:
        """Drive an input of a part by a source of the same width, or by an integer constant."""
        inputs = self._part(part).inputs
        if port not in inputs:
            raise HlsError(f"part {part!r} has no input {port!r}{nearest(port, inputs)}")
        if isinstance(source, int):
            try:
                source = constant(source, inputs[port])
            except HlsError as error:
                raise HlsError(f"input {port!r} of part {part!r}: {error}") from None
        if source.bits != inputs[port]:
            raise HlsError(
                f"input {port!r} of part {part!r} has {inputs[port]} bits, its source {source} has {source.bits}"
            )
        if port in self._connections[part]:
            raise HlsError(f"input {port!r} of part {part!r} is driven by {self._connections[part][port]} already")
        self._connections[part][port] = self._known(source, f"input {port!r} of part {part!r}")

    def connect_all(self, part: str, sources: Mapping[str, Source | int]) -> None:
        """`connect` for several inputs."""
        for port, source in sources.items():
            self.connect(part, port, source)

    def signal(self, name: str) -> Source:
        """The input of the whole, or the output of the one part, of this name."""
        found = [Source((Piece("", name, 0, self._inputs[name]),))] if name in self._inputs else []
        found += [part[name] for part in self._parts.values() if name in part.outputs]
        if len(found) == 1:
            return found[0]
        if found:
            raise HlsError(
                f"{self.name}: signal {name!r} is ambiguous: {', '.join(map(str, found))}; take the part's own"
            )
        raise HlsError(f"{self.name} has no signal {name!r}{nearest(name, self._signals())}")

    def _signals(self) -> Iterator[str]:
        yield from self._inputs
        for part in self._parts.values():
            yield from part.outputs

    def unconnected(self, part: str) -> list[str]:
        """Inputs of a part that nothing drives yet."""
        return [port for port in self._part(part).inputs if port not in self._connections[part]]

    def by_name(self, part: str, skip: Collection[str] = ()) -> None:
        """Drive every input that is still unconnected by the signal of the same name, but those to `skip`."""
        for port in self.unconnected(part):
            if port not in skip:
                try:
                    source = self.signal(port)
                except HlsError as error:
                    raise HlsError(f"input {port!r} of part {part!r}: {error}") from None
                self.connect(part, port, source)

    def build(self) -> Composition:
        """The composition.

        Raises:
            HlsError: for inputs that nothing drives, inputs of the whole that drive nothing, or a combinational loop.
        """
        missing = [
            f"{part}.{port} ({self._parts[part].inputs[port]})"
            for part in self._parts
            for port in self.unconnected(part)
        ]
        if missing:
            raise HlsError(f"{self.name}: nothing drives {len(missing)} inputs (bits): {', '.join(missing)}")
        pieces = [p for ports in self._connections.values() for source in ports.values() for p in source.pieces]
        pieces += [piece for source in self._drivers.values() for piece in source.pieces]
        unused = set(self._inputs) - {piece.port for piece in pieces if not piece.part}
        if unused:
            raise HlsError(f"{self.name}: inputs {sorted(unused)} drive nothing")
        composition = Composition(
            name=self.name,
            parts={name: part.netlist for name, part in self._parts.items()},
            connections={name: dict(sorted(ports.items())) for name, ports in self._connections.items()},
            inputs=dict(sorted(self._inputs.items())),
            drivers=dict(sorted(self._drivers.items())),
        )
        _ = composition.acyclic
        return composition
