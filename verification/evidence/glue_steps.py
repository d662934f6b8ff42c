"""Recorded steps of a glue module, all at once: what would a mutant do differently from the states of the original?

Every recorded cycle is a step from a known state. A mutant is evaluated on all of them, 64 to a machine word
(`verification.equivalence.sliced`). In each recording the first step in which it does something else decides:

    an output that means something differs    the mutant is killed there, as until then it has been in the same state
    only its next state differs               it has to be run to see what becomes of that
    no step differs                           it has done what the original did, for ever
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyrtl
from numpy.typing import NDArray

from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.sliced import Planes, Sliced, case_value
from verification.equivalence.unrolling import Sources, Unrolling
from verification.evidence.glue_replay import Replay

Case = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What a mutant does differently: the first recording that shows it, and recordings that have to be run."""

    shown: str | None
    open: tuple[Replay, ...]


def _planes(values: Sequence[int], bits: int) -> Planes:
    """A column of numbers, a case each, as planes; the cases are filled up to whole words by zeros."""
    width = -(-bits // 8)
    raw = b"".join(value.to_bytes(width, "little") for value in values)
    table = np.frombuffer(raw, np.uint8).reshape(len(values), width)
    padded = np.zeros((-(-len(values) // 64) * 64, width), np.uint8)
    padded[: len(values)] = table
    by_bit = np.unpackbits(padded, axis=1, count=bits, bitorder="little")
    packed = np.packbits(by_bit, axis=0, bitorder="little")
    return tuple(np.ascontiguousarray(packed[:, i]).view("<u8").astype(np.uint64) for i in range(bits))


def _cases(plane: Any, count: int) -> NDArray[np.int64]:
    """Numbers of the cases in which a plane is 1."""
    words = np.broadcast_to(np.asarray(plane, dtype="<u8"), (-(-count // 64),))
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little")[:count]
    return np.flatnonzero(bits)


class Steps:
    """All recorded steps of a module."""

    def __init__(self, block: pyrtl.Block, replays: Sequence[Replay]) -> None:
        self.netlist = read_block(block)
        self._replays = tuple(replays)
        self._ends = np.cumsum([len(replay.inputs) for replay in replays])
        self.count = int(self._ends[-1])
        self.reads = tuple(n.dest for n in self.netlist.nets if n.op == "m" and n.dest and self._written(n.memory))
        self.states = self._states(block)
        widths = self.netlist.widths
        inputs = {p: [row[p] for r in replays for row in r.inputs] for p in self.netlist.inputs}
        self._given = {name: _planes(column, widths[name]) for name, column in {**inputs, **self.states}.items()}
        self._original = self._run(self.netlist)

    def _written(self, memory: str | None) -> bool:
        return self.netlist.memories[memory or ""].contents is None

    def _states(self, block: pyrtl.Block) -> dict[str, list[int]]:
        """Registers, and what is read from memories, step by step; memories begin with zeros."""
        names = (*self.netlist.registers, *self.reads)
        columns: dict[str, list[int]] = {name: [] for name in names}
        for replay in self._replays:
            tracer = pyrtl.SimulationTrace([block.wirevector_by_name[n] for n in self.reads] or None, block=block)
            simulation = pyrtl.FastSimulation(tracer=tracer, block=block)
            registers, memories, step = simulation.regs, simulation.mems, simulation.sim_func
            for given in replay.inputs:
                for name in self.netlist.registers:
                    columns[name].append(registers[name])
                registers, seen, writes = step({**given, **registers, **memories})
                for name in self.reads:
                    columns[name].append(seen[name])
                for memory, address, value in writes:
                    memories[memory][address] = value
        return columns

    def _run(self, netlist: Netlist) -> Unrolling:
        def of_state(name: str) -> Planes:
            if name not in self._given:
                raise NetlistError(f"register {name!r} is none of the original's")
            return self._given[name]

        def refuse(name: str) -> Planes:
            raise NetlistError(f"memory {name!r} has no planes")

        def read(name: str, cycle: int) -> Planes | None:
            del cycle
            return self._given[name] if name in self.reads else None

        def table(name: str) -> Any:
            memory, domain = netlist.memories[name], Sliced()
            return [domain.constant(word, memory.data_bits) for word in memory.contents or ()]

        return Unrolling(
            netlist, Sliced(), Sources(lambda name, cycle: self._given[name], of_state, refuse, table, read)
        )

    def _differ(self, other: Unrolling, mine: str, its: str) -> Any:
        """Plane of the steps in which a wire of the original and one of another netlist differ."""
        a, b = self._original.value(mine), other.value(its)
        if a is b:
            return np.uint64(0)
        return np.bitwise_or.reduce(
            [np.broadcast_to(p ^ q, (-(-self.count // 64),)) for p, q in zip(a, b, strict=True)]
        )

    def _state_differs(self, other: Unrolling) -> Any:
        """Plane of the steps after which state differs, or in which something else is read."""
        found: Any = np.uint64(0)
        drivers, its = self.netlist.drivers, other.netlist.drivers
        for name in self.netlist.registers:
            if name in other.netlist.registers:
                found = found | self._differ(other, drivers[name].args[0], its[name].args[0])
        for name in self.reads:
            if name in its:
                found = found | self._differ(other, drivers[name].args[0], its[name].args[0])
        for memory, nets in self.netlist.writers.items():
            for net, faulty in zip(nets, other.netlist.writers.get(memory, ()), strict=False):
                writes = self._original.value(net.args[2])[0]
                found = found | self._differ(other, net.args[2], faulty.args[2])
                for i in (0, 1):
                    found = found | writes & self._differ(other, net.args[i], faulty.args[i])
        return found

    def _shown(self, other: Unrolling) -> dict[int, int]:
        """For each recording that has one, the first step in which an output that means something differs."""
        first: dict[int, int] = {}
        for port in self.netlist.outputs:
            cases = _cases(self._differ(other, port, port), self.count)
            for case, number in zip(cases.tolist(), np.searchsorted(self._ends, cases, "right").tolist(), strict=True):
                if case >= first.get(number, self.count):
                    continue
                replay = self._replays[number]
                mask = replay.mask(port, case - int(self._ends[number]) + len(replay.inputs))
                if mask and mask & self._difference_of(other, port, case):
                    first[number] = case
        return first

    def _difference_of(self, other: Unrolling, port: str, case: int) -> int:
        """Bits of an output that differ in a step."""
        word, bit = divmod(case, 64)
        return case_value(self._original.value(port), word, bit) ^ case_value(other.value(port), word, bit)

    def difference(self, faulty: Netlist) -> Found:
        """What a mutant does differently; all recordings are open where its states are not the original's."""
        if not set(faulty.registers) <= set(self.netlist.registers):
            return Found(None, self._replays)
        if any(self.netlist.registers[n] != reset for n, reset in faulty.registers.items()):
            return Found(None, self._replays)
        other = self._run(faulty)
        shown = self._shown(other)
        changed = _cases(self._state_differs(other), self.count)
        numbers = np.searchsorted(self._ends, changed, "right")
        first = {int(n): int(changed[i]) for n, i in zip(*np.unique(numbers, return_index=True), strict=True)}
        for number, case in shown.items():
            if case <= first.get(number, self.count):
                return Found(self._replays[number].name, ())
        return Found(None, tuple(self._replays[number] for number in sorted(first)))
