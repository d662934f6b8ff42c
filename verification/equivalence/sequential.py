"""Invariants of a state machine: bounded model checking and k-induction.

An invariant is a one-bit function of the wires of `window_cycles` consecutive cycles. Bounded: it
holds in every run of n cycles from reset, BOUNDED(n). Induction: it holds in the first k cycles
after reset, and k cycles in which all given invariants hold are followed by one in which they hold,
whatever the state before: PROVED. Registers without a reset value, and memories, start open.
An invariant that holds but is not inductive stays UNKNOWN: strengthen it with others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrtl

from verification.equivalence.bits import Bits, Concrete
from verification.equivalence.counterexample import Counterexample, replay, save, simulate
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, read_block
from verification.equivalence.solver import Answer, Limits
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.unrolling import Unrolling
from verification.equivalence.verdict import Verdict, bounded, proved, refuted, unknown


class Signals(Mapping[str, Bits]):
    """The wires of one cycle by name; remembers which were read."""

    def __init__(self, names: Sequence[str], read: Callable[[str], Bits]) -> None:
        self._names = names
        self._read = read
        self.used: set[str] = set()

    def __getitem__(self, wire: str) -> Bits:
        self.used.add(wire)
        return self._read(wire)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def signals_at(unrolling: Unrolling, cycle: int) -> Signals:
    """The wires of an unrolled netlist in a cycle."""
    return Signals(tuple(unrolling.netlist.widths), lambda wire: unrolling.bits(wire, cycle))


Predicate = Callable[[Sequence[Signals]], Bits]


@dataclass(frozen=True)
class Invariant:
    """`holds(window)` must be 1 for every `window_cycles` consecutive cycles; `window[i]["wire"]`."""

    claim: str
    holds: Predicate
    window_cycles: int = 1

    def __post_init__(self) -> None:
        if self.window_cycles < 1:
            raise ValueError(f"{self.claim}: a window of {self.window_cycles} cycles is empty; use at least 1")


@dataclass(frozen=True)
class Environment:
    """What the surroundings promise: constant inputs, and a one-bit function of every cycle's wires."""

    fixed: Mapping[str, int] = field(default_factory=dict)
    assume: Callable[[Signals], Bits] | None = None


def _claim(run: SymbolicRun, invariant: Invariant, first: int) -> int:
    window = [signals_at(run.unrolling, first + i) for i in range(invariant.window_cycles)]
    value = invariant.holds(window)
    if value.width != 1:
        raise ValueError(f"{invariant.claim}: an invariant has 1 bit, this has {value.width}; use a comparison")
    return int(value.value)


def _assumed(run: SymbolicRun, environment: Environment, cycles: int) -> tuple[int, ...]:
    if environment.assume is None:
        return ()
    return tuple(environment.assume(signals_at(run.unrolling, t)).value for t in range(cycles))


def _from_reset(
    netlist: Netlist, invariants: Sequence[Invariant], environment: Environment, depth: int
) -> tuple[SymbolicRun, list[tuple[Invariant, int, Obligation]]]:
    """Every invariant at every cycle of a run of `depth` cycles, shallow ones first."""
    run = SymbolicRun(netlist, Formula(), fixed=environment.fixed, start=Start.RESET)
    result = []
    for first in range(depth):
        for invariant in invariants:
            last = first + invariant.window_cycles
            if last <= depth:
                name = f"{invariant.claim} at cycle {first}"
                obligation = Obligation(name, _claim(run, invariant, first), _assumed(run, environment, last))
                result.append((invariant, first, obligation))
    return run, result


def _refute(
    block: pyrtl.Block,
    run: SymbolicRun,
    invariant: Invariant,
    first: int,
    model: Mapping[str, Any],
    folder: Path | None,
) -> Verdict:
    """REFUTED if the invariant, evaluated on what simulation shows, is 0; else UNKNOWN."""
    window = [signals_at(run.unrolling, first + i) for i in range(invariant.window_cycles)]
    invariant.holds(window)
    observed = {(w, first + i): None for i, s in enumerate(window) for w in sorted(s.used)}
    found = run.counterexample(invariant.claim, model, first + invariant.window_cycles, observed)
    if not replay(block, found) or _holds_in_simulation(block, run.netlist, invariant, first, found):
        return unknown(
            f"{invariant.claim}: the solver's run does not replay in simulation (a fault of the translation)"
        )
    return refuted(f"{invariant.claim} fails at cycle {first}", save(found, folder) if folder is not None else None)


def _holds_in_simulation(
    block: pyrtl.Block, netlist: Netlist, invariant: Invariant, first: int, found: Counterexample
) -> bool:
    shown = simulate(block, found, list({o.wire for o in found.observations}))
    domain = Concrete()

    def at(cycle: int) -> Signals:
        return Signals(list(shown[cycle]), lambda wire: Bits(domain, shown[cycle][wire], netlist.widths[wire]))

    return bool(invariant.holds([at(first + i) for i in range(invariant.window_cycles)]).value)


def _reachable(netlist: Netlist, environment: Environment, cycles: int, limits: Limits) -> Verdict | None:
    """UNKNOWN if no run of `cycles` cycles keeps the environment's promise."""
    if environment.assume is None:
        return None
    run = SymbolicRun(netlist, Formula(), fixed=environment.fixed, start=Start.RESET)
    never = Obligation("environment", run.formula.constant(0, 1), _assumed(run, environment, cycles))
    if discharge(run.formula, [never], limits)[0].status == "sat":
        return None
    return unknown(f"no run of {cycles} cycles is known to satisfy the assumption, so the claim would be empty")


def _first_unknown(obligations: Sequence[Obligation], answers: Sequence[Answer]) -> str | None:
    for obligation, answer in zip(obligations, answers, strict=True):
        if answer.status != "unsat":
            return f"{obligation.name}: {answer.reason or 'fails from some state'}"
    return None


def check_bounded(
    block: pyrtl.Block,
    invariants: Sequence[Invariant],
    depth_cycles: int,
    *,
    environment: Environment | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """BOUNDED(depth), REFUTED with the shortest run, or UNKNOWN.

    Raises ValueError if the depth is less than the longest window.
    """
    longest = max((i.window_cycles for i in invariants), default=0)
    if not longest or depth_cycles < longest:
        raise ValueError(f"{depth_cycles} cycles for {len(invariants)} invariants: at least 1, and {longest} cycles")
    environment, limits = environment or Environment(), limits or Limits()
    netlist = read_block(block)
    empty = _reachable(netlist, environment, depth_cycles, limits)
    if empty is not None:
        return empty
    run, claims = _from_reset(netlist, invariants, environment, depth_cycles)
    obligations = [obligation for _, _, obligation in claims]
    answers = discharge(run.formula, obligations, limits)
    for (invariant, first, _), answer in zip(claims, answers, strict=True):
        if answer.status == "sat":
            return _refute(block, run, invariant, first, answer.model, folder)
    open_one = _first_unknown(obligations, answers)
    return bounded(depth_cycles, f"{len(obligations)} obligations") if open_one is None else unknown(open_one)


def prove_by_induction(
    block: pyrtl.Block,
    invariants: Sequence[Invariant],
    *,
    k: int = 1,
    environment: Environment | None = None,
    limits: Limits | None = None,
    folder: Path | None = None,
) -> Verdict:
    """PROVED if the invariants together are k-inductive; REFUTED if one fails near reset; else UNKNOWN."""
    if k < 1:
        raise ValueError(f"k = {k}: induction needs at least 1")
    environment, limits = environment or Environment(), limits or Limits()
    longest = max((i.window_cycles for i in invariants), default=1)
    base_cycles = k + longest - 1
    base = check_bounded(block, invariants, base_cycles, environment=environment, limits=limits, folder=folder)
    if not base.passes:
        return base
    run = SymbolicRun(read_block(block), Formula(), fixed=environment.fixed)
    held = tuple(_claim(run, invariant, t) for invariant in invariants for t in range(k))
    promised = _assumed(run, environment, k + longest)
    steps = [Obligation(i.claim, _claim(run, i, k), (*held, *promised)) for i in invariants]
    open_one = _first_unknown(steps, discharge(run.formula, steps, limits))
    if open_one is None:
        return proved(f"{k}-induction over {len(invariants)} invariants")
    return unknown(f"not shown {k}-inductive ({open_one}); holds for {base_cycles} cycles after reset")
