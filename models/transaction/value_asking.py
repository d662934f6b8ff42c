"""A cycle of `hls.datapaths.value_lists`, compiled: which values are fetched, when, and when a row may start.

`prefetch` takes jobs and asks for the values of all survivors; `decided`, where a row keeps them all, for their LSBs
when it turns out flat; `rows` takes what is known of each row, asks for what it needs besides, and gives it to the
dispatch. They share one register for a request, which the fetch side then accepts.
"""

from hls.datapaths.output_stage import JOBS as OUTPUT_JOBS
from hls.datapaths.value_dispatch import ROWS_UNDER_WAY
from hls.datapaths.value_lists import BUFFERS
from models.memory.compilation import Array, Record, compiled
from models.transaction.fetch_loop import add_list
from models.transaction.fetch_state import PURPOSES, TO_SPARSE, TO_VALUE, VALUE
from models.transaction.value_beats import clear_asked
from models.transaction.value_state import JOB, JOB_FIELDS

OF_ROWS, OF_DECIDED, OF_PREFETCH = range(3)
"""Whose request it is; the less, the more urgent."""
V_MSB, V_LSB = PURPOSES.index("v_msb"), PURPOSES.index("v_lsb")


@compiled
def _ask_survivors(v: Record, f: Record, d: Array, job: int, low: int, buffer: int) -> None:
    parts = v.parts
    count = v.keys * parts
    base, bits = d[v.d_jobs + job * JOB_FIELDS + 2 + low], d[v.d_bits + low]
    purpose = V_LSB if low else V_MSB
    add_list(f, VALUE, f.now, d[v.d_ids : v.d_ids + v.keys], parts, 0, count, base, bits, TO_VALUE, buffer, 0, purpose)
    if low:
        v.asked_lsb += count
    else:
        v.asked_msb += count


@compiled
def _ask_kept(v: Record, f: Record, d: Array, row: int, low: int, buffer: int) -> None:
    parts = v.parts
    slots = d[v.d_slots + d[v.d_slots_at + row] : v.d_slots + d[v.d_slots_at + row + 1]]
    ids = d[v.d_ids + slots]
    count = len(ids) * parts
    base, bits = d[v.d_jobs + v.job_of_rows * JOB_FIELDS + 2 + low], d[v.d_bits + low]
    purpose = V_LSB if low else V_MSB
    add_list(f, VALUE, f.now, ids, parts, 0, count, base, bits, TO_VALUE, buffer, 0, purpose)
    if low:
        v.asked_lsb += count
    else:
        v.asked_msb += count


@compiled
def _ask_missing(v: Record, f: Record, d: Array) -> None:
    parts = v.parts
    ids = d[v.d_ids + v.missing[: v.missing_n]]
    count = len(ids) * parts
    base = d[v.d_jobs + v.job_of_rows * JOB_FIELDS + 3]
    add_list(f, VALUE, f.now, ids, parts, 0, count, base, d[v.d_bits + 1], TO_SPARSE, 0, 0, V_LSB)
    v.asked_lsb += count


@compiled
def _decide(
    v: Record, f: Record, d: Array, cycle: int, jobs0: int, held0: int, pending: bool, is_free: bool
) -> tuple[bool, bool]:
    """Jobs to `rows` when their one row is decided; whether it wants to ask, and whether anything has moved."""
    row = v.decision_next
    if jobs0 == 0 or row == v.decisions or d[v.d_decided + row] + v.values_decided > cycle:
        return False, False
    flat = d[v.d_flat + row] != 0
    wants = flat and not v.decided_asked
    passes = (not flat or (v.decided_asked and not pending)) and held0 < BUFFERS
    if wants and is_free:
        v.request_there, v.request_owner, v.decided_asked = 1, OF_DECIDED, 1
        _ask_survivors(v, f, d, v.jobs[0, 0], 1, v.jobs[0, 1])
    if passes:
        v.decided_asked = 0
        v.decision_next += 1
        n = v.held_jobs_n
        v.held_jobs[n, 0], v.held_jobs[n, 1] = v.jobs[0, 0], v.jobs[0, 1]
        v.held_jobs_n += 1
        for k in range(v.jobs.shape[0] - 1):
            v.jobs[k, 0], v.jobs[k, 1] = v.jobs[k + 1, 0], v.jobs[k + 1, 1]
        v.jobs_n -= 1
    return wants, passes or (wants and is_free)


@compiled
def ask(
    v: Record,
    f: Record,
    d: Array,
    cycle: int,
    accepted: bool,
    sparse_pending: bool,
    before: tuple[int, int, int, int, int],
) -> bool:
    """All parts; whether anything has moved.

    `before`: when the cycle began, records of rows, jobs of the output stage, permits, a buffer was released, a row of
    pruned values was started.
    """
    rows0, output_jobs0, permits0, released, started = before
    generation, keeps_all = v.generation, v.keeps_all
    pruned = generation and not keeps_all
    jobs0, held0, there0, owner0 = v.jobs_n, v.held_jobs_n, v.request_there, v.request_owner
    jobs = v.held_jobs if v.asks_decided else v.jobs
    following0, is_free = v.following, v.used != BUFFERS
    written0 = v.lists_written
    if accepted:
        v.request_there = 0
    # rows
    wants_main = wants_extra = goes = permits = loads = main_loads = False
    clears = not v.cleared
    row = v.event_row
    if rows0 > 0 and (held0 if v.asks_decided else jobs0) > 0:
        flat = d[v.d_flat + row] != 0
        sparse = flat and not generation
        buffer = v.own_buffer if pruned else jobs[0, 1]
        wants_main = pruned and not v.main_done and written0 > 0 and is_free
        counted = sparse and v.went and v.counted_at != 0 and cycle >= v.counted_at
        goes = sparse and not v.went and not sparse_pending
        may_ask = v.main_done != 0 if generation else (counted and v.missing_n > 0)
        wants_extra = flat and not v.extra_done and may_ask
        pending = there0 and owner0 == OF_ROWS
        extra = v.extra_done or not flat or v.asks_decided
        permits = (v.main_done or not pruned) and extra and not pending and permits0 < ROWS_UNDER_WAY
        v.job_of_rows = jobs[0, 0]
        loads = (wants_main or wants_extra) and not there0
        main_loads = loads and wants_main
        if loads:
            v.request_there, v.request_owner = 1, OF_ROWS
            if wants_main:
                _ask_kept(v, f, d, row, 0, following0)
            elif sparse:
                _ask_missing(v, f, d)
            else:
                _ask_kept(v, f, d, row, 1, buffer)
        extra_loads = loads and not wants_main
        if main_loads:
            v.main_done, v.own_buffer = 1, following0
        if extra_loads or (counted and v.missing_n == 0):
            v.extra_done = 1
        if goes:
            v.went = 1
            v.cleared = 1
        if permits:
            ends_job = v.row == v.head_rows - 1
            ends_kv = ends_job and d[v.d_jobs + v.job_of_rows * JOB_FIELDS + 1] != 0
            n = v.permits_n
            v.permits[n, 0], v.permits[n, 1] = buffer, 1 if ends_job and (generation or ends_kv) else 0
            v.permits[n, 2] = 1 if sparse else 0
            v.permits_n += 1
            v.main_done = v.extra_done = v.went = 0
            v.row = 0 if ends_job else v.row + 1
            v.event_row += 1
            v.rows[0] = v.rows[1]
            v.rows_n -= 1
            if pruned:
                v.lists_written -= 1
            if ends_kv:
                v.cleared = 0
            if ends_job:
                for k in range(jobs.shape[0] - 1):
                    jobs[k, 0], jobs[k, 1] = jobs[k + 1, 0], jobs[k + 1, 1]
                if v.asks_decided:
                    v.held_jobs_n -= 1
                else:
                    v.jobs_n -= 1
    clear_asked(v, goes, clears)
    if started and pruned:
        v.lists_held -= 1
    decided_wants = decided_moves = False
    if v.asks_decided:
        decided_wants, decided_moves = _decide(
            v, f, d, cycle, jobs0, held0, there0 and owner0 == OF_DECIDED, not (wants_main or wants_extra or there0)
        )
    # jobs
    prefetches = passes = False
    j, seen = v.job_next, v.job_seen
    v.job_seen = 0
    if j < v.jobs_given and d[v.d_given + j] <= cycle:
        needs = keeps_all if generation else d[v.d_jobs + j * JOB_FIELDS]
        granted = v.job_granted
        wants = seen and needs and is_free and not (there0 and owner0 == OF_PREFETCH) and not granted
        prefetches = wants and not (wants_main or wants_extra or decided_wants) and not there0
        if prefetches:
            v.request_there, v.request_owner = 1, OF_PREFETCH
            _ask_survivors(v, f, d, j, 0, following0)
        passes = (granted or not needs) and jobs0 < v.jobs.shape[0] and output_jobs0 < OUTPUT_JOBS
        v.job_granted = 0 if passes else 1 if granted or (accepted and owner0 == OF_PREFETCH) else 0
        if passes:
            v.jobs[v.jobs_n, 0], v.jobs[v.jobs_n, 1] = j, 1 - following0
            v.jobs_n += 1
            v.output_jobs_n += 1
            d[v.d_taken + j] = cycle
            v.job_next += 1
            v.event |= JOB
        else:
            v.job_seen = 1
    takes = prefetches or main_loads
    v.used += (1 if takes else 0) - (1 if released else 0)
    if takes:
        v.following = 1 - following0
    moved = accepted or loads or goes or permits or prefetches or passes or decided_moves
    return moved or v.job_seen != seen or v.clearing != 0
