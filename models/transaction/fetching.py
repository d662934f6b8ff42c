"""Fetch side as a module: takes requests for lists, says when they were accepted and when their vectors have landed.

Requests are those of the netlist (`hls.datapaths.machine_sizes.MachineSizes.list_request`). What comes of them is
computed by `models.transaction.fetch_run`, up to the next thing that happens anywhere in the machine: so a list that is
more urgent comes first exactly where it does in the netlist.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import simpy

from hls.datapaths.list_sequencer import msb_window
from hls.datapaths.machine_sizes import KEY_PLACES, QUERY_LINES
from models.config import AcceleratorConfig
from models.memory.interface import Memory
from models.transaction.end_loop import FAR as END_FAR
from models.transaction.fetch_run import STILL_CYCLES, FetchRun
from models.transaction.fetch_state import (
    ACCEPTED,
    KEY,
    KEY_LSB,
    LANDED,
    LINE,
    NOTHING,
    PURPOSES,
    QUERY,
    READ,
    SCORES_READ,
    SWEPT,
    TO_KEY,
    VALUE,
    WRITTEN,
    FetchSizes,
)
from models.transaction.kernel import Event, Module, Simulation, Steps
from models.transaction.waits import Wait
from models.transaction.workload import IntArray

STREAM_NAMES = {QUERY: "query", KEY_LSB: "key LSB", VALUE: "value", KEY: "key"}
TOLD = READ | WRITTEN | SWEPT | SCORES_READ
"""Bits of events that happen seldom."""
SAMPLE_CYCLES = 500
"""Least cycles between two samples."""


class Progress:
    """What the fetch side waits for that stands still, in the words of its `purpose`; nobody gives it."""

    name = "progress of the fetch side"

    def missing(self, purpose: str) -> str:
        """As `models.transaction.waits.Awaited`."""
        return purpose

    def partners(self, purpose: str) -> tuple[simpy.Process, ...]:
        """As `models.transaction.waits.Awaited`."""
        return ()


class FetchSide(Module):
    """The module.

    Attributes:
        run: the state.
        vectors: asked for, by purpose.
        query_cycles: cycle from which each row's query is there, rows of the layer in order.
        values_event: happens with the bits of `models.transaction.value_state`, in the cycle after.
        samples: cycle, bursts so far and vectors on the way, now and then.
    """

    def __init__(self, simulation: Simulation, machine: AcceleratorConfig, memory: Memory) -> None:
        super().__init__(simulation, "fetch side")
        self.run = FetchRun(machine, memory)
        self.vectors = [0] * len(PURPOSES)
        self.query_cycles: list[int | None] = []
        self.samples: list[tuple[int, int, int]] = []
        self._next_sample = SAMPLE_CYCLES
        self._moved: tuple[int, ...] = ()
        self._progress = Progress()
        self._lines: list[int] = [0] * QUERY_LINES
        self._missing: list[int] = []
        self._latest: list[int] = []
        self._parts = 1
        self._unaccepted: set[int] = set()
        self._accepted = {s: Event(simulation, f"{n} list accepted") for s, n in STREAM_NAMES.items()}
        self._segments = segments = FetchSizes.of(machine).segments
        self._landed = {
            (buffer, segment): Event(simulation, f"segment {segment} of K {buffer} landed")
            for buffer in range(KEY_PLACES)
            for segment in range(segments)
        }
        self._awaited: dict[tuple[int, int], Event] = {}
        self._query = Event(simulation, "query landed")
        self._query_rows: list[int] = []
        self._read = Event(simulation, "control reads answered")
        self._written = Event(simulation, "writes acknowledged")
        self._scores = Event(simulation, "scores read")
        self._told = {
            **{READ: self._read, WRITTEN: self._written},
            **dict.fromkeys((SWEPT, SCORES_READ), self._scores),
        }
        self._work = Event(simulation, "fetch work")
        self.values_event = Event(simulation, "value side")
        self.start(self._main())

    def begin(self, rows: int, parts: int, progressive: bool) -> None:
        """A layer begins: so many rows of queries, in as many lines each as a key has parts; LSBs are lists apart."""
        window = int(self.run.state["window"])
        self.run.state["msb_window"] = msb_window(window) if progressive else window
        self._parts = parts
        self.query_cycles = [None] * rows
        self._missing, self._latest = [parts] * rows, [0] * rows
        self._lines = [line // parts for line in range(QUERY_LINES)]

    def wake(self) -> None:
        """Something has been told to the fetch side or the value side, or will be before time goes on."""
        if self.run.rests:
            self.run.run(self.simulation.now_cycle)
            self._work.notify()

    def tell_values(self) -> None:
        """The value side knows more than before."""
        self.wake()
        self.run.wake(self.simulation.now_cycle)

    def request(
        self,
        stream: int,
        cycle: int,
        ids: IntArray,
        parts: int,
        first: int,
        count: int,
        base: int,
        bits: int,
        **to: int,
    ) -> Generator[simpy.Event, Any, None]:
        """Offer a list from `cycle` on, when the one before on its stream is accepted."""
        yield from self.accepted(stream)
        self.vectors[to["purpose"]] += count
        self.wake()
        self.run.offer(stream, cycle, ids, parts, first, count, base, bits, **to)

    def accepted(self, stream: int) -> Generator[simpy.Event, Any, None]:
        """When the last list on a stream is accepted."""
        while self.run.state["offer"][stream] != NOTHING:
            self.run.watched |= ACCEPTED
            self._unaccepted.add(stream)
            yield self._accepted[stream].wait()

    def accepted_cycle(self, stream: int, buffer: int = 0) -> int:
        """The cycle in which the last list on a stream for a buffer was accepted."""
        return int(self.run.state["accepted_at"][stream, buffer])

    def pending(self, buffer: int, segment: int) -> bool:
        """Something is asked for, for a segment of a place of K, that has not landed."""
        state = self.run.state
        offered = state["offer"][KEY]
        if offered != NOTHING and state["list_buffer"][offered] == buffer:
            return True
        return bool(state["left"][TO_KEY, buffer, segment])

    def landed(self, buffer: int, segment: int) -> Generator[simpy.Event, Any, int]:
        """When nothing is pending for a segment of a place of K: the cycle from which that is seen, or 0."""
        state = self.run.state
        while self.pending(buffer, segment):
            self.run.watched |= LANDED
            event = self._awaited[buffer, segment] = self._landed[buffer, segment]
            state["segments_watched"] |= 1 << buffer * self._segments + segment
            yield event.wait()
        return int(state["landed_at"][TO_KEY, buffer, segment])

    def query(self, row: int) -> Generator[simpy.Event, Any, int]:
        """The cycle from which the query of a row is there."""
        while self.query_cycles[row] is None:
            self.run.watched |= LINE
            self._query_rows.append(row)
            yield self._query.wait()
        found = self.query_cycles[row]
        assert found is not None
        return found

    def read(self, address: int, bursts: int, cycle: int) -> None:
        """Ask for bursts for the controller from `cycle` on."""
        self.wake()
        self.run.read(address, bursts, cycle)

    def reads_answered(self) -> Generator[simpy.Event, Any, int]:
        """When all reads of the controller are answered."""
        while self.run.state["reads_done"] != self.run.state["reads_made"]:
            yield self._read.wait()
        return self.simulation.now_cycle

    def end(self, numbers: Mapping[str, int], streams: Mapping[str, Sequence[int]], bursts: int) -> None:
        """The end of a layer begins (`models.transaction.fetch_run.FetchRun.end`)."""
        self.wake()
        self.run.end(numbers, streams, bursts)

    def at_end(self, what: str) -> Generator[simpy.Event, Any, int]:
        """The cycle in which S_t are read (`items_end`), S_h (`heads_in`), or results are known (`results_end`)."""
        while self.run.state[what] == END_FAR:
            self.run.watched |= SWEPT | SCORES_READ
            yield self._scores.wait()
        return int(self.run.state[what])

    def writes_acknowledged(self) -> Generator[simpy.Event, Any, int]:
        """When all writes are acknowledged."""
        while self.run.state["owed_back"] or self.run.state["owed_control"]:
            self.run.watched |= WRITTEN
            yield self._written.wait()
        return self.simulation.now_cycle

    def _main(self) -> Steps:
        env, run = self.simulation.env, self.run
        while True:
            if run.rests:
                yield self._work.wait(rest=True)
            yield self.simulation.wait_behind(0)
            while not run.rests:
                now = self.simulation.now_cycle
                reached = run.run(int(min(env.peek(), now + STILL_CYCLES)))
                self.busy_cycles += reached - now
                if reached < now + STILL_CYCLES:
                    self._moved = ()
                elif self._stands_still():
                    owed = "; ".join(run.memory.waiting()) or "the memory owes nothing"
                    yield Wait(env, self._progress, f"a burst or a row that moves ({owed})", now)
                if reached >= self._next_sample:
                    self.samples.append((reached, int(run.state["bursts"].sum()), int(run.state["on_the_way"])))
                    self._next_sample = reached + SAMPLE_CYCLES
                if run.events:
                    self._tell(run.events, reached - now)
                if run.value_events:
                    self.values_event.notify(run.value_events, reached - now)
                yield self.simulation.wait_behind(reached - now)

    def _stands_still(self) -> bool:
        """No burst and no row has moved since the last time, right before, and nobody else has anything to do."""
        state, values = self.run.state, self.run.values
        waits = (int(state[name]) for name in ("on_the_way", "reads_done", "owed_back", "owed_control"))
        moved = (int(state["bursts"].sum()), int(values["output_row"]), *waits)
        before, self._moved = self._moved, moved
        return moved == before and self.simulation.env.peek() == math.inf

    def _tell(self, events: int, delay_cycles: int) -> None:
        """What waits for these events goes on after so many cycles."""
        run, state = self.run, self.run.state
        if events & ACCEPTED:
            for stream in [stream for stream in self._unaccepted if state["offer"][stream] == NOTHING]:
                self._unaccepted.remove(stream)
                self._accepted[stream].notify(None, delay_cycles)
        if events & LINE:
            there = state["line_there"]
            for line in there.nonzero()[0].tolist():
                row = self._lines[line]
                self._lines[line] += QUERY_LINES // self._parts
                self._missing[row] -= 1
                self._latest[row] = max(self._latest[row], int(there[line]))
                if not self._missing[row]:
                    self.query_cycles[row] = self._latest[row]
            there[:] = 0
            if any(self.query_cycles[row] is not None for row in self._query_rows):
                self._query_rows = []
                self._query.notify(None, delay_cycles)
        told = events & run.watched
        for bit, event in self._told.items() if told & TOLD else ():
            if told & bit:
                event.notify(None, delay_cycles)
        run.watched &= ~events | READ
        if events & LANDED:
            left = state["left"][TO_KEY]
            for where in [where for where in self._awaited if not left[where]]:
                state["segments_watched"] &= ~(1 << where[0] * self._segments + where[1])
                self._awaited.pop(where).notify(None, delay_cycles)
        if self._unaccepted:
            run.watched |= ACCEPTED
        if self._awaited:
            run.watched |= LANDED
        if self._query_rows:
            run.watched |= LINE
