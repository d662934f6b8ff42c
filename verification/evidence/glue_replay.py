"""Replays of recorded ports on a glue module, or on a mutant of it: do all outputs that mean something agree?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyrtl

from verification.evidence.glue_outputs import Meaning

Row = dict[str, int]


@dataclass(frozen=True)
class Difference:
    """Where outputs that mean something first differ."""

    cycle: int
    port: str


@dataclass(frozen=True)
class Replay:
    """Recorded cycles from reset.

    Attributes:
        name: of the run.
        inputs, outputs: of the module, in every cycle.
        bits: of its outputs.
        meaning: of its outputs that do not always mean something.
    """

    name: str
    inputs: Sequence[Row]
    outputs: Sequence[Row]
    bits: Mapping[str, int]
    meaning: Mapping[str, Meaning]

    @cached_property
    def _windows(self) -> Mapping[str, Sequence[bool]]:
        """For outputs that mean something from one pulse to another: whether they do, cycle by cycle."""
        found: dict[str, list[bool]] = {}
        for port, means in self.meaning.items():
            if means.since:
                found[port], opened = [], False
                for given, wanted in zip(self.inputs, self.outputs, strict=True):
                    values = {**given, **wanted}
                    opened = opened or any(values[pulse] for pulse in means.since)
                    found[port].append(opened)
                    opened = opened and not values[means.until]
        return found

    def mask(self, port: str, cycle: int) -> int:
        """Bits of an output that mean something in a cycle."""
        if port not in self.meaning:
            return (1 << self.bits[port]) - 1
        if port in self._windows and not self._windows[port][cycle]:
            return 0
        return self.meaning[port].mask({**self.inputs[cycle], **self.outputs[cycle]}, self.bits[port])

    def difference(self, block: pyrtl.Block) -> Difference | None:
        """The first one in what a block does; memories begin with zeros."""
        simulation = pyrtl.FastSimulation(tracer=None, block=block)
        registers, memories, step = simulation.regs, simulation.mems, simulation.sim_func
        for cycle, (given, wanted) in enumerate(zip(self.inputs, self.outputs, strict=True)):
            registers, seen, writes = step({**given, **registers, **memories})
            for memory, address, value in writes:
                memories[memory][address] = value
            if seen != wanted:
                for port, value in wanted.items():
                    if seen[port] != value and (seen[port] ^ value) & self.mask(port, cycle):
                        return Difference(cycle, port)
        return None


def first_difference(block: pyrtl.Block, replays: Iterable[Replay]) -> str | None:
    """The first one in the first replay that shows one, in words."""
    for replay in replays:
        found = replay.difference(block)
        if found is not None:
            return f"{found.port} differs in cycle {found.cycle} of {replay.name!r}"
    return None
