"""Flat-row decision: is the largest probability of a row below the threshold? Then all bits of K are asked for.

    flat = max prob < threshold12                                        threshold12 = rint(4096 * threshold)

The softmax knows the largest probability of a row, its peak, before the first of them: it is that of the largest score.
So a row is decided with its first cycle. The probabilities pass through, `softmax_lanes` a cycle, and `flat` stands
beside the first of their row; beside the others it is 0. (architecture page, datapath 9; algorithm page, section 5.)

All moves together, where the output is free, so rows follow each other without a gap. Cycle by cycle:

    cycle           0    1    2    3
    prob            a0   a1.  b0.            (. = last of its row)
    passed_prob          a0   a1.  b0.
    flat                 a    0    b

Ports: `prob`, `lane_valid`, `last`, `peak` and `threshold` (both read with the first cycle of a row) in; `passed_prob`,
`passed_valid`, `passed_last` and `flat` out, under ready/valid. A row has keys in its first cycle; one that has none
there is not flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.softmax_arithmetic import PROBABILITY
from hls.lower import Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.stream import register
from hls.technology import Technology
from hls.trace import Bool, Graph, UInt, Value, Vec, Vector, trace
from models.config import AcceleratorConfig

THRESHOLD = UInt(PROBABILITY.width + 1).within(0, 1 << PROBABILITY.width)


def decide_graph(lanes: int) -> Graph:
    """Whether a row that begins is flat; its probabilities pass by. Node `below`."""

    def decide(
        prob: Vector, lane_valid: Vector, last: Value, first: Value, peak: Value, threshold: Value
    ) -> dict[str, object]:
        return {
            "passed_prob": prob,
            "passed_valid": lane_valid,
            "passed_last": last,
            "flat": first & lane_valid.any() & (peak < threshold).named("below"),
        }

    return trace(
        decide,
        inputs={
            "prob": Vec(PROBABILITY, lanes),
            "lane_valid": Vec(Bool, lanes),
            "last": Bool,
            "first": Bool,
            "peak": PROBABILITY,
            "threshold": THRESHOLD,
        },
        outputs={"passed_prob": Vec(PROBABILITY, lanes), "passed_valid": Vec(Bool, lanes)},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {"decide": decide_graph(config.softmax_lanes)}


@dataclass(frozen=True)
class FlatDecisionPlan:
    """The schedule of the only part."""

    decide: Schedule

    @property
    def latency_cycles(self) -> int:
        """From a cycle of probabilities in to the same out."""
        return self.decide.latency_cycles


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> FlatDecisionPlan:
    """The pipeline of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    library = technology or technologies.load()
    return FlatDecisionPlan(schedule(decide_graph(config.softmax_lanes), library, config.clock_period_ps))


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    made, block = plan(config, technology), pyrtl.Block()
    with building(block):
        names = {port.name: port.type.total_bits for port in made.decide.graph.inputs}
        ports = {name: pyrtl.Input(bits, name) for name, bits in names.items() if name != "first"}
        in_valid, out_ready = (pyrtl.Input(1, name) for name in ("in_valid", "out_ready"))
        advance = pyrtl.WireVector(1, "advance")
        first = register(1, "first", block, 1)
        first.next <<= pyrtl.select(advance & in_valid, ports["last"], first)
        decided = instantiate(made.decide, {**ports, "first": first}, block, advance, in_valid, "decide_")
        advance <<= out_ready | ~decided.out_valid
        output_ports({**decided.outputs, "in_ready": advance, "out_valid": decided.out_valid})
    block.sanity_check()
    return Netlist("flat_decision", block, made.latency_cycles)
