"""Reads of the controller: runs of bursts, in order, with many requests under way (architecture page, datapath 15).

A request is `count` bursts from `address` on. Bursts of all requests come out in the order in which they were asked
for, each with the `kind` of its request; the last one of a request is marked.

    read_request -> requests, one a cycle -> memory_port -> channels
    read         <- ring of slots        <-             <-

Slot s of the ring holds a burst of channel s mod channels, so each channel writes into a bank of its own, and all may
answer in one cycle, in any order: no answer waits or is refused. A request that begins at another channel than the one
that is due leaves out the slots between.

Ports: `read_request_address` (in bursts), `read_request_count` (1 at least), `read_request_kind` under
read_request_valid, read_request_ready; `control_read_address`, `control_read_tag` (the slot) under control_read_valid,
control_read_ready; `control_answer_tag`, `control_answer_data`, `control_answer_valid`, one a channel; `read_data`,
`read_kind`, `read_last` with `read_valid`: a burst of kind DESCRIPTOR or HEAD_TABLE leaves at once, one of the lists
when `list_ready` is 1. `read_waits`: something is under way; `read_moves`: a request or an answer moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import pyrtl

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.machine_sizes import Record
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

SLOTS_PER_CHANNEL = 4
FEWEST_SLOTS = 16
REQUESTS = 3
"""That wait, at most: of head table, survivors and protected ids; the descriptor comes before."""
KIND_BITS = 2


class ReadKind(IntEnum):
    """What a request reads."""

    DESCRIPTOR = 0
    HEAD_TABLE = 1
    SURVIVORS = 2
    PROTECTED = 3


@dataclass(frozen=True)
class ControlReadSize:
    """Sizes of a machine's control reads.

    Attributes:
        channels: of the memory, a power of two.
        slots: bursts that are under way or wait for their turn, at most; a power of two.
        count_bits: of the bursts of a request.
    """

    channels: int
    slots: int
    count_bits: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> ControlReadSize:
        """The sizes of `config`: the longest request is a list of all ids, 16 bits each, or the head table."""
        channels = config.hbm_channels
        longest = max(16, -(-config.context_keys * 16 // BURST_BITS))
        return cls(channels, max(FEWEST_SLOTS, SLOTS_PER_CHANNEL * channels), longest.bit_length())

    @property
    def slot_bits(self) -> int:
        """Bits of the number of a slot: of a tag."""
        return self.slots.bit_length() - 1

    @property
    def channel_bits(self) -> int:
        """Bits of the number of a channel; 0 for one channel."""
        return self.channels.bit_length() - 1

    @property
    def request(self) -> Record:
        """A request."""
        return Record((("address", BURST_ADDRESS_BITS), ("count", self.count_bits), ("kind", KIND_BITS)))


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The control reads as a netlist; `technology` changes nothing."""
    del technology
    size = ControlReadSize.of(config)
    block = pyrtl.Block()
    with building(block):
        fields = {name: pyrtl.Input(bits, f"read_request_{name}") for name, bits in size.request.fields}
        request_ready = pyrtl.WireVector(1, "request_room")
        given = Stream(size.request.pack(fields), pyrtl.Input(1, "read_request_valid"), request_ready)
        asked = fifo(given, REQUESTS, block=block, prefix="asked_").stream
        freed_to = pyrtl.WireVector(size.slot_bits + 1, "freed_to")
        sent, placed = _send(size, asked, freed_to, block)
        awaited = fifo(placed, REQUESTS, block=block, prefix="awaited_").stream
        outside = fifo(sent, 2, block=block, prefix="outside_").stream
        drive(outside.ready, pyrtl.Input(1, "control_read_ready"))
        answered = pyrtl.Input(size.channels, "control_answer_valid")
        given_out = _give(size, awaited, freed_to, answered, block)
        outputs = {
            "read_request_ready": request_ready,
            "control_read_address": outside.data[:BURST_ADDRESS_BITS],
            "control_read_tag": outside.data[BURST_ADDRESS_BITS:],
            "control_read_valid": outside.valid,
            **given_out,
            "read_waits": asked.valid | awaited.valid,
            "read_moves": (outside.valid & outside.ready) | (answered != 0),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("control_read", block)


def _send(size: ControlReadSize, asked: Stream, freed_to: Wire, block: pyrtl.Block) -> tuple[Stream, Stream]:
    """The bursts to ask the memory for (address, then slot), and the requests with the slot of their first burst.

    A request is placed in the cycle before its first burst. Slots count with the parity of the lap on top.
    """
    slot = register(size.slot_bits + 1, "slot", block)
    done = register(size.count_bits, "sent_bursts", block)
    sending = register(1, "sending", block)
    request = size.request.unpack(asked.data)
    used = (slot - freed_to)[: len(slot)]
    first: Wire = slot
    if size.channel_bits:
        wanted, due = request["address"][: size.channel_bits], slot[: size.channel_bits]
        upper = (slot[size.channel_bits :] + (wanted < due))[: len(slot) - size.channel_bits]
        first = pyrtl.concat(upper, wanted)
    place = asked.valid & ~sending & (used <= size.slots - size.channels)
    room = pyrtl.WireVector(1, "awaited_room")
    placed = Stream(pyrtl.concat(request["kind"], request["count"], first), place, room)
    outside_room = pyrtl.WireVector(1, "outside_room")
    address = (request["address"] + done)[:BURST_ADDRESS_BITS]
    offers = sending & (used != size.slots)
    sent = Stream(pyrtl.concat(slot[: size.slot_bits], address), offers, outside_room)
    goes, following = offers & outside_room, (done + 1)[: size.count_bits]
    ends = goes & (following == request["count"])
    slot.next <<= pyrtl.select(place & room, first, pyrtl.select(goes, (slot + 1)[: len(slot)], slot))
    cleared = pyrtl.Const(0, size.count_bits)
    done.next <<= pyrtl.select(ends, cleared, pyrtl.select(goes, following, done))
    sending.next <<= (place & room) | (sending & ~ends)
    drive(asked.ready, ends)
    return sent, placed


def _give(
    size: ControlReadSize, awaited: Stream, freed_to: Wire, answered: Wire, block: pyrtl.Block
) -> dict[str, Wire]:
    """The bursts in the order of the requests; `freed_to` is the oldest slot that is in use."""
    slot, done = register(size.slot_bits + 1, "oldest", block), register(size.count_bits, "given_bursts", block)
    giving = register(1, "giving", block)
    first = awaited.data[: len(slot)]
    count = awaited.data[len(slot) : len(slot) + size.count_bits]
    kind = awaited.data[len(slot) + size.count_bits :]
    there = slot[: size.slot_bits]
    gives = pyrtl.WireVector(1, "gives")
    data, is_there = _ring(size, there, gives, answered, block)
    following = (done + 1)[: size.count_bits]
    is_last = following == count
    room = pyrtl.WireVector(1, "out_room")
    offers = giving & is_there
    gives <<= offers & room
    out = fifo(Stream(pyrtl.concat(is_last, kind, data), offers, room), 2, block=block, prefix="given_").stream
    kind_out = out.data[BURST_BITS : BURST_BITS + KIND_BITS]
    drive(out.ready, (kind_out < ReadKind.SURVIVORS) | pyrtl.Input(1, "list_ready"))
    begins, ends = awaited.valid & ~giving, gives & is_last
    slot.next <<= pyrtl.select(begins, first, pyrtl.select(gives, (slot + 1)[: len(slot)], slot))
    cleared = pyrtl.Const(0, size.count_bits)
    done.next <<= pyrtl.select(ends, cleared, pyrtl.select(gives, following, done))
    giving.next <<= begins | (giving & ~ends)
    drive(awaited.ready, ends)
    freed_to <<= slot
    return {
        "read_data": out.data[:BURST_BITS],
        "read_kind": kind_out,
        "read_last": out.data[-1],
        "read_valid": out.valid,
    }


def _ring(size: ControlReadSize, slot: Wire, gives: Wire, answered: Wire, block: pyrtl.Block) -> tuple[Wire, Wire]:
    """The burst in `slot`, and whether it is there; a bank of slots a channel."""
    tags = pyrtl.Input(size.channels * size.slot_bits, "control_answer_tag")
    bursts = pyrtl.Input(size.channels * BURST_BITS, "control_answer_data")
    row_bits = size.slot_bits - size.channel_bits
    row = slot[size.channel_bits :]
    words, there = [], []
    for c in range(size.channels):
        tag = tags[c * size.slot_bits : (c + 1) * size.slot_bits]
        arrives, place = answered[c], tag[size.channel_bits :]
        bank = pyrtl.MemBlock(BURST_BITS, row_bits, f"bank_{c}", asynchronous=True, block=block)
        bank[place] <<= pyrtl.MemBlock.EnabledWrite(bursts[c * BURST_BITS : (c + 1) * BURST_BITS], arrives)
        words.append(bank[row])
        leaves = gives & (slot[: size.channel_bits] == c) if size.channel_bits else gives
        filled = []
        for i in range(1 << row_bits):
            bit = register(1, f"filled_{c}_{i}", block)
            bit.next <<= (arrives & (place == i)) | (bit & ~(leaves & (row == i)))
            filled.append(bit)
        there.append(pyrtl.mux(row, *filled))
    if not size.channel_bits:
        return words[0], there[0]
    channel = slot[: size.channel_bits]
    return pyrtl.mux(channel, *words), pyrtl.mux(channel, *there)
