"""Replays of recorded ports on a glue module, or on a mutant of it: do all outputs that mean something agree?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

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

    def scrambled(self, block: pyrtl.Block, given: Mapping[str, Meaning], seed: int) -> Replay:
        """The same with random bits in inputs that mean nothing (`given`), on the module itself.

        Raises:
            AssertionError: if the module looks at them: if its outputs then differ.
        """
        random, inputs, outputs = Random(seed), [], []
        simulation = pyrtl.FastSimulation(tracer=None, block=block)
        registers, memories, step = simulation.regs, simulation.mems, simulation.sim_func
        bits = {port: len(block.wirevector_by_name[port]) for port in given}
        for cycle, (row, wanted) in enumerate(zip(self.inputs, self.outputs, strict=True)):
            values, changed = {**row, **wanted}, dict(row)
            for port, means in given.items():
                nothing = ~means.mask(values, bits[port]) & (1 << bits[port]) - 1
                if nothing:
                    changed[port] = row[port] & ~nothing | random.getrandbits(bits[port]) & nothing
            registers, seen, writes = step({**changed, **registers, **memories})
            for memory, address, value in writes:
                memories[memory][address] = value
            for port, value in wanted.items():
                looks = seen[port] != value and (seen[port] ^ value) & self.mask(port, cycle)
                assert not looks, f"{port} differs in cycle {cycle} of {self.name!r} by an input that means nothing"
            inputs.append(changed)
            outputs.append(seen)
        return replace(self, inputs=inputs, outputs=outputs)

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


def at_random(name: str, block: pyrtl.Block, cycles: int, seed: int) -> Replay:
    """Random inputs in every cycle: of a module without state, which no cycle before can bring into a wrong one."""
    random = Random(seed)
    bits = {wire.name: len(wire) for wire in block.wirevector_subset(pyrtl.Input)}
    inputs = [{port: random.getrandbits(n) for port, n in sorted(bits.items())} for _ in range(cycles)]
    step = pyrtl.FastSimulation(tracer=None, block=block).sim_func
    outputs = [step(row)[1] for row in inputs]
    return Replay(name, inputs, outputs, {w.name: len(w) for w in block.wirevector_subset(pyrtl.Output)}, {})


def first_difference(block: pyrtl.Block, replays: Iterable[Replay]) -> str | None:
    """The first one in the first replay that shows one, in words."""
    for replay in replays:
        found = replay.difference(block)
        if found is not None:
            return f"{found.port} differs in cycle {found.cycle} of {replay.name!r}"
    return None
