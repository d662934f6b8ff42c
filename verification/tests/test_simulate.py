"""Simulation back ends: the same results by name, caching by content, batches, waveforms, fall-back, errors."""

import random
import shutil
import subprocess
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls import verilator
from hls.evaluate import evaluate, pack, unpack
from hls.lower import lower
from hls.schedule import schedule
from hls.simulate import (
    FastSimulator,
    SimulatorError,
    SimulatorWarning,
    from_words,
    open_simulator,
    to_words,
    word_count,
)
from hls.trace import SInt, trace
from verification.tests.hls_graphs import TinyTechnology, counter_with_memory, dot_graph, many_operators, random_inputs

TINY = TinyTechnology()
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
BACKENDS = ["fast", pytest.param("verilator", marks=needs_verilator)]


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A cache folder that holds nothing but verilator's run-time library, which takes long to compile."""
    runtime = verilator.runtime_library(trace=False)
    folder = tmp_path / "verilator"
    folder.mkdir()
    shutil.copy(runtime, folder)
    monkeypatch.setenv("SPATTEN_CACHE", str(tmp_path))
    return folder


GRAPH = many_operators()
NETLIST = lower(schedule(GRAPH, TINY, 500))


def stimulus(netlist, cycles, seed=0):
    rng = random.Random(seed)
    return {n: to_words([rng.getrandbits(b) for _ in range(cycles)], b) for n, b in netlist.inputs.items()}


# ---- words ----


@given(st.integers(1, 130).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1), min_size=1))))
def test_words_are_invertible(case):
    bits, values = case
    words = to_words(values, bits)
    assert words.shape == (len(values), word_count(bits))
    assert from_words(words) == values


# ---- every back end ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_equal_the_evaluator_and_take_the_schedules_latency(backend):
    rng = random.Random(1)
    items = [random_inputs(GRAPH, rng) for _ in range(40)]
    expected = [evaluate(GRAPH, item) for item in items]
    columns = {
        p.name: to_words([pack(p.type, item[p.name]) for item in items], p.type.total_bits) for p in GRAPH.inputs
    }
    patterns: list[Any] = [(None, None)] + [
        tuple(np.array(rng.choices([0, 1], k=60), bool) for _ in range(2)) for _ in range(3)
    ]
    for offer, accept in patterns:
        with open_simulator(NETLIST, backend) as simulator:
            assert simulator.backend == backend
            result = simulator.stream(columns, offer, accept)
        got = {p.name: [unpack(p.type, b) for b in from_words(result.outputs[p.name])] for p in GRAPH.outputs}
        for name, values in got.items():
            assert values == [e[name] for e in expected]
        assert min(result.received_at - result.sent_at) == NETLIST.latency_cycles
        if offer is None:
            assert list(result.sent_at) == list(range(40))
            assert result.cycles == 40 + NETLIST.latency_cycles
        else:
            assert all(offer[t] for t in result.sent_at if t < len(offer))
            assert all(accept[t] for t in result.received_at if t < len(accept))


@needs_verilator
@pytest.mark.parametrize("make", [lambda: NETLIST, counter_with_memory])
def test_back_ends_agree_in_every_cycle_stepped_and_batched(make):
    netlist = make()
    inputs = stimulus(netlist, 120)
    with open_simulator(netlist, "fast") as fast, open_simulator(netlist, "verilator") as compiled:
        batched = compiled.run(inputs)
        reference = fast.run(inputs)
        for name in netlist.outputs:
            assert np.array_equal(batched[name], reference[name])
        compiled.reset()
        fast.reset()
        rows = {name: from_words(words) for name, words in inputs.items()}
        for t in range(50):
            row = {name: values[t] for name, values in rows.items()}
            assert compiled.step(row) == fast.step(row)


@needs_verilator
def test_a_difference_between_back_ends_would_be_seen():
    """The sibling of the test above: compare with a netlist of one other constant."""
    netlists = [lower(schedule(trace(lambda x, c=c: x * c, {"x": SInt(8)}, name="scaled"), TINY, 400)) for c in (3, 5)]
    inputs = stimulus(netlists[0], 20)
    with open_simulator(netlists[0], "fast") as fast, open_simulator(netlists[1], "verilator") as compiled:
        assert not np.array_equal(compiled.run(inputs)["out"], fast.run(inputs)["out"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_reset_restores_registers_and_keeps_memories(backend):
    with open_simulator(counter_with_memory(), backend) as simulator:
        assert simulator.step({"data": 5, "write_it": 1, "address": 2})["sum"] == 7
        assert simulator.step({"address": 2}) == {"sum": 12, "read": 7, "digit": 4}
        simulator.reset()
        assert simulator.step({"address": 2}) == {"sum": 7, "read": 7, "digit": 4}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_waveform_has_the_names(backend, tmp_path):
    vcd = tmp_path / "wave.vcd"
    with open_simulator(lower(schedule(dot_graph(), TINY, 400)), backend, vcd=vcd) as simulator:
        simulator.run({}, cycles=5)
    text = vcd.read_text(encoding="utf-8")
    assert "$enddefinitions" in text
    for name in ("score", "query", "advance", "total_s2", "out_valid"):
        assert name in text


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda s: s.step({"quer": 1}), r"no input \['quer'\]; it has"),
        (lambda s: s.step({"query": 1 << 48}), "does not fit in input 'query' of 48 bits"),
        (lambda s: s.step({"query": -1}), "pack it"),
        (lambda s: s.run({}), "cycles="),
        (lambda s: s.run({"query": np.zeros((3, 1), np.uint32)}), r"expected uint32 \(3, 2\)"),
        (lambda s: s.run({"query": np.zeros((3, 2), np.int64)}), r"is int64 \(3, 2\)"),
        (lambda s: s.stream({"query": np.zeros((3, 2), np.uint32)}), "items are needed for"),
        (
            lambda s: s.stream({"query": to_words([1], 48), "key": to_words([1, 2], 48), "clear": to_words([0], 1)}),
            r"different numbers of items: \[1, 2\]",
        ),
        (
            lambda s: s.stream(
                {"query": to_words([1], 48), "key": to_words([1], 48), "clear": to_words([0], 1)}, limit_cycles=2
            ),
            "0 of 1 results after 2 cycles",
        ),
    ],
)
def test_errors_say_what_the_port_takes(backend, use, message):
    with (
        open_simulator(lower(schedule(dot_graph(), TINY, 400)), backend) as simulator,
        pytest.raises(SimulatorError, match=message),
    ):
        use(simulator)


def test_a_module_without_handshake_has_no_stream():
    with (
        open_simulator(counter_with_memory(), "fast") as simulator,
        pytest.raises(SimulatorError, match="ready/valid handshake"),
    ):
        simulator.stream({})


# ---- choosing a back end ----


def test_without_verilator_a_notice_and_the_fall_back(monkeypatch):
    monkeypatch.setenv("PATH", "")
    netlist = lower(schedule(dot_graph(), TINY, 400))
    with pytest.warns(SimulatorWarning, match="apt install verilator"):
        simulator = open_simulator(netlist, "auto")
    assert isinstance(simulator, FastSimulator)
    with pytest.raises(SimulatorError, match="backend='fast'"):
        open_simulator(netlist, "verilator")
    with pytest.raises(SimulatorError, match="not on the PATH"):
        verilator.VerilatorSimulator(netlist)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_simulator(netlist, "fast")


def test_an_unknown_back_end_is_refused():
    with pytest.raises(SimulatorError, match="auto, fast, verilator"):
        open_simulator(NETLIST, "icarus")  # type: ignore[arg-type]


# ---- the cache ----


@needs_verilator
def test_the_same_netlist_is_compiled_once(monkeypatch, empty_cache):
    first = verilator.build(lower(schedule(dot_graph(2), TINY, 400)))
    assert first.parent == empty_cache
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".o", ".so"]  # no build folder is left
    again = lower(schedule(dot_graph(2), TINY, 400))  # other PyRTL temporaries, same netlist

    def refuse(*args, **kwargs):
        raise AssertionError(f"compiled again: {args}")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert verilator.build(again) == first
    with pytest.raises(AssertionError, match="compiled again"):
        verilator.build(lower(schedule(dot_graph(3), TINY, 400)))


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("SPATTEN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert verilator.cache_folder() == tmp_path / "xdg" / "spatten" / "verilator"
    monkeypatch.setenv("SPATTEN_CACHE", str(tmp_path))
    assert verilator.cache_folder() == tmp_path / "verilator"


@needs_verilator
def test_a_failing_compiler_is_reported(monkeypatch, empty_cache):
    monkeypatch.setattr(verilator, "to_verilog", lambda netlist: "module dot; nonsense endmodule\n")
    with pytest.raises(SimulatorError, match=r"verilator failed on dot \(exit \d+\):\n(.|\n)*rror"):
        verilator.build(lower(schedule(dot_graph(), TINY, 400)))
    assert [path.suffix for path in empty_cache.iterdir()] == [".o"]


@needs_verilator
def test_a_closed_simulator_says_so():
    simulator = open_simulator(lower(schedule(dot_graph(), TINY, 400)), "verilator")
    simulator.close()
    simulator.close()
    with pytest.raises(SimulatorError, match="is closed"):
        simulator.step({})
