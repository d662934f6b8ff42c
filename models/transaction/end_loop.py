"""A cycle of the end of a layer, compiled: scores swept, and what is written, up to the requests to the memory.

    sweep -> token importance -> S_t rows ----.
    S_h, a word a cycle, when outputs are over +-> packers -> in turn -> FIFO -> memory port
    next survivors, rows of ids --------------'
    answer, when all that has been taken

As `hls.datapaths.selection`, `selection_tokens`, `selection_heads` and `control_write`; conventions as in
`models.transaction.fetch_loop`. The way of the survivors is `models.transaction.list_loop`, when engine A gives them
`models.transaction.ending`: it is asked when the last row of scores is in.
"""

from hls.datapaths.control_write import ANSWER_ROWS, BURSTS, ROWS
from hls.datapaths.selection_heads import QUEUED
from hls.datapaths.selection_tokens import RESULTS
from models.memory.compilation import Record, compiled
from models.transaction.fetch_state import RING, SCORES_READ, SWEPT
from models.transaction.list_loop import list_cycle

TOKENS, LIST, HEADS, ANSWER = range(4)
"""Streams of rows to write, in the order of their turns."""
FAR = 1 << 60
"""A cycle that never comes."""


@compiled
def end_cycle(f: Record, cycle: int, out0: int) -> None:
    """The cycle; `out0`: bursts that waited for the memory port when it began."""
    tokens0, list0, heads0 = f.rows_queued[TOKENS], f.rows_queued[LIST], f.rows_queued[HEADS]
    results0, words0, answer0 = f.sweep_results, f.head_words, f.rows_queued[ANSWER]
    _write_rows(f, cycle, out0)
    if f.answer_at <= cycle and answer0 < ANSWER_ROWS:
        f.rows_queued[ANSWER] += 1
        f.answer_at = FAR
    list_cycle(f, cycle, list0)
    _heads(f, cycle, heads0, words0)
    _tokens(f, cycle, tokens0, results0)
    over = f.list_end < FAR and f.heads_end <= cycle and f.tokens_end < FAR and f.words_end < FAR
    if over and not f.ending_over:
        f.ending_over, f.answer_at = 1, max(f.list_end, f.heads_end, f.tokens_end, f.words_end) + f.answer_cycles
    waits = f.rows_queued[TOKENS] + f.rows_queued[LIST] + f.rows_queued[HEADS] + f.rows_queued[ANSWER]
    if f.ending_over and f.answer_at == FAR and waits == 0:
        f.ending = 0


@compiled
def _tokens(f: Record, cycle: int, tokens0: int, results0: int) -> None:
    """The sweep, and rows of scores out of it."""
    if results0 > 0:
        if not f.item_served:
            f.item_served = 1
            f.items_taken += 1
            if f.items_taken == f.rows_total[TOKENS]:
                f.items_end = cycle
                f.event |= SWEPT
        if tokens0 < ROWS:
            f.item_served = 0
            f.sweep_results -= 1
            f.rows_queued[TOKENS] += 1
            f.rows_taken[TOKENS] += 1
            if f.rows_taken[TOKENS] == f.rows_total[TOKENS]:
                f.tokens_end = cycle
    last = 1 << f.sweep_cycles - 1
    out = f.sweep_pipe & last
    if not out or results0 < RESULTS:
        f.sweep_results += 1 if out else 0
        f.sweep_pipe = (f.sweep_pipe & ~last) << 1 | f.sweep_asks
        f.sweep_asks = 0
    if f.swept < f.rows_total[TOKENS] and cycle >= f.sweep_from and not f.sweep_asks:
        f.sweep_asks = 1
        f.swept += 1


@compiled
def _heads(f: Record, cycle: int, heads0: int, words0: int) -> None:
    """S_h read out, a head a cycle, and taken."""
    if words0 > 0:
        takes_item = f.word_served or not f.selects_heads or not f.selects_tokens or f.items_end < cycle
        takes_word = f.word_written or heads0 < ROWS
        if takes_word and not f.word_written:
            f.rows_queued[HEADS] += 1
            f.rows_taken[HEADS] += 1
            if f.rows_taken[HEADS] == f.rows_total[HEADS]:
                f.words_end = cycle
        if takes_item and not f.word_served:
            f.head_items += 1
            if f.head_items == f.rows_total[HEADS]:
                f.heads_in = cycle
                f.event |= SCORES_READ
        f.word_written, f.word_served = 1 if takes_word else 0, 1 if takes_item else 0
        if takes_word and takes_item:
            f.word_written = f.word_served = 0
            f.head_words -= 1
    f.head_words += f.head_read
    f.head_read = 0
    if cycle >= f.heads_from and f.heads_read < f.rows_total[HEADS] and words0 <= QUEUED - 2:
        f.head_read = 1
        f.heads_read += 1


@compiled
def _write_rows(f: Record, cycle: int, out0: int) -> None:
    """Rows to bursts, one of all streams a cycle."""
    winner, room = -1, out0 < BURSTS
    for k in range(4):
        s = (f.write_turn + k) & 3
        if winner < 0 and f.rows_queued[s] > 0 and _emits(f, s):
            winner = s
    for s in range(4):
        if f.rows_queued[s] > 0 and not _emits(f, s):
            f.row_part[s] += 1
            f.rows_queued[s] -= 1
            f.rows_written[s] += 1
    if winner < 0:
        return
    f.write_turn = winner
    if not room:
        return
    f.write_turn = (winner + 1) & 3
    at = f.end_made % RING
    f.end_address[at], f.end_cycle[at] = f.write_burst[winner], cycle + 1
    f.end_made += 1
    f.write_burst[winner] += 1
    f.row_part[winner] += 1
    # a row of several bursts leaves with the last one; one burst of several rows ends with this row
    if f.row_part[winner] >= f.row_bursts[winner]:
        f.row_part[winner] = 0
        f.rows_queued[winner] -= 1
        f.rows_written[winner] += 1


@compiled
def _emits(f: Record, s: int) -> bool:
    """Whether the oldest row of a stream makes a burst, or only fills one up."""
    fills = f.row_part[s] + 1 < f.burst_rows[s] and f.rows_written[s] + 1 < f.rows_total[s]
    return not fills
