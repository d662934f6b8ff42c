"""Technology library: area, delay and energy of every dataflow operator, flip-flop and SRAM, by width.

``cost = formula(widths) x scale``: an operator's area is a fitted number of gate equivalents (GE, one NAND2) times the
NAND2 area, its delay a fitted number of FO4 inverter delays times the FO4 delay; its energy a formula over the same
widths.  The formulas and scales are data, in ``generic_40nm.toml``, every number with provenance, source and error
(:mod:`hls.quantity`); :mod:`hls.characterize` fits them to synthesis.  Widths are in bits.

An operator's delay is that of the operator alone, from a register-strong input to a gate-sized load.  Chains of them
are therefore counted a little long: a carry need not be complete before the next operator begins.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hls.costs import WIRING, Cost, Fit, FlipFlop, Gate, Operator, Ports, SramMacro, TechnologyError, closest
from hls.quantity import Quantity, total

__all__ = ["Cost", "FlipFlop", "SramMacro", "Technology", "TechnologyError", "load"]

WIRING_KINDS = frozenset(
    {"concat", "slice", "extend", "wrap", "assume", "const", "input", "output", "shift_left_const", "shift_right_const"}
)
OPERATOR_KINDS = (
    "add", "sub", "neg", "mul", "eq", "lt", "mux", "table", "shift_left", "shift_right", "and", "or", "xor", "not",
    "reduce_and", "reduce_or", "reduce_xor", "priority",
)  # fmt: skip


def nonzero_digits(constant: int) -> int:
    """Nonzero digits of an integer in canonical signed-digit form: what a multiplication by it adds up."""
    return (3 * abs(constant) ^ abs(constant)).bit_count()


@dataclass(frozen=True)
class Technology:
    """A technology library; :func:`load` reads one.

    Attributes are the library's numbers: see the comments of the TOML file.
    """

    name: str
    nand2_area: Quantity
    fo4: Quantity
    wire_load: Quantity
    drive_growth: Quantity
    area_model: Quantity
    delay_model: Quantity
    constant_factor: Quantity
    clock_uncertainty: Quantity
    leakage_nw_per_um2: Quantity
    flip_flop: FlipFlop
    gates: Mapping[str, Gate]
    operators: Mapping[str, Operator]
    srams: Mapping[str, Mapping[str, Fit]]

    @property
    def clock_uncertainty_ps(self) -> int:
        """Part of the clock period that skew and jitter take, rounded up."""
        return math.ceil(self.clock_uncertainty.value)

    def cost(self, kind: str, in_bits: tuple[int, ...], out_bits: int, **attributes: int) -> Cost:
        """Delay, area and energy of one operator.

        Args:
            kind: one of :data:`OPERATOR_KINDS`, or of :data:`WIRING_KINDS`, which costs nothing.
            in_bits: widths of the inputs, in order.  ``mux``: select first; ``shift_*``: value, amount (one width
                alone is a shift by a constant, which is wiring).  ``add``, ``and``, ``or`` and ``xor`` of more than
                two inputs are a balanced tree of the two-input operator.
            out_bits: width of the result.
            attributes: ``entries`` of a ``table``; ``constant``, the value of one factor of a ``mul``, whose nonzero
                digits in canonical signed-digit form then count as its bits.

        Raises:
            TechnologyError: for an unknown kind or attribute, or a width below 1.
        """
        if kind in WIRING_KINDS or (kind in ("shift_left", "shift_right") and len(in_bits) == 1):
            return WIRING
        if kind not in self.operators:
            raise TechnologyError(
                f"no operator {kind!r} in {self.name}{closest(kind, [*self.operators, *WIRING_KINDS])}"
            )
        for name in attributes:
            if (kind, name) not in (("table", "entries"), ("mul", "constant")):
                raise TechnologyError(f"{kind}: unknown attribute {name!r}; table has 'entries', mul has 'constant'")
        if not in_bits or min(in_bits) < 1 or out_bits < 1:
            raise TechnologyError(f"{kind}: widths {in_bits} -> {out_bits}; every width is at least 1 bit")
        if "constant" in attributes:
            return self._by_constant(in_bits, out_bits, attributes["constant"])
        if kind == "mul" and min(in_bits) == 1:  # a mask, which costs no more than a choice
            return self._single("mux", (1, max(in_bits), max(in_bits)), max(in_bits), {})
        if len(in_bits) > 2 and kind in ("add", "and", "or", "xor"):
            return self._tree(kind, in_bits, out_bits)
        return self._single(kind, in_bits, out_bits, attributes)

    def _single(self, kind: str, in_bits: tuple[int, ...], out_bits: int, attributes: Mapping[str, int]) -> Cost:
        operator = self.operators[kind]
        entries = attributes.get("entries", 1 << min(in_bits[0], 24))
        width = max(in_bits[0], out_bits)
        stages = min(in_bits[-1], max(1, (width - 1).bit_length()))
        # bits of the widest input, the narrowest and the output, entries of a table, stages of a shifter that matter
        variables = {"n": max(in_bits), "m": min(in_bits), "o": out_bits, "e": entries, "s": stages}
        if kind in ("shift_left", "shift_right"):
            variables["n"] = width
        area_ge = operator.area_ge(variables)
        energy = operator.energy_fj(variables)
        if operator.energy_per_ge:
            energy = energy.times(area_ge, "fJ")
        return Cost(
            operator.delay_fo4(variables).times(self.delay_model, "fo4").times(self.fo4, "ps"),
            area_ge.times(self.area_model, "ge").times(self.nand2_area, "um2"),
            energy.scaled(1e-3, "pJ"),
        )

    def _by_constant(self, in_bits: tuple[int, ...], out_bits: int, constant: int) -> Cost:
        digits = nonzero_digits(constant)
        if digits <= 1:
            return WIRING
        # the constant's own width is the one that its value needs, whichever operand it is
        widths = list(in_bits)
        widths.remove(min(widths, key=lambda w: abs(w - constant.bit_length())))
        if digits == 2:
            return self._single("add", (out_bits - 1,), out_bits, {})
        cost = self.cost("mul", (widths[0], digits), out_bits)
        return Cost(
            cost.delay.times(self.constant_factor, "ps"),
            cost.area.times(self.constant_factor, "um2"),
            cost.energy.times(self.constant_factor, "pJ"),
        )

    def _tree(self, kind: str, in_bits: tuple[int, ...], out_bits: int) -> Cost:
        widths = sorted(in_bits)
        parts: list[Cost] = []
        levels: list[Quantity] = []
        while len(widths) > 1:
            pairs = [tuple(widths[i : i + 2]) for i in range(0, len(widths) - 1, 2)]
            grown = [min(out_bits, max(p) + 1) if kind == "add" else max(p) for p in pairs]
            row = [self._single(kind, p, g, {}) for p, g in zip(pairs, grown, strict=True)]
            parts += row
            levels.append(max((c.delay for c in row), key=lambda q: q.value))
            widths = grown + widths[2 * len(pairs) :]
        source = f"tree of {len(parts)} x {kind}: {parts[0].area.source}"
        return Cost(
            total(levels, "ps", source),
            total((c.area for c in parts), "um2", source),
            total((c.energy for c in parts), "pJ", source),
        )

    def sram(self, rows: int, width_bits: int, ports: Ports) -> SramMacro:
        """A memory: one macro inside the fitted range, above it the split into equal macros of least area.

        Args:
            rows: words.
            width_bits: bits of a word.
            ports: ``1rw`` (one port for both) or ``1r1w`` (one to read, one to write).

        Raises:
            TechnologyError: below the fitted range (flip-flops are what such a memory is made of), or unknown ports.
        """
        if ports not in self.srams:
            raise TechnologyError(f"sram: ports {ports!r}{closest(str(ports), self.srams)}")
        fits = self.srams[ports]
        (low_rows, high_rows), (low_width, high_width) = (fits["area"].domain[v] for v in ("rows", "width"))
        if rows < low_rows or width_bits < low_width:
            raise TechnologyError(
                f"sram of {rows} rows x {width_bits} bits: the fit covers {low_rows:g}..{high_rows:g} rows x "
                f"{low_width:g}..{high_width:g} bits; the nearest that works is {max(rows, int(low_rows))} x "
                f"{max(width_bits, int(low_width))}, below it use flip-flops"
            )
        parts: dict[str, Quantity] = {}
        row_tiles = width_tiles = 0
        for r in _tile_counts(rows, low_rows, high_rows):
            for w in _tile_counts(width_bits, low_width, high_width):
                macro = {name: fit({"rows": -(-rows // r), "width": -(-width_bits // w)}) for name, fit in fits.items()}
                if not parts or r * w * macro["area"].value < row_tiles * width_tiles * parts["area"].value:
                    parts, row_tiles, width_tiles = macro, r, w
        return SramMacro(
            rows,
            width_bits,
            ports,
            row_tiles,
            width_tiles,
            parts["area"].scaled(row_tiles * width_tiles),
            parts["read"].scaled(width_tiles),
            parts["write"].scaled(width_tiles),
            parts["leakage"].scaled(row_tiles * width_tiles),
            parts["access"],
        )


def _tile_counts(size: int, low: float, high: float) -> range:
    """Numbers of equal tiles that bring `size` into ``low..high``: one if it is there already."""
    return range(1, 2) if size <= high else range(math.ceil(size / high), int(size // low) + 1)


DEFAULT_LIBRARY = Path(__file__).with_name("generic_40nm.toml")


def load(path: Path | None = None) -> Technology:
    """Read a technology library.

    Args:
        path: a TOML file; None for the generic 40 nm library that comes with this package.

    Raises:
        TechnologyError: naming file and entry, if one is missing, malformed, or without provenance, source or error.
        OSError: if the file cannot be read.
    """
    path = DEFAULT_LIBRARY if path is None else path
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TechnologyError(f"{path}: {error}") from error
    return _Reader(path, data.get("sources", {})).technology(data)


@dataclass(frozen=True)
class _Reader:
    """Turns the tables of a library file into values, naming file and entry in every error."""

    path: Path
    sources: Mapping[str, str]

    def entry(self, table: Mapping[str, Any], *names: str) -> Any:
        """The entry ``names[0].names[1]...`` of `table`."""
        here: Any = table
        for depth, name in enumerate(names):
            if not isinstance(here, Mapping) or name not in here:
                known = here if isinstance(here, Mapping) else ()
                raise TechnologyError(f"{self.path}: no {'.'.join(names[: depth + 1])}{closest(name, known)}")
            here = here[name]
        return here

    def quantity(self, unit: str, table: Mapping[str, Any], *names: str, value: float | None = None) -> Quantity:
        """The number at ``names``, in `unit`."""
        data = self.entry(table, *names)
        source = self.entry(data, "source")
        try:
            return Quantity(
                float(self.entry(data, "value")) if value is None else value,
                unit,
                float(self.entry(data, "error")),
                self.entry(data, "provenance"),
                f"{'.'.join(names)}: {self.entry({'sources': self.sources}, 'sources', source)}",
            )
        except (TypeError, ValueError) as error:
            raise TechnologyError(f"{self.path}: {'.'.join(names)}: {error}") from error

    def fit(self, unit: str, table: Mapping[str, Any], *names: str) -> Fit:
        """The formula at ``names``, whose value is in `unit`."""
        data = self.entry(table, *names)
        terms, coefficients = tuple(self.entry(data, "terms")), tuple(map(float, self.entry(data, "coefficients")))
        if len(terms) != len(coefficients) or min(coefficients, default=0) < 0:
            raise TechnologyError(f"{self.path}: {'.'.join(names)}: one coefficient >= 0 a term, not {coefficients}")
        return Fit(
            terms,
            coefficients,
            {name: (float(low), float(high)) for name, (low, high) in self.entry(data, "domain").items()},
            self.quantity(unit, table, *names, value=0.0),
            float(self.entry(data, "worst")),
            int(self.entry(data, "samples")),
        )

    def operator(self, table: Mapping[str, Any], kind: str) -> Operator:
        """The formulas of one kind; its energy is that of the class it names."""
        energy_class = self.entry(table, "operators", kind, "energy")
        return Operator(
            self.fit("ge", table, "operators", kind, "area_ge"),
            self.fit("fo4", table, "operators", kind, "delay_fo4"),
            self.fit("fJ", table, "energy", energy_class),
            bool(self.entry(table, "energy", energy_class, "per_ge")),
        )

    def gate(self, table: Mapping[str, Any], name: str) -> Gate:
        """One gate."""
        return Gate(
            name,
            str(self.entry(table, "gates", name, "function")),
            self.quantity("ge", table, "gates", name, "area_ge"),
            self.quantity("", table, "gates", name, "effort"),
            self.quantity("", table, "gates", name, "parasitic"),
        )

    def technology(self, data: Mapping[str, Any]) -> Technology:
        """The whole library."""
        nand2, fo4 = self.quantity("um2", data, "scale", "nand2_area_um2"), self.quantity("ps", data, "scale", "fo4_ps")
        gates = {name: self.gate(data, name) for name in self.entry(data, "gates")}
        flip_flop = FlipFlop(
            self.quantity("fo4", data, "flip_flop", "setup_fo4").times(fo4, "ps"),
            self.quantity("fo4", data, "flip_flop", "clock_to_q_fo4").times(fo4, "ps"),
            self.quantity("ge", data, "flip_flop", "area_ge").times(nand2, "um2"),
            self.quantity("ge", data, "gates", "MUX2", "area_ge").times(nand2, "um2"),
            self.quantity("pJ", data, "flip_flop", "energy_pj"),
        )
        srams = {
            ports: {
                name: self.fit(unit, data, "srams", ports, name)
                for name, unit in (
                    ("area", "um2"),
                    ("read", "pJ"),
                    ("write", "pJ"),
                    ("leakage", "mW"),
                    ("access", "ps"),
                )
            }
            for ports in self.entry(data, "srams")
        }
        return Technology(
            str(self.entry(data, "library", "name")),
            nand2,
            fo4,
            self.quantity("", data, "scale", "wire_load"),
            self.quantity("", data, "scale", "drive_growth"),
            self.quantity("", data, "scale", "area_model"),
            self.quantity("", data, "scale", "delay_model"),
            self.quantity("", data, "scale", "constant_factor"),
            self.quantity("ps", data, "scale", "clock_uncertainty_ps"),
            self.quantity("nW/um2", data, "scale", "leakage_nw_per_um2"),
            flip_flop,
            gates,
            {kind: self.operator(data, kind) for kind in self.entry(data, "operators")},
            srams,
        )
