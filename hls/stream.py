"""Ready/valid streams: ports, FIFO, skid buffer (design page, "HLS"; algorithm-independent).

An item moves in the cycle in which `valid` and `ready` are both 1. Everything here keeps, and asks of its source:

- valid never waits for ready: no `valid` depends on a `ready` of its own stream, in the cycle or later;
- a stalled item stays: after `valid & ~ready`, `valid` stays 1 and `data` does not change;
- order: items come out as they went in, none lost, none twice.

A producer drives `data` and `valid` of a `Stream`, a consumer its `ready`. Each function takes the stream that it
consumes, drives its `ready`, and returns the stream that it produces, whose `ready` the caller or the next function
drives. All wires go into `block`, under names that begin with `prefix`. What decides has reset values, payload none.

    taken = source_ports(8, block)                             Inputs in_data, in_valid; Output in_ready
    stored = fifo(taken, 64, block=block, storage="memory")
    sink_ports(skid_buffer(stored.stream, block=block), block)     Outputs out_data, out_valid; Input out_ready

Fork, join and arbiter are in `hls.stream_flow`; width adapter and row packer in `hls.stream_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyrtl

from hls.lower import building
from hls.netlist import Wire
from hls.types import HlsError

Storage = Literal["registers", "memory"]

STORED_CYCLES = 1
"""From an item at the input of a FIFO or skid buffer until it is at the output, where nothing is before it."""


@dataclass(frozen=True, eq=False)
class Stream:
    """The wires of a stream; `data` and `valid` are the producer's to drive, `ready` the consumer's."""

    data: Wire
    valid: Wire
    ready: Wire

    @property
    def bits(self) -> int:
        """Bits of an item."""
        return len(self.data)


@dataclass(frozen=True, eq=False)
class Fifo:
    """A FIFO's output, and how many items are in it."""

    stream: Stream
    count: Wire


def produced(data: Wire, valid: Wire, block: pyrtl.Block, prefix: str) -> Stream:
    """The stream of a producer: its own data and valid, and a `ready` that waits for its driver."""
    return Stream(data, valid, pyrtl.WireVector(1, f"{prefix}ready", block=block))


def source_ports(bits: int, block: pyrtl.Block, prefix: str = "in_") -> Stream:
    """A stream from outside: Inputs `in_data` and `in_valid`, Output `in_ready`."""
    ready = pyrtl.WireVector(1, f"{prefix}ready_wire", block=block)
    with building(block):
        port = pyrtl.Output(1, f"{prefix}ready")
        port <<= ready
        return Stream(pyrtl.Input(bits, f"{prefix}data"), pyrtl.Input(1, f"{prefix}valid"), ready)


def sink_ports(stream: Stream, block: pyrtl.Block, prefix: str = "out_") -> None:
    """A stream to outside: Outputs `out_data` and `out_valid`, Input `out_ready`."""
    with building(block):
        for name, wire in (("data", stream.data), ("valid", stream.valid)):
            port = pyrtl.Output(len(wire), f"{prefix}{name}")
            port <<= wire
        drive(stream.ready, pyrtl.Input(1, f"{prefix}ready"))


def drive(target: Wire, source: Wire) -> None:
    """Connect a wire that waits for its driver (`<<=` cannot assign to a field of a frozen stream)."""
    with building(target._block):
        target <<= source


def register(bits: int, name: str, block: pyrtl.Block, reset_value: int = 0) -> pyrtl.Register:
    """A register with a reset value."""
    return pyrtl.Register(bits, name, reset_value=reset_value, block=block)


def payload_register(bits: int, name: str, block: pyrtl.Block) -> pyrtl.Register:
    """A register that nothing reads before it is loaded: without reset value, so that proofs begin with any content."""
    return pyrtl.Register(bits, name, block=block)


def skid_buffer(source: Stream, *, block: pyrtl.Block, prefix: str = "skid_") -> Stream:
    """Two items of storage that cut all paths between both sides, at full rate; an item stays one cycle at least.

    Outputs and `source.ready` come from registers. When the output stalls, the item on its way is taken into a
    spare register; `ready` falls one cycle later.
    """
    with building(block):
        main, spare = (payload_register(source.bits, f"{prefix}{name}", block) for name in ("main", "spare"))
        main_valid, spare_valid = (register(1, f"{prefix}{name}_valid", block) for name in ("main", "spare"))
        out = produced(main, main_valid, block, prefix)
        moves = out.ready | ~main_valid
        arrives = source.valid | spare_valid
        oldest = pyrtl.select(spare_valid, spare, source.data)
        main.next <<= pyrtl.select(moves, oldest, main)
        main_valid.next <<= pyrtl.select(moves, arrives, main_valid)
        spare.next <<= pyrtl.select(spare_valid, spare, source.data)
        spare_valid.next <<= arrives & ~moves
        drive(source.ready, ~spare_valid)
    return out


def fifo(
    source: Stream, depth: int, *, block: pyrtl.Block, storage: Storage = "registers", prefix: str = "fifo_"
) -> Fifo:
    """A first-in first-out buffer of `depth` items, in registers that shift or in a memory with two pointers.

    An item stays one cycle at least. `source.ready` is 1 unless the FIFO is full, whether or not an item leaves in this
    cycle (no path from `ready` to `ready`), so full rate needs a depth of 2.

    Raises:
        HlsError: for a depth below 1.
    """
    if depth < 1:
        raise HlsError(f"FIFO {prefix!r} of {depth} items: it needs at least 1; a depth of 2 gives full rate")
    with building(block):
        count = register(depth.bit_length(), f"{prefix}count", block)
        filled = count != 0
        push = source.valid & (count != depth)
        build = _registers if storage == "registers" else _memory
        leaves = pyrtl.WireVector(1, f"{prefix}leaves")
        out = produced(build(source.data, depth, count, push, leaves, block, prefix), filled, block, prefix)
        leaves <<= filled & out.ready
        grows, shrinks = push & ~leaves, leaves & ~push
        after = pyrtl.select(grows, (count + 1)[: len(count)], count)
        count.next <<= pyrtl.select(shrinks, (count - 1)[: len(count)], after)
        drive(source.ready, count != depth)
    return Fifo(out, count)


def _registers(data: Wire, depth: int, count: Wire, push: Wire, pop: Wire, block: pyrtl.Block, prefix: str) -> Wire:
    """Entries that shift towards entry 0, the output; an item goes in behind the last one."""
    entries = [payload_register(len(data), f"{prefix}entry_{i}", block) for i in range(depth)]
    for i, entry in enumerate(entries):
        shifted = pyrtl.select(pop, entries[i + 1], entry) if i + 1 < depth else entry
        # where the FIFO is full nothing goes in, so the last entry is only filled while nothing leaves
        follows = pyrtl.select(pop, count == i + 1, count == i) if i + 1 < depth else (count == i) & ~pop
        behind_last = push & follows
        entry.next <<= pyrtl.select(behind_last, data, shifted)
    return entries[0]


def _memory(data: Wire, depth: int, count: Wire, push: Wire, pop: Wire, block: pyrtl.Block, prefix: str) -> Wire:
    """A ring: `head` reads, `tail` writes."""
    address_bits = max(1, (depth - 1).bit_length())
    memory = pyrtl.MemBlock(len(data), address_bits, f"{prefix}memory", asynchronous=True, block=block)
    head, tail = (register(address_bits, f"{prefix}{name}", block) for name in ("head", "tail"))
    for pointer, moves in ((head, pop), (tail, push)):
        pointer.next <<= pyrtl.select(moves, ring_next(pointer, depth), pointer)
    memory[tail] <<= pyrtl.MemBlock.EnabledWrite(data, push)
    oldest: Wire = memory[head]
    return oldest


def ring_next(pointer: Wire, size: int) -> Wire:
    """The pointer after `pointer` in a ring of `size` entries."""
    following = (pointer + 1)[: len(pointer)]
    if size == 1 << len(pointer):
        return following
    return pyrtl.select(pointer == size - 1, pyrtl.Const(0, len(pointer), block=pointer._block), following)
