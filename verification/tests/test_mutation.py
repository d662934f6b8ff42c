"""Mutants are complete, deterministic and real faults; survivors count unless proved equivalent."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pyrtl
import pytest

from verification.equivalence.exhaustive import exhaust
from verification.equivalence.machines import prove_machines_equal
from verification.equivalence.netlist import Memory, Net, Netlist, read_block, write_block
from verification.equivalence.pipeline import flow_problem, prove_pipeline, prove_stalls
from verification.equivalence.problem import Problem
from verification.equivalence.verdict import Kind
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.tests.random_netlists import build
from verification.tests.test_equivalence_machines import counter, in_new_block, pipeline, three_times

EVERY_OPERATOR = (
    "operator",
    "comparison",
    "constant",
    "table",
    "selection",
    "width",
    "concatenation",
    "mux arms",
    "mux select",
    "inversion",
    "enable",
    "stage removed",
    "stage added",
    "reset value",
    "memory write",
)


def everything():
    """A block in which every operator finds a place."""
    a, b, go = pyrtl.Input(4, "a"), pyrtl.Input(4, "b"), pyrtl.Input(1, "go")
    table = pyrtl.RomBlock(3, 2, [1, 5, 2, 7], "table", asynchronous=True)
    memory = pyrtl.MemBlock(4, 2, "memory", asynchronous=True)
    held = pyrtl.Register(4, "held", reset_value=2)
    piped = pyrtl.Register(5, "piped")
    held.next <<= pyrtl.select(go, (held + b)[1:5], held)
    piped.next <<= pyrtl.concat(~a[0], pyrtl.select(a < b, a, b ^ pyrtl.Const(5, 4)))
    memory[a[:2]] <<= pyrtl.MemBlock.EnabledWrite(b, go)
    out, other = pyrtl.Output(8, "out"), pyrtl.Output(5, "other")
    out <<= pyrtl.concat(memory[b[:2]], held)
    other <<= (piped + table[b[2:]])[:5]


def outputs_of(block, inputs):
    """Outputs cycle by cycle."""
    names = sorted(w.name for w in block.wirevector_subset(pyrtl.Output))
    simulation = pyrtl.FastSimulation(tracer=None, block=block)
    shown = []
    for values in inputs:
        simulation.step({k: v for k, v in values.items() if k in block.wirevector_by_name})
        shown.append([simulation.inspect(n) for n in names])
    return shown


def stimulus(netlist, cycles, seed):
    generator = random.Random(seed)
    return [{n: generator.getrandbits(netlist.widths[n]) for n in netlist.inputs} for _ in range(cycles)]


def test_every_operator_occurs_and_most_mutants_show():
    block = in_new_block(everything)
    inputs = stimulus(read_block(block), 200, 1)
    right = outputs_of(block, inputs)
    mutants = netlist_mutants(block)
    assert tuple(dict.fromkeys(m.operator for m in mutants)) == EVERY_OPERATOR
    shown = dict.fromkeys(EVERY_OPERATOR, 0)
    for mutant in mutants:
        shown[mutant.operator] += outputs_of(mutant.build(), inputs) != right
    assert all(shown.values()), shown
    assert sum(shown.values()) >= 0.95 * len(mutants)


def test_a_hidden_mutant_is_really_the_same():
    """What 200 random cycles do not show is not a missed fault of a mutation that does nothing at all."""
    block = in_new_block(everything)
    texts = {str(sorted(map(str, read_block(m.build()).nets))) for m in netlist_mutants(block)}
    assert str(sorted(map(str, read_block(block).nets))) in texts  # constants, tables, resets change no net
    for mutant in netlist_mutants(block):
        assert read_block(mutant.build()) != read_block(block), (mutant.operator, mutant.where, mutant.what)


def test_mutants_leave_the_block_and_the_working_block_alone():
    block = in_new_block(everything)
    before, working = read_block(block), pyrtl.working_block()
    wires = set(working.wirevector_set)
    for mutant in netlist_mutants(block):
        mutant.build()
    assert read_block(block) == before
    assert pyrtl.working_block() is working
    assert working.wirevector_set == wires


def test_mutants_of_random_netlists_can_be_built_and_simulated():
    for seed in range(12):
        netlist = build(random.Random(seed).randint, size=10)
        for mutant in netlist_mutants(netlist):
            outputs_of(mutant.build(), stimulus(netlist, 2, seed))


LISTING = """
import pyrtl
from verification.mutants.netlist import netlist_mutants
from verification.mutation import sample_mutants
from verification.tests.test_equivalence_machines import in_new_block
from verification.tests.test_mutation import everything
for m in sample_mutants(netlist_mutants(in_new_block(everything)), 20, 5):
    print(m.operator, m.where, m.what)
"""


def test_enumeration_and_sample_do_not_depend_on_the_process():
    """A block keeps its nets in a set, whose order changes with addresses and hash seeds."""
    listings = {
        subprocess.run(
            [sys.executable, "-c", LISTING],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(listings) == 1
    assert len(listings.pop().splitlines()) == 20


def test_a_sample_has_every_operator_and_depends_on_its_seed():
    mutants = netlist_mutants(in_new_block(everything))
    first, again, other = (sample_mutants(mutants, 30, seed) for seed in (1, 1, 2))
    names = [[(m.operator, m.where, m.what) for m in s] for s in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert {m.operator for m in first} == set(EVERY_OPERATOR)
    assert len({id(m) for m in first}) == 30
    assert sample_mutants(mutants, 10**6, 1) == mutants
    with pytest.raises(ValueError, match="at least 1"):
        sample_mutants(mutants, 0, 1)


@pytest.mark.parametrize(
    ("operator", "where", "what", "difference"),
    [
        ("comparison", "o", "< becomes <=", {(3, 3)}),
        ("operator", "o", "< becomes >", {(a, b) for a in range(4) for b in range(4) if a != b}),
        ("operator", "o", "< becomes =", {(a, b) for a in range(4) for b in range(4) if a <= b}),
    ],
)
def test_a_mutant_does_what_it_says(operator, where, what, difference):
    netlist = Netlist(
        widths={"a": 2, "b": 2, "o": 1},
        inputs=("a", "b"),
        outputs=("o",),
        constants={},
        registers={},
        nets=(Net("<", ("a", "b"), "o"),),
    )
    (mutant,) = [m for m in netlist_mutants(netlist) if (m.operator, m.where, m.what) == (operator, where, what)]
    faulty, right = mutant.build(), write_block(netlist)
    found = {
        (a, b)
        for a in range(4)
        for b in range(4)
        if outputs_of(faulty, [{"a": a, "b": b}]) != outputs_of(right, [{"a": a, "b": b}])
    }
    assert found == ({(a, a) for a in range(4)} if operator == "comparison" else difference)


def flow_is_wrong(block):
    return not exhaust(flow_problem(block, three_times, 2)).passes


def stalls_are_wrong(block):
    return not prove_stalls(block, 2).passes


def test_kill_rate_of_a_pipeline():
    block = in_new_block(pipeline)
    mutants = netlist_mutants(block)
    report = kill_rate(block, mutants, [Detector("flow", flow_is_wrong), Detector("stalls", stalls_are_wrong)])
    assert report.rate == 1
    assert report.verdict().kind is Kind.TESTED
    assert report.verdict().count == len(mutants)
    total = report.rows()["all"]
    assert total["mutants"] == len(mutants) == total["flow"] + total["stalls"]
    assert total["stalls"] > 0
    assert report.markdown().count("\n") == len(report.rows()) + 2


def test_a_blind_check_leaves_survivors_that_count():
    block = in_new_block(pipeline)
    mutants = sample_mutants(netlist_mutants(block), 14, 3)
    report = kill_rate(block, mutants, [Detector("blind", lambda b: False)])
    assert report.rate < 0.2
    verdict = report.verdict()
    assert verdict.kind is Kind.REFUTED
    assert "alive: " in verdict.detail


def test_a_mutant_of_the_reset_value_alone_is_not_equivalent():
    """Every step is the same from any common state; only the first state differs."""
    block = in_new_block(counter)
    resets = [m for m in netlist_mutants(block) if m.operator == "reset value"]
    report = kill_rate(block, resets, [Detector("blind", lambda b: False)])
    assert len(report.survivors) == len(resets) == 4


def redundant():
    """The comparison is always true and one arm is never chosen: some mutants change nothing."""
    a = pyrtl.Input(3, "a")
    small = pyrtl.concat(pyrtl.Const(0, 1), a) < pyrtl.Const(8, 4)
    out = pyrtl.Output(3, "out")
    out <<= pyrtl.select(small, a, ~a)


def test_equivalent_mutants_are_proved_so_and_the_others_live():
    block = in_new_block(redundant)
    mutants = [m for m in netlist_mutants(block) if m.operator in ("operator", "mux select", "inversion")]
    report = kill_rate(block, mutants, [Detector("blind", lambda b: False)])
    for fate in report.fates:
        really = prove_machines_equal(fate.mutant.build(), block).kind is Kind.PROVED
        assert fate.equivalent is really
    assert 0 < report.rate < 1


def test_a_mutant_that_meets_the_specification_is_equivalent():
    """A payload register resets to anything: the machines differ, no specification does."""

    def prover(block):
        return prove_pipeline(block, three_times, 2)

    block = in_new_block(pipeline)
    netlist = read_block(block)
    faulty = Netlist(**{**vars_of(netlist), "registers": {**netlist.registers, "total": 5}})
    mutants = [m for m in netlist_mutants(faulty) if m.operator == "inversion"][:1]
    same = type(mutants[0])("reset value", "total", "bits flipped", lambda: write_block(faulty))
    report = kill_rate(block, [*mutants, same], [Detector("flow", flow_is_wrong)], prover=prover)
    assert [f.equivalent for f in report.fates] == [False, True]
    assert report.fates[1].note == "meets the specification"


def vars_of(netlist):
    return {name: getattr(netlist, name) for name in netlist.__dataclass_fields__}


def test_a_detector_may_assert_but_not_crash():
    def asserting(block):
        assert outputs_of(block, [{"a": 3}]) == [[3]]
        return False

    def crashing(block):
        if read_block(block) != original:
            raise RuntimeError("a fault of the check itself")
        return False

    block = in_new_block(redundant)
    original = read_block(block)
    mutants = netlist_mutants(block)
    assert any(f.killed_by == "asserting" for f in kill_rate(block, mutants, [Detector("asserting", asserting)]).fates)
    with pytest.raises(RuntimeError, match="fault of the check"):
        kill_rate(block, mutants, [Detector("crashing", crashing)])


def test_meaningless_rates_are_refused():
    block = in_new_block(redundant)
    mutants = netlist_mutants(block)
    with pytest.raises(ValueError, match="fails on the block without any fault"):
        kill_rate(block, mutants, [Detector("always", lambda b: True)])
    with pytest.raises(ValueError, match="0 mutants"):
        kill_rate(block, [], [Detector("never", lambda b: False)])
    with pytest.raises(ValueError, match="0 detectors"):
        kill_rate(block, mutants, [])


def test_memory_mutants():
    def circuit():
        write, data = pyrtl.Input(1, "write"), pyrtl.Input(2, "data")
        memory = pyrtl.MemBlock(2, 1, "memory", asynchronous=True)
        memory[pyrtl.Const(0, 1)] <<= pyrtl.MemBlock.EnabledWrite(data, write)
        out = pyrtl.Output(2, "out")
        out <<= memory[pyrtl.Const(0, 1)]

    block = in_new_block(circuit)
    assert read_block(block).memories == {"memory": Memory(1, 2)}
    inputs = [{"write": w, "data": d} for w, d in ((1, 3), (0, 1), (0, 2), (1, 2), (0, 0))]
    right = outputs_of(block, inputs)
    writes = [m for m in netlist_mutants(block) if m.operator == "memory write"]
    assert [m.what for m in writes] == ["never writes", "always writes"]
    assert all(outputs_of(m.build(), inputs) != right for m in writes)


def test_a_problem_detector_finds_what_simulation_of_one_case_does_not():
    """Ordinary use: the exhaustive check is the detector."""
    block = in_new_block(redundant)

    def wrong(faulty):
        return not exhaust(Problem("identity", faulty, lambda o: {"out": o["a"]})).passes

    report = kill_rate(block, netlist_mutants(block), [Detector("exhaustive", wrong)])
    assert report.rate == 1
    assert report.rows()["all"]["equivalent"] > 0
