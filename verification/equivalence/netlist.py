"""A PyRTL block as an immutable value: what proofs translate and mutants rewrite.

Reading a block copies names, widths, nets, reset values and table contents in a canonical order
(natural order of names), so that everything downstream is deterministic although a block
keeps its nets in a set. Writing a netlist back gives a new block; PyRTL's global working block
is neither read nor changed.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyrtl

MAX_TABLE_ADDRESS_BITS = 16


class NetlistError(ValueError):
    """A block or netlist that cannot be translated; the message names the wire."""


@dataclass(frozen=True)
class Net:
    """One primitive: `op` of PyRTL's `LogicNet`, wires by name, `dest` None for a memory write.

    `select` holds the bit positions of an `s` net (lowest result bit first), `memory` the memory
    of an `m` or `@` net.
    """

    op: str
    args: tuple[str, ...]
    dest: str | None
    select: tuple[int, ...] = ()
    memory: str | None = None


@dataclass(frozen=True)
class Memory:
    """A memory of 2^address_bits words; `contents` holds every word of a read-only table, else None."""

    address_bits: int
    data_bits: int
    contents: tuple[int, ...] | None = None
    asynchronous: bool = True


@dataclass(frozen=True)
class Netlist:
    """A circuit by names. `registers` maps to reset values, None where reset leaves the register open."""

    widths: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, int]
    registers: Mapping[str, int | None]
    nets: tuple[Net, ...]
    memories: Mapping[str, Memory] = field(default_factory=dict)

    @cached_property
    def drivers(self) -> Mapping[str, Net]:
        """The net that drives each wire; for a register, its `r` net."""
        return {net.dest: net for net in self.nets if net.dest is not None}

    @cached_property
    def writers(self) -> Mapping[str, tuple[Net, ...]]:
        """The write ports of each memory, in canonical order."""
        ports: dict[str, tuple[Net, ...]] = dict.fromkeys(self.memories, ())
        for net in self.nets:
            if net.op == "@" and net.memory is not None:
                ports[net.memory] += (net,)
        return ports

    def width(self, wire: str) -> int:
        """Width in bits; NetlistError names the closest wires if there is none of that name."""
        try:
            return self.widths[wire]
        except KeyError:
            near = difflib.get_close_matches(wire, self.widths, 3)
            hint = f"; closest: {', '.join(near)}" if near else ""
            raise NetlistError(f"no wire {wire!r} in the netlist{hint}") from None


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorting key in which `a2` comes before `a10`."""
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in re.split(r"(\d+)", name) if p)


def _table(rom: pyrtl.RomBlock) -> tuple[int, ...]:
    if rom.addrwidth > MAX_TABLE_ADDRESS_BITS:
        raise NetlistError(
            f"table {rom.name!r} has {rom.addrwidth} address bits; at most {MAX_TABLE_ADDRESS_BITS} are read"
        )
    words = []
    for address in range(1 << rom.addrwidth):
        try:
            words.append(int(rom._get_read_data(address)))
        except pyrtl.PyrtlError as error:
            raise NetlistError(
                f"table {rom.name!r} has no value at address {address}: build it with pad_with_zeros=True"
            ) from error
    return tuple(words)


def _memory_names(block: pyrtl.Block) -> dict[int, tuple[str, pyrtl.MemBlock]]:
    """Memories by identifier; PyRTL lets copies of a table share a name, here they get a suffix."""
    found = {net.op_param[0]: net.op_param[1] for net in block.logic if net.op in "m@"}
    names: dict[int, tuple[str, pyrtl.MemBlock]] = {}
    taken: set[str] = set()
    for identifier in sorted(found):
        memory = found[identifier]
        name, copy = memory.name, 2
        while name in taken:
            name, copy = f"{memory.name}#{copy}", copy + 1
        taken.add(name)
        names[identifier] = (name, memory)
    return names


def _exact_width(logic: pyrtl.LogicNet) -> int | None:
    """The result width of the primitives that FastSimulation computes wrongly when they truncate."""
    match logic.op:
        case "x":
            return int(logic.args[1].bitwidth)
        case "c":
            return sum(int(a.bitwidth) for a in logic.args)
        case "s":
            return len(logic.op_param)
    return None


def read_block(block: pyrtl.Block) -> Netlist:
    """The netlist of a block.

    Raises NetlistError on an undefined table word, an unusable name, or a multiplexer, concatenation or
    selection with a destination narrower than its result.
    """
    for wire in block.wirevector_set:
        if "|" in wire.name or "\\" in wire.name:
            raise NetlistError(f"wire {wire.name!r}: names with '|' or a backslash cannot be written to SMT-LIB")
    memories = _memory_names(block)
    nets = []
    for logic in block.logic:
        natural_width = _exact_width(logic)
        if natural_width is not None and natural_width != logic.dests[0].bitwidth:
            raise NetlistError(
                f"wire {logic.dests[0].name!r} takes {logic.dests[0].bitwidth} bits of a {logic.op!r} net of"
                f" {natural_width}: PyRTL's FastSimulation does not mask such a net; take the bits in a separate net"
            )
        nets.append(
            Net(
                op=logic.op,
                args=tuple(w.name for w in logic.args),
                dest=logic.dests[0].name if logic.dests else None,
                select=tuple(logic.op_param) if logic.op == "s" else (),
                memory=memories[logic.op_param[0]][0] if logic.op in "m@" else None,
            )
        )
    nets.sort(key=lambda n: (natural(n.dest or n.memory or ""), [natural(a) for a in n.args]))
    wires = sorted(block.wirevector_set, key=lambda w: natural(w.name))
    return Netlist(
        widths={w.name: int(w.bitwidth) for w in wires},
        inputs=tuple(w.name for w in wires if isinstance(w, pyrtl.Input)),
        outputs=tuple(w.name for w in wires if isinstance(w, pyrtl.Output)),
        constants={w.name: int(w.val) for w in wires if isinstance(w, pyrtl.Const)},
        registers={w.name: w.reset_value for w in wires if isinstance(w, pyrtl.Register)},
        nets=tuple(nets),
        memories={
            name: Memory(m.addrwidth, m.bitwidth, _table(m) if isinstance(m, pyrtl.RomBlock) else None, m.asynchronous)
            for name, m in memories.values()
        },
    )


def _add_wire(block: pyrtl.Block, netlist: Netlist, name: str, inputs: set[str], outputs: set[str]) -> None:
    width = netlist.widths[name]
    if name in netlist.constants:
        pyrtl.Const(netlist.constants[name], bitwidth=width, name=name, block=block)
    elif name in netlist.registers:
        pyrtl.Register(bitwidth=width, name=name, reset_value=netlist.registers[name], block=block)
    elif name in inputs:
        pyrtl.Input(bitwidth=width, name=name, block=block)
    elif name in outputs:
        pyrtl.Output(bitwidth=width, name=name, block=block)
    else:
        pyrtl.WireVector(bitwidth=width, name=name, block=block)


def _add_memory(block: pyrtl.Block, name: str, memory: Memory) -> pyrtl.MemBlock:
    common = {
        "bitwidth": memory.data_bits,
        "addrwidth": memory.address_bits,
        "name": name,
        "max_read_ports": None,
        "asynchronous": memory.asynchronous,
        "block": block,
    }
    if memory.contents is not None:
        return pyrtl.RomBlock(romdata=list(memory.contents), **common)
    return pyrtl.MemBlock(max_write_ports=None, **common)


class _Unchecked(pyrtl.Block):  # type: ignore[misc]
    """A block without PyRTL's checks, which cost as much as building it; combinational loops still show."""

    def sanity_check(self) -> None:
        """Nothing."""

    def sanity_check_net(self, net: pyrtl.LogicNet) -> None:
        """Nothing."""


def write_block(netlist: Netlist, *, checked: bool = True) -> pyrtl.Block:
    """A new block of the netlist, sanity-checked; the working block is left alone.

    `checked` False: for one of many variants of a netlist that was checked; neither now nor when it is simulated.
    """
    block = pyrtl.Block() if checked else _Unchecked()
    inputs, outputs = set(netlist.inputs), set(netlist.outputs)
    for name in netlist.widths:
        _add_wire(block, netlist, name, inputs, outputs)
    memories = {name: _add_memory(block, name, m) for name, m in netlist.memories.items()}
    wires = block.wirevector_by_name
    for net in netlist.nets:
        parameter: tuple[object, ...] | None = None
        if net.op == "s":
            parameter = net.select
        elif net.memory is not None:
            parameter = (memories[net.memory].id, memories[net.memory])
        logic = pyrtl.LogicNet(
            net.op,
            parameter,
            tuple(wires[a] for a in net.args),
            () if net.dest is None else (wires[net.dest],),
        )
        block.add_net(logic)
        if net.op == "r":
            logic.dests[0].reg_in = logic.args[0]
        elif net.memory is not None:
            ports = memories[net.memory].readport_nets if net.op == "m" else memories[net.memory].writeport_nets
            ports.append(logic)
    block.sanity_check()
    return block
