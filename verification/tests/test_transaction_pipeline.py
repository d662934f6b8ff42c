"""Channels against the netlist's: the same requests, the same cycles in and out."""

import pyrtl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.lower import Netlist, lower
from hls.schedule import schedule
from hls.simulate import open_simulator
from hls.stream import fifo, sink_ports, skid_buffer, source_ports
from hls.trace import UInt, trace
from models.transaction.channel import Fifo
from models.transaction.kernel import Simulation
from models.transaction.pipeline import Pipeline
from models.transaction.waits import TransactionError
from verification.tests.hls_graphs import TinyTechnology

requests = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=25)


def in_time(make, gaps, reader_first):
    """Cycles in and out of a channel: a writer waits a gap after each item went in, a reader after it took one."""
    simulation = Simulation()
    channel = make(simulation)
    put, taken = [], []

    def writer():
        for n, (gap, _) in enumerate(gaps):
            yield simulation.wait(gap)
            yield channel.put(n)
            put.append(simulation.now_cycle)
            yield simulation.wait(1)

    def reader():
        for n, (_, gap) in enumerate(gaps):
            yield simulation.wait(gap)
            assert (yield channel.get()) == n
            taken.append(simulation.now_cycle)
            yield simulation.wait(1)

    for name in ("reader", "writer") if reader_first else ("writer", "reader"):
        simulation.start({"writer": writer, "reader": reader}[name](), name)
    simulation.run()
    return put, taken


def in_netlist(simulator, names, gaps):
    """The same of a netlist, cycle by cycle; `names` are its ports for the item in and out."""
    simulator.reset()
    put, taken = [], []
    offer_at, accept_at = gaps[0][0], gaps[0][1]
    for cycle in range(1000):
        offers, accepts = len(put) < len(gaps) and cycle >= offer_at, len(taken) < len(gaps) and cycle >= accept_at
        row = {"in_valid": int(offers), "out_ready": int(accepts), names[0]: len(put) % 64}
        seen = simulator.step(row)
        if offers and seen["in_ready"]:
            put.append(cycle)
            offer_at = cycle + 1 + (gaps[len(put)][0] if len(put) < len(gaps) else 0)
        if accepts and seen["out_valid"]:
            assert seen[names[1]] == len(taken) % 64
            taken.append(cycle)
            accept_at = cycle + 1 + (gaps[len(taken)][1] if len(taken) < len(gaps) else 0)
        if len(taken) == len(gaps):
            return put, taken
    raise AssertionError("the netlist did not give every item")


def stages(period_ps):
    """A sum of 0 and the item over and over, in as many stages as the clock makes of it."""

    def chain(item, zero):
        total = item
        for _ in range(5):
            total = (total + zero).wrap(UInt(6))
        return {"result": total}

    graph = trace(chain, inputs={"item": UInt(6), "zero": UInt(6)}, outputs={"result": UInt(6)})
    return lower(schedule(graph, TinyTechnology(), period_ps))


def storage(make):
    block = pyrtl.Block()
    sink_ports(make(source_ports(6, block), block), block)
    return Netlist("storage", block)


NETLISTS = {
    "fifo of 1": (lambda: storage(lambda s, b: fifo(s, 1, block=b).stream), lambda s, n: Fifo(s, "x", 1, 1, 1)),
    "fifo of 5": (lambda: storage(lambda s, b: fifo(s, 5, block=b).stream), lambda s, n: Fifo(s, "x", 5, 1, 1)),
    "skid buffer": (lambda: storage(lambda s, b: skid_buffer(s, block=b)), lambda s, n: Fifo(s, "x", 2, 1, 1)),
    "short pipeline": (lambda: stages(2000), lambda s, n: Pipeline(s, "x", n.latency_cycles)),
    "long pipeline": (lambda: stages(170), lambda s, n: Pipeline(s, "x", n.latency_cycles)),
}


@pytest.fixture(scope="module", params=NETLISTS)
def both(request):
    build, make = NETLISTS[request.param]
    netlist = build()
    names = ("in_data", "out_data") if "in_data" in netlist.inputs else ("item", "result")
    with open_simulator(netlist, "fast") as simulator:
        yield simulator, names, lambda simulation: make(simulation, netlist)


@settings(max_examples=40)
@given(gaps=requests, reader_first=st.booleans())
def test_a_channel_takes_the_cycles_of_the_netlist(both, gaps, reader_first):
    simulator, names, make = both
    assert in_time(make, gaps, reader_first) == in_netlist(simulator, names, gaps)


def test_the_pipelines_compared_have_several_latencies():
    assert stages(2000).latency_cycles == 1
    assert stages(170).latency_cycles >= 4


def test_a_fifo_in_place_of_a_pipeline_is_seen():
    """Its slots take in what a stalled pipeline with bubbles does not."""
    gaps = [(0, 20), (3, 0), (3, 0), (3, 0), (3, 0)]
    netlist = stages(170)
    with open_simulator(netlist, "fast") as simulator:
        right = in_netlist(simulator, ("item", "result"), gaps)
    depth = netlist.latency_cycles
    assert in_time(lambda s: Pipeline(s, "x", depth), gaps, False) == right
    assert in_time(lambda s: Fifo(s, "x", depth, depth), gaps, False) != right


def test_whoever_tries_sees_a_stall_until_the_item_at_the_output_is_taken():
    simulation = Simulation()
    pipeline = Pipeline(simulation, "x", 2)

    def actor():
        assert pipeline.try_put("first")
        assert not pipeline.try_put("in the same cycle")
        yield simulation.wait(1)
        assert pipeline.can_put()
        assert pipeline.try_get() is None
        yield simulation.wait(1)
        for _ in range(2):
            assert pipeline.can_get()
            assert not pipeline.try_put("into a stall")
            yield simulation.wait(1)
        assert pipeline.try_get() == "first"
        assert pipeline.try_put("second")
        assert not pipeline.can_get()
        yield simulation.wait(2)
        assert pipeline.try_get() == "second"
        assert pipeline.occupancy == 0

    simulation.start(actor(), "actor")
    assert simulation.run() == 6


@given(gaps=requests, latency=st.integers(1, 6))
def test_waiting_until_readable_and_writable_is_as_fast_as_blocking(gaps, latency):
    simulation = Simulation()
    pipeline = Pipeline(simulation, "x", latency)
    put, taken = [], []

    def reader():
        for gap in (gap for _, gap in gaps):
            yield simulation.wait(gap)
            yield pipeline.readable()
            assert pipeline.try_get() == len(taken)
            taken.append(simulation.now_cycle)
            yield simulation.wait(1)

    def writer():
        for n, (gap, _) in enumerate(gaps):
            yield simulation.wait(gap)
            while not pipeline.try_put(n):
                yield pipeline.writable()
            put.append(simulation.now_cycle)
            yield simulation.wait(1)

    simulation.start(reader(), "reader")
    simulation.start(writer(), "writer")
    simulation.run()
    assert (put, taken) == in_time(lambda s: Pipeline(s, "x", latency), gaps, True)


def test_items_put_in_one_cycle_go_in_one_after_the_other():
    simulation = Simulation()
    pipeline = Pipeline(simulation, "x", 3)
    put, taken = [], []

    def writer(name):
        yield pipeline.put(name)
        put.append((name, simulation.now_cycle))

    def reader():
        for _ in range(3):
            taken.append(((yield pipeline.get()), simulation.now_cycle))

    for name in "abc":
        simulation.start(writer(name), name)
    simulation.start(reader(), "reader")
    simulation.run()
    assert put == [("a", 0), ("b", 1), ("c", 2)]
    assert taken == [("a", 3), ("b", 4), ("c", 5)]


def test_a_pipeline_has_a_stage():
    with pytest.raises(TransactionError, match="a latency of 0 cycles"):
        Pipeline(Simulation(), "x", 0)
