"""Evidence for both crossbars: every pattern of inputs and outputs, from every state.

The next state of all registers is proved from any state; what follows for ever (no loss, no duplicate, one grant an
output, room for every item, fairness) is induction over it.
"""

from collections.abc import Callable
from dataclasses import replace

import pyrtl

from hls.datapaths.crossbar import CrossbarSize, build_size
from hls.lower import Netlist
from models.config import AcceleratorConfig
from verification.equivalence.function import prove
from verification.equivalence.problem import Problem
from verification.equivalence.sequential import prove_by_induction
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, sampled, weakest
from verification.evidence.crossbar_model import TRAFFIC, invariants, next_state, run_traffic
from verification.evidence.planted import FULL_SAMPLES, all_refuted, faults, sampled_mutants
from verification.mutation import Detector
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


def checks(
    build: Callable[[AcceleratorConfig], Netlist], size_of: Callable[[AcceleratorConfig], CrossbarSize]
) -> tuple[Check, ...]:
    """The evidence for one of the crossbars."""
    full, tiny = size_of(FULL), size_of(TINY)

    def every_state(settings: Settings) -> Verdict:
        """At full size in a full run, else with a quarter of the inputs and outputs."""
        if settings.samples >= FULL_SAMPLES:
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
        quiet = replace(settings, folder=None)

        def sent(faulty: pyrtl.Block) -> bool:
            return not traffic(tiny, Netlist("mutant", faulty), 4, settings.seed).passes

        return sampled_mutants(
            build(TINY).block,
            [Detector("traffic", sent)],
            lambda block: weakest([next_state_proof(tiny, block, quiet), invariant_proof(tiny, block, quiet)]),
            settings,
        )

    return (
        Check("next state", "SMT, all states", every_state),
        Check("no loss, no duplicate, fair", "induction", lambda s: invariant_proof(tiny, build(TINY).block, s)),
        Check("planted faults", "SMT, must be refuted", planted, least=Kind.TESTED),
        Check("gates equal the netlist", "SMT", lambda s: prove_synthesized(build(TINY).block, limits=s.limits)),
        Check("traffic", "simulation", lambda s: traffic(tiny, build(TINY), s.samples, s.seed), least=Kind.TESTED),
        Check("mutants", "mutation", mutants, least=Kind.TESTED),
    )
