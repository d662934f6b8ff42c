"""Memory port: one request port a channel for all that reads and writes (architecture page, datapath 14).

    fetcher, a FIFO a channel ---+
    control reads, by channel ---+-> round robin -> 2 requests -> memory, a channel
    write-back, a FIFO a channel-+
    control writes, by channel --+

Requests of a channel take turns. The top bit of a tag tells the answers of control reads from the fetcher's; answers
are never refused. The memory acknowledges writes without saying which, so those of a channel are counted by their
origin: an acknowledgement is the write-back's while it is owed one, else the control writes'. When nothing is owed to
either, everything has been acknowledged, whichever came first.

Ports, a channel each: `request_address`, `request_tag`, `request_valid`, `request_ready` and `fetch_answer_tag`,
`fetch_answer_data`, `fetch_answer_valid` (fetcher); `write_address`, `write_data`, `write_valid`, `write_ready`,
`write_back_done` (write-back); `control_answer_*` (control reads); to the memory `memory_address` (in bursts),
`memory_tag`, `memory_write`, `memory_data` under `memory_valid`, `memory_ready`, and from it `answer_tag`,
`answer_data`, `answer_valid`, `write_done`. Once for all channels: `control_read_*` and `control_write_*` (the lowest
address bits are the channel); `writes_pending`: a control write is not acknowledged; `writes_move`: one moves.

`write_ready`, `control_read_ready` and `control_write_ready` depend on the valid bits of the same cycle; no valid bit
depends on a ready bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.control_read import ControlReadSize
from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS, tag_bits
from hls.datapaths.write_back import OWED_BITS
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import Stream, drive, fifo, register
from hls.stream_flow import round_robin
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class MemoryPortSize:
    """Sizes of a machine's memory port.

    Attributes:
        channels: of the memory.
        fetch_tag: bits of a tag of the fetcher.
        control_tag: bits of a tag of a control read.
    """

    channels: int
    fetch_tag: int
    control_tag: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> MemoryPortSize:
        """The sizes of `config`."""
        return cls(config.hbm_channels, tag_bits(config), ControlReadSize.of(config).slot_bits)

    @property
    def tag(self) -> int:
        """Bits of a tag at the memory."""
        return max(self.fetch_tag, self.control_tag) + 1


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The memory port as a netlist; `technology` changes nothing."""
    del technology
    size = MemoryPortSize.of(config)
    block = pyrtl.Block()
    with building(block):
        fetches = _fetches(size, block)
        written = _by_channel(size, "write", BURST_BITS, block)
        reads = _shared(size, "control_read", size.control_tag, block)
        writes = _shared(size, "control_write", BURST_BITS, block)
        done, ready = pyrtl.Input(size.channels, "write_done"), pyrtl.Input(size.channels, "memory_ready")
        ports: dict[str, list[Wire]] = {name: [] for name in ("address", "tag", "write", "data", "valid")}
        back_done, owed, moves = [], [], []
        for c in range(size.channels):
            out, owed_back, owed_control, entered = _channel(
                size, (fetches[c], reads[c], written[c], writes[c]), done[c], c, block
            )
            drive(out.ready, ready[c])
            address, tag = BURST_ADDRESS_BITS, BURST_ADDRESS_BITS + size.tag
            ports["address"].append(out.data[:address])
            ports["tag"].append(out.data[address:tag])
            ports["write"].append(out.data[tag])
            ports["data"].append(out.data[tag + 1 :])
            ports["valid"].append(out.valid)
            back_done.append(done[c] & owed_back)
            owed.append(owed_control)
            moves.append(entered | (done[c] & ~owed_back))
        outputs = {f"memory_{name}": pyrtl.concat_list(wires) for name, wires in ports.items()}
        outputs |= {
            "write_back_done": pyrtl.concat_list(back_done),
            "writes_pending": pyrtl.rtl_any(*owed),
            "writes_move": pyrtl.rtl_any(*moves),
            **_answers(size),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("memory_port", block)


def _channel(
    size: MemoryPortSize, sources: tuple[Stream, Stream, Stream, Stream], done: Wire, c: int, block: pyrtl.Block
) -> tuple[Stream, Wire, Wire, Wire]:
    """The requests of a channel; whether it owes the write-back, the control writes; whether a control write enters."""
    fetch, read, back, control = sources
    owed_back, owed_control = (register(OWED_BITS, f"owed_{name}_{c}", block) for name in ("back", "control"))
    limit = (1 << OWED_BITS) - 1
    requests = []
    for i, (source, tag, allowed) in enumerate(
        (
            (fetch, fetch.data[BURST_ADDRESS_BITS:].zero_extended(size.tag), None),
            (
                read,
                pyrtl.concat(pyrtl.Const(1, 1), read.data[BURST_ADDRESS_BITS:].zero_extended(size.tag - 1)),
                None,
            ),
            (back, pyrtl.Const(0, size.tag), owed_back != limit),
            (control, pyrtl.Const(0, size.tag), owed_control != limit),
        )
    ):
        granted = pyrtl.WireVector(1, f"granted_{c}_{i}")
        drive(source.ready, granted if allowed is None else granted & allowed)
        is_write = pyrtl.Const(int(allowed is not None), 1)
        item = pyrtl.concat(is_write, tag, source.data[:BURST_ADDRESS_BITS])
        requests.append(Stream(item, source.valid if allowed is None else source.valid & allowed, granted))
    chosen = round_robin(requests, block=block, prefix=f"turn_{c}_")
    data = pyrtl.select(chosen.winner == 3, control.data[BURST_ADDRESS_BITS:], back.data[BURST_ADDRESS_BITS:])
    out = Stream(pyrtl.concat(data, chosen.stream.data), chosen.stream.valid, chosen.stream.ready)
    entered = {}
    for counter, index, mine in ((owed_back, 2, done & (owed_back != 0)), (owed_control, 3, done & (owed_back == 0))):
        enters = requests[index].valid & requests[index].ready
        more, fewer = enters & ~mine, mine & ~enters
        after = pyrtl.select(more, (counter + 1)[:OWED_BITS], counter)
        counter.next <<= pyrtl.select(fewer, (counter - 1)[:OWED_BITS], after)
        entered[index] = enters
    queued = fifo(out, 2, block=block, storage="memory", prefix=f"memory_{c}_").stream
    return queued, owed_back != 0, owed_control != 0, entered[3]


def _fetches(size: MemoryPortSize, block: pyrtl.Block) -> list[Stream]:
    """The fetcher's requests, a short FIFO a channel: the fetcher does not see who else asks."""
    address = lanes_of(pyrtl.Input(size.channels * BURST_ADDRESS_BITS, "request_address"), size.channels)
    tag = lanes_of(pyrtl.Input(size.channels * size.fetch_tag, "request_tag"), size.channels)
    valid = pyrtl.Input(size.channels, "request_valid")
    ready, streams = [], []
    for c in range(size.channels):
        taken = Stream(pyrtl.concat(tag[c], address[c]), valid[c], pyrtl.WireVector(1, f"fetch_{c}_room"))
        streams.append(fifo(taken, 2, block=block, prefix=f"fetch_{c}_").stream)
        ready.append(taken.ready)
    output_ports({"request_ready": pyrtl.concat_list(ready)})
    return streams


def _by_channel(size: MemoryPortSize, name: str, bits: int, block: pyrtl.Block) -> list[Stream]:
    """Streams of address and `bits` of data, one a channel."""
    address = lanes_of(pyrtl.Input(size.channels * BURST_ADDRESS_BITS, f"{name}_address"), size.channels)
    data = lanes_of(pyrtl.Input(size.channels * bits, f"{name}_data"), size.channels)
    valid = pyrtl.Input(size.channels, f"{name}_valid")
    ready = [pyrtl.WireVector(1, f"{name}_{c}_taken") for c in range(size.channels)]
    output_ports({f"{name}_ready": pyrtl.concat_list(ready)})
    return [
        Stream(
            pyrtl.concat(data[c], address[c]),
            valid[c],
            ready[c],
        )
        for c in range(size.channels)
    ]


def _shared(size: MemoryPortSize, name: str, bits: int, block: pyrtl.Block) -> list[Stream]:
    """One stream of address and `bits` of data or tag, offered to the channel of its address."""
    address, valid = pyrtl.Input(BURST_ADDRESS_BITS, f"{name}_address"), pyrtl.Input(1, f"{name}_valid")
    rest = pyrtl.Input(bits, f"{name}_data" if bits == BURST_BITS else f"{name}_tag")
    channel_bits = size.channels.bit_length() - 1
    streams, takes = [], []
    for c in range(size.channels):
        mine = (address[:channel_bits] == c) if channel_bits else pyrtl.Const(1, 1)
        taken = pyrtl.WireVector(1, f"{name}_{c}_taken")
        streams.append(Stream(pyrtl.concat(rest, address), valid & mine, taken))
        takes.append(taken & mine)
    output_ports({f"{name}_ready": pyrtl.rtl_any(*takes)})
    return streams


def _answers(size: MemoryPortSize) -> dict[str, Wire]:
    """Answers to whom they belong; the data go to both."""
    tags, valid = pyrtl.Input(size.channels * size.tag, "answer_tag"), pyrtl.Input(size.channels, "answer_valid")
    data = pyrtl.Input(size.channels * BURST_BITS, "answer_data")
    each = lanes_of(tags, size.channels)
    controls = pyrtl.concat_list([tag[-1] for tag in each])
    return {
        "fetch_answer_tag": pyrtl.concat_list([tag[: size.fetch_tag] for tag in each]),
        "fetch_answer_data": data,
        "fetch_answer_valid": valid & ~controls,
        "control_answer_tag": pyrtl.concat_list([tag[: size.control_tag] for tag in each]),
        "control_answer_data": data,
        "control_answer_valid": valid & controls,
    }
