"""A cycle of the results on their way to the lanes of prob x V, compiled.

    engines in turn -> results -> list of ids, record of the row, groups -> beats -> lanes
    rows that keep all ------------------------------------------------> beats -> lanes, LSBs that are missing

As `hls.datapaths.kept_beats` and `hls.datapaths.value_sparse`; conventions as in `models.transaction.value_rows`.
"""

from models.memory.compilation import Array, Record, compiled
from models.transaction.value_state import BEAT, NOTHING, SKID

NUMBER = (1 << BEAT) - 1
LISTS = 2
"""Halves of the kept list."""


@compiled
def is_last(v: Record, d: Array, beat: int) -> bool:
    """Whether a beat is the last of its row for the lanes."""
    row = beat >> BEAT
    beats = d[v.d_beats + row] if v.keeps_all else d[v.d_lanes_at + row + 1] - d[v.d_lanes_at + row]
    found: bool = (beat & NUMBER) == beats - 1
    return found


@compiled
def lanes_of(v: Record, d: Array, beat: int) -> int:
    """The lanes of a beat, a bit each."""
    row, number = beat >> BEAT, beat & NUMBER
    if not v.keeps_all:
        found: int = d[v.d_lanes + d[v.d_lanes_at + row] + number]
        return found
    share = v.beat_keys
    all_of_them: int = (1 << min(share, d[v.d_visible + row] - number * share)) - 1
    return all_of_them


@compiled
def _place_of(v: Record, d: Array, beat: int) -> int:
    """The row of the Value SRAM of a beat."""
    if v.keeps_all:
        return beat & NUMBER
    found: int = d[v.d_places + d[v.d_lanes_at + (beat >> BEAT)] + (beat & NUMBER)]
    return found


@compiled
def fork_beats(v: Record, d: Array, cycle: int, beats0: int, dispatch0: int) -> None:
    """Beats to the lanes, and those of flat rows in summarization to the list of missing LSBs."""
    if beats0 == 0:
        return
    beat = v.beats_skid[0, 0]
    if not v.served_lanes and dispatch0 < SKID:
        v.dispatch_skid[v.dispatch_skid_n, 0] = beat
        v.dispatch_skid_n += 1
        v.served_lanes = 1
    if not v.served_sparse:
        flat = d[v.d_flat + (beat >> BEAT)] and not v.generation
        if flat and v.working and not v.clearing:
            _ask_missing(v, d, beat, cycle)
            v.served_sparse = 1
        elif not flat:
            v.served_sparse = 1
    if v.served_lanes and v.served_sparse:
        v.served_lanes = v.served_sparse = 0
        v.beats_skid[0, 0] = v.beats_skid[1, 0]
        v.beats_skid_n -= 1


@compiled
def _ask_missing(v: Record, d: Array, beat: int, cycle: int) -> None:
    """LSBs of a beat that nobody has asked for."""
    lanes, place = lanes_of(v, d, beat), _place_of(v, d, beat)
    missing = lanes & ~v.asked[place]
    v.asked[place] |= lanes
    before = v.missing_n
    for lane in range(v.beat_keys):
        if missing >> lane & 1:
            v.missing[v.missing_n] = place * v.beat_keys + lane
            v.missing_n += 1
    if is_last(v, d, beat):
        # the row packer needs a cycle more for a rest that does not fit into the last row
        over = 1 if before % v.top_k_lanes + v.missing_n - before > v.top_k_lanes else 0
        # registers before the ids, behind the packer, and of the total
        v.counted_at = cycle + 1 + v.missing_cycles + over + 2
        v.working = 0


@compiled
def clear_asked(v: Record, goes: bool, clears: bool) -> None:
    """A row begins in `value_sparse`, or what was asked for is forgotten row by row."""
    if goes:
        v.clearing, v.working = 1 if clears else 0, 1
        v.missing_n = v.counted_at = v.cleared_row = 0
        if clears:
            v.asked[:] = 0
    elif v.clearing:
        final = (v.keys - 1) // v.beat_keys
        v.clearing = 0 if v.cleared_row == final else 1
        v.cleared_row += 1


@compiled
def fork_whole(v: Record, d: Array, whole0: int, rows0: int, beats0: int) -> None:
    """Beats of rows that keep all; the first one is the row's record."""
    if whole0 == 0:
        return
    beat = v.whole_skid[0, 0]
    if not v.whole_served_row:
        first = (beat & NUMBER) == 0
        if first and rows0 < SKID:
            v.rows[v.rows_n] = beat >> BEAT
            v.rows_n += 1
            v.whole_served_row = 1
        elif not first:
            v.whole_served_row = 1
    if not v.whole_served_beat and beats0 < SKID:
        v.beats_skid[v.beats_skid_n, 0] = beat
        v.beats_skid_n += 1
        v.whole_served_beat = 1
    if v.whole_served_row and v.whole_served_beat:
        v.whole_served_row = v.whole_served_beat = 0
        v.whole_skid[0, 0] = v.whole_skid[1, 0]
        v.whole_skid_n -= 1


@compiled
def fork_results(v: Record, d: Array, results0: int, rows0: int, lists0: int, beats0: int) -> None:
    """Rows of results to lists, records and beats."""
    # gathered beats
    depth, out = v.gather.shape[0], v.gather[v.gather.shape[0] - 1]
    gathering = out == NOTHING or beats0 < SKID
    if out != NOTHING and gathering:
        v.beats_skid[v.beats_skid_n, 0] = out
        v.beats_skid_n += 1
    if gathering:
        for k in range(depth - 1, 0, -1):
            v.gather[k] = v.gather[k - 1]
        v.gather[0] = NOTHING
        if v.occupied:
            v.gather[0] = v.held_row << BEAT | v.gathered_number
            v.gathered_number += 1
    # the row of a result that is gathered
    group_depth, grouped = v.group.shape[0], v.group[v.group.shape[0] - 1]
    takes = not v.occupied or (gathering and v.chosen == v.held_groups - 1)
    if takes:
        v.occupied, v.chosen = 0, 0
        if grouped != NOTHING:
            row, number = grouped >> BEAT, grouped & NUMBER
            v.occupied, v.held_row = 1, row
            v.held_groups = d[v.d_grouped + d[v.d_grouped_at + row] + number]
            if number == 0:
                v.gathered_number = 0
    elif gathering:
        v.chosen += 1
    grouping = takes or grouped == NOTHING
    if grouping:
        for k in range(group_depth - 1, 0, -1):
            v.group[k] = v.group[k - 1]
        v.group[0] = NOTHING
    if results0 == 0:
        return
    result, last = v.result_skid[0, 0], v.result_skid[0, 1]
    generation = v.generation
    if not v.served_list and (not generation or lists0 < LISTS):
        if generation and last:
            v.lists_held += 1
            v.lists_written += 1
        v.served_list = 1
    if not v.served_row:
        known = last if generation else v.first_result
        if not known or rows0 < SKID:
            if known:
                v.rows[v.rows_n] = result >> BEAT
                v.rows_n += 1
            v.first_result = last
            v.served_row = 1
    if not v.served_group and grouping:
        v.group[0] = result
        v.served_group = 1
    if v.served_list and v.served_row and v.served_group:
        v.served_list = v.served_row = v.served_group = 0
        v.result_skid[0, 0], v.result_skid[0, 1] = v.result_skid[1, 0], v.result_skid[1, 1]
        v.result_skid_n -= 1


@compiled
def take_result(v: Record, skid0: int, flats0: int, ready: int) -> None:
    """A row of a result out of the engine whose turn it is, which has `ready` of them."""
    if skid0 == SKID or flats0 == 0 or ready == 0:
        return
    e, n = v.result_turn, v.result_skid_n
    last = v.results[e, 0, 1]
    v.result_skid[n, 0], v.result_skid[n, 1] = v.results[e, 0, 0], last
    v.result_skid_n += 1
    v.results[e, 0, 0], v.results[e, 0, 1] = v.results[e, 1, 0], v.results[e, 1, 1]
    v.results_n[e] -= 1
    if last:
        v.result_turn = 1 - e
        v.flats_n -= 1
        v.kept_rows += 1
