"""Planted faults: siblings of proofs, which must say REFUTED with a run that replays, and sampled mutants."""

import re
from collections.abc import Callable, Sequence

import pyrtl

from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.mutants.netlist import Mutant, netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.results import Check, Settings

MUTANT_LIMITS = Limits(time_s=5)
"""For one obligation of the proof of a mutant: a product that no cut point matches any more is not waited for."""
FULL_SAMPLES = 1000
"""From so many samples on, a run is the full evidence: what takes minutes is then done at full size, not at tiny's."""


def faults(block: pyrtl.Block, *wanted: tuple[str, str, str]) -> list[Mutant]:
    """Mutants by (operator, pattern of the wire's name, part of what it does): the first that matches each.

    Raises:
        ValueError: if none matches, naming the first of that operator.
    """
    every = netlist_mutants(block)
    found = []
    for operator, where, what in wanted:
        of_operator = [m for m in every if m.operator == operator]
        match = next((m for m in of_operator if re.search(where, m.where) and what in m.what), None)
        if match is None:
            examples = ", ".join(f"{m.where}: {m.what}" for m in of_operator[:5])
            raise ValueError(f"no {operator!r} fault at {where!r} that is {what!r}; there are {examples or 'none'}")
        found.append(match)
    return found


def all_refuted(planted: Sequence[Mutant], check: Callable[[pyrtl.Block], Verdict]) -> Verdict:
    """TESTED(faults) if the check refutes every one, else REFUTED naming the first that it lets pass."""
    for fault in planted:
        verdict = check(fault.build())
        if verdict.kind is not Kind.REFUTED:
            return refuted(f"{fault.operator} at {fault.where} ({fault.what}) is not refuted: {verdict}")
    return sampled(len(planted), "; ".join(f"{f.operator} at {f.where}: {f.what}" for f in planted))


def sampled_mutants(
    block: pyrtl.Block,
    detectors: Sequence[Detector],
    prove: Callable[[pyrtl.Block], Verdict],
    settings: Settings,
) -> Verdict:
    """TESTED(mutants) if at least 99 % of `settings.samples` are killed, by `detectors` or by `prove`, or equivalent.

    What `prove` refutes is killed, what it proves is equivalent; UNKNOWN is neither.
    """
    last: list[tuple[pyrtl.Block, Verdict]] = []

    def proved(faulty: pyrtl.Block) -> Verdict:
        """The proof, made once for each block."""
        if not last or last[0][0] is not faulty:
            last[:] = [(faulty, prove(faulty))]
        return last[0][1]

    every = netlist_mutants(block)
    chosen = sample_mutants(every, settings.samples, settings.seed)
    proof = Detector("proof", lambda faulty: proved(faulty).kind is Kind.REFUTED)
    return kill_rate(block, chosen, [*detectors, proof], prover=proved, population=len(every)).verdict()


def product_checks(
    every: Callable[[Settings], Verdict],
    with_faults: Callable[[Settings], Verdict],
    of_gates: Callable[[Settings], Verdict],
    of_gates_with_faults: Callable[[Settings], Verdict],
) -> tuple[Check, ...]:
    """Checks of a multiplier on all of its inputs, as netlist and as gates, each with its planted faults."""
    method = "exhaustive simulation, 2^24 inputs"
    return (
        Check("every product", method, every),
        Check("every product with planted faults", "must be refuted", with_faults, Kind.TESTED),
        Check("every product of the gates", method, of_gates),
        Check("every product of the gates with planted faults", "must be refuted", of_gates_with_faults, Kind.TESTED),
    )
