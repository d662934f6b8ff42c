"""Area, delay and power of a composition: every module once, times its instances, in the published groups.

    area of a group = sum over its modules of instances * area of the module

The published machine gives area and power by the groups of `GROUPS` (SpAtten, HPCA 2021, figure 13); a part that
belongs to none of them is one of "others", as there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hls.compose import Composition
from hls.estimate import Estimate
from hls.estimate_block import estimate_block
from hls.quantity import Quantity, total
from hls.technology import Technology

OTHERS = "others"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Q x K with Key SRAM": ("query_key", "key_sram", "key_mask", "query_buffer"),
    "prob x V with Value SRAM": ("probability_value", "value_sram", "value_mask", "value_dispatch"),
    "QKV fetcher": (
        *("fetch_switch", "fetch_lane", "list_sequencer", "landing_lane", "converter", "landing_write", "memory_port"),
        *("operand_loader", "value_lists", "value_sparse"),
    ),
    "softmax": ("softmax", "flat_decision", "row_queues"),
    "top-k": ("engine_a", "engine_b", "row_values", "kept_beats"),
}


@dataclass(frozen=True)
class ModuleEstimate:
    """A module of a composition.

    Attributes:
        group: in which the published figure counts it.
        instances: how many there are.
        estimate: of one.
    """

    group: str
    instances: int
    estimate: Estimate

    @property
    def area(self) -> Quantity:
        """Of all instances, um2."""
        return self.estimate.area.scaled(self.instances, "um2")

    @property
    def power(self) -> Quantity:
        """Of all instances with every cycle fully active, mW."""
        return self.estimate.power.scaled(self.instances, "mW")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a result file."""
        return {
            "module": self.estimate.name,
            "group": self.group,
            "instances": self.instances,
            "register_bits": self.estimate.register_bits,
            "area": self.area.as_dict(),
            "delay": self.estimate.delay.as_dict(),
            "slack_ps": self.estimate.slack_ps,
            "critical_path": list(max(self.estimate.stages, key=lambda s: s.delay.value).critical_path),
            "power": self.power.as_dict(),
        }


def group_of(part: str) -> str:
    """The published group of an instance; instances of one module are numbered behind its name."""
    for group, names in GROUPS.items():
        if part in names or part.rstrip("0123456789").rstrip("_") in names:
            return group
    return OTHERS


def estimate_machine(
    composition: Composition, technology: Technology, clock_period_ps: int
) -> tuple[ModuleEstimate, ...]:
    """Every module of a composition, the largest first.

    Raises:
        TechnologyError: for an operator or a memory that the technology does not have.
    """
    counts = Counter((group_of(part), id(netlist)) for part, netlist in composition.parts.items())
    estimates = {
        id(netlist): estimate_block(netlist.block, technology, clock_period_ps, netlist.name)
        for netlist in composition.modules
    }
    found = [ModuleEstimate(group, counts[group, key], estimates[key]) for group, key in counts]
    return tuple(sorted(found, key=lambda module: -module.area.value))


def area_by_group(modules: tuple[ModuleEstimate, ...]) -> dict[str, Quantity]:
    """Area of each group in um2, those of `GROUPS` in their order, then the others."""
    return {
        group: total((module.area for module in modules if module.group == group), "um2", group)
        for group in (*GROUPS, OTHERS)
    }


def power_by_group(modules: tuple[ModuleEstimate, ...]) -> dict[str, Quantity]:
    """Power of each group in mW with every cycle fully active, as `area_by_group`."""
    return {
        group: total((module.power for module in modules if module.group == group), "mW", group)
        for group in (*GROUPS, OTHERS)
    }
