"""Proof that a circuit computes a directly written function, node by node where asked.

Each `operands.cut(wire, value)` of the specification becomes an obligation of its own: the wire's
logic equals the value, both read as functions of the earlier cut points, which are free variables.
By induction along the specification this gives equality of every cut wire and every target,
so a dot product costs as many small proofs as it has nodes instead of one that explodes.

A cut proof that fails says nothing yet (its free variables may take values that never
occur). Then: simulate the model's inputs, simulate random inputs, and prove without cuts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyrtl

from verification.equivalence.bits import Bits
from verification.equivalence.counterexample import Counterexample, Observation, replay, save, simulate
from verification.equivalence.equality import conclude
from verification.equivalence.exhaustive import sample
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, specified
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, SymbolicRun, discharge
from verification.equivalence.verdict import Kind, Verdict, proved, refuted, unknown

_FALSIFYING_CASES = 1 << 16


class _Proof:
    """The terms of one attempt, with or without cuts."""

    def __init__(self, problem: Problem, netlist: Netlist, *, cutting: bool) -> None:
        self.problem = problem
        self.formula = Formula()
        plain = SymbolicRun(netlist, self.formula, fixed=problem.fixed)
        cuts: dict[tuple[str, int], int] = {}

        def fresh(wire: str, cycle: int, value: Bits) -> Bits:
            if (wire, cycle) in cuts:
                raise NetlistError(f"{problem.claim}: {wire!r} at cycle {cycle} is cut twice")
            cuts[(wire, cycle)] = self.formula.variable(f"cut:{wire}@{cycle}", value.width)
            return self.formula.bits(cuts[(wire, cycle)])

        operands = Operands(plain.unrolling, fresh) if cutting else Operands(plain.unrolling)
        self.expected = specified(operands, problem)
        assumed = (problem.assume(operands).value,) if problem.assume else ()
        self.run = SymbolicRun(netlist, self.formula, fixed=problem.fixed, cuts=cuts)
        self.obligations: list[Obligation] = []
        for point in operands.cut_points:
            key = (point.wire, point.cycle)
            own = self.run.unrolling.own(*key) if cutting else self.run.unrolling.value(*key)
            same = self.formula.equal(own, point.value.value, point.value.width)
            self.obligations.append(Obligation(f"{point.wire} at cycle {point.cycle}", same, assumed))
            if point.fact is not None:
                held = point.fact(point.value).value
                self.obligations.append(Obligation(f"fact about {point.wire}", held, assumed))
                if cutting:
                    assumed += (point.fact(self.formula.bits(cuts[key])).value,)
        for (wire, cycle), value in self.expected.items():
            own = self.run.unrolling.value(wire, cycle)
            same = self.formula.equal(own, value.value, value.width)
            self.obligations.append(Obligation(f"{wire} at cycle {cycle}", same, assumed))
        self.cut_count = len(cuts)
        self.points = operands.cut_points

    def counterexample(self, model: Mapping[str, Any]) -> Counterexample:
        """The model's run with every target and cut wire expected as specified."""
        expected = {**{(p.wire, p.cycle): p.value for p in self.points}, **self.expected}
        cycles = max(cycle for _, cycle in [*expected, *self.run.variables()]) + 1
        observed = {key: value.value for key, value in expected.items()}
        return self.run.counterexample(self.problem.claim, model, cycles, observed)


def confirm(block: pyrtl.Block, found: Counterexample, detail: str, folder: Path | None) -> Verdict:
    """REFUTED if simulation shows an observation other than expected, else UNKNOWN."""
    shown = simulate(block, found, [o.wire for o in found.observations])
    wrong = tuple(
        Observation(o.wire, o.cycle, shown[o.cycle][o.wire], o.expected)
        for o in found.observations
        if shown[o.cycle][o.wire] != o.expected
    )
    confirmed = Counterexample(found.claim, found.inputs, wrong, found.registers, found.memories)
    if not wrong or not replay(block, confirmed):
        return unknown(f"{detail}, says the solver, but its counterexample does not replay in simulation")
    return refuted(detail, save(confirmed, folder) if folder is not None else None)


def _vacuous(problem: Problem, netlist: Netlist, limits: Limits) -> Verdict | None:
    """UNKNOWN if no input satisfies `assume`: then the claim would hold of anything."""
    if problem.assume is None:
        return None
    formula = Formula()
    run = SymbolicRun(netlist, formula, fixed=problem.fixed)
    never = formula.invert(problem.assume(Operands(run.unrolling)).value, 1)
    answer = discharge(formula, [Obligation("assumption", never)], limits)[0]
    if answer.status == "sat":
        return None
    return unknown(f"{problem.claim}: no input is known to satisfy the assumption, so the claim would be empty")


def prove(problem: Problem, *, limits: Limits | None = None, seed: int = 1, folder: Path | None = None) -> Verdict:
    """PROVED, REFUTED with a replayed counterexample, or UNKNOWN; `limits` hold for each obligation.

    `seed` is that of the random inputs tried when a proof with cut points fails; `folder` receives
    the counterexample.
    """
    if isinstance(problem.specification, IntegerSpecification):
        raise NetlistError(f"{problem.claim}: a specification on integers cannot be proved with SMT: use exhaust")
    limits = limits or Limits()
    netlist = read_block(problem.block)
    empty = _vacuous(problem, netlist, limits)
    if empty is not None:
        return empty
    attempt = _Proof(problem, netlist, cutting=True)
    outcome = conclude(attempt.obligations, discharge(attempt.formula, attempt.obligations, limits))
    if isinstance(outcome, Verdict):
        if outcome.kind is Kind.PROVED:
            return proved(f"{len(attempt.obligations)} obligations, {attempt.cut_count} cut points")
        return outcome
    obligation, answer = outcome
    if not attempt.cut_count:
        return confirm(problem.block, attempt.counterexample(answer.model), f"{obligation.name} differs", folder)
    return _without_cuts(problem, netlist, obligation, answer.model, limits, seed, folder)


def _without_cuts(
    problem: Problem,
    netlist: Netlist,
    failed: Obligation,
    model: Mapping[str, Any],
    limits: Limits,
    seed: int,
    folder: Path | None,
) -> Verdict:
    """What a failed cut proof really means."""
    whole = _Proof(problem, netlist, cutting=False)
    allowed = all(whole.formula.evaluate([a], model)[0] for o in whole.obligations for a in o.assumptions)
    if allowed:
        found = confirm(problem.block, whole.counterexample(model), f"{failed.name} differs", folder)
        if found.kind is Kind.REFUTED:
            return found
    if all(memory.contents is not None for memory in netlist.memories.values()):
        tried = sample(problem, _FALSIFYING_CASES, seed, folder=folder)
        if tried.kind is Kind.REFUTED:
            return tried
    outcome = conclude(whole.obligations, discharge(whole.formula, whole.obligations, limits))
    if isinstance(outcome, Verdict):
        if outcome.kind is Kind.PROVED:
            return proved(f"{len(whole.obligations)} obligations; the cut at {failed.name} was too weak")
        return unknown(f"not provable node by node at {failed.name}; as a whole: {outcome.detail}")
    obligation, answer = outcome
    return confirm(problem.block, whole.counterexample(answer.model), f"{obligation.name} differs", folder)
