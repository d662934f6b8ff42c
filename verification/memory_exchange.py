"""Between a netlist's memory ports and a memory: requests decoded, answers with the bytes of a DRAM image.

Ports of the netlist, all channels side by side, channel 0 in the lowest bits; a burst is the memory's:

    memory_valid, memory_write, memory_tag, memory_address (in bursts), memory_data    requests
    memory_ready                                                                       taken in this cycle
    answer_valid, answer_tag, answer_data                                              a read's answer
    write_done                                                                         a write is in the DRAM

A read gives the bytes of the image as they are at the beginning of the cycle of its answer; a write changes them in the
cycle of its `write_done`. So nothing but `write_done` orders a write before a read, as in a memory that reorders.
The exchange gives each request a slot, whose number is the tag that the memory sees: netlists may use a tag twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hls.simulate import Design
from hls.types import HlsError
from hls.verilator_driver import layout
from models.memory.compilation import compiled

REQUEST_PORTS = ("memory_valid", "memory_write", "memory_tag", "memory_address", "memory_data")
ANSWER_PORTS = ("memory_ready", "answer_valid", "answer_tag", "answer_data", "write_done")
SLOTS = 4096
"""Requests under way in a channel at most."""

OK, OUTSIDE, WITHDRAWN, CROWDED, ELSEWHERE = 0, 1, 2, 3, 4
"""Offers: in order; outside the image; changed or gone before being taken; more than SLOTS; of another channel."""

Ints = NDArray[np.int64]
Words = NDArray[np.uint32]


class Geometry(NamedTuple):
    """Where things are, for compiled code.

    Attributes:
        request_words: first word of every request port in the row of watched outputs.
        answer_words: first word of every answer port in the row of inputs.
        tag_bits: of a tag.
        address_bits: of an address.
        burst_words: 32-bit words of a burst.
    """

    request_words: Ints
    answer_words: Ints
    tag_bits: int
    address_bits: int
    burst_words: int


def geometry(design: Design, channels: int, burst_bytes: int) -> Geometry:
    """The geometry of a design's memory ports; HlsError for ports that are missing or of a width that does not fit."""
    tag_bits = design.outputs.get("memory_tag", channels) // channels
    address_bits = design.outputs.get("memory_address", channels) // channels
    a_burst = 8 * burst_bytes
    wanted = (
        *zip(REQUEST_PORTS, (1, 1, tag_bits, address_bits, a_burst), [design.outputs] * 5, strict=True),
        *zip(ANSWER_PORTS, (1, 1, tag_bits, a_burst, 1), [design.inputs] * 5, strict=True),
    )
    for name, bits, ports in wanted:
        if ports.get(name) != channels * bits:
            has = f"has {ports[name]}" if name in ports else f"is none; there are {', '.join(sorted(ports))}"
            raise HlsError(
                f"{design.name}: memory port {name!r} of {channels} channels needs {channels * bits} bits, but {has}"
            )
    for name, bits in (("memory_tag", tag_bits), ("memory_address", address_bits)):
        if not 1 <= bits <= 31:
            raise HlsError(f"{design.name}: {name!r} has {bits} bits a channel; 1 to 31 work")
    watched, _ = layout({name: design.outputs[name] for name in REQUEST_PORTS})
    inputs, _ = layout(design.inputs)
    return Geometry(
        np.array([watched[name][0] for name in REQUEST_PORTS]),
        np.array([inputs[name][0] for name in ANSWER_PORTS]),
        tag_bits,
        address_bits,
        burst_bytes // 4,
    )


class Exchange(NamedTuple):
    """State of the exchange: arrays [1, channels], [channels], or [channels, slots] of what is under way.

    Attributes:
        valid, write, address, slot: the offers of this cycle as a memory takes them; address in bytes.
        tag, data: the netlist's tags of the offers, and what they write [channels, burst words].
        waiting: whether the offer of the last cycle was not taken.
        free, free_count: slots that are free, a stack a channel.
        slot_tag, slot_address, slot_data: of the requests under way.
        image: the DRAM, as 32-bit words.
        fault: channel and address of what went wrong.
    """

    valid: NDArray[np.bool_]
    write: NDArray[np.bool_]
    address: Ints
    slot: Ints
    tag: Ints
    data: Words
    waiting: NDArray[np.bool_]
    free: Ints
    free_count: Ints
    slot_tag: Ints
    slot_address: Ints
    slot_data: Words
    image: Words
    fault: Ints


def new_exchange(channels: int, burst_words: int, image: Words) -> Exchange:
    """Nothing under way."""
    return Exchange(
        valid=np.zeros((1, channels), np.bool_),
        write=np.zeros((1, channels), np.bool_),
        address=np.zeros((1, channels), np.int64),
        slot=np.zeros((1, channels), np.int64),
        tag=np.zeros(channels, np.int64),
        data=np.zeros((channels, burst_words), np.uint32),
        waiting=np.zeros(channels, np.bool_),
        free=np.tile(np.arange(SLOTS), (channels, 1)),
        free_count=np.full(channels, SLOTS),
        slot_tag=np.zeros((channels, SLOTS), np.int64),
        slot_address=np.zeros((channels, SLOTS), np.int64),
        slot_data=np.zeros((channels, SLOTS, burst_words), np.uint32),
        image=image,
        fault=np.zeros(2, np.int64),
    )


@compiled
def get_bits(words: Words, first: int, position: int, count: int) -> int:
    """`count` bits (up to 31) from bit `position` of a port that begins at word `first`."""
    at, shift = first + (position >> 5), position & 31
    value: Any = np.int64(words[at]) >> shift
    if shift + count > 32:
        value |= np.int64(words[at + 1]) << (32 - shift)
    cut: int = value & ((1 << count) - 1)
    return cut


@compiled
def set_bits(words: Words, first: int, position: int, count: int, value: int) -> None:
    """Write `count` bits (up to 31) at bit `position` of a port that begins at word `first`."""
    at, shift = first + (position >> 5), position & 31
    mask = ((1 << count) - 1) << shift
    wide = np.int64(words[at])
    if shift + count > 32:
        wide |= np.int64(words[at + 1]) << 32
    wide = (wide & ~mask) | (value << shift)
    words[at] = np.uint32(wide & 0xFFFFFFFF)
    if shift + count > 32:
        words[at + 1] = np.uint32((wide >> 32) & 0xFFFFFFFF)


@compiled
def take(watched: Words, g: Geometry, e: Exchange) -> int:
    """Read the offers of a cycle off the request ports; returns what is wrong with them, or OK."""
    for c in range(e.tag.shape[0]):
        valid = get_bits(watched, g.request_words[0], c, 1) != 0
        if not valid:
            if e.waiting[c]:
                e.fault[0], e.fault[1] = c, e.address[0, c]
                return WITHDRAWN
            e.valid[0, c] = False
            continue
        write = get_bits(watched, g.request_words[1], c, 1) != 0
        tag = get_bits(watched, g.request_words[2], c * g.tag_bits, g.tag_bits)
        burst = get_bits(watched, g.request_words[3], c * g.address_bits, g.address_bits)
        address = burst * g.burst_words * 4
        data = g.request_words[4] + c * g.burst_words
        e.fault[0], e.fault[1] = c, address
        if e.free_count[c] == 0:
            return CROWDED
        slot = e.free[c, e.free_count[c] - 1]
        changed = False
        for i in range(g.burst_words if write else 0):
            changed |= e.data[c, i] != watched[data + i]
            e.data[c, i] = watched[data + i]
        changed |= address != e.address[0, c] or tag != e.tag[c] or write != e.write[0, c]
        if e.waiting[c] and changed:
            return WITHDRAWN
        if (burst + 1) * g.burst_words > e.image.shape[0]:
            return OUTSIDE
        e.valid[0, c], e.write[0, c], e.address[0, c], e.slot[0, c], e.tag[c] = True, write, address, slot, tag
    return OK


@compiled
def give(accepted: NDArray[np.bool_], reads: Ints, writes: Ints, row: Words, g: Geometry, e: Exchange) -> None:
    """Put what the memory answered (arrays [channels]) on the answer ports; data and tags keep the last answer's."""
    for c in range(e.tag.shape[0]):
        slot = reads[c]
        set_bits(row, g.answer_words[1], c, 1, 1 if slot >= 0 else 0)
        if slot >= 0:
            set_bits(row, g.answer_words[2], c * g.tag_bits, g.tag_bits, e.slot_tag[c, slot])
            first, data = e.slot_address[c, slot] // 4, g.answer_words[3] + c * g.burst_words
            for i in range(g.burst_words):
                row[data + i] = e.image[first + i]
        done = writes[c]
        set_bits(row, g.answer_words[4], c, 1, 1 if done >= 0 else 0)
        if done >= 0:
            first = e.slot_address[c, done] // 4
            for i in range(g.burst_words):
                e.image[first + i] = e.slot_data[c, done, i]
        set_bits(row, g.answer_words[0], c, 1, 1 if accepted[c] else 0)
        e.waiting[c] = e.valid[0, c] and not accepted[c]
        if accepted[c]:
            taken = e.slot[0, c]
            e.slot_tag[c, taken], e.slot_address[c, taken] = e.tag[c], e.address[0, c]
            for i in range(g.burst_words if e.write[0, c] else 0):
                e.slot_data[c, taken, i] = e.data[c, i]
            e.free_count[c] -= 1
        for freed in (slot, done):
            if freed >= 0:
                e.free[c, e.free_count[c]] = freed
                e.free_count[c] += 1
