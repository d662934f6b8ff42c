"""Heads of the next layer: S_h read out, written, and offered to the top-k engine (algorithm page, section 3).

All heads are read, one a cycle, when the head importance is idle. Each score goes to memory, and as the one item of a
row to the engine, valid if the head survives this layer.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.descriptor import MAX_HEADS
from hls.datapaths.machine_sizes import HEAD_BITS
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.lower import building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, register
from hls.stream_flow import fork

WORD_BITS = 64
QUEUED = 4


def head_clear(block: pyrtl.Block, asked: Wire) -> Wire:
    """Ports `head_clear_valid`, `head_clear_ready`: clear all S_h after `asked` (pulse). 1 until that is done."""
    with building(block):
        pending = register(1, "head_clear_pending", block)
        pending.next <<= asked | (pending & ~pyrtl.Input(1, "head_clear_ready"))
        output_ports({"head_clear_valid": pending})
    return pending


def head_scores(start: Wire, last_head: Wire, mask: Wire, clearing: Wire, block: pyrtl.Block) -> tuple[Stream, Wire]:
    """Read S_h of heads 0 .. `last_head` after `start` (pulse), through the ports `head_read`, `head_read_score`.

    Gives items for the engine (score, head, alive, last of all), and a pulse: the last score went to `head_word_...`.
    """
    with building(block):
        head, reading = register(HEAD_BITS, "head", block), register(1, "heads_reading", block)
        idle = pyrtl.Input(1, "head_idle") & ~clearing
        room = pyrtl.WireVector(1, "heads_room")
        issues = reading & idle & room
        is_last = head == last_head
        reading.next <<= start | (reading & ~(issues & is_last))
        following = (head + 1)[:HEAD_BITS]
        head.next <<= pyrtl.select(start, pyrtl.Const(0, HEAD_BITS), pyrtl.select(issues, following, head))
        output_ports({"head_read": head})
        # the score of a head comes a cycle after its number
        read_valid, read_last = register(1, "head_read_valid", block), register(1, "head_read_last", block)
        read_head = register(HEAD_BITS, "head_read_number", block)
        read_valid.next <<= issues
        read_last.next <<= is_last
        read_head.next <<= head
        alive = pyrtl.mux(read_head, *(mask[i] for i in range(MAX_HEADS)))
        score = pyrtl.Input(HEAD_SCORE_BITS, "head_read_score")
        taken = pyrtl.WireVector(1, "heads_taken")
        arriving = Stream(pyrtl.concat(read_last, alive, read_head, score), read_valid, taken)
        queued = fifo(arriving, QUEUED, block=block, prefix="heads_queue_")
        room <<= queued.count <= QUEUED - 2
        words, items = fork(queued.stream, 2, block=block, prefix="heads_")
        ready = pyrtl.Input(1, "head_word_ready")
        drive(words.ready, ready)
        outputs = {
            "head_word_data": words.data[:HEAD_SCORE_BITS].zero_extended(WORD_BITS),
            "head_word_last": words.data[-1],
            "head_word_valid": words.valid,
        }
        output_ports(outputs)
        return items, words.valid & ready & words.data[-1]
