"""Crossbars between the fetcher's queues and the memory's channels (architecture page, datapaths 4 and 5).

Every input offers an item with the number of its output. In each cycle every output takes at most one item, of the
inputs that ask for it the first at or behind its place in a circle of all inputs; the place then moves behind the
winner. So of n inputs that ask, each waits for at most n - 1 items of that output, whatever the pattern.

    ask[o][i]   = valid[i] & (destination[i] == o) & free[o]
    grant[o][i] = i is the lowest in ask[o] & behind[o], or where that is empty, in ask[o]
    behind[o]   = the inputs above the winner                          (unchanged if there was none)

Two cycles: `arbitrate`, then `route` (an and-or of all granted items). Nothing between them stalls: an output that can
stall has a FIFO of `depth` items, and `free[o]` says that its items and those on their way leave room. An output
that never stalls (`depth` 0: the write ports of the data queues) has none, and is always free.

    cycle      0    1    2
    in         a0   b0                (both for output 0)
    granted         a0   b0
    out                  a0           (then b0)

The address crossbar takes addresses and tags from `fetch_queues` queues to `hbm_channels` channels; the data crossbar
takes the answers back. An input whose items are all for one output never waits for another input's output.

The data crossbar is `data_parts` crossbars side by side, each for its share of the queues: a channel has a FIFO of
answers for each of them (virtual output queues). With one FIFO a channel, the answer at its head keeps those behind it
from queues that are free: with 16 channels and 32 queues, DRAM gave 0.78 of what it can where it now gives 0.89, which
is all that its refreshes leave.

Ports of a whole crossbar, element 0 lowest: `in_item`, `in_destination`, `in_valid`, `in_ready` and `out_item`,
`out_valid`, `out_ready`; without `out_ready` where outputs never stall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of
from hls.schedule import Schedule, schedule
from hls.stream import Stream, drive, fifo, register
from hls.technology import Technology
from hls.trace import (
    Bool,
    Graph,
    HlsError,
    UInt,
    Value,
    Vec,
    Vector,
    concat,
    reduce_tree,
    select,
    trace,
    vector,
)
from models.config import AcceleratorConfig

ADDRESS_BITS = 34
BURST_BYTES = 32
BURST_BITS = 8 * BURST_BYTES
BURST_ADDRESS_BITS = ADDRESS_BITS - 5
DATA_PARTS = 2
"""Of the data crossbar: each has half of the queues, so a channel that gives a burst a cycle asks each every other
cycle, below the 0.59 that heads of FIFOs let through for random outputs. Four parts measured the same."""
QUEUES_UNDER_WAY = 2
"""Data queues' worth of bursts that a queue has under way or waiting. Places are reserved with the requests and bursts
come out of order, 45 to 64 cycles later, a burst every other cycle: with one data queue's worth (32 bursts) a queue
that is late, as it has a vector more or a busy channel, cannot catch up, and all others wait for it. Measured on GPT-2
small with 12 bits, nothing pruned: 5,595 cycles a layer with one, 5,456 with one and a half, 5,413 with two."""
OUTPUT_DEPTH = 4
"""Items of an output's FIFO: an item's room is known to be free again three cycles after it was granted."""


@dataclass(frozen=True)
class CrossbarSize:
    """A crossbar of `inputs` to `outputs` for items of `item_bits`; outputs with a FIFO of `depth` items, or none (0).

    Raises:
        HlsError: for a size below 1.
    """

    inputs: int
    outputs: int
    item_bits: int
    depth: int

    def __post_init__(self) -> None:
        if min(self.inputs, self.outputs, self.item_bits) < 1 or self.depth < 0:
            raise HlsError(f"{self}: at least 1 input, 1 output, 1 bit and a depth of 0 (no FIFO) work")

    @property
    def destination_bits(self) -> int:
        """Bits of the number of an output."""
        return max(1, (self.outputs - 1).bit_length())


def slot_bits(config: AcceleratorConfig) -> int:
    """Bits of the place of a burst in its reorder buffer."""
    return max(1, (burst_slots(config) - 1).bit_length())


def burst_slots(config: AcceleratorConfig) -> int:
    """Bursts that the reorder buffer of a queue holds."""
    return max(1, QUEUES_UNDER_WAY * config.data_queue_depth * config.data_queue_bytes // BURST_BYTES)


def queue_bits(config: AcceleratorConfig) -> int:
    """Bits of the number of a queue."""
    return max(1, (config.fetch_queues - 1).bit_length())


def tag_bits(config: AcceleratorConfig) -> int:
    """Bits of a request's tag: the place in the reorder buffer, and above it the number of the queue."""
    return slot_bits(config) + queue_bits(config)


def address_size(config: AcceleratorConfig) -> CrossbarSize:
    """The address crossbar: items are burst addresses with the tag above them, as words of the address queues.

    Raises:
        HlsError: if a word of an address queue is too short for that.
    """
    item_bits = BURST_ADDRESS_BITS + tag_bits(config)
    if item_bits > 8 * config.address_queue_bytes:
        raise HlsError(
            f"address queues of {config.address_queue_bytes} bytes a word: an address and its tag have {item_bits} "
            f"bits; use {-(-item_bits // 8)}"
        )
    return CrossbarSize(config.fetch_queues, config.hbm_channels, item_bits, OUTPUT_DEPTH)


def data_parts(config: AcceleratorConfig) -> int:
    """Parts of the data crossbar, of two queues at least."""
    return max(1, min(DATA_PARTS, config.fetch_queues // 2))


def data_size(config: AcceleratorConfig) -> CrossbarSize:
    """A part of the data crossbar: items are bursts with the place in the reorder buffer above them."""
    queues = config.fetch_queues // data_parts(config)
    return CrossbarSize(config.hbm_channels, queues, BURST_BITS + slot_bits(config), 0)


def any_before(bits: Value) -> tuple[Value, Value]:
    """For every bit whether one below it is set, in log2(n) levels; and whether any is."""
    found, count, reach = bits, bits.type.width, 1
    while reach < count:
        found = found | (found << reach)[:count]
        reach *= 2
    return (found << 1)[:count], found[count - 1]


def arbitrate_graph(size: CrossbarSize) -> Graph:
    """Who is granted: at most one input an output, one output an input; a word has a bit an input."""

    def arbitrate(valid: Vector, destination: Vector, free: Vector, behind: Vector) -> dict[str, object]:
        grants, granted, following = [], [], []
        for o in range(size.outputs):
            asks = concat(*[valid[i] & (destination[i] == o) & free[o] for i in range(size.inputs)])
            later = asks & behind[o]
            (below_ask, asked), (below_later, is_later) = any_before(asks), any_before(later)
            grant = select(is_later, later & ~below_later, asks & ~below_ask)
            above, _ = any_before(grant)
            grants.append(grant)
            granted.append(asked)
            following.append(select(asked, above, behind[o]))
        return {
            "grant": vector(grants),
            "granted": vector(granted),
            "taken": reduce_tree(lambda a, b: a | b, grants),
            "following": vector(following),
        }

    by_input = UInt(size.inputs)
    return trace(
        arbitrate,
        inputs={
            "valid": Vec(Bool, size.inputs),
            "destination": Vec(UInt(size.destination_bits), size.inputs),
            "free": Vec(Bool, size.outputs),
            "behind": Vec(by_input, size.outputs),
        },
        outputs={
            "grant": Vec(by_input, size.outputs),
            "granted": Vec(Bool, size.outputs),
            "taken": by_input,
            "following": Vec(by_input, size.outputs),
        },
    )


def route_graph(size: CrossbarSize) -> Graph:
    """The granted item of every output, 0 where there is none."""

    def route(grant: Vector, item: Vector) -> dict[str, object]:
        def chosen(o: int) -> Value:
            masked = [concat(*[grant[o][i]] * size.item_bits) & item[i] for i in range(size.inputs)]
            item_of_output: Value = reduce_tree(lambda a, b: a | b, masked)
            return item_of_output

        return {"routed": vector([chosen(o) for o in range(size.outputs)])}

    return trace(
        route,
        inputs={
            "grant": Vec(Vec(Bool, size.inputs), size.outputs),
            "item": Vec(UInt(size.item_bits), size.inputs),
        },
        outputs={"routed": Vec(UInt(size.item_bits), size.outputs)},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts of both crossbars by name."""
    sizes = {"address": address_size(config), "data": data_size(config)}
    return {f"{name}_arbitrate": arbitrate_graph(size) for name, size in sizes.items()} | {
        f"{name}_route": route_graph(size) for name, size in sizes.items()
    }


def in_one_cycle(graph: Graph, technology: Technology, clock_period_ps: int, where: str) -> Schedule:
    """The schedule of a part between registers.

    Raises:
        HlsError: if it needs more than a cycle.
    """
    made = schedule(graph, technology, clock_period_ps, output_register=False)
    if made.latency_cycles:
        shortest = sum(made.stage_delays_ps) + made.overhead_ps
        raise HlsError(f"{where}: {graph.name} needs one cycle of about {shortest} ps, not {clock_period_ps}")
    return made


@dataclass(frozen=True)
class CrossbarPlan:
    """The schedules of the parts."""

    size: CrossbarSize
    arbitrate: Schedule
    route: Schedule


def plan(size: CrossbarSize, config: AcceleratorConfig, technology: Technology | None = None) -> CrossbarPlan:
    """Both parts at the clock of `config`.

    Raises:
        HlsError: if the clock is too fast for a part, each taking one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    return CrossbarPlan(
        size,
        in_one_cycle(arbitrate_graph(size), library, period, "crossbar"),
        in_one_cycle(route_graph(size), library, period, "crossbar"),
    )


def crossbar(
    sources: Sequence[Stream], destinations: Sequence[Wire], parts: CrossbarPlan, *, block: pyrtl.Block, prefix: str
) -> list[Stream]:
    """Build a crossbar into `block`: drives `ready` of the sources, returns a stream an output.

    A source's item and destination stay while it waits. Sources should come from registers: arbitration takes a cycle.
    An output without a FIFO has to take every item; its `ready` is the constant 1.
    """
    size = parts.size
    with building(block):
        behind = [register(size.inputs, f"{prefix}behind_{o}", block) for o in range(size.outputs)]
        items = [register(size.item_bits, f"{prefix}item_{i}", block) for i in range(size.inputs)]
        grants = [register(size.inputs, f"{prefix}grant_{o}", block) for o in range(size.outputs)]
        granted = [register(1, f"{prefix}granted_{o}", block) for o in range(size.outputs)]
        free = [pyrtl.WireVector(1, f"{prefix}free_{o}") for o in range(size.outputs)]
        asked = {
            "valid": [source.valid for source in sources],
            "destination": list(destinations),
            "free": free,
            "behind": pyrtl.concat_list(behind),
        }
        decided = instantiate(parts.arbitrate, asked, block, prefix=f"{prefix}arbitrate_").outputs
        chosen = {"grant": pyrtl.concat_list(grants), "item": items}
        routed = instantiate(parts.route, chosen, block, prefix=f"{prefix}route_").outputs["routed"]
        for i, source in enumerate(sources):
            drive(source.ready, decided["taken"][i])
            items[i].next <<= source.data
        outputs = []
        for o in range(size.outputs):
            inputs = slice(o * size.inputs, (o + 1) * size.inputs)
            grants[o].next <<= decided["grant"][inputs]
            granted[o].next <<= decided["granted"][o]
            behind[o].next <<= decided["following"][inputs]
            arrival = routed[o * size.item_bits : (o + 1) * size.item_bits]
            build_output = _stalling_output if size.depth else _ready_output
            outputs.append(
                build_output(arrival, granted[o], decided["granted"][o], free[o], size.depth, block, f"{prefix}{o}_")
            )
    return outputs


def _ready_output(
    arrival: Wire, arrives: Wire, leaves_source: Wire, free: Wire, depth: int, block: pyrtl.Block, prefix: str
) -> Stream:
    """A register."""
    del leaves_source, depth
    free <<= pyrtl.Const(1, 1)
    item, valid = register(len(arrival), f"{prefix}out", block), register(1, f"{prefix}out_valid", block)
    item.next <<= arrival
    valid.next <<= arrives
    return Stream(item, valid, pyrtl.Const(1, 1))


def _stalling_output(
    arrival: Wire, arrives: Wire, leaves_source: Wire, free: Wire, depth: int, block: pyrtl.Block, prefix: str
) -> Stream:
    """A FIFO that is never full when an item arrives: `credit` counts the room that nobody has been granted."""
    credit = register(depth.bit_length(), f"{prefix}credit", block, reset_value=depth)
    free <<= credit != 0
    arriving = Stream(arrival, arrives, pyrtl.WireVector(1, f"{prefix}room", block=block))
    out = fifo(arriving, depth, block=block, prefix=f"{prefix}fifo_").stream
    leaves = out.valid & out.ready
    fewer, more = leaves_source & ~leaves, leaves & ~leaves_source
    after = pyrtl.select(fewer, (credit - 1)[: len(credit)], credit)
    credit.next <<= pyrtl.select(more, (credit + 1)[: len(credit)], after)
    return out


def build_size(
    name: str, size: CrossbarSize, config: AcceleratorConfig, technology: Technology | None = None
) -> Netlist:
    """A crossbar of any size as a netlist, at the clock of `config`."""
    parts = plan(size, config, technology)
    block = pyrtl.Block()
    with building(block):
        item = pyrtl.Input(size.inputs * size.item_bits, "in_item")
        where = pyrtl.Input(size.inputs * size.destination_bits, "in_destination")
        valid = pyrtl.Input(size.inputs, "in_valid")
        ready = [pyrtl.WireVector(1, f"ready_{i}") for i in range(size.inputs)]
        sources = [Stream(part, valid[i], ready[i]) for i, part in enumerate(lanes_of(item, size.inputs))]
        wanted = lanes_of(where, size.inputs)
        outputs = crossbar(sources, wanted, parts, block=block, prefix="")
        if size.depth:
            accepted = pyrtl.Input(size.outputs, "out_ready")
            for o, out in enumerate(outputs):
                drive(out.ready, accepted[o])
        ports = {
            "in_ready": pyrtl.concat_list(ready),
            "out_item": pyrtl.concat_list([out.data for out in outputs]),
            "out_valid": pyrtl.concat_list([out.valid for out in outputs]),
        }
        output_ports(ports)
    return Netlist(name, block)


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The address crossbar."""
    return build_size("address_crossbar", address_size(config), config, technology)


def build_data(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """A part of the data crossbar."""
    return build_size("data_crossbar", data_size(config), config, technology)
