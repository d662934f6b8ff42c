"""Rewriting one net of a netlist, and what a register's input looks like.

A netlist is a value: every rewrite returns a new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from verification.equivalence.netlist import Net, Netlist


class Patch:
    """New nets, wires and constants that replace one net (matched by identity of value)."""

    def __init__(self, netlist: Netlist) -> None:
        self.netlist = netlist
        self.nets: list[Net] = []
        self.widths: dict[str, int] = {}
        self.constants: dict[str, int] = {}
        self.registers: dict[str, int | None] = {}

    def fresh(self, width: int) -> str:
        """A new wire."""
        taken = len(self.widths)
        name = f"mutant_{taken}"
        while name in self.netlist.widths or name in self.widths:
            taken += 1
            name = f"mutant_{taken}"
        self.widths[name] = width
        return name

    def constant(self, value: int, width: int) -> str:
        """A new constant."""
        name = self.fresh(width)
        self.constants[name] = value
        return name

    def net(self, op: str, args: Sequence[str], width: int, select: tuple[int, ...] = ()) -> str:
        """A new net with a new destination."""
        dest = self.fresh(width)
        self.nets.append(Net(op, tuple(args), dest, select))
        return dest

    def fit(self, wire: str, width: int, dest: str) -> None:
        """Drive `dest` by a new wire of `width` bits, padded with zeros or cut to the destination's width."""
        wanted = self.netlist.widths[dest]
        if wanted > width:
            self.nets.append(Net("c", (self.constant(0, wanted - width), wire), dest))
        else:
            self.nets.append(Net("w", (wire,), dest))

    def applied(self, old: Net, *nets: Net) -> Netlist:
        """The netlist with `old` replaced by `nets` and everything new."""
        kept = [net for net in self.netlist.nets if net != old]
        return pruned(
            replace(
                self.netlist,
                widths={**self.netlist.widths, **self.widths},
                constants={**self.netlist.constants, **self.constants},
                registers={**self.netlist.registers, **self.registers},
                nets=(*kept, *nets, *self.nets),
            )
        )


def pruned(netlist: Netlist) -> Netlist:
    """Without logic that nothing reads any more (PyRTL refuses wires without use); interface and state stay."""
    nets = list(netlist.nets)
    keep = set(netlist.outputs) | set(netlist.registers)
    while True:
        used = {a for net in nets for a in net.args} | keep
        alive = [net for net in nets if net.dest is None or net.dest in used]
        if len(alive) == len(nets):
            break
        nets = alive
    present = {a for net in nets for a in net.args} | {net.dest for net in nets if net.dest} | set(netlist.inputs)
    memories = {net.memory for net in nets}
    return replace(
        netlist,
        widths={n: w for n, w in netlist.widths.items() if n in present},
        constants={n: v for n, v in netlist.constants.items() if n in present},
        nets=tuple(nets),
        memories={n: m for n, m in netlist.memories.items() if n in memories},
    )


@dataclass(frozen=True)
class Load:
    """How a register is loaded: its `r` net, the data, and the multiplexer that holds it (None: always loaded)."""

    net: Net
    data: str
    hold: Net | None


def source(netlist: Netlist, wire: str) -> Net | None:
    """The net that computes a wire, looking through plain connections."""
    net = netlist.drivers.get(wire)
    while net is not None and net.op == "w":
        wire = net.args[0]
        net = netlist.drivers.get(wire)
    return net


def same_wire(netlist: Netlist, wire: str, other: str) -> bool:
    """Whether `wire` is `other`, looking through plain connections."""
    while wire != other:
        net = netlist.drivers.get(wire)
        if net is None or net.op != "w":
            return False
        wire = net.args[0]
    return True


def loads(netlist: Netlist) -> Mapping[str, Load]:
    """How each register is loaded."""
    result = {}
    for net in netlist.nets:
        if net.op != "r" or net.dest is None:
            continue
        mux = source(netlist, net.args[0])
        load = Load(net, net.args[0], None)
        if mux is not None and mux.op == "x":
            for kept, loaded in ((mux.args[1], mux.args[2]), (mux.args[2], mux.args[1])):
                if same_wire(netlist, kept, net.dest):
                    load = Load(net, loaded, mux)
        result[net.dest] = load
    return result


def reaches(netlist: Netlist, start: str, register: str) -> bool:
    """Whether `start` depends on a register's output without another register between."""
    seen, stack = {start}, [start]
    while stack:
        wire = stack.pop()
        if wire == register:
            return True
        net = netlist.drivers.get(wire)
        if net is None or net.op == "r":
            continue
        for arg in net.args:
            if arg not in seen:
                seen.add(arg)
                stack.append(arg)
    return False
