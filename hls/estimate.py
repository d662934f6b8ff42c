"""Area, delay and power of a scheduled datapath; :mod:`hls.estimate_block` does the same for a raw PyRTL block.

    area      = operators + register bits x (flip-flop + enable) + memories
    delay     = longest path of each stage + flip-flop enable, setup, clock-to-output and uncertainty
    energy    = every operator once a cycle on random data + every register bit clocked + memories read and written
    leakage   = logic area x leakage density + memories

Operators are taken alone: synthesis may merge neighbours (shorter paths: a carry need not be complete before the next
operator begins), and all of them switch in every cycle.  Every figure has an error bar and a provenance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.table import Table

from hls.costs import WIRING, Cost
from hls.quantity import Quantity, exactly, total
from hls.technology import Technology


class RangeLike(Protocol):
    """What is needed of `hls.types.Range`."""

    @property
    def low(self) -> int:
        """Smallest value: of a constant, its value."""


class NodeLike(Protocol):
    """What is needed of `hls.graph.Node`."""

    @property
    def kind(self) -> str:
        """Operator."""

    @property
    def args(self) -> tuple[int, ...]:
        """Numbers of the operands' nodes."""

    @property
    def attributes(self) -> tuple[int, ...]:
        """Parameters of the operator: the entries of a table."""

    @property
    def range(self) -> RangeLike:
        """Values the node can have."""

    @property
    def width_bits(self) -> int:
        """Bits of the result."""


class GraphLike(Protocol):
    """What is needed of `hls.graph.Graph`."""

    @property
    def name(self) -> str:
        """Name of the datapath."""

    @property
    def nodes(self) -> Sequence[NodeLike]:
        """All nodes, operands first."""


class ScheduleLike(Protocol):
    """What is needed of `hls.schedule.Schedule`."""

    @property
    def graph(self) -> GraphLike:
        """What is scheduled."""

    @property
    def clock_period_ps(self) -> int:
        """The clock asked for."""

    @property
    def stages(self) -> tuple[int, ...]:
        """Stage of every node."""

    @property
    def stage_count(self) -> int:
        """Number of stages."""

    @property
    def register_bits(self) -> tuple[int, ...]:
        """Register bits at each boundary."""

    @property
    def stage_delays_ps(self) -> tuple[int, ...]:
        """Longest path of each stage."""

    def critical_path(self, stage: int) -> tuple[int, ...]:
        """Nodes of the longest path of a stage."""


@dataclass(frozen=True)
class KindEstimate:
    """All operators of one kind: how many, their area, and energy a cycle."""

    kind: str
    count: int
    area: Quantity
    energy: Quantity


@dataclass(frozen=True)
class StageEstimate:
    """One pipeline stage: longest path from register to register (overhead included), area, registers at its end."""

    stage: int
    delay: Quantity
    area: Quantity
    register_bits: int
    critical_path: tuple[str, ...]


@dataclass(frozen=True)
class MemoryEstimate:
    """One memory: its size, how it is built, area, energy a cycle if accessed at each port, leakage."""

    name: str
    rows: int
    width_bits: int
    built_as: str
    area: Quantity
    energy: Quantity
    leakage: Quantity


@dataclass(frozen=True)
class Estimate:
    """What a datapath takes in silicon.

    ``str(estimate.area)`` gives value, unit, error bar and provenance.
    """

    name: str
    technology: str
    clock_period_ps: int
    register_bits: int
    registers: Quantity
    register_energy: Quantity
    logic_leakage: Quantity
    kinds: tuple[KindEstimate, ...]
    stages: tuple[StageEstimate, ...]
    memories: tuple[MemoryEstimate, ...] = ()

    @property
    def logic(self) -> Quantity:
        """Area of the operators in um2."""
        return total((k.area for k in self.kinds), "um2", "operators")

    @property
    def area(self) -> Quantity:
        """Cell area in um2: operators, registers, memories."""
        return total((self.logic, self.registers, *(m.area for m in self.memories)), "um2", "all")

    @property
    def energy(self) -> Quantity:
        """Energy of a fully active cycle in pJ."""
        parts = (*(k.energy for k in self.kinds), self.register_energy, *(m.energy for m in self.memories))
        return total(parts, "pJ", "all")

    @property
    def leakage(self) -> Quantity:
        """Leakage power in mW."""
        return total((self.logic_leakage, *(m.leakage for m in self.memories)), "mW", "all")

    @property
    def power(self) -> Quantity:
        """Power in mW at the clock asked for, every cycle fully active."""
        return total((self.energy.scaled(1e3 / self.clock_period_ps, "mW"), self.leakage), "mW", "all")

    @property
    def delay(self) -> Quantity:
        """Longest register-to-register path in ps: the shortest period."""
        return max((s.delay for s in self.stages), key=lambda q: q.value)

    @property
    def slack_ps(self) -> float:
        """What is left of the clock period; negative if it is missed."""
        return self.clock_period_ps - self.delay.value

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the totals beside the parts."""
        derived = ("logic", "area", "energy", "leakage", "power", "delay")
        return {**_plain(self), "totals": {name: getattr(self, name).as_dict() for name in derived}}

    def as_json(self) -> str:
        """JSON text."""
        return json.dumps(self.as_dict(), indent=2)

    @staticmethod
    def from_json(text: str) -> Estimate:
        """Inverse of :meth:`as_json`; totals are computed again."""
        data = json.loads(text)
        del data["totals"]
        for key in ("registers", "register_energy", "logic_leakage"):
            data[key] = Quantity.from_dict(data[key])
        for key, kind in (("kinds", KindEstimate), ("stages", StageEstimate), ("memories", MemoryEstimate)):
            data[key] = tuple(kind(**{name: _read(value) for name, value in row.items()}) for row in data[key])
        return Estimate(**data)

    def table(self) -> Table:
        """A table of operators, registers, memories, stages and totals."""
        table = Table(title=f"{self.name} in {self.technology} at {self.clock_period_ps} ps")
        for name in ("part", "count", "value", "low", "high", "provenance"):
            table.add_column(name, justify="left" if name in ("part", "provenance") else "right")
        for kind in self.kinds:
            _row(table, kind.kind, kind.count, kind.area)
        _row(table, "registers", self.register_bits, self.registers)
        for memory in self.memories:
            _row(table, f"{memory.name} ({memory.built_as})", memory.rows * memory.width_bits, memory.area)
        table.add_section()
        for stage in self.stages:
            _row(table, f"stage {stage.stage}: {' > '.join(stage.critical_path)}", stage.register_bits, stage.delay)
        table.add_section()
        for name in ("area", "delay", "energy", "leakage", "power"):
            _row(table, name, None, getattr(self, name))
        return table


def _row(table: Table, part: str, count: int | None, q: Quantity) -> None:
    numbers = (f"{q.value:,.4g} {q.unit}", f"{q.low:,.4g}", f"{q.high:,.4g}")
    table.add_row(part, "" if count is None else f"{count:,}", *numbers, q.provenance)


def _plain(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value.as_dict()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return Quantity.from_dict(value)
    return tuple(value) if isinstance(value, list) else value


def overhead(technology: Technology) -> Quantity:
    """Part of a clock period that registers and clock take, in ps."""
    flip_flop = technology.flip_flop
    return total((flip_flop.setup, flip_flop.clock_to_q, technology.clock_uncertainty), "ps", "register overhead")


def enable_delay(technology: Technology) -> Quantity:
    """What the multiplexer that holds a register adds to the path into it, in ps."""
    return technology.cost("mux", (1, 1, 1), 1).delay


def registers(technology: Technology, bits: int, enabled_bits: int) -> Quantity:
    """Area of `bits` flip-flops, of which `enabled_bits` hold their value by a multiplexer."""
    flip_flop = technology.flip_flop
    return total((flip_flop.area.scaled(bits), flip_flop.enable.scaled(enabled_bits)), "um2", "register bits")


def by_kind(costs: Iterable[tuple[str, Cost]]) -> tuple[KindEstimate, ...]:
    """Sums of operator costs, largest area first; wiring is left out."""
    groups: dict[str, list[Cost]] = {}
    for kind, cost in costs:
        if cost is not WIRING:
            groups.setdefault(kind, []).append(cost)
    kinds = [
        KindEstimate(k, len(c), total((x.area for x in c), "um2", k), total((x.energy for x in c), "pJ", k))
        for k, c in groups.items()
    ]
    return tuple(sorted(kinds, key=lambda k: -k.area.value))


def leakage(technology: Technology, area: Quantity) -> Quantity:
    """Leakage in mW of standard cells of some area."""
    return technology.leakage_nw_per_um2.times(area, "nW").scaled(1e-6, "mW")


def node_cost(technology: Technology, nodes: Sequence[NodeLike], node: NodeLike) -> Cost:
    """Cost of one node of a graph; a product with a constant is a sum of shifted copies."""
    args = [nodes[a] for a in node.args]
    attributes: dict[str, int] = {}
    constants = [a.range.low for a in args if a.kind == "const"]
    if node.kind == "table":
        attributes["entries"] = len(node.attributes)
    elif node.kind == "mul" and constants:
        attributes["constant"] = constants[0]
    return technology.cost(node.kind, tuple(a.width_bits for a in args), node.width_bits, **attributes)


def estimate_schedule(schedule: ScheduleLike, technology: Technology) -> Estimate:
    """Estimate of a scheduled datapath: its pipeline registers hold under a stall, and each boundary has a valid bit.

    Raises:
        TechnologyError: if the technology has no cost for one of its operators.
    """
    nodes = schedule.graph.nodes
    known: dict[tuple[object, ...], Cost] = {}
    costs: list[Cost] = []
    for node in nodes:
        operands = tuple(
            (nodes[a].range.low if nodes[a].kind == "const" else None, nodes[a].width_bits) for a in node.args
        )
        key = (node.kind, operands, node.width_bits, len(node.attributes) if node.kind == "table" else 0)
        if key not in known:
            known[key] = node_cost(technology, nodes, node)
        costs.append(known[key])
    bits = sum(schedule.register_bits) + len(schedule.register_bits)
    stages = []
    for stage, longest_ps in enumerate(schedule.stage_delays_ps):
        path = schedule.critical_path(stage)
        scheduled = exactly(longest_ps, "ps", "schedule")
        modelled = total((costs[i].delay for i in path), "ps", "longest path")
        # the schedule's integer delays decide; the error bar is that of the operators on the path
        logic = Quantity(scheduled.value, "ps", modelled.error, modelled.provenance, "longest path of the schedule")
        area = total((c.area for c, s in zip(costs, schedule.stages, strict=True) if s == stage), "um2", "operators")
        boundary = schedule.register_bits[stage] + 1 if stage < len(schedule.register_bits) else 0
        names = tuple(nodes[i].kind for i in path if costs[i] is not WIRING)
        delay = total((logic, enable_delay(technology), overhead(technology)), "ps", "register to register")
        stages.append(StageEstimate(stage, delay, area, boundary, names))
    kinds = by_kind(zip((n.kind for n in nodes), costs, strict=True))
    register_area = registers(technology, bits, bits)
    logic_area = total((*(k.area for k in kinds), register_area), "um2", "standard cells")
    return Estimate(
        schedule.graph.name,
        technology.name,
        schedule.clock_period_ps,
        bits,
        register_area,
        technology.flip_flop.energy.scaled(bits),
        leakage(technology, logic_area),
        kinds,
        tuple(stages),
    )
