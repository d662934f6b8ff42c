"""Cycles that a signal takes inside a netlist: the registers on the shortest path from one of its wires to another.

A register, or a word that is written into a memory and read out of it, is a cycle; logic is none:

    RegisterPaths(netlist).between(a, b)        least number of registers on a path from wire a to wire b
    RegisterPaths(netlist).between(a, b, c)     that from a to b, then from b to c

Wires go by their names: ports, registers, or what a module's code has named. A path may be shorter than the one that
is meant, as a sticky bit is that gates a chain behind it: then the stations between say which one is meant. What is
counted is the latency of a signal that nothing holds up; a wait is no register.
"""

from __future__ import annotations

import difflib
from collections import deque
from itertools import pairwise

import pyrtl

from hls.lower import Netlist
from hls.types import HlsError

Successors = dict[int, list[tuple[int, int]]]
"""Of each wire or memory, by identity: what it drives, and the registers (0 or 1) on the way."""


class RegisterPaths:
    """The paths of a netlist."""

    def __init__(self, netlist: Netlist) -> None:
        self._name = netlist.name
        self._wires = netlist.block.wirevector_by_name
        self._successors: Successors = {}
        for net in netlist.block.logic:
            if net.op == "@":
                self._add(net.args, id(net.op_param[1]), 1)
                continue
            target = id(net.dests[0])
            self._add(net.args, target, 1 if net.op == "r" else 0)
            if net.op == "m":
                self._successors.setdefault(id(net.op_param[1]), []).append((target, 0))

    def _add(self, sources: tuple[pyrtl.WireVector, ...], target: int, registers: int) -> None:
        for source in sources:
            self._successors.setdefault(id(source), []).append((target, registers))

    def between(self, *stations: str) -> int:
        """Least registers from each station to the next, added up.

        Raises:
            HlsError: for a wire that there is not, or one from which no path leads to the next.
        """
        return sum(self._least(source, target) for source, target in pairwise(stations))

    def _wire(self, name: str) -> int:
        if name not in self._wires:
            near = difflib.get_close_matches(name, self._wires, 1)
            raise HlsError(f"{self._name} has no wire {name!r}" + (f"; {near[0]!r} would do" if near else ""))
        return id(self._wires[name])

    def _least(self, source: str, target: str) -> int:
        """Breadth first, by registers; from a wire to itself, around a loop."""
        start, end = self._wire(source), self._wire(target)
        known: set[int] = set()
        pending = deque(sorted(self._successors.get(start, ()), key=lambda step: step[1]))
        while pending:
            wire, registers = pending.popleft()
            if wire == end:
                return registers
            if wire in known:
                continue
            known.add(wire)
            for following, more in self._successors.get(wire, ()):
                if more:
                    pending.append((following, registers + 1))
                else:
                    pending.appendleft((following, registers))
        raise HlsError(f"{self._name}: no path leads from {source!r} to {target!r}; the other way round one may")
