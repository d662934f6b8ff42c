"""Key and Value SRAM: slots with their own addresses, banks of even and odd rows, writes of LSBs; proofs, faults."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import operand_sram
from hls.datapaths.operand_sram import OperandSramSize
from hls.estimate_block import estimate_block
from hls.simulate import from_words, open_simulator
from hls.types import HlsError
from verification.equivalence.verdict import Kind
from verification.evidence.operand_sram_checks import proof
from verification.evidence.operand_sram_model import run_accesses
from verification.evidence.planted import faults
from verification.ports import to_port
from verification.results import Settings
from verification.tests.datapath_machines import EVERY_MACHINE, machine, seeds

sizes = st.builds(
    OperandSramSize, st.integers(1, 3), st.integers(1, 3), st.sampled_from([5, 6, 12]), st.sampled_from([1, 3, 8])
)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds)
def test_any_size_is_an_array(size, seed):
    run_accesses(operand_sram.build_size("any", size), size, 60, seed)


@pytest.mark.parametrize("preset", ["tiny", "spatten"])
def test_machines_are_arrays(preset):
    config = machine(preset)
    size = OperandSramSize.of(config, config.key_sram_bytes)
    assert run_accesses(operand_sram.build(config), size, 60, seed=1) > 50


def test_published_size():
    config = machine("spatten")
    size = OperandSramSize.of(config, config.key_sram_bytes)
    assert (size.slots, size.slot_bits, size.rows) == (8, 768, 128)
    assert 2 * size.slots * size.slot_bits * size.rows == 8 * 196_608


def test_an_lsb_plane_joins_the_msb_plane_in_use():
    """8 + 4 bits: the first pass reads the middle constant, the second the true low bits."""
    config = machine("tiny")
    size = OperandSramSize.of(config, config.key_sram_bytes)
    rng = np.random.default_rng(3)
    values = rng.integers(0, 1 << 12, (1, size.slots * size.elements))
    first_pass = (values & ~15) | 8
    every_slot, last = (1 << size.slots) - 1, 2 * size.rows - 1
    addresses = {
        "read_address": sum(last << (s * size.read_bits) for s in range(size.slots)),
        "write_address": sum((last >> 1) << (b * size.write_bits) for b in range(size.banks)),
    }
    odd = {"write_valid": every_slot << size.slots, **addresses}
    low = odd | {"write_lsb": (1 << size.banks) - 1}
    with open_simulator(operand_sram.build(config), "fast") as simulator:

        def read() -> int:
            simulator.step({**addresses, "read_valid": 1, "read_lanes": every_slot})
            return simulator.step({})["out_data"]

        def put(ports: dict[str, int], row: np.ndarray) -> None:
            bits = size.slots * size.slot_bits
            simulator.step(ports | {"write_data": from_words(to_port(row, 12))[0] << bits})

        put(odd, first_pass)
        assert read() == from_words(to_port(first_pass, 12))[0]
        put(low, rng.integers(0, 1 << 12, values.shape) & ~15 | (values & 15))
        assert read() == from_words(to_port(values, 12))[0]


def test_memories_of_one_size_are_one_module():
    config = machine("tiny")
    key, value = operand_sram.build_both(config)
    assert key is value
    larger = replace(config, value_sram_bytes=2 * config.value_sram_bytes)
    key, value = operand_sram.build_both(larger)
    assert [netlist.inputs["read_address"] for netlist in (key, value)] == [
        size.slots * size.read_bits
        for size in (OperandSramSize.of(larger, n) for n in (larger.key_sram_bytes, larger.value_sram_bytes))
    ]
    assert key.inputs != value.inputs


def test_operands_of_lsbs_alone_are_refused():
    with pytest.raises(HlsError, match="of 4-bit operands: more than 4 bits work; use 5"):
        operand_sram.build_size("low", OperandSramSize(slots=1, elements=1, bits=4, rows=2))


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_every_machine_has_whole_rows(preset, bits):
    config = machine(preset, bits)
    for netlist in (operand_sram.build(config), operand_sram.build_value(config)):
        assert netlist.outputs["out_data"] == config.qk_multipliers * bits


def test_the_published_size_meets_its_clock():
    config = machine("spatten")
    estimate = estimate_block(operand_sram.build(config).block, technology.load(), config.clock_period_ps)
    assert estimate.stages[0].delay.value <= config.clock_period_ps


def test_proof_and_planted_faults():
    size = OperandSramSize(slots=1, elements=1, bits=5, rows=2)
    netlist = operand_sram.build_size("small", size)
    assert proof(size, netlist.block, Settings()).kind is Kind.PROVED
    for fault in faults(netlist.block, ("memory write", "bank_0", "always"), ("mux arms", "", "swapped")):
        assert proof(size, fault.build(), Settings()).kind is Kind.REFUTED
