"""A netlist's memory ports against a memory, cycle by cycle, in compiled code where both are compiled.

    requests after the clock edge -> memory -> ready and answers -> outputs settle -> taps -> clock edge

See `verification.memory_exchange` for the ports and for when a write is seen by a read. HBM2 behind a netlist in
Verilator runs without Python; any other memory or simulator takes the same steps from Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba.experimental.function_type  # noqa: F401  # teaches Numba functions given by their address
import numpy as np
from numba import types
from numpy.typing import NDArray

from hls.session import CHANGED, ENDED, TAKEN, Session, SessionPorts, Tap, Tapped, open_session
from hls.simulate import Simulator, Words
from hls.verilator_driver import layout
from hls.verilator_session import VerilatorSession
from models.memory import ports
from models.memory.compilation import Array, Record, compiled
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import NONE, Memory
from verification import memory_exchange
from verification.memory_exchange import (
    ANSWER_PORTS,
    CROWDED,
    ELSEWHERE,
    OK,
    OUTSIDE,
    REQUEST_PORTS,
    SLOTS,
    WITHDRAWN,
    Exchange,
    Geometry,
    give,
    new_exchange,
    take,
)

CHUNK_CYCLES = 20_000
"""Cycles between two looks at the interpreter (interrupts, full traces)."""


class CosimulationError(Exception):
    """A netlist that breaks the rules of its memory ports, or does not come to its end."""


@dataclass(frozen=True)
class RequestTrace:
    """Requests in the order of acceptance, for other DRAM simulators: arrays [n], address in bytes."""

    cycles: NDArray[np.int64]
    channels: NDArray[np.int64]
    addresses: NDArray[np.int64]
    writes: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.cycles)


@dataclass(frozen=True)
class Cosimulation:
    """A run.

    Attributes:
        cycles: how many, the one that ended it included.
        taps: what the taps logged, cycles counted from 0.
        outputs: of the last cycle, or as they stand after it where nothing ended the run.
        requests: to the memory, if asked for.
    """

    cycles: int
    taps: Mapping[str, Tapped]
    outputs: Mapping[str, int]
    requests: RequestTrace | None


class _CycleFunction(types.WrapperAddressProtocol):
    """`session_cycle` of a compiled netlist, as Numba calls it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __wrapper_address__(self) -> int:
        return self._address

    def signature(self) -> Any:
        """`uint64(handle, row, watched)`."""
        return types.uint64(types.uint64, types.uint64, types.uint64)


@compiled
def trace_requests(e: Exchange, accepted: Array, cycle: int, trace: Array, traced: Array) -> None:
    """Append the accepted requests of a cycle: cycle, channel, address, write."""
    for c in range(accepted.shape[0]):
        if accepted[c] and trace.shape[0]:
            row = trace[traced[0]]
            row[0], row[1], row[2], row[3] = cycle, c, e.address[0, c], 1 if e.write[0, c] else 0
            traced[0] += 1


@compiled
def run_hbm2(
    session_cycle: Any,
    handle: np.uint64,
    row: Words,
    watched: Words,
    g: Geometry,
    e: Exchange,
    channels: Record,
    commands: Array,
    commanded: Array,
    map_layout: Array,
    first: int,
    last: int,
    offer: int,
    trace: Array,
    traced: Array,
) -> tuple[int, int]:
    """Cycles [first, last) or until something is wrong or the run has ended: (next cycle, fault + 8 * flags)."""
    count = e.tag.shape[0]
    accepted = np.zeros((1, count), np.bool_)
    answers = np.empty((2, 1, count), np.int64)
    row_address, watched_address = np.uint64(row.ctypes.data), np.uint64(watched.ctypes.data)
    for cycle in range(first, last):
        fault = take(watched, g, e)
        if fault != OK:
            return cycle, fault
        refused = ports.refused_offer(e.valid, e.address, e.slot, map_layout)
        if refused != NONE:
            e.fault[0], e.fault[1] = refused, e.address[0, refused]
            return cycle, ELSEWHERE
        accepted[:] = False
        ports.steps(channels, commands, commanded, e.valid, e.address, e.write, e.slot, accepted, answers)
        give(accepted[0], answers[0, 0], answers[1, 0], row, g, e)
        trace_requests(e, accepted[0], cycle, trace, traced)
        flags: Any = np.int64(session_cycle(handle, row_address, watched_address))
        if flags & TAKEN and offer >= 0:
            row[offer] = 0
        if flags & (ENDED | CHANGED):
            return cycle + 1, 8 * flags
    return last, 0


class _Run:
    """One co-simulation: the session, the exchange, and what has been traced."""

    def __init__(
        self,
        simulator: Simulator,
        memory: Memory,
        image: NDArray[np.uint8],
        session_ports: SessionPorts,
        inputs: Mapping[str, int],
        offer: str | None,
        trace: bool,
    ) -> None:
        design = simulator.netlist
        if memory.waiting():
            raise CosimulationError(f"the memory owes answers to an earlier run: {'; '.join(memory.waiting())}")
        burst_bytes = memory.address_map.burst_bytes  # type: ignore[attr-defined]
        self.design, self.memory = design, memory
        self.geometry = memory_exchange.geometry(design, memory.channels, burst_bytes)
        self.exchange = new_exchange(memory.channels, burst_bytes // 4, _words_of(image, burst_bytes))
        self.session: Session = open_session(simulator, session_ports)
        places, size = layout(design.inputs)
        self.row = np.zeros(size, np.uint32)
        for name, value in inputs.items():
            if name not in places or name in ANSWER_PORTS:
                near = sorted(set(places) - set(ANSWER_PORTS))
                raise CosimulationError(f"{design.name} has no input {name!r} to hold; it has {near}")
            if value < 0 or value >> design.inputs[name]:
                raise CosimulationError(f"{value} does not fit in input {name!r} of {design.inputs[name]} bits")
            word, count = places[name]
            self.row[word : word + count] = np.frombuffer(int(value).to_bytes(4 * count, "little"), "<u4")
        self.offer = -1 if offer is None else places[offer][0]
        _, watched = session_ports.watched_layout(design)
        self.watched = np.zeros(watched, np.uint32)
        self.trace = np.zeros((CHUNK_CYCLES * memory.channels if trace else 0, 4), np.int64)
        self.traced = np.zeros(1, np.int64)
        self.session.begin(self.row, self.watched)

    def chunk(self, first: int, last: int) -> tuple[int, int]:
        """Cycles [first, last) at most; see `run_hbm2`."""
        self.traced[0] = 0
        if isinstance(self.session, VerilatorSession) and isinstance(self.memory, Hbm2Memory):
            none = np.zeros((0, self.memory.channels))
            self.memory.steps(none, none, none)  # raises if a group is unfinished
            return run_hbm2(
                _CycleFunction(self.session.cycle_address),
                np.uint64(self.session.handle_address),
                self.row,
                self.watched,
                self.geometry,
                self.exchange,
                *self.memory._state,
                self.memory._layout,
                first,
                last,
                self.offer,
                self.trace,
                self.traced,
            )
        return self._in_python(first, last)

    def _in_python(self, first: int, last: int) -> tuple[int, int]:
        e = self.exchange
        for cycle in range(first, last):
            fault = take(self.watched, self.geometry, e)
            if fault != OK:
                return cycle, fault
            served = self.memory.channel_of(np.where(e.valid[0], e.address[0], 0))
            wrong = np.flatnonzero(e.valid[0] & (served != np.arange(self.memory.channels)))
            if len(wrong):
                e.fault[:] = wrong[0], e.address[0, wrong[0]]
                return cycle, ELSEWHERE
            reply = self.memory.step(e.valid[0], e.address[0], e.slot[0], e.write[0])
            give(reply.accepted, reply.read_tag, reply.write_tag, self.row, self.geometry, e)
            trace_requests(e, reply.accepted, cycle, self.trace, self.traced)
            flags = self.session.cycle(self.row, self.watched)
            if flags & TAKEN and self.offer >= 0:
                self.row[self.offer] = 0
            if flags & (ENDED | CHANGED):
                return cycle + 1, 8 * flags
        return last, 0

    def fault(self, code: int, cycle: int) -> CosimulationError:
        """What a fault of the ports means."""
        channel, address = (int(value) for value in self.exchange.fault)
        where = f"{self.design.name}, cycle {cycle}: channel {channel}, address {address:#x}"
        size = 4 * len(self.exchange.image)
        return CosimulationError(
            {
                OUTSIDE: f"{where}: the DRAM image ends before {size:#x}",
                WITHDRAWN: f"{where}: the request changed or went away before it was taken",
                CROWDED: f"{where}: more than {SLOTS} requests are under way",
                ELSEWHERE: f"{where}: another channel serves this address",
            }[code]
        )

    def stuck(self, until: str, cycles: int) -> CosimulationError:
        """What a netlist that does not come to its end waits for."""
        outputs = self.session.outputs()
        status = [f"{name} = {value}" for name, value in outputs.items() if "status" in name]
        lines = [
            f"{self.design.name}: {until!r} was not set in {cycles} cycles",
            *(f"  {line}" for line in self.memory.waiting()),
            f"  {', '.join(status) or 'no status output'}",
        ]
        return CosimulationError("\n".join(lines))


def _words_of(image: NDArray[np.uint8], burst_bytes: int) -> Words:
    """The image as words in the same memory."""
    if image.dtype != np.uint8 or image.ndim != 1 or not image.flags["C_CONTIGUOUS"] or len(image) % burst_bytes:
        raise CosimulationError(
            f"the DRAM image is {image.dtype} {image.shape}: contiguous bytes, a multiple of {burst_bytes}, work"
        )
    return image.view(np.uint32)


def cosimulate(
    simulator: Simulator,
    memory: Memory,
    image: NDArray[np.uint8],
    inputs: Mapping[str, int] | None = None,
    until: str | None = None,
    limit_cycles: int = 1_000_000,
    taps: tuple[Tap, ...] = (),
    offer: tuple[str, str] | None = None,
    trace_requests: bool = False,
) -> Cosimulation:
    """Run a netlist against a memory that owes nothing, from the present state of both.

    Args:
        simulator: an open simulator of a netlist with the ports of `verification.memory_exchange`.
        memory: what answers the ports.
        image: bytes of the DRAM from address 0 on; changed by writes.
        inputs: values of the other inputs, constant during the run; 0 where not given.
        until: output that ends the run in the cycle in which it is other than 0; None runs `limit_cycles`.
        limit_cycles: cycles after which a run that has not ended is stuck.
        taps: what to log.
        offer: (valid input, ready output): the input goes to 0 after the first cycle in which both are 1.
        trace_requests: keep all requests.

    Raises:
        CosimulationError: for requests against the rules of the ports, and for a run that is stuck.
    """
    session_ports = SessionPorts(REQUEST_PORTS, taps, until, None if offer is None else offer[1])
    held = {**(inputs or {}), **({} if offer is None else {offer[0]: 1})}
    run = _Run(simulator, memory, image, session_ports, held, None if offer is None else offer[0], trace_requests)
    cycle, flags, chunks = 0, 0, []
    while cycle < limit_cycles and not flags & ENDED:
        cycle, code = run.chunk(cycle, min(limit_cycles, cycle + CHUNK_CYCLES))
        chunks.append(run.trace[: run.traced[0]].copy())
        flags = code >> 3
        if code & 7:
            raise run.fault(code & 7, cycle)
        if flags & CHANGED:
            raise CosimulationError(
                f"{run.design.name}, cycle {cycle - 1}: the memory request depends on ready or on an answer "
                "without a register between"
            )
    if until is not None and not flags & ENDED:
        raise run.stuck(until, cycle)
    rows = np.concatenate(chunks) if chunks else run.trace[:0]
    columns = rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].copy(), rows[:, 3] != 0
    requests = RequestTrace(*columns) if trace_requests else None
    return Cosimulation(cycle, run.session.tapped(), run.session.outputs(), requests)
