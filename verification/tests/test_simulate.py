"""Simulation back ends: the same results by name, caching by content, batches, waveforms, fall-back, errors."""

import random
import shutil
import subprocess
import time
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology, verilator, verilator_tools
from hls.cache import cache_folder
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
from hls.trace import SInt, UInt, Vec, trace, vector
from verification.tests.hls_graphs import (
    TinyTechnology,
    counter_with_memory,
    dot_graph,
    many_operators,
    programs,
    random_inputs,
)

TINY = TinyTechnology()
needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
BACKENDS = ["fast", pytest.param("verilator", marks=needs_verilator)]


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """A cache folder that holds nothing but verilator's run-time library, which takes long to compile."""
    runtime = verilator_tools.runtime_library(trace=False)
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


@settings(deadline=None)
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
    assert cache_folder("verilator") == tmp_path / "xdg" / "spatten" / "verilator"
    monkeypatch.setenv("SPATTEN_CACHE", str(tmp_path))
    assert cache_folder("verilator") == tmp_path / "verilator"


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


# ---- more of the same, and the full size ----


@needs_verilator
@pytest.mark.full
@settings(deadline=None, max_examples=8)
@given(programs(), st.randoms(use_true_random=False))
def test_random_graphs_compile_to_what_the_evaluator_says(program, rng):
    graph = program.graph()
    netlist = lower(schedule(graph, TINY, 400))
    items = [random_inputs(graph, rng) for _ in range(100)]
    columns = {p.name: [pack(p.type, item[p.name]) for item in items] for p in graph.inputs}
    offer, accept = (np.array(rng.choices([0, 1], k=200), bool) for _ in range(2))
    with open_simulator(netlist, "verilator") as simulator:
        words = {p.name: to_words(columns[p.name], p.type.total_bits) for p in graph.inputs}
        result = simulator.stream(words, offer, accept)
    for port in graph.outputs:
        got = [unpack(port.type, bits) for bits in from_words(result.outputs[port.name])]
        assert got == [evaluate(graph, item)[port.name] for item in items]


def full_size_scores(query, key, log_group):
    """512 products, summed in groups of 64, 128, 256 or 512: eight results, equal within a group."""
    levels = [(query * key).chunks(64).map(lambda group: group.sum())]
    while len(levels[-1]) > 1:
        levels.append(levels[-1].chunks(2).map(lambda pair: pair.sum()))
    return {"scores": [vector([level[i >> n] for n, level in enumerate(levels)])[log_group] for i in range(8)]}


@needs_verilator
@pytest.mark.full
def test_a_full_size_dot_product_array_elaborates_and_simulates_fast():
    started = time.process_time()
    types = {"query": Vec(SInt(12), 512), "key": Vec(SInt(12), 512)}
    graph = trace(full_size_scores, {**types, "log_group": UInt(2)}, name="score_array")
    netlist = lower(schedule(graph, technology.load(), 1000))
    assert time.process_time() - started < 2
    rng = np.random.default_rng(0)
    rows = {name: rng.integers(-2048, 2048, (64, 512)) for name in types}
    groups = [i % 4 for i in range(64)]
    columns = {name: to_words([pack(types[name], row) for row in table.tolist()], 6144) for name, table in rows.items()}
    columns["log_group"] = to_words(groups, 2)
    with open_simulator(netlist, "verilator") as simulator:
        result = simulator.stream(columns)
        products = (rows["query"] * rows["key"]).reshape(64, 8, 64).sum(axis=2)
        for i, group in enumerate(groups):
            sums = products[i].reshape(-1, 1 << group).sum(axis=1).repeat(1 << group)
            assert unpack(graph.outputs[0].type, from_words(result.outputs["scores"])[i]) == sums.tolist()
        many = {name: np.tile(words, (1000, 1)) for name, words in columns.items()}
        started = time.process_time()
        compiled_rate = 64000 / (simulator.stream(many), time.process_time() - started)[1]
    with open_simulator(netlist, "fast") as simulator:
        started = time.process_time()
        interpreted_rate = 64 / (simulator.stream(columns), time.process_time() - started)[1]
    assert compiled_rate > 30 * interpreted_rate
