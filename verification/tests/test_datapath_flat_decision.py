"""Flat-row decision: equal to the reference's rule under every stall pattern, a cycle of probabilities a cycle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import traces
from hls.datapaths import flat_decision
from hls.simulate import Words, open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig, QuantizationConfig
from models.reference.attention import attend
from models.reference.integer import IntegerArithmetic
from traces.npz import read_trace
from verification.evidence.flat_decision_model import (
    DecisionBeats,
    expected,
    extreme_beats,
    firsts_of,
    observed,
    peaks_of,
    random_beats,
)
from verification.tests.datapath_machines import EVERY_MACHINE, assert_full_rate, machine, patterns, seeds


def assert_equal(config: AcceleratorConfig, beats: DecisionBeats, outputs: dict[str, Words]) -> None:
    wanted, seen = expected(beats), observed(config.softmax_lanes, outputs)
    for port, values in wanted.items():
        np.testing.assert_array_equal(seen[port], values, err_msg=port)


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(flat_decision.build(machine("tiny")), "fast") as simulator:
        yield simulator


@settings(max_examples=60)
@given(seeds, st.integers(1, 12), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, rows, offer, accept):
    config = machine("tiny")
    beats = random_beats(config.softmax_lanes, rows, seed)
    tiny.reset()
    assert_equal(config, beats, tiny.stream(beats.ports(), offer, accept).outputs)


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_extremes_and_random_rows_at_every_size(preset, bits):
    """Also the rate: a cycle of probabilities in and out every cycle, after the latency that the schedule gives."""
    config = machine(preset, bits)
    lanes, plan = config.softmax_lanes, flat_decision.plan(config)
    with open_simulator(flat_decision.build(config), "fast") as simulator:
        for beats in (extreme_beats(lanes), random_beats(lanes, 80, seed=bits)):
            simulator.reset()
            result = simulator.stream(beats.ports())
            assert_equal(config, beats, result.outputs)
            assert_full_rate(result, plan.latency_cycles)


def test_rows_of_a_shipped_trace_are_flat_where_the_reference_recomputes_them():
    """The probabilities of the first pass of a progressive run, with its own decision."""
    config, lanes = machine(), machine().softmax_lanes
    sequence = read_trace(Path(traces.__file__).parent / "minilm-film-station.npz").sequence("film")
    quantization = QuantizationConfig(msb_bits=6, lsb_bits=4, threshold=0.1)
    arithmetic = IntegerArithmetic(quantization, softmax_scale=sequence.softmax_scale)
    rows, wanted = [], []
    for layer in range(2):
        tensors = sequence.layer(layer)
        q = arithmetic.hold_query(torch.from_numpy(tensors.q))
        k, v = (arithmetic.hold_key_value(torch.from_numpy(x), None) for x in (tensors.k, tensors.v))
        visible = torch.ones(sequence.tokens, sequence.tokens, dtype=torch.bool)
        wanted.append(attend(arithmetic, q, k, v, visible, 65536).flat.reshape(-1).numpy())
        first_pass = arithmetic.softmax(arithmetic.score(q, k, full=False), q, k, visible, None)
        rows.append(first_pass.reshape(-1, sequence.tokens).numpy())
    flat = np.concatenate(wanted)
    assert 0.05 < flat.mean() < 0.95
    prob = np.concatenate(rows)
    beats_per_row = -(-sequence.tokens // lanes)
    missing = ((0, 0), (0, beats_per_row * lanes - sequence.tokens))
    by_beat, valid = (np.pad(x, missing).reshape(-1, lanes) for x in (prob, np.ones_like(prob)))
    last = (np.arange(len(prob) * beats_per_row) % beats_per_row == beats_per_row - 1).astype(np.int64)
    beats = DecisionBeats(
        prob=by_beat,
        lane_valid=valid,
        last=last,
        peak=peaks_of(by_beat, valid, last),
        threshold=np.full(len(prob) * beats_per_row, quantization.threshold12),
    )
    with open_simulator(flat_decision.build(config), "fast") as simulator:
        seen = observed(lanes, simulator.stream(beats.ports()).outputs)["flat"]
    np.testing.assert_array_equal(seen[firsts_of(last), 0], flat)


def test_an_impossible_clock_is_refused():
    with pytest.raises(HlsError, match="shortest possible period"):
        flat_decision.build(replace(machine(), clock_period_ps=150))
