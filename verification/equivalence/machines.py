"""Equality of two state machines from reset: same inputs, same outputs in every cycle, for ever.

Unlike `equality.prove_equal` the states need not correspond. First a bounded search for a difference
from reset. Then induction over a relation that is found, not given: start from "all equally named
registers and memories are equal", drop every member that reset or a step breaks, until the rest
is inductive; equal outputs under what is left is a proof.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrtl

from verification.equivalence.bits import Bits, conjunction
from verification.equivalence.counterexample import Observation, replay, save, simulate
from verification.equivalence.equality import check_interface
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError, read_block, write_block
from verification.equivalence.sequential import Environment, Signals, signals_at
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.verdict import Verdict, proved, refuted, unknown

Compare = Callable[[Signals, Signals], Bits]


class _Machines:
    """Two netlists in one formula; `start` for both, open state shared by name at reset."""

    def __init__(self, ours: Netlist, theirs: Netlist, environment: Environment, start: Start) -> None:
        self.formula = Formula()
        self.ours, self.theirs = ours, theirs
        self.environment = environment
        apart = "ours." if start is Start.ANY else ""
        shared = {name: name for name in theirs.memories}
        self.runs = (
            SymbolicRun(ours, self.formula, fixed=environment.fixed, start=start, prefix=apart, memories=shared),
            SymbolicRun(theirs, self.formula, fixed=environment.fixed, start=start, memories=shared),
        )

    def same_outputs(self, cycle: int, compare: Compare | None) -> int:
        """One bit: the outputs agree in a cycle, as `compare` sees it."""
        mine, other = (signals_at(run.unrolling, cycle) for run in self.runs)
        if compare is not None:
            return int(compare(mine, other).value)
        return int(conjunction([mine[name] == other[name] for name in self.theirs.outputs]).value)

    def assumed(self, cycles: int) -> tuple[int, ...]:
        """The environment's promise, on the second machine's wires."""
        if self.environment.assume is None:
            return ()
        wires = (signals_at(self.runs[1].unrolling, t) for t in range(cycles))
        return tuple(self.environment.assume(w).value for w in wires)

    def same_register(self, name: str, cycle: int) -> int:
        """One bit: an equally named register agrees."""
        mine, other = (run.unrolling.bits(name, cycle) for run in self.runs)
        return int((mine == other).value)


def _difference(
    ours: Netlist,
    theirs: Netlist,
    depth: int,
    environment: Environment,
    compare: Compare | None,
    limits: Limits,
    claim: str,
    folder: Path | None,
) -> Verdict | None:
    """REFUTED by a run from reset, UNKNOWN if the search was cut short, None if there is no difference."""
    machines = _Machines(ours, theirs, environment, Start.RESET)
    obligations = [
        Obligation(f"cycle {t}", machines.same_outputs(t, compare), machines.assumed(t + 1)) for t in range(depth)
    ]
    answers = discharge(machines.formula, obligations, limits)
    for cycle, answer in enumerate(answers):
        if answer.status == "sat":
            return _refute(machines, cycle, answer.model, claim, folder)
    cut_short = [a.reason for a in answers if a.status != "unsat"]
    return unknown(f"{claim}: {cut_short[0]}") if cut_short else None


def _refute(machines: _Machines, cycle: int, model: Mapping[str, Any], claim: str, folder: Path | None) -> Verdict:
    """REFUTED if simulation of both machines shows different outputs in the cycle."""
    runs = [run.counterexample(claim, model, cycle + 1, {}) for run in machines.runs]
    names = list(machines.theirs.outputs)
    observed = simulate(write_block(machines.ours), runs[0], names)[cycle]
    expected = simulate(write_block(machines.theirs), runs[1], names)[cycle]
    observations = tuple(Observation(n, cycle, observed[n], expected[n]) for n in names if observed[n] != expected[n])
    found = replace(runs[0], observations=observations)
    if not observations or not replay(write_block(machines.ours), found):
        return unknown(f"{claim}: the solver's run does not replay in simulation (a fault of the translation)")
    return refuted(
        f"{observations[0].wire} differs {cycle} cycles after reset",
        save(found, folder) if folder is not None else None,
    )


def _inductive_relation(ours: Netlist, theirs: Netlist, environment: Environment, limits: Limits) -> tuple[str, ...]:
    """Equally named registers that stay equal for ever, by dropping those that do not."""
    reset = _Machines(ours, theirs, environment, Start.RESET)
    common = [name for name in theirs.registers if name in ours.registers and ours.widths[name] == theirs.widths[name]]
    related = [name for name in common if reset.formula.known(reset.same_register(name, 0)) == 1]
    while related:
        step = _Machines(ours, theirs, environment, Start.ANY)
        held = tuple(step.same_register(name, 0) for name in related)
        obligations = [Obligation(name, step.same_register(name, 1), (*held, *step.assumed(2))) for name in related]
        answers = discharge(step.formula, obligations, limits)
        kept = [name for name, answer in zip(related, answers, strict=True) if answer.status == "unsat"]
        if kept == related:
            break
        related = kept
    return tuple(related)


def prove_machines_equal(
    implementation: pyrtl.Block | Netlist,
    specification: pyrtl.Block | Netlist,
    *,
    claim: str = "machines equal",
    depth_cycles: int = 8,
    environment: Environment | None = None,
    compare: Compare | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """PROVED, REFUTED by a run of at most `depth_cycles` from reset, or UNKNOWN.

    `compare(ours, theirs)` is one bit over both machines' wires in a cycle; by default all outputs are equal. A
    protocol that leaves payloads open while `valid` is 0 says so there. Machines with writable
    memories are compared to the depth only (UNKNOWN at best).
    """
    ours = implementation if isinstance(implementation, Netlist) else read_block(implementation)
    theirs = specification if isinstance(specification, Netlist) else read_block(specification)
    check_interface(ours, theirs)
    if depth_cycles < 1:
        raise NetlistError(f"{claim}: a search of {depth_cycles} cycles is empty; use at least 1")
    environment, limits = environment or Environment(), limits or Limits()
    found = _difference(ours, theirs, depth_cycles, environment, compare, limits, claim, folder)
    if found is not None:
        return found
    if any(memory.contents is None for memory in (*ours.memories.values(), *theirs.memories.values())):
        return unknown(f"{claim}: no difference in {depth_cycles} cycles; writable memories are not compared further")
    return _by_induction(ours, theirs, environment, compare, limits, depth_cycles)


def _by_induction(
    ours: Netlist,
    theirs: Netlist,
    environment: Environment,
    compare: Compare | None,
    limits: Limits,
    depth: int,
) -> Verdict:
    """PROVED if the outputs follow from the inductive relation."""
    related = _inductive_relation(ours, theirs, environment, limits)
    step = _Machines(ours, theirs, environment, Start.ANY)
    held = tuple(step.same_register(name, 0) for name in related)
    claim = Obligation("outputs", step.same_outputs(0, compare), (*held, *step.assumed(1)))
    answer = discharge(step.formula, [claim], limits)[0]
    if answer.status == "unsat":
        return proved(f"induction over {len(related)} equal registers")
    reason = answer.reason or "some unreachable state may tell them apart"
    return unknown(f"no difference in {depth} cycles, but not shown by induction: {reason}")
