"""Planted faults: siblings of proofs, which must say REFUTED with a run that replays, and sampled mutants."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyrtl

from hls.lower import Netlist
from hls.simulate import open_simulator
from verification.equivalence.equality import prove_equal
from verification.equivalence.exhaustive import exhaust
from verification.equivalence.netlist import read_block
from verification.equivalence.problem import Problem
from verification.equivalence.solver import Limits
from verification.equivalence.synthesis import synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, unknown, weakest
from verification.equivalence.verdict import proved as proved_equal
from verification.mutants.netlist import Mutant, netlist_mutants
from verification.mutation import Detector, kill_rate, same_machine, sample_mutants
from verification.results import Check, Settings

MUTANT_LIMITS = Limits(time_s=5)
"""For one obligation of the proof of a mutant: a product that no cut point matches any more is not waited for."""
SAME_STEP_LIMITS = Limits(time_s=2)
"""For one obligation of "a mutant makes the same step": most are equal by rewriting, a product is not waited for."""
_TRIED_FAULTS, _SHOWN_CYCLES = 40, 48


def faults(block: pyrtl.Block, *wanted: tuple[str, str, str]) -> list[Mutant]:
    """Mutants by (operator, pattern of the wire's name, part of what it does): the first that matches each.

    Raises:
        ValueError: if none matches, naming the first of that operator.
    """
    every = netlist_mutants(block)
    return [_matching(every, wish)[0] for wish in wanted]


def gate_faults(gates: pyrtl.Block, *wanted: tuple[str, str, str]) -> list[Mutant]:
    """As `faults`, but some match of each that shows in a simulation: gates are redundant, some faults change nothing.

    The order of the gates is the synthesizer's, another in each run, so this does not always choose the same.

    Raises:
        ValueError: as `faults`, and if none of the matches tried shows.
    """
    every, right = netlist_mutants(gates), _outputs(gates)
    found = []
    for wish in wanted:
        matches = _matching(every, wish)
        matches = random.Random(_SHOWN_CYCLES).sample(matches, min(len(matches), _TRIED_FAULTS))
        match = next((m for m in matches if _outputs(m.build()) != right), None)
        if match is None:
            raise ValueError(f"{len(matches)} faults {wish} change nothing in {_SHOWN_CYCLES} cycles: name other gates")
        found.append(match)
    return found


def _matching(every: Sequence[Mutant], wish: tuple[str, str, str]) -> list[Mutant]:
    operator, where, what = wish
    of_operator = [m for m in every if m.operator == operator]
    matches = [m for m in of_operator if re.search(where, m.where) and what in m.what]
    if not matches:
        examples = ", ".join(f"{m.where}: {m.what}" for m in of_operator[:5])
        raise ValueError(f"no {operator!r} fault at {where!r} that is {what!r}; there are {examples or 'none'}")
    return matches


def _outputs(block: pyrtl.Block) -> list[dict[str, int]]:
    """What a block gives for random inputs, always the same, under a handshake that never waits."""
    generator = random.Random(_SHOWN_CYCLES)
    with open_simulator(Netlist("gates", block), "fast") as simulator:
        widths = simulator.netlist.inputs
        free = {name: 1 for name in ("in_valid", "out_ready") if name in widths}
        rows = [{n: generator.getrandbits(w) for n, w in widths.items()} | free for _ in range(_SHOWN_CYCLES)]
        return [simulator.step(row) for row in rows]


def all_refuted(planted: Sequence[Mutant], check: Callable[[pyrtl.Block], Verdict]) -> Verdict:
    """TESTED(faults) if the check refutes every one, else REFUTED naming the first that it lets pass."""
    for fault in planted:
        verdict = check(fault.build())
        if verdict.kind is not Kind.REFUTED:
            return refuted(f"{fault.operator} at {fault.where} ({fault.what}) is not refuted: {verdict}")
    return sampled(len(planted), "; ".join(f"{f.operator} at {f.where}: {f.what}" for f in planted))


def all_noticed(planted: Sequence[Mutant], run: Callable[[pyrtl.Block], object]) -> Verdict:
    """TESTED(faults) if a run of every one ends with an AssertionError, else REFUTED naming the first that does not."""

    def check(faulty: pyrtl.Block) -> Verdict:
        try:
            run(faulty)
        except AssertionError as error:
            return refuted(str(error))
        return sampled(1, "it goes unnoticed")

    return all_refuted(planted, check)


def gate_faults_refuted(block: pyrtl.Block, settings: Settings, *wanted: tuple[str, str, str]) -> Verdict:
    """Whether "the gates equal the netlist" is refuted of each of these faults among the gates of `block`."""
    gates, correspondence = synthesized(block)

    def equal(faulty: pyrtl.Block) -> Verdict:
        return prove_equal(faulty, block, correspondence=correspondence, limits=settings.limits)

    return all_refuted(gate_faults(gates, *wanted), equal)


def sampled_mutants(
    block: pyrtl.Block,
    detectors: Sequence[Detector],
    prove: Callable[[pyrtl.Block], Verdict],
    settings: Settings,
    prove_reset: Callable[[pyrtl.Block], Verdict] | None = None,
) -> Verdict:
    """TESTED(mutants) if at least 99 % of `settings.samples` are killed, by `detectors` or by `prove`, or equivalent.

    What `prove` refutes is killed, what it proves is equivalent; UNKNOWN is neither. It is asked after everything that
    is cheaper: the detectors, and whether the mutant makes the same step as the block from every state.

    `prove_reset` is the part of `prove` that depends on reset values; all else it proves must be from any state. It
    stands for `prove` where a mutant differs in reset values only. Then UNKNOWN if `prove` does not prove the block.
    """
    original = read_block(block)
    if prove_reset is not None and (whole := prove(block)).kind is not Kind.PROVED:
        return unknown(f"without a mutant, the proof says {whole}")

    def prove_fault(faulty: pyrtl.Block) -> Verdict:
        mutant = read_block(faulty)
        if same_machine(mutant, original, SAME_STEP_LIMITS):
            return proved_equal("same reset, and same step from any state")
        if prove_reset is not None and replace(mutant, registers=original.registers) == original:
            return prove_reset(faulty)
        return prove(faulty)

    last: list[tuple[pyrtl.Block, Verdict]] = []

    def proved(faulty: pyrtl.Block) -> Verdict:
        """The proof, made once for each block."""
        if not last or last[0][0] is not faulty:
            last[:] = [(faulty, prove_fault(faulty))]
        return last[0][1]

    every = netlist_mutants(block)
    chosen = sample_mutants(every, settings.samples, settings.seed)
    proof = Detector("proof", lambda faulty: proved(faulty).kind is Kind.REFUTED)
    return kill_rate(block, chosen, [*detectors, proof], prover=proved, population=len(every)).verdict()


ProductCase = tuple[pyrtl.Block, Callable[[pyrtl.Block], Problem]]
"""A multiplier, and what a block in its place must compute."""


def product_checks(
    cases: Callable[[], Sequence[ProductCase]],
    in_netlist: Sequence[tuple[str, str, str]],
    in_gates: Sequence[tuple[str, str, str]],
) -> tuple[Check, ...]:
    """Checks of a multiplier on all of its inputs, as netlist and as gates, each with its planted faults.

    Args:
        cases: all multipliers; faults go into the first.
        in_netlist: faults of the netlist, as `faults`.
        in_gates: faults of the gates, as `gate_faults`.
    """

    def every(settings: Settings) -> Verdict:
        return weakest([exhaust(problem(block), folder=settings.folder) for block, problem in cases()])

    def every_with_faults(settings: Settings) -> Verdict:
        block, problem = cases()[0]
        planted = faults(block, *in_netlist)
        return all_refuted(planted, lambda faulty: exhaust(problem(faulty), folder=settings.folder))

    def of_gates(settings: Settings) -> Verdict:
        return weakest([exhaust(problem(synthesized(block)[0]), folder=settings.folder) for block, problem in cases()])

    def of_gates_with_faults(settings: Settings) -> Verdict:
        block, problem = cases()[0]
        planted = gate_faults(synthesized(block)[0], *in_gates)
        return all_refuted(planted, lambda faulty: exhaust(problem(faulty), folder=settings.folder))

    method = "exhaustive simulation, 2^24 inputs"
    return (
        Check("every product", method, every),
        Check("every product with planted faults", "must be refuted", every_with_faults, Kind.TESTED),
        Check("every product of the gates", method, of_gates),
        Check("every product of the gates with planted faults", "must be refuted", of_gates_with_faults, Kind.TESTED),
    )
