"""Replays of recorded ports on a glue module: inputs and outputs, cycle by cycle from reset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hls.lower import Netlist
from hls.simulate import FastSimulator, Words, to_words, word_count
from verification.evidence.glue_planes import integers_of

Row = dict[str, int]


@dataclass(frozen=True)
class Replay:
    """Recorded cycles from reset.

    Attributes:
        name: of the run.
        inputs, outputs: of the module: words [cycles, words] by port.
    """

    name: str
    inputs: Mapping[str, Words]
    outputs: Mapping[str, Words]

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())))

    def rows(self) -> Iterator[Row]:
        """All ports, cycle by cycle."""
        columns = {port: integers_of(words) for port, words in {**self.inputs, **self.outputs}.items()}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))


class WatchedSimulator(FastSimulator):
    """A simulator that remembers all ports of all cycles since its reset, which clears memories too."""

    def __init__(self, netlist: Netlist) -> None:
        super().__init__(netlist)
        self.rows: list[Row] = []

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """One cycle."""
        seen = super().step(inputs)
        self.rows.append({**dict.fromkeys(self.netlist.inputs, 0), **inputs, **seen})
        return seen

    def register(self, name: str) -> int:
        """What a register holds."""
        value: int = self._simulation.regs[name]
        return value

    def reset(self) -> None:
        """Registers to their reset values, memories to zeros, no cycle remembered."""
        super().reset()
        for words in self._simulation.mems.values():
            words.clear()
        self.rows = []


def replay_of(name: str, netlist: Netlist, rows: list[Row]) -> Replay:
    """A replay from rows of all ports."""
    inputs, outputs = (
        {port: to_words([row[port] for row in rows], bits) for port, bits in ports.items()}
        for ports in (netlist.inputs, netlist.outputs)
    )
    return Replay(name, inputs, outputs)


def at_random(name: str, netlist: Netlist, cycles: int, seed: int) -> Replay:
    """Random inputs in every cycle: of a module without state, which no cycle before can bring into a wrong one."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for port, bits in netlist.inputs.items():
        words = rng.integers(0, 1 << 32, (cycles, word_count(bits)), np.uint32)
        words[:, -1] >>= np.uint32(-bits % 32)
        inputs[port] = words
    columns = {port: integers_of(words) for port, words in inputs.items()}
    simulator = WatchedSimulator(netlist)
    for values in zip(*columns.values(), strict=True):
        simulator.step(dict(zip(columns, values, strict=True)))
    return replay_of(name, netlist, simulator.rows)
