"""The proof that two blocks behave the same, and recorded runs: what is not read may differ, what is read may not."""

import pyrtl
import pytest

from hls.lower import Netlist, building
from hls.simulate import open_simulator
from hls.stream import fifo, sink_ports, source_ports
from verification.equivalence.sequential import Environment
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind
from verification.evidence.planted import all_noticed, faults
from verification.evidence.same_behaviour import Recorder, View, first_difference, mutants_in_view, prove_same_behaviour
from verification.evidence.stream_contracts import now
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, sample_mutants

LIMITS = Limits(time_s=10)
DEPTH = 3


def queue(storage="registers"):
    block = pyrtl.Block()
    sink_ports(fifo(source_ports(4, block), DEPTH, block=block, storage=storage).stream, block)
    return block


def view(**others):
    read = {f"fifo_entry_{i}": lambda s, i=i: s["fifo_count"] > i for i in range(DEPTH)}
    claims = (now("not too full", lambda s: s["fifo_count"] <= DEPTH),)
    return View({"out_data": "out_valid"}, read, **{"claims": claims, **others})


def run(block, cycles=60):
    with open_simulator(Netlist("queue", block), "fast") as simulator:
        recorder = Recorder(simulator, {"in_data": "in_valid"}, 1)
        for cycle in range(cycles):
            recorder.step({"in_data": cycle % 16, "in_valid": int(cycle % 7 != 3), "out_ready": cycle // 9 % 2})
        return tuple(recorder.rows)


@pytest.mark.parametrize("storage", ["registers", "memory"])
def test_a_block_behaves_as_itself(storage):
    block = queue(storage)
    seen = View({"out_data": "out_valid"}) if storage == "memory" else view()
    assert prove_same_behaviour(block, block, seen, LIMITS).kind is Kind.PROVED
    assert first_difference(block, [run(block)], seen.payload) is None


def test_runs_and_proof_agree():
    """What a run shows is not proved; what it does not show is, but for faults that need a longer run."""
    block = queue()
    recorded, seen = run(block, 200), view()
    shown, same, neither = 0, 0, []
    for fault in sample_mutants(netlist_mutants(block), 30, 1):
        other = fault.build()
        proved = prove_same_behaviour(block, other, seen, LIMITS).kind is Kind.PROVED
        differs = first_difference(other, [recorded], seen.payload) is not None
        assert not (proved and differs), f"{fault.operator} at {fault.where}: {fault.what}"
        shown, same = shown + differs, same + proved
        neither += [fault] if not (proved or differs) else []
    assert shown > 15
    assert same > 1
    assert not neither


def test_writes_to_memory_count():
    block = queue("memory")
    (fault,) = faults(block, ("memory write", "fifo_memory", "never"))
    assert prove_same_behaviour(block, fault.build(), View({"out_data": "out_valid"}), LIMITS).kind is Kind.UNKNOWN


def counter(step, reset=0, limit=10):
    """`out` is `count` beyond 12; the count wraps at `limit`."""
    block = pyrtl.Block()
    with building(block):
        push = pyrtl.Input(1, "push")
        count = pyrtl.Register(4, "count", reset_value=reset)
        out = pyrtl.Output(1, "out")
        out <<= (count > 12) & pyrtl.Const(step, 1)
        count.next <<= pyrtl.select(push, pyrtl.select(count == limit, pyrtl.Const(0, 4), (count + 1)[:4]), count)
    return block


def test_claims_and_promises_are_needed():
    """Two counters that differ only in states beyond ten, which neither reaches."""
    ours, theirs = counter(0), counter(1)
    bounded = View({}, claims=(now("at most ten", lambda s: s["count"] <= 10),))
    still = View({}, environment=Environment(assume=lambda s: s["count"] <= 10))
    for seen, kind in ((View({}), Kind.UNKNOWN), (bounded, Kind.PROVED), (still, Kind.PROVED)):
        assert prove_same_behaviour(ours, theirs, seen, LIMITS).kind is kind


def test_another_reset_value_where_it_is_never_read():
    seen = View({}, read={"count": lambda s: s["push"] & ~s["push"]})
    never_shown = prove_same_behaviour(counter(0), counter(0, reset=3), seen, LIMITS)
    assert never_shown.kind is Kind.PROVED
    assert prove_same_behaviour(counter(1), counter(1, reset=13), seen, LIMITS).kind is Kind.UNKNOWN


def test_recorded_payload_is_random_where_it_is_not_valid():
    rows = run(queue())
    silent = [inputs["in_data"] for inputs, _ in rows if not inputs["in_valid"]]
    assert len(set(silent)) > 2
    assert all(inputs["in_data"] == cycle % 16 for cycle, (inputs, _) in enumerate(rows) if inputs["in_valid"])


def holding(reset):
    """A register that keeps its value; `out` shows its two upper bits."""
    block = pyrtl.Block()
    with building(block):
        kept = pyrtl.Register(4, "kept", reset_value=reset)
        kept.next <<= kept
        out = pyrtl.Output(2, "out")
        out <<= kept[2:]
    return block


def test_bits_that_are_not_read_may_differ():
    seen = View({}, read={"kept": lambda s: s["kept"].constant(0b1100)})
    assert prove_same_behaviour(holding(0), holding(3), seen, LIMITS).kind is Kind.PROVED
    assert prove_same_behaviour(holding(0), holding(3), View({}), LIMITS).kind is Kind.UNKNOWN
    assert prove_same_behaviour(holding(0), holding(4), seen, LIMITS).kind is Kind.UNKNOWN


def test_a_register_more_or_less_where_it_is_not_read():
    """Before the last entry of a queue that is never full, and before its first one."""
    block = queue()
    spared = view(claims=(), environment=Environment(assume=lambda s: s["fifo_count"] < DEPTH))
    for operator in ("stage added", "stage removed"):
        unread = faults(block, (operator, f"fifo_entry_{DEPTH - 1}", ""))[0].build()
        assert prove_same_behaviour(block, unread, spared, LIMITS).kind is Kind.PROVED
        assert prove_same_behaviour(block, unread, view(), LIMITS).kind is Kind.UNKNOWN
    read = faults(block, ("stage added", "fifo_entry_0", ""))[0].build()
    assert prove_same_behaviour(block, read, spared, LIMITS).kind is Kind.UNKNOWN


def test_a_fault_that_no_run_notices_is_named():
    """A run notices a FIFO of another depth; one that looks at nothing does not."""
    block = queue()
    deeper, recorded = faults(block, ("constant", f"_{DEPTH}$", "bit 1")), run(block)

    def compared(faulty):
        assert first_difference(faulty, [recorded], {"out_data": "out_valid"}) is None

    assert all_noticed(deeper, compared).kind is Kind.TESTED
    unnoticed = all_noticed(deeper, lambda faulty: None)
    assert unnoticed.kind is Kind.REFUTED
    assert "bit 1 of 3 flipped" in unnoticed.detail


def test_mutants_within_a_view_are_killed_or_proved():
    block, recorded = queue(), [run(queue())]

    def otherwise(faulty):
        return first_difference(faulty, recorded, {"out_data": "out_valid"}) is not None

    report = mutants_in_view(block, view(), [Detector("runs", otherwise)], 12, 1)
    assert len(report.fates) == 12
    assert not report.survivors
    blind = mutants_in_view(block, view(), [Detector("blind", lambda faulty: False)], 12, 1)
    assert blind.survivors
