"""What a run of the transaction model comes to, as plain values: for the command line, result files and the timeline.

Everything is per layer and in total: cycles, operations a second (performed, and those of the dense layer done in the
same time), DRAM bytes by purpose beside those of dense layers, utilizations, busy and stall cycles, bottleneck, energy.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from models.memory.energy import EnergyBreakdown
from models.transaction.counting import dense, dense_operations, payload
from models.transaction.energy import UnitEnergies, energy, unit_energies
from models.transaction.fetch_loop import BURST_BYTES
from models.transaction.roofline import Roof, RooflinePoint
from models.transaction.system import LayerResult, SystemResult
from models.transaction.timeline import Timeline

FP32_BITS, DENSE_BITS = 32, 12
NO_DRAM = EnergyBreakdown(0.0, 0.0, 0.0, 0.0)


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return total


def bottleneck(busy: Mapping[str, int], dram_cycles: float, cycles: int) -> tuple[str, float]:
    """The stage with the highest share of `cycles` in which it works, and that share; DRAM by its bytes at peak."""
    shares = {name: n / cycles for name, n in busy.items()} | {"DRAM": dram_cycles / cycles}
    name = max(shares, key=lambda stage: shares[stage])
    return name, shares[name]


def _part(
    result: SystemResult, layers: list[LayerResult], units: UnitEnergies, dram: EnergyBreakdown
) -> dict[str, Any]:
    machine, roof = result.machine, Roof.of(result.machine)
    cycles = sum(layer.cycles for layer in layers)
    turnaround = sum(layer.turnaround_cycles for layer in layers)
    seconds = cycles * machine.clock_period_ps * 1e-12
    bursts, busy = _sum(layer.bursts for layer in layers), _sum(layer.busy_cycles for layer in layers)
    dram_bytes = BURST_BYTES * sum(bursts.values())
    operations = sum(layer.operations for layer in layers)
    whole = sum(dense_operations(layer.work) for layer in layers)
    bytes_per_cycle = roof.peak_bytes_per_s * machine.clock_period_ps * 1e-12
    name, share = bottleneck(busy, dram_bytes / bytes_per_cycle, cycles)
    _, within = bottleneck(busy, dram_bytes / bytes_per_cycle, max(1, cycles - turnaround))
    spent = energy(_sum(layer.actions for layer in layers), units, seconds, dram)
    return {
        "cycles": cycles,
        "turnaround_cycles": turnaround,
        "seconds": seconds,
        "rows": sum(layer.work.flat.size for layer in layers),
        "operations": operations,
        "operations_per_s": operations / seconds,
        "dense_operations": whole,
        "dense_operations_per_s": whole / seconds,
        "dram_bytes": dram_bytes,
        "dram_bytes_by_purpose": {purpose: BURST_BYTES * n for purpose, n in bursts.items()},
        "payload_bytes": sum(payload(layer.work).total_bits for layer in layers) // 8,
        "dense_12_bit_bytes": sum(dense(layer.work, DENSE_BITS).total_bits for layer in layers) // 8,
        "dense_fp32_bytes": sum(dense(layer.work, FP32_BITS).total_bits for layer in layers) // 8,
        "bandwidth_utilization": dram_bytes / (bytes_per_cycle * cycles),
        "compute_utilization": operations / (roof.peak_operations_per_s * seconds),
        "busy_cycles": busy,
        "stall_cycles": _sum(layer.stall_cycles for layer in layers),
        "bottleneck": {"stage": name, "share": share, "share_within_layers": within},
        "energy_pj": {
            "on_chip": spent.on_chip.value,
            "dram": spent.dram.total_pj,
            "total": spent.total_pj,
            "by_action": {action: quantity.value for action, quantity in spent.actions.items()},
            "leakage": spent.leakage.value,
        },
        "roofline": RooflinePoint(roof, operations, dram_bytes, seconds).as_json(),
    }


def simulate_as_json(result: SystemResult, per_layer: bool = True) -> dict[str, Any]:
    """A run as plain values; DRAM energy is of the whole run, and 0 in the layers and for memories without it.

    Args:
        result: of `models.transaction.system.simulate`.
        per_layer: list the layers too.
    """
    units = unit_energies(result.machine)
    statistics = result.memory
    total = _part(result, result.layers, units, NO_DRAM if statistics is None else statistics.energy)
    found: dict[str, Any] = {
        "workload": result.workload.name,
        "source": result.workload.source,
        "model": result.workload.model.name,
        "total": total,
    }
    if statistics is not None:
        found["memory"] = {
            "row_hit_rate": statistics.row_hit_rate,
            "reads": statistics.reads,
            "writes": statistics.writes,
            "activates": statistics.activates,
            "refreshes": statistics.refreshes,
            "mean_queue_cycles": statistics.mean_queue_cycles,
        }
    if per_layer:
        found["layers"] = [{"name": layer.name, **_part(result, [layer], units, NO_DRAM)} for layer in result.layers]
    return found


def simulate_as_timeline(result: SystemResult, most_slices: int = 1_000_000) -> Timeline:
    """A run as a timeline: layers, and in them rows from the row queues to their outputs, by head."""
    timeline = Timeline(result.workload.name, result.machine.clock_period_ps, most_slices=most_slices)
    timeline.track("layers")
    timeline.track("rows")
    for layer in result.layers:
        start = layer.start_cycle
        timeline.slice("layers", layer.name, start, start + layer.cycles, bursts=sum(layer.bursts.values()))
        rows = layer.work.rows
        for i, (retired, output) in enumerate(
            zip(layer.row_cycles.tolist(), layer.output_cycles.tolist(), strict=True)
        ):
            head, row = int(layer.work.heads[i // rows]), i % rows
            timeline.slice("rows", f"head {head}, row {row}", start + retired, start + max(retired, output), head=head)
        gigabytes = 32e3 * sum(layer.bursts.values()) / (layer.cycles * result.machine.clock_period_ps)
        timeline.counter("DRAM, GB/s", start, value=gigabytes)
        for name, busy in layer.busy_cycles.items():
            timeline.counter(f"{name}, busy", start, share=busy / layer.cycles)
    return timeline
