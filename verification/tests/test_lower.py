"""Lowering: the netlist is the traced function, delayed, under every stall pattern, with what the schedule says."""

import random

import pyrtl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.evaluate import evaluate, pack, unpack
from hls.lower import Netlist, building, instantiate, lower
from hls.schedule import schedule
from hls.simulate import open_simulator
from hls.trace import Bool, SInt, UInt, Vec, trace
from hls.types import HlsError
from verification.tests.hls_graphs import TinyTechnology, dot_graph, programs, random_inputs

TINY = TinyTechnology()


def check_pipeline(netlist, graph, rng, cycles=60, offered=0.7, accepted=0.7):
    """Random traffic with stalls against the evaluator; returns how many results were compared.

    Also checked: a stalled output and its valid do not change; in_ready falls only for a stalled result.
    """
    expected, compared, stalled = [], 0, None
    with open_simulator(netlist, "fast") as simulator:
        for _ in range(cycles):
            values = random_inputs(graph, rng)
            valid, ready = int(rng.random() < offered), int(rng.random() < accepted)
            row = {port.name: pack(port.type, values[port.name]) for port in graph.inputs}
            seen = simulator.step({**row, "in_valid": valid, "out_ready": ready})
            results = {port.name: seen[port.name] for port in graph.outputs}
            if stalled is not None:
                assert seen["out_valid"]
                assert results == stalled
            assert seen["in_ready"] or (seen["out_valid"] and not ready)
            if valid and seen["in_ready"]:
                expected.append(evaluate(graph, values))
            if seen["out_valid"] and ready:
                assert {p.name: unpack(p.type, results[p.name]) for p in graph.outputs} == expected.pop(0)
                compared += 1
            stalled = results if seen["out_valid"] and not ready and netlist.latency_cycles else None
    assert len(expected) <= netlist.latency_cycles
    return compared


@settings(deadline=None, max_examples=80)
@given(
    programs(),
    st.integers(260, 2000),
    st.sampled_from(["asap", "registers"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_random_netlists_equal_the_evaluator_under_random_stalls(program, period_ps, method, output_register, rng):
    graph = program.graph()
    plan = schedule(graph, TINY, period_ps, method, output_register)
    netlist = lower(plan)
    assert netlist.register_bits == sum(plan.register_bits) + plan.latency_cycles
    assert check_pipeline(netlist, graph, rng, cycles=3 * plan.latency_cycles + 30) > 0


@pytest.mark.parametrize("fault", ["add", "mux", "lt", "mul"])
def test_a_planted_fault_is_caught(fault):
    """The sibling of the test above: a netlist with one primitive replaced must not pass."""
    graph = trace(lambda a, b, c: [a + b, a * b, (a < b) | c[0]], {"a": SInt(6), "b": SInt(6), "c": UInt(2)}, name="f")
    netlist = lower(schedule(graph, TINY, 600))
    check_pipeline(netlist, graph, random.Random(0))
    operator, replacement = {"add": ("+", "-"), "mux": ("x", "x"), "lt": ("<", ">"), "mul": ("*", "+")}[fault]
    block = netlist.block
    net = next(n for n in sorted(block.logic, key=str) if n.op == operator)
    args = net.args if operator != "x" else (net.args[0], net.args[2], net.args[1])
    if replacement == "+":
        wide = len(net.args[0]) + 1
        short = pyrtl.WireVector(wide, block=block)
        block.add_net(pyrtl.LogicNet("+", None, args, (short,)))
        zeros = pyrtl.Const(0, bitwidth=len(net.dests[0]) - wide, block=block)
        block.add_net(pyrtl.LogicNet("c", None, (zeros, short), net.dests))
    else:
        block.add_net(pyrtl.LogicNet(replacement, net.op_param, args, net.dests))
    block.logic.remove(net)
    with pytest.raises((AssertionError, IndexError)):
        check_pipeline(netlist, graph, random.Random(0))


def test_latency_and_throughput_are_the_schedules():
    plan = schedule(dot_graph(), TINY, 400)
    netlist = lower(plan)
    with open_simulator(netlist, "fast") as simulator:
        valid = [simulator.step({"in_valid": int(t < 3), "out_ready": 1})["out_valid"] for t in range(10)]
    assert plan.latency_cycles == netlist.latency_cycles == 2
    assert valid == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]


def test_valid_does_not_wait_for_ready_and_a_full_pipeline_stops():
    netlist = lower(schedule(dot_graph(), TINY, 400))
    with open_simulator(netlist, "fast") as simulator:
        seen = [simulator.step({"in_valid": 1, "out_ready": 0}) for _ in range(8)]
    assert [s["out_valid"] for s in seen] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert [s["in_ready"] for s in seen] == [1, 1, 0, 0, 0, 0, 0, 0]


def test_combinational_netlist_has_no_registers():
    graph = trace(lambda a, b: a + b, {"a": SInt(8), "b": SInt(8)}, name="wires")
    netlist = lower(schedule(graph, TINY, 1000, output_register=False))
    assert (netlist.latency_cycles, netlist.register_bits) == (0, 0)
    assert check_pipeline(netlist, graph, random.Random(1)) > 0


def test_names_survive():
    netlist = lower(schedule(dot_graph(), TINY, 400))
    names = set(netlist.block.wirevector_by_name)
    assert {"score", "clear_s1", "query", "key", "total", "doubled", "advance", "total_s2"} <= names


def test_the_working_block_is_left_alone():
    pyrtl.reset_working_block()
    before = pyrtl.working_block()
    lower(schedule(dot_graph(), TINY, 400))
    assert pyrtl.working_block() is before
    assert not before.logic
    assert not before.wirevector_set
    block = pyrtl.Block()
    with building(block):
        assert pyrtl.working_block() is block
    assert pyrtl.working_block() is before


def accumulator(plan):
    """A hand-written unit around two instances of one traced function: it sums the results where both are valid."""
    block = pyrtl.Block()
    with building(block):
        ports = {name: pyrtl.Input(48, name) for name in ("q0", "k0", "q1", "k1")}
        valid, stall = pyrtl.Input(1, "valid"), pyrtl.Input(1, "stall")
        go = ~stall
        never = pyrtl.Const(0, bitwidth=1)
        units = []
        for i in range(2):
            lanes = [ports[f"q{i}"][12 * lane : 12 * lane + 12] for lane in range(4)]
            inputs = {"query": lanes, "key": ports[f"k{i}"], "clear": never}
            units.append(instantiate(plan, inputs, block, enable=go, valid=valid, prefix=f"u{i}_"))
        total = pyrtl.Register(40, "total", reset_value=0)
        terms = [unit.outputs["total"].sign_extended(40) for unit in units]
        following = (total + terms[0] + terms[1])[:40]
        total.next <<= pyrtl.select(go & units[0].out_valid, following, total)
        result = pyrtl.Output(40, "sum")
        result <<= total
    return Netlist("accumulator", block, units[0].latency_cycles)


def test_a_schedule_inside_a_hand_written_unit():
    plan = schedule(dot_graph(), TINY, 400)
    netlist = accumulator(plan)
    rng = random.Random(3)
    lanes = Vec(SInt(12), 4)
    total = 0
    with open_simulator(netlist, "fast") as simulator:
        for _ in range(40):
            rows = {name: [rng.randint(-2048, 2047) for _ in range(4)] for name in ("q0", "k0", "q1", "k1")}
            valid, stall = rng.randint(0, 1), int(rng.random() < 0.3)
            bits = {name: pack(lanes, row) for name, row in rows.items()}
            simulator.step({**bits, "valid": valid, "stall": stall})
            if valid and not stall:
                for i in "01":
                    total += sum(a * b for a, b in zip(rows["q" + i], rows["k" + i], strict=True))
        for _ in range(plan.latency_cycles):
            simulator.step({})
        assert simulator.step({})["sum"] == total % 2**40


def test_asserted_ranges_drop_input_bits():
    graph = trace(lambda x: x + 1, {"x": SInt(12).within(0, 7)}, name="few_bits")
    netlist = lower(schedule(graph, TINY, 1000))
    assert netlist.inputs["x"] == 12
    assert netlist.register_bits == 4 + 1
    assert check_pipeline(netlist, graph, random.Random(0)) > 0


def test_signed_logic_is_right_after_pyrtl_synthesis():
    """`pyrtl.synthesize` gets the top bit of a full-width `a - b` wrong; nothing of ours may depend on it."""

    def f(a, b):
        return {"lower": a < b, "not_above": a <= b, "difference": a - b, "negated": -a, "product": a * b}

    graph = trace(f, {"a": SInt(4), "b": SInt(4)})
    block = lower(schedule(graph, TINY, 1000, output_register=False)).block
    with building(block):
        gates = pyrtl.synthesize(update_working_block=False, block=block)
    netlist = Netlist("gates", gates)
    with open_simulator(netlist, "fast") as simulator:
        for a in range(-8, 8):
            for b in range(-8, 8):
                seen = simulator.step({"a": a & 15, "b": b & 15, "in_valid": 1, "out_ready": 1})
                outputs = {p.name: unpack(p.type, seen[p.name]) for p in graph.outputs}
                assert outputs == evaluate(graph, {"a": a, "b": b})


def test_pyrtl_signed_comparison_is_still_wrong_after_synthesis():
    """Why the test above exists; if this one fails, PyRTL has been mended and the workaround can go."""
    block = pyrtl.Block()
    with building(block):
        a, b = pyrtl.Input(4, "a"), pyrtl.Input(4, "b")
        lower_than = pyrtl.Output(1, "lower")
        lower_than <<= pyrtl.signed_lt(a, b)
        gates = pyrtl.synthesize(update_working_block=False, block=block)
    with open_simulator(Netlist("gates", gates), "fast") as simulator:
        wrong = [
            (a, b)
            for a in range(-8, 8)
            for b in range(-8, 8)
            if simulator.step({"a": a & 15, "b": b & 15})["lower"] != (a < b)
        ]
    assert wrong


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda plan, block, wire: instantiate(plan, {"query": wire(48)}, block), "inputs are"),
        (
            lambda plan, block, wire: instantiate(plan, {"query": wire(47), "key": wire(48), "clear": wire(1)}, block),
            "has 48 bits, the wire 'w0' has 47",
        ),
        (
            lambda plan, block, wire: instantiate(
                plan, {"query": [wire(12)] * 3, "key": wire(48), "clear": wire(1)}, block
            ),
            r"needs wires of \[12, 12, 12, 12\] bits",
        ),
        (
            lambda plan, block, wire: [
                instantiate(plan, {"query": wire(48), "key": wire(48), "clear": wire(1)}, block) for _ in range(2)
            ],
            "give this instance a prefix=",
        ),
        (
            lambda plan, block, wire: (
                instantiate(plan, {"query": wire(48), "key": wire(48), "clear": wire(1)}, block).out_valid
            ),
            "no valid=",
        ),
    ],
)
def test_errors_of_instances(make, message):
    block = pyrtl.Block()
    made: list[pyrtl.Input] = []

    def wire(bits):
        made.append(pyrtl.Input(bits, f"w{len(made)}", block=block))
        return made[-1]

    with pytest.raises(HlsError, match=message):
        make(schedule(dot_graph(), TINY, 400), block, wire)


def test_handshake_names_are_reserved():
    graph = trace(lambda in_valid: in_valid, {"in_valid": Bool}, name="clash")
    with pytest.raises(HlsError, match="handshake"):
        lower(schedule(graph, TINY, 400))
