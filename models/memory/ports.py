"""Compiled loops over the engine: groups of bursts, skipping idle cycles, and the ports cycle by cycle."""

import numpy as np

from models.memory.address_map import FIELDS
from models.memory.compilation import Array, Record, compiled, inlined
from models.memory.engine import NONE, accept, commands, may_accept

CHUNK = 256
"""Bursts whose addresses are taken apart at once: few enough to stay near, enough for vector instructions."""


@compiled
def channel_of(address: int, layout: Array) -> int:
    """The channel alone: its fields are the first of the layout."""
    channel, i = 0, 1
    while i < layout.shape[0] and layout[i, 0] == 0:
        channel |= ((address >> layout[i, 1]) & layout[i, 2]) << layout[i, 3]
        i += 1
    return channel


@compiled
def locate(address: int, layout: Array, group_shift: int) -> tuple[int, int, int, int, int]:
    """Channel, pseudo-channel, bank over all groups, row and column of an address; `AddressMap.decode` of one burst."""
    channel = pseudo_channel = group = bank = row = column = 0
    for i in range(1, layout.shape[0]):
        value = ((address >> layout[i, 1]) & layout[i, 2]) << layout[i, 3]
        field = layout[i, 0]
        if field == 0:
            channel |= value
        elif field == 1:
            pseudo_channel |= value
        elif field == 2:
            group |= value
        elif field == 3:
            bank |= value
        elif field == 4:
            row |= value
        else:
            column |= value
    group ^= row & layout[0, 1]
    bank ^= (row >> layout[0, 3]) & layout[0, 2]
    return channel, pseudo_channel, (group << group_shift) + bank, row, column


@inlined
def _locate_in(channel: Record, address: int) -> tuple[int, int, int, int]:
    """`locate` in a channel: without its loop where each field is one piece of the address."""
    layout, shift = channel.layout, channel.delays.group_shift
    if channel.is_split:
        _, pseudo_channel, bank, row, column = locate(address, layout, shift)
        return pseudo_channel, bank, row, column
    at = channel.where
    row = address >> at.row[0] & at.row[1]
    group = (address >> at.bank_group[0] & at.bank_group[1]) ^ row & layout[0, 1]
    bank = (address >> at.bank[0] & at.bank[1]) ^ row >> layout[0, 3] & layout[0, 2]
    pseudo_channel = address >> at.pseudo_channel[0] & at.pseudo_channel[1]
    return pseudo_channel, (group << shift) + bank, row, address >> at.column[0] & at.column[1]


@compiled
def channel_order(address: Array, layout: Array, starts: Array, order: Array) -> int:
    """Write the bursts' numbers by channel, then as they come; `starts` [channels + 1] is zeros.

    Returns the number of the first burst that is outside the memory, or NONE.
    """
    for i in range(address.shape[0]):
        if address[i] < 0 or address[i] >= layout[0, 0]:
            outside: int = i
            return outside
        starts[channel_of(address[i], layout) + 1] += 1
    for c in range(1, starts.shape[0]):
        starts[c] += starts[c - 1]
    for i in range(address.shape[0]):
        c = channel_of(address[i], layout)
        order[starts[c]] = i
        starts[c] += 1
    return NONE


@compiled
def unserved(requests: Array, left: Array) -> None:
    """Add to `left` [channels] how many of the requests are not served."""
    for i in range(requests.shape[0]):
        if requests[i].done == NONE:
            left[requests[i].channel] += 1


@compiled
def outcome(requests: Array, order: Array, accepted: Array, done: Array) -> None:
    """Cycles of the requests, the i-th of which is burst `order[i]`, by burst."""
    for i in range(order.shape[0]):
        accepted[order[i]], done[order[i]] = requests[i].accepted, requests[i].done


@compiled
def _locate_all(address: Array, layout: Array, where: Array) -> None:
    """`AddressMap.decode` of many bursts into `where` [6, bursts], a segment at a time: without `locate`'s branches."""
    for field in range(where.shape[0]):
        where[field] = 0
    for s in range(1, layout.shape[0]):
        values, shift, mask, up = where[layout[s, 0]], layout[s, 1], layout[s, 2], layout[s, 3]
        for i in range(address.shape[0]):
            values[i] |= ((address[i] >> shift) & mask) << up
    for i in range(address.shape[0]):
        row = where[4, i]
        where[2, i] ^= row & layout[0, 1]
        where[3, i] ^= (row >> layout[0, 3]) & layout[0, 2]


@compiled
def fill(
    channels: Record, requests: Array, order: Array, address: Array, issue: Array, write: Array, layout: Array
) -> None:
    """Write requests [0, n): the i-th is burst `order[i]`."""
    group_shift = channels[0].delays.group_shift
    chunk = np.empty(CHUNK, np.int64)
    where = np.empty((len(FIELDS), CHUNK), np.int64)
    for first in range(0, order.shape[0], CHUNK):
        count = min(CHUNK, order.shape[0] - first)
        for i in range(count):
            chunk[i] = address[order[first + i]]
        _locate_all(chunk, layout, where)
        for i in range(count):
            k = order[first + i]
            r = requests[first + i]
            r.channel, r.pseudo_channel, r.row, r.column = where[0, i], where[1, i], where[4, i], where[5, i]
            r.bank = (where[2, i] << group_shift) + where[3, i]
            r.issue, r.direction = issue[k], write[k]
            r.accepted, r.done, r.next = NONE, NONE, NONE


@compiled
def refused_offer(valid: Array, address: Array, tags: Array, layout: Array) -> int:
    """Flat index of the first offer that its port cannot take at all (address, tag), or NONE."""
    for i in range(valid.shape[0]):
        for c in range(valid.shape[1]):
            if valid[i, c]:
                a = address[i, c]
                outside = a < 0 or a >= layout[0, 0]
                if outside or tags[i, c] < 0 or channel_of(a, layout) != c:
                    found: int = i * valid.shape[1] + c
                    return found
    return NONE


@compiled
def enqueue(channels: Record, requests: Array, first: int, last: int) -> None:
    """Put requests [first, last) at the ports of their channels, in order."""
    for i in range(first, last):
        channel = channels[requests[i].channel]
        if requests[i].issue < channel.now:
            channel.late += 1
        if channel.door_tail == NONE:
            channel.door_head = i
        else:
            requests[channel.door_tail].next = i
        channel.door_tail = i
        channel.unfinished += 1


@compiled
def clock(channels: Record) -> int:
    """The next cycle of the ports."""
    now = 0
    for c in range(channels.shape[0]):
        now = max(now, channels[c].now)
    return now


@inlined
def issue(channel: Record, now: int) -> tuple[int, int]:
    """Commands of cycle `now`: the tag that they serve, or NONE, and the cycle in which it answers."""
    served, done, kind = commands(channel, now)
    if served != NONE:
        channel.due[kind, done & (channel.due.shape[1] - 1)] = served
    return served, done


@inlined
def offer(channel: Record, now: int, address: int, tag: int, write: bool) -> bool:
    """An offer at the port, behind the commands of the cycle; whether it was accepted."""
    p, b, row, column = _locate_in(channel, address)
    direction = 1 if write else 0
    if not may_accept(channel, p, b, row, column, direction):
        return False
    accept(channel, p, b, row, column, direction, tag, now)
    channel.owes += 1
    return True


@inlined
def answer(channel: Record, now: int) -> tuple[int, int]:
    """The tags of a read and a write that end in cycle `now` (or NONE)."""
    at = now & (channel.due.shape[1] - 1)
    read, written = channel.due[0, at], channel.due[1, at]
    channel.due[0, at] = channel.due[1, at] = NONE
    channel.owes -= (read != NONE) + (written != NONE)
    return read, written


@compiled
def port(channel: Record, now: int, valid: bool, address: int, tag: int, write: bool) -> tuple[bool, int, int]:
    """A cycle of a channel: whether its offer was accepted, and the tags of a read and a write that end (or NONE)."""
    read = written = NONE
    channel.now = now + 1
    if channel.owes:
        read, written = answer(channel, now)
    issue(channel, now)
    return valid and offer(channel, now, address, tag, write), read, written


@compiled
def log_commands(channel: Record, c: int, now: int, trace: Array, traced: Array) -> None:
    """Append what the channel issued in this cycle to the trace, column command first."""
    for bus in range(2):
        if channel.log[bus, 0] == now:
            if traced[0] < trace.shape[0]:
                trace[traced[0]] = channel.log[bus]
                trace[traced[0], 1] = c
            traced[0] += 1


@compiled
def rest(channel: Record, c: int, until: int, trace: Array, traced: Array) -> None:
    """A channel without requests up to cycle `until`: it refreshes."""
    while channel.wake < until:
        now = channel.wake
        commands(channel, now)
        if trace.shape[0]:
            log_commands(channel, c, now, trace, traced)
    channel.now = until


@compiled
def _fits(channel: Record, requests: Array, head: int) -> bool:
    """Whether the port can take the oldest request at the door, if there is one."""
    if head == NONE:
        return False
    r = requests[head]
    return may_accept(channel, r.pseudo_channel, r.bank, r.row, r.column, r.direction)


@compiled
def advance(
    channels: Record,
    trace: Array,
    traced: Array,
    requests: Array,
    until: int,
    first: int,
    last: int,
    remaining: Array,
) -> None:
    """Simulate each channel c up to cycle `until`, or until `remaining[c]` of requests [first, last) are served."""
    for c in range(channels.shape[0]):
        channel = channels[c]
        now = channel.now
        left = remaining[c]
        head = channel.door_head
        fits = _fits(channel, requests, head)
        while left > 0:
            event = channel.wake
            if fits:
                event = min(event, requests[head].issue)
            event = max(event, now)
            if event >= until:
                now = max(now, until)
                break
            tag, done, _ = commands(channel, event)
            if tag != NONE:
                requests[tag].done = done
                channel.unfinished -= 1
                if first <= tag < last:
                    left -= 1
                fits = fits or _fits(channel, requests, head)
            if fits and requests[head].issue <= event:
                r = requests[head]
                accept(channel, r.pseudo_channel, r.bank, r.row, r.column, r.direction, head, event)
                r.accepted = event
                head = r.next
                fits = _fits(channel, requests, head)
            if trace.shape[0]:
                log_commands(channel, c, event, trace, traced)
            now = event + 1
        channel.door_head = head
        if head == NONE:
            channel.door_tail = NONE
        channel.now = now


@compiled
def steps(
    channels: Record,
    trace: Array,
    traced: Array,
    valid: Array,
    address: Array,
    write: Array,
    tags: Array,
    accepted: Array,
    answers: Array,
) -> None:
    """Next cycles of the ports, [cycle, channel]; `answers` [2, cycle, channel] get tags of reads and of writes."""
    start = clock(channels)
    for i in range(valid.shape[0]):
        for c in range(valid.shape[1]):
            accepted[i, c], answers[0, i, c], answers[1, i, c] = port(
                channels[c], start + i, valid[i, c], address[i, c], tags[i, c], write[i, c]
            )
            if trace.shape[0]:
                log_commands(channels[c], c, start + i, trace, traced)
