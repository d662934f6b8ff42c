"""Streams against their naive models, cycle by cycle, under any pattern of offers and stalls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyrtl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from hls.lower import Netlist, building
from hls.simulate import open_simulator
from hls.stream import Stream, fifo, sink_ports, skid_buffer, source_ports
from hls.stream_flow import fork, join, round_robin
from hls.stream_rows import as_rows, as_stream, row_bits, row_packer, width_adapter
from hls.types import HlsError
from verification.stream_models import (
    ArbiterModel,
    ForkModel,
    Item,
    JoinModel,
    Model,
    NarrowModel,
    PackerModel,
    QueueModel,
    WidenModel,
)

BITS = 6
LANES = 4


@dataclass(frozen=True)
class Unit:
    """A stream unit under test: its ports, its model, and the items that it takes."""

    build: Callable[[pyrtl.Block], None]
    model: Callable[[], Model]
    sources: int = 1
    sinks: int = 1
    bits: int = BITS
    rows: bool = False


def one_to_one(make: Callable[[Stream, pyrtl.Block], Stream], bits: int = BITS) -> Callable[[pyrtl.Block], None]:
    return lambda block: sink_ports(make(source_ports(bits, block, "in0_"), block), block, "out0_")


def build_fork(block: pyrtl.Block) -> None:
    for i, out in enumerate(fork(source_ports(BITS, block, "in0_"), 3, block=block)):
        sink_ports(out, block, f"out{i}_")


def sources(count: int, block: pyrtl.Block) -> list[Stream]:
    return [source_ports(BITS, block, f"in{i}_") for i in range(count)]


def build_arbiter(count: int) -> Callable[[pyrtl.Block], None]:
    def build(block: pyrtl.Block) -> None:
        made = round_robin(sources(count, block), block=block)
        with building(block):
            data = pyrtl.concat(made.winner, made.stream.data)
        sink_ports(Stream(data, made.stream.valid, made.stream.ready), block, "out0_")

    return build


def build_packer(lanes: int) -> Callable[[pyrtl.Block], None]:
    def build(block: pyrtl.Block) -> None:
        rows = as_rows(source_ports(row_bits(lanes, BITS), block, "in0_"), lanes, block)
        sink_ports(as_stream(row_packer(rows, block=block), block), block, "out0_")

    return build


UNITS = {
    "skid": Unit(one_to_one(lambda s, b: skid_buffer(s, block=b)), lambda: QueueModel(2)),
    **{
        f"fifo_{storage}_{depth}": Unit(
            one_to_one(lambda s, b, d=depth, k=storage: fifo(s, d, block=b, storage=k).stream),  # type: ignore[misc]
            lambda d=depth: QueueModel(d),  # type: ignore[misc]
        )
        for storage in ("registers", "memory")
        for depth in (1, 2, 3, 8)
    },
    "fork": Unit(build_fork, lambda: ForkModel(3), sinks=3),
    "join": Unit(lambda b: sink_ports(join(sources(3, b), block=b), b, "out0_"), lambda: JoinModel(BITS), sources=3),
    **{
        f"arbiter_{n}": Unit(build_arbiter(n), lambda n=n: ArbiterModel(BITS, list(range(n))), sources=n)  # type: ignore[misc]
        for n in (1, 3, 4)
    },
    "widen": Unit(one_to_one(lambda s, b: width_adapter(s, 3 * BITS, block=b)), lambda: WidenModel(3, BITS)),
    "same": Unit(one_to_one(lambda s, b: width_adapter(s, BITS, block=b)), lambda: WidenModel(1, BITS)),
    "narrow": Unit(one_to_one(lambda s, b: width_adapter(s, 2, block=b)), lambda: NarrowModel(3, 2)),
    **{
        f"packer_{lanes}": Unit(
            build_packer(lanes),
            lambda lanes=lanes: PackerModel(lanes),  # type: ignore[misc]
            bits=lanes,
            rows=True,
        )
        for lanes in (1, 2, LANES)
    },
}


def netlist(unit: Unit) -> Netlist:
    block = pyrtl.Block()
    unit.build(block)
    block.sanity_check()
    return Netlist("unit", block)


def encoded(item: Item, lanes: int) -> int:
    if isinstance(item, int):
        return item
    elements, last = item
    data = sum(e << (BITS * i) for i, e in enumerate(elements))
    return data | len(elements) << (lanes * BITS) | last << (row_bits(lanes, BITS) - 1)


def machine_of(unit: Unit) -> type[RuleBasedStateMachine]:
    simulator = open_simulator(netlist(unit), "fast")

    def items() -> st.SearchStrategy[Item]:
        if not unit.rows:
            return st.integers(0, (1 << unit.bits) - 1)
        elements = st.lists(st.integers(0, (1 << BITS) - 1), max_size=unit.bits).map(tuple)
        return st.tuples(elements, st.booleans())

    class Machine(RuleBasedStateMachine):
        """Sources keep what they offer until it is taken; nobody else keeps a promise."""

        def __init__(self) -> None:
            super().__init__()
            simulator.reset()
            self.model = unit.model()
            self.offers: list[Item | None] = [None] * unit.sources

        @precondition(lambda self: None in self.offers)
        @rule(data=st.data())
        def offer(self, data: st.DataObject) -> None:
            free = [i for i, offer in enumerate(self.offers) if offer is None]
            self.offers[data.draw(st.sampled_from(free))] = data.draw(items())

        @rule(ready=st.lists(st.booleans(), min_size=unit.sinks, max_size=unit.sinks))
        def cycle(self, ready: Sequence[bool]) -> None:
            step = {f"out{i}_ready": int(r) for i, r in enumerate(ready)}
            for i, offer in enumerate(self.offers):
                if offer is not None:
                    step |= {f"in{i}_valid": 1, f"in{i}_data": encoded(offer, unit.bits)}
            seen = simulator.step(step)
            takes, shown = self.model.cycle(self.offers, ready)
            for i, item in enumerate(shown):
                assert bool(seen[f"out{i}_valid"]) == (item is not None)
                assert item is None or seen[f"out{i}_data"] == encoded(item, unit.bits)
            for i, (take, offer) in enumerate(zip(takes, self.offers, strict=True)):
                if offer is not None:
                    assert bool(seen[f"in{i}_ready"]) == take
                    self.offers[i] = None if take else offer

    return Machine


@pytest.mark.parametrize("name", UNITS)
def test_equals_its_naive_model(name):
    machine = machine_of(UNITS[name])
    machine.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
    machine.TestCase().runTest()


def test_a_swapped_select_is_noticed():
    """The harness sees a fault: a FIFO that shifts when it should not."""

    def faulty(block: pyrtl.Block) -> None:
        UNITS["fifo_registers_3"].build(block)
        for net in block.logic_subset("x"):
            if net.args[1].name == "fifo_entry_0":
                block.logic.remove(net)
                block.logic.add(pyrtl.LogicNet("x", None, (net.args[0], net.args[2], net.args[1]), net.dests))

    machine = machine_of(Unit(faulty, lambda: QueueModel(3)))
    machine.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None, print_blob=False)
    with pytest.raises(AssertionError):
        machine.TestCase().runTest()


def test_what_cannot_be_built_is_refused():
    block = pyrtl.Block()
    with pytest.raises(HlsError, match="FIFO 'fifo_' of 0 items"):
        fifo(source_ports(4, block, "a_"), 0, block=block)
    with pytest.raises(HlsError, match="from 6 to 4 bits: one must divide the other; 8 bits instead of 6 would do"):
        width_adapter(source_ports(6, block, "b_"), 4, block=block)
    with pytest.raises(HlsError, match="widths \\[3, 4\\]"):
        round_robin([source_ports(3, block, "c_"), source_ports(4, block, "d_")], block=block)
    with pytest.raises(HlsError, match="fork 'fork_' into 0 streams"):
        fork(source_ports(4, block, "e_"), 0, block=block)
    with pytest.raises(HlsError, match="join 'join_' of no streams"):
        join([], block=block)
    with pytest.raises(HlsError, match="3 lanes: a power of two works; use 4"):
        row_packer(as_rows(source_ports(row_bits(3, 4), block, "f_"), 3, block), block=block)
