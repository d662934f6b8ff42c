"""A schedule as a PyRTL netlist: a pipeline under ready/valid, or wires inside a hand-written unit.

`lower` makes a module of its own. Ports: every input and output of the graph (vectors packed, element 0 in the
least significant bits), `in_valid`, `in_ready`, `out_valid`, `out_ready`. The pipeline is stalled globally:

    advance = out_ready | ~out_valid          in_ready = advance

All registers, data and valid, move where `advance` is 1 and hold elsewhere. So the ready path is two gates whatever the
number of stages, valid never waits for ready, a stalled output does not change, bubbles are kept inside and
squeezed out only at the end; and a pipeline with one enable equals its combinational function, delayed, which
is what equivalence checking uses. Every register has reset value 0; the exported Verilog resets them
synchronously by `rst`. Cycle by cycle, latency 2:

    cycle      0    1    2    3    4
    in_valid   1    1    0    0    0
    out_valid  0    0    1    1    0
    out                  f0   f1

`instantiate` puts a schedule inside a block written by hand (accumulators, memories, state machines).
PyRTL's working block is global: build by hand inside `with building(block):`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import pyrtl

from hls.graph import Port
from hls.netlist import Emitter, Operand, Wire
from hls.schedule import Schedule
from hls.types import HlsError, leaves

HANDSHAKE = ("in_valid", "in_ready", "out_valid", "out_ready")


@dataclass(frozen=True)
class Netlist:
    """A PyRTL block that is one hardware module; `latency_cycles` where it is a pipeline."""

    name: str
    block: pyrtl.Block
    latency_cycles: int = 0

    @cached_property
    def inputs(self) -> dict[str, int]:
        """Input ports and their bits, by name."""
        return {w.name: len(w) for w in _by_name(self.block, pyrtl.Input)}

    @cached_property
    def outputs(self) -> dict[str, int]:
        """Output ports and their bits, by name."""
        return {w.name: len(w) for w in _by_name(self.block, pyrtl.Output)}

    @property
    def register_bits(self) -> int:
        """Flip-flops in the netlist."""
        return sum(len(w) for w in self.block.wirevector_subset(pyrtl.Register))


def _by_name(block: pyrtl.Block, kind: type) -> list[Wire]:
    return sorted(block.wirevector_subset(kind), key=lambda wire: wire.name)


@dataclass(frozen=True)
class Instance:
    """A schedule inside a block: its output wires, and the valid bit at every stage, inputs first."""

    outputs: Mapping[str, Wire]
    valids: tuple[Wire, ...]
    latency_cycles: int

    @property
    def out_valid(self) -> Wire:
        """The valid bit that goes with the outputs; HlsError if none was given."""
        if not self.valids:
            raise HlsError("instantiate(...) was given no valid= to delay")
        return self.valids[-1]


@contextmanager
def building(block: pyrtl.Block) -> Iterator[pyrtl.Block]:
    """PyRTL's operators build into `block` here, and into what they did before afterwards."""
    before = pyrtl.working_block()
    pyrtl.set_working_block(block, no_sanity_check=True)
    try:
        yield block
    finally:
        pyrtl.set_working_block(before, no_sanity_check=True)


def output_ports(outputs: Mapping[str, Wire]) -> None:
    """Output ports of the working block, each driven by its wire."""
    for name, wire in outputs.items():
        port = pyrtl.Output(len(wire), name)
        port <<= wire


def instantiate(
    schedule: Schedule,
    inputs: Mapping[str, Wire | Sequence[Wire]],
    block: pyrtl.Block,
    enable: Wire | None = None,
    valid: Wire | None = None,
    prefix: str = "",
) -> Instance:
    """Build a schedule into `block`; all its registers move where `enable` is 1 (None: always).

    `inputs` gives each port as one packed wire or as its elements, element 0 first; widths must match. `valid`,
    if given, is delayed beside the data. `prefix` goes before every name, so that one block can hold several instances.
    """
    emitter = Emitter(block)
    ports = {port.name: port for port in schedule.graph.inputs}
    if set(ports) != set(inputs):
        raise HlsError(f"{schedule.graph.name}: inputs are {sorted(ports)}, got {sorted(inputs)}")
    at_stage: list[dict[int, Wire]] = [{} for _ in range(max(schedule.stage_count, schedule.latency_cycles + 1))]
    for name, port in ports.items():
        at_stage[0].update(_split_input(emitter, port, inputs[name], schedule))
    names = _Names(schedule, block, prefix)
    valids = [] if valid is None else [valid]
    by_stage: list[list[int]] = [[] for _ in range(schedule.stage_count)]
    for index, stage in enumerate(schedule.stages):
        by_stage[stage].append(index)
    nodes = schedule.graph.nodes
    for stage, values in enumerate(at_stage):
        for index in by_stage[stage] if stage < schedule.stage_count else ():
            node = nodes[index]
            if node.kind not in ("input", "const"):
                args = [_argument(emitter, schedule, arg, values) for arg in node.args]
                values[index] = names.alias(emitter, index, emitter.emit(node, args))
        if stage < schedule.latency_cycles:
            for index, wire in values.items():
                if schedule.last_use[index] > stage:
                    register = emitter.register(wire, names.register(index, stage + 1), enable)
                    at_stage[stage + 1][index] = register
            if valid is not None:
                valids.append(emitter.register(valids[-1], names.free(f"valid_s{stage + 1}"), enable))
    last = at_stage[schedule.latency_cycles]
    outputs = {port.name: _join_output(emitter, port, schedule, last) for port in schedule.graph.outputs}
    return Instance(outputs, tuple(valids), schedule.latency_cycles)


def _split_input(
    emitter: Emitter, port: Port, given: Wire | Sequence[Wire], schedule: Schedule
) -> Iterator[tuple[int, Wire]]:
    """The wire of every scalar of an input port, cut to the width of its asserted range."""
    where = f"{schedule.graph.name}: input {port.name!r} ({port.type})"
    types = list(leaves(port.type))
    if isinstance(given, pyrtl.WireVector):
        if len(given) != port.type.total_bits:
            raise HlsError(f"{where} has {port.type.total_bits} bits, the wire {given.name!r} has {len(given)}")
        ends = list(accumulate(type_.width for type_ in types))
        elements = [(given, end - type_.width) for end, type_ in zip(ends, types, strict=True)]
    else:
        if [len(wire) for wire in given] != [t.width for t in types]:
            raise HlsError(f"{where} needs wires of {[t.width for t in types]} bits, got {[len(w) for w in given]}")
        elements = [(wire, 0) for wire in given]
    for index, (wire, position) in zip(port.nodes, elements, strict=True):
        yield index, emitter.bits(wire, position, schedule.graph.nodes[index].width_bits)


def _argument(emitter: Emitter, schedule: Schedule, index: int, values: Mapping[int, Wire]) -> Operand:
    node = schedule.graph.nodes[index]
    if node.kind == "const":
        return Operand(emitter.const(node.range.low, node.width_bits), node.signed)
    return Operand(values[index], node.signed)


def _join_output(emitter: Emitter, port: Port, schedule: Schedule, values: Mapping[int, Wire]) -> Wire:
    parts = [
        emitter.fit(_argument(emitter, schedule, index, values), type_.width)
        for index, type_ in zip(port.nodes, leaves(port.type), strict=True)
    ]
    return emitter.concat(*parts)


class _Names:
    """Readable, unique names of the wires of one instance."""

    def __init__(self, schedule: Schedule, block: pyrtl.Block, prefix: str) -> None:
        self._graph = schedule.graph
        self._block = block
        self._prefix = prefix
        self._ports = {port.name for port in (*schedule.graph.inputs, *schedule.graph.outputs)}

    def free(self, name: str) -> str:
        """The prefixed name; HlsError if the block has it."""
        full = self._prefix + name
        if full in self._block.wirevector_by_name:
            raise HlsError(f"{self._graph.name}: the block already has a wire {full!r}; give this instance a prefix=")
        return full

    def alias(self, emitter: Emitter, index: int, wire: Wire) -> Wire:
        """The wire under the node's name, if the node has one that is not a port's."""
        name = self._graph.nodes[index].name
        if not name or (self._prefix == "" and (name in self._ports or name in HANDSHAKE)):
            return wire
        return emitter.named(wire, self.free(name))

    def register(self, index: int, stage: int) -> str:
        """The register that carries a node into a stage."""
        return self.free(f"{self._graph.label(index)}_s{stage}")


def lower(schedule: Schedule, name: str | None = None) -> Netlist:
    """The stallable ready/valid pipeline of a schedule as a netlist of its own, in a new block."""
    block = pyrtl.Block()
    emitter = Emitter(block)
    graph = schedule.graph
    taken = {port.name for port in (*graph.inputs, *graph.outputs)} & {*HANDSHAKE, "clk", "rst"}
    if taken:
        raise HlsError(f"{graph.name}: port names {sorted(taken)} are those of the handshake; choose others")
    data = {p.name: pyrtl.Input(p.type.total_bits, p.name, block=block) for p in graph.inputs}
    in_valid, out_ready = (pyrtl.Input(1, n, block=block) for n in ("in_valid", "out_ready"))
    advance = pyrtl.WireVector(1, "advance", block=block)
    instance = instantiate(schedule, data, block, enable=advance, valid=in_valid)
    emitter.drive(advance, emitter.net("|", (out_ready, emitter.invert(instance.out_valid)), 1))
    results = {**instance.outputs, "out_valid": instance.out_valid, "in_ready": advance}
    for port, wire in results.items():
        emitter.drive(pyrtl.Output(len(wire), port, block=block), wire)
    block.sanity_check()
    return Netlist(name or graph.name, block, schedule.latency_cycles)
