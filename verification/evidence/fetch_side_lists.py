"""Lists of a layer for the fetch side: what a layer is, what a request asks for, random ones of both."""

from dataclasses import dataclass

import numpy as np

from hls.datapaths.bitwidth_converter import LSB_BITS, Plane
from hls.datapaths.machine_sizes import QUERY_LINES, Destination, MachineSizes, Source
from models.config import AcceleratorConfig
from verification.evidence.words import pack


@dataclass(frozen=True)
class Layer:
    """What is constant in a layer.

    Attributes:
        dimension: log2 of the vectors of a token.
        elements: of a vector.
        msb_bits: M.
        progressive: keys and values come as two planes.
        survivors: rising ids.
    """

    dimension: int
    elements: int
    msb_bits: int
    progressive: bool
    survivors: tuple[int, ...]

    @property
    def parts(self) -> int:
        """Vectors of a token."""
        return 1 << self.dimension

    def bus(self, config: AcceleratorConfig) -> dict[str, int]:
        """The signals of the layer."""
        return {
            "layer_dimension": self.dimension,
            "layer_format": (self.msb_bits - 4) // 2,
            "layer_elements": self.elements,
            "layer_msb_length": self.elements * self.msb_bits,
            "layer_lsb_length": self.elements * LSB_BITS,
            "layer_query_length": self.elements * config.datapath_bits,
        }


def random_layer(config: AcceleratorConfig, rng: np.random.Generator, tokens: int) -> Layer:
    """Any dimension, width and share of survivors, of up to `tokens` tokens."""
    sizes = MachineSizes.of(config)
    dimension = int(rng.integers(0, len(sizes.parts)))
    progressive = bool(rng.random() < 0.6)
    widths = [m for m in range(4, config.datapath_bits + 1, 2) if not progressive or m + LSB_BITS <= sizes.width]
    known = min(tokens, config.context_keys >> dimension)
    kept = np.flatnonzero(rng.random(known) < rng.choice([0.3, 0.7, 1.0]))
    return Layer(
        dimension,
        sizes.native if dimension else int(rng.choice([sizes.native, max(1, sizes.native // 2)])),
        int(rng.choice(widths)),
        progressive,
        tuple(int(i) for i in kept) or (known - 1,),
    )


@dataclass(frozen=True)
class Request:
    """A list to be fetched: `ids` are those of its source, `slots` of a sparse list, otherwise as the record's."""

    stream: str
    source: Source
    destination: Destination
    plane: Plane
    ids: tuple[int, ...]
    first: int
    count: int
    base: int
    place: int
    slots: tuple[int, ...] = ()

    @property
    def buffer(self) -> int:
        """Of an operand SRAM."""
        return self.place & 1

    @property
    def is_upper(self) -> bool:
        """Keys go to the upper half of the buffer."""
        return self.destination is Destination.KEY and bool(self.place & 2)

    def word(self, sizes: MachineSizes) -> int:
        """As the port takes it."""
        fields = {
            "source": self.source,
            "first": self.first,
            "count": self.count,
            "base": self.base,
            "plane": self.plane,
            "destination": self.destination,
            "place": self.place,
        }
        return pack(sizes.list_request, fields)


def random_requests(
    config: AcceleratorConfig, layer: Layer, rng: np.random.Generator, lists: int
) -> list[list[Request]]:
    """Random requests of a layer, `lists` a stream and round; those of a round may all be outstanding together."""
    sizes = MachineSizes.of(config)
    n, tokens = layer.parts, len(layer.survivors)
    msb = Plane.MSB if layer.progressive else Plane.WHOLE
    rounds = []
    for number in range(lists):
        side = number & 1
        halves = 2 * rng.integers(0, 2, 2) if tokens * n <= sizes.slots * sizes.rows // 2 else [0, 0]
        upper, low_upper = (int(half) for half in halves)
        base = [int(b) for b in rng.integers(0, 1 << 12, 6)]
        found = [
            Request(
                "key_request",
                *(Source.SURVIVORS, Destination.KEY, msb, layer.survivors, 0, tokens * n, base[0], side + upper),
            )
        ]
        kept = np.flatnonzero(rng.random(tokens) < rng.choice([0.2, 0.6, 1.0]))
        kept = kept if len(kept) else np.array([int(rng.integers(0, tokens))])
        if rng.random() < 0.5:
            ids, source = layer.survivors, Source.SURVIVORS
        else:
            ids, source = tuple(layer.survivors[int(k)] for k in kept), Source(Source.KEPT_FIRST + side)
        value = Request("value_request", source, Destination.VALUE, msb, ids, 0, len(ids) * n, base[1], side)
        found.append(value)
        low = Plane.LSB
        if layer.progressive and rng.random() < 0.5:
            found.append(Request("value_request", source, Destination.VALUE, low, ids, 0, len(ids) * n, base[2], side))
        elif layer.progressive:
            chosen = tuple(layer.survivors[int(k)] for k in kept)
            slots = tuple(int(k) for k in kept)
            count = len(kept) * n
            found.append(
                Request(
                    "value_request", Source.SPARSE, Destination.SPARSE, low, chosen, 0, count, base[3], 1 - side, slots
                )
            )
        if layer.progressive and rng.random() < 0.5:
            found.append(
                Request(
                    "key_lsb_request",
                    *(Source.SURVIVORS, Destination.KEY, low, layer.survivors, 0, tokens * n, base[4]),
                    1 - side + low_upper,
                )
            )
        if rng.random() < 0.5:
            first, rows = int(rng.integers(0, tokens)) * n, n
        else:
            first = int(rng.integers(0, tokens * n)) // sizes.fetch_lanes * sizes.fetch_lanes
            rows = min(tokens * n - first, QUERY_LINES // 2)
        place = int(rng.integers(0, QUERY_LINES))
        found.append(
            Request(
                "query_request",
                *(Source.SURVIVORS, Destination.QUERY, Plane.WHOLE, layer.survivors, first, rows, base[5], place),
            )
        )
        rounds.append(found)
    return rounds
