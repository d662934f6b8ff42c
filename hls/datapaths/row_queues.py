"""Row queues: probabilities of first and second passes, put back into the order of the rows.

Rows enter behind the flat-row decision in the order in which `row_issue` issued their passes; what each of them is, it
says by `issued_*`, some cycles before. First passes go to queue 1, second ones to queue 2. A row is known to be flat
with its first beat: its first pass is dropped, and its second one comes later (algorithm page, section 5). Rows leave
in the order of their first passes, each from its queue, beats as they come:

    passes decided   a1  b1(flat)  c1(flat)  d1   b2  e1   c2
    queue 1          a1                      d1       e1
    queue 2                                       b2       c2
    order            a: 1, b: 2, c: 2, d: 1, e: 1   ->   a1 b2 c2 d1 e1

Nothing is refused on the way in: `row_issue` issues a pass only where its queue has room, counted down from
`queue_beats` by the issue and up by `first_freed` (beats, that were dropped or left) and `replay_freed`; and no more
than `PENDING_ROWS` rows that have not left (`row_retired`). So second passes always have a way out: what is before them
in queue 2 are older rows.

Both queues are memories of one read and one write port. A beat is read into a register before it is asked for, so
beats leave one a cycle.

Ports: `passed_prob`, `passed_valid`, `passed_last`, `flat` (read with the first beat of a first pass), `decided_valid`
(the flat-row decision, never stalled); `issued_valid`, `issued_replay`, `issued_visible`, `issued_place`;
`layer_progressive` (else no row is flat) in. `row_decided`, `row_flat`, `row_place`: a first pass is decided, a cycle
after `flat`; `beat_prob`, `beat_lanes`, `beat_number` (in its row), `beat_last`, `beat_flat`, `beat_visible` (keys of
its row) under `beat_valid`, `beat_ready`. All outputs come from registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.machine_sizes import PLACE_BITS, MachineSizes, Record
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import Fifo, Stream, drive, fifo, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

PENDING_ROWS = 64
"""Rows from their first pass on until they leave."""
FIRST_ROWS = 4
REPLAY_ROWS = 2
"""Rows of the longest kind that each queue holds."""
MACRO_BITS = 32
"""Narrower words would not be made as an SRAM macro, but as flip-flops."""
FREED_BITS = 2
"""Of `first_freed`: a beat that is dropped and one that leaves."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def queue_beats(config: AcceleratorConfig) -> tuple[int, int]:
    """Beats that queue 1 and queue 2 hold."""
    return FIRST_ROWS * config.softmax_fifo_rows, REPLAY_ROWS * config.softmax_fifo_rows


@dataclass(frozen=True)
class _Queue:
    """A queue's output register."""

    beat: Wire
    valid: Wire


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The row queues as a netlist; `technology` changes nothing."""
    del technology
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        prob = pyrtl.Input(sizes.slots * PROBABILITY_BITS, "passed_prob")
        lanes, last = pyrtl.Input(sizes.slots, "passed_valid"), pyrtl.Input(1, "passed_last")
        flat, valid = pyrtl.Input(1, "flat"), pyrtl.Input(1, "decided_valid")
        progressive = pyrtl.Input(1, "layer_progressive")
        issued = _issued(sizes, valid & last, block)
        first, replay = valid & ~issued["replay"], valid & issued["replay"]
        begins, flat_so_far = register(1, "begins", block, 1), register(1, "flat_so_far", block)
        begins.next <<= pyrtl.select(valid, last, begins)
        decided = first & begins
        is_flat = pyrtl.select(decided, flat & progressive, flat_so_far)
        flat_so_far.next <<= is_flat

        order_record = Record((("visible", sizes.count_bits), ("flat", 1)))
        order = _row_fifo(order_record.pack({"visible": issued["visible"], "flat": is_flat}), decided, "order", block)
        row = order_record.unpack(order.stream.data)
        beat_record = Record((("prob", len(prob)), ("lanes", len(lanes)), ("last", 1)))
        beat = beat_record.pack({"prob": prob, "lanes": lanes, "last": last})
        leaves = {name: pyrtl.WireVector(1, f"{name}_leaves") for name in ("first", "replay")}
        depths = queue_beats(config)
        firsts = _queue(beat, first & ~is_flat, leaves["first"], depths[0], "first", block)
        replays = _queue(beat, replay, leaves["replay"], depths[1], "replay", block)

        out_valid, ready = register(1, "beat_there", block), pyrtl.Input(1, "beat_ready")
        there = order.stream.valid & pyrtl.select(row["flat"], replays.valid, firsts.valid)
        moves = there & (ready | ~out_valid)
        leaves["first"] <<= moves & ~row["flat"]
        leaves["replay"] <<= moves & row["flat"]
        oldest = beat_record.unpack(pyrtl.select(row["flat"], replays.beat, firsts.beat))
        retires = moves & oldest["last"]
        drive(order.stream.ready, retires)
        out_valid.next <<= there | (out_valid & ~ready)
        number = register(sizes.row_bits, "number", block)
        following = pyrtl.select(oldest["last"], pyrtl.Const(0, sizes.row_bits), (number + 1)[: sizes.row_bits])
        number.next <<= pyrtl.select(moves, following, number)
        fields = {**oldest, "number": number, "flat": row["flat"], "visible": row["visible"]}
        outputs: dict[str, Wire] = {"beat_valid": out_valid}
        for name, wire in fields.items():
            held = register(len(wire), f"beat_{name}_held", block)
            held.next <<= pyrtl.select(moves, wire, held)
            outputs[f"beat_{name}"] = held
        pulses = {
            "row_decided": decided,
            "row_flat": is_flat,
            "row_place": issued["place"],
            "row_retired": retires,
            "first_freed": (first & is_flat) + leaves["first"],
            "replay_freed": leaves["replay"],
        }
        for name, wire in pulses.items():
            outputs[name] = register(len(wire), f"{name}_held", block)
            outputs[name].next <<= wire
        output_ports(outputs)
    block.sanity_check()
    return Netlist("row_queues", block)


def _row_fifo(data: Wire, push: Wire, name: str, block: pyrtl.Block) -> Fifo:
    """A FIFO of rows that has room whenever one comes, since no more than `PENDING_ROWS` are under way."""
    source = Stream(data, push, pyrtl.WireVector(1, f"{name}_room"))
    return fifo(source, PENDING_ROWS, block=block, storage="memory", prefix=f"{name}_")


def _issued(sizes: MachineSizes, ends: Wire, block: pyrtl.Block) -> dict[str, Wire]:
    """What is known of the pass whose beats come now, in a register that is loaded before they come."""
    record = Record((("visible", sizes.count_bits), ("replay", 1), ("place", PLACE_BITS)))
    given = {name: pyrtl.Input(bits, f"issued_{name}") for name, bits in record.fields}
    waiting = _row_fifo(record.pack(given), pyrtl.Input(1, "issued_valid"), "issued", block).stream
    held, there = register(record.bits, "issued_held", block), register(1, "issued_there", block)
    load = ends | ~there
    drive(waiting.ready, load)
    held.next <<= pyrtl.select(load & waiting.valid, waiting.data, held)
    there.next <<= pyrtl.select(load, waiting.valid, there)
    return record.unpack(held)


def _queue(beat: Wire, write: Wire, leaves: Wire, depth: int, name: str, block: pyrtl.Block) -> _Queue:
    """A queue of beats; one more in each cycle of `write`, one less in each of `leaves`."""
    bits = (depth - 1).bit_length()
    written, read = (register(bits, f"{name}_{p}", block) for p in ("written", "read"))
    written.next <<= pyrtl.select(write, (written + 1)[:bits], written)
    wide = max(MACRO_BITS, len(beat))
    memory = pyrtl.MemBlock(
        wide, bits, f"{name}_beats", max_read_ports=1, max_write_ports=1, asynchronous=False, block=block
    )
    memory[written] <<= pyrtl.MemBlock.EnabledWrite(beat.zero_extended(wide), write)
    held, valid = register(len(beat), f"{name}_beat", block), register(1, f"{name}_valid", block)
    empty = register(1, f"{name}_empty", block, 1)
    reading = ~empty & (leaves | ~valid)
    read_after = pyrtl.select(reading, (read + 1)[:bits], read)
    read.next <<= read_after
    empty.next <<= read_after == written
    held.next <<= pyrtl.select(reading, memory[read][: len(beat)], held)
    valid.next <<= reading | (valid & ~leaves)
    return _Queue(held, valid)
