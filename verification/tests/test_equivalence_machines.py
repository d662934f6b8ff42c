"""Invariants, machines and stallable pipelines: proved when right, refuted from reset when not."""

from typing import Annotated

import pyrtl
import pytest

from hls.lower import lower
from hls.schedule import schedule
from hls.technology import load as load_technology
from hls.trace import SInt, UInt, Value, trace
from verification.equivalence.bits import choose
from verification.equivalence.counterexample import load, replay
from verification.equivalence.exhaustive import exhaust
from verification.equivalence.machines import prove_machines_equal
from verification.equivalence.pipeline import flow_problem, prove_pipeline, prove_stalls
from verification.equivalence.sequential import Environment, Invariant, check_bounded, prove_by_induction
from verification.equivalence.solver import Limits
from verification.equivalence.synthesis import synthesized
from verification.equivalence.verdict import Kind


def in_new_block(build, *args):
    block = pyrtl.Block()
    with pyrtl.set_working_block(block, no_sanity_check=True):
        build(*args)
    return block


def assert_refuted(verdict, block):
    assert verdict.kind is Kind.REFUTED, verdict
    assert verdict.counterexample is not None
    found = load(verdict.counterexample)
    assert replay(block, found)
    return found


def counter(last=9, wraps_to=0):
    """Counts 0 .. last in a 4-bit register."""
    step = pyrtl.Input(1, "step")
    count = pyrtl.Register(4, "count", reset_value=0)
    following = pyrtl.select(count == last, pyrtl.Const(wraps_to, 4), (count + 1)[:4])
    count.next <<= pyrtl.select(step, following, count)
    out = pyrtl.Output(4, "out")
    out <<= count


BELOW_TEN = Invariant("the count stays below ten", lambda w: w[0]["count"] < 10)
MOVES_BY_ONE = Invariant(
    "the count moves by one or wraps",
    lambda w: choose(
        w[0]["step"], (w[1]["count"] == w[0]["count"] + 1) | (w[1]["count"] == 0), w[1]["count"] == w[0]["count"]
    ),
    window_cycles=2,
)


def test_an_invariant_of_a_counter(tmp_path):
    right, wrong = in_new_block(counter), in_new_block(counter, 10)
    assert prove_by_induction(right, [BELOW_TEN, MOVES_BY_ONE]).kind is Kind.PROVED
    verdict = check_bounded(right, [BELOW_TEN, MOVES_BY_ONE], 12)
    assert (verdict.kind, verdict.count) == (Kind.BOUNDED, 12)
    found = assert_refuted(check_bounded(wrong, [BELOW_TEN], 12, folder=tmp_path), wrong)
    assert [values["step"] for values in found.inputs[:-1]] == [1] * 10
    assert found.observations[0].cycle == 10


def test_a_fault_beyond_the_bound_is_not_claimed_absent():
    wrong = in_new_block(counter, 10)
    verdict = check_bounded(wrong, [BELOW_TEN], 10)
    assert (verdict.kind, verdict.count) == (Kind.BOUNDED, 10)
    assert prove_by_induction(wrong, [BELOW_TEN]).kind is Kind.UNKNOWN


def test_a_wrong_reset_value_breaks_the_base(tmp_path):
    def reset_to_twelve():
        counter()
        pyrtl.working_block().wirevector_by_name["count"].reset_value = 12

    wrong = in_new_block(reset_to_twelve)
    found = assert_refuted(prove_by_induction(wrong, [BELOW_TEN], folder=tmp_path), wrong)
    assert found.observations[0].observed == 12


def toggles():
    """Two registers that are always equal; that one is even is not inductive alone."""
    x = pyrtl.Input(1, "x")
    first, second = pyrtl.Register(3, "first", reset_value=0), pyrtl.Register(3, "second", reset_value=0)
    first.next <<= pyrtl.select(x, (second + 2)[:3], first)
    second.next <<= pyrtl.select(x, (first + 2)[:3], second)
    out = pyrtl.Output(3, "out")
    out <<= first


def test_an_invariant_that_needs_another():
    block = in_new_block(toggles)
    even = Invariant("even", lambda w: w[0]["first"][0] == 0)
    helper = Invariant("also even", lambda w: w[0]["second"][0] == 0)
    alone = prove_by_induction(block, [even])
    assert (alone.kind, "not shown 1-inductive" in alone.detail) == (Kind.UNKNOWN, True)
    assert prove_by_induction(block, [even, helper]).kind is Kind.PROVED


def delayed():
    x = pyrtl.Input(4, "x")
    first, second = pyrtl.Register(4, "first", reset_value=0), pyrtl.Register(4, "second", reset_value=0)
    first.next <<= x
    second.next <<= first
    out = pyrtl.Output(1, "out")
    out <<= second == 0


def test_k_induction_needs_its_k():
    """out depends on the input two cycles ago, so three good cycles decide the next, one does not."""
    block = in_new_block(delayed)
    zero = Invariant("nothing comes out", lambda w: w[0]["out"])
    quiet = Environment(assume=lambda s: s["x"] == 0)
    assert prove_by_induction(block, [zero], k=1, environment=quiet).kind is Kind.UNKNOWN
    assert prove_by_induction(block, [zero], k=2, environment=quiet).kind is Kind.PROVED
    assert prove_by_induction(block, [zero], k=2).kind is Kind.UNKNOWN
    assert prove_by_induction(block, [zero], k=3).kind is Kind.REFUTED
    assert prove_by_induction(block, [zero], k=2, environment=Environment(fixed={"x": 0})).kind is Kind.PROVED


def test_an_environment_that_no_run_satisfies_proves_nothing():
    block = in_new_block(delayed)
    never = Environment(assume=lambda s: s["x"] < 0)
    verdict = check_bounded(block, [Invariant("anything", lambda w: w[0]["x"] == 1)], 3, environment=never)
    assert (verdict.kind, "claim would be empty" in verdict.detail) == (Kind.UNKNOWN, True)


@pytest.mark.parametrize(("invariants", "depth"), [([], 3), ([BELOW_TEN], 0), ([MOVES_BY_ONE], 1)])
def test_a_bounded_check_of_nothing_is_refused(invariants, depth):
    with pytest.raises(ValueError, match="at least 1"):
        check_bounded(in_new_block(counter), invariants, depth)


def test_a_register_without_reset_value_starts_open(tmp_path):
    def circuit():
        register = pyrtl.Register(4, "register")
        register.next <<= register
        out = pyrtl.Output(4, "out")
        out <<= register

    block = in_new_block(circuit)
    found = assert_refuted(
        check_bounded(block, [Invariant("zero", lambda w: w[0]["out"] == 0)], 2, folder=tmp_path), block
    )
    assert found.registers["register"] != 0


def ring(tokens):
    """One-hot and binary counters of the same sequence, `tokens` states long."""
    hot = [pyrtl.Register(1, f"hot{i}", reset_value=int(i == 0)) for i in range(tokens)]
    for i, register in enumerate(hot):
        register.next <<= hot[i - 1]
    out = pyrtl.Output(1, "out")
    out <<= hot[0]


def test_machines_that_agree_and_that_differ_late(tmp_path):
    right, late = in_new_block(ring, 3), in_new_block(ring, 5)
    assert prove_machines_equal(in_new_block(ring, 3), right).kind is Kind.PROVED
    found = assert_refuted(prove_machines_equal(late, right, folder=tmp_path), late)
    assert found.observations[0].cycle == 3
    assert prove_machines_equal(late, right, depth_cycles=3).kind is Kind.UNKNOWN


def test_machines_are_compared_as_the_protocol_sees_them():
    def circuit(mask):
        valid, data = pyrtl.Input(1, "valid"), pyrtl.Input(4, "data")
        held, flag = pyrtl.Register(4, "held", reset_value=0), pyrtl.Register(1, "flag", reset_value=0)
        flag.next <<= valid
        held.next <<= pyrtl.select(valid, data, pyrtl.Const(mask, 4))
        out, out_valid = pyrtl.Output(4, "out"), pyrtl.Output(1, "out_valid")
        out <<= held
        out_valid <<= flag

    a, b = in_new_block(circuit, 0), in_new_block(circuit, 15)
    assert prove_machines_equal(a, b).kind is Kind.REFUTED

    def where_valid(ours, theirs):
        return (ours["out_valid"] == theirs["out_valid"]) & (~ours["out_valid"] | (ours["out"] == theirs["out"]))

    verdict = prove_machines_equal(a, b, compare=where_valid)
    assert verdict.kind is Kind.UNKNOWN
    assert "not shown by induction" in verdict.detail


def test_pyrtl_synthesize_forgets_reset_values(tmp_path):
    """A fault of PyRTL 1.0.3; `synthesized` repairs it."""

    def circuit():
        held = pyrtl.Register(4, "held", reset_value=5)
        held.next <<= held
        out = pyrtl.Output(4, "out")
        out <<= held

    block = in_new_block(circuit)
    forgetful = pyrtl.synthesize(update_working_block=False, block=block)
    for wire in forgetful.wirevector_subset(pyrtl.Register):
        assert wire.reset_value is None
        wire.reset_value = 0
    assert_refuted(prove_machines_equal(forgetful, block, folder=tmp_path), forgetful)
    repaired = prove_machines_equal(synthesized(block)[0], block)
    assert repaired.detail.startswith("no difference in 8 cycles")


def pipeline(fault=""):
    """(a + b) * 3 in two stages under ready/valid with a global stall, as `hls.lower` makes them."""
    a, b = pyrtl.Input(6, "a"), pyrtl.Input(6, "b")
    in_valid, out_ready = pyrtl.Input(1, "in_valid"), pyrtl.Input(1, "out_ready")
    in_ready, out_valid = pyrtl.Output(1, "in_ready"), pyrtl.Output(1, "out_valid")
    first_valid = pyrtl.Register(1, "valid_s1", reset_value=int(fault == "reset"))
    last_valid = pyrtl.Register(1, "valid_s2", reset_value=0)
    total, result = pyrtl.Register(7, "total", reset_value=0), pyrtl.Register(9, "result", reset_value=0)
    advance = out_ready if fault == "handshake" else out_ready | ~last_valid
    moves = pyrtl.Const(1, 1) if fault == "enable" else advance
    total.next <<= pyrtl.select(moves, a + b, total)
    tripled = (total + pyrtl.concat(total, pyrtl.Const(0, 1)))[:9]
    result.next <<= pyrtl.select(advance, tripled ^ 1 if fault == "function" else tripled, result)
    first_valid.next <<= pyrtl.select(advance, in_valid, first_valid)
    last_valid.next <<= pyrtl.select(advance, first_valid, last_valid)
    in_ready <<= advance
    out_valid <<= last_valid
    out = pyrtl.Output(9, "out")
    out <<= result


def three_times(operands):
    total = operands["a"].zext(9) + operands["b"].zext(9)
    return {"out": total + total + total}


def test_a_stallable_pipeline():
    block = in_new_block(pipeline)
    assert prove_pipeline(block, three_times, 2).kind is Kind.PROVED
    assert exhaust(flow_problem(block, three_times, 2)).detail == "all 2^13 cases simulated"
    gates, _ = synthesized(block)
    assert prove_pipeline(gates, three_times, 2).kind is Kind.PROVED


@pytest.mark.parametrize("fault", ["function", "handshake", "enable", "reset"])
def test_a_fault_in_a_stallable_pipeline(fault, tmp_path):
    block = in_new_block(pipeline, fault)
    verdict = prove_pipeline(block, three_times, 2, folder=tmp_path, limits=Limits(10))
    assert_refuted(verdict, block)
    assert prove_stalls(block, 2).kind is (Kind.PROVED if fault == "function" else Kind.REFUTED)


@pytest.mark.parametrize("latency", [1, 3])
def test_a_wrong_latency_is_refuted(latency, tmp_path):
    block = in_new_block(pipeline)
    assert_refuted(prove_pipeline(block, three_times, latency, folder=tmp_path), block)


def test_a_lowered_schedule():
    """What `hls.lower` makes is such a pipeline."""

    def product_and_sum(
        a: Annotated[Value, SInt(6)], b: Annotated[Value, SInt(6)], c: Annotated[Value, UInt(5)]
    ) -> Annotated[Value, SInt(8)]:
        return (a * b + c).shift_right(3, "half_up").saturate(SInt(8))

    def specification(operands):
        product = operands["a"].sext(14) * operands["b"].sext(14)
        rounded = product + operands["c"].zext(14) + 4
        shifted = rounded[3:].sext(14)
        return {"out": choose(shifted.constant(127).signed_below(shifted), shifted.constant(127), shifted)[:8]}

    def unsaturated(operands):
        return {"out": (operands["a"].sext(14) * operands["b"].sext(14) + operands["c"].zext(14) + 4)[3:11]}

    plan = schedule(trace(product_and_sum), load_technology(), 700)
    netlist = lower(plan)
    assert netlist.latency_cycles > 1
    assert prove_pipeline(netlist.block, specification, netlist.latency_cycles).kind is Kind.PROVED
    assert prove_pipeline(netlist.block, unsaturated, netlist.latency_cycles).kind is Kind.REFUTED
    assert prove_pipeline(netlist.block, specification, netlist.latency_cycles - 1).kind is Kind.REFUTED
