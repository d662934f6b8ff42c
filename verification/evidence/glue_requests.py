"""Requests while the glue is recorded: layers without rows, and descriptors and lists that are refused.

Each is one behind the other on the same machine. What is refused is wrong in one thing and else as near to what is
right as can be (`refusals`, `each_bit`), or has random fields, most of them numbers at a limit (`at_limits`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hls.datapaths.controller_checks import CHECKED
from hls.datapaths.descriptor import (
    ADDRESS_BITS,
    ADDRESS_FIELDS,
    ALIGNMENT_BITS,
    DESCRIPTOR,
    MAX_HEADS,
    LayerStatus,
)
from verification.evidence.controller_model import ALIGNMENT, HostLayer, random_layer, status_of
from verification.evidence.glue_runs import TINY

DESCRIPTOR_ADDRESS = 1 << 12
REGION = 1 << 16
"""Where the lists of a layer without rows lie, in an image of `IMAGE_BYTES`."""
IMAGE_BYTES = 1 << 20
AT_LIMITS = 200
LISTED = ("survivors_address", "head_table_address", "protected_address")
"""Addresses that are read before a request is refused for its lists."""


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
    full = {"position": 512, "keys": 1, "rows": 0, "head_dim": 8, "next_keys": 1, "protected_count": 512}
    yield replace(random_layer(TINY, rng, REGION, **full), survivors=(511,), protected=tuple(range(512)))


def small_layers(seed: int) -> Iterator[HostLayer]:
    """A layer without rows whose next layer keeps about as many tokens as are protected, and about all of its heads."""
    rng = np.random.default_rng(seed)
    layer = random_layer(TINY, rng, REGION, rows=0, head_dim=8, heads=int(rng.choice([4, 12, 64, 64])))
    fixed = len({*layer.survivors} & {*layer.protected})
    near = max(1, fixed + int(rng.integers(-2, 3)))
    alive = layer.fields["head_mask"].bit_count()
    heads = max(1, alive - int(rng.integers(-1, 3)))
    yield layer.with_fields(next_keys=near, next_heads=heads) if rng.random() < 0.8 else layer


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


def each_bit() -> Iterator[HostLayer]:
    """Every bit that must be 0, alone; every head alone as the last one, and as the first one that does not exist."""
    good = _good()
    yield from (replace(good, spoilt_bits=(bit,)) for bit in DESCRIPTOR.reserved_bits)
    for name, _ in ADDRESS_FIELDS:
        field = DESCRIPTOR.field(name)
        wrong = (*range(ALIGNMENT_BITS), *range(ADDRESS_BITS, field.bits))
        yield from (replace(good, spoilt_bits=(field.offset + bit,)) for bit in wrong)
    for head in range(MAX_HEADS):
        yield _with_lists(good.with_fields(heads=head + 1, group=1, head_mask=1 << head))
        if head:
            yield good.with_fields(heads=head, group=1, head_mask=1 << head | 1)


def _at_limit(rng: np.random.Generator, name: str, now: int) -> int:
    """A value of a field: 0, a power of two, a neighbour of one or of what it is now, or any number."""
    bits = DESCRIPTOR.field(name).bits
    near = int(rng.integers(-1, 2))
    power = 1 << int(rng.integers(0, bits))
    any_value = int.from_bytes(rng.bytes(8)) >> 64 - bits
    value = [0, now + near, power + near, power + near, now ^ power, any_value][rng.integers(6)]
    return min(max(value, 0), (1 << bits) - 1)


def _with_lists(layer: HostLayer) -> HostLayer:
    """Lists as long as the fields say, whose survivors do not rise."""
    f = layer.fields
    survivors = (f["position"],) if f["keys"] == 1 else tuple(i // 2 for i in range(min(f["keys"], 512)))
    table = (layer.table * MAX_HEADS)[: min(f["heads"], MAX_HEADS)]
    return replace(layer, survivors=survivors, protected=(0,) * min(f["protected_count"], 512), table=table)


def at_limits(seed: int = 5, count: int = AT_LIMITS) -> Iterator[HostLayer]:
    """Requests that are refused, for a field or for their survivors, with random addresses of all that is not read."""
    rng = np.random.default_rng(seed)
    sent = 0
    while sent < count:
        head_dim = int(rng.choice([1, 4, 7, 8, 8, 16, 32]))
        longest = TINY.max_keys(head_dim)
        position = int(rng.choice([longest, longest - 1, int(rng.integers(2, longest)), int(rng.integers(2, 70))]))
        keys = int(rng.choice([position, position - 1, int(rng.integers(1, position)), int(rng.integers(1, 3))]))
        base = random_layer(TINY, rng, REGION, head_dim=head_dim, position=position, keys=keys, rows=0)
        fields = {**base.fields, "rows": [0, 1 if base.fields["stage"] else keys][rng.integers(2)]}
        fields |= {name: int(rng.integers(2)) for name in ("clear_tokens", "clear_heads")}  # nothing is cleared
        for name, _ in ADDRESS_FIELDS:
            if name not in LISTED:
                fields[name] = ALIGNMENT * int(rng.integers(0, 1 << ADDRESS_BITS) // ALIGNMENT)
        for name in rng.choice(CHECKED, int(rng.choice([0, 1, 1, 1, 2, 3]))).tolist():
            fields[name] = _at_limit(rng, name, fields[name])
        layer = _with_lists(replace(base, fields=fields))
        if status_of(TINY, layer) != LayerStatus.OK:
            sent += 1
            yield layer
