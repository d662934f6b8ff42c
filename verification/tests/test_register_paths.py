"""Registers on a path, counted in a netlist: against simulation, against schedules, and with a register too many."""

from collections.abc import Callable
from dataclasses import asdict
from random import Random
from typing import Literal

import pyrtl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.datapaths import head_importance, operand_loader, token_importance, top_k_graphs
from hls.datapaths.catalog import BLOCKS
from hls.datapaths.number_formats import IMPORTANCE_BITS, PROBABILITY_BITS
from hls.lower import Netlist, building
from hls.register_paths import RegisterPaths
from hls.simulate import open_simulator
from hls.stream import STORED_CYCLES, fifo, register, sink_ports, skid_buffer, source_ports
from hls.types import HlsError
from models.config import AcceleratorConfig
from models.transaction import register_timing, serial
from models.transaction.register_timing import ControlTiming, RowTiming

TINY = AcceleratorConfig.preset("tiny")
PRESETS = ["tiny", *(pytest.param(name, marks=pytest.mark.full) for name in ("spatten", "spatten-1-8"))]


def _chain(lengths: list[int]) -> Netlist:
    """A chain of so many registers for each way from `in` to `out`, which is their exclusive or."""
    block = pyrtl.Block()
    with building(block):
        source, total = pyrtl.Input(1, "in"), pyrtl.Const(0, 1)
        for way, length in enumerate(lengths):
            wire = source
            for stage in range(length):
                held = register(1, f"way_{way}_{stage}", block)
                held.next <<= wire
                wire = held
            total = total ^ wire
        out = pyrtl.Output(1, "out")
        out <<= total
    return Netlist("chain", block)


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_the_shortest_of_all_ways_counts(lengths: list[int]) -> None:
    assert RegisterPaths(_chain(lengths)).between("in", "out") == min(lengths)


def test_stations_choose_the_way() -> None:
    paths = RegisterPaths(_chain([1, 4]))
    assert paths.between("in", "out") == 1
    assert paths.between("in", "way_1_2", "out") == 4
    assert paths.between("in", "way_1_0", "way_1_3") == 4


def test_a_wire_that_there_is_not_is_named_with_the_nearest() -> None:
    with pytest.raises(HlsError, match=r"way_0_7.*way_0_0"):
        RegisterPaths(_chain([1])).between("in", "way_0_7")


def test_where_no_path_leads_there_is_an_error() -> None:
    with pytest.raises(HlsError, match="no path leads from 'out' to 'in'"):
        RegisterPaths(_chain([2])).between("out", "in")


@pytest.mark.parametrize("storage", ["registers", "memory", "skid"])
def test_an_item_stays_in_a_fifo_as_long_as_said(storage: Literal["registers", "memory", "skid"]) -> None:
    block = pyrtl.Block()
    taken = source_ports(8, block)
    out = skid_buffer(taken, block=block) if storage == "skid" else fifo(taken, 4, block=block, storage=storage).stream
    sink_ports(out, block)
    paths = RegisterPaths(Netlist("fifo", block))
    assert paths.between("in_data", "out_data") == paths.between("in_valid", "out_valid") == STORED_CYCLES


def _first_differences(netlist: Netlist, port: str, seed: int, cycles: int = 40, change: int = 20) -> dict[str, int]:
    """Of each output the cycle, from the change on, in which it first shows that another `port` was given."""
    random = Random(seed)
    seen = []
    others = [{name: random.getrandbits(bits) for name, bits in netlist.inputs.items()} for _ in range(cycles)]
    changed = [{**inputs, port: random.getrandbits(netlist.inputs[port])} for inputs in others]
    for given_inputs in (others, others[:change] + changed[change:]):
        with open_simulator(netlist, "fast") as simulator:
            seen.append([simulator.step(inputs) for inputs in given_inputs])
    first: dict[str, int] = {}
    for cycle, (left, right) in enumerate(zip(*seen, strict=True)):
        for name in netlist.outputs:
            if left[name] != right[name]:
                first.setdefault(name, cycle - change)
    return first


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("operand_loader", "key_request_ready", "key_loads"),
        ("operand_loader", "key_release", "key_request_valid"),
        ("operand_loader", "key_release", "key_loads"),
        ("row_queues", "decided_valid", "row_decided"),
        ("query_buffer", "query_clear", "query_valid"),
        ("control_write", "answer_row_valid", "answer_row_ready"),
    ],
)
def test_a_change_shows_after_as_many_cycles_and_not_before(name: str, source: str, target: str) -> None:
    netlist = BLOCKS[name](TINY)
    paths = RegisterPaths(netlist)
    seen = [_first_differences(netlist, source, seed) for seed in range(60)]
    for found in seen:
        assert all(cycle >= paths.between(source, output) for output, cycle in found.items())
    assert min(found[target] for found in seen if target in found) == paths.between(source, target)


def _with_register(build: Callable[[AcceleratorConfig], Netlist], port: str) -> Callable[[AcceleratorConfig], Netlist]:
    """The module with a register before an output."""

    def later(machine: AcceleratorConfig) -> Netlist:
        netlist = build(machine)
        block = netlist.block
        (net,) = (net for net in block.logic if net.dests and net.dests[0].name == port)
        with building(block):
            held = register(len(net.args[0]), "one_too_many", block)
            held.next <<= net.args[0]
        block.logic.remove(net)
        block.add_net(net._replace(args=(held,)))
        return netlist

    return later


@pytest.mark.parametrize(
    ("name", "port", "later"),
    [
        ("control_read", "read_valid", {"given", "lists_asked"}),
        ("controller", "selection_start", {"begun", "held_told", "importance_told"}),
        ("controller", "layer_start", {"launched"}),
        ("selection", "sweep_valid", {"clear_offered"}),
        ("selection", "selection_done", {"answered_behind"}),
        ("row_values", "row_added", {"importance_told"}),
        ("output_stage", "rows_done", {"outputs_told"}),
        ("operand_loader", "key_loads", {"loads_shown"}),
        ("row_queues", "row_decided", {"decision_seen", "lsb_asked", "values_decided"}),
        ("row_queues", "row_retired", {"retired_seen"}),
        ("row_issue", "key_release", {"key_released"}),
        ("row_issue", "query_freed", {"lines_cleared"}),
    ],
)
def test_a_register_too_many_in_a_module_is_a_cycle_of_the_model(
    name: str, port: str, later: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {**asdict(ControlTiming.of(TINY)), **asdict(RowTiming.of(TINY))}
    monkeypatch.setitem(BLOCKS, name, _with_register(BLOCKS[name], port))
    found = {
        **asdict(register_timing._control.__wrapped__(TINY)),
        **asdict(register_timing._rows.__wrapped__(TINY)),
    }
    assert {field: found[field] - right[field] for field in right} == {field: int(field in later) for field in right}


def test_a_stage_too_many_of_a_counter_is_a_cycle_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = RowTiming.of(TINY).loads_shown
    monkeypatch.setattr(operand_loader, "LOADS_DELAY_CYCLES", operand_loader.LOADS_DELAY_CYCLES + 1)
    assert register_timing._rows.__wrapped__(TINY).loads_shown == shown + 1


@pytest.mark.parametrize("preset", PRESETS)
def test_latencies_that_plans_say_are_those_of_the_netlists(preset: str) -> None:
    machine = AcceleratorConfig.preset(preset)
    for name, bits in (("top_k_probability", PROBABILITY_BITS), ("top_k", IMPORTANCE_BITS)):
        plan, engine = top_k_graphs.plan(machine, value_bits=bits), RegisterPaths(BLOCKS[name](machine))
        assert engine.between("in_valid", "requests_count") == plan.fill_latency_cycles + STORED_CYCLES
        # a cycle after the one that hands the request over
        assert engine.between("filter_reading", "result_count") + 1 == plan.filter_latency_cycles + STORED_CYCLES
    scores = RegisterPaths(BLOCKS["token_importance"](machine))
    assert scores.between("sweep_valid", "out_valid") == token_importance.plan(machine).sweep_latency_cycles
    heads = RegisterPaths(BLOCKS["head_importance"](machine))
    added = heads.between("in_valid", "row_done", "adding", "score_0")
    assert added == head_importance.plan(machine).latency_cycles


@pytest.mark.parametrize("preset", PRESETS)
def test_the_last_value_kept_is_told_as_late_as_the_last_probability(preset: str) -> None:
    machine = AcceleratorConfig.preset(preset)
    kept, controller = (RegisterPaths(BLOCKS[name](machine)) for name in ("kept_beats", "controller"))
    told = kept.between("engine_a_out_valid", "row_kept") + controller.between("row_kept", "selection_start")
    assert told == ControlTiming.of(machine).importance_told


def test_requests_wait_before_the_memory_port_and_in_it() -> None:
    port, reads, writes = (
        RegisterPaths(BLOCKS[name](TINY)) for name in ("memory_port", "control_read", "control_write")
    )
    read = reads.between("sending", "control_read_valid") + port.between("control_read_valid", "memory_valid")
    write = writes.between("answer_row_queue_count", "control_write_valid")
    assert read == write + port.between("control_write_valid", "memory_valid") == serial.PORT
    assert port.between("request_valid", "memory_valid") == serial.PORT
