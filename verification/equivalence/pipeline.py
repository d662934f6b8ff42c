"""A pipeline under ready/valid as `hls.lower` makes it, proved for every stall pattern and for ever.

Four claims, from any state whatever, that together say "each accepted input comes out once, in
order, as the specification of itself":
1. flow: with `out_ready` held at 1, the outputs at cycle L are the specification of the inputs at
   cycle 0, and `out_valid` at cycle L is `in_valid` at cycle 0;
2. handshake: `in_ready` is `out_ready or not out_valid`;
3. stall: where `in_ready` is 0 every register keeps its value, where it is 1 every register moves as
   if `out_ready` were 1: so a stalled run is the free run of claim 1 with its clock stopped;
4. reset: every register on the way of `valid` is reset to 0: nothing comes out before something went in.
"""

from collections.abc import Mapping
from pathlib import Path

import pyrtl

from verification.equivalence.bits import Bits, choose
from verification.equivalence.equality import conclude
from verification.equivalence.formula import Formula
from verification.equivalence.function import confirm, prove
from verification.equivalence.netlist import Netlist, read_block
from verification.equivalence.problem import Assumption, Operands, Problem, Specification, Target, at_cycle
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.verdict import Verdict, refuted, weakest


def flow_problem(
    block: pyrtl.Block,
    specification: Specification,
    latency_cycles: int,
    *,
    claim: str = "flow",
    assume: Assumption | None = None,
) -> Problem:
    """Claim 1 for `prove`, `exhaust` or `sample`.

    `specification` names outputs without cycles, as a function of inputs at cycle 0; its cut points
    carry their cycles.
    """

    def timed(operands: Operands) -> Mapping[Target, Bits]:
        values = specification(operands)
        flow: dict[Target, Bits] = {(at_cycle(t)[0], latency_cycles): value for t, value in values.items()}
        flow[("out_valid", latency_cycles)] = operands["in_valid"]
        return flow

    return Problem(claim, block, timed, fixed={"out_ready": 1}, assume=assume)


class _Stalls:
    """Claims 2 to 4 as obligations, each with the wire and the term it should equal."""

    def __init__(self, netlist: Netlist, latency_cycles: int) -> None:
        self.formula = Formula()
        self.run = SymbolicRun(netlist, self.formula)
        self.quiet = SymbolicRun(netlist, self.formula, fixed={"in_valid": 0, "out_ready": 1}, start=Start.RESET)
        flowing = SymbolicRun(netlist, self.formula, fixed={"out_ready": 1}).unrolling
        wires = self.run.unrolling
        moves = wires.bits("in_ready")
        self.claims: list[tuple[SymbolicRun, str, int, Bits]] = [
            (self.run, "in_ready", 0, wires.bits("out_ready") | ~wires.bits("out_valid"))
        ]
        for name in netlist.registers:
            self.claims.append((self.run, name, 1, choose(moves, flowing.bits(name, 1), wires.bits(name))))
        for cycle in range(latency_cycles):
            self.claims.append((self.quiet, "out_valid", cycle, moves.constant(0)))

    def obligations(self) -> list[Obligation]:
        """One for each claim, in order."""
        return [
            Obligation(f"{wire} at cycle {cycle}", (run.unrolling.bits(wire, cycle) == expected).value)
            for run, wire, cycle, expected in self.claims
        ]


def prove_stalls(
    block: pyrtl.Block,
    latency_cycles: int,
    *,
    claim: str = "stalls",
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """Claims 2, 3 and 4 of the module: PROVED, REFUTED or UNKNOWN."""
    stalls = _Stalls(read_block(block), latency_cycles)
    obligations = stalls.obligations()
    answers = discharge(stalls.formula, obligations, limits or Limits())
    for (run, wire, cycle, expected), obligation, answer in zip(stalls.claims, obligations, answers, strict=True):
        if answer.status == "sat":
            found = run.counterexample(claim, answer.model, cycle + 1, {(wire, cycle): expected.value})
            return confirm(block, found, f"{claim}: {obligation.name} differs", folder)
    outcome = conclude(obligations, answers)
    if not isinstance(outcome, Verdict):
        raise AssertionError("a satisfiable obligation was handled above")
    return outcome


def prove_reset(
    block: pyrtl.Block, latency_cycles: int, *, claim: str = "reset", limits: Limits | None = None
) -> Verdict:
    """Claim 4 of the module alone, the only one that depends on reset values: PROVED, REFUTED or UNKNOWN."""
    run = SymbolicRun(read_block(block), Formula(), fixed={"in_valid": 0, "out_ready": 1}, start=Start.RESET)
    obligations = [
        Obligation(f"{claim}: out_valid at cycle {cycle}", (~run.unrolling.bits("out_valid", cycle)).value)
        for cycle in range(latency_cycles)
    ]
    outcome = conclude(obligations, discharge(run.formula, obligations, limits or Limits()))
    return outcome if isinstance(outcome, Verdict) else refuted(f"{outcome[0].name} is 1 after reset")


def prove_pipeline(
    block: pyrtl.Block,
    specification: Specification,
    latency_cycles: int,
    *,
    claim: str = "pipeline",
    assume: Assumption | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """All four claims of the module: PROVED, or the weakest conclusion among them.

    `block` has the ports `in_valid`, `in_ready`, `out_valid`, `out_ready`; see `flow_problem` for the rest. Limits
    hold for each obligation.
    """
    stalls = prove_stalls(block, latency_cycles, claim=f"{claim} stalls", limits=limits, folder=folder)
    problem = flow_problem(block, specification, latency_cycles, claim=claim, assume=assume)
    return weakest([prove(problem, limits=limits, folder=folder), stalls])
