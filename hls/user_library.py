"""A user's Liberty file in the place of the library's gates: ``load_liberty(path)``.

* Areas: the smallest cell of each gate's function; a NAND2 is the new unit of all operator formulas.
* Delays: FO4 is an inverter of the file driving four of itself at the slew that this settles to; a gate's effort and
  parasitic are the line through its delay without load and at fan-out 4 of itself.
* Flip-flop: the smallest plain D flip-flop; clock to output at fan-out 4, setup at that slew.

What the file does not hold (SRAM, energies, gates it has no cell for) stays as it was, with its provenance.
Operator formulas keep their gate counts: they are fits to synthesis onto the library's own gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from hls.costs import FlipFlop, Gate
from hls.gates import gate_inputs
from hls.liberty import Function, Group, LibertyError, lookup_table, parse_liberty
from hls.quantity import Quantity
from hls.technology import Technology, load

_TIME_PS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3}


@dataclass(frozen=True)
class _Arc:
    """A cell's delay to its output from one input: mean of rise and fall, over slew and load in the file's units."""

    library: Group
    timing: Group

    def delay(self, slew: float, load: float) -> float:
        return self._mean(("cell_rise", "cell_fall"), slew, load)

    def slew(self, slew: float, load: float) -> float:
        return self._mean(("rise_transition", "fall_transition"), slew, load)

    def _mean(self, kinds: tuple[str, str], slew: float, load: float) -> float:
        tables = [lookup_table(g, self.library) for kind in kinds for g in self.timing.all(kind)]
        if not tables:
            raise LibertyError(f"{self.timing.where}: timing has neither {kinds[0]} nor {kinds[1]}")
        return sum(table(slew, load) for table in tables) / len(tables)


@dataclass(frozen=True)
class _Cell:
    """A cell of one output: its area, mean input capacitance, and arcs."""

    name: str
    area_um2: float
    input_load: float
    arcs: tuple[_Arc, ...]

    def delay(self, slew: float, load: float) -> float:
        """Delay of the slowest input."""
        return max(arc.delay(slew, load) for arc in self.arcs)


def _pins(cell: Group, direction: str) -> list[Group]:
    return [pin for pin in cell.all("pin") if pin.attributes.get("direction") == direction]


def _usable(library: Group) -> Iterator[Group]:
    return (cell for cell in library.all("cell") if cell.attributes.get("dont_use", "false") != "true")


def _same_function(function: Function, gate: Gate) -> bool:
    own = Function(gate.function, gate.name)
    inputs = gate_inputs(gate.function)
    if len(function.inputs) != len(inputs):
        return False
    target = own.truth_table(inputs)
    return any(function.truth_table(order) == target for order in permutations(function.inputs))


def _find(library: Group, gate: Gate) -> _Cell | None:
    """The smallest cell with the function of `gate`."""
    found: list[tuple[float, Group, Group]] = []
    for cell in _usable(library):
        outputs = _pins(cell, "output")
        if (
            len(outputs) != 1
            or "function" not in outputs[0].attributes
            or any(cell.all("ff"))
            or any(cell.all("latch"))
        ):
            continue
        if _same_function(Function(outputs[0].attributes["function"], outputs[0].where), gate):
            found.append((cell.number("area"), cell, outputs[0]))
    if not found:
        return None
    area, cell, output = min(found, key=lambda f: f[0])
    loads = [pin.number("capacitance") for pin in _pins(cell, "input")]
    arcs = tuple(_Arc(library, timing) for timing in output.all("timing"))
    if not arcs:
        raise LibertyError(f"{output.where}: output {output.name} of {cell.name} has no timing")
    return _Cell(cell.name, area, sum(loads) / len(loads), arcs)


def _settled_slew(inverter: _Cell) -> float:
    """The slew an endless chain of inverters at fan-out 4 settles to."""
    slew = 0.0
    for _ in range(20):
        slew = inverter.arcs[0].slew(slew, 4 * inverter.input_load)
    return slew


def _time_ps(library: Group) -> float:
    unit = library.attributes.get("time_unit", "1ns")
    digits = unit.rstrip("fpnsu")
    try:
        return float(digits) * _TIME_PS[unit[len(digits) :]]
    except (KeyError, ValueError):
        raise LibertyError(f"{library.where}: time_unit {unit!r}; known are 1fs, 1ps, 10ps, 100ps and 1ns") from None


def _flip_flop(library: Group, own: FlipFlop, slew: float, load: float, unit_ps: float, source: str) -> FlipFlop:
    """The smallest cell with one plain ``ff`` group (no set, reset, scan or enable) and a single data input."""
    candidates = []
    for cell in _usable(library):
        states = list(cell.all("ff"))
        if len(states) != 1 or len(_pins(cell, "input")) != 2 or {"clear", "preset"} & set(states[0].attributes):
            continue
        candidates.append((cell.number("area"), cell))
    if not candidates:
        raise LibertyError(f"{library.where}: no plain D flip-flop: a cell with an ff group, a data and a clock input")
    area, cell = min(candidates, key=lambda c: c[0])
    arcs = [
        _Arc(library, t)
        for pin in _pins(cell, "output")
        for t in pin.all("timing")
        if t.attributes.get("timing_type", "") in ("rising_edge", "falling_edge")
    ]
    setups = [
        lookup_table(table, library)(slew, slew)
        for pin in _pins(cell, "input")
        for t in pin.all("timing")
        if t.attributes.get("timing_type", "").startswith("setup")
        for table in t.groups
    ]
    if not arcs or not setups:
        raise LibertyError(f"{cell.where}: flip-flop {cell.name} lacks clock-to-output or setup timing")

    def ps(value: float) -> Quantity:
        return Quantity(max(0.0, value) * unit_ps, "ps", 0.0, "published", f"{source}, cell {cell.name}")

    return replace(
        own,
        setup=ps(max(setups)),
        clock_to_q=ps(max(arc.delay(slew, load) for arc in arcs)),
        area=Quantity(area, "um2", 0.0, "published", f"{source}, cell {cell.name}"),
    )


def load_liberty(path: Path, base: Technology | None = None) -> Technology:
    """A technology whose gates, flip-flop and scales come from a Liberty file.

    Args:
        path: the Liberty file; areas in um2, as is usual.
        base: where everything else comes from; None for the generic library.

    Raises:
        LibertyError: with file and line: syntax, a missing inverter, NAND2 or flip-flop, missing timing.
        OSError: if the file cannot be read.
    """
    base = load() if base is None else base
    library = parse_liberty(path.read_text(encoding="utf-8"), str(path))
    source = f"Liberty library {library.name} ({path.name})"
    cells = {name: _find(library, gate) for name, gate in base.gates.items()}
    inverter, nand2 = cells.get("INV"), cells.get("NAND2")
    for name, cell in (("inverter", inverter), ("2-input NAND", nand2)):
        if cell is None:
            raise LibertyError(f"{library.where}: library {library.name} has no {name}, the unit of delay or area")
    assert inverter is not None
    assert nand2 is not None
    unit_ps = _time_ps(library)
    slew = _settled_slew(inverter)
    fo4 = inverter.delay(slew, 4 * inverter.input_load)
    tau = fo4 / 5

    def number(value: float, unit: str, cell: _Cell) -> Quantity:
        return Quantity(value, unit, 0.0, "published", f"{source}, cell {cell.name}")

    gates = dict(base.gates)
    for name, cell in cells.items():
        if cell is not None:
            free, loaded = cell.delay(slew, 0.0), cell.delay(slew, 4 * cell.input_load)
            gates[name] = Gate(
                name,
                base.gates[name].function,
                number(cell.area_um2 / nand2.area_um2, "ge", cell),
                number(max(0.0, (loaded - free) / (4 * tau)), "", cell),
                number(max(0.0, free / tau), "", cell),
            )
    nand2_area = number(nand2.area_um2, "um2", nand2)
    flip_flop = _flip_flop(library, base.flip_flop, slew, 4 * inverter.input_load, unit_ps, source)
    return replace(
        base,
        name=f"{library.name} over {base.name}",
        nand2_area=nand2_area,
        fo4=number(fo4 * unit_ps, "ps", inverter),
        gates=gates,
        flip_flop=replace(flip_flop, enable=gates["MUX2"].area_ge.times(nand2_area, "um2")),
    )
