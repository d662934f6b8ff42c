"""Fetch side, memory and value side, run up to a cycle or to the next thing that the rest of the machine must know.

They take each cycle together: lists of values are asked for and accepted, and outputs written, cycle by cycle. HBM2 is
stepped in compiled code; any other memory takes the same steps from Python. What has nothing under way is not stepped.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from hls.datapaths.top_k import RESULT_ROWS
from models.config import AcceleratorConfig
from models.memory import ports
from models.memory.compilation import Array, Record, compiled, lowest, uncounted
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory
from models.transaction.end_loop import end_cycle
from models.transaction.fetch_loop import add_list_to, settle
from models.transaction.fetch_state import NOTHING, READ, RING, VALUE, new_state
from models.transaction.fields import Fields
from models.transaction.value_layer import ValueLayer
from models.transaction.value_loop import FAR, value_cycle
from models.transaction.value_state import new_value_state
from models.transaction.waits import TransactionError

STILL_CYCLES = 1 << 18
"""So long nothing of a machine takes that no fetch is under way for."""


Progress = tuple[int, int, int, bool, int]
"""The next cycle, both sides' events, whether the fetch side has nothing to do, and when the value side has."""


@compiled
def both(f: Record, v: Record, rows: Array, accepted: int, reads: int, writes: int) -> None:
    """A cycle, when the memory has answered (`fetch_loop.settle`)."""
    cycle, sent, offered = f.now, f.out_sent, f.offer[VALUE] != NOTHING
    end_waits = f.end_made - f.end_sent
    pending = (f.values_pending[0], f.values_pending[1], f.sparse_left > 0)
    settle(f, accepted, reads, writes)
    if f.ending:
        end_cycle(f, cycle, end_waits)
    if v.wakes <= cycle:
        value_cycle(v, f, rows, cycle, offered and f.offer[VALUE] == NOTHING, pending, f.out_sent - sent)


@compiled
def settle_one(states: Array, values: Array, rows: Array) -> None:
    """`both` for callers that hold the arrays, not the records."""
    f, accepted, reads, writes = states[0], 0, 0, 0
    for c in range(f.accepted.shape[0]):
        accepted |= (1 if f.accepted[c] else 0) << c
        reads |= (1 if f.read_tag[c] >= 0 else 0) << c
        writes |= (1 if f.write_tag[c] >= 0 else 0) << c
    both(f, values[0], rows, accepted, reads, writes)


@compiled
def alone(f: Record, v: Record, rows: Array, until: int) -> None:
    """Cycles of the value side while the fetch side has nothing to do."""
    while v.event == 0 and f.idle:
        f.now = min(until, max(f.now, v.wakes))
        if f.now == until:
            return
        value_cycle(v, f, rows, f.now, False, (0, 0, False), 0)
        f.now += 1


@compiled
def run_values(states: Array, values: Array, rows: Array, until: int) -> None:
    """`alone` for callers that hold the arrays, not the records."""
    alone(states[0], values[0], rows, until)


@compiled
def run_hbm2(
    states: Array,
    until: int,
    watched: int,
    channels: Record,
    trace: Array,
    traced: Array,
    values: Array,
    rows: Array,
) -> Progress:
    """Cycles up to, not including, `until`, or the first after which something watched has happened."""
    f, v, d = states[0], values[0], uncounted(rows)
    now, count = ports.clock(channels), channels.shape[0]
    f.event = v.event = 0
    # of each channel: before which cycle it has no command; of each cycle: which channels answer in it
    wakes, answers = np.empty(count, np.int64), np.zeros(channels[0].due.shape[1], np.int64)
    for c in range(count):
        wakes[c] = channels[c].wake
        for at in range(answers.shape[0] if channels[c].owes else 0):
            if channels[c].due[0, at] >= 0 or channels[c].due[1, at] >= 0:
                answers[at] |= 1 << c
    refused = 0
    while f.now < until and f.event & watched == 0 and v.event == 0:
        if f.idle:
            first, still = f.now, f.now + STILL_CYCLES
            alone(f, v, d, min(until, still))
            now += f.now - first
            for c in range(count):
                ports.rest(channels[c], c, now, trace, traced)
                wakes[c] = channels[c].wake
            if f.now == still:
                break
            continue
        accepted, reads, writes = 0, 0, 0
        answering = answers[now & answers.shape[0] - 1]
        answers[now & answers.shape[0] - 1] = 0
        while answering:
            c = lowest(answering)
            answering &= answering - 1
            f.read_tag[c], written = ports.answer(channels[c], now)
            reads |= (1 if f.read_tag[c] >= 0 else 0) << c
            writes |= (1 if written >= 0 else 0) << c
        stepped = f.memory_any & ~refused
        for c in range(count):
            stepped |= (1 if wakes[c] <= now else 0) << c
        while stepped:
            c = lowest(stepped)
            stepped &= stepped - 1
            channel, bit = channels[c], 1 << c
            if wakes[c] <= now:
                served, done = ports.issue(channel, now)
                if served >= 0:
                    answers[done & answers.shape[0] - 1] |= bit
                    refused &= ~bit
            if f.memory_any & bit and not refused & bit:
                request = f.memory[c, 0]
                if ports.offer(channel, now, request[0] * BURST_BYTES, request[1], request[2] != 0):
                    accepted |= bit
                else:
                    # as long as nothing is served
                    refused |= bit
            wakes[c] = channel.wake
            if trace.shape[0]:
                ports.log_commands(channel, c, now, trace, traced)
        both(f, v, d, accepted, reads, writes)
        now += 1
    for c in range(count):
        channels[c].now = now
    return f.now, f.event, v.event, f.idle != 0, v.wakes


class FetchRun:
    """A fetch side in front of a memory, and a value side.

    Attributes:
        state: the record of the fetch side (`models.transaction.fetch_state`).
        values: that of the value side (`models.transaction.value_state`).
        layer: what the value side knows of its rows.
        watched: bits of the fetch side's events (`models.transaction.fetch_state`) that a run ends with.
        events: those of the last run, watched or not.
        value_events: the same of the value side.
        rests: nothing will happen by itself.
    """

    def __init__(self, machine: AcceleratorConfig, memory: Memory) -> None:
        if memory.channels != machine.hbm_channels:
            raise ValueError(f"a memory of {memory.channels} channels; the machine has {machine.hbm_channels}")
        self.machine, self.memory = machine, memory
        self.states, self.value_states = new_state(machine), new_value_state(machine)
        self.state = Fields(self.states)
        self.values = Fields(self.value_states)
        self.values["wakes"] = FAR
        self.layer = ValueLayer.none()
        self.watched, self.rests = READ, True
        self.events = self.value_events = 0
        self.start_cycle = memory.now_cycle

    def change_memory(self, memory: Memory, cycle: int) -> None:
        """Another memory from `cycle` on, while nothing is under way."""
        self.run(cycle)
        self.memory, self.start_cycle = memory, memory.now_cycle - cycle

    def run(self, until: int) -> int:
        """Run to `until` or to the end of a cycle in which something watched has happened; the next cycle."""
        memory, events = self.memory, 0
        while True:
            if isinstance(memory, Hbm2Memory):
                progress = run_hbm2(
                    self.states, until, self.watched, *memory._state, self.value_states, self.layer.data
                )
            else:
                progress = self._in_python(until)
            now, happened, self.value_events, idle, wakes = progress
            events |= happened
            if now >= until or events & self.watched or self.value_events:
                break
            if wakes <= now:
                raise TransactionError(
                    f"the value side has moved nothing in {STILL_CYCLES} cycles up to {now}: of "
                    f"{self.values['known']} rows {self.values['output_row']} have left, and the fetch side has "
                    f"nothing to do"
                )
        self.events, self.rests = events, idle and wakes == FAR
        return now

    def begin(self, layer: ValueLayer, output_address: int, importance_from: int) -> None:
        """The value side has a new layer, when it has done with the one before.

        Args:
            layer: what is known of its rows.
            output_address: of the outputs, in bytes.
            importance_from: cycle from which token importance takes probabilities.
        """
        v = self.values
        self.layer = layer
        layer.enter(v)
        counts = (
            "known",
            "decisions",
            "decision_next",
            "jobs_given",
            "job_next",
            "retired_n",
            "left_n",
            "second_left_n",
            "started_n",
        )
        v["added_beats"] = v["kept_rows"] = 0
        v["final"] = FAR
        for name in (*counts, *("first_row", "second_row", "out_row", "output_row", "event_row", "row", "job_granted")):
            v[name] = 0
        v["output_burst"] = output_address >> 5
        v["importance_from"] = importance_from
        v["watch_rows"] = v["watch_beats"] = v["watch_seconds"] = FAR

    def wake(self, cycle: int) -> None:
        """The value side has been told something."""
        self.values["wakes"] = min(int(self.values["wakes"]), cycle)
        self.rests = False

    def _in_python(self, until: int) -> Progress:
        """As `run_hbm2`."""
        f, v = self.state, self.values
        f["event"] = v["event"] = 0
        while f["now"] < until and not f["event"] & self.watched and not v["event"]:
            if f["idle"]:
                still = int(f["now"]) + STILL_CYCLES
                run_values(self.states, self.value_states, self.layer.data, min(until, still))
                self.memory.advance(self.start_cycle + int(f["now"]))
                if f["now"] == still:
                    break
                continue
            valid, (burst, tag, write, _) = f["memory_n"] > 0, f["memory"][:, 0].T
            reply = self.memory.step(valid, np.where(valid, BURST_BYTES * burst, 0), tag, (write != 0) & valid)
            f["accepted"], f["read_tag"], f["write_tag"] = reply.accepted, reply.read_tag, reply.write_tag
            settle_one(self.states, self.value_states, self.layer.data)
        return int(f["now"]), int(f["event"]), int(v["event"]), bool(f["idle"]), int(v["wakes"])

    def offer(
        self,
        stream: int,
        cycle: int,
        ids: Array,
        parts: int,
        first: int,
        count: int,
        base_bytes: int,
        bits: int,
        **to: int,
    ) -> None:
        """Offer a list on a stream that has none, from `cycle` on; `to`: destination, buffer, place, purpose."""
        order = (to["destination"], to["buffer"], to["place"], to["purpose"])
        add_list_to(self.states, stream, cycle, ids, parts, first, count, base_bytes >> 5, bits, *order)
        self.rests = False

    def read(self, address_bytes: int, bursts: int, cycle: int) -> None:
        """Control reads, one a cycle from `cycle` on."""
        if self.state["reads_sent"] == self.state["reads_made"]:
            self.state["reads_late"] = 0
        f = self.state
        at = (int(f["reads_made"]) + np.arange(bursts)) % RING
        f["read_address"][at] = (address_bytes >> 5) + np.arange(bursts)
        f["read_cycle"][at] = cycle + np.arange(bursts)
        f["reads_made"] += bursts
        f["idle"] = 0
        self.rests = False

    def read_cycles(self, end: int, count: int) -> list[int]:
        """When the `count` control reads before the one numbered `end` were answered."""
        at = (end - count + np.arange(count)) % RING
        found: list[int] = self.state["read_cycle"][at].tolist()
        return found

    def end(self, numbers: Mapping[str, int], streams: Mapping[str, Sequence[int]], bursts: int) -> None:
        """The end of a layer begins: its sweep, and in all so many bursts to write (`models.transaction.ending`)."""
        f = self.state
        for name in (
            *("ending_over", "swept", "sweep_asks", "sweep_pipe", "sweep_results", "items_taken"),
            *("item_served", "heads_read", "head_read", "head_words", "word_served", "word_written", "head_items"),
            *("walk_row", "list_row", "list_filled", "list_flushing", "listed_n", "list_held", "list_held_last"),
            *("mask_rows_n", "mask_row", "mask_flushing", "mask_finished", "mask_held", "results_n", "results_entered"),
            *("results_masked", "result_there"),
        ):
            f[name] = 0
        ends = (f"{name}_end" for name in ("items", "tokens", "list", "words", "results"))
        for name in (*ends, "heads_in", "heads_from", "answer_at", "first_heads"):
            f[name] = FAR
        for name in ("rows_queued", "rows_taken", "rows_written", "row_part"):
            f[name][:] = 0
        f["list_pipe"][:] = NOTHING
        for name, number in numbers.items():
            f[name] = number
        for name, of_streams in streams.items():
            f[name][:] = of_streams
        f["owed_control"] += bursts
        f["ending"], f["idle"] = 1, 0
        self.rests = False

    def select(self, results: tuple[Array, Array, Array], of_heads: bool, filter_free: int) -> None:
        """Engine A selects tokens, or heads behind them.

        Args:
            results: when its rows stand in their FIFO, if none is held up; the last row of the mask that each reaches,
                and whether it ends that row.
            of_heads: which.
            filter_free: cycle in which the filter has given the last row before.
        """
        f, (gives, reached, full) = self.state, results
        first, end = int(f["results_n"]), int(f["results_n"]) + len(gives)
        gaps = np.diff(gives, prepend=filter_free)
        for name, of_rows in (("at", gives), ("gap", gaps), ("reached", reached), ("full", full)):
            f[f"result_{name}"][first:end] = of_rows
        f["results_n"] = end
        if of_heads:
            f["first_heads"] = first
        if len(gives) <= RESULT_ROWS:
            f["results_end"] = filter_free
