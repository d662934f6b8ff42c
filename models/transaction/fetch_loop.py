"""A cycle of the fetch side, compiled: what the netlist's registers do between two clock edges (architecture, 3 to 5).

    lists -> rows of vectors -> lanes -> address crossbar -> memory port -> DRAM -> data crossbar -> lanes -> words
    words -> converters -> landing groups -> Key SRAM, Value SRAM, query lines

The unit is a burst. Work goes from the last part to the first, so that a part knows who behind it takes what it has,
and every FIFO refuses by what it held when the cycle began, as those of `hls.stream` do. Every burst is followed
because a queue's reorder buffer, the window of the list sequencer and both crossbars decide together how many requests
a channel sees, and so what DRAM gives: bandwidth cannot be had from groups of bursts
alone. A cycle of 16 busy channels takes 1.5 us at the memory's ports, 16 bursts in a group 5.4 us (one core).
"""

from typing import Any

from hls.datapaths.landing_lane import LISTS
from models.memory.compilation import Array, Record, compiled
from models.transaction.fetch_channels import (
    TOOK_END,
    TOOK_OUT,
    TOOK_READ,
    grant,
    move_channel,
    take_answer,
    take_answers,
)
from models.transaction.fetch_lanes import (
    CHANGED,
    GIVEN,
    TAKEN,
    land,
    lane_ask,
    lane_collect,
    lane_end,
    leave_groups,
)
from models.transaction.fetch_state import (
    ACCEPTED,
    ASK,
    COLLECT,
    END,
    LIST_RING,
    NOTHING,
    RING,
    TO_QUERY,
    TO_SPARSE,
    TO_VALUE,
    VALUE,
)

BURST_BYTES = 32
LISTS_BEHIND = LISTS - 1
"""Lists behind the last one from which on a lane holds back further ones."""


@compiled
def _sequence(f: Record) -> None:
    """Rows of vectors to the lanes, and the next rows and lists behind them."""
    queues, channels, depth, ahead = f.head.shape[0], f.credit.shape[0], f.pipe.shape[0], f.vectors.shape[1]
    if not (f.offered_n or f.rows_inside or f.active != NOTHING):
        return
    coming = f.pipe[depth - 1, 0] != 0
    goes = False
    if f.got_there and (f.got_last or coming):
        goes = True
        for i in range(channels):
            q = f.group * channels + i
            if f.vectors_n[q] + f.popped[q] >= ahead:
                goes = False
    if goes:
        for i in range(f.got_count):
            q = f.group * channels + i
            f.vectors[q, f.vectors_n[q]] = (f.got_at + i) % f.v_burst.shape[0]
            f.vectors_n[q] += 1
            f.awake[q] |= ASK
        f.rows_inside -= 1
        f.group = 0 if f.got_last else (f.group + 1) % (queues // channels)
    takes = goes or not f.got_there
    if takes:
        f.got_there, f.got_at, f.got_count, f.got_last = (
            f.pipe[depth - 1, 0],
            f.pipe[depth - 1, 1],
            f.pipe[depth - 1, 2],
            f.pipe[depth - 1, 3],
        )
    skid_popped = 0
    if takes or not coming:
        for k in range(depth - 1, 0, -1):
            for m in range(4):
                f.pipe[k, m] = f.pipe[k - 1, m]
        f.pipe[0, 0] = 0
        if f.skid_n > 0:
            f.pipe[0, 0] = 1
            for m in range(3):
                f.pipe[0, m + 1] = f.skid[0, m]
                f.skid[0, m] = f.skid[1, m]
            f.skid_n -= 1
            skid_popped = 1
    row_moves = f.row_there and f.skid_n + skid_popped < 2
    if row_moves:
        n = f.skid_n
        f.skid[n, 0], f.skid[n, 1], f.skid[n, 2] = f.row_at, f.row_count, f.row_last
        f.skid_n += 1
    ends = f.active == NOTHING
    if f.active != NOTHING:
        if row_moves or not f.row_there:
            i = f.active
            n = min(channels, f.list_count[i] - f.sent)
            f.row_there, f.row_at, f.row_count = 1, f.list_first[i] + f.sent, n
            f.sent += n
            f.rows_inside += 1
            ends = f.sent == f.list_count[i]
            f.row_last = 1 if ends else 0
    elif row_moves:
        f.row_there = 0
    if ends:
        f.active = NOTHING
    if ends and f.begins and not f.behind_any:
        for s in range(4):
            i = f.offer[s]
            if i != NOTHING and f.offered_from[s] <= f.now:
                f.offer[s] = NOTHING
                f.offered_n -= 1
                _accept(f, i)
                break


@compiled
def _accept(f: Record, i: int) -> None:
    """List `i`, which was numbered when it was offered, becomes the next one."""
    n = f.lists_taken % LIST_RING
    f.list_count[n], f.list_first[n], f.list_destination[n] = f.list_count[i], f.list_first[i], f.list_destination[i]
    f.list_buffer[n], f.list_place[n], f.list_purpose[n] = f.list_buffer[i], f.list_place[i], f.list_purpose[i]
    size = f.v_burst.shape[0]
    for k in range(f.list_count[n]):
        f.v_list[(f.list_first[n] + k) % size] = n
    f.active, f.sent = n, 0
    f.lists_taken += 1
    for q in range(f.awake.shape[0]):
        f.awake[q] |= END
    count, to = f.list_count[n], f.list_destination[n]
    f.on_the_way += count
    if to == TO_SPARSE:
        f.sparse_left += count
    elif to != TO_QUERY:
        b, first = f.list_buffer[n], 0
        for segment in range(f.left.shape[2]):
            if first < count:
                f.left[to, b, segment] += min(count - first, 1 << f.segment_shift)
                if to == TO_VALUE:
                    f.values_pending[b] |= 1 << segment
            first += 1 << f.segment_shift
    if i != LIST_RING + VALUE:
        f.event |= ACCEPTED


@compiled
def _lane(f: Record, q: int) -> int:
    """The parts of a lane that are awake, and which of them are in the next cycle; whether a burst is shared."""
    awake, after, ended, collected, shares = f.awake[q], 0, 0, 0, 0
    if awake & END:
        ended = lane_end(f, q)
        after |= (END if ended & CHANGED else 0) | (COLLECT if ended & GIVEN else 0)
    if awake & COLLECT:
        collected = lane_collect(f, q, 1 if ended & GIVEN else 0)
        after |= COLLECT if collected & CHANGED else 0
        after |= (END if collected & GIVEN else 0) | (ASK if collected & TAKEN else 0)
        shares = f.shared[(q - 1) & (f.shared.shape[0] - 1)] | f.shares[q]
    if awake & ASK:
        asked = lane_ask(f, q, 1 if collected & TAKEN else 0, f.granted[q] != 0)
        f.popped[q] = 1 if asked & TAKEN else 0
        after |= (ASK if asked & CHANGED else 0) | (COLLECT if asked & GIVEN else 0)
    f.awake[q] = after
    return shares


@compiled
def settle(f: Record) -> None:
    """The rest of a cycle, when the memory has answered: `accepted`, `read_tag`, `write_tag` of its channels.

    What a part tells another one in a cycle stands in `f` too: an array that is handed to a compiled function is
    counted, at each call, and that took half of the time.
    """
    queues, channels = f.head.shape[0], f.credit.shape[0]
    on_the_way = f.on_the_way
    land(f)
    leave_groups(f)
    grant(f)
    for q in range(queues):
        f.was_offered[q] = f.offered[q]
    shared = f.reads_skid_n > 0 or f.out_sent < f.out_made or f.end_sent < f.end_made
    took = 0
    for c in range(channels):
        waits = f.memory_n[c] + f.port_n[c] + f.out_n[c] + f.back_n[c] > 0 or f.route[c] != NOTHING
        if shared or waits or f.chosen[c] != NOTHING:
            took += move_channel(f, c, f.accepted[c] != 0)
    slowest = f.lists_taken
    for q in range(queues):
        slowest = min(slowest, f.position[q])
    behind = f.lists_taken - slowest >= LISTS_BEHIND
    shares = 0
    for q in range(queues):
        f.popped[q] = 0
        if f.awake[q]:
            shares |= _lane(f, q)
    for q in range(queues if shares else 0):
        offers_now = (1 if f.offered[q] and not f.shared[q] else 0) | f.shares[q]
        if offers_now != f.offered[q]:
            f.offered[q] = offers_now
            f.awake[q] |= COLLECT
            f.awake[(q + 1) & (queues - 1)] |= COLLECT
        f.shared[q] = f.shares[q] = 0
    take_answers(f)
    for c in range(channels):
        if f.read_tag[c] >= 0 or f.write_tag[c] >= 0:
            take_answer(f, c, f.read_tag[c], f.write_tag[c])
    _sequence(f)
    f.behind_any = 1 if behind else 0
    f.begins = 1 if on_the_way < f.window else 0
    reads_popped = took & TOOK_READ
    f.reads_skid_n -= reads_popped
    f.end_sent += 1 if took & TOOK_END else 0
    f.out_sent += 1 if took & TOOK_OUT else 0
    # one read after another, so what is late makes all behind it late
    due = f.reads_sent < f.reads_made and f.read_cycle[f.reads_sent % RING] + f.reads_late <= f.now
    if due and f.reads_skid_n + reads_popped < 2:
        f.reads_late = f.now - f.read_cycle[f.reads_sent % RING]
        f.reads_sent += 1
        f.reads_skid_n += 1
    f.now += 1
    busy = f.on_the_way + f.owed_back + f.owed_control + (f.reads_made - f.reads_done)
    idle = busy == 0 and f.active == NOTHING and f.offered_n == 0
    for q in range(queues if idle else 0):
        idle = idle and f.position[q] == f.lists_taken
    f.idle = 1 if idle else 0


@compiled
def add_list(
    f: Record,
    stream: int,
    cycle: int,
    ids: Array,
    parts: int,
    first: int,
    count: int,
    base_burst: int,
    bits: int,
    destination: int,
    buffer: int,
    place: int,
    purpose: int,
) -> None:
    """Offer a list of `count` vectors of `bits` bits from vector `first` of the list of `ids` on, from `cycle` on."""
    i = LIST_RING + stream
    size = f.v_burst.shape[0]
    at = f.vectors_made
    f.list_count[i], f.list_first[i], f.list_destination[i] = count, at, destination
    f.list_buffer[i], f.list_place[i], f.list_purpose[i] = buffer, place, purpose
    ending = NOTHING
    for k in range(count):
        v = (at + k) % size
        here = first + k
        vector = ids[here // parts] * parts + here % parts
        start = vector * bits
        end = start + bits - 1
        f.v_burst[v], f.v_from[v], f.v_to[v] = base_burst + (start >> 8), start & 255, end & 255
        f.v_span[v] = (end >> 8) - (start >> 8)
        shares = k > 0 and f.v_burst[v] == ending
        f.v_before[v], f.v_after[v], f.v_index[v] = 1 if shares else 0, 0, k
        if shares:
            f.v_after[(v - 1) % size] = 1
        ending = base_burst + (end >> 8)
    f.vectors_made = at + count
    f.offer[stream], f.offered_from[stream] = i, cycle
    f.offered_n += 1
    f.idle = 0


@compiled
def add_list_to(states: Array, *order: Any) -> None:
    """`add_list` for callers that hold the array, not the record."""
    add_list(states[0], *order)
