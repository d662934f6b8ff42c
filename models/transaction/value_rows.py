"""A cycle of the rows before their results: queues, `row_values`, and both top-k engines, compiled.

    probabilities of rows -> queues 1 and 2 -> beats in the order of the rows -> rows of items -> engines in turn

As `hls.datapaths.row_queues`, `row_values`, `top_k`, `top_k_select` and `top_k_filter`. What a part does follows from
what its registers held when the cycle began; the caller goes from the last part to the first and gives, with `0` behind
the name, how full what a part fills was then.
"""

from hls.datapaths.row_values import ROWS_UNDER_WAY
from hls.datapaths.top_k import RESULT_ROWS, WAITING_REQUESTS
from models.memory.compilation import Array, Record, compiled
from models.transaction.value_state import BEAT, NOTHING, RETIRED, SKID

NUMBER = (1 << BEAT) - 1


@compiled
def queue_beats(v: Record, d: Array, cycle: int, beat_skid0: int) -> None:
    """The row queues: what comes from the flat decision, what is read, what leaves."""
    takes = beat_skid0 < SKID
    row, leaves_first, leaves_second = v.out_row, 0, 0
    moves = False
    if row < v.known:
        second = d[v.d_flat + row]
        moves = (v.second_valid if second else v.first_valid) and (takes or not v.beat_there)
    if v.beat_there and takes:
        v.beat_skid[v.beat_skid_n, 0] = v.beat_held
        v.beat_skid_n += 1
        v.beat_there = 0
        done = v.beat_held >> BEAT
        if (v.beat_held & NUMBER) == d[v.d_beats + done] - 1:
            d[v.d_shown + done] = cycle
    if moves:
        v.beat_there, v.beat_held = 1, row << BEAT | v.out_beat
        if d[v.d_flat + row]:
            leaves_second = 1
            d[v.d_second_left + v.second_left_n] = cycle
            v.second_left_n += 1
        else:
            leaves_first = 1
            d[v.d_left + v.left_n] = cycle
            v.left_n += 1
        if v.out_beat == 0:
            v.rows_inside += 1
        v.out_beat += 1
        if v.out_beat == d[v.d_beats + row]:
            v.out_row, v.out_beat = row + 1, 0
            d[v.d_retired + row] = cycle
            v.retired_n += 1
            if v.retired_n >= v.watch_rows:
                v.event |= RETIRED
        if v.left_n >= v.watch_beats or v.second_left_n >= v.watch_seconds:
            v.event |= RETIRED
    reading = 0 if v.first_empty or (v.first_valid and not leaves_first) else 1
    v.first_read += reading
    v.first_empty = 1 if v.first_read == v.first_committed else 0
    v.first_valid = 1 if reading or (v.first_valid and not leaves_first) else 0
    reading = 0 if v.second_empty or (v.second_valid and not leaves_second) else 1
    v.second_read += reading
    v.second_empty = 1 if v.second_read == v.second_committed else 0
    v.second_valid = 1 if reading or (v.second_valid and not leaves_second) else 0
    while v.first_row < v.known:
        row = v.first_row
        if not d[v.d_flat + row]:
            come = min(cycle + 1 - d[v.d_begins + row], d[v.d_beats + row])
            v.first_committed += max(0, come - v.first_beat)
            v.first_beat = max(come, v.first_beat)
            if v.first_beat < d[v.d_beats + row]:
                break
            v.first_beat = 0
        v.first_row += 1
    while v.second_row < v.known:
        row = v.second_row
        if d[v.d_flat + row]:
            come = min(cycle + 1 - d[v.d_begins + row], d[v.d_beats + row])
            v.second_committed += max(0, come - v.second_beat)
            v.second_beat = max(come, v.second_beat)
            if v.second_beat < d[v.d_beats + row]:
                break
            v.second_beat = 0
        v.second_row += 1


@compiled
def row_values(v: Record, d: Array, cycle: int, whole0: int, items0: int, flats0: int, beat_skid0: int) -> None:
    """Beats to token importance, and to whole rows or rows of items."""
    depth, out, goes = v.values.shape[0], v.values[v.values.shape[0] - 1], True
    if out != NOTHING:
        row, number = out >> BEAT, out & NUMBER
        last = number == d[v.d_beats + row] - 1
        if v.keeps_all:
            goes = whole0 < SKID
            if goes:
                v.whole_skid[v.whole_skid_n, 0] = out
                v.whole_skid_n += 1
        else:
            share = v.top_k_lanes // v.slots
            emits = last or number % share == share - 1
            goes = not emits or (items0 < v.items.shape[0] and flats0 < ROWS_UNDER_WAY)
            if goes and emits:
                size = v.items.shape[0]
                v.items[(v.items_h + v.items_n) % size] = row << BEAT | number // share
                v.items_n += 1
                if last:
                    v.flats_n += 1
    if goes:
        for k in range(depth - 1, 0, -1):
            v.values[k] = v.values[k - 1]
        v.values[0] = NOTHING
    importance0 = v.importance_n
    if importance0 > 0 and cycle >= v.importance_from:
        v.importance_n -= 1
        v.added_beats += 1
    if beat_skid0 == 0:
        return
    if not v.served_importance and importance0 < SKID:
        v.importance_n += 1
        v.served_importance = 1
    if not v.served_values and goes:
        v.values[0] = v.beat_skid[0, 0]
        v.served_values = 1
    if v.served_importance and v.served_values:
        v.served_importance = v.served_values = 0
        v.beat_skid[0, 0] = v.beat_skid[1, 0]
        v.beat_skid_n -= 1


@compiled
def item_rows(v: Record, d: Array, row: int) -> int:
    """Rows of items of a row, as they come to an engine."""
    share = v.top_k_lanes // v.slots
    found: int = (d[v.d_beats + row] + share - 1) // share
    return found


@compiled
def to_engines(v: Record, d: Array, items0: int, skid0: int) -> None:
    """A row of items to the engine whose turn it is; `skid0` of that engine."""
    if items0 == 0 or skid0 == SKID:
        return
    e, item = v.turn, v.items[v.items_h]
    v.items_h = (v.items_h + 1) % v.items.shape[0]
    v.items_n -= 1
    v.engine_skid[e, v.engine_skid_n[e]] = item
    v.engine_skid_n[e] += 1
    if (item & NUMBER) == item_rows(v, d, item >> BEAT) - 1:
        v.turn = 1 - e


@compiled
def fill(v: Record, d: Array, e: int, requests0: int, skid0: int, read0: int) -> None:
    """Items into an engine's ring, and their requests."""
    lanes, depth = v.top_k_lanes, v.fill_depth[e]
    out, goes = v.fill[e, depth - 1], True
    if out != NOTHING or v.flushing[e]:
        total, last, over = 0, False, False
        row = v.fill_row[e]
        if not v.flushing[e]:
            row, number = out >> BEAT, out & NUMBER
            last = number == item_rows(v, d, row) - 1
            share = v.beat_keys * (lanes // v.slots)
            total = v.filled[e] + min(d[v.d_visible + row] - number * share, share)
            over = total > lanes
        emits = v.flushing[e] != 0 or total >= lanes or last
        count = v.filled[e] if v.flushing[e] else min(total, lanes)
        ends = v.flushing[e] != 0 or (last and not over)
        has_room = count == 0 or v.written[e] - read0 != v.ring_rows
        ready = has_room and (not ends or requests0 < WAITING_REQUESTS)
        if emits and ready:
            v.written[e] += 1 if count > 0 else 0
            if ends:
                v.requests[e, v.requests_n[e]] = row
                v.requests_n[e] += 1
        if v.flushing[e]:
            goes = out == NOTHING
            if ready:
                v.flushing[e] = v.filled[e] = 0
        elif ready or not emits:
            v.filled[e] = 0 if ends else total - lanes if total >= lanes else total
            v.flushing[e] = 1 if last and over else 0
            v.fill_row[e] = row
        else:
            goes = False
    if goes:
        for k in range(depth - 1, 0, -1):
            v.fill[e, k] = v.fill[e, k - 1]
        v.fill[e, 0] = NOTHING
        if skid0 > 0:
            v.fill[e, 0] = v.engine_skid[e, 0]
            v.engine_skid[e, 0] = v.engine_skid[e, 1]
            v.engine_skid_n[e] -= 1


@compiled
def select(v: Record, d: Array, e: int, cycle: int, requests0: int, idle0: int) -> None:
    """Passes of a request, and its hand-over to the filter."""
    if v.waiting[e]:
        if requests0 == 0:
            return
        row = v.requests[e, 0]
        if d[v.d_passes + row] == 0:
            if not idle0:
                return
            _load(v, e, row)
        else:
            cycles = d[v.d_pass_rows + row] + d[v.d_passes + row] * v.pass_cycles[e]
            v.waiting[e], v.select_row[e], v.select_done[e] = 0, row, cycle + cycles
        v.requests[e, 0] = v.requests[e, 1]
        v.requests_n[e] -= 1
        rows = (d[v.d_visible + row] + v.top_k_lanes - 1) // v.top_k_lanes
        v.item_rows_in[e] += rows
        v.pass_rows_in[e] += d[v.d_pass_rows + row]
        v.busy_cycles[e] += max(rows, d[v.d_pass_rows + row] + d[v.d_passes + row] * v.pass_cycles[e])
    elif cycle >= v.select_done[e] and idle0:
        _load(v, e, v.select_row[e])
        v.waiting[e] = 1


@compiled
def _load(v: Record, e: int, row: int) -> None:
    v.filter_idle[e], v.filter_row[e], v.filter_at[e], v.filter_result[e] = 0, row, 0, 0


@compiled
def filter_rows(v: Record, d: Array, e: int, results0: int) -> None:
    """Rows of items out of the ring, and what is kept of them as rows of results."""
    if v.filter_idle[e]:
        return
    lanes, depth, goes, leaves = v.top_k_lanes, v.filter_depth[e], True, False
    out, room = v.filter[e, depth - 1], results0 < RESULT_ROWS
    row = v.filter_row[e]
    rows = (d[v.d_visible + row] + lanes - 1) // lanes
    if v.packing_flush[e]:
        goes = out == NOTHING
        if room:
            _result(v, e, row, 1)
            v.packing_flush[e] = v.packed[e] = 0
            leaves = True
    elif out != NOTHING:
        last = out == rows - 1
        total = v.packed[e] + d[v.d_filtered + d[v.d_filtered_at + row] + out]
        over = total > lanes
        emits = total >= lanes or last
        goes = room or not emits
        if goes:
            ends = last and not over
            if emits:
                _result(v, e, row, 1 if ends else 0)
                leaves = ends
            v.packed[e] = 0 if ends else total - lanes if total >= lanes else total
            v.packing_flush[e] = 1 if last and over else 0
    if goes:
        for k in range(depth - 1, 0, -1):
            v.filter[e, k] = v.filter[e, k - 1]
        v.filter[e, 0] = NOTHING
        if v.filter_at[e] < rows:
            v.filter[e, 0] = v.filter_at[e]
            v.filter_at[e] += 1
            v.read[e] += 1
    if leaves:
        v.filter_idle[e] = 1


@compiled
def _result(v: Record, e: int, row: int, last: int) -> None:
    n = v.results_n[e]
    v.results[e, n, 0], v.results[e, n, 1] = row << BEAT | v.filter_result[e], last
    v.results_n[e] += 1
    v.filter_result[e] += 1


@compiled
def next_row(v: Record, d: Array) -> int:
    """The cycle in which the next probabilities come, as far as is known; -1 if nothing is known."""
    found = NOTHING
    if v.first_row < v.known and not d[v.d_flat + v.first_row]:
        found = d[v.d_begins + v.first_row]
    if v.second_row < v.known and d[v.d_flat + v.second_row]:
        begins = d[v.d_begins + v.second_row]
        found = begins if found == NOTHING else min(found, begins)
    return found
