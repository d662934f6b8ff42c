"""A cycle between lanes and memory: both crossbars and the memory port (`hls.datapaths.crossbar`, `memory_port`).

lanes -> address crossbar -> port of a channel -+
control reads, write-back, control writes ------+-> memory -> answers -> data crossbar -> lanes

A channel has a FIFO of answers for each part of the data crossbar; those of a part stand side by side.
"""

from models.memory.compilation import Record, compiled, inlined, lowest
from models.transaction.fetch_state import MOST, NOTHING, PURPOSE_BITS, READ, RING, WRITTEN

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
    queues, places, room = f.head.shape[0], f.places.shape[0], ~f.taken_full
    requests_any, credit_any = f.requests_any, f.credit_any
    granted, chosen, free = 0, 0, requests_any & credit_any
    while free:
        c = lowest(free)
        free &= free - 1
        requests = f.requests[c]
        asks = requests & room
        if asks == 0:
            continue
        behind = asks & -1 << f.xbar_first[c]
        q = lowest(behind if behind else asks)
        bit = 1 << q
        granted |= bit
        chosen |= 1 << c
        requests &= ~bit
        f.requests[c] = requests
        requests_any &= ~((1 if requests == 0 else 0) << c)
        f.xbar_first[c] = q + 1 & queues - 1
        k, tail = f.x_in[c], f.tail[q]
        f.x_ring[c, k & items, 0], f.x_ring[c, k & items, 1] = f.asked[q, f.ask_head[q] & turns], q * places + tail
        f.x_in[c] = k + 1
        f.tail[q] = tail + 1 if tail + 1 < places else 0
        credit = f.credit[c] - 1
        f.credit[c] = credit
        credit_any &= ~((1 if credit == 0 else 0) << c)
    f.requests_any, f.credit_any = requests_any, credit_any
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
    room_any, out_any = f.room_any, f.out_any
    while leaves:
        c = lowest(leaves)
        leaves &= leaves - 1
        f.credit[c] += 1
        room, out = f.room[c] - 1, f.out_n[c] - 1
        f.room[c], f.out_n[c] = room, out
        room_any &= ~((1 if room == 0 else 0) << c)
        out_any &= ~((1 if out == 0 else 0) << c)
    routed = f.route
    f.route = chosen
    f.room_any, f.out_any = room_any, out_any | routed
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
    places, ring, channels = f.places.shape[0], f.answers.shape[1] - 1, f.credit.shape[0]
    head_filled, turn = f.head_filled, f.data_turn
    for k in range(f.data_leaving_n):
        tag = f.data_granted[1 - turn, k]
        q, place = tag // places, tag % places
        f.filled[q] |= 1 << place
        head_filled |= (1 if place == f.head[q] else 0) << q
    f.head_filled = head_filled
    f.data_leaving_n, f.data_turn = f.data_granted_n, 1 - turn
    # the winner of a queue: the first channel at or behind its place
    winners, asks = 0, f.answer_any
    while asks:
        i = lowest(asks)
        asks &= asks - 1
        q = f.answers[i, f.answers_h[i] & ring] // places
        before = f.data_winner[q]
        wins = before & channels - 1 < f.data_first[q] <= i & channels - 1 or not winners >> q & 1
        f.data_winner[q] = i if wins else before
        winners |= 1 << q
    n, popped, answer_full, room_any = 0, 0, f.answer_full, f.room_any
    while winners:
        q = lowest(winners)
        winners &= winners - 1
        i = f.data_winner[q] & MOST - 1
        c = i & channels - 1
        f.data_first[q] = c + 1 & channels - 1
        f.data_granted[1 - turn, n] = f.answers[i, f.answers_h[i] & ring]
        n += 1
        f.answers_h[i] += 1
        f.room[c] += 1
        room_any |= 1 << c
        popped |= 1 << i
    f.data_granted_n, f.room_any = n, room_any
    any_left, answers_any = f.answer_any & ~popped | answer_full & popped, f.answers_any
    moves = answers_any & ~answer_full
    f.answer_full = answer_full & ~popped | any_left & moves
    f.answer_any = any_left | moves
    while moves:
        i = lowest(moves)
        moves &= moves - 1
        left = f.answers_n[i] - 1
        f.answers_n[i] = left
        answers_any &= ~((1 if left == 0 else 0) << i)
    f.answers_any = answers_any


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
        channels, places, ring = f.credit.shape[0], f.places.shape[0], f.answers.shape[1] - 1
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
