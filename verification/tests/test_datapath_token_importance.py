"""Token importance: equal to the reference for every order of survivors, without a stall; sweeps under stalls."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import token_importance
from hls.types import HlsError
from models.config import PRESETS, AcceleratorConfig
from verification.evidence.token_importance_model import Driver, Layer, added, halved, noise, random_layer
from verification.evidence.words import joined
from verification.tests.datapath_machines import machine, patterns, seeds

TOP = (1 << 32) - 1
TINY = token_importance.build(machine("tiny"))


def full_layer(config: AcceleratorConfig, rows: int = 2, ids=None) -> Layer:
    """Rows of the largest probability over `ids` (default: all)."""
    ids = np.arange(config.context_keys) if ids is None else np.asarray(ids)
    return Layer(ids, np.full((rows, len(ids)), 4095), np.full(rows, len(ids)), config.softmax_lanes)


@settings(max_examples=25)
@given(seeds, st.integers(1, 4), st.integers(1, 512), st.lists(patterns, min_size=3, max_size=3))
def test_tiny_equals_the_reference_under_stalls(seed, layers, tokens, pattern):
    config, rng = machine("tiny"), np.random.default_rng(seed)
    driver = Driver(TINY.block, config, noise(config, seed))
    driver.clear()
    scores = np.zeros(tokens, dtype=np.int64)
    for _ in range(layers):
        layer, halve = random_layer(config, tokens, int(rng.integers(1, 5)), rng), int(rng.integers(0, 2))
        driver.add(layer, pattern[0])
        swept = driver.sweep(layer.ids, tokens, pattern[1], pattern[2], halve=halve)
        scores = added(scores, layer)
        scores = halved(scores) if halve else scores
        np.testing.assert_array_equal(swept.scores, scores)
        np.testing.assert_array_equal(swept.survivors, layer.ids)
    everything = driver.sweep(np.arange(tokens), tokens)
    np.testing.assert_array_equal(everything.scores, scores, err_msg="a partial sum was left")


@pytest.mark.parametrize("preset", PRESETS)
def test_extremes_and_random_layers_at_every_size(preset):
    """Scores that start below, at and above where the rows saturate them, in totals and in partial sums."""
    config, rng = machine(preset), np.random.default_rng(5)
    tokens, lanes = config.context_keys, config.top_k_lanes
    start = TOP - rng.integers(0, 4 * 4095, tokens)
    driver = Driver(
        token_importance.build(config).block,
        config,
        {"total": {row: joined([int(s) for s in ids], 32) for row, ids in enumerate(start.reshape(-1, lanes))}},
    )
    scores = start
    for layer in (full_layer(config), random_layer(config, tokens, 3, rng), random_layer(config, tokens, 3, rng)):
        driver.add(layer)
        scores = added(scores, layer)
        np.testing.assert_array_equal(driver.sweep(layer.ids, tokens).scores, scores)
    assert (scores == TOP).any()
    assert (scores < TOP).any()


def test_partial_sums_saturate():
    config = machine("tiny")
    driver = Driver(TINY.block, config, {"partial_1": {3: TOP - 4096}, "total": {3: 7 << 32}})
    layer = full_layer(config, rows=3)
    driver.add(layer)
    scores = driver.sweep(layer.ids, config.context_keys).scores
    assert scores[3 * 4 + 1] == TOP
    assert (np.delete(scores, 13) == 3 * 4095).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_order_of_survivors_stalls(preset):
    """Ids in one bank of totals, ids with gaps, rows of one cycle: one cycle of probabilities every cycle."""
    config = machine(preset)
    driver = Driver(token_importance.build(config).block, config)
    rng, step = np.random.default_rng(2), config.top_k_lanes
    orders = [np.arange(0, config.context_keys, step), np.arange(step - 1, config.context_keys, step), [3, 7, 8, 20]]
    orders += [np.sort(rng.choice(config.context_keys, 100, replace=False)), [5]]
    for ids in orders:
        sent = driver.add(full_layer(config, 4, ids))
        assert (np.diff(sent) == 1).all()
        driver.sweep(np.asarray(ids), config.context_keys)


def test_rows_of_one_cycle_add_to_what_the_row_before_has_added():
    config = machine()
    driver = Driver(token_importance.build(config).block, config)
    layer = Layer(np.array([9, 12]), np.arange(80).reshape(40, 2) % 4096, np.full(40, 2), config.softmax_lanes)
    sent = driver.add(layer)
    assert sent == list(range(40))
    scores = driver.sweep(layer.ids, 64).scores
    np.testing.assert_array_equal(scores, added(np.zeros(64, dtype=np.int64), layer))


@pytest.mark.parametrize("preset", PRESETS)
def test_latency_and_rate_are_those_of_the_schedules(preset):
    config = machine(preset)
    netlist, plan = token_importance.build(config), token_importance.plan(config)
    assert netlist.latency_cycles == plan.latency_cycles == plan.place.latency_cycles + 2
    driver = Driver(netlist.block, config)
    seen = [driver.step(prob=1, lane_valid=1, in_valid=int(cycle == 0)) for cycle in range(plan.latency_cycles + 1)]
    assert [s["idle"] for s in seen] == [1, *[0] * (plan.latency_cycles - 1), 1]
    swept = driver.sweep(np.array([0]), config.context_keys)
    assert len(swept.sent_at) == config.context_keys // config.top_k_lanes
    assert (np.diff(swept.sent_at) == 1).all()
    assert (np.subtract(swept.received_at, swept.sent_at) == plan.sweep_latency_cycles).all()
    assert swept.scores[0] == 1


def test_a_sweep_waits_for_probabilities_and_they_for_it():
    config = machine("tiny")
    driver, plan = Driver(TINY.block, config), token_importance.plan(config)
    beat = {"prob": 77, "lane_valid": 1, "slot": 0, "in_valid": 1}
    sweep = {"survivor": 1, "sweep_last": 1, "sweep_valid": 1, "out_ready": 1}
    assert driver.step(**beat)["in_ready"]
    seen = [driver.step(**beat, **sweep) for _ in range(plan.latency_cycles)]
    assert [s["in_ready"] for s in seen] == [0] * plan.latency_cycles
    assert [s["sweep_ready"] for s in seen] == [0] * (plan.latency_cycles - 1) + [1]
    seen = [driver.step(**beat, out_ready=1) for _ in range(plan.sweep_latency_cycles + 1)]
    assert [s["in_ready"] for s in seen] == [0] * plan.sweep_latency_cycles + [1]
    assert [s["out_valid"] for s in seen] == [0] * (plan.sweep_latency_cycles - 1) + [1, 0]
    assert seen[-2]["score"] == 77


def test_lanes_that_are_not_valid_add_nothing():
    config = machine("tiny")
    driver = Driver(TINY.block, config)
    driver.step(prob=(1 << 48) - 1, lane_valid=0b0101, slot=510, in_valid=1)  # slots 512 and 513 do not exist
    scores = driver.sweep(np.arange(512), 512).scores
    assert np.flatnonzero(scores).tolist() == [0, 510]


def test_a_context_that_does_not_fill_the_banks_is_refused():
    with pytest.raises(HlsError, match=r"token importance of 4 keys in 4 banks: use more than 4 keys$"):
        token_importance.build(replace(machine("tiny"), context_keys=4))


def test_an_impossible_clock_is_refused():
    with pytest.raises(HlsError, match=r"add needs one cycle of about \d+ ps, not 600"):
        token_importance.build(replace(machine("tiny"), clock_period_ps=600))
