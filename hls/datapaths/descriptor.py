"""The request of one layer and its answer, bit by bit (architecture page, "Request of one layer").

A host writes a descriptor into memory and starts the accelerator with its address. The tables below are all there is
to know about both: the controller reads its fields where `DESCRIPTOR` says, `pack` writes them there, and the manual is
printed from them.

    descriptor      192 bytes, little-endian, at an address that is a multiple of 512; unused bits are 0
    head table      `HEAD_ENTRY`, 8 bytes for each head from head 0 on; read if there are rows, for surviving heads
    survivors       `keys` token ids, uint16, rising: the keys of this layer, all of them below `position`
    protected       `protected_count` token ids, uint16, rising, below `position`

    token scores    S_t, uint32 for each id from 0 to position - 1, after this layer (and after `halve`)
    head scores     S_h, uint64 for each head from 0 to heads - 1, after this layer
    next survivors  token ids, uint16, rising: the survivors of the next layer; the answer says how many
    answer          `ANSWER`, 32 bytes
    outputs         int16 [surviving head][row][head_dim], heads and rows in rising order

All addresses and strides are in bytes and multiples of 512. What is written ends with a whole burst of 32 bytes, the
rest of it filled with zeros. A head's operands begin at base + head * stride (Q) or base + (head div group) * stride
(K and V, and their planes of LSBs, which are read if lsb_bits is 4); vector `id` there at bit id * head_dim * bits.

A sequence only grows: when `position` falls, `clear_tokens` belongs to it. After power-up the first descriptor clears
both scores.

A descriptor that is refused, with a status other than OK, changes neither memory nor scores: the status comes with
`done` alone. If several things are wrong, the lowest code is given.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from hls.types import HlsError

VERSION = 1
ADDRESS_BITS = 34
ALIGNMENT_BITS = 9
MAX_HEADS = 64
ID_BITS = 16


class Stage(IntEnum):
    """What a layer computes: rows of all survivors, or the row of the last one."""

    SUMMARIZATION = 0
    GENERATION = 1


class LayerStatus(IntEnum):
    """How a layer ended: what `done_status` says, and the first field of the answer."""

    OK = 0
    VERSION = 1
    RESERVED = 2
    STAGE = 3
    WIDTH = 4
    FORMAT = 5
    TOO_WIDE = 6
    HEAD_DIM = 7
    HEADS = 8
    HEAD_MASK = 9
    GROUP = 10
    NO_KEYS = 11
    TOO_MANY_KEYS = 12
    POSITION = 13
    ROWS = 14
    NEXT_KEYS = 15
    NEXT_HEADS = 16
    RATIO = 17
    THRESHOLD = 18
    PROTECTED_COUNT = 19
    ALIGNMENT = 20
    ADDRESS = 21
    HEAD_TABLE = 22
    SURVIVOR_ORDER = 23
    SURVIVOR_RANGE = 24
    PROTECTED_ORDER = 25
    PROTECTED_RANGE = 26
    MEMORY_SILENT = 27


STATUS_MESSAGES: Mapping[LayerStatus, str] = {
    LayerStatus.OK: "the layer was computed, and everything written has been acknowledged by the memory",
    LayerStatus.VERSION: f"no descriptor there: `version` is not {VERSION}",
    LayerStatus.RESERVED: "a bit that must be 0 is 1",
    LayerStatus.STAGE: "`stage` is neither 0 nor 1",
    LayerStatus.WIDTH: "`width` is not that of this machine's datapath",
    LayerStatus.FORMAT: "`msb_bits` is not 4, 6, 8, 10 or 12, or `lsb_bits` neither 0 nor 4",
    LayerStatus.TOO_WIDE: "msb_bits + lsb_bits is more than the datapath has",
    LayerStatus.HEAD_DIM: "`head_dim` is 0, larger than the machine's largest, or above the native one but not a power "
    "of two times it",
    LayerStatus.HEADS: f"`heads` is 0 or more than {MAX_HEADS}",
    LayerStatus.HEAD_MASK: "no head survives, or one that does not exist",
    LayerStatus.GROUP: "`group` is 0 or more than `heads`",
    LayerStatus.NO_KEYS: "`keys` is 0",
    LayerStatus.TOO_MANY_KEYS: "the Key SRAM does not hold `keys` keys of `head_dim` elements",
    LayerStatus.POSITION: "`position` is less than `keys`, or more than the machine's context at this `head_dim`",
    LayerStatus.ROWS: "`rows` is neither 0 nor `keys` (summarization) nor 1 (generation)",
    LayerStatus.NEXT_KEYS: "`next_keys` is 0",
    LayerStatus.NEXT_HEADS: "`next_heads` is 0",
    LayerStatus.RATIO: "`ratio16` is 0 or more than 65536",
    LayerStatus.THRESHOLD: "`threshold` is more than 4096",
    LayerStatus.PROTECTED_COUNT: "`protected_count` is more than `position`",
    LayerStatus.ALIGNMENT: "an address or stride is not a multiple of 512",
    LayerStatus.ADDRESS: f"an address or stride is 2^{ADDRESS_BITS} or more",
    LayerStatus.HEAD_TABLE: "a surviving head's mantissa is below 2^15, or its exponent or shift outside -64 .. 63",
    LayerStatus.SURVIVOR_ORDER: "the survivors do not rise: an id is there twice, or they are not sorted",
    LayerStatus.SURVIVOR_RANGE: "a survivor's id is not below `position`",
    LayerStatus.PROTECTED_ORDER: "the protected ids do not rise: an id is there twice, or they are not sorted",
    LayerStatus.PROTECTED_RANGE: "a protected id is not below `position`",
    LayerStatus.MEMORY_SILENT: "the memory stopped answering while something was under way: reset the machine",
}


@dataclass(frozen=True)
class Field:
    """A field of a record in memory.

    Attributes:
        name: what `pack` and `unpack` call it.
        offset: of its lowest bit.
        bits: how many it has.
        meaning: for readers.
        signed: two's complement.
    """

    name: str
    offset: int
    bits: int
    meaning: str
    signed: bool = False

    @property
    def low(self) -> int:
        """Smallest value."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << (self.bits - self.signed)) - 1


@dataclass(frozen=True)
class Layout:
    """A record in memory: its fields by rising offset; bits that belong to none are 0."""

    name: str
    size_bytes: int
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field:
        """The field called `name`.

        Raises:
            HlsError: for another name; the message has the closest one.
        """
        for field in self.fields:
            if field.name == name:
                return field
        names = [field.name for field in self.fields]
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise HlsError(f"{self.name} has no field {name!r}; {hint}there are {', '.join(names)}")

    @property
    def reserved_bits(self) -> tuple[int, ...]:
        """Numbers of the bits that must be 0."""
        used = {bit for field in self.fields for bit in range(field.offset, field.offset + field.bits)}
        return tuple(bit for bit in range(8 * self.size_bytes) if bit not in used)

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The record of `values`; fields that are not given are 0.

        Raises:
            HlsError: for an unknown field, or a value that its bits cannot hold.
        """
        word = 0
        for name, value in values.items():
            field = self.field(name)
            if not field.low <= value <= field.high:
                nearest = min(max(value, field.low), field.high)
                raise HlsError(
                    f"{self.name}: {name} = {value} does not fit its {field.bits} bits "
                    f"({field.low} .. {field.high}); the nearest value is {nearest}"
                )
            word |= (value & ((1 << field.bits) - 1)) << field.offset
        return word.to_bytes(self.size_bytes, "little")

    def unpack(self, data: bytes) -> dict[str, int]:
        """The fields of a record.

        Raises:
            HlsError: for another number of bytes.
        """
        if len(data) != self.size_bytes:
            raise HlsError(f"{self.name}: {len(data)} bytes given, it has {self.size_bytes}")
        word = int.from_bytes(data, "little")
        found = {}
        for field in self.fields:
            raw = (word >> field.offset) & ((1 << field.bits) - 1)
            found[field.name] = raw - (1 << field.bits) if raw > field.high else raw
        return found

    def table(self) -> str:
        """The layout as a Markdown table: byte, bit in it, bits, name, meaning."""
        lines = ["| byte | bits | field | meaning |", "| --- | --- | --- | --- |"]
        for field in self.fields:
            byte, bit = divmod(field.offset, 8)
            where = f"{byte}" if field.bits % 8 == 0 else f"{byte}, bit {bit}"
            lines.append(f"| {where} | {field.bits}{' signed' * field.signed} | {field.name} | {field.meaning} |")
        return "\n".join(lines)


ADDRESS_FIELDS = (
    ("query_address", "Q of head 0"),
    ("query_stride", "from the Q of a head to that of the next"),
    ("key_address", "K of K/V head 0: all bits (lsb_bits = 0), or the plane of MSBs"),
    ("key_stride", "from a K/V head to the next"),
    ("key_lsb_address", "K of K/V head 0, the plane of LSBs"),
    ("key_lsb_stride", "from a K/V head to the next"),
    ("value_address", "V of K/V head 0: all bits, or the plane of MSBs"),
    ("value_stride", "from a K/V head to the next"),
    ("value_lsb_address", "V of K/V head 0, the plane of LSBs"),
    ("value_lsb_stride", "from a K/V head to the next"),
    ("output_address", "outputs, written"),
    ("survivors_address", "list of survivors"),
    ("head_table_address", "head table"),
    ("protected_address", "list of protected ids"),
    ("token_scores_address", "S_t, written"),
    ("head_scores_address", "S_h, written"),
    ("next_survivors_address", "list of the next layer's survivors, written"),
    ("answer_address", "answer, written"),
)
"""Names and meanings of the addresses and strides, in the order in which they are in the descriptor."""

FIRST_ADDRESS_BIT = 320

DESCRIPTOR = Layout(
    "descriptor",
    192,
    (
        Field("version", 0, 16, f"of this layout, {VERSION}"),
        Field("stage", 16, 8, "0 summarization: a row for each key; 1 generation: the row of the last key"),
        Field("causal", 24, 1, "a row sees the keys up to its own, not all (summarization)"),
        Field("clear_tokens", 25, 1, "all S_t become 0 before the layer"),
        Field("clear_heads", 26, 1, "all S_h become 0 before the layer"),
        Field("halve", 27, 1, "all S_t are halved, rounding down, after the layer and before the selection"),
        Field("head_dim", 32, 16, "D, elements of a head's vector"),
        Field("width", 48, 8, "W, bits of the datapath and of an element of Q"),
        Field("msb_bits", 56, 8, "M, bits of an element of K and V in the plane of MSBs, or all of them"),
        Field("lsb_bits", 64, 8, "L, 4 for progressive quantization, 0 for static"),
        Field("heads", 72, 8, f"query heads of the layer, 1 .. {MAX_HEADS}"),
        Field("group", 80, 8, "query heads that share a K/V head"),
        Field("next_heads", 88, 8, "k_h, heads that survive on entering the next layer, if so many are left"),
        Field("keys", 96, 16, "survivors of this layer"),
        Field("rows", 112, 16, "query rows: `keys` or 1, see `stage`; 0: no attention, only clearing and selection"),
        Field("position", 128, 16, "N, length of the sequence: ids are below it"),
        Field("next_keys", 144, 16, "k_t, tokens that survive on entering the next layer, if so many are left"),
        Field("ratio16", 160, 32, "share of a row's values that local value pruning keeps, 65536: all"),
        Field("threshold", 192, 16, "a row is flat below this probability, in units of 1/4096 (lsb_bits = 4)"),
        Field("protected_count", 208, 16, "ids in the list of protected ids"),
        Field("head_mask", 256, 64, "bit h: head h survives"),
        *(Field(name, FIRST_ADDRESS_BIT + 64 * i, 64, meaning) for i, (name, meaning) in enumerate(ADDRESS_FIELDS)),
    ),
)

HEAD_ENTRY = Layout(
    "head table entry",
    8,
    (
        Field("mantissa", 0, 16, "m of the softmax scale, 2^15 .. 2^16 - 1"),
        Field("exponent", 16, 8, "x of the softmax scale, -64 .. 63", signed=True),
        Field("value_shift", 24, 8, "sh_v of the head importance, -64 .. 63", signed=True),
        Field("value_mantissa", 32, 16, "m_v of the head importance, 2^15 .. 2^16 - 1"),
    ),
)

ANSWER = Layout(
    "answer",
    32,
    (
        Field("status", 0, 32, "OK, as `done` says it"),
        Field("cycles", 32, 32, "clock cycles from the start to this answer"),
        Field("survivors", 64, 32, "tokens that survive on entering the next layer"),
        Field("heads", 96, 32, "heads that survive on entering the next layer"),
        Field("head_mask", 128, 64, "bit h: head h survives on entering the next layer"),
    ),
)


def pack(**values: int) -> bytes:
    """The descriptor of `values`, by the names in `DESCRIPTOR`; what is not given is 0, `version` is the present one.

    Raises:
        HlsError: for an unknown field, or a value that its bits cannot hold.
    """
    return DESCRIPTOR.pack({"version": VERSION, **values})
