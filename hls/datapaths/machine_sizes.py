"""Sizes, and records on wires, that the modules of the accelerator share (architecture page, "Configurations")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import pyrtl

from hls.datapaths.fetcher_parts import FetcherTypes
from hls.datapaths.zero_eliminator import id_bits
from hls.netlist import Wire, split
from hls.types import HlsError
from models.config import AcceleratorConfig

HEAD_BITS = 6
QUERY_LINES = 64
LINE_BITS = 6
KEY_BUFFERS = 2
"""Of the Key SRAM."""
KEY_PLACES = 2 * KEY_BUFFERS
"""Halves of them."""
PLACE_BITS = 2
"""Of the number of a half, {half, buffer}."""


class Source(IntEnum):
    """Which list of ids a request names; `kept_which` too, which never is SURVIVORS."""

    SURVIVORS = 0
    KEPT_FIRST = 1
    KEPT_SECOND = 2
    SPARSE = 3


class Destination(IntEnum):
    """Where the vectors of a list go; SPARSE: to the Value SRAM, each to the place of its own slot number."""

    KEY = 0
    VALUE = 1
    QUERY = 2
    SPARSE = 3


@dataclass(frozen=True)
class Record:
    """A record on a wire: fields with their bits, the first one lowest."""

    fields: tuple[tuple[str, int], ...]

    @property
    def bits(self) -> int:
        """Bits of the record."""
        return sum(bits for _, bits in self.fields)

    def pack(self, values: Mapping[str, Wire]) -> Wire:
        """All fields as one wire.

        Raises:
            HlsError: for a field that is missing, unknown or of another width.
        """
        given = {name: len(wire) for name, wire in values.items()}
        if given != dict(self.fields):
            raise HlsError(f"record of {dict(self.fields)} bits given {given}")
        return pyrtl.concat_list([values[name] for name, _ in self.fields])

    def unpack(self, wire: Wire) -> dict[str, Wire]:
        """The fields of a wire.

        Raises:
            HlsError: for a wire of another width.
        """
        if len(wire) != self.bits:
            raise HlsError(f"record of {self.bits} bits on a wire of {len(wire)}")
        names, widths = zip(*self.fields, strict=True)
        return dict(zip(names, split(wire, widths), strict=True))


@dataclass(frozen=True)
class MachineSizes:
    """Sizes of a machine.

    Attributes:
        width: W, bits of an operand.
        native: N, elements of a slot of the operand SRAMs and of a fetched vector at most.
        max_dim: largest head dimension.
        slots: P, keys of native dimension in a row of the Key SRAM; lanes of the softmax.
        queues: of the fetcher.
        half_turn: queues by which lists that begin at the middle queue do so later.
        fetch_lanes: ids that the fetcher takes in a cycle.
        top_k_lanes: items that the top-k engines take in a cycle; ids of a row of a list.
        context: longest sequence.
        rows: rows of one buffer of an operand SRAM, beats of the longest query row.
        id_bits: of a token id.
        base_bits: of an address in 512 bytes.
        length_bits: of the bits of a fetched vector.
    """

    width: int
    native: int
    max_dim: int
    slots: int
    queues: int
    half_turn: int
    fetch_lanes: int
    top_k_lanes: int
    context: int
    rows: int
    id_bits: int
    base_bits: int
    length_bits: int

    @classmethod
    @cache
    def of(cls, config: AcceleratorConfig) -> MachineSizes:
        """The sizes of `config`.

        Raises:
            HlsError: if a row of a list does not hold whole rows of the fetcher and of the softmax.
        """
        types, slots = FetcherTypes.of(config), config.softmax_lanes
        fetch, lanes = config.hbm_channels, config.top_k_lanes
        if lanes < max(fetch, slots):
            raise HlsError(
                f"top_k_lanes = {lanes}: lists of ids have rows of as many, which hold whole rows of the "
                f"{fetch} channels and the {slots} softmax lanes; use {max(fetch, slots)}"
            )
        sram_bytes = min(config.key_sram_bytes, config.value_sram_bytes)
        return cls(
            width=config.datapath_bits,
            native=config.native_head_dim,
            max_dim=config.max_head_dim,
            slots=slots,
            queues=config.fetch_queues,
            half_turn=types.half_turn,
            fetch_lanes=fetch,
            top_k_lanes=lanes,
            context=config.context_keys,
            rows=sram_bytes * 8 // (2 * config.qk_multipliers * config.datapath_bits),
            id_bits=id_bits(config),
            base_bits=types.base.width,
            length_bits=types.length.width,
        )

    @property
    def count_bits(self) -> int:
        """Bits of a number of keys."""
        return self.id_bits + 1

    @property
    def row_bits(self) -> int:
        """Bits of the number of a row in its buffer."""
        return max(1, (self.rows - 1).bit_length())

    @property
    def segment_bits(self) -> int:
        """Bits of the number of a segment of a buffer, its highest: a quarter of it, of at least 2 rows."""
        return min(2, self.row_bits - 1)

    @property
    def segments(self) -> int:
        """Segments of a buffer, whose landing is known one by one."""
        return 1 << self.segment_bits

    @property
    def segment_rows(self) -> int:
        """Rows of a segment."""
        return 1 << (self.row_bits - self.segment_bits)

    @property
    def half_vectors(self) -> int:
        """Vectors of half a buffer, whole segments; 0 where a buffer has only one."""
        return self.slots << (self.row_bits - 1) if self.segment_bits else 0

    def key_places(self, vectors: int) -> int:
        """Lists of so many vectors that the Key SRAM holds: in two buffers or, where half of one will do, four halves.

        They take turns in the places {half, buffer} 0, 1 or 0, 1, 2, 3.
        """
        return KEY_PLACES if vectors <= self.half_vectors else KEY_BUFFERS

    @property
    def fetch_rate_shift(self) -> int:
        """No more than the vectors of 2^this rows of a buffer go to the fetcher in a cycle."""
        return max(1, self.fetch_lanes // self.slots).bit_length() - 1

    @property
    def list_row_bits(self) -> int:
        """Bits of the number of a row of a list of ids."""
        return max(1, (self.context // self.top_k_lanes - 1).bit_length())

    @property
    def dimension_bits(self) -> int:
        """Bits of log2(D / native)."""
        return max(1, (len(self.parts) - 1).bit_length())

    @property
    def parts(self) -> tuple[int, ...]:
        """Fetched vectors of a key, by dimension code."""
        largest = self.max_dim // self.native
        return tuple(1 << d for d in range(largest.bit_length()))

    @property
    def line_bits(self) -> int:
        """Bits of a slot, of a query line."""
        return self.native * self.width

    @property
    def job(self) -> Record:
        """A surviving head of a layer, as the head walk gives it."""
        base = self.base_bits
        bases = ("query_base", "key_base", "key_lsb_base", "value_base", "value_lsb_base")
        return Record(
            (
                ("head", HEAD_BITS),
                ("kv_first", 1),
                ("kv_last", 1),
                ("last", 1),
                *((name, base) for name in bases),
                ("mantissa", 16),
                ("exponent", 7),
                ("value_mantissa", 16),
                ("value_shift", 7),
            )
        )

    @property
    def list_request(self) -> Record:
        """A list of vectors to fetch; `Source`, `Destination` and the converter's `Plane` say from and to where.

        `place` is {half, buffer} of keys, the buffer of values, or the first query line.
        """
        return Record(
            (
                ("source", 2),
                ("first", self.count_bits),
                ("count", self.count_bits),
                ("base", self.base_bits),
                ("plane", 2),
                ("destination", 2),
                ("place", LINE_BITS + 1),
            )
        )


def key_place(halves: Wire, number: Wire) -> Wire:
    """Where the K of this number goes: places are taken in turn, four halves or two buffers."""
    return pyrtl.concat(number[1] & halves, number[0])


def pending_of_place(sizes: MachineSizes, halves: Wire, pending: Wire) -> list[Wire]:
    """For each place of K which of its segments are pending, from those of the buffers; it has none behind a half."""
    behind = sizes.segments // 2
    found = []
    for place in range(KEY_PLACES):
        half, buffer = divmod(place, KEY_BUFFERS)
        own = list(pending[buffer * sizes.segments : (buffer + 1) * sizes.segments])
        if half:
            own = own[sizes.segments - behind :]
        else:
            own[sizes.segments - behind :] = [bit & ~halves for bit in own[sizes.segments - behind :]]
        none = [pyrtl.Const(0, 1)] * (sizes.segments - len(own))
        found.append(pyrtl.concat_list([*own, *none]))
    return found


def segment_bit(sizes: MachineSizes, segments: Wire, row: Wire) -> Wire:
    """The bit of a segment that a row of a buffer is in."""
    bits = sizes.segment_bits
    return pyrtl.mux(row[sizes.row_bits - bits :], *segments) if bits else segments
