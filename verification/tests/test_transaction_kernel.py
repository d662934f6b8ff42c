import pytest

from models.transaction.channel import Fifo, In, Out, attach, connect
from models.transaction.kernel import Event, Module, Simulation
from models.transaction.pipeline import Pipeline
from models.transaction.waits import TransactionError


class Doubler(Module):
    def __init__(self, simulation, name):
        super().__init__(simulation, name)
        self.numbers, self.doubles = In(self, "numbers"), Out(self, "doubles")

    def run(self):
        while True:
            n = yield self.numbers.get(rest=True)
            yield self.busy(3)
            yield self.doubles.put(2 * n)


class Ends(Module):
    def __init__(self, simulation, name, count):
        super().__init__(simulation, name)
        self.out, self.back, self.count, self.seen = Out(self, "out"), In(self, "back"), count, []

    def send(self):
        for n in range(self.count):
            yield self.out.put(n)

    def receive(self):
        for _ in range(self.count):
            self.seen.append((yield self.back.get()))


def test_modules_are_connected_through_ports():
    simulation = Simulation()
    ends, doubler = Ends(simulation, "ends", 5), Doubler(simulation, "doubler")
    there = connect(ends.out, doubler.numbers, capacity=2)
    connect(doubler.doubles, ends.back, capacity=2, latency_cycles=4, name="back")
    simulation.start(ends.send(), "send")
    ends.start(ends.receive(), "receive")
    doubler.start(doubler.run())
    assert simulation.run() == 5 * 3 + 4
    assert ends.seen == [0, 2, 4, 6, 8]
    assert (doubler.busy_cycles, there.name, there.transfers) == (15, "ends.out -> doubler.numbers", 5)


def test_any_channel_can_be_attached_to_ports():
    simulation = Simulation()
    ends, doubler = Ends(simulation, "ends", 4), Doubler(simulation, "doubler")
    connect(ends.out, doubler.numbers, 1)
    attach(doubler.doubles, ends.back, Pipeline(simulation, "multiplier", 6))
    ends.start(ends.send(), "send")
    ends.start(ends.receive(), "receive")
    doubler.start(doubler.run())
    assert simulation.run() == 4 * 3 + 6
    assert ends.seen == [0, 2, 4, 6]


def test_a_port_takes_exactly_one_channel():
    simulation = Simulation()
    ends, doubler = Ends(simulation, "ends", 1), Doubler(simulation, "doubler")
    with pytest.raises(TransactionError, match=r"port ends\.out is not connected"):
        ends.out.put(1)
    connect(ends.out, doubler.numbers, 1)
    with pytest.raises(TransactionError, match=r"port ends\.out is connected to ends\.out -> doubler\.numbers already"):
        connect(ends.out, In(doubler, "more"), 1)


def test_a_name_is_given_once():
    simulation = Simulation()
    Fifo(simulation, "x", 1)
    with pytest.raises(TransactionError, match="'x' is taken"):
        Module(simulation, "x")


def test_time_is_whole_cycles():
    simulation = Simulation()
    with pytest.raises(TypeError):
        simulation.wait(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="-1"):
        simulation.wait(-1)


def test_an_event_wakes_whoever_waits_and_is_not_remembered():
    simulation = Simulation()
    event = Event(simulation, "go")
    woken = []

    def waits(name, at):
        yield simulation.wait(at)
        woken.append((name, (yield event.wait(rest=True)), simulation.now_cycle))

    def notifies():
        yield simulation.wait(5)
        event.notify("now")

    for name, at in (("a", 1), ("b", 4), ("too late", 6)):
        simulation.start(waits(name, at), name)
    simulation.start(notifies(), "notifies")
    simulation.run()
    assert woken == [("a", "now", 5), ("b", "now", 5)]


def test_a_run_can_stop_at_a_cycle_and_go_on():
    simulation = Simulation()
    seen = []

    def ticks():
        for _ in range(4):
            yield simulation.wait(5)
            seen.append(simulation.now_cycle)

    simulation.start(ticks(), "ticks")
    assert simulation.run(until_cycle=10) == 10
    assert seen == [5]
    assert simulation.run() == 20
    assert seen == [5, 10, 15, 20]


def test_a_fault_inside_a_process_ends_the_run():
    simulation = Simulation()

    def fails():
        yield simulation.wait(1)
        raise ZeroDivisionError("in row 7")

    simulation.start(fails(), "fails")
    with pytest.raises(ZeroDivisionError, match="in row 7"):
        simulation.run()
