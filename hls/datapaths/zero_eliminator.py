"""Zero eliminator: packs the valid items of a row to the front, in order (architecture page, "Zero eliminator").

    gaps[i] = number of invalid lanes before lane i                            (exclusive prefix sum)
    for b = 0 .. log2(lanes) - 1: an item whose gaps have bit b set moves 2^b lanes down

`a 0 b 0 c d 0 e -> a b c d e 0 0 0`. Two valid items never meet: their gaps differ by the invalid lanes between
them, and after rounds 0 .. b each has moved by its gaps modulo 2^(b+1). Invalid lanes come out as zeros. Validity is
a bit: an item of value 0 is an item.

Ports: `value`, `id`, `valid` in; `packed_value`, `packed_id`, `packed_valid` out; a stallable pipeline under
ready/valid, a row a cycle, as deep as the clock asks.
"""

from __future__ import annotations

from hls import technology as technologies
from hls.datapaths.number_formats import IMPORTANCE_BITS, PROBABILITY_BITS
from hls.lower import Netlist, lower
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, UInt, Value, Vec, Vector, select, trace, vector
from models.config import AcceleratorConfig

MAX_LANES = 32


def id_bits(config: AcceleratorConfig) -> int:
    """Bits of the id of a token."""
    return max(1, (config.context_keys - 1).bit_length())


def zero_eliminator_graph(lanes: int, value_bits: int, id_bits: int) -> Graph:
    """The dataflow of one row of `lanes` (a power of two from 1 to 32).

    Raises:
        HlsError: for another number of lanes.
    """
    if not 1 <= lanes <= MAX_LANES or lanes & (lanes - 1):
        nearest = min((1 << i for i in range(MAX_LANES.bit_length())), key=lambda power: abs(power - lanes))
        raise HlsError(f"zero eliminator of {lanes} lanes: a power of two from 1 to {MAX_LANES} works; use {nearest}")
    rounds = lanes.bit_length() - 1

    def zero_eliminator(value: Vector, id: Vector, valid: Vector) -> dict[str, object]:
        gaps = exclusive_prefix_sum([~bit for bit in valid])
        row = [vector([value[i], id[i]]) for i in range(lanes)]
        here = list(valid)
        for b in range(rounds):
            step = 1 << b
            moves = [here[i] & gaps[i][0] if i >= step else None for i in range(lanes)]
            arrives = [moves[i + step] if i + step < lanes else None for i in range(lanes)]
            stays = [here[i] if moves[i] is None else here[i] & ~gaps[i][0] for i in range(lanes)]
            # one bit left: the lane is among the first 2^b, from where nothing moves in later rounds
            gaps = [gap[1 : gap.type.width] if gap.type.width > 1 else gap for gap in gaps]
            for i, arriving in enumerate(arrives):
                if arriving is not None:
                    row[i] = select(arriving, row[i + step], row[i])
                    gaps[i] = select(arriving, gaps[i + step], gaps[i])
            here = [
                stay if arriving is None else (stay | arriving).named(f"valid_{b}_{i}")
                for i, (stay, arriving) in enumerate(zip(stays, arrives, strict=True))
            ]
        packed = [select(kept, item, vector([item[0] & 0, item[1] & 0])) for kept, item in zip(here, row, strict=True)]
        return {
            "packed_value": vector([item[0] for item in packed]),
            "packed_id": vector([item[1] for item in packed]),
            "packed_valid": vector(here),
        }

    values, ids = Vec(UInt(value_bits), lanes), Vec(UInt(id_bits), lanes)
    return trace(
        zero_eliminator,
        inputs={"value": values, "id": ids, "valid": Vec(Bool, lanes)},
        outputs={"packed_value": values, "packed_id": ids, "packed_valid": Vec(Bool, lanes)},
    )


def exclusive_prefix_sum(terms: list[Value]) -> list[Value]:
    """For every term the sum of those before it, in log2(n) levels (Kogge and Stone)."""
    sums, reach = list(terms), 1
    while reach < len(sums):
        sums = [sums[i] + sums[i - reach] if i >= reach else sums[i] for i in range(len(sums))]
        reach *= 2
    return [terms[0] & 0, *sums[:-1]]


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name: for probabilities, and for token importances."""
    return {
        f"zero_eliminator_{bits}": zero_eliminator_graph(config.top_k_lanes, bits, id_bits(config))
        for bits in (PROBABILITY_BITS, IMPORTANCE_BITS)
    }


def plan(
    config: AcceleratorConfig, technology: Technology | None = None, value_bits: int = PROBABILITY_BITS
) -> Schedule:
    """The pipeline of `config` at its clock, for values of `value_bits` bits."""
    graph = zero_eliminator_graph(config.top_k_lanes, value_bits, id_bits(config))
    return schedule(graph, technology or technologies.load(), config.clock_period_ps)


def build(
    config: AcceleratorConfig, technology: Technology | None = None, value_bits: int = PROBABILITY_BITS
) -> Netlist:
    """The whole datapath as a netlist, for values of `value_bits` bits.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    return lower(plan(config, technology, value_bits), "zero_eliminator")


def build_importance(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The datapath for token importances (32 bits); `build` is the one for probabilities (12 bits)."""
    return build(config, technology, IMPORTANCE_BITS)
