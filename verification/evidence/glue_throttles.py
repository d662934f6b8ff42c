"""Throttles on the streams between parts of the accelerator: FIFOs fill, and everything waits for everything once.

A throttle on a stream passes an item on only where it is open, so the parts beside it see a neighbour that is slow or
stalls; what they hand over stays the same, as streams do not depend on time. For a random number of cycles each
throttle is open, opens in half of the cycles, in one of sixteen, or is closed. Once it has offered an item it stays
open until that is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pyrtl

from hls.compose import Composition, Piece, Source, constant
from hls.lower import Netlist, building
from hls.stream import register

RANDOM_BITS = 16
TAPS = (15, 13, 12, 10)
"""Of a shift register with feedback that goes through all states but 0."""
RIGID = frozenset(
    {
        ("selection", "sweep_valid"),
        ("token_importance", "out_valid"),
        ("row_values", "importance_valid"),
        ("output_stage", "head_valid"),
    }
)
"""What is on its way to the accumulators of importance is taken at once in layers with rows: nobody asks whether
something still waits there, and a sweep that clears the scores runs ahead of the first row, which does not wait for its
end. What must hold there instead is asked in `glue_rigid`."""
ROWS = ("controller", "layer_rows")
LANES = "landing_lane_"
"""A landing lane moves its tags on with what is in the converter behind it, by the ready bit of that."""
WAY_BITS = 3
LENGTH_BITS = (4, 5, 6, 8)
"""A way lasts for 2^4 to 2^8 cycles on the average."""


def throttle(bits: int, rigid_bits: int = 1) -> Netlist:
    """For `bits` streams side by side that are open together: `in_valid`, `out_valid`, `out_ready`, `in_ready`.

    `seed`, constant and not 0, makes it another one than those beside it; where `rigid` is not 0 it is open.
    """
    block = pyrtl.Block()
    with building(block):
        in_valid, out_ready = pyrtl.Input(bits, "in_valid"), pyrtl.Input(bits, "out_ready")
        noise, begun = register(RANDOM_BITS, "noise", block), register(1, "begun", block)
        begun.next <<= pyrtl.Const(1, 1)
        feedback = noise[TAPS[0]] ^ noise[TAPS[1]] ^ noise[TAPS[2]] ^ noise[TAPS[3]]
        noise.next <<= pyrtl.select(begun, pyrtl.concat(noise[:-1], feedback), pyrtl.Input(RANDOM_BITS, "seed"))
        way, length = register(WAY_BITS, "way", block), register(2, "length", block)
        ends = pyrtl.mux(length, *(noise[:n] == 0 for n in LENGTH_BITS))
        way.next <<= pyrtl.select(ends, noise[-WAY_BITS:], way)
        length.next <<= pyrtl.select(ends, noise[-WAY_BITS - 2 : -WAY_BITS], length)
        # ways 0 and 1: half and one of sixteen; 2: closed; others: open
        opens = pyrtl.mux(way, noise[0], noise[:4] == 0, pyrtl.Const(0, 1), default=pyrtl.Const(1, 1))
        is_open = register(1, "is_open", block)
        offered = in_valid & is_open.sign_extended(bits)
        rigid = pyrtl.Input(rigid_bits, "rigid") != 0
        is_open.next <<= opens | rigid | pyrtl.rtl_any(*(offered & ~out_ready))
        for name, wire in (("out_valid", offered), ("in_ready", out_ready & is_open.sign_extended(bits))):
            port = pyrtl.Output(bits, name)
            port <<= wire
    return Netlist(f"throttle_{bits}_{rigid_bits}", block)


def links(design: Composition) -> Iterator[tuple[tuple[str, str], Source]]:
    """Streams from one part to another: the valid bits by part and port, and what drives the ready bits."""
    for part, connections in design.connections.items():
        for port, source in connections.items():
            outputs = design.parts[part].outputs
            name = port.removesuffix("ready")
            valid = next((v for v in (f"{name}valid", f"{name}request") if v in outputs), None)
            whole = len(source.pieces) == 1 and source.pieces[0].part and source.pieces[0].part != part
            if not port.endswith("ready") or valid is None or part.startswith(LANES):
                continue
            if whole and outputs[valid] == source.bits:
                yield (part, valid), source


def throttled(design: Composition, seed: int = 0) -> Composition:
    """The design with a throttle on every link."""
    parts, connections = dict(design.parts), {part: dict(ports) for part, ports in design.connections.items()}
    of_bits = cache(throttle)
    instead: dict[Piece, Piece] = {}
    added: dict[str, dict[str, Source]] = {}
    for (part, valid), source in links(design):
        name, offered = f"throttle_{part}_{valid}", Piece(part, valid, 0, source.bits)
        rigid = Source((Piece(*ROWS, 0, design.parts[ROWS[0]].outputs[ROWS[1]]),))
        rigid = rigid if (part, valid) in RIGID else constant(0, 1)
        parts[name] = of_bits(source.bits, rigid.bits)
        own_seed = constant(1 + zlib.crc32(f"{seed} {name}".encode()) % ((1 << RANDOM_BITS) - 1), RANDOM_BITS)
        added[name] = {"in_valid": Source((offered,)), "out_ready": source, "seed": own_seed, "rigid": rigid}
        instead[offered] = Piece(name, "out_valid", 0, source.bits)
        instead[source.pieces[0]] = Piece(name, "in_ready", 0, source.bits)

    def rerouted(source: Source) -> Source:
        return Source(tuple(instead.get(piece, piece) for piece in source.pieces))

    for ports in connections.values():
        ports.update({port: rerouted(source) for port, source in ports.items()})
    drivers = {name: rerouted(source) for name, source in design.drivers.items()}
    return replace(design, parts=parts, connections={**connections, **added}, drivers=drivers)
