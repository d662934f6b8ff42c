"""A cycle between lanes and memory: both crossbars and the memory port (`hls.datapaths.crossbar`, `memory_port`).

lanes -> address crossbar -> port of a channel -+
control reads, write-back, control writes ------+-> memory -> answers -> data crossbar -> lanes

A channel has a FIFO of answers for each part of the data crossbar; those of a part stand side by side.
"""

from models.memory.compilation import Record, compiled, inlined, lowest
from models.transaction.fetch_state import NOTHING, PURPOSE_BITS, READ, RING, WRITTEN

READ_TAG = 1 << 24
"""From here on tags are of control reads."""
TOOK_READ, TOOK_END, TOOK_OUT = 1, 2, 4
"""What a channel took of the sources that all channels share (bits); only one channel can, as it is of one address."""
PURPOSE_MASK = (1 << PURPOSE_BITS) - 1


@inlined
def grant(f: Record) -> tuple[int, int]:
    """The address crossbar: at most one queue for each channel, in turn; the lanes and the channels.

    The requests stand in the channels' rings, at `x_in`; they are routed when what was routed before has gone on.
    """
    turns, items = f.asked.shape[1] - 1, f.x_ring.shape[1] - 1
    queues, places, room = f.head.shape[0], f.filled.shape[1], ~f.taken_full
    granted, chosen, free = 0, 0, f.requests_any & f.credit_any
    while free:
        c = lowest(free)
        free &= free - 1
        asks = f.requests[c] & room
        if asks == 0:
            continue
        behind = asks & -1 << f.xbar_first[c]
        q = lowest(behind if behind else asks)
        bit = 1 << q
        granted |= bit
        chosen |= 1 << c
        f.requests[c] &= ~bit
        if f.requests[c] == 0:
            f.requests_any &= ~(1 << c)
        f.xbar_first[c] = q + 1 & queues - 1
        k = f.x_in[c] & items
        f.x_ring[c, k, 0], f.x_ring[c, k, 1] = f.asked[q, f.ask_head[q] & turns], q * places + f.tail[q]
        f.x_in[c] += 1
        f.tail[q] = f.tail[q] + 1 if f.tail[q] + 1 < places else 0
        f.credit[c] -= 1
        if f.credit[c] == 0:
            f.credit_any &= ~(1 << c)
    return granted, chosen


@inlined
def move_channels(f: Record, accepted: int, chosen: int) -> int:
    """Requests from the crossbar to the memory; which of the shared sources were taken (bits).

    Args:
        f: the state.
        accepted: channels whose memory took a request.
        chosen: channels that a request is routed to.
    """
    memory_full, port_full, took = f.memory_full, f.port_full, 0
    f.memory_full &= ~accepted
    while accepted:
        c = lowest(accepted)
        accepted &= accepted - 1
        f.memory_n[c] -= 1
        if f.memory_n[c]:
            for k in range(4):
                f.memory[c, 0, k] = f.memory[c, 1, k]
        else:
            f.memory_any &= ~(1 << c)
    contends = f.back_any
    if f.reads_skid_n > 0 or f.out_sent < f.out_made or f.end_sent < f.end_made:
        contends = -1 if f.credit.shape[0] == 64 else (1 << f.credit.shape[0]) - 1
    alone = f.port_any & ~contends
    moves, stands = alone & ~memory_full, alone & memory_full
    # the turn is the port's while it waits, and that of the reads behind it
    f.turn0 = f.turn0 & ~stands | moves
    f.turn1 &= ~(stands | moves)
    popped = moves
    while moves:
        c = lowest(moves)
        moves &= moves - 1
        _from_port(f, c)
    while contends:
        c = lowest(contends)
        contends &= contends - 1
        found = _arbitrate(f, c, memory_full >> c & 1 != 0)
        took |= found >> 1
        popped |= (found & 1) << c
    f.port_any = f.port_any & ~popped | port_full & popped
    f.port_full = port_full & ~popped
    # out of the crossbar into the port
    leaves = f.out_any & f.room_any & ~port_full
    f.port_full |= f.port_any & leaves
    f.port_any |= leaves
    f.credit_any |= leaves
    while leaves:
        c = lowest(leaves)
        leaves &= leaves - 1
        f.credit[c] += 1
        f.room[c] -= 1
        if f.room[c] == 0:
            f.room_any &= ~(1 << c)
        f.out_n[c] -= 1
        if f.out_n[c] == 0:
            f.out_any &= ~(1 << c)
    routed = f.route
    f.route = chosen
    f.out_any |= routed
    while routed:
        c = lowest(routed)
        routed &= routed - 1
        f.out_n[c] += 1
    return took


@inlined
def _from_port(f: Record, c: int) -> None:
    """The port's oldest request to the memory, which has room."""
    n, k = f.memory_n[c], f.x_out[c] & f.x_ring.shape[1] - 1
    request = f.x_ring[c, k, 0]
    purpose = request & PURPOSE_MASK
    f.memory[c, n, 0], f.memory[c, n, 1] = request >> PURPOSE_BITS, f.x_ring[c, k, 1]
    f.memory[c, n, 2], f.memory[c, n, 3] = 0, purpose
    f.x_out[c] += 1
    f.bursts[purpose] += 1
    _enters(f, c)


@inlined
def _enters(f: Record, c: int) -> None:
    f.memory_n[c] += 1
    f.memory_any |= 1 << c
    if f.memory_n[c] == 2:
        f.memory_full |= 1 << c


@compiled
def _arbitrate(f: Record, c: int, is_full: bool) -> int:
    """A channel's four sources in turn, and outputs into the channel's queue; bits: of the port, then what was taken.

    `is_full`: its memory had no room when the cycle began.
    """
    taken, channels, bit = 0, f.credit.shape[0], 1 << c
    end = f.end_sent % RING
    ends_here = f.end_sent < f.end_made and f.end_cycle[end] <= f.now and f.end_address[end] & (channels - 1) == c
    back_popped, winner, turn = 0, NOTHING, (f.turn0 >> c & 1) + 2 * (f.turn1 >> c & 1)
    for k in range(4):
        s = (turn + k) & 3
        if s == 0 and f.port_any & bit:
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
        turn = winner if is_full else (winner + 1) & 3
        f.turn0 = f.turn0 & ~bit | (bit if turn & 1 else 0)
        f.turn1 = f.turn1 & ~bit | (bit if turn & 2 else 0)
    if winner == 0 and not is_full:
        _from_port(f, c)
        taken = 1
    elif winner != NOTHING and not is_full:
        n = f.memory_n[c]
        f.memory[c, n, 2] = 0
        if winner == 1:
            i = f.reads_sent - f.reads_skid_n
            f.memory[c, n, 0] = f.read_address[i % RING]
            f.memory[c, n, 1] = READ_TAG + i % RING
            f.memory[c, n, 3] = 5
            taken = 2 * TOOK_READ
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
            taken = 2 * TOOK_END
        f.bursts[f.memory[c, n, 3]] += 1
        _enters(f, c)
    if f.out_sent < f.out_made and f.out_cycle[f.out_sent % RING] <= f.now:
        a = f.out_address[f.out_sent % RING]
        if a & (channels - 1) == c and f.back_n[c] + back_popped < 2:
            f.back[c, f.back_n[c]] = a
            f.back_n[c] += 1
            taken |= 2 * TOOK_OUT
    f.back_any = f.back_any & ~bit | (bit if f.back_n[c] else 0)
    return taken


@inlined
def take_answers(f: Record) -> None:
    """The data crossbar and the answers' FIFOs."""
    places, ring, channels = f.filled.shape[1], f.answers.shape[1] - 1, f.credit.shape[0]
    for k in range(f.data_leaving_n):
        q, place = f.data_leaving[k], f.data_leaving_place[k]
        f.filled[q, place] = 1
        if place == f.head[q]:
            f.head_filled |= 1 << q
    n = f.data_granted_n
    f.data_leaving_n = n
    for k in range(n):
        f.data_leaving[k], f.data_leaving_place[k] = f.data_granted[k], f.data_granted_place[k]
    # the winner of a queue: the first channel at or behind its place; `data_granted_place` is its FIFO for now
    n, seen, asks = 0, 0, f.answer_any
    while asks:
        i = lowest(asks)
        asks &= asks - 1
        q = f.answers[i, f.answers_h[i] & ring] // places
        if not seen >> q & 1:
            seen |= 1 << q
            f.data_granted[n], f.data_granted_place[n] = q, i
            n += 1
            continue
        for k in range(n):
            if f.data_granted[k] == q and f.data_granted_place[k] & channels - 1 < f.data_first[q] <= i & channels - 1:
                f.data_granted_place[k] = i
    f.data_granted_n = n
    popped, answer_full = 0, f.answer_full
    for k in range(n):
        q, i = f.data_granted[k], f.data_granted_place[k]
        f.data_first[q] = i + 1 & channels - 1
        f.data_granted_place[k] = f.answers[i, f.answers_h[i] & ring] % places
        f.answers_h[i] += 1
        f.room[i & channels - 1] += 1
        f.room_any |= 1 << (i & channels - 1)
        popped |= 1 << i
    any_left = f.answer_any & ~popped | answer_full & popped
    moves = f.answers_any & ~answer_full
    f.answer_full = answer_full & ~popped | any_left & moves
    f.answer_any = any_left | moves
    while moves:
        i = lowest(moves)
        moves &= moves - 1
        f.answers_n[i] -= 1
        if f.answers_n[i] == 0:
            f.answers_any &= ~(1 << i)


@inlined
def take_read(f: Record, c: int) -> None:
    """An answer of the memory to a read."""
    tag = f.read_tag[c]
    if tag >= READ_TAG:
        f.read_cycle[tag - READ_TAG] = f.now
        f.reads_done += 1
        if f.reads_done == f.reads_made:
            f.event |= READ
    else:
        channels, places, ring = f.credit.shape[0], f.filled.shape[1], f.answers.shape[1] - 1
        i = tag // (places * (f.head.shape[0] // (f.answers_n.shape[0] // channels))) * channels + c
        f.answers[i, f.answers_in[i] & ring] = tag
        f.answers_in[i] += 1
        f.answers_n[i] += 1
        f.answers_any |= 1 << i


@compiled
def take_write(f: Record, c: int) -> None:
    """The same to a write."""
    if f.back_owed[c] > 0:
        f.back_owed[c] -= 1
        f.owed_back -= 1
    else:
        f.control_owed[c] -= 1
        f.owed_control -= 1
    if f.owed_back == 0 and f.owed_control == 0:
        f.event |= WRITTEN
