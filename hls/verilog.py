"""A PyRTL netlist as one synthesizable Verilog-2001 module.

PyRTL's own exporter nests expressions, whose width Verilog then takes from their context, and gives names
that depend on what was built before. Here every net is one assignment with explicit widths, names of
temporaries depend on the netlist alone (so its text can be hashed), and a register that holds its value is
written with an enable. Registers are reset synchronously by `rst` to their reset value (0 if none); memories are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import pyrtl

from hls.lower import Netlist
from hls.names import KEYWORDS, check_identifier
from hls.types import HlsError
from hls.verilog_pieces import Piece, Pieces, in_words

_TEMPORARY = re.compile(r"tmp(\d+)(?:_.*)?\Z")

WORD_BITS, WHOLE_BITS = 32, 64
"""Concatenations of more than the latter are assigned word by word, which simulators evaluate in time linear in their
length, and not part by part into ever longer temporaries."""
EXPANDED_BITS = 2048
"""Up to here Verilator writes an operation word by word (`--expand-limit`)."""


def bit_range(bits: int) -> str:
    """What stands between the kind and the name of a wire of so many bits."""
    return "" if bits == 1 else f"[{bits - 1}:0] "


def _literal(value: int, bits: int) -> str:
    return f"{bits}'h{value:x}"


class _Names:
    """Verilog identifier of every wire and memory: its own if it has one, else t0, t1, ... in order of creation."""

    def __init__(self, block: pyrtl.Block, module: str) -> None:
        temporary, named = [], []
        for wire in block.wirevector_set:
            if isinstance(wire, pyrtl.Const):
                continue  # written as a literal
            match = _TEMPORARY.match(wire.name)
            if match and not isinstance(wire, pyrtl.Input | pyrtl.Output):
                temporary.append((int(match.group(1)), wire))
            else:
                named.append(wire)
        self._of: dict[int, str] = {}
        self._taken = {*KEYWORDS, module}
        ports = [w for w in named if isinstance(w, pyrtl.Input | pyrtl.Output)]
        for port in ports:
            check_identifier(port.name, "port")
            if port.name == module:
                raise HlsError(f"a port of module {module!r} has its name: rename one, {module + '_unit'!r} would do")
            self._of[id(port)] = port.name
            self._taken.add(port.name)
        for wire in sorted(named, key=lambda w: w.name):
            if id(wire) not in self._of:
                self._of[id(wire)] = self._unique(re.sub(r"\W", "_", wire.name))
        for number, (_, wire) in enumerate(sorted(temporary, key=lambda item: item[0])):
            self._of[id(wire)] = self._unique(f"t{number}")

    def _unique(self, wanted: str) -> str:
        name, count = wanted if wanted[:1].isalpha() or wanted[:1] == "_" else f"n{wanted}", 0
        while (name if count == 0 else f"{name}_{count}") in self._taken:
            count += 1
        name = name if count == 0 else f"{name}_{count}"
        self._taken.add(name)
        return name

    def memory(self, memory: pyrtl.MemBlock) -> str:
        """The name of a memory."""
        if id(memory) not in self._of:
            self._of[id(memory)] = self._unique(re.sub(r"\W", "_", memory.name))
        return self._of[id(memory)]

    def __getitem__(self, wire: pyrtl.WireVector) -> str:
        return self._of[id(wire)]


class _Writer:
    def __init__(self, netlist: Netlist, shared: bool = False) -> None:
        self.netlist = netlist
        self.shared = shared
        self.block = netlist.block
        self.names = _Names(self.block, netlist.name)
        nets = [net for net in self.block.logic if net.dests]
        self.nets = sorted(nets, key=lambda net: _natural(self.names[net.dests[0]]))
        writes = [net for net in self.block.logic if net.op == "@"]
        self.writes = sorted(writes, key=lambda net: tuple(_natural(self._text(a)) for a in net.args))
        self.uses = Counter(id(arg) for net in self.block.logic for arg in net.args)
        self.driver = {id(net.dests[0]): net for net in self.nets}
        self.resolver = Pieces(self.block)
        self.pieces: dict[int, list[Piece]] = {}
        self.gated: dict[int, tuple[Piece, pyrtl.WireVector]] = {}

    def _text(self, wire: pyrtl.WireVector) -> str:
        return _literal(wire.val, len(wire)) if isinstance(wire, pyrtl.Const) else self.names[wire]

    def _fit(self, wire: pyrtl.WireVector, bits: int) -> str:
        """The wire in exactly `bits` bits: cut or extended by zeros."""
        if isinstance(wire, pyrtl.Const):
            return _literal(wire.val & ((1 << bits) - 1), bits)
        if len(wire) < bits:
            return f"{{{bits - len(wire)}'h0, {self.names[wire]}}}"
        return self.names[wire] if len(wire) == bits else f"{self.names[wire]}[{bits - 1}:0]"

    def _piece(self, piece: Piece) -> str:
        wire, low, high = piece.wire, piece.low, piece.low + piece.bits - 1
        if isinstance(wire, pyrtl.Const):
            return _literal((wire.val >> low) & ((1 << piece.bits) - 1), piece.bits)
        if piece.bits == len(wire):
            return self.names[wire]
        return f"{self.names[wire]}[{low}]" if low == high else f"{self.names[wire]}[{high}:{low}]"

    def _joined(self, pieces: list[Piece]) -> str:
        """Pieces, the lowest first, as a concatenation."""
        runs = [(text, len(list(same))) for text, same in groupby(self._piece(piece) for piece in reversed(pieces))]
        texts = [text if count == 1 else f"{{{count}{{{text}}}}}" for text, count in runs]
        return texts[0] if len(texts) == 1 else "{" + ", ".join(texts) + "}"

    def _assignments(self, net: pyrtl.LogicNet) -> Iterator[str]:
        """The assignment of a net; of a long concatenation, one a word."""
        name, bits = self.names[net.dests[0]], len(net.dests[0])
        pieces = self.pieces.get(id(net.dests[0]), [])
        if bits <= WHOLE_BITS or len(pieces) < 2:
            yield f"    assign {name} = {self._expression(net)};"
            return
        words = [self._joined(word) for word in in_words(pieces, WORD_BITS)]
        for first in (0, 1):  # neighbours would be joined again by Verilator
            for i in range(first, len(words), 2):
                high = min(bits, (i + 1) * WORD_BITS) - 1
                yield f"    assign {name}[{high}:{i * WORD_BITS}] = {words[i]};"

    def _expression(self, net: pyrtl.LogicNet) -> str:
        bits, args = len(net.dests[0]), net.args
        match net.op:
            case "w":
                return self._fit(args[0], bits)
            case "~":
                return f"~{self._fit(args[0], bits)}"
            case "n":
                return f"~({self._fit(args[0], bits)} & {self._fit(args[1], bits)})"
            case "&" if id(net.dests[0]) in self.gated:
                gate, value = self.gated[id(net.dests[0])]
                if bits <= EXPANDED_BITS:
                    return f"{{{bits}{{{self._piece(gate)}}}}} & {self._fit(value, bits)}"
                return f"{self._piece(gate)} ? {self._fit(value, bits)} : {_literal(0, bits)}"
            case "&" | "|" | "^" | "+" | "-" | "*":
                return f"{self._fit(args[0], bits)} {net.op} {self._fit(args[1], bits)}"
            case "<" | ">" if self._never(*(args if net.op == "<" else reversed(args))):
                return "1'h0"
            case "<" | ">" | "=":
                operator = "==" if net.op == "=" else net.op
                return f"{self._text(args[0])} {operator} {self._text(args[1])}"
            case "x":
                return f"{self._text(args[0])} ? {self._fit(args[2], bits)} : {self._fit(args[1], bits)}"
            case "c" | "s" if bits == sum(piece.bits for piece in self.pieces[id(net.dests[0])]):
                return self._joined(self.pieces[id(net.dests[0])])
            case "m":
                return f"{self.names.memory(net.op_param[1])}[{self._text(args[0])}]"
        raise HlsError(f"{self.netlist.name}: no Verilog for {net}")

    def _never(self, small: pyrtl.WireVector, large: pyrtl.WireVector) -> bool:
        """Whether `small < large` is false for every value, of which linters warn."""
        least = isinstance(large, pyrtl.Const) and large.val == 0
        return least or (isinstance(small, pyrtl.Const) and small.val == (1 << max(len(small), len(large))) - 1)

    def _held(self, net: pyrtl.LogicNet) -> pyrtl.LogicNet | None:
        """The mux that feeds a register its own value where an enable is 0, or None."""
        mux = self.driver.get(id(net.args[0]))
        if mux is None or mux.op != "x" or mux.args[1] is not net.dests[0]:
            return None
        return mux if self.uses[id(mux.dests[0])] == 1 else None

    def _read(self, net: pyrtl.LogicNet) -> tuple[pyrtl.WireVector, ...]:
        """The wires in the text of a net that is written, whose pieces are found here."""
        key = id(net.dests[0])
        if net.op in "cs":
            self.pieces[key] = self.resolver.of(net)
            return tuple([piece.wire for piece in self.pieces[key]])
        if net.op == "&":
            for gate, value in (net.args, net.args[::-1]):
                bit = self.resolver.repeated_bit(gate)
                if bit is not None:
                    self.gated[key] = bit, value
                    return bit.wire, value
        return tuple(net.args)

    def _needed(self) -> set[int]:
        """The wires that are read when slices and concatenations are looked through, and all that have a name."""
        found: set[int] = set()
        waiting = [net for net in self.block.logic if net.op in "r@" or not _TEMPORARY.match(net.dests[0].name)]
        while waiting:
            net = waiting.pop()
            args = net.args
            if net.dests:
                if id(net.dests[0]) in found:
                    continue
                found.add(id(net.dests[0]))
                args = self._read(net)
            waiting += [self.driver[id(arg)] for arg in args if id(arg) in self.driver]
        return found

    def lines(self) -> Iterator[str]:
        """The module, line by line."""
        ports = [("input", name, bits) for name, bits in self.netlist.inputs.items()]
        ports += [("output", name, bits) for name, bits in self.netlist.outputs.items()]
        yield f"// {self.netlist.name}, generated from its PyRTL netlist."
        yield "// The waiver: cutting a result to its proved range leaves high bits of its operands unread."
        yield "/* verilator lint_off UNUSEDSIGNAL */"
        yield f"module {self.netlist.name} ("
        yield "    input clk,"
        yield "    input rst" + ("," if ports else "")
        for i, (direction, name, bits) in enumerate(ports):
            yield f"    {direction} {bit_range(bits)}{name}" + ("," if i < len(ports) - 1 else "")
        yield ");"
        if self.shared:
            yield "    /* verilator no_inline_module */"
        registers = [net for net in self.nets if net.op == "r"]
        held = {id(net.dests[0]): self._held(net) for net in registers}
        skipped = {id(mux.dests[0]) for mux in held.values() if mux is not None}
        written = self._needed() - skipped
        logic = [net for net in self.nets if net.op != "r" and id(net.dests[0]) in written]
        for net in registers:
            yield f"    reg {bit_range(len(net.dests[0]))}{self.names[net.dests[0]]};"
        yield from self._memories()
        for net in logic:
            wire = net.dests[0]
            if not isinstance(wire, pyrtl.Output):
                yield f"    wire {bit_range(len(wire))}{self.names[wire]};"
        for net in logic:
            yield from self._assignments(net)
        yield from self._always(registers, held)
        for net in self.writes:
            address, data, enable = (self._text(arg) for arg in net.args)
            memory = self.names.memory(net.op_param[1])
            yield f"    always @(posedge clk) if ({enable}) {memory}[{address}] <= {data};"
        yield "endmodule"
        yield "/* verilator lint_on UNUSEDSIGNAL */"

    def memories(self) -> Iterator[tuple[pyrtl.MemBlock, str, int]]:
        """Every memory with its identifier and number of words."""
        blocks = {id(n.op_param[1]): n.op_param[1] for n in self.block.logic if n.op in "m@"}
        for memory in sorted(blocks.values(), key=lambda m: m.name):
            yield memory, self.names.memory(memory), 1 << memory.addrwidth

    def _memories(self) -> Iterator[str]:
        for memory, name, size in self.memories():
            yield f"    reg {bit_range(memory.bitwidth)}{name} [0:{size - 1}];"
            if isinstance(memory, pyrtl.RomBlock):
                yield "    initial begin"
                for address in range(size):
                    value = memory._get_read_data(address)
                    yield f"        {name}[{address}] = {_literal(value, memory.bitwidth)};"
                yield "    end"

    def _always(self, registers: list[pyrtl.LogicNet], held: dict[int, pyrtl.LogicNet | None]) -> Iterator[str]:
        """One clocked block for all registers of the same enable."""
        groups: dict[str, list[tuple[pyrtl.Register, str]]] = {}
        for net in registers:
            register, mux = net.dests[0], held[id(net.dests[0])]
            enable = "" if mux is None else self._text(mux.args[0])
            source = net.args[0] if mux is None else mux.args[2]
            groups.setdefault(enable, []).append((register, self._fit(source, len(register))))
        for enable, members in groups.items():
            yield "    always @(posedge clk) begin"
            yield "        if (rst) begin"
            for register, _ in members:
                yield f"            {self.names[register]} <= {_literal(register.reset_value or 0, len(register))};"
            yield f"        end else {f'if ({enable}) ' if enable else ''}begin"
            for register, value in members:
                yield f"            {self.names[register]} <= {value};"
            yield "        end"
            yield "    end"


def _natural(text: str) -> tuple[str, int, str]:
    """Sort key that puts t9 before t10."""
    head, digits, tail = re.fullmatch(r"(\D*)(\d*)(.*)", text).groups()  # type: ignore[union-attr]
    return head, int(digits or -1), tail


def to_verilog(netlist: Netlist, shared: bool = False) -> str:
    """The text of the module `netlist.name` with ports clk, rst (synchronous, active high) and those of the netlist.

    `shared`: Verilator compiles it once for all its instances.
    """
    check_identifier(netlist.name, "module")
    return "\n".join(_Writer(netlist, shared).lines()) + "\n"


def writable_memories(netlist: Netlist) -> dict[str, int]:
    """Identifier in the module, and number of words, of every memory that is not a table."""
    found = _Writer(netlist).memories()
    return {name: words for memory, name, words in found if not isinstance(memory, pyrtl.RomBlock)}
