"""Every engine computes what PyRTL's simulator computes, primitive by primitive and on random nets."""

import random

import numpy as np
import pyrtl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verification.equivalence.bits import Bits
from verification.equivalence.formula import Contents, Formula
from verification.equivalence.netlist import Net, Netlist, NetlistError, read_block, write_block
from verification.equivalence.sliced import Sliced
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, SymbolicRun, discharge
from verification.equivalence.unrolling import Sources, Unrolling
from verification.tests.random_netlists import COMBINATIONAL, PRIMITIVES, build, netlists

CYCLES = 3


def stimulus(netlist, generator):
    inputs = [{n: generator.getrandbits(netlist.widths[n]) for n in netlist.inputs} for _ in range(CYCLES)]
    state = {n: generator.getrandbits(netlist.widths[n]) for n in netlist.registers}
    ram = {
        name: {a: generator.getrandbits(m.data_bits) for a in range(1 << m.address_bits)}
        for name, m in netlist.memories.items()
        if m.contents is None
    }
    return inputs, state, ram


def simulated(netlist, inputs, state, ram):
    """Every non-constant wire in every cycle, by FastSimulation."""
    block = write_block(netlist)
    wires = [w for w in block.wirevector_set if not isinstance(w, pyrtl.Const)]
    tracer = pyrtl.SimulationTrace(wires_to_track=wires, block=block)
    memories = {n.op_param[1].name: n.op_param[1] for n in block.logic_subset("m@")}
    simulation = pyrtl.FastSimulation(
        register_value_map={block.wirevector_by_name[n]: v for n, v in state.items()},
        memory_value_map={memories[n]: dict(words) for n, words in ram.items()},
        tracer=tracer,
        block=block,
    )
    for values in inputs:
        simulation.step(values)
    return {(w.name, c): tracer.trace[w.name][c] for w in wires for c in range(CYCLES)}


def model_of(inputs, state, ram):
    return {
        **{f"in:{n}@{c}": v for c, values in enumerate(inputs) for n, v in values.items()},
        **{f"reg:{n}": v for n, v in state.items()},
        **{f"mem:{n}": Contents(0, words) for n, words in ram.items()},
    }


def assert_formula_agrees(netlist, seed):
    run_of = stimulus(netlist, random.Random(seed))
    shown = simulated(netlist, *run_of)
    formula = Formula()
    run = SymbolicRun(netlist, formula)
    terms = {key: run.unrolling.value(*key) for key in shown}
    values = formula.evaluate(list(terms.values()), model_of(*run_of))
    assert dict(zip(terms, values, strict=True)) == shown
    return run_of, shown, formula, terms


def assert_solver_agrees(netlist, seed):
    (inputs, state, ram), shown, formula, terms = assert_formula_agrees(netlist, seed)
    given_values = []
    for name, value in model_of(inputs, state, {}).items():
        node = next((i for i, n in enumerate(formula.nodes) if n.op == "variable" and n.params == (name,)), None)
        if node is not None:
            given_values.append((formula.bits(node) == value).value)
    for name, words in ram.items():
        memory = netlist.memories[name]
        array = formula.array(f"mem:{name}", memory.address_bits, memory.data_bits)
        for address, word in words.items():
            read = formula.select(array, formula.constant(address, memory.address_bits))
            given_values.append((formula.bits(read) == word).value)
    same = [(formula.bits(terms[key]) == value).value for key, value in shown.items()]
    claim = formula.constant(1, 1)
    for term in same:
        claim = formula.conjunction(claim, term, 1)
    flipped = formula.invert(same[0], 1)
    answers = discharge(
        formula,
        [Obligation("simulated", claim, tuple(given_values)), Obligation("wrong", flipped, tuple(given_values))],
        Limits(20),
    )
    assert [a.status for a in answers] == ["unsat", "sat"]


@pytest.mark.parametrize("op", PRIMITIVES)
def test_primitive_in_a_formula(op):
    @settings(max_examples=40, deadline=None)
    @given(netlists(size=3, focus=op), st.integers(0, 2**32))
    def check(netlist, seed):
        if op not in "@r":
            assert any(net.op == op for net in netlist.nets)
        assert_formula_agrees(netlist, seed)

    check()


@pytest.mark.parametrize("op", PRIMITIVES)
def test_primitive_in_the_solver(op):
    for seed in range(4):
        generator = random.Random(f"{op}{seed}")
        assert_solver_agrees(build(generator.randint, size=4, focus=op), seed)


@settings(max_examples=60, deadline=None)
@given(netlists(size=25), st.integers(0, 2**32))
def test_random_netlist_in_a_formula(netlist, seed):
    assert_formula_agrees(netlist, seed)


@pytest.mark.parametrize("op", [o for o in COMBINATIONAL if o != "m"])
def test_primitive_in_bit_slices(op):
    @settings(max_examples=25, deadline=None)
    @given(netlists(operators=tuple(o for o in (*COMBINATIONAL, "r") if o != "m"), size=5, focus=op))
    def check(netlist):
        assert_slices_agree(netlist, 11)

    check()


def test_table_in_bit_slices():
    for seed in range(20):
        netlist = build(random.Random(seed).randint, operators=("s", "+", "m", "c"), size=8)
        if all(m.contents is not None for m in netlist.memories.values()):
            assert_slices_agree(netlist, seed)


def assert_slices_agree(netlist, seed):
    runs = [stimulus(netlist, random.Random(seed + i)) for i in range(4)]
    domain = Sliced()

    def planes(values, width):
        """Case i of 64 is run i modulo 4."""
        words = [sum((values[i % 4] >> bit & 1) << i for i in range(64)) for bit in range(width)]
        return tuple(np.array([w], dtype=np.uint64) for w in words)

    sources = Sources(
        lambda name, cycle: planes([r[0][cycle][name] for r in runs], netlist.widths[name]),
        lambda name: planes([r[1][name] for r in runs], netlist.widths[name]),
        lambda name: pytest.fail("no writable memory here"),
        lambda name: [domain.constant(w, netlist.memories[name].data_bits) for w in netlist.memories[name].contents],
    )
    unrolling = Unrolling(netlist, domain, sources)
    for i, run_of in enumerate(runs):
        for (wire, cycle), value in simulated(netlist, *run_of).items():
            found = unrolling.value(wire, cycle)
            assert sum((int(np.atleast_1d(p)[0]) >> i & 1) << b for b, p in enumerate(found)) == value


@settings(max_examples=40, deadline=None)
@given(netlists(size=15))
def test_a_block_survives_reading_and_writing(netlist):
    again = read_block(write_block(netlist))
    assert read_block(write_block(again)) == again
    assert sorted(map(str, again.nets)) == sorted(map(str, netlist.nets))
    assert again.registers == netlist.registers
    assert again.memories == netlist.memories


def test_writing_a_block_leaves_the_working_block_alone():
    before = pyrtl.working_block()
    wires = set(before.wirevector_set)
    write_block(build(random.Random(3).randint))
    assert pyrtl.working_block() is before
    assert before.wirevector_set == wires


def test_a_loop_names_a_wire():
    looped = Netlist(
        widths={"a": 1, "b": 1, "o": 1},
        inputs=(),
        outputs=("o",),
        constants={},
        registers={},
        nets=(Net("~", ("b",), "a"), Net("w", ("a",), "b"), Net("w", ("a",), "o")),
    )
    with pytest.raises(NetlistError, match=r"loop through wire '[ab]'"):
        SymbolicRun(looped, Formula()).unrolling.value("o")


def test_an_unknown_wire_names_the_closest():
    netlist = build(random.Random(5).randint)
    with pytest.raises(NetlistError, match="closest: in0"):
        SymbolicRun(netlist, Formula()).unrolling.value("in0x")


def test_an_undefined_table_word_is_refused():
    block = pyrtl.Block()
    with pyrtl.set_working_block(block, no_sanity_check=True):
        table = pyrtl.RomBlock(4, 2, [1, 2, 3], "short", asynchronous=True)
        out = pyrtl.Output(4, "out")
        out <<= table[pyrtl.Input(2, "address")]
    with pytest.raises(NetlistError, match="no value at address 3"):
        read_block(block)


@given(st.integers(1, 20), st.integers(0, 2**20 - 1), st.integers(0, 2**20 - 1), st.integers(0, 31))
def test_bits_operators(width, a, b, amount):
    mask = (1 << width) - 1
    a, b = a & mask, b & mask
    formula = Formula()
    x, y = formula.bits(formula.variable("x", width)), formula.bits(formula.variable("y", width))
    shift = formula.bits(formula.variable("n", 5))

    def signed(v):
        return v - (1 << width) if v >> (width - 1) else v

    cases = {
        a + b & mask: x + y,
        a - b & mask: x - y,
        -a & mask: -x,
    }
    for expected, bits in cases.items():
        assert formula.evaluate([bits.value], {"x": a, "y": b})[0] == expected
    checks = [
        (x <= y, a <= b),
        (x >= y, a >= b),
        (x > y, a > b),
        (x != y, a != b),
        (x.signed_below(y), signed(a) < signed(b)),
        (x.any(), a != 0),
        (x.all(), a == mask),
        (x.shifted_left(shift), a << amount & mask),
        (x.shifted_right(shift), a >> amount),
        (x.shifted_left(amount), a << amount & mask),
        (x.shifted_right(amount), a >> amount),
        (x.sext(width + 3), signed(a) & ((1 << (width + 3)) - 1)),
        (x[-1], a >> (width - 1)),
    ]
    model = {"x": a, "y": b, "n": amount}
    assert formula.evaluate([c.value for c, _ in checks], model) == [int(e) for _, e in checks]


def test_bits_refuse_what_is_not_meant():
    formula = Formula()
    x, y = (formula.bits(formula.variable(n, w)) for n, w in (("x", 4), ("y", 6)))
    with pytest.raises(ValueError, match=r"4 and 6 bits.*zext\(6\)"):
        x + y
    with pytest.raises(TypeError, match="no truth value"):
        bool(x == 3)
    with pytest.raises(ValueError, match="does not fit 4 bits; 5 hold it"):
        x + 16
    with pytest.raises(ValueError, match="would lose bits"):
        y.zext(3)
    assert isinstance(x + 15, Bits)


@pytest.mark.parametrize("op", ["x", "c", "s"])
def test_a_truncating_net_that_fast_simulation_does_not_mask_is_refused(op):
    """A fault of PyRTL 1.0.3: once it is gone, such nets may be read."""
    block = pyrtl.Block()
    a, out = pyrtl.Input(4, "a", block=block), pyrtl.Output(2, "out", block=block)
    zero = pyrtl.Const(0, 1, "zero", block=block)
    args, parameter = {"x": ((zero, a, a), None), "c": ((zero, a), None), "s": ((a,), (0, 1, 2, 0))}[op]
    block.add_net(pyrtl.LogicNet(op, parameter, args, (out,)))
    simulation = pyrtl.FastSimulation(tracer=None, block=block)
    simulation.step({"a": 15})
    assert simulation.inspect("out") > 3
    with pytest.raises(NetlistError, match="does not mask"):
        read_block(block)
