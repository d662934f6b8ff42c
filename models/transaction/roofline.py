"""Roofline: the operations a second that a machine can reach at a given number of operations a byte of DRAM.

    attainable(intensity) = min(peak, intensity * bandwidth)

Operations are two a multiplication with its addition. The published machine's roofs are 2 TFLOPS and 512 GB/s.
"""

from dataclasses import dataclass
from typing import Literal

from models.config import AcceleratorConfig


@dataclass(frozen=True)
class Roof:
    """Peak operations and bytes a second."""

    peak_operations_per_s: float
    peak_bytes_per_s: float

    @classmethod
    def of(cls, machine: AcceleratorConfig) -> "Roof":
        """Both multiplier arrays busy every cycle, all channels busy every cycle."""
        multipliers = machine.qk_multipliers + machine.pv_multipliers
        return cls(2 * multipliers * 1e12 / machine.clock_period_ps, float(machine.hbm_bytes_per_s))

    @property
    def ridge(self) -> float:
        """Operations a byte from which on the multipliers bound."""
        return self.peak_operations_per_s / self.peak_bytes_per_s

    def attainable(self, operations_per_byte: float) -> float:
        """Operations a second at this intensity."""
        return min(self.peak_operations_per_s, operations_per_byte * self.peak_bytes_per_s)

    def least_seconds(self, operations: int, dram_bytes: int) -> float:
        """No run of so many operations and bytes is shorter."""
        return max(operations / self.peak_operations_per_s, dram_bytes / self.peak_bytes_per_s)


@dataclass(frozen=True)
class RooflinePoint:
    """A run below its roof.

    Raises:
        ValueError: for a run without bytes or time.
    """

    roof: Roof
    operations: int
    dram_bytes: int
    seconds: float

    def __post_init__(self) -> None:
        if self.operations < 0 or self.dram_bytes < 1 or self.seconds <= 0:
            raise ValueError(
                f"{self.operations} operations on {self.dram_bytes} bytes in {self.seconds} s have no place under a "
                f"roof; bytes and time must be above 0"
            )

    @property
    def operations_per_byte(self) -> float:
        """Intensity."""
        return self.operations / self.dram_bytes

    @property
    def operations_per_s(self) -> float:
        """What was reached."""
        return self.operations / self.seconds

    @property
    def bound(self) -> Literal["memory", "multipliers"]:
        """What the roof is at this intensity."""
        return "memory" if self.operations_per_byte < self.roof.ridge else "multipliers"

    @property
    def share(self) -> float:
        """The least time over the time: what was reached over what is attainable at this intensity."""
        return self.roof.least_seconds(self.operations, self.dram_bytes) / self.seconds

    def as_json(self) -> dict[str, float | str]:
        """Plain values for a result file."""
        return {
            "operations": self.operations,
            "dram_bytes": self.dram_bytes,
            "seconds": self.seconds,
            "operations_per_byte": self.operations_per_byte,
            "operations_per_s": self.operations_per_s,
            "attainable_operations_per_s": self.roof.attainable(self.operations_per_byte),
            "share": self.share,
            "bound": self.bound,
            "peak_operations_per_s": self.roof.peak_operations_per_s,
            "peak_bytes_per_s": self.roof.peak_bytes_per_s,
        }
