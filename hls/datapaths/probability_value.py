"""prob x V: the outputs of a query row, a row of the Value SRAM a cycle.

With M multipliers and head dimension D (`native_head_dim` doubled `dimension` times), a cycle takes M/D probabilities
and as many values of D elements; over the cycles of a row and its valid lanes j,

    out[d] = saturate_W(rshift(sum_j prob[j] * value[j * D + d], 12))          d < D; the outputs above are 0

Each probability is broadcast to its D multipliers; lanes i and i + M/2 are added, then i and i + M/4, and so on down to
the smallest D, and every D taps the level of its width. Accumulators carry a row over its cycles, exactly; a row is
rounded and put out once, after its last cycle. (architecture page, datapath 11; algorithm page, section 1, step 6.)

Three parts: `weigh` (pipeline), `accumulate` (one cycle, between the accumulators' outputs and inputs), `round_row`
(pipeline). All move together, where the output is free, so rows follow each other without a gap, rows of one cycle too:

    cycle      0    1    2    3    4    5
    partial    a0   a1.  b0.  c0   c1.       (. = last of its row)
    sums            a0   a1   b0   c0   c1
    row_done             1    1         1

Ports: `prob`, `value`, `lane_valid`, `dimension` (the same through a row), `last` in; `out` out, under ready/valid. A
row has at most `context_keys` valid probabilities, then no sum can overflow; a row without any is zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.query_key import dimension_type, head_dims
from hls.lower import Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, SInt, UInt, Value, Vec, Vector, select, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class ProbabilityValueTypes:
    """Sizes and port types of a machine's prob x V.

    Attributes:
        head_dims: the D that `dimension` = 0, 1, ... chooses, in elements.
        prob: the probabilities of a cycle at the smallest D, ufix(12, 12) as integers.
        value: one row of the Value SRAM.
        dimension: index into `head_dims`.
        partial: what one cycle can add to an output.
        sum: what a row can add up to.
        out: the outputs of a row, as many as the largest D.
    """

    head_dims: tuple[int, ...]
    prob: Vec
    value: Vec
    dimension: Fixed
    partial: Vec
    sum: Fixed
    out: Vec

    @classmethod
    def of(cls, config: AcceleratorConfig) -> ProbabilityValueTypes:
        """The types of `config`."""
        dims, width = head_dims(config), config.datapath_bits
        lanes = config.pv_multipliers // dims[0]
        return cls(
            head_dims=dims,
            prob=Vec(UInt(PROBABILITY_BITS), lanes),
            value=Vec(SInt(width), config.pv_multipliers),
            dimension=dimension_type(config),
            partial=Vec(SInt(PROBABILITY_BITS + width + lanes.bit_length() - 1), dims[-1]),
            sum=SInt(PROBABILITY_BITS + width + (config.context_keys - 1).bit_length()),
            out=Vec(SInt(width), dims[-1]),
        )


def multiplier_graph(config: AcceleratorConfig) -> Graph:
    """The one multiplier that the array repeats: W bits signed x 12 bits unsigned, exact."""
    return trace(
        lambda a, b: {"product": a * b},
        {"a": SInt(config.datapath_bits), "b": UInt(PROBABILITY_BITS)},
        name="multiplier",
    )


def reduce_products(types: ProbabilityValueTypes, products: list[Value], dimension: Value) -> Vector:
    """The folded, tapped adder tree: what a cycle adds to every output; names the nodes `sum_N_i` (N in that level)."""
    dims, level, taps = types.head_dims, products, {len(products): products}
    is_dim = {d: (dimension == i) for i, d in enumerate(dims)}
    while len(level) > dims[0]:
        half = len(level) // 2
        level = [(level[i] + level[i + half]).named(f"sum_{half}_{i}") for i in range(half)]
        taps[half] = level

    def partial(i: int) -> Value:
        """The tap of the chosen D; output i exists for D above i."""
        reachable = [d for d in dims if i < d]
        chosen: Value = select(is_dim[reachable[0]], taps[reachable[0]][i], 0)
        for d in reachable[1:]:
            chosen = select(is_dim[d], taps[d][i], chosen)
        return chosen

    return vector([partial(i) for i in range(dims[-1])])


def reduction_graph(config: AcceleratorConfig) -> Graph:
    """The adder tree and its taps alone, from products to what is accumulated."""
    types = ProbabilityValueTypes.of(config)
    product = SInt(PROBABILITY_BITS + config.datapath_bits)

    def reduction(product: Vector, dimension: Value) -> dict[str, object]:
        return {"partial": reduce_products(types, list(product), dimension)}

    return trace(
        reduction,
        inputs={"product": Vec(product, types.value.length), "dimension": types.dimension},
        outputs={"partial": types.partial},
    )


def weigh_graph(config: AcceleratorConfig) -> Graph:
    """What one cycle adds to every output; nodes `weight_j`, `operand_i`, `product_i`, and of `reduce_products`."""
    types = ProbabilityValueTypes.of(config)

    def weigh(prob: Vector, value: Vector, lane_valid: Vector, dimension: Value, last: Value) -> dict[str, object]:
        lanes = enumerate(zip(prob, lane_valid, strict=True))
        weight = [select(valid, p, 0).named(f"weight_{j}") for j, (p, valid) in lanes]

        def operand(i: int) -> Value:
            chosen: Value = vector([weight[i // d] for d in types.head_dims])[dimension]
            return chosen.named(f"operand_{i}")

        products = [(operand(i) * value[i]).named(f"product_{i}") for i in range(len(value))]
        return {"partial": reduce_products(types, products, dimension), "row_end": last}

    return trace(
        weigh,
        inputs={
            "prob": types.prob,
            "value": types.value,
            "lane_valid": Vec(Bool, types.prob.length),
            "dimension": types.dimension,
            "last": Bool,
        },
        outputs={"partial": types.partial, "row_end": Bool},
    )


def accumulate_graph(config: AcceleratorConfig) -> Graph:
    """The next value of every accumulator: it starts anew with the first cycle of a row."""
    types = ProbabilityValueTypes.of(config)

    def accumulate(sums: Vector, partial: Vector, first: Value) -> dict[str, object]:
        added = [select(first, 0, s) + p for s, p in zip(sums, partial, strict=True)]
        # context_keys products cannot leave the type, and wrapping keeps it exact while they pass by
        return {"next_sums": vector([total.wrap(types.sum) for total in added])}

    sums = Vec(types.sum, types.out.length)
    return trace(
        accumulate, inputs={"sums": sums, "partial": types.partial, "first": Bool}, outputs={"next_sums": sums}
    )


def round_row_graph(config: AcceleratorConfig) -> Graph:
    """The outputs of a row from its sums: rounded half up to integers, saturated to W bits."""
    types = ProbabilityValueTypes.of(config)

    def round_row(sums: Vector) -> dict[str, object]:
        element = SInt(config.datapath_bits)
        return {"out": sums.map(lambda s: s.shift_right(PROBABILITY_BITS, "half_up").saturate(element))}

    return trace(round_row, inputs={"sums": Vec(types.sum, types.out.length)}, outputs={"out": types.out})


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {
        "weigh": weigh_graph(config),
        "accumulate": accumulate_graph(config),
        "round_row": round_row_graph(config),
        "multiplier": multiplier_graph(config),
        "reduction": reduction_graph(config),
    }


@dataclass(frozen=True)
class ProbabilityValuePlan:
    """The schedules of the three parts."""

    weigh: Schedule
    accumulate: Schedule
    round_row: Schedule

    @property
    def latency_cycles(self) -> int:
        """From the last cycle of a row to its outputs."""
        return self.weigh.latency_cycles + 1 + self.round_row.latency_cycles


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> ProbabilityValuePlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the accumulators, which must add in one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    accumulate = schedule(accumulate_graph(config), library, period, output_register=False)
    if accumulate.latency_cycles:
        shortest = sum(accumulate.stage_delays_ps) + accumulate.overhead_ps
        raise HlsError(
            f"prob x V: the accumulators need one addition a cycle, which takes about {shortest} ps, not {period}"
        )
    return ProbabilityValuePlan(
        weigh=schedule(weigh_graph(config), library, period),
        accumulate=accumulate,
        round_row=schedule(round_row_graph(config), library, period),
    )


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        HlsError: if the clock is too fast for the technology.
    """
    types, parts = ProbabilityValueTypes.of(config), plan(config, technology)
    block = pyrtl.Block()
    with building(block):
        weigh_ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.weigh.graph.inputs}
        in_valid, out_ready = (pyrtl.Input(1, name) for name in ("in_valid", "out_ready"))
        advance = pyrtl.WireVector(1, "advance")
        weighed = instantiate(parts.weigh, weigh_ports, block, advance, in_valid, "weigh_")
        row_end = weighed.outputs["row_end"]

        first = pyrtl.Register(1, "first", reset_value=1)
        sums = [pyrtl.Register(types.sum.width, f"sum_{i}", reset_value=0) for i in range(types.out.length)]
        row_done = pyrtl.Register(1, "row_done", reset_value=0)
        accumulate_ports = {"sums": sums, "partial": weighed.outputs["partial"], "first": first}
        next_sums = instantiate(parts.accumulate, accumulate_ports, block, prefix="accumulate_").outputs["next_sums"]
        taken = advance & weighed.out_valid
        for i, accumulator in enumerate(sums):
            chosen = next_sums[i * types.sum.width : (i + 1) * types.sum.width]
            accumulator.next <<= pyrtl.select(taken, chosen, accumulator)
        first.next <<= pyrtl.select(taken, row_end, first)
        row_done.next <<= pyrtl.select(advance, weighed.out_valid & row_end, row_done)

        rounded = instantiate(parts.round_row, {"sums": sums}, block, advance, row_done, "round_")
        advance <<= out_ready | ~rounded.out_valid
        output_ports({**rounded.outputs, "in_ready": advance, "out_valid": rounded.out_valid})
    block.sanity_check()
    return Netlist("probability_value", block, parts.latency_cycles)
