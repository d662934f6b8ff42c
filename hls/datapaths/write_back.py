"""Write-back of outputs: rows of W-bit elements to int16 in DRAM, on all channels (algorithm page, section 8).

A stream of rows goes to DRAM without gaps from `base` on, 2 bytes an element, sign extended, little-endian: row n of D
elements at byte `base + 2 * D * n`. The last burst of a stream is filled up with zeros.

    rows -> beats of 16 elements -> row packer -> bursts, one a cycle -> a FIFO a channel

`status` is IDLE when every burst has been acknowledged by the memory and no stream is open; for SILENT and `silent`
see `hls.datapaths.watchdog`.

Ports: `element` (a row as prob x V gives it), `count` of its elements, `last` row of its stream, `base` (in 512 bytes,
read with the first row of a stream) with `in_valid`, `in_ready`; per channel `write_address` (in bursts), `write_data`,
`write_valid`, `write_ready`, `write_done` (an acknowledgement); `status`, `silent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.fetcher_parts import BASE_ALIGNMENT_BITS
from hls.datapaths.watchdog import PATIENCE_CYCLES, Channel, watchdog
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, fifo, register, skid_buffer
from hls.stream_rows import Rows, as_rows, as_stream, row_packer
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

ELEMENT_BITS = 16
BURST_ELEMENTS = BURST_BITS // ELEMENT_BITS
STREAMS = 2
"""Streams that are in the pipeline together."""
OWED_BITS = 6
"""A channel has less than 2^6 writes under way."""


@dataclass(frozen=True)
class WriteBackSize:
    """Sizes of a machine's write-back.

    Attributes:
        elements: of the longest row, in whole bursts.
        element_bits: bits of an element.
        channels: of the memory.
    """

    elements: int
    element_bits: int
    channels: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> WriteBackSize:
        """The sizes of `config`."""
        bursts = -(-config.max_head_dim // BURST_ELEMENTS)
        return cls(bursts * BURST_ELEMENTS, config.datapath_bits, config.hbm_channels)

    @property
    def beats(self) -> int:
        """Beats of the longest row."""
        return self.elements // BURST_ELEMENTS


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(
    config: AcceleratorConfig, technology: Technology | None = None, patience_cycles: int = PATIENCE_CYCLES
) -> Netlist:
    """The write-back as a netlist; `technology` changes nothing."""
    del technology
    size = WriteBackSize.of(config)
    block = pyrtl.Block()
    with building(block):
        beats, bases, is_open = _beats(size, block)
        cut = skid_buffer(as_stream(beats, block), block=block, prefix="beat_")
        packed = row_packer(as_rows(cut, BURST_ELEMENTS, block), block=block)
        rows = skid_buffer(as_stream(packed, block), block=block, prefix="packed_")
        queues = _bursts(size, as_rows(rows, BURST_ELEMENTS, block), bases, block)
        channels = _writes(queues, block)
        busy = pyrtl.rtl_any(is_open, cut.valid, packed.valid, rows.valid, *[channel.owes for channel in channels])
        status, silent = watchdog(channels, patience_cycles, busy, block)
        output_ports({"status": status, "silent": silent})
    block.sanity_check()
    return Netlist("write_back", block)


def _beats(size: WriteBackSize, block: pyrtl.Block) -> tuple[Rows, Stream, Wire]:
    """Rows in beats, elements beyond `count` as zeros; the base of every stream; whether a stream is open."""
    element = pyrtl.Input(size.elements * size.element_bits, "element")
    count = pyrtl.Input(size.elements.bit_length(), "count")
    last, valid = pyrtl.Input(1, "last"), pyrtl.Input(1, "in_valid")
    beat = register(max(1, (size.beats - 1).bit_length()), "beat", block)
    is_open = register(1, "is_open", block)
    words = lanes_of(element, size.elements)
    remaining = register(len(count), "remaining", block)
    left = pyrtl.select(beat == 0, count, remaining)
    more = left > BURST_ELEMENTS
    here_count = pyrtl.select(more, pyrtl.Const(BURST_ELEMENTS, len(count)), left)[: BURST_ELEMENTS.bit_length()]
    masked = []
    for i in range(BURST_ELEMENTS):
        choices = [words[b * BURST_ELEMENTS + i] for b in range(size.beats)]
        here = choices[0] if size.beats == 1 else pyrtl.mux(beat, *choices, default=choices[-1])
        masked.append(here.sign_extended(ELEMENT_BITS) & (here_count > i).sign_extended(ELEMENT_BITS))
    begins = Stream(
        pyrtl.Input(BURST_ADDRESS_BITS + 5 - BASE_ALIGNMENT_BITS, "base"),
        pyrtl.WireVector(1, "begins"),
        pyrtl.WireVector(1, "begins_ready"),
    )
    bases = fifo(begins, STREAMS, block=block, prefix="bases_").stream
    offered = valid & (is_open | begins.ready)
    rows = Rows(tuple(masked), here_count, last & ~more, offered, pyrtl.WireVector(1, "beats_ready"))
    moves = offered & rows.ready
    drive(begins.valid, valid & rows.ready & ~is_open)
    following = pyrtl.select(more, (beat + 1)[: len(beat)], pyrtl.Const(0, len(beat)))
    beat.next <<= pyrtl.select(moves, following, beat)
    remaining.next <<= pyrtl.select(moves, (left - BURST_ELEMENTS)[: len(count)], remaining)
    is_open.next <<= pyrtl.select(moves, ~rows.last, is_open)
    ready = pyrtl.Output(1, "in_ready")
    ready <<= rows.ready & ~more & (is_open | begins.ready)
    return rows, bases, is_open


def _bursts(size: WriteBackSize, rows: Rows, bases: Stream, block: pyrtl.Block) -> list[Stream]:
    """Packed beats to FIFOs of the channels: address, then data."""
    address, within = register(BURST_ADDRESS_BITS, "address", block), register(1, "within", block)
    base = pyrtl.concat(bases.data, pyrtl.Const(0, BASE_ALIGNMENT_BITS - 5))
    here = pyrtl.select(within, address, base)
    there = rows.valid & (within | bases.valid)
    is_burst = rows.count != 0
    data = pyrtl.concat_list([here, *rows.elements])
    channel_bits = size.channels.bit_length() - 1
    inputs, takes = [], []
    for c in range(size.channels):
        mine = (here[:channel_bits] == c) if channel_bits else pyrtl.Const(1, 1)
        ready = pyrtl.WireVector(1, f"write_{c}_room")
        inputs.append(Stream(data, there & is_burst & mine, ready))
        takes.append(mine & ready)
    goes = there & (~is_burst | pyrtl.rtl_any(*takes))
    drive(rows.ready, goes)
    drive(bases.ready, goes & rows.last)
    address.next <<= pyrtl.select(goes, (here + 1)[: len(address)], address)
    within.next <<= pyrtl.select(goes, ~rows.last, within)
    return [fifo(one, 2, block=block, prefix=f"write_{c}_").stream for c, one in enumerate(inputs)]


def _writes(queues: Sequence[Stream], block: pyrtl.Block) -> list[Channel]:
    """Ports of the channels, and what they owe."""
    ready, done = pyrtl.Input(len(queues), "write_ready"), pyrtl.Input(len(queues), "write_done")
    valids, channels = [], []
    for c, queue in enumerate(queues):
        owed = register(OWED_BITS, f"owed_{c}", block)
        allowed = owed != (1 << OWED_BITS) - 1
        valids.append(queue.valid & allowed)
        drive(queue.ready, ready[c] & allowed)
        sent = valids[c] & ready[c]
        more, fewer = sent & ~done[c], done[c] & ~sent
        after = pyrtl.select(more, (owed + 1)[:OWED_BITS], owed)
        owed.next <<= pyrtl.select(fewer, (owed - 1)[:OWED_BITS], after)
        channels.append(Channel((owed != 0) | queue.valid, sent | done[c]))
    outputs = {
        "write_valid": pyrtl.concat_list(valids),
        "write_address": pyrtl.concat_list([queue.data[:BURST_ADDRESS_BITS] for queue in queues]),
        "write_data": pyrtl.concat_list([queue.data[BURST_ADDRESS_BITS:] for queue in queues]),
    }
    output_ports(outputs)
    return channels
