"""One lane between a queue of the fetcher and its bitwidth converter: knows which vector each word belongs to.

The list sequencer shows its last lists. Queue l of Q gives vectors l, l + Q, ... of each list, in the order of the
lists, or l', l' + Q, ... with l' = l + Q / 2 mod Q of one that begins at the middle queue (`is_turned`). So the lane
counts the vectors of its queue, and walks on to the next list when the next vector would be beyond the end. A list that
has no vector for the lane costs it a cycle in which no word passes.

    cycle         0     1     2     3     4
    list          a     a     b     c     c          list b is shorter than l + 1
    word          a l   a l+Q       c l              2 words here, each a vector

To the words it adds how the converter must read them: query rows have W bits an element, LSB planes are put into the
lowest bits, which is where the operand SRAM has them, all else has the layer's format. Beside the converter it takes
along a tag a vector, under the converter's own enable, so that the tag is there with the vector's operands. All lanes
are the same module; which one it is comes in as `lane`.

Ports: `lane` (a constant), `list_table`, `list_next`, `layer_format`; from the fetcher `word`,
`offset`, `word_first`, `word_last`, `word_valid`, out `word_ready`; to the converter `convert_word`, `convert_offset`,
`convert_first`, `convert_last`, `convert_format`, `convert_plane`, `convert_valid`, in `convert_ready` (its `count` is
the layer's elements, its `held` 0); `tag` beside the converter's `operand`; `lane_behind`: no list may be added.
Path through the module: `convert_ready` to `word_ready`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyrtl

from hls.datapaths import bitwidth_converter
from hls.datapaths.bitwidth_converter import LSB_BITS, BitwidthConverterTypes, Plane
from hls.datapaths.machine_sizes import LINE_BITS, Destination, MachineSizes, Record
from hls.datapaths.top_k_wires import align, hold
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of
from hls.stream import payload_register, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

LISTS = 8
"""Lists that are shown; a power of two."""
POSITION_BITS = LISTS.bit_length()
"""Of the number of a list, modulo twice as many as are shown, so that all and none differ."""


def list_entry(sizes: MachineSizes) -> Record:
    """What the lanes must know of a list."""
    return Record((("count", sizes.count_bits), ("plane", 2), ("destination", 2), ("place", LINE_BITS + 1)))


def is_turned(entry: Mapping[str, Wire]) -> Wire:
    """Whether a list begins at the middle queue: V, as K does not, and Q of odd lines, so that ends of lists are apart.

    Both planes of a list come through the same lanes in order: MSBs are written as whole rows, LSBs must be behind.
    """
    of_value, is_query = (Destination.VALUE, Destination.SPARSE), entry["destination"] == Destination.QUERY
    return pyrtl.rtl_any(*[entry["destination"] == to for to in of_value]) | (is_query & entry["place"][0])


def landing_tag(sizes: MachineSizes) -> Record:
    """Where a vector goes: `index` is the query line, else the number of the vector in its list, or in its buffer.

    These differ where the list is one of keys for the upper half of a buffer.
    """
    index_bits = max(sizes.count_bits, LINE_BITS, sizes.half_vectors.bit_length())
    return Record((("destination", 2), ("is_lsb", 1), ("buffer", 1), ("index", index_bits)))


def lane_bits(sizes: MachineSizes) -> int:
    """Bits of the number of a lane."""
    return max(1, (sizes.queues - 1).bit_length())


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic beyond counting."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """A lane as a netlist; the machine has `fetch_queues` of them.

    Raises:
        HlsError: if the clock is too fast for the converter, whose latency the lane shares.
    """
    sizes, types = MachineSizes.of(config), BitwidthConverterTypes.of(config)
    latency = bitwidth_converter.plan(config, technology).latency_cycles
    entry = list_entry(sizes)
    block = pyrtl.Block()
    with building(block):
        lane = pyrtl.Input(lane_bits(sizes), "lane")
        table, list_next = pyrtl.Input(LISTS * entry.bits, "list_table"), pyrtl.Input(POSITION_BITS, "list_next")
        layer_format = pyrtl.Input(types.format.width, "layer_format")
        words = {
            "word": pyrtl.Input(types.word.width, "word"),
            "offset": pyrtl.Input(types.offset.width, "offset"),
            "first": pyrtl.Input(1, "word_first"),
            "last": pyrtl.Input(1, "word_last"),
        }
        arrives, convert_ready = pyrtl.Input(1, "word_valid"), pyrtl.Input(1, "convert_ready")

        position = register(POSITION_BITS, "position", block)
        current = entry.unpack(pyrtl.mux(position[:-1], *lanes_of(table, LISTS)))
        shown = position != list_next
        vector, following, index, is_last_vector = _vectors(sizes, lane, current, block)
        there = shown & (index < current["count"])

        converting = register(1, "converting", block)
        moves = convert_ready | ~converting
        passes = arrives & there & moves
        ends = passes & words["last"]
        leaves = (shown & ~there) | (ends & is_last_vector)
        hold(position, leaves, (position + 1)[:POSITION_BITS])
        hold(vector, leaves | ends, pyrtl.select(leaves, pyrtl.Const(0, len(vector)), following))
        behind = register(1, "behind", block)
        behind.next <<= (list_next - position)[:POSITION_BITS] >= LISTS - 1

        tag = _tag(sizes, current, index)
        is_query = current["destination"] == Destination.QUERY
        is_lsb = current["plane"] == Plane.LSB
        widest, lowest = (
            pyrtl.Const(types.formats.index(bits), types.format.width) for bits in (sizes.width, sizes.width - LSB_BITS)
        )
        converted = {
            **words,
            "format": pyrtl.select(is_query, widest, pyrtl.select(is_lsb, lowest, layer_format)),
            "plane": current["plane"],
            "tag": tag,
        }
        held = {name: payload_register(len(wire), f"held_{name}", block) for name, wire in converted.items()}
        for name, wire in converted.items():
            hold(held[name], moves, wire)
        hold(converting, moves, arrives & there)
        outputs = {f"convert_{name}": held[name] for name in (*words, "format", "plane")}
        outputs |= {
            "convert_valid": converting,
            "word_ready": there & moves,
            "tag": align(held["tag"], latency, "tag", convert_ready),
            "lane_behind": behind,
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("landing_lane", block)


def _vectors(
    sizes: MachineSizes, lane: Wire, current: Mapping[str, Wire], block: pyrtl.Block
) -> tuple[pyrtl.Register, Wire, Wire, Wire]:
    """Vectors of the list that the lane has had, one more, the number of its next, and whether that is its last."""
    if sizes.half_turn:
        lane = pyrtl.concat_list([*(lane[b] for b in range(len(lane) - 1)), lane[-1] ^ is_turned(current)])
    below = lane_bits(sizes) if sizes.queues > 1 else 0
    vector = register(max(1, sizes.count_bits - below), "vector", block)
    index = pyrtl.concat(vector, lane) if below else vector
    following = (vector + 1)[: len(vector)]
    after = pyrtl.concat(following, lane) if below else following
    return vector, following, index, after >= current["count"]


def _tag(sizes: MachineSizes, current: dict[str, Wire], index: Wire) -> Wire:
    """Where vector `index` of the current list goes."""
    bits = dict(landing_tag(sizes).fields)["index"]
    line = (current["place"] + index)[:LINE_BITS].zero_extended(bits)
    number = index[:bits] if len(index) >= bits else index.zero_extended(bits)
    if sizes.half_vectors:
        below = sizes.half_vectors.bit_length() - 1
        in_buffer = [*number[:below], number[below] | current["place"][1], *number[below + 1 :]]
        number = pyrtl.concat_list(in_buffer)
    is_query = current["destination"] == Destination.QUERY
    return landing_tag(sizes).pack(
        {
            "destination": current["destination"],
            "is_lsb": current["plane"] == Plane.LSB,
            "buffer": current["place"][0],
            "index": pyrtl.select(is_query, line, number),
        }
    )
