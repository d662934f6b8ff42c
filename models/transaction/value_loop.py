"""A cycle of the value side, compiled: what the netlist's registers do between two clock edges (architecture, 6 to 9).

    row queues -> row values -> engines -> kept beats -> lanes of the dispatch -> prob x V -> output stage -> write-back
                                              |-> lists of values to fetch -> fetch side

Work goes from the last part to the first, so that a part knows who behind it takes what it has, and every FIFO and skid
buffer refuses by what it held when the cycle began, as those of `hls.stream` do. Rows are followed beat by beat because
what waits between the engines and the lanes decides when a row's list is written, and so when its values are asked for.
"""

from hls.datapaths.output_stage import OUTPUT_ROWS
from hls.datapaths.value_dispatch import ROWS_UNDER_WAY
from hls.datapaths.write_back import BURST_ELEMENTS
from models.memory.compilation import Array, Record, compiled
from models.transaction.fetch_state import RING
from models.transaction.value_asking import ask
from models.transaction.value_beats import fork_beats, fork_results, fork_whole, is_last, lanes_of, take_result
from models.transaction.value_rows import fill, filter_rows, next_row, queue_beats, row_values, select, to_engines
from models.transaction.value_state import DONE, FINAL, NOTHING, SKID, A, B

FAR = 1 << 60
"""A cycle that never comes."""


@compiled
def value_cycle(
    v: Record,
    f: Record,
    d: Array,
    cycle: int,
    accepted: bool,
    pending: tuple[int, int, bool],
    bursts_left: int,
) -> None:
    """The cycle, after the fetch side's.

    Args:
        v: the state.
        f: that of the fetch side.
        d: what is known of the layer's rows.
        cycle: its number.
        accepted: a list of values was accepted in it.
        pending: when it began, values for these segments of each buffer, a bit each, and LSBs of single ones, were
            under way.
        bursts_left: bursts of outputs that went to the channels in it.
    """
    outputs0, output_jobs0, back0 = v.outputs_n, v.output_jobs_n, v.back_n
    rows_in0, permits0, dispatch0 = v.rows_in_n, v.permits_n, v.dispatch_skid_n
    beats0, whole0, rows0, results0 = v.beats_skid_n, v.whole_skid_n, v.rows_n, v.result_skid_n
    lists0, flats0, items0, beat_skid0 = v.lists_held, v.flats_n, v.items_n, v.beat_skid_n
    released, started = v.release, v.row_started
    _write(v, f, cycle, bursts_left)
    _output(v, d, cycle, output_jobs0, back0)
    comes = dispatch0 > 0 and _has_room(v)
    if comes and is_last(v, d, v.dispatch_skid[0, 0]):
        comes = rows_in0 < ROWS_UNDER_WAY
        completes = comes
    else:
        completes = False
    _weigh(v, f, d, cycle, pending, (outputs0, rows_in0, permits0), completes)
    if comes:
        _to_lanes(v, d, completes)
    if beats0 > 0:
        fork_beats(v, d, cycle, beats0, dispatch0)
    moved = ask(v, f, d, cycle, accepted, pending[2], (rows0, output_jobs0, permits0, released, started))
    if v.rows_inside > 0 or results0 > 0 or whole0 > 0 or v.importance_n > 0:
        if v.keeps_all:
            fork_whole(v, d, whole0, rows0, beats0)
        else:
            ready = v.results_n[v.result_turn]
            results_b, results_a = v.results_n[B], v.results_n[A]
            fork_results(v, d, results0, rows0, lists0, beats0)
            take_result(v, results0, flats0, ready)
            skid0 = v.engine_skid_n[v.turn]
            for e in range(2):
                requests0, idle0, read0, engine0 = v.requests_n[e], v.filter_idle[e], v.read[e], v.engine_skid_n[e]
                filter_rows(v, d, e, results_a if e else results_b)
                select(v, d, e, cycle, requests0, idle0)
                fill(v, d, e, requests0, engine0, read0)
            to_engines(v, d, items0, skid0)
        row_values(v, d, cycle, whole0, items0, flats0, beat_skid0)
        if v.final == FAR and v.added_beats == v.layer_beats and (v.keeps_all or v.kept_rows == v.layer_rows):
            v.final = cycle
            v.event |= FINAL
    queue_beats(v, d, cycle, beat_skid0)
    quiet = v.output_row == min(v.first_row, v.second_row) and v.first_beat == 0 and v.second_beat == 0
    quiet = quiet and not moved and v.back_rows == 0 and v.back_n == 0 and not v.back_flushing
    quiet = quiet and v.importance_n == 0
    if quiet and not (v.request_there or v.release or v.row_started):
        wakes = next_row(v, d)
        v.wakes = FAR if wakes == NOTHING else max(wakes, cycle + 1)
        if v.decision_next < v.decisions and d[v.d_decided + v.decision_next] + v.values_decided > cycle:
            v.wakes = min(v.wakes, d[v.d_decided + v.decision_next] + v.values_decided)
        if v.job_next < v.jobs_given and d[v.d_given + v.job_next] > cycle:
            v.wakes = min(v.wakes, d[v.d_given + v.job_next])
    else:
        v.wakes = cycle + 1


@compiled
def _write(v: Record, f: Record, cycle: int, bursts_left: int) -> None:
    """Rows of outputs as bursts to the channels: the row packer and the skid buffer behind it."""
    rows0 = v.back_rows
    v.back_rows -= bursts_left
    ready = rows0 < SKID
    if v.back_flushing:
        if ready:
            _burst(v, f, cycle)
            v.back_flushing = v.back_filled = 0
    elif v.back_n > 0:
        last = v.back[0, 1]
        total = v.back_filled + v.back[0, 0]
        over = total > BURST_ELEMENTS
        emits = total >= BURST_ELEMENTS or last
        if ready or not emits:
            if emits:
                _burst(v, f, cycle)
            ends = last and not over
            v.back_filled = 0 if ends else total - BURST_ELEMENTS if total >= BURST_ELEMENTS else total
            v.back_flushing = 1 if last and over else 0
            v.back[0, 0], v.back[0, 1] = v.back[1, 0], v.back[1, 1]
            v.back_n -= 1


@compiled
def _burst(v: Record, f: Record, cycle: int) -> None:
    at = f.out_made % RING
    f.out_address[at], f.out_cycle[at] = v.output_burst, cycle + 1
    f.out_made += 1
    f.owed_back += 1
    f.idle = 0
    v.output_burst += 1
    v.back_rows += 1


@compiled
def _output(v: Record, d: Array, cycle: int, jobs0: int, back0: int) -> None:
    """The oldest row of outputs to write-back, 16 elements a cycle, and to head importance, a part a cycle."""
    if v.outputs_n == 0 or jobs0 == 0:
        return
    ends = v.output_row == v.layer_rows - 1
    if not v.served_memory and back0 < SKID:
        left = v.head_dim - v.output_beat * BURST_ELEMENTS
        more = left > BURST_ELEMENTS
        v.back[v.back_n, 0], v.back[v.back_n, 1] = min(left, BURST_ELEMENTS), 1 if ends and not more else 0
        v.back_n += 1
        v.output_beat = v.output_beat + 1 if more else 0
        if not more:
            v.served_memory = 1
            d[v.d_outputs + v.output_row] = cycle
    if not v.served_heads:
        v.output_part += 1
        if v.output_part == v.parts:
            v.served_heads, v.output_part, v.heads_ended = 1, 0, cycle
    if v.served_memory and v.served_heads:
        v.served_memory = v.served_heads = 0
        v.outputs_n -= 1
        v.output_row += 1
        if v.output_row % v.head_rows == 0:
            v.output_jobs_n -= 1
        if ends:
            v.ended = cycle
            v.event |= DONE


@compiled
def _weigh(
    v: Record,
    f: Record,
    d: Array,
    cycle: int,
    pending: tuple[int, int, bool],
    before: tuple[int, int, int],
    completes: bool,
) -> None:
    """Rows out of the lanes' FIFOs through prob x V.

    `before`: when the cycle began, rows of outputs, rows in the FIFOs, permits; `completes`: the last beat of a row
    comes in this cycle.
    """
    outputs0, rows_in0, permits0 = before
    end = v.weigh_cycles - 1
    out = v.weighing >> end & 1
    advance = outputs0 < OUTPUT_ROWS or not out
    if out and advance:
        v.outputs_n += 1
    if advance:
        v.weighing = (v.weighing << 1 & ((2 << end) - 1)) | (v.weigh_there & v.weigh_last)
    goes = advance or not v.weigh_there
    ends = v.counted and v.left == 1
    is_read = 1 if v.running and v.may and (v.counted or v.flow) else 0
    moves = is_read and goes
    free = not v.running or (moves and ends)
    early = v.running and v.generation and v.run_release and v.all_there and v.index > 0
    early = early and (v.counted or 2 * v.index >= v.segments << v.segment_shift)
    releases = v.run_release and not early and not v.told
    v.row_started = 1 if v.running and not v.arrived and (v.all_there or (moves and ends)) else 0
    v.release = 1 if (early and not v.told) or (goes and v.read_there and v.read_last and v.read_release) else 0
    if goes:
        v.weigh_there, v.weigh_last = v.read_there, v.read_last
        v.read_there, v.read_last, v.read_release = is_read, 1 if ends else 0, 1 if releases else 0
        v.read_unread = 1 if v.running and (v.told or early) else 0
        f.unread_buffer, f.unread_row = v.run_buffer, v.index
    v.told |= 1 if early else 0
    v.arrived |= v.row_started
    if moves:
        v.product_cycles += 1
        v.left -= 1
        v.index += 1
        for lane in range(v.slots):
            if v.remaining[lane] > 0:
                v.remaining[lane] -= 1
                v.level[lane] -= 1
    elif v.running and goes:
        v.waited_cycles += 1
    f.unread = 1 if v.read_unread or (v.told and not free) else 0
    under_way = pending[1] if v.run_buffer else pending[0]
    segment = v.index >> v.segment_shift & v.segments - 1
    v.may = 1 if v.all_there or not under_way >> segment & 1 else 0
    v.all_there |= 1 if under_way == 0 else 0
    v.flow = 1 if v.left >= 2 else 0
    for lane in range(v.beat_keys):
        if v.remaining[lane] == 0:
            v.flow = 0
    if not free:
        return
    v.running = 0
    begun = v.most > 0 and not completes
    if permits0 == 0 or not (rows_in0 > 0 or begun):
        return
    under_way = pending[1] if v.permits[0, 0] else pending[0]
    # in generation a row starts with the first segment
    if (under_way & 1 if v.generation else under_way) or (v.permits[0, 2] and pending[2]):
        v.waited_cycles += 1
        return
    v.running = v.may = 1
    v.all_there = v.flow = v.told = v.arrived = v.index = 0
    v.run_buffer, v.run_release = v.permits[0, 0], v.permits[0, 1]
    d[v.d_started + v.started_n] = cycle
    v.started_n += 1
    v.counted = 1 if rows_in0 > 0 else 0
    if v.counted:
        v.left = v.rows_in[0, 0]
        for lane in range(v.slots):
            v.remaining[lane] = v.rows_in[0, 1 + lane]
        for k in range(rows_in0 - 1):
            for m in range(1 + v.slots):
                v.rows_in[k, m] = v.rows_in[k + 1, m]
        v.rows_in_n -= 1
    else:
        v.left = v.most
        for lane in range(v.slots):
            v.remaining[lane] = v.count[lane]
    for k in range(permits0 - 1):
        for m in range(3):
            v.permits[k, m] = v.permits[k + 1, m]
    v.permits_n -= 1


@compiled
def _has_room(v: Record) -> bool:
    full = 0
    for lane in range(v.slots):
        full += v.level[lane] == v.lane_entries
    return full == 0


@compiled
def _to_lanes(v: Record, d: Array, last: bool) -> None:
    """A beat into the lanes' FIFOs; the last one of a row counts its entries, if it has not started before."""
    lanes, n = lanes_of(v, d, v.dispatch_skid[0, 0]), v.rows_in_n
    v.dispatch_skid[0, 0] = v.dispatch_skid[1, 0]
    v.dispatch_skid_n -= 1
    follows = v.running and not v.counted
    before = v.most
    for lane in range(v.slots):
        if lanes >> lane & 1:
            v.level[lane] += 1
            v.count[lane] += 1
            v.most = max(v.most, v.count[lane])
            if follows:
                v.remaining[lane] += 1
    if follows:
        v.left += v.most - before
    if not last:
        return
    if follows:
        v.counted = 1
    else:
        v.rows_in[n, 0] = v.most
        for lane in range(v.slots):
            v.rows_in[n, 1 + lane] = v.count[lane]
        v.rows_in_n += 1
    for lane in range(v.slots):
        v.count[lane] = 0
    v.most = 0
    v.rows_inside -= 1
