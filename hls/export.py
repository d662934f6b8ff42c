"""Verilog for other tools: the module, a self-checking testbench with recorded vectors, and runs of both.

`export` writes into a folder

    NAME.v            the module (hls.verilog); of a composition, a file for every module, the top in NAME.v
    NAME_tb.v         the testbench, Verilog-2001: applies a row a cycle, compares every output with `!==`, so that
                      an X is a mismatch, and ends with "PASS: ..." or "FAIL: ..."
    NAME_in.hex       inputs of every cycle, NAME_out.hex  expected outputs, one packed row a line

The vectors are recorded from another simulator of the same netlist, so a pass says that the tool which runs the
testbench agrees with it from the first cycle after reset on.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hls.compose import Composition
from hls.simulate import Design, Simulator, Words, from_words, to_words, word_count
from hls.types import HlsError
from hls.verilog import to_verilog, writable_memories
from hls.verilog_hierarchy import instance_memories, to_verilog_modules


class ExportError(HlsError):
    """A tool is missing, or does not agree with the recorded vectors."""


@dataclass(frozen=True)
class Vectors:
    """Inputs and outputs of consecutive cycles from reset on: {port: (cycles, words)}."""

    inputs: Mapping[str, Words]
    outputs: Mapping[str, Words]

    @property
    def cycles(self) -> int:
        """How many cycles were recorded."""
        return len(next(iter(self.outputs.values())))


def random_inputs(netlist: Design, cycles: int, seed: int) -> dict[str, Words]:
    """Uniformly random bits on every input, handshake included: bubbles and stalls occur by themselves."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, bits in netlist.inputs.items():
        rows = [int.from_bytes(rng.bytes(4 * word_count(bits)), "little") for _ in range(cycles)]
        columns[name] = to_words([row & ((1 << bits) - 1) for row in rows], bits)
    return columns


def record(simulator: Simulator, inputs: Mapping[str, Words]) -> Vectors:
    """Reset the simulator, apply the inputs, and keep what comes out."""
    simulator.reset()
    return Vectors(dict(inputs), simulator.run(inputs))


def _modules(netlist: Design) -> dict[str, str]:
    """Text of every module, the top module last."""
    if isinstance(netlist, Composition):
        return to_verilog_modules(netlist)
    return {netlist.name: to_verilog(netlist)}


def export(netlist: Design, folder: Path, vectors: Vectors | None = None) -> list[Path]:
    """Write the modules, and with vectors a testbench; returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    name = netlist.name
    files = {f"{module}.v": text for module, text in _modules(netlist).items()}
    if vectors is not None:
        if set(vectors.inputs) != set(netlist.inputs) or set(vectors.outputs) != set(netlist.outputs):
            raise ExportError(f"the vectors are not those of {name}: it has ports {netlist.inputs}, {netlist.outputs}")
        files[f"{name}_tb.v"] = testbench(netlist, vectors.cycles)
        files[f"{name}_in.hex"] = _rows(netlist.inputs, vectors.inputs)
        files[f"{name}_out.hex"] = _rows(netlist.outputs, vectors.outputs)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        for file, text in files.items():
            (Path(work) / file).write_text(text, encoding="utf-8")
        for file in files:
            (Path(work) / file).replace(folder / file)
    return [folder / file for file in files]


def _rows(ports: Mapping[str, int], columns: Mapping[str, Words]) -> str:
    """One line a cycle: all ports side by side in hexadecimal, the first port in the least significant bits."""
    values = [from_words(columns[name]) for name in ports]
    digits = -(-sum(ports.values()) // 4)
    lines = []
    for row in zip(*values, strict=True):
        packed, position = 0, 0
        for value, bits in zip(row, ports.values(), strict=True):
            packed |= value << position
            position += bits
        lines.append(f"{packed:0{digits}x}")
    return "\n".join(lines) + "\n"


_TESTBENCH = """// Self-checking testbench of @NAME@: @CYCLES@ recorded cycles. Run it in the folder of its .hex files;
// +vcd writes @NAME@.vcd. Memories begin at zero, as in the recording; +unwritten_x leaves them unknown, as in silicon.
`timescale 1ps / 1ps
module @NAME@_tb;
    reg clk, rst;
    reg [@IN@:0] stimulus [0:@LAST@];
    reg [@OUT@:0] expected [0:@LAST@];
    reg [@IN@:0] in_row;
    wire [@OUT@:0] out_row;
    integer cycle, failures, word;
    @NAME@ dut (
        .clk(clk),
        .rst(rst)@CONNECTIONS@
    );
    always #500 clk = ~clk;
    initial begin
        if ($test$plusargs("vcd")) begin
            $dumpfile("@NAME@.vcd");
            $dumpvars(0, @NAME@_tb);
        end
        $readmemh("@NAME@_in.hex", stimulus);
        $readmemh("@NAME@_out.hex", expected);
        clk = 0;
        rst = 1;
        in_row = 0;
        failures = 0;@CLEAR@
        @(negedge clk);
        rst = 0;
        for (cycle = 0; cycle < @CYCLES@; cycle = cycle + 1) begin
            in_row = stimulus[cycle];
            #400;
            if (out_row !== expected[cycle]) begin
                failures = failures + 1;
                if (failures <= 10)
                    $display("cycle %0d: outputs %h, expected %h", cycle, out_row, expected[cycle]);
            end
            @(negedge clk);
        end
        if (failures == 0) $display("PASS: @NAME@, @CYCLES@ cycles");
        else $display("FAIL: @NAME@, %0d of @CYCLES@ cycles differ", failures);
        $finish;
    end
endmodule
"""


def testbench(netlist: Design, cycles: int) -> str:
    """The text of the testbench for a number of recorded cycles."""
    if not netlist.inputs or not netlist.outputs or cycles < 1:
        raise ExportError(f"{netlist.name}: a testbench needs inputs, outputs and at least 1 cycle")
    memories = instance_memories(netlist) if isinstance(netlist, Composition) else writable_memories(netlist)
    connections = []
    for row, ports in (("in_row", netlist.inputs), ("out_row", netlist.outputs)):
        position = 0
        for name, bits in ports.items():
            select = f"[{position}]" if bits == 1 else f"[{position + bits - 1}:{position}]"
            connections.append(f",\n        .{name}({row}{select})")
            position += bits
    values = {
        "NAME": netlist.name,
        "CYCLES": str(cycles),
        "LAST": str(cycles - 1),
        "IN": str(sum(netlist.inputs.values()) - 1),
        "OUT": str(sum(netlist.outputs.values()) - 1),
        "CONNECTIONS": "".join(connections),
        "CLEAR": "".join(
            f'\n        if (!$test$plusargs("unwritten_x"))'
            f"\n            for (word = 0; word < {words}; word = word + 1) dut.{memory}[word] = 0;"
            for memory, words in memories.items()
        ),
    }
    text = _TESTBENCH
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _run(command: list[str], folder: Path) -> str:
    """Output of a tool; ExportError if it is missing or fails."""
    if shutil.which(command[0]) is None:
        package = "iverilog" if command[0] in ("iverilog", "vvp") else command[0]
        raise ExportError(f"{command[0]} is not on the PATH: install it (apt install {package})")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode:
        raise ExportError(f"{' '.join(command)} failed (exit {done.returncode}):\n{output[-4000:]}")
    return output


def lint(netlist: Design) -> None:
    """`verilator --lint-only -Wall` on all modules; ExportError with its findings, if any."""
    with tempfile.TemporaryDirectory() as name:
        files = [path.name for path in export(netlist, Path(name))]
        _run(["verilator", "--lint-only", "-Wall", "--top-module", netlist.name, *files], Path(name))


def run_icarus(netlist: Design, folder: Path, vcd: bool = False, unwritten_x: bool = False) -> str:
    """Compile and run an exported testbench in Icarus Verilog; returns its PASS line, ExportError otherwise.

    Args:
        netlist: what was exported.
        folder: where to.
        vcd: write a waveform.
        unwritten_x: a memory word is unknown until it is written, instead of zero.
    """
    name = netlist.name
    files = [*(f"{module}.v" for module in _modules(netlist)), f"{name}_tb.v"]
    _run(["iverilog", "-g2001", "-Wall", "-Wno-timescale", "-o", f"{name}.vvp", *files], folder)
    output = _run(["vvp", "-n", f"{name}.vvp", *["+vcd"] * vcd, *["+unwritten_x"] * unwritten_x], folder)
    verdict = [line for line in output.splitlines() if line.startswith(f"PASS: {name}")]
    if not verdict:
        raise ExportError(f"Icarus Verilog does not agree with the recorded vectors of {name}:\n{output[-4000:]}")
    return verdict[0]
