"""Softmax: equal to the reference under every stall pattern, at the rate and latency of the schedule, at every size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import traces
from hls.datapaths import softmax
from hls.simulate import Words, open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig
from traces.npz import read_trace
from verification.equivalence.verdict import Kind
from verification.evidence import softmax_mutants
from verification.evidence.named_faults import named_faults
from verification.evidence.softmax_model import (
    SoftmaxBeats,
    SoftmaxRow,
    beats_of,
    expected,
    extreme_rows,
    observed,
    random_rows,
    scheduled_cycles,
    trace_rows,
)
from verification.evidence.softmax_specification import parts
from verification.tests.datapath_machines import EVERY_MACHINE, machine, patterns, seeds


def assert_equal(config: AcceleratorConfig, beats: SoftmaxBeats, outputs: dict[str, Words]) -> None:
    wanted, seen = expected(beats), observed(config, outputs)
    for port, values in wanted.items():
        np.testing.assert_array_equal(seen[port], values, err_msg=port)


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(softmax.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=40)
@given(seeds, st.integers(1, 12), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, count, offer, accept):
    config = machine("tiny")
    beats = beats_of(config, random_rows(config, count, seed), seed)
    tiny.reset()
    assert_equal(config, beats, tiny.stream(beats.ports(config), offer, accept).outputs)


@pytest.mark.parametrize(
    ("preset", "bits"),
    [pytest.param(*m, marks=[pytest.mark.full] if m[0] != "tiny" and m[1] == 14 else []) for m in EVERY_MACHINE],
)
def test_random_rows_at_every_size(preset, bits):
    """Also the time: every beat is taken at once, and comes out in the cycle that the schedule gives."""
    config = machine(preset, bits)
    count = 60 if preset == "tiny" else 25
    beats = beats_of(config, random_rows(config, count, seed=bits, longest_cycles=12), seed=bits)
    with open_simulator(softmax.build(config), "fast") as simulator:
        result = simulator.stream(beats.ports(config))
    assert_equal(config, beats, result.outputs)
    np.testing.assert_array_equal(result.sent_at, np.arange(len(beats.last)))
    np.testing.assert_array_equal(
        result.received_at, scheduled_cycles(softmax.plan(config), result.sent_at, beats.last)
    )


@pytest.mark.parametrize(
    ("preset", "bits"), [("tiny", 12), pytest.param("tiny", 16, marks=pytest.mark.full), ("spatten", 12)]
)
def test_extremes(preset, bits):
    """The longest rows one after another among them: the buffers are exactly full."""
    config = machine(preset, bits)
    beats = beats_of(config, extreme_rows(config))
    with open_simulator(softmax.build(config), "fast") as simulator:
        result = simulator.stream(beats.ports(config))
    assert_equal(config, beats, result.outputs)
    np.testing.assert_array_equal(
        result.received_at, scheduled_cycles(softmax.plan(config), result.sent_at, beats.last)
    )


@pytest.mark.parametrize("cycles", [1, 2, 7, 128])
def test_rows_of_one_length_leave_no_gap(tiny, cycles):
    config, plan = machine("tiny"), softmax.plan(machine("tiny"))
    rng, keys = np.random.default_rng(cycles), cycles * config.softmax_lanes
    count = 3 if cycles > 100 else 40
    rows = [SoftmaxRow(rng.integers(-1000, 1000, keys), np.ones(keys, np.int64), 40000, -6) for _ in range(count)]
    beats = beats_of(config, rows)
    tiny.reset()
    result = tiny.stream(beats.ports(config))
    assert_equal(config, beats, result.outputs)
    first = 2 * (cycles - 1) + plan.latency_cycles
    np.testing.assert_array_equal(result.sent_at, np.arange(count * cycles))
    np.testing.assert_array_equal(result.received_at, first + np.arange(count * cycles))


@pytest.mark.parametrize(
    "name", ["gpt2-lighthouse", "minilm-orchestra", pytest.param("synthetic-d64", marks=pytest.mark.full)]
)
def test_rows_of_shipped_traces_at_full_size(name):
    config = machine()
    for trace in read_trace(Path(traces.__file__).parent / f"{name}.npz").sequences:
        rows = trace_rows(trace, config, per_head=2, seed=1)[-12:]
        assert max(len(row.score) for row in rows) > 32
        beats = beats_of(config, rows)
        with open_simulator(softmax.build(config), "fast") as simulator:
            assert_equal(config, beats, simulator.stream(beats.ports(config)).outputs)


@pytest.mark.full
def test_many_rows_at_full_size():
    config = machine()
    with open_simulator(softmax.build(config)) as simulator:
        for seed in range(10):
            rng = np.random.default_rng(seed)
            beats = beats_of(config, random_rows(config, 400, seed, longest_cycles=128), seed)
            offer, accept = rng.random(20_000) < 0.7, rng.random(20_000) < 0.7
            simulator.reset()
            assert_equal(config, beats, simulator.stream(beats.ports(config), offer, accept).outputs)


def test_parts_that_take_one_cycle_are_refused_below_it():
    with pytest.raises(HlsError, match=r"softmax: the running_(maximum|sum) needs one cycle of about .* ps, not 400"):
        softmax.build(replace(machine(), clock_period_ps=400))


def test_an_impossible_clock_is_refused():
    with pytest.raises(HlsError, match="shortest possible period"):
        softmax.build(replace(machine("tiny"), clock_period_ps=150))


@pytest.fixture(scope="module")
def softmax_parts():
    return softmax_mutants.Parts(softmax_mutants.TINY)


@pytest.mark.parametrize(
    ("operator", "wire", "touched"),
    [
        ("mux arms", "normalize_prob_1", ["lanes of normalize"]),
        ("width", "lane_sum_sum_1_0", ["sum of the lanes"]),
        ("stage removed", "scale_valid_s2", ["valid bits"]),
        ("enable", "running_sum_first", ["running maximum and sum"]),
        ("operator", "advance", list(parts(softmax_mutants.TINY, softmax.plan(softmax_mutants.TINY)))),
    ],
)
def test_a_fault_is_in_the_parts_that_its_nets_compute(softmax_parts, operator, wire, touched):
    """The other parts' proofs are not repeated of a mutant; where stalls may differ, all are."""
    assert softmax_parts.touched(softmax_parts.netlist.block) == []
    fault = named_faults(softmax_parts.netlist.block, (operator, wire, ""))[0].build()
    assert softmax_parts.touched(fault) == touched
    if len(touched) == 1:
        assert any(
            found.kind is Kind.REFUTED
            for found in (softmax_parts.sampled(fault, touched[0], seed=1), softmax_parts.proved_touched(fault))
        )
