"""Mutants that differ only where nobody looks: proved by an inductive relation that is found, not given.

Of both machines equally named registers and memories are equal, but for some registers; such a register is equal
wherever a condition on the original's state holds: a one-bit register is 0, or 1, or a small one (a count) is at least,
or below, some number. All conditions that hold at reset are assumed, and those that a step breaks are dropped, until
the rest is inductive. Registers that a step makes differ join the others; of a ring in a memory (`hls.stream.fifo`)
cells in use are equal, others need not be. If then all outputs that mean something are equal, and what is written to
other memories is, the mutant is equivalent in every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from verification.equivalence.bits import Bits, conjunction
from verification.equivalence.formula import Formula
from verification.equivalence.inductive import Candidate, inductive
from verification.equivalence.netlist import Netlist, NetlistError
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, SymbolicRun, discharge
from verification.equivalence.unrolling import Sources, Unrolling
from verification.evidence.glue_outputs import Meaning
from verification.evidence.glue_promises import Promise, Value
from verification.evidence.glue_reach import reached

COUNT_BITS = 4
MOST_DIFFERENT = 12


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


@dataclass(frozen=True)
class _Ring:
    """Registers of a ring in a memory: the oldest cell in use, the one behind them, and how many there are, if told."""

    head: str
    tail: str
    count: str = ""

    def used(self, value: Value, address: Bits) -> Bits:
        """A cell is in use."""
        head, tail = value(self.head), value(self.tail)
        if self.count:
            count = value(self.count)
            return (address - head).zext(count.width) < count
        return address - head < tail - head

    def agrees(self, value: Value) -> Bits:
        """As many cells are in use as there are between the pointers."""
        head, tail = value(self.head), value(self.tail)
        return tail - head == value(self.count)[: head.width] if self.count else value(self.empty) | (head != tail)

    @property
    def empty(self) -> str:
        """Of a ring without count: says that there is nothing, a cycle late where something has come."""
        return f"{self.head.removesuffix('read')}empty"


def _rings(netlist: Netlist) -> dict[str, _Ring]:
    """Memories that are rings of 2^n cells: FIFOs (`hls.stream`), queues of beats (`hls.datapaths.row_queues`)."""
    found = {}
    for name in netlist.writers:
        bits = netlist.memories[name].address_bits
        fifo, queue = name.removesuffix("memory"), name.removesuffix("beats")
        for ring, widths in (
            (_Ring(f"{fifo}head", f"{fifo}tail", f"{fifo}count"), [bits, bits, bits + 1]),
            (_Ring(f"{queue}read", f"{queue}written"), [bits, bits]),
        ):
            registers = [register for register in (ring.head, ring.tail, ring.count) if register]
            if [netlist.widths.get(register) for register in registers] == widths:
                found[name] = ring
    return found


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
        relation: Mapping[str, Sequence[Condition]],
        promises: Sequence[Promise],
        rings: Sequence[str] = (),
    ) -> None:
        self.netlist, self.formula = faulty, Formula()
        self.reached = reached(faulty, original, relation, rings)
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

        def memory(name: str) -> int:
            of = faulty.memories[name]
            if name in rings:
                return self.formula.array(f"mem:faulty.{name}", of.address_bits, of.data_bits)
            return int(self.original.memory(name))

        sources = Sources(refuse, apart.__getitem__, memory, table, own)
        self.faulty = Unrolling(faulty, self.formula, sources)
        self.promised = tuple(
            int(promise.holds(partial(self.original.bits, cycle=cycle), original).value)
            for promise in promises
            for cycle in (0, 1)
        )

    def same(self, name: str, cycle: int) -> Bits:
        """A wire has the same value in both."""
        return self.faulty.bits(name, cycle) == self.original.bits(name, cycle)

    def related(self, name: str, condition: Condition, cycle: int) -> int:
        """The register is equal where the condition holds."""
        held = condition.holds(self.original.bits(condition.register, cycle))
        return int((~held | self.same(name, cycle)).value)

    def in_ring(self, memory: str, ring: _Ring, address: Bits, cycle: int) -> Bits:
        """A cell of a ring is equal, or in no use."""
        words = [
            Bits(self.formula, self.formula.select(run.memory(memory, cycle), int(address.value)), self._word(memory))
            for run in (self.original, self.faulty)
        ]
        return ~ring.used(partial(self.original.bits, cycle=cycle), address) | (words[0] == words[1])

    def _word(self, memory: str) -> int:
        return self.netlist.memories[memory].data_bits

    def pointers(self, ring: _Ring) -> Candidate:
        """The pointers of a ring and what is said of it."""
        before, after = (int(ring.agrees(partial(self.original.bits, cycle=cycle)).value) for cycle in (0, 1))
        return Candidate(before, after, must=True)

    def ring(self, memory: str, ring: _Ring, original: Netlist) -> Candidate:
        """All cells in use are equal: of any cell behind the step, from that cell and those that are read before it."""
        cell = self.formula.bits(self.formula.variable(f"cell:{memory}", original.memories[memory].address_bits))
        read = {net.args[0] for net in original.nets if net.op == "m" and net.memory == memory}
        before = [self.in_ring(memory, ring, at, 0) for at in (cell, *(self.original.bits(wire, 0) for wire in read))]
        return Candidate(int(conjunction(before).value), int(self.in_ring(memory, ring, cell, 1).value), must=True)

    def _differs(self, mine: str, its: str) -> bool:
        """Whether a wire of the original and one of the mutant may differ."""
        return mine != its or its in self.reached

    def registers(self, original: Netlist, relation: Mapping[str, Sequence[Condition]]) -> list[Obligation]:
        """What is in all others after the step."""
        names = [name for name in _common(self.netlist, original) if name not in relation]
        nets = [(name, original.drivers[name].args[0], self.netlist.drivers[name].args[0]) for name in names]
        return [Obligation(n, int(self.same(n, 1).value)) for n, a, b in nets if self._differs(a, b)]

    def memories(self, original: Netlist, rings: Sequence[str] = ()) -> list[Obligation]:
        """What is in them after the step, but for some of them."""
        found = []
        for name, nets in original.writers.items():
            if name in rings:
                continue
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
                found.append(Obligation(name, self.formula.arrays_equal(*arrays)))
        return found

    def outputs(self, original: Netlist, meaning: Mapping[str, Meaning]) -> list[Obligation]:
        """Each where it means something."""
        found = []
        for name in original.outputs:
            if name in self.reached:
                claim = self._where_it_means(name, meaning.get(name, Meaning()))
                found.append(Obligation(f"output {name}", int(claim.value)))
        return found

    def _where_it_means(self, name: str, meaning: Meaning) -> Bits:
        mine, its = (run.bits(name, 0) for run in (self.original, self.faulty))
        parts = meaning.parts(mine.width, lambda port: self.original.bits(port, 0))
        same = [(mine[at] == its[at], condition) for at, condition in parts]
        return conjunction([equal if condition is None else equal | ~condition for equal, condition in same])


def same_step(faulty: Netlist, original: Netlist, meaning: Mapping[str, Meaning], limits: Limits) -> bool:
    """Whether reset and, from any state, the step are proved the same, where outputs mean something."""
    if faulty.registers != original.registers or set(faulty.memories) != set(original.memories):
        return False
    step = _Step(faulty, original, {}, ())
    try:
        claims = step.outputs(original, meaning) + step.memories(original) + step.registers(original, {})
        return all(answer.status == "unsat" for answer in discharge(step.formula, claims, limits))
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

    def at_reset(name: str) -> list[Condition]:
        """Conditions under which the register is equal when reset ends."""
        equal = faulty.registers[name] == original.registers[name] is not None
        return [c for c in conditions if equal or not c.at(original.registers[c.register] or 0)]

    registers, rings = _common(faulty, original), _rings(original)
    relation = {name: at_reset(name) for name in registers if faulty.registers[name] != original.registers[name]}
    cells: list[str] = []
    while len(relation) <= MOST_DIFFERENT:
        step = _Step(faulty, original, relation, promises, cells)
        if any(faulty.drivers[name].args[0] in step.reached for name in added):
            return False
        pairs = [(name, condition) for name, kept in relation.items() for condition in kept]
        others = step.registers(original, relation) + step.memories(original, cells)
        true, outputs = step.formula.constant(1, 1), step.outputs(original, meaning)
        candidates = [
            *(Candidate(step.related(*pair, 0), step.related(*pair, 1)) for pair in pairs),
            *(Candidate(true, o.claim, must=o.name in original.writers and o.name not in rings) for o in others),
            *(Candidate(true, output.claim, must=True) for output in outputs),
            *(step.pointers(rings[name]) for name in cells),
            *(step.ring(name, rings[name], original) for name in cells),
        ]
        holds = inductive(step.formula, candidates, step.promised, limits)
        if not all(held for held, candidate in zip(holds, candidates, strict=True) if candidate.must):
            return False  # with more that differs, still so
        joining = [o.name for o, held in zip(others, holds[len(pairs) :], strict=False) if not held]
        if not joining:
            return True
        kept = {pair for pair, held in zip(pairs, holds, strict=False) if held}
        relation = {name: [c for c in conditions if (name, c) in kept] for name, conditions in relation.items()}
        relation |= {name: at_reset(name) for name in joining if name in faulty.registers}
        cells += [name for name in joining if name in rings]
    return False
