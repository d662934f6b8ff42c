"""DRAM energy by what spends it: activate, read, write, I/O.

`energy = activates * 909 pJ + 8 * bytes * ((pre + post) GSA + I/O) pJ/bit`, published at 50 % toggle (`hbm2.toml`);
data and I/O terms scale with the toggle rate. Refresh and background power have no published number here and are
left out.
"""

from dataclasses import dataclass
from typing import Self

from models.memory.timing import provenance

PUBLISHED_TOGGLE = 0.5


@dataclass(frozen=True)
class EnergyBreakdown:
    """Energy in pJ spent by activations (with precharge), read data, write data and the interface."""

    activate_pj: float
    read_pj: float
    write_pj: float
    io_pj: float

    @property
    def total_pj(self) -> float:
        """Sum of the four."""
        return self.activate_pj + self.read_pj + self.write_pj + self.io_pj

    def __add__(self, other: "EnergyBreakdown") -> "EnergyBreakdown":
        return EnergyBreakdown(
            self.activate_pj + other.activate_pj,
            self.read_pj + other.read_pj,
            self.write_pj + other.write_pj,
            self.io_pj + other.io_pj,
        )


NO_ENERGY = EnergyBreakdown(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Hbm2Energy:
    """Energy per event; per-bit numbers at 50 % toggle, `toggle` what the data really do (0 to 1)."""

    activate_pj: float
    pre_gsa_pj_per_bit: float
    post_gsa_pj_per_bit: float
    io_pj_per_bit: float
    toggle: float = PUBLISHED_TOGGLE

    def __post_init__(self) -> None:
        if not 0 <= self.toggle <= 1:
            nearest = min(1.0, max(0.0, self.toggle))
            raise ValueError(f"toggle = {self.toggle} is not a rate between 0 and 1; {nearest} works")

    @classmethod
    def default(cls, toggle: float = PUBLISHED_TOGGLE) -> Self:
        """Published HBM2 numbers of `hbm2.toml`."""
        table = provenance()["energy"]
        return cls(
            activate_pj=table["activate_pj"],
            pre_gsa_pj_per_bit=table["pre_gsa_pj_per_bit"],
            post_gsa_pj_per_bit=table["post_gsa_pj_per_bit"],
            io_pj_per_bit=table["io_pj_per_bit"],
            toggle=toggle,
        )

    def of(self, activates: int, read_bytes: int, write_bytes: int) -> EnergyBreakdown:
        """Energy of these events."""
        scale = self.toggle / PUBLISHED_TOGGLE
        data = 8 * scale * (self.pre_gsa_pj_per_bit + self.post_gsa_pj_per_bit)
        return EnergyBreakdown(
            activate_pj=activates * self.activate_pj,
            read_pj=read_bytes * data,
            write_pj=write_bytes * data,
            io_pj=8 * (read_bytes + write_bytes) * scale * self.io_pj_per_bit,
        )
