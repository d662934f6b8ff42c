"""Tracing: what a traced function means, what folds, what the ranges prove, and what the errors teach."""

import inspect
import itertools
import random
import textwrap
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hls.graph as graph_module
from hls.evaluate import evaluate, evaluate_nodes
from hls.trace import (
    Bool,
    Fixed,
    HlsError,
    SInt,
    UFixed,
    UInt,
    Value,
    Vec,
    Vector,
    concat,
    constant,
    maximum,
    one_hot,
    reduce_tree,
    select,
    table,
    trace,
    vector,
)
from hls.types import Range
from verification.tests.hls_graphs import programs, random_inputs


def one(function, **types):
    """Graph of a function of the given inputs."""
    return trace(function, types, name="one")


def kinds(graph):
    return {k: n for k, n in graph.count().items() if k not in ("input", "const")}


# ---- meaning ----


@settings(deadline=None, max_examples=150)
@given(programs(), st.randoms(use_true_random=False))
def test_random_programs_mean_what_python_integers_mean(program, rng):
    graph, wrapped = program.graph(), program.wraps()
    for _ in range(5):
        inputs = random_inputs(graph, rng)
        expected = program.on_integers(inputs.values(), wrapped)
        assert list(evaluate(graph, inputs).values()) == expected


@settings(deadline=None, max_examples=50)
@given(programs(max_steps=5), st.randoms(use_true_random=False))
def test_a_range_that_is_too_tight_is_noticed(program, rng):
    """The sibling of the test above: were a range too tight, evaluation would say so."""
    graph = program.graph()
    inputs = random_inputs(graph, rng)
    results = evaluate_nodes(graph, inputs)
    last = len(graph.nodes) - 1
    beyond = Range(results[last] + 1, results[last] + 2)
    wrong = replace(graph, nodes=(*graph.nodes[:-1], replace(graph.nodes[last], range=beyond)))
    if graph.nodes[last].kind == "const":
        return
    with pytest.raises(HlsError, match="outside"):
        evaluate_nodes(wrong, inputs)


ROUND: dict[str, Any] = {
    "floor": lambda x: x.numerator // x.denominator,
    "half_up": lambda x: (x + Fraction(1, 2)).numerator // (x + Fraction(1, 2)).denominator,
    "half_even": round,
}


@pytest.mark.parametrize("rounding", ROUND)
@pytest.mark.parametrize("fraction", range(5))
def test_rounding_of_every_value(rounding, fraction):
    graph = one(lambda x: x.round(fraction, rounding), x=Fixed(7, 4))
    assert graph.outputs[0].type.fraction == fraction
    for raw in range(-64, 64):
        expected = ROUND[rounding](Fraction(raw, 16) * 2**fraction)
        assert evaluate(graph, {"x": raw})["out"] == expected


@pytest.mark.parametrize("amount", range(6))
@pytest.mark.parametrize("rounding", ["floor", "half_up"])
def test_shift_by_a_value_equals_shift_by_a_constant(rounding, amount):
    graph = one(
        lambda x, n: {"by_value": x.shift_right(n, rounding), "by_constant": x.shift_right(amount, rounding)},
        x=SInt(6),
        n=UInt(3),
    )
    for raw in range(-32, 32):
        out = evaluate(graph, {"x": raw, "n": amount})
        assert out["by_value"] == out["by_constant"]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 9])
def test_bit_length_and_leading_zeros_of_every_value(width):
    graph = one(lambda x: {"length": x.bit_length(), "zeros": x.leading_zeros()}, x=UInt(width))
    for raw in range(1 << width):
        expected = {"length": raw.bit_length(), "zeros": width - raw.bit_length()}
        assert evaluate(graph, {"x": raw}) == expected


def test_binary_points_align_and_integers_mix_in_as_real_numbers():
    graph = one(
        lambda a, b: {
            "sum": a + b,
            "plus_one": a + 1,
            "product": a * b,
            "half": b * constant(0.5, UFixed(4, 3)),
            "less": a < b,
            "scaled": a.scale(-2),
        },
        a=Fixed(8, 4),
        b=UFixed(6, 2),
    )
    points = {port.name: port.type.fraction for port in graph.outputs}
    assert points == {"sum": 4, "plus_one": 4, "product": 6, "half": 5, "less": 0, "scaled": 6}
    for raw_a, raw_b in itertools.product(range(-128, 128, 7), range(0, 64, 5)):
        a, b = Fraction(raw_a, 16), Fraction(raw_b, 4)
        out = evaluate(graph, {"a": raw_a, "b": raw_b})
        real = {name: Fraction(value, 1 << points[name]) for name, value in out.items()}
        assert real["sum"] == a + b
        assert real["plus_one"] == a + 1
        assert real["product"] == a * b
        assert real["half"] == b / 2
        assert real["less"] == (a < b)
        assert real["scaled"] == a / 4


def test_narrowing_of_every_value():
    graph = one(
        lambda x: {
            "saturated": x.saturate(SInt(4)),
            "positive": x.saturate(UInt(4)),
            "symmetric": x.saturate(SInt(4).within(-7, 7)),
            "wrapped": x.wrap(SInt(4)),
            "modulo": x.wrap(UInt(4)),
            "clamped": x.clamp(-3, 9),
            "wide": x.narrow(SInt(9)),
        },
        x=SInt(6),
    )
    for x in range(-32, 32):
        assert evaluate(graph, {"x": x}) == {
            "saturated": min(7, max(-8, x)),
            "positive": min(15, max(0, x)),
            "symmetric": min(7, max(-7, x)),
            "wrapped": (x + 8) % 16 - 8,
            "modulo": x % 16,
            "clamped": min(9, max(-3, x)),
            "wide": x,
        }


def test_vectors():
    def f(v, w, i):
        chunks = v.chunks(2).map(lambda c: c.sum())
        return {
            "sum": v.sum(),
            "max": v.max(),
            "min": v.min(),
            "any": v.any(),
            "all": v.all(),
            "chosen": v[i],
            "fused": v * w + 1,
            "reverse": 10 - v,
            "chunks": chunks,
            "tail": v[1:],
            "hot": one_hot(i, 4),
            "pair": [v, w],
            "either": select(i == 0, v, w),
        }

    graph = trace(f, {"v": Vec(SInt(5), 4), "w": Vec(SInt(5), 4), "i": UInt(2)})
    rng = random.Random(0)
    for _ in range(50):
        v, w = ([rng.randint(-16, 15) for _ in range(4)] for _ in range(2))
        i = rng.randrange(4)
        assert evaluate(graph, {"v": v, "w": w, "i": i}) == {
            "sum": sum(v),
            "max": max(v),
            "min": min(v),
            "any": int(any(v)),
            "all": int(all(v)),
            "chosen": v[i],
            "fused": [a * b + 1 for a, b in zip(v, w, strict=True)],
            "reverse": [10 - a for a in v],
            "chunks": [v[0] + v[1], v[2] + v[3]],
            "tail": v[1:],
            "hot": [int(i == k) for k in range(4)],
            "pair": [v, w],
            "either": v if i == 0 else w,
        }


@settings(deadline=None)
@given(st.integers(1, 40))
def test_a_reduction_is_a_balanced_tree_in_order(count):
    leaves: list[Any] = list(range(count))
    deep = reduce_tree(lambda a, b: (a, b), leaves)

    def depth(tree):
        return 0 if isinstance(tree, int) else 1 + max(map(depth, tree))

    def flat(tree):
        return [tree] if isinstance(tree, int) else flat(tree[0]) + flat(tree[1])

    assert depth(deep) == (count - 1).bit_length()
    assert flat(deep) == list(range(count))


# ---- what tracing proves and removes ----


def test_types_come_from_ranges():
    graph = one(lambda a, b: {"sum": a + b, "difference": a - b, "product": a * b}, a=UInt(8), b=UInt(8))
    assert [p.type for p in graph.outputs] == [UInt(9), SInt(9), UInt(16)]
    graph = one(lambda a: a + 1, a=SInt(12).within(0, 99))
    assert graph.outputs[0].type == UInt(7)
    graph = one(lambda v: v.sum(), v=Vec(SInt(12), 64))
    assert graph.outputs[0].type == SInt(18)
    assert one(lambda x: maximum(x, 3), x=SInt(8)).outputs[0].type == UInt(7)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x + 0, {}),
        (lambda x: 0 + x * 1, {}),
        (lambda x: x * 0, {}),
        (lambda x: x * 8, {"shift_left_const": 1}),
        (lambda x: x - x, {}),
        (lambda x: (x == x) & (x < 1000), {}),
        (lambda x: select(x > 200, x + 1, x), {}),
        (lambda x: x.saturate(SInt(9)), {}),
        (lambda x: (x + 3) + (3 + x), {"add": 2}),
        (lambda x: [x * x, x * x], {"mul": 1}),
        (lambda x: select(x < 0, x * x, x * x), {"mul": 1}),
        (lambda x: x & 15, {"slice": 1}),
        (lambda x: (x * x + 5) & 0, {}),
        (lambda x: table([4, 4, 4, 4], x.wrap(UInt(2))), {}),
        (lambda x: x.assume(-128, 127), {}),
        (lambda x: x.saturate(SInt(7).within(-50, 63)), {"lt": 2, "mux": 2}),
    ],
)
def test_folding(function, expected):
    assert kinds(one(function, x=SInt(8))) == expected


def test_dead_code_goes_and_inputs_stay():
    def f(x, y):
        x * y * x  # never used
        return x + 1

    graph = one(f, x=SInt(8), y=SInt(8))
    assert kinds(graph) == {"add": 1}
    assert [p.name for p in graph.inputs] == ["x", "y"]


def test_annotations_and_return_type():
    def f(x: Annotated[Value, SInt(4)], v: Annotated[Vector, Vec(UInt(3), 2)]) -> Annotated[Value, SInt(8)]:
        total: Value = v.sum()
        return x + total

    graph = trace(f)
    assert graph.outputs[0].type == SInt(8)
    assert evaluate(graph, {"x": -8, "v": [7, 7]}) == {"out": 6}


def test_an_assumption_is_checked_and_listed():
    graph = one(lambda x: (x - 10).assume(0, 5), x=UInt(4).within(8, 15))
    assert [r for _, r in graph.assumptions()] == [Range(0, 5)]
    assert graph.outputs[0].type == UInt(3)
    assert evaluate(graph, {"x": 12}) == {"out": 2}
    with pytest.raises(HlsError, match="an assume"):
        evaluate(graph, {"x": 9})


def test_names_reach_the_nodes():
    graph = one(lambda x: (x + 1).named("next_x") * x, x=SInt(4))
    assert "next_x" in [node.name for node in graph.nodes]


# ---- errors that teach ----


def _if(x):
    return x if x > 0 else -x


OTHER: dict[str, Any] = {}
PYTHON_TRUE: Any = True


def _leak(x):
    value = OTHER.setdefault("value", x)
    return x + value


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_if, r"select\(condition, a, b\) instead of `if`.*test_graph.py:\d+ in _if"),
        (lambda x: max(x, 0), "minimum/maximum"),
        (lambda x: (x > 1) and (x < 3), "`&`"),
        (lambda x: x >> 1, "shift_right"),
        (lambda x: x * 0.5, "constant"),
        (lambda x: x / 2, "no exact division"),
        (lambda x: x // 2, "no exact division"),
        (lambda x: x << -1, r"shift_right\(1"),
        (lambda x: [1, 2, 3][x], "table"),
        (lambda x: list(x), "not a sequence"),
        (lambda x: (x * x).narrow(SInt(8)), r"value is in \[-16256, 16384\].*SInt\(16\) would do.*saturate"),
        (lambda x: x.scale(-3).narrow(SInt(8)), r"call .round\(0, rounding\) first"),
        (lambda x: x.scale(-3).saturate(SInt(8)), "drops 3 fraction bits"),
        (lambda x: x.shift_right(1, "nearest"), "floor, half_up, half_even"),
        (lambda x: x.shift_right(x, "floor"), "a shift amount is an integer from 0"),
        (lambda x: x[8], "bits 0 to 7"),
        (lambda x: x[2:2], "bits 0 to 7"),
        (lambda x: select(x, 1, 2), r"compare it \(x != 0"),
        (lambda x: select(PYTHON_TRUE, x, 2), "a Python `if` will do"),
        (lambda x: select(x > 0, vector([x]), vector([x, x])), "two vectors of one length"),
        (lambda x: table([1, 2], x), "indexed by an integer from 0 to 1"),
        (lambda x: table([1, 300], x[0], UInt(8)), r"UInt\(9\) would"),
        (lambda x: vector([x, x])[x], "narrow or saturate it first"),
        (lambda x: vector([x, x]) + vector([x]), "do not pair up"),
        (lambda x: vector([x] * 3).chunks(2), "do not divide"),
        (lambda x: vector([]), "at least one element"),
        (lambda x: 1 if vector([x]) else 2, ".any"),
        (lambda x: x.bit_length(), "abs"),
        (lambda x: x.assume(500, 600), "contradicts"),
        (lambda x: x.scale(1) & x, "binary points differ"),
        (lambda x: constant(9.0, SInt(4)), r"outside \[-8, 7\]"),
        (lambda x: maximum(1, 2), "compute it in Python"),
        (lambda x: concat(), "at least one"),
        (lambda x: "text", "return a Value"),
        (lambda x: {"x": x}, "both an input and an output"),
        (lambda x: {"table": x}, "'table_' would do"),
        (lambda x: x.named("a b"), "'a_b' would do"),
    ],
)
def test_errors_teach(function, message):
    with pytest.raises(HlsError, match=message):
        one(function, x=SInt(8))


def test_a_value_of_another_trace_is_refused():
    OTHER.clear()
    one(_leak, x=SInt(8))
    with pytest.raises(HlsError, match="two different traces"):
        one(_leak, x=SInt(8))


def test_errors_of_signatures():
    with pytest.raises(HlsError, match=r"parameter 'x' has no hardware type.*inputs=\{'x'"):
        trace(lambda x: x)
    with pytest.raises(HlsError, match="no parameter"):
        trace(lambda x: x, {"x": Bool, "z": Bool})
    with pytest.raises(HlsError, match=r"output 'out'.*SInt\(9\) would do"):
        trace(lambda x: x + 1, {"x": SInt(8)}, outputs=SInt(8))
    with pytest.raises(HlsError, match=r"is SInt\(9\), declared Vec"):
        trace(lambda x: x + 1, {"x": SInt(8)}, outputs=Vec(SInt(8), 2))
    with pytest.raises(HlsError, match="outputs= names"):
        trace(lambda x: {"y": x + 1}, {"x": SInt(8)}, outputs={"z": SInt(8)})


def test_errors_of_inputs():
    graph = one(lambda x, v: x + v.sum(), x=SInt(4), v=Vec(SInt(4), 2))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"x": 0}, "inputs are"),
        ({"x": 8, "v": [0, 0]}, "x: 8 is outside"),
        ({"x": 0, "v": [0, 9]}, r"v\[1\]: 9 is outside"),
        ({"x": 0, "v": [0]}, "a sequence of 1"),
    ]
    for inputs, message in cases:
        with pytest.raises(HlsError, match=message):
            evaluate(graph, inputs)


def test_the_tutorial_works():
    block = inspect.cleandoc(graph_module.__doc__ or "").split("::\n", 1)[1].split("plan = ", 1)[0]
    names: dict[str, Any] = {}
    exec(textwrap.dedent(block), names)
    result = evaluate(names["graph"], {"query": [1] * 64, "key": [2] * 64, "clear": 0})
    assert result == {"out": 2}
    assert '"clear": 0})      # {"out": 2}' in block
