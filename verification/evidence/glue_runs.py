"""What is run while the glue is recorded: short layers that differ in all, selections alone, refused requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hls.datapaths.descriptor import ADDRESS_FIELDS, DESCRIPTOR
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from verification.evidence.controller_model import HostLayer, random_layer
from verification.strategies import SmallRun

TINY = AcceleratorConfig.preset("tiny")
DESCRIPTOR_ADDRESS = 1 << 12
REGION = 1 << 16
"""Where the lists of a layer without rows lie, in an image of `IMAGE_BYTES`."""
IMAGE_BYTES = 1 << 20


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


def selections() -> Iterator[HostLayer]:
    """Layers without rows: only clearing, selection and answer, of up to 512 tokens and 64 heads."""
    rng = np.random.default_rng(37)
    for position, keys, heads, stage in (
        (70, 60, 64, 0),
        (512, 512, 64, 0),
        (33, 20, 12, 1),
        (5, 5, 1, 0),
        (300, 9, 40, 0),
    ):
        for next_keys in {1, keys // 2 + 1, keys}:
            fixed = {"position": position, "keys": keys, "heads": heads, "stage": stage, "next_keys": next_keys}
            yield random_layer(TINY, rng, REGION, rows=0, head_dim=8, **fixed)


def _good() -> HostLayer:
    fixed = {"stage": 0, "position": 20, "keys": 9, "rows": 9, "heads": 12, "head_dim": 8, "protected_count": 3}
    layer = random_layer(TINY, np.random.default_rng(3), REGION, lsb_bits=4, msb_bits=8, **fixed)
    return replace(layer, survivors=(0, 1, 3, 4, 7, 8, 11, 15, 18), protected=(0, 4, 6))


_EDGES = ((32768, -64), (65535, 63), (49152, 31), (40960, -33), (32769, 0), (65534, -1))
"""Mantissas and exponents of a head table that are just allowed, or have a bit of their own."""


def refusals() -> Iterator[HostLayer]:
    """Requests that are wrong in one thing, as near to what is right as can be."""
    good = _good()
    f, h = good.fields, good.heads[-1]

    def with_entry(at: int = h, **values: int) -> HostLayer:
        table = (*good.table[:at], {**good.table[at], **values}, *good.table[at + 1 :])
        return replace(good, table=table)

    yield from (good.with_fields(version=v) for v in (0, 2, 3, 5, 1 << 15))
    yield from (replace(good, spoilt_bits=(bit,)) for bit in DESCRIPTOR.reserved_bits[::37])
    yield from (good.with_fields(stage=v) for v in (2, 3, 4, 128))
    yield from (good.with_fields(width=v) for v in (0, 8, 13, 14, 28, 44, 76, 140))
    yield from (good.with_fields(msb_bits=v) for v in (0, 2, 3, 5, 7, 9, 14, 16, 20, 40, 72, 136))
    yield from (good.with_fields(lsb_bits=v) for v in (1, 2, 5, 6, 8, 12, 20, 132))
    yield from (good.with_fields(msb_bits=m, lsb_bits=4) for m in (10, 12))
    yield from (good.with_fields(head_dim=v) for v in (0, 9, 12, 15, 17, 24, 31, 33, 64, 128, 1 << 15))
    yield from (good.with_fields(heads=v) for v in (0, 65, 66, 96, 128, 192))
    yield good.with_fields(head_mask=0)
    yield from (good.with_fields(head_mask=f["head_mask"] | 1 << v) for v in (12, 13, 40, 63))
    yield from (good.with_fields(group=v) for v in (0, 13, 14, 64, 128))
    yield good.with_fields(keys=0, rows=0)
    for dim, most in ((8, 512), (16, 256), (32, 128)):
        for keys in (most + 1, most + 8, 2 * most, 4096):
            yield good.with_fields(head_dim=dim, keys=keys, rows=keys, position=most)
            yield good.with_fields(head_dim=dim, position=keys)
    yield from (good.with_fields(position=v) for v in (0, 8, 4096, 32768))
    yield from (good.with_fields(rows=v) for v in (1, 8, 10, 11, 13, 25, 32768))
    yield from (good.with_fields(stage=1, rows=v) for v in (2, 3, 5, 9, 257, 32768))
    yield good.with_fields(next_keys=0)
    yield good.with_fields(next_heads=0)
    yield from (good.with_fields(ratio16=v) for v in (0, 65537, 65538, 1 << 17, 1 << 31))
    yield from (good.with_fields(threshold=v) for v in (4097, 4098, 8192, 32768))
    yield from (good.with_fields(protected_count=v) for v in (21, 22, 52, 4096, 32768))
    for i, (name, _) in enumerate(ADDRESS_FIELDS):
        yield good.with_fields(**{name: f[name] | 1 << i % 9})
        yield good.with_fields(**{name: f[name] | 1 << 34 + i % 30})
    ids, protected = good.survivors, good.protected
    for at in {head % 4: head for head in good.heads}.values():
        for name in ("mantissa", "value_mantissa"):
            yield from (with_entry(at, **{name: v}) for v in (0, 32767, 16384))
        for name in ("exponent", "value_shift"):
            yield from (with_entry(at, **{name: v}) for v in (-128, -65, 64, 127))
    edges = ({"mantissa": m, "value_mantissa": 98303 - m, "exponent": x, "value_shift": -1 - x} for m, x in _EDGES)
    for entry in edges:  # all good: it is the protected ids that are wrong
        yield replace(good, table=tuple({**old, **entry} for old in good.table), protected=protected[::-1])
    for i in range(len(ids) - 1):
        yield replace(good, survivors=(*ids[:i], ids[i + 1], *ids[i + 1 :]))
        yield replace(good, survivors=(*ids[:i], ids[i + 1], ids[i], *ids[i + 2 :]))
    yield from (replace(good, survivors=(*ids[:-1], v)) for v in (20, 21, 52, 512, 1024, 65535))
    yield replace(good, protected=(protected[1], protected[0], *protected[2:]))
    yield replace(good, protected=(protected[0], protected[2], protected[2]))
    yield from (replace(good, protected=(*protected[:-1], v)) for v in (20, 21, 52, 512, 1024, 65535))
