"""All inputs, or many random ones, by bit-parallel simulation.

The netlist runs in the bit-sliced domain (`sliced.py`), 64 cases a machine word, in blocks of
2^20 cases. Every input combination: PROVED, up to about 2^30 cases. Random ones: TESTED(n).
This is how multipliers are proved, which no solver does.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verification.equivalence.bits import Bits
from verification.equivalence.counterexample import Counterexample, Observation, replay, save
from verification.equivalence.formula import Formula
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, at_cycle, specified
from verification.equivalence.sliced import BLOCK_WORDS_BITS, Planes, Sliced, all_cases, case_value, first_case
from verification.equivalence.symbolic import SymbolicRun
from verification.equivalence.unrolling import Sources, Unrolling
from verification.equivalence.verdict import Verdict, proved, refuted, sampled, unknown

MAX_CASE_BITS = 32
Variable = tuple[str, int]


class _Run:
    """The problem's circuit and specification over one block of cases."""

    def __init__(
        self,
        problem: Problem,
        netlist: Netlist,
        support: Mapping[Variable, int],
        values: Callable[[Variable, int], Planes],
    ) -> None:
        self.domain = Sliced()
        self.variables: dict[Variable, Planes] = {}
        self._netlist = netlist
        self._fixed = problem.fixed
        self._support = support
        self._values = values
        sources = Sources(self._input, self._register, self._refuse, self._table)
        self.unrolling = Unrolling(netlist, self.domain, sources)
        operands = Operands(self.unrolling)
        self.expected = specified(operands, problem)
        for point in operands.cut_points:
            self.expected.setdefault((point.wire, point.cycle), point.value)
        self.allowed: Any = problem.assume(operands).value[0] if problem.assume else self.domain.constant(1, 1)[0]

    def _variable(self, variable: Variable, width: int) -> Planes:
        if variable not in self._support:
            return self.domain.constant(0, width)
        if variable not in self.variables:
            self.variables[variable] = self._values(variable, width)
        return self.variables[variable]

    def _input(self, name: str, cycle: int) -> Planes:
        width = self._netlist.widths[name]
        if name in self._fixed:
            return self.domain.constant(self._fixed[name], width)
        return self._variable((name, cycle), width)

    def _register(self, name: str) -> Planes:
        return self._variable((name, -1), self._netlist.widths[name])

    def _refuse(self, name: str) -> Planes:
        raise NetlistError(f"memory {name!r} would have to be enumerated word by word: prove with SMT instead")

    def _table(self, name: str) -> list[Planes]:
        memory = self._netlist.memories[name]
        return [self.domain.constant(word, memory.data_bits) for word in memory.contents or ()]

    def allowed_cases(self) -> int:
        """How many cases of this block `assume` allows (64 for a claim without variables)."""
        words = max((np.size(p) for planes in self.variables.values() for p in planes), default=1)
        plane = np.broadcast_to(np.asarray(self.allowed, dtype=np.uint64), (words,))
        return int(np.bitwise_count(plane).sum())

    def difference(self) -> tuple[Variable, Any] | None:
        """The first target that differs in an allowed case, with its plane of differing cases."""
        for target, value in self.expected.items():
            actual = self.unrolling.bits(*target)
            plane = (actual != Bits(self.domain, value.value, value.width)).value[0] & self.allowed
            if np.any(plane):
                return target, plane
        return None


def support(problem: Problem, netlist: Netlist) -> dict[Variable, int]:
    """Widths of the free variables that the claim can depend on; registers at cycle 0 have cycle -1."""
    formula = Formula()
    run = SymbolicRun(netlist, formula, fixed=problem.fixed)
    operands = Operands(run.unrolling)
    roots: list[int] = []
    if isinstance(problem.specification, IntegerSpecification):
        targets = [at_cycle(t) for t in problem.specification.targets]
        roots += [operands[name].value for name in problem.specification.operands]
    else:
        expected = specified(operands, problem)
        targets = [*expected, *((p.wire, p.cycle) for p in operands.cut_points)]
        roots += [value.value for value in expected.values()] + [p.value.value for p in operands.cut_points]
    if problem.assume is not None:
        roots.append(problem.assume(operands).value)
    roots += [run.unrolling.value(*target) for target in targets]
    cone = set(formula.cone(roots))
    return {
        variable: formula.nodes[term].width
        for variable, term in run.variables().items()
        if term in cone and formula.known(term) is None
    }


def _all_cases(widths: Mapping[Variable, int]) -> Iterator[Callable[[Variable, int], Planes]]:
    for planes in all_cases(widths):

        def values(variable: Variable, width: int, planes: Mapping[Variable, Planes] = planes) -> Planes:
            return planes[variable]

        yield values


def _random_planes(generator: np.random.Generator, width: int, words: int, *, biased: bool) -> Planes:
    """Random bits; biased ones repeat the bit below three times in four (carries, saturation, extremes)."""

    def draw() -> Any:
        return generator.integers(0, 1 << 64, size=words, dtype=np.uint64)

    planes = [draw() for _ in range(width)]
    if biased:
        for i in range(1, width):
            keep = draw() | draw()
            planes[i] = (planes[i - 1] & keep) | (planes[i] & ~keep)
    return tuple(planes)


def _random_cases(cases: int, seed: int) -> Iterator[Callable[[Variable, int], Planes]]:
    """Blocks of uniform and of biased bits in turn; at least one of each."""
    generator = np.random.default_rng(seed)
    words = cases // 64
    size = min(1 << BLOCK_WORDS_BITS, max(1, words // 2))
    for block, first in enumerate(range(0, words, size)):
        count, biased = min(size, words - first), bool(block % 2)

        def values(variable: Variable, width: int, words: int = count, biased: bool = biased) -> Planes:
            return _random_planes(generator, width, words, biased=biased)

        yield values


def _counterexample(problem: Problem, netlist: Netlist, run: _Run, target: Variable, plane: Any) -> Counterexample:
    word, bit = first_case(plane)
    cycles = max([target[1], *(cycle for _, cycle in run.variables)]) + 1
    inputs = [{name: problem.fixed.get(name, 0) for name in netlist.inputs} for _ in range(cycles)]
    registers = {}
    for (name, cycle), planes in run.variables.items():
        if cycle < 0:
            registers[name] = case_value(planes, word, bit)
        else:
            inputs[cycle][name] = case_value(planes, word, bit)
    actual = case_value(run.unrolling.value(*target), word, bit)
    expected = case_value(run.expected[target].value, word, bit)
    return Counterexample(problem.claim, tuple(inputs), (Observation(*target, actual, expected),), registers=registers)


def _search(
    problem: Problem,
    netlist: Netlist,
    widths: Mapping[Variable, int],
    blocks: Iterator[Callable[[Variable, int], Planes]],
    folder: Path | None,
) -> Verdict | int:
    """REFUTED at the first difference; else how many cases `assume` allowed."""
    allowed = 0
    for values in blocks:
        run = _Run(problem, netlist, widths, values)
        allowed += run.allowed_cases()
        found = run.difference()
        if found is not None:
            counterexample = _counterexample(problem, netlist, run, *found)
            if not replay(problem.block, counterexample):
                return unknown(f"{problem.claim}: the difference does not replay in simulation (a fault of the engine)")
            saved = save(counterexample, folder) if folder is not None else None
            return refuted(f"{found[0][0]} at cycle {found[0][1]} differs", saved)
    return allowed or unknown(f"{problem.claim}: no case satisfies the assumption, so the claim would be empty")


def exhaust(problem: Problem, *, folder: Path | None = None) -> Verdict:
    """PROVED after every combination of what the claim depends on, or REFUTED.

    Raises NetlistError above 2^32 cases, naming the variables: fix some, or prove with SMT.
    """
    netlist = read_block(problem.block)
    widths = support(problem, netlist)
    bits = sum(widths.values())
    if bits > MAX_CASE_BITS:
        raise NetlistError(
            f"{problem.claim}: {bits} free bits ({', '.join(f'{n}@{c}' for n, c in widths)});"
            f" at most {MAX_CASE_BITS} can be enumerated: fix inputs or prove with SMT"
        )
    found = _search(problem, netlist, widths, _all_cases(widths), folder)
    return proved(f"all 2^{bits} cases simulated") if isinstance(found, int) else found


def sample(problem: Problem, cases: int, seed: int, *, folder: Path | None = None) -> Verdict:
    """TESTED(n), or REFUTED. `cases` is rounded up to a multiple of 64; n counts those that `assume` allows."""
    if cases < 1:
        raise ValueError(f"{cases} cases test nothing: ask for at least 64")
    rounded = -(-cases // 64) * 64
    netlist = read_block(problem.block)
    found = _search(problem, netlist, support(problem, netlist), _random_cases(rounded, seed), folder)
    return sampled(found, f"seed {seed}") if isinstance(found, int) else found
