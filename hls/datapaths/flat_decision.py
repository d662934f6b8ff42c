"""Flat-row decision: is the largest probability of a row below the threshold? Then all bits of K are asked for.

    flat = some lane of the row is valid, and max prob < threshold12              threshold12 = rint(4096 * threshold)

The probabilities pass through, `softmax_lanes` a cycle, and `flat` stands beside the last of their row; beside the
others it is 0. (architecture page, datapath 9; algorithm page, section 5.)

Two parts: `lane_maximum` (pipeline), and `decide` (one cycle, between the outputs and inputs of the registers that hold
the row so far). All move together, where the output is free, so rows follow each other without a gap. Cycle by cycle,
with a lane maximum of one cycle:

    cycle           0    1    2    3
    prob            a0   a1.  b0.            (. = last of its row)
    passed_prob               a0   a1.  b0.
    flat                      0    a    b

Ports: `prob`, `lane_valid`, `last` and `threshold` (read with the last cycle of a row) in; `passed_prob`,
`passed_valid`, `passed_last` and `flat` out, under ready/valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.softmax_arithmetic import PROBABILITY
from hls.lower import Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, UInt, Value, Vec, Vector, maximum, select, trace
from models.config import AcceleratorConfig

THRESHOLD = UInt(PROBABILITY.width + 1).within(0, 1 << PROBABILITY.width)


def lane_maximum_graph(lanes: int) -> Graph:
    """The largest valid probability of a cycle, 0 if there is none. Nodes `largest_N_i` (N in that level)."""

    def lane_maximum(prob: Vector, lane_valid: Vector, last: Value, threshold: Value) -> dict[str, object]:
        level = [select(valid, p, 0) for p, valid in zip(prob, lane_valid, strict=True)]
        while len(level) > 1:
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [maximum(a, b).named(f"largest_{len(level) // 2}_{i}") for i, (a, b) in enumerate(pairs)]
        return {
            "beat_maximum": level[0],
            "beat_any": lane_valid.any(),
            "beat_prob": prob,
            "beat_valid": lane_valid,
            "beat_last": last,
            "row_threshold": threshold,
        }

    return trace(
        lane_maximum,
        inputs={
            "prob": Vec(PROBABILITY, lanes),
            "lane_valid": Vec(Bool, lanes),
            "last": Bool,
            "threshold": THRESHOLD,
        },
        outputs={
            "beat_maximum": PROBABILITY,
            "beat_prob": Vec(PROBABILITY, lanes),
            "beat_valid": Vec(Bool, lanes),
            "row_threshold": THRESHOLD,
        },
    )


def decide_graph() -> Graph:
    """What is known of a row after one more cycle, and at its end whether it is flat. Node `below`."""

    def decide(
        row_maximum: Value,
        row_any: Value,
        first: Value,
        beat_maximum: Value,
        beat_any: Value,
        beat_last: Value,
        row_threshold: Value,
    ) -> dict[str, Value]:
        next_maximum = maximum(select(first, 0, row_maximum), beat_maximum)
        next_any = (row_any & ~first) | beat_any
        return {
            "next_maximum": next_maximum,
            "next_any": next_any,
            "next_flat": beat_last & next_any & (next_maximum < row_threshold).named("below"),
        }

    return trace(
        decide,
        inputs={
            "row_maximum": PROBABILITY,
            "row_any": Bool,
            "first": Bool,
            "beat_maximum": PROBABILITY,
            "beat_any": Bool,
            "beat_last": Bool,
            "row_threshold": THRESHOLD,
        },
        outputs={"next_maximum": PROBABILITY},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {"lane_maximum": lane_maximum_graph(config.softmax_lanes), "decide": decide_graph()}


@dataclass(frozen=True)
class FlatDecisionPlan:
    """The schedules of the parts."""

    lane_maximum: Schedule
    decide: Schedule

    @property
    def latency_cycles(self) -> int:
        """From a cycle of probabilities in to the same out."""
        return self.lane_maximum.latency_cycles + 1


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> FlatDecisionPlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the decision, which takes one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    decide = schedule(decide_graph(), library, period, output_register=False)
    if decide.latency_cycles:
        shortest = sum(decide.stage_delays_ps) + decide.overhead_ps
        raise HlsError(f"flat decision: it needs one cycle of about {shortest} ps, not {period}")
    return FlatDecisionPlan(schedule(lane_maximum_graph(config.softmax_lanes), library, period), decide)


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        HlsError: if the clock is too fast for the technology.
    """
    parts, block = plan(config, technology), pyrtl.Block()
    with building(block):
        ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.lane_maximum.graph.inputs}
        in_valid, out_ready = (pyrtl.Input(1, name) for name in ("in_valid", "out_ready"))
        advance = pyrtl.WireVector(1, "advance")
        entered = instantiate(parts.lane_maximum, ports, block, advance, in_valid, "lane_maximum_")
        beat, taken = entered.outputs, advance & entered.out_valid

        first = pyrtl.Register(1, "first", reset_value=1)
        row_maximum = pyrtl.Register(PROBABILITY.width, "row_maximum", reset_value=0)
        row_any = pyrtl.Register(1, "row_any", reset_value=0)
        names = ("beat_maximum", "beat_any", "beat_last", "row_threshold")
        decide_inputs = {"row_maximum": row_maximum, "row_any": row_any, "first": first}
        decide_inputs |= {name: beat[name] for name in names}
        decided = instantiate(parts.decide, decide_inputs, block, prefix="decide_").outputs
        first.next <<= pyrtl.select(taken, beat["beat_last"], first)
        row_maximum.next <<= pyrtl.select(taken, decided["next_maximum"], row_maximum)
        row_any.next <<= pyrtl.select(taken, decided["next_any"], row_any)

        out_valid = pyrtl.Register(1, "valid", reset_value=0)
        out_valid.next <<= pyrtl.select(advance, entered.out_valid, out_valid)
        advance <<= out_ready | ~out_valid
        results = {
            "passed_prob": beat["beat_prob"],
            "passed_valid": beat["beat_valid"],
            "passed_last": beat["beat_last"],
            "flat": decided["next_flat"],
        }
        for name, wire in results.items():
            register = pyrtl.Register(len(wire), f"{name}_held", reset_value=0)
            register.next <<= pyrtl.select(advance, wire, register)
            port = pyrtl.Output(len(wire), name)
            port <<= register
        output_ports({"in_ready": advance, "out_valid": out_valid})
    block.sanity_check()
    return Netlist("flat_decision", block, parts.latency_cycles)
