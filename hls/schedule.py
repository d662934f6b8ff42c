"""Assigns the nodes of a dataflow graph to pipeline stages for a clock period and a technology.

A stage holds `budget = period - clock_to_q - enable - setup - clock uncertainty` of logic. Node n in stage s(n) is
legal if

    s(a) <= s(n) for every argument a,   arrival(n) = delay(n) + max{arrival(a): s(a) = s(n)} <= budget

Boundary b lies between stage b and stage b + 1; a value needed beyond it takes as many register bits there as
it is wide. With `output_register` (the default) the last boundary follows the last stage, so
`latency_cycles = stages`; without, the outputs are combinational in the last stage: `latency_cycles = stages - 1`.
The initiation interval is 1: every operator has its own hardware.

Operators slower than the budget are split into parts that pipeline (`hls.decompose`) before scheduling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from rich.table import Table

from hls.builder import Builder
from hls.decompose import DelayOf, decompose
from hls.graph import WIRING, Graph, Port
from hls.minimize import minimize_registers
from hls.types import HlsError, smallest_type

Method = Literal["asap", "registers"]


class CostLike(Protocol):
    """What scheduling needs of `hls.costs.Cost`."""

    @property
    def delay_ps(self) -> int:
        """Delay of the operator."""


class FlipFlopLike(Protocol):
    """What scheduling needs of `hls.costs.FlipFlop`."""

    @property
    def setup_ps(self) -> int:
        """Setup time."""

    @property
    def clock_to_q_ps(self) -> int:
        """Clock to output delay."""


class TechnologyLike(Protocol):
    """What scheduling needs of `hls.technology.Technology`."""

    @property
    def flip_flop(self) -> FlipFlopLike:
        """The register bit."""

    @property
    def clock_uncertainty_ps(self) -> int:
        """Skew and jitter."""

    def cost(self, kind: str, in_bits: tuple[int, ...], out_bits: int, **attributes: int) -> CostLike:
        """Cost of one operator."""


class ScheduleError(HlsError):
    """No schedule exists, or one is illegal; the message names the node and what would work."""


def overhead_ps(technology: TechnologyLike) -> int:
    """The part of every clock period that is not logic; a multiplexer before every register holds it in a stall."""
    flip_flop = technology.flip_flop
    enable_ps = technology.cost("mux", (1, 1, 1), 1).delay_ps
    return flip_flop.setup_ps + flip_flop.clock_to_q_ps + enable_ps + technology.clock_uncertainty_ps


def delay_function(technology: TechnologyLike) -> DelayOf:
    """Delay of an operator by kind and widths, remembered: a graph has few distinct operators."""
    known: dict[tuple[str, tuple[int, ...], int, int], int] = {}

    def delay_of(kind: str, in_bits: tuple[int, ...], out_bits: int, attributes: tuple[int, ...]) -> int:
        if kind in WIRING:
            return 0
        entries = len(attributes) if kind == "table" else 0
        key = (kind, in_bits, out_bits, entries)
        if key not in known:
            extra = {"entries": entries} if entries else {}
            known[key] = technology.cost(kind, in_bits, out_bits, **extra).delay_ps
        return known[key]

    return delay_of


def node_delays(graph: Graph, delay_of: DelayOf, input_delay_ps: int) -> tuple[int, ...]:
    """Delay of every node; inputs arrive `input_delay_ps` after the register-to-register start of the cycle."""
    widths = [node.width_bits for node in graph.nodes]
    return tuple(
        input_delay_ps
        if node.kind == "input"
        else delay_of(node.kind, tuple(widths[a] for a in node.args), widths[i], node.attributes)
        for i, node in enumerate(graph.nodes)
    )


@dataclass(frozen=True)
class Schedule:
    """Which stage every node of `graph` computes in; `delays_ps` and `stages` are by node number."""

    graph: Graph
    clock_period_ps: int
    overhead_ps: int
    delays_ps: tuple[int, ...]
    stages: tuple[int, ...]
    stage_count: int
    output_register: bool = True

    @property
    def initiation_interval(self) -> int:
        """Cycles from one input to the next."""
        return 1

    @property
    def latency_cycles(self) -> int:
        """Clock edges between an input and its output."""
        return self.stage_count if self.output_register else self.stage_count - 1

    @property
    def budget_ps(self) -> int:
        """Logic delay that fits in one stage."""
        return self.clock_period_ps - self.overhead_ps

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """The last stage that reads each node; `latency_cycles` for an output."""
        last = list(self.stages)
        for index, node in enumerate(self.graph.nodes):
            for arg in node.args:
                last[arg] = max(last[arg], self.stages[index])
        for port in self.graph.outputs:
            for index in port.nodes:
                last[index] = max(last[index], self.latency_cycles)
        for index, node in enumerate(self.graph.nodes):
            if node.kind == "const":
                last[index] = self.stages[index]
        return tuple(last)

    @cached_property
    def register_bits(self) -> tuple[int, ...]:
        """Register bits at each boundary (valid bits aside), first boundary first."""
        bits = [0] * self.latency_cycles
        for node, first, last in zip(self.graph.nodes, self.stages, self.last_use, strict=True):
            for boundary in range(first, last):
                bits[boundary] += node.width_bits
        return tuple(bits)

    @cached_property
    def arrivals_ps(self) -> tuple[int, ...]:
        """When each node settles, from the start of its stage."""
        arrivals: list[int] = []
        for index, node in enumerate(self.graph.nodes):
            stage = self.stages[index]
            same = (arrivals[arg] for arg in node.args if self.stages[arg] == stage)
            arrivals.append(max(same, default=0) + self.delays_ps[index])
        return tuple(arrivals)

    @cached_property
    def stage_delays_ps(self) -> tuple[int, ...]:
        """The longest path of each stage, without the register overhead."""
        longest = [0] * self.stage_count
        for stage, arrival in zip(self.stages, self.arrivals_ps, strict=True):
            longest[stage] = max(longest[stage], arrival)
        return tuple(longest)

    def critical_path(self, stage: int) -> tuple[int, ...]:
        """The nodes of the longest path of a stage, first to last."""
        nodes = self.graph.nodes
        here = [i for i, s in enumerate(self.stages) if s == stage and nodes[i].kind != "const"]
        path: list[int] = []
        candidates = here
        while candidates:
            path.append(max(candidates, key=lambda i: self.arrivals_ps[i]))
            candidates = [a for a in nodes[path[-1]].args if self.stages[a] == stage and self.arrivals_ps[a] > 0]
        return tuple(reversed(path))

    def verify(self, technology: TechnologyLike | None = None) -> None:
        """ScheduleError unless this is a legal pipeline, however it was made; with a technology, its delays too."""
        graph = self.graph
        if not len(graph.nodes) == len(self.stages) == len(self.delays_ps):
            raise ScheduleError(
                f"{graph.name}: {len(graph.nodes)} nodes, but {len(self.stages)} stages and "
                f"{len(self.delays_ps)} delays"
            )
        if self.stage_count < 1:
            raise ScheduleError(f"{graph.name}: a pipeline has at least 1 stage, not {self.stage_count}")
        for index, node in enumerate(graph.nodes):
            self._verify_node(index, node.kind, node.args)
        if technology is not None:
            self._verify_delays(technology)
        for index, arrival in enumerate(self.arrivals_ps):
            if arrival > self.budget_ps:
                raise ScheduleError(
                    f"{graph.name}: {graph.label(index)} settles {arrival} ps into stage {self.stages[index]}, "
                    f"{self.budget_ps} ps fit in {self.clock_period_ps} ps"
                )

    def _verify_node(self, index: int, kind: str, args: tuple[int, ...]) -> None:
        graph, stage = self.graph, self.stages[index]
        where = f"{graph.name}: {graph.label(index)} in stage {stage}"
        if not 0 <= stage < self.stage_count:
            raise ScheduleError(f"{where}: the stages are 0 to {self.stage_count - 1}")
        if kind == "input" and stage != 0:
            raise ScheduleError(f"{where}: inputs arrive in stage 0")
        for arg in args:
            if not arg < index:
                raise ScheduleError(f"{where} reads {graph.label(arg)}, which does not come before it")
            if self.stages[arg] > stage:
                raise ScheduleError(f"{where} reads {graph.label(arg)}, which is in stage {self.stages[arg]}")

    def _verify_delays(self, technology: TechnologyLike) -> None:
        needed = overhead_ps(technology)
        if self.overhead_ps < needed:
            raise ScheduleError(f"{self.graph.name}: registers take {needed} ps of the period, not {self.overhead_ps}")
        expected = node_delays(self.graph, delay_function(technology), 0)
        for index, (claimed, least) in enumerate(zip(self.delays_ps, expected, strict=True)):
            if claimed < least:
                raise ScheduleError(f"{self.graph.name}: {self.graph.label(index)} takes {least} ps, not {claimed}")

    def table(self) -> Table:
        """Stages with their delay, slack, operators and registers, for `rich.print`."""
        title = (
            f"{self.graph.name}: {self.clock_period_ps} ps, latency {self.latency_cycles} cycles, "
            f"{sum(self.register_bits)} register bits"
        )
        table = Table(title=title)
        for column in ("stage", "delay ps", "slack ps", "register bits", "operators", "longest path"):
            table.add_column(column, justify="left" if column in ("operators", "longest path") else "right")
        for stage, delay in enumerate(self.stage_delays_ps):
            kinds: dict[str, int] = {}
            for node, at in zip(self.graph.nodes, self.stages, strict=True):
                if at == stage and node.kind not in WIRING:
                    kinds[node.kind] = kinds.get(node.kind, 0) + 1
            bits = str(self.register_bits[stage]) if stage < self.latency_cycles else "-"
            operators = " ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            path = [i for i in self.critical_path(stage) if self.delays_ps[i]]
            names = " > ".join(self.graph.label(i) for i in path)
            table.add_row(str(stage), str(delay), str(self.budget_ps - delay), bits, operators, names)
        return table


def schedule(
    graph: Graph,
    technology: TechnologyLike,
    clock_period_ps: int,
    method: Method = "asap",
    output_register: bool = True,
    input_delay_ps: int = 0,
) -> Schedule:
    """A verified schedule of `graph` (its slow operators split).

    `method`: "asap" (every node as early as possible) or "registers" (as few stages, fewest register bits;
    a linear program). `input_delay_ps`: when inputs settle in the first stage, for example a memory's access
    time. ScheduleError names the slowest operator and the shortest possible period if the clock is too fast.
    """
    overhead = overhead_ps(technology)
    budget = clock_period_ps - overhead
    delay_of = delay_function(technology)
    if method not in ("asap", "registers"):
        raise ScheduleError(f"method {method!r} is unknown; it is 'asap' or 'registers'")
    pipelined = decompose(graph, delay_of, budget)
    delays = node_delays(pipelined, delay_of, input_delay_ps)
    if max(delays, default=0) > budget:
        raise _impossible(graph, delay_of, clock_period_ps, overhead, input_delay_ps)
    stages = _asap(pipelined, delays, budget)
    used = [stages[i] for port in pipelined.outputs for i in port.nodes]
    stage_count = max([*stages, *used], default=0) + 1
    if method == "registers":
        stages = minimize_registers(pipelined, delays, budget, stage_count, output_register)
    result = Schedule(pipelined, clock_period_ps, overhead, delays, tuple(stages), stage_count, output_register)
    result.verify(technology)
    return result


def _asap(graph: Graph, delays: tuple[int, ...], budget_ps: int) -> list[int]:
    """The earliest stage of every node."""
    stages: list[int] = []
    arrivals: list[int] = []
    for index, node in enumerate(graph.nodes):
        stage = max((stages[arg] for arg in node.args), default=0)
        arrival = max((arrivals[arg] for arg in node.args if stages[arg] == stage), default=0) + delays[index]
        if arrival > budget_ps:
            stage, arrival = stage + 1, delays[index]
        stages.append(stage)
        arrivals.append(arrival)
    return stages


def _impossible(graph: Graph, delay_of: DelayOf, period_ps: int, overhead: int, input_delay_ps: int) -> ScheduleError:
    """The error that names the operator which needs the longest period, even when split."""
    if input_delay_ps > period_ps - overhead:
        return ScheduleError(
            f"{graph.name}: inputs settle after {input_delay_ps} ps; with {overhead} ps for registers the "
            f"shortest possible period is {input_delay_ps + overhead} ps, not {period_ps}"
        )
    shortest: dict[tuple[object, ...], int] = {}
    worst, worst_node = 0, 0
    for index, node in enumerate(graph.nodes):
        if node.kind in WIRING:
            continue
        key = (node.kind, tuple(graph.nodes[a].range for a in node.args), node.range, node.attributes)
        if key not in shortest:
            shortest[key] = _shortest_budget_ps(graph, index, delay_of)
        if shortest[key] > worst:
            worst, worst_node = shortest[key], index
    widths = " x ".join(str(smallest_type(graph.nodes[a].range)) for a in graph.nodes[worst_node].args)
    return ScheduleError(
        f"{graph.name}: {graph.label(worst_node)} ({graph.nodes[worst_node].kind} of {widths}) does not fit in "
        f"{period_ps} ps: it takes {worst} ps at least, however it is split, and registers {overhead} ps. "
        f"The shortest possible period is {worst + overhead} ps"
    )


def _shortest_budget_ps(graph: Graph, index: int, delay_of: DelayOf) -> int:
    """The least budget for which one operator, split as far as need be, fits."""
    builder, node = Builder(graph.name), graph.nodes[index]
    args = [builder.input(graph.nodes[arg].range) for arg in node.args]
    result = builder.op(node.kind, *args, attributes=node.attributes, within=node.range)
    inputs = [Port(f"x{i}", smallest_type(builder.range(a)), (a,)) for i, a in enumerate(args)]
    alone = builder.finish(inputs, [Port("out", smallest_type(builder.range(result)), (result,))])

    def fits(budget_ps: int) -> bool:
        return max(node_delays(decompose(alone, delay_of, budget_ps), delay_of, 0)) <= budget_ps

    return _least(fits, max(node_delays(alone, delay_of, 0)))


def _least(holds: Callable[[int], bool], high: int) -> int:
    """The least integer in [1, high] for which a monotone predicate holds; it holds for `high`."""
    low = 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
