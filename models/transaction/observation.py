"""What a layer's modules did when: passes through Q x K, keys in their buffers, rows on the way, phases.

From these come stall cycles, the occupancy of what lies between the modules, and the share of its time that a buffer
of the Key SRAM is at work: a generation row's head waits for its keys, then holds them until its row is decided, and
two heads do so in turn, or four in halves of the buffers where those hold a head's keys. Where neither memory nor
arithmetic is busy, that loop is what bounds the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.transaction.workload import IntArray


class Pass(NamedTuple):
    """A pass through Q x K: cycles before its first beat, of its decision, of its last beat; `second`: all bits."""

    job: int
    row: int
    begins: int
    beats: int
    decided: int
    kv: int
    second: bool
    last: int


@dataclass(frozen=True, eq=False)
class LayerEvents:
    """Cycles of a layer, from the cycle in which it was asked for.

    Attributes:
        passes: as `Pass`, in order, shape (passes, 8).
        keys: of each list of keys: asked for, all there, first row taken, released; shape (lists, 4).
        rows: left the row queues, shape (rows,).
        outputs: went to the write-back, shape (rows,).
        phases: cycles of the layer by what happens in them; they follow one another.
        places: lists of keys that the Key SRAM holds: buffers, or halves of them.
    """

    passes: IntArray
    keys: IntArray
    rows: IntArray
    outputs: IntArray
    phases: Mapping[str, int]
    places: int

    @property
    def key_cycles(self) -> int:
        """From the first list of keys until the last buffer is released."""
        return int(self.keys[-1, 3] - self.keys[0, 0]) if len(self.keys) else 0

    @property
    def key_fetch_cycles(self) -> int:
        """In which a place is being filled, of all, divided by their number."""
        return int((self.keys[:, 1] - self.keys[:, 0]).sum()) // self.places

    @property
    def key_row_cycles(self) -> int:
        """In which rows use a place, of all, divided by their number."""
        return int((self.keys[:, 3] - self.keys[:, 2]).sum()) // self.places

    def stalls(self) -> dict[str, int]:
        """Cycles in which Q x K has no beat between its first and its last one, by what the next one waited for."""
        begins, ends = self.passes[:, 2], self.passes[:, 7]
        gaps, inside = np.maximum(0, begins[1:] - ends[:-1]), ends - begins - self.passes[:, 3]
        with_lsb = self.passes[:, 6] > 0
        kv, second = self.passes[1:, 5], self.passes[1:, 6] > 0
        news = (np.diff(np.maximum.accumulate(self.passes[:, 5])) > 0) & ~second
        keys = np.where(news, np.clip(self.keys[kv, 1] - ends[:-1], 0, gaps), 0)
        return {
            "Q x K, keys not landed": int(keys.sum() + inside[~with_lsb].sum()),
            "Q x K, LSBs or decision of a flat row": int(gaps[second].sum() + inside[with_lsb].sum()),
            "Q x K, queries or room behind": int((gaps - keys)[~second].sum()),
        }

    def occupancies(self) -> dict[str, IntArray]:
        """Arrivals and departures of what lies between modules, shape (2, items); nothing does without rows."""
        if not len(self.passes):
            return {}
        first = self.passes[self.passes[:, 6] == 0]
        return {
            "softmax, rows": np.stack((first[:, 2], first[:, 4])),
            "row queues, rows": np.stack((np.minimum(self._decided(), self.rows), self.rows)),
            "values, rows": np.stack((self.rows, np.maximum(self.rows, self.outputs))),
            "Key SRAM, buffers": self.keys[:, [0, 3]].T,
        }

    def _decided(self) -> IntArray:
        """When each row was decided in its last pass."""
        order = np.lexsort((self.passes[:, 6], self.passes[:, 1], self.passes[:, 0]))
        ordered = self.passes[order]
        last = np.append((np.diff(ordered[:, :2], axis=0) != 0).any(1), True)
        return np.asarray(ordered[last, 4])


@dataclass(frozen=True)
class Occupancy:
    """Of a channel: items at most and on average, and the share of cycles in which one leaves."""

    most: int
    mean: float
    utilization: float


def occupancy(moves: IntArray, cycles: int) -> Occupancy:
    """Of items with these arrivals and departures (2, items) in so many cycles; mean by Little's law."""
    arrivals, departures = np.sort(moves[0]), np.sort(moves[1])
    inside = np.arange(1, len(arrivals) + 1) - np.searchsorted(departures, arrivals, "right")
    return Occupancy(
        int(inside.max(initial=0)), float((departures - arrivals).sum() / cycles), len(np.unique(departures)) / cycles
    )


def events_of(
    asked: int,
    cycles: tuple[int, int, int],
    passes: list[Pass],
    keys: list[list[int]],
    rows: IntArray,
    outputs: IntArray,
    places: int,
) -> LayerEvents:
    """Events of a layer.

    Args:
        asked: cycle in which the layer was asked for; `rows` and `outputs` are from there, all else is not.
        cycles: in which the layer started, its last outputs went, and it was done.
        passes: in order.
        keys: columns of `LayerEvents.keys`.
        rows: as `LayerEvents.rows`.
        outputs: as `LayerEvents.outputs`.
        places: as `LayerEvents.places`.
    """
    started, ended, done = cycles
    taken = np.array(passes, np.int64).reshape(-1, len(Pass._fields))
    taken[:, [2, 4, 7]] -= asked
    at = np.array(keys, np.int64).T - asked
    if not len(at):
        only = {"descriptor and lists": started - asked, "scores, selection, answer": done - started}
        return LayerEvents(taken, at, rows, outputs, only, places)
    phases = {
        "descriptor and lists": started - asked,
        "before the first keys are asked for": int(at[0, 0]) + asked - started,
        "rows, with keys in the machine": int(at[-1, 3] - at[0, 0]),
        "rows, after the last keys": ended - asked - int(at[-1, 3]),
        "scores, selection, answer": done - ended,
    }
    return LayerEvents(taken, at, rows, outputs, phases, places)
