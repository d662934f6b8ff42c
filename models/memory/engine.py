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

A bank's candidate for a command has a key: the cycle in which its request was accepted, and the bank in the low
BANK_BITS. A port accepts one request a cycle, so the least key is the oldest request.

Each pseudo-channel knows the next cycle in which it may have something to do (`wake`), so that the others are skipped;
a channel's `wake` is the least of them.
"""

import numpy as np

from models.memory.compilation import Array, Record, compiled

READ, WRITE = 0, 1
ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH, READ_BURST, WRITE_BURST = range(6)
COMMAND_NAMES = ("ACTIVATE", "PRECHARGE", "PRECHARGE_ALL", "REFRESH", "READ", "WRITE")
NEVER = 1 << 62
NONE = -1
BANK_BITS = 16
BANK_MASK = (1 << BANK_BITS) - 1


@compiled
def _log(channel: Record, bus: int, now: int, p: int, command: int, bank: int, row: int, column: int, tag: int) -> None:
    if not channel.traced:
        return
    log = channel.log[bus]
    log[0], log[2], log[3], log[4], log[5], log[6], log[7] = now, p, command, bank, row, column, tag


@compiled
def _ready(keys: Array, times: Array, group_times: Array, not_before: int, now: int) -> tuple[int, int, int]:
    """Of all banks' candidates of one kind: the least key that is ready, how many are, and when the next will be."""
    best, count, wake = NEVER, 0, NEVER
    for b in range(keys.shape[0]):
        key = keys[b]
        ready = max(times[b], group_times[b], not_before)
        is_ready = ready <= now
        best = min(best, key if is_ready else NEVER)
        wake = min(wake, NEVER if is_ready | (key == NEVER) else ready)
        count += is_ready & (key != NEVER)
    return best, count, wake


@compiled
def _scan(channel: Record, p: int, now: int) -> tuple[int, int, int, int]:
    """Keys of the oldest ready column and row command, the latter's kind, and the next cycle with a candidate."""
    pc = channel.pseudo_channel[p]
    pc.ready_columns = pc.ready_activates = pc.ready_precharges = 0
    column, row, command = NEVER, NEVER, NONE
    if now >= pc.refresh_due:
        command, ready = _refresh_command(channel, p)
        if ready <= now:
            return column, -1, command, NEVER
        return column, row, NONE, ready
    wake = pc.refresh_due
    direction = pc.direction
    port = channel.port[p, direction]
    if port.hit_banks:
        column, pc.ready_columns, later = _ready(
            channel.hit_key[p, direction],
            channel.column_ready[p, direction],
            channel.group_column_ready[p, direction],
            port.column_ready,
            now,
        )
        wake = min(wake, later)
    if port.closed_banks:
        row, pc.ready_activates, later = _ready(
            channel.closed_key[p, direction],
            channel.activate_ready[p],
            channel.group_activate_ready[p],
            pc.activate_ready,
            now,
        )
        command = ACTIVATE
        wake = min(wake, later)
    if port.conflict_banks:
        times = channel.precharge_ready[p]
        found, pc.ready_precharges, later = _ready(channel.conflict_key[p, direction], times, times, 0, now)
        wake = min(wake, later)
        if found < row:
            row, command = found, PRECHARGE
    return column, row, command if row < NEVER else NONE, wake


@compiled
def _refresh_command(channel: Record, p: int) -> tuple[int, int]:
    """What a due refresh needs next, and from which cycle on it may issue."""
    command, ready = REFRESH, 0
    for b in range(channel.delays.banks):
        if channel.bank[p, b].open_row != NONE:
            if command == REFRESH:
                command, ready = PRECHARGE_ALL, 0
            ready = max(ready, channel.precharge_ready[p, b])
        elif command == REFRESH:
            ready = max(ready, channel.activate_ready[p, b])
    return command, ready


@compiled
def _classify(channel: Record, p: int, direction: int, b: int) -> None:
    """File bank `b` under what its requests of one direction wait for: a hit to read, ACTIVATE, PRECHARGE."""
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    bit = np.int64(1) << b
    port.hit_banks &= ~bit
    port.closed_banks &= ~bit
    port.conflict_banks &= ~bit
    hit = closed = conflict = NEVER
    if queue.head != NONE:
        oldest = (queue.head_age << BANK_BITS) + b
        if bank.open_row == NONE:
            port.closed_banks |= bit
            closed = oldest
        else:
            if queue.hit != NONE:
                port.hit_banks |= bit
                hit = (queue.hit_age << BANK_BITS) + b
            if queue.hit != queue.head and (queue.hit == NONE or bank.hits >= channel.delays.row_hit_cap):
                port.conflict_banks |= bit
                conflict = oldest
    channel.hit_key[p, direction, b] = hit
    channel.closed_key[p, direction, b] = closed
    channel.conflict_key[p, direction, b] = conflict


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
def _delay_group(times: Array, b: int, group_shift: int, ready: int) -> None:
    """No bank of the group of `b` before cycle `ready`."""
    first = (b >> group_shift) << group_shift
    for i in range(first, first + (1 << group_shift)):
        times[i] = max(times[i], ready)


@compiled
def _column_command(channel: Record, p: int, b: int, now: int) -> int:
    """Issue the hit of bank `b`; returns its tag."""
    d = channel.delays
    pc = channel.pseudo_channel[p]
    direction = pc.direction
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    hit = queue.hit
    slot = channel.slot[p, direction, hit]
    _log(channel, 0, now, p, READ_BURST + direction, b, slot.row, slot.column, slot.tag)
    other = channel.port[p, 1 - direction]
    port.column_ready = max(port.column_ready, now + d.column_short)
    _delay_group(channel.group_column_ready[p, direction], b, d.group_shift, now + d.column_long)
    precharge = now + (d.read_to_precharge if direction == READ else d.write_to_precharge)
    channel.precharge_ready[p, b] = max(channel.precharge_ready[p, b], precharge)
    if direction == READ:
        other.column_ready = max(other.column_ready, now + d.read_to_write)
        pc.reads += 1
    else:
        other.column_ready = max(other.column_ready, now + d.write_to_read_short)
        _delay_group(channel.group_column_ready[p, READ], b, d.group_shift, now + d.write_to_read_long)
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
    channel.activate_ready[p, b] = max(channel.activate_ready[p, b], now + d.precharge)
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
        channel.activate_ready[p, b] = now + d.activate_to_activate
        channel.precharge_ready[p, b] = max(channel.precharge_ready[p, b], now + d.activate_to_precharge)
        channel.column_ready[p, READ, b] = now + d.activate_to_read
        channel.column_ready[p, WRITE, b] = now + d.activate_to_write
        for direction in range(2):
            if channel.queue[p, direction, b].head != NONE:
                _find_hit(channel, p, direction, b, channel.queue[p, direction, b].head)
                _classify(channel, p, direction, b)
        _delay_group(channel.group_activate_ready[p], b, d.group_shift, now + d.activate_long)
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
            channel.activate_ready[p, i] = now + d.refresh
        pc.refresh_due += d.refresh_interval
        pc.refreshes += 1
    _log(channel, 1, now, p, command, b if command <= PRECHARGE else NONE, row, NONE, NONE)


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
def _best_row(channel: Record, now: int) -> tuple[int, int, int]:
    best = (NEVER, NONE, NONE)
    for p in range(channel.delays.pseudo_channels):
        _, key, command, _ = _scan(channel, p, now)
        if key < best[0]:
            best = (key, p, command)
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
        wake = min(wake, now + d.column_short, channel.precharge_ready[p, column_bank])
        if channel.port[p, WRITE].count or pc.direction == WRITE:
            wake = now + 1
    elif pc.ready_columns:
        wake = now + 1
    if command == NONE:
        refresh_lost_the_bus = pc.wake == NEVER
        if pc.ready_activates or pc.ready_precharges or refresh_lost_the_bus:
            wake = min(wake, row_free)
    elif command == ACTIVATE:
        wake = min(wake, channel.column_ready[p, pc.direction, row_bank])
        if pc.ready_precharges:
            wake = min(wake, row_free)
        if pc.ready_activates > 1:
            wake = min(wake, max(row_free, pc.activate_ready))
    elif command == PRECHARGE:
        wake = min(wake, channel.activate_ready[p, row_bank])
        if pc.ready_precharges > 1 or pc.ready_activates:
            wake = min(wake, row_free)
    else:
        wake = now + 1
    return max(wake, now + 1)


@compiled
def commands(channel: Record, now: int) -> tuple[int, int, int]:
    """Issue what the channel issues in cycle `now`: (tag or NONE, cycle its last data beat is over, direction)."""
    d = channel.delays
    column, row = (NEVER, NONE), (NEVER, NONE, NONE)
    for p in range(d.pseudo_channels):
        pc = channel.pseudo_channel[p]
        pc.scanned = pc.wake <= now
        if not pc.scanned:
            continue
        _turn(channel, p)
        column_key, row_key, command, pc.wake = _scan(channel, p, now)
        if column_key < column[0]:
            column = (column_key, p)
        if row_key < row[0]:
            row = (row_key, p, command)
    tag, done, direction, again = NONE, NONE, READ, False
    column_bank, row_bank = column[0] & BANK_MASK, row[0] & BANK_MASK
    if column[1] != NONE:
        p = column[1]
        direction = channel.pseudo_channel[p].direction
        tag = _column_command(channel, p, column_bank, now)
        done = now + (d.read_done if direction == READ else d.write_done)
        channel.last_done = max(channel.last_done, done)
        if row[1] == p and row_bank == column_bank:
            row, again = _best_row(channel, now), True
            row_bank = row[0] & BANK_MASK
    if row[1] != NONE:
        if channel.row_bus_free <= now:
            _row_command(channel, row[1], row_bank, row[2], now)
        else:
            row = (NEVER, NONE, NONE)
    for p in range(d.pseudo_channels):
        pc = channel.pseudo_channel[p]
        if again:
            pc.wake = now + 1
        elif pc.scanned:
            command = row[2] if row[1] == p else NONE
            pc.wake = _wake(channel, p, now, column_bank if column[1] == p else NONE, row_bank, command)
    wake = NEVER
    for p in range(d.pseudo_channels):
        wake = min(wake, channel.pseudo_channel[p].wake)
    channel.wake = wake
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
        channel.wake = min(channel.wake, now + 1)
