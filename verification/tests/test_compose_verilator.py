"""Compositions in Verilator: instances joined at run time do what the flat netlist does, also where they sleep."""

import random
import shutil

import numpy as np
import pyrtl
import pytest

from hls import verilator
from hls.compose import Composer, concat, constant
from hls.lower import Netlist, building
from hls.simulate import open_simulator, to_words
from hls.verilator_instances import INSTANCES
from hls.verilator_tools import content_key, run_tool
from verification.tests.composed import gates, two_counters

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")


def random_machine(rng):
    """Instances of three netlists with state and with paths from input to output, wired at random without loops."""
    mixer = gates("mixer", {"a": 9, "b": 9, "turn": 1}, lambda a, b, turn: {"y": pyrtl.select(turn, a ^ b, a + 1)[:9]})
    block = pyrtl.Block()
    with building(block):
        data, enable = pyrtl.Input(9, "data"), pyrtl.Input(1, "enable")
        state = pyrtl.Register(9, "state", reset_value=3)
        state.next <<= pyrtl.select(enable, data, state)
        for name, wire in (("now", state), ("seen", state & data)):
            output = pyrtl.Output(9, name)
            output <<= wire
    keeper = Netlist("keeper", block)
    block = pyrtl.Block()
    with building(block):
        limit = pyrtl.Input(9, "limit")
        count = pyrtl.Register(9, "count", reset_value=0)
        count.next <<= pyrtl.select(count < limit, (count + 1)[:9], count)  # stops, goes on when the limit rises
        output = pyrtl.Output(9, "reached")
        output <<= count
    counter = Netlist("climber", block)
    composer = Composer("machine")
    known = [composer.input(f"in{i}", 9) for i in range(3)]
    held = []
    for i in range(12):
        netlist = rng.choice([mixer, keeper, counter])
        part = composer.part(f"part{i}", netlist)
        for port, bits in part.inputs.items():
            if rng.random() < 0.2 and netlist is counter:
                held.append((part.name, port))  # may close a loop through its register
                continue
            low = rng.randrange(9 - bits + 1)
            pieces = rng.choice(known)[low : low + bits]
            if bits == 9 and rng.random() < 0.4:
                cut = rng.randrange(1, 8)
                pieces = concat(rng.choice(known)[:cut], constant(1, 1), rng.choice(known)[cut + 1 :])
            composer.connect(part.name, port, pieces)
        known += [part[port] for port in part.outputs]
    for part_name, port in held:
        composer.connect(part_name, port, known[-1])
    for i, source in enumerate(known):
        composer.output(f"out{i}", source)
    return composer.build()


def compare_machine(seed):
    """Inputs rest for long, so that instances fall asleep, and change now and then, some of them for one cycle."""
    rng = random.Random(seed)
    composition = random_machine(rng)
    rows, row = [], dict.fromkeys(composition.inputs, 0)
    for _ in range(30):
        row = {name: rng.choice([value, rng.getrandbits(9)]) for name, value in row.items()}
        rows += [row] * rng.choice([1, 1, 2, 9, 60])
    inputs = {name: to_words([r[name] for r in rows], 9) for name in row}
    with open_simulator(composition, "fast") as fast, open_simulator(composition, "verilator") as compiled:
        expected, got = fast.run(inputs), compiled.run(inputs)
        for name in composition.outputs:
            assert np.array_equal(expected[name], got[name]), name
        fast.reset()
        compiled.reset()
        for _ in range(40):
            row = {name: rng.choice([value, rng.getrandbits(9)]) for name, value in row.items()}
            assert fast.step(row) == compiled.step(row)


@needs_verilator
@pytest.mark.parametrize("seed", range(3))
def test_instances_joined_at_run_time_are_exact_also_where_they_sleep(seed):
    compare_machine(seed)


@needs_verilator
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if (copy.at_once) instances[copy.instance].dirty = true;", ""),
        ("instances[copy.instance].touched = true;", ""),
        ("asleep = !memcmp(before.data(), state, module->state_bytes);", "asleep = true;"),
    ],
)
def test_a_fault_in_joining_instances_is_seen(monkeypatch, right, wrong):
    """The sibling of the test of exactness: propagation at once, waking and falling asleep, each broken in turn."""
    assert INSTANCES.count(right) == 1
    monkeypatch.setattr("hls.verilator_modules.INSTANCES", INSTANCES.replace(right, wrong))
    with pytest.raises(AssertionError, match=r"out\d+"):
        compare_machine(0)


@needs_verilator
def test_new_connections_compile_no_module_again(monkeypatch):
    """What is kept of the modules serves; the whole is as if it had never been built."""
    verilator.build(two_counters())
    commands = []

    def recorded(command, what):
        commands.append(command)
        return run_tool(command, what)

    def key(*parts):
        return content_key(*parts) if "endmodule" in parts[0] else "other"

    monkeypatch.setattr("hls.verilator_modules.run_tool", recorded)
    monkeypatch.setattr("hls.verilator_modules.content_key", key)
    library = verilator.build(two_counters())
    library.unlink()
    assert [command[0] for command in commands] == ["verilator", "c++"]
    assert commands[0][1] == "--getenv"
