"""Q x K: one query row against a row of the Key SRAM a cycle, as exact integer dot products.

With M multipliers and head dimension D (`native_head_dim` doubled `dimension` times), a row of keys holds M/D keys of
D elements, and lane j of the result is

    score[j] = sum_{d < D} query[d] * key[j * D + d]                   j < M/D; the lanes above are 0 and invalid

The query is broadcast M/D times in front of the multipliers; one adder tree over all M products serves every D, since
its levels with M/D nodes are tapped. All D have the same latency, so D may change from one row to the next. A head
dimension below D is padded with zeros by whoever loads Q and K. (architecture page, datapath 7; algorithm page,
section 1, step 1.)

Ports: `query`, `key`, `dimension` (log2(D / native_head_dim)), `lane_valid` (which lanes hold a key), `last` (end of
the query row) in; `score`, `score_valid`, `score_last` out; a stallable pipeline under ready/valid, a row a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from hls import technology as technologies
from hls.lower import Netlist, lower
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, SInt, UInt, Value, Vec, Vector, select, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class QueryKeyTypes:
    """Sizes and port types of a machine's Q x K.

    Attributes:
        head_dims: the D that `dimension` = 0, 1, ... chooses, in elements.
        lanes: scores a cycle at the smallest D.
        query: one row, as many elements as the largest D.
        key: one row of the Key SRAM.
        dimension: index into `head_dims`.
        score: holds the largest sum exactly.
    """

    head_dims: tuple[int, ...]
    lanes: int
    query: Vec
    key: Vec
    dimension: Fixed
    score: Fixed

    @classmethod
    def of(cls, config: AcceleratorConfig) -> QueryKeyTypes:
        """The types of `config`."""
        dims = head_dims(config)
        element = SInt(config.datapath_bits)
        return cls(
            head_dims=dims,
            lanes=config.qk_multipliers // dims[0],
            query=Vec(element, dims[-1]),
            key=Vec(element, config.qk_multipliers),
            dimension=dimension_type(config),
            score=SInt(2 * config.datapath_bits + dims[-1].bit_length() - 1),
        )


def head_dims(config: AcceleratorConfig) -> tuple[int, ...]:
    """The head dimensions on chip: `native_head_dim` and its doubles up to `max_head_dim`."""
    steps = (config.max_head_dim // config.native_head_dim).bit_length()
    return tuple(config.native_head_dim << step for step in range(steps))


def dimension_type(config: AcceleratorConfig) -> Fixed:
    """Port type of the index into `head_dims`; an index beyond them must not be sent."""
    count = len(head_dims(config))
    return UInt(max(1, (count - 1).bit_length())).within(0, count - 1)


def multiplier_graph(config: AcceleratorConfig) -> Graph:
    """The one multiplier that the array repeats: W x W bits signed, exact."""
    element = SInt(config.datapath_bits)
    return trace(lambda a, b: {"product": a * b}, {"a": element, "b": element}, name="multiplier")


def reduce_products(
    types: QueryKeyTypes, products: list[Value], dimension: Value, lane_valid: Vector
) -> dict[str, object]:
    """The tapped adder tree: scores and valid bits of all lanes; names the nodes `sum_N_j` (N nodes in that level)."""
    dims, level, taps = types.head_dims, products, dict[int, list[Value]]()
    is_dim = {d: (dimension == i) for i, d in enumerate(dims)}
    while True:
        if len(products) // len(level) in dims:
            taps[len(products) // len(level)] = level
        if len(level) == len(products) // dims[-1]:
            break
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [(a + b).named(f"sum_{len(level) // 2}_{j}") for j, (a, b) in enumerate(pairs)]

    def lane(j: int) -> tuple[Value, Value]:
        """The tap of the chosen D; lane j exists for D up to M / (j + 1)."""
        reachable = [d for d in dims if j < len(taps[d])]
        used = reduce(lambda a, b: a | b, [is_dim[d] for d in reachable])
        score: Value = select(is_dim[reachable[0]], taps[reachable[0]][j], 0)
        for d in reachable[1:]:
            score = select(is_dim[d], taps[d][j], score)
        return score, lane_valid[j] & used

    lanes = [lane(j) for j in range(types.lanes)]
    return {
        "score": vector([score.narrow(types.score) for score, _ in lanes]),
        "score_valid": vector([valid for _, valid in lanes]),
    }


def reduction_graph(config: AcceleratorConfig) -> Graph:
    """The adder tree and its taps alone, from products to scores."""
    types = QueryKeyTypes.of(config)

    def reduction(product: Vector, dimension: Value, lane_valid: Vector) -> dict[str, object]:
        return reduce_products(types, list(product), dimension, lane_valid)

    return trace(
        reduction,
        inputs={
            "product": Vec(SInt(2 * config.datapath_bits), types.key.length),
            "dimension": types.dimension,
            "lane_valid": Vec(Bool, types.lanes),
        },
        outputs={"score": Vec(types.score, types.lanes), "score_valid": Vec(Bool, types.lanes)},
    )


def query_key_graph(config: AcceleratorConfig) -> Graph:
    """The dataflow of one row; nodes `operand_i`, `product_i` and those of `reduce_products`."""
    types = QueryKeyTypes.of(config)

    def query_key(query: Vector, key: Vector, dimension: Value, lane_valid: Vector, last: Value) -> dict[str, object]:
        def operand(i: int) -> Value:
            chosen: Value = vector([query[i % d] for d in types.head_dims])[dimension]
            return chosen.named(f"operand_{i}")

        products = [(operand(i) * key[i]).named(f"product_{i}") for i in range(len(key))]
        return {**reduce_products(types, products, dimension, lane_valid), "score_last": last}

    return trace(
        query_key,
        inputs={
            "query": types.query,
            "key": types.key,
            "dimension": types.dimension,
            "lane_valid": Vec(Bool, types.lanes),
            "last": Bool,
        },
        outputs={"score": Vec(types.score, types.lanes), "score_valid": Vec(Bool, types.lanes), "score_last": Bool},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {
        "query_key": query_key_graph(config),
        "multiplier": multiplier_graph(config),
        "reduction": reduction_graph(config),
    }


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> Schedule:
    """The pipeline of `config` at its clock."""
    return schedule(query_key_graph(config), technology or technologies.load(), config.clock_period_ps)


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    return lower(plan(config, technology), "query_key")
