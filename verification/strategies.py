"""Hypothesis strategies: small runs of the whole accelerator, over everything that a run can differ in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from models.reference.stack import Run, Sequence, prepare
from verification.cosimulation import MEMORIES


@dataclass(frozen=True)
class SmallRun:
    """A run on random numbers.

    Attributes:
        config: machine, pruning, quantization.
        layers, kv_heads, group, tokens, head_dim: of the model and the sequence.
        prompt: None for an encoder.
        memory: kind of memory.
        seed: of the numbers, and of an adversarial memory.
        spread: standard deviation of Q and K; a small one makes flat rows.
    """

    config: Config
    layers: int
    kv_heads: int
    group: int
    tokens: int
    head_dim: int
    prompt: int | None
    memory: str
    seed: int
    spread: float

    def sequence(self) -> Sequence:
        """Its Q, K and V."""
        generator = torch.Generator().manual_seed(self.seed)

        def numbers(heads: int, scale: float) -> tuple[torch.Tensor, ...]:
            shape = (heads, self.tokens, self.head_dim)
            return tuple(
                scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(self.layers)
            )

        heads = self.kv_heads * self.group
        q, k, v = numbers(heads, self.spread), numbers(self.kv_heads, self.spread), numbers(self.kv_heads, 1.0)
        return Sequence(q, k, v, self.prompt)

    def run(self) -> Run[Planes]:
        """It on the integer reference."""
        quantization, bits = self.config.quantization, self.config.accelerator.datapath_bits
        return prepare(self.sequence(), IntegerArithmetic(quantization, bits), self.config.pruning, quantization, bits)


def _quantizations(machine: AcceleratorConfig) -> st.SearchStrategy[QuantizationConfig]:
    bits = machine.datapath_bits
    static = st.sampled_from([m for m in (4, 6, 8, 10, 12) if m <= bits]).map(QuantizationConfig)
    progressive = st.builds(
        QuantizationConfig,
        st.sampled_from([m for m in (4, 6, 8, 10, 12) if m + 4 <= bits]),
        st.just(4),
        st.sampled_from([0.05, 0.2, 0.5, 1.0]),
    )
    return static | progressive


def _schedules(layers: int) -> st.SearchStrategy[KeepSchedule]:
    shares = st.sampled_from([1.0, 1.0, 0.7, 0.4, 0.1])
    return st.tuples(*[shares] * layers).map(lambda ratios: KeepSchedule(ratios=ratios))


@st.composite
def small_runs(draw: st.DrawFn, machine: AcceleratorConfig, most_tokens: int = 40) -> SmallRun:
    """Small runs on a machine; every one can be built and ends in some thousand cycles."""
    layers = draw(st.integers(1, 3))
    native = machine.native_head_dim
    dims = [max(1, native // 2), max(1, native - 1), native]
    while dims[-1] < machine.max_head_dim:
        dims.append(2 * dims[-1])
    head_dim = draw(st.sampled_from(dims))
    tokens = draw(st.integers(1, min(most_tokens, machine.max_keys(head_dim))))
    prompt = draw(st.none() | st.integers(max(1, tokens - 5), tokens))
    pruning = PruningConfig(
        tokens=draw(_schedules(layers)),
        heads=draw(_schedules(layers)),
        value_ratio=draw(st.sampled_from([1.0, 1.0, 0.6, 0.3, 0.01])),
        protect_first=draw(st.booleans()),
        protected_ids=tuple(sorted(draw(st.sets(st.integers(0, tokens - 1), max_size=3)))),
        scope=draw(st.sampled_from(["step", "sequence"])),
        prune_prompt=draw(st.booleans()),
        rescale=draw(st.booleans()),
    )
    return SmallRun(
        config=Config(machine, pruning, draw(_quantizations(machine))),
        layers=layers,
        kv_heads=draw(st.integers(1, 3)),
        group=draw(st.sampled_from([1, 1, 2, 3])),
        tokens=tokens,
        head_dim=head_dim,
        prompt=prompt,
        memory=draw(st.sampled_from(MEMORIES)),
        seed=draw(st.integers(0, 1 << 16)),
        spread=draw(st.sampled_from([0.3, 1.0, 3.0])),
    )
