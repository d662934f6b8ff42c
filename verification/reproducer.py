"""A mismatch between reference and netlist as a folder to reproduce it from: smallest input found, script, waveform.

    sequence.npz     Q, K, V of the shrunk sequence
    config.toml      machine, pruning, quantization
    reproduce.py     runs both and prints what differs; `--vcd FILE` writes a waveform with PyRTL's simulation
    report.txt       what differed when it was found

Shrinking drops layers, generation steps, heads and tokens, in halves first, as long as something still differs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hls.simulate import Simulator, open_simulator
from models.config import Config
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from traces.atomic import write_atomically
from verification.cosimulation import Lockstep, accelerator_of, make_memory
from verification.cosimulation_loop import CosimulationError
from verification.scoreboard import Scoreboard

SCRIPT = '''"""Runs the shrunk input beside this file on the reference and on the netlist, and prints what differs."""

import argparse
from pathlib import Path

from verification.reproducer import reproduce

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--vcd", type=Path, help="waveform to write (slow: PyRTL's simulation)")
arguments = parser.parse_args()
print(reproduce(Path(__file__).parent, {memory!r}, {seed}, arguments.vcd))
'''


def differs(sequence: Sequence, config: Config, simulator: Simulator, memory_kind: str, seed: int) -> Scoreboard | None:
    """What differs between reference and netlist from reset, or None; a netlist that hangs differs in its end."""
    arithmetic = IntegerArithmetic(config.quantization, config.accelerator.datapath_bits)
    run = prepare(sequence, arithmetic, config.pruning, config.quantization, config.accelerator.datapath_bits)
    simulator.reset()
    lockstep = Lockstep(run, config, simulator, make_memory(memory_kind, config.accelerator, seed), memory_kind)
    try:
        lockstep.layers()
    except CosimulationError as error:
        lockstep.board.numbers("end", str(error), [1], [0])
    return None if lockstep.board.equal else lockstep.board


def shrink(sequence: Sequence, config: Config, simulator: Simulator, memory_kind: str, seed: int) -> Sequence:
    """The smallest sequence found that still differs; the given one if nothing smaller does."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(sequence):
            if _schedules_fit(config, candidate) and differs(candidate, config, simulator, memory_kind, seed):
                sequence, smaller = candidate, True
                break
    return sequence


def _schedules_fit(config: Config, sequence: Sequence) -> bool:
    """Schedules by layer are written for a number of layers."""
    lists = [*(s.ratios or s.counts for s in (config.pruning.tokens, config.pruning.heads))]
    return all(given is None or len(given) == sequence.layers for given in lists)


def _smaller(s: Sequence) -> Iterator[Sequence]:
    prompt = s.tokens if s.prompt is None else s.prompt
    for layers in {s.layers // 2, s.layers - 1} - {0}:
        yield Sequence(s.q[:layers], s.k[:layers], s.v[:layers], s.prompt)
    for tokens in sorted({prompt, s.tokens - 1} - {0}):
        if tokens < s.tokens and s.prompt is not None and tokens >= prompt:
            yield _cut(s, range(tokens), prompt)
    for tokens in sorted({prompt // 2, prompt - 1} - {0}):
        if tokens < prompt:
            steps = range(prompt, s.tokens)
            yield _cut(s, [*range(tokens), *steps], None if s.prompt is None else tokens)
    kv = len(s.k[0])
    group = s.heads // kv
    for heads in sorted({kv // 2, kv - 1} - {0}):
        if heads < kv:
            q = tuple(x[: heads * group] for x in s.q)
            yield Sequence(q, tuple(x[:heads] for x in s.k), tuple(x[:heads] for x in s.v), s.prompt)


def _cut(s: Sequence, tokens: range | list[int], prompt: int | None) -> Sequence:
    picked = list(tokens)
    q, k, v = (tuple(x[:, picked] for x in tensors) for tensors in (s.q, s.k, s.v))
    return Sequence(q, k, v, prompt)


def write_reproducer(
    folder: Path, sequence: Sequence, config: Config, simulator: Simulator, memory_kind: str, seed: int
) -> Path:
    """Shrink what differs and write it down; returns the folder.

    Args:
        folder: created if missing.
        sequence: that differed.
        config: under which.
        simulator: of the machine.
        memory_kind: behind it.
        seed: of the memory.
    """
    smallest = shrink(sequence, config, simulator, memory_kind, seed)
    board = differs(smallest, config, simulator, memory_kind, seed)
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        f"{name}{layer}": x.numpy()
        for name, tensors in (("q", smallest.q), ("k", smallest.k), ("v", smallest.v))
        for layer, x in enumerate(tensors)
    }
    content = io.BytesIO()
    np.savez(content, prompt=np.array(-1 if smallest.prompt is None else smallest.prompt), **arrays)
    write_atomically(folder / "sequence.npz", content.getvalue())
    write_atomically(folder / "config.toml", config.to_toml().encode())
    write_atomically(folder / "reproduce.py", SCRIPT.format(memory=memory_kind, seed=seed).encode())
    found = board.report() if board else "differs only after what ran before; not from reset"
    write_atomically(folder / "report.txt", (found + "\n").encode())
    return folder


def read_sequence(path: Path) -> Sequence:
    """The sequence of a reproducer."""
    with np.load(path) as data:
        layers = sum(name.startswith("q") for name in data.files)
        q, k, v = (tuple(torch.from_numpy(data[f"{n}{i}"]) for i in range(layers)) for n in "qkv")
        prompt = int(data["prompt"])
    return Sequence(q, k, v, None if prompt < 0 else prompt)


def reproduce(folder: Path, memory_kind: str, seed: int, vcd: Path | None = None) -> str:
    """Run what a reproducer holds; the report of what differs."""
    sequence, config = read_sequence(folder / "sequence.npz"), Config.load(folder / "config.toml")
    netlist = accelerator_of(config.accelerator)
    with open_simulator(netlist, "auto" if vcd is None else "fast", vcd=vcd) as simulator:
        board = differs(sequence, config, simulator, memory_kind, seed)
    return "nothing differs" if board is None else board.report()
