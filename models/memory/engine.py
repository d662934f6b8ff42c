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

The banks that wait for a command of one kind have a wake: a cycle before which none of them may get it. It is exact
after a search; a bank that joins lowers it; commands only delay banks. So most cycles search banks for one kind. Each
pseudo-channel keeps the first of its wakes (`_plan`), the channel the first of theirs (`wake`), and callers skip the
cycles before. A wake that is too early costs time only.

A bank's candidate for a command has a key: the cycle in which its request was accepted, and the bank in the low
BANK_BITS. A port accepts one request a cycle, so the least key is the oldest request.
"""

from models.memory.compilation import Array, Record, compiled, inlined

READ, WRITE = 0, 1
ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH, READ_BURST, WRITE_BURST = range(6)
COMMAND_NAMES = ("ACTIVATE", "PRECHARGE", "PRECHARGE_ALL", "REFRESH", "READ", "WRITE")
NEVER = 1 << 62
NONE = -1
NO_SLOT = (1 << 16) - 1  # slots are unsigned: to compiled code an index that may be negative costs more
BANK_BITS = 16
BANK_MASK = (1 << BANK_BITS) - 1
REFRESH_KEY = -1  # less than any request's


@compiled
def _log(channel: Record, bus: int, now: int, p: int, command: int, bank: int, row: int, column: int, tag: int) -> None:
    log = channel.log[bus]
    log[0], log[2], log[3], log[4], log[5], log[6], log[7] = now, p, command, bank, row, column, tag


@compiled
def _least_ready(keys: Array, times: Array, now: int) -> tuple[int, int]:
    """Of all banks' candidates of one kind: the least key that is ready, and the wake of the others."""
    least, count, wake = NEVER, 0, NEVER
    for b in range(keys.shape[0]):
        key, time = keys[b], times[b]
        ready = time <= now
        least = min(least, key if ready else NEVER)
        wake = min(wake, NEVER if ready | (key == NEVER) else time)
        count += ready & (key != NEVER)
    return least, now + 1 if count > 1 else wake


@compiled
def _column_candidate(channel: Record, p: int, now: int) -> tuple[int, int]:
    """Key of the oldest hit that may be served now, and the wake of the other hits."""
    direction = channel.pseudo_channel[p].direction & 1
    if now < channel.port[p, direction].column_ready:
        return NEVER, NEVER
    key, others = _least_ready(channel.hit_key[p, direction], channel.column_ready[p, direction], now)
    channel.port[p, direction].column_wake = others if key == NEVER else now + 1
    return key, others


@inlined
def _row_candidate(channel: Record, p: int, now: int) -> tuple[int, int, int]:
    """Key and kind of the oldest row command that may issue now, and the wake of the others of its kind."""
    pc = channel.pseudo_channel[p]
    if now >= pc.refresh_due:
        return _refresh_candidate(channel, p, now)
    direction = pc.direction & 1
    port = channel.port[p, direction]
    least, command, others = NEVER, NONE, NEVER
    if now >= max(port.activate_wake, pc.activate_ready):
        least, others = _least_ready(channel.closed_key[p, direction], channel.activate_ready[p], now)
        port.activate_wake = others if least == NEVER else now + 1
        command = ACTIVATE
    if now >= port.precharge_wake:
        key, rest = _least_ready(channel.conflict_key[p, direction], channel.precharge_ready[p], now)
        port.precharge_wake = rest if key == NEVER else now + 1
        if key < least:
            least, command, others = key, PRECHARGE, rest
    return least, command, others


@compiled
def _refresh_candidate(channel: Record, p: int, now: int) -> tuple[int, int, int]:
    """What a due refresh needs next, if it may issue now; as `_row_candidate`."""
    pc = channel.pseudo_channel[p]
    command, ready = REFRESH, 0
    for b in range(channel.delays.banks):
        if channel.bank[p, b].open_row != NONE:
            if command == REFRESH:
                command, ready = PRECHARGE_ALL, 0
            ready = max(ready, channel.precharge_ready[p, b])
        elif command == REFRESH:
            ready = max(ready, channel.activate_ready[p, b])
    pc.refresh_wake = max(ready, now + 1)
    return REFRESH_KEY if ready <= now else NEVER, command, NEVER


@inlined
def _classify(channel: Record, p: int, direction: int, b: int) -> None:
    """File bank `b` under what its requests of one direction wait for: a hit to serve, ACTIVATE, PRECHARGE."""
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    oldest = (queue.head_age << BANK_BITS) + b
    hit = closed = conflict = NEVER
    if queue.head != NO_SLOT:
        if bank.open_row == NONE:
            closed = oldest
            port.activate_wake = min(port.activate_wake, channel.activate_ready[p, b])
        else:
            if queue.hit != NO_SLOT:
                hit = (queue.hit_age << BANK_BITS) + b
                port.column_wake = min(port.column_wake, channel.column_ready[p, direction, b])
            if queue.hit != queue.head and (queue.hit == NO_SLOT or bank.hits >= channel.delays.row_hit_cap):
                conflict = oldest
                port.precharge_wake = min(port.precharge_wake, channel.precharge_ready[p, b])
    channel.hit_key[p, direction, b] = hit
    channel.closed_key[p, direction, b] = closed
    channel.conflict_key[p, direction, b] = conflict


@compiled
def _delay_group(times: Array, b: int, group_shift: int, ready: int) -> None:
    """No bank of the group of `b` before cycle `ready`."""
    group = b >> group_shift
    for i in range(times.shape[0]):
        times[i] = max(times[i], ready if i >> group_shift == group else 0)


@compiled
def _find_hit(channel: Record, p: int, direction: int, b: int, start: int) -> None:
    """Make the first request from slot `start` on that wants the open row the queue's next hit."""
    queue = channel.queue[p, direction, b]
    row = channel.bank[p, b].open_row
    slots = channel.slot[p, direction]
    i = start
    while i != NO_SLOT and slots[i].row != row:
        i = slots[i].next
    queue.hit = i
    if i != NO_SLOT:
        queue.hit_age = slots[i].accepted


@inlined
def _column_command(channel: Record, p: int, b: int, now: int) -> int:
    """Issue the hit of bank `b`; returns its tag."""
    d = channel.delays
    pc = channel.pseudo_channel[p]
    direction = pc.direction & 1
    port, queue, bank = channel.port[p, direction], channel.queue[p, direction, b], channel.bank[p, b]
    hit = queue.hit
    slot = channel.slot[p, direction, hit]
    if channel.traced:
        _log(channel, 0, now, p, READ_BURST + direction, b, slot.row, slot.column, slot.tag)
    other = channel.port[p, 1 - direction]
    port.column_ready = max(port.column_ready, now + d.column_short)
    _delay_group(channel.column_ready[p, direction], b, d.group_shift, now + d.column_long)
    if direction == READ:
        precharge = now + d.read_to_precharge
        other.column_ready = max(other.column_ready, now + d.read_to_write)
        pc.reads += 1
    else:
        precharge = now + d.write_to_precharge
        other.column_ready = max(other.column_ready, now + d.write_to_read_short)
        _delay_group(channel.column_ready[p, READ], b, d.group_shift, now + d.write_to_read_long)
        pc.writes += 1
    channel.precharge_ready[p, b] = max(channel.precharge_ready[p, b], precharge)
    if bank.hits:
        pc.row_hits += 1
    bank.hits += 1
    waited = now - slot.accepted
    pc.queue_cycles += waited
    pc.queue_cycles_max = max(pc.queue_cycles_max, waited)

    before, after = slot.previous, slot.next
    if before == NO_SLOT:
        queue.head = after
        if after != NO_SLOT:
            queue.head_age = channel.slot[p, direction, after].accepted
    else:
        channel.slot[p, direction, before].next = after
    if after == NO_SLOT:
        queue.tail = before
    else:
        channel.slot[p, direction, after].previous = before
    slot.next = port.free
    port.free = hit
    port.count -= 1
    _find_hit(channel, p, direction, b, after)
    _classify(channel, p, direction, b)
    if other.count > 0 and channel.queue[p, 1 - direction, b].head != NO_SLOT:
        _classify(channel, p, 1 - direction, b)
    served: int = slot.tag
    return served


@inlined
def _close(channel: Record, p: int, b: int, now: int) -> None:
    channel.bank[p, b].open_row = NONE
    channel.activate_ready[p, b] = max(channel.activate_ready[p, b], now + channel.delays.precharge)
    channel.pseudo_channel[p].precharges += 1
    for direction in range(2):
        channel.queue[p, direction, b].hit = NO_SLOT
        if channel.queue[p, direction, b].head != NO_SLOT:
            _classify(channel, p, direction, b)


@inlined
def _activate(channel: Record, p: int, b: int, now: int) -> None:
    """Open the row that the oldest request for bank `b` wants."""
    d = channel.delays
    pc, bank = channel.pseudo_channel[p], channel.bank[p, b]
    bank.open_row = channel.slot[p, pc.direction, channel.queue[p, pc.direction, b].head].row
    bank.hits = 0
    channel.activate_ready[p, b] = max(channel.activate_ready[p, b], now + d.activate_to_activate)
    channel.precharge_ready[p, b] = max(channel.precharge_ready[p, b], now + d.activate_to_precharge)
    channel.column_ready[p, READ, b] = max(channel.column_ready[p, READ, b], now + d.activate_to_read)
    channel.column_ready[p, WRITE, b] = max(channel.column_ready[p, WRITE, b], now + d.activate_to_write)
    for direction in range(2):
        head = channel.queue[p, direction, b].head
        if head != NO_SLOT:
            _find_hit(channel, p, direction, b, head)
            _classify(channel, p, direction, b)
    _delay_group(channel.activate_ready[p], b, d.group_shift, now + d.activate_long)
    pc.activate0, pc.activate1, pc.activate2, pc.activate3 = pc.activate1, pc.activate2, pc.activate3, now
    pc.activate_ready = max(now + d.activate_short, pc.activate0 + d.four_activates)
    channel.row_bus_free = now + d.activate_bus
    pc.activates += 1


@inlined
def _row_command(channel: Record, p: int, b: int, command: int, others: int, now: int) -> None:
    """Issue a row command; `others` is the wake of the candidates of its kind that were not taken."""
    d = channel.delays
    pc = channel.pseudo_channel[p]
    port = channel.port[p, pc.direction]
    channel.row_bus_free = now + 1
    row = NONE
    if command == ACTIVATE:
        port.activate_wake = others
        _activate(channel, p, b, now)
        row = channel.bank[p, b].open_row
    elif command == PRECHARGE:
        port.precharge_wake = others
        row = channel.bank[p, b].open_row
        _close(channel, p, b, now)
    elif command == PRECHARGE_ALL:
        for i in range(d.banks):
            if channel.bank[p, i].open_row != NONE:
                _close(channel, p, i, now)
    else:
        for i in range(d.banks):
            channel.activate_ready[p, i] = now + d.refresh
        pc.refresh_due += d.refresh_interval
        pc.refresh_wake = pc.refresh_due
        pc.refreshes += 1
    if channel.traced:
        _log(channel, 1, now, p, command, b if command <= PRECHARGE else NONE, row, NONE, NONE)


@compiled
def _direction(channel: Record, p: int) -> int:
    """What to serve next, reads or writes: the write queue drains from its high to its low watermark."""
    d = channel.delays
    reads, writes = channel.port[p, READ].count, channel.port[p, WRITE].count
    if channel.pseudo_channel[p].direction == READ:
        return WRITE if writes >= d.write_high or (writes > 0 and reads == 0) else READ
    return READ if writes == 0 or (writes <= d.write_low and reads > 0) else WRITE


@compiled
def _plan(channel: Record, p: int, cycle: int) -> None:
    """When pseudo-channel `p` has something to do next, from `cycle` on, the row bus aside."""
    pc = channel.pseudo_channel[p]
    port = channel.port[p, pc.direction & 1]
    pc.turns = _direction(channel, p) != pc.direction
    if cycle >= pc.refresh_due:
        pc.column_wake, pc.row_wake = NEVER, pc.refresh_wake
    else:
        pc.column_wake = max(port.column_wake, port.column_ready)
        pc.row_wake = min(pc.refresh_due, port.precharge_wake, max(port.activate_wake, pc.activate_ready))
    if pc.turns:
        pc.column_wake = cycle


@compiled
def _next_event(channel: Record, now: int) -> int:
    """Cycle before which the channel has nothing to do after `now`, unless it accepts a request."""
    event = NEVER
    for p in range(channel.delays.pseudo_channels):
        pc = channel.pseudo_channel[p]
        event = min(event, pc.column_wake, max(pc.row_wake, channel.row_bus_free))
    return max(event, now + 1)


@inlined
def commands(channel: Record, now: int) -> tuple[int, int, int]:
    """Issue what the channel issues in cycle `now`: (tag or NONE, cycle its last data beat is over, direction)."""
    tag, done, direction = NONE, NONE, READ
    if now < channel.wake:
        return tag, done, direction
    d = channel.delays
    least, chosen, others, changed = NEVER, 0, NEVER, 0
    for p in range(d.pseudo_channels):
        pc = channel.pseudo_channel[p]
        if pc.turns:
            pc.direction = _direction(channel, p)
            _plan(channel, p, now)
        if pc.column_wake <= now and now < pc.refresh_due:
            changed |= 1 << p
            key, rest = _column_candidate(channel, p, now)
            if key < least:
                least, chosen, others = key, p, rest
    if least != NEVER:
        direction = channel.pseudo_channel[chosen].direction & 1
        channel.port[chosen, direction].column_wake = others
        tag = _column_command(channel, chosen, least & BANK_MASK, now)
        done = now + (d.read_done if direction == READ else d.write_done)
        channel.last_done = max(channel.last_done, done)
    if channel.row_bus_free <= now:
        least, chosen, command = NEVER, 0, NONE
        for p in range(d.pseudo_channels):
            if channel.pseudo_channel[p].row_wake <= now:
                changed |= 1 << p
                key, kind, rest = _row_candidate(channel, p, now)
                if key < least:
                    least, chosen, command, others = key, p, kind, rest
        if least != NEVER:
            _row_command(channel, chosen, least & BANK_MASK, command, others, now)
    for p in range(d.pseudo_channels):
        if changed & (1 << p):
            _plan(channel, p, now + 1)
    channel.wake = _next_event(channel, now)
    return tag, done, direction


@compiled
def may_accept(channel: Record, p: int, b: int, row: int, column: int, direction: int) -> bool:
    """Whether the port can take this request: there is room, and no queued request of the other kind for the burst."""
    if channel.port[p, direction].count >= channel.delays.queue_depth:
        return False
    if channel.port[p, 1 - direction].count == 0:
        return True
    slots = channel.slot[p, 1 - direction]
    i = channel.queue[p, 1 - direction, b].head
    while i != NO_SLOT:
        if slots[i].row == row and slots[i].column == column:
            return False
        i = slots[i].next
    return True


@inlined
def accept(channel: Record, p: int, b: int, row: int, column: int, direction: int, tag: int, now: int) -> None:
    """Queue a request that `may_accept` allows; `tag` comes back when it is served."""
    port, queue = channel.port[p, direction], channel.queue[p, direction, b]
    i = port.free
    slot = channel.slot[p, direction, i]
    port.free = slot.next
    port.count += 1
    slot.row, slot.column, slot.tag, slot.accepted = row, column, tag, now
    slot.next, slot.previous = NO_SLOT, queue.tail
    first = queue.tail == NO_SLOT
    if first:
        queue.head = i
        queue.head_age = now
    else:
        channel.slot[p, direction, queue.tail].next = i
    queue.tail = i
    first_hit = queue.hit == NO_SLOT and channel.bank[p, b].open_row == row
    if first_hit:
        queue.hit = i
        queue.hit_age = now
    if first or first_hit:
        _classify(channel, p, direction, b)
    if first or first_hit or direction != channel.pseudo_channel[p].direction:
        _plan(channel, p, now + 1)
        channel.wake = _next_event(channel, now)
