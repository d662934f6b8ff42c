"""A cycle of the fetcher's lanes and of the landing (`hls.datapaths.fetch_lane`, `landing_lane`, `landing_write`).

vectors -> requests, vectors that collection expects
answers in the reorder buffer -> collected bursts -> words -> converter -> landing group -> SRAM, query line

A lane has three parts, from requests to landing: `lane_ask`, `lane_collect`, `lane_end`. One in which a cycle changes
nothing sleeps (a bit of `awake`): the next cycle would change nothing either. Whoever changes one of its inputs wakes
it: a list or a vector, a grant, an answer, the group that takes its row, the burst that a neighbour shares, and a part
its neighbours. A converter is a pipeline that stands while its last row is not taken: rows are kept with the cycle in
which the group sees them, and those behind a row that was taken late are late by as much.
"""

from models.memory.compilation import Record, compiled
from models.transaction.fetch_state import (
    END,
    LANDED,
    LINE,
    LIST_RING,
    NOTHING,
    TO_QUERY,
    TO_SPARSE,
    TO_VALUE,
)

CHANGED, GIVEN, TAKEN = 1, 2, 4
"""What a part of a lane did in a cycle, bits: anything, gave something on to the next part, took a vector."""
NEVER = 1 << 60


@compiled
def land(f: Record) -> None:
    """Pending counters, then the slow port and the groups of the landing."""
    if f.landed_all == 0 and f.slow_2 == NOTHING and f.slow_1 == NOTHING and f.slow_granted == NOTHING:
        return
    f.on_the_way -= f.landed_all
    for kind in range(2):
        for b in range(2):
            for segment in range(f.left.shape[2]):
                n = f.landed[kind, b, segment]
                if n:
                    f.landed[kind, b, segment] = 0
                    f.left[kind, b, segment] -= n
                    if f.left[kind, b, segment] == 0:
                        f.landed_at[kind, b, segment] = f.now + 1
                        if kind == TO_VALUE:
                            f.values_pending[b] &= ~(1 << segment)
                        else:
                            f.event |= LANDED
    f.sparse_left -= f.landed_sparse
    f.landed_all = f.landed_sparse = 0
    if f.slow_2 != NOTHING:
        v = f.slow_2
        f.landed_all += 1
        i = f.v_list[v]
        if f.list_destination[i] == TO_SPARSE:
            f.landed_sparse += 1
        else:
            line = (f.list_place[i] + f.v_index[v]) % f.line_there.shape[0]
            f.line_there[line] = f.now + 1
            f.event |= LINE
    f.slow_2, f.slow_1 = f.slow_1, NOTHING
    if f.slow_granted != NOTHING:
        f.slow_1 = f.group_held[f.slow_granted]


@compiled
def leave_groups(f: Record) -> None:
    """Rows leave the groups; the next one for the slow port; rows of the converters come."""
    count, queues = f.group_held.shape[0], f.head.shape[0]
    granted = f.slow_granted
    if not f.landing and granted == NOTHING and f.now < f.landing_from:
        return
    winner = NOTHING
    mask, lanes_mask = count - 1, queues // count - 1
    depth, now, soonest, held = f.convert.shape[1], f.now, NEVER, 0
    for k in range(count):
        g = (f.slow_first + k) & mask
        v = f.group_held[g]
        if v != NOTHING and g != granted and f.list_destination[f.v_list[v]] >= TO_QUERY:
            winner = g
            break
    for g in range(count):
        v = f.group_held[g]
        moves = False
        if v != NOTHING:
            i = f.v_list[v]
            to = f.list_destination[i]
            if to <= TO_VALUE:
                moves = True
                f.landed[to, f.list_buffer[i], f.v_index[v] >> f.segment_shift] += 1
                f.landed_all += 1
            else:
                moves = g == granted
        takes = moves or v == NOTHING
        chosen = NOTHING
        first = f.group_first[g]
        for k in range(lanes_mask + 1):
            m = (first + k) & lanes_mask
            q = g + m * count
            if f.convert_n[q]:
                at = f.convert_at[q, f.convert_h[q]]
                if at <= now and chosen == NOTHING:
                    chosen = m
                else:
                    soonest = min(soonest, at)
        if takes:
            f.group_held[g] = NOTHING
        if chosen != NOTHING:
            q = g + chosen * count
            if takes:
                h = f.convert_h[q]
                late = now - f.convert_at[q, h]
                f.group_held[g] = f.convert[q, h]
                f.convert_h[q] = h = (h + 1) % depth
                f.convert_n[q] -= 1
                for k in range(f.convert_n[q]):
                    f.convert_at[q, (h + k) % depth] += late
                if f.convert_n[q]:
                    soonest = min(soonest, f.convert_at[q, h])
                f.awake[q] |= END
                f.group_first[g] = (chosen + 1) & lanes_mask
            else:
                f.group_first[g] = chosen
                soonest = now
    f.landing_from = soonest
    for g in range(count):
        held |= 1 if f.group_held[g] != NOTHING else 0
    f.landing = held
    f.slow_granted = winner
    if winner != NOTHING:
        f.slow_first = (winner + 1) & mask


@compiled
def lane_end(f: Record, q: int) -> int:
    """Converter, landing lane and emission of a lane; bits: something has changed, a burst has left `ahead`."""
    changed = 0
    item = f.converting[q]
    if item != NOTHING:
        depth, n, h = f.convert.shape[1], f.convert_n[q], f.convert_h[q]
        if n == 0 or f.convert_at[q, h] > f.now:
            if item >= 0:
                k, at = (h + n) % depth, f.now + depth
                f.convert[q, k], f.convert_at[q, k] = item, at
                f.convert_n[q] += 1
                f.landing_from = min(f.landing_from, at)
            f.converting[q] = NOTHING
            changed = CHANGED
    popped = 0
    if f.position[q] < f.lists_taken:
        queues = f.head.shape[0]
        i = f.position[q] % LIST_RING
        index = f.lane_vector[q] * queues + q
        if index >= f.list_count[i]:
            f.position[q] += 1
            f.lane_vector[q] = 0
            changed = CHANGED
        elif f.words_n[q] > 0 and f.converting[q] == NOTHING:
            item = f.words[q, 0]
            f.converting[q] = item
            popped = 1
            changed = CHANGED
            f.words_n[q] -= 1
            f.words[q, 0] = f.words[q, 1]
            if item >= 0:
                if index + queues >= f.list_count[i]:
                    f.position[q] += 1
                    f.lane_vector[q] = 0
                else:
                    f.lane_vector[q] += 1
    if f.ahead_n[q] == 0 or f.words_n[q] + popped >= 2:
        return changed
    v, burst = f.ahead[q, 0, 0], f.ahead[q, 0, 1]
    is_final = burst == f.v_span[v]
    last = (f.v_to[v] >> f.word_shift) if is_final else (256 >> f.word_shift) - 1
    first = (f.v_from[v] >> f.word_shift) if burst == 0 else 0
    place = f.word_at[q] if f.begun[q] else first
    ends = place == last
    f.words[q, f.words_n[q]] = v if ends and is_final else -2
    f.words_n[q] += 1
    f.begun[q] = 0 if ends else 1
    f.word_at[q] = place + 1
    if not ends:
        return CHANGED
    f.ahead_n[q] -= 1
    f.ahead[q, 0, 0], f.ahead[q, 0, 1] = f.ahead[q, 1, 0], f.ahead[q, 1, 1]
    return CHANGED | GIVEN


@compiled
def lane_collect(f: Record, q: int, left: int) -> int:
    """Collection and reorder buffer of a lane; bits: something has changed, it gave a burst, it took a vector.

    `left`: a burst has left `ahead` in this cycle.
    """
    queues, depth, places = f.head.shape[0], f.expected.shape[1], f.filled.shape[1]
    changed = 0
    consumed, popped = False, 0
    if f.next_n[q] > 0:
        v, burst = f.next[q, 0], f.burst_at[q]
        is_final = burst == f.v_span[v]
        from_before = f.v_before[v] and burst == 0
        passes_on = is_final and f.v_after[v]
        there = f.was_offered[(q - 1) & (queues - 1)] if from_before else f.oldest[q] != NOTHING
        if there and not (passes_on and f.was_offered[q]) and f.ahead_n[q] + left < 2:
            changed = CHANGED | GIVEN
            n = f.ahead_n[q]
            f.ahead[q, n, 0], f.ahead[q, n, 1] = v, burst
            f.ahead_n[q] += 1
            if from_before:
                f.shared[(q - 1) & (queues - 1)] = 1
            else:
                consumed = True
            if passes_on:
                f.shares[q] = 1
            f.burst_at[q] = 0 if is_final else burst + 1
            if is_final:
                popped = 1
                f.next_n[q] -= 1
                f.next[q, 0] = f.next[q, 1]
    if consumed or f.oldest[q] == NOTHING:
        h = f.head[q]
        if f.filled[q, h]:
            f.filled[q, h] = 0
            f.head[q] = (h + 1) % places
            f.oldest[q] = 1
            f.taken[q] -= 1
            changed |= CHANGED
        else:
            f.oldest[q] = NOTHING
    # vectors that collection waits for
    if f.expected_n[q] > 0 and f.next_n[q] + popped < 2:
        f.next[q, f.next_n[q]] = f.expected[q, f.expected_h[q]]
        f.next_n[q] += 1
        f.expected_h[q] = (f.expected_h[q] + 1) % depth
        f.expected_n[q] -= 1
        changed |= CHANGED | TAKEN
    return changed


@compiled
def lane_ask(f: Record, q: int, expected_popped: int, granted: bool) -> int:
    """Requests of a lane; bits: something has changed, collection expects a vector more, a vector was taken.

    `expected_popped`: collection took an expected vector in this cycle.
    """
    depth = f.asked.shape[1]
    changed = 0
    ask_popped = 0
    if granted:
        changed = CHANGED
        ask_popped = 1
        f.taken[q] += 1
        f.asking -= 1
        f.ask_skid_n[q] -= 1
        f.ask_skid[q, 0, 0], f.ask_skid[q, 0, 1] = f.ask_skid[q, 1, 0], f.ask_skid[q, 1, 1]
    asked_popped = 0
    if f.asked_n[q] > 0 and f.ask_skid_n[q] + ask_popped < 2:
        h, n = f.asked_h[q], f.ask_skid_n[q]
        f.ask_skid[q, n, 0], f.ask_skid[q, n, 1] = f.asked[q, h, 0], f.asked[q, h, 1]
        f.ask_skid_n[q] += 1
        f.asking += 1
        f.asked_h[q] = (h + 1) % depth
        f.asked_n[q] -= 1
        asked_popped = 1
        changed = CHANGED
    if f.vectors_n[q] == 0:
        return changed
    v = f.vectors[q, 0]
    skips, is_final = f.v_before[v] and f.done[q] == 0, f.done[q] == f.v_span[v]
    address_room = f.asked_n[q] + asked_popped < depth
    expected_room = f.expected_n[q] + expected_popped < depth
    if not ((address_room or skips) and (expected_room or not is_final)):
        return changed
    if not skips:
        tail = (f.asked_h[q] + f.asked_n[q]) % depth
        f.asked[q, tail, 0] = f.v_burst[v] + f.done[q]
        f.asked[q, tail, 1] = f.list_purpose[f.v_list[v]]
        f.asked_n[q] += 1
    if not is_final:
        f.done[q] += 1
        return CHANGED
    f.done[q] = 0
    f.expected[q, (f.expected_h[q] + f.expected_n[q]) % depth] = v
    f.expected_n[q] += 1
    f.vectors_n[q] -= 1
    for k in range(f.vectors.shape[1] - 1):
        f.vectors[q, k] = f.vectors[q, k + 1]
    return CHANGED | GIVEN | TAKEN
