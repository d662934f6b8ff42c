"""Holds the beats of rows until the result of their whole row is known, then gives both, a beat a cycle.

A softmax needs this twice: a score waits for the maximum of its row, an exponential for the reciprocal of the sum. Two
circular memories, of beats and of row results, each with a write and a read pointer that never stall but together:

    cycle        0    1    2    3    4    5    6    7
    beat_in      a0   a1.  b0.                            (. = last of its row)
    row_in                      A    B                    (here 2 cycles after the last beat, as any pipeline may)
    beat                                  a0   a1   b0
    row                                   A    A    B

A row begins to leave in the cycle after its result was written, or after the row before has left, and then leaves
without a gap. So no beat has to be refused: where beats and results come at most one a cycle, results a fixed time
after the last beat, the beats inside are at most those of the longest row and those of that time. Then no address is
written in the cycle in which it is read either, and both memories are SRAM of one read and one write port.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.netlist import Wire

READ_CYCLES = 2
"""From the write of a row's result to its first beat and the result at the outputs."""


@dataclass(frozen=True)
class Released:
    """What leaves: registers, valid together."""

    beat: Wire
    row: Wire
    last: Wire
    valid: Wire


@dataclass(frozen=True)
class _Ring:
    """A circular memory; the read data is registered while `reading`."""

    written: Wire
    read: Wire
    data: Wire


def _pointer(depth: int, move: Wire, name: str) -> Wire:
    """Counts 0 .. depth - 1 in a circle, one step where `move`."""
    bits = max(1, (depth - 1).bit_length())
    pointer = pyrtl.Register(bits, name, reset_value=0)
    following = (pointer + 1)[:bits]
    if depth != 1 << bits:
        following = pyrtl.select(pointer == depth - 1, pyrtl.Const(0, bits), following)
    pointer.next <<= pyrtl.select(move, following, pointer)
    return pointer


def _named(wire: Wire, name: str) -> Wire:
    named = pyrtl.WireVector(len(wire), name)
    named <<= wire
    return named


def _ring(depth: int, data: Wire, writing: Wire, reading: Wire, name: str) -> _Ring:
    written, read = _pointer(depth, writing, f"{name}_written"), _pointer(depth, reading, f"{name}_read")
    memory = pyrtl.MemBlock(
        len(data), len(read), f"{name}_memory", max_read_ports=1, max_write_ports=1, asynchronous=False
    )
    memory[written] <<= pyrtl.MemBlock.EnabledWrite(_named(data, f"{name}_in"), _named(writing, f"{name}_writing"))
    held = pyrtl.Register(len(data), name, reset_value=0)
    held.next <<= pyrtl.select(reading, memory[read], held)
    return _Ring(written, read, held)


def row_buffer(
    beat: Wire,
    last: Wire,
    beat_valid: Wire,
    row: Wire,
    row_valid: Wire,
    depth: int,
    enable: Wire,
    name: str,
) -> Released:
    """Build the buffer into the working block (`hls.lower.building`); everything holds where `enable` is 0.

    Args:
        beat: any payload.
        last: whether it is the last of its row.
        beat_valid: where a beat enters.
        row: the result of a row; in the order of the rows, and at least a cycle after their last beat.
        row_valid: where a result enters.
        depth: beats that can be inside: those of the longest row, and the cycles from the last beat of a row until
            the cycle after its result.
        enable: where anything moves.
        name: goes before the names of registers and memories.
    """
    valid = pyrtl.Register(1, f"{name}_valid", reset_value=0)
    starting, leaving = pyrtl.WireVector(1, f"{name}_starting"), pyrtl.WireVector(1, f"{name}_leaving")
    beats = _ring(depth, pyrtl.concat(beat, last), enable & beat_valid, enable & leaving, f"{name}_beat")
    rows = _ring(depth, row, enable & row_valid, enable & starting, f"{name}_row")
    within_row = valid & ~beats.data[0]
    starting <<= ~within_row & (rows.written != rows.read)
    leaving <<= within_row | starting
    valid.next <<= pyrtl.select(enable, leaving, valid)
    return Released(beat=beats.data[1:], row=rows.data, last=beats.data[0], valid=valid)
