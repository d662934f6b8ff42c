"""A cycle between lanes and memory: both crossbars and the memory port (`hls.datapaths.crossbar`, `memory_port`).

lanes -> address crossbar -> port of a channel -+
control reads, write-back, control writes ------+-> memory -> answers -> data crossbar -> lanes

A channel has a FIFO of answers for each part of the data crossbar; those of a part stand side by side.
"""

from models.memory.compilation import Record, compiled
from models.transaction.fetch_state import ASK, COLLECT, NOTHING, READ, RING, WRITTEN

READ_TAG = 1 << 24
"""From here on tags are of control reads."""
TOOK_READ, TOOK_END, TOOK_OUT = 1, 2, 4
"""What a channel took of the sources that all channels share (bits); only one channel can, as it is of one address."""


@compiled
def grant(f: Record) -> None:
    """The address crossbar: at most one queue for each channel, in turn."""
    queues, channels, places = f.head.shape[0], f.credit.shape[0], f.filled.shape[1]
    if f.asking == 0 and f.granting == 0:
        return
    for c in range(channels):
        f.chosen[c] = NOTHING
    for q in range(queues):
        f.granted[q] = 0
    f.granting = 0
    if f.asking == 0:
        return
    for q in range(queues):
        if f.ask_skid_n[q] > 0 and f.taken[q] != places:
            c = f.ask_skid[q, 0, 0] & (channels - 1)
            if f.credit[c] > 0:
                w = f.chosen[c]
                first = f.xbar_first[c]
                if w == NOTHING or (w < first and q >= first):
                    f.chosen[c] = q
    for c in range(channels):
        q = f.chosen[c]
        if q != NOTHING:
            f.granted[q] = 1
            f.awake[q] |= ASK
            f.granting = 1


@compiled
def move_channel(f: Record, c: int, accepted: bool) -> int:
    """Requests of a channel from the crossbar to the memory; which of the shared sources it took (bits)."""
    memory_popped, shared = 0, 0
    if accepted:
        memory_popped = 1
        f.memory_n[c] -= 1
        for k in range(4):
            f.memory[c, 0, k] = f.memory[c, 1, k]
    channels = f.credit.shape[0]
    port_popped = back_popped = 0
    end = f.end_sent % RING
    ends_here = f.end_sent < f.end_made and f.end_cycle[end] <= f.now and f.end_address[end] & (channels - 1) == c
    winner = NOTHING
    for k in range(4):
        s = (f.turn[c] + k) & 3
        if s == 0 and f.port_n[c] > 0:
            winner = 0
        elif s == 1 and f.reads_skid_n > 0:
            if f.read_address[(f.reads_sent - f.reads_skid_n) % RING] & (channels - 1) == c:
                winner = 1
        elif s == 2 and f.back_n[c] > 0 and f.back_owed[c] < 63:
            winner = 2
        elif s == 3 and ends_here and f.control_owed[c] < 63:
            winner = 3
        if winner != NOTHING:
            break
    if winner != NOTHING:
        if f.memory_n[c] + memory_popped < 2:
            n = f.memory_n[c]
            f.memory[c, n, 2] = 0
            if winner == 0:
                f.memory[c, n, 0], f.memory[c, n, 1], f.memory[c, n, 3] = (
                    f.port[c, 0, 0],
                    f.port[c, 0, 1],
                    f.port[c, 0, 2],
                )
                f.port_n[c] -= 1
                for k in range(3):
                    f.port[c, 0, k] = f.port[c, 1, k]
                port_popped = 1
            elif winner == 1:
                i = f.reads_sent - f.reads_skid_n
                f.memory[c, n, 0] = f.read_address[i % RING]
                f.memory[c, n, 1] = READ_TAG + i % RING
                f.memory[c, n, 3] = 5
                shared |= TOOK_READ
            elif winner == 2:
                f.memory[c, n, 0], f.memory[c, n, 1], f.memory[c, n, 2], f.memory[c, n, 3] = f.back[c, 0], 0, 1, 6
                f.back[c, 0] = f.back[c, 1]
                f.back_n[c] -= 1
                f.back_owed[c] += 1
                back_popped = 1
            else:
                f.memory[c, n, 0], f.memory[c, n, 1], f.memory[c, n, 2] = f.end_address[end], 0, 1
                f.memory[c, n, 3] = 7
                f.control_owed[c] += 1
                shared |= TOOK_END
            f.bursts[f.memory[c, n, 3]] += 1
            f.memory_n[c] += 1
            f.turn[c] = (winner + 1) & 3
        else:
            f.turn[c] = winner
    if f.out_sent < f.out_made and f.out_cycle[f.out_sent % RING] <= f.now:
        a = f.out_address[f.out_sent % RING]
        if a & (channels - 1) == c and f.back_n[c] + back_popped < 2:
            f.back[c, f.back_n[c]] = a
            f.back_n[c] += 1
            shared |= TOOK_OUT
    # out of the crossbar into the port
    leaves = 0
    if f.out_n[c] > 0 and f.room[c] > 0 and f.port_n[c] + port_popped < 2:
        n = f.port_n[c]
        for k in range(3):
            f.port[c, n, k] = f.out[c, 0, k]
        f.port_n[c] += 1
        f.out_n[c] -= 1
        for m in range(f.out.shape[1] - 1):
            for k in range(3):
                f.out[c, m, k] = f.out[c, m + 1, k]
        f.room[c] -= 1
        leaves = 1
    if f.route[c] != NOTHING:
        n = f.out_n[c]
        for k in range(3):
            f.out[c, n, k] = f.route_item[c, k]
        f.out_n[c] += 1
        f.route[c] = NOTHING
    q = f.chosen[c]
    f.credit[c] += leaves
    if q != NOTHING:
        f.route[c] = q
        f.route_item[c, 0], f.route_item[c, 2] = f.ask_skid[q, 0, 0], f.ask_skid[q, 0, 1]
        f.route_item[c, 1] = q * f.filled.shape[1] + f.tail[q]
        f.tail[q] = (f.tail[q] + 1) % f.filled.shape[1]
        f.credit[c] -= 1
        f.xbar_first[c] = q + 1
    return shared


@compiled
def take_answers(f: Record) -> None:
    """The data crossbar and the answers' FIFOs."""
    channels, places, depth = f.credit.shape[0], f.filled.shape[1], f.answers.shape[1]
    heads = f.answers_n.shape[0] if f.answers_inside else 0
    for k in range(f.data_leaving_n):
        q = f.data_leaving[k]
        f.filled[q, f.data_place[q]] = 1
        f.awake[q] |= COLLECT
    f.data_leaving_n = f.data_granted_n
    for k in range(f.data_granted_n):
        q = f.data_granted[k]
        f.data_leaving[k] = q
        f.data_place[q] = f.data_grant[q]
        f.data_grant[q] = NOTHING
    # the winner of a queue: the first channel at or behind its place
    n = 0
    for c in range(heads):
        if f.answer_skid_n[c] > 0:
            q = f.answer_skid[c, 0] // places
            w = f.data_grant[q]
            if w == NOTHING:
                f.data_granted[n] = q
                n += 1
                f.data_grant[q] = c
            elif w < f.data_first[q] and c >= f.data_first[q]:
                f.data_grant[q] = c
    f.data_granted_n = n
    for k in range(n):
        q = f.data_granted[k]
        c = f.data_grant[q]
        f.data_first[q] = c + 1
        f.data_grant[q] = f.answer_skid[c, 0] % places
        f.answer_skid[c, 0] = -2 - f.answer_skid[c, 1]
    for c in range(heads):
        popped = 0
        if f.answer_skid_n[c] > 0 and f.answer_skid[c, 0] < 0:
            f.answer_skid[c, 0] = -2 - f.answer_skid[c, 0]
            f.answer_skid_n[c] -= 1
            f.answers_inside -= 1
            f.room[c & (channels - 1)] += 1
            popped = 1
        if f.answers_n[c] > 0 and f.answer_skid_n[c] + popped < 2:
            f.answer_skid[c, f.answer_skid_n[c]] = f.answers[c, f.answers_h[c]]
            f.answer_skid_n[c] += 1
            f.answers_h[c] = (f.answers_h[c] + 1) % depth
            f.answers_n[c] -= 1


@compiled
def take_answer(f: Record, c: int, read_tag: int, write_tag: int) -> None:
    """An answer of the memory, of a read and of a write; negative where there is none."""
    depth = f.answers.shape[1]
    if read_tag >= READ_TAG:
        f.read_cycle[read_tag - READ_TAG] = f.now
        f.reads_done += 1
        if f.reads_done == f.reads_made:
            f.event |= READ
    elif read_tag >= 0:
        channels, queues = f.credit.shape[0], f.head.shape[0]
        parts = f.answers_n.shape[0] // channels
        i = read_tag // f.filled.shape[1] * parts // queues * channels + c
        f.answers[i, (f.answers_h[i] + f.answers_n[i]) % depth] = read_tag
        f.answers_n[i] += 1
        f.answers_inside += 1
    if write_tag >= 0:
        if f.back_owed[c] > 0:
            f.back_owed[c] -= 1
            f.owed_back -= 1
        else:
            f.control_owed[c] -= 1
            f.owed_control -= 1
        if f.owed_back == 0 and f.owed_control == 0:
            f.event |= WRITTEN
