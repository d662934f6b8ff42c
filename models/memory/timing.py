"""HBM2 timing, organization and controller of one channel, with the delays between commands derived from them.

Cycles are those of the 1 GHz command clock, as in `hbm2.toml`, which holds the numbers and where they come from
(architecture.md, "Memory layout"). A frozen value; `dataclasses.replace` makes a variant, checked again.
"""

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any, NamedTuple, Self


class Delays(NamedTuple):
    """What the compiled engine reads: integer cycles between the issue of two commands, and sizes."""

    banks: int
    group_shift: int
    pseudo_channels: int
    read_done: int
    write_done: int
    activate_to_read: int
    activate_to_write: int
    activate_to_precharge: int
    activate_to_activate: int
    activate_short: int
    activate_long: int
    four_activates: int
    column_short: int
    column_long: int
    read_to_write: int
    write_to_read_short: int
    write_to_read_long: int
    read_to_precharge: int
    write_to_precharge: int
    precharge: int
    refresh: int
    refresh_interval: int
    activate_bus: int
    queue_depth: int
    write_high: int
    write_low: int
    row_hit_cap: int


@dataclass(frozen=True)
class Hbm2Timing:
    """Timing, organization and controller of one HBM2 channel; JEDEC names in `hbm2.toml`.

    Raises ValueError for a value that no memory or controller can have, naming it and the nearest that works.
    """

    clock_period_ps: int
    read_latency_cycles: int
    write_latency_cycles: int
    activate_to_read_cycles: int
    activate_to_write_cycles: int
    precharge_cycles: int
    row_active_cycles: int
    refresh_cycles: int
    refresh_interval_cycles: int
    activate_to_activate_short_cycles: int
    activate_to_activate_long_cycles: int
    write_to_read_short_cycles: int
    write_to_read_long_cycles: int
    four_activate_window_cycles: int
    write_recovery_cycles: int
    column_to_column_short_cycles: int
    column_to_column_long_cycles: int
    read_to_precharge_short_cycles: int
    read_to_precharge_long_cycles: int
    pseudo_channels: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes: int
    burst_bytes: int
    burst_cycles: int
    activate_bus_cycles: int
    read_to_write_gap_cycles: int
    queue_depth: int
    write_high_watermark: int
    write_low_watermark: int
    row_hit_cap: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{field.name} is an integer, got {value!r}")
            least = 0 if field.name in {"read_to_write_gap_cycles", "write_low_watermark"} else 1
            if value < least:
                raise ValueError(f"{field.name} = {value} is too small; the least that works is {least}")
        for name in ("pseudo_channels", "bank_groups", "banks_per_group", "rows", "row_bytes", "burst_bytes"):
            value = getattr(self, name)
            if value & (value - 1):
                nearest = 1 << (value.bit_length() - 1)
                raise ValueError(f"{name} = {value} is not a power of two; {nearest} works")
        if self.row_bytes < self.burst_bytes:
            raise ValueError(f"row_bytes = {self.row_bytes} holds no burst; {self.burst_bytes} works")
        if not self.write_low_watermark < self.write_high_watermark <= self.queue_depth:
            raise ValueError(
                f"write watermarks {self.write_low_watermark} and {self.write_high_watermark} do not fit: "
                f"low < high <= queue_depth = {self.queue_depth} works"
            )
        drain = self.row_active_cycles + 2 * self.precharge_cycles + self.refresh_cycles
        if self.refresh_interval_cycles <= drain:
            raise ValueError(
                f"refresh_interval_cycles = {self.refresh_interval_cycles} leaves no time between refreshes; "
                f"{drain + 1} is the least that works"
            )
        if self.delays().read_to_write < 1:
            raise ValueError(
                f"write_latency_cycles = {self.write_latency_cycles} lets a write overtake the read before it; "
                f"{self.read_latency_cycles} works"
            )

    @classmethod
    def default(cls) -> Self:
        """HBM2 at 2 GT/s, 8 Gb, from `hbm2.toml`."""
        tables = provenance()
        known = {field.name for field in fields(cls)}
        values = {key: value for table in tables.values() for key, value in table.items() if key in known}
        return cls(**values)

    @property
    def columns(self) -> int:
        """Bursts in one row of a pseudo-channel."""
        return self.row_bytes // self.burst_bytes

    @property
    def banks(self) -> int:
        """Banks of a pseudo-channel."""
        return self.bank_groups * self.banks_per_group

    @property
    def peak_bytes_per_cycle(self) -> float:
        """Peak of one channel in bytes a cycle: GB/s at 1 GHz."""
        return self.pseudo_channels * self.burst_bytes / self.burst_cycles

    def delays(self) -> Delays:
        """Delays between commands, in cycles from issue to issue.

        Read to write is CL + burst + gap - CWL, so that the data bus turns round; write to read is CWL + burst
        + tWTR, write to precharge CWL + burst + tWR. Columns are never closer than one burst on the data bus.
        """
        burst = self.burst_cycles
        one_group = self.bank_groups == 1
        return Delays(
            banks=self.banks,
            group_shift=self.banks_per_group.bit_length() - 1,
            pseudo_channels=self.pseudo_channels,
            read_done=self.read_latency_cycles + burst,
            write_done=self.write_latency_cycles + burst,
            activate_to_read=self.activate_to_read_cycles,
            activate_to_write=self.activate_to_write_cycles,
            activate_to_precharge=self.row_active_cycles,
            activate_to_activate=self.row_active_cycles + self.precharge_cycles,
            activate_short=self.activate_to_activate_short_cycles,
            activate_long=self.activate_to_activate_long_cycles,
            four_activates=self.four_activate_window_cycles,
            column_short=max(burst, self.column_to_column_short_cycles),
            column_long=max(burst, self.column_to_column_long_cycles),
            read_to_write=self.read_latency_cycles + burst + self.read_to_write_gap_cycles - self.write_latency_cycles,
            write_to_read_short=self.write_latency_cycles + burst + self.write_to_read_short_cycles,
            write_to_read_long=self.write_latency_cycles + burst + self.write_to_read_long_cycles,
            read_to_precharge=self.read_to_precharge_short_cycles if one_group else self.read_to_precharge_long_cycles,
            write_to_precharge=self.write_latency_cycles + burst + self.write_recovery_cycles,
            precharge=self.precharge_cycles,
            refresh=self.refresh_cycles,
            refresh_interval=self.refresh_interval_cycles,
            activate_bus=self.activate_bus_cycles,
            queue_depth=self.queue_depth,
            write_high=self.write_high_watermark,
            write_low=self.write_low_watermark,
            row_hit_cap=self.row_hit_cap,
        )


def provenance() -> dict[str, dict[str, Any]]:
    """Tables of `hbm2.toml`, each with `source` and `confidence` beside its numbers."""
    return tomllib.loads(files("models.memory").joinpath("hbm2.toml").read_text(encoding="utf-8"))
