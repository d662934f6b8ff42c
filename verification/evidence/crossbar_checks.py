"""Evidence for both crossbars: every pattern of inputs and outputs, from every state.

The next state of all registers is proved from any state; what follows for ever (no loss, no duplicate, one grant an
output, room for every item, fairness) is induction over it.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyrtl

from hls.datapaths.crossbar import CrossbarSize, build_size
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, conjunction
from verification.equivalence.function import prove
from verification.equivalence.problem import Problem
from verification.equivalence.sequential import Signals, prove_by_induction
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, sampled, weakest
from verification.evidence.crossbar_model import TRAFFIC, invariants, next_state, run_traffic
from verification.evidence.planted import all_refuted, faults
from verification.evidence.same_behaviour import Read, Recorder, Run, View, first_difference, mutants_in_view
from verification.evidence.words import joined
from verification.mutation import Detector, MutationReport
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")


def next_state_proof(size: CrossbarSize, block: pyrtl.Block, settings: Settings) -> Verdict:
    """Every register after a cycle, and who is taken, from any state."""
    return prove(Problem("crossbar", block, next_state(size)), limits=settings.limits, folder=settings.folder)


def invariant_proof(size: CrossbarSize, block: pyrtl.Block, settings: Settings) -> Verdict:
    """What holds for ever."""
    return prove_by_induction(block, invariants(size), limits=settings.limits, folder=settings.folder)


def traffic(size: CrossbarSize, netlist: Netlist, items: int, seed: int) -> Verdict:
    """Every kind of traffic, free and with stalls on both sides; AssertionError where it goes wrong."""
    moved = 0
    for kind in TRAFFIC:
        for offer, accept in ((1.0, 1.0), (0.5, 0.5), (1.0, 0.3)):
            moved += run_traffic(netlist, size, kind, items, seed, offer, accept).moved
    return sampled(moved, f"items, seed {seed}, {len(TRAFFIC)} kinds of traffic, free and with stalls")


def recorded_turns(
    netlist: Netlist, size: CrossbarSize, seed: int, cycles: int, all_at_first_to: int | None = None
) -> Run:
    """Items that come at random, few and many, or at first one from every input; each stays until it is taken."""
    rng = np.random.default_rng(seed)
    kept = np.zeros(size.inputs, np.bool_)
    items, places = [0] * size.inputs, [0] * size.inputs
    with open_simulator(netlist, "fast") as simulator:
        recorder = Recorder(simulator, dict.fromkeys(("in_item", "in_destination"), "in_valid"), seed)
        for cycle in range(cycles):
            together = cycle == 0 and all_at_first_to is not None
            comes = ~kept & (together | (rng.random(size.inputs) < (0.15, 0.4, 1.0)[cycle // 30 % 3]))
            for i in np.flatnonzero(comes):
                items[i] = int.from_bytes(rng.bytes(-(-size.item_bits // 8))) & ((1 << size.item_bits) - 1)
                places[i] = int(rng.integers(0, size.outputs))
                if together and all_at_first_to is not None:
                    places[i] = all_at_first_to
            kept |= comes
            row = {
                "in_item": joined(items, size.item_bits),
                "in_destination": joined(places, size.destination_bits),
                "in_valid": sum(1 << int(i) for i in np.flatnonzero(kept)),
            }
            if size.depth:
                row["out_ready"] = (
                    int(rng.integers(0, 1 << size.outputs)) if cycle // 40 % 2 else (1 << size.outputs) - 1
                )
            taken = recorder.step(row)["in_ready"]
            kept &= np.array([not taken >> i & 1 for i in range(size.inputs)])
        return tuple(recorder.rows)


def view(size: CrossbarSize) -> View:
    """What can be seen of a crossbar: items where they are valid."""

    def granted(source: int) -> Read:
        return lambda s: ~conjunction([~s[f"grant_{o}"][source] for o in range(size.outputs)])

    def behind(output: int, place: int) -> Read:
        return lambda s: s[f"{output}_fifo_count"] > place

    def loaded(output: int) -> Read:
        return lambda s: s[f"{output}_out_valid"]

    def turn(output: int) -> Read:
        """Where no input is behind the last winner, it is the same if the first is: the circle begins with it."""

        def bits(s: Signals) -> Bits:
            place = s[f"behind_{output}"]
            return choose(place == 0, place.constant((1 << size.inputs) - 2), place.constant((1 << size.inputs) - 1))

        return bits

    read = {f"item_{i}": granted(i) for i in range(size.inputs)}
    read |= {f"behind_{o}": turn(o) for o in range(size.outputs)}
    for o in range(size.outputs):
        read |= {f"{o}_fifo_entry_{k}": behind(o, k) for k in range(size.depth)} or {f"{o}_out": loaded(o)}
    claims = tuple(claim for claim in invariants(size) if claim.window_cycles == 1)
    return View({"out_item": "out_valid"}, read, claims)


def mutation_report(size: CrossbarSize, netlist: Netlist, samples: int, seed: int) -> MutationReport:
    """Mutants against runs alone; survivors only where they are proved to behave the same."""
    seen = view(size)
    recorded = [recorded_turns(netlist, size, seed, 600)]
    recorded += [recorded_turns(netlist, size, seed, 12, output) for output in range(size.outputs)]

    def sent(faulty: pyrtl.Block) -> bool:
        return not traffic(size, Netlist("mutant", faulty), 4, seed).passes

    def otherwise(faulty: pyrtl.Block) -> bool:
        return first_difference(faulty, recorded, seen.payload) is not None

    detectors = [Detector("traffic", sent), Detector("turns", otherwise)]
    return mutants_in_view(netlist.block, seen, detectors, samples, seed)


def checks(
    build: Callable[[AcceleratorConfig], Netlist], size_of: Callable[[AcceleratorConfig], CrossbarSize]
) -> tuple[Check, ...]:
    """The evidence for one of the crossbars."""
    full, tiny = size_of(FULL), size_of(TINY)

    def every_state(settings: Settings) -> Verdict:
        """At full size in a full run, else with a quarter of the inputs and outputs."""
        if settings.full:
            return next_state_proof(full, build(FULL).block, settings)
        part = replace(full, inputs=full.inputs // 4, outputs=full.outputs // 4)
        return next_state_proof(part, build_size("quarter", part, FULL).block, settings)

    def planted(settings: Settings) -> Verdict:
        block = build(TINY).block
        wrong = faults(
            block,
            ("operator", "", "& becomes |"),
            ("operator", "", "= becomes <"),
            ("concatenation", "", ""),
            ("reset value", "behind", ""),
            ("enable" if tiny.depth else "inversion", "", ""),
        )

        def both(faulty: pyrtl.Block) -> Verdict:
            return weakest([next_state_proof(tiny, faulty, settings), invariant_proof(tiny, faulty, settings)])

        return all_refuted(wrong, both)

    def mutants(settings: Settings) -> Verdict:
        return mutation_report(tiny, build(TINY), settings.samples, settings.seed).verdict()

    return (
        Check("next state", "SMT, all states", every_state),
        Check("no loss, no duplicate, fair", "induction", lambda s: invariant_proof(tiny, build(TINY).block, s)),
        Check("planted faults", "SMT, must be refuted", planted, least=Kind.TESTED),
        Check("gates equal the netlist", "SMT", lambda s: prove_synthesized(build(TINY).block, limits=s.limits)),
        Check("traffic", "simulation", lambda s: traffic(tiny, build(TINY), s.samples, s.seed), least=Kind.TESTED),
        Check("mutants", "mutation", mutants, least=Kind.TESTED),
    )
