"""prob x V: equal to the reference under every stall pattern, no gap between rows, at every size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import probability_value
from hls.simulate import Simulator, open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig
from verification.evidence.probability_value_model import (
    ProbabilityValueBeats,
    expected,
    extreme_beats,
    observed,
    random_beats,
)
from verification.streaming import Drained, drain
from verification.tests.datapath_machines import EVERY_MACHINE, machine, patterns, seeds


def check(simulator: Simulator, config: AcceleratorConfig, beats: ProbabilityValueBeats, *stalls) -> Drained:
    result = drain(simulator, beats.ports(config), int(beats.last.sum()), *stalls)
    np.testing.assert_array_equal(observed(config, result.outputs["out"]), expected(config, beats))
    return result


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(probability_value.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=60)
@given(seeds, st.integers(1, 12), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, rows, offer, accept):
    check(tiny, machine("tiny"), random_beats(machine("tiny"), rows, seed), offer, accept)


@settings(max_examples=10)
@given(seeds, patterns)
def test_rows_of_one_cycle(tiny, seed, accept):
    check(tiny, machine("tiny"), random_beats(machine("tiny"), 20, seed, longest=1), None, accept)


@pytest.mark.parametrize(
    ("preset", "bits"),
    [
        pytest.param(*m, marks=[pytest.mark.full] if m[0] == "spatten" and m[1] != 12 else [], id=f"{m[0]}-{m[1]}")
        for m in EVERY_MACHINE
    ],
)
def test_random_rows_at_every_size(preset, bits):
    """Also the rate: a cycle of a row in every cycle, its outputs a fixed latency after its last."""
    config = machine(preset, bits)
    netlist = probability_value.build(config)
    with open_simulator(netlist, "fast") as simulator:
        beats = random_beats(config, 40, seed=bits)
        result = check(simulator, config, beats)
    assert list(np.diff(result.sent_at)) == [1] * (len(result.sent_at) - 1)
    ends = np.array(result.sent_at)[beats.last == 1]
    assert list(result.received_at - ends) == [netlist.latency_cycles] * len(ends)


@pytest.mark.parametrize("preset", ["tiny", pytest.param("spatten", marks=pytest.mark.full)])
def test_extremes(preset):
    config = machine(preset)
    with open_simulator(probability_value.build(config), "fast") as simulator:
        check(simulator, config, extreme_beats(config))


@pytest.mark.full
def test_many_rows_at_full_size():
    config = machine()
    with open_simulator(probability_value.build(config)) as simulator:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            stalls = rng.random(2000) < 0.7, rng.random(2000) < 0.7
            check(simulator, config, random_beats(config, 100, seed, longest=20), *stalls)


def test_latency_is_that_of_the_schedules():
    plan = probability_value.plan(machine("tiny"))
    stages = plan.weigh.latency_cycles + plan.accumulate.stage_count + plan.round_row.latency_cycles
    assert probability_value.build(machine("tiny")).latency_cycles == plan.latency_cycles == stages


def test_sizes_are_those_of_the_architecture():
    types = probability_value.ProbabilityValueTypes.of(machine())
    assert (types.prob.length, types.value.total_bits, types.out.length) == (8, 6144, 512)
    assert types.sum.width == 34


def test_an_impossible_clock_is_refused():
    with pytest.raises(HlsError, match=r"period|accumulators need"):
        probability_value.build(replace(machine("tiny"), clock_period_ps=150))
    with pytest.raises(HlsError, match=r"accumulators need one addition a cycle, which takes about \d+ ps, not 400"):
        probability_value.build(replace(machine("tiny"), clock_period_ps=400))
