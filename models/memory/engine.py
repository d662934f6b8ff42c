"""The compiled HBM2 engine: one channel, one cycle at a time, skipping the cycles in which nothing can happen.

In every cycle a channel's two command buses take at most one column command (READ, WRITE) and one row command (ACTIVATE,
PRECHARGE, refresh) for either pseudo-channel; ACTIVATE holds the row bus for two cycles. Each pseudo-channel has its own banks,
timing, refresh and two queues. It serves reads until there are none or the write queue reaches its high watermark, then
writes down to the low one. First ready, first come: each bus takes the oldest request whose next command may issue now; a row
is closed for an older request once no younger one hits it or it has had `row_hit_cap` hits. All-bank refresh at every
multiple of tREFI, never postponed: no new command for requests, precharge all, refresh. Order within a cycle: column, row,
then the port accepts one request a channel; that request can get a command in the next cycle. A read of a burst with a write
queued, or the reverse, waits at the port, so nothing overtakes a hazard and responses never collide.

All compiled functions live in this file: Numba's cache follows changes in one file only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from models.memory.timing import Delays

READ, WRITE = 0, 1
ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH, READ_BURST, WRITE_BURST = range(6)
COMMAND_NAMES = ("ACTIVATE", "PRECHARGE", "PRECHARGE_ALL", "REFRESH", "READ", "WRITE")
NEVER = 1 << 62
NONE = -1

Records = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Numba's nopython compilation, cached on disk where some place for a cache can be written."""
    try:
        return numba.njit(cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(function)  # type: ignore[no-any-return]


def _record(names: str) -> np.dtype[Any]:
    return np.dtype([(name, np.int64) for name in names.split()])


CHANNEL = _record("row_bus_free accepted_cycle door_head door_tail now unfinished late")
PSEUDO_CHANNEL = _record(
    "wake direction activate_ready activate0 activate1 activate2 activate3 refresh_due "
    "activates precharges refreshes row_hits reads writes queue_cycles queue_cycles_max"
)
PORT = _record("count active free column_ready")
GROUP = _record("activate_ready")
GROUP_PORT = _record("column_ready")
BANK = _record("open_row activate_ready precharge_ready hits")
QUEUE = _record("column_ready head tail hit head_age hit_age position")
SLOT = _record("row column tag accepted next previous")
REQUEST = _record("issue channel pseudo_channel bank row column direction accepted done next")


class State(NamedTuple):
    """Arrays of one memory; `port`, `group_port`, `queue`, `active`, `slot` have an axis for READ and WRITE."""

    channel: Records  # [channels]
    pseudo_channel: Records  # [channels, pseudo-channels]
    port: Records  # [channels, pseudo-channels, 2]
    group: Records  # [channels, pseudo-channels, groups]
    group_port: Records  # [channels, pseudo-channels, 2, groups]
    bank: Records  # [channels, pseudo-channels, banks]
    queue: Records  # [channels, pseudo-channels, 2, banks]
    active: Records  # [channels, pseudo-channels, 2, banks]: banks with requests
    slot: Records  # [channels, pseudo-channels, 2, queue depth]
    due: Records  # [channels, 2, cycles]: tag that answers in a cycle, or NONE
    trace: Records  # [capacity, 8]: cycle, channel, pseudo-channel, command, bank, row, column, tag
    traced: Records  # [1]: commands so far, also beyond the capacity


def new_state(channels: int, d: Delays, trace_capacity: int) -> State:
    """State of an idle memory at cycle 0: all rows closed, nothing queued."""
    base = (channels, d.pseudo_channels)
    groups = d.banks // d.banks_per_group
    state = State(
        channel=np.zeros(channels, CHANNEL),
        pseudo_channel=np.zeros(base, PSEUDO_CHANNEL),
        port=np.zeros((*base, 2), PORT),
        group=np.zeros((*base, groups), GROUP),
        group_port=np.zeros((*base, 2, groups), GROUP_PORT),
        bank=np.zeros((*base, d.banks), BANK),
        queue=np.zeros((*base, 2, d.banks), QUEUE),
        active=np.zeros((*base, 2, d.banks), np.int64),
        slot=np.zeros((*base, 2, d.queue_depth), SLOT),
        due=np.full((channels, 2, max(d.read_done, d.write_done) + 1), NONE, np.int64),
        trace=np.zeros((trace_capacity, 8), np.int64),
        traced=np.zeros(1, np.int64),
    )
    state.channel["accepted_cycle"] = NONE
    state.channel["door_head"] = state.channel["door_tail"] = NONE
    for oldest in range(4):
        state.pseudo_channel[f"activate{oldest}"] = -NEVER
    state.pseudo_channel["refresh_due"] = d.refresh_interval
    state.bank["open_row"] = NONE
    for name in ("head", "tail", "hit"):
        state.queue[name] = NONE
    state.slot["next"] = np.arange(1, d.queue_depth + 1)
    state.slot["next"][..., -1] = NONE
    return state


@compiled
def _trace(s, cycle, c, p, command, bank, row, column, tag):  # type: ignore[no-untyped-def]
    n = s.traced[0]
    if n < s.trace.shape[0]:
        t = s.trace[n]
        t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7] = cycle, c, p, command, bank, row, column, tag
    s.traced[0] = n + 1


@compiled
def _scan(s, d, c, p, now):  # type: ignore[no-untyped-def]
    """Oldest ready column and row command: (age, bank, age, bank, command, next cycle with a candidate)."""
    pc = s.pseudo_channel[c, p]
    column_age, column_bank, row_age, row_bank, row_command, wake = NEVER, NONE, NEVER, NONE, NONE, NEVER
    if now >= pc.refresh_due:
        ready, command = np.int64(0), REFRESH
        for b in range(d.banks):
            bank = s.bank[c, p, b]
            if bank.open_row != NONE:
                if command == REFRESH:
                    command, ready = PRECHARGE_ALL, np.int64(0)
                ready = max(ready, bank.precharge_ready)
            elif command == REFRESH:
                ready = max(ready, bank.activate_ready)
        if ready <= now:
            return column_age, column_bank, -1, NONE, command, wake
        return column_age, column_bank, row_age, row_bank, row_command, ready
    direction = pc.direction
    port = s.port[c, p, direction]
    for i in range(port.active):
        b = s.active[c, p, direction, i]
        bank = s.bank[c, p, b]
        queue = s.queue[c, p, direction, b]
        group = b // d.banks_per_group
        if bank.open_row == NONE:
            ready = max(bank.activate_ready, s.group[c, p, group].activate_ready, pc.activate_ready)
            if ready > now:
                wake = min(wake, ready)
            elif queue.head_age < row_age:
                row_age, row_bank, row_command = queue.head_age, b, ACTIVATE
            continue
        if queue.hit != NONE:
            ready = max(queue.column_ready, s.group_port[c, p, direction, group].column_ready, port.column_ready)
            if ready > now:
                wake = min(wake, ready)
            elif queue.hit_age < column_age:
                column_age, column_bank = queue.hit_age, b
        if queue.hit != queue.head and (queue.hit == NONE or bank.hits >= d.row_hit_cap):
            if bank.precharge_ready > now:
                wake = min(wake, bank.precharge_ready)
            elif queue.head_age < row_age:
                row_age, row_bank, row_command = queue.head_age, b, PRECHARGE
    return column_age, column_bank, row_age, row_bank, row_command, min(wake, pc.refresh_due)


@compiled
def _find_hit(s, c, p, direction, b, start):  # type: ignore[no-untyped-def]
    """Make the first request from slot `start` on that wants the open row the queue's next hit."""
    queue = s.queue[c, p, direction, b]
    row = s.bank[c, p, b].open_row
    slots = s.slot[c, p, direction]
    i = start
    while i != NONE and slots[i].row != row:
        i = slots[i].next
    queue.hit = i
    if i != NONE:
        queue.hit_age = slots[i].accepted


@compiled
def _column_command(s, d, c, p, b, now):  # type: ignore[no-untyped-def]
    """Issue the hit of bank `b`; returns its tag."""
    pc = s.pseudo_channel[c, p]
    direction = pc.direction
    port, queue, bank = s.port[c, p, direction], s.queue[c, p, direction, b], s.bank[c, p, b]
    group = b // d.banks_per_group
    hit = queue.hit
    slot = s.slot[c, p, direction, hit]
    if s.trace.shape[0]:
        _trace(s, now, c, p, READ_BURST + direction, b, slot.row, slot.column, slot.tag)
    same, other = port, s.port[c, p, 1 - direction]
    same_group, other_group = s.group_port[c, p, direction, group], s.group_port[c, p, 1 - direction, group]
    same.column_ready = max(same.column_ready, now + d.column_short)
    same_group.column_ready = max(same_group.column_ready, now + d.column_long)
    if direction == READ:
        other.column_ready = max(other.column_ready, now + d.read_to_write)
        bank.precharge_ready = max(bank.precharge_ready, now + d.read_to_precharge)
        pc.reads += 1
    else:
        other.column_ready = max(other.column_ready, now + d.write_to_read_short)
        other_group.column_ready = max(other_group.column_ready, now + d.write_to_read_long)
        bank.precharge_ready = max(bank.precharge_ready, now + d.write_to_precharge)
        pc.writes += 1
    if bank.hits:
        pc.row_hits += 1
    bank.hits += 1
    waited = now - slot.accepted
    pc.queue_cycles += waited
    pc.queue_cycles_max = max(pc.queue_cycles_max, waited)

    before, after = slot.previous, slot.next
    if before == NONE:
        queue.head = after
        if after != NONE:
            queue.head_age = s.slot[c, p, direction, after].accepted
    else:
        s.slot[c, p, direction, before].next = after
    if after == NONE:
        queue.tail = before
    else:
        s.slot[c, p, direction, after].previous = before
    slot.next = port.free
    port.free = hit
    port.count -= 1
    if queue.head == NONE:
        last = s.active[c, p, direction, port.active - 1]
        s.active[c, p, direction, queue.position] = last
        s.queue[c, p, direction, last].position = queue.position
        port.active -= 1
    _find_hit(s, c, p, direction, b, after)
    return slot.tag


@compiled
def _close(s, d, c, p, b, now):  # type: ignore[no-untyped-def]
    bank = s.bank[c, p, b]
    bank.open_row = NONE
    bank.activate_ready = max(bank.activate_ready, now + d.precharge)
    s.queue[c, p, READ, b].hit = NONE
    s.queue[c, p, WRITE, b].hit = NONE


@compiled
def _row_command(s, d, c, p, b, command, now):  # type: ignore[no-untyped-def]
    pc = s.pseudo_channel[c, p]
    s.channel[c].row_bus_free = now + 1
    row = np.int64(NONE)
    if command == ACTIVATE:
        queue, bank = s.queue[c, p, pc.direction, b], s.bank[c, p, b]
        row = s.slot[c, p, pc.direction, queue.head].row
        bank.open_row = row
        bank.hits = 0
        bank.activate_ready = now + d.activate_to_activate
        bank.precharge_ready = max(bank.precharge_ready, now + d.activate_to_precharge)
        s.queue[c, p, READ, b].column_ready = now + d.activate_to_read
        s.queue[c, p, WRITE, b].column_ready = now + d.activate_to_write
        for direction in range(2):
            _find_hit(s, c, p, direction, b, s.queue[c, p, direction, b].head)
        s.group[c, p, b // d.banks_per_group].activate_ready = now + d.activate_long
        pc.activate0, pc.activate1, pc.activate2, pc.activate3 = pc.activate1, pc.activate2, pc.activate3, now
        pc.activate_ready = max(now + d.activate_short, pc.activate0 + d.four_activates)
        s.channel[c].row_bus_free = now + d.activate_bus
        pc.activates += 1
    elif command == PRECHARGE:
        row = s.bank[c, p, b].open_row
        _close(s, d, c, p, b, now)
        pc.precharges += 1
    elif command == PRECHARGE_ALL:
        for i in range(d.banks):
            if s.bank[c, p, i].open_row != NONE:
                _close(s, d, c, p, i, now)
                pc.precharges += 1
    else:
        for i in range(d.banks):
            s.bank[c, p, i].activate_ready = now + d.refresh
        pc.refresh_due += d.refresh_interval
        pc.refreshes += 1
    if s.trace.shape[0]:
        _trace(s, now, c, p, command, b, row, NONE, NONE)


@compiled
def _turn(s, d, c, p):  # type: ignore[no-untyped-def]
    """Serve reads or writes next: the write queue drains from its high to its low watermark."""
    pc = s.pseudo_channel[c, p]
    reads, writes = s.port[c, p, READ].count, s.port[c, p, WRITE].count
    if pc.direction == READ:
        if writes >= d.write_high or (writes > 0 and reads == 0):
            pc.direction = WRITE
    elif writes == 0 or (writes <= d.write_low and reads > 0):
        pc.direction = READ


@compiled
def _best_row(s, d, c, now):  # type: ignore[no-untyped-def]
    best = (np.int64(NEVER), NONE, NONE, NONE)
    for p in range(d.pseudo_channels):
        _, _, age, b, command, _ = _scan(s, d, c, p, now)
        if command != NONE and age < best[0]:
            best = (age, p, b, command)
    return best


@compiled
def _commands(s, d, c, now):  # type: ignore[no-untyped-def]
    """Issue what channel `c` issues in cycle `now`: (tag or NONE, cycle its last data beat is over, direction)."""
    column = (np.int64(NEVER), NONE, NONE)
    row = (np.int64(NEVER), NONE, NONE, NONE)
    for p in range(d.pseudo_channels):
        pc = s.pseudo_channel[c, p]
        if pc.wake > now:
            continue
        _turn(s, d, c, p)
        column_age, column_bank, row_age, row_bank, command, wake = _scan(s, d, c, p, now)
        if column_bank != NONE and column_age < column[0]:
            column = (column_age, p, column_bank)
        if command != NONE and row_age < row[0]:
            row = (row_age, p, row_bank, command)
        pc.wake = now + 1 if column_bank != NONE or command != NONE else wake
    tag, done, direction = np.int64(NONE), np.int64(NONE), np.int64(READ)
    if column[1] != NONE:
        p = column[1]
        direction = s.pseudo_channel[c, p].direction
        tag = _column_command(s, d, c, p, column[2], now)
        done = now + (d.read_done if direction == READ else d.write_done)
        if row[1] == p and row[2] == column[2]:
            row = _best_row(s, d, c, now)
    if row[1] != NONE and s.channel[c].row_bus_free <= now:
        _row_command(s, d, c, row[1], row[2], row[3], now)
    return tag, done, direction


@compiled
def _may_accept(s, d, c, p, b, row, column, direction):  # type: ignore[no-untyped-def]
    if s.port[c, p, direction].count >= d.queue_depth:
        return False
    slots = s.slot[c, p, 1 - direction]
    i = s.queue[c, p, 1 - direction, b].head
    while i != NONE:
        if slots[i].row == row and slots[i].column == column:
            return False
        i = slots[i].next
    return True


@compiled
def _accept(s, d, c, p, b, row, column, direction, tag, now):  # type: ignore[no-untyped-def]
    pc, port, queue = s.pseudo_channel[c, p], s.port[c, p, direction], s.queue[c, p, direction, b]
    i = port.free
    slot = s.slot[c, p, direction, i]
    port.free = slot.next
    port.count += 1
    slot.row, slot.column, slot.tag, slot.accepted = row, column, tag, now
    slot.next, slot.previous = NONE, queue.tail
    if queue.tail == NONE:
        queue.head = i
        queue.head_age = now
        queue.position = port.active
        s.active[c, p, direction, port.active] = b
        port.active += 1
    else:
        s.slot[c, p, direction, queue.tail].next = i
    queue.tail = i
    if queue.hit == NONE and s.bank[c, p, b].open_row == row:
        queue.hit = i
        queue.hit_age = now
    s.channel[c].accepted_cycle = now
    pc.wake = min(pc.wake, now + 1)


@compiled
def enqueue(s, requests, order):  # type: ignore[no-untyped-def]
    """Put requests at the ports of their channels, in this order."""
    for i in order:
        channel = s.channel[requests[i].channel]
        if requests[i].issue < channel.now:
            channel.late += 1
        if channel.door_tail == NONE:
            channel.door_head = i
        else:
            requests[channel.door_tail].next = i
        channel.door_tail = i
        channel.unfinished += 1


@compiled
def _acceptable(s, d, c, request):  # type: ignore[no-untyped-def]
    p, b, direction = request.pseudo_channel, request.bank, request.direction
    return _may_accept(s, d, c, p, b, request.row, request.column, direction)


@compiled
def advance(s, d, requests, until, first, last, remaining):  # type: ignore[no-untyped-def]
    """Simulate each channel c up to cycle `until`, or until `remaining[c]` of requests [first, last) are served."""
    for c in range(s.channel.shape[0]):
        channel = s.channel[c]
        now = channel.now
        left = remaining[c]
        while left > 0:
            event = np.int64(NEVER)
            for p in range(d.pseudo_channels):
                event = min(event, s.pseudo_channel[c, p].wake)
            if channel.door_head != NONE:
                request = requests[channel.door_head]
                if _acceptable(s, d, c, request):
                    event = min(event, request.issue)
            event = max(event, now)
            if event >= until:
                now = max(now, until)
                break
            tag, done, _ = _commands(s, d, c, event)
            if tag != NONE:
                requests[tag].done = done
                channel.unfinished -= 1
                if first <= tag < last:
                    left -= 1
            head = channel.door_head
            if head != NONE:
                request = requests[head]
                if request.issue <= event and _acceptable(s, d, c, request):
                    _accept(
                        s, d, c, request.pseudo_channel, request.bank, request.row, request.column,
                        request.direction, head, event,
                    )  # fmt: skip
                    request.accepted = event
                    channel.door_head = request.next
                    if request.next == NONE:
                        channel.door_tail = NONE
            now = event + 1
        channel.now = now


@compiled
def steps(s, d, start, valid, location, direction, tags, accepted, answers):  # type: ignore[no-untyped-def]
    """Cycles [start, start + n) of the ports; `location` is pseudo-channel, bank, row, column of each offer.

    Arrays are [cycle, channel]; `answers` [cycle, channel, 2] receives the tag that answers, or NONE.
    """
    cycles, channels = valid.shape
    slots = s.due.shape[2]
    for i in range(cycles):
        now = start + i
        for c in range(channels):
            for kind in range(2):
                answers[i, c, kind] = s.due[c, kind, now % slots]
                s.due[c, kind, now % slots] = NONE
            tag, done, kind = _commands(s, d, c, now)
            if tag != NONE:
                s.due[c, kind, done % slots] = tag
            s.channel[c].now = now + 1
            accepted[i, c] = False
            if not valid[i, c]:
                continue
            p, b, row, column = location[i, c, 0], location[i, c, 1], location[i, c, 2], location[i, c, 3]
            if _may_accept(s, d, c, p, b, row, column, direction[i, c]):
                _accept(s, d, c, p, b, row, column, direction[i, c], tags[i, c], now)
                accepted[i, c] = True
