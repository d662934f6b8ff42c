import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import AcceleratorConfig
from models.memory.variants import AdversarialMemory
from models.transaction import fetching
from models.transaction.channel import Fifo, In, Out, connect
from models.transaction.deadlock import DeadlockError
from models.transaction.kernel import Event, Module, Simulation
from models.transaction.system import simulate
from verification.tests.small_workloads import small_workload

TINY = AcceleratorConfig.preset("tiny")


@given(length=st.integers(1, 5))
def test_modules_in_a_circle_that_all_wait_for_input_are_named(length):
    simulation = Simulation()
    ring = [Fifo(simulation, f"channel {i}", 2) for i in range(length)]

    def first(i):
        yield ring[i].get()
        yield ring[(i + 1) % length].put(0)

    modules = [Module(simulation, f"m{i}") for i in range(length)]
    for i, module in enumerate(modules):
        ring[i].reader_module = ring[(i + 1) % length].writer_module = module.name
        module.start(first(i))
    with pytest.raises(DeadlockError) as caught:
        simulation.run()
    error = caught.value
    assert [w.process for w in error.circle] == [f"m{-i % length}.main" for i in range(length)]
    assert error.circle[0].lacks == "an item of channel 0 (0 of 2)"
    assert error.occupancy == {f"channel {i}": (0, 2) for i in range(length)}


class Fork(Module):
    def __init__(self, simulation, name, burst):
        super().__init__(simulation, name)
        self.short, self.long, self.burst = Out(self, "short"), Out(self, "long"), burst

    def run(self):
        for n in range(self.burst):
            yield self.long.put(n)
        for n in range(self.burst):
            yield self.short.put(n)


class Join(Module):
    def __init__(self, simulation, name, burst):
        super().__init__(simulation, name)
        self.short, self.long, self.burst = In(self, "short"), In(self, "long"), burst

    def run(self):
        for _ in range(self.burst):
            yield self.busy(1)
            yield self.short.get()
            yield self.long.get()


def fork_and_join(burst, slots):
    simulation = Simulation()
    fork, join = Fork(simulation, "fork", burst), Join(simulation, "join", burst)
    connect(fork.long, join.long, slots, name="long")
    connect(fork.short, join.short, slots, name="short")
    fork.start(fork.run())
    join.start(join.run())
    return simulation


@given(burst=st.integers(1, 8), slots=st.integers(1, 8))
def test_a_fork_with_a_channel_too_short_stands_still_and_one_with_enough_does_not(burst, slots):
    simulation = fork_and_join(burst, slots)
    if burst <= slots:
        simulation.run()
        return
    with pytest.raises(DeadlockError) as caught:
        simulation.run()
    error = caught.value
    assert [w.process for w in error.circle] == ["fork.main", "join.main"]
    assert (error.at_cycle, error.circle[0].partners) == (1, ("join.main",))
    assert error.occupancy == {"long": (slots, slots), "short": (0, slots)}


def test_the_message_says_all_of_it():
    with pytest.raises(DeadlockError) as caught:
        fork_and_join(3, 2).run()
    assert str(caught.value).splitlines() == [
        "deadlock in cycle 1: nothing is left to happen and the run has not ended",
        "they wait in a circle: fork.main waits for space in long (2 of 2) since cycle 0; "
        "join.main waits for an item of short (0 of 2) since cycle 1; and fork.main again",
        "all that wait: fork.main waits for space in long (2 of 2) since cycle 0; "
        "join.main waits for an item of short (0 of 2) since cycle 1",
        "channels: long 2 of 2, short 0 of 2",
    ]


def serve(simulation, left, right, resting):
    while True:
        yield left.get(rest=resting)
        yield right.get()
        yield simulation.wait(2)


@pytest.mark.parametrize(("lefts", "rights", "ends_well"), [(3, 3, True), (0, 0, True), (3, 2, False), (2, 3, False)])
def test_a_server_may_rest_only_where_it_holds_nothing_and_leaves_nothing(lefts, rights, ends_well):
    simulation = Simulation()
    left, right = Fifo(simulation, "left", 4), Fifo(simulation, "right", 4)
    for _ in range(lefts):
        left.try_put(0)
    for _ in range(rights):
        right.try_put(0)
    simulation.start(serve(simulation, left, right, resting=True), "server")
    if ends_well:
        simulation.run()
        return
    with pytest.raises(DeadlockError) as caught:
        simulation.run()
    assert caught.value.circle == ()
    assert [w.process for w in caught.value.waiting] == ["server"]
    assert caught.value.occupancy == {"left": (0, 4), "right": (max(0, rights - lefts), 4)}


def test_a_server_that_may_not_rest_has_not_ended():
    simulation = Simulation()
    left, right = Fifo(simulation, "left", 1), Fifo(simulation, "right", 1)
    simulation.start(serve(simulation, left, right, resting=False), "server")
    with pytest.raises(DeadlockError, match="server waits for an item of left"):
        simulation.run()


def test_waits_for_events_processes_and_several_things_are_described():
    simulation = Simulation()
    event, x, y = Event(simulation, "go"), Fifo(simulation, "x", 1), Fifo(simulation, "y", 1)

    def waits_for_event():
        yield event.wait()

    other = simulation.start(waits_for_event(), "patient")

    def waits_for_end():
        yield other

    def waits_for_any():
        yield simulation.any_of([x.readable(), y.readable()])

    def waits_for_all():
        yield simulation.all_of([simulation.wait(3), event.wait()])

    simulation.start(waits_for_end(), "heir")
    simulation.start(waits_for_any(), "arbiter")
    simulation.start(waits_for_all(), "barrier")
    with pytest.raises(DeadlockError) as caught:
        simulation.run()
    assert {w.process: w.lacks for w in caught.value.waiting} == {
        "patient": "a notification of go",
        "heir": "the end of patient",
        "arbiter": "an item of x (0 of 1) or an item of y (0 of 1)",
        "barrier": "a notification of go",
    }
    assert caught.value.at_cycle == 3


def test_an_arbiter_may_rest():
    simulation = Simulation()
    inputs = [Fifo(simulation, f"input {i}", 1) for i in range(2)]

    def arbiter():
        while True:
            while all(f.try_get() is None for f in inputs):
                yield simulation.any_of((f.readable() for f in inputs), rest=True)

    def writer(fifo):
        for n in range(3):
            yield fifo.put(n)

    simulation.start(arbiter(), "arbiter")
    for i, fifo in enumerate(inputs):
        simulation.start(writer(fifo), f"writer {i}")
    simulation.run()
    assert [fifo.transfers for fifo in inputs] == [3, 3]


def test_a_longer_circle_behind_a_chain_is_found():
    simulation = Simulation()
    f = {name: Fifo(simulation, name, 1) for name in ("chain", "a", "b", "c")}
    f["chain"].try_put(0)

    def step(before, behind):
        item = yield f[before].get()
        yield f[behind].put(item)
        yield f[behind].put(item)

    def circle(before, behind):
        yield f[behind].put(0)
        while True:
            yield f[behind].put((yield f[before].get()))
            yield f[behind].put(1)

    simulation.start(step("chain", "a"), "feeder")
    for before, behind in (("a", "b"), ("b", "c"), ("c", "a")):
        simulation.start(circle(before, behind), f"{before} to {behind}")
    with pytest.raises(DeadlockError) as caught:
        simulation.run()
    assert {w.process for w in caught.value.circle} == {"a to b", "b to c", "c to a"}


@pytest.mark.parametrize("silent_after", [1, 100, 150])
def test_a_machine_whose_memory_falls_silent_stands_still_and_says_who_owes_what(
    silent_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "STILL_CYCLES", 2000)
    memory = AdversarialMemory(TINY.hbm_channels, silent_after=silent_after)
    with pytest.raises(DeadlockError) as caught:
        simulate(small_workload(12, 1, 0.5, 4), TINY, memory)
    error = caught.value
    assert {"fetch side.main", "controller.main"} < {w.process for w in error.waiting}
    (stands,) = (w for w in error.waiting if w.process == "fetch side.main")
    assert memory.waiting()
    assert stands.lacks == f"a burst or a row that moves ({'; '.join(memory.waiting())})"
    assert error.at_cycle - 2000 <= (stands.since_cycle or 0) <= error.at_cycle
    assert all(inside == 0 for inside, _ in error.occupancy.values())
    assert "K that lands" in error.occupancy


def test_a_memory_that_is_only_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sibling of the test above: pauses of most of a window."""
    monkeypatch.setattr(fetching, "STILL_CYCLES", 400)
    memory = AdversarialMemory(TINY.hbm_channels, answer=0.001, max_latency_cycles=350)
    assert simulate(small_workload(12, 1, 0.5, 4), TINY, memory).layers[-1].work.step == 1
