"""QKV fetcher: lists of ids to bursts, over all channels at once, to words of vectors in id order (datapath 3).

    ids -> locate -> neighbours -> Q address queues -> address crossbar -> C channels
    words <- Q reorder buffers (data queues) <- data crossbar, in two parts <- 2 C answer FIFOs <-

The vector at place i of a list goes to queue i mod Q, so queue q gives vectors q, q + Q, ... of the list, each as the
words that it touches, in order, to lane q of the bitwidth converter. A list that is `turned` begins at the middle
queue, vector i goes to i + Q / 2 mod Q. For the queues together take just what DRAM gives: were all lists to begin at
the first queue, and so to end behind the last ones that are full, the others would rest. K, V and Q, their LSB planes,
prompt and generation are lists with another base, stride and length. Heads of more than a converter's row of elements,
D = n rows of r, are fetched as lists of rows: id * n, id * n + 1, ..., with the stride and length of r elements.

Neighbours in a list that share a burst fetch it once: the first of them passes it on (`hls.datapaths.fetch_lane`).
Rows of ids wait for the next row, to see whether it shares; the last row of a list says that there is none. Every row
but the last of its list is full.

Answers may come after any time, in any order, within a channel too: the tag of a request is its queue and place.
A channel has no more requests under way than each of its answer FIFOs can take, one for the lower half of the queues,
one for the upper half (`hls.datapaths.crossbar`: why two). So no answer is ever refused, and with the place reserved in
the reorder buffer none can wait for another.

A reorder buffer has places for two data queues (`hls.datapaths.crossbar.QUEUES_UNDER_WAY`: why). That is more than
published, 64 bursts a queue, not 32, and smaller: 64 rows are a memory, of 32 the estimate makes flip-flops (a queue
takes 0.035 mm2 at 40 nm, not 0.079).

Watchdog: `status` is IDLE, BUSY or SILENT. SILENT, until reset: a channel that owed something (`silent`: one bit a
channel) neither accepted nor answered anything for `patience_cycles`; `waiting` has the queues whose next word waits
for an answer.

Ports: `ids`, `count`, `last`, `turned`, `base`, `stride`, `length` with `in_valid`, `in_ready`; per channel
`request_address` (in bursts), `request_tag`, `request_valid`, `request_ready`, and `answer_tag`, `answer_data`,
`answer_valid`; per queue `word`, `offset` (of the vector in its first word), `word_first`, `word_last`, `out_valid`,
`out_ready`; `status`, `silent`, `waiting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyrtl

from hls import technology as technologies
from hls.datapaths.crossbar import (
    BURST_BITS,
    CrossbarPlan,
    address_size,
    crossbar,
    data_parts,
    data_size,
    in_one_cycle,
    queue_bits,
    slot_bits,
    tag_bits,
)
from hls.datapaths.crossbar import plan as crossbar_plan
from hls.datapaths.fetch_lane import Vectors, lane
from hls.datapaths.fetcher_parts import FetcherTypes, locate_graph, neighbours_graph
from hls.datapaths.watchdog import PATIENCE_CYCLES, Channel, watchdog
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire, lanes_of
from hls.schedule import Schedule, schedule
from hls.stream import Storage, Stream, drive, fifo, register, skid_buffer
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

SRAM_ROWS = 64
"""Rows from which on a memory is SRAM; flip-flops of a burst's width are selected too slowly."""


@dataclass(frozen=True)
class FetcherPlan:
    """The schedules of the parts."""

    locate: Schedule
    neighbours: Schedule
    addresses: CrossbarPlan
    data: CrossbarPlan


@dataclass(frozen=True, eq=False)
class QueueEnds:
    """Of a queue: vectors in, requests out, whether there is something in it."""

    vectors: Stream
    requests: Stream
    busy: Wire


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name; those of the crossbars are theirs."""
    return {"locate": locate_graph(config), "neighbours": neighbours_graph(config)}


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> FetcherPlan:
    """The parts at the clock of `config`.

    Raises:
        HlsError: if the clock is too fast for a part.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    return FetcherPlan(
        locate=schedule(locate_graph(config), library, period),
        neighbours=in_one_cycle(neighbours_graph(config), library, period, "fetcher"),
        addresses=crossbar_plan(address_size(config), config, library),
        data=crossbar_plan(data_size(config), config, library),
    )


def build(
    config: AcceleratorConfig, technology: Technology | None = None, patience_cycles: int = PATIENCE_CYCLES
) -> Netlist:
    """The whole fetcher as a netlist.

    Raises:
        HlsError: if the clock is too fast for the technology, or for words that cannot be built.
    """
    types, parts, queues = FetcherTypes.of(config), plan(config, technology), config.fetch_queues
    block = pyrtl.Block()
    with building(block):
        answers = _answers(config, block)
        places = _split_answers(config, answers, parts, block)
        links = [
            (
                pyrtl.WireVector(1, f"link_{q}_offered"),
                pyrtl.WireVector(BURST_BITS, f"link_{q}_burst"),
                pyrtl.WireVector(1, f"link_{q}_taken"),
            )
            for q in range(queues)
        ]
        numbers = [pyrtl.Const(q, queue_bits(config)) for q in range(queues)]
        lanes = [
            lane(numbers[q], config, places[q], links[q - 1], block=block, prefix=f"lane_{q}_") for q in range(queues)
        ]
        for link, one in zip(links, lanes, strict=True):
            drive(link[0], one.offered)
            drive(link[1], one.offered_burst)
            drive(one.taken, link[2])
        ends = [QueueEnds(one.vectors, one.requests, one.busy) for one in lanes]
        _switch(config, types, parts, ends, answers, patience_cycles, block)
        accepted = pyrtl.Input(queues, "out_ready")
        for q, one in enumerate(lanes):
            drive(one.words.ready, accepted[q])
        word, in_word = types.word.width, types.offset.width - types.word_bits
        outputs = {
            "word": pyrtl.concat_list([one.words.data[:word] for one in lanes]),
            "offset": pyrtl.concat_list([one.words.data[word : word + in_word] for one in lanes]),
            "word_first": pyrtl.concat_list([one.words.data[word + in_word] for one in lanes]),
            "word_last": pyrtl.concat_list([one.words.data[word + in_word + 1] for one in lanes]),
            "out_valid": pyrtl.concat_list([one.words.valid for one in lanes]),
            "waiting": pyrtl.concat_list([one.waits for one in lanes]),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("fetcher", block)


def build_switch(
    config: AcceleratorConfig, technology: Technology | None = None, patience_cycles: int = PATIENCE_CYCLES
) -> Netlist:
    """The fetcher without its queues (`hls.datapaths.fetch_lane.build`), which are ports.

    To queue q `queue_vector_q` and `queue_answer_q`, to all side by side `queue_vector_valid`, `queue_answer_valid`,
    `queue_request_ready`; from all `queue_vector_ready`, `queue_request`, `queue_request_valid`, `queue_busy`.

    Raises:
        HlsError: as `build`.
    """
    types, parts, queues = FetcherTypes.of(config), plan(config, technology), config.fetch_queues
    vector_bits, request_bits = types.vector_bits, address_size(config).item_bits
    block = pyrtl.Block()
    with building(block):
        answers = _answers(config, block)
        places = _split_answers(config, answers, parts, block)
        given = {"vector_ready": 1, "request": request_bits, "request_valid": 1, "busy": 1}
        have = {name: lanes_of(pyrtl.Input(queues * bits, f"queue_{name}"), queues) for name, bits in given.items()}
        ends = [
            QueueEnds(
                Stream(pyrtl.WireVector(vector_bits), pyrtl.WireVector(1), have["vector_ready"][q]),
                Stream(have["request"][q], have["request_valid"][q], pyrtl.WireVector(1)),
                have["busy"][q],
            )
            for q in range(queues)
        ]
        _switch(config, types, parts, ends, answers, patience_cycles, block)
        outputs = {
            **{f"queue_vector_{q}": end.vectors.data for q, end in enumerate(ends)},
            **{f"queue_answer_{q}": place.data for q, place in enumerate(places)},
            "queue_vector_valid": pyrtl.concat_list([end.vectors.valid for end in ends]),
            "queue_answer_valid": pyrtl.concat_list([place.valid for place in places]),
            "queue_request_ready": pyrtl.concat_list([end.requests.ready for end in ends]),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("fetch_switch", block)


def _switch(
    config: AcceleratorConfig,
    types: FetcherTypes,
    parts: FetcherPlan,
    ends: Sequence[QueueEnds],
    answers: Sequence[Sequence[Stream]],
    patience_cycles: int,
    block: pyrtl.Block,
) -> None:
    """From ids to the queues, from these to the channels, and the watchdog."""
    channels = config.hbm_channels
    sources = _distribute(config, types, parts, [end.vectors for end in ends], block)
    wanted = [end.requests.data[: max(1, channels.bit_length() - 1)] for end in ends]
    if channels == 1:
        wanted = [pyrtl.Const(0, 1)] * len(ends)
    requests = crossbar([end.requests for end in ends], wanted, parts.addresses, block=block, prefix="address_")
    owed = _requests(config, requests, answers, block)
    busy = pyrtl.rtl_any(sources, *[end.busy for end in ends], *[c.owes for c in owed])
    status, silent = watchdog(owed, patience_cycles, busy, block)
    output_ports({"status": status, "silent": silent})


def _answers(config: AcceleratorConfig, block: pyrtl.Block) -> list[list[Stream]]:
    """For each part of the data crossbar a FIFO a channel; it is never full when an answer comes."""
    channels, parts = config.hbm_channels, data_parts(config)
    tags, data = (
        lanes_of(pyrtl.Input(channels * bits, name), channels)
        for name, bits in (("answer_tag", tag_bits(config)), ("answer_data", BURST_BITS))
    )
    valid = pyrtl.Input(channels, "answer_valid")
    part_bits = parts.bit_length() - 1
    taken: list[list[Stream]] = [[] for _ in range(parts)]
    for c, (tag, burst) in enumerate(zip(tags, data, strict=True)):
        for part, streams in enumerate(taken):
            arrives = valid[c] & (tag[-part_bits:] == part) if part_bits else valid[c]
            rest = tag[:-part_bits] if part_bits else tag
            answer = Stream(pyrtl.concat(rest, burst), arrives, pyrtl.WireVector(1, f"answer_{c}_{part}_room"))
            depth, prefix = config.address_queue_depth, f"answer_{c}_{part}_"
            storage: Storage = "memory" if depth >= SRAM_ROWS else "registers"
            held = fifo(answer, depth, block=block, storage=storage, prefix=prefix).stream
            streams.append(skid_buffer(held, block=block, prefix=f"{prefix}skid_"))
    return taken


def _split_answers(
    config: AcceleratorConfig, answers: Sequence[Sequence[Stream]], parts: FetcherPlan, block: pyrtl.Block
) -> list[Stream]:
    """The data crossbar: bursts with their places, by queue."""
    place = BURST_BITS + slot_bits(config)
    by_queue = []
    for part, given in enumerate(answers):
        sources = [Stream(answer.data[:place], answer.valid, answer.ready) for answer in given]
        wanted = [answer.data[place:] for answer in given]
        by_queue += crossbar(sources, wanted, parts.data, block=block, prefix=f"data_{part}_")
    return by_queue


def _distribute(
    config: AcceleratorConfig, types: FetcherTypes, parts: FetcherPlan, vectors: Sequence[Stream], block: pyrtl.Block
) -> Wire:
    """Rows of ids to the queues, a row of `hbm_channels` in turn; returns whether there is a row on its way."""
    channels, groups = config.hbm_channels, config.fetch_queues // config.hbm_channels
    ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.locate.graph.inputs}
    in_valid, advance = pyrtl.Input(1, "in_valid"), pyrtl.WireVector(1, "locate_advance")
    located = instantiate(parts.locate, ports, block, advance, in_valid, "locate_")
    ready = pyrtl.Output(1, "in_ready")
    ready <<= advance
    coming = located.outputs
    row = {name: register(len(wire), f"row_{name}", block) for name, wire in coming.items()}
    row_valid, shared = register(1, "row_valid", block), register(1, "row_shared", block)
    group = register(max(1, (groups - 1).bit_length()), "row_group", block)
    compared = {
        "first": row["first"],
        "ending": row["ending"],
        "following": coming["first"][: types.address.width],
        "count": row["row_count"][: types.count.width],
        "last": row["row_last"],
    }
    found = instantiate(parts.neighbours, compared, block, prefix="neighbours_").outputs
    there = found["there"]
    rooms = [pyrtl.rtl_all(*[vectors[g * channels + i].ready for i in range(channels)]) for g in range(groups)]
    to = group
    if types.half_turn:
        # they are a power of two, so the highest bit of a group is the half it is in
        to = pyrtl.concat_list([*(group[b] for b in range(len(group) - 1)), group[-1] ^ row["row_turned"]])
    room = rooms[0] if groups == 1 else pyrtl.mux(to, *rooms)
    goes = row_valid & room & (row["row_last"] | located.out_valid)
    takes = ~row_valid | goes
    advance <<= takes | ~located.out_valid
    row_valid.next <<= pyrtl.select(takes, located.out_valid, row_valid)
    for name, wire in row.items():
        wire.next <<= pyrtl.select(takes, coming[name], wire)
    shared.next <<= pyrtl.select(goes, found["shares"][channels - 1], shared)
    following = pyrtl.select(group == groups - 1, pyrtl.Const(0, len(group)), (group + 1)[: len(group)])
    following = pyrtl.select(row["row_last"], pyrtl.Const(0, len(group)), following)
    group.next <<= pyrtl.select(goes, following, group)
    fields = {name: lanes_of(row[name], channels) for name in ("first", "from_bit", "to_bit")}
    spans = lanes_of(found["span"], channels)
    word = types.word.width.bit_length() - 1
    for q, to_queue in enumerate(vectors):
        i = q % channels
        vector = Vectors(
            first=fields["first"][i],
            span=spans[i],
            first_word=fields["from_bit"][i][word:],
            last_word=fields["to_bit"][i][word:],
            shares_before=found["shares"][i - 1] if i else shared,
            shares_after=found["shares"][i],
            offset=fields["from_bit"][i][:word],
        )
        drive(to_queue.data, vector.packed())
        drive(to_queue.valid, goes & there[i] & (to == q // channels))
    return pyrtl.rtl_any(row_valid, *located.valids[1:])


def _requests(
    config: AcceleratorConfig, requests: Sequence[Stream], answers: Sequence[Sequence[Stream]], block: pyrtl.Block
) -> list[Channel]:
    """Ports of the channels; a channel's requests without an answer taken are at most the places of an answer FIFO."""
    depth = config.address_queue_depth
    ready, answered = pyrtl.Input(len(requests), "request_ready"), block.wirevector_by_name["answer_valid"]
    valids, channels = [], []
    for c, (request, *taken) in enumerate(zip(requests, *answers, strict=True)):
        room = register(depth.bit_length(), f"channel_{c}_room", block, reset_value=depth)
        allowed = room != 0
        valids.append(request.valid & allowed)
        drive(request.ready, ready[c] & allowed)
        sent = valids[c] & ready[c]
        moved = [(room - 1)[: len(room)], *((room + more)[: len(room)] for more in range(len(taken) + 1))]
        after = [pyrtl.select(sent, less, same) for less, same in pairwise(moved)]
        for answer in taken:
            back = answer.valid & answer.ready
            after = [pyrtl.select(back, more, same) for same, more in pairwise(after)]
        room.next <<= after[0]
        there = [answer.valid for answer in taken]
        channels.append(Channel((room != depth) | request.valid, pyrtl.rtl_any(sent, answered[c], *there)))
    width = len(requests[0].data) - tag_bits(config)
    outputs = {
        "request_valid": pyrtl.concat_list(valids),
        "request_address": pyrtl.concat_list([request.data[:width] for request in requests]),
        "request_tag": pyrtl.concat_list([request.data[width:] for request in requests]),
    }
    output_ports(outputs)
    return channels
