"""The compiled HBM2 engine: what one channel does in one cycle.

A channel's two command buses take at most one column command (READ, WRITE) and one row command (ACTIVATE,
PRECHARGE, refresh) a cycle for either pseudo-channel; ACTIVATE holds the row bus for two. Each pseudo-channel has
its own banks, timing, refresh and two queues: it serves reads until there are none or the write queue reaches its
high watermark, then writes down to the low one. First ready, first come: each bus takes the oldest request whose
next command may issue now; a row is closed for an older request once no younger one hits it or it has had
`row_hit_cap` hits. All-bank refresh at every multiple of tREFI, never postponed: no more commands for requests,
precharge all, refresh. Order within a cycle: column, row, then the port accepts one request, which can get its first
command in the next cycle. A read of a burst with a write queued, or the reverse, waits at the port: nothing overtakes
a hazard, and as reads all take the same time from command to data, no two answers meet.

Each pseudo-channel knows the next cycle in which it may have something to do (`wake`), so that callers skip the others.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

READ, WRITE = 0, 1
ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH, READ_BURST, WRITE_BURST = range(6)
COMMAND_NAMES = ("ACTIVATE", "PRECHARGE", "PRECHARGE_ALL", "REFRESH", "READ", "WRITE")
NEVER = 1 << 62
NONE = -1

Record = Any  # one element of a structured array
F = TypeVar("F", bound=Callable[..., Any])
lowest_bit = cast(Callable[[int], int], trailing_zeros)


def compiled(function: F) -> F:
    """Numba's nopython compilation, cached on disk where some place for a cache can be written."""
    try:
        return cast(F, numba.njit(cache=True)(function))
    except RuntimeError:
        return cast(F, numba.njit(function))


@compiled
def _log(channel: Record, bus: int, now: int, p: int, command: int, bank: int, row: int, column: int, tag: int) -> None:
    log = channel.log[bus]
    log[0], log[2], log[3], log[4], log[5], log[6], log[7] = now, p, command, bank, row, column, tag


@compiled
def _scan(channel: Record, p: int, now: int) -> tuple[int, int, int, int, int, int]:
    """Oldest ready column and row command: (age, bank, age, bank, command, next cycle with a candidate)."""
    d = channel.delays
    pc = channel.pseudo_channel[p]
    pc.ready_columns = pc.ready_activates = pc.ready_precharges = 0
    column_age, column_bank, row_age, row_bank, row_command = NEVER, NONE, NEVER, NONE, NONE
    if now >= pc.refresh_due:
        command, ready = _refresh_command(channel, p)
        if ready <= now:
            return column_age, column_bank, -1, NONE, command, NEVER
        return column_age, column_bank, row_age, row_bank, row_command, ready
    wake = pc.refresh_due
    direction = pc.direction
    port = channel.port[p, direction]
    banks = port.hit_banks
    if banks and port.column_ready > now:
        wake = min(wake, port.column_ready)
        banks = 0
    while banks:
        b = lowest_bit(banks)
        banks &= banks - 1
        queue = channel.queue[p, direction, b]
        ready = max(queue.column_ready, channel.group_port[p, direction, b >> d.group_shift].column_ready)
        if ready > now:
            wake = min(wake, ready)
        else:
            pc.ready_columns += 1
            if queue.hit_age < column_age:
                column_age, column_bank = queue.hit_age, b
    banks = port.closed_banks
    if banks and pc.activate_ready > now:
        wake = min(wake, pc.activate_ready)
        banks = 0
    while banks:
        b = lowest_bit(banks)
        banks &= banks - 1
        ready = max(channel.bank[p, b].activate_ready, channel.group[p, b >> d.group_shift].activate_ready)
        if ready > now:
            wake = min(wake, ready)
        else:
            pc.ready_activates += 1
            age = channel.queue[p, direction, b].head_age
            if age < row_age:
                row_age, row_bank, row_command = age, b, ACTIVATE
    banks = port.conflict_banks
    while banks:
        b = lowest_bit(banks)
        banks &= banks - 1
        ready = channel.bank[p, b].precharge_ready
        if ready > now:
            wake = min(wake, ready)
        else:
            pc.ready_precharges += 1
            age = channel.queue[p, direction, b].head_age
            if age < row_age:
                row_age, row_bank, row_command = age, b, PRECHARGE
    return column_age, column_bank, row_age, row_bank, row_command, wake


@compiled
def _refresh_command(channel: Record, p: int) -> tuple[int, int]:
    """What a due refresh needs next, and from which cycle on it may issue."""
    command, ready = REFRESH, 0
    for b in range(channel.delays.banks):
        bank = channel.bank[p, b]
        if bank.open_row != NONE:
            if command == REFRESH:
                command, ready = PRECHARGE_ALL, 0
            ready = max(ready, bank.precharge_ready)
        elif command == REFRESH:
            ready = max(ready, bank.activate_ready)
    return command, ready


@compiled
def _classify(channel: Record, p: int, direction: int, b: int) -> None:
    """File bank `b` under what its requests of one direction wait for: a hit to read, ACTIVATE, PRECHARGE."""
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    bit = np.int64(1) << b
    port.hit_banks &= ~bit
    port.closed_banks &= ~bit
    port.conflict_banks &= ~bit
    if queue.head == NONE:
        return
    if bank.open_row == NONE:
        port.closed_banks |= bit
        return
    if queue.hit != NONE:
        port.hit_banks |= bit
    if queue.hit != queue.head and (queue.hit == NONE or bank.hits >= channel.delays.row_hit_cap):
        port.conflict_banks |= bit


@compiled
def _find_hit(channel: Record, p: int, direction: int, b: int, start: int) -> None:
    """Make the first request from slot `start` on that wants the open row the queue's next hit."""
    queue = channel.queue[p, direction, b]
    row = channel.bank[p, b].open_row
    slots = channel.slot[p, direction]
    i = start
    while i != NONE and slots[i].row != row:
        i = slots[i].next
    queue.hit = i
    if i != NONE:
        queue.hit_age = slots[i].accepted


@compiled
def _column_command(channel: Record, p: int, b: int, now: int) -> int:
    """Issue the hit of bank `b`; returns its tag."""
    d = channel.delays
    pc = channel.pseudo_channel[p]
    direction = pc.direction
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    group = b >> d.group_shift
    hit = queue.hit
    slot = channel.slot[p, direction, hit]
    _log(channel, 0, now, p, READ_BURST + direction, b, slot.row, slot.column, slot.tag)
    same, other = port, channel.port[p, 1 - direction]
    same_group, other_group = channel.group_port[p, direction, group], channel.group_port[p, 1 - direction, group]
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
            queue.head_age = channel.slot[p, direction, after].accepted
    else:
        channel.slot[p, direction, before].next = after
    if after == NONE:
        queue.tail = before
    else:
        channel.slot[p, direction, after].previous = before
    slot.next = port.free
    port.free = hit
    port.count -= 1
    _find_hit(channel, p, direction, b, after)
    _classify(channel, p, direction, b)
    if channel.queue[p, 1 - direction, b].head != NONE:
        _classify(channel, p, 1 - direction, b)
    served: int = slot.tag
    return served


@compiled
def _close(channel: Record, p: int, b: int, now: int) -> None:
    d = channel.delays
    bank = channel.bank[p, b]
    bank.open_row = NONE
    bank.activate_ready = max(bank.activate_ready, now + d.precharge)
    for direction in range(2):
        channel.queue[p, direction, b].hit = NONE
        if channel.queue[p, direction, b].head != NONE:
            _classify(channel, p, direction, b)


@compiled
def _row_command(channel: Record, p: int, b: int, command: int, now: int) -> None:
    d = channel.delays
    pc = channel.pseudo_channel[p]
    channel.row_bus_free = now + 1
    row = NONE
    if command == ACTIVATE:
        queue, bank = channel.queue[p, pc.direction, b], channel.bank[p, b]
        row = channel.slot[p, pc.direction, queue.head].row
        bank.open_row = row
        bank.hits = 0
        bank.activate_ready = now + d.activate_to_activate
        bank.precharge_ready = max(bank.precharge_ready, now + d.activate_to_precharge)
        channel.queue[p, READ, b].column_ready = now + d.activate_to_read
        channel.queue[p, WRITE, b].column_ready = now + d.activate_to_write
        for direction in range(2):
            if channel.queue[p, direction, b].head != NONE:
                _find_hit(channel, p, direction, b, channel.queue[p, direction, b].head)
                _classify(channel, p, direction, b)
        channel.group[p, b >> d.group_shift].activate_ready = now + d.activate_long
        pc.activate0, pc.activate1, pc.activate2, pc.activate3 = pc.activate1, pc.activate2, pc.activate3, now
        pc.activate_ready = max(now + d.activate_short, pc.activate0 + d.four_activates)
        channel.row_bus_free = now + d.activate_bus
        pc.activates += 1
    elif command == PRECHARGE:
        row = channel.bank[p, b].open_row
        _close(channel, p, b, now)
        pc.precharges += 1
    elif command == PRECHARGE_ALL:
        for i in range(d.banks):
            if channel.bank[p, i].open_row != NONE:
                _close(channel, p, i, now)
                pc.precharges += 1
    else:
        for i in range(d.banks):
            channel.bank[p, i].activate_ready = now + d.refresh
        pc.refresh_due += d.refresh_interval
        pc.refreshes += 1
    _log(channel, 1, now, p, command, b, row, NONE, NONE)


@compiled
def _turn(channel: Record, p: int) -> None:
    """Serve reads or writes next: the write queue drains from its high to its low watermark."""
    pc = channel.pseudo_channel[p]
    reads, writes = channel.port[p, READ].count, channel.port[p, WRITE].count
    if pc.direction == READ:
        if writes >= channel.delays.write_high or (writes > 0 and reads == 0):
            pc.direction = WRITE
    elif writes == 0 or (writes <= channel.delays.write_low and reads > 0):
        pc.direction = READ


@compiled
def _best_row(channel: Record, now: int) -> tuple[int, int, int, int]:
    d = channel.delays
    best = (NEVER, NONE, NONE, NONE)
    for p in range(d.pseudo_channels):
        _, _, age, b, command, _ = _scan(channel, p, now)
        if command != NONE and age < best[0]:
            best = (age, p, b, command)
    return best


@compiled
def _wake(channel: Record, p: int, now: int, column_bank: int, row_bank: int, command: int) -> int:
    """Cycle before which nothing can happen in pseudo-channel `p`, after these commands (NONE: none) in `now`.

    Candidates that were not ready are in `wake` already; commands only delay them. Ready ones that were not taken wait
    for what the command taken holds, and the bank that was served has a new candidate.
    """
    d = channel.delays
    pc = channel.pseudo_channel[p]
    wake: int = pc.wake
    row_free = max(now + 1, channel.row_bus_free)
    if column_bank != NONE:
        wake = min(wake, now + d.column_short, channel.bank[p, column_bank].precharge_ready)
        if channel.port[p, WRITE].count or pc.direction == WRITE:
            wake = now + 1
    elif pc.ready_columns:
        wake = now + 1
    if command == NONE:
        refresh_lost_the_bus = pc.wake == NEVER
        if pc.ready_activates or pc.ready_precharges or refresh_lost_the_bus:
            wake = min(wake, row_free)
    elif command == ACTIVATE:
        wake = min(wake, channel.queue[p, pc.direction, row_bank].column_ready)
        if pc.ready_precharges:
            wake = min(wake, row_free)
        if pc.ready_activates > 1:
            wake = min(wake, max(row_free, pc.activate_ready))
    elif command == PRECHARGE:
        wake = min(wake, channel.bank[p, row_bank].activate_ready)
        if pc.ready_precharges > 1 or pc.ready_activates:
            wake = min(wake, row_free)
    else:
        wake = now + 1
    return max(wake, now + 1)


@compiled
def commands(channel: Record, now: int) -> tuple[int, int, int]:
    """Issue what the channel issues in cycle `now`: (tag or NONE, cycle its last data beat is over, direction)."""
    d = channel.delays
    column = (NEVER, NONE, NONE)
    row = (NEVER, NONE, NONE, NONE)
    for p in range(d.pseudo_channels):
        pc = channel.pseudo_channel[p]
        pc.scanned = pc.wake <= now
        if not pc.scanned:
            continue
        _turn(channel, p)
        column_age, column_bank, row_age, row_bank, command, pc.wake = _scan(channel, p, now)
        if column_bank != NONE and column_age < column[0]:
            column = (column_age, p, column_bank)
        if command != NONE and row_age < row[0]:
            row = (row_age, p, row_bank, command)
    tag, done, direction, again = NONE, NONE, READ, False
    if column[1] != NONE:
        p = column[1]
        direction = channel.pseudo_channel[p].direction
        tag = _column_command(channel, p, column[2], now)
        done = now + (d.read_done if direction == READ else d.write_done)
        channel.last_done = max(channel.last_done, done)
        if row[1] == p and row[2] == column[2]:
            row, again = _best_row(channel, now), True
    if row[1] != NONE:
        if channel.row_bus_free <= now:
            _row_command(channel, row[1], row[2], row[3], now)
        else:
            row = (NEVER, NONE, NONE, NONE)
    for p in range(d.pseudo_channels):
        pc = channel.pseudo_channel[p]
        if again:
            pc.wake = now + 1
        elif pc.scanned:
            column_bank = column[2] if column[1] == p else NONE
            row_bank, command = (row[2], row[3]) if row[1] == p else (NONE, NONE)
            pc.wake = _wake(channel, p, now, column_bank, row_bank, command)
    return tag, done, direction


@compiled
def may_accept(channel: Record, p: int, b: int, row: int, column: int, direction: int) -> bool:
    """Whether the port can take this request: there is room, and no queued request of the other kind for the burst."""
    if channel.port[p, direction].count >= channel.delays.queue_depth:
        return False
    slots = channel.slot[p, 1 - direction]
    i = channel.queue[p, 1 - direction, b].head
    while i != NONE:
        if slots[i].row == row and slots[i].column == column:
            return False
        i = slots[i].next
    return True


@compiled
def accept(channel: Record, p: int, b: int, row: int, column: int, direction: int, tag: int, now: int) -> None:
    """Queue a request that `may_accept` allows; `tag` comes back when it is served."""
    pc, port, queue = channel.pseudo_channel[p], channel.port[p, direction], channel.queue[p, direction, b]
    i = port.free
    slot = channel.slot[p, direction, i]
    port.free = slot.next
    port.count += 1
    slot.row, slot.column, slot.tag, slot.accepted = row, column, tag, now
    slot.next, slot.previous = NONE, queue.tail
    if queue.tail == NONE:
        queue.head = i
        queue.head_age = now
    else:
        channel.slot[p, direction, queue.tail].next = i
    queue.tail = i
    first_hit = queue.hit == NONE and channel.bank[p, b].open_row == row
    if first_hit:
        queue.hit = i
        queue.hit_age = now
    _classify(channel, p, direction, b)
    if first_hit or queue.head == i or direction != pc.direction:
        pc.wake = min(pc.wake, now + 1)
