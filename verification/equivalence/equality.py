"""Equality of two netlists with the same interface: one step from any common state.

For every input and every state: equal outputs, equal next values of the registers, equal next
contents of the memories. Registers correspond by name (or by `correspondence`), so this is
complete for combinational logic and sound for sequential logic; two machines that differ only in
states they cannot reach need `sequential.prove_machines_equal`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrtl

from verification.equivalence.bits import Bits
from verification.equivalence.counterexample import Observation, replay, save, simulate
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError, read_block, write_block
from verification.equivalence.solver import Answer, Limits
from verification.equivalence.symbolic import Obligation, SymbolicRun, discharge
from verification.equivalence.verdict import Verdict, proved, refuted, unknown

Correspondence = Mapping[str, Sequence[str]]


def check_interface(ours: Netlist, theirs: Netlist) -> None:
    """NetlistError unless both have the same inputs and outputs, names and widths."""
    for what, a, b in (("inputs", ours.inputs, theirs.inputs), ("outputs", ours.outputs, theirs.outputs)):
        mine = {name: ours.widths[name] for name in a}
        other = {name: theirs.widths[name] for name in b}
        if mine != other:
            odd = sorted(set(mine.items()) ^ set(other.items()))
            raise NetlistError(f"the blocks differ in {what} (name, bits): {odd}; give both the same interface")


class _Pair:
    """Two netlists in one formula, on the same inputs and corresponding state."""

    def __init__(self, ours: Netlist, theirs: Netlist, registers: Correspondence, fixed: Mapping[str, int]) -> None:
        check_interface(ours, theirs)
        missing = sorted(set(theirs.registers) - set(registers))
        used = [part for parts in registers.values() for part in parts]
        if missing or sorted(used) != sorted(ours.registers):
            odd = missing + sorted(set(used) ^ set(ours.registers))
            raise NetlistError(
                f"registers without a counterpart: {odd}; name them alike, or prove the machines equal by induction"
            )
        if {n: m.contents is None for n, m in ours.memories.items()}.keys() != theirs.memories.keys():
            odd = sorted(set(ours.memories) ^ set(theirs.memories))
            raise NetlistError(f"memories without a counterpart: {odd}; name them alike")
        self.formula = Formula()
        self.registers = registers
        initial: dict[str, int] = {}
        for name, parts in registers.items():
            low = 0
            whole = self.formula.variable(f"reg:{name}", theirs.widths[name])
            for part in parts:
                width = ours.widths[part]
                initial[part] = self.formula.extract(whole, theirs.widths[name], low, width)
                low += width
        self.ours = SymbolicRun(ours, self.formula, fixed=fixed, registers=initial)
        self.theirs = SymbolicRun(theirs, self.formula, fixed=fixed)

    def _register(self, name: str) -> tuple[Bits, Bits]:
        domain, unrolled = self.formula, self.ours.unrolling
        parts = [unrolled.bits(part, 1) for part in self.registers[name]]
        mine = Bits(domain, domain.concatenate([(p.value, p.width) for p in parts[::-1]]), sum(p.width for p in parts))
        return mine, self.theirs.unrolling.bits(name, 1)

    def obligations(self) -> list[Obligation]:
        """One for each output, register and writable memory."""
        result = []
        for name in self.theirs.netlist.outputs:
            same = self.ours.unrolling.bits(name) == self.theirs.unrolling.bits(name)
            result.append(Obligation(f"output {name}", same.value))
        for name in self.registers:
            mine, other = self._register(name)
            result.append(Obligation(f"register {name}", (mine == other).value))
        for name, memory in self.theirs.netlist.memories.items():
            if memory.contents is None:
                arrays = (self.ours.unrolling.memory(name, 1), self.theirs.unrolling.memory(name, 1))
                result.append(Obligation(f"memory {name}", self.formula.arrays_equal(*arrays)))
        return result


def _differing_word(pair: _Pair, name: str, model: Mapping[str, Any]) -> int | None:
    """An address at which the memories differ after one cycle."""
    arrays = [run.unrolling.memory(name, 1) for run in (pair.ours, pair.theirs)]
    mine, other = pair.formula.evaluate(arrays, model)
    span = range(1 << pair.theirs.netlist.memories[name].address_bits)
    return next((a for a in span if mine.read(a) != other.read(a)), None)


def _refute(pair: _Pair, name: str, model: Mapping[str, Any], claim: str, folder: Path | None) -> Verdict:
    """REFUTED if simulation of both blocks shows the difference, else UNKNOWN."""
    kind, wire = name.split(" ", 1)
    theirs, ours = [wire], [wire]
    if kind == "register":
        ours = list(pair.registers[wire])
    elif kind == "memory":
        ours = theirs = [f"{wire}[{_differing_word(pair, wire, model)}]"]
    cycle = 0 if kind == "output" else 1
    mine = pair.ours.counterexample(claim, model, cycle + 1, {})
    other = pair.theirs.counterexample(claim, model, cycle + 1, {})
    observed = simulate(write_block(pair.ours.netlist), mine, ours)[cycle]
    expected = simulate(write_block(pair.theirs.netlist), other, theirs)[cycle][theirs[0]]
    observations = []
    for part in ours:
        width = pair.ours.netlist.widths[part] if kind != "memory" else expected.bit_length()
        observations.append(Observation(part, cycle, observed[part], expected & ((1 << width) - 1)))
        expected >>= width
    found = replace(mine, observations=tuple(observations))
    if not replay(write_block(pair.ours.netlist), found):
        return unknown(
            f"{name}: the solver's counterexample does not replay in simulation (a fault of the translation)"
        )
    return refuted(f"{name} differs", save(found, folder) if folder is not None else None)


def conclude(obligations: Sequence[Obligation], answers: Sequence[Answer]) -> Verdict | tuple[Obligation, Answer]:
    """PROVED or UNKNOWN, or the first obligation that has a counterexample."""
    for obligation, answer in zip(obligations, answers, strict=True):
        if answer.status == "sat":
            return obligation, answer
    for obligation, answer in zip(obligations, answers, strict=True):
        if answer.status != "unsat":
            return unknown(f"{obligation.name}: {answer.reason}")
    return proved(f"{len(obligations)} obligations")


def prove_equal(
    implementation: pyrtl.Block | Netlist,
    specification: pyrtl.Block | Netlist,
    *,
    claim: str = "equal",
    correspondence: Correspondence | None = None,
    fixed: Mapping[str, int] | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """PROVED if both blocks compute the same outputs and next state from any common state.

    `correspondence` lists, for each register of the specification, the implementation's
    registers that hold it, lowest bits first (default: the one of the same name). `fixed` inputs are
    constants. `folder` receives the counterexample of a REFUTED. Raises NetlistError if the
    interfaces or the states do not correspond.
    """
    ours = implementation if isinstance(implementation, Netlist) else read_block(implementation)
    theirs = specification if isinstance(specification, Netlist) else read_block(specification)
    registers = correspondence if correspondence is not None else {name: (name,) for name in theirs.registers}
    pair = _Pair(ours, theirs, registers, fixed or {})
    obligations = pair.obligations()
    if not obligations:
        raise NetlistError("nothing to compare: the blocks have no outputs, registers or memories")
    outcome = conclude(obligations, discharge(pair.formula, obligations, limits or Limits()))
    if isinstance(outcome, Verdict):
        return outcome
    return _refute(pair, outcome[0].name, outcome[1].model, claim, folder)
