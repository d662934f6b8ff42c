"""Rows of the zero eliminator as the reference computes them, and stimuli for the netlist (architecture page)."""

from dataclasses import dataclass

import numpy as np

from hls.simulate import Words
from models.reference.top_k import eliminate_zeros
from verification.ports import Integers, from_port, to_port


@dataclass(frozen=True)
class ItemRows:
    """Inputs of consecutive cycles, each of shape (rows, lanes); `valid` is 0 or 1."""

    value: Integers
    id: Integers
    valid: Integers

    def ports(self, value_bits: int, id_bits: int) -> dict[str, Words]:
        """The rows as the netlist's input ports take them."""
        return {
            "value": to_port(self.value, value_bits),
            "id": to_port(self.id, id_bits),
            "valid": to_port(self.valid, 1),
        }


def random_rows(lanes: int, value_bits: int, id_bits: int, count: int, seed: int) -> ItemRows:
    """`count` rows from empty to full; zeros and largest values are frequent."""
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 1 << value_bits, (count, lanes))
    extreme = rng.choice([0, (1 << value_bits) - 1], (count, lanes))
    return ItemRows(
        value=np.where(rng.random((count, lanes)) < 0.3, extreme, value),
        id=rng.integers(0, 1 << id_bits, (count, lanes)),
        valid=(rng.random((count, lanes)) < rng.random((count, 1))).astype(np.int64),
    )


def every_pattern(lanes: int, value_bits: int, id_bits: int, patterns: Integers) -> ItemRows:
    """One row for each pattern of valid bits (bit i: lane i); all values and ids within a row differ."""
    count = len(patterns)
    lane = np.arange(lanes)
    return ItemRows(
        value=np.broadcast_to((1 << value_bits) - 1 - lane, (count, lanes)),
        id=np.broadcast_to((lane + 1) % (1 << id_bits), (count, lanes)),
        valid=(patterns[:, None] >> lane) & 1,
    )


def expected(rows: ItemRows) -> dict[str, Integers]:
    """What the reference says, each port of shape (rows, lanes)."""
    packed = []
    for value, ident, valid in zip(rows.value.tolist(), rows.id.tolist(), rows.valid.tolist(), strict=True):
        items = list(zip(value, ident, strict=True))
        rounds = eliminate_zeros(items, [bool(v) for v in valid])
        last = rounds[-1] if rounds else [(item if v else 0, bool(v)) for item, v in zip(items, valid, strict=True)]
        packed.append([(*(item if isinstance(item, tuple) else (0, 0)), int(kept)) for item, kept in last])
    columns = np.array(packed, dtype=np.int64).reshape(*rows.value.shape, 3)
    return dict(zip(("packed_value", "packed_id", "packed_valid"), np.moveaxis(columns, 2, 0), strict=True))


def observed(outputs: dict[str, Words], lanes: int, value_bits: int, id_bits: int) -> dict[str, Integers]:
    """The netlist's outputs in the form of `expected`."""
    widths = {"packed_value": value_bits, "packed_id": id_bits, "packed_valid": 1}
    return {name: from_port(outputs[name], lanes, bits, signed=False) for name, bits in widths.items()}
