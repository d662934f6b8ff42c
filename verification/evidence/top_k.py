"""Evidence for the top-k engine: proofs of its parts at full size, the reference at small ones, mutants."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyrtl

from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.datapaths.top_k import build, build_plan
from hls.datapaths.top_k_graphs import TopKPlan, plan
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.netlist import NetlistError
from verification.equivalence.sequential import check_bounded, prove_by_induction
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, weakest
from verification.evidence.planted import all_refuted, faults
from verification.evidence.stream_contracts import valid_never_waits
from verification.evidence.top_k_bounded import check_engine
from verification.evidence.top_k_control import control_claims, prove_packing, prove_same
from verification.evidence.top_k_exhaustive import engine, every_request
from verification.evidence.top_k_model import (
    EngineError,
    Request,
    bound_cycles,
    dense,
    difference,
    longest,
    pass_cycles,
    random_request,
    serve,
    with_gaps,
)
from verification.evidence.top_k_proofs import (
    decide_block,
    prove_admit,
    prove_compare,
    prove_decide,
    prove_pivot_lane,
    prove_pivot_row,
    prove_row,
    row_block,
    whole,
)
from verification.evidence.top_k_rings import prove_rings, ring_claims
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
SMALL = replace(TINY, context_keys=32, top_k_fifo_rows=8)
"""Memories so small that a few requests fill and wrap them."""
SMALL_BITS = 12

Proof = Callable[[TopKPlan, pyrtl.Block, Settings], Verdict]


def control(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """States, stalled results, and no valid that waits for a ready."""
    claims = control_claims(block, made)
    verdict = prove_by_induction(block, claims, limits=settings.limits, folder=settings.folder)
    return weakest([verdict, valid_never_waits(block)])


def bounded_control(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The same claims from reset, for faults that induction alone leaves open."""
    return check_bounded(block, control_claims(block, made), 6, limits=settings.limits, folder=settings.folder)


def bounded_rings(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """What holds of the ring of items, from reset."""
    return check_bounded(block, ring_claims(made), 6, limits=settings.limits, folder=settings.folder)


def _block(part: str) -> Callable[[TopKPlan], pyrtl.Block]:
    return lambda made: whole(made.one_cycle[part])


def _engine(made: TopKPlan) -> pyrtl.Block:
    return build_plan(made).block


PROOFS: dict[str, tuple[Proof, Callable[[TopKPlan], pyrtl.Block]]] = {
    "quick-select keeps its invariant and ends": (prove_decide, decide_block),
    "partition of a row": (prove_row, row_block),
    "comparison with the threshold": (prove_compare, _block("compare")),
    "admission of equal values": (prove_admit, _block("admit")),
    "pivot row": (prove_pivot_row, _block("pivot_row")),
    "pivot lane": (prove_pivot_lane, _block("pivot_lane")),
    "control": (control, _engine),
    "the ring of items never overflows": (prove_rings, _engine),
}
_FROM_RESET: dict[Proof, Proof] = {control: bounded_control, prove_rings: bounded_rings}
"""What refutes faulty engines where induction alone would say UNKNOWN."""
PLANTED: dict[str, tuple[tuple[str, str, str], ...]] = {
    "quick-select keeps its invariant and ends": (("operator", "", "- becomes +"), ("mux arms", "", "swapped")),
    "partition of a row": (("operator", "", "& becomes |"), ("operator", "", "+ becomes -")),
    "comparison with the threshold": (("operator", "", "& becomes |"), ("operator", "", "+ becomes -")),
    "admission of equal values": (("operator", "", "& becomes |"), ("mux arms", "", "swapped")),
    "pivot row": (("selection", "", "moved by"),),
    "pivot lane": (("selection", "", "moved by"), ("mux arms", "", "swapped")),
    "control": (
        ("reset value", "^waiting$", "bit 0"),
        ("reset value", "^filter_row_valid_d1$", "bit 0"),
        ("reset value", "^result_tail$", "bit 0"),
    ),
    "the ring of items never overflows": (
        ("reset value", "^write_pointer$", "bit 0"),
        ("enable", "^write_pointer$", "never loads"),
        ("enable", "^fill_written$", "never loads"),
    ),
}


def proof(name: str, made: TopKPlan, settings: Settings) -> Verdict:
    """One of the proofs, for the sizes of a plan."""
    prove_it, make = PROOFS[name]
    return prove_it(made, make(made), settings)


def planted(name: str, made: TopKPlan, settings: Settings) -> Verdict:
    """Its siblings: blocks with a fault must be refuted."""
    prove_it, make = PROOFS[name]
    refute = _FROM_RESET.get(prove_it, prove_it)
    return all_refuted(faults(make(made), *PLANTED[name]), lambda block: refute(made, block, settings))


def battery(seed: int) -> list[Request]:
    """Requests for `SMALL`: of every kind, with gaps, refused ones, the longest, and full memories."""
    lanes, capacity = SMALL.top_k_lanes, SMALL.context_keys
    generator = np.random.default_rng(seed)
    some = [random_request(lanes, capacity, SMALL_BITS, 5, generator) for _ in range(24)]
    gaps = [with_gaps(request, lanes, 0.5, generator) for request in some[:8]]
    top = (1 << SMALL_BITS) - 1
    few = [
        dense(list(values), list(range(len(values))), k, lanes)
        for values, k in (((0, 0, 0), 1), ((top, 0, top, 1), 2), ((1,) * 32, 31), ((3, 3), 1), ((5,), 1), ((0, top), 2))
    ]
    worst = [
        longest(n, k, lanes, up=up) for n, k, up in ((32, 1, True), (32, 31, False), (32, 16, True), (9, 4, False))
    ]
    none = Request(np.full((2, lanes), 7), np.zeros((2, lanes), np.int64), np.zeros((2, lanes), np.bool_), 1)
    many = dense(list(range(40)), [0] * 40, 5, lanes)
    ends_empty = replace(many, valid=many.valid & (np.arange(10) < 9)[:, None])
    refused = [none, many, ends_empty, replace(some[0], k=0)]
    # short ones right behind those whose last row overflows, while that is flushed
    shorts = [request for pair in zip(gaps, few, strict=False) for request in pair]
    begin = longest(32, 16, lanes, up=False)
    return [begin, *some[:3], *refused, *gaps[:4], *shorts, *few, many, *worst, *some[3:], *gaps[4:], none, some[0]]


def misbehaves(netlist: Netlist, seed: int, overhead_cycles: int) -> bool:
    """Whether the battery, free and under stalls, shows a difference from the reference or from the cycles promised."""
    lanes, capacity, requests = SMALL.top_k_lanes, SMALL.context_keys, battery(seed)
    generator = np.random.default_rng(seed)
    offer, accept = (generator.random(900) < 0.6).tolist(), (generator.random(1500) < 0.4).tolist()
    limit = 100 * len(requests)
    with open_simulator(netlist, "fast") as simulator:
        try:
            free = serve(simulator, requests, lanes, limit_cycles=limit)
            simulator.reset()
            stalled = serve(simulator, requests, lanes, offer, accept, limit_cycles=2 * limit)
        except EngineError:
            return True
    if any(difference(requests, served, lanes, capacity) for served in (free, stalled)):
        return True
    taken = pass_cycles(requests, free, lanes, capacity)
    return free.complete_at[0] != len(requests[0].value) - 1 or any(c != r + overhead_cycles for r, c in taken)


def small() -> tuple[Netlist, TopKPlan]:
    """The engine that mutants are made of."""
    made = plan(SMALL, value_bits=SMALL_BITS)
    return build_plan(made), made


def mutants(settings: Settings) -> Verdict:
    """Faults anywhere in a small engine, against the reference, the cycles promised, and what is packed of a row."""
    netlist, made = small()
    quiet = replace(settings, folder=None)
    every = netlist_mutants(netlist.block)

    def misbehaving(block: pyrtl.Block) -> bool:
        return misbehaves(Netlist("mutant", block), settings.seed, made.pass_overhead_cycles)

    def breaks(block: pyrtl.Block) -> bool:
        return bounded_control(made, block, quiet).kind is Kind.REFUTED

    def mispacks(block: pyrtl.Block) -> bool:
        try:
            return prove_packing(made, block, quiet).kind is Kind.REFUTED
        except NetlistError:  # the fault is in a register that the statement names: left to the other checks
            return False

    report = kill_rate(
        netlist.block,
        sample_mutants(every, settings.samples, settings.seed),
        [Detector("reference", misbehaving), Detector("packing", mispacks), Detector("control", breaks)],
        prover=lambda block: prove_same(netlist.block, block, made, quiet),
        population=len(every),
    )
    return report.verdict()


def against_reference(settings: Settings, value_bits: int = IMPORTANCE_BITS) -> Verdict:
    """The published size on requests of every kind, back to back: answers, passes, and cycles within the bound.

    In order of falling size, so that no fill takes longer than the filter that it overlaps.
    """
    lanes, capacity = FULL.top_k_lanes, FULL.context_keys
    generator = np.random.default_rng(settings.seed)
    requests = [random_request(lanes, capacity, value_bits, 10, generator) for _ in range(settings.samples)]
    requests += [dense([5] * capacity, list(range(capacity)), k, lanes) for k in (1, capacity // 2, capacity - 1)]
    requests.sort(key=lambda request: -len(request.items))
    with open_simulator(build(FULL, value_bits=value_bits)) as simulator:
        served = serve(simulator, requests, lanes)
    wrong = difference(requests, served, lanes, capacity)
    if wrong:
        return refuted(wrong)
    spare = [
        bound_cycles(request, lanes) - int(period)
        for request, period in zip(requests[1:], np.diff(served.answered_at), strict=True)
    ]
    if min(spare) < 0:
        return refuted(f"a request takes {-min(spare)} cycles more than its bound")
    return sampled(len(requests), f"at least {min(spare)} cycles below the bound, {sum(spare)} in all")


def exhaustive_with_faults(settings: Settings) -> Verdict:
    """Faults that some request of the smallest engine must show."""
    block = engine().block
    chosen = faults(block, ("enable", "^pivot$", "never loads"), ("reset value", "^rowing$", "bit 0"))
    return all_refuted(chosen, lambda b: every_request(Netlist("mutant", b), values_step=64, backend="fast"))


def bounded_engine(settings: Settings) -> Verdict:
    """The smallest engine from reset: requests that need no pass under any stall, those of several without.

    One pass is over in 20 cycles, several in the 32 of a full run.
    """
    full = settings.full
    limits = replace(settings, limits=Limits(time_s=1200)) if full else settings
    stalled = check_engine(engine(), 14 if full else 12, limits, stalls=True)
    return weakest([stalled, check_engine(engine(), 32 if full else 20, limits, stalls=False)])


def bounded_engine_with_faults(settings: Settings) -> Verdict:
    """Faults that a request must show within 12 cycles."""
    chosen = faults(
        engine().block, ("enable", "^filter_threshold$", "never loads"), ("reset value", "^result_count$", "bit 0")
    )
    return all_refuted(chosen, lambda b: check_engine(Netlist("mutant", b), 12, settings, stalls=False))


def proof_checks(value_bits: int) -> tuple[Check, ...]:
    """The proofs at full size, and their siblings with planted faults."""

    def of(name: str, run: Callable[[str, TopKPlan, Settings], Verdict]) -> Callable[[Settings], Verdict]:
        return lambda settings: run(name, plan(FULL, value_bits=value_bits), settings)

    return (
        *(Check(name, "SMT, induction, exhaustive simulation", of(name, proof)) for name in PROOFS),
        *(
            Check(f"planted faults: {name}", "the same, on faulty blocks", of(name, planted), least=Kind.TESTED)
            for name in PROOFS
        ),
    )


def _packing(settings: Settings) -> Verdict:
    netlist, made = small()
    return prove_packing(made, netlist.block, settings)


CHECKS = (
    *proof_checks(IMPORTANCE_BITS),
    Check("zero eliminators in their places, 4 lanes", "SMT", _packing),
    Check(
        "every request of the smallest engine",
        "exhaustive simulation",
        lambda settings: every_request(engine()),
        least=Kind.TESTED,
    ),
    Check("the smallest engine from reset", "bounded model checking", bounded_engine, least=Kind.BOUNDED),
    Check(
        "planted faults: the smallest engine",
        "bounded model checking, must be refuted",
        bounded_engine_with_faults,
        least=Kind.TESTED,
    ),
    Check("planted faults: every request", "the same, on faulty blocks", exhaustive_with_faults, least=Kind.TESTED),
    Check("against the reference, cycles within the bound", "simulation", against_reference, least=Kind.TESTED),
    Check("mutants", "mutation", mutants, least=Kind.TESTED),
)
