"""Compositions: what is refused, loops, and the same behaviour flat, in Verilog and in both simulators."""

import random
import shutil

import numpy as np
import pyrtl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.combinational import port_dependence
from hls.compose import Composer, concat, constant
from hls.export import ExportError, Vectors, export, lint, random_inputs, record, run_icarus
from hls.flatten import flatten
from hls.lower import Netlist, building
from hls.simulate import open_simulator
from hls.split_ports import split_ports
from hls.types import HlsError
from hls.verilog import to_verilog
from hls.verilog_hierarchy import to_verilog_modules
from verification.tests.composed import gates, ring, two_counters
from verification.tests.hls_graphs import counter_with_memory

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")


def adder():
    return gates("adder", {"a": 4, "b": 4}, lambda a, b: {"total": a + b})


def composer():
    made = Composer("sums")
    made.input("a", 4)
    made.input("b", 4)
    made.part("first", adder())
    return made


# ---- sources ----


@given(st.data())
def test_a_slice_of_a_source_is_a_slice_of_its_bits(data):
    """Symbolically: the source as a list of (port, bit)."""
    made = composer()
    ports = [made.signal("a"), made.signal("b"), made.signal("total"), constant(0b1011, 4)]

    def bits(source):
        return [
            (p.low >> i) & 1 if p.is_constant else (p.part, p.port, p.low + i)
            for p in source.pieces
            for i in range(p.bits)
        ]

    picked = data.draw(st.lists(st.sampled_from(ports), min_size=1, max_size=6))
    source = concat(*picked)
    assert bits(source) == [bit for one in picked for bit in bits(one)]
    low = data.draw(st.integers(0, len(source) - 1))
    high = data.draw(st.integers(low + 1, len(source)))
    assert bits(source[low:high]) == bits(source)[low:high]
    assert bits(source[low - len(source)]) == [bits(source)[low]]


def test_chunks_are_equal_parts():
    a = composer().signal("a")
    assert [str(part) for part in a.chunks(2)] == ["a[0:2]", "a[2:4]"]
    with pytest.raises(HlsError, match="4 bits, which are not 3 equal parts"):
        a.chunks(3)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda c: c.part("first", adder()), "a part 'first' already"),
        (lambda c: c.part("wire", adder()), "'wire_' would do"),
        (lambda c: c.input("a", 3), "port name 'a' is taken"),
        (lambda c: c.input("sums", 3), "port name 'sums' is taken"),
        (lambda c: c.input("c", 0), "1 is the least"),
        (lambda c: c.connect("frist", "a", 0), "no part 'frist'; 'first' would do"),
        (lambda c: c.connect("first", "c", 0), "part 'first' has no input 'c'; there are a, b"),
        (lambda c: c.connect("first", "a", 16), "'a' of part 'first': constant 16 does not fit in 4 bits; 5 would"),
        (lambda c: c.connect("first", "a", c.signal("a")[:3]), r"has 4 bits, its source a\[0:3\] has 3"),
        (lambda c: (c.connect("first", "a", 1), c.connect("first", "a", 2)), "driven by 4'd1 already"),
        (lambda c: c.connect("first", "a", Composer("o").input("other", 4)), "driven by 'other', which is no input"),
        (
            lambda c: c.connect("first", "a", Composer("o").input("a", 9)[5:]),
            r"driven by a\[5:9\], but that port has 4",
        ),
        (lambda c: c.signal("totl"), "no signal 'totl'; 'total' would do"),
        (lambda c: (c.part("second", adder()), c.signal("total")), "'total' is ambiguous: first.total"),
        (lambda c: c.part("second", adder())["a"], "part 'second' has no output 'a'"),
        (lambda c: c.by_name(c.part("gate", gates("g", {"totl": 5}, lambda totl: {"y": ~totl})).name), "'total' would"),
        (lambda c: c.build(), r"nothing drives 2 inputs \(bits\): first.a \(4\), first.b \(4\)"),
        (lambda c: (c.by_name("first"), c.input("c", 1), c.build()), r"inputs \['c'\] drive nothing"),
        (lambda c: c.signal("a")[2:5], r"0 <= low < high <= 4 works"),
        (lambda c: c.signal("a")[2:2], r"0 <= low < high <= 4 works"),
        (lambda c: c.output("y", concat()), "driven by nothing"),
    ],
)
def test_errors_name_part_and_port_and_what_would_do(use, message):
    with pytest.raises(HlsError, match=message):
        use(composer())


# ---- combinational loops ----


def test_a_loop_is_shown_as_a_path():
    with pytest.raises(HlsError, match=r"ring: combinational loop: (near|far)\.y_bit(\d) .*<- (near|far)\.y_bit\2 "):
        ring(shift=False)


def test_packed_vectors_close_a_loop_that_no_bit_closes():
    composition = ring(shift=True)
    assert composition.acyclic is not composition
    assert len({id(netlist) for netlist in composition.acyclic.parts.values()}) == 1
    with open_simulator(composition, "fast") as simulator:
        for start in (0, 1):
            for stop in (0, 1):
                bit, near, far = start, [], []
                for _ in range(4):
                    far.append(1 ^ bit ^ stop)
                    near.append(1 ^ far[-1] ^ stop)
                    bit = near[-1]
                expected = sum(b << i for i, b in enumerate([*near, *far]))
                assert simulator.step({"start": start, "stop": stop}) == {"grants": expected}


def test_a_register_on_the_way_is_no_loop():
    block = pyrtl.Block()
    state = pyrtl.Register(4, "state", reset_value=1, block=block)
    assert two_counters().acyclic.parts  # sums come from registers; addresses go through
    assert port_dependence(counter_with_memory()) == {
        "sum": frozenset(),
        "read": {"address"},
        "digit": {"address"},
    }
    assert len(state) == 4


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_split_ports_change_names_only(data):
    """Random logic of every operator: outputs bit by bit equal those of the packed netlist."""

    def logic(x, y):
        wires = [x, y]
        for _ in range(data.draw(st.integers(1, 8))):
            a, b = (data.draw(st.sampled_from(wires)) for _ in range(2))
            step = data.draw(st.sampled_from("&|^~+mscn"))
            if step == "~":
                wires.append(~a)
            elif step == "+":
                wires.append((a + b)[:6])
            elif step == "m":
                wires.append(pyrtl.select(a[2], a, b))
            elif step == "s":
                wires.append(a[::-1])
            elif step == "c":
                wires.append(pyrtl.concat(a[:2], b[1:5]))
            elif step == "n":
                wires.append(a.nand(b))
            else:
                wires.append({"&": a & b, "|": a | b, "^": a ^ b}[step])
        return {"p": wires[-1], "q": wires[-2] ^ wires[-1] ^ x ^ y}

    packed = gates("logic", {"x": 6, "y": 6}, logic)
    split = split_ports(packed, data.draw(st.sampled_from([{"x", "p"}, {"x", "y", "p", "q"}, {"q"}, {"y"}])))
    with open_simulator(packed, "fast") as first, open_simulator(split, "fast") as second:
        for _ in range(8):
            values = {name: data.draw(st.integers(0, 63)) for name in ("x", "y")}
            apart = {f"{n}_bit{i}": v >> i & 1 for n, v in values.items() for i in range(6)} | values
            seen = second.step({name: v for name, v in apart.items() if name in split.inputs})
            for name, value in first.step(values).items():
                bits = [seen[f"{name}_bit{i}"] for i in range(6)] if name not in seen else None
                assert value == (seen[name] if bits is None else sum(b << i for i, b in enumerate(bits)))


# ---- behaviour ----


def test_flat_is_what_the_parts_do():
    rng, counter, composition = random.Random(1), counter_with_memory(), two_counters()
    flat = flatten(composition)
    assert (flat.inputs, flat.outputs) == (composition.inputs, composition.outputs)
    assert flat.register_bits == composition.register_bits == 140
    with (
        open_simulator(flat, "fast") as whole,
        open_simulator(counter, "fast") as first,
        open_simulator(counter, "fast") as second,
    ):
        for _ in range(60):
            given_ = {"write_it": rng.getrandbits(1), "address": rng.getrandbits(3), "data": rng.getrandbits(70)}
            one = first.step(given_)
            swapped = one["sum"] >> 35 | (one["sum"] & (1 << 35) - 1) << 35
            two = second.step({**given_, "data": swapped})
            assert whole.step(given_) == {
                "sums": two["sum"] | 5 << 70 | one["sum"] >> 69 << 73,
                "digits": one["digit"] | two["read"] << 5,
            }


def test_flat_and_verilog_depend_on_the_composition_alone():
    assert to_verilog(flatten(two_counters())) == to_verilog(flatten(two_counters()))
    assert to_verilog_modules(two_counters()) == to_verilog_modules(two_counters())
    assert to_verilog(flatten(ring(True))) == to_verilog(flatten(ring(True)))


def test_instances_of_one_netlist_share_a_module():
    modules = to_verilog_modules(two_counters())
    assert list(modules) == ["counter", "two"]
    assert modules["two"].count("    counter ") == 2
    assert "no_inline_module" in modules["counter"]


def test_netlists_of_one_name_are_different_modules():
    made = Composer("adder")  # the name of its parts' modules, too
    a = made.input("a", 4)
    for i in range(2):
        part = made.part(f"part{i}", adder())
        made.connect_all(part.name, {"a": a, "b": i})
        made.output(f"total{i}", part["total"])
    assert list(to_verilog_modules(made.build())) == ["adder_2", "adder_3", "adder"]


@needs_verilator
@pytest.mark.parametrize("make", [two_counters, lambda: ring(True), lambda: memory_behind_logic()])
def test_hierarchical_and_flat_simulators_agree(make):
    composition = make()
    lint(composition)
    lint(flatten(composition))
    inputs = random_inputs(composition, 80, 3)
    with open_simulator(composition, "fast") as fast, open_simulator(composition, "verilator") as compiled:
        expected, got = fast.run(inputs), compiled.run(inputs)
        for name in composition.outputs:
            assert np.array_equal(expected[name], got[name])
        assert any(len(np.unique(words, axis=0)) > 1 for words in got.values())


def memory_behind_logic():
    """A memory that is not asynchronous, its address an input; in the composition logic of another part drives it."""
    block = pyrtl.Block()
    with building(block):
        address, data, write = pyrtl.Input(2, "address"), pyrtl.Input(8, "data"), pyrtl.Input(1, "write_it")
        memory = pyrtl.MemBlock(8, 2, name="store", block=block)
        memory[address] <<= pyrtl.MemBlock.EnabledWrite(data, write)
        read = pyrtl.Register(8, "read", reset_value=0)
        read.next <<= memory[address]
        output = pyrtl.Output(8, "word")
        output <<= read

    def flipped(x):
        least, most = pyrtl.Const(0, 2), pyrtl.Const(3, 2)
        return {"address": ~x, "under": x < least, "over": x > most, "above": least < x, "below": most > x}

    flip = gates("flip", {"x": 2}, flipped)
    composer = Composer("late")
    composer.input("x", 2)
    composer.input("data", 8)
    composer.input("write_it", 1)
    composer.part("flip", flip)
    composer.part("memory", Netlist("memory", block))
    composer.by_name("flip")
    composer.by_name("memory")
    for name in ("word", "under", "over", "above", "below"):
        composer.output(name, composer.signal(name))
    return composer.build()


@needs_verilator
def test_a_wrong_connection_is_seen():
    """The sibling of the test above: one slice off by a bit."""
    composition = two_counters()
    connections = {part: dict(ports) for part, ports in composition.connections.items()}
    first = connections["second"]["data"]
    connections["second"]["data"] = concat(first[1:], first[0])
    wrong = type(composition)(composition.name, composition.parts, connections, composition.inputs, composition.drivers)
    inputs = random_inputs(composition, 80, 3)
    with open_simulator(composition, "verilator") as compiled, open_simulator(wrong, "fast") as fast:
        assert not np.array_equal(compiled.run(inputs)["sums"], fast.run(inputs)["sums"])


@needs_verilator
def test_a_waveform_of_a_composition_has_its_instances(tmp_path):
    vcd = tmp_path / "wave.vcd"
    with open_simulator(two_counters(), "verilator", vcd=vcd) as simulator:
        simulator.run(random_inputs(two_counters(), 20, 0))
    text = vcd.read_text(encoding="utf-8")
    for name in ("$scope module first", "$scope module second", "total"):
        assert name in text


needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


@needs_icarus
@pytest.mark.parametrize("make", [two_counters, lambda: ring(True)])
def test_an_exported_composition_runs_in_icarus(make, tmp_path):
    composition = make()
    with open_simulator(composition, "fast") as simulator:
        vectors = record(simulator, random_inputs(composition, 60, 4))
    files = export(composition, tmp_path, vectors)
    name, modules = composition.name, {netlist.name for netlist in composition.modules}
    expected = {f"{module}.v" for module in (*modules, name)} | {f"{name}_{f}" for f in ("tb.v", "in.hex", "out.hex")}
    assert {path.name for path in files} == expected
    assert run_icarus(composition, tmp_path) == f"PASS: {name}, 60 cycles"
    wrong = {port: words.copy() for port, words in vectors.outputs.items()}
    next(iter(wrong.values()))[40, 0] ^= 2
    export(composition, tmp_path, Vectors(vectors.inputs, wrong))
    with pytest.raises(ExportError, match=f"FAIL: {name}, 1 of 60 cycles differ"):
        run_icarus(composition, tmp_path)
