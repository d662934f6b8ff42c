"""Every kind of proof: what is right is PROVED, a planted fault is REFUTED by a run that replays."""

import json
import os
import signal
import time

import pyrtl
import pytest

from verification.equivalence import solver
from verification.equivalence.bits import choose, concatenate
from verification.equivalence.counterexample import load, replay
from verification.equivalence.equality import prove_equal
from verification.equivalence.exhaustive import exhaust, sample
from verification.equivalence.function import prove
from verification.equivalence.netlist import NetlistError
from verification.equivalence.problem import IntegerSpecification, Problem
from verification.equivalence.solver import Limits, Query, solve
from verification.equivalence.synthesis import prove_synthesized, synthesized
from verification.equivalence.verdict import Kind, Verdict, bounded, proved, refuted, sampled, unknown, weakest


def in_new_block(build, *args):
    block = pyrtl.Block()
    with pyrtl.set_working_block(block, no_sanity_check=True):
        build(*args)
    return block


def assert_refuted(verdict, block):
    assert verdict.kind is Kind.REFUTED, verdict
    assert not verdict.passes
    assert verdict.counterexample is not None
    found = load(verdict.counterexample)
    assert replay(block, found)
    return found


def mixed(fault=""):
    """A register, a table and a memory around an adder."""
    a, b, write = pyrtl.Input(8, "a"), pyrtl.Input(8, "b"), pyrtl.Input(1, "write")
    state = pyrtl.Register(8, "state", reset_value=3)
    memory = pyrtl.MemBlock(4, 3, "memory", asynchronous=True)
    table = pyrtl.RomBlock(4, 3, [1, 7, 2, 9, 15 if fault == "table" else 14, 0, 3, 8], "table", asynchronous=True)
    state.next <<= pyrtl.select(write, b, state + (2 if fault == "register" else 1))
    memory[a[:3]] <<= pyrtl.MemBlock.EnabledWrite(b[:4], ~write if fault == "memory" else write)
    out = pyrtl.Output(9, "out")
    out <<= (a + state if fault != "operator" else a - state) ^ pyrtl.concat(memory[b[:3]], table[a[1:4]])


@pytest.mark.parametrize("fault", ["register", "memory", "operator", "table"])
def test_equal_blocks(fault, tmp_path):
    right, wrong = in_new_block(mixed), in_new_block(mixed, fault)
    assert prove_equal(in_new_block(mixed), right).kind is Kind.PROVED
    assert_refuted(prove_equal(wrong, right, folder=tmp_path), wrong)


def test_blocks_of_different_interface_or_state_are_refused():
    def renamed():
        register = pyrtl.Register(8, "stage")
        register.next <<= pyrtl.Input(8, "a")
        out = pyrtl.Output(8, "out")
        out <<= register

    def named():
        register = pyrtl.Register(8, "state")
        register.next <<= pyrtl.Input(8, "a")
        out = pyrtl.Output(8, "out")
        out <<= register

    with pytest.raises(NetlistError, match="differ in inputs"):
        prove_equal(in_new_block(named), in_new_block(mixed))
    with pytest.raises(NetlistError, match=r"without a counterpart: \['stage', 'state'\]|counterpart"):
        prove_equal(in_new_block(renamed), in_new_block(named))
    assert (
        prove_equal(in_new_block(renamed), in_new_block(named), correspondence={"state": ("stage",)}).kind
        is Kind.PROVED
    )


def dot(lanes, width, fault=""):
    """A pipelined, globally stallable dot product."""
    left = [pyrtl.Input(width, f"x{i}") for i in range(lanes)]
    right = [pyrtl.Input(width, f"y{i}") for i in range(lanes)]
    ready = pyrtl.Input(1, "ready")

    def stage(value, name):
        register = pyrtl.Register(len(value), name)
        register.next <<= pyrtl.select(ready, value, register)
        return register

    terms = [stage(a * b, f"product{i}") for i, (a, b) in enumerate(zip(left, right, strict=True))]
    level = 0
    while len(terms) > 1:
        sums = [terms[i] + terms[i + 1] for i in range(0, len(terms), 2)]
        if fault == "carry" and level == 1:
            sums[0] = pyrtl.concat(pyrtl.Const(0, 1), sums[0][:-1])
        terms = [stage(s, f"sum{level}_{i}") for i, s in enumerate(sums)]
        level += 1
    out = pyrtl.Output(len(terms[0]), "out")
    out <<= terms[0]


def dot_specification(lanes, width, cutting):
    def cut(operands, name, value, cycle):
        return operands.cut(name, value, cycle=cycle) if cutting else value

    def specification(operands):
        terms = [
            cut(operands, f"product{i}", operands[f"x{i}"].zext(2 * width) * operands[f"y{i}"].zext(2 * width), 1)
            for i in range(lanes)
        ]
        level = 0
        while len(terms) > 1:
            wide = [t.zext(t.width + 1) for t in terms]
            terms = [
                cut(operands, f"sum{level}_{i // 2}", wide[i + 1] + wide[i], level + 2) for i in range(0, len(wide), 2)
            ]
            level += 1
        return {("out", level + 1): terms[0]}

    return specification


@pytest.mark.parametrize("cutting", [True, False])
def test_pipeline_against_a_specification(cutting, tmp_path):
    specification = dot_specification(8, 12, cutting)
    right = in_new_block(dot, 8, 12)
    assert prove(Problem("dot", right, specification, fixed={"ready": 1})).kind is Kind.PROVED
    wrong = in_new_block(dot, 8, 12, "carry")
    assert_refuted(prove(Problem("dot", wrong, specification, fixed={"ready": 1}), folder=tmp_path), wrong)


def test_a_pipeline_that_may_stall_is_not_a_function_of_its_input(tmp_path):
    block = in_new_block(dot, 4, 4)
    assert_refuted(prove(Problem("dot", block, dot_specification(4, 4, False)), folder=tmp_path), block)


def rippled(a, b):
    """The sum, full adder by full adder."""
    carry, bits = a.constant(0, 1), []
    for i in range(a.width):
        bits.append(a[i] ^ b[i] ^ carry)
        carry = (a[i] & b[i]) | (carry & (a[i] | b[i]))
    return concatenate(*bits[::-1])


def test_cut_points_prove_what_the_whole_does_not():
    """A product of sums: a matter of the sums node by node, out of the solver's reach as a whole."""

    def circuit():
        a, b, c = (pyrtl.Input(14, n) for n in "abc")
        total = pyrtl.WireVector(15, "total")
        total <<= a + b
        square = pyrtl.WireVector(30, "square")
        square <<= total * total
        out = pyrtl.Output(60, "out")
        out <<= square * (square ^ pyrtl.concat(pyrtl.Const(0, 16), c))

    def specification(cutting):
        def of(operands):
            total = rippled(operands["a"].zext(15), operands["b"].zext(15))
            total = (operands.cut("total", total) if cutting else total).zext(30)
            square = operands.cut("square", total * total) if cutting else total * total
            return {"out": square.zext(60) * (square ^ operands["c"].zext(30)).zext(60)}

        return of

    block = in_new_block(circuit)
    by_node = prove(Problem("square", block, specification(True)), limits=Limits(10))
    assert by_node.kind is Kind.PROVED
    whole = prove(Problem("square", block, specification(False)), limits=Limits(1))
    assert whole.kind is Kind.UNKNOWN


def test_a_cut_point_that_forgets_too_much_falls_back_to_the_whole():
    def circuit():
        a = pyrtl.Input(4, "a")
        doubled = pyrtl.WireVector(5, "doubled")
        doubled <<= pyrtl.concat(a, pyrtl.Const(0, 1))
        out = pyrtl.Output(1, "out")
        out <<= doubled[0]

    def specification(fact):
        def of(operands):
            doubled = operands.cut("doubled", concatenate(operands["a"], operands.constant(0, 1)), fact=fact)
            return {"out": doubled[0] & doubled.constant(0, 1)}

        return of

    block = in_new_block(circuit)
    weak = prove(Problem("even", block, specification(None)))
    assert (weak.kind, "too weak" in weak.detail) == (Kind.PROVED, True)
    strong = prove(Problem("even", block, specification(lambda v: ~v[0])))
    assert (strong.kind, "too weak" in strong.detail) == (Kind.PROVED, False)
    wrong_fact = prove(Problem("even", block, specification(lambda v: v[0])))
    assert wrong_fact.kind is Kind.UNKNOWN


def test_a_planted_fault_behind_cut_points_is_refuted_by_simulation_alone(tmp_path):
    """The whole proof has no time at all; random simulation still finds the wrong product."""

    def circuit(fault):
        a, b, c = (pyrtl.Input(12, n) for n in "abc")
        product = pyrtl.WireVector(24, "product")
        product <<= a * b
        out = pyrtl.Output(36, "out")
        out <<= (product ^ 1 if fault else product) * c

    def specification(operands):
        product = operands.cut("product", operands["a"].zext(24) * operands["b"].zext(24))
        return {"out": product.zext(36) * operands["c"].zext(36)}

    for fault in (False, True):
        block = in_new_block(circuit, fault)
        verdict = prove(Problem("product", block, specification), limits=Limits(10), folder=tmp_path)
        if fault:
            assert_refuted(verdict, block)
        else:
            assert verdict.kind is Kind.PROVED


def accumulator(fault=False):
    enable, x = pyrtl.Input(1, "enable"), pyrtl.Input(8, "x")
    held = pyrtl.Register(12, "held")
    total = held + x
    saturated = pyrtl.select(total[12], pyrtl.Const(0xFFE if fault else 0xFFF, 12), total[:12])
    held.next <<= pyrtl.select(enable, saturated, held)
    out = pyrtl.Output(12, "out")
    out <<= held


def accumulator_specification(operands):
    total = operands["held"].zext(13) + operands["x"].zext(13)
    saturated = choose(total > 0xFFF, operands.constant(0xFFF, 12), total[:12])
    return {("held", 1): choose(operands["enable"], saturated, operands["held"]), "out": operands["held"]}


def test_a_register_against_a_specification(tmp_path):
    right, wrong = in_new_block(accumulator), in_new_block(accumulator, True)
    assert prove(Problem("saturation", right, accumulator_specification)).kind is Kind.PROVED
    assert_refuted(prove(Problem("saturation", wrong, accumulator_specification), folder=tmp_path), wrong)
    assert exhaust(Problem("saturation", right, accumulator_specification)).kind is Kind.PROVED
    assert_refuted(exhaust(Problem("saturation", wrong, accumulator_specification), folder=tmp_path), wrong)


def test_an_assumption_excludes_cases_but_not_all():
    wrong = in_new_block(accumulator, True)
    small = Problem("small", wrong, accumulator_specification, assume=lambda o: o["held"] < 0xF00)
    assert prove(small).kind is Kind.PROVED
    assert exhaust(small).kind is Kind.PROVED
    empty = Problem("empty", wrong, accumulator_specification, assume=lambda o: o["held"] < 0)
    verdict = prove(empty)
    assert (verdict.kind, "claim would be empty" in verdict.detail) == (Kind.UNKNOWN, True)
    assert not exhaust(empty).passes
    assert not sample(empty, 64, 1).passes


def multiplier(fault=False):
    a, b, ready = pyrtl.Input(8, "a"), pyrtl.Input(8, "b"), pyrtl.Input(1, "ready")
    held = pyrtl.Register(16, "held")
    product = a * b
    if fault:
        product = product ^ ((a == 201) & (b == 77))
    held.next <<= pyrtl.select(ready, product, held)
    out = pyrtl.Output(16, "out")
    out <<= held


MULTIPLY = IntegerSpecification(lambda v: {("out", 1): v["a"] * v["b"]}, ("a", "b"), (("out", 1),))


@pytest.mark.parametrize("gates", [False, True])
def test_a_multiplier_exhaustively(gates, tmp_path):
    right, wrong = in_new_block(multiplier), in_new_block(multiplier, True)
    if gates:
        right, wrong = synthesized(right)[0], synthesized(wrong)[0]
    verdict = exhaust(Problem("multiplier", right, MULTIPLY, fixed={"ready": 1}))
    assert (verdict.kind, verdict.detail) == (Kind.PROVED, "all 2^16 cases simulated")
    refutation = exhaust(Problem("multiplier", wrong, MULTIPLY, fixed={"ready": 1}), folder=tmp_path)
    assert assert_refuted(refutation, wrong).inputs[0] == {"a": 201, "b": 77, "ready": 1}


def test_random_cases(tmp_path):
    right, wrong = in_new_block(accumulator), in_new_block(accumulator, True)
    verdict = sample(Problem("saturation", right, accumulator_specification), 1000, 7)
    assert (verdict.kind, verdict.count) == (Kind.TESTED, 1024)
    assert_refuted(sample(Problem("saturation", wrong, accumulator_specification), 4096, 7, folder=tmp_path), wrong)


def test_too_many_cases_are_refused_with_their_names():
    with pytest.raises(NetlistError, match=r"33 free bits \(.*x@0"):
        exhaust(
            Problem(
                "wide",
                in_new_block(wide_adder),
                lambda o: {"out": o["x"].zext(18) + o["y"].zext(18)},
            )
        )


def wide_adder():
    x, y = pyrtl.Input(17, "x"), pyrtl.Input(16, "y")
    out = pyrtl.Output(18, "out")
    out <<= x + y


def test_integers_are_for_simulation_only():
    with pytest.raises(NetlistError, match="use exhaust"):
        prove(Problem("multiplier", in_new_block(multiplier), MULTIPLY))


def test_after_synthesis():
    for build in (accumulator, mixed_without_subtraction):
        assert prove_synthesized(in_new_block(build)).kind is Kind.PROVED


def mixed_without_subtraction():
    mixed()


def test_synthesis_keeps_reset_values():
    block = in_new_block(mixed)
    gates, correspondence = synthesized(block)
    held = [gates.wirevector_by_name[name].reset_value for name in correspondence["state"]]
    assert held == [1, 1, 0, 0, 0, 0, 0, 0]


def test_synthesize_computes_the_top_bit_of_a_subtraction_wrongly(tmp_path):
    """A fault of PyRTL 1.0.3: if this fails, the workarounds for signed comparison may go."""

    def circuit():
        out = pyrtl.Output(5, "difference")
        out <<= pyrtl.Input(4, "a") - pyrtl.Input(4, "b")

    block = in_new_block(circuit)
    verdict = prove_synthesized(block, folder=tmp_path)
    (seen,) = assert_refuted(verdict, synthesized(block)[0]).observations
    assert seen.expected is not None
    assert seen.observed ^ seen.expected == 0b10000


def test_a_counterexample_file_is_readable_and_checked(tmp_path):
    wrong = in_new_block(accumulator, True)
    verdict = prove(Problem("a claim / with odd: characters", wrong, accumulator_specification), folder=tmp_path)
    path = verdict.counterexample
    assert path is not None
    assert path.name == "a_claim_with_odd_characters.counterexample.json"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert not replay(in_new_block(accumulator), load(path))
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "format": "something"}))
    with pytest.raises(ValueError, match="is not a counterexample"):
        load(path)


HARD = """(set-logic QF_ABV)(declare-const a (_ BitVec 48))(declare-const b (_ BitVec 48))
(assert (= (bvmul a b) #x0fedcba98765))(assert (bvugt a #x000000000001))(assert (bvugt b #x000000000001))
(assert (bvult a #x000001000000))(assert (bvult b #x000001000000))"""
EASY = "(set-logic QF_ABV)(declare-const a (_ BitVec 8))(assert (= (bvadd a #x01) #x07))"


def test_out_of_time_is_unknown_and_the_next_query_still_answered():
    started = time.monotonic()
    hard, easy = solve([Query(HARD, ()), Query(EASY, ("a",))], Limits(time_s=0.2))
    assert (hard.status, "0.2 s" in hard.reason) == ("unknown", True)
    assert (easy.status, easy.model) == ("sat", {"a": 6})
    assert time.monotonic() - started < 10


def test_a_killed_solver_is_unknown_and_the_next_query_still_answered(monkeypatch):
    original = solver.Worker.ask
    victims: list[object] = []

    def kill_first(worker, query, limits):
        if not victims:
            victims.append(worker)
            os.kill(worker._process.pid, signal.SIGKILL)
        return original(worker, query, limits)

    monkeypatch.setattr(solver.Worker, "ask", kill_first)
    killed, easy = solve([Query(EASY, ("a",)), Query(EASY, ("a",))], Limits(5))
    assert (killed.status, killed.reason) == ("unknown", "the solver process was killed by signal 9")
    assert easy.status == "sat"


def test_a_solver_that_does_not_stop_is_killed(monkeypatch, tmp_path):
    deaf = tmp_path / "deaf.py"
    deaf.write_text("import sys, time\nsys.stdin.readline()\ntime.sleep(60)\n")
    monkeypatch.setattr(solver, "_WORKER", deaf)
    monkeypatch.setattr(solver, "_GRACE_S", 0.2)
    started = time.monotonic()
    (answer,) = solve([Query(EASY, ())], Limits(0.2))
    assert (answer.status, "killed after" in answer.reason) == ("unknown", True)
    assert time.monotonic() - started < 5


def test_a_script_that_does_not_parse_is_unknown():
    (answer,) = solve([Query("(assert (nonsense))", ())], Limits(5))
    assert answer.status == "unknown"
    assert answer.reason


def test_a_proof_out_of_time_is_unknown():
    def circuit():
        a, b, c = (pyrtl.Input(16, n) for n in "abc")
        out = pyrtl.Output(48, "out")
        out <<= (a * b) * pyrtl.concat(pyrtl.Const(0, 16), c)

    def specification(operands):
        a, b, c = (operands[n].zext(48) for n in "abc")
        return {"out": a * (b * c)}

    verdict = prove(Problem("associative", in_new_block(circuit), specification), limits=Limits(0.3))
    assert (verdict.kind, verdict.passes) == (Kind.UNKNOWN, False)
    assert "no answer within 0.3 s" in verdict.detail


@pytest.mark.parametrize("limits", [(0, 1000), (-1, 1000), (1, 10)])
def test_limits_that_allow_nothing_are_refused(limits):
    with pytest.raises(ValueError, match="at least 256 MiB"):
        Limits(*limits)


def test_verdicts():
    assert [v.passes for v in (proved(), bounded(3), sampled(5, ""), unknown("why"), refuted("how"))] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [str(v) for v in (proved(), bounded(3), sampled(5, ""))] == ["PROVED", "BOUNDED(3)", "TESTED(5)"]
    assert weakest([proved(), sampled(5, ""), bounded(3)]).kind is Kind.TESTED
    assert weakest([proved(), unknown("w"), sampled(5, "")]).kind is Kind.UNKNOWN
    assert weakest([proved(), unknown("w"), refuted("r")]).kind is Kind.REFUTED
    assert weakest([bounded(9), bounded(3)]).count == 3
    assert bounded(3).at_least(Kind.TESTED)
    assert not bounded(3).at_least(Kind.PROVED)
    assert not unknown("w").at_least(Kind.TESTED)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: sampled(0, ""),
        lambda: Verdict(Kind.BOUNDED),
        lambda: Verdict(Kind.PROVED, count=3),
        lambda: weakest([]),
        lambda: proved().at_least(Kind.UNKNOWN),
    ],
)
def test_verdicts_without_evidence_are_refused(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        wrong()


def test_a_verdict_has_no_truth_value():
    with pytest.raises(TypeError, match="no truth value"):
        bool(unknown("why"))
