"""Byte address -> channel, pseudo-channel, bank group, bank, row, column.

algorithm.md section 11: 32-byte bursts, channel = address bits [8:5], pseudo-channel = bit 9 (16 channels). The rest is
ours: bank group = bits [11:10], column = [16:12], bank = [18:17], row above. Successive bursts of a pseudo-channel
so rotate over the bank groups and a stream is limited by tCCD_S, not tCCD_L; it opens 4 rows, reads all of
them, and finds the next 4 in other banks, where they open while it still reads.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from models.memory.timing import Hbm2Timing

FIELDS = ("channel", "pseudo_channel", "bank_group", "bank", "row", "column")
IntArray = npt.NDArray[np.int64]


class Location(NamedTuple):
    """Coordinates of bursts, arrays of one shape; `bank` counts within its bank group."""

    channel: IntArray
    pseudo_channel: IntArray
    bank_group: IntArray
    bank: IntArray
    row: IntArray
    column: IntArray


@dataclass(frozen=True)
class AddressMap:
    """Address bits above the burst offset, from the lowest up, as (field, number of bits); a field may recur.

    `hash_bank` exclusive-ors bank group and bank with the low row bits, which spreads power-of-two strides.
    """

    segments: tuple[tuple[str, int], ...]
    burst_bytes: int = 32
    hash_bank: bool = False

    def __post_init__(self) -> None:
        if self.burst_bytes < 1 or self.burst_bytes & (self.burst_bytes - 1):
            raise ValueError(f"burst_bytes = {self.burst_bytes} is not a power of two; 32 works")
        for name, bits in self.segments:
            if name not in FIELDS:
                raise ValueError(f"address map names {name!r}; the fields are {', '.join(FIELDS)}")
            if bits < 0:
                raise ValueError(f"address map gives {name} {bits} bits; 0 is the least that works")

    @classmethod
    def default(cls, channels: int, timing: Hbm2Timing) -> Self:
        """Map of the module's docstring for `channels` channels (a power of two)."""
        if channels < 1 or channels & (channels - 1):
            nearest = 1 << max(0, channels.bit_length() - 1)
            raise ValueError(f"channels = {channels} is not a power of two; {nearest} works")
        return cls(
            segments=(
                ("channel", channels.bit_length() - 1),
                ("pseudo_channel", timing.pseudo_channels.bit_length() - 1),
                ("bank_group", timing.bank_groups.bit_length() - 1),
                ("column", timing.columns.bit_length() - 1),
                ("bank", timing.banks_per_group.bit_length() - 1),
                ("row", timing.rows.bit_length() - 1),
            ),
            burst_bytes=timing.burst_bytes,
        )

    def bits_of(self, field: str) -> int:
        """Number of address bits that select `field`."""
        return sum(bits for name, bits in self.segments if name == field)

    @property
    def capacity_bytes(self) -> int:
        """Bytes that can be addressed."""
        return self.burst_bytes << sum(bits for _, bits in self.segments)

    def _inside(self, addresses: npt.ArrayLike) -> IntArray:
        address = np.asarray(addresses, dtype=np.int64)
        outside = (address < 0) | (address >= self.capacity_bytes)
        if outside.any():
            first = int(address[outside].flat[0])
            raise ValueError(f"address {first:#x} is outside the memory; the last byte is {self.capacity_bytes - 1:#x}")
        return address

    def field(self, addresses: npt.ArrayLike, name: str) -> IntArray:
        """One coordinate of byte addresses, as `decode` gives it."""
        if self.hash_bank and name in {"bank_group", "bank"}:
            found: IntArray = getattr(self.decode(addresses), name)
            return found
        address = self._inside(addresses)
        value = np.zeros_like(address)
        position, shift = self.burst_bytes.bit_length() - 1, 0
        for segment, bits in self.segments:
            if segment == name:
                value |= ((address >> position) & ((1 << bits) - 1)) << shift
                shift += bits
            position += bits
        return value

    def decode(self, addresses: npt.ArrayLike) -> Location:
        """Coordinates of byte addresses (integers of any shape); any byte of a burst names the burst.

        Raises ValueError naming the first address outside the memory.
        """
        address = self._inside(addresses)
        rest = address >> (self.burst_bytes.bit_length() - 1)
        values = {name: np.zeros_like(address) for name in FIELDS}
        shift = dict.fromkeys(FIELDS, 0)
        for name, bits in self.segments:
            values[name] |= (rest & ((1 << bits) - 1)) << shift[name]
            shift[name] += bits
            rest = rest >> bits
        if self.hash_bank:
            group_bits, bank_bits = shift["bank_group"], shift["bank"]
            values["bank_group"] ^= values["row"] & ((1 << group_bits) - 1)
            values["bank"] ^= (values["row"] >> group_bits) & ((1 << bank_bits) - 1)
        return Location(**values)

    def layout(self) -> IntArray:
        """The map as numbers for compiled code, [1 + segments, 4].

        Row 0: capacity in bytes, masks of the row bits that enter bank group and bank, bits of the bank group (by
        which the row is shifted for the bank). Then, sorted, (field as in `FIELDS`, address shift, mask, field shift).
        """
        group_bits, bank_bits = self.bits_of("bank_group"), self.bits_of("bank")
        masks = ((1 << group_bits) - 1, (1 << bank_bits) - 1) if self.hash_bank else (0, 0)
        rows = [(self.capacity_bytes, *masks, group_bits)]
        position, shift = self.burst_bytes.bit_length() - 1, dict.fromkeys(FIELDS, 0)
        for name, bits in self.segments:
            rows.append((FIELDS.index(name), position, (1 << bits) - 1, shift[name]))
            position += bits
            shift[name] += bits
        return np.array([rows[0], *sorted(rows[1:])], dtype=np.int64)

    def encode(self, location: Location) -> IntArray:
        """First byte address of each burst: the inverse of `decode`."""
        values = {name: np.asarray(getattr(location, name), dtype=np.int64) for name in FIELDS}
        if self.hash_bank:
            group_bits, bank_bits = self.bits_of("bank_group"), self.bits_of("bank")
            values["bank_group"] = values["bank_group"] ^ (values["row"] & ((1 << group_bits) - 1))
            values["bank"] = values["bank"] ^ ((values["row"] >> group_bits) & ((1 << bank_bits) - 1))
        address = np.zeros(np.broadcast_shapes(*(v.shape for v in values.values())), dtype=np.int64)
        position = self.burst_bytes.bit_length() - 1
        shift = dict.fromkeys(FIELDS, 0)
        for name, bits in self.segments:
            address |= ((values[name] >> shift[name]) & ((1 << bits) - 1)) << position
            shift[name] += bits
            position += bits
        return address
