"""A run as a timeline in Chrome's trace-event format, which Perfetto and chrome://tracing open.

Modules are tracks (threads of one process), what they work on are slices, occupancy and bandwidth are counters. Slices
of a track that overlap, as rows in a pipeline do, would be nested by the viewer, so a track has as many lanes as it
needs: each slice goes into the first that is free. Times are microseconds of the machine, with the clock's period.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.transaction.monitor import Monitor

PROCESS = 1


class Timeline:
    """Collects slices and counters of the cycles from `first_cycle` to before `end_cycle`; drops the rest.

    Attributes:
        dropped: slices not kept because there were more than `most_slices`.
    """

    def __init__(
        self,
        name: str,
        clock_period_ps: int,
        first_cycle: int = 0,
        end_cycle: int | None = None,
        most_slices: int = 1_000_000,
    ) -> None:
        self.name, self.clock_period_ps = name, clock_period_ps
        self.first_cycle, self.end_cycle, self.most_slices = first_cycle, end_cycle, most_slices
        self.dropped = 0
        self._tracks: dict[str, list[tuple[int, int, str, Mapping[str, Any]]]] = {}
        self._counters: list[tuple[int, str, Mapping[str, float]]] = []
        self._slices = 0

    def track(self, name: str) -> None:
        """Make a track, so that tracks stand in the order in which they were made."""
        self._tracks.setdefault(name, [])

    def slice(self, track: str, name: str, start_cycle: int, end_cycle: int, **arguments: Any) -> None:
        """A piece of work on a track, up to, not including, `end_cycle`; arguments are shown when it is selected.

        Raises:
            ValueError: if it ends before it starts.
        """
        if end_cycle < start_cycle:
            raise ValueError(f"{track}, {name}: ends in cycle {end_cycle}, before it starts in {start_cycle}")
        if end_cycle < self.first_cycle or (self.end_cycle is not None and start_cycle >= self.end_cycle):
            return
        if self._slices >= self.most_slices:
            self.dropped += 1
            return
        self._slices += 1
        self._tracks.setdefault(track, []).append((int(start_cycle), int(end_cycle), name, arguments))

    def counter(self, name: str, cycle: int, **values: float) -> None:
        """Values of a counter from `cycle` on."""
        if cycle >= self.first_cycle and (self.end_cycle is None or cycle < self.end_cycle):
            self._counters.append((int(cycle), name, values))

    def occupancy(self, monitor: Monitor) -> None:
        """The number of items in a channel as a counter."""
        for cycle, inside in zip(*(array.tolist() for array in monitor.occupancy()), strict=True):
            self.counter(f"{monitor.fifo.name}, items", cycle, items=inside)

    def bandwidth(self, name: str, done_cycles: NDArray[np.int64], bytes_each: int, window_cycles: int) -> None:
        """Transfers of equal size as a counter in GB/s, mean over windows; 0 after the last.

        Raises:
            ValueError: for windows shorter than a cycle.
        """
        if window_cycles < 1:
            raise ValueError(f"{name}: windows of {window_cycles} cycles; 1 is the shortest")
        counts = np.bincount(np.asarray(done_cycles, np.int64) // window_cycles)
        gigabytes_per_s = counts * bytes_each / (window_cycles * self.clock_period_ps) * 1e3
        for window, value in enumerate([*gigabytes_per_s.tolist(), 0.0]):
            self.counter(f"{name}, GB/s", window * window_cycles, value=value)

    def as_dict(self) -> dict[str, Any]:
        """The timeline as the object that the JSON file holds."""
        events: list[dict[str, Any]] = [_named("process_name", {"name": self.name})]
        thread = 0
        for name, slices in self._tracks.items():
            lanes: list[int] = []
            placed = []
            for start, end, what, arguments in sorted(slices, key=lambda s: s[:2]):
                lane = next((i for i, free in enumerate(lanes) if free <= start), len(lanes))
                lanes[lane : lane + 1] = [max(end, start)]
                placed.append(
                    {
                        "ph": "X",
                        "name": what,
                        "cat": name,
                        "pid": PROCESS,
                        "tid": thread + lane + 1,
                        "ts": self._us(start),
                        "dur": self._us(end - start),
                        "args": dict(arguments),
                    }
                )
            for lane in range(max(1, len(lanes))):
                thread += 1
                label = name if lane == 0 else f"{name} ({lane + 1})"
                events.append(_named("thread_name", {"name": label}, thread))
                events.append(_named("thread_sort_index", {"sort_index": thread}, thread))
            events += placed
        events += [
            {"ph": "C", "name": name, "pid": PROCESS, "ts": self._us(cycle), "args": dict(values)}
            for cycle, name, values in sorted(self._counters, key=lambda c: (c[1], c[0]))
        ]
        other = {"clock_period_ps": self.clock_period_ps, "slices_dropped": self.dropped}
        return {"traceEvents": events, "displayTimeUnit": "ns", "otherData": other}

    def as_json(self) -> bytes:
        """The file."""
        return json.dumps(self.as_dict(), separators=(",", ":")).encode()

    def _us(self, cycles: int) -> float:
        """Microseconds, of which the viewer's product with 1000, cut to whole nanoseconds, is not one too few.

        1.001 * 1000.0 is a little less than 1001: a slice would begin before the one in front of it has ended.
        """
        us = cycles * self.clock_period_ps / 1e6
        return math.nextafter(us, math.inf) if int(us * 1000.0) < cycles * self.clock_period_ps // 1000 else us


def _named(kind: str, arguments: dict[str, Any], thread: int = 0) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": PROCESS, "tid": thread, "ts": 0, "args": arguments}
