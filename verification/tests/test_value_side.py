"""The value side of the accelerator: every kept value meets its probability, once, with the bits that it must have."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from hls import technology
from hls.datapaths.machine_sizes import MachineSizes
from hls.estimate_block import estimate_block
from hls.flatten import flatten
from hls.lower import Netlist
from hls.simulate import open_simulator
from verification.evidence.planted import faults
from verification.evidence.value_side import MODULES, compose, netlists
from verification.evidence.value_side_check import check
from verification.evidence.value_side_harness import Pace, Surroundings
from verification.evidence.value_side_layer import KEEP_ALL, flat_layer, random_layer
from verification.evidence.words import joined
from verification.tests.datapath_machines import machine, seeds

TINY = machine("tiny")
SIZES = MachineSizes.of(TINY)
SLOW = Pace(0.4, 0.4, (30, 120))
FAST = Pace(landing_cycles=(2, 5))


@pytest.fixture(scope="module")
def parts():
    return netlists(TINY)


@pytest.fixture(scope="module")
def simulator(parts):
    with open_simulator(flatten(compose(parts)), "fast") as opened:
        yield opened


def run(simulator, layers, seed=0, pace=FAST, **limits):
    """Layers one after another, from reset on, checked; gives what was seen of each."""
    simulator.reset()
    around = Surroundings(TINY, simulator, seed, pace)
    seen = []
    for layer in layers:
        seen.append(around.run(layer, **limits))
        check(TINY, layer, seen[-1])
    return seen


def made(seed=0, sizes=SIZES, **parameters):
    return random_layer(sizes, np.random.default_rng(seed), **parameters)


MODES = [
    {"generation": generation, "ratio16": ratio16, "progressive": progressive}
    for generation in (False, True)
    for ratio16 in (KEEP_ALL, 25_000)
    for progressive in (False, True)
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(str(value) for value in mode.values()))
@pytest.mark.parametrize("pace", [FAST, SLOW], ids=["fast", "slow"])
def test_layers_of_every_mode(simulator, mode, pace):
    keys = 21 if mode["generation"] else 7
    dimension = int(mode["progressive"])
    run(simulator, [made(1, keys=keys, dimension=dimension, **mode), made(2, keys=keys - 4, **mode)], 3, pace)


@pytest.mark.parametrize(("slots", "top_k_lanes"), [(1, 4), (2, 8)])
def test_machines_with_rows_of_lists_that_are_several_beats(slots, top_k_lanes):
    multipliers = slots * TINY.native_head_dim
    config = replace(
        TINY,
        qk_multipliers=multipliers,
        pv_multipliers=multipliers,
        max_head_dim=multipliers,
        softmax_lanes=slots,
        softmax_fifo_rows=TINY.context_keys // slots,
        top_k_lanes=top_k_lanes,
        top_k_fifo_rows=TINY.context_keys // top_k_lanes,
    )
    sizes = MachineSizes.of(config)
    with open_simulator(flatten(compose(netlists(config))), "fast") as opened:
        around = Surroundings(config, opened, 0, Pace(0.8, 0.8, (2, 50)))
        for mode in MODES[1::2]:
            keys = 19 if mode["generation"] else 6
            layer = made(13, sizes, keys=keys, dimension=len(sizes.parts) - 1, **mode)
            check(config, layer, around.run(layer))


@settings(max_examples=6, deadline=None)
@given(seeds)
def test_any_layers_one_after_another(simulator, seed):
    run(simulator, random_layers(seed), seed, random_pace(seed))


@pytest.mark.full
@settings(max_examples=150, deadline=None)
@given(seeds)
def test_many_layers_one_after_another(simulator, seed):
    run(simulator, random_layers(seed, keys=100, rows=25), seed, random_pace(seed))


def random_pace(seed):
    rng = np.random.default_rng(seed)
    first = int(rng.integers(1, 60))
    offer, accept = rng.choice([0.2, 0.6, 1.0], 2)
    return Pace(float(offer), float(accept), (first, first + int(rng.integers(1, 200))))


def random_layers(seed, keys=20, rows=6):
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(2):
        dimension, generation = int(rng.integers(0, 3)), bool(rng.random() < 0.5)
        layers.append(
            random_layer(
                SIZES,
                rng,
                generation=generation,
                keys=int(rng.integers(1, keys if generation else rows)),
                ratio16=int(rng.choice([KEEP_ALL, KEEP_ALL - 1, 40_000, 20_000, 1])),
                progressive=bool(rng.random() < 0.6),
                dimension=dimension,
                jobs=int(rng.integers(1, 6)),
                group_jobs=int(rng.integers(1, 4)),
                causal=bool(rng.random() < 0.5),
                flat_share=float(rng.choice([0, 0.3, 1])),
                elements=int(rng.integers(1, SIZES.native + 1)) if dimension == 0 else None,
            )
        )
    return layers


def test_a_value_s_lsbs_are_asked_for_once(simulator):
    layer = flat_layer(made(4, generation=False, keys=9, ratio16=30_000, progressive=True, jobs=2, group_jobs=2), True)
    seen = run(simulator, [layer], pace=SLOW)[0]
    asked = [token for _, tokens in seen.lsb_lists for token in tokens]
    assert len(asked) == len(set(asked)) > 0


def test_no_lsbs_without_flat_rows(simulator):
    layer = flat_layer(made(5, generation=True, keys=20, ratio16=30_000, progressive=True), False)
    assert run(simulator, [layer])[0].lsb_lists == []


def test_longest_rows(simulator):
    mode = {"generation": True, "keys": SIZES.context, "progressive": False, "jobs": 3}
    whole, pruned = run(simulator, [made(6, ratio16=KEEP_ALL, **mode), made(7, ratio16=KEEP_ALL - 1, **mode)])
    second, third = np.diff(whole.weighed_at).tolist()
    assert second == SIZES.rows  # a beat a cycle, over the border of heads
    assert third <= SIZES.context // SIZES.fetch_lanes  # as fast as the fetcher is given its values
    assert len(pruned.weighed) == 3


@pytest.mark.parametrize(("keys", "cycles"), [(64, 16), (8, 2), (4, 1)])
def test_rows_of_summarization_follow_each_other_without_a_gap(simulator, keys, cycles):
    layer = made(8, generation=False, keys=keys, rows=5, ratio16=KEEP_ALL, progressive=False, jobs=2)
    assert np.diff(run(simulator, [layer])[0].weighed_at).tolist() == [cycles] * 9


def test_values_of_two_heads_are_asked_for_before_their_rows(simulator):
    layer = made(9, generation=True, keys=40, ratio16=KEEP_ALL, progressive=False, jobs=4)
    seen = run(simulator, [layer])[0]
    assert seen.requested_at[1] < seen.weighed_at[0] - 40 // SIZES.slots
    # the next buffer is free at the latest as soon as a row has been weighed
    assert all(later - row <= 2 for later, row in zip(seen.requested_at[2:], seen.weighed_at[:2], strict=True))


@pytest.mark.parametrize(
    ("keys", "ratio16", "jobs", "pace"),
    [
        (9, 30_000, 6, Pace(landing_cycles=(250, 260))),  # both halves of the kept list are taken
        (9, KEEP_ALL, 6, Pace(landing_cycles=(250, 260))),  # both buffers are
        (SIZES.context, KEEP_ALL, 4, Pace(landing_cycles=(700, 710))),  # so are the lanes' FIFOs
        (2, KEEP_ALL, 24, Pace(accept=0.03, landing_cycles=(2, 3))),  # and those of jobs and rows
    ],
)
def test_everything_waits_for_its_place(simulator, keys, ratio16, jobs, pace):
    run(simulator, [made(14, generation=True, keys=keys, ratio16=ratio16, progressive=False, jobs=jobs)], pace=pace)


@pytest.mark.parametrize(("ratio16", "accept"), [(KEEP_ALL, 0.04), (30_000, 0.01)])
def test_prob_x_v_waits_for_the_output(simulator, ratio16, accept):
    layer = made(15, generation=False, causal=True, keys=11, ratio16=ratio16, progressive=False, jobs=2)
    run(simulator, [layer], pace=Pace(accept=accept, landing_cycles=(2, 3)))


class Hasty(Surroundings):
    """Lists are walked over rows that are still to be read."""

    def _walk(self):
        self.unread = (0, 0, 0)
        super()._walk()


@pytest.mark.parametrize("dimension", [0, 2])
def test_what_is_still_to_be_read_is_told_when_a_buffer_is_released(simulator, dimension):
    """Beats and outputs wait at any time, also in the half of a row that is read after its buffer's release."""
    keys = SIZES.context >> dimension
    layer = made(16, generation=True, keys=keys, ratio16=KEEP_ALL, progressive=False, dimension=dimension, jobs=4)
    pace = Pace(0.2, 0.5, (2, 3))
    run(simulator, [layer], pace=pace)
    simulator.reset()
    with pytest.raises(AssertionError):
        check(TINY, layer, Hasty(TINY, simulator, 0, pace).run(layer))


def test_engine_a_is_the_controller_s_while_it_selects(simulator):
    simulator.reset()
    items = [(9 << 40, 5), (1, 6), (9 << 40, 7), (8 << 40, 8), (3, 9)]
    lanes, got = SIZES.top_k_lanes, []
    rows = [items[i : i + lanes] for i in range(0, len(items), lanes)]
    for _ in range(200):
        inputs = {"layer_selecting": 1, "select_result_ready": 1, "select_k": 3}
        if rows:
            inputs |= {
                "select_value": joined((value for value, _ in rows[0]), 48),
                "select_id": joined((ident for _, ident in rows[0]), SIZES.id_bits),
                "select_valid": (1 << len(rows[0])) - 1,
                "select_last": int(len(rows) == 1),
                "select_request": 1,
            }
        out = simulator.step(inputs)
        if rows and out["select_ready"]:
            rows.pop(0)
        if out["select_result_valid"]:
            ids = out["engine_a_kept_id_out"]
            got += [ids >> (SIZES.id_bits * i) & (SIZES.context - 1) for i in range(out["engine_a_kept_count_out"])]
            if out["engine_a_kept_last_out"]:
                break
    assert got == [5, 7, 8]
    run_after = made(10, generation=True, keys=20, ratio16=20_000, progressive=False)
    seen = Surroundings(TINY, simulator, 0, FAST).run(run_after)
    check(TINY, run_after, seen)


@pytest.mark.parametrize("preset", ["tiny", "spatten-1-8", "spatten"])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[1])
def test_modules_meet_their_clock(preset, module):
    config = machine(preset)
    estimate = estimate_block(module.build(config).block, technology.load(), config.clock_period_ps)
    assert estimate.stages[0].delay.value <= config.clock_period_ps


PLANTED = {
    "row_values": ("reset value", "^turn$", ""),
    "kept_beats": ("enable", "^so_far$", "never"),
    "value_lists": ("enable", "^own_buffer$", "never"),
    "value_sparse": ("memory write", "asked", "never"),
    "value_dispatch": ("enable", "^current$", "always"),
    "output_stage": ("reset value", "^part$", ""),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_in_any_module_is_noticed(parts, name):
    layers = [
        made(11, generation=True, keys=13, ratio16=30_000, progressive=True),
        made(12, generation=False, keys=6, ratio16=50_000, progressive=True, jobs=2, flat_share=1),
    ]
    for fault in faults(parts[name].block, PLANTED[name]):
        faulty = flatten(compose({**parts, name: Netlist(name, fault.build())}))
        with open_simulator(faulty, "fast") as opened, pytest.raises(AssertionError):
            run(opened, layers, limit_cycles=1000)
