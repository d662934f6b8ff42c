"""Functional coverage of the accelerator: the situations that verification must have been in, declared and counted.

A bin is a named situation with the predicate that recognizes it in a layer that was run. A run reports how often each
was reached, and which were not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.config import LSB_BITS, MSB_BITS, AcceleratorConfig, Config
from verification.expectation import LayerExpectation

PROBABILITY_LIMIT = 4095
TOKEN_LIMIT = (1 << 32) - 1


@dataclass(frozen=True)
class Situation:
    """A layer that was run, as far as coverage looks at it.

    Attributes:
        config: machine, pruning and quantization.
        stage: "encoder", "prompt" or "step".
        head_dim: D.
        heads: of the model.
        kv_heads: of the model.
        expected: what the layer computes.
        count_after: tokens that the selection after the layer lets live; None where nobody has to leave.
        heads_after: as `count_after` for heads.
        memory: kind of memory.
        stalled: whether a retired row had to wait for the value side.
    """

    config: Config
    stage: str
    head_dim: int
    heads: int
    kv_heads: int
    expected: LayerExpectation
    count_after: int | None
    heads_after: int | None
    memory: str
    stalled: bool

    @property
    def keys(self) -> int:
        """Surviving tokens."""
        return len(self.expected.tokens)

    @property
    def lanes(self) -> int:
        """Keys a cycle."""
        return self.config.accelerator.lanes(self.head_dim)

    @property
    def value_pruning(self) -> bool:
        """Some value of some row is skipped, or could be."""
        return self.config.pruning.value_ratio < 1


@dataclass(frozen=True)
class Bin:
    """A situation to reach."""

    group: str
    name: str
    reached: Callable[[Situation], bool]


def _tie_at_threshold(s: Situation) -> bool:
    """A row whose smallest kept probability is also that of a value that is not kept."""
    e = s.expected
    for h, r in np.ndindex(e.flat.shape):
        row, kept = e.prob[h, r, : e.visible[r]], e.kept[h, r, : e.visible[r]]
        if not kept.all() and (row[~kept] == row[kept].min()).any():
            return True
    return False


def _groups(s: Situation) -> int:
    return s.heads // s.kv_heads


def _padded_to(dim: int) -> Callable[[Situation], bool]:
    return lambda s: s.config.accelerator.padded_head_dim(s.head_dim) == dim


def _planes_of(msb_bits: int, lsb_bits: int) -> Callable[[Situation], bool]:
    return lambda s: (s.config.quantization.msb_bits, s.config.quantization.lsb_bits) == (msb_bits, lsb_bits)


def _in_stage(name: str) -> Callable[[Situation], bool]:
    return lambda s: s.stage == name


def _with_memory(name: str) -> Callable[[Situation], bool]:
    return lambda s: s.memory == name


def _dimension_bins(accelerator: AcceleratorConfig) -> list[Bin]:
    dims = [accelerator.native_head_dim]
    while dims[-1] < accelerator.max_head_dim:
        dims.append(2 * dims[-1])
    below = Bin("dimension", "D below native", lambda s: s.head_dim < s.config.accelerator.native_head_dim)
    return [*(Bin("dimension", f"D padded to {dim}", _padded_to(dim)) for dim in dims), below]


def _width_bins(accelerator: AcceleratorConfig) -> list[Bin]:
    return [
        Bin("width", f"{m}+{low}", _planes_of(m, low))
        for low in LSB_BITS
        for m in MSB_BITS
        if m + low <= accelerator.datapath_bits
    ]


def bins(accelerator: AcceleratorConfig) -> tuple[Bin, ...]:
    """All situations that a machine can be in."""
    stages = [Bin("stage", name, _in_stage(name)) for name in ("encoder", "prompt", "step")]
    memories = [Bin("memory", name, _with_memory(name)) for name in ("hbm2", "ideal", "adversarial")]
    return (
        *_dimension_bins(accelerator),
        *_width_bins(accelerator),
        *stages,
        *memories,
        Bin("replay", "no row is flat", lambda s: s.config.quantization.lsb_bits > 0 and not s.expected.flat.any()),
        Bin("replay", "some rows are flat", lambda s: bool(s.expected.flat.any()) and not s.expected.flat.all()),
        Bin("replay", "every row is flat", lambda s: bool(s.expected.flat.all())),
        Bin(
            "replay",
            "flat after its neighbours",
            lambda s: bool((s.expected.flat[:, 1:] & ~s.expected.flat[:, :-1]).any()),
        ),
        Bin(
            "replay",
            "V LSBs of some values only",
            lambda s: any(len(slots) < s.keys for g in s.expected.key_lists() for slots in s.expected.sparse_lists(g)),
        ),
        Bin("top-k", "ties at the threshold", lambda s: s.value_pruning and _tie_at_threshold(s)),
        Bin(
            "top-k",
            "k = n in a row",
            lambda s: s.value_pruning and bool((s.expected.kept.sum(axis=-1) == s.expected.visible).any()),
        ),
        Bin("top-k", "k = 1", lambda s: s.value_pruning and bool((s.expected.kept.sum(axis=-1) == 1).any())),
        Bin("top-k", "everything is kept", lambda s: not s.value_pruning),
        Bin("rows", "one key", lambda s: bool((s.expected.visible == 1).any())),
        Bin("rows", "padded tail", lambda s: s.keys % s.lanes != 0),
        Bin("rows", "full last beat", lambda s: s.keys % s.lanes == 0),
        Bin("rows", "one beat", lambda s: s.keys <= s.lanes),
        Bin("rows", "as many keys as the SRAM holds", lambda s: s.keys == s.config.accelerator.max_keys(s.head_dim)),
        Bin("buffers", "buffers change twice", lambda s: len(s.expected.key_lists()) >= 3),
        Bin("buffers", "one K/V head", lambda s: len(s.expected.key_lists()) == 1),
        Bin("heads", "grouped queries", lambda s: _groups(s) > 1),
        Bin(
            "heads",
            "a group with a dead head",
            lambda s: (
                _groups(s) > 1 and any((s.expected.kv_heads == g).sum() < _groups(s) for g in s.expected.key_lists())
            ),
        ),
        Bin("heads", "dead heads", lambda s: len(s.expected.heads) < s.heads),
        Bin("heads", "a head leaves", lambda s: s.heads_after is not None),
        Bin("tokens", "dead tokens", lambda s: s.keys < len(s.expected.token_importance)),
        Bin("tokens", "a token leaves", lambda s: s.count_after is not None),
        Bin("saturation", "probability", lambda s: bool((s.expected.prob == PROBABILITY_LIMIT).any())),
        Bin("saturation", "output", lambda s: _output_at_limit(s)),
        Bin("saturation", "token importance", lambda s: bool((s.expected.token_importance == TOKEN_LIMIT).any())),
        Bin("flow", "a retired row waits", lambda s: s.stalled),
    )


def _output_at_limit(s: Situation) -> bool:
    limit = (1 << (s.config.accelerator.datapath_bits - 1)) - 1
    return bool((s.expected.out >= limit).any() or (s.expected.out <= -limit - 1).any())


@dataclass
class Coverage:
    """How often each bin was reached."""

    bins: tuple[Bin, ...]
    hits: Counter[tuple[str, str]] = field(default_factory=Counter)

    def sample(self, situation: Situation) -> None:
        """Count the bins that a layer reaches."""
        for one in self.bins:
            if one.reached(situation):
                self.hits[one.group, one.name] += 1

    def unreached(self) -> list[str]:
        """Bins that no layer has reached."""
        return [f"{b.group}: {b.name}" for b in self.bins if not self.hits[b.group, b.name]]

    def rows(self) -> list[tuple[str, str, int]]:
        """Group, bin and count, as declared."""
        return [(b.group, b.name, self.hits[b.group, b.name]) for b in self.bins]
