"""Recorded workloads of our own runs: every count against the run, and the shipped file byte for byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.stack import prepare
from traces import make_shipped
from traces.npz import read_trace
from traces.synthetic import synthetic_trace
from traces.workload import ABSENT, format_workload, parse_workload
from verification.recording import SHIPPED, main, record_trace, recorded_workload
from verification.tests.sequences import prunings, quantizations, random_sequence

FOLDER = Path(make_shipped.__file__).parent


def run_of(sequence, config):
    run = prepare(sequence, IntegerArithmetic(config.quantization), config.pruning, config.quantization)
    return list(run.passes())


def test_the_shipped_workload_is_recorded_again_byte_for_byte(tmp_path):
    main(["--trace", str(FOLDER / "gpt2-lighthouse.npz"), "--out", str(tmp_path / "w.csv")])
    assert (tmp_path / "w.csv").read_bytes() == (FOLDER / "gpt2-lighthouse.csv").read_bytes()


def test_the_shipped_workload_follows_its_schedule():
    """Counts of section 2 to 4, worked out here from the shares 1, 0.7, 0.5, 0.3 and 8, 7, 6, 5 heads."""
    trace = read_trace(FOLDER / "gpt2-lighthouse.npz").sequences[0]
    w = parse_workload((FOLDER / "gpt2-lighthouse.csv").read_bytes())
    assert (w.iterations, w.layers, w.rows) == (trace.generated, 4, 32 * (8 + 7 + 6 + 5))
    assert np.array_equal(w.length, trace.prompt_length + 1 + w.iteration)
    tenths = np.array([10, 7, 5, 3])[w.layer]
    assert np.array_equal(w.keys, w.length * tenths // 10)
    assert np.array_equal(w.values, w.keys * 26215 // 65536)  # ceil(0.4 * 65536)
    assert np.array_equal(np.bincount(w.layer), 32 * np.array([8, 7, 6, 5]))
    assert set(w.key_bits) == set(w.value_bits) == {6}
    assert set(w.query_bits) == {12}
    assert (set(w.threshold), set(w.lsb_bits)) == ({0.1}, {4})
    assert 0 < w.requant.sum() < w.rows
    assert np.array_equal(np.flatnonzero(np.diff(w.layer) > 0), np.flatnonzero(w.selects))
    assert np.array_equal(w.topk[w.selects], w.keys[np.flatnonzero(w.selects) + 1])
    assert SHIPPED.pruning.scope == "step"


@settings(max_examples=25)
@given(st.data())
def test_every_row_is_what_its_head_did(data):
    prompt, tokens = data.draw(st.sampled_from([(1, 2), (3, 5), (6, 9)]))
    config = Config(
        pruning=replace(data.draw(prunings()), scope="step"),
        quantization=data.draw(quantizations),
    )
    results = run_of(random_sequence(data.draw(st.integers(0, 99)), tokens=tokens, prompt=prompt), config)
    w = recorded_workload(results, config)
    steps = [result for result in results if result.step]
    expected = [(result, slot, head) for result in steps for slot, head in enumerate(result.heads.tolist())]
    assert w.rows == len(expected)
    assert w.iterations == tokens - prompt
    for row, (result, slot, head) in enumerate(expected):
        assert (w.iteration[row], w.layer[row], w.head[row]) == (result.step - 1, result.layer, head)
        assert w.length[row] == prompt + result.step
        assert w.keys[row] == result.attention.prob.shape[-1]
        assert w.values[row] == result.attention.kept[slot].sum()
        assert w.requant[row] == (result.attention.flat[slot, 0])
        assert w.head_dim[row] == 8
    # The bits that the rows ask for are the payload that the reference counts.
    bits = w.head_dim * w.keys * w.key_bits
    assert int(bits.sum()) == sum(result.payload.k_msb_bits for result in steps)
    assert int((w.head_dim * w.keys * w.lsb_bits)[w.requant].sum()) == sum(r.payload.k_lsb_bits for r in steps)
    assert int((w.head_dim * w.values * w.value_bits).sum()) == sum(r.payload.v_msb_bits for r in steps)
    assert int((w.head_dim * w.values * w.lsb_bits)[w.requant].sum()) == sum(r.payload.v_lsb_bits for r in steps)
    assert int((w.head_dim * w.query_bits).sum()) == sum(r.payload.q_bits for r in steps)
    assert format_workload(parse_workload(format_workload(w))) == format_workload(w)


@settings(max_examples=12)
@given(st.lists(st.sampled_from([1.0, 0.6, 0.4]), min_size=3, max_size=3), st.booleans())
def test_selections_and_rescaling_stand_in_the_last_row_before_them(ratios, rescale):
    pruning = PruningConfig(tokens=KeepSchedule(ratios=tuple(ratios)), rescale=rescale)
    w = recorded_workload(
        run_of(random_sequence(1, tokens=9, prompt=6), Config(pruning=pruning)), Config(pruning=pruning)
    )
    last_of_layer = np.append(np.diff(w.layer) != 0, True)
    last_of_token = np.append(np.diff(w.iteration) != 0, True)
    assert np.array_equal(w.rescale, last_of_token & rescale)
    assert not w.selects[~last_of_layer].any()
    for row in np.flatnonzero(last_of_layer)[:-1]:
        available = w.length[row + 1] if last_of_token[row] else w.keys[row]
        assert w.selects[row] == (w.keys[row + 1] < available)
        assert w.topk[row] == (w.keys[row + 1] if w.selects[row] else ABSENT)
    assert not w.selects[-1]


def test_a_static_run_has_no_threshold():
    trace = synthetic_trace(3, kind="decoder", tokens=12, generated=3, kv_heads=2, head_dim=16)
    machine = AcceleratorConfig(datapath_bits=16, key_sram_bytes=262_144, value_sram_bytes=262_144)
    config = Config(machine, PruningConfig(), QuantizationConfig(8))
    w = record_trace(trace, config, "static")
    assert (set(w.threshold), set(w.lsb_bits), set(w.topk)) == ({-1.0}, {ABSENT}, {ABSENT})
    assert not w.requant.any()
    assert (set(w.key_bits), set(w.query_bits), w.comment) == ({8}, {16}, "static")


def test_runs_that_the_form_cannot_hold_are_refused():
    decoder = synthetic_trace(3, kind="decoder", tokens=12, generated=3, head_dim=16)
    with pytest.raises(ValueError, match="record a run with scope = 'step'"):
        record_trace(decoder, Config(pruning=PruningConfig(scope="sequence")))
    for trace in (
        synthetic_trace(3, tokens=12, head_dim=16),
        synthetic_trace(3, kind="decoder", tokens=12, head_dim=16),
    ):
        with pytest.raises(ValueError, match="the run generated no token"):
            record_trace(trace, Config())
