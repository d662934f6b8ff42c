import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import top_k
from hls.datapaths.top_k_graphs import plan
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from models.reference.top_k import lfsr_pivots, quick_select
from models.transaction.quick_select import PassClass, PassDraws, PassTable, filter_rows, measured, select_cycles
from traces.reading import read
from verification.evidence.top_k_model import dense, serve
from verification.transaction_quick_select import (
    RATIOS,
    SIZES,
    STEPS,
    as_toml,
    condense,
    measure,
    results_of,
    sequences,
)

TINY = AcceleratorConfig.preset("tiny")
TRACES = Path(__file__).resolve().parents[2] / "traces"


@pytest.fixture(scope="module")
def engine():
    with open_simulator(top_k.build(TINY), "fast") as simulator:
        yield simulator


@settings(max_examples=15)
@given(seed=st.integers(0, 9999), n=st.integers(3, 60))
def test_cycles_of_a_pass_are_those_of_the_netlist(engine, seed, n):
    random = np.random.default_rng(seed)
    values = random.integers(0, 40, n).tolist()
    k = int(random.integers(1, n))
    engine.reset()
    served = serve(engine, [dense(values, range(n), k, TINY.top_k_lanes)], TINY.top_k_lanes)
    passes = quick_select(values, k, lfsr_pivots(TINY.top_k_lanes)).candidates
    assert served.candidates == passes
    overhead = plan(TINY).pass_overhead_cycles
    for index in range(1, len(passes)):
        between = served.pass_at[index] - served.pass_at[0]
        assert between == select_cycles(passes[:index], TINY.top_k_lanes, overhead)


def test_cycles_worked_by_hand():
    assert select_cycles((33, 16, 1), lanes=16, pass_overhead_cycles=8) == 3 + 1 + 1 + 3 * 8
    assert select_cycles((), 16, 8) == 0
    assert (filter_rows(32, 16), filter_rows(33, 16)) == (2, 3)


def test_the_shipped_table_is_whole():
    table = measured()
    assert "measured" in table.source
    for values in ("probability", "importance"):
        assert {(c.least, c.most) for c in table.classes if c.values == values} == set(SIZES)
        assert {c.ratio for c in table.classes if c.values == values} == set(RATIOS)
    for c in table.classes:
        assert c.samples >= STEPS == len(c.shares)
        for shares in c.shares:
            assert shares[0] == 1.0
            assert all(0 <= b <= a for a, b in pairwise(shares))


@given(
    values=st.sampled_from(["probability", "importance"]),
    n=st.integers(1, 2000),
    data=st.data(),
    quantile=st.floats(0, 1, exclude_max=True),
)
def test_drawn_passes_can_be_those_of_a_request(values, n, data, quantile):
    k = data.draw(st.integers(1, n + 2))
    passes = measured().passes(values, n, k, quantile)
    if k >= n:
        assert passes == ()
        return
    assert passes[0] == n
    assert all(1 <= b <= a for a, b in pairwise(passes))


def test_the_nearest_class_is_by_number_first():
    table = PassTable(
        "test",
        tuple(
            PassClass("importance", least, most, ratio, 1, ((float(least), ratio),))
            for least, most in ((2, 15), (16, 31))
            for ratio in (0.1, 0.5)
        ),
    )
    found = [(table.nearest("importance", n, k)) for n, k in ((3, 1), (14, 7), (16, 2), (900, 500))]
    assert [(c.least, c.ratio) for c in found] == [(2, 0.5), (2, 0.5), (16, 0.1), (16, 0.5)]


@pytest.mark.parametrize(("n", "k", "quantile"), [(0, 1, 0.0), (4, 0, 0.0), (4, 1, 1.0), (4, 1, -0.1)])
def test_a_request_that_cannot_be_is_refused(n, k, quantile):
    with pytest.raises(ValueError, match="quantile"):
        measured().passes("probability", n, k, quantile)


def test_draws_are_the_same_for_a_seed_and_spread_over_the_distribution():
    first, again, other = PassDraws(1), PassDraws(1), PassDraws(2)
    series = [[d.draw("probability", 300, 60) for _ in range(200)] for d in (first, again, other)]
    assert series[0] == series[1] != series[2]
    assert set(series[0]) == {measured().passes("probability", 300, 60, i / STEPS) for i in range(STEPS)}
    assert first.draw("probability", 5, 9) == ()


def test_the_table_agrees_with_a_shipped_trace_that_it_was_measured_on():
    """Not to the cycle: a class joins lengths and traces. Means of the well filled classes differ by less than 20 %."""
    machine = AcceleratorConfig()
    found = measure(results_of(read(TRACES / "minilm-film-station.npz").sequence("station")), machine.top_k_lanes)
    draws, overhead = PassDraws(), plan(machine).pass_overhead_cycles
    compared = 0
    for (values, _, ratio), requests in found.items():
        if len(requests) < 300:
            continue
        exact = np.mean([select_cycles(p, 16, overhead) for p in requests])
        drawn = [draws.draw(values, p[0], max(1, int(p[0] * ratio))) for p in requests]
        assert np.mean([select_cycles(p, 16, overhead) for p in drawn]) == pytest.approx(exact, rel=0.2)
        compared += 1
    assert compared >= len(RATIOS)


def test_condensed_requests_stand_at_equal_steps_and_are_read_back():
    requests: list[tuple[int, ...]] = [*((32, c) for c in range(1, 31)), *[(32, 16, 8)] * 2]
    (made,) = condense({("importance", 2, 0.5): requests}, lanes=16)
    assert (made.least, made.most, made.samples, len(made.shares)) == (32, 63, 32, STEPS)
    assert made.shares[0] == (1.0, 0.062)
    assert made.shares[-1] == (1.0, 0.5, 0.25)
    (entry,) = tomllib.loads(as_toml('a "source"', [made]))["class"]
    assert tuple(map(tuple, entry["shares"])) == made.shares
    assert (entry["values"], entry["ratio"], entry["samples"]) == ("importance", 0.5, 32)


def test_recorded_counts_have_no_values_to_measure():
    with pytest.raises(ValueError, match="counts and no values"):
        sequences(TRACES / "gpt2-lighthouse.csv")
