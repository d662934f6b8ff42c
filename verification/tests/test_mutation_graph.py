"""Graph mutants: every operator occurs, each is a fault where it says so, and an independent check kills them."""

import random
from typing import Annotated

import pyrtl
import pytest

from hls.evaluate import evaluate
from hls.trace import Bool, SInt, UInt, Value, concat, reduce_tree, select, table, trace
from verification.equivalence.exhaustive import exhaust
from verification.equivalence.netlist import read_block
from verification.equivalence.problem import IntegerSpecification, Problem
from verification.equivalence.verdict import Kind
from verification.mutants.graph import combinational, graph_mutants
from verification.mutation import Detector, kill_rate

ENTRIES = (3, 9, 1, 12)
OPERATORS = {
    "operator",
    "comparison",
    "constant",
    "rounding",
    "narrowing",
    "shift",
    "mux arms",
    "concatenation",
    "table",
}


def datapath(
    a: Annotated[Value, SInt(5)],
    b: Annotated[Value, UInt(4)],
    flip: Annotated[Value, Bool],
) -> Annotated[Value, SInt(6)]:
    product = (a * b).named("product")
    rounded = product.shift_right(3, "half_up")
    limited = rounded.saturate(SInt(5))
    looked_up = table(ENTRIES, b.wrap(UInt(2))) - 5
    return select(flip, looked_up - a, limited)


def expected(values):
    """The same, written on arrays of unsigned ports."""
    a = values["a"] - 32 * (values["a"] >> 4)
    b, flip = values["b"], values["flip"]
    rounded = ((a * b + 4) // 8).clip(-16, 15)
    looked_up = (b % 4 == 0) * 3 + (b % 4 == 1) * 9 + (b % 4 == 2) + (b % 4 == 3) * 12 - 5
    return {"out": (flip * (looked_up - a) + (1 - flip) * rounded) % 64}


SPECIFICATION = IntegerSpecification(expected, ("a", "b", "flip"), ("out",))


def wrong(block):
    problem = Problem("datapath", block, SPECIFICATION, fixed={"in_valid": 1, "out_ready": 1})
    return not exhaust(problem).passes


def joined(a: Annotated[Value, UInt(3)], b: Annotated[Value, UInt(3)]) -> Annotated[Value, UInt(6)]:
    return concat(a, b)


def test_every_operator_occurs():
    found = {m.operator for m in graph_mutants(trace(datapath))} | {m.operator for m in graph_mutants(trace(joined))}
    assert found == OPERATORS


def test_an_exhaustive_check_kills_what_is_not_equivalent():
    graph = trace(datapath)
    mutants = graph_mutants(graph)
    assert len(mutants) > 40
    report = kill_rate(combinational(graph), mutants, [Detector("integers", wrong)])
    assert report.rate == 1
    assert report.verdict().kind is Kind.TESTED
    counts = report.rows()
    assert counts["rounding"]["integers"] == 2
    assert counts["all"]["equivalent"] <= 0.1 * len(mutants)


def test_mutants_keep_ports_and_latency():
    graph = trace(datapath)
    original = read_block(combinational(graph))
    for mutant in graph_mutants(graph):
        faulty = read_block(mutant.build())
        assert faulty.inputs == original.inputs
        assert {n: faulty.widths[n] for n in faulty.outputs} == {n: original.widths[n] for n in original.outputs}
        assert not faulty.registers


def test_enumeration_is_deterministic():
    listings = [[(m.operator, m.where, m.what) for m in graph_mutants(trace(datapath))] for _ in range(2)]
    assert listings[0] == listings[1]
    assert len(set(listings[0])) == len(listings[0])


def test_the_unmutated_graph_is_right():
    graph = trace(datapath)
    assert not wrong(combinational(graph))
    block = combinational(graph)
    simulation = pyrtl.FastSimulation(tracer=None, block=block)
    generator = random.Random(1)
    for _ in range(50):
        values = {"a": generator.randrange(-16, 16), "b": generator.randrange(16), "flip": generator.randrange(2)}
        simulation.step({**values, "a": values["a"] % 32, "in_valid": 1, "out_ready": 1})
        assert simulation.inspect("out") == evaluate(graph, values)["out"] % 64


def only(function, operator, what):
    (mutant,) = [m for m in graph_mutants(trace(function)) if (m.operator, m.what) == (operator, what)]
    return mutant.build()


def outputs(block, cases):
    simulation = pyrtl.FastSimulation(tracer=None, block=block)
    shown = []
    for values in cases:
        simulation.step({**values, "in_valid": 1, "out_ready": 1})
        shown.append(simulation.inspect("out"))
    return shown


def halved(x: Annotated[Value, UInt(4)]) -> Annotated[Value, UInt(4)]:
    return x.shift_right(1, "half_up").wrap(UInt(4))


def quartered(x: Annotated[Value, UInt(4)]) -> Annotated[Value, UInt(3)]:
    return x.shift_right(2, "half_up")


def less(a: Annotated[Value, UInt(2)], b: Annotated[Value, UInt(2)]) -> Annotated[Value, Bool]:
    return a < b


@pytest.mark.parametrize(
    ("what", "meant"),
    [("half up becomes floor", lambda x: x // 4), ("half up becomes ceiling", lambda x: -(-x // 4))],
)
def test_a_rounding_mutant_rounds_as_it_says(what, meant):
    block = only(quartered, "rounding", what)
    assert outputs(block, [{"x": x} for x in range(16)]) == [meant(x) for x in range(16)]


@pytest.mark.parametrize(
    ("what", "meant"), [("< becomes <=", lambda a, b: a <= b), ("operands swapped", lambda a, b: b < a)]
)
def test_a_comparison_mutant_compares_as_it_says(what, meant):
    block = only(less, "comparison", what)
    cases = [(a, b) for a in range(4) for b in range(4)]
    assert outputs(block, [{"a": a, "b": b} for a, b in cases]) == [int(meant(a, b)) for a, b in cases]


def test_reductions_have_mutants():
    def widest(a: Annotated[Value, UInt(3)], b: Annotated[Value, UInt(3)]) -> Annotated[Value, UInt(3)]:
        return reduce_tree(lambda x, y: select(x < y, y, x), [a, b])

    operators = {m.operator for m in graph_mutants(trace(widest))}
    assert operators == {"operator", "comparison", "mux arms"}
