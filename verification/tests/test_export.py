"""Exported Verilog: lint-clean, the same in Icarus Verilog, no X after reset, testbenches that can fail."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyrtl
import pytest
from hypothesis import HealthCheck, given, settings

from hls.export import ExportError, Vectors, export, lint, random_inputs, record, run_icarus
from hls.lower import Netlist, building, lower
from hls.schedule import schedule
from hls.simulate import open_simulator
from hls.trace import SInt, trace
from hls.types import HlsError
from hls.verilog import to_verilog
from verification.tests.hls_graphs import TinyTechnology, counter_with_memory, dot_graph, many_operators, programs

TINY = TinyTechnology()
ROOT = Path(__file__).resolve().parents[2]
NETLIST = lower(schedule(many_operators(), TINY, 500))
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")


def recorded(netlist, cycles=80, seed=0):
    with open_simulator(netlist, "fast") as simulator:
        return record(simulator, random_inputs(netlist, cycles, seed))


def netlists():
    return {
        "many": NETLIST,
        "dot": lower(schedule(dot_graph(), TINY, 300)),
        "wires": lower(
            schedule(trace(lambda a: [a, 5], {"a": SInt(8)}, name="wires"), TINY, 400, output_register=False)
        ),
    }


@needs_verilator
@pytest.mark.parametrize("name", ["many", "dot", "wires"])
def test_verilator_finds_nothing_to_complain_about(name):
    lint(netlists()[name])


@needs_verilator
def test_lint_finds_a_planted_fault(monkeypatch):
    text = to_verilog(NETLIST)
    monkeypatch.setattr(
        "hls.export.to_verilog", lambda n: re.sub(r"(assign t\d+ = )(\w+)( \+)", r"\1{2'h0, \2}\3", text)
    )
    with pytest.raises(ExportError, match="WIDTH"):
        lint(NETLIST)


@needs_icarus
@pytest.mark.parametrize("name", ["many", "dot", "wires"])
def test_icarus_agrees_with_the_recorded_vectors(name, tmp_path):
    netlist = netlists()[name]
    files = export(netlist, tmp_path, recorded(netlist))
    assert [f.name for f in files] == [f"{netlist.name}{end}" for end in (".v", "_tb.v", "_in.hex", "_out.hex")]
    assert run_icarus(netlist, tmp_path) == f"PASS: {netlist.name}, 80 cycles"


@needs_icarus
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs())
def test_icarus_agrees_on_random_graphs(tmp_path, program):
    netlist = lower(schedule(program.graph(), TINY, 300))
    export(netlist, tmp_path, recorded(netlist, 40))
    run_icarus(netlist, tmp_path)


@needs_icarus
def test_the_testbench_sees_one_wrong_bit(tmp_path):
    netlist = netlists()["dot"]
    good = recorded(netlist)
    wrong = {name: words.copy() for name, words in good.outputs.items()}
    wrong["doubled"][70, 0] ^= 1
    export(netlist, tmp_path, Vectors(good.inputs, wrong))
    with pytest.raises(ExportError, match=r"cycle 70: outputs(.|\n)*FAIL: dot, 1 of 80 cycles differ"):
        run_icarus(netlist, tmp_path)


@needs_icarus
def test_the_testbench_sees_an_x(tmp_path):
    """Without its reset a module starts with X in Icarus, which no recorded bit equals."""
    netlist = netlists()["dot"]
    export(netlist, tmp_path, recorded(netlist))
    module = tmp_path / "dot.v"
    module.write_text(module.read_text(encoding="utf-8").replace("if (rst)", "if (1'b0)"), encoding="utf-8")
    with pytest.raises(ExportError, match="FAIL: dot"):
        run_icarus(netlist, tmp_path)


def unknown_after_reset(vcd, reset_ps=500):
    """Signals of the module that are X at or after the end of reset, by name; memories are not dumped."""
    time = 0
    names: dict[str, str] = {}
    scopes: list[str] = []
    unknown: set[str] = set()
    for line in vcd.splitlines():
        words = line.split()
        if line.startswith("$scope"):
            scopes.append(words[2])
        elif line.startswith("$upscope"):
            scopes.pop()
        elif line.startswith("$var"):
            if "dut" in scopes:
                names[words[3]] = words[4]
        elif line.startswith("#"):
            time = int(line[1:])
        elif line[:1] in "01xz":
            value, symbol = line[0], line[1:]
            (unknown.add if value in "xz" else unknown.discard)(symbol)
        elif line.startswith("b"):
            (unknown.add if set(words[0]) & set("xz") else unknown.discard)(words[1])
        if time > reset_ps and unknown & set(names):
            return {names[s] for s in unknown if s in names}
    return set()


@needs_icarus
def test_nothing_is_x_after_reset(tmp_path):
    export(NETLIST, tmp_path, recorded(NETLIST, 20))
    run_icarus(NETLIST, tmp_path, vcd=True)
    wave = tmp_path / f"{NETLIST.name}.vcd"
    assert unknown_after_reset(wave.read_text(encoding="utf-8")) == set()
    module = tmp_path / f"{NETLIST.name}.v"
    text = module.read_text(encoding="utf-8")
    line, register = next(re.finditer(r"^ +(\w+_s2) <= \d+'h0;$", text, re.MULTILINE)).group(0, 1)
    module.write_text(text.replace(line, ""), encoding="utf-8")  # one register loses its reset
    with contextlib.suppress(ExportError):
        run_icarus(NETLIST, tmp_path, vcd=True)
    assert register in unknown_after_reset(wave.read_text(encoding="utf-8"))


@needs_icarus
def test_memories_and_roms_export(tmp_path):
    """Asked to, a memory word is X until it is written: the first read of each differs from PyRTL's 0, nothing else."""
    netlist = counter_with_memory()
    inputs = random_inputs(netlist, 64, 1)
    inputs["address"][:, 0] = np.arange(64) // 4 % 8
    inputs["write_it"][:32] = 1
    with open_simulator(netlist, "fast") as simulator:
        export(netlist, tmp_path, record(simulator, inputs))
    assert run_icarus(netlist, tmp_path) == "PASS: counter, 64 cycles"
    with pytest.raises(ExportError, match="FAIL: counter, 8 of 64") as caught:
        run_icarus(netlist, tmp_path, unwritten_x=True)
    assert re.findall(r"cycle (\d+):", str(caught.value)) == [str(4 * word) for word in range(8)]


@needs_verilator
def test_memories_lint():
    lint(counter_with_memory())


def test_text_depends_on_the_netlist_alone():
    """Not on what was built before, nor on the order of Python's sets: both would defeat the cache."""
    first = to_verilog(lower(schedule(dot_graph(), TINY, 300)))
    lower(schedule(dot_graph(3), TINY, 300))
    assert to_verilog(lower(schedule(dot_graph(), TINY, 300))) == first
    assert "else if (advance)" in first
    assert to_verilog(NETLIST) == to_verilog(lower(schedule(many_operators(), TINY, 500)))
    code = (
        "from verification.tests.hls_graphs import TinyTechnology, many_operators;"
        "from hls.lower import lower; from hls.schedule import schedule; from hls.verilog import to_verilog;"
        "print(to_verilog(lower(schedule(many_operators(), TinyTechnology(), 500))), end='')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == to_verilog(NETLIST)


def test_hand_written_names_become_identifiers():
    block = pyrtl.Block()
    with building(block):
        a = pyrtl.Input(2, "a")
        inner = pyrtl.WireVector(2, "fifo.head[0]")
        inner <<= ~a
        reg = pyrtl.Register(2, "reg")
        clash = pyrtl.Register(2, "names")  # the module's own name
        clash.next <<= reg
        reg.next <<= inner.nand(a)
        out = pyrtl.Output(4, "out")
        out <<= pyrtl.concat(clash, reg[0], reg > inner)
    text = to_verilog(Netlist("names", block))
    assert "fifo_head_0_" in text
    assert "reg [1:0] reg_1;" in text
    assert "reg [1:0] names_1;" in text
    if shutil.which("verilator"):
        lint(Netlist("names", block))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: to_verilog(Netlist("module", pyrtl.Block())), "'module_' would do"),
        (lambda: to_verilog(lower(schedule(dot_graph(), TINY, 300), name="a-b")), "'a_b' would do"),
        (lambda: to_verilog(lower(schedule(dot_graph(), TINY, 300), name="total")), "'total_unit' would do"),
    ],
)
def test_errors(make, message):
    with pytest.raises(HlsError, match=message):
        make()


def test_a_port_that_is_a_keyword_is_refused():
    block = pyrtl.Block()
    with building(block):
        out = pyrtl.Output(1, "wire")
        out <<= pyrtl.Input(1, "a")
    with pytest.raises(HlsError, match="'wire_' would do"):
        to_verilog(Netlist("names", block))


def test_missing_tools_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ExportError, match="apt install iverilog"):
        run_icarus(NETLIST, tmp_path)
    with pytest.raises(ExportError, match="apt install verilator"):
        lint(NETLIST)


def test_a_testbench_needs_something_to_compare(tmp_path):
    with pytest.raises(ExportError, match="at least 1 cycle"):
        export(
            NETLIST,
            tmp_path,
            Vectors(*({n: np.zeros((0, 1), np.uint32) for n in p} for p in (NETLIST.inputs, NETLIST.outputs))),
        )
