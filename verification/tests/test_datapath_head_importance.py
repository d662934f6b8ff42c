"""Head importance: equal to the reference for rows in every cycle, at every size; reading, clearing, latency."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import head_importance
from hls.simulate import Simulator, from_words, open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from verification.evidence.head_importance_model import OutputBeats, expected, extreme_beats, random_beats
from verification.ports import Integers
from verification.tests.datapath_machines import EVERY_MACHINE, machine, patterns, seeds

HEADS = 64


def send(simulator: Simulator, config: AcceleratorConfig, beats: OutputBeats, offer=(), heads: int = HEADS) -> int:
    """Offer the cycles where `offer` says so (then always); wait until they are in the scores. Returns the cycles."""
    columns = {name: from_words(words) for name, words in beats.ports(config, heads).items()}
    sent = cycle = 0
    while sent < len(beats.last):
        valid = int(cycle >= len(offer) or bool(offer[cycle]))
        seen = simulator.step({name: column[sent] for name, column in columns.items()} | {"in_valid": valid})
        assert seen["in_ready"]
        sent += valid
        cycle += 1
    while not simulator.step({})["idle"]:
        cycle += 1
    return cycle


def scores_of(simulator: Simulator, heads: int = HEADS) -> Integers:
    seen = [simulator.step({"read_head": min(head, heads - 1)})["read_score"] for head in range(heads + 1)]
    return np.array(seen[1:], dtype=np.int64)


def clear(simulator: Simulator) -> None:
    while not simulator.step({"clear_valid": 1})["clear_ready"]:
        pass


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(head_importance.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=40)
@given(seeds, st.integers(1, 30), patterns)
def test_tiny_equals_the_reference(tiny, seed, rows, offer):
    clear(tiny)
    beats = random_beats(machine("tiny"), HEADS, rows, seed)
    send(tiny, machine("tiny"), beats, offer)
    np.testing.assert_array_equal(scores_of(tiny), expected(beats, HEADS))


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_every_size(preset, bits):
    config = machine(preset, bits)
    with open_simulator(head_importance.build(config), "fast") as simulator:
        rows = extreme_beats(config, HEADS), random_beats(config, HEADS, 40, seed=bits)
        send(simulator, config, rows[0])
        first = expected(rows[0], HEADS)
        np.testing.assert_array_equal(scores_of(simulator), first)
        send(simulator, config, rows[1])
        np.testing.assert_array_equal(scores_of(simulator), expected(rows[1], HEADS, start=first))


def test_a_contribution_is_the_reference_s():
    """One row of a head with V's scale, through the reference's own head importance."""
    config = machine("tiny")
    arithmetic = IntegerArithmetic(QuantizationConfig(msb_bits=8, lsb_bits=4))
    generator = torch.Generator().manual_seed(7)
    with open_simulator(head_importance.build(config), "fast") as simulator:
        for spread in (1e-6, 1e-2, 1.0, 1e3, 1e9):
            clear(simulator)
            values = arithmetic.hold_key_value(
                torch.randn(1, 5, 8, generator=generator, dtype=torch.float64) * spread, None
            )
            out = torch.randint(-2048, 2048, (1, 1, 8), generator=generator)
            wanted = int(arithmetic.head_importance(out, values))
            _, exponent = torch.frexp(values.operand_scale(12).flatten()[0])
            scale = float(values.operand_scale(12).flatten()[0])
            mantissa = round(scale / 2.0 ** (int(exponent) - 16))
            shift = 3 - (int(exponent) - 1)
            beats = OutputBeats(
                element=out[0].numpy(),
                head=np.array([3]),
                mantissa=np.array([mantissa]),
                shift=np.clip([shift], -64, 63),
                last=np.array([1]),
            )
            send(simulator, config, beats)
            assert scores_of(simulator)[3] == wanted


def test_rows_of_one_head_in_consecutive_cycles():
    config = machine("tiny")
    beats = random_beats(config, HEADS, 50, seed=1)
    rows = int(beats.last.sum())
    ends = np.flatnonzero(beats.last)
    one_cycle = OutputBeats(
        beats.element[ends], np.full(rows, 5), beats.mantissa[ends], np.full(rows, 9), np.ones(rows, dtype=np.int64)
    )
    with open_simulator(head_importance.build(config), "fast") as simulator:
        cycles = send(simulator, config, one_cycle)
        np.testing.assert_array_equal(scores_of(simulator), expected(one_cycle, HEADS))
    assert cycles == rows + head_importance.plan(config).latency_cycles - 1


@pytest.mark.parametrize("preset", ["tiny", "spatten"])
def test_latency_is_that_of_the_schedules(preset):
    config = machine(preset)
    netlist = head_importance.build(config)
    plan = head_importance.plan(config)
    assert netlist.latency_cycles == plan.latency_cycles
    assert plan.latency_cycles == plan.magnitude.latency_cycles + plan.scale.latency_cycles + 3
    row = {"element": 1, "mantissa": 1 << 15, "shift": 0, "last": 1, "in_valid": 1}
    with open_simulator(netlist, "fast") as simulator:
        simulator.step(row)
        seen = [simulator.step({})["read_score"] for _ in range(plan.latency_cycles + 1)]
    assert seen == [0] * plan.latency_cycles + [1 << 15]


def test_saturation():
    config = machine("tiny")
    top = (1 << 48) - 1
    largest = OutputBeats(
        np.full((3, 8), -2048), np.full(3, 1), np.full(3, 65535), np.array([-17, -16, -64]), np.ones(3, dtype=np.int64)
    )
    with open_simulator(head_importance.build(config), "fast") as simulator:
        send(simulator, config, OutputBeats(*(getattr(largest, f)[:1] for f in largest.__dataclass_fields__)))
        below = scores_of(simulator)[1]
        assert 0 < below == (8 * 2048 * 65535) << 17 < top
        send(simulator, config, largest)
        assert scores_of(simulator)[1] == top


def test_clear_waits_for_rows_and_rows_for_clear():
    config = machine("tiny")
    row = {"element": 1, "mantissa": 1 << 15, "last": 1, "in_valid": 1, "head": 2}
    with open_simulator(head_importance.build(config), "fast") as simulator:
        latency = simulator.netlist.latency_cycles
        simulator.step(row)
        seen = [simulator.step(row | {"clear_valid": 1}) for _ in range(latency)]
        assert [s["in_ready"] for s in seen] == [0] * latency
        assert [s["clear_ready"] for s in seen] == [0] * (latency - 1) + [1]
        assert scores_of(simulator)[2] == 0


@pytest.mark.parametrize(("heads", "nearest"), [(0, 2), (1, 2), (12, 8), (100, 64)])
def test_numbers_of_heads_that_cannot_be_built_are_refused(heads, nearest):
    with pytest.raises(HlsError, match=f"a power of two from 2 on works; use {nearest}$"):
        head_importance.build(machine("tiny"), heads=heads)


def test_an_impossible_clock_is_refused():
    with pytest.raises(HlsError, match=r"read needs one cycle of about \d+ ps, not 600"):
        head_importance.build(replace(machine("tiny"), clock_period_ps=600))
