"""Crossbars: every item to its output, once, in order and in turn, whatever the pattern; proofs and planted faults."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import crossbar
from hls.datapaths.crossbar import CrossbarSize, address_size
from hls.types import HlsError
from verification.equivalence.verdict import Kind
from verification.evidence.crossbar_checks import invariant_proof, next_state_proof, traffic, view
from verification.evidence.crossbar_model import TRAFFIC, run_traffic
from verification.evidence.planted import MUTANT_LIMITS, faults
from verification.evidence.same_behaviour import prove_same_behaviour
from verification.results import Settings
from verification.tests.datapath_machines import EVERY_MACHINE, machine, seeds

sizes = st.builds(CrossbarSize, st.integers(1, 5), st.integers(1, 4), st.just(9), st.sampled_from([0, 1, 2, 4]))
chances = st.sampled_from([0.3, 0.7, 1.0])


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(TRAFFIC), st.integers(1, 12), seeds, chances, chances)
def test_any_size_under_stalls(size, kind, items, seed, offer, accept):
    netlist = crossbar.build_size("any", size, machine("tiny"))
    run_traffic(netlist, size, kind, items, seed, offer, accept)


@pytest.mark.parametrize("build", [crossbar.build, crossbar.build_data])
def test_published_size(build):
    config = machine("spatten")
    size = crossbar.address_size(config) if build is crossbar.build else crossbar.data_size(config)
    run_traffic(build(config), size, "uniform", 2, 1, 0.9, 0.8)


def test_own_output_moves_an_item_an_output_and_cycle():
    """32 queues of one channel each: 16 items a cycle, but for the two cycles of the pipeline."""
    config = machine("spatten")
    size = crossbar.address_size(config)
    seen = run_traffic(crossbar.build(config), size, "own output", 10, 1, 1.0, 1.0)
    assert seen.cycles <= size.inputs // size.outputs * 10 + 3


def test_an_input_waits_for_each_other_at_most_once():
    size = CrossbarSize(8, 2, 16, 4)
    seen = run_traffic(crossbar.build_size("fair", size, machine("tiny")), size, "one output", 20, 1, 1.0, 1.0)
    assert seen.longest_wait_items == 7


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_every_machine_meets_its_clock(preset, bits):
    config = machine(preset, bits)
    for size in (crossbar.address_size(config), crossbar.data_size(config)):
        parts = crossbar.plan(size, config)
        assert parts.arbitrate.latency_cycles == parts.route.latency_cycles == 0
        assert max(*parts.arbitrate.stage_delays_ps, *parts.route.stage_delays_ps) <= parts.arbitrate.budget_ps


@pytest.mark.parametrize("depth", [0, 4])
def test_proofs_and_planted_faults(depth):
    size = CrossbarSize(3, 2, 4, depth)
    block = crossbar.build_size("small", size, machine("tiny")).block
    assert next_state_proof(size, block, Settings()).kind is Kind.PROVED
    assert invariant_proof(size, block, Settings()).kind is Kind.PROVED
    for fault in faults(block, ("operator", "", "& becomes |"), ("mux select", "", "")):
        assert next_state_proof(size, fault.build(), Settings()).kind is Kind.REFUTED
    place = faults(block, ("reset value", "granted_0", ""))[0].build()
    assert invariant_proof(size, place, Settings()).kind is Kind.REFUTED
    assert traffic(size, crossbar.build_size("small", size, machine("tiny")), 3, 1).passes


def test_impossible_sizes_and_clocks_are_refused():
    with pytest.raises(HlsError, match="at least 1 input"):
        CrossbarSize(0, 2, 8, 4)
    with pytest.raises(HlsError, match=r"arbitrate needs one cycle of about \d+ ps, not 500"):
        crossbar.build(replace(machine("spatten"), clock_period_ps=500))


@pytest.mark.parametrize("build", [crossbar.build, crossbar.build_data])
def test_equal_behaviour_is_not_proved_of_visible_faults(build):
    config = machine("tiny")
    size = crossbar.address_size(config) if build is crossbar.build else crossbar.data_size(config)
    block, seen = build(config).block, view(size)
    assert prove_same_behaviour(block, block, seen, MUTANT_LIMITS).kind is Kind.PROVED
    for fault in faults(block, ("reset value", "behind_0", "bit 1"), ("reset value", "^granted_1", "")):
        assert prove_same_behaviour(block, fault.build(), seen, MUTANT_LIMITS).kind is Kind.UNKNOWN


def test_address_queues_hold_an_address_and_its_tag():
    published = machine("spatten")
    assert address_size(replace(published, address_queue_bytes=5)).item_bits == 40
    with pytest.raises(HlsError, match="40 bits; use 5"):
        address_size(replace(published, address_queue_bytes=4))
