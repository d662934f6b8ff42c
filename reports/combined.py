"""The result files of the main job side by side, with the published figures, arranged for tables."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

RESULTS = ("run", "equivalence", "estimate", "simulate")
UM2_PER_MM2 = 1e6
MW_PER_W = 1e3


def published() -> dict[str, Any]:
    """The published figures, each table with its source."""
    return tomllib.loads(files("reports").joinpath("published.toml").read_text(encoding="utf-8"))


def load(folder: Path) -> dict[str, Any]:
    """The result files that are in a folder, by name; None for one that is not there."""
    found: dict[str, Any] = {}
    for name in RESULTS:
        path = folder / f"{name}.json"
        found[name] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


@dataclass(frozen=True)
class EquivalenceRow:
    """A trace under a setting and a memory: numbers compared and different, layers, cycles."""

    trace: str
    setting: str
    memory: str
    tokens: str
    layers: int
    cycles: int
    compared: int
    differing: int
    equal: bool


def equivalence_rows(data: dict[str, Any]) -> list[EquivalenceRow]:
    """A row for each result of `equivalence.json`."""
    return [
        EquivalenceRow(
            trace=r["trace"],
            setting=r["setting"],
            memory=r["memory"],
            tokens=f"{r['tokens'] - r['generated']} + {r['generated']}" if r["generated"] else str(r["tokens"]),
            layers=sum(run["rows"] > 0 for run in r["runs"]),
            cycles=sum(run["cycles"] for run in r["runs"]),
            compared=sum(r["compared"].values()),
            differing=sum(r["differing"].values()),
            equal=r["equal"],
        )
        for r in data["results"]
    ]


@dataclass(frozen=True)
class ArrivalRow:
    """A trace on the transaction model beside the netlist: rows, those in the same cycles, the worst difference."""

    trace: str
    setting: str
    memory: str
    rows: int
    equal_rows: int
    worst_cycles: int
    worst_share: float
    bound: float


def arrival_rows(data: dict[str, Any]) -> list[ArrivalRow]:
    """A row for each result of `equivalence.json` that the transaction model has run too."""
    fields = ("rows", "equal_rows", "worst_cycles", "worst_share", "bound")
    return [
        ArrivalRow(r["trace"], r["setting"], r["memory"], *(r["timing"][name] for name in fields))
        for r in data["results"]
        if r.get("timing") and r["timing"]["rows"]
    ]


@dataclass(frozen=True)
class SiliconRow:
    """Area and power of a group of modules beside the published ones; ranges are our error bars."""

    group: str
    area_mm2: float
    area_low: float
    area_high: float
    published_area_mm2: float
    power_w: float
    published_power_w: float


def silicon_rows(data: dict[str, Any]) -> list[SiliconRow]:
    """A row for each group of the published figure, and one for all."""
    known = published()

    def row(name: str, area: dict[str, Any], power: dict[str, Any], of: tuple[float, float]) -> SiliconRow:
        mm2 = area["value"] / UM2_PER_MM2
        low, high = mm2 / (1 + area["error"]), mm2 * (1 + area["error"])
        return SiliconRow(name, mm2, low, high, of[0], power["value"] / MW_PER_W, of[1])

    rows = [
        row(group, area, data["power_by_group"][group], (known["area_mm2"][group], known["power_w"][group]))
        for group, area in data["area_by_group"].items()
    ]
    total = known["total"]
    return [*rows, row("all", data["area"], data["power"], (total["area_mm2"], total["logic_w"] + total["sram_w"]))]


def module_rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each module: group, instances, area of all in mm2, longest path, slack, register bits."""
    return [
        {
            "module": m["module"],
            "group": m["group"],
            "instances": m["instances"],
            "area_mm2": m["area"]["value"] / UM2_PER_MM2,
            "delay_ps": m["delay"]["value"],
            "delay_error": m["delay"]["error"],
            "slack_ps": m["slack_ps"],
            "register_bits": m["register_bits"] * m["instances"],
            "provenance": m["area"]["provenance"],
        }
        for m in data["modules"]
    ]


@dataclass(frozen=True)
class SimulateRow:
    """A workload on the transaction model, in the units of the tables.

    `streaming`: share of all cycles in which DRAM gives what a stream of the memory alone does;
    `streaming_with_serial`: with those in which it must rest because layers follow one another. None for a memory
    without streams.
    """

    workload: str
    cycles: int
    time_us: float
    bottleneck: str
    share: float
    share_within_layers: float
    streaming: float | None
    streaming_with_serial: float | None
    tflops: float
    dense_tflops: float
    dram_mb: float
    less_than_12_bits: float
    less_than_fp32: float
    bandwidth: float
    multipliers: float
    energy_uj: float
    dram_energy: float


def simulate_rows(data: dict[str, Any]) -> list[SimulateRow]:
    """A row for each result of `simulate.json`."""
    rows = []
    for result in data["results"]:
        total = result["total"]
        stream = total["dram_stream"] or {"share": None, "share_with_serial": None}
        rows.append(
            SimulateRow(
                workload=result["workload"],
                cycles=total["cycles"],
                time_us=total["seconds"] * 1e6,
                bottleneck=total["bottleneck"]["stage"],
                share=total["bottleneck"]["share"],
                share_within_layers=total["bottleneck"]["share_within_layers"],
                streaming=stream["share"],
                streaming_with_serial=stream["share_with_serial"],
                tflops=total["operations_per_s"] / 1e12,
                dense_tflops=total["dense_operations_per_s"] / 1e12,
                dram_mb=total["dram_bytes"] / 1e6,
                less_than_12_bits=total["dense_12_bit_bytes"] / total["dram_bytes"],
                less_than_fp32=total["dense_fp32_bytes"] / total["dram_bytes"],
                bandwidth=total["bandwidth_utilization"],
                multipliers=total["compute_utilization"],
                energy_uj=total["energy_pj"]["total"] / 1e6,
                dram_energy=total["energy_pj"]["dram"] / total["energy_pj"]["total"],
            )
        )
    return rows


@dataclass(frozen=True)
class PublishedRow:
    """A figure of a workload beside the published one; `of` says what the latter stands for, and where."""

    workload: str
    measure: str
    ours: float
    published: float
    of: str


MEASURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "time, ms": lambda total: total["seconds"] * 1e3,
    "performed, GFLOP": lambda total: total["operations"] / 1e9,
    "TFLOP/s": lambda total: total["operations_per_s"] / 1e12,
    "operations a byte": lambda total: total["roofline"]["operations_per_byte"],
    "DRAM, times less than fp32": lambda total: total["reduction_from_dense_fp32"],
    "power, W": lambda total: total["energy_pj"]["total"] / 1e12 / total["seconds"],
    "DRAM, share of power": lambda total: total["energy_pj"]["dram"] / total["energy_pj"]["total"],
}
"""From the totals of a result, what is published."""


def is_published(result: dict[str, Any]) -> bool:
    """Whether something was published of such a workload."""
    return any(result["workload"].startswith(tuple(figure["workloads"])) for figure in published()["simulate"])


def published_rows(data: dict[str, Any]) -> list[PublishedRow]:
    """A row for each result of `simulate.json` and published figure of such workloads."""
    return [
        PublishedRow(result["workload"], f["measure"], MEASURES[f["measure"]](result["total"]), f["value"], f["of"])
        for result in data["results"]
        for f in published()["simulate"]
        if result["workload"].startswith(tuple(f["workloads"]))
    ]
