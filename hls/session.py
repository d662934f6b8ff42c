"""Sessions: a simulator driven cycle by cycle by something that answers its outputs, with taps on ready/valid ports.

What answers (a memory) sees the watched outputs as they stand at the beginning of a cycle, before the inputs of that
cycle are known. So watched outputs must not depend on inputs that change without a register between; a session
reports it if they do. A cycle is

    watched outputs -> inputs chosen -> outputs settle -> taps look -> clock edge -> watched outputs of the next cycle

All inputs lie in one row of 32-bit words, port after port (`in_layout`), the watched outputs in another (`watched`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hls.simulate import Design, FastSimulator, Simulator, SimulatorError, Words, to_words
from hls.types import HlsError
from hls.verilator import VerilatorSimulator
from hls.verilator_driver import layout

ENDED, TAKEN, CHANGED = 1, 2, 4
"""Flags of a cycle: the ending output was set; the `taken` output was; watched outputs depended on the inputs."""


@dataclass(frozen=True)
class Tap:
    """What to log: in every cycle in which all of `fires` (output ports) are other than 0, the `data` outputs.

    Attributes:
        name: of the tap.
        fires: valid and ready ports, for example.
        data: ports to log; none logs the cycles alone.
    """

    name: str
    fires: tuple[str, ...]
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tapped:
    """What a tap logged: cycles [n], and for every data port its words, [n, words] uint32."""

    cycles: NDArray[np.uint64]
    words: Mapping[str, Words]

    def __len__(self) -> int:
        return len(self.cycles)


@dataclass(frozen=True)
class SessionPorts:
    """What a session looks at.

    Attributes:
        watched: outputs that are read at the beginning of each cycle.
        taps: what is logged.
        until: output that ends the session where it is other than 0.
        taken: output that raises the flag TAKEN.
    """

    watched: tuple[str, ...]
    taps: tuple[Tap, ...] = ()
    until: str | None = None
    taken: str | None = None

    def check(self, design: Design) -> None:
        """SimulatorError for a port that `design` does not have, and for taps of one name."""
        names = [tap.name for tap in self.taps]
        if len(set(names)) < len(names):
            raise SimulatorError(f"taps {sorted(names)}: two have one name")
        ports = [*self.watched, *(port for tap in self.taps for port in (*tap.fires, *tap.data))]
        ports += [port for port in (self.until, self.taken) if port is not None]
        unknown = sorted(set(ports) - set(design.outputs))
        if unknown:
            raise SimulatorError(f"{design.name} has no output {unknown}; it has {sorted(design.outputs)}")
        idle = [tap.name for tap in self.taps if not tap.fires]
        if idle:
            raise SimulatorError(f"taps {idle} have no port that makes them fire")

    def watched_layout(self, design: Design) -> tuple[dict[str, tuple[int, int]], int]:
        """First word and words of each watched output in their row, and the words of the row."""
        return layout({port: design.outputs[port] for port in self.watched})


class Session(Protocol):
    """A session on some simulator."""

    def begin(self, row: Words, watched: Words) -> None:
        """Apply the first inputs, and write the watched outputs of the first cycle."""

    def cycle(self, row: Words, watched: Words) -> int:
        """One cycle; writes the watched outputs of the next, and returns the flags."""

    def tapped(self) -> dict[str, Tapped]:
        """What the taps logged."""

    def outputs(self) -> dict[str, int]:
        """All outputs: of the cycle that ended the session, else as they stand after the last clock edge."""


class FastSession:
    """A session on PyRTL's FastSimulation."""

    def __init__(self, simulator: FastSimulator, ports: SessionPorts) -> None:
        ports.check(simulator.netlist)
        self._simulator = simulator
        self._ports = ports
        self._in_layout, _ = layout(simulator.netlist.inputs)
        self._watched_layout, _ = ports.watched_layout(simulator.netlist)
        self._cycle = 0
        self._logs: dict[str, list[dict[str, int]]] = {tap.name: [] for tap in ports.taps}
        self._cycles: dict[str, list[int]] = {tap.name: [] for tap in ports.taps}
        self._outputs: dict[str, int] = {}

    def _given(self, row: Words) -> dict[str, int]:
        return {name: int.from_bytes(row[w : w + n].tobytes(), "little") for name, (w, n) in self._in_layout.items()}

    def _watch(self, outputs: Mapping[str, int], watched: Words) -> None:
        for name, (word, count) in self._watched_layout.items():
            watched[word : word + count] = to_words([outputs[name]], 32 * count)[0]

    def begin(self, row: Words, watched: Words) -> None:
        """See `Session`."""
        self._outputs = self._simulator.peek(self._given(row))
        self._watch(self._outputs, watched)

    def cycle(self, row: Words, watched: Words) -> int:
        """See `Session`."""
        given, before = self._given(row), watched.copy()
        seen = self._simulator.step(given)
        self._watch(seen, watched)
        flags = 0 if np.array_equal(before, watched) else CHANGED
        for tap in self._ports.taps:
            if all(seen[port] for port in tap.fires):
                self._logs[tap.name].append(seen)
                self._cycles[tap.name].append(self._cycle)
        if self._ports.taken is not None and seen[self._ports.taken]:
            flags |= TAKEN
        following = self._simulator.peek(given)
        self._outputs = following
        if self._ports.until is not None and seen[self._ports.until]:
            flags |= ENDED
            self._outputs = seen
        self._watch(following, watched)
        self._cycle += 1
        return flags

    def tapped(self) -> dict[str, Tapped]:
        """See `Session`."""
        bits = self._simulator.netlist.outputs
        return {
            tap.name: Tapped(
                np.array(self._cycles[tap.name], np.uint64),
                {port: to_words([row[port] for row in self._logs[tap.name]], bits[port]) for port in tap.data},
            )
            for tap in self._ports.taps
        }

    def outputs(self) -> dict[str, int]:
        """See `Session`."""
        return dict(self._outputs)


def open_session(simulator: Simulator, ports: SessionPorts) -> Session:
    """A session on an open simulator, which goes on from its present state."""
    if isinstance(simulator, VerilatorSimulator):
        from hls.verilator_session import VerilatorSession  # it builds on this module

        return VerilatorSession(simulator, ports)
    if isinstance(simulator, FastSimulator):
        return FastSession(simulator, ports)
    raise HlsError(f"no session on a simulator of back end {simulator.backend!r}")
