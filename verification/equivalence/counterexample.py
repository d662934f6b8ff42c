"""Counterexamples as files, and their replay in PyRTL's own simulator.

A file holds the state at cycle 0, the inputs of every cycle, and what wires showed against
what they should have. A refutation is reported only after `replay` has seen the wrong values in
`pyrtl.FastSimulation`: a fault of the translation cannot pass as a fault of the circuit.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyrtl

from traces.atomic import write_atomically

FORMAT = "spatten-counterexample-1"


@dataclass(frozen=True)
class Observation:
    """A wire at a cycle: the value it has, and the one it should have (None: part of a wider claim)."""

    wire: str
    cycle: int
    observed: int
    expected: int | None = None


@dataclass(frozen=True)
class Counterexample:
    """A run that breaks a claim.

    `inputs` has one mapping per cycle; `registers` and `memories` (words by address, zero
    elsewhere) are the state at cycle 0.
    """

    claim: str
    inputs: tuple[Mapping[str, int], ...]
    observations: tuple[Observation, ...]
    registers: Mapping[str, int] = field(default_factory=dict)
    memories: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def save(counterexample: Counterexample, folder: Path) -> Path:
    """Write the file, named after the claim, into a folder; returns its path."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", counterexample.claim).strip("_")[:100] or "claim"
    path = folder / f"{name}.counterexample.json"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(counterexample)}, indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())
    return path


def load(path: Path) -> Counterexample:
    """Read a file written by `save`; ValueError if it is something else."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if raw.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a counterexample: its format field should be {FORMAT!r}")
    return Counterexample(
        claim=raw["claim"],
        inputs=tuple(raw["inputs"]),
        observations=tuple(Observation(**o) for o in raw["observations"]),
        registers=raw["registers"],
        memories={n: {int(a): w for a, w in words.items()} for n, words in raw["memories"].items()},
    )


def _memory_word(name: str, memories: Mapping[str, pyrtl.MemBlock]) -> tuple[pyrtl.MemBlock, int] | None:
    """The memory and address that an observation `memory[address]` names."""
    match = re.fullmatch(r"(.+)\[(\d+)\]", name)
    return (memories[match[1]], int(match[2])) if match and match[1] in memories else None


def simulate(block: pyrtl.Block, counterexample: Counterexample, wires: Sequence[str]) -> list[dict[str, int]]:
    """Values of the wires in every cycle of the run, from FastSimulation on this block.

    `memory[address]` stands for a word at the beginning of the cycle.
    """
    by_name = block.wirevector_by_name
    memories = {net.op_param[1].name: net.op_param[1] for net in block.logic_subset("m@")}
    words = {w: found for w in wires if w not in by_name and (found := _memory_word(w, memories)) is not None}
    tracked = [by_name[w] for w in dict.fromkeys(wires) if w not in words]
    tracer: Any = pyrtl.SimulationTrace(wires_to_track=tracked, block=block) if tracked else None
    simulation = pyrtl.FastSimulation(
        register_value_map={by_name[n]: v for n, v in counterexample.registers.items() if n in by_name},
        memory_value_map={memories[n]: dict(c) for n, c in counterexample.memories.items() if n in memories},
        tracer=tracer,
        block=block,
    )
    known_inputs = {w.name for w in block.wirevector_subset(pyrtl.Input)}
    shown = []
    for cycle, values in enumerate(counterexample.inputs):
        read = {w: simulation.inspect_mem(memory).get(address, 0) for w, (memory, address) in words.items()}
        simulation.step({n: v for n, v in values.items() if n in known_inputs})
        shown.append({w: read[w] if w in read else tracer.trace[w][cycle] for w in wires})
    return shown


def replay(block: pyrtl.Block, counterexample: Counterexample) -> bool:
    """Whether simulation shows every observed value, and these contradict the claim.

    They do where one differs from its expectation. A claim over several wires has no expectations: then
    showing the same run is all that can be asked of the file.
    """
    shown = simulate(block, counterexample, [o.wire for o in counterexample.observations])
    agrees = all(shown[o.cycle][o.wire] == o.observed for o in counterexample.observations)
    expecting = [o for o in counterexample.observations if o.expected is not None]
    wrong = any(o.expected != o.observed for o in expecting) if expecting else bool(counterexample.observations)
    return agrees and wrong
