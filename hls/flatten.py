"""A composition as one netlist, for FastSimulation, formal tools and mutants.

Every net of every part is copied. Wires of instance `a` are called `a.name`; temporaries stay temporaries.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyrtl

from hls.block_copy import BlockCopy
from hls.compose import Composition, Source
from hls.lower import Netlist
from hls.netlist import Emitter, Wire


def _joined(source: Source, wires: Mapping[tuple[str, str], Wire], emitter: Emitter) -> Wire:
    parts = [
        emitter.const(piece.low, piece.bits)
        if piece.is_constant
        else emitter.bits(wires[piece.part, piece.port], piece.low, piece.bits)
        for piece in source.pieces
    ]
    return emitter.concat(*parts)


def flatten(composition: Composition) -> Netlist:
    """One netlist with the ports of the composition."""
    block = pyrtl.Block()
    emitter = Emitter(block)
    acyclic = composition.acyclic
    wires: dict[tuple[str, str], Wire] = {
        ("", name): pyrtl.Input(bits, name, block=block) for name, bits in composition.inputs.items()
    }
    given: dict[tuple[str, str], Wire] = {}
    for part, netlist in acyclic.parts.items():
        copy = BlockCopy(netlist, block, prefix=f"{part}.")
        for output in netlist.block.wirevector_subset(pyrtl.Output):
            wires[part, output.name] = copy[output]
        for port in netlist.block.wirevector_subset(pyrtl.Input):
            given[part, port.name] = copy[port]
    for part, ports in acyclic.connections.items():
        for name, source in ports.items():
            emitter.drive(given[part, name], _joined(source, wires, emitter))
    for name, source in acyclic.drivers.items():
        emitter.drive(pyrtl.Output(source.bits, name, block=block), _joined(source, wires, emitter))
    block.sanity_check()
    return Netlist(composition.name, block)
