"""Mutation analysis: do the checks notice small faults?

Each mutant is given to the checks, cheapest first, until one detects it. A mutant that none
detects is alive, unless it is proved equivalent: to the original from any state, to the original as
a machine from reset, or (where the caller has one) to the specification. Not proved means alive.

    rate = (killed + proved equivalent) / all
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyrtl

from verification.equivalence.equality import prove_equal
from verification.equivalence.machines import Compare, prove_machines_equal
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.mutants.netlist import Mutant

_LISTED_SURVIVORS = 5


@dataclass(frozen=True)
class Detector:
    """A check as mutation sees it: `detects(block)` is True, or raises AssertionError, where it fails.

    Any other exception is a fault of the check and is not counted as detection.
    """

    name: str
    detects: Callable[[pyrtl.Block], bool]


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: `killed_by` a check, or `equivalent`, or else alive; `note` says why."""

    mutant: Mutant
    killed_by: str | None = None
    equivalent: bool = False
    note: str = ""

    @property
    def alive(self) -> bool:
        """Neither killed nor proved equivalent."""
        return self.killed_by is None and not self.equivalent


@dataclass(frozen=True)
class MutationReport:
    """The fates of all mutants tried, and how many there are in all."""

    fates: tuple[Fate, ...]
    population: int
    detectors: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Share of mutants killed or proved equivalent."""
        return sum(not fate.alive for fate in self.fates) / len(self.fates)

    @property
    def survivors(self) -> tuple[Fate, ...]:
        """The mutants that are alive."""
        return tuple(fate for fate in self.fates if fate.alive)

    def rows(self) -> dict[str, dict[str, int]]:
        """Counts by operator, then by "all": mutants, killed by each check, equivalent, alive."""
        operators = list(dict.fromkeys(fate.mutant.operator for fate in self.fates))
        groups = {o: [f for f in self.fates if f.mutant.operator == o] for o in operators}
        return {name: self._counts(fates) for name, fates in {**groups, "all": list(self.fates)}.items()}

    def _counts(self, fates: list[Fate]) -> dict[str, int]:
        return {
            "mutants": len(fates),
            **{name: sum(f.killed_by == name for f in fates) for name in self.detectors},
            "equivalent": sum(f.equivalent for f in fates),
            "alive": sum(f.alive for f in fates),
        }

    def markdown(self) -> str:
        """The rows as a table."""
        rows = self.rows()
        columns = ["operator", *rows["all"]]
        lines = [columns, ["---"] * len(columns), *([name, *map(str, row.values())] for name, row in rows.items())]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)

    def verdict(self, least_rate: float = 0.99) -> Verdict:
        """TESTED(mutants) if at least this share died or is equivalent, else REFUTED naming survivors."""
        killed = sum(fate.killed_by is not None for fate in self.fates)
        same = sum(fate.equivalent for fate in self.fates)
        detail = (
            f"{killed} killed, {same} equivalent, {len(self.survivors)} alive"
            f" of {len(self.fates)} ({self.population} in all)"
        )
        if self.rate >= least_rate:
            return sampled(len(self.fates), detail)
        named = [f"{f.mutant.operator} at {f.mutant.where}: {f.mutant.what}" for f in self.survivors]
        return refuted(f"{detail}; alive: {'; '.join(named[:_LISTED_SURVIVORS])}")


def sample_mutants(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` mutants chosen by seed, in enumeration order: one of each operator, the rest uniformly.

    All of them if there are no more; ValueError if `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"{count} mutants show nothing: ask for at least 1")
    if count >= len(mutants):
        return list(mutants)
    generator = random.Random(seed)
    order = list(range(len(mutants)))
    generator.shuffle(order)
    first_of = {mutants[i].operator: i for i in reversed(order)}
    chosen = sorted(first_of.values(), key=order.index)[:count]
    taken = set(chosen)
    chosen += [i for i in order if i not in taken][: count - len(chosen)]
    return [mutants[i] for i in sorted(chosen)]


def _detected_by(detectors: Sequence[Detector], block: pyrtl.Block) -> str | None:
    for detector in detectors:
        try:
            if detector.detects(block):
                return detector.name
        except AssertionError:
            return detector.name
    return None


Prover = Callable[[pyrtl.Block], Verdict]


def same_machine(faulty: Netlist, original: Netlist, limits: Limits) -> bool:
    """Whether the reset is the same, and the step from any state proved so: the cheapest proof of equivalence."""
    if faulty.registers != original.registers:
        return False
    try:
        return prove_equal(faulty, original, limits=limits).kind is Kind.PROVED
    except NetlistError:
        return False


def _survival(
    mutant: Mutant,
    block: pyrtl.Block,
    original: Netlist,
    prover: Prover | None,
    compare: Compare | None,
    limits: Limits,
) -> Fate:
    """Equivalent or alive."""
    faulty = read_block(block)
    if same_machine(faulty, original, limits):
        return Fate(mutant, equivalent=True, note="same reset, and same step from any state")
    if prover is not None and prover(block).kind is Kind.PROVED:
        return Fate(mutant, equivalent=True, note="meets the specification")
    machines = prove_machines_equal(faulty, original, compare=compare, limits=limits)
    return Fate(mutant, equivalent=machines.kind is Kind.PROVED, note=machines.detail)


def kill_rate(
    original: pyrtl.Block,
    mutants: Sequence[Mutant],
    detectors: Sequence[Detector],
    *,
    prover: Prover | None = None,
    compare: Compare | None = None,
    population: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MutationReport:
    """Run the detectors on every mutant and the prover on survivors.

    `prover` is a full proof against the specification, if there is one; `compare` is what the
    protocol can see (`machines.prove_machines_equal`). Raises ValueError if a detector fails on the
    original, or if there are no mutants: either would make every number meaningless.
    """
    if not mutants or not detectors:
        raise ValueError(f"{len(mutants)} mutants, {len(detectors)} detectors: at least one of each is needed")
    wrong = _detected_by(detectors, original)
    if wrong is not None:
        raise ValueError(f"{wrong!r} fails on the block without any fault")
    netlist, limits = read_block(original), limits or Limits(time_s=10)
    fates = []
    for index, mutant in enumerate(mutants):
        block = mutant.build()
        killer = _detected_by(detectors, block)
        if killer is not None:
            fates.append(Fate(mutant, killed_by=killer))
        else:
            fates.append(_survival(mutant, block, netlist, prover, compare, limits))
        progress(index + 1, len(mutants))
    return MutationReport(tuple(fates), population or len(mutants), tuple(d.name for d in detectors))
