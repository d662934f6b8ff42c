"""Q x K: equal to the reference under every stall pattern, at the rate and latency of the schedule, at every size."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import query_key
from hls.lower import Netlist
from hls.schedule import ScheduleError
from hls.simulate import Words, open_simulator
from models.config import AcceleratorConfig
from verification.evidence.named_faults import named_faults
from verification.evidence.query_key import differs
from verification.evidence.query_key_model import QueryKeyRows, expected, extreme_rows, observed, random_rows
from verification.tests.datapath_machines import EVERY_MACHINE, assert_full_rate, machine, patterns, seeds


def assert_equal(config: AcceleratorConfig, rows: QueryKeyRows, outputs: dict[str, Words]) -> None:
    wanted, seen = expected(config, rows), observed(config, outputs)
    for port, values in wanted.items():
        np.testing.assert_array_equal(seen[port], values, err_msg=port)


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(query_key.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=60)
@given(seeds, st.integers(1, 30), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, count, offer, accept):
    config = machine("tiny")
    rows = random_rows(config, count, seed)
    assert_equal(config, rows, tiny.stream(rows.ports(config), offer, accept).outputs)


@pytest.mark.parametrize(
    ("preset", "bits"),
    [
        pytest.param(*m, marks=[pytest.mark.full] if m[0] == "spatten" and m[1] != 12 else [], id=f"{m[0]}-{m[1]}")
        for m in EVERY_MACHINE
    ],
)
def test_extremes_and_random_rows_at_every_size(preset, bits):
    """Also the rate: a row in and a row out every cycle, each after the latency that the schedule gives."""
    config = machine(preset, bits)
    with open_simulator(query_key.build(config), "fast") as simulator:
        for rows in (extreme_rows(config), random_rows(config, 100, seed=bits)):
            result = simulator.stream(rows.ports(config))
            assert_equal(config, rows, result.outputs)
            assert_full_rate(result, query_key.plan(config).latency_cycles)


@pytest.mark.full
def test_many_rows_at_full_size():
    config = machine()
    with open_simulator(query_key.build(config)) as simulator:
        for seed in range(20):
            rows = random_rows(config, 1000, seed)
            rng = np.random.default_rng(seed)
            offer, accept = rng.random(3000) < 0.7, rng.random(3000) < 0.7
            assert_equal(config, rows, simulator.stream(rows.ports(config), offer, accept).outputs)


def test_scores_a_cycle_are_those_of_the_architecture():
    types = query_key.QueryKeyTypes.of(machine())
    assert types.head_dims == (64, 128, 256, 512)
    assert (types.lanes, types.key.total_bits, types.score.width) == (8, 6144, 33)
    for preset in ("spatten", "tiny", "spatten-1-8"):
        config = machine(preset)
        for dimension, head_dim in enumerate(query_key.head_dims(config)):
            rows = random_rows(config, 8, seed=3)
            rows.dimension[:] = dimension
            rows.lane_valid[:] = 1
            assert (expected(config, rows)["score_valid"].sum(axis=1) == config.lanes(head_dim)).all()


def test_an_impossible_clock_is_refused():
    with pytest.raises(ScheduleError, match="shortest possible period"):
        query_key.build(replace(machine("tiny"), clock_period_ps=150))


def test_results_of_nothing_differ():
    """`in_ready` with `&` for `|` is 0 while a result waits that is never taken away: one result, for ever."""
    config = machine("tiny")
    netlist, rows = query_key.build(config), random_rows(config, 60, seed=1)
    offer = np.arange(200) % 3 > 0
    fault = named_faults(netlist.block, ("operator", "in_ready", "| becomes &"))[0]
    with open_simulator(Netlist("mutant", fault.build(), netlist.latency_cycles), "fast") as simulator:
        result = simulator.stream(rows.ports(config), offer)
        assert len(result.sent_at) < len(result.received_at) == 60
        assert differs(config, simulator, rows, seed=1)
