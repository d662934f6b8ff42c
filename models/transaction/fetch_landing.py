"""A cycle of the landing (`hls.datapaths.landing_write`): converters -> groups -> SRAM, slow port -> query lines.

A converter is a pipeline that stands while its last row is not taken: rows are kept with the cycle in which the group
sees them, and those behind a row that was taken late are late by as much. A wheel of cycles says which lanes have a
row from when on.
"""

from models.memory.compilation import Record, compiled, inlined, lowest
from models.transaction.fetch_state import LANDED, LINE, LIST_RING, NOTHING, PLACE, TO_QUERY, TO_SPARSE, TO_VALUE


@compiled
def land(f: Record) -> None:
    """Pending counters, then the slow port."""
    if f.landed_all == 0 and f.slow_2 == NOTHING and f.slow_1 == NOTHING and f.slow_granted == NOTHING:
        return
    f.on_the_way -= f.landed_all
    places, segments, landed = f.left.shape[1], f.left.shape[2], f.segments_landed
    f.segments_landed = 0
    while landed:
        i = lowest(landed)
        landed &= landed - 1
        kind, b, segment = i // (places * segments), i // segments % places, i % segments
        f.left[kind, b, segment] -= f.landed[kind, b, segment]
        f.landed[kind, b, segment] = 0
        if f.left[kind, b, segment] == 0:
            f.landed_at[kind, b, segment] = f.now + 1
            if kind == TO_VALUE:
                f.values_pending[b] &= ~(1 << segment)
            elif f.segments_watched >> i & 1:
                f.event |= LANDED
    f.sparse_left -= f.landed_sparse
    f.landed_all = f.landed_sparse = 0
    if f.slow_2 != NOTHING:
        f.landed_all += 1
        i, number = f.slow_2 % LIST_RING, f.slow_2 // LIST_RING
        if f.list_destination[i] == TO_SPARSE:
            f.landed_sparse += 1
        else:
            line = (f.list_place[i] + number) % f.line_there.shape[0]
            f.line_there[line] = f.now + 1
            f.event |= LINE
    f.slow_2, f.slow_1 = f.slow_1, NOTHING
    if f.slow_granted != NOTHING:
        f.slow_1 = f.group_item[f.slow_granted]


@inlined
def leave_groups(f: Record) -> None:
    """Rows leave the groups; the next one for the slow port; rows of the converters come."""
    now, granted, turns = f.now, f.slow_granted, f.convert_at.shape[1] - 1
    due = f.due | f.due_in[now & turns]
    f.due_in[now & turns] = 0
    if due | f.held == 0 and granted == NOTHING:
        return
    count, lanes = f.group_first.shape[0], f.head.shape[0] // f.group_first.shape[0]
    ring, places, segments = f.item.shape[1] - 1, f.left.shape[1], f.left.shape[2]
    f.slow_granted = NOTHING
    waits = f.held_slow & ~(1 << granted) if granted != NOTHING else f.held_slow
    if waits:
        behind = waits & -1 << f.slow_first
        f.slow_granted = lowest(behind if behind else waits)
        f.slow_first = f.slow_granted + 1 & count - 1
    moves, landed, landed_all = f.held & ~f.held_slow, f.segments_landed, f.landed_all
    held = held_slow = f.held_slow
    while moves:
        g = lowest(moves)
        moves &= moves - 1
        i, number = f.group_item[g] % LIST_RING, f.group_item[g] // LIST_RING
        to, b, segment = f.list_destination[i], f.list_buffer[i], number >> f.segment_shift
        f.landed[to, b, segment] += 1
        landed |= 1 << (places * to + b) * segments + segment
        landed_all += 1
    f.segments_landed, f.landed_all = landed, landed_all
    if granted != NOTHING:
        held &= ~(1 << granted)
        held_slow &= ~(1 << granted)
    comes = due
    for m in range(1, lanes):
        comes |= due >> m * count
    comes &= (1 << count) - 1 if count < 64 else -1
    while comes:
        g = lowest(comes)
        comes &= comes - 1
        m = f.group_first[g]
        while not due >> g + m * count & 1:
            m = m + 1 & lanes - 1
        f.group_first[g] = m
        if held >> g & 1:
            continue
        f.group_first[g] = m + 1 & lanes - 1
        q = g + m * count
        k = f.v_land[q]
        late = now - f.convert_at[q, k & turns]
        place = f.item[q, k & ring, PLACE]
        f.group_item[g] = place
        held |= 1 << g
        held_slow |= (1 if f.list_destination[place % LIST_RING] >= TO_QUERY else 0) << g
        due &= ~(1 << q)
        f.v_land[q] = k + 1
        if late:
            for behind in range(k + 1, f.v_end[q]):
                f.convert_at[q, behind & turns] += late
        if k + 1 < f.v_end[q]:
            f.due_in[f.convert_at[q, k + 1 & turns] & turns] |= 1 << q
    f.due, f.held, f.held_slow = due, held, held_slow
