"""Area, timing and power of a whole machine, module by module, as a result file (`estimate.json`)."""

from __future__ import annotations

from typing import Any

from hls import technology
from hls.estimate_machine import area_by_group, estimate_machine, power_by_group
from hls.quantity import total
from models.config import AcceleratorConfig
from verification.cosimulation import accelerator_of

SCHEMA = "spatten-estimate-1"


def machine_estimate(machine: AcceleratorConfig, name: str) -> dict[str, Any]:
    """Plain data: every module, and sums by the groups of the published figure.

    Raises:
        HlsError: if the machine cannot be built.
    """
    library = technology.load()
    modules = estimate_machine(accelerator_of(machine), library, machine.clock_period_ps)
    return {
        "schema": SCHEMA,
        "machine": name,
        "technology": library.name,
        "clock_period_ps": machine.clock_period_ps,
        "modules": [module.as_dict() for module in modules],
        "area_by_group": {group: area.as_dict() for group, area in area_by_group(modules).items()},
        "power_by_group": {group: power.as_dict() for group, power in power_by_group(modules).items()},
        "area": total((module.area for module in modules), "um2", "all modules").as_dict(),
        "power": total((module.power for module in modules), "mW", "all modules, every cycle active").as_dict(),
        "slowest": max(modules, key=lambda module: module.estimate.delay.value).as_dict(),
    }
