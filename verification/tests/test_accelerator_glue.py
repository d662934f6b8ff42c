"""The evidence of the glue: modules alone do what was recorded; faults are noticed, payloads without valid are not."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pyrtl
import pytest

from hls.compose import Composition
from hls.lower import Netlist
from hls.stream import fifo, sink_ports, source_ports
from verification.cosimulation import accelerator_of
from verification.equivalence.bits import Bits, Concrete
from verification.equivalence.netlist import read_block
from verification.equivalence.sliced import case_value
from verification.equivalence.solver import Limits
from verification.evidence.accelerator_glue import Stage, chosen_mutants, fate, shares, stages
from verification.evidence.glue_control_reads import control_reads_alone
from verification.evidence.glue_crowds import CROWDS, crowded
from verification.evidence.glue_equivalence import same_step, unseen
from verification.evidence.glue_head_walk import head_walk_alone
from verification.evidence.glue_modules import PARTS, Module, module
from verification.evidence.glue_outputs import Lanes, Meaning, meanings
from verification.evidence.glue_planes import planes_of, words_of
from verification.evidence.glue_port import port_alone
from verification.evidence.glue_promises import PROMISES, Promise, never_full
from verification.evidence.glue_recording import Recording, record
from verification.evidence.glue_replay import Replay, replay_of
from verification.evidence.glue_runs import RUNS, TINY
from verification.evidence.glue_sequencer import sequencer_alone
from verification.evidence.glue_steps import Mutated, Steps
from verification.evidence.glue_throttles import links, throttle, throttled
from verification.evidence.glue_windows import Recorded, Run
from verification.mutants.netlist import netlist_mutants

FEW = ("one key", "7 elements")
SMALL = ("row_queues", "landing_lane", "value_lists")


@pytest.fixture(scope="module")
def design() -> Composition:
    return accelerator_of(TINY)


@pytest.fixture(scope="module")
def recordings() -> Sequence[Recording]:
    return list(record(PARTS, {name: RUNS[name] for name in FEW}, requests=()))


def difference(block: pyrtl.Block, of: Module, replay: Replay) -> tuple[int, str] | None:
    """First cycle and port that differs, of a block run cycle by cycle: the check of the fast ways."""
    simulation = pyrtl.FastSimulation(tracer=None, block=block)
    steps = Steps(of, [replay], 1)
    rows = Replay("", {p: steps.words[p] for p in of.netlist.inputs}, {p: steps.words[p] for p in of.netlist.outputs})
    for cycle, row in enumerate(rows.rows()):
        simulation.step({port: row[port] for port in of.netlist.inputs})
        for port, parts in steps.meant.items():
            wrong = simulation.inspect(port) ^ row[port]
            for at, meant in parts:
                if wrong >> at.start & (1 << at.stop - at.start) - 1 and case_value((meant,), *divmod(cycle, 64)):
                    return cycle, port
    return None


@pytest.mark.parametrize("name", SMALL)
def test_a_module_alone_does_what_it_did_in_the_whole(
    design: Composition, recordings: Sequence[Recording], name: str
) -> None:
    of = module(design, name)
    assert difference(of.netlist.block, of, of.replays(recordings[:1])[0]) is None


def test_state_is_that_of_the_netlist(design: Composition, recordings: Sequence[Recording]) -> None:
    """The next state that the planes give is what the simulator saw."""
    of = module(design, "row_queues")
    steps = Steps(of, of.replays(recordings[:1]), 1)
    for name in steps.netlist.registers:
        after = words_of(steps.original.value(steps.netlist.drivers[name].args[0]), steps.count)
        assert np.array_equal(after[:-1], steps.words[name][1:]), name


@pytest.mark.parametrize("name", SMALL)
def test_an_inverted_output_is_noticed(design: Composition, recordings: Sequence[Recording], name: str) -> None:
    of = module(design, name)
    inverted = [m for m in netlist_mutants(of.netlist.block) if m.operator == "inversion"]
    found = stages(of, recordings, 1)
    fates = [fate(m, of, found) for m in inverted[:3]]
    assert all(f.killed_by or f.equivalent for f in fates)
    assert any(f.killed_by for f in fates)


def test_a_module_that_is_not_what_was_recorded(design: Composition, recordings: Sequence[Recording]) -> None:
    of = module(design, "row_queues")
    replay = of.replays(recordings[:1])[0]
    port = "beat_valid"
    flipped = {**replay.outputs, port: replay.outputs[port] ^ np.eye(1, len(replay), 99, np.uint32).T}
    with pytest.raises(AssertionError, match=f"{port} differs in cycle 99 of '{FEW[0]}'"):
        Steps(of, [replace(replay, outputs=flipped)], 1)


def test_only_what_means_something_is_compared() -> None:
    block = pyrtl.Block()
    valid, data = pyrtl.Input(1, "valid", block=block), pyrtl.Output(4, "data", block=block)
    shown = pyrtl.Output(1, "shown", block=block)
    with pyrtl.set_working_block(block, no_sanity_check=True):
        data <<= pyrtl.select(valid, pyrtl.Const(5, 4), pyrtl.Const(9, 4))
        shown <<= valid
    netlist = Netlist("by_hand", block)

    def wrong(meaning: Meaning, wanted: Sequence[int]) -> bool:
        rows = [{"valid": v, "data": d, "shown": v} for d, v in zip(wanted, (0, 1, 0), strict=True)]
        of = Module("by_hand", netlist, [], {"data": meaning}, {}, ())
        try:
            Steps(of, [replay_of("by hand", netlist, rows)], 1)
        except AssertionError:
            return True
        return False

    under = Meaning(("shown",))
    assert not wrong(under, (0, 5, 0))
    assert wrong(under, (0, 4, 0))
    assert not wrong(Meaning(), (9, 5, 9))
    assert wrong(Meaning(), (9, 5, 8))
    low_lane = Meaning(("shown",), lanes=Lanes("shown", 0, 1), lane_bits=2, lane_count=1)
    assert wrong(low_lane, (0, 4, 0))
    assert wrong(low_lane, (0, 13, 0))
    assert not wrong(low_lane, (0, 5, 0))
    second_lane = Meaning((), lanes=Lanes("shown", 0, 1), lane_bits=2, lane_count=2)
    assert second_lane.ports == {"shown"}
    from_then_on = Meaning(since=("shown",), until="shown")
    assert not wrong(from_then_on, (0, 5, 0))
    assert wrong(from_then_on, (0, 7, 0))


def test_steps_and_runs_find_what_a_run_from_reset_finds(design: Composition, recordings: Sequence[Recording]) -> None:
    """Of mutants of all operators: shown by a step, or by a run from one, or by no run."""
    kinds, lasting = set(), 0
    for name, take in (("landing_lane", 5), ("row_queues", 29)):
        of = module(design, name)
        replay = of.replays(recordings[:1])[0]
        steps = Steps(of, [replay], 1)
        recorded = Recorded(steps)
        for mutant in netlist_mutants(of.netlist.block)[::take]:
            block = mutant.build()
            mutated = Mutated(steps, read_block(block))
            run = Run(recorded, mutated, block)
            found, whole = run.shows(1 << 30, 1 << 30)
            lasting += len(run.lasting)
            wanted = difference(block, of, replay)
            assert whole
            assert found == (None if wanted is None else wanted[0]), mutant
            kinds.add((found is not None, len(mutated.changed) > 0, mutated.reset))
    assert {(True, False, False), (True, True, False), (False, True, False), (False, False, False)} <= kinds
    assert any(reset for *_, reset in kinds)
    assert lasting


def test_inputs_that_mean_nothing_are_random(design: Composition, recordings: Sequence[Recording]) -> None:
    of = module(design, "landing_lane")
    replay = of.replays(recordings[:1])[0]
    words, valid = Steps(of, [replay], 1).words, replay.inputs["word_valid"][:, 0] == 1
    assert np.any(words["word"][~valid] != replay.inputs["word"][~valid])
    assert np.array_equal(words["word"][valid], replay.inputs["word"][valid])
    looked_at = {"word_valid": Meaning(("word_first",))}
    with pytest.raises(AssertionError, match="differs in cycle"):
        Steps(replace(of, given=looked_at), [replay], 1)


@pytest.mark.parametrize(("name", "port"), [("output_stage", "head")])
def test_a_stream_that_must_not_wait_and_does(
    design: Composition, recordings: Sequence[Recording], name: str, port: str
) -> None:
    of = module(design, name)
    replay = next(r for r in of.replays(recordings) if np.any(r.outputs[f"{port}_valid"]))
    Steps(of, [replay], 1)
    ready = replay.inputs[f"{port}_ready"].copy()
    ready[np.flatnonzero(replay.outputs[f"{port}_valid"])[0]] = 0
    rigid = [promise for promise in of.promises if "at once" in promise.name]
    stalled = replace(replay, inputs={**replay.inputs, f"{port}_ready": ready})
    with pytest.raises(AssertionError, match=f"{port} is taken at once|differs in cycle"):
        Steps(replace(of, promises=rigid), [stalled], 1)


def test_the_port_alone_notices_a_lost_request(design: Composition) -> None:
    of = module(design, "memory_port")
    assert len(port_alone(of.netlist, 1)) > 0
    lossy = next(m for m in netlist_mutants(of.netlist.block) if m.operator == "memory write" and "never" in m.what)
    with pytest.raises(AssertionError, match="nobody waits"):
        port_alone(Netlist("lossy", lossy.build()), 1)


def test_control_reads_alone_notice_a_burst_that_is_taken_for_there(design: Composition) -> None:
    """What a wrong reset value of a slot does, which no run of the machine shows."""
    of = module(design, "control_read")
    runs = control_reads_alone(of.netlist, 1)
    assert len({len(run) for run in runs}) == 2
    wrong = next(m for m in of.mutants() if m.operator == "reset value" and m.where == "filled_1_4")
    with pytest.raises(AssertionError):
        control_reads_alone(Netlist("wrong", wrong.build()), 1)
    assert fate(wrong, of, [Stage(of, runs, 1)]).killed_by


@pytest.mark.parametrize(("name", "alone"), [("head_walk", head_walk_alone), ("list_sequencer", sequencer_alone)])
def test_modules_alone_notice_a_memory_that_is_not_written(
    design: Composition, name: str, alone: Callable[[Netlist, int], list[Replay]]
) -> None:
    of = module(design, name)
    assert sum(map(len, alone(of.netlist, 1))) > 1000
    unwritten = next(m for m in of.mutants() if m.operator == "memory write" and m.what == "never writes")
    block = unwritten.build()
    with pytest.raises(AssertionError, match=r"other jobs|not the ids"):
        alone(Netlist("unwritten", block), 1)


@pytest.mark.parametrize("name", CROWDS)
def test_the_same_items_come_out_of_a_crowd(design: Composition, recordings: Sequence[Recording], name: str) -> None:
    of = module(design, name)
    replay, crowd = of.replays(recordings[:1])[0], CROWDS[name]
    out = crowd.out[0]
    again = crowded(replay, of.netlist, crowd, 1)
    assert any(row[out.valid] and not row[out.ready] for row in again.rows())
    rows = list(replay.rows())
    lost = next(row for row in rows if row[out.valid] and row[out.ready])
    lost[out.valid] = 0
    with pytest.raises(AssertionError, match=f"other items of {out.valid}"):
        crowded(replay_of("", of.netlist, rows), of.netlist, crowd, 1)


def test_a_throttle_passes_on_what_it_has_offered() -> None:
    netlist = throttle(1)
    simulation = pyrtl.FastSimulation(tracer=None, block=netlist.block)
    rows = []
    for cycle in range(4000):
        simulation.step({"in_valid": 1, "out_ready": cycle // 3 % 2, "seed": 5, "rigid": 0})
        rows.append({name: simulation.inspect(name) for name in ("out_valid", "out_ready", "in_ready")})
    assert {row["out_valid"] for row in rows} == {0, 1}
    assert all(row["in_ready"] == (row["out_valid"] & row["out_ready"]) for row in rows)
    stalled = [(a, b) for a, b in pairwise(rows) if a["out_valid"] and not a["out_ready"]]
    assert stalled
    assert all(b["out_valid"] for _, b in stalled)


def test_every_link_goes_through_its_throttle(design: Composition) -> None:
    slow = throttled(design)
    found = list(links(design))
    assert len(slow.parts) == len(design.parts) + len(found) > len(design.parts) + 30
    for (part, valid), source in found:
        users = [
            (name, port)
            for name, ports in slow.connections.items()
            for port, driver in ports.items()
            if any((p.part == part and p.port == valid) or p in source.pieces for p in driver.pieces)
        ]
        assert {name for name, _ in users} == {f"throttle_{part}_{valid}"}


def held_payload() -> pyrtl.Block:
    """A payload with its valid bit, a cycle late; nothing loads the payload but what is valid."""
    block = pyrtl.Block()
    with pyrtl.set_working_block(block, no_sanity_check=True):
        given, data = pyrtl.Input(1, "given"), pyrtl.Input(4, "data")
        valid = pyrtl.Register(1, "valid", reset_value=0)
        held = pyrtl.Register(4, "held", reset_value=0)
        valid.next <<= given
        held.next <<= pyrtl.select(given, data, held)
        for name, wire in (("out_valid", valid), ("out_data", held)):
            port = pyrtl.Output(len(wire), name)
            port <<= wire
    return block


def test_a_payload_that_nobody_looks_at_may_differ() -> None:
    """That the payload always loads is proved free, nothing else; and not even that where there is no valid bit."""
    block = held_payload()
    original, limits = read_block(block), Limits(time_s=20)
    means = {"out_data": Meaning(("out_valid",))}
    faulty = {(m.operator, m.what): read_block(m.build()) for m in netlist_mutants(block)}
    proved = {name for name, mutant in faulty.items() if unseen(mutant, original, means, limits)}
    assert proved == {("enable", "always loads"), ("mux select", "stuck at arm 1")}
    assert not unseen(faulty["enable", "always loads"], original, {}, limits)
    assert not any(same_step(mutant, original, means, limits) for mutant in faulty.values())
    assert same_step(read_block(held_payload()), original, means, limits)


def ring(depth: int) -> pyrtl.Block:
    """A FIFO in a memory."""
    block = pyrtl.Block()
    source = source_ports(4, block)
    sink_ports(fifo(source, depth, block=block, storage="memory").stream, block)
    return block


def test_cells_of_a_ring_that_are_in_no_use_may_differ() -> None:
    """It may write in every cycle if it is never full, and not else; and it must write."""
    block = ring(8)
    original, means = read_block(block), {"out_data": Meaning(("out_valid",))}
    writes = {m.what: read_block(m.build()) for m in netlist_mutants(block) if m.operator == "memory write"}

    def proved(what: str, *promises: Promise) -> bool:
        return unseen(writes[what], original, means, Limits(time_s=20), promises)

    assert proved("always writes", never_full("fifo_"))
    assert not proved("always writes")
    assert not proved("never writes", never_full("fifo_"))


def test_a_ring_that_is_full_and_should_not_be() -> None:
    netlist = Netlist("ring", ring(2))
    simulation = pyrtl.FastSimulation(tracer=None, block=netlist.block)
    rows = []
    for _ in range(4):
        row = {"in_data": 5, "in_valid": 1, "out_ready": 0}
        simulation.step(row)
        rows.append({**row, **{port: simulation.inspect(port) for port in netlist.outputs}})
    replay = replay_of("never taken", netlist, rows)
    Steps(Module("ring", netlist, [], {"out_data": Meaning(("out_valid",))}, {}, ()), [replay], 1)
    of = Module("ring", netlist, [], {"out_data": Meaning(("out_valid",))}, {}, (never_full("fifo_"),))
    with pytest.raises(AssertionError, match="not so in cycle 2 of 'never taken': fifo_memory is never full"):
        Steps(of, [replay], 1)


def test_every_promise_can_be_broken(design: Composition) -> None:
    """Of random values of the wires it reads, some keep it and some do not."""
    random = Random(1)
    for name, promises in PROMISES.items():
        netlist = read_block(module(design, name).netlist.block)
        widths = dict(netlist.widths)
        for promise in promises:
            found = set()
            for _ in range(400):
                values: dict[str, int] = {}

                def value(wire: str, values: dict[str, int] = values, widths: dict[str, int] = widths) -> Bits:
                    bits = widths[wire]
                    few = (0, 1, (1 << bits) - 1, random.getrandbits(bits))
                    return Bits(Concrete(), values.setdefault(wire, random.choice(few) % (1 << bits)), bits)

                found.add(int(promise.holds(value, netlist).value))
            assert found == {0, 1}, promise.name


def test_planes_are_words_by_bits() -> None:
    words = np.random.default_rng(1).integers(0, 1 << 32, (131, 2), np.uint32)
    words[:, 1] &= 7
    planes = planes_of(words, 35)
    assert len(planes) == 35
    assert np.array_equal(words_of(planes, 131), words)
    assert int(planes[33][1]) >> 5 & 1 == words[69, 1] >> 1 & 1


def test_every_named_output_is_one(design: Composition) -> None:
    for name, means in meanings(TINY).items():
        parts = [p for p in design.parts if p in (name, f"{name}_0")] or ["key_mask"]
        ports = {**design.parts[parts[0]].outputs, **design.parts[parts[0]].inputs}
        assert set(means) <= set(design.parts[parts[0]].outputs), name
        assert {port for m in means.values() for port in (*m.under, *m.since)} <= set(ports), name


def test_mutants_are_of_all_operators_in_turn(design: Composition) -> None:
    every = netlist_mutants(read_block(module(design, "landing_lane").netlist.block))
    operators = {m.operator for m in every}
    assert {m.operator for m in chosen_mutants(every, len(operators), 1)} == operators
    assert sum(shares(200).values()) == 200
    assert min(shares(1).values()) == 1
