"""The library's gates as a Liberty file, for synthesis.

Delay of a gate of drive strength `x` is ``(parasitic + load * (1 + wire_load) / (x * c)) * FO4 / 5`` (logical effort;
`c` is the input capacitance of the smallest inverter, an input of a gate has ``effort * x * c``), independent of the
input's slope: time in ps, capacitance in units of `c`, written as fF.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hls.technology import Technology

DRIVES = (1, 2, 4, 8)
LOADS = (0.0, 64.0)  # two points make a line
COMPLEX_GATES = ("HALF_ADDER", "FULL_ADDER")  # two outputs: mappers do not use them


def drive_area(technology: Technology, gate: str, drive: int) -> float:
    """Area in um2 of `gate` at a drive strength: the drive transistors' part of the cell grows with it."""
    grown = 1 + technology.drive_growth.value * (drive - 1)
    return technology.gates[gate].area_ge.value * technology.nand2_area.value * grown


def gate_inputs(function: str) -> list[str]:
    """Names of a gate's inputs, in order of appearance in its function."""
    return list(dict.fromkeys(re.findall(r"[A-Z]\w*", function)))


def write_liberty(technology: Technology) -> str:
    """The gates of `technology` as Liberty text, each at drive strengths 1, 2, 4 and 8 (``NAND2_X4``)."""
    name = re.sub(r"\W+", "_", technology.name)
    index = f'index_1 ("1, 1000"); index_2 ("{LOADS[0]}, {LOADS[1]}");'
    lines = [
        f"library ({name}) {{",
        '  delay_model : table_lookup; time_unit : "1ps"; voltage_unit : "1V"; current_unit : "1mA";',
        '  capacitive_load_unit (1, ff); leakage_power_unit : "1nW"; pulling_resistance_unit : "1kohm";',
        "  nom_voltage : 1.1; nom_temperature : 25; nom_process : 1;",
        "  lu_table_template (line) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;",
        f"    {index} }}",
    ]
    for gate in technology.gates.values():
        if gate.name in COMPLEX_GATES:
            continue
        for drive in DRIVES:
            lines += _cell(technology, gate.name, drive)
    return "\n".join([*lines, "}", ""])


def _cell(technology: Technology, name: str, drive: int) -> Iterator[str]:
    gate = technology.gates[name]
    tau = technology.fo4.value / 5
    delays = [tau * (gate.parasitic.value + load * (1 + technology.wire_load.value) / drive) for load in LOADS]
    row = ", ".join(f"{d:.4f}" for d in delays)
    values = f'values ("{row}", "{row}");'
    tables = [
        f"        {table} (line) {{ {values} }}"
        for table in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    ]
    inputs = gate_inputs(gate.function)
    yield f"  cell ({name}_X{drive}) {{ area : {drive_area(technology, name, drive):.4f};"
    for pin in inputs:
        yield f"    pin ({pin}) {{ direction : input; capacitance : {gate.effort.value * drive:.4f}; }}"
    yield f'    pin (Y) {{ direction : output; function : "{gate.function}"; max_capacitance : {16 * drive};'
    for pin in inputs:
        yield f'      timing () {{ related_pin : "{pin}"; timing_sense : non_unate;'
        yield from tables
        yield "      }"
    yield "    }"
    yield "  }"
