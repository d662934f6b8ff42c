"""A layer as the controller must do it, from the algorithm page and the tables of the descriptor alone.

`status_of` decides about a request; `HostLayer` is a request with its lists and table as a host writes them to memory;
`Scores` are S_t and S_h as they must become; the survivors of the next layer are those of `models.reference.cascade`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from hls.datapaths.descriptor import (
    ADDRESS_FIELDS,
    DESCRIPTOR,
    HEAD_ENTRY,
    MAX_HEADS,
    VERSION,
    LayerStatus,
)
from models.config import MSB_BITS, AcceleratorConfig, ConfigError, PruningConfig
from models.reference.cascade import Cascade, PassPlan, enter_layer
from models.reference.importance import Importance

ALIGNMENT = 512
MEMORY_BYTES = 1 << 34
TOKEN_LIMIT = (1 << 32) - 1
HEAD_LIMIT = (1 << 48) - 1


@dataclass(frozen=True)
class HostLayer:
    """A request and all that it names.

    Attributes:
        fields: of the descriptor.
        survivors, protected: the lists as they are in memory.
        table: an entry of the head table for each head.
        spoilt_bits: bits of the descriptor that are inverted.
    """

    fields: Mapping[str, int]
    survivors: tuple[int, ...]
    protected: tuple[int, ...]
    table: tuple[Mapping[str, int], ...]
    spoilt_bits: tuple[int, ...] = ()

    def descriptor(self) -> bytes:
        """The descriptor's bytes."""
        word = int.from_bytes(DESCRIPTOR.pack(self.fields), "little")
        for bit in self.spoilt_bits:
            word ^= 1 << bit
        return word.to_bytes(DESCRIPTOR.size_bytes, "little")

    def contents(self) -> dict[int, bytes]:
        """What the host writes, by byte address; addresses of fields that are wrong on purpose are left out."""
        table = b"".join(HEAD_ENTRY.pack(entry) for entry in self.table)
        parts = {
            "survivors_address": np.array(self.survivors, dtype="<u2").tobytes(),
            "protected_address": np.array(self.protected, dtype="<u2").tobytes(),
            "head_table_address": table,
        }
        return {self.fields[name]: data for name, data in parts.items() if self.fields[name] < MEMORY_BYTES}

    def with_fields(self, **values: int) -> "HostLayer":
        """Some fields changed."""
        return replace(self, fields={**self.fields, **values})

    @property
    def heads(self) -> list[int]:
        """Surviving heads."""
        return [h for h in range(MAX_HEADS) if self.fields["head_mask"] >> h & 1]


def status_of(config: AcceleratorConfig, layer: HostLayer) -> LayerStatus:
    """The lowest code that applies."""
    word = int.from_bytes(layer.descriptor(), "little")
    f = DESCRIPTOR.unpack(layer.descriptor())
    try:
        longest = config.max_keys(f["head_dim"])
        larger = f["head_dim"] > config.native_head_dim
        dimension_works = not larger or f["head_dim"] == config.padded_head_dim(f["head_dim"])
    except ConfigError:
        longest, dimension_works = 0, False
    addresses = [f[name] for name, _ in ADDRESS_FIELDS]
    heads = {h for h in range(MAX_HEADS) if f["head_mask"] >> h & 1}
    allowed_rows = (0, 1) if f["stage"] == 1 else (0, f["keys"])
    entries = [layer.table[h] for h in heads if h < len(layer.table)]

    def rises(ids: Sequence[int]) -> bool:
        return all(a < b for a, b in itertools.pairwise(ids))

    def in_table(entry: Mapping[str, int]) -> bool:
        normalized = all(entry[name] >= 1 << 15 for name in ("mantissa", "value_mantissa"))
        return normalized and all(-64 <= entry[name] <= 63 for name in ("exponent", "value_shift"))

    wrong = {
        LayerStatus.VERSION: f["version"] != VERSION,
        LayerStatus.RESERVED: any(word >> bit & 1 for bit in DESCRIPTOR.reserved_bits),
        LayerStatus.STAGE: f["stage"] not in (0, 1),
        LayerStatus.WIDTH: f["width"] != config.datapath_bits,
        LayerStatus.FORMAT: f["msb_bits"] not in MSB_BITS or f["lsb_bits"] not in (0, 4),
        LayerStatus.TOO_WIDE: f["msb_bits"] + f["lsb_bits"] > config.datapath_bits,
        LayerStatus.HEAD_DIM: not dimension_works,
        LayerStatus.HEADS: not 1 <= f["heads"] <= MAX_HEADS,
        LayerStatus.HEAD_MASK: not heads or max(heads) >= f["heads"],
        LayerStatus.GROUP: not 1 <= f["group"] <= f["heads"],
        LayerStatus.NO_KEYS: f["keys"] == 0,
        LayerStatus.TOO_MANY_KEYS: f["keys"] > longest,
        LayerStatus.POSITION: not f["keys"] <= f["position"] <= longest,
        LayerStatus.ROWS: f["rows"] not in allowed_rows,
        LayerStatus.NEXT_KEYS: f["next_keys"] == 0,
        LayerStatus.NEXT_HEADS: f["next_heads"] == 0,
        LayerStatus.RATIO: not 1 <= f["ratio16"] <= 65536,
        LayerStatus.THRESHOLD: f["threshold"] > 4096,
        LayerStatus.PROTECTED_COUNT: f["protected_count"] > f["position"],
        LayerStatus.ALIGNMENT: any(a % ALIGNMENT for a in addresses),
        LayerStatus.ADDRESS: any(a >= MEMORY_BYTES for a in addresses),
        LayerStatus.HEAD_TABLE: f["rows"] > 0 and not all(in_table(entry) for entry in entries),
        LayerStatus.SURVIVOR_ORDER: not rises(layer.survivors),
        LayerStatus.SURVIVOR_RANGE: any(i >= f["position"] for i in layer.survivors),
        LayerStatus.PROTECTED_ORDER: not rises(layer.protected),
        LayerStatus.PROTECTED_RANGE: any(i >= f["position"] for i in layer.protected),
    }
    return min((code for code, is_wrong in wrong.items() if is_wrong), default=LayerStatus.OK)


def bus_of(config: AcceleratorConfig, layer: HostLayer) -> dict[str, int]:
    """What the layer bus must say."""
    f = layer.fields
    elements = min(f["head_dim"], config.native_head_dim)
    progressive = f["lsb_bits"] == 4
    return {
        "layer_generation": int(f["stage"] == 1),
        "layer_causal": int(f["stage"] == 0 and f["causal"]),
        "layer_keys": f["keys"],
        "layer_rows": f["rows"],
        "layer_dimension": (config.padded_head_dim(f["head_dim"]) // config.native_head_dim).bit_length() - 1,
        "layer_elements": elements,
        "layer_format": (f["msb_bits"] - 4) // 2,
        "layer_progressive": int(progressive),
        "layer_threshold": f["threshold"] if progressive else 0,
        "layer_ratio16": f["ratio16"],
        "layer_msb_length": elements * f["msb_bits"],
        "layer_lsb_length": elements * 4,
        "layer_query_length": elements * config.datapath_bits,
        "layer_output_base": f["output_address"] // ALIGNMENT,
    }


def jobs_of(layer: HostLayer) -> list[dict[str, int]]:
    """Jobs of the layer, in order; addresses in 512 bytes modulo 2^25, signed numbers as they are."""
    f, heads = layer.fields, layer.heads
    jobs = []
    for i, h in enumerate(heads):
        kv = h // f["group"]
        entry = layer.table[h]

        def base(name: str, number: int) -> int:
            return (f[f"{name}_address"] + number * f[f"{name}_stride"]) // ALIGNMENT % (MEMORY_BYTES // ALIGNMENT)

        jobs.append(
            {
                "head": h,
                "kv_first": int(i == 0 or heads[i - 1] // f["group"] != kv),
                "kv_last": int(i == len(heads) - 1 or heads[i + 1] // f["group"] != kv),
                "last": int(i == len(heads) - 1),
                "query_base": base("query", h),
                **{f"{plane}_base": base(plane, kv) for plane in ("key", "key_lsb", "value", "value_lsb")},
                **entry,
            }
        )
    return jobs


@dataclass
class Scores:
    """S_t by id and S_h by head, changed as rows are computed."""

    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    heads: np.ndarray = field(default_factory=lambda: np.zeros(MAX_HEADS, np.int64))

    def add_row(self, ids: Sequence[int], probabilities: Sequence[int]) -> None:
        """Token importance of a row."""
        self.tokens[list(ids)] = np.minimum(self.tokens[list(ids)] + np.array(probabilities), TOKEN_LIMIT)

    def add_output(self, head: int, elements: Sequence[int], mantissa: int, shift: int) -> None:
        """Head importance of a row."""
        product = sum(abs(e) for e in elements) * mantissa
        contribution = product >> shift if shift >= 0 else product << -shift
        self.heads[head] = min(HEAD_LIMIT, int(self.heads[head]) + min(HEAD_LIMIT, contribution))


def survivors_of(layer: HostLayer, scores: Scores) -> tuple[list[int], list[int]]:
    """Tokens and heads that survive on entering the next layer, as the reference selects them."""
    f = layer.fields
    position = f["position"]
    protected = torch.zeros(position, dtype=torch.bool)
    protected[list(layer.protected)] = True
    plan = PassPlan("step", 0, position, (0, f["next_keys"]), (0, f["next_heads"]), protected)
    importance = Importance(
        torch.from_numpy(scores.tokens[:position].copy()),
        torch.from_numpy(scores.heads.copy()),
        torch.zeros(position, dtype=torch.int64),
    )
    before = Cascade(
        importance,
        torch.zeros(2, position, dtype=torch.bool),
        torch.tensor(layer.survivors),
        torch.tensor(layer.heads),
    )
    after = enter_layer(before, plan, PruningConfig(), 1)
    return after.tokens.tolist(), after.heads.tolist()


def random_layer(config: AcceleratorConfig, rng: np.random.Generator, region: int, **fixed: int) -> HostLayer:
    """A request that is in order, everything in a region of its own of memory; `fixed` fields are as given.

    It clears all scores, as the first layer after power-up must.
    """
    head_dim = fixed.get("head_dim", int(rng.choice([2, 4, 5, 8, 16, 32])))
    longest = min(config.max_keys(head_dim), 70)
    position = fixed.get("position", int(rng.integers(1, longest + 1)))
    keys = fixed.get("keys", int(rng.integers(1, position + 1)))
    survivors = tuple(sorted(rng.choice(position, keys, replace=False).tolist()))
    protected_count = min(position, int(rng.choice([0, 0, 1, 3, 20])))
    protected = tuple(sorted(rng.choice(position, protected_count, replace=False).tolist()))
    heads = fixed.get("heads", int(rng.choice([1, 4, 12, 64])))
    alive = rng.random(heads) < rng.choice([0.2, 0.7, 1.0])
    alive[int(rng.integers(heads))] = True
    stage = int(rng.integers(2))
    rows = int(rng.choice([0, 1 if stage else keys]))
    lsb_bits = int(rng.choice([0, 4]))
    msb_bits = int(rng.choice([b for b in MSB_BITS if b + lsb_bits <= config.datapath_bits]))
    places = {name: region + (1 << 14) * i for i, (name, _) in enumerate(ADDRESS_FIELDS)}
    for name, _ in ADDRESS_FIELDS:
        if name.endswith("_stride"):
            places[name] = ALIGNMENT * int(rng.integers(0, 1 << 25))
    table = tuple(
        {
            "mantissa": int(rng.integers(1 << 15, 1 << 16)),
            "exponent": int(rng.integers(-64, 64)),
            "value_mantissa": int(rng.integers(1 << 15, 1 << 16)),
            "value_shift": int(rng.integers(-24, 32)),
        }
        for _ in range(heads)
    )
    fields = {
        "version": VERSION,
        "stage": stage,
        "causal": int(rng.integers(2)),
        "clear_tokens": 1,
        "clear_heads": 1,
        "halve": int(rng.integers(2)),
        "head_dim": head_dim,
        "width": config.datapath_bits,
        "msb_bits": msb_bits,
        "lsb_bits": lsb_bits,
        "heads": heads,
        "group": int(rng.integers(1, heads + 1)),
        "next_heads": int(rng.integers(1, 65)) if rng.random() < 0.3 else int(rng.integers(1, heads + 1)),
        "keys": keys,
        "rows": rows,
        "position": position,
        "next_keys": int(rng.integers(1, keys + 3)),
        "ratio16": int(rng.integers(1, 65537)),
        "threshold": int(rng.integers(0, 4097)),
        "protected_count": protected_count,
        "head_mask": sum(1 << h for h in range(heads) if alive[h]),
        **places,
    }
    return HostLayer({**fields, **fixed}, survivors, protected, table)
