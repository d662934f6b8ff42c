"""`spatten verify --trace`: a trace on the netlist of a machine, in lockstep with the reference, as a result to store.

A trace may be longer than a small machine can hold, or than there is time for: an excerpt takes its first tokens, some
of its generation steps and its first layers. The excerpt is a sequence of its own, with its own scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hls.simulate import Simulator
from models.config import Config
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from traces.trace import Trace
from verification.cosimulation import LayerRun, Lockstep, make_memory
from verification.reproducer import write_reproducer
from verification.runs import own_softmax_scale, sequence_of
from verification.transaction_equality import record, summary

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Excerpt:
    """How much of a trace to run; None takes all there is.

    Attributes:
        tokens: of the input or the prompt.
        generated: steps behind the prompt.
        layers: from the first on.
    """

    tokens: int | None = None
    generated: int | None = None
    layers: int | None = None

    def of(self, sequence: Sequence) -> Sequence:
        """The excerpt of a sequence, at least one token and one layer of it."""
        prompt = sequence.tokens if sequence.prompt is None else sequence.prompt
        kept = max(1, min(prompt, self.tokens if self.tokens is not None else prompt))
        steps = sequence.tokens - prompt
        steps = steps if self.generated is None else min(steps, self.generated)
        layers = max(1, min(sequence.layers, self.layers if self.layers is not None else sequence.layers))
        picked = [*range(kept), *range(prompt, prompt + steps)]
        q, k, v = (tuple(x[:, picked] for x in tensors[:layers]) for tensors in (sequence.q, sequence.k, sequence.v))
        return Sequence(q, k, v, None if sequence.prompt is None else kept)

    def fitting(self, sequence: Sequence, longest: int) -> Excerpt:
        """The same, shortened so that the sequence has no more than `longest` tokens."""
        prompt = sequence.tokens if sequence.prompt is None else sequence.prompt
        steps = min(sequence.tokens - prompt, sequence.tokens if self.generated is None else self.generated)
        steps = min(steps, longest // 2)
        room = longest - steps
        return Excerpt(room if self.tokens is None else min(self.tokens, room), steps, self.layers)


def verify_trace(
    trace: Trace,
    setting: str,
    config: Config,
    simulator: Simulator,
    memory_kind: str = "hbm2",
    excerpt: Excerpt | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Run a trace in lockstep; plain data: what was compared, what differed, cycles of every layer, coverage.

    Args:
        trace: to run.
        setting: name of the configuration.
        config: under which to run; the simulator is of its machine.
        simulator: of the accelerator, in reset state.
        memory_kind: of `verification.cosimulation.MEMORIES`.
        excerpt: of the trace; default as much as the machine holds.
        seed: of an adversarial memory.
        folder: where a reproducer goes if something differs; None writes none.
        progress: called with layers done, all layers, and the layer's name.

    Raises:
        ConfigError: for a trace that the machine cannot hold.
        CosimulationError: if the netlist does not come to its end.
    """
    whole = sequence_of(trace)
    chosen = (excerpt or Excerpt()).fitting(whole, config.accelerator.max_keys(whole.head_dim))
    sequence = chosen.of(whole)
    arithmetic = IntegerArithmetic(config.quantization, config.accelerator.datapath_bits, own_softmax_scale(trace))
    run = prepare(sequence, arithmetic, config.pruning, config.quantization, config.accelerator.datapath_bits)
    memory = make_memory(memory_kind, config.accelerator, seed)
    lockstep = Lockstep(run, config, simulator, memory, memory_kind, timing=True)
    passes = 1 if sequence.prompt is None else 1 + sequence.tokens - sequence.prompt
    done: list[LayerRun] = []

    def observe(layer: LayerRun) -> None:
        done.append(layer)
        progress(len(done), passes * sequence.layers, f"{trace.name}, {setting}, {layer.request.name}")

    lockstep.layers(observe)
    assert lockstep.coverage is not None
    equal = lockstep.board.equal
    reproducer = None
    if not equal and folder is not None:
        reproducer = str(write_reproducer(folder, sequence, config, simulator, memory_kind, seed))
    return {
        "trace": trace.name,
        "setting": setting,
        "memory": memory_kind,
        "tokens": sequence.tokens,
        "generated": 0 if sequence.prompt is None else sequence.tokens - sequence.prompt,
        "layers": sequence.layers,
        "whole_trace": (sequence.tokens, sequence.layers) == (whole.tokens, whole.layers),
        "equal": equal,
        "compared": dict(sorted(lockstep.board.compared.items())),
        "differing": dict(sorted(lockstep.board.differing.items())),
        "mismatches": [str(mismatch) for mismatch in lockstep.board.mismatches],
        "reproducer": reproducer,
        "coverage": [list(row) for row in lockstep.coverage.rows()],
        "timing": summary([layer.timing for layer in done if layer.timing is not None]),
        "runs": [_layer(layer) for layer in done],
    }


def _layer(layer: LayerRun) -> dict[str, Any]:
    expected = layer.request.expected
    gaps = np.diff(layer.row_cycles)
    return {
        "name": layer.request.name,
        "cycles": layer.cycles,
        "rows": len(layer.row_cycles),
        "heads": 0 if expected is None else len(expected.heads),
        "keys": layer.request.fields["keys"],
        "flat": 0 if expected is None else int(expected.flat.sum()),
        "median_row_cycles": float(np.median(gaps)) if len(gaps) else None,
        "equal": layer.equal,
        "timing": None if layer.timing is None else record(layer.timing),
    }
