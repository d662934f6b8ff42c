"""Write-back: DRAM afterwards holds int16 rows without gaps, whatever the memory does."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import write_back
from hls.datapaths.watchdog import Status
from hls.estimate_block import estimate_block
from hls.simulate import open_simulator
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.equivalence.sequential import check_bounded, prove_by_induction
from verification.equivalence.verdict import Kind
from verification.evidence.fetcher_model import random_memory
from verification.evidence.planted import MUTANT_LIMITS, faults
from verification.evidence.same_behaviour import prove_same_behaviour
from verification.evidence.write_back import PATIENCE_CYCLES, is_named, view
from verification.evidence.write_back_model import WrittenRows, random_streams, write
from verification.tests.datapath_machines import machine, seeds

TINY = machine("tiny")


@pytest.fixture(scope="module")
def tiny():
    return write_back.build(TINY)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.3, 1.0]))
@example(8556, 0.3)  # the last row comes to an idle unit: idle in that cycle is not yet done
def test_any_rows_to_any_memory(tiny, seed, offer):
    write(TINY, tiny, random_memory(TINY, seed), random_streams(TINY, np.random.default_rng(seed)), seed, offer)


def test_dram_holds_little_endian_int16():
    stream = WrittenRows(np.array([[1, -1, 2047], [-2048, 0, 5]]), 1024)
    assert stream.bursts() == {32: bytes.fromhex("0100ffffff0700f800000500").ljust(32, b"\0")}


@pytest.mark.parametrize("bits", [12, 16])
def test_full_size(bits):
    config = machine("spatten", bits)
    rng = np.random.default_rng(bits)
    low = -(1 << (bits - 1))
    streams = [WrittenRows(rng.integers(low, -low, (3, d)), (1 << 15) * d) for d in (512, 64, 50)]
    write(config, write_back.build(config), AdversarialMemory(16, 1, max_latency_cycles=40), streams)


def test_a_burst_a_cycle():
    config = machine("spatten")
    rows = np.ones((20, 64), dtype=np.int64)
    cycles = write(config, write_back.build(config), IdealMemory(16, 10), [WrittenRows(rows, 0)])
    assert cycles <= 20 * 4 + 10 + 10


def test_hbm2(tiny):
    memory = Hbm2Memory(channels=2)
    write(TINY, tiny, memory, random_streams(TINY, np.random.default_rng(1)))


def test_it_is_busy_until_all_is_acknowledged(tiny):
    row = {"element": 1, "count": 1, "last": 1, "in_valid": 1, "write_ready": 3}
    with open_simulator(tiny, "fast") as simulator:
        assert simulator.step({**row, "last": 0})["status"] == Status.IDLE
        assert simulator.step({"write_ready": 3})["status"] == Status.BUSY
        simulator.step(row)
        seen = [simulator.step({"write_ready": 3}) for _ in range(20)]
        assert [s["status"] for s in seen] == [Status.BUSY] * 20
        assert sum(s["write_valid"] for s in seen) == 1
        simulator.step({"write_done": 1})
        assert simulator.step({})["status"] == Status.IDLE


@pytest.mark.parametrize("silent_after", [0, 2])
def test_a_memory_that_never_answers_is_named(silent_after):
    assert is_named(write_back.build(TINY, patience_cycles=PATIENCE_CYCLES), 1, silent_after)


def test_planted_faults_are_noticed(tiny):
    streams = random_streams(TINY, np.random.default_rng(2))
    for fault in faults(tiny.block, ("enable", "^address", "never"), ("reset value", "within", "")):
        faulty = type(tiny)("faulty", fault.build())
        with pytest.raises(AssertionError):
            write(TINY, faulty, IdealMemory(2, 5), streams, limit_cycles=2000)


@pytest.mark.parametrize("preset", ["tiny", "spatten-1-8", "spatten"])
def test_machines_meet_their_clock(preset):
    config = machine(preset)
    estimate = estimate_block(write_back.build(config).block, technology.load(), config.clock_period_ps)
    assert estimate.stages[0].delay.value <= config.clock_period_ps


def test_what_the_proof_of_equal_behaviour_takes_for_granted():
    seen, block = view(), write_back.build(TINY).block
    assert prove_by_induction(block, seen.claims, environment=seen.environment).kind is Kind.PROVED
    for fault in faults(block, ("reset value", "beat_spare_valid", ""), ("reset value", "pack_flushing", "")):
        assert check_bounded(fault.build(), seen.claims, 2, environment=seen.environment).kind is Kind.REFUTED


def test_equal_behaviour_is_not_proved_of_visible_faults():
    seen, block = view(), write_back.build(TINY).block
    assert prove_same_behaviour(block, block, seen, MUTANT_LIMITS).kind is Kind.PROVED
    for fault in faults(block, ("enable", "pack_held_3", "never"), ("reset value", "owed_1", "")):
        assert prove_same_behaviour(block, fault.build(), seen, MUTANT_LIMITS).kind is Kind.UNKNOWN
