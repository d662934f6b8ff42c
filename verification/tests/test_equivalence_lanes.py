"""Many equal lanes on wide ports: decided once, and products by trying all values; a fault in one lane is found."""

import pyrtl
import pytest

from verification.equivalence import symbolic
from verification.equivalence.bits import concatenate
from verification.equivalence.counterexample import load, replay
from verification.equivalence.enumeration import enumerate_all, worth_enumerating
from verification.equivalence.formula import Formula
from verification.equivalence.function import prove
from verification.equivalence.localize import localized
from verification.equivalence.problem import Problem
from verification.equivalence.solver import Limits, solve
from verification.equivalence.symbolic import Obligation, discharge
from verification.equivalence.verdict import Kind
from verification.tests.test_equivalence_machines import in_new_block

LANES, WIDTH = 16, 8


def lanes(faulty_lane=None):
    """Signed products of the lanes of two wide ports, as unsigned products and corrections."""
    a, b = pyrtl.Input(LANES * WIDTH, "a"), pyrtl.Input(LANES * WIDTH, "b")
    products = []
    for i in range(LANES):
        x, y = (port[WIDTH * i : WIDTH * (i + 1)] for port in (a, b))
        plain = x * y
        corrections = pyrtl.select(x[-1], y, pyrtl.Const(0, WIDTH)), pyrtl.select(y[-1], x, pyrtl.Const(0, WIDTH))
        high = (plain[WIDTH:] - corrections[0])[:WIDTH]
        if i != faulty_lane:
            high = (high - corrections[1])[:WIDTH]
        product = pyrtl.WireVector(2 * WIDTH, f"product_{i}")
        product <<= pyrtl.concat(high, plain[:WIDTH])
        products.append(product)
    out = pyrtl.Output(2 * WIDTH * LANES, "out")
    out <<= pyrtl.concat_list(products)


def signed_products(operands):
    products = []
    for i in range(LANES):
        x, y = (operands[port][WIDTH * i : WIDTH * (i + 1)].sext(2 * WIDTH) for port in "ab")
        products.append(operands.cut(f"product_{i}", x * y))
    return {"out": concatenate(*products[::-1])}


def test_equal_lanes_are_decided_once(monkeypatch):
    tried, asked = [], []

    def counting(formula, roots, limits):
        tried.append(roots)
        return enumerate_all(formula, roots, limits)

    original = solve

    def solving(queries, limits):
        asked.extend(queries)
        return original(asked, limits)

    monkeypatch.setattr(symbolic, "enumerate_all", counting)
    monkeypatch.setattr(symbolic, "solve", solving)
    verdict = prove(Problem("lanes", in_new_block(lanes), signed_products))
    assert (verdict.kind, verdict.detail) == (Kind.PROVED, "17 obligations, 16 cut points")
    assert (len(tried), len(asked)) == (1, 0)


@pytest.mark.parametrize("lane", [0, 7, LANES - 1])
def test_a_fault_in_one_lane_is_refuted(lane, tmp_path):
    block = in_new_block(lanes, lane)
    verdict = prove(Problem("lanes", block, signed_products), folder=tmp_path)
    assert verdict.kind is Kind.REFUTED
    assert verdict.counterexample is not None
    found = load(verdict.counterexample)
    assert replay(block, found)
    assert any(o.wire == f"product_{lane}" for o in found.observations)


def test_a_vector_is_split_where_it_is_read():
    formula = Formula()
    wide, other = formula.variable("wide", 100), formula.variable("other", 8)
    low, high = (formula.bits(formula.extract(wide, 100, at, 12)) for at in (10, 16))
    claim = ((low + high) == (formula.bits(other).zext(12) + 1)).value
    local = localized(formula, [claim])
    names = {formula.nodes[t].params[0] for t in formula.cone(local.roots) if formula.nodes[t].op == "variable"}
    assert names == {"wide[10:16]", "wide[16:22]", "wide[22:28]", "other"}
    assert local.model({"wide[10:16]": 1, "wide[16:22]": 2, "other": 5}) == {"wide": (1 << 10) | (2 << 16), "other": 5}
    for value in (0, (1 << 100) - 1, 0x123456789ABCDEF0123):
        parts = {
            n: (value >> low) & ((1 << int(n.split(":")[1][:-1]) - low) - 1) for n, (_, low) in local.pieces.items()
        }
        before = formula.evaluate([claim], {"wide": value, "other": 77})
        assert formula.evaluate(local.roots, {**parts, "other": 77}) == before


def test_a_vector_read_as_a_whole_stays_whole():
    formula = Formula()
    wide = formula.variable("wide", 20)
    claim = (formula.bits(wide).any() & formula.bits(wide)[3]).value
    assert localized(formula, [claim]).roots == (claim,)


def product_is(value, width):
    formula = Formula()
    a, b = (formula.bits(formula.variable(n, width)).zext(2 * width) for n in "ab")
    return formula, ((a * b) == value).value


def test_enumeration_finds_factors_or_shows_there_are_none():
    formula, claim = product_is(251 * 241, 8)
    assert worth_enumerating(formula, [claim])
    found = enumerate_all(formula, [claim], Limits())
    assert found.status == "sat"
    assert found.model["a"] * found.model["b"] == 251 * 241
    formula, claim = product_is(257, 8)
    assert enumerate_all(formula, [claim], Limits()).status == "unsat"
    refuted, proved = discharge(
        formula, [Obligation("none", formula.constant(0, 1), (claim,)), Obligation("not so", claim)], Limits()
    )
    assert (refuted.status, proved.status) == ("unsat", "sat")
    assert proved.model["a"] * proved.model["b"] != 257


def test_enumeration_stops_at_its_limits():
    formula, claim = product_is(3, 12)
    answer = enumerate_all(formula, [formula.conjunction(claim, product_again(formula), 1)], Limits(time_s=1e-6))
    assert (answer.status, "not all values tried" in answer.reason) == ("unknown", True)
    formula, claim = product_is(3, 14)
    assert not worth_enumerating(formula, [claim])
    with pytest.raises(ValueError, match="28 free bits cannot be enumerated"):
        enumerate_all(formula, [claim], Limits())


def product_again(formula):
    a, b = (formula.bits(formula.variable(n, 12)).zext(24) for n in "ab")
    return ((a * b) == 5).value
