"""The engine's state: one record a channel, holding its pseudo-channels, banks, queues and the delays between commands.

To the compiled code a record of nested arrays is one pointer; separate arrays are counted references at every call.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.memory.address_map import FIELDS
from models.memory.compilation import record_dtype
from models.memory.engine import NEVER, NO_SLOT, NONE
from models.memory.timing import Delays

Records = npt.NDArray[Any]
LOG_WIDTH = 8
SLOT_NUMBER = np.uint16
LINE_BYTES = 64


def _record(*names: str, **others: Any) -> np.dtype[Any]:
    """Of integers of 64 bits and others; of a power of two of bytes up to a cache line, so that none is in two."""
    formats = [np.dtype(others.get(name, np.int64)) for name in (*names, *others)]
    ends = list(accumulate(of.itemsize for of in formats))
    size = ends[-1] if ends[-1] > LINE_BYTES else 1 << (ends[-1] - 1).bit_length()
    layout = {"names": [*names, *others], "formats": formats, "offsets": [0, *ends[:-1]], "itemsize": size}
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]


PSEUDO_CHANNEL = _record(
    *("direction", "activate_ready", "activate0", "activate1", "activate2", "activate3", "refresh_due", "refresh_wake"),
    *("turns", "column_wake", "row_wake"),
    *("activates", "precharges", "refreshes", "row_hits", "reads", "writes", "queue_cycles", "queue_cycles_max"),
)
PORT = _record(
    *("column_ready", "column_wake", "activate_wake", "precharge_wake"),
    **dict.fromkeys(("count", "free"), SLOT_NUMBER),
)
BANK = _record("open_row", "hits")
QUEUE = _record("head_age", "hit_age", **dict.fromkeys(("head", "tail", "hit"), SLOT_NUMBER))
PER_BANK = ("activate_ready", "precharge_ready")
PER_QUEUE = ("hit_key", "closed_key", "conflict_key", "column_ready")
SLOT = _record("tag", "accepted", row=np.int32, column=np.int32, next=SLOT_NUMBER, previous=SLOT_NUMBER)
WHERE = FIELDS[1:]
WHERE_DTYPE = np.dtype([(name, np.int64, (2,)) for name in WHERE])
DELAYS = _record(*Delays._fields)
REQUEST = np.dtype(
    [(name, np.int64) for name in ("issue", "accepted", "done", "next")]
    + [(name, np.int32) for name in ("row", "column")]
    + [(name, np.int16) for name in ("bank", "channel", "pseudo_channel", "direction")]
)


class State(NamedTuple):
    """Arrays of one memory."""

    channel: Records  # [channels] of `channel_dtype`
    trace: Records  # [capacity, 8]: cycle, channel, pseudo-channel, command, bank, row, column, tag
    traced: Records  # [1]: commands so far, also beyond the capacity


def channel_dtype(d: Delays, layout: Records) -> np.dtype[Any]:
    """Layout of a channel's record; the axis of two is READ, WRITE; keys and wakes as in `engine`.

    `due` [2, cycles]: tag that answers in a cycle, or NONE; `layout`: of `AddressMap.layout`.
    """
    answers = 1 << max(d.read_done, d.write_done).bit_length()
    p = d.pseudo_channels
    scalars = (
        "row_bus_free",
        "door_head",
        "door_tail",
        "now",
        "wake",
        "unfinished",
        "late",
        "owes",
        "last_done",
        "traced",
        "is_split",
    )
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        **dict.fromkeys(scalars, (np.int64, ())),
        "log": (np.int64, (2, LOG_WIDTH)),
        "delays": (DELAYS, ()),
        "layout": (np.int64, layout.shape),
        "where": (WHERE_DTYPE, ()),
        "due": (np.int64, (2, answers)),
        "pseudo_channel": (PSEUDO_CHANNEL, (p,)),
        "port": (PORT, (p, 2)),
        **dict.fromkeys(PER_BANK, (np.int64, (p, d.banks))),
        **dict.fromkeys(PER_QUEUE, (np.int64, (p, 2, d.banks))),
        "bank": (BANK, (p, d.banks)),
        "queue": (QUEUE, (p, 2, d.banks)),
        "slot": (SLOT, (p, 2, d.queue_depth)),
    }
    return record_dtype(shapes)


def new_state(channels: int, d: Delays, layout: Records, trace_capacity: int) -> State:
    """State of an idle memory at cycle 0: all rows closed, nothing queued."""
    c = np.zeros(channels, channel_dtype(d, layout))
    c["layout"], c["due"] = layout, NONE
    for i, name in enumerate(WHERE):
        segments = layout[1:][layout[1:, 0] == 1 + i]
        c["where"][name] = segments[0, 1:3] if len(segments) else 0
        c["is_split"] |= len(segments) > 1 or (len(segments) > 0 and int(segments[0, 3]) > 0)
    for name, value in d._asdict().items():
        c["delays"][name] = value
    c["log"][..., 0] = NONE
    c["traced"] = trace_capacity > 0
    c["door_head"] = c["door_tail"] = NONE
    for oldest in range(4):
        c["pseudo_channel"][f"activate{oldest}"] = -NEVER
    c["pseudo_channel"]["refresh_due"] = c["pseudo_channel"]["refresh_wake"] = d.refresh_interval
    c["pseudo_channel"]["column_wake"] = NEVER
    c["pseudo_channel"]["row_wake"] = d.refresh_interval
    c["bank"]["open_row"] = NONE
    for name in ("head", "tail", "hit"):
        c["queue"][name] = NO_SLOT
    for name in ("column_wake", "activate_wake", "precharge_wake"):
        c["port"][name] = NEVER
    for name in ("hit_key", "closed_key", "conflict_key"):
        c[name] = NEVER
    c["slot"]["next"] = np.arange(1, d.queue_depth + 1)
    c["slot"]["next"][..., -1] = NO_SLOT
    return State(
        channel=c,
        trace=np.zeros((trace_capacity, LOG_WIDTH), np.int64),
        traced=np.zeros(1, np.int64),
    )
