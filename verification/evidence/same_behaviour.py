"""Two blocks that behave the same to whoever keeps to the protocol: recorded runs that differ, and a proof.

Both compare all outputs in all cycles, payload only where it is valid. A run is recorded on the original beside a model
that keeps to the protocol; up to the first difference it has kept to it beside the other block too.

The proof is an induction over a relation of both states. It begins as "equally named registers are equal". What a step
or the reset breaks is weakened to "equal where it is read" (`View.read`), then dropped, until the rest is inductive.
Of a register that only one of both has nothing is known.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import pyrtl

from hls.lower import Netlist as Design
from hls.simulate import Design as SimulatedDesign
from hls.simulate import Simulator, open_simulator
from verification.equivalence.bits import Bits, Concrete
from verification.equivalence.counterexample import Counterexample, simulate
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.sequential import (
    Environment,
    Invariant,
    Signals,
    check_bounded,
    prove_by_induction,
    signals_at,
)
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.verdict import Verdict, proved, unknown
from verification.evidence.planted import MUTANT_LIMITS, SAME_STEP_LIMITS, all_refuted, faults
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, MutationReport, kill_rate, sample_mutants
from verification.results import Settings

Read = Callable[[Signals], Bits]
Run = tuple[tuple[dict[str, int], dict[str, int]], ...]
"""Inputs and outputs of every cycle."""


@dataclass(frozen=True)
class View:
    """What can be seen of a block.

    Attributes:
        payload: outputs that mean something only under a valid, by name: the valid's name. One bit of it an element.
        read: registers that are not always read, by name: whether they are, one bit, or which of their bits are; of the
            original's wires.
        claims: what holds of the original's states; proved elsewhere, under `environment`.
        environment: what the protocol promises.
    """

    payload: Mapping[str, str]
    read: Mapping[str, Read] = field(default_factory=dict)
    claims: tuple[Invariant, ...] = ()
    environment: Environment = field(default_factory=Environment)


def under(valid: str) -> Read:
    """Read where a valid bit is 1."""
    return lambda signals: signals[valid]


def within(count: str, place: int) -> Read:
    """The entry at a place of a shifting FIFO: read where it holds more than that."""
    return lambda signals: signals[count] > place


def prove_claims(block: pyrtl.Block, view: View, settings: Settings) -> Verdict:
    """What the proof of equal behaviour takes for granted, by induction."""
    return prove_by_induction(
        block, view.claims, environment=view.environment, limits=settings.limits, folder=settings.folder
    )


def refute_claims(block: pyrtl.Block, view: View, settings: Settings, *wanted: tuple[str, str, str]) -> Verdict:
    """Whether the claims are refuted, within two cycles from reset, of each of these faults."""

    def shown(faulty: pyrtl.Block) -> Verdict:
        return check_bounded(faulty, view.claims, 2, environment=view.environment, limits=settings.limits)

    return all_refuted(faults(block, *wanted), shown)


def first_broken_promise(block: pyrtl.Block, view: View, inputs: Sequence[Mapping[str, int]]) -> int | None:
    """The first cycle in which inputs from reset on, 0 if not given, do not keep to `view.environment`; or None.

    Raises:
        ValueError: if they promise nothing.
    """
    promise, netlist, domain = view.environment.assume, read_block(block), Concrete()
    if promise is None:
        raise ValueError("a view without `environment.assume` has no promise that a run could break")
    asked = signals_at(SymbolicRun(netlist, Formula()).unrolling, 0)
    promise(asked)
    idle = dict.fromkeys(netlist.inputs, 0)
    run = Counterexample("promises", inputs=tuple(idle | dict(given) for given in inputs), observations=())
    for cycle, shown in enumerate(simulate(block, run, sorted(asked.used))):
        wires = {name: Bits(domain, value, netlist.widths[name]) for name, value in shown.items()}
        if not promise(Signals(list(wires), wires.__getitem__)).value:
            return cycle
    return None


class Stepped(Protocol):
    """What a run needs of a simulator."""

    @property
    def netlist(self) -> SimulatedDesign:
        """What is simulated."""

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """One cycle."""


class Recorder:
    """A simulator that remembers what went in and came out; inputs that are not valid are random.

    `payload`: as in `View`, of the inputs.
    """

    def __init__(self, simulator: Simulator, payload: Mapping[str, str], seed: int) -> None:
        self._simulator, self._payload, self._random = simulator, payload, random.Random(seed)
        self.rows: list[tuple[dict[str, int], dict[str, int]]] = []

    @property
    def netlist(self) -> SimulatedDesign:
        """What is simulated."""
        return self._simulator.netlist

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """As `Simulator.step`."""
        widths, given = self._simulator.netlist.inputs, dict(inputs)
        for name, valid in self._payload.items():
            where = _where_valid(given.get(valid, 0), widths[valid], widths[name])
            given[name] = given.get(name, 0) & where | self._random.getrandbits(widths[name]) & ~where
        seen = self._simulator.step(given)
        self.rows.append((given, seen))
        return seen


def _where_valid(valid: int, valid_bits: int, bits: int) -> int:
    """Ones in the elements of a payload that are valid."""
    part = bits // valid_bits
    return sum(((1 << part) - 1) << (i * part) for i in range(valid_bits) if valid >> i & 1)


def first_difference(block: pyrtl.Block, runs: Sequence[Run], payload: Mapping[str, str]) -> tuple[int, int] | None:
    """The first run and its cycle in which the block gives other outputs than the recorded ones; None if none does."""
    with open_simulator(Design("other", block), "fast") as simulator:
        widths = simulator.netlist.outputs
        for number, run in enumerate(runs):
            simulator.reset()
            for cycle, (inputs, right) in enumerate(run):
                seen = simulator.step(inputs)
                if any(
                    seen[name] != value and _differs(name, seen, right, payload, widths)
                    for name, value in right.items()
                ):
                    return number, cycle
    return None


def _differs(
    name: str, seen: Mapping[str, int], right: Mapping[str, int], payload: Mapping[str, str], widths: Mapping[str, int]
) -> bool:
    differs = seen[name] ^ right[name]
    if name in payload:
        valid = payload[name]
        differs &= _where_valid(right[valid], widths[valid], widths[name])
    return differs != 0


@dataclass(frozen=True)
class _Relation:
    """Registers that are equal where they are read, and those of which nothing is known; all others are equal."""

    where_read: frozenset[str] = frozenset()
    unrelated: frozenset[str] = frozenset()

    def weakened(self, name: str, can_be_unread: bool) -> "_Relation":
        if can_be_unread and name not in self.where_read:
            return replace(self, where_read=self.where_read | {name})
        return _Relation(self.where_read - {name}, self.unrelated | {name})


def prove_same_behaviour(original: pyrtl.Block, other: pyrtl.Block, view: View, limits: Limits) -> Verdict:
    """PROVED if both give the same outputs for ever, else UNKNOWN."""
    ours, theirs = read_block(original), read_block(other)
    if ours.writers.keys() != theirs.writers.keys():
        return unknown("other memories")
    relation = _Relation(unrelated=frozenset(ours.registers.keys() - theirs.registers.keys()))
    while True:
        broken = _broken_by_reset(ours, theirs, relation, view, limits)
        if not broken:
            broken, seen = _broken_by_step(ours, theirs, relation, view, limits)
            if not broken:
                weak = f"{len(relation.where_read)} registers equal where read, {len(relation.unrelated)} unrelated"
                return unknown(f"{seen} may differ; {weak}") if seen else proved(weak)
        for name in broken:
            relation = relation.weakened(name, name in view.read)
        if len(relation.unrelated) == len(ours.registers):
            return unknown("no register is related")


def mutants_in_view(
    block: pyrtl.Block, view: View, detectors: Sequence[Detector], samples: int, seed: int
) -> MutationReport:
    """Sampled mutants against runs; survivors only where they are proved to behave the same."""
    every = netlist_mutants(block)
    return kill_rate(
        block,
        sample_mutants(every, samples, seed),
        detectors,
        prover=lambda faulty: prove_same_behaviour(block, faulty, view, MUTANT_LIMITS),
        population=len(every),
        limits=SAME_STEP_LIMITS,
    )


def _alike(runs: tuple[SymbolicRun, SymbolicRun], name: str, cycle: int, relation: _Relation, view: View) -> Bits:
    mine, other = (run.unrolling.bits(name, cycle) for run in runs)
    same = mine == other
    if name not in relation.where_read:
        return same
    return ((mine ^ other) & _read_bits(view, name, signals_at(runs[0].unrolling, cycle), mine.width)) == 0


def _read_bits(view: View, name: str, wires: Signals, width: int) -> Bits:
    """Ones in the bits of a register that are read."""
    read = view.read[name](wires)
    return read if read.width == width else read.sext(width)


def _broken_by_reset(ours: Netlist, theirs: Netlist, relation: _Relation, view: View, limits: Limits) -> list[str]:
    odd = [
        name
        for name, reset in ours.registers.items()
        if name not in relation.unrelated and reset != theirs.registers[name]
    ]
    if not odd:
        return []
    formula = Formula()
    runs = (SymbolicRun(ours, formula, start=Start.RESET), SymbolicRun(theirs, formula, start=Start.RESET))
    wanted = [Obligation(name, _alike(runs, name, 0, relation, view).value) for name in odd]
    answers = discharge(formula, wanted, limits)
    return [o.name for o, answer in zip(wanted, answers, strict=True) if answer.status != "unsat"]


def _broken_by_step(
    ours: Netlist, theirs: Netlist, relation: _Relation, view: View, limits: Limits
) -> tuple[list[str], str]:
    """Registers whose relation a step breaks; an output or a write that may differ."""
    formula = Formula()
    first = SymbolicRun(ours, formula)
    wires = signals_at(first.unrolling, 0)
    apart: dict[str, int] = {}
    for name in (*relation.where_read, *relation.unrelated):
        free = Bits(formula, formula.variable(f"reg:other.{name}", ours.widths[name]), ours.widths[name])
        if name in relation.where_read:
            read = _read_bits(view, name, wires, ours.widths[name])
            free = (first.unrolling.bits(name, 0) & read) | (free & ~read)
        apart[name] = free.value
    runs = (first, SymbolicRun(theirs, formula, registers=apart))
    held = [claim.holds([wires]).value for claim in view.claims]
    if view.environment.assume is not None:
        held.append(view.environment.assume(wires).value)
    assumed = tuple(held)
    registers = [
        Obligation(name, _alike(runs, name, 1, relation, view).value, assumed)
        for name in ours.registers
        if name not in relation.unrelated
    ]
    seen = [Obligation(name, same.value, assumed) for name, same in _visible(runs, view)]
    answers = discharge(formula, [*registers, *seen], limits)
    broken = [
        o.name for o, answer in zip(registers, answers[: len(registers)], strict=True) if answer.status != "unsat"
    ]
    shown = [o.name for o, answer in zip(seen, answers[len(registers) :], strict=True) if answer.status != "unsat"]
    return broken, ", ".join(shown)


def _visible(runs: tuple[SymbolicRun, SymbolicRun], view: View) -> list[tuple[str, Bits]]:
    """Outputs of cycle 0, payload by element, and what is written to memories."""
    (mine, other), netlist = (run.unrolling for run in runs), runs[0].netlist
    found: list[tuple[str, Bits]] = []
    for name in netlist.outputs:
        a, b = mine.bits(name), other.bits(name)
        if name not in view.payload:
            found.append((name, a == b))
            continue
        valid = mine.bits(view.payload[name])
        bits = a.width // valid.width
        for i in range(valid.width):
            part = slice(i * bits, (i + 1) * bits)
            found.append((f"{name} {i}", ~valid[i] | (a[part] == b[part])))
    for memory, nets in netlist.writers.items():
        faulty = runs[1].netlist.writers[memory]
        if len(nets) != len(faulty):
            raise NetlistError(f"memory {memory} has {len(faulty)} write ports, the original {len(nets)}")
        for ours, theirs in zip(nets, faulty, strict=True):
            (address, data, enable), (address_2, data_2, enable_2) = ours.args, theirs.args
            writes = mine.bits(enable)
            same = (mine.bits(address) == other.bits(address_2)) & (mine.bits(data) == other.bits(data_2))
            found.append((f"write to {memory}", (writes == other.bits(enable_2)) & (~writes | same)))
    return found
