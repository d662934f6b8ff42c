"""Schedules: legal however made, minimal where promised, splitting that keeps the meaning, errors that explain."""

import io
import itertools
import random
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.console import Console

from hls.decompose import decompose
from hls.evaluate import evaluate
from hls.schedule import Schedule, ScheduleError, delay_function, node_delays, overhead_ps, schedule
from hls.trace import SInt, UInt, Vec, trace
from hls.types import HlsError, Range
from verification.tests.hls_graphs import TinyTechnology, dot_graph, programs, random_inputs, random_scalar

TINY = TinyTechnology()
OVERHEAD_PS = 120  # of the tiny technology: 20 + 30 + 50, and 20 to hold
periods = st.integers(260, 2000)


def brute_force_register_bits(plan):
    """Register bits counted from first principles: for each boundary, the values made before and needed after."""
    nodes, total = plan.graph.nodes, 0
    outputs = {i for port in plan.graph.outputs for i in port.nodes}
    for boundary in range(plan.latency_cycles):
        for index, node in enumerate(nodes):
            if node.kind == "const" or plan.stages[index] > boundary:
                continue
            readers = [i for i, n in enumerate(nodes) if index in n.args and plan.stages[i] > boundary]
            if readers or index in outputs:
                total += node.width_bits
    return total


@settings(deadline=None, max_examples=60)
@given(programs(), periods, st.sampled_from(["asap", "registers"]), st.booleans())
def test_schedules_are_legal_and_mean_the_same(program, period_ps, method, output_register):
    graph = program.graph()
    plan = schedule(graph, TINY, period_ps, method, output_register)
    plan.verify(TINY)
    assert sum(plan.register_bits) == brute_force_register_bits(plan)
    assert plan.latency_cycles == plan.stage_count - (not output_register)
    inputs = random_inputs(graph, random.Random(0))
    assert evaluate(plan.graph, inputs) == evaluate(graph, inputs)


@settings(deadline=None, max_examples=40)
@given(programs(), periods, st.booleans())
def test_minimized_registers_are_never_more_than_asap(program, period_ps, output_register):
    graph = program.graph()
    asap = schedule(graph, TINY, period_ps, "asap", output_register)
    least = schedule(graph, TINY, period_ps, "registers", output_register)
    assert least.stage_count == asap.stage_count
    assert sum(least.register_bits) <= sum(asap.register_bits)


@settings(deadline=None, max_examples=40)
@given(programs(max_steps=4), st.integers(300, 700))
def test_minimized_registers_are_the_least_of_all_legal_schedules(program, period_ps):
    plan = schedule(program.graph(), TINY, period_ps, "registers")
    free = [i for i, n in enumerate(plan.graph.nodes) if n.kind not in ("input", "const")]
    assume(plan.stage_count ** len(free) <= 3000)
    best = None
    for stages in itertools.product(range(plan.stage_count), repeat=len(free)):
        other = list(plan.stages)
        for index, stage in zip(free, stages, strict=True):
            other[index] = stage
        candidate = replace(plan, stages=tuple(other))
        try:
            candidate.verify(TINY)
        except ScheduleError:
            continue
        bits = sum(candidate.register_bits)
        best = bits if best is None else min(best, bits)
    assert sum(plan.register_bits) == best


def test_asap_is_worse_where_a_narrow_result_waits():
    """The option earns its keep: a wide product of early inputs should wait as its narrow factors."""
    graph = trace(lambda a, b, c: ((a * b) * c + 1) * c + (a + b) * 3, {k: UInt(8) for k in "abc"}, name="waits")
    asap, least = (schedule(graph, TINY, 400, method) for method in ("asap", "registers"))
    assert sum(least.register_bits) < sum(asap.register_bits)


# ---- verify rejects what is illegal ----


def _plan():
    return schedule(dot_graph(), TINY, 400)


def _illegal(name, plan):
    nodes, stages = plan.graph.nodes, list(plan.stages)
    first = {kind: next(i for i, n in enumerate(nodes) if n.kind == kind) for kind in ("input", "mul", "add")}
    last_output = plan.graph.outputs[0].nodes[0]
    match name:
        case "an argument comes later":
            stages[first["mul"]] = plan.stage_count - 1
        case "an input is late":
            stages[first["input"]] = 1
        case "the last node is beyond the end":
            stages[last_output] = plan.stage_count
        case "a stage is negative":
            stages[last_output] = -1
        case "all in one stage":
            stages = [0] * len(stages)
        case "a stage is missing":
            stages = stages[:-1]
        case "a delay is understated":
            return replace(plan, delays_ps=tuple(max(0, d - 1) for d in plan.delays_ps))
        case "registers are free":
            return replace(plan, overhead_ps=OVERHEAD_PS - 1)
        case "no stage":
            return replace(plan, stage_count=0)
        case "the clock is faster":
            return replace(plan, clock_period_ps=plan.clock_period_ps - 150)
        case "a node reads a later node":
            swapped = replace(nodes[first["mul"]], args=(len(nodes) - 1, 0))
            graph = replace(plan.graph, nodes=(*nodes[: first["mul"]], swapped, *nodes[first["mul"] + 1 :]))
            return replace(plan, graph=graph)
    return replace(plan, stages=tuple(stages))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("an argument comes later", "which is in stage"),
        ("an input is late", "inputs arrive in stage 0"),
        ("the last node is beyond the end", "the stages are 0 to"),
        ("a stage is negative", "the stages are 0 to"),
        ("all in one stage", "fit in 400 ps"),
        ("a stage is missing", "stages and"),
        ("a delay is understated", "ps, not"),
        ("registers are free", "registers take 120 ps"),
        ("no stage", "at least 1 stage"),
        ("the clock is faster", "fit in 250 ps"),
        ("a node reads a later node", "which does not come before it"),
    ],
)
def test_illegal_schedules_are_rejected(name, message):
    plan = _plan()
    plan.verify(TINY)
    with pytest.raises(ScheduleError, match=message):
        _illegal(name, plan).verify(TINY)


@pytest.mark.parametrize("period_ps", [260, 300, 400])
@pytest.mark.parametrize("lanes", [3, 5, 16])
def test_no_node_can_be_earlier_than_asap(period_ps, lanes):
    plan = schedule(dot_graph(lanes), TINY, period_ps)
    late = [i for i, stage in enumerate(plan.stages) if stage > 0]
    assert late
    for index in late:
        stages = list(plan.stages)
        stages[index] -= 1
        with pytest.raises(ScheduleError):
            replace(plan, stages=tuple(stages)).verify(TINY)


# ---- splitting ----


SPLIT = {
    "mul": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "lt": lambda a, b: a < b,
    "shift_left": lambda a, b: a << b.wrap(UInt(5)),
    "shift_right": lambda a, b: a.shift_right(b.wrap(UInt(5)), "floor"),
}


@pytest.mark.parametrize("kind", SPLIT)
@pytest.mark.parametrize(
    ("a", "b"),
    [(SInt(25), UInt(21)), (UInt(30), UInt(30)), (SInt(17), SInt(49)), (UInt(21), SInt(25)), (SInt(9), SInt(9))],
    ids=str,
)
def test_splitting_keeps_the_meaning(kind, a, b):
    graph = trace(SPLIT[kind], {"a": a, "b": b}, name="split")
    delay_of = delay_function(TINY)
    rng = random.Random(kind)
    for budget_ps in (90, 110, 140, 180):
        parts = decompose(graph, delay_of, budget_ps)
        for _ in range(60):
            inputs = {"a": random_scalar(rng, a), "b": random_scalar(rng, b)}
            assert evaluate(parts, inputs) == evaluate(graph, inputs)
        assert parts.outputs[0].type == graph.outputs[0].type
    assert len(parts.nodes) >= len(graph.nodes)
    assert decompose(graph, delay_of, 10**6) is graph


def test_splitting_brings_every_part_under_the_budget():
    graph = trace(lambda a, b, c: a * b + c, {"a": SInt(25), "b": UInt(21), "c": SInt(49)}, name="softmax_like")
    plan = schedule(graph, TINY, 260)
    assert max(plan.delays_ps) <= 160
    assert max(node_delays(graph, delay_function(TINY), 0)) > 160


# ---- impossible clocks ----


@pytest.mark.parametrize("kind", SPLIT)
def test_the_shortest_possible_period_is_the_shortest(kind):
    graph = trace(lambda a, b: SPLIT[kind](a, b).named("slow"), {"a": SInt(20), "b": SInt(20)}, name="fast_clock")
    with pytest.raises(ScheduleError, match=r"slow .*The shortest possible period is (\d+) ps") as caught:
        schedule(graph, TINY, OVERHEAD_PS + 10)
    shortest_ps = int(str(caught.value).split()[-2])
    schedule(graph, TINY, shortest_ps).verify(TINY)
    with pytest.raises(ScheduleError, match=f"shortest possible period is {shortest_ps} ps"):
        schedule(graph, TINY, shortest_ps - 1)


def test_a_slow_input_is_explained_and_counts_as_delay():
    graph = trace(lambda a, b: a + b, {"a": SInt(8), "b": SInt(8)}, name="memory_fed")
    assert schedule(graph, TINY, 400, input_delay_ps=200).stage_count == 1
    assert schedule(graph, TINY, 400, input_delay_ps=270).stage_count == 2
    with pytest.raises(ScheduleError, match="shortest possible period is 401 ps"):
        schedule(graph, TINY, 400, input_delay_ps=281)


def test_an_unknown_method_is_refused():
    with pytest.raises(ScheduleError, match="'asap' or 'registers'"):
        schedule(dot_graph(), TINY, 400, method=cast(Any, "alap"))


# ---- by hand ----


def test_stages_by_hand():
    """Budget 280: mul 136, adds 88, 90; the mux 20 goes where it fits."""
    graph = trace(lambda v, w: (v * w).sum().named("total"), {"v": Vec(SInt(12), 4), "w": Vec(SInt(12), 4)}, name="dot")
    plan = schedule(graph, TINY, 400)
    by_kind = {(n.kind, s) for n, s in zip(plan.graph.nodes, plan.stages, strict=True)}
    assert by_kind == {("input", 0), ("mul", 0), ("add", 0), ("add", 1)}
    assert plan.latency_cycles == 2
    assert plan.register_bits == (2 * 25, 26)
    assert plan.stage_delays_ps == (136 + 88, 90)
    assert plan.budget_ps == 280
    assert plan.initiation_interval == 1
    assert overhead_ps(TINY) == OVERHEAD_PS
    assert [plan.graph.label(i) for i in plan.critical_path(1)] == ["total"]


def test_the_table_shows_every_stage():
    plan = _plan()
    file = io.StringIO()
    Console(width=200, file=file).print(plan.table())
    text = file.getvalue()
    assert f"latency {plan.latency_cycles} cycles, {sum(plan.register_bits)} register bits" in text
    for stage, delay in enumerate(plan.stage_delays_ps):
        assert f" {stage} " in text
        assert f" {delay} " in text
    assert "4 mul" in text


def test_a_full_size_dot_product_schedules_at_1_ghz():
    technology = pytest.importorskip("hls.technology").load()

    def f(q, k, wide, narrow):
        return {"dot": (q * k).sum(), "product": wide * narrow, "more": wide * narrow + 1}

    graph = trace(f, {"q": Vec(SInt(12), 64), "k": Vec(SInt(12), 64), "wide": SInt(49), "narrow": SInt(25)})
    plan = schedule(graph, technology, 1000)
    plan.verify(technology)
    assert isinstance(plan, Schedule)
    assert max(plan.stage_delays_ps) <= plan.budget_ps


def test_a_graph_without_logic_has_one_stage():
    plan = schedule(trace(lambda x: [x, 5], {"x": SInt(4).within(0, 7)}, name="wires"), TINY, 400)
    assert plan.stage_count == 1
    assert plan.register_bits == (3,)
    assert evaluate(plan.graph, {"x": 7}) == {"out": [7, 5]}
    with pytest.raises(HlsError):
        Range(1, 0)
