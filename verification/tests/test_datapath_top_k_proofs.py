"""Proofs of the top-k engine at a small size, and that they and the mutation battery notice planted faults."""

import pytest

from hls.lower import Netlist
from verification.equivalence.verdict import Kind
from verification.evidence.planted import faults
from verification.evidence.top_k import PROOFS, bounded_engine_with_faults, misbehaves, planted, proof, small
from verification.evidence.top_k_bounded import check_engine
from verification.evidence.top_k_control import prove_packing, prove_same
from verification.evidence.top_k_exhaustive import engine as smallest
from verification.evidence.top_k_exhaustive import every_request
from verification.results import Settings


@pytest.fixture(scope="module")
def engine():
    return small()


@pytest.mark.parametrize("name", PROOFS)
def test_proof_at_a_small_size(name, engine, tmp_path):
    verdict = proof(name, engine[1], Settings(folder=tmp_path))
    assert verdict.kind is Kind.PROVED, verdict.detail


@pytest.mark.parametrize("name", PROOFS)
def test_planted_faults_are_refuted(name, engine, tmp_path):
    verdict = planted(name, engine[1], Settings(folder=tmp_path))
    assert verdict.kind is Kind.TESTED, verdict.detail
    assert list(tmp_path.iterdir()), "each refutation leaves its run"


def test_zero_eliminators_in_their_places(engine, tmp_path):
    netlist, made = engine
    settings = Settings(folder=tmp_path)
    assert prove_packing(made, netlist.block, settings).kind is Kind.PROVED
    fault = faults(netlist.block, ("enable", "^fill_packed_value_0_s1$", "never loads"))[0]
    assert prove_packing(made, fault.build(), settings).kind is Kind.REFUTED


def test_equal_engines_are_proved_and_different_ones_are_not(engine):
    """What is overwritten before anything reads it does not matter: a reset value, an element held between passes."""
    netlist, made = engine
    harmless, state = faults(
        netlist.block, ("reset value", "^smaller_packed_id_0_s1$", "bit 0"), ("reset value", "^picking$", "bit 0")
    )
    assert prove_same(netlist.block, netlist.block, made, Settings()).kind is Kind.PROVED
    assert prove_same(netlist.block, harmless.build(), made, Settings()).kind is Kind.PROVED
    unread, read = faults(
        netlist.block,
        ("enable", "^larger_pack_held_2$", "always loads"),
        ("enable", "^fill_pack_held_2$", "always loads"),
    )
    assert prove_same(netlist.block, unread.build(), made, Settings()).kind is Kind.PROVED
    assert prove_same(netlist.block, read.build(), made, Settings()).kind is Kind.UNKNOWN
    assert prove_same(netlist.block, state.build(), made, Settings()).kind is Kind.UNKNOWN


def test_the_battery_notices_a_fault_and_nothing_else(engine):
    netlist, made = engine
    fault = faults(netlist.block, ("enable", "^pivot$", "never loads"))[0]
    assert not misbehaves(netlist, 1, made.pass_overhead_cycles)
    assert misbehaves(netlist, 1, made.pass_overhead_cycles + 1), "the cycles of a pass are exact"
    assert misbehaves(Netlist("mutant", fault.build()), 1, made.pass_overhead_cycles)


def test_requests_of_the_smallest_engine():
    """A share of what `spatten verify` sends: every request that 2 lanes and 2 rows of 2-bit values can get."""
    verdict = every_request(smallest(), values_step=85, backend="fast")
    assert (verdict.kind, verdict.count) == (Kind.TESTED, 4 * 16 * 8), verdict.detail
    fault = faults(smallest().block, ("enable", "^pivot$", "never loads"))[0]
    assert every_request(Netlist("mutant", fault.build()), values_step=85, backend="fast").kind is Kind.REFUTED


def test_the_smallest_engine_from_reset(tmp_path):
    """Requests that need no pass; the share of `spatten verify` that takes a second, and its planted faults."""
    settings = Settings(folder=tmp_path)
    verdict = check_engine(smallest(), 11, settings, stalls=False)
    assert (verdict.kind, verdict.count) == (Kind.BOUNDED, 11), verdict.detail
    assert bounded_engine_with_faults(settings).kind is Kind.TESTED
    assert list(tmp_path.iterdir()), "each refutation leaves its run"
