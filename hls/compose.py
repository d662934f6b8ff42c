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
from typing import overload

from hls.combinational import check_no_loop
from hls.lower import Netlist
from hls.names import check_identifier
from hls.types import HlsError


@dataclass(frozen=True)
class Piece:
    """Bits of one port, or of a constant.

    Attributes:
        part: instance whose output it is; empty for an input of the whole, and for a constant.
        port: the port; empty for a constant.
        low: first bit; a constant's value.
        bits: how many bits.
    """

    part: str
    port: str
    low: int
    bits: int

    @property
    def is_constant(self) -> bool:
        """Whether it is a constant of value `low`."""
        return not self.port

    def cut(self, low: int, bits: int) -> Piece:
        """Some of its bits."""
        if self.is_constant:
            return Piece("", "", (self.low >> low) & ((1 << bits) - 1), bits)
        return Piece(self.part, self.port, self.low + low, bits)

    def __str__(self) -> str:
        if self.is_constant:
            return f"{self.bits}'d{self.low}"
        name = f"{self.part}.{self.port}" if self.part else self.port
        return f"{name}[{self.low}:{self.low + self.bits}]"


@dataclass(frozen=True)
class Source:
    """What drives an input: pieces side by side, the lowest first; `source[lo:hi]`, `source[i]` are sources again."""

    pieces: tuple[Piece, ...]

    @property
    def bits(self) -> int:
        """How many bits it drives."""
        return sum(piece.bits for piece in self.pieces)

    def __len__(self) -> int:
        return self.bits

    @overload
    def __getitem__(self, index: int) -> Source: ...

    @overload
    def __getitem__(self, index: slice) -> Source: ...

    def __getitem__(self, index: int | slice) -> Source:
        if isinstance(index, int):
            low, high, step = (index, index + 1, 1) if index >= 0 else (self.bits + index, self.bits + index + 1, 1)
        else:
            low, high, step = index.indices(self.bits)
            if index.stop is not None and index.stop > self.bits:
                high = index.stop
        if step != 1 or not 0 <= low < high <= self.bits:
            raise HlsError(
                f"bits [{low}:{high}] of {self}, which has {self.bits}: 0 <= low < high <= {self.bits} works"
            )
        found, position = [], 0
        for piece in self.pieces:
            begin, end = max(low - position, 0), min(high - position, piece.bits)
            if begin < end:
                found.append(piece.cut(begin, end - begin))
            position += piece.bits
        return Source(tuple(found))

    def chunks(self, count: int) -> list[Source]:
        """Split into `count` sources of equal width, the lowest first; HlsError if that does not divide."""
        size, rest = divmod(self.bits, count)
        if rest or not size:
            raise HlsError(f"{self} has {self.bits} bits, which are not {count} equal parts")
        return [self[i * size : (i + 1) * size] for i in range(count)]

    def __str__(self) -> str:
        return " ++ ".join(map(str, self.pieces))


def concat(*sources: Source) -> Source:
    """Sources side by side, the first in the least significant bits."""
    pieces: list[Piece] = []
    for piece in (piece for source in sources for piece in source.pieces):
        last = pieces[-1] if pieces else None
        same = last is not None and not piece.is_constant and (last.part, last.port) == (piece.part, piece.port)
        if last is not None and same and last.low + last.bits == piece.low:
            pieces[-1] = Piece(last.part, last.port, last.low, last.bits + piece.bits)
        else:
            pieces.append(piece)
    return Source(tuple(pieces))


def constant(value: int, bits: int) -> Source:
    """A constant; HlsError if it does not fit."""
    if bits < 1 or value < 0 or value >> bits:
        raise HlsError(f"constant {value} does not fit in {bits} bits; {max(1, value.bit_length())} would do")
    return Source((Piece("", "", value, bits),))


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
            HlsError: for inputs that nothing drives, or a combinational loop through several parts, as a path.
        """
        missing = [
            f"{part}.{port} ({self._parts[part].inputs[port]})"
            for part in self._parts
            for port in self.unconnected(part)
        ]
        if missing:
            raise HlsError(f"{self.name}: nothing drives {len(missing)} inputs (bits): {', '.join(missing)}")
        composition = Composition(
            name=self.name,
            parts={name: part.netlist for name, part in self._parts.items()},
            connections={name: dict(sorted(ports.items())) for name, ports in self._connections.items()},
            inputs=dict(sorted(self._inputs.items())),
            drivers=dict(sorted(self._drivers.items())),
        )
        check_no_loop(composition)
        return composition
