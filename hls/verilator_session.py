"""Sessions on a model compiled by Verilator; compiled code can drive them too, by the address of `session_cycle`."""

from __future__ import annotations

import ctypes

import numpy as np

from hls.session import SessionPorts, Tapped
from hls.simulate import Words
from hls.verilator import VerilatorSimulator
from hls.verilator_driver import layout


def _pointer(words: Words) -> ctypes.c_void_p:
    return words.ctypes.data_as(ctypes.c_void_p)


class VerilatorSession:
    """See `hls.session.Session`."""

    def __init__(self, simulator: VerilatorSimulator, ports: SessionPorts) -> None:
        design = simulator.netlist
        ports.check(design)
        self._simulator = simulator
        self._ports = ports
        self._numbers = {name: number for number, name in enumerate(design.outputs)}
        library = simulator.library
        library.session_cycle.restype = ctypes.c_uint64
        library.session_log.restype = ctypes.c_uint64
        self._library = library
        ends, taken = ([] if port is None else [port] for port in (ports.until, ports.taken))
        library.session_new(simulator.handle, *self._list(ports.watched), *self._list(ends), *self._list(taken))
        for tap in ports.taps:
            library.session_tap(simulator.handle, *self._list(tap.fires), *self._list(tap.data))

    def _list(self, ports: tuple[str, ...] | list[str]) -> tuple[ctypes.Array[ctypes.c_uint32], ctypes.c_uint64]:
        """Numbers of output ports, and how many."""
        numbers = [self._numbers[port] for port in ports]
        return (ctypes.c_uint32 * len(numbers))(*numbers), ctypes.c_uint64(len(numbers))

    @property
    def cycle_address(self) -> int:
        """Address of `uint64 session_cycle(handle, row, watched)`, which returns the flags."""
        return ctypes.cast(self._library.session_cycle, ctypes.c_void_p).value or 0

    @property
    def handle_address(self) -> int:
        """Its first argument."""
        return self._simulator.handle.value or 0

    def begin(self, row: Words, watched: Words) -> None:
        """See `Session`."""
        self._library.session_begin(self._simulator.handle, _pointer(row), _pointer(watched))

    def cycle(self, row: Words, watched: Words) -> int:
        """See `Session`."""
        return int(self._library.session_cycle(self._simulator.handle, _pointer(row), _pointer(watched)))

    def tapped(self) -> dict[str, Tapped]:
        """See `Session`."""
        found = {}
        for number, tap in enumerate(self._ports.taps):
            cycles, words = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_uint32)()
            count = self._library.session_log(
                self._simulator.handle, ctypes.c_uint64(number), ctypes.byref(cycles), ctypes.byref(words)
            )
            places, size = layout({port: self._simulator.netlist.outputs[port] for port in tap.data})
            if count and tap.data:
                rows = np.ctypeslib.as_array(words, (count, size)).copy()
            else:
                rows = np.zeros((count, size), np.uint32)
            at = np.ctypeslib.as_array(cycles, (count,)).copy() if count else np.zeros(0, np.uint64)
            found[tap.name] = Tapped(at, {port: rows[:, w : w + n] for port, (w, n) in places.items()})
        return found

    def outputs(self) -> dict[str, int]:
        """See `Session`."""
        places, size = layout(self._simulator.netlist.outputs)
        row = np.zeros(size, np.uint32)
        self._library.session_outputs(self._simulator.handle, _pointer(row))
        return {
            name: int.from_bytes(row[w : w + n].astype("<u4").tobytes(), "little") for name, (w, n) in places.items()
        }
