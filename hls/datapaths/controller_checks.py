"""What a descriptor asks for: whether this machine can do it, and what the layer then is (architecture page).

A traced function of the fields of `hls.datapaths.descriptor`: the status is the lowest code that applies; the other
results hold for status OK. Addresses are checked as they come in; here are only the bits that say what was found.

    limit          keys of D elements that a buffer holds, at most the context; ids are below it, as id * n is an id
    dimension      d: D <= native (d = 0) or D = native * 2^d
    elements       min(D, native): of one fetched vector; a key is n = 2^d of them
    ..._length     bits of a fetched vector: elements * M, elements * 4, elements * W
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hls import technology as technologies
from hls.datapaths.bitwidth_converter import LSB_BITS, NARROWEST_BITS, BitwidthConverterTypes
from hls.datapaths.control_read import ControlReadSize
from hls.datapaths.descriptor import DESCRIPTOR, MAX_HEADS, VERSION, LayerStatus, Stage
from hls.datapaths.head_walk import GROUP_BITS
from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.selection_lists import lane_bits
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, UInt, Value, minimum, reduce_tree, select, trace, vector
from models.config import MSB_BITS, AcceleratorConfig

STATUS_BITS = 8
BURST_IDS_BITS = 4
RATIO_BITS = 17
RATIO_ALL = 1 << 16
THRESHOLD_BITS = PROBABILITY_BITS + 1
FOUND = ("reserved", "unaligned", "outside")
"""What was found as the descriptor came in: a bit that must be 0, a bad address."""
CHECKED = (
    *("version", "stage", "causal", "head_dim", "width", "msb_bits", "lsb_bits", "heads", "group", "next_heads"),
    *("keys", "rows", "position", "next_keys", "ratio16", "threshold", "protected_count", "head_mask"),
)
"""Fields that are looked at."""


def limits(config: AcceleratorConfig) -> tuple[int, ...]:
    """Keys that a buffer holds, by dimension code."""
    sizes = MachineSizes.of(config)
    return tuple(min(sizes.context, sizes.rows * sizes.slots) // n for n in sizes.parts)


def checks_graph(config: AcceleratorConfig) -> Graph:
    """From the fields of a descriptor to its status and the layer."""
    sizes, capacity = MachineSizes.of(config), limits(config)

    def checks(
        version: Value, stage: Value, causal: Value, head_dim: Value, width: Value, msb_bits: Value, lsb_bits: Value,
        heads: Value, group: Value, next_heads: Value, keys: Value, rows: Value, position: Value, next_keys: Value,
        ratio16: Value, threshold: Value, protected_count: Value, head_mask: Value, reserved: Value, unaligned: Value,
        outside: Value,
    ) -> dict[str, object]:  # fmt: skip
        fits = [head_dim <= sizes.native, *(head_dim == sizes.native << d for d in range(1, len(capacity)))]
        limit, dimension = constant_of(fits, capacity), constant_of(fits, range(len(capacity)))
        is_format = any_of([msb_bits == bits for bits in MSB_BITS])
        progressive = lsb_bits == LSB_BITS
        generation = stage == Stage.GENERATION
        alive = vector([head_mask[i] for i in range(MAX_HEADS)]).sum().named("alive")
        rows_asked = select(generation, 1, keys)
        status = lowest(
            {
                LayerStatus.VERSION: version != VERSION,
                LayerStatus.RESERVED: reserved,
                LayerStatus.STAGE: stage > max(Stage),
                LayerStatus.WIDTH: width != sizes.width,
                LayerStatus.FORMAT: ~is_format | ~(progressive | (lsb_bits == 0)),
                LayerStatus.TOO_WIDE: msb_bits + lsb_bits > sizes.width,
                LayerStatus.HEAD_DIM: (head_dim == 0) | ~any_of(fits),
                LayerStatus.HEADS: (heads == 0) | (heads > MAX_HEADS),
                LayerStatus.HEAD_MASK: (head_mask == 0)
                | any_of([head_mask[i] & (heads <= i) for i in range(MAX_HEADS)]),
                LayerStatus.GROUP: (group == 0) | (group > heads),
                LayerStatus.NO_KEYS: keys == 0,
                LayerStatus.TOO_MANY_KEYS: keys > limit,
                LayerStatus.POSITION: (position < keys) | (position > limit),
                LayerStatus.ROWS: (rows != 0) & (rows != rows_asked),
                LayerStatus.NEXT_KEYS: next_keys == 0,
                LayerStatus.NEXT_HEADS: next_heads == 0,
                LayerStatus.RATIO: (ratio16 == 0) | (ratio16 > RATIO_ALL),
                LayerStatus.THRESHOLD: threshold > 1 << PROBABILITY_BITS,
                LayerStatus.PROTECTED_COUNT: protected_count > position,
                LayerStatus.ALIGNMENT: unaligned,
                LayerStatus.ADDRESS: outside,
            }
        )
        low = lane_bits(sizes)
        last_id = (position - 1).wrap(UInt(sizes.id_bits))
        elements = minimum(head_dim, sizes.native)
        length = UInt(sizes.length_bits)
        count, burst_count = UInt(sizes.count_bits), UInt(ControlReadSize.of(config).count_bits)
        ids = (1 << BURST_IDS_BITS) - 1
        return {
            "status": status,
            "layer_generation": generation,
            "layer_causal": causal & ~generation,
            "layer_keys": keys.wrap(count),
            "layer_rows": rows.wrap(count),
            "layer_heads": alive.wrap(UInt(GROUP_BITS)),
            "layer_position": position.wrap(count),
            "layer_protected_count": protected_count.wrap(count),
            "layer_survivor_bursts": (keys + ids).shift_right(BURST_IDS_BITS, "floor").wrap(burst_count),
            "layer_protected_bursts": (protected_count + ids).shift_right(BURST_IDS_BITS, "floor").wrap(burst_count),
            "layer_table_bursts": (heads + 3).shift_right(2, "floor").wrap(burst_count),
            "layer_dimension": dimension.wrap(UInt(sizes.dimension_bits)),
            "layer_elements": elements.wrap(UInt(BitwidthConverterTypes.of(config).count.width)),
            "layer_format": (msb_bits - NARROWEST_BITS).wrap(UInt(4))[1:4],
            "layer_progressive": progressive,
            "layer_threshold": select(progressive, threshold, 0).wrap(UInt(THRESHOLD_BITS)),
            "layer_ratio16": ratio16.wrap(UInt(RATIO_BITS)),
            "layer_msb_length": (elements * msb_bits.wrap(UInt(4))).wrap(length),
            "layer_lsb_length": (elements * LSB_BITS).wrap(length),
            "layer_query_length": (elements * sizes.width).wrap(length),
            "layer_group": group.wrap(UInt(GROUP_BITS)),
            "layer_last_head": (heads - 1).wrap(UInt(HEAD_BITS)),
            "layer_last_row": last_id[low:],
            "layer_last_lane": last_id[:low],
            "layer_select_tokens": keys > next_keys,
            "layer_select_heads": alive > next_heads,
            "layer_next_keys": minimum(keys, next_keys).wrap(count),
            "layer_next_heads": minimum(alive, next_heads).wrap(UInt(GROUP_BITS)),
        }

    types = {name: UInt(DESCRIPTOR.field(name).bits) for name in CHECKED}
    return trace(checks, inputs={**types, **dict.fromkeys(FOUND, Bool)}, outputs={}, name="checks")


def any_of(bits: Sequence[Value]) -> Value:
    """Their disjunction, bit by bit."""
    return reduce_tree(lambda a, b: a | b, list(bits))


def constant_of(flags: Sequence[Value], values: Sequence[int]) -> Value:
    """`values[i]` where flag i, of which at most one is, is 1; 0 where none is."""
    bits = max(1, max(values).bit_length())
    return any_of([select(flag, value, 0).wrap(UInt(bits)) for flag, value in zip(flags, values, strict=True)])


def lowest(faults: Mapping[LayerStatus, Value]) -> Value:
    """The lowest code whose fault is 1, else OK."""

    def first(a: tuple[Value, Value], b: tuple[Value, Value]) -> tuple[Value, Value]:
        return a[0] | b[0], select(a[0], a[1], b[1])

    level = [
        (fault, select(fault, int(code), int(LayerStatus.OK)).narrow(UInt(STATUS_BITS)))
        for code, fault in sorted(faults.items())
    ]
    while len(level) > 1:
        pairs = [first(a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) & ~1 :]
    return level[0][1]


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> Schedule:
    """The pipeline of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    return schedule(checks_graph(config), technology or technologies.load(), config.clock_period_ps)
