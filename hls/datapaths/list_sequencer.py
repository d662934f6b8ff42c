"""List sequencer: requests for lists of vectors to rows of ids for the fetcher, one list behind the other.

Requests come from four streams, query rows first, then LSBs of keys, keys, values. A list is `count` vectors from
vector `first` of a list of ids on; a token has n = 2^dimension vectors, so vector v is part v mod n of the token at
place v div n, which the fetcher knows as id * n + part. Lists begin at a multiple of the F ids of a fetch row, or
anywhere if they are one token. The ids are the layer's survivors, or what value selection has kept; both are written
here, T ids a row, and must be there before the request is.

    cycle             0      1      2      3      4
    request           a                    b            valid and ready
    list memory              a0     a1     a2     b0    address
    ids of the row                  a0     a1     a2
    fetch_ids                              a0     a1    valid

A list is accepted when the row before is the last of its list, so rows follow each other without a gap; and only
while fewer than `window` vectors are on their way, so that an urgent list does not wait behind more than that. One of
MSBs is accepted while fewer than 3/4 of these are, and less urgent lists go before it until then: LSBs are asked for
late, when their row is known to be flat, and the row waits for them.

A buffer of values may be asked for while its last rows are still to be read (`hls.datapaths.value_dispatch`): the walk
waits before a fetch row that has vectors for them. A list of values begins with vector 0.

The lists that are accepted are shown to the landing lanes (`hls.datapaths.landing_lane`), and the vectors not yet
landed are counted for every segment of every buffer (`MachineSizes.segments`): `key_pending`, `value_pending` and
`sparse_pending` are 1 from the cycle after a request was accepted until its last vector there is in its memory.

Ports: `layer_dimension`, `layer_msb_length`, `layer_lsb_length`, `layer_query_length`; `survivor_write`,
`survivor_row`, `survivor_ids`; `kept_write`, `kept_which`, `kept_row`, `kept_ids`; each stream's `_data`, `_valid`,
`_ready`; `unread_valid`, `unread_buffer`, `unread_row`; to the fetcher `fetch_ids`, `fetch_count`, `fetch_last`,
`fetch_turned`, `fetch_base`, `fetch_stride`, `fetch_length`, `fetch_valid`, `fetch_ready`; to the lanes `list_table`,
`list_next`, from them `lane_behind`; from the landing `landed_key`, `landed_value` (vectors by buffer and segment),
`landed_sparse`, `landed_all`; the pending bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.crossbar import in_one_cycle
from hls.datapaths.fetcher_parts import FetcherTypes
from hls.datapaths.landing_lane import LISTS, POSITION_BITS, is_turned, list_entry
from hls.datapaths.landing_write import landed_bits
from hls.datapaths.machine_sizes import Destination, MachineSizes, Record, Source
from hls.datapaths.top_k_wires import hold
from hls.lower import Netlist, building, instantiate, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, payload_register, register, skid_buffer
from hls.technology import Technology
from hls.trace import Graph, UInt, Value, Vec, Vector, concat, select, trace, vector
from models.config import AcceleratorConfig

STREAMS = ("query_request", "key_lsb_request", "key_request", "value_request")
"""The most urgent first."""
WINDOW_PER_QUEUE = 32
"""Vectors on their way for each queue from which on no list begins: enough to cover DRAM's latency and refresh."""


def pick_graph(config: AcceleratorConfig) -> Graph:
    """Numbers of the vectors of a fetch row, from a row of T ids, its first vector and log2 of the parts of a token."""
    sizes = MachineSizes.of(config)
    parts, ids_type = sizes.parts, UInt(sizes.id_bits)
    place_bits = sizes.top_k_lanes.bit_length() - 1

    def pick(ids: Vector, first: Value, dimension: Value) -> dict[str, object]:
        def of_dimension(choices: list[Value]) -> Value:
            return vector(choices)[dimension] if len(parts) > 1 else choices[0]

        from_place = list(ids)
        for b in range(place_bits):
            skips = of_dimension([first[b + d] for d in range(len(parts))])
            later = [*from_place[1 << b :], *from_place[: 1 << b]]
            from_place = [select(skips, there, here) for there, here in zip(later, from_place, strict=True)]

        def number(lane: int, d: int) -> Value:
            ident = from_place[lane >> d]
            return concat(first[:d] | (lane & ((1 << d) - 1)), ident)[: sizes.id_bits] if d else ident

        lanes = range(sizes.fetch_lanes)
        return {"vectors": vector([of_dimension([number(lane, d) for d in range(len(parts))]) for lane in lanes])}

    return trace(
        pick,
        inputs={
            "ids": Vec(ids_type, sizes.top_k_lanes),
            "first": UInt(sizes.count_bits),
            "dimension": UInt(sizes.dimension_bits).within(0, len(parts) - 1),
        },
        outputs={"vectors": Vec(ids_type, sizes.fetch_lanes)},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {"pick": pick_graph(config)}


def msb_window(window: int) -> int:
    """Vectors on their way from which on no list of MSBs begins."""
    return window - window // 4


def build(config: AcceleratorConfig, technology: Technology | None = None, window: int | None = None) -> Netlist:
    """The sequencer as a netlist.

    Args:
        config: the machine.
        technology: of the schedules.
        window: vectors on their way from which on no list begins; None: `WINDOW_PER_QUEUE` a queue.

    Raises:
        HlsError: if the clock is too fast for the technology.
    """
    sizes, library = MachineSizes.of(config), technology or technologies.load()
    picked = in_one_cycle(pick_graph(config), library, config.clock_period_ps, "list sequencer")
    most = WINDOW_PER_QUEUE * sizes.queues if window is None else window
    block = pyrtl.Block()
    with building(block):
        dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
        lengths = {name: pyrtl.Input(sizes.length_bits, f"layer_{name}_length") for name in ("msb", "lsb", "query")}
        opens = pyrtl.WireVector(1, "opens")
        msb_begins = payload_register(1, "msb_begins", block)
        request, accepted = _accept(sizes, opens, msb_begins, block)
        on_the_way = _count_pending(sizes, request, accepted, most, block)
        begins = register(1, "begins", block)
        begins.next <<= on_the_way < most
        msb_begins.next <<= on_the_way < msb_window(most)
        shows = _show(sizes, request, accepted, block)
        row, ends = _walk(sizes, request, accepted, lengths, dimension, block)
        opens <<= begins & shows & ends
        vectors = instantiate(
            picked, {"ids": row.data["ids"], "first": row.data["first"], "dimension": dimension}, block, prefix="pick_"
        ).outputs["vectors"]
        _fetch(row, vectors, FetcherTypes.of(config).stride.width, block)
    block.sanity_check()
    return Netlist("list_sequencer", block)


def _accept(sizes: MachineSizes, opens: Wire, msb_begins: Wire, block: pyrtl.Block) -> tuple[dict[str, Wire], Wire]:
    """The most urgent request that is offered and may begin, and whether one is accepted."""
    record = sizes.list_request
    data = [pyrtl.Input(record.bits, f"{name}_data") for name in STREAMS]
    valids = [
        pyrtl.Input(1, f"{name}_valid") & (msb_begins | (record.unpack(wire)["plane"] != Plane.MSB))
        for name, wire in zip(STREAMS, data, strict=True)
    ]
    chosen = data[-1]
    for valid, wire in zip(valids[-2::-1], data[-2::-1], strict=True):
        chosen = pyrtl.select(valid, wire, chosen)
    for i, name in enumerate(STREAMS):
        ready = opens & valids[i] & ~pyrtl.rtl_any(*valids[:i]) if i else opens & valids[0]
        output_ports({f"{name}_ready": ready})
    return record.unpack(chosen), opens & pyrtl.rtl_any(*valids)


def _count_pending(
    sizes: MachineSizes, request: dict[str, Wire], accepted: Wire, window: int, block: pyrtl.Block
) -> Wire:
    """Vectors on their way: by destination, for the pending bits, and all, which are returned."""
    landed = landed_bits(sizes)
    places = 2 * sizes.segments
    by_place = {name: pyrtl.Input(places * landed, f"landed_{name}") for name in ("key", "value")}
    sparse, every = pyrtl.Input(1, "landed_sparse"), pyrtl.Input(landed, "landed_all")
    buffer = request["place"][0]

    def counter(name: str, bits: int, counts: Wire, more: Wire, fewer: Wire) -> pyrtl.Register:
        count = register(bits, f"on_the_way_{name}", block)
        remaining = (count - fewer)[:bits]
        count.next <<= pyrtl.select(counts, (remaining + more)[:bits], remaining)
        return count

    def goes_to(destination: Destination) -> Wire:
        return accepted & (request["destination"] == destination)

    by_segment = _by_segment(sizes, request["count"])
    for name, destination in (("key", Destination.KEY), ("value", Destination.VALUE)):
        shares = _of_half(by_segment, request["place"][1]) if destination is Destination.KEY else by_segment
        waiting = []
        for place in range(places):
            b, segment = divmod(place, sizes.segments)
            counts = goes_to(destination) & (buffer == b)
            fewer = by_place[name][place * landed : (place + 1) * landed]
            # of both planes of the same ids
            bits = len(shares[segment]) + 1
            waiting.append(counter(f"{name}_{b}_{segment}", bits, counts, shares[segment], fewer) != 0)
        output_ports({f"{name}_pending": pyrtl.concat_list(waiting)})
    count = request["count"]
    on_the_way = counter("sparse", sizes.count_bits, goes_to(Destination.SPARSE), count, sparse)
    output_ports({"sparse_pending": on_the_way != 0})
    # of the lists that are accepted before the window is seen to be full, one comes in each cycle
    most = window + 2 * (1 << sizes.count_bits)
    return counter("all", most.bit_length(), accepted, count, every)


def _by_segment(sizes: MachineSizes, count: Wire) -> list[Wire]:
    """How many of the `count` vectors of a list go to each segment of their buffer."""
    whole = sizes.slots * sizes.segment_rows
    below = whole.bit_length() - 1
    wide = count.zero_extended(max(len(count), below + sizes.segment_bits + 1))
    above, rest = wide[below:], wide[:below].zero_extended(below + 1)
    full, none = (pyrtl.Const(number, below + 1) for number in (whole, 0))
    return [
        pyrtl.select(above > segment, full, pyrtl.select(above == segment, rest, none))
        for segment in range(sizes.segments)
    ]


def _of_half(shares: list[Wire], half: Wire) -> list[Wire]:
    """The same of a list that goes to the lower or the upper half of its buffer."""
    behind = len(shares) // 2
    none = pyrtl.Const(0, len(shares[0]))
    in_half = [none] * (len(shares) - behind) + shares[:behind]
    return [pyrtl.select(half, upper, share) for upper, share in zip(in_half, shares, strict=True)]


def _show(sizes: MachineSizes, request: dict[str, Wire], accepted: Wire, block: pyrtl.Block) -> Wire:
    """The table of the last lists for the lanes; returns whether a list may be added."""
    entry = list_entry(sizes)
    packed = entry.pack({name: request[name] for name, _ in entry.fields})
    list_next = register(POSITION_BITS, "list_position", block)
    hold(list_next, accepted, (list_next + 1)[:POSITION_BITS])
    entries = []
    for i in range(LISTS):
        one = payload_register(entry.bits, f"list_{i}", block)
        hold(one, accepted & (list_next[:-1] == i), packed)
        entries.append(one)
    output_ports({"list_table": pyrtl.concat_list(entries), "list_next": list_next})
    return ~pyrtl.rtl_any(*pyrtl.Input(sizes.queues, "lane_behind"))


@dataclass(frozen=True, eq=False)
class _Row:
    """A fetch row: its data, whether there is one, and whether the next one may take its place (to be driven)."""

    data: dict[str, pyrtl.Register]
    valid: pyrtl.Register
    moves: Wire


def _walk(
    sizes: MachineSizes,
    request: dict[str, Wire],
    accepted: Wire,
    lengths: dict[str, Wire],
    dimension: Wire,
    block: pyrtl.Block,
) -> tuple[_Row, Wire]:
    """The rows of a list one by one with their ids; returns the row read, and whether a new list may begin."""
    lanes, bits = sizes.fetch_lanes, sizes.count_bits
    active = register(1, "active", block)
    source, address = register(2, "source", block), register(sizes.list_row_bits, "list_row", block)
    first, left = (payload_register(bits, name, block) for name in ("first", "left"))
    base, length = (
        payload_register(w, n, block) for n, w in (("base", sizes.base_bits), ("length", sizes.length_bits))
    )

    to_value, buffer, turned = (payload_register(1, name, block) for name in ("to_value", "buffer", "turned"))
    row_valid = register(1, "row_valid", block)
    row_moves = pyrtl.WireVector(1, "row_moves")
    waits = payload_register(1, "waits_for_reads", block)
    steps = active & (row_moves | ~row_valid) & ~waits
    is_last = register(1, "is_last", block)
    ends = ~active | (steps & is_last)
    hold(active, ends, accepted)
    of_query, of_value = (request["destination"] == to for to in (Destination.QUERY, Destination.VALUE))
    of_plane = pyrtl.select(request["plane"] == Plane.LSB, lengths["lsb"], lengths["msb"])
    taken = {
        source: request["source"],
        to_value: of_value,
        buffer: request["place"][0],
        turned: is_turned(request),
        base: request["base"],
        length: pyrtl.select(of_query, lengths["query"], of_plane),
    }
    for target, wire in taken.items():
        hold(target, accepted, wire)
    ahead, behind = (first + lanes)[:bits], (left - lanes)[:bits]
    first_follows = pyrtl.select(accepted, request["first"], pyrtl.select(steps, ahead, first))
    first.next <<= first_follows
    left.next <<= pyrtl.select(accepted, request["count"], pyrtl.select(steps, behind, left))
    to_value_follows, buffer_follows = (pyrtl.select(accepted, taken[held], held) for held in (to_value, buffer))
    waits.next <<= _is_unread(sizes, to_value_follows, buffer_follows, first_follows)
    last_follows = pyrtl.select(steps, left <= 2 * lanes, is_last)
    is_last.next <<= pyrtl.select(accepted, request["count"] <= lanes, last_follows)
    following = pyrtl.select(accepted, request["first"], ahead)
    hold(address, accepted | steps, _list_row(sizes, following, dimension))

    row = {
        "ids": (_lists(sizes, source, address), sizes.top_k_lanes * sizes.id_bits),
        "first": (first, bits),
        "count": (pyrtl.select(is_last, left[: lanes.bit_length()], lanes), lanes.bit_length()),
        "last": (is_last, 1),
        "turned": (turned, 1),
        "base": (base, sizes.base_bits),
        "length": (length, sizes.length_bits),
    }
    data = {name: payload_register(width, f"row_{name}", block) for name, (_, width) in row.items()}
    for name, (wire, _) in row.items():
        hold(data[name], steps, wire)
    row_valid.next <<= pyrtl.select(steps, pyrtl.Const(1, 1), row_valid & ~row_moves)
    return _Row(data, row_valid, row_moves), ends


def _is_unread(sizes: MachineSizes, to_value: Wire, buffer: Wire, first: Wire) -> Wire:
    """Whether the fetch row from vector `first` on has vectors for rows that are still to be read."""
    valid, of_buffer = (pyrtl.Input(1, f"unread_{name}") for name in ("valid", "buffer"))
    row = pyrtl.Input(sizes.row_bits, "unread_row")
    # a fetch row has vectors of several rows, or some of one
    several = sizes.fetch_rate_shift
    below = sizes.slots.bit_length() - 1 + several
    return valid & to_value & (buffer == of_buffer) & (first[below:] >= row[several:])


def _list_row(sizes: MachineSizes, first: Wire, dimension: Wire) -> Wire:
    """The row of a list in which vector `first` is."""
    below = sizes.top_k_lanes.bit_length() - 1
    rows = [first[below + d :] for d in range(len(sizes.parts))]
    found = [r[: sizes.list_row_bits].zero_extended(sizes.list_row_bits) for r in rows]
    return found[0] if len(found) == 1 else pyrtl.mux(dimension, *_padded(found, len(dimension)))


def _padded(wires: list[Wire], bits: int) -> list[Wire]:
    """As many as `bits` bits can choose from; what is never chosen repeats the last."""
    return wires + wires[-1:] * ((1 << bits) - len(wires))


def _lists(sizes: MachineSizes, source: pyrtl.Register, address: pyrtl.Register) -> Wire:
    """The memories of the lists, and the row of one that is read."""
    bits = sizes.top_k_lanes * sizes.id_bits

    def ports(name: str) -> tuple[Wire, Wire, Wire]:
        widths = {"write": 1, "row": sizes.list_row_bits, "ids": bits}
        write, row, ids = (pyrtl.Input(width, f"{name}_{port}") for port, width in widths.items())
        return write, row, ids

    def memory(name: str, address_bits: int) -> pyrtl.MemBlock:
        return pyrtl.MemBlock(bits, address_bits, name, max_read_ports=1, max_write_ports=1, asynchronous=False)

    survivors, kept = memory("survivors", sizes.list_row_bits), memory("kept", 2 + sizes.list_row_bits)
    write, row, ids = ports("survivor")
    survivors[row] <<= pyrtl.MemBlock.EnabledWrite(ids, write)
    write, row, ids = ports("kept")
    which = pyrtl.Input(2, "kept_which")
    kept[pyrtl.concat(which, row)] <<= pyrtl.MemBlock.EnabledWrite(ids, write)
    from_kept = kept[pyrtl.concat(source, address)]
    return pyrtl.select(source == Source.SURVIVORS, survivors[address], from_kept)


def _fetch(row: _Row, vectors: Wire, stride_bits: int, block: pyrtl.Block) -> None:
    """The ports of the fetcher behind registers of their own."""
    fields = {"ids": vectors, **{name: row.data[name] for name in ("count", "last", "turned", "base", "length")}}
    record = Record(tuple((name, len(wire)) for name, wire in fields.items()))
    source = Stream(record.pack(fields), row.valid, pyrtl.WireVector(1, "fetch_room"))
    drive(row.moves, source.ready)
    ready = skid_buffer(source, block=block, prefix="fetch_row_")
    found = record.unpack(ready.data)
    stride = found["length"].zero_extended(stride_bits)
    ports = {**found, "stride": stride, "valid": ready.valid}
    output_ports({f"fetch_{name}": wire for name, wire in ports.items()})
    drive(ready.ready, pyrtl.Input(1, "fetch_ready"))
