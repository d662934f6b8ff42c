"""The engine's state: one record a channel, holding its pseudo-channels, banks, queues and the delays between commands.

To the compiled code a record of nested arrays is one pointer; separate arrays are counted references at every call.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.memory.compilation import record_dtype
from models.memory.engine import NEVER, NONE
from models.memory.timing import Delays

Records = npt.NDArray[Any]
LOG_WIDTH = 8


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names])


PSEUDO_CHANNEL = _record(
    *("direction", "activate_ready", "activate0", "activate1", "activate2", "activate3", "refresh_due", "refresh_wake"),
    *("turns", "column_wake", "row_wake"),
    *("activates", "precharges", "refreshes", "row_hits", "reads", "writes", "queue_cycles", "queue_cycles_max"),
)
PORT = _record(
    *("count", "free", "column_ready"),
    *("column_wake", "activate_wake", "precharge_wake"),
)
BANK = _record("open_row", "hits")
QUEUE = _record("head", "tail", "hit", "head_age", "hit_age")
PER_BANK = ("activate_ready", "precharge_ready")
PER_QUEUE = ("hit_key", "closed_key", "conflict_key", "column_ready")
SLOT = _record("row", "column", "tag", "accepted", "next", "previous")
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
    )
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        **dict.fromkeys(scalars, (np.int64, ())),
        "log": (np.int64, (2, LOG_WIDTH)),
        "delays": (DELAYS, ()),
        "layout": (np.int64, layout.shape),
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
        c["queue"][name] = NONE
    for name in ("column_wake", "activate_wake", "precharge_wake"):
        c["port"][name] = NEVER
    for name in ("hit_key", "closed_key", "conflict_key"):
        c[name] = NEVER
    c["slot"]["next"] = np.arange(1, d.queue_depth + 1)
    c["slot"]["next"][..., -1] = NONE
    return State(
        channel=c,
        trace=np.zeros((trace_capacity, LOG_WIDTH), np.int64),
        traced=np.zeros(1, np.int64),
    )
