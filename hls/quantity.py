"""Numbers that carry where they come from and how far they may be off.

A :class:`Quantity` is a value, a unit, an error bar, a provenance and a source.  The bar is multiplicative:
``error = 0.15`` says that the true value is expected in ``[value / 1.15, value * 1.15]``, so that a factor of two
(``error = 1``) stays positive on the low side.  Rules of propagation:

* product of independent factors: ``error = sqrt(e1^2 + e2^2)``;
* sum: ``error = sum(v_i * e_i) / sum(v_i)``, which takes the terms as fully correlated: they nearly always share a
  scale (one NAND2 area, one FO4 delay), so nothing averages out.

The provenance of a result is the weakest among its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

Provenance = Literal["measured", "published", "fitted", "assumed"]
PROVENANCES: tuple[Provenance, ...] = get_args(Provenance)  # strongest first


def weakest(provenances: Iterable[Provenance]) -> Provenance:
    """The weakest of some provenances (``measured`` if there are none)."""
    return max(provenances, key=PROVENANCES.index, default="measured")


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, relative error bar, provenance and source.

    Args:
        value: the number, in `unit`.
        unit: for instance ``um2`` or ``ps``; empty for a ratio.
        error: relative; the true value is expected within ``value / (1 + error)`` and ``value * (1 + error)``.
        provenance: ``measured``, ``published``, ``fitted`` or ``assumed``.
        source: where the number was found or how it was made.

    Raises:
        ValueError: if a number is negative or not finite, or the provenance is unknown.
    """

    value: float
    unit: str
    error: float
    provenance: Provenance
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= 0):
            raise ValueError(f"quantity of {self.unit or 'no unit'}: {self.value} is not a finite number >= 0")
        if not (math.isfinite(self.error) and self.error >= 0):
            raise ValueError(f"quantity {self.value} {self.unit}: error {self.error} is not a finite number >= 0")
        if self.provenance not in PROVENANCES:
            raise ValueError(f"provenance {self.provenance!r} is none of {', '.join(PROVENANCES)}")

    @property
    def low(self) -> float:
        """Lower end of the error bar."""
        return self.value / (1 + self.error)

    @property
    def high(self) -> float:
        """Upper end of the error bar."""
        return self.value * (1 + self.error)

    def scaled(self, factor: float, unit: str | None = None) -> Quantity:
        """The quantity times an exact number, for instance a count of instances."""
        return Quantity(
            self.value * factor, self.unit if unit is None else unit, self.error, self.provenance, self.source
        )

    def times(self, other: Quantity, unit: str) -> Quantity:
        """Product with an independent quantity, in `unit`."""
        return Quantity(
            self.value * other.value,
            unit,
            math.hypot(self.error, other.error),
            weakest((self.provenance, other.provenance)),
            f"{self.source} ({self.provenance}) x {other.source} ({other.provenance})",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; :func:`from_dict` reads it back."""
        return {
            "value": self.value,
            "unit": self.unit,
            "error": self.error,
            "provenance": self.provenance,
            "source": self.source,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Quantity:
        """Inverse of :meth:`as_dict`."""
        return Quantity(**data)

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit} ± {100 * self.error:.0f} % ({self.provenance})"


def exactly(value: float, unit: str, source: str) -> Quantity:
    """A count or a structural zero, which has no error."""
    return Quantity(value, unit, 0.0, "measured", source)


def total(parts: Iterable[Quantity], unit: str, source: str) -> Quantity:
    """Sum of quantities of one unit, their errors taken as fully correlated.

    Raises:
        ValueError: if a part has another unit.
    """
    value = 0.0
    spread = 0.0
    provenances: set[Provenance] = set()
    for part in parts:
        if part.unit != unit:
            raise ValueError(f"sum in {unit}: a part is in {part.unit} ({part.source})")
        value += part.value
        spread += part.value * part.error
        if part.value:
            provenances.add(part.provenance)
    return Quantity(value, unit, spread / value if value else 0.0, weakest(provenances), source)
