"""A cycle of the fetch side, compiled: what the netlist's registers do between two clock edges (architecture, 3 to 5).

    lists -> rows of vectors -> lanes -> address crossbar -> memory port -> DRAM -> data crossbar -> lanes -> words
    words -> converters -> landing groups -> Key SRAM, Value SRAM, query lines

The unit is a burst. Work goes from the last part to the first, so that a part knows who behind it takes what it has,
and every FIFO refuses by what it held when the cycle began, as those of `hls.stream` do. Every burst is followed
because a queue's reorder buffer, the window of the list sequencer and both crossbars decide together how many requests
a channel sees, and so what DRAM gives: bandwidth cannot be had from groups of bursts alone.
"""

from typing import Any

from hls.datapaths.landing_lane import LISTS
from models.memory.compilation import Array, Record, compiled, inlined, lowest
from models.transaction.fetch_channels import (
    TOOK_END,
    TOOK_OUT,
    TOOK_READ,
    grant,
    move_channels,
    take_answers,
    take_read,
    take_write,
)
from models.transaction.fetch_landing import land, leave_groups
from models.transaction.fetch_lanes import enter_list, lanes_ask, lanes_collect, lanes_end
from models.transaction.fetch_state import (
    ACCEPTED,
    AFTER,
    BEFORE,
    BURST,
    LIST_RING,
    NOTHING,
    PLACE,
    PURPOSES,
    RING,
    SHAPE,
    TO_QUERY,
    TO_SPARSE,
    TO_VALUE,
    VALUE,
)

MSBS = (PURPOSES.index("k_msb"), PURPOSES.index("v_msb"))
LISTS_BEHIND = LISTS - 1
"""Lists behind the last one from which on a lane holds back further ones."""


@inlined
def _sequence(f: Record, vectors_full: int) -> None:
    """Rows of vectors to the lanes, and the next rows and lists behind them.

    `vectors_full`: lanes that had no room for a vector when the cycle began.
    """
    queues, channels, depth = f.head.shape[0], f.credit.shape[0], f.pipe.shape[0]
    coming = f.pipe[depth - 1, 0] != 0
    row = -1 if channels == 64 else (1 << channels) - 1
    first = f.group * channels ^ f.list_turn[f.got_list]
    goes = f.got_there and (f.got_last or coming) and vectors_full >> first & row == 0
    if goes:
        for i in range(f.got_count):
            _push(f, first + i, f.got_list, f.got_at + i)
        f.rows_inside -= 1
        f.group = 0 if f.got_last else (f.group + 1) % (queues // channels)
    takes = goes or not f.got_there
    if takes:
        f.got_there, f.got_at, f.got_count = f.pipe[depth - 1, 0], f.pipe[depth - 1, 1], f.pipe[depth - 1, 2]
        f.got_last, f.got_list = f.pipe[depth - 1, 3], f.pipe[depth - 1, 4]
    skid_popped = 0
    if takes or not coming:
        for k in range(depth - 1, 0, -1):
            for m in range(5):
                f.pipe[k, m] = f.pipe[k - 1, m]
        f.pipe[0, 0] = 0
        if f.skid_n > 0:
            f.pipe[0, 0] = 1
            for m in range(4):
                f.pipe[0, m + 1] = f.skid[0, m]
                f.skid[0, m] = f.skid[1, m]
            f.skid_n -= 1
            skid_popped = 1
    row_moves = f.row_there and f.skid_n + skid_popped < 2
    if row_moves:
        n = f.skid_n
        f.skid[n, 0], f.skid[n, 1], f.skid[n, 2], f.skid[n, 3] = f.row_at, f.row_count, f.row_last, f.row_list
        f.skid_n += 1
    ends = f.active == NOTHING
    if f.active != NOTHING:
        if f.waits:
            f.row_there = 0 if row_moves else f.row_there
        elif row_moves or not f.row_there:
            i = f.active
            n = min(channels, f.list_count[i] - f.sent)
            f.row_there, f.row_at, f.row_count, f.row_list = 1, f.sent, n, i
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
            if i != NOTHING and f.offered_from[s] <= f.now and (f.msb_begins or f.list_purpose[i] not in MSBS):
                f.offer[s] = NOTHING
                f.offered_n -= 1
                _accept(f, i)
                break


@inlined
def _push(f: Record, q: int, i: int, number: int) -> None:
    """Vector `number` of list `i` to lane `q`."""
    last, bits, base, count = f.vector.shape[0] - 1, f.list_bits[i], f.list_base[i], f.list_count[i]
    at = f.list_first[i] + number
    start = f.vector[at & last] * bits
    end = start + bits - 1
    burst, span = base + (start >> 8), (end >> 8) - (start >> 8)
    shape = span | (start & 255) >> f.word_shift << 8 | (end & 255) >> f.word_shift << 16
    if bits & 255:
        if number > 0 and (f.vector[at - 1 & last] * bits + bits - 1) >> 8 == start >> 8:
            shape |= BEFORE
        if number + 1 < count and f.vector[at + 1 & last] * bits >> 8 == end >> 8:
            shape |= AFTER
        f.sharing += 1 if shape & (BEFORE | AFTER) else 0
    k = f.v_in[q] & f.item.shape[1] - 1
    f.item[q, k, BURST], f.item[q, k, SHAPE], f.item[q, k, PLACE] = burst, shape, number * LIST_RING + i
    f.v_in[q] += 1
    f.vectors_any |= 1 << q
    if f.v_in[q] - f.v_ask[q] == f.vectors_ahead:
        f.vectors_full |= 1 << q


@compiled
def _accept(f: Record, i: int) -> None:
    """List `i`, which was numbered when it was offered, becomes the next one."""
    n = f.lists_taken % LIST_RING
    f.list_count[n], f.list_first[n], f.list_destination[n] = f.list_count[i], f.list_first[i], f.list_destination[i]
    f.list_buffer[n], f.list_place[n], f.list_purpose[n] = f.list_buffer[i], f.list_place[i], f.list_purpose[i]
    f.list_base[n], f.list_bits[n] = f.list_base[i], f.list_bits[i]
    to = f.list_destination[n]
    is_turned = to in (TO_VALUE, TO_SPARSE) or (to == TO_QUERY and f.list_place[n] & 1 == 1)
    f.list_turn[n] = f.half_turn if is_turned else 0
    f.active, f.sent = n, 0
    f.lists_taken += 1
    at_others = f.list_has | f.list_over
    for q in range(f.head.shape[0]):
        if not at_others >> q & 1:
            enter_list(f, q)
    count = f.list_count[n]
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
        f.accepted_at[i - LIST_RING, f.list_buffer[n]] = f.now
        f.event |= ACCEPTED


@inlined
def settle(f: Record, accepted: int, reads: int, writes: int) -> None:
    """The rest of a cycle, when the memory has answered.

    Args:
        f: the state; `read_tag` has the tags of the answers to reads.
        accepted: channels whose memory took the request that it was offered.
        reads: those with an answer to a read.
        writes: the same to a write.
    """
    on_the_way = f.on_the_way
    land(f)
    leave_groups(f)
    granted, chosen = grant(f)
    took = move_channels(f, accepted, chosen)
    while f.slowest < f.lists_taken and f.lanes_at[f.slowest % LIST_RING] == 0:
        f.slowest += 1
    behind = f.lists_taken - f.slowest >= LISTS_BEHIND
    ahead_full, expected_full, vectors_full = f.ahead_full, f.expected_full, f.vectors_full
    lanes_end(f)
    lanes_collect(f, ahead_full)
    lanes_ask(f, granted, expected_full)
    if f.answer_any | f.answers_any or f.data_granted_n + f.data_leaving_n:
        take_answers(f)
    while reads:
        take_read(f, lowest(reads))
        reads &= reads - 1
    while writes:
        take_write(f, lowest(writes))
        writes &= writes - 1
    if f.offered_n or f.rows_inside or f.active != NOTHING:
        _sequence(f, vectors_full)
    i = f.active
    f.waits = 0
    if f.unread and i != NOTHING and f.list_destination[i] == TO_VALUE and f.list_buffer[i] == f.unread_buffer:
        f.waits = 1 if f.sent >> f.slot_shift + f.rate_shift >= f.unread_row >> f.rate_shift else 0
    f.behind_any = 1 if behind else 0
    f.begins = 1 if on_the_way < f.window else 0
    f.msb_begins = 1 if on_the_way < f.msb_window else 0
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
    over = busy == 0 and f.active == NOTHING and f.offered_n == 0
    f.idle = 1 if over and f.list_has | f.list_over == 0 else 0


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
    i, last = LIST_RING + stream, f.vector.shape[0] - 1
    at = f.vectors_made
    f.list_count[i], f.list_first[i], f.list_destination[i] = count, at, destination
    f.list_buffer[i], f.list_place[i], f.list_purpose[i] = buffer, place, purpose
    f.list_base[i], f.list_bits[i] = base_burst, bits
    for k in range(count):
        here = first + k
        f.vector[at + k & last] = ids[here // parts] * parts + here % parts if parts > 1 else ids[here]
    f.vectors_made = at + count
    f.offer[stream], f.offered_from[stream] = i, cycle
    f.offered_n += 1
    f.idle = 0


@compiled
def add_list_to(states: Array, *order: Any) -> None:
    """`add_list` for callers that hold the array, not the record."""
    add_list(states[0], *order)
