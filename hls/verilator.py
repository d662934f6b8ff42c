"""Verilator as a shared library: the netlist's Verilog, compiled once, driven through ctypes.

The library is cached under the hash of everything that goes into it (Verilog, driver, options, tool versions)
in `$SPATTEN_CACHE`, else the user's cache directory; it appears there by an atomic rename, so that concurrent
builders are safe. All inputs of a cycle lie in one row of 32-bit words, port after port; outputs the same way.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hls.cache import cache_folder
from hls.compose import Composition
from hls.simulate import (
    Design,
    Pattern,
    SimulatorError,
    Streamed,
    Words,
    check_complete,
    check_inputs,
    cycles_of,
    stream_plan,
)
from hls.verilator_driver import driver_text, layout
from hls.verilator_modules import build_modules
from hls.verilator_tools import BUILD, OPTIONS, SPLIT, content_key, run_tool, runtime_library
from hls.verilog import to_verilog
from hls.verilog_hierarchy import to_verilog_modules


def verilog_text(netlist: Design) -> str:
    """All modules of a netlist or composition, the top module last."""
    if isinstance(netlist, Composition):
        return "".join(to_verilog_modules(netlist).values())
    return to_verilog(netlist)


def build(netlist: Design, trace: bool = False) -> Path:
    """The compiled simulator of a netlist, from the cache or built now; SimulatorError with the tool's output."""
    if isinstance(netlist, Composition) and not trace:
        return build_modules(netlist)
    verilog, driver = verilog_text(netlist), driver_text(netlist)
    options = [*OPTIONS, *SPLIT, *(["--trace"] if trace else [])]
    folder = cache_folder("verilator")
    library = folder / f"{netlist.name}-{content_key(verilog, driver, *options, *BUILD)}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build-") as name:
        work = Path(name)
        (work / "top.v").write_text(verilog, encoding="utf-8")
        (work / "driver.cpp").write_text(driver, encoding="utf-8")
        command = ["verilator", "--cc", "--exe", "--build", "-j", str(os.cpu_count() or 1), *options]
        command += ["--prefix", "Vtop", "--top-module", netlist.name, "--Mdir", str(work / "make")]
        command += [*BUILD, "-o", "simulator.so"]
        command += ["-LDFLAGS", f"-shared {runtime_library(trace)}"]
        run_tool([*command, str(work / "top.v"), str(work / "driver.cpp")], f"verilator failed on {netlist.name}")
        os.replace(work / "make" / "simulator.so", library)
    return library


class VerilatorSimulator:
    """A compiled netlist; see `hls.simulate.Simulator`."""

    backend = "verilator"

    def __init__(self, netlist: Design, vcd: Path | None = None) -> None:
        if shutil.which("verilator") is None:
            raise SimulatorError("verilator is not on the PATH: install it (apt install verilator)")
        self.netlist = netlist
        self._inputs, self._in_words = layout(netlist.inputs)
        self._outputs, self._out_words = layout(netlist.outputs)
        self.library = ctypes.CDLL(str(build(netlist, trace=vcd is not None)))
        self.library.simulation_new.restype = ctypes.c_void_p
        self.library.simulation_stream.restype = ctypes.c_uint64
        path = b"" if vcd is None else str(vcd).encode()
        self._handle: ctypes.c_void_p | None = ctypes.c_void_p(self.library.simulation_new(path))
        self._row = np.zeros((1, self._in_words), np.uint32)
        self._result = np.zeros((1, self._out_words), np.uint32)
        self.reset()

    @property
    def handle(self) -> ctypes.c_void_p:
        """The model, for the functions of its library; SimulatorError if it is closed."""
        if self._handle is None:
            raise SimulatorError(f"the simulator of {self.netlist.name} is closed")
        return self._handle

    def reset(self) -> None:
        """One clock edge with `rst` high and all inputs 0."""
        self._row[:] = 0
        self.library.simulation_reset(self.handle, self._row.ctypes.data_as(ctypes.c_void_p))

    def step(self, inputs: Mapping[str, int]) -> dict[str, int]:
        """One cycle."""
        check_inputs(self.netlist, inputs)
        self._row[:] = 0
        for name, value in inputs.items():
            bits, (word, count) = self.netlist.inputs[name], self._inputs[name]
            if value < 0 or value >> bits:
                raise SimulatorError(f"{value} does not fit in input {name!r} of {bits} bits (pack it)")
            self._row[0, word : word + count] = np.frombuffer(int(value).to_bytes(4 * count, "little"), "<u4")
        self._advance(self._row, self._result)
        raw = self._result[0].astype("<u4").tobytes()
        return {n: int.from_bytes(raw[4 * w : 4 * (w + c)], "little") for n, (w, c) in self._outputs.items()}

    def _advance(self, rows: Words, results: Words) -> None:
        self.library.simulation_run(
            self.handle,
            rows.ctypes.data_as(ctypes.c_void_p),
            results.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_uint64(len(rows)),
        )

    def run(self, inputs: Mapping[str, Words], cycles: int | None = None) -> dict[str, Words]:
        """Many cycles in one call."""
        cycles = cycles_of(self.netlist, inputs, cycles)
        results = np.zeros((cycles, self._out_words), np.uint32)
        self._advance(self._rows(inputs, cycles), results)
        return {name: results[:, word : word + count] for name, (word, count) in self._outputs.items()}

    def _rows(self, inputs: Mapping[str, Words], cycles: int) -> Words:
        rows = np.zeros((cycles, self._in_words), np.uint32)
        for name, words in inputs.items():
            word, count = self._inputs[name]
            rows[:, word : word + count] = words
        return rows

    def stream(
        self,
        items: Mapping[str, Words],
        offer: Pattern | None = None,
        accept: Pattern | None = None,
        limit_cycles: int | None = None,
    ) -> Streamed:
        """Items through the handshake, in one call."""
        count, offers, accepts = stream_plan(self.netlist, items, offer, accept, limit_cycles)
        rows = self._rows(items, count)
        results = np.zeros((count, self._out_words), np.uint32)
        sent_at, received_at = (np.full(count, 2**64 - 1, np.uint64) for _ in range(2))
        received = ctypes.c_uint64(0)
        buffers: list[NDArray[Any]] = [
            rows,
            offers.astype(np.uint8),
            accepts.astype(np.uint8),
            results,
            sent_at,
            received_at,
        ]
        items_at, offer_at, accept_at, out_at, sent_to, received_to = (
            b.ctypes.data_as(ctypes.c_void_p) for b in buffers
        )
        cycles = self.library.simulation_stream(
            self.handle,
            items_at,
            ctypes.c_uint64(count),
            offer_at,
            accept_at,
            ctypes.c_uint64(len(offers)),
            out_at,
            sent_to,
            received_to,
            ctypes.byref(received),
        )
        sent = int(np.count_nonzero(sent_at != 2**64 - 1))
        check_complete(self.netlist, received.value, count, sent, cycles)
        outputs = {name: results[:, w : w + c] for name, (w, c) in self._outputs.items()}
        return Streamed(outputs, sent_at, received_at, int(cycles))

    def close(self) -> None:
        """Finish the waveform and free the simulator."""
        if self._handle is not None:
            self.library.simulation_delete(self._handle)
            self._handle = None

    def __enter__(self) -> VerilatorSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
