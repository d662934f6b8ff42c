"""What compiled code knows of a layer's rows before it runs (`models.transaction.value_state.ROWS`)."""

from dataclasses import dataclass, field

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from models.config import AcceleratorConfig
from models.memory.compilation import Array, compiled
from models.transaction.fields import Fields
from models.transaction.layer_plan import LayerPlan
from models.transaction.value_state import LAYER, ROWS

UNKNOWN = 1 << 60
RESULTS = ROWS[ROWS.index("filtered") : ROWS.index("slots_at") + 1]


@dataclass(eq=False)
class ValueLayer:
    """A layer: its numbers, and arrays in the order of `ROWS` in one.

    Attributes:
        numbers: by the names of `LAYER`.
        data: all arrays.
        at: where each begins and ends in `data`.
    """

    numbers: dict[str, int]
    data: Array
    at: dict[str, slice] = field(default_factory=dict)

    @classmethod
    def of(cls, numbers: dict[str, int], arrays: dict[str, Array]) -> "ValueLayer":
        """Put together."""
        at, begin = {}, 0
        for name in ROWS:
            at[name] = slice(begin, begin + arrays[name].size)
            begin = at[name].stop
        data = np.concatenate([arrays[name].reshape(-1) for name in ROWS], dtype=np.int64, casting="same_kind")
        return cls(numbers, data, at)

    @classmethod
    def none(cls) -> "ValueLayer":
        """Without rows."""
        return cls.of(dict.fromkeys(LAYER, 0), dict.fromkeys(ROWS, np.zeros(0, np.int64)))

    def __getitem__(self, name: str) -> Array:
        """An array of `ROWS`."""
        return self.data[self.at[name]]

    def enter(self, state: Fields) -> None:
        """Write numbers and places into the record."""
        for name, number in self.numbers.items():
            state[name] = number
        for name, where in self.at.items():
            state[f"d_{name}"] = where.start


def value_layer(plan: LayerPlan, machine: AcceleratorConfig) -> ValueLayer:
    """Of `plan`, with times that are not known yet."""
    work, place, lanes = plan.work, plan.place, machine.top_k_lanes
    heads, rows = len(work.heads), work.rows
    count = heads * rows
    decided = work.generation and not plan.prunes and plan.progressive
    shape = (
        *(work.generation, not plan.prunes, decided, plan.parts, plan.lanes, rows, work.head_dim, work.keys),
        *(count, heads * sum(plan.beats)),
    )
    planes = ("value", "value_lsb") if plan.progressive else ("value", "value")
    jobs = [
        (first, last, *((place[f"{p}_address"] + kv * place[f"{p}_stride"]) // BURST_BYTES for p in planes))
        for _, kv, first, last in plan.jobs
    ]
    visible = np.tile(np.asarray(plan.visible, np.int64), heads)
    beats = np.tile(np.asarray(plan.beats, np.int64), heads)
    kept = np.asarray(work.kept, np.int64).reshape(-1)
    arrays = {name: np.zeros(count, np.int64) for name in ROWS} | {
        "jobs": np.array(jobs, np.int64),
        "given": np.full(heads, UNKNOWN, np.int64),
        "ids": np.asarray(work.key_ids, np.int64),
        "bits": np.array([plan.bits("msb"), plan.bits("lsb")], np.int64),
        "beats": beats,
        "visible": visible,
        "kept": kept,
        "flat": np.asarray(work.flat, np.int64),
        "begins": np.full(count, UNKNOWN, np.int64),
        "decided": np.full(count, UNKNOWN, np.int64),
        "left": np.zeros(int(beats.sum()), np.int64),
        "second_left": np.zeros(int(beats.sum()), np.int64),
        "taken": np.zeros(heads, np.int64),
    }
    if plan.prunes:
        every = [plan.passes(head, row) for head in range(heads) for row in range(rows)]
        arrays["passes"] = np.array([len(one) for one in every])
        arrays["pass_rows"] = np.array([sum(-(-c // lanes) for c in one) for one in every])
        slots = np.concatenate([plan.work.kept_slots(head) for head in range(heads)])
        found = _results(slots, visible, kept, lanes, plan.lanes, work.generation)
        arrays |= dict(zip(RESULTS, found, strict=True))
    return ValueLayer.of(dict(zip(LAYER, map(int, shape), strict=True)), arrays)


@compiled
def _results(
    slots: Array, visible: Array, kept: Array, lanes: int, keys: int, generation: bool
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array, Array]:
    """From `filtered` on, of `ROWS`.

    Args:
        slots: that each row keeps, [rows, keys].
        visible: keys of each row.
        kept: values of each row.
        lanes: of the engines.
        keys: of a beat.
        generation: a value's place is its number among those kept, else its slot.
    """
    rows, total = visible.shape[0], kept.sum()
    filtered = np.zeros(((visible + lanes - 1) // lanes).sum(), np.int64)
    grouped = np.zeros((kept // lanes + 1).sum(), np.int64)
    masks, places = np.zeros(total + rows, np.int64), np.zeros(total + rows, np.int64)
    all_slots = np.zeros(total + 1, np.int64)  # each slot is written at the next place, which only a kept one takes
    filtered_at, grouped_at, masks_at, slots_at = (
        np.zeros(rows + 1, np.int64),
        np.zeros(rows + 1, np.int64),
        np.zeros(rows + 1, np.int64),
        np.zeros(rows + 1, np.int64),
    )
    for row in range(rows):
        at, group_at, mask_at, slot_at = filtered_at[row], grouped_at[row], masks_at[row] - 1, slots_at[row]
        n, place, ends = slot_at, 0, 0
        item_rows = (visible[row] + lanes - 1) // lanes
        for item in range(item_rows):
            before = n
            for slot in range(item * lanes, min((item + 1) * lanes, visible[row])):
                all_slots[n] = slot
                n += 1 if slots[row, slot] else 0
            filtered[at + item] = n - before
        n -= slot_at
        for first in range(0, n, lanes):
            for i in range(first, min(first + lanes, n)):
                where = i if generation else all_slots[slot_at + i]
                if i == first or where >= ends:
                    place = where // keys
                    ends = (place + 1) * keys
                    mask_at += 1
                    places[mask_at] = place
                    grouped[group_at + first // lanes] += 1
                masks[mask_at] |= 1 << where - place * keys
        results = (n + lanes - 1) // lanes
        if n % lanes == 0 and filtered[at + item_rows - 1] == 0:
            # the last row of items leaves nothing to put the mark of the end on but a row without items
            grouped[group_at + results] = 1
            results += 1
            mask_at += 1
        filtered_at[row + 1] = at + item_rows
        grouped_at[row + 1] = group_at + results
        masks_at[row + 1] = mask_at + 1
        slots_at[row + 1] = slot_at + n
    return filtered, filtered_at, grouped, grouped_at, masks, places, masks_at, all_slots[:total], slots_at
