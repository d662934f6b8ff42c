"""Parts of a technology library: fitted formulas, and the costs they give (operator, flip-flop, SRAM, gate).

A formula is ``sum(coefficient * term)``; a term is a product of variables, their ``log2`` and their ``sqrt``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from hls.quantity import Quantity, exactly

Ports = Literal["1rw", "1r1w"]


class TechnologyError(ValueError):
    """A library file, or a question to it, that makes no sense."""


def closest(word: str, words: Iterable[str]) -> str:
    """End of an error message: the known word nearest to `word`, or all of them."""
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(words))}"


def _log2(x: float) -> float:
    return math.log2(max(1.0, x))


def evaluate_term(term: str, variables: Mapping[str, float]) -> float:
    """Value of a product such as ``n*log2(n)``; ``log2`` counts from 1, so that it is 0 for one bit.

    Raises:
        TechnologyError: on anything but a product of ``1``, variables, and ``log2`` and ``sqrt`` of one.
    """
    value = 1.0
    for factor in term.split("*"):
        function, bracket, name = factor.rstrip(")").rpartition("(")
        if factor == "1":
            continue
        if name not in variables or factor != (f"{function}({name})" if bracket else name):
            raise TechnologyError(f"term {term!r}: factor {factor!r} is not built from {', '.join(variables)}")
        match function:
            case "":
                value *= variables[name]
            case "log2":
                value *= _log2(variables[name])
            case "sqrt":
                value *= math.sqrt(variables[name])
            case _:
                raise TechnologyError(f"term {term!r}: no function {function!r}{closest(function, ('log2', 'sqrt'))}")
    return value


@dataclass(frozen=True)
class Fit:
    """A formula ``sum(coefficient * term)`` with the range it was fitted on and its error.

    Args:
        terms: products of variables.
        coefficients: one a term, all >= 0, so that the formula grows with every width.
        domain: lowest and highest value of each variable seen by the fit.
        quality: the fit's error, provenance and source; its value is not used.
        worst: largest relative deviation of a sample from the formula fitted to the others.
        samples: number of points fitted.
    """

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    domain: Mapping[str, tuple[float, float]]
    quality: Quantity
    worst: float
    samples: int

    def __call__(self, variables: Mapping[str, float]) -> Quantity:
        """Value at `variables`; the error doubles outside the fitted range, and the source says so."""
        value = sum(c * evaluate_term(t, variables) for c, t in zip(self.coefficients, self.terms, strict=True))
        q = self.quality
        beyond = [v for v, (low, high) in self.domain.items() if not low <= variables[v] <= high]
        if not beyond:
            return Quantity(value, q.unit, q.error, q.provenance, q.source)
        note = ", ".join(f"{v} = {variables[v]:g} not in {self.domain[v][0]:g}..{self.domain[v][1]:g}" for v in beyond)
        return Quantity(value, q.unit, 2 * q.error, q.provenance, f"{q.source}, extrapolated ({note})")


@dataclass(frozen=True)
class Cost:
    """What one operator costs: delay in ps, area in um2, energy in pJ per operation."""

    delay: Quantity
    area: Quantity
    energy: Quantity

    @property
    def delay_ps(self) -> int:
        """Delay, rounded up to whole picoseconds."""
        return math.ceil(self.delay.value)

    @property
    def area_um2(self) -> float:
        """Cell area."""
        return self.area.value

    @property
    def energy_pj(self) -> float:
        """Energy per operation on random data."""
        return self.energy.value


WIRING = Cost(exactly(0.0, "ps", "wiring"), exactly(0.0, "um2", "wiring"), exactly(0.0, "pJ", "wiring"))


@dataclass(frozen=True)
class FlipFlop:
    """One D flip-flop bit; `enable` is the area of the multiplexer that holds its value."""

    setup: Quantity
    clock_to_q: Quantity
    area: Quantity
    enable: Quantity
    energy: Quantity

    @property
    def setup_ps(self) -> int:
        """Setup time, rounded up."""
        return math.ceil(self.setup.value)

    @property
    def clock_to_q_ps(self) -> int:
        """Clock to output delay, rounded up."""
        return math.ceil(self.clock_to_q.value)

    @property
    def area_um2(self) -> float:
        """Area without enable."""
        return self.area.value

    @property
    def enable_area_um2(self) -> float:
        """Additional area of a clock-enable multiplexer."""
        return self.enable.value

    @property
    def energy_pj(self) -> float:
        """Energy per clock cycle."""
        return self.energy.value


@dataclass(frozen=True)
class SramMacro:
    """A memory of ``rows x width_bits``, of `row_tiles` x `width_tiles` equal macros.

    An access reads or writes one row: all macros across the width, one along the rows.
    """

    rows: int
    width_bits: int
    ports: Ports
    row_tiles: int
    width_tiles: int
    area: Quantity
    read: Quantity
    write: Quantity
    leakage: Quantity
    access: Quantity

    @property
    def area_um2(self) -> float:
        """Area of all macros."""
        return self.area.value

    @property
    def read_pj(self) -> float:
        """Energy of reading one row."""
        return self.read.value

    @property
    def write_pj(self) -> float:
        """Energy of writing one row."""
        return self.write.value

    @property
    def leakage_mw(self) -> float:
        """Leakage power of all macros."""
        return self.leakage.value

    @property
    def access_ps(self) -> int:
        """Clock to data, rounded up; without the multiplexer that joins row tiles."""
        return math.ceil(self.access.value)


@dataclass(frozen=True)
class Gate:
    """A logic gate by logical effort: area in GE; delay = (parasitic + effort * load / input load) * FO4 / 5."""

    name: str
    function: str
    area_ge: Quantity
    effort: Quantity
    parasitic: Quantity


@dataclass(frozen=True)
class Operator:
    """Formulas of one operator: area in GE, delay in FO4, energy in fJ."""

    area_ge: Fit
    delay_fo4: Fit
    energy_fj: Fit
    energy_per_ge: bool
