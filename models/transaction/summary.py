"""What a run of the transaction model comes to, as plain values: for the command line, result files and the timeline.

Everything is per layer and in total: cycles and phases, operations a second (performed, and those of the dense layer
done in the same time), DRAM bytes by purpose beside those of dense layers, utilizations, busy and stall cycles, what
stood between the modules, bottleneck, energy.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from hls.datapaths.machine_sizes import KEY_PLACES
from models.config import AcceleratorConfig
from models.memory.energy import NO_ENERGY
from models.transaction.counting import dense, dense_operations, payload
from models.transaction.energy import UnitEnergies, energy, unit_energies
from models.transaction.observation import Occupancy, occupancy
from models.transaction.roofline import Roof, RooflinePoint
from models.transaction.streaming import fetch_cycles, stream_rate
from models.transaction.system import LayerResult, SystemResult
from models.transaction.timeline import Timeline

FP32_BITS, DENSE_BITS = 32, 12
KEY_SRAM, DRAM, ENGINE_A = "Key SRAM buffers", "DRAM", "top-k engine A"
MOST_SLICES = 500_000
COUNTS_PER_LAYER = 256
"""Of a counter of the timeline; more would not be seen."""


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return total


def bottleneck(busy: Mapping[str, int], cycles: Mapping[str, int]) -> tuple[str, float]:
    """The stage that works in the highest share of the cycles in which it could, and that share.

    Args:
        busy: cycles in which each stage works.
        cycles: in which it could.
    """
    shares = {name: n / max(1, cycles[name]) for name, n in busy.items()}
    name = max(shares, key=lambda stage: shares[stage])
    return name, shares[name]


def _bottleneck(layers: list[LayerResult], busy: Mapping[str, int], cycles: int, turnaround: int) -> dict[str, Any]:
    """Of all stages; those of the rows cannot work between layers, nor the buffers of the keys before and behind them.

    Engine A can, as it selects survivors there; and where there are no rows, all that works does.
    Where the buffers of the Key SRAM are the slowest, `filling` and `in_use` say whether DRAM or the rows hold them.
    `serial_cycles` are those in which the stage must rest because layers follow one another, at the least
    (`models.transaction.serial`): with them as much of all cycles is accounted for as `share_with_serial` says.
    """
    within = dict.fromkeys(busy, cycles - turnaround or cycles)
    within |= {KEY_SRAM: sum(layer.events.key_cycles for layer in layers), ENGINE_A: cycles}
    name, share = bottleneck(busy, within)
    found: dict[str, Any] = {"stage": name, "share": busy[name] / cycles, "share_within_layers": share}
    serial = sum(layer.serial.before + (layer.serial.behind if name == KEY_SRAM else 0) for layer in layers)
    found |= {"serial_cycles": serial, "share_with_serial": (busy[name] + serial) / cycles}
    if name == KEY_SRAM:
        found["filling"] = sum(layer.events.key_fetch_cycles for layer in layers) / within[KEY_SRAM]
        found["in_use"] = sum(layer.events.key_row_cycles for layer in layers) / within[KEY_SRAM]
    return found


def _stream(layers: list[LayerResult], busy_cycles: int, machine: AcceleratorConfig) -> dict[str, float]:
    """DRAM beside a stream of the memory alone: `rate` of the peak, and the share of all cycles in which it streams.

    `share_with_serial` counts those in which it must rest because layers follow one another too: before the first
    request for keys, while its first burst is on the way there and its last one on the way back, and from the last
    value until the layer is done. A run without a refresh may stream faster than `rate`.
    """
    cycles, rate = sum(layer.cycles for layer in layers), stream_rate(machine.hbm_channels)
    serial = sum(layer.serial.before + layer.serial.drain for layer in layers)
    serial += fetch_cycles(machine) * sum(layer.work.rows > 0 for layer in layers)
    streaming = busy_cycles / rate
    return {
        "rate": rate,
        "share": streaming / cycles,
        "serial_cycles": serial,
        "share_with_serial": (streaming + serial) / cycles,
    }


def _channels(layers: list[LayerResult]) -> dict[str, dict[str, float]]:
    """Items at most and on average in what stands between the modules, and the share of cycles in which one leaves."""
    cycles = sum(layer.cycles for layer in layers)
    found: dict[str, list[tuple[int, Occupancy]]] = {}
    for layer in layers:
        for name, moves in layer.events.occupancies().items():
            found.setdefault(name, []).append((layer.cycles, occupancy(moves, layer.cycles)))
    return {
        name: {
            "most": max(o.most for _, o in parts),
            "mean": sum(n * o.mean for n, o in parts) / cycles,
            "utilization": sum(n * o.utilization for n, o in parts) / cycles,
        }
        for name, parts in found.items()
    }


def _part(result: SystemResult, layers: list[LayerResult], units: UnitEnergies) -> dict[str, Any]:
    machine, roof = result.machine, Roof.of(result.machine)
    cycles = sum(layer.cycles for layer in layers)
    turnaround = sum(layer.turnaround_cycles for layer in layers)
    seconds = cycles * machine.clock_period_ps * 1e-12
    bursts, busy = _sum(layer.bursts for layer in layers), _sum(layer.busy_cycles for layer in layers)
    dram_bytes = BURST_BYTES * sum(bursts.values())
    operations = sum(layer.operations for layer in layers)
    whole = sum(dense_operations(layer.work) for layer in layers)
    bytes_per_cycle = roof.peak_bytes_per_s * machine.clock_period_ps * 1e-12
    keys = sum(layer.events.key_fetch_cycles + layer.events.key_row_cycles for layer in layers)
    busy |= {KEY_SRAM: keys, DRAM: round(dram_bytes / bytes_per_cycle)}
    dense_12, dense_32 = (
        sum(dense(layer.work, bits).total_bits for layer in layers) // 8 for bits in (DENSE_BITS, FP32_BITS)
    )
    dram = sum((layer.dram for layer in layers), NO_ENERGY)
    actions = _sum(layer.actions for layer in layers)
    spent = energy(actions, units, seconds, dram)
    return {
        "cycles": cycles,
        "turnaround_cycles": turnaround,
        "phase_cycles": _sum(layer.events.phases for layer in layers),
        "seconds": seconds,
        "rows": sum(layer.work.flat.size for layer in layers),
        "operations": operations,
        "operations_per_s": operations / seconds,
        "dense_operations": whole,
        "dense_operations_per_s": whole / seconds,
        "dram_bytes": dram_bytes,
        "dram_bytes_by_purpose": {purpose: BURST_BYTES * n for purpose, n in bursts.items()},
        "payload_bytes": sum(payload(layer.work).total_bits for layer in layers) // 8,
        "dense_12_bit_bytes": dense_12,
        "dense_fp32_bytes": dense_32,
        "reduction_from_dense_12_bit": dense_12 / dram_bytes,
        "reduction_from_dense_fp32": dense_32 / dram_bytes,
        "bandwidth_utilization": dram_bytes / (bytes_per_cycle * cycles),
        "compute_utilization": operations / (roof.peak_operations_per_s * seconds),
        "busy_cycles": busy,
        "stall_cycles": _sum(layer.stall_cycles for layer in layers),
        "channels": _channels(layers),
        "bottleneck": _bottleneck(layers, busy, cycles, turnaround),
        "dram_stream": None if result.memory is None else _stream(layers, busy[DRAM], machine),
        "actions": actions,
        "energy_pj": {
            "on_chip": spent.on_chip.value,
            "dram": spent.dram.total_pj,
            "total": spent.total_pj,
            "by_action": {action: quantity.value for action, quantity in spent.actions.items()},
            "leakage": spent.leakage.value,
            "dram_by_part": {name.removesuffix("_pj"): value for name, value in asdict(spent.dram).items()},
        },
        "roofline": RooflinePoint(roof, operations, dram_bytes, seconds).as_json(),
    }


def simulate_as_json(result: SystemResult, per_layer: bool = True) -> dict[str, Any]:
    """A run as plain values; energy of DRAM is 0 for memories that are not HBM2.

    Args:
        result: of `models.transaction.system.simulate`.
        per_layer: list the layers too.
    """
    units = unit_energies(result.machine)
    statistics, total = result.memory, _part(result, result.layers, units)
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
        found["layers"] = [{"name": layer.name, **_part(result, [layer], units)} for layer in result.layers]
    return found


def simulate_as_timeline(result: SystemResult, most_slices: int = MOST_SLICES) -> Timeline:
    """A run as a timeline: layers, keys in the Key SRAM, rows in Q x K, softmax and behind the row queues.

    Counters are DRAM bandwidth, vectors on the way, rows between the modules, and how busy each module was in a layer.
    """
    timeline = Timeline(result.workload.name, result.machine.clock_period_ps, most_slices=most_slices)
    for name in ("layers", *(f"{KEY_SRAM}, {i}" for i in range(KEY_PLACES)), "Q x K", "softmax", "values"):
        timeline.track(name)
    lists = 0
    for layer in result.layers:
        _layer_timeline(timeline, layer, lists)
        lists += len(layer.events.keys)
    previous = (0, 0)
    for cycle, bursts, vectors in result.samples:
        elapsed_ps = (cycle - previous[0]) * result.machine.clock_period_ps
        timeline.counter("DRAM, GB/s", previous[0], value=1e3 * BURST_BYTES * (bursts - previous[1]) / elapsed_ps)
        timeline.counter("fetch, vectors on the way", cycle, items=vectors)
        previous = (cycle, bursts)
    timeline.counter("DRAM, GB/s", previous[0], value=0.0)
    timeline.counter("fetch, vectors on the way", result.cycles, items=0)
    return timeline


def _layer_timeline(timeline: Timeline, layer: LayerResult, lists: int) -> None:
    start, events, heads, rows = layer.start_cycle, layer.events, layer.work.heads.tolist(), layer.work.rows
    timeline.slice("layers", layer.name, start, start + layer.cycles, bursts=sum(layer.bursts.values()))
    for i, (asked, there, taken, released) in enumerate((events.keys + start).tolist()):
        track = f"{KEY_SRAM}, {(lists + i) % events.places}"
        timeline.slice(track, f"keys {i}, fetch", asked, max(asked, there))
        timeline.slice(track, f"keys {i}, rows", taken, released)
    for job, row, begins, _, decided, _, second, last in events.passes.tolist():
        name = f"head {heads[job]}, row {row}{', all bits' if second else ''}"
        timeline.slice("Q x K", name, start + begins, start + last)
        timeline.slice("softmax", name, start + last, start + decided)
    for i, (left, output) in enumerate(zip(events.rows.tolist(), events.outputs.tolist(), strict=True)):
        name = f"head {heads[i // rows]}, row {i % rows}"
        timeline.slice("values", name, start + left, start + max(left, output))
    for name, moves in events.occupancies().items():
        cycles = np.unique(moves)
        inside = np.searchsorted(np.sort(moves[0]), cycles, "right") - np.searchsorted(
            np.sort(moves[1]), cycles, "right"
        )
        changes = np.flatnonzero(np.diff(inside, prepend=-1))
        # with the last one, which says what is inside from then on
        changes = np.append(changes[: -1 : -(-len(changes) // COUNTS_PER_LAYER)], changes[-1])
        for cycle, items in zip((start + cycles[changes]).tolist(), inside[changes].tolist(), strict=True):
            timeline.counter(name, cycle, items=items)
    for name, busy in layer.busy_cycles.items():
        timeline.counter(f"{name}, busy", start, share=busy / layer.cycles)
