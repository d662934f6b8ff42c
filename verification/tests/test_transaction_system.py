"""The machine as transactions: what holds for every workload, on small random ones."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings

from models.config import AcceleratorConfig, KeepSchedule, PruningConfig, QuantizationConfig
from models.memory.hbm2 import Hbm2Memory
from models.memory.timing import Hbm2Timing
from models.memory.variants import IdealMemory
from models.reference.integer import IntegerArithmetic
from models.reference.stack import prepare
from models.transaction import machine_timing, summary
from models.transaction.counting import payload
from models.transaction.generated import generate, parse_profile
from models.transaction.machine_timing import MachineTiming
from models.transaction.replay import replay
from models.transaction.roofline import Roof
from models.transaction.serial import RoundTrip
from models.transaction.streaming import fetch_cycles, stream_rate
from models.transaction.summary import simulate_as_json, simulate_as_timeline
from models.transaction.system import SystemResult, simulate
from models.transaction.value_state import ValueSizes
from models.transaction.workload import Workload
from verification.accelerator_host import Host
from verification.tests.sequences import random_sequence
from verification.tests.small_workloads import small_workload, small_workloads

TINY = AcceleratorConfig.preset("tiny")


WORKLOADS = small_workloads(24)


def _bursts(result: SystemResult) -> dict[str, int]:
    names = result.layers[0].bursts
    return {name: sum(layer.bursts[name] for layer in result.layers) for name in names}


@settings(max_examples=8, deadline=None)
@given(WORKLOADS)
def test_bytes_are_conserved(workload: Workload) -> None:
    """What modules ask for is what the memory serves, and covers what the elements need."""
    memory = Hbm2Memory(TINY.hbm_channels)
    result = simulate(workload, TINY, memory)
    bursts, statistics = _bursts(result), memory.statistics()
    writes = bursts["output"] + bursts["control_write"]
    assert statistics.writes == writes
    assert statistics.reads == sum(bursts.values()) - writes
    for layer in result.layers:
        bits = payload(layer.work)
        assert 256 * layer.bursts["q"] >= bits.q_bits
        assert 256 * layer.bursts["output"] >= bits.out_bits
        if not layer.work.flat.any():
            assert layer.bursts["k_lsb"] == layer.bursts["v_lsb"] == 0
        assert 256 * (layer.bursts["k_msb"] + layer.bursts["v_msb"]) >= bits.k_msb_bits + bits.v_msb_bits


@settings(max_examples=8, deadline=None)
@given(WORKLOADS)
def test_no_run_is_faster_than_the_roofline(workload: Workload) -> None:
    result = simulate(workload, TINY)
    roof = Roof.of(TINY)
    operations = sum(layer.operations for layer in result.layers)
    assert result.seconds >= roof.least_seconds(operations, 32 * sum(_bursts(result).values()))


@settings(max_examples=6, deadline=None)
@given(WORKLOADS)
def test_rows_come_and_go_in_order(workload: Workload) -> None:
    for layer in simulate(workload, TINY).layers:
        assert len(layer.row_cycles) == len(layer.output_cycles) == layer.work.flat.size
        assert (np.diff(layer.row_cycles) > 0).all()
        assert (np.diff(layer.output_cycles) > 0).all()
        assert (layer.output_cycles > layer.row_cycles).all()
        assert layer.output_cycles[-1] < layer.cycles


def test_runs_are_deterministic() -> None:
    workload = small_workload(12, 1, 0.5, 4)
    first, second = simulate(workload, TINY), simulate(workload, TINY)
    for a, b in zip(first.layers, second.layers, strict=True):
        assert a.cycles == b.cycles
        assert a.output_cycles.tolist() == b.output_cycles.tolist()


@pytest.mark.parametrize("generated", [0, 2])
def test_a_slower_stage_delays_every_row(generated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong latency shows in the rows' cycles: every row of a layer is later by as much."""
    workload = small_workload(8, generated, 1.0, 0)
    before = simulate(workload, TINY)
    slower = replace(MachineTiming.of(TINY), normalize=MachineTiming.of(TINY).normalize + 3)
    monkeypatch.setattr(machine_timing, "_timing", lambda machine: slower)
    after = simulate(workload, TINY)
    assert (after.layers[0].row_cycles - before.layers[0].row_cycles).min() == 3


def _sum(parts: list[Any]) -> Any:
    """Of equal members of several dictionaries, and of those in them."""
    if isinstance(parts[0], dict):
        return {name: _sum([part[name] for part in parts]) for name in parts[0]}
    return math.fsum(parts)


def test_layers_sum_up_to_the_total() -> None:
    result = simulate(small_workload(12, 1, 0.5, 4), TINY)
    found = simulate_as_json(result)
    assert result.memory is not None
    spent, energy = found["total"]["energy_pj"], result.memory.energy
    assert spent["dram"] == pytest.approx(energy.total_pj)
    assert spent["dram_by_part"]["read"] == pytest.approx(energy.read_pj)
    assert spent["dram_by_part"]["write"] == pytest.approx(energy.write_pj)
    assert all(layer["energy_pj"]["dram"] > 0 for layer in found["layers"])
    for name in (
        *("cycles", "turnaround_cycles", "phase_cycles", "seconds", "rows", "operations", "dense_operations"),
        *("dram_bytes", "dram_bytes_by_purpose", "payload_bytes", "stall_cycles", "actions", "energy_pj"),
        *("dense_12_bit_bytes", "dense_fp32_bytes"),
    ):
        whole = found["total"][name]
        expected = _sum([layer[name] for layer in found["layers"]])
        if not isinstance(whole, dict):
            assert whole == pytest.approx(expected), name
            continue
        assert list(whole) == list(expected)
        for part, value in expected.items():
            assert whole[part] == pytest.approx(value), f"{name}, {part}"


@pytest.mark.parametrize("value_ratio", [1.0, 0.5])
def test_rows_of_a_top_k_engine_are_actions_of_that_engine(value_ratio: float) -> None:
    """Engine A selects tokens, and both take rows of values."""
    lanes, workload = TINY.top_k_lanes, small_workload(12, 0, value_ratio, 0)
    actions = simulate_as_json(simulate(workload, TINY))["total"]["actions"]
    selections = [work.token_selection for work in workload.layers() if work.token_selection is not None]
    of_tokens = sum(-(-selection.candidates // lanes) for selection in selections)
    rows = sum(int((-(-work.visible // lanes)).sum()) * len(work.heads) for work in workload.layers())
    assert of_tokens > 0
    found = {engine: actions[f"top_k_{engine}_fill_row"] for engine in "ab"}
    if value_ratio == 1.0:
        assert found == {"a": of_tokens, "b": 0}
    else:
        assert min(found["a"] - of_tokens, found["b"]) > 0
        assert sum(found.values()) == of_tokens + rows
    for engine in "ab":
        assert actions[f"top_k_{engine}_filter_row"] == found[engine]
        assert (actions[f"top_k_{engine}_pass_row"] > 0) == (found[engine] > 0)


def test_counters_of_a_timeline_end_with_what_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few changes are drawn: nothing is in the machine behind a layer, and nothing moves behind the run."""
    monkeypatch.setattr(summary, "COUNTS_PER_LAYER", 3)
    result = simulate(small_workload(12, 1, 0.5, 4), TINY)
    events = simulate_as_timeline(result).as_dict()["traceEvents"]
    starts = [layer.start_cycle for layer in result.layers if layer.work.rows]
    last: dict[tuple[str, int], float] = {}
    for event in events:
        if event["ph"] == "C" and not event["name"].endswith(", busy"):
            cycle = event["ts"] * 1e6 / TINY.clock_period_ps
            layer = int(np.searchsorted(starts, cycle + 0.5)) - 1
            last[event["name"], layer] = next(iter(event["args"].values()))
    names = {name for name, _ in last}
    assert names >= {"softmax, rows", "row queues, rows", "values, rows", "Key SRAM, buffers", "DRAM, GB/s"}
    for name in names:
        assert last[name, len(starts) - 1] == 0
    for (name, layer), inside in last.items():
        assert inside == 0 or name in ("DRAM, GB/s", "fetch, vectors on the way"), layer


def test_summary_adds_up() -> None:
    result = simulate(small_workload(12, 1, 0.5, 4), TINY)
    found = simulate_as_json(result)
    total = found["total"]
    assert total["cycles"] == sum(layer["cycles"] for layer in found["layers"]) == result.cycles
    assert total["dram_bytes"] == sum(total["dram_bytes_by_purpose"].values())
    assert total["energy_pj"]["total"] == pytest.approx(total["energy_pj"]["on_chip"] + total["energy_pj"]["dram"])
    assert total["dense_fp32_bytes"] > total["dense_12_bit_bytes"] > 0
    assert 0 < total["bandwidth_utilization"] < 1
    assert 0 < total["bottleneck"]["share"] <= total["bottleneck"]["share_within_layers"] <= 1
    assert simulate_as_timeline(result).as_json().startswith(b"{")


def test_dram_is_compared_with_a_stream_of_the_memory_alone() -> None:
    machine = AcceleratorConfig()
    pruning, bits = PruningConfig(value_ratio=1.0), QuantizationConfig(12)
    result = simulate(generate(parse_profile("gpt2-small:999+1", pruning, bits)), machine)
    total = simulate_as_json(result, False)["total"]
    stream = total["dram_stream"]
    assert stream["share"] == pytest.approx(total["bandwidth_utilization"] / stream["rate"], rel=1e-3)
    assert 0.8 < stream["share"] < stream["share_with_serial"] <= 1
    # no layer is done sooner behind its last outputs than is said to be possible
    weigh_cycles = ValueSizes.of(machine).weigh_cycles
    for layer in result.layers:
        assert weigh_cycles < layer.serial.drain <= layer.cycles - int(layer.output_cycles[-1]) + weigh_cycles
    # nor are the first keys there sooner behind their request than the first burst, which also waits for its row
    least = [layer.serial.before + layer.serial.drain + fetch_cycles(machine) for layer in result.layers]
    assert stream["serial_cycles"] == sum(least)
    first = min(int(layer.events.keys[0, 1] - layer.events.keys[0, 0]) for layer in result.layers)
    assert RoundTrip.of(Hbm2Memory(1)).read < fetch_cycles(machine) < first
    without_stream = simulate(small_workload(12, 1, 0.5, 4), TINY, IdealMemory(TINY.hbm_channels))
    assert simulate_as_json(without_stream)["total"]["dram_stream"] is None


def test_a_stream_comes_near_the_peak_but_for_refreshes() -> None:
    timing, rate = Hbm2Timing.default(), stream_rate(16)
    refreshed = 1 - timing.refresh_cycles / timing.refresh_interval_cycles
    assert refreshed - 0.02 < rate < refreshed


@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize("prompt", [None, 10])
def test_a_workload_makes_the_passes_that_the_host_asks_for(
    prompt: int | None, scope: Literal["step", "sequence"]
) -> None:
    """Where no layer is before that could select its tokens, a pass selects only: as long as that, without any row."""
    bits, kept = QuantizationConfig(8, 0, 0.0), KeepSchedule(ratios=(0.6, 0.3))
    run = prepare(
        random_sequence(1, layers=2, prompt=prompt),
        IntegerArithmetic(bits),
        PruningConfig(tokens=kept, scope=scope),
        bits,
    )
    result = simulate(replay(run, "random", "random numbers", TINY.top_k_lanes), TINY)
    assert [layer.name for layer in result.layers] == [request.name for request in Host(run, TINY).requests()]
    only = [layer for layer in result.layers if layer.work.rows == 0]
    assert only
    for layer in only:
        assert layer.cycles == layer.turnaround_cycles >= layer.serial.before + layer.serial.behind
        assert layer.row_cycles.size == layer.output_cycles.size == layer.operations == 0
        assert payload(layer.work).total_bits == 0
        assert layer.bursts["control_write"] > 0
        assert sum(layer.bursts.values()) == layer.bursts["control_read"] + layer.bursts["control_write"]
    found = simulate_as_json(result)
    assert found["total"]["cycles"] == sum(layer["cycles"] for layer in found["layers"]) == result.cycles
    for part in (found["total"], *found["layers"]):
        assert set(part["busy_cycles"]) >= {summary.ENGINE_A, summary.KEY_SRAM, summary.DRAM}
        assert 0 < part["bottleneck"]["share"] <= part["bottleneck"]["share_within_layers"] <= 1
    assert simulate_as_timeline(result).as_json().startswith(b"{")
