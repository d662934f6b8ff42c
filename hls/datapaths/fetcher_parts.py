"""The fetcher's port types and traced parts: where vectors are in DRAM, and which neighbours share a burst.

Vector `id` of a list begins at bit `id * stride` behind `base` and has `length` bits (algorithm page, section 11):

    from_bit = id * stride                        first = (base >> 5) + (from_bit >> 8)
    to_bit = from_bit + length - 1                ending = (base >> 5) + (to_bit >> 8)
    shares[i] = ending[i] == first[i + 1]         i + 1 the next vector of the same list
"""

from __future__ import annotations

from dataclasses import dataclass

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.zero_eliminator import id_bits
from hls.trace import Bool, Graph, HlsError, UInt, Value, Vec, Vector, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig

BASE_ALIGNMENT_BITS = 9
NARROWEST_BITS = 4


@dataclass(frozen=True)
class FetcherTypes:
    """Sizes and port types of a machine's fetcher.

    Attributes:
        ids: the ids of a cycle, as many as there are channels.
        count: how many of them are there.
        base: byte address of vector 0, divided by 512.
        stride: bits from a vector to that of the next id.
        length: bits of a vector, 1 at least; at most a row of operands.
        address: number of a burst in DRAM.
        span: bursts of a vector but one.
        offset: bit of a burst.
        word: what a data queue gives in a cycle.
        words: words of a burst.
        half_turn: queues by which lists that begin at the middle queue do so later; 0 where a row of ids is for all.
    """

    ids: Vec
    count: Fixed
    base: Fixed
    stride: Fixed
    length: Fixed
    address: Fixed
    span: Fixed
    offset: Fixed
    word: Fixed
    words: int
    half_turn: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> FetcherTypes:
        """The types of `config`.

        Raises:
            HlsError: for words that are no power of two of bytes, or not less than a burst.
        """
        word_bits, lanes = 8 * config.data_queue_bytes, config.hbm_channels
        if word_bits & (word_bits - 1) or word_bits >= BURST_BITS:
            raise HlsError(f"data queues of {config.data_queue_bytes} bytes a word: 1, 2, 4, 8 or 16 work; use 16")
        row_bits = max(config.native_head_dim, word_bits // NARROWEST_BITS) * config.datapath_bits
        stride = config.max_head_dim * config.datapath_bits
        return cls(
            ids=Vec(UInt(id_bits(config)), lanes),
            count=UInt(lanes.bit_length()).within(0, lanes),
            base=UInt(BURST_ADDRESS_BITS + 5 - BASE_ALIGNMENT_BITS),
            stride=UInt(max(stride, row_bits).bit_length()),
            length=UInt(row_bits.bit_length()).within(1, row_bits),
            address=UInt(BURST_ADDRESS_BITS),
            span=UInt(max(1, ((row_bits + BURST_BITS - 2) // BURST_BITS).bit_length())),
            offset=UInt(BURST_BITS.bit_length() - 1),
            word=UInt(word_bits),
            words=BURST_BITS // word_bits,
            half_turn=config.fetch_queues // 2 if config.fetch_queues > lanes else 0,
        )

    @property
    def word_bits(self) -> int:
        """Bits of the number of a word in its burst."""
        return self.words.bit_length() - 1

    @property
    def vector_bits(self) -> int:
        """Bits of a vector's descriptor (`hls.datapaths.fetch_lane.Vectors`)."""
        in_word = self.offset.width - self.word_bits
        return self.address.width + self.span.width + 2 * self.word_bits + 2 + in_word


def locate_graph(config: AcceleratorConfig) -> Graph:
    """The bursts of every vector of a row of ids, and the bits of them where it begins and ends."""
    types = FetcherTypes.of(config)

    def locate(
        ids: Vector, count: Value, last: Value, turned: Value, base: Value, stride: Value, length: Value
    ) -> dict[str, object]:
        below = BASE_ALIGNMENT_BITS - 5
        bits, burst = types.offset.width, types.address
        found: dict[str, list[Value]] = {name: [] for name in ("first", "ending", "from_bit", "to_bit")}
        for ident in ids:
            from_bit = ident * stride
            to_bit = from_bit + length - 1
            found["first"].append(((base << below) + from_bit.shift_right(bits, "floor")).wrap(burst))
            found["ending"].append(((base << below) + to_bit.shift_right(bits, "floor")).wrap(burst))
            found["from_bit"].append(from_bit[:bits])
            found["to_bit"].append(to_bit.wrap(types.offset))
        vectors = {name: vector(values) for name, values in found.items()}
        return {**vectors, "row_count": count, "row_last": last, "row_turned": turned}

    lanes = types.ids.length
    return trace(
        locate,
        inputs={
            "ids": types.ids,
            "count": types.count,
            "last": Bool,
            "turned": Bool,
            "base": types.base,
            "stride": types.stride,
            "length": types.length,
        },
        outputs={
            "first": Vec(types.address, lanes),
            "ending": Vec(types.address, lanes),
            "from_bit": Vec(types.offset, lanes),
            "to_bit": Vec(types.offset, lanes),
            "row_count": types.count,
            "row_last": Bool,
            "row_turned": Bool,
        },
    )


def neighbours_graph(config: AcceleratorConfig) -> Graph:
    """Which vectors of a row are there, their spans, and which share their ending burst with the next vector.

    `following` is the first burst of the next row, which is there unless this row is the last one of its list.
    """
    types = FetcherTypes.of(config)
    lanes = types.ids.length

    def neighbours(first: Vector, ending: Vector, following: Value, count: Value, last: Value) -> dict[str, object]:
        there = [count > i for i in range(lanes)]
        after = [*first[1:], following]
        next_there = [*there[1:], ~last]
        return {
            "there": vector(there),
            "shares": vector([t & n & (f == a) for t, n, f, a in zip(there, next_there, ending, after, strict=True)]),
            "span": vector([(b - a).wrap(types.span) for a, b in zip(first, ending, strict=True)]),
        }

    bursts = Vec(types.address, lanes)
    return trace(
        neighbours,
        inputs={"first": bursts, "ending": bursts, "following": types.address, "count": types.count, "last": Bool},
        outputs={"there": Vec(Bool, lanes), "shares": Vec(Bool, lanes), "span": Vec(types.span, lanes)},
    )
