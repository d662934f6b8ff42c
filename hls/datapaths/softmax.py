"""Softmax: probabilities of a query row, `softmax_lanes` scores in and as many probabilities out a cycle.

    prob = softmax(score * m * 2^(x - 15))                        bit by bit as algorithm page, section 7
                                                                  (architecture page, datapath 8)

The parts (their arithmetic: `hls.datapaths.softmax_arithmetic`), pipelines but for the two running ones:

    score ----> score buffer -----------> scale -> exponential ----> exponential buffer ------> normalize -> prob
      |           ^ (max, m, x) of a row                  |             ^ (R, t) of a row
      +-> lane maximum -> running maximum                 +-> lane sum -> running sum -> reciprocal

A row waits whole in each buffer (`hls.datapaths.row_buffer`): in the first for its maximum, in the second for the
reciprocal of its sum. All of it moves together, where the output is free, so it takes a cycle of scores in every
such cycle, whatever the rows' lengths: the divider is a pipeline too, and rows of one cycle follow each other without
a gap. Cycle by cycle, b the cycles of a row, its first score in at 0:

    b - 1                                     its last score in
    b - 1 + maximum_cycles                    its first score leaves the score buffer
    2 (b - 1) + maximum_cycles + sum_cycles   its first exponential leaves the exponential buffer
    2 (b - 1) + latency_cycles                its first probability out, the others in the cycles that follow

or, behind a row that is still leaving a buffer, as soon as that has left.

Ports: `score`, `lane_valid`, `last`, `mantissa` and `exponent` (m normalized, and x; read with the last cycle of a row;
an x outside -64 .. 63 gives the same as the nearest end) in; `prob` (0 in invalid lanes), `prob_valid`, `prob_last` and
`peak` (the largest of the row, beside each of its cycles; 4095 of a row without a valid lane) out, under ready/valid.
A row has at most `context_keys` valid lanes and `softmax_fifo_rows` cycles; invalid lanes may be anywhere and hold
anything, a row of them alone is zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths import softmax_arithmetic as arithmetic
from hls.datapaths.row_buffer import READ_CYCLES, row_buffer
from hls.datapaths.softmax_arithmetic import SoftmaxTypes
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Graph, HlsError
from models.config import AcceleratorConfig

RUNNING = ("running_maximum", "running_sum")


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    types = SoftmaxTypes.of(config)
    return {
        "lane_maximum": arithmetic.lane_maximum_graph(types),
        "running_maximum": arithmetic.running_maximum_graph(types),
        "scale": arithmetic.scale_graph(types),
        "exponential": arithmetic.exponential_graph(types),
        "lane_sum": arithmetic.lane_sum_graph(types),
        "running_sum": arithmetic.running_sum_graph(types),
        "reciprocal": arithmetic.reciprocal_graph(types),
        "normalize": arithmetic.normalize_graph(types),
    }


@dataclass(frozen=True)
class SoftmaxPlan:
    """The schedules of the parts."""

    lane_maximum: Schedule
    running_maximum: Schedule
    scale: Schedule
    exponential: Schedule
    lane_sum: Schedule
    running_sum: Schedule
    reciprocal: Schedule
    normalize: Schedule

    @property
    def maximum_cycles(self) -> int:
        """From the last scores of a row in to its first scores leaving the score buffer."""
        return self.lane_maximum.latency_cycles + 1 + READ_CYCLES

    @property
    def sum_cycles(self) -> int:
        """From the last scores of a row leaving the score buffer to its first exponentials leaving theirs."""
        return self._exponential_cycles + self._reciprocal_cycles + READ_CYCLES

    @property
    def latency_cycles(self) -> int:
        """From a row of one cycle in to its probabilities out."""
        return self.maximum_cycles + self.sum_cycles + self.normalize.latency_cycles

    @property
    def score_buffer_slack(self) -> int:
        """Beats that enter the score buffer before the row that they follow can leave."""
        return self.maximum_cycles - 1

    @property
    def exponential_buffer_slack(self) -> int:
        """As `score_buffer_slack`, for the exponentials."""
        return self._reciprocal_cycles + READ_CYCLES - 1

    @property
    def _exponential_cycles(self) -> int:
        return self.scale.latency_cycles + self.exponential.latency_cycles

    @property
    def _reciprocal_cycles(self) -> int:
        return self.lane_sum.latency_cycles + 1 + self.reciprocal.latency_cycles


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> SoftmaxPlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the running maximum or the running sum, which take one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    plans = {}
    for name, graph in graphs(config).items():
        made = schedule(graph, library, period, output_register=name not in RUNNING)
        if name in RUNNING and made.latency_cycles:
            shortest = sum(made.stage_delays_ps) + made.overhead_ps
            raise HlsError(f"softmax: the {name} needs one cycle of about {shortest} ps, not {period}")
        plans[name] = made
    return SoftmaxPlan(**plans)


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
        row, row_valid = _row_maximum(parts, ports, in_valid, advance, block)
        scores = row_buffer(
            beat=pyrtl.concat(ports["lane_valid"], ports["score"]),
            last=ports["last"],
            beat_valid=in_valid,
            row=row,
            row_valid=row_valid,
            depth=config.softmax_fifo_rows + parts.score_buffer_slack,
            enable=advance,
            name="score_buffer",
        )
        score_bits, maximum_bits = len(ports["score"]), SoftmaxTypes.of(config).score.width
        scale_inputs = {
            "score": scores.beat[:score_bits],
            "score_flags": pyrtl.concat(scores.last, scores.beat[score_bits:]),
            "row_maximum": scores.row[:maximum_bits],
            "mantissa": scores.row[maximum_bits : maximum_bits + arithmetic.MANTISSA.width],
            "exponent": scores.row[maximum_bits + arithmetic.MANTISSA.width :],
        }
        scaled = instantiate(parts.scale, scale_inputs, block, advance, scores.valid, "scale_")
        raised = instantiate(parts.exponential, scaled.outputs, block, advance, scaled.out_valid, "exponential_")
        e, e_flags = raised.outputs["e"], raised.outputs["e_flags"]
        row, row_valid = _row_reciprocal(parts, raised.outputs, raised.out_valid, advance, block)
        exponentials = row_buffer(
            beat=pyrtl.concat(e_flags[:-1], e),
            last=e_flags[-1],
            beat_valid=raised.out_valid,
            row=row,
            row_valid=row_valid,
            depth=config.softmax_fifo_rows + parts.exponential_buffer_slack,
            enable=advance,
            name="exponential_buffer",
        )
        normalize_inputs = {
            "e": exponentials.beat[: len(e)],
            "e_flags": pyrtl.concat(exponentials.last, exponentials.beat[len(e) :]),
            "inverse": exponentials.row[: arithmetic.RECIPROCAL.width],
            "shift": exponentials.row[arithmetic.RECIPROCAL.width :],
        }
        normal = instantiate(parts.normalize, normalize_inputs, block, advance, exponentials.valid, "normalize_")
        advance <<= out_ready | ~normal.out_valid
        flags = normal.outputs["prob_flags"]
        results = {
            "prob": normal.outputs["prob"],
            "prob_valid": flags[:-1],
            "prob_last": flags[-1],
            "peak": normal.outputs["peak"],
        }
        output_ports({**results, "in_ready": advance, "out_valid": normal.out_valid})
    block.sanity_check()
    return Netlist("softmax", block, parts.latency_cycles)


def _row_maximum(
    parts: SoftmaxPlan, ports: dict[str, Wire], valid: Wire, advance: Wire, block: pyrtl.Block
) -> tuple[Wire, Wire]:
    """The maximum, m and x of a row side by side, and when they are valid."""
    entered = instantiate(parts.lane_maximum, ports, block, advance, valid, "lane_maximum_")
    beat, row_end = entered.outputs, entered.outputs["row_end"]
    largest, row_done = _over_row(
        parts.running_maximum, {"beat_maximum": beat["beat_maximum"]}, row_end, entered.out_valid, advance, block
    )
    held = [_moving(beat[f"row_{name}"], advance, f"row_{name}") for name in ("mantissa", "exponent")]
    return pyrtl.concat_list([largest, *held]), row_done


def _row_reciprocal(
    parts: SoftmaxPlan, exponentials: Mapping[str, Wire], valid: Wire, advance: Wire, block: pyrtl.Block
) -> tuple[Wire, Wire]:
    """R and t of a row side by side, and when they are valid."""
    added = instantiate(parts.lane_sum, exponentials, block, advance, valid, "lane_sum_")
    row_end = added.outputs["row_end"]
    total, row_done = _over_row(
        parts.running_sum, {"partial": added.outputs["partial"]}, row_end, added.out_valid, advance, block
    )
    inverse = instantiate(parts.reciprocal, {"total": total}, block, advance, row_done, "reciprocal_")
    return pyrtl.concat_list([inverse.outputs["inverse"], inverse.outputs["shift"]]), inverse.out_valid


def _over_row(
    part: Schedule, inputs: dict[str, Wire], row_end: Wire, valid: Wire, advance: Wire, block: pyrtl.Block
) -> tuple[Wire, Wire]:
    """The register that a running part updates, begun anew with each row; and whether it holds a whole row."""
    name = part.graph.name
    held = pyrtl.Register(part.graph.outputs[0].type.total_bits, f"{name}_held", reset_value=0)
    first = pyrtl.Register(1, f"{name}_first", reset_value=1)
    so_far = instantiate(part, {"held": held, "first": first, **inputs}, block, prefix=f"{name}_").outputs["so_far"]
    taken = advance & valid
    held.next <<= pyrtl.select(taken, so_far, held)
    first.next <<= pyrtl.select(taken, row_end, first)
    return held, _moving(valid & row_end, advance, f"{name}_done")


def _moving(wire: Wire, advance: Wire, name: str) -> pyrtl.Register:
    """A register that takes the wire where the pipeline moves."""
    register = pyrtl.Register(len(wire), name, reset_value=0)
    register.next <<= pyrtl.select(advance, wire, register)
    return register
