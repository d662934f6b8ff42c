"""Head importance: adds |out| of a row to the score of its head (architecture page, datapath 12; algorithm page, 3).

    S_h[head] = min(2^48 - 1, S_h[head] + contribution)                                   ufix(48, 12)
    contribution = min(2^48 - 1, ((sum_d |out[d]|) * mantissa) >> shift)                  shift < 0: to the left

`native_head_dim` elements a cycle; a row of more takes several cycles, its last one says so. `mantissa` and `shift`
are m_v and sh_v, read with the last cycle. The host limits sh_v to -64 .. 63: what lies beyond gives the same, 0 or
saturation, for every normalized mantissa.

Parts: `magnitude` (pipeline), the sum of a row (one cycle), `scale` (pipeline), then read (a multiplexer of all scores)
and add, a cycle each, so that a row can end in every cycle. Rows of one head follow each other: what the row before
has just added is not in the score that was read, and is taken from the adder's own output instead:

    cycle      0        1          2
    row a      read     add
    row b               read       add to what a added, if it is the same head

Ports: `element`, `head`, `mantissa`, `shift`, `last` in under ready/valid, never stalled but by a clear; `clear_valid`
and `clear_ready` (all scores to 0, after the rows accepted before); `read_head` in and, a cycle later, `read_score`
out; `idle`: every row that was accepted whole is in the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.datapaths.query_key import head_dims
from hls.lower import Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, SInt, UInt, Value, Vec, Vector, reduce_tree, select, trace
from hls.types import Fixed
from models.config import AcceleratorConfig

HEADS = 64
SCORE = UInt(HEAD_SCORE_BITS)
MANTISSA = UInt(16)
SHIFT = SInt(7)


@dataclass(frozen=True)
class HeadImportanceTypes:
    """Sizes and port types of a machine's head importance.

    Attributes:
        element: the outputs that a cycle takes.
        head: id of a head.
        row_cycles: cycles of the longest row.
        partial: sum of the magnitudes of a cycle.
        magnitude: sum of the magnitudes of a row.
    """

    element: Vec
    head: Fixed
    row_cycles: int
    partial: Fixed
    magnitude: Fixed

    @classmethod
    def of(cls, config: AcceleratorConfig, heads: int = HEADS) -> HeadImportanceTypes:
        """The types of `config` for `heads` heads.

        Raises:
            HlsError: unless `heads` is a power of two, 2 at least.
        """
        if heads < 2 or heads & (heads - 1):
            nearest = 1 << max(1, heads.bit_length() - 1)
            raise HlsError(f"head importance of {heads} heads: a power of two from 2 on works; use {nearest}")
        lanes, row_cycles = config.native_head_dim, head_dims(config)[-1] // config.native_head_dim
        largest = lanes << (config.datapath_bits - 1)
        return cls(
            element=Vec(SInt(config.datapath_bits), lanes),
            head=UInt(heads.bit_length() - 1),
            row_cycles=row_cycles,
            partial=UInt(largest.bit_length()).within(0, largest),
            magnitude=UInt((largest * row_cycles).bit_length()).within(0, largest * row_cycles),
        )


def magnitude_graph(config: AcceleratorConfig, heads: int = HEADS) -> Graph:
    """The sum of |element| of one cycle; the rest passes by. Nodes `magnitude_i`, `total_N_i` (N in that level)."""
    types = HeadImportanceTypes.of(config, heads)

    def magnitude(element: Vector, head: Value, mantissa: Value, shift: Value, last: Value) -> dict[str, object]:
        level = [abs(x).named(f"magnitude_{i}") for i, x in enumerate(element)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [(a + b).named(f"total_{len(level) // 2}_{i}") for i, (a, b) in enumerate(pairs)]
        return {"partial": level[0], "row_head": head, "row_mantissa": mantissa, "row_shift": shift, "row_end": last}

    return trace(
        magnitude,
        inputs={"element": types.element, "head": types.head, "mantissa": MANTISSA, "shift": SHIFT, "last": Bool},
        outputs={"partial": types.partial, "row_shift": SHIFT, "row_end": Bool},
    )


def sum_row_graph(config: AcceleratorConfig, heads: int = HEADS) -> Graph:
    """The magnitude of a row so far."""
    types = HeadImportanceTypes.of(config, heads)

    def sum_row(held: Value, partial: Value, first: Value) -> dict[str, Value]:
        return {"so_far": (select(first, 0, held) + partial).wrap(UInt(types.magnitude.width))}

    return trace(
        sum_row,
        inputs={"held": UInt(types.magnitude.width), "partial": types.partial, "first": Bool},
        outputs={"so_far": UInt(types.magnitude.width)},
    )


def multiplier_graph(magnitude_bits: int) -> Graph:
    """A multiplier of `scale`: up to a byte of the magnitude x the mantissa, unsigned, exact."""
    return trace(lambda a, b: {"product": a * b}, {"a": UInt(magnitude_bits), "b": MANTISSA}, name="multiplier")


def scale_graph(config: AcceleratorConfig, heads: int = HEADS) -> Graph:
    """The contribution of a row in the units that all heads share; each byte of the magnitude has a multiplier.

    Nodes `product_i` (of byte i) and `product`.
    """
    types = HeadImportanceTypes.of(config, heads)

    def scale(magnitude: Value, mantissa: Value, shift: Value, scale_head: Value) -> dict[str, Value]:
        parts = [
            (magnitude[low:high] * mantissa).named(f"product_{i}") << low
            for i, (low, high) in enumerate(bytes_of(types.magnitude.width))
        ]
        return {"contribution": _shifted(parts, shift), "add_head": scale_head}

    return trace(
        scale,
        inputs={"magnitude": types.magnitude, "mantissa": MANTISSA, "shift": SHIFT, "scale_head": types.head},
        outputs={"contribution": SCORE},
    )


def _shifted(parts: Sequence[Value], shift: Value) -> Value:
    """The sum of the parts to the right by `shift`, to the left where it is negative, saturated."""
    product = reduce_tree(lambda a, b: a + b, parts).named("product")
    left = product << select(shift < 0, -shift, 0).clamp(0, 1 << (SHIFT.width - 1))
    right = product.shift_right(select(shift < 0, 0, shift).clamp(0, SHIFT.range.high), "floor")
    return select(shift < 0, left, right).saturate(SCORE)


def shift_graph(config: AcceleratorConfig) -> Graph:
    """What `scale` does with the products of the bytes; for proofs of it without the multipliers."""
    bytes_ = bytes_of(HeadImportanceTypes.of(config).magnitude.width)
    product = UInt(8 + MANTISSA.width).within(0, 255 * MANTISSA.range.high)

    def shifted(products: Vector, shift: Value) -> dict[str, Value]:
        return {"contribution": _shifted([p << low for p, (low, _) in zip(products, bytes_, strict=True)], shift)}

    return trace(
        shifted,
        inputs={"products": Vec(product, len(bytes_)), "shift": SHIFT},
        outputs={"contribution": SCORE},
    )


def bytes_of(width: int) -> list[tuple[int, int]]:
    """The bits (low, high) of each byte of a magnitude of `width` bits; the last may be shorter."""
    return [(low, min(low + 8, width)) for low in range(0, width, 8)]


def add_graph() -> Graph:
    """The new score of a head: `recent` is what the cycle before has added for the same head, if it has."""

    def add(stored: Value, recent: Value, same_head: Value, contribution: Value) -> dict[str, Value]:
        total = select(same_head, recent, stored) + contribution
        return {"score": select(total[SCORE.width], SCORE.full_range.high, total[: SCORE.width])}

    return trace(
        add,
        inputs={"stored": SCORE, "recent": SCORE, "same_head": Bool, "contribution": SCORE},
        outputs={"score": SCORE},
    )


def read_graph(heads: int = HEADS) -> Graph:
    """The score of one head out of all."""

    def read(scores: Vector, head: Value) -> dict[str, Value]:
        return {"score": scores[head]}

    return trace(
        read, inputs={"scores": Vec(SCORE, heads), "head": UInt(heads.bit_length() - 1)}, outputs={"score": SCORE}
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {
        "magnitude": magnitude_graph(config),
        "sum_row": sum_row_graph(config),
        "scale": scale_graph(config),
        "read": read_graph(),
        "add": add_graph(),
    }


@dataclass(frozen=True)
class HeadImportancePlan:
    """The schedules of the parts."""

    magnitude: Schedule
    sum_row: Schedule
    scale: Schedule
    read: Schedule
    add: Schedule

    @property
    def latency_cycles(self) -> int:
        """From the last cycle of a row to the score that holds it."""
        return self.magnitude.latency_cycles + 1 + self.scale.latency_cycles + 2


def plan(config: AcceleratorConfig, technology: Technology | None = None, heads: int = HEADS) -> HeadImportancePlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the parts that take one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps

    def in_one_cycle(graph: Graph) -> Schedule:
        made = schedule(graph, library, period, output_register=False)
        if made.latency_cycles:
            shortest = sum(made.stage_delays_ps) + made.overhead_ps
            raise HlsError(f"head importance: {graph.name} needs one cycle of about {shortest} ps, not {period}")
        return made

    return HeadImportancePlan(
        magnitude=schedule(magnitude_graph(config, heads), library, period),
        sum_row=in_one_cycle(sum_row_graph(config, heads)),
        scale=schedule(scale_graph(config, heads), library, period),
        read=in_one_cycle(read_graph(heads)),
        add=in_one_cycle(add_graph()),
    )


def build(config: AcceleratorConfig, technology: Technology | None = None, heads: int = HEADS) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        HlsError: if the clock is too fast for the technology, or `heads` is no power of two.
    """
    types, parts = HeadImportanceTypes.of(config, heads), plan(config, technology, heads)
    block = pyrtl.Block()
    with building(block):
        ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.magnitude.graph.inputs}
        in_valid, clear_valid = pyrtl.Input(1, "in_valid"), pyrtl.Input(1, "clear_valid")
        read_head = pyrtl.Input(types.head.width, "read_head")
        in_ready = ~clear_valid
        entered = instantiate(parts.magnitude, ports, block, valid=in_valid & in_ready, prefix="magnitude_")
        cycle = entered.outputs

        first, row_done = pyrtl.Register(1, "first", reset_value=1), pyrtl.Register(1, "row_done", reset_value=0)
        magnitude = pyrtl.Register(types.magnitude.width, "magnitude", reset_value=0)
        sum_inputs = {"held": magnitude, "partial": cycle["partial"], "first": first}
        so_far = instantiate(parts.sum_row, sum_inputs, block, prefix="sum_row_").outputs["so_far"]
        magnitude.next <<= pyrtl.select(entered.out_valid, so_far, magnitude)
        first.next <<= pyrtl.select(entered.out_valid, cycle["row_end"], first)
        row_done.next <<= entered.out_valid & cycle["row_end"]
        scale_inputs = {
            "magnitude": magnitude,
            "mantissa": _next_cycle(cycle["row_mantissa"], "row_mantissa"),
            "shift": _next_cycle(cycle["row_shift"], "row_shift"),
            "scale_head": _next_cycle(cycle["row_head"], "row_head"),
        }
        scaled = instantiate(parts.scale, scale_inputs, block, valid=row_done, prefix="scale_")

        scores = [pyrtl.Register(SCORE.width, f"score_{i}", reset_value=0) for i in range(heads)]

        def score_of(head: pyrtl.WireVector, prefix: str) -> pyrtl.WireVector:
            return instantiate(parts.read, {"scores": scores, "head": head}, block, prefix=prefix).outputs["score"]

        adding = _next_cycle(scaled.out_valid, "adding")
        add_head = _next_cycle(scaled.outputs["add_head"], "add_head")
        added = pyrtl.WireVector(SCORE.width, "added")
        add_inputs = {
            "stored": _next_cycle(score_of(scaled.outputs["add_head"], "stored_"), "stored"),
            "recent": _next_cycle(added, "recent"),
            "same_head": _next_cycle(adding & (scaled.outputs["add_head"] == add_head), "same_head"),
            "contribution": _next_cycle(scaled.outputs["contribution"], "contribution"),
        }
        added <<= instantiate(parts.add, add_inputs, block, prefix="add_").outputs["score"]

        busy = [*entered.valids[1:], *scaled.valids, adding]
        idle = ~pyrtl.rtl_any(*busy)
        clear = clear_valid & idle
        nothing = pyrtl.Const(0, SCORE.width)
        for i, score in enumerate(scores):
            updated = pyrtl.select(adding & (add_head == i), added, score)
            score.next <<= pyrtl.select(clear, nothing, updated)
        outputs = {
            "in_ready": in_ready,
            "clear_ready": idle,
            "idle": idle,
            "read_score": _next_cycle(score_of(read_head, "readout_"), "readout_register"),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("head_importance", block, parts.latency_cycles)


def _next_cycle(wire: pyrtl.WireVector, name: str) -> pyrtl.Register:
    """A register that takes the wire in every cycle."""
    register = pyrtl.Register(len(wire), name, reset_value=0)
    register.next <<= wire
    return register
