"""A circuit against a directly written specification.

A `Problem` says: whatever the state at cycle 0 and the inputs (but for `fixed` ones, constant in
every cycle, and under `assume`), the wires that the specification names have the values that it
gives. The specification is a plain function over `Operands`, so the same writing is proved
(`function.prove`), run on all inputs (`exhaustive.exhaust`) and on random ones
(`exhaustive.sample`). For a pipeline of latency L it names outputs at cycle L, `{("sum", L): ...}`,
with `ready` and `valid` fixed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyrtl
from numpy.typing import NDArray

from verification.equivalence.bits import Bits, Domain
from verification.equivalence.netlist import NetlistError
from verification.equivalence.sliced import Sliced, integers, sliced
from verification.equivalence.unrolling import Unrolling

Target = str | tuple[str, int]
Fact = Callable[[Bits], Bits]


def at_cycle(target: Target) -> tuple[str, int]:
    """(wire, cycle) of a target; a bare name means cycle 0."""
    return target if isinstance(target, tuple) else (target, 0)


@dataclass(frozen=True)
class CutPoint:
    """A wire at a cycle that the specification claims to equal `value`."""

    wire: str
    cycle: int
    value: Bits
    fact: Fact | None


class Operands:
    """What a specification may read: inputs at any cycle, registers at cycle 0; and its cut points."""

    def __init__(
        self, unrolling: Unrolling, fresh: Callable[[str, int, Bits], Bits] = lambda wire, cycle, value: value
    ) -> None:
        self._unrolling = unrolling
        self._fresh = fresh
        self.cut_points: list[CutPoint] = []

    @property
    def domain(self) -> Domain:
        """The domain of all values, for blocks unrolled as a specification."""
        return self._unrolling.domain

    def __getitem__(self, name: str) -> Bits:
        return self.at(name, 0)

    def at(self, name: str, cycle: int) -> Bits:
        """An input in a cycle. Registers only at cycle 0: later values are what is to be shown."""
        netlist = self._unrolling.netlist
        if name not in netlist.inputs and not (name in netlist.registers and cycle == 0):
            netlist.width(name)
            raise NetlistError(
                f"a specification reads inputs, and registers at cycle 0; {name!r} at {cycle} is neither"
            )
        return self._unrolling.bits(name, cycle)

    def width(self, wire: str) -> int:
        """Width of a wire in bits."""
        return self._unrolling.netlist.width(wire)

    def constant(self, value: int, width: int) -> Bits:
        """A constant of `width` bits."""
        return Bits(self.domain, self.domain.constant(value, width), width)

    def cut(self, wire: str, value: Bits, *, cycle: int = 0, fact: Fact | None = None) -> Bits:
        """Claim that a wire of the circuit at a cycle equals `value`, and go on from there.

        The proof then treats what comes after as a function of the wire alone; `fact` (a one-bit
        property of the value, proved first) is all that is kept. Returns what to use in place of `value`.
        """
        width = self.width(wire)
        if width != value.width:
            raise NetlistError(f"cut at {wire!r}: the wire has {width} bits, the value {value.width}")
        self.cut_points.append(CutPoint(wire, cycle, value, fact))
        return self._fresh(wire, cycle, value)


Specification = Callable[[Operands], Mapping[Target, Bits]]
IntegerFunction = Callable[[Mapping[str, NDArray[np.int64]]], Mapping[Target, NDArray[np.int64]]]


@dataclass(frozen=True)
class IntegerSpecification:
    """A specification on NumPy integers, for `exhaust` and `sample` only.

    `function` takes int64 arrays, one entry a case, of the inputs (at cycle 0) and registers named in
    `operands`, all unsigned, and returns those of `targets`, non-negative. It shares no arithmetic
    with the simulation engine. Operands and targets have at most 62 bits.
    """

    function: IntegerFunction
    operands: tuple[str, ...]
    targets: tuple[Target, ...]

    def __call__(self, operands: Operands) -> Mapping[Target, Bits]:
        """The function's values as bit planes; NetlistError in a symbolic domain."""
        domain = operands.domain
        if not isinstance(domain, Sliced):
            raise NetlistError("a specification on integers cannot be proved with SMT: use exhaust or sample")
        planes = [operands[name].value for name in self.operands]
        words = max((np.size(p) for vector in planes for p in vector), default=1)
        result = self.function({n: integers(v, words) for n, v in zip(self.operands, planes, strict=True)})
        return {
            target: Bits(
                domain, sliced(result[target], operands.width(at_cycle(target)[0])), operands.width(at_cycle(target)[0])
            )
            for target in self.targets
        }


Assumption = Callable[[Operands], Bits]


@dataclass(frozen=True)
class Problem:
    """A claim about a block; see the module."""

    claim: str
    block: pyrtl.Block
    specification: Specification | IntegerSpecification
    fixed: Mapping[str, int] = field(default_factory=dict)
    assume: Assumption | None = None


def specified(operands: Operands, problem: Problem) -> dict[tuple[str, int], Bits]:
    """The specification's values by (wire, cycle), checked against the circuit's widths."""
    values = {at_cycle(t): v for t, v in problem.specification(operands).items()}
    if not values:
        raise NetlistError(f"{problem.claim}: the specification names no wire, so there is nothing to show")
    for (wire, cycle), value in values.items():
        width = operands.width(wire)
        if width != value.width:
            raise NetlistError(f"{problem.claim}: {wire!r} at cycle {cycle} has {width} bits, not {value.width}")
    return values
