"""Simulation of a netlist by back ends behind one interface, chosen by name.

    "fast"       PyRTL's FastSimulation: starts at once, slow; for small netlists and few cycles
    "verilator"  compiled to a shared library, cached by content (hls.verilator): for everything else
    "auto"       verilator if it is installed, else a warning and fast

A cycle is: apply the inputs, read the outputs (combinational in the inputs), clock edge. A simulator starts in reset
state. `run` takes and gives whole arrays: a port of any width is `(cycles, ceil(bits / 32))` uint32, least
significant word first.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, TypeAlias

import numpy as np
import pyrtl
from numpy.typing import NDArray

from hls.compose import Composition
from hls.flatten import flatten
from hls.lower import HANDSHAKE, Netlist
from hls.types import HlsError

Words = NDArray[np.uint32]
Pattern = NDArray[np.bool_]
Design: TypeAlias = Netlist | Composition
Backend = Literal["auto", "fast", "verilator"]


class SimulatorError(HlsError):
    """A simulator cannot be built, or was given what its ports cannot take."""


class SimulatorWarning(UserWarning):
    """A slower simulator is used than asked for."""


def word_count(bits: int) -> int:
    """32-bit words of a port."""
    return -(-bits // 32)


def to_words(values: Sequence[int], bits: int) -> Words:
    """Unsigned integers of `bits` bits as an array of (len(values), words)."""
    size = 4 * word_count(bits)
    for value in values:
        if value < 0 or value >> bits:
            raise SimulatorError(f"{value} does not fit in a port of {bits} bits (ports take unsigned bits: pack it)")
    buffer = b"".join(int(value).to_bytes(size, "little") for value in values)
    return np.frombuffer(buffer, dtype="<u4").reshape(len(values), word_count(bits)).astype(np.uint32)


def from_words(words: Words) -> list[int]:
    """The inverse of `to_words`."""
    rows = np.ascontiguousarray(words, dtype="<u4")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


@dataclass(frozen=True)
class Streamed:
    """What `stream` saw: results in order, and the cycle in which each item went in and each result came out."""

    outputs: dict[str, Words]
    sent_at: NDArray[np.uint64]
    received_at: NDArray[np.uint64]
    cycles: int


class Simulator(Protocol):
    """What every back end offers."""

    @property
    def backend(self) -> str:
        """Its name."""

    @property
    def netlist(self) -> Design:
        """What it simulates."""

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """One cycle: {input port: bits} to {output port: bits}; inputs not given are 0."""

    def run(self, inputs: Mapping[str, Words], cycles: int | None = None) -> dict[str, Words]:
        """Many cycles: {input port: (cycles, words)} to {output port: (cycles, words)}; inputs not given are 0."""

    def stream(
        self,
        items: Mapping[str, Words],
        offer: Pattern | None = None,
        accept: Pattern | None = None,
        limit_cycles: int | None = None,
    ) -> Streamed:
        """Send items through the ready/valid handshake, one result for each, until all results are out.

        `items`: {data input: (items, words)}. `in_valid` is offered where `offer[cycle]`, and results are
        accepted where `accept[cycle]` (None: always; beyond the end of a pattern: always). The pipeline must
        be empty before: what is in it would come out first and count as a result. SimulatorError
        if the results are not all out after `limit_cycles` (default: generous).
        """

    def reset(self) -> None:
        """Registers to their reset values; memories keep their contents."""

    def close(self) -> None:
        """Finish the waveform and free the simulator."""

    def __enter__(self) -> Simulator: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_inputs(netlist: Design, names: Mapping[str, object]) -> None:
    """SimulatorError for a name that is no input port."""
    unknown = set(names) - set(netlist.inputs)
    if unknown:
        raise SimulatorError(f"{netlist.name} has no input {sorted(unknown)}; it has {sorted(netlist.inputs)}")


def cycles_of(netlist: Design, inputs: Mapping[str, Words], cycles: int | None) -> int:
    """How many cycles a batch is; SimulatorError if the shapes do not agree with it and with the ports."""
    check_inputs(netlist, inputs)
    if cycles is None:
        if not inputs:
            raise SimulatorError("run() needs inputs or cycles=")
        cycles = len(next(iter(inputs.values())))
    for name, words in inputs.items():
        expected = (cycles, word_count(netlist.inputs[name]))
        if words.shape != expected or words.dtype != np.uint32:
            raise SimulatorError(f"input {name!r} is {words.dtype} {words.shape}, expected uint32 {expected}")
    return cycles


def stream_plan(
    netlist: Design,
    items: Mapping[str, Words],
    offer: Pattern | None,
    accept: Pattern | None,
    limit_cycles: int | None,
) -> tuple[int, Pattern, Pattern]:
    """Items, and the two patterns over all cycles that may pass; SimulatorError for a wrong request."""
    missing = [p for p in HANDSHAKE if p not in netlist.inputs and p not in netlist.outputs]
    if missing:
        raise SimulatorError(f"{netlist.name} has no ports {missing}: stream() needs a ready/valid handshake")
    data = set(netlist.inputs) - set(HANDSHAKE)
    if set(items) != data:
        raise SimulatorError(f"{netlist.name}: items are needed for {sorted(data)}, got {sorted(items)}")
    counts = {len(words) for words in items.values()}
    if len(counts) != 1:
        raise SimulatorError(f"{netlist.name}: the inputs have different numbers of items: {sorted(counts)}")
    count = cycles_of(netlist, items, counts.pop())
    patterns = [np.asarray([] if p is None else p, dtype=np.bool_) for p in (offer, accept)]
    if limit_cycles is None:
        limit_cycles = sum(len(p) for p in patterns) + 2 * (count + netlist.latency_cycles) + 1000
    full = [np.concatenate([p, np.ones(max(0, limit_cycles - len(p)), np.bool_)]) for p in patterns]
    return count, full[0][:limit_cycles], full[1][:limit_cycles]


def check_complete(netlist: Design, received: int, count: int, sent: int, cycles: int) -> None:
    """SimulatorError if a stream ended without all its results."""
    if received < count:
        raise SimulatorError(
            f"{netlist.name}: {received} of {count} results after {cycles} cycles ({sent} items sent): "
            "the pipeline hangs or loses items, or limit_cycles is too small"
        )


class FastSimulator:
    """PyRTL's FastSimulation: the netlist as one Python function."""

    backend = "fast"

    def __init__(self, netlist: Netlist, vcd: Path | None = None) -> None:
        self.netlist = netlist
        self._vcd = vcd
        self._tracer = None
        if vcd is not None:
            wires = [w for w in netlist.block.wirevector_set if not w.name.startswith(("tmp", "const_"))]
            self._tracer = pyrtl.SimulationTrace(wires_to_track=wires, block=netlist.block)
        self._simulation = pyrtl.FastSimulation(tracer=self._tracer, block=netlist.block)
        registers = netlist.block.wirevector_subset(pyrtl.Register)
        self._reset_values = {register.name: register.reset_value or 0 for register in registers}

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """One cycle."""
        self._simulation.step(self._given(inputs))
        return {name: self._simulation.inspect(name) for name in self.netlist.outputs}

    def peek(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """What `step` would return, without the clock edge."""
        state = {**self._given(inputs), **self._simulation.regs, **self._simulation.mems}
        _, outputs, _ = self._simulation.sim_func(state)
        return {name: outputs[name] for name in self.netlist.outputs}

    def _given(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """Every input; those not given are 0."""
        check_inputs(self.netlist, inputs)
        given = dict.fromkeys(self.netlist.inputs, 0)
        for name, value in inputs.items():
            if value < 0 or value >> self.netlist.inputs[name]:
                raise SimulatorError(
                    f"{value} does not fit in input {name!r} of {self.netlist.inputs[name]} bits (pack it)"
                )
            given[name] = int(value)
        return given

    def run(self, inputs: Mapping[str, Words], cycles: int | None = None) -> dict[str, Words]:
        """Many cycles."""
        cycles = cycles_of(self.netlist, inputs, cycles)
        columns = {name: from_words(words) for name, words in inputs.items()}
        rows = [self.step({n: column[t] for n, column in columns.items()}) for t in range(cycles)]
        return {name: to_words([row[name] for row in rows], b) for name, b in self.netlist.outputs.items()}

    def stream(
        self,
        items: Mapping[str, Words],
        offer: Pattern | None = None,
        accept: Pattern | None = None,
        limit_cycles: int | None = None,
    ) -> Streamed:
        """Items through the handshake."""
        count, offers, accepts = stream_plan(self.netlist, items, offer, accept, limit_cycles)
        columns = {name: from_words(words) for name, words in items.items()}
        results: list[dict[str, int]] = []
        sent_at: list[int] = []
        received_at: list[int] = []
        cycle = 0
        while cycle < len(offers) and len(results) < count:
            row: dict[str, int] = {"out_ready": int(accepts[cycle])}
            if len(sent_at) < count and offers[cycle]:
                row |= {name: column[len(sent_at)] for name, column in columns.items()} | {"in_valid": 1}
            seen = self.step(row)
            if row.get("in_valid") and seen["in_ready"]:
                sent_at.append(cycle)
            if row["out_ready"] and seen["out_valid"]:
                results.append(seen)
                received_at.append(cycle)
            cycle += 1
        check_complete(self.netlist, len(results), count, len(sent_at), cycle)
        outputs = {n: to_words([r[n] for r in results], b) for n, b in self.netlist.outputs.items()}
        return Streamed(outputs, np.array(sent_at, np.uint64), np.array(received_at, np.uint64), cycle)

    def reset(self) -> None:
        """Registers to their reset values."""
        self._simulation.regs = dict(self._reset_values)

    def close(self) -> None:
        """Write the waveform, if one was asked for."""
        if self._tracer is not None and self._vcd is not None:
            with self._vcd.open("w", encoding="utf-8") as file:
                self._tracer.print_vcd(file)
            self._tracer = None

    def __enter__(self) -> FastSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_simulator(netlist: Design, backend: Backend = "auto", vcd: Path | None = None) -> Simulator:
    """A simulator of a netlist or composition in reset state; use it in a `with`. `vcd`: where to write a waveform."""
    from hls.verilator import VerilatorSimulator  # it builds on this module

    if backend not in ("auto", "fast", "verilator"):
        raise SimulatorError(f"back end {backend!r} is unknown; it is one of auto, fast, verilator")
    missing = shutil.which("verilator") is None
    if missing and backend == "verilator":
        raise SimulatorError("verilator is not on the PATH: install it (apt install verilator), or use backend='fast'")
    if missing and backend == "auto":
        warnings.warn(
            f"verilator is not on the PATH; {netlist.name} runs in PyRTL's FastSimulation, about a hundred "
            "times slower (apt install verilator)",
            SimulatorWarning,
            stacklevel=2,
        )
    if backend == "fast" or missing:
        return FastSimulator(flatten(netlist) if isinstance(netlist, Composition) else netlist, vcd)
    return VerilatorSimulator(netlist, vcd)
