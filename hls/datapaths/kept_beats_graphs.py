"""The dataflow of `hls.datapaths.kept_beats`: kept items of a row of a top-k result to rows of the Value SRAM.

An item's place is its slot in summarization, and in generation, where only kept values are fetched, its position among
the kept ones. Items of a row of the Value SRAM follow each other, since places rise: they are a group.

    number = place div P_D        lane = place mod P_D        group[i] = changes of `number` up to item i
"""

from __future__ import annotations

from itertools import pairwise

from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.value_wires import lanes_by_dimension, log2
from hls.datapaths.zero_eliminator import exclusive_prefix_sum
from hls.trace import Bool, Fixed, Graph, UInt, Value, Vec, Vector, select, trace, vector


def lane_type(sizes: MachineSizes) -> Fixed:
    """Number of a lane."""
    return UInt(max(1, log2(sizes.slots)))


def group_type(sizes: MachineSizes) -> Fixed:
    """Number of a group in a row of a result."""
    return UInt(max(1, log2(sizes.top_k_lanes)))


def group_graph(sizes: MachineSizes) -> Graph:
    """Place, group and validity of every item, and the number of the last group.

    `row` is the number of the row of the result, `count` its items.
    """
    lanes, place = sizes.top_k_lanes, UInt(sizes.id_bits)
    number, lane, group = UInt(sizes.row_bits), lane_type(sizes), group_type(sizes)

    def grouping(id: Vector, count: Value, row: Value, generation: Value, dimension: Value) -> dict[str, object]:
        def by_dimension(choices: list[Value]) -> Value:
            chosen = choices[-1]
            for code in reversed(range(len(choices) - 1)):
                chosen = select(dimension == code, choices[code], chosen)
            return chosen

        def position(i: int) -> Value:
            return ((row << log2(lanes)) | i).wrap(place)

        places = [select(generation, position(i), id[i]).wrap(place) for i in range(lanes)]
        shares = [log2(share) for share in lanes_by_dimension(sizes)]
        numbers = [by_dimension([p.shift_right(s, "floor").wrap(number) for s in shares]) for p in places]
        in_row = [by_dimension([(p & ((1 << s) - 1)).wrap(lane) for s in shares]) for p in places]
        changes = [(a != b) for a, b in pairwise(numbers)]
        first = changes[0] & 0 if changes else count[0] & 0
        starts = [first, *changes]
        before = exclusive_prefix_sum(starts)
        groups = [(b + s).wrap(group) for b, s in zip(before, starts, strict=True)]
        valid = [count > i for i in range(lanes)]
        last = groups[0] & 0
        for i in range(1, lanes):
            last = select(count == i + 1, groups[i], last).wrap(group)
        return {
            "number": vector([n.wrap(number) for n in numbers]),
            "lane": vector([n.wrap(lane) for n in in_row]),
            "group": vector(groups),
            "item_valid": vector(valid),
            "last_group": last.wrap(group),
        }

    return trace(
        grouping,
        inputs={
            "id": Vec(place, lanes),
            "count": UInt(lanes.bit_length()),
            "row": UInt(sizes.list_row_bits),
            "generation": Bool,
            "dimension": UInt(sizes.dimension_bits),
        },
        outputs={
            "number": Vec(number, lanes),
            "lane": Vec(lane, lanes),
            "group": Vec(group, lanes),
            "item_valid": Vec(Bool, lanes),
            "last_group": group,
        },
    )


def gather_graph(sizes: MachineSizes) -> Graph:
    """The items of one group in their lanes."""
    lanes, probability = sizes.top_k_lanes, UInt(PROBABILITY_BITS)
    number, lane, group = UInt(sizes.row_bits), lane_type(sizes), group_type(sizes)

    def gather(
        prob: Vector, number: Vector, lane: Vector, group: Vector, item_valid: Vector, chosen: Value
    ) -> dict[str, object]:
        here = [v & (g == chosen) for v, g in zip(item_valid, group, strict=True)]

        def either(choices: list[tuple[Value, Value]]) -> Value:
            masked = [select(condition, value, 0) for condition, value in choices]
            while len(masked) > 1:
                pairs = zip(masked[::2], masked[1::2], strict=False)
                masked = [a | b for a, b in pairs] + masked[len(masked) & ~1 :]
            return masked[0]

        at = [[h & (n == j) for h, n in zip(here, lane, strict=True)] for j in range(sizes.slots)]
        return {
            "beat_prob": vector([either(list(zip(row, prob, strict=True))) for row in at]),
            "beat_lanes": vector([vector(row).any() for row in at]),
            "beat_number": either(list(zip(here, number, strict=True))),
        }

    return trace(
        gather,
        inputs={
            "prob": Vec(probability, lanes),
            "number": Vec(number, lanes),
            "lane": Vec(lane, lanes),
            "group": Vec(group, lanes),
            "item_valid": Vec(Bool, lanes),
            "chosen": group,
        },
        outputs={
            "beat_prob": Vec(probability, sizes.slots),
            "beat_lanes": Vec(Bool, sizes.slots),
            "beat_number": number,
        },
    )
