"""A composition as Verilog-2001: one module for every distinct netlist, and a top module of instances and wires.

Modules that are instantiated several times stay modules in Verilator, so that they are compiled once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hls.compose import Composition
from hls.names import KEYWORDS, check_identifier
from hls.sources import Source
from hls.verilog import bit_range, to_verilog, writable_memories


def _module_names(composition: Composition) -> dict[int, str]:
    """Module of each netlist (by identity): its name, with a number behind where that is taken."""
    taken, names = {composition.name}, {}
    for netlist in composition.modules:
        name, count = netlist.name, 1
        while name in taken:
            count += 1
            name = f"{netlist.name}_{count}"
        taken.add(name)
        names[id(netlist)] = name
    return names


def _unique(wanted: str, taken: set[str]) -> str:
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


class _Top:
    """Writes the top module of a composition whose ports close no loop."""

    def __init__(self, composition: Composition) -> None:
        self._composition = composition
        self._modules = _module_names(composition)
        taken = {*KEYWORDS, *composition.inputs, *composition.outputs, *self._modules.values(), composition.name}
        self.instances = {part: _unique(part, taken) for part in composition.parts}
        self._wires = {
            (part, port): _unique(f"{part}__{port}", taken)
            for part, netlist in composition.parts.items()
            for port in netlist.outputs
        }

    def _expression(self, source: Source) -> str:
        texts = []
        for piece in reversed(source.pieces):
            if piece.is_constant:
                texts.append(f"{piece.bits}'h{piece.low:x}")
                continue
            if piece.part:
                name, bits = (
                    self._wires[piece.part, piece.port],
                    self._composition.parts[piece.part].outputs[piece.port],
                )
            else:
                name, bits = piece.port, self._composition.inputs[piece.port]
            if piece.bits == bits:
                texts.append(name)
            elif piece.bits == 1:
                texts.append(f"{name}[{piece.low}]")
            else:
                texts.append(f"{name}[{piece.low + piece.bits - 1}:{piece.low}]")
        return texts[0] if len(texts) == 1 else "{" + ", ".join(texts) + "}"

    def lines(self) -> Iterator[str]:
        """The module, line by line."""
        composition = self._composition
        ports = ["input clk", "input rst"]
        ports += [f"input {bit_range(bits)}{name}" for name, bits in composition.inputs.items()]
        ports += [f"output {bit_range(bits)}{name}" for name, bits in composition.outputs.items()]
        yield f"// {composition.name}: {len(composition.parts)} instances of {len(composition.modules)} modules."
        yield "// The waiver: not every output of a part is needed."
        yield "/* verilator lint_off UNUSEDSIGNAL */"
        yield f"module {composition.name} ("
        yield ",\n".join(f"    {port}" for port in ports)
        yield ");"
        for (part, port), wire in self._wires.items():
            yield f"    wire {bit_range(composition.parts[part].outputs[port])}{wire};"
        for part, netlist in composition.parts.items():
            pins = ["clk(clk)", "rst(rst)"]
            pins += [f"{p}({self._expression(source)})" for p, source in composition.connections[part].items()]
            pins += [f"{port}({self._wires[part, port]})" for port in netlist.outputs]
            yield f"    {self._modules[id(netlist)]} {self.instances[part]} ("
            yield ",\n".join(f"        .{pin}" for pin in pins)
            yield "    );"
        for name, source in composition.drivers.items():
            yield f"    assign {name} = {self._expression(source)};"
        yield "endmodule"
        yield "/* verilator lint_on UNUSEDSIGNAL */"


def to_verilog_modules(composition: Composition) -> dict[str, str]:
    """Text of every module by its name; the top module, called as the composition, is the last."""
    check_identifier(composition.name, "module")
    acyclic = composition.acyclic
    names = _module_names(acyclic)
    uses = Counter(id(netlist) for netlist in acyclic.parts.values())
    texts = {
        names[id(netlist)]: to_verilog(replace(netlist, name=names[id(netlist)]), shared=uses[id(netlist)] > 1)
        for netlist in acyclic.modules
    }
    return {**texts, composition.name: "\n".join(_Top(acyclic).lines()) + "\n"}


def instance_memories(composition: Composition) -> dict[str, int]:
    """Path below the top module, and number of words, of every memory that is not a table."""
    acyclic = composition.acyclic
    names = _module_names(acyclic)
    found = {id(n): writable_memories(replace(n, name=names[id(n)])) for n in acyclic.modules}
    return {
        f"{_Top(acyclic).instances[part]}.{memory}": words
        for part, netlist in acyclic.parts.items()
        for memory, words in found[id(netlist)].items()
    }
