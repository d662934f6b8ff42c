"""A netlist run on free variables, and the way back from a solver's model to a stimulus.

Variables are named `in:NAME@CYCLE`, `reg:NAME` and `mem:NAME`: two netlists in one formula
share inputs and equally named state unless a prefix separates their state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from verification.equivalence.counterexample import Counterexample, Observation
from verification.equivalence.enumeration import enumerate_all, worth_enumerating
from verification.equivalence.formula import Contents, Formula, smtlib
from verification.equivalence.localize import Local, localized
from verification.equivalence.netlist import Netlist, NetlistError
from verification.equivalence.solver import Answer, Limits, Query, solve
from verification.equivalence.unrolling import Sources, Unrolling


class Start(Enum):
    """The state at cycle 0: any at all, or what reset leaves (open where there is no reset value)."""

    ANY = "any"
    RESET = "reset"


@dataclass(frozen=True)
class Obligation:
    """`claim` (a one-bit term) under `assumptions`."""

    name: str
    claim: int
    assumptions: tuple[int, ...] = ()


class SymbolicRun:
    """An unrolling over a formula that remembers which variables its stimulus consists of.

    `fixed` inputs have a constant value in every cycle; `registers` overrides initial terms by name;
    `cuts` replaces wires by terms, by (wire, cycle).
    """

    def __init__(
        self,
        netlist: Netlist,
        formula: Formula,
        *,
        fixed: Mapping[str, int] | None = None,
        start: Start = Start.ANY,
        prefix: str = "",
        registers: Mapping[str, int] | None = None,
        memories: Mapping[str, str] | None = None,
        cuts: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        for name in fixed or {}:
            if name not in netlist.inputs:
                raise NetlistError(f"{name!r} cannot be fixed, it is no input; inputs: {', '.join(netlist.inputs)}")
        self.netlist = netlist
        self.formula = formula
        self._fixed = dict(fixed or {})
        self._start = start
        self._prefix = prefix
        self._overrides = dict(registers or {})
        self._memory_variables = dict(memories or {})
        self._cuts = dict(cuts or {})
        self._inputs: dict[tuple[str, int], int] = {}
        self._registers: dict[str, int] = {}
        self._memories: dict[str, int] = {}
        sources = Sources(
            self._input, self._register, self._memory, self._table, lambda name, cycle: self._cuts.get((name, cycle))
        )
        self.unrolling = Unrolling(netlist, formula, sources)

    def _input(self, name: str, cycle: int) -> int:
        width = self.netlist.widths[name]
        if name in self._fixed:
            term = self.formula.constant(self._fixed[name], width)
        else:
            term = self.formula.variable(f"in:{name}@{cycle}", width)
        self._inputs[(name, cycle)] = term
        return term

    def _register(self, name: str) -> int:
        reset = self.netlist.registers[name]
        if name in self._overrides:
            term = self._overrides[name]
        elif self._start is Start.RESET and reset is not None:
            term = self.formula.constant(reset, self.netlist.widths[name])
        else:
            term = self.formula.variable(f"reg:{self._prefix}{name}", self.netlist.widths[name])
        self._registers[name] = term
        return term

    def _memory(self, name: str) -> int:
        memory = self.netlist.memories[name]
        variable = self._memory_variables.get(name, self._prefix + name)
        term = self.formula.array(f"mem:{variable}", memory.address_bits, memory.data_bits)
        self._memories[name] = term
        return term

    def _table(self, name: str) -> int:
        memory = self.netlist.memories[name]
        if memory.contents is None:
            raise NetlistError(f"memory {name!r} is not a table")
        return self.formula.table(memory.contents, memory.address_bits, memory.data_bits)

    def variables(self) -> dict[tuple[str, int], int]:
        """Terms of the inputs asked for so far, by (name, cycle), and of the registers at cycle -1."""
        return {**self._inputs, **{(name, -1): term for name, term in self._registers.items()}}

    def counterexample(
        self,
        claim: str,
        model: Mapping[str, Any],
        cycles: int,
        observed: Mapping[tuple[str, int], int | None],
    ) -> Counterexample:
        """The run of `cycles` cycles that a model describes.

        `observed` maps (wire, cycle) to the term of its expected value, or None.
        """

        def value(term: int) -> Any:
            return self.formula.evaluate([term], model)[0]

        inputs: list[dict[str, int]] = [
            {name: self._fixed.get(name, 0) for name in self.netlist.inputs} for _ in range(cycles)
        ]
        for (name, cycle), term in self._inputs.items():
            if cycle < cycles:
                inputs[cycle][name] = value(term)
        arrays: dict[str, Contents] = {name: value(term) for name, term in self._memories.items()}
        observations = [
            Observation(wire, cycle, value(self.unrolling.value(wire, cycle)), None if e is None else value(e))
            for (wire, cycle), e in observed.items()
        ]
        return Counterexample(
            claim=claim,
            inputs=tuple(inputs),
            observations=tuple(observations),
            registers={name: value(term) for name, term in self._registers.items()},
            memories={
                name: {i: c.read(i) for i in range(1 << self.netlist.memories[name].address_bits) if c.read(i)}
                for name, c in arrays.items()
            },
        )


def discharge(formula: Formula, obligations: Sequence[Obligation], limits: Limits) -> list[Answer]:
    """An answer to each: "unsat" if the claim follows, "sat" with a model if not, else "unknown".

    Claims that rewriting alone has made true reach no solver; claims of the same shape are decided once;
    products of few bits are decided by trying all their values.
    """
    shapes: list[tuple[str, tuple[str, ...], Local]] = []
    decided: dict[str, Answer] = {"": Answer("unsat", 0.0)}
    queries: dict[str, Query] = {}
    for obligation in obligations:
        if formula.known(obligation.claim) == 1:
            shapes.append(("", (), Local((), {})))
            continue
        local = localized(formula, [*obligation.assumptions, formula.invert(obligation.claim, 1)])
        script, names = smtlib(formula, local.roots)
        shapes.append((script, names, local))
        if script in decided or script in queries:
            continue
        if worth_enumerating(formula, local.roots):
            answer = enumerate_all(formula, local.roots, limits)
            position = {name: f"v{i}" for i, name in enumerate(names)}
            decided[script] = replace(answer, model={position[n]: v for n, v in answer.model.items()})
        else:
            queries[script] = Query(script, tuple(f"v{i}" for i in range(len(names))))
    decided.update(zip(queries, solve(queries.values(), limits), strict=True))
    return [_named(decided[script], names, local) for script, names, local in shapes]


def _named(answer: Answer, names: Sequence[str], local: Local) -> Answer:
    """The answer with its model in the names of an obligation's own variables."""
    if not answer.model:
        return answer
    return replace(answer, model=local.model({name: answer.model[f"v{i}"] for i, name in enumerate(names)}))
