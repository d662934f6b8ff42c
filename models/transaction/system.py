"""The machine as transactions.

Modules of the row side, fetch side with its memory, controller, connected as in
`hls.datapaths.accelerator`; and the run of a workload on it.

    controller -> head walk -> operand loader -> fetch side <-> memory
                     |-> row issue (Q x K, softmax, decision) -> value path (engines, prob x V, outputs) -> write-back

Time is that of the netlist: `verification.transaction_equality` compares both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from models.config import AcceleratorConfig
from models.memory.energy import NO_ENERGY, EnergyBreakdown
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory, MemoryStatistics
from models.transaction.channel import In, connect
from models.transaction.controller import Controller, LayerTimes
from models.transaction.counting import performed_operations
from models.transaction.fetch_state import PURPOSES
from models.transaction.fetching import FetchSide
from models.transaction.issue import RowIssue
from models.transaction.kernel import Simulation
from models.transaction.layer_plan import Following, LayerPlan
from models.transaction.loader import HeadWalk, Jobs, OperandLoader
from models.transaction.machine_timing import MachineTiming
from models.transaction.observation import LayerEvents, events_of
from models.transaction.placement import PlacementOf, standard_placement
from models.transaction.quick_select import PassDraws
from models.transaction.register_timing import RowTiming
from models.transaction.serial import RoundTrip, SerialChain, behind, drain
from models.transaction.value_state import A, B
from models.transaction.values import ValuePath
from models.transaction.workload import IntArray, LayerWork, Selection, Workload

ENGINES = {"a": A, "b": B}
WRITTEN = ("output", "control_write")
"""Purposes of bursts that are written."""
Protected = Callable[[LayerWork], IntArray]
Asked = tuple[LayerWork, Selection | None, Selection | None, Following]
"""A layer, the selections of tokens and heads behind it, and what survives them."""


def current_token(work: LayerWork) -> IntArray:
    """The last token of the sequence."""
    return np.array([work.tokens - 1])


@dataclass(frozen=True, eq=False)
class LayerResult:
    """A layer that was run.

    Attributes:
        name: of the pass and layer.
        work: what it was.
        cycles: of all of it; `start_cycle` is when it was asked for.
        turnaround_cycles: of these, before the first job and behind the last outputs.
        row_cycles: when the last beat of each row left the row queues, from `start_cycle` on.
        output_cycles: when its outputs went to the write-back.
        bursts: by purpose.
        busy_cycles: by module.
        waits: cycles that modules outside of the rows' side stalled, by module and what they waited for.
        actions: for the energy (`models.transaction.energy.ACTIONS`).
        dram: energy of the memory; none of memories that are not HBM2.
        operations: performed, two a multiplication with its addition.
        events: what its modules did when.
        serial: what of it is a chain of dependencies at the least.
    """

    name: str
    work: LayerWork
    start_cycle: int
    cycles: int
    turnaround_cycles: int
    row_cycles: IntArray
    output_cycles: IntArray
    bursts: dict[str, int]
    busy_cycles: dict[str, int]
    waits: dict[str, int]
    actions: dict[str, int]
    dram: EnergyBreakdown
    operations: int
    events: LayerEvents
    serial: SerialChain

    @cached_property
    def stall_cycles(self) -> dict[str, int]:
        """By module and what it waited for."""
        return self.events.stalls() | self.waits


@dataclass(frozen=True, eq=False)
class SystemResult:
    """A workload that was run."""

    workload: Workload
    machine: AcceleratorConfig
    layers: list[LayerResult]
    memory: MemoryStatistics | None
    samples: tuple[tuple[int, int, int], ...] = ()
    """Of the fetch side now and then: cycle, bursts so far, vectors on the way."""

    @property
    def cycles(self) -> int:
        """Of all layers."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def turnaround_cycles(self) -> int:
        """Of these, outside of the rows."""
        return sum(layer.turnaround_cycles for layer in self.layers)

    @property
    def seconds(self) -> float:
        """Of all layers."""
        return self.cycles * self.machine.clock_period_ps * 1e-12


def _of(prefix: str, counts: dict[str, int]) -> dict[str, int]:
    """Counts of a kind, by the rest of their names."""
    return {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}


def _actions(plan: LayerPlan, counts: dict[str, int]) -> dict[str, int]:
    """Actions of a layer."""
    work, beats = plan.work, counts["busy Q x K"]
    rows, vectors = work.flat.size, _of("vectors ", counts)
    keys, values = vectors["k_msb"] + vectors["k_lsb"], vectors["v_msb"] + vectors["v_lsb"]
    retired = len(work.heads) * sum(plan.beats)
    return {
        "qk_row": beats,
        "pv_row": counts["busy prob x V"],
        "out_row": rows,
        "score_beat": beats,
        "exponential_beat": beats,
        "reciprocal_row": counts["passes"],
        "probability_beat": beats,
        "token_beat": retired,
        "head_beat": rows * plan.parts,
        **{f"top_k_{engine}_fill_row": counts[f"rows engine {engine}"] for engine in ENGINES},
        **{f"top_k_{engine}_pass_row": counts[f"pass rows engine {engine}"] for engine in ENGINES},
        **{f"top_k_{engine}_filter_row": counts[f"rows engine {engine}"] for engine in ENGINES},
        "address": sum(vectors.values()),
        "key_read": beats,
        "key_write": keys,
        "value_read": int(work.kept.sum()) * plan.parts,
        "value_write": values,
    }


@dataclass
class System:
    """The modules, connected.

    Attributes:
        workload: whose layers run; of its shape where they are `fed`.
        machine: that runs it.
        memory: behind it.
        placement, protected, prunes_values: as for `simulate`.
        fed: layers that come one by one, each for a `step`; None runs those of the workload.
        results: of the layers.

    Raises:
        WorkloadError, ConfigError: for a workload that the machine cannot hold.
    """

    workload: Workload
    machine: AcceleratorConfig
    memory: Memory
    placement: PlacementOf
    protected: Protected
    prunes_values: bool | None = None
    fed: Iterator[Asked] | None = None
    results: list[LayerResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workload.check(self.machine)
        sim = self.simulation = Simulation()
        timing, registers = MachineTiming.of(self.machine), RowTiming.of(self.machine)
        self.jobs = Jobs(sim)
        self.fetch = FetchSide(sim, self.machine, self.memory)
        self.walk = HeadWalk(sim, registers, self.jobs)
        self.loader = OperandLoader(sim, registers, self.jobs, self.fetch)
        self.issue = RowIssue(sim, self.machine, timing, self.jobs, self.loader, self.fetch)
        self.values = ValuePath(sim, self.machine, self.jobs, self.issue, self.fetch)
        parts = (self.jobs, self.loader, self.issue, self.values, self.fetch)
        self.controller = Controller(sim, self.machine, self._plans(), parts, self._observe, self.fed is not None)
        readers: list[In[tuple[LayerPlan, int]]] = [
            module.layers for module in (self.walk, self.loader, self.issue, self.values)
        ]
        for port, reader in zip(self.controller.layers, readers, strict=True):
            connect(port, reader, 1)
        connect(self.values.final, self.controller.final, 1)
        connect(self.values.done, self.controller.done, 1)
        self.issue.give = self.values.take_row
        self._before = self._counts()

    def _plans(self) -> Iterator[tuple[LayerPlan, Selection | None, Selection | None, Following]]:
        """Each layer with what is selected behind it, for the next one of its pass."""
        draws = PassDraws()
        for work, tokens, heads, after in self.fed if self.fed is not None else self._in_order():
            prunes = work.prunes_values if self.prunes_values is None else self.prunes_values
            plan = LayerPlan(work, self.machine, self.placement(work), self.protected(work), prunes, draws)
            yield plan, tokens, heads, after

    def _in_order(self) -> Iterator[Asked]:
        """All layers of the workload, and selections that no layer is before that could make them."""
        for work, following in pairwise(chain(self.workload.layers(), [None])):
            assert work is not None
            entering = work.selection_on_entering()
            if entering is not None:
                yield entering, work.token_selection, None, Following(work.key_ids, work.heads)
            if following is None or following.layer == 0:
                yield work, None, None, Following(work.key_ids, work.heads)
                continue
            by_itself = following.selection_on_entering() is not None
            tokens = None if by_itself else following.token_selection
            kept = work.key_ids if by_itself else following.key_ids
            yield work, tokens, following.head_selection, Following(kept, following.heads)

    def _counts(self) -> dict[str, int]:
        values = self.fetch.run.values
        bursts, busy = self.fetch.run.state["bursts"].tolist(), values["busy_cycles"].tolist()
        vectors = dict(zip(PURPOSES, self.fetch.vectors, strict=True))
        vectors |= {"v_msb": int(values["asked_msb"]), "v_lsb": int(values["asked_lsb"])}
        return {
            **{f"bursts {name}": n for name, n in zip(PURPOSES, bursts, strict=True)},
            "busy Q x K": self.issue.beats,
            "busy softmax": self.issue.beats,
            "busy top-k engine B": busy[B],
            "busy top-k engine A": busy[A],
            "busy prob x V": int(values["product_cycles"]),
            "stall prob x V, values not landed": int(values["waited_cycles"]),
            **{f"vectors {name}": n for name, n in vectors.items()},
            "passes": self.issue.passes,
            "activates": self._activates(),
            **{f"rows engine {name}": int(values["item_rows_in"][e]) for name, e in ENGINES.items()},
            **{f"pass rows engine {name}": int(values["pass_rows_in"][e]) for name, e in ENGINES.items()},
        }

    def _activates(self) -> int:
        """Rows of DRAM opened so far."""
        memory = self.fetch.run.memory
        return memory.statistics().activates if isinstance(memory, Hbm2Memory) else 0

    def _dram(self, bursts: dict[str, int], activates: int) -> EnergyBreakdown:
        """Energy of so many bursts, by purpose, and rows opened."""
        memory = self.fetch.run.memory
        if not isinstance(memory, Hbm2Memory):
            return NO_ENERGY
        written = sum(bursts[name] for name in WRITTEN)
        return memory.energy.of(activates, BURST_BYTES * (sum(bursts.values()) - written), BURST_BYTES * written)

    def _observe(self, plan: LayerPlan, times: LayerTimes) -> None:
        now, before = self._counts(), self._before
        self._before = now
        change = {name: now[name] - before[name] for name in now}
        work = plan.work
        rows = np.asarray(times.rows, np.int64) - times.asked
        outputs = np.asarray(times.outputs, np.int64) - times.asked
        keys = [
            self.loader.key_loads.values,
            self.issue.key_there,
            self.issue.key_taken,
            self.loader.key_ends.values,
        ]
        cycles = (times.started, times.ended, times.done)
        trip, known = RoundTrip.of(self.memory), self.fetch.run.layer
        last_select = (int(known["pass_rows"][-1]), int(known["passes"][-1])) if work.rows else (0, 0)
        events = events_of(times.asked, cycles, self.issue.log, keys, rows, outputs, plan.key_places)
        bursts = {name: change[f"bursts {name}"] for name in PURPOSES}
        self.results.append(
            LayerResult(
                name=f"step {work.step}, {'' if work.rows else 'on entering '}layer {work.layer}",
                work=work,
                start_cycle=times.asked,
                cycles=times.done - times.asked,
                turnaround_cycles=times.done - times.ended + times.started - times.asked,
                row_cycles=rows,
                output_cycles=outputs,
                bursts=bursts,
                busy_cycles=_of("busy ", change),
                waits=_of("stall ", change),
                actions=_actions(plan, change),
                dram=self._dram(bursts, change["activates"]),
                operations=performed_operations(work),
                events=events,
                serial=SerialChain(
                    self.controller.least_before(plan, trip.read), behind(plan, trip, *last_select), drain(plan, trip)
                ),
            )
        )

    def step(self, memory: Memory) -> LayerResult:
        """Run the next layer that is fed, on a memory as it is now."""
        self.simulation.run()
        self.fetch.run.change_memory(memory, self.simulation.now_cycle)
        self._before["activates"] = self._activates()
        self.controller.go.notify()
        self.simulation.run()
        return self.results[-1]

    def run(self) -> SystemResult:
        """Run all layers."""
        self.simulation.run()
        statistics = self.memory.statistics() if isinstance(self.memory, Hbm2Memory) else None
        return SystemResult(self.workload, self.machine, self.results, statistics, tuple(self.fetch.samples))


def simulate(
    workload: Workload,
    machine: AcceleratorConfig,
    memory: Memory | None = None,
    placement: PlacementOf | None = None,
    prunes_values: bool | None = None,
    protected: Protected = current_token,
) -> SystemResult:
    """Run a workload.

    Args:
        workload: to run.
        machine: that runs it.
        memory: behind it, new; HBM2 by default.
        placement: where operands are in DRAM; `standard_placement` by default.
        protected: ids that no selection removes; the current token by default.
        prunes_values: values go through the top-k engines; by default in layers where some row keeps not all.

    Raises:
        WorkloadError, ConfigError: for a workload that the machine cannot hold.
        DeadlockError: if modules wait in a circle.
    """
    system = System(
        workload,
        machine,
        memory or Hbm2Memory(machine.hbm_channels),
        placement or standard_placement(workload, machine),
        protected,
        prunes_values,
    )
    return system.run()
