"""Bitwidth converter: bit-packed elements at any bit of DRAM words to operands (architecture page, datapath 5).

One lane converts what one data queue of the fetcher delivers, a word of `data_queue_bytes` a cycle; the machine has a
lane for each of its `fetch_queues` (32 x 16 bytes = 512 bytes a cycle). A row is a token vector, or `row` elements of a
longer one, of b bits each, least significant bit first, from bit `offset` of its first word on (algorithm page, 11):

    plane[i] = bits [offset + i * b, offset + (i + 1) * b) of the words              b = M, 4 in the LSB plane

    plane       operand[i], W bits, i < count; 0 from count on                        (algorithm page, 5)
    WHOLE       plane[i] << (W - M)
    MSB         plane[i] << (W - M) | 8 << (W - M - 4)           first pass: the 4 low bits read as their middle
    LSB         held[i] with plane[i] in its bits W - M - 4 .. W - M - 1: all bits of what MSB gave for `held`

M is 4, 6, ... W bits. MSB and LSB planes need M + 4 <= W; Q is WHOLE with M = W.

Word n of a row holds its bits from 128 * n - offset on: turned right by `offset`, it is in place in chunk n of the row,
but for its `offset` lowest bits, now on top, which belong on top of chunk n - 1. So a chunk is a word, and then the top
of the next one; what is not a bit of the row at last, `count` cuts off.

    offset 40     chunk 0                chunk 1
    word 0        bits 40 .. 127 | -
    word 1                   0 .. 39     bits 40 .. 127 | -
    word 2                                          0 .. 39

Parts: `turn` (pipeline), the chunks (one cycle: `put`), `unpack` (pipeline); all move where the output is free. Words
follow each other without a gap, also from row to row. A word that holds the end of a row and the beginning of the
next is sent for both; rows of 64 elements that are neighbours in DRAM share none.

Ports: `word`, `first` and `last` of its row, `offset` (the same in all words of a row); read with the last word:
`count`, `format` ((M - 4) / 2), `plane`, `held`. `operand` out. Both under ready/valid; a row out for each last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import pyrtl

from hls import technology as technologies
from hls.lower import Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import Bool, Graph, HlsError, SInt, UInt, Value, Vec, Vector, concat, select, table, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig

LSB_BITS = 4
NARROWEST_BITS = 4


class Plane(IntEnum):
    """What a row is: all bits of its elements, or one of their two planes."""

    WHOLE = 0
    MSB = 1
    LSB = 2


@dataclass(frozen=True)
class BitwidthConverterTypes:
    """Sizes and port types of a lane.

    Attributes:
        formats: bits M of an element that `format` = 0, 1, ... chooses.
        row: elements of a row.
        chunks: words that a row fills at most, from bit 0 on.
        word: of a data queue.
        offset: bit in a word.
        count: elements of a row that are there.
        format: index into `formats`.
        plane: of `Plane`.
        operand: a row of operands.
    """

    formats: tuple[int, ...]
    row: int
    chunks: int
    word: Fixed
    offset: Fixed
    count: Fixed
    format: Fixed
    plane: Fixed
    operand: Vec

    @classmethod
    def of(cls, config: AcceleratorConfig) -> BitwidthConverterTypes:
        """The types of `config`.

        Raises:
            HlsError: for a word that is no power of two of bytes.
        """
        bits, word_bits = config.datapath_bits, 8 * config.data_queue_bytes
        if word_bits & (word_bits - 1):
            nearest = 1 << (config.data_queue_bytes.bit_length() - 1)
            raise HlsError(
                f"bitwidth converter of words of {config.data_queue_bytes} bytes: a power of two works; use {nearest}"
            )
        formats = tuple(range(NARROWEST_BITS, bits + 1, 2))
        row = max(config.native_head_dim, word_bits // NARROWEST_BITS)
        return cls(
            formats=formats,
            row=row,
            chunks=-(-row * bits // word_bits),
            word=UInt(word_bits),
            offset=UInt(word_bits.bit_length() - 1),
            count=UInt(row.bit_length()).within(0, row),
            format=UInt((len(formats) - 1).bit_length()).within(0, len(formats) - 1),
            plane=UInt(2).within(0, 2),
            operand=Vec(SInt(bits), row),
        )


def turn_graph(config: AcceleratorConfig) -> Graph:
    """A word turned right by `offset`, and which of its bits belong to the chunk before; the rest passes by."""
    types = BitwidthConverterTypes.of(config)
    bits = types.word.width

    def turn(
        word: Value, first: Value, last: Value, offset: Value, count: Value, format: Value, plane: Value, held: Vector
    ) -> dict[str, object]:
        turned = word
        for b in range(types.offset.width):
            step = 1 << b
            turned = select(offset[b], concat(turned[step:bits], turned[:step]), turned)
        return {
            "turned": turned,
            "top": concat(*[offset > bits - 1 - i for i in range(bits)]),
            "row_first": first,
            "row_last": last,
            "row_count": count,
            "row_format": format,
            "row_plane": plane,
            "row_held": concat(*[operand[: types.operand.element.total_bits] for operand in held]),
        }

    inputs = {"word": types.word, "first": Bool, "last": Bool, "offset": types.offset, **_with_last(types)}
    passing = {**_with_last(types), "held": UInt(types.operand.total_bits)}
    return trace(turn, inputs=inputs, outputs={f"row_{name}": type_ for name, type_ in passing.items()})


def _with_last(types: BitwidthConverterTypes) -> dict[str, Fixed | Vec]:
    """The ports that are read with the last word of a row."""
    return {"count": types.count, "format": types.format, "plane": types.plane, "held": types.operand}


def put_graph(config: AcceleratorConfig) -> Graph:
    """The new chunk of a row: the word of its own (`whole`), or what the next word puts on top of it (`beyond`)."""
    word = BitwidthConverterTypes.of(config).word

    def put(chunk: Value, turned: Value, top: Value, whole: Value, beyond: Value) -> dict[str, Value]:
        return {"filled": select(whole, turned, select(beyond, (turned & top) | (chunk & ~top), chunk))}

    return trace(
        put,
        inputs={"chunk": word, "turned": word, "top": word, "whole": Bool, "beyond": Bool},
        outputs={"filled": word},
    )


def unpack_graph(config: AcceleratorConfig) -> Graph:
    """The operands of a row whose bits begin at bit 0 of its chunks; nodes `field_i`, `operand_i`."""
    types = BitwidthConverterTypes.of(config)
    width, formats = config.datapath_bits, types.formats
    words = UInt(width)

    def low_bit(bits: int) -> int:
        """Where the LSB plane is in an operand whose MSB plane has `bits` bits."""
        return max(0, width - bits - LSB_BITS)

    def unpack(chunk: Vector, count: Value, format: Value, plane: Value, held: Vector) -> dict[str, object]:
        packed = concat(*chunk)
        is_lsb = plane == Plane.LSB
        form = select(is_lsb, 0, format)
        middle = table([1 << (low_bit(m) + LSB_BITS - 1) for m in formats], format, words)
        lowest = select(plane == Plane.MSB, middle, 0)
        joint = table([((1 << LSB_BITS) - 1) << low_bit(m) for m in formats], format, words)

        def operand(i: int) -> Value:
            fields = [packed[i * m : (i + 1) * m] << width - m for m in formats]
            field = vector([f.narrow(words) for f in fields])[form].named(f"field_{i}")
            low = field[width - LSB_BITS : width]
            moved = vector([(low << low_bit(m)).narrow(words) for m in formats])[format]
            joined = (held[i][:width] & ~joint) | moved
            found: Value = select(is_lsb, joined, field | lowest)
            return select(count > i, found, 0).wrap(SInt(width)).named(f"operand_{i}")

        return {"operand": vector([operand(i) for i in range(types.row)])}

    inputs = {"chunk": Vec(types.word, types.chunks), **_with_last(types)}
    return trace(unpack, inputs=inputs, outputs={"operand": types.operand})


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {"turn": turn_graph(config), "put": put_graph(config), "unpack": unpack_graph(config)}


@dataclass(frozen=True)
class BitwidthConverterPlan:
    """The schedules of the parts."""

    turn: Schedule
    put: Schedule
    unpack: Schedule

    @property
    def latency_cycles(self) -> int:
        """From the last word of a row to its operands."""
        return self.turn.latency_cycles + 1 + self.unpack.latency_cycles


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> BitwidthConverterPlan:
    """The pipelines of a lane of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the chunks, which take one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    put = schedule(put_graph(config), library, period, output_register=False)
    if put.latency_cycles:
        shortest = sum(put.stage_delays_ps) + put.overhead_ps
        raise HlsError(f"bitwidth converter: put needs one cycle of about {shortest} ps, not {period}")
    return BitwidthConverterPlan(
        turn=schedule(turn_graph(config), library, period),
        put=put,
        unpack=schedule(unpack_graph(config), library, period),
    )


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """One lane as a netlist; the machine has `fetch_queues` of them.

    Raises:
        HlsError: if the clock is too fast for the technology, or for words that cannot be built.
    """
    parts = plan(config, technology)
    block = pyrtl.Block()
    with building(block):
        ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.turn.graph.inputs}
        handshake = pyrtl.Input(1, "in_valid"), pyrtl.Input(1, "out_ready")
        output_ports(_lane(config, parts, block, ports, *handshake, ""))
    block.sanity_check()
    return Netlist("bitwidth_converter", block, parts.latency_cycles)


def build_array(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """All lanes, independent of each other; every port of `build`, handshake too, once for each lane, side by side.

    Raises:
        HlsError: as `build`.
    """
    parts, lanes = plan(config, technology), config.fetch_queues
    block = pyrtl.Block()
    with building(block):
        widths = {
            **{port.name: port.type.total_bits for port in parts.turn.graph.inputs},
            "in_valid": 1,
            "out_ready": 1,
        }
        ports = {name: pyrtl.Input(bits * lanes, name) for name, bits in widths.items()}
        results: list[dict[str, pyrtl.WireVector]] = []
        for i in range(lanes):
            mine = {name: ports[name][i * bits : (i + 1) * bits] for name, bits in widths.items()}
            handshake = mine.pop("in_valid"), mine.pop("out_ready")
            results.append(_lane(config, parts, block, mine, *handshake, f"lane_{i}_"))
        for name in results[0]:
            wires = [result[name] for result in results]
            output_ports({name: pyrtl.concat_list(wires)})
    block.sanity_check()
    return Netlist("bitwidth_converter_array", block, parts.latency_cycles)


def _lane(
    config: AcceleratorConfig,
    parts: BitwidthConverterPlan,
    block: pyrtl.Block,
    ports: dict[str, pyrtl.WireVector],
    in_valid: pyrtl.WireVector,
    out_ready: pyrtl.WireVector,
    prefix: str,
) -> dict[str, pyrtl.WireVector]:
    """A lane in a block: its output wires by port."""
    types = BitwidthConverterTypes.of(config)

    def held(wire: pyrtl.WireVector, name: str, enable: pyrtl.WireVector, reset_value: int = 0) -> pyrtl.Register:
        register = pyrtl.Register(len(wire), f"{prefix}{name}", reset_value=reset_value)
        register.next <<= pyrtl.select(enable, wire, register)
        return register

    advance = pyrtl.WireVector(1, f"{prefix}advance")
    turned = instantiate(parts.turn, ports, block, advance, in_valid, f"{prefix}turn_")
    word, arrived = turned.outputs, turned.out_valid & advance

    # the chunk of the word, one hot; the last place is beyond the last chunk
    place = pyrtl.WireVector(types.chunks + 1, f"{prefix}place")
    next_place = held(pyrtl.concat(place[:-1], pyrtl.Const(0, 1)), "next_place", arrived)
    place <<= pyrtl.select(word["row_first"], pyrtl.Const(1, len(place)), next_place)

    chunks = [pyrtl.Register(types.word.width, f"{prefix}chunk_{i}", reset_value=0) for i in range(types.chunks)]
    for i, chunk in enumerate(chunks):
        put_inputs = {
            "chunk": chunk,
            "turned": word["turned"],
            "top": word["top"],
            "whole": arrived & place[i],
            "beyond": arrived & place[i + 1],
        }
        chunk.next <<= instantiate(parts.put, put_inputs, block, prefix=f"{prefix}put_{i}_").outputs["filled"]
    complete = held(turned.out_valid & word["row_last"], "complete", advance)
    row = {name: held(word[f"row_{name}"], f"row_{name}", arrived) for name in _with_last(types)}
    unpacked = instantiate(parts.unpack, {"chunk": chunks, **row}, block, advance, complete, f"{prefix}unpack_")
    advance <<= out_ready | ~unpacked.out_valid
    return {**unpacked.outputs, "out_valid": unpacked.out_valid, "in_ready": advance}
