"""The evidence of the glue: modules alone do what was recorded; faults are noticed, payloads without valid are not."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pyrtl
import pytest

from hls.compose import Composition
from hls.lower import Netlist
from verification.cosimulation import accelerator_of
from verification.equivalence.netlist import read_block
from verification.equivalence.solver import Limits
from verification.evidence.accelerator_glue import chosen_mutants, fate, module_report, replays, shares
from verification.evidence.glue_crowds import CROWDS, crowded
from verification.evidence.glue_equivalence import unseen
from verification.evidence.glue_modules import MODULES, PARTS, module
from verification.evidence.glue_outputs import Lanes, Meaning, meanings
from verification.evidence.glue_recording import Recording, record
from verification.evidence.glue_replay import Replay, first_difference
from verification.evidence.glue_runs import RUNS, TINY
from verification.evidence.glue_steps import Steps
from verification.evidence.glue_throttles import links, throttle, throttled
from verification.mutants.netlist import netlist_mutants

FEW = ("one key", "7 elements")
SMALL = ("row_queues", "landing_lane", "value_lists")


@pytest.fixture(scope="module")
def design() -> Composition:
    return accelerator_of(TINY)


@pytest.fixture(scope="module")
def recordings() -> Sequence[Recording]:
    return list(record(PARTS, {name: RUNS[name] for name in FEW}, with_requests=False))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_alone_does_what_it_did_in_the_whole(
    design: Composition, recordings: Sequence[Recording], name: str
) -> None:
    of = module(design, name)
    assert first_difference(of.netlist.block, of.replays(recordings[:1])) is None


@pytest.mark.parametrize("name", SMALL)
def test_an_inverted_output_is_noticed(design: Composition, recordings: Sequence[Recording], name: str) -> None:
    of = module(design, name)
    inverted = [m for m in netlist_mutants(of.netlist.block) if m.operator == "inversion"]
    steps = Steps(of.netlist.block, replays(of, recordings, 1))
    fates = [fate(m, of, steps) for m in inverted[:3]]
    assert all(f.killed_by or f.equivalent for f in fates)
    assert any(f.killed_by for f in fates)


def test_a_module_that_is_not_what_was_recorded(design: Composition, recordings: Sequence[Recording]) -> None:
    of = module(design, "row_queues")
    killed = next(
        m for m in netlist_mutants(of.netlist.block) if first_difference(m.build(), of.replays(recordings)) is not None
    )
    broken = replace(of, netlist=Netlist("broken", killed.build()))
    with pytest.raises(AssertionError, match="differs in cycle"):
        module_report(broken, recordings, 1, 1)


def test_only_what_means_something_is_compared() -> None:
    block = pyrtl.Block()
    valid, data = pyrtl.Input(1, "valid", block=block), pyrtl.Output(4, "data", block=block)
    shown = pyrtl.Output(1, "shown", block=block)
    with pyrtl.set_working_block(block, no_sanity_check=True):
        data <<= pyrtl.select(valid, pyrtl.Const(5, 4), pyrtl.Const(9, 4))
        shown <<= valid
    bits = {"data": 4, "shown": 1}

    def replay(meaning: Meaning, wanted: Sequence[int]) -> Replay:
        inputs = [{"valid": v} for v in (0, 1, 0)]
        outputs = [{"data": d, "shown": row["valid"]} for d, row in zip(wanted, inputs, strict=True)]
        return Replay("by hand", inputs, outputs, bits, {"data": meaning})

    under = Meaning(("shown",))
    assert first_difference(block, [replay(under, (0, 5, 0))]) is None
    assert first_difference(block, [replay(under, (0, 4, 0))]) == "data differs in cycle 1 of 'by hand'"
    assert first_difference(block, [replay(Meaning(), (9, 5, 9))]) is None
    assert first_difference(block, [replay(Meaning(), (9, 5, 8))]) is not None
    low_lane = Meaning(("shown",), lanes=Lanes("shown", 0, 1), lane_bits=2, lane_count=2)
    assert first_difference(block, [replay(low_lane, (0, 13, 0))]) is None
    assert first_difference(block, [replay(low_lane, (0, 4, 0))]) is not None
    from_then_on = Meaning(since=("shown",), until="shown")
    assert first_difference(block, [replay(from_then_on, (0, 5, 0))]) is None
    assert first_difference(block, [replay(from_then_on, (0, 7, 0))]) is not None


def test_steps_find_what_a_run_finds(design: Composition, recordings: Sequence[Recording]) -> None:
    """Of all mutants: shown by a step, or a run from one shows it, or no run does."""
    of = module(design, "landing_lane")
    recorded = of.replays(recordings[:1])
    steps = Steps(of.netlist.block, recorded)
    kinds = set()
    for mutant in netlist_mutants(of.netlist.block)[::5]:
        block = mutant.build()
        found = steps.difference(read_block(block))
        runs = first_difference(block, recorded) is not None
        assert runs == (found.shown is not None or first_difference(block, found.open) is not None), mutant
        kinds.add((found.shown is not None, len(found.open) > 0))
    assert kinds == {(True, False), (False, True), (False, False)}


def test_inputs_that_mean_nothing_are_random(design: Composition, recordings: Sequence[Recording]) -> None:
    of = module(design, "landing_lane")
    recorded = of.replays(recordings[:1])[0]
    scrambled = recorded.scrambled(of.netlist.block, of.given, 1)
    idle = [i for i, row in enumerate(recorded.inputs) if not row["word_valid"]]
    assert any(scrambled.inputs[i]["word"] != recorded.inputs[i]["word"] for i in idle)
    busy = [i for i in range(len(recorded.inputs)) if i not in set(idle)]
    assert all(scrambled.inputs[i] == recorded.inputs[i] for i in busy)
    looked_at = {"word_valid": Meaning(("word_first",))}
    with pytest.raises(AssertionError, match="an input that means nothing"):
        recorded.scrambled(of.netlist.block, looked_at, 1)


def test_the_same_items_come_out_of_a_crowd(design: Composition, recordings: Sequence[Recording]) -> None:
    of = module(design, "value_dispatch")
    recorded = of.replays(recordings[:1])[0]
    crowd = CROWDS[of.name]
    again = crowded(recorded, of.netlist.block, crowd, 1)
    seen = zip(again.inputs, again.outputs, strict=True)
    assert any(row["weigh_valid"] and not given["weigh_ready"] for given, row in seen)
    lost = next(i for i, row in enumerate(recorded.outputs) if row["weigh_valid"] and recorded.inputs[i]["weigh_ready"])
    outputs = [*recorded.outputs[:lost], {**recorded.outputs[lost], "weigh_valid": 0}, *recorded.outputs[lost + 1 :]]
    with pytest.raises(AssertionError, match="other items of weigh_valid"):
        crowded(replace(recorded, outputs=outputs), of.netlist.block, crowd, 1)


def test_a_throttle_passes_on_what_it_has_offered() -> None:
    netlist = throttle(5, 1)
    simulation = pyrtl.FastSimulation(tracer=None, block=netlist.block)
    rows = []
    for cycle in range(4000):
        simulation.step({"in_valid": 1, "out_ready": cycle // 3 % 2})
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
