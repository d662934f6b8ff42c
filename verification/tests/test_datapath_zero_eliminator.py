"""Zero eliminator: equal to the reference under every stall pattern, at the rate and latency of the schedule."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import zero_eliminator
from hls.lower import Netlist, lower
from hls.schedule import ScheduleError, schedule
from hls.simulate import Words, open_simulator
from hls.types import HlsError
from verification.evidence.zero_eliminator_model import ItemRows, every_pattern, expected, observed, random_rows
from verification.tests.datapath_machines import EVERY_MACHINE, assert_full_rate, machine, patterns, seeds


def netlist_of(lanes: int, value_bits: int, id_bits: int) -> Netlist:
    graph = zero_eliminator.zero_eliminator_graph(lanes, value_bits, id_bits)
    return lower(schedule(graph, technology.load(), 1000))


def assert_equal(rows: ItemRows, outputs: dict[str, Words], lanes: int, value_bits: int, id_bits: int) -> None:
    wanted, seen = expected(rows), observed(outputs, lanes, value_bits, id_bits)
    for port, values in wanted.items():
        np.testing.assert_array_equal(seen[port], values, err_msg=port)


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(zero_eliminator.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=60)
@given(seeds, st.integers(1, 30), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, count, offer, accept):
    sizes = (4, 12, 9)
    rows = random_rows(*sizes, count, seed)
    assert_equal(rows, tiny.stream(rows.ports(12, 9), offer, accept).outputs, *sizes)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
def test_every_pattern_of_gaps(lanes):
    sizes = (lanes, 5, 4)
    rows = every_pattern(*sizes, np.arange(1 << lanes))
    with open_simulator(netlist_of(*sizes), "fast") as simulator:
        assert_equal(rows, simulator.stream(rows.ports(5, 4)).outputs, *sizes)


@pytest.mark.parametrize("value_bits", [12, 32])
@pytest.mark.parametrize("lanes", [16, 32])
def test_published_sizes(lanes, value_bits):
    """One item walking through, one gap walking through, alternations and random rows; also the rate and latency."""
    sizes = (lanes, value_bits, 10)
    every_lane = 1 << np.arange(lanes)
    full = (1 << lanes) - 1
    directed = np.concatenate([[0, full, 0x5555_5555 & full, 0xAAAA_AAAA & full], every_lane, full ^ every_lane])
    netlist = netlist_of(*sizes)
    with open_simulator(netlist, "fast") as simulator:
        for rows in (every_pattern(*sizes, directed), random_rows(*sizes, 300, seed=lanes)):
            result = simulator.stream(rows.ports(value_bits, 10))
            assert_equal(rows, result.outputs, *sizes)
            assert_full_rate(result, netlist.latency_cycles)


@pytest.mark.full
def test_every_pattern_of_sixteen_lanes():
    sizes = (16, 12, 10)
    rows = every_pattern(*sizes, np.arange(1 << 16))
    with open_simulator(netlist_of(*sizes)) as simulator:
        assert_equal(rows, simulator.stream(rows.ports(12, 10)).outputs, *sizes)


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
@pytest.mark.parametrize("value_bits", [12, 32])
def test_every_machine_builds_as_scheduled(preset, bits, value_bits):
    config = machine(preset, bits)
    plan = zero_eliminator.plan(config, value_bits=value_bits)
    netlist = zero_eliminator.build(config, value_bits=value_bits)
    assert netlist.latency_cycles == plan.latency_cycles
    assert netlist.outputs["packed_value"] == config.top_k_lanes * value_bits
    assert netlist.register_bits == sum(plan.register_bits) + plan.latency_cycles


@pytest.mark.parametrize(("lanes", "nearest"), [(0, 1), (3, 2), (12, 8), (33, 32), (64, 32)])
def test_lanes_that_cannot_be_built_are_refused(lanes, nearest):
    with pytest.raises(HlsError, match=f"a power of two from 1 to 32 works; use {nearest}$"):
        zero_eliminator.zero_eliminator_graph(lanes, 12, 10)


def test_an_impossible_clock_is_refused():
    with pytest.raises(ScheduleError, match="shortest possible period"):
        zero_eliminator.build(replace(machine("tiny"), clock_period_ps=150))
