import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.transaction.channel import Fifo
from models.transaction.kernel import Simulation
from models.transaction.monitor import Monitor
from models.transaction.pipeline import Pipeline
from verification.tests.test_transaction_channel import gaps, recurrence, shapes


@given(write_gaps=gaps, data=st.data(), shape=shapes)
def test_a_monitor_tells_what_happened_cycle_by_cycle(write_gaps, data, shape):
    read_gaps = data.draw(st.lists(st.integers(0, 4), min_size=len(write_gaps), max_size=len(write_gaps)))
    simulation = Simulation()
    fifo = Fifo(simulation, "x", **shape)
    monitor = Monitor(fifo, lambda item: f"item {item}")

    def writer():
        for n, gap in enumerate(write_gaps):
            yield simulation.wait(gap)
            yield fifo.put(n)

    def reader():
        for gap in read_gaps:
            yield simulation.wait(gap)
            yield fifo.get()

    simulation.start(writer(), "writer")
    simulation.start(reader(), "reader")
    end = simulation.run() + 2
    put, taken = recurrence(write_gaps, read_gaps, **shape)
    log = monitor.log()
    assert [(t.item, t.put_cycle, t.get_cycle) for t in log] == [
        (f"item {n}", p, g) for n, (p, g) in enumerate(zip(put, taken, strict=True))
    ]
    assert fifo.put_wait_cycles == sum(t.put_cycle - t.put_requested_cycle for t in log)
    assert fifo.get_wait_cycles == sum((t.get_cycle or 0) - (t.get_requested_cycle or 0) for t in log)
    inside = [sum(int(p <= c) for p in put) - sum(int(g <= c) for g in taken) for c in range(end)]
    cycles, steps = monitor.occupancy()
    known = dict(zip(cycles.tolist(), steps.tolist(), strict=True))
    current, replayed = 0, []
    for c in range(end):
        current = known.get(c, current)
        replayed.append(current)
    assert replayed == inside
    assert monitor.max_occupancy() == max(inside)
    for length in (end, data.draw(st.integers(1, end))):
        assert monitor.mean_occupancy(length) == pytest.approx(sum(inside[:length]) / length)
        assert monitor.utilization(length) == pytest.approx(len({g for g in taken if g < length}) / length)


def test_a_pipeline_is_monitored_as_any_channel():
    simulation = Simulation()
    pipeline = Pipeline(simulation, "x", 3)
    monitor = Monitor(pipeline)

    def writer():
        for n in range(3):
            yield pipeline.put(n)

    def reader():
        yield pipeline.get()
        yield simulation.wait(4)
        for _ in range(2):
            yield pipeline.get()

    simulation.start(writer(), "writer")
    simulation.start(reader(), "reader")
    simulation.run()
    log = [(t.put_requested_cycle, t.put_cycle, t.get_requested_cycle, t.get_cycle) for t in monitor.log()]
    assert log == [(0, 0, 0, 3), (0, 1, 7, 7), (1, 2, 7, 8)]
    assert (pipeline.transfers, pipeline.put_wait_cycles, pipeline.get_wait_cycles) == (3, 2, 4)
    assert monitor.max_occupancy() == 3
