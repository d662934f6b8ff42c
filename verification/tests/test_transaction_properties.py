"""What must hold of every run of the transaction model, each with a fault that the check finds."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import AcceleratorConfig
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory
from models.memory.timing import Hbm2Timing
from models.memory.variants import AdversarialMemory, IdealMemory
from models.transaction import machine_timing, serial
from models.transaction.fetch_run import FetchRun
from models.transaction.fetch_state import TO_KEY
from models.transaction.machine_timing import MachineTiming
from models.transaction.roofline import Roof, RooflinePoint
from models.transaction.serial import RoundTrip
from models.transaction.summary import simulate_as_json
from models.transaction.system import LayerResult, SystemResult, simulate
from models.transaction.workload import IntArray, Workload
from verification.tests.small_workloads import small_workload, small_workloads

TINY = AcceleratorConfig.preset("tiny")
ANOMALY = 1.02
"""Of a run's cycles: what a faster memory may cost. Requests meet in another order, the crossbars and the memory's
queues serve whoever is first, and a row of DRAM may be closed that a slower run found open."""
ANOMALY_CYCLES = 64
"""Of a layer: a row of DRAM more that must be opened, and a refresh more that is met, however short the run."""


WORKLOADS = small_workloads(20, most_seed=100)
FIXED = small_workload(12, 1, 0.5, 4, 16, 0)


def list_bursts(ids: IntArray, parts: int, bits: int) -> int:
    """Bursts of a list (section 10): neighbours that share one fetch it once."""
    vectors = (ids[:, None] * parts + np.arange(parts)).ravel()
    first, last = vectors * bits // 256, ((vectors + 1) * bits - 1) // 256
    return int((last - first + 1).sum() - (first[1:] == last[:-1]).sum())


def unbalanced(layer: LayerResult) -> list[str]:
    """Of keys and values: where the bursts or vectors fetched are not those of the layer's ids."""
    work, native = layer.work, TINY.native_head_dim
    parts = max(1, TINY.padded_head_dim(work.head_dim) // native)
    bits, groups = work.head_dim // parts * work.msb_bits, len(np.unique(work.kv_heads))
    keys, key_bursts = work.keys * parts, list_bursts(work.key_ids, parts, bits)
    lists = [work.key_ids] * groups
    if work.generation and bool((work.kept != work.visible).any()):
        lists = [work.key_ids[work.kept_slots(i)[0]] for i in range(len(work.heads))]
    elif work.generation:
        lists = [work.key_ids] * len(work.heads)
    low = len(np.unique(work.kv_heads[work.flat.any(axis=1)]))
    wanted = {
        "k_msb bursts": (layer.bursts["k_msb"], groups * key_bursts),
        "v_msb bursts": (layer.bursts["v_msb"], sum(list_bursts(ids, parts, bits) for ids in lists)),
        "key vectors": (layer.actions["key_write"], (groups + low) * keys),
    }
    return [f"{what}: {found}, not {expected}" for what, (found, expected) in wanted.items() if found != expected]


def counts(result: SystemResult) -> list[object]:
    """What a run did, without when."""
    return [(layer.bursts, layer.actions, layer.operations, len(layer.row_cycles)) for layer in result.layers]


@settings(max_examples=6, deadline=None)
@given(WORKLOADS)
def test_what_is_asked_for_is_fetched_once_and_lands(workload: Workload) -> None:
    for layer in simulate(workload, TINY, prunes_values=None).layers:
        assert unbalanced(layer) == []


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of keys lose their last vectors, more than a burst holds, on the way to the fetch side."""
    offer = FetchRun.offer

    def shorter(
        run: FetchRun, stream: int, cycle: int, ids: IntArray, parts: int, first: int, count: int, *rest: int, **to: int
    ) -> None:
        loses = 8 if to["destination"] == TO_KEY and count > 8 else 0
        offer(run, stream, cycle, ids, parts, first, count - loses, *rest, **to)

    monkeypatch.setattr(FetchRun, "offer", shorter)


@pytest.mark.usefixtures("forgetful")
def test_lists_without_their_last_vectors_are_found() -> None:
    assert any(unbalanced(layer) for layer in simulate(small_workload(20, 0, 1.0, 0, 16, 0), TINY).layers)


@settings(max_examples=3, deadline=None)
@given(WORKLOADS, st.integers(0, 1000), st.sampled_from(["random", "reverse", "oldest"]))
def test_stalls_change_when_and_not_what(workload: Workload, seed: int, order: str) -> None:
    steady = simulate(workload, TINY, IdealMemory(TINY.hbm_channels))
    stalled = simulate(workload, TINY, AdversarialMemory(TINY.hbm_channels, seed=seed, order=order))
    assert counts(stalled) == counts(steady)
    assert stalled.cycles != steady.cycles


def test_a_run_that_does_something_else_is_found(request: pytest.FixtureRequest) -> None:
    steady = simulate(FIXED, TINY, IdealMemory(TINY.hbm_channels))
    request.getfixturevalue("forgetful")
    assert counts(simulate(FIXED, TINY, AdversarialMemory(TINY.hbm_channels, seed=1))) != counts(steady)


def slower(better: SystemResult, worse: SystemResult) -> bool:
    """The better machine takes longer, by more than what order can do."""
    return better.cycles > ANOMALY * worse.cycles + ANOMALY_CYCLES * len(worse.layers)


def _timings() -> list[Hbm2Timing]:
    """From the slowest."""
    timing = Hbm2Timing.default()
    no_refresh = replace(timing, refresh_interval_cycles=1 << 40)
    return [timing, no_refresh, replace(no_refresh, activate_to_read_cycles=4, precharge_cycles=4)]


@settings(max_examples=5, deadline=None)
@given(WORKLOADS)
def test_a_faster_memory_is_never_slower(workload: Workload) -> None:
    memories: list[Memory] = [Hbm2Memory(TINY.hbm_channels, timing) for timing in _timings()]
    runs = [simulate(workload, TINY, memory) for memory in memories]
    assert not any(slower(better, worse) for worse, better in pairwise(runs))


def test_a_slower_stage_is_found_to_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    before = simulate(FIXED, TINY)
    late = replace(MachineTiming.of(TINY), normalize=MachineTiming.of(TINY).normalize + 200)
    monkeypatch.setattr(machine_timing, "_timing", lambda machine: late)
    assert slower(simulate(FIXED, TINY), before)


@pytest.mark.full
@settings(max_examples=20, deadline=None)
@given(WORKLOADS)
def test_twice_the_multipliers_are_never_slower(workload: Workload) -> None:
    wide = replace(
        TINY,
        qk_multipliers=2 * TINY.qk_multipliers,
        pv_multipliers=2 * TINY.pv_multipliers,
        softmax_lanes=8,
        top_k_lanes=8,
    )
    assert not slower(simulate(workload, wide), simulate(workload, TINY))


@pytest.mark.full
@settings(max_examples=20, deadline=None)
@given(WORKLOADS)
def test_twice_the_channels_with_their_queues_are_never_slower(workload: Workload) -> None:
    """With their queues: twice the channels alone leave each with half as many, and were up to 8 % slower."""
    wide = replace(TINY, hbm_channels=2 * TINY.hbm_channels, fetch_queues=2 * TINY.fetch_queues)
    assert not slower(simulate(workload, wide), simulate(workload, TINY))


def above_roof(result: SystemResult) -> bool:
    """The run is shorter than its operations or its bytes allow."""
    operations = sum(layer.operations for layer in result.layers)
    dram_bytes = 32 * sum(sum(layer.bursts.values()) for layer in result.layers)
    return RooflinePoint(Roof.of(result.machine), operations, dram_bytes, result.seconds).share > 1


@settings(max_examples=5, deadline=None)
@given(WORKLOADS)
def test_no_run_is_above_its_roof(workload: Workload) -> None:
    assert not above_roof(simulate(workload, TINY))


def test_a_run_that_is_too_short_is_found() -> None:
    result = simulate(FIXED, TINY)
    share = 32 * sum(sum(layer.bursts.values()) for layer in result.layers) / (32 * TINY.hbm_channels) / result.cycles
    layers = [replace(layer, cycles=int(0.9 * share * layer.cycles)) for layer in result.layers]
    assert above_roof(replace(result, layers=layers))


@settings(max_examples=5, deadline=None)
@given(WORKLOADS)
def test_phases_and_buffers_add_up(workload: Workload) -> None:
    """Phases of a layer are all of it; its places for keys are on average never at work for longer than it."""
    for layer in simulate(workload, TINY).layers:
        events = layer.events
        assert sum(events.phases.values()) == layer.cycles
        assert min(events.phases.values()) >= 0
        assert (np.diff(events.keys, axis=1) >= 0).all()
        assert 0 < events.key_fetch_cycles + events.key_row_cycles <= events.key_cycles
        assert len(events.passes) == layer.work.flat.size + layer.work.flat.sum()


def shorter_than_their_chain(result: SystemResult) -> list[str]:
    """Layers whose parts before the first keys, or behind the last ones, are shorter than is said to be possible."""
    found = []
    for layer in result.layers:
        events, behind = layer.events, layer.cycles - int(layer.events.keys[-1, 3])
        if layer.serial.before > events.phases["descriptor and lists"]:
            found.append(f"{layer.name}, before: {layer.serial.before} of {events.phases['descriptor and lists']}")
        if layer.serial.behind > behind:
            found.append(f"{layer.name}, behind: {layer.serial.behind} of {behind}")
    return found


@settings(max_examples=8, deadline=None)
@given(WORKLOADS, st.sampled_from([Hbm2Memory, IdealMemory]))
def test_no_layer_is_shorter_than_its_chain_of_dependencies(
    workload: Workload, memory: type[Hbm2Memory] | type[IdealMemory]
) -> None:
    result = simulate(workload, TINY, memory(TINY.hbm_channels))
    assert not shorter_than_their_chain(result)
    bottleneck = simulate_as_json(result, False)["total"]["bottleneck"]
    assert bottleneck["share"] < bottleneck["share_with_serial"] <= 1


def test_a_chain_that_is_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "_hbm2", lambda: RoundTrip(60, 400))
    found = shorter_than_their_chain(simulate(FIXED, TINY))
    assert any("before" in one for one in found)
    assert any("behind" in one for one in found)
