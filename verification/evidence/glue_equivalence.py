"""Mutants that differ only where nobody looks: proved by an inductive relation that is found, not given.

Of both machines equally named registers and memories are equal, but for some registers; such a register is equal
wherever a condition on the original's state holds: a one-bit register is 0, or 1, or a small one (a count) is at least,
or below, some number. All conditions that hold at reset are assumed, and those that a step breaks are dropped, until
the rest is inductive. Registers that a step makes differ join the others. If then all outputs that mean something are
equal, and what is written to memories is, the mutant is equivalent in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from verification.equivalence.bits import Bits, conjunction
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, SymbolicRun, discharge
from verification.equivalence.unrolling import Sources, Unrolling
from verification.evidence.glue_outputs import Meaning
from verification.evidence.glue_promises import Promise
from verification.evidence.glue_reach import reached

COUNT_BITS = 4
MOST_DIFFERENT = 8
STEPS = 40


@dataclass(frozen=True)
class Condition:
    """`register` of the original is at least `bound` (`below`: less than it)."""

    register: str
    bound: int
    below: bool

    def holds(self, value: Bits) -> Bits:
        """Of a value of the register."""
        return value < self.bound if self.below else ~(value < self.bound)

    def at(self, value: int) -> bool:
        """Of a number."""
        return (value < self.bound) == self.below


def _conditions(netlist: Netlist) -> Iterator[Condition]:
    for name, reset in netlist.registers.items():
        bits = netlist.widths[name]
        if reset is not None and bits <= COUNT_BITS:
            for bound in range(1, 1 << bits):
                yield Condition(name, bound, below=False)
                yield Condition(name, bound, below=True)


def _common(faulty: Netlist, original: Netlist) -> list[str]:
    """Registers that both have."""
    return [name for name in original.registers if name in faulty.registers]


def _added(faulty: Netlist, original: Netlist) -> dict[str, str]:
    """Registers that a mutant has put before others: they hold what those of the original hold.

    Both take in the same in every step, as long as the fault does not reach that.
    """
    found = {}
    for name, reset in faulty.registers.items():
        behind = [net.dest for net in faulty.nets if net.op == "r" and net.args[0] == name and net.dest]
        of_original = [r for r in behind if r in original.registers and original.registers[r] == reset]
        if name in original.registers or not len(behind) == len(of_original) == 1:
            continue
        if original.drivers[behind[0]].args[0] == faulty.drivers[name].args[0]:
            found[name] = behind[0]
    return found


class _Step:
    """A step of both machines from states in the relation; of the mutant only what can be different."""

    def __init__(
        self,
        faulty: Netlist,
        original: Netlist,
        relation: Mapping[str, set[Condition]],
        promises: Sequence[Promise],
    ) -> None:
        self.netlist, self.formula = faulty, Formula()
        self.reached = reached(faulty, original, relation)
        added = _added(faulty, original)
        self.original = SymbolicRun(original, self.formula).unrolling
        apart = {name: self.formula.variable(f"reg:faulty.{name}", original.widths[name]) for name in relation}

        def own(name: str, cycle: int) -> int | None:
            if cycle or name in self.reached or name not in {**original.widths, **added}:
                return None
            return int(self.original.value(added.get(name, name)))

        def refuse(name: str, cycle: int = 0) -> int:
            raise NetlistError(f"{name!r} at cycle {cycle} is none of the original's")

        def table(name: str) -> int:
            memory = faulty.memories[name]
            return self.formula.table(memory.contents or (), memory.address_bits, memory.data_bits)

        sources = Sources(refuse, apart.__getitem__, self.original.memory, table, own)
        self.faulty = Unrolling(faulty, self.formula, sources)
        related = tuple(self.related(r, c, 0) for r, kept in relation.items() for c in kept)
        promised = [promise.holds(self.original.bits, original).value for promise in promises]
        self.assumed = (*related, *(int(term) for term in promised))

    def same(self, name: str, cycle: int) -> Bits:
        """A wire has the same value in both."""
        return self.faulty.bits(name, cycle) == self.original.bits(name, cycle)

    def related(self, name: str, condition: Condition, cycle: int) -> int:
        """The register is equal where the condition holds."""
        held = condition.holds(self.original.bits(condition.register, cycle))
        return int((~held | self.same(name, cycle)).value)

    def _differs(self, mine: str, its: str) -> bool:
        """Whether a wire of the original and one of the mutant may differ."""
        return mine != its or its in self.reached

    def registers(self, original: Netlist, relation: Mapping[str, set[Condition]]) -> list[Obligation]:
        """What is in all others after the step."""
        names = [name for name in _common(self.netlist, original) if name not in relation]
        nets = [(name, original.drivers[name].args[0], self.netlist.drivers[name].args[0]) for name in names]
        return [Obligation(n, int(self.same(n, 1).value), self.assumed) for n, a, b in nets if self._differs(a, b)]

    def memories(self, original: Netlist) -> list[Obligation]:
        """What is in them after the step."""
        found = []
        for name, nets in original.writers.items():
            faulty = self.netlist.writers[name]
            pairs = [
                (a, b)
                for mine, its in zip(nets, faulty, strict=False)
                for a, b in zip(mine.args, its.args, strict=True)
            ]
            if original.memories[name].contents is None and (
                len(nets) != len(faulty) or any(self._differs(a, b) for a, b in pairs)
            ):
                arrays = (self.faulty.memory(name, 1), self.original.memory(name, 1))
                found.append(Obligation(f"memory {name}", self.formula.arrays_equal(*arrays), self.assumed))
        return found

    def outputs(self, original: Netlist, meaning: Mapping[str, Meaning]) -> list[Obligation]:
        """Each where it means something."""
        found = []
        for name in original.outputs:
            if name in self.reached:
                claim = self._where_it_means(name, meaning.get(name, Meaning()))
                found.append(Obligation(f"output {name}", int(claim.value), self.assumed))
        return found

    def _where_it_means(self, name: str, meaning: Meaning) -> Bits:
        mine, its = (run.bits(name, 0) for run in (self.original, self.faulty))
        parts = meaning.parts(mine.width, lambda port: self.original.bits(port, 0))
        same = [(mine[at] == its[at], condition) for at, condition in parts]
        return conjunction([equal if condition is None else equal | ~condition for equal, condition in same])

    def fails(self, obligations: list[Obligation], limits: Limits) -> list[bool]:
        """Which are not proved."""
        return [answer.status != "unsat" for answer in discharge(self.formula, obligations, limits)]


def same_step(faulty: Netlist, original: Netlist, meaning: Mapping[str, Meaning], limits: Limits) -> bool:
    """Whether reset and, from any state, the step are proved the same, where outputs mean something."""
    if faulty.registers != original.registers or set(faulty.memories) != set(original.memories):
        return False
    step = _Step(faulty, original, {}, ())
    try:
        claims = step.outputs(original, meaning) + step.memories(original) + step.registers(original, {})
        return not any(step.fails(claims, limits))
    except NetlistError:
        return False


def unseen(
    faulty: Netlist,
    original: Netlist,
    meaning: Mapping[str, Meaning],
    limits: Limits,
    promises: Sequence[Promise] = (),
) -> bool:
    """Whether it is proved that no run from reset shows a difference; False says nothing.

    `promises`: of the neighbours.
    """
    try:
        return _unseen(faulty, original, meaning, limits, promises)
    except NetlistError:
        return False


def _unseen(
    faulty: Netlist,
    original: Netlist,
    meaning: Mapping[str, Meaning],
    limits: Limits,
    promises: Sequence[Promise],
) -> bool:
    added = _added(faulty, original)
    if set(faulty.registers) - set(original.registers) - set(added) or set(faulty.memories) != set(original.memories):
        return False
    conditions = list(_conditions(original))

    def at_reset(name: str) -> set[Condition]:
        """Conditions under which the register is equal when reset ends."""
        equal = faulty.registers[name] == original.registers[name] is not None
        return {c for c in conditions if equal or not c.at(original.registers[c.register] or 0)}

    registers = _common(faulty, original)
    differ = [name for name in registers if faulty.registers[name] != original.registers[name]]
    relation = {name: at_reset(name) for name in differ}
    for _ in range(STEPS):
        if len(relation) > MOST_DIFFERENT:
            return False
        step = _Step(faulty, original, relation, promises)
        if any(faulty.drivers[name].args[0] in step.reached for name in added):
            return False
        others = step.registers(original, relation)
        joining = [o.name for o, failed in zip(others, step.fails(others, limits), strict=True) if failed]
        pairs = [(name, condition) for name, kept in relation.items() for condition in kept]
        claims = [Obligation(str(p), step.related(*p, 1), step.assumed) for p in pairs]
        dropped = [p for p, failed in zip(pairs, step.fails(claims, limits), strict=True) if failed]
        if any(step.fails(step.outputs(original, meaning) + step.memories(original), limits)):
            return False  # with fewer conditions, still so
        if not joining and not dropped:
            return True
        for name, condition in dropped:
            relation[name].discard(condition)
        relation |= {name: at_reset(name) for name in joining}
    return False
