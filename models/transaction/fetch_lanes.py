"""A cycle of the fetcher's lanes (`hls.datapaths.fetch_lane`, `landing_lane`), all of them at once.

    vectors -> requests, vectors that collection expects
    answers in the reorder buffer -> collected bursts -> words -> converter

What each lane may do follows from masks as they were when the cycle began; loops go over the lanes that move. The
converter is a pipeline that stands while its last row is not taken (`models.transaction.fetch_landing`).
"""

from models.memory.compilation import Record, compiled, inlined, lowest
from models.transaction.fetch_state import (
    AFTER,
    BEFORE,
    BURST,
    LIST_RING,
    MOST,
    PLACE,
    PURPOSE_BITS,
    SHAPE,
)


@inlined
def lanes_end(f: Record) -> None:
    """Converter, landing lane and emission: words out of collected bursts, a word a cycle."""
    depth, turns = f.convert_cycles, f.convert_at.shape[1] - 1
    moves = f.converting & ~f.due
    ends = moves & f.converting_last
    while ends:
        q = lowest(ends)
        ends &= ends - 1
        k, at = f.v_end[q], f.now + depth
        f.convert_at[q, k & turns] = at
        if k == f.v_land[q]:
            f.due_in[at & turns] |= 1 << q
        f.v_end[q] = k + 1
    f.converting &= ~moves
    f.converting_last &= ~moves
    over, pops = f.list_over, f.list_has & f.words_any & ~f.converting
    lasts = pops & f.word_last0
    words_full = f.words_full
    f.converting |= pops
    f.converting_last |= lasts
    f.word_last0 = f.word_last0 & ~pops | f.word_last1 & pops
    f.words_any = f.words_any & ~pops | words_full & pops
    f.words_full = words_full & ~pops
    while over:
        _next_list(f, lowest(over))
        over &= over - 1
    while lasts:
        q = lowest(lasts)
        lasts &= lasts - 1
        f.list_left[q] -= 1
        if f.list_left[q] == 0:
            _next_list(f, q)
    emits = f.ahead_any & ~words_full
    moves, ends = emits, 0
    while moves:
        q = lowest(moves)
        moves &= moves - 1
        left = f.words_left[q] - 1
        f.words_left[q] = left
        ends |= (1 if left == 0 else 0) << q
    lasts, second = ends & f.ahead_last0, emits & f.words_any
    f.word_last1 = f.word_last1 & ~second | lasts & second
    f.word_last0 = f.word_last0 & ~(emits & ~second) | lasts & ~second
    f.words_full |= second
    f.words_any |= emits
    follows = ends & f.ahead_full
    f.ahead_last0 = f.ahead_last0 & ~ends | f.ahead_last1 & ends
    f.ahead_any = f.ahead_any & ~ends | follows
    f.ahead_full &= ~ends
    while follows:
        q = lowest(follows)
        follows &= follows - 1
        f.words_left[q] = f.words_next[q]


@compiled
def _next_list(f: Record, q: int) -> None:
    """A lane is through with a list."""
    f.lanes_at[f.position[q] % LIST_RING] -= 1
    f.position[q] += 1
    f.lanes_at[f.position[q] % LIST_RING] += 1
    f.list_has &= ~(1 << q)
    f.list_over &= ~(1 << q)
    if f.position[q] < f.lists_taken:
        enter_list(f, q)


@compiled
def enter_list(f: Record, q: int) -> None:
    """A lane comes to a list that was taken."""
    queues, at = f.head.shape[0], f.position[q] % LIST_RING
    left = (f.list_count[at] + queues - 1 - (q ^ f.list_turn[at])) // queues
    f.list_left[q] = left
    if left > 0:
        f.list_has |= 1 << q
    else:
        f.list_over |= 1 << q


@inlined
def lanes_collect(f: Record, ahead_full: int) -> None:
    """Collection and reorder buffer; `ahead_full`: there was no room for a collected burst when the cycle began."""
    ring, places, top = f.item.shape[1] - 1, f.places.shape[0], f.head.shape[0] - 1
    before, after, offered, shares = f.next_before, f.next_after, f.offered, f.sharing > 0
    there = (offered << 1 | offered >> top & 1) & before | f.oldest & ~before
    goes = f.next_any & there & ~(after & offered) & ~ahead_full
    expected_any = f.expected_any
    loads = expected_any & ~f.next_full
    follows = f.next_full | loads
    fresh = loads & ~f.next_any
    second, pops, moves = goes & f.ahead_any, 0, goes
    while moves:
        q = lowest(moves)
        moves &= moves - 1
        bit, at, burst = 1 << q, f.v_take[q], f.burst_at[q]
        shape = f.item[q, at & ring, SHAPE]
        is_final = burst == shape & 255
        first = shape >> 8 & 255 if burst == 0 else 0
        words = (shape >> 16 & 255 if is_final else f.burst_words - 1) - first + 1
        if second & bit:
            f.words_next[q] = words
        else:
            f.words_left[q] = words
        f.burst_at[q] = 0 if is_final else burst + 1
        pops |= bit if is_final else 0
        f.v_take[q] = at + 1 if is_final else at
        if shares:
            f.sharing -= 1 if is_final and shape & (BEFORE | AFTER) else 0
            f.next_before &= ~bit
            f.next_after &= ~bit
            if not is_final or follows & bit:
                _next_shares(f, q)
    f.ahead_last1 = f.ahead_last1 & ~second | pops & second
    f.ahead_last0 = f.ahead_last0 & ~(goes & ~second) | pops & ~second
    f.ahead_full |= second
    f.ahead_any |= goes
    # vectors that collection waits for
    any_left, full_left = f.next_any & ~pops | f.next_full & pops, f.next_full & ~pops
    f.next_full = full_left | any_left & loads
    f.next_any = any_left | loads
    f.expected_full &= ~loads
    while loads:
        q = lowest(loads)
        loads &= loads - 1
        left = f.expected_n[q] - 1
        f.expected_n[q] = left
        expected_any &= ~((1 if left == 0 else 0) << q)
    f.expected_any = expected_any
    while shares and fresh:
        _next_shares(f, lowest(fresh))
        fresh &= fresh - 1
    # the oldest burst
    head_filled = f.head_filled
    wants = goes & ~before | ~f.oldest
    gets = wants & head_filled
    f.oldest = f.oldest & ~wants | gets
    f.taken_full &= ~gets
    while gets:
        q = lowest(gets)
        gets &= gets - 1
        h = f.head[q] & MOST - 1
        filled = f.filled[q] & ~(1 << h)
        h = h + 1 if h + 1 < places else 0
        f.filled[q], f.head[q] = filled, h
        f.taken[q] -= 1
        head_filled &= ~((filled >> h & 1 ^ 1) << q)
    f.head_filled = head_filled
    # bursts that two lanes share: taken by the next one, offered to it
    passed = goes & before
    passed = passed >> 1 & (1 << top) - 1 | (passed & 1) << top
    f.offered = offered & ~passed | goes & after


@compiled
def _next_shares(f: Record, q: int) -> None:
    """What the next burst of a lane shares."""
    shape, burst, bit = f.item[q, f.v_take[q] & f.item.shape[1] - 1, SHAPE], f.burst_at[q], 1 << q
    f.next_before |= bit if shape & BEFORE and burst == 0 else 0
    f.next_after |= bit if shape & AFTER and burst == shape & 255 else 0


@inlined
def lanes_ask(f: Record, granted: int, expected_full: int) -> None:
    """Requests; `expected_full`: collection had no room for a vector more when the cycle began."""
    ring, turns, depth = f.item.shape[1] - 1, f.asked.shape[1] - 1, f.address_depth
    channels, places = f.credit.shape[0], f.places.shape[0]
    asked_any, asked_full = f.asked_any, f.asked_full
    moves = asked_any & ~f.ask_full
    any_left, full_left = f.ask_any & ~granted | f.ask_full & granted, f.ask_full & ~granted
    fresh = granted & any_left | moves & ~any_left
    f.ask_full = full_left | any_left & moves
    f.ask_any = any_left | moves
    full_now = asked_full & ~moves
    while moves:
        q = lowest(moves)
        moves &= moves - 1
        left = f.asked_n[q] - 1
        f.asked_n[q] = left
        asked_any &= ~((1 if left == 0 else 0) << q)
    taken_full = f.taken_full
    while granted:
        q = lowest(granted)
        granted &= granted - 1
        f.ask_head[q] += 1
        taken = f.taken[q] + 1
        f.taken[q] = taken
        taken_full |= (1 if taken == places else 0) << q
    f.taken_full = taken_full
    requests_any = f.requests_any
    while fresh:
        q = lowest(fresh)
        fresh &= fresh - 1
        c = f.asked[q, f.ask_head[q] & turns] >> PURPOSE_BITS & channels - 1
        f.requests[c] |= 1 << q
        requests_any |= 1 << c
    f.requests_any = requests_any
    waiting = f.vectors_any
    expected_any, expected_now, vectors_any, vectors_full = f.expected_any, f.expected_full, waiting, f.vectors_full
    while waiting:
        q = lowest(waiting)
        waiting &= waiting - 1
        bit, at, done = 1 << q, f.v_ask[q], f.done[q]
        shape = f.item[q, at & ring, SHAPE]
        skips, is_final = done == 0 and shape & BEFORE, done == shape & 255
        if (asked_full & bit and not skips) or (expected_full & bit and is_final):
            continue
        if not skips:
            purpose = f.list_purpose[f.item[q, at & ring, PLACE] % LIST_RING]
            f.asked[q, f.ask_in[q] & turns] = (f.item[q, at & ring, BURST] + done) << PURPOSE_BITS | purpose
            f.ask_in[q] += 1
            count = f.asked_n[q] + 1
            f.asked_n[q] = count
            asked_any |= bit
            full_now |= bit if count == depth else 0
        if not is_final:
            f.done[q] = done + 1
            continue
        f.done[q] = 0
        f.v_ask[q] = at + 1
        count = f.expected_n[q] + 1
        f.expected_n[q] = count
        expected_any |= bit
        expected_now |= bit if count == depth else 0
        vectors_full &= ~bit
        vectors_any &= ~(bit if at + 1 == f.v_in[q] else 0)
    f.asked_any, f.asked_full, f.expected_any, f.expected_full = asked_any, full_now, expected_any, expected_now
    f.vectors_any, f.vectors_full = vectors_any, vectors_full
