"""What is run while the glue is recorded: short layers that differ in all."""

from __future__ import annotations

from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from verification.strategies import SmallRun

TINY = AcceleratorConfig.preset("tiny")


def _run(
    pruning: PruningConfig,
    quantization: QuantizationConfig,
    shape: tuple[int, int, int, int, int, int | None],
    memory: str,
    seed: int,
    spread: float = 1.0,
) -> SmallRun:
    """`shape`: layers, K/V heads, query heads of each, tokens, D, prompt (None: encoder)."""
    return SmallRun(Config(TINY, pruning, quantization), *shape, memory, seed, spread)


def _shares(*ratios: float) -> KeepSchedule:
    return KeepSchedule(ratios=ratios)


_PROGRESSIVE = QuantizationConfig(6, 4, 0.5)

RUNS: dict[str, SmallRun] = {
    "grouped, replays, pruned values": _run(
        PruningConfig(value_ratio=0.6, prune_prompt=True), _PROGRESSIVE, (2, 2, 2, 11, 8, 8), "hbm2", 3
    ),
    "cascade, halved, protected": _run(
        PruningConfig(
            tokens=_shares(0.9, 0.4),
            heads=_shares(1.0, 0.5),
            prune_prompt=True,
            rescale=True,
            protected_ids=(2, 5),
            value_ratio=0.3,
        ),
        QuantizationConfig(4, 4, 1.0),
        (2, 1, 3, 14, 4, 12),
        "adversarial",
        5,
    ),
    "encoder, two parts, static": _run(
        PruningConfig(tokens=_shares(1.0, 0.7)), QuantizationConfig(8), (2, 2, 1, 17, 16, None), "ideal", 7
    ),
    "encoder, flat rows, sparse": _run(
        PruningConfig(value_ratio=0.3), QuantizationConfig(8, 4, 0.5), (1, 2, 2, 22, 8, None), "hbm2", 11, 0.3
    ),
    "four parts, replays": _run(
        PruningConfig(value_ratio=0.6), QuantizationConfig(4, 4, 0.5), (1, 1, 2, 9, 32, 7), "adversarial", 13, 0.3
    ),
    "one key": _run(PruningConfig(), QuantizationConfig(12), (1, 2, 1, 3, 8, 1), "ideal", 17),
    "sequence, many heads": _run(
        PruningConfig(tokens=_shares(0.7, 0.4), heads=_shares(1.0, 0.6), scope="sequence", value_ratio=0.01),
        QuantizationConfig(4),
        (2, 3, 2, 10, 7, 6),
        "hbm2",
        19,
    ),
    "two parts, one in ten flat": _run(
        PruningConfig(heads=_shares(1.0)), QuantizationConfig(4, 4, 0.2), (1, 1, 2, 30, 16, None), "hbm2", 23
    ),
    "long rows": _run(
        PruningConfig(value_ratio=0.6), QuantizationConfig(4, 4, 0.05), (1, 1, 1, 70, 4, 68), "ideal", 29
    ),
    "longer rows": _run(PruningConfig(), QuantizationConfig(4, 4, 1.0), (1, 1, 1, 42, 32, 40), "ideal", 31),
    "more flat rows than wait": _run(
        PruningConfig(), QuantizationConfig(4, 4, 1.0), (1, 1, 1, 70, 8, None), "adversarial", 37, 0.3
    ),
    "two parts, late queries": _run(
        PruningConfig(value_ratio=0.6), QuantizationConfig(4, 4, 1.0), (1, 2, 1, 34, 16, None), "adversarial", 41, 0.3
    ),
    "four parts, late queries": _run(
        PruningConfig(), QuantizationConfig(8), (1, 2, 1, 20, 32, None), "adversarial", 43
    ),
    "twelve heads of one K": _run(PruningConfig(), QuantizationConfig(4, 4, 0.3), (1, 1, 12, 9, 8, None), "hbm2", 71),
    "twenty heads of one K": _run(PruningConfig(), QuantizationConfig(8), (1, 1, 20, 12, 8, None), "hbm2", 79),
    "sixteen heads": _run(PruningConfig(), QuantizationConfig(6, 4, 0.5), (1, 8, 2, 5, 4, 3), "adversarial", 47),
    "sixteen heads, pruned values": _run(
        PruningConfig(value_ratio=0.3), QuantizationConfig(8), (2, 4, 4, 8, 8, 6), "hbm2", 53
    ),
    "two parts, pruned values": _run(
        PruningConfig(value_ratio=0.6), QuantizationConfig(4, 4, 0.5), (1, 2, 2, 19, 16, 16), "hbm2", 59, 0.5
    ),
    "four parts, pruned values": _run(
        PruningConfig(value_ratio=0.3), QuantizationConfig(8, 4, 0.5), (1, 2, 1, 16, 32, 13), "adversarial", 61, 0.5
    ),
    **{
        f"{dim} elements": _run(
            PruningConfig(value_ratio=0.6), QuantizationConfig(4, 4, 0.4), (1, 1, 2, 6, dim, 4), "ideal", dim
        )
        for dim in (1, 2, 3, 5, 6, 7)
    },
    "pruned tokens, flat rows, sparse": _run(
        PruningConfig(tokens=_shares(0.6, 1.0), value_ratio=0.7),
        QuantizationConfig(8, 4, 0.5),
        (2, 1, 2, 22, 8, None),
        "hbm2",
        73,
        0.3,
    ),
    "long lists": _run(PruningConfig(), QuantizationConfig(6), (1, 1, 1, 140, 8, None), "hbm2", 67),
}
"""Runs by what is particular about them; the first ones meet most of what there is."""
