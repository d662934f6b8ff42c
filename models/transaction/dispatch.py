"""Dispatch, prob x V and output stage: rows that may start, when their values have landed, and their outputs.

As `hls.datapaths.value_dispatch`, `probability_value`, `output_stage` and `write_back`: a row starts when all of it is
in the lanes' FIFOs, its lists have been asked for and have landed, and the row before has read its last entries; it
takes as long as its fullest lane.
"""

from dataclasses import dataclass

from models.transaction.channel import In, Out
from models.transaction.fetch_state import TO_SPARSE, TO_VALUE
from models.transaction.fetching import FetchSide
from models.transaction.issue import Row
from models.transaction.kernel import Module, Simulation, Steps
from models.transaction.layer_plan import LayerPlan
from models.transaction.machine_timing import MachineTiming
from models.transaction.times import Times

OUTPUT_ELEMENTS = 16
"""Elements of an output that the write-back takes in a cycle."""
RELEASE_CYCLES = 2
"""From a row's last entries until its V buffer is released."""
WRITE_CYCLES = 3
"""From the last part of a row of outputs until its last burst is offered to a channel."""


@dataclass(slots=True)
class Permit:
    """A row that may start: when that is known, when it is in the lanes' FIFOs, its buffer, its cycles in prob x V."""

    row: Row
    known: int
    pushed: int
    buffer: int
    sparse: bool
    cycles: int
    releases: bool


class Dispatch(Module):
    """The module.

    Attributes:
        starts: cycle in which the n-th row of the layer starts.
        released: cycle in which the n-th V buffer is released.
        outputs: cycles in which outputs of the layer's rows went to the write-back.
        product_cycles: of prob x V, all layers.
        waited_cycles: for values that had not landed, with nothing else to wait for.
    """

    def __init__(self, simulation: Simulation, timing: MachineTiming, fetch: FetchSide) -> None:
        super().__init__(simulation, "dispatch")
        self.timing, self.fetch = timing, fetch
        self.layers: In[tuple[LayerPlan, int]] = In(self, "layers")
        self.permits: In[Permit] = In(self, "permits")
        self.done: Out[int] = Out(self, "done")
        self.starts, self.released = (Times(simulation, name) for name in ("rows started", "V buffers released"))
        self.outputs: list[int] = []
        self.product_cycles = self.waited_cycles = 0
        self.start(self._main())

    def clear(self) -> None:
        """A layer begins."""
        self.starts.clear()
        self.released.clear()
        self.outputs = []

    def _main(self) -> Steps:
        while True:
            plan, _ = yield self.layers.fifo.get(rest=True)
            beats = -(-plan.work.head_dim // OUTPUT_ELEMENTS)
            count, address, elements = plan.work.flat.size, plan.place["output_address"], 0
            free = begins = output = 0
            spacing = max(beats, plan.parts)
            for index in range(count):
                permit: Permit = yield self.permits.fifo.get()
                landed = yield from self.fetch.landed(TO_VALUE, permit.buffer)
                if permit.sparse:
                    landed = max(landed, (yield from self.fetch.landed(TO_SPARSE, 0)))
                could = max(permit.pushed, permit.known, free)
                start = max(could, landed)
                self.waited_cycles += start - could
                free = start + permit.cycles
                self.product_cycles += permit.cycles
                self.busy_cycles += permit.cycles
                self.starts.append(start)
                if permit.releases:
                    self.released.append(free + RELEASE_CYCLES)
                begins = max(free + self.timing.weigh, begins + spacing)
                output = begins + beats - 1
                permit.row.output = output
                self.outputs.append(output)
                before = elements // OUTPUT_ELEMENTS
                elements += plan.work.head_dim
                ends = elements if index + 1 < count else elements + OUTPUT_ELEMENTS - 1
                bursts = ends // OUTPUT_ELEMENTS - before
                if bursts:
                    self.fetch.write("out", address + 32 * before, bursts, output - bursts + WRITE_CYCLES)
            yield self.done.put(output)
