"""The largest inductive part of a set of claims, and what becomes of it when something must hold or time is out."""

import pyrtl
import pytest

from verification.equivalence.formula import Formula
from verification.equivalence.inductive import Candidate, inductive
from verification.equivalence.netlist import read_block
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import SymbolicRun

LIMITS = Limits(time_s=20)


def counter() -> SymbolicRun:
    """Counts 0, 1, 2, 0 while `go` is 1; `twin` is the same; `other` counts to 3."""
    block = pyrtl.Block()
    with pyrtl.set_working_block(block, no_sanity_check=True):
        go = pyrtl.Input(1, "go")
        for name, last in (("count", 2), ("twin", 2), ("other", 3)):
            register = pyrtl.Register(2, name, reset_value=0)
            after = pyrtl.select(register == last, pyrtl.Const(0, 2), (register + 1)[:2])
            register.next <<= pyrtl.select(go, after, register)
    return SymbolicRun(read_block(block), Formula())


def claims(run: SymbolicRun, *texts: str, must: str = "") -> list[Candidate]:
    def term(text: str, cycle: int) -> int:
        left, operator, right = text.split()
        bits = run.unrolling.bits
        other = bits(right, cycle) if right.isalpha() else bits(left, cycle).constant(int(right))
        value = bits(left, cycle) == other if operator == "=" else bits(left, cycle) != other
        return int(value.value)

    return [Candidate(term(t, 0), term(t, 1), must=t == must) for t in texts]


def test_what_a_step_breaks_goes_and_what_leans_on_it() -> None:
    run = counter()
    texts = ("count != 3", "twin = count", "other != 3", "twin != 3", "other = count")
    found = inductive(run.formula, claims(run, *texts), (), LIMITS)
    assert found == [True, True, False, True, False]


def test_a_claim_needs_what_it_leans_on() -> None:
    """From any state a counter may come to 2, and twins that are not assumed equal may not stay so."""
    run = counter()
    assert inductive(run.formula, claims(run, "twin != 3"), (), LIMITS) == [True]
    assert inductive(run.formula, claims(run, "twin = count", "count != 2"), (), LIMITS) == [True, False]


def test_assumptions_hold_before_the_step() -> None:
    run = counter()
    (claim,) = claims(run, "other != 3")
    go = int((~run.unrolling.bits("go")).value)
    assert inductive(run.formula, [claim], (), LIMITS) == [False]
    assert inductive(run.formula, [claim], (go,), LIMITS) == [True]


@pytest.mark.parametrize("must", ["other != 3", "count != 2"])
def test_what_must_hold_and_does_not_takes_all_with_it(must: str) -> None:
    run = counter()
    assert inductive(run.formula, claims(run, "count != 3", must, must=must), (), LIMITS) == [False, False]


def test_nothing_is_claimed_when_the_time_is_out() -> None:
    formula = Formula()
    a, b = (formula.bits(formula.variable(name, 24)).zext(48) for name in "ab")
    hard = int(((a * b != 16_777_183 * 16_777_153) | (a == 1) | (b == 1)).value)
    assert inductive(formula, [Candidate(formula.constant(1, 1), hard)], (), Limits(time_s=0.2)) == [False]
