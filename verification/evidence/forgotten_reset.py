"""Reset values that nobody can see: mutants of them proved equivalent where the first cycles forget them.

A block that takes the same step as the original from any state, and that is in the same state as the original some
cycles after reset, whatever the inputs and the memories, with the same outputs in these cycles, is equal to it. Payload
on outputs counts where `out_valid` is 1.
"""

from collections.abc import Collection
from dataclasses import replace

import pyrtl

from verification.equivalence.equality import conclude, prove_equal
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import read_block
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.verdict import Kind, Verdict, unknown


def prove_reset_forgotten(
    faulty: pyrtl.Block, original: pyrtl.Block, cycles: int, payload: Collection[str], limits: Limits
) -> Verdict:
    """PROVED if the blocks differ in reset values only, and these are forgotten in `cycles` cycles; else UNKNOWN.

    Args:
        faulty: the mutant.
        original: what it is a mutant of.
        cycles: depth of its pipelines.
        payload: outputs that mean nothing while `out_valid` is 0.
        limits: of each obligation.
    """
    ours, theirs = read_block(faulty), read_block(original)
    if ours.registers.keys() != theirs.registers.keys():
        return unknown("the registers differ")
    but_for_reset = replace(ours, registers=theirs.registers)
    if but_for_reset != theirs:
        same_step = prove_equal(but_for_reset, theirs, limits=limits)
        if same_step.kind is not Kind.PROVED:
            return unknown(f"from the same state the steps differ: {same_step.detail}")
    formula = Formula()
    mine, other = (SymbolicRun(netlist, formula, start=Start.RESET).unrolling for netlist in (ours, theirs))
    obligations = []
    for cycle in range(cycles):
        for name in theirs.outputs:
            same = mine.bits(name, cycle) == other.bits(name, cycle)
            hidden = ~other.bits("out_valid", cycle) if name in payload else same.constant(0)
            obligations.append(Obligation(f"{name} at cycle {cycle}", (same | hidden).value))
    for name in theirs.registers:
        same = mine.bits(name, cycles) == other.bits(name, cycles)
        obligations.append(Obligation(f"{name} at cycle {cycles}", same.value))
    for name, memory in theirs.memories.items():
        if memory.contents is None:
            same_words = formula.arrays_equal(mine.memory(name, cycles), other.memory(name, cycles))
            obligations.append(Obligation(f"{name} at cycle {cycles}", same_words))
    outcome = conclude(obligations, discharge(formula, obligations, limits))
    return outcome if isinstance(outcome, Verdict) else unknown(f"{outcome[0].name} shows the reset value")
