import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.transaction.channel import Fifo
from models.transaction.kernel import Simulation
from models.transaction.waits import TransactionError

gaps = st.lists(st.integers(0, 4), min_size=1, max_size=20)
shapes = st.fixed_dictionaries(
    {"capacity": st.integers(1, 4), "latency_cycles": st.integers(0, 5), "credit_cycles": st.integers(0, 3)}
)


def blocking_run(write_gaps, read_gaps, shape, reader_first=False):
    """Cycles in which items go in and come out, by the channel."""
    simulation = Simulation()
    fifo = Fifo(simulation, "x", **shape)
    put, taken = [], []

    def writer():
        for n, gap in enumerate(write_gaps):
            yield simulation.wait(gap)
            yield fifo.put(n)
            put.append(simulation.now_cycle)

    def reader():
        for n, gap in enumerate(read_gaps):
            yield simulation.wait(gap)
            assert (yield fifo.get()) == n
            taken.append(simulation.now_cycle)

    processes = {"writer": writer, "reader": reader}
    for name in sorted(processes, reverse=not reader_first):
        simulation.start(processes[name](), name)
    simulation.run()
    return put, taken, fifo


def recurrence(write_gaps, read_gaps, capacity, latency_cycles, credit_cycles):
    """The same by the formula, item after item."""
    put, taken = [], []
    for n, (w, r) in enumerate(zip(write_gaps, read_gaps, strict=True)):
        asks = (put[-1] if n else 0) + w
        put.append(max(asks, taken[n - capacity] + credit_cycles) if n >= capacity else asks)
        taken.append(max((taken[-1] if n else 0) + r, put[n] + latency_cycles))
    return put, taken


@given(write_gaps=gaps, data=st.data(), shape=shapes)
def test_blocking_transport_follows_the_recurrence(write_gaps, data, shape):
    read_gaps = data.draw(st.lists(st.integers(0, 4), min_size=len(write_gaps), max_size=len(write_gaps)))
    put, taken, fifo = blocking_run(write_gaps, read_gaps, shape, data.draw(st.booleans()))
    assert (put, taken) == recurrence(write_gaps, read_gaps, **shape)
    assert fifo.transfers == len(put)
    assert fifo.put_wait_cycles == put[-1] - sum(write_gaps)
    assert fifo.get_wait_cycles == taken[-1] - sum(read_gaps)


@pytest.mark.parametrize("wrong", ["capacity", "latency_cycles", "credit_cycles"])
def test_the_recurrence_sees_a_channel_of_another_shape(wrong):
    shape = {"capacity": 1, "latency_cycles": 2, "credit_cycles": 1}
    other = shape | {wrong: shape[wrong] + 1}
    put, taken, _ = blocking_run([0] * 4, [0] * 4, other)
    assert (put, taken) != recurrence([0] * 4, [0] * 4, **shape)


class NaiveFifo:
    """Items and slots in lists, each with the cycle from which it counts."""

    def __init__(self, capacity, latency_cycles, credit_cycles):
        self.latency, self.credit = latency_cycles, credit_cycles
        self.items, self.slots = [], [0] * capacity

    def put(self, now, item):
        if min(self.slots, default=now + 1) > now:
            return False
        self.slots.remove(min(self.slots))
        self.items.append((now + self.latency, item))
        return True

    def get(self, now):
        if not self.items or self.items[0][0] > now:
            return None
        self.slots.append(now + self.credit)
        return self.items.pop(0)[1]


@given(shape=shapes, actions=st.lists(st.sampled_from(["put", "get", "wait"]), max_size=60))
def test_non_blocking_transport_against_a_naive_channel(shape, actions):
    simulation = Simulation()
    fifo, naive = Fifo(simulation, "x", **shape), NaiveFifo(**shape)

    def actor():
        for n, action in enumerate(actions):
            now = simulation.now_cycle
            if action == "put":
                assert fifo.can_put() == (min(naive.slots, default=now + 1) <= now)
                assert fifo.try_put(n) == naive.put(now, n)
            elif action == "get":
                assert fifo.can_get() == bool(naive.items and naive.items[0][0] <= now)
                assert fifo.try_get() == naive.get(now)
            else:
                yield simulation.wait(1)
            assert fifo.occupancy == len(naive.items)
        while fifo.occupancy:
            assert fifo.try_get() == naive.get(simulation.now_cycle)
            yield simulation.wait(1)

    simulation.start(actor(), "actor")
    simulation.run()


@given(shape=shapes, write_gaps=gaps)
def test_waiting_until_readable_and_writable_is_as_fast_as_blocking(shape, write_gaps):
    simulation = Simulation()
    fifo = Fifo(simulation, "x", **shape)
    put, taken = [], []

    def writer():
        for n, gap in enumerate(write_gaps):
            yield simulation.wait(gap)
            while not fifo.try_put(n):
                yield fifo.writable()
            put.append(simulation.now_cycle)

    def reader():
        for n in range(len(write_gaps)):
            while (item := fifo.try_get()) is None:
                yield fifo.readable()
            assert item == n
            taken.append(simulation.now_cycle)

    simulation.start(writer(), "writer")
    simulation.start(reader(), "reader")
    simulation.run()
    assert (put, taken) == recurrence(write_gaps, [0] * len(write_gaps), **shape)


def tree(order, holds, slots):
    """A fork into two branches of modules and a join; when each item leaves it."""
    simulation = Simulation()
    names = ["a", "b", "c", "d", "e"]
    f = {name: Fifo(simulation, name, slots[i], slots[-i - 1] - 1) for i, name in enumerate(names)}
    left = []

    def source():
        for n in range(8):
            yield simulation.wait(holds[0])
            yield f["a"].put(n)
            yield f["b"].put(n)

    def stage(hold, before, behind):
        for _ in range(8):
            item = yield before.get()
            yield simulation.wait(hold)
            yield behind.put(item)

    def join():
        for _ in range(8):
            pair = (yield f["d"].get()), (yield f["e"].get())
            assert pair[0] == pair[1]
            left.append(simulation.now_cycle)

    def relay():
        for _ in range(8):
            item = yield f["b"].get()
            yield simulation.wait(holds[3])
            yield f["e"].put(item)

    steps = [
        source(),
        stage(holds[1], f["a"], f["c"]),
        stage(holds[2], f["c"], f["d"]),
        relay(),
        join(),
    ]
    for i in order:
        simulation.start(steps[i], f"process {i}")
    simulation.run()
    return left


@given(
    order=st.permutations(range(5)),
    holds=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    slots=st.lists(st.integers(1, 3), min_size=5, max_size=5),
)
def test_times_of_a_blocking_network_do_not_depend_on_the_order_of_its_processes(order, holds, slots):
    assert tree(order, holds, slots) == tree(range(5), holds, slots)


@given(offers=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=2, max_size=3))
def test_an_arbiter_takes_everything_once_and_the_same_way_every_time(offers):
    def run():
        simulation = Simulation()
        inputs = [Fifo(simulation, f"input {i}", 1) for i in range(len(offers))]
        taken = []

        def writer(i):
            for n, gap in enumerate(offers[i]):
                yield simulation.wait(gap)
                yield inputs[i].put((i, n))

        def arbiter():
            for _ in range(sum(map(len, offers))):
                while (item := next((x for f in inputs if (x := f.try_get()) is not None), None)) is None:
                    yield simulation.any_of(f.readable() for f in inputs)
                taken.append((simulation.now_cycle, item))
                yield simulation.wait(1)

        simulation.start(arbiter(), "arbiter")
        for i in range(len(offers)):
            simulation.start(writer(i), f"writer {i}")
        simulation.run()
        return taken

    taken = run()
    assert run() == taken
    assert sorted(item for _, item in taken) == [(i, n) for i, o in enumerate(offers) for n in range(len(o))]
    assert all(b > a for (a, _), (b, _) in itertools.pairwise(taken))


def test_readers_that_wait_are_served_in_the_order_they_came():
    simulation = Simulation()
    fifo = Fifo(simulation, "x", 1)
    got = []

    def reader(name, at):
        yield simulation.wait(at)
        got.append((name, (yield fifo.get())))

    def writer():
        yield simulation.wait(9)
        for n in range(3):
            yield fifo.put(n)

    for name, at in (("late", 3), ("first", 1), ("middle", 2)):
        simulation.start(reader(name, at), name)
    simulation.start(writer(), "writer")
    simulation.run()
    assert got == [("first", 0), ("middle", 1), ("late", 2)]


def test_one_of_several_waits_may_not_take_an_item():
    simulation = Simulation()
    x, y = Fifo(simulation, "x", 1), Fifo(simulation, "y", 1)
    with pytest.raises(TransactionError, match="would use y even if another is first"):
        simulation.any_of([x.readable(), y.get()])
    with pytest.raises(TransactionError, match="would use x even if another is first"):
        simulation.any_of([x.put(1), y.writable()])


def test_writers_that_wait_are_served_in_the_order_they_came():
    simulation = Simulation()
    fifo = Fifo(simulation, "x", 1)
    fifo.try_put("full")

    def writer(name, at):
        yield simulation.wait(at)
        yield fifo.put(name)

    got = []

    def reader():
        yield simulation.wait(9)
        for _ in range(4):
            got.append((yield fifo.get()))

    for name, at in (("late", 3), ("first", 1), ("middle", 2)):
        simulation.start(writer(name, at), name)
    simulation.start(reader(), "reader")
    simulation.run()
    assert got == ["full", "first", "middle", "late"]


@given(latency=st.integers(0, 4), credit=st.integers(0, 4), at=st.integers(0, 6))
def test_a_channel_said_to_be_readable_or_writable_is_so(latency, credit, at):
    simulation = Simulation()
    fifo = Fifo(simulation, "x", 1, latency, credit)
    seen = {}

    def watches():
        yield fifo.readable()
        assert fifo.can_get()
        seen["readable"] = simulation.now_cycle
        fifo.try_get()
        yield fifo.writable()
        assert fifo.can_put()
        seen["writable"] = simulation.now_cycle

    def watches_when_full():
        yield simulation.wait(at)
        fifo.try_put(0)
        yield fifo.writable()
        assert fifo.can_put()
        seen["writable by the writer"] = simulation.now_cycle

    simulation.start(watches(), "watches")
    simulation.start(watches_when_full(), "watches when full")
    simulation.run()
    there = at + latency
    assert seen == {"readable": there, "writable": there + credit, "writable by the writer": there + credit}


@pytest.mark.parametrize("shape", [{"capacity": 0}, {"capacity": 1, "latency_cycles": -1}])
def test_a_channel_without_room_or_with_negative_time_is_refused(shape):
    with pytest.raises(TransactionError, match="channel x: "):
        Fifo(Simulation(), "x", **shape)
