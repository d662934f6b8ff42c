"""The dataflow of the top-k engine: every function between registers of `hls.datapaths.top_k`, and its sizes.

rows of candidates = ceil(count / lanes), all full but the last         (candidates are packed)
pivot row  = (lfsr[15:8] * rows) >> 8                                   (algorithm page, section 6)
pivot lane = (lfsr[7:0] * lanes valid in that row) >> 8
larger >= target                   continue among the larger
larger + equal >= target           T = pivot, num_eq = target - larger
else                               continue among the smaller with target - larger - equal
kept: value > T, or value == T and fewer than num_eq equal values came before
"""

from __future__ import annotations

from dataclasses import dataclass

from hls import technology as technologies
from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.datapaths.zero_eliminator import exclusive_prefix_sum, id_bits, zero_eliminator_graph
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, UInt, Value, Vec, Vector, concat, select, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig

LFSR_BITS = 16
LFSR_POLYNOMIAL = 0xB400
LFSR_SEED = 0xACE1


@dataclass(frozen=True)
class TopKTypes:
    """Sizes and types of an engine.

    Attributes:
        lanes: items of a row, a power of two from 1 to 32.
        rows: rows of each FIFO; a request has at most rows * lanes valid items.
        value, id: an item.
        count: numbers of items, 0 to `capacity`, and k.
        lane_count: numbers of items of one row.
        address: rows of a memory.
    """

    lanes: int
    rows: int
    value: Fixed
    id: Fixed
    count: Fixed
    lane_count: Fixed
    address: Fixed

    @classmethod
    def of(cls, config: AcceleratorConfig, value_bits: int = IMPORTANCE_BITS) -> TopKTypes:
        """The types of `config`, for values of `value_bits` bits.

        Raises:
            HlsError: for values of fewer than 2 bits.
        """
        if value_bits < 2:
            raise HlsError(f"top-k of values of {value_bits} bits: 2 or more work; use 2")
        lanes, rows = config.top_k_lanes, config.top_k_fifo_rows
        return cls(
            lanes=lanes,
            rows=rows,
            value=UInt(value_bits),
            id=UInt(id_bits(config)),
            count=UInt((rows * lanes).bit_length()),
            lane_count=UInt(lanes.bit_length()),
            address=UInt(max(1, (rows - 1).bit_length())),
        )

    @property
    def row_count(self) -> Fixed:
        """Numbers of rows."""
        return UInt(self.address.width + 1)

    @property
    def ahead(self) -> Fixed:
        """Numbers of items of one row before another."""
        return UInt(max(1, self.lane_bits))

    @property
    def lane_bits(self) -> int:
        """log2(lanes)."""
        return self.lanes.bit_length() - 1

    @property
    def capacity(self) -> int:
        """Most valid items of a request."""
        return self.rows * self.lanes

    @property
    def item_bits(self) -> int:
        """Bits of an item: the id above the value."""
        return self.value.width + self.id.width


def partition_graph(types: TopKTypes) -> Graph:
    """A row against the pivot: two comparator arrays; what is neither is equal."""

    def partition(value: Vector, valid: Vector, pivot: Value) -> dict[str, object]:
        smaller = vector([v & (x < pivot) for x, v in zip(value, valid, strict=True)])
        larger = vector([v & (x > pivot) for x, v in zip(value, valid, strict=True)])
        equal = vector([v & ~s & ~g for v, s, g in zip(valid, smaller, larger, strict=True)])
        return {"smaller": smaller, "larger": larger, "equal": equal}

    mask = Vec(Bool, types.lanes)
    return trace(
        partition,
        inputs={"value": Vec(types.value, types.lanes), "valid": mask, "pivot": types.value},
        outputs={"smaller": mask, "larger": mask, "equal": mask},
    )


def tally_graph(types: TopKTypes) -> Graph:
    """How many lanes of a mask are set."""

    def tally(mask: Vector) -> dict[str, Value]:
        return {"set_lanes": mask.sum()}

    return trace(tally, inputs={"mask": Vec(Bool, types.lanes)}, outputs={"set_lanes": types.lane_count})


def decide_graph(types: TopKTypes) -> Graph:
    """Where a pass leads: to the threshold, or to one of both sides with what is still to be found there."""

    def decide(smaller: Value, larger: Value, equal: Value, target: Value) -> dict[str, object]:
        up = larger >= target
        reached = larger + equal
        rows_up, rest_up = _shape(types, larger)
        rows_down, rest_down = _shape(types, smaller)
        return {
            "up": up,
            "found": ~up & (reached >= target),
            "num_equal": (target - larger).wrap(types.count),
            "next_count": select(up, larger, smaller),
            "next_target": select(up, target, (target - reached).wrap(types.count)),
            "next_row_count": select(up, rows_up, rows_down),
            "next_rest_lanes": select(up, rest_up, rest_down),
        }

    return trace(
        decide,
        inputs=dict.fromkeys(("smaller", "larger", "equal", "target"), types.count),
        outputs={
            "up": Bool,
            "found": Bool,
            "num_equal": types.count,
            "next_count": types.count,
            "next_target": types.count,
            "next_row_count": types.row_count,
            "next_rest_lanes": Vec(Bool, types.lanes),
        },
    )


def _shape(types: TopKTypes, count: Value) -> tuple[Value, Vector]:
    """Rows that hold `count` items, and the lanes that the last one uses (all where it is full)."""
    rest = count[: types.lane_bits] if types.lanes > 1 else count & 0
    whole = count.shift_right(types.lane_bits, "floor")
    row_count = (whole + (rest != 0)).wrap(types.row_count)
    return row_count, vector([(rest == 0) | (rest > i) for i in range(types.lanes)])


def shape_graph(types: TopKTypes) -> Graph:
    """Rows of a number of items, and the lanes that the last one uses."""

    def shape(count: Value) -> dict[str, object]:
        row_count, rest_lanes = _shape(types, count)
        return {"row_count": row_count, "rest_lanes": rest_lanes}

    return trace(
        shape,
        inputs={"count": types.count},
        outputs={"row_count": types.row_count, "rest_lanes": Vec(Bool, types.lanes)},
    )


def pivot_row_graph(types: TopKTypes) -> Graph:
    """The row of the pivot, below `row_count`."""

    def pivot_row(lfsr: Value, row_count: Value) -> dict[str, Value]:
        high = lfsr[LFSR_BITS // 2 :]
        return {"row": (high * row_count).shift_right(LFSR_BITS // 2, "floor").wrap(types.address)}

    return trace(
        pivot_row,
        inputs={"lfsr": UInt(LFSR_BITS), "row_count": types.row_count},
        outputs={"row": types.address},
    )


def pivot_lane_graph(types: TopKTypes) -> Graph:
    """The lane of the pivot in its row, which is the last one or full."""

    def pivot_lane(lfsr: Value, rest: Value, is_last: Value) -> dict[str, Value]:
        valid = select(is_last & (rest != 0), rest, types.lanes)
        return {
            "lane": (lfsr[: LFSR_BITS // 2] * valid).shift_right(LFSR_BITS // 2, "floor").wrap(UInt(types.lane_bits))
        }

    return trace(
        pivot_lane,
        inputs={"lfsr": UInt(LFSR_BITS), "rest": UInt(types.lane_bits), "is_last": Bool},
        outputs={"lane": UInt(types.lane_bits)},
    )


def pick_graph(types: TopKTypes) -> Graph:
    """One value of a row."""

    def pick(value: Vector, lane: Value) -> dict[str, Value]:
        return {"pivot": value[lane]}

    return trace(
        pick,
        inputs={"value": Vec(types.value, types.lanes), "lane": UInt(types.lane_bits)},
        outputs={"pivot": types.value},
    )


def step_graph() -> Graph:
    """The next state of the Galois LFSR."""

    def step(lfsr: Value) -> dict[str, Value]:
        halved = concat(lfsr[1:], lfsr[0] & 0)
        return {"stepped": select(lfsr[0], halved ^ LFSR_POLYNOMIAL, halved)}

    return trace(step, inputs={"lfsr": UInt(LFSR_BITS)}, outputs={"stepped": UInt(LFSR_BITS)})


def compare_graph(types: TopKTypes) -> Graph:
    """A row against the threshold: what is above, what is equal, and how many equal ones are before each lane."""

    def compare(value: Vector, valid: Vector, threshold: Value) -> dict[str, object]:
        above = vector([v & (x > threshold) for x, v in zip(value, valid, strict=True)])
        equal = [v & (x == threshold) for x, v in zip(value, valid, strict=True)]
        before = exclusive_prefix_sum(equal)
        return {
            "above": above,
            "equal": vector(equal),
            "ahead": vector([b.narrow(types.ahead) for b in before]),
            "row_equal": before[-1] + equal[-1],
        }

    mask = Vec(Bool, types.lanes)
    return trace(
        compare,
        inputs={"value": Vec(types.value, types.lanes), "valid": mask, "threshold": types.value},
        outputs={
            "above": mask,
            "equal": mask,
            "ahead": Vec(types.ahead, types.lanes),
            "row_equal": types.lane_count,
        },
    )


def admit_graph(types: TopKTypes) -> Graph:
    """The lanes that pass, and how many equal values may still pass in later rows."""

    def admit(above: Vector, equal: Vector, ahead: Vector, row_equal: Value, remaining: Value) -> dict[str, object]:
        plenty = remaining.shift_right(types.lane_bits, "floor") != 0
        few = remaining[: types.lane_bits] if types.lanes > 1 else 0
        kept = [a | (e & (plenty | (n < few))) for a, e, n in zip(above, equal, ahead, strict=True)]
        left = select(remaining > row_equal, remaining - row_equal, 0)
        return {"kept": vector(kept), "next_remaining": left.wrap(types.count)}

    mask = Vec(Bool, types.lanes)
    return trace(
        admit,
        inputs={
            "above": mask,
            "equal": mask,
            "ahead": Vec(types.ahead, types.lanes),
            "row_equal": types.lane_count,
            "remaining": types.count,
        },
        outputs={"kept": mask, "next_remaining": types.count},
    )


def graphs(config: AcceleratorConfig, value_bits: int = IMPORTANCE_BITS) -> dict[str, Graph]:
    """The traced parts by name."""
    types = TopKTypes.of(config, value_bits)
    lane_graphs = {"pivot_lane": pivot_lane_graph(types), "pick": pick_graph(types)} if types.lanes > 1 else {}
    return {
        "partition": partition_graph(types),
        "tally": tally_graph(types),
        "decide": decide_graph(types),
        "shape": shape_graph(types),
        "pivot_row": pivot_row_graph(types),
        **lane_graphs,
        "step": step_graph(),
        "compare": compare_graph(types),
        "admit": admit_graph(types),
        # a candidate is a value alone: its lowest bit travels as the id
        "candidate_eliminator": zero_eliminator_graph(types.lanes, types.value.width - 1, 1),
        "item_eliminator": zero_eliminator_graph(types.lanes, types.value.width, types.id.width),
    }


@dataclass(frozen=True)
class TopKPlan:
    """Schedules: parts of one cycle by name, and the pipelines behind them.

    Attributes:
        types: sizes.
        one_cycle: parts between registers, combinational.
        fill_pack, fill_tally: zero eliminator and count of the input rows.
        candidate_pack, candidate_tally: behind `partition` in the same cycle.
        kept_pack, kept_tally: behind `admit` in the same cycle.
    """

    types: TopKTypes
    one_cycle: dict[str, Schedule]
    fill_pack: Schedule
    fill_tally: Schedule
    candidate_pack: Schedule
    candidate_tally: Schedule
    kept_pack: Schedule
    kept_tally: Schedule

    @property
    def fill_latency_cycles(self) -> int:
        """From a row of items to the row packer before the rings."""
        return max(self.fill_pack.latency_cycles, self.fill_tally.latency_cycles)

    @property
    def kept_latency_cycles(self) -> int:
        """From an admitted row to the row packer of the results."""
        return max(self.kept_pack.latency_cycles, self.kept_tally.latency_cycles)

    @property
    def filter_latency_cycles(self) -> int:
        """From the cycle that hands a request over to the first row of its result: load, read, compare, pack."""
        return 3 + self.kept_latency_cycles

    @property
    def pass_overhead_cycles(self) -> int:
        """Cycles of a pass beyond one for each row of candidates."""
        return self.partition_latency_cycles + 4

    @property
    def partition_latency_cycles(self) -> int:
        """From a row of candidates to its packed survivors and their counts."""
        return max(self.candidate_pack.latency_cycles, self.candidate_tally.latency_cycles)


_ONE_CYCLE = ("partition", "decide", "shape", "pivot_row", "pivot_lane", "pick", "step", "compare", "admit")


def plan(
    config: AcceleratorConfig, technology: Technology | None = None, value_bits: int = IMPORTANCE_BITS
) -> TopKPlan:
    """The schedules of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for a part that takes one cycle.
    """
    library, period, parts = technology or technologies.load(), config.clock_period_ps, graphs(config, value_bits)

    def in_one_cycle(graph: Graph) -> Schedule:
        made = schedule(graph, library, period, output_register=False)
        if made.latency_cycles:
            shortest = sum(made.stage_delays_ps) + made.overhead_ps
            raise HlsError(f"top-k: {graph.name} needs one cycle of about {shortest} ps, not {period}")
        return made

    one_cycle = {name: in_one_cycle(parts[name]) for name in _ONE_CYCLE if name in parts}

    def behind(graph: str, part: str) -> Schedule:
        return schedule(parts[graph], library, period, input_delay_ps=sum(one_cycle[part].stage_delays_ps))

    return TopKPlan(
        types=TopKTypes.of(config, value_bits),
        one_cycle=one_cycle,
        fill_pack=schedule(parts["item_eliminator"], library, period),
        fill_tally=schedule(parts["tally"], library, period),
        candidate_pack=behind("candidate_eliminator", "partition"),
        candidate_tally=behind("tally", "partition"),
        kept_pack=behind("item_eliminator", "admit"),
        kept_tally=behind("tally", "admit"),
    )
