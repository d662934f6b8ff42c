"""Top-k engine: equal to the reference in what is kept, T, num_eq and every pass; its cycles; what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import top_k, top_k_select
from hls.datapaths.top_k_graphs import LFSR_SEED, TopKTypes, plan, step_graph
from hls.estimate_block import estimate_block
from hls.evaluate import evaluate
from hls.schedule import ScheduleError
from hls.simulate import open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig
from models.reference.top_k import lfsr_pivots
from verification.evidence.top_k_model import (
    KINDS,
    Request,
    bound_cycles,
    dense,
    difference,
    expected,
    longest,
    pass_cycles,
    random_request,
    serve,
    values_of,
    with_gaps,
)
from verification.tests.datapath_machines import machine, patterns, seeds

LANES, CAPACITY = 4, 512


def with_lanes(lanes: int) -> AcceleratorConfig:
    return replace(machine("tiny"), top_k_lanes=lanes, top_k_fifo_rows=512 // lanes)


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(top_k.build(machine("tiny")), "fast") as simulator:
        yield simulator


@pytest.fixture(scope="module")
def full():
    with open_simulator(top_k.build(machine()), "fast") as simulator:
        yield simulator


def with_empty_row(request):
    """The same items, and a last row without any."""
    more = {name: np.vstack([getattr(request, name), np.zeros_like(request.valid[:1])]) for name in ("value", "id")}
    return Request(more["value"], more["id"], np.vstack([request.valid, np.zeros_like(request.valid[:1])]), request.k)


def assert_right(simulator, requests, lanes=LANES, capacity=CAPACITY, **patterns):
    simulator.reset()
    served = serve(simulator, requests, lanes, **patterns)
    assert difference(requests, served, lanes, capacity) is None
    return served


@settings(max_examples=40)
@given(seeds, st.integers(1, 6), st.booleans(), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, count, gaps, offer, accept):
    generator = np.random.default_rng(seed)
    requests = [random_request(LANES, 48, 32, 9, generator) for _ in range(count)]
    if gaps:
        requests = [with_gaps(request, LANES, generator.random() * 0.8 + 0.2, generator) for request in requests]
    assert_right(tiny, requests, offer=offer, accept=accept)


def test_the_example_of_the_specification(tiny):
    """[0.6, 0.1, 0.5, 1.2, 0.6], k = 3 -> T = 0.6, num_eq = 2, kept [0.6, 1.2, 0.6]."""
    served = assert_right(tiny, [dense([600, 100, 500, 1200, 600], [0, 1, 2, 3, 4], 3, LANES)])
    answer = served.answers[0]
    assert answer.kept == ((600, 0), (1200, 3), (600, 4))
    assert (answer.threshold, answer.num_equal, answer.status) == (600, 2, 0)


def test_zeros_are_values_and_validity_is_a_bit(tiny):
    """Kept zeros come out, first ones first; what the invalid lanes hold never does."""
    value = np.array([[0, 9, 0, 9], [9, 0, 9, 0]])
    valid = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.bool_)
    request = Request(value, np.arange(8).reshape(2, 4), valid, 3)
    served = assert_right(tiny, [request])
    assert served.answers[0].kept == ((0, 0), (0, 2), (0, 5))


def test_extreme_values_and_every_k(tiny):
    top = (1 << 32) - 1
    values = [0, top, top, 1, 0, top - 1, 1 << 31, (1 << 31) - 1, top]
    assert_right(tiny, [dense(values, range(9), k, LANES) for k in range(1, 11)])


def test_refused_requests_say_why_and_leave_the_next_alone(tiny):
    none = Request(np.full((3, LANES), 7), np.zeros((3, LANES), np.int64), np.zeros((3, LANES), np.bool_), 1)
    too_many = dense(list(range(CAPACITY + 1)), [0] * (CAPACITY + 1), 5, LANES)
    good = dense([5, 3, 8, 1, 9], range(5), 2, LANES)
    ends_empty = with_empty_row(dense(list(range(CAPACITY + LANES)), [0] * (CAPACITY + LANES), 5, LANES))
    served = assert_right(tiny, [good, replace(good, k=0), none, good, too_many, good, ends_empty, good])
    statuses = [answer.status for answer in served.answers]
    assert statuses == [
        top_k_select.STATUS_OK,
        top_k_select.STATUS_ZERO_K,
        top_k_select.STATUS_EMPTY,
        top_k_select.STATUS_OK,
        top_k_select.STATUS_OVERFLOW,
        top_k_select.STATUS_OK,
        top_k_select.STATUS_OVERFLOW,
        top_k_select.STATUS_OK,
    ]
    assert [sum(answer.rows) for answer in served.answers] == [2, 0, 0, 2, 0, 2, 0, 2]


def test_a_request_that_fills_the_memories(tiny):
    generator = np.random.default_rng(3)
    requests = [
        dense(values_of(kind, CAPACITY, 32, generator).tolist(), range(CAPACITY), k, LANES)
        for kind, k in zip(KINDS, (1, 511, 256, 300, 100), strict=True)
    ]
    assert_right(tiny, requests)


@pytest.mark.parametrize("lanes", [1, 2, 8, 32])
def test_lanes_by_configuration(lanes):
    generator = np.random.default_rng(lanes)
    requests = [random_request(lanes, 80, 12, 9, generator) for _ in range(8)]
    requests += [with_gaps(request, lanes, 0.5, generator) for request in requests[:4]]
    with open_simulator(top_k.build(with_lanes(lanes), value_bits=12), "fast") as simulator:
        assert_right(simulator, requests, lanes)


def test_published_size(full):
    generator = np.random.default_rng(1)
    requests = [random_request(16, 1024, 32, 10, generator) for _ in range(4)]
    requests += [random_request(16, 100, 32, 10, generator, count) for count in (1, 15, 16, 17, 31, 100)]
    assert_right(full, requests, 16, 1024)


def test_the_longest_selections_take_a_pass_an_item(tiny):
    """Every pivot the worst: n passes, never more; each takes its rows and a fixed overhead; FIFOs are full."""
    overhead = plan(machine("tiny")).pass_overhead_cycles
    requests = [
        longest(CAPACITY // 8, 1, LANES, up=True),
        longest(40, 39, LANES, up=False),
        longest(33, 17, LANES, up=True),
    ]
    served = assert_right(tiny, requests)
    assert len(expected(requests[0], LANES, CAPACITY)[1]) == CAPACITY // 8
    cycles = pass_cycles(requests, served, LANES, CAPACITY)
    assert cycles
    assert all(taken == rows + overhead for rows, taken in cycles)


def test_memories_full_of_candidates(tiny):
    """All but one item survive the first pass of a request that fills the memories, on either side."""
    values = {True: list(range(2, CAPACITY + 2)), False: list(range(CAPACITY))}
    first = lfsr_pivots(LANES)(CAPACITY)
    requests = []
    for up, k in ((True, 200), (False, 400)):
        chosen = values[up]
        chosen[first] = 1 if up else CAPACITY + 5
        requests.append(dense(chosen, range(CAPACITY), k, LANES))
    served = assert_right(tiny, requests)
    assert served.candidates[:2] == (CAPACITY, CAPACITY - 1)


def periods(served):
    return np.diff(served.answered_at)


def assert_within_bound(simulator, requests, lanes, capacity):
    """Requests of falling size, so that filling the next never takes longer than filtering this one."""
    requests = sorted(requests, key=lambda request: -len(request.items))
    served = assert_right(simulator, requests, lanes, capacity)
    bounds = np.array([bound_cycles(request, lanes) for request in requests[1:]])
    assert (periods(served) <= bounds).all()


def test_cycles_of_a_request_are_bounded(tiny):
    generator = np.random.default_rng(4)
    requests = [random_request(LANES, CAPACITY, 32, 9, generator) for _ in range(25)]
    small = [random_request(LANES, 24, 32, 9, generator) for _ in range(25)]
    assert_within_bound(tiny, requests + small, LANES, CAPACITY)


def test_cycles_of_the_shortest_selections_are_bounded(full):
    """One pass over all items, and no pass at all: nothing hides behind longer passes."""
    one_pass = [dense([7] * 1024, range(1024), k, 16) for k in (1, 512, 1023)]
    no_pass = [dense([7] * n, range(n), n, 16) for n in (1024, 1024, 512, 16, 16, 1)]
    tiny_ones = [dense([7, 7], [0, 1], 1, 16)] * 4
    assert_within_bound(full, one_pass + no_pass + tiny_ones, 16, 1024)


def test_the_next_fill_overlaps_the_filter(full):
    """Back to back, a request is complete before the one before has been answered."""
    requests = [dense(range(1024), range(1024), 500, 16)] * 3
    served = assert_right(full, requests, 16, 1024)
    for complete, answered in zip(served.complete_at[1:], served.answered_at, strict=False):
        assert complete < answered


@pytest.mark.full
def test_cycles_of_a_thousand_requests():
    """Random, sorted, reversed, constant and few-valued, 1 to 1024 items, at the published size."""
    generator = np.random.default_rng(5)
    requests = [random_request(16, 1024, 32, 10, generator) for _ in range(1000)]
    with open_simulator(top_k.build(machine())) as simulator:
        assert_within_bound(simulator, requests, 16, 1024)
        assert_right(simulator, requests, 16, 1024)


def test_the_reference_can_tell_a_wrong_answer(tiny):
    """The comparison notices a dropped item, a wrong order, a wrong pass and a wrong threshold."""
    requests = [dense([5, 3, 8, 1, 9, 8], range(6), 3, LANES)]
    served = assert_right(tiny, requests)
    answer = served.answers[0]
    for wrong in (
        replace(served, answers=(replace(answer, kept=answer.kept[:-1]),)),
        replace(served, answers=(replace(answer, kept=answer.kept[::-1]),)),
        replace(served, answers=(replace(answer, threshold=9),)),
        replace(served, answers=(replace(answer, num_equal=1),)),
        replace(served, candidates=(*served.candidates, 1)),
        replace(served, answers=(replace(answer, rows=(1, 2)),)),
        replace(served, answers=(replace(answer, rows=(3, 0)),)),
    ):
        assert difference(requests, wrong, LANES, CAPACITY)
    assert expected(replace(requests[0], k=9), LANES, CAPACITY)[1] == ()


def test_the_lfsr_steps_once_before_the_first_pass():
    stepped = evaluate(step_graph(), {"lfsr": LFSR_SEED})["stepped"]
    assert stepped == top_k_select.first_lfsr()


@pytest.mark.parametrize("preset", ["tiny", "spatten-1-8", "spatten"])
@pytest.mark.parametrize("value_bits", [12, 32])
def test_every_machine_meets_its_clock(preset, value_bits):
    config = machine(preset)
    netlist = top_k.build(config, value_bits=value_bits)
    assert netlist.outputs["kept_value"] == config.top_k_lanes * value_bits
    estimate = estimate_block(netlist.block, technology.load(), config.clock_period_ps)
    assert estimate.slack_ps >= 0


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ScheduleError, match="shortest possible period"):
        top_k.build(replace(machine("tiny"), clock_period_ps=150))
    with pytest.raises(HlsError, match=r"needs one cycle of about \d+ ps, not 500"):
        top_k.build(replace(machine("tiny"), clock_period_ps=500))
    with pytest.raises(HlsError, match="2 or more work; use 2"):
        TopKTypes.of(machine("tiny"), 1)
