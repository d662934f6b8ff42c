"""Evidence for the Key SRAM and the Value SRAM.

Two reads of one place, up to three cycles apart, differ by the writes between them alone, whatever the
memories hold: then nothing else ever changes a place. Banks are copies of each other, so the proof is by default of a
memory of two slots; in a full run of all of `tiny`.
"""

from collections.abc import Callable
from dataclasses import replace

import pyrtl

from hls.datapaths.operand_sram import OperandSramSize, build_size
from hls.lower import Netlist
from models.config import AcceleratorConfig
from verification.equivalence.sequential import prove_by_induction
from verification.equivalence.verdict import Kind, Verdict, sampled, weakest
from verification.evidence.operand_sram_model import invariants, run_accesses
from verification.evidence.planted import all_refuted, faults, sampled_mutants
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
SMALL = OperandSramSize(slots=2, elements=2, bits=5, rows=4)


def proof(size: OperandSramSize, block: pyrtl.Block, settings: Settings) -> Verdict:
    """What holds in every state, slot by slot."""
    return weakest(
        [
            prove_by_induction(block, [invariant], limits=settings.limits, folder=settings.folder)
            for invariant in invariants(size)
        ]
    )


def checks(
    build: Callable[[AcceleratorConfig], Netlist], sram_bytes: Callable[[AcceleratorConfig], int]
) -> tuple[Check, ...]:
    """The evidence for one of the memories."""

    def size_of(config: AcceleratorConfig) -> OperandSramSize:
        return OperandSramSize.of(config, sram_bytes(config))

    def every_state(settings: Settings) -> Verdict:
        if settings.full:
            return proof(size_of(TINY), build(TINY).block, settings)
        return proof(SMALL, build_size("small", SMALL).block, settings)

    def planted(settings: Settings) -> Verdict:
        block = build_size("small", SMALL).block
        wrong = faults(
            block,
            ("operator", "", "& becomes |"),
            ("mux arms", "", "swapped"),
            ("memory write", "bank_1", "always"),
            ("concatenation", "", ""),
        )
        return all_refuted(wrong, lambda faulty: proof(SMALL, faulty, settings))

    def accesses(settings: Settings) -> Verdict:
        compared = run_accesses(build(TINY), size_of(TINY), 10 * settings.samples, settings.seed)
        compared += run_accesses(build(FULL), size_of(FULL), settings.samples, settings.seed)
        return sampled(compared, f"reads compared, seed {settings.seed}, tiny and full size")

    def mutants(settings: Settings) -> Verdict:
        quiet = replace(settings, folder=None)

        def noticed(faulty: pyrtl.Block) -> bool:
            return run_accesses(Netlist("mutant", faulty), SMALL, 150, settings.seed) < 1

        return sampled_mutants(
            build_size("small", SMALL).block,
            [Detector("accesses", noticed)],
            lambda block: proof(SMALL, block, quiet),
            settings,
        )

    return (
        Check("every place keeps what was written", "induction, any contents", every_state),
        Check("planted faults", "induction, must be refuted", planted, least=Kind.TESTED),
        Check("accesses", "simulation", accesses, least=Kind.TESTED),
        Check("mutants", "mutation", mutants, least=Kind.TESTED),
    )
