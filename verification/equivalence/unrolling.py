"""Values of a netlist's wires at a cycle, over any domain, computed on demand.

A wire at cycle t is a function of the inputs of cycles 0 .. t and of the state at cycle 0. Only
the cone that is asked for is built, and of a multiplexer whose select is known only the
chosen arm: with `ready` fixed at 1 a stallable pipeline turns into plain combinational
logic by itself. The state at cycle 0 is what the caller says (reset, or free).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from verification.equivalence.bits import Bits, Domain
from verification.equivalence.netlist import Net, Netlist, NetlistError


@dataclass(frozen=True)
class Sources:
    """Where values come from that no net computes.

    `wire(name, cycle)` gives inputs; `register(name)` and `memory(name)` the state at cycle 0;
    `table(name)` a read-only memory; `cut(name, cycle)` a replacement for a wire's own logic, or None.
    """

    wire: Callable[[str, int], Any]
    register: Callable[[str], Any]
    memory: Callable[[str], Any]
    table: Callable[[str], Any]
    cut: Callable[[str, int], Any] = field(default=lambda name, cycle: None)


_Key = tuple[str, int, bool]


class Unrolling:
    """The wires of `netlist` cycle by cycle, as values of `domain`.

    A domain without memories (bit-sliced) raises NetlistError where a writable one is read.
    """

    def __init__(self, netlist: Netlist, domain: Domain, sources: Sources) -> None:
        self.netlist = netlist
        self.domain = domain
        self.sources = sources
        self._values: dict[_Key, Any] = {}

    def value(self, wire: str, cycle: int = 0) -> Any:
        """The domain's value of a wire; for a register, what it holds during the cycle."""
        self.netlist.width(wire)
        return self._get((wire, cycle, False))

    def bits(self, wire: str, cycle: int = 0) -> Bits:
        """The same as a bit-vector with operators."""
        return Bits(self.domain, self.value(wire, cycle), self.netlist.width(wire))

    def own(self, wire: str, cycle: int = 0) -> Any:
        """The value that a wire's own net computes, although the wire itself is cut."""
        net = self.netlist.drivers.get(wire)
        if net is None or (net.op == "r" and not cycle):
            raise NetlistError(f"wire {wire!r} at cycle {cycle} has no logic to compare: cut a driven wire")
        if net.op == "r":
            operand = self.value(net.args[0], cycle - 1)
            return self._resized(operand, self.netlist.widths[net.args[0]], self.netlist.widths[wire])
        values = [self.value(a, cycle) for a in net.args]
        if net.op == "m" and net.memory is not None:
            if self.netlist.memories[net.memory].contents is None:
                self.memory(net.memory, cycle)
            return self._read(net.memory, values[0], cycle)
        return self._apply(net, values)

    def memory(self, name: str, cycle: int = 0) -> Any:
        """The contents of a memory at the beginning of a cycle."""
        return self._get((name, cycle, True))

    def _get(self, goal: _Key) -> Any:
        stack, opened = [goal], set()
        while stack:
            key = stack[-1]
            missing = [] if key in self._values else [k for k in self._needs(key) if k not in self._values]
            if missing:
                opened.add(key)
                looped = next((k for k in missing if k in opened), None)
                if looped is not None:
                    raise NetlistError(f"combinational loop through wire {looped[0]!r}: put a register into it")
                stack.extend(missing)
                continue
            stack.pop()
            opened.discard(key)
            if key not in self._values:
                self._values[key] = self._compute(key)
        return self._values[goal]

    def _needs(self, key: _Key) -> list[_Key]:
        """What must be known before `key`; asked again after that, since a select decides which arm."""
        name, cycle, is_memory = key
        if is_memory:
            return self._memory_needs(name, cycle)
        net = self._logic(name, cycle)
        if net is None:
            return []
        if net.op == "r":
            return [(net.args[0], cycle - 1, False)] if cycle else []
        keys = [(a, cycle, False) for a in net.args]
        if net.op == "m" and net.memory is not None:
            return (
                keys if self.netlist.memories[net.memory].contents is not None else [*keys, (net.memory, cycle, True)]
            )
        if net.op == "x":
            if keys[0] not in self._values:
                return keys[:1]
            known = self.domain.known(self._values[keys[0]])
            return keys if known is None else [keys[1 + known]]
        return keys

    def _memory_needs(self, name: str, cycle: int) -> list[_Key]:
        if not cycle:
            return []
        ports = [(a, cycle - 1, False) for net in self.netlist.writers[name] for a in net.args]
        return [(name, cycle - 1, True), *ports]

    def _logic(self, name: str, cycle: int) -> Net | None:
        """The net that computes a wire, None where its value comes from `sources` or is a constant."""
        if name in self.netlist.constants or self.sources.cut(name, cycle) is not None:
            return None
        return self.netlist.drivers.get(name)

    def _compute(self, key: _Key) -> Any:
        name, cycle, is_memory = key
        if is_memory:
            return self._memory_value(name, cycle)
        if name in self.netlist.constants:
            return self.domain.constant(self.netlist.constants[name], self.netlist.widths[name])
        replaced = self.sources.cut(name, cycle)
        if replaced is not None:
            return replaced
        net = self.netlist.drivers.get(name)
        if net is None:
            if name not in self.netlist.inputs:
                raise NetlistError(f"wire {name!r} has no driver: connect it or make it an input")
            return self.sources.wire(name, cycle)
        if net.op == "r":
            if not cycle:
                return self.sources.register(name)
            operand = self._values[(net.args[0], cycle - 1, False)]
            return self._resized(operand, self.netlist.widths[net.args[0]], self.netlist.widths[name])
        if net.op == "m" and net.memory is not None:
            return self._read(net.memory, self._values[(net.args[0], cycle, False)], cycle)
        return self._apply(net, [self._values.get((a, cycle, False)) for a in net.args])

    def _read(self, memory: str, address: Any, cycle: int) -> Any:
        select = getattr(self.domain, "select", None)
        if select is None:
            raise NetlistError(f"memory {memory!r}: this domain has none; prove with SMT instead")
        if self.netlist.memories[memory].contents is not None:
            return select(self.sources.table(memory), address)
        return select(self._values[(memory, cycle, True)], address)

    def _memory_value(self, name: str, cycle: int) -> Any:
        if not cycle:
            return self.sources.memory(name)
        store = getattr(self.domain, "store", None)
        if store is None:
            raise NetlistError(f"memory {name!r}: this domain cannot write one; prove with SMT instead")
        array = self._values[(name, cycle - 1, True)]
        for net in self.netlist.writers[name]:
            address, data, enable = (self._values[(a, cycle - 1, False)] for a in net.args)
            array = store(array, address, data, enable)
        return array

    def _resized(self, value: Any, width: int, wanted: int) -> Any:
        """The low `wanted` bits, as every PyRTL destination takes them."""
        return value if width == wanted else self.domain.extract(value, width, 0, wanted)

    def _apply(self, net: Net, args: list[Any]) -> Any:
        """One combinational primitive."""
        domain, widths = self.domain, [self.netlist.widths[a] for a in net.args]
        width, wanted = widths[0], self.netlist.widths[net.dest or ""]
        match net.op:
            case "w":
                value, natural = args[0], width
            case "~":
                value, natural = domain.invert(args[0], width), width
            case "&" | "|" | "^":
                method = {"&": domain.conjunction, "|": domain.disjunction, "^": domain.exclusive}[net.op]
                value, natural = method(args[0], args[1], width), width
            case "n":
                value, natural = domain.invert(domain.conjunction(args[0], args[1], width), width), width
            case "+" | "-" | "*":
                a, b = (self._extended(x, width, wanted) for x in args)
                method = {"+": domain.add, "-": domain.subtract, "*": domain.multiply}[net.op]
                value, natural = method(a, b, wanted), wanted
            case "<":
                value, natural = domain.below(args[0], args[1], width), 1
            case ">":
                value, natural = domain.below(args[1], args[0], width), 1
            case "=":
                value, natural = domain.equal(args[0], args[1], width), 1
            case "x":
                value, natural = self._choice(args, widths[1]), widths[1]
            case "c":
                value, natural = domain.concatenate(list(zip(args, widths, strict=True))), sum(widths)
            case "s":
                bits = [(domain.extract(args[0], width, i, 1), 1) for i in reversed(net.select)]
                value, natural = domain.concatenate(bits), len(bits)
            case _:
                raise NetlistError(f"primitive {net.op!r} of wire {net.dest!r} is not one of PyRTL's")
        return self._resized(value, natural, wanted)

    def _extended(self, value: Any, width: int, wanted: int) -> Any:
        if wanted <= width:
            return self._resized(value, width, wanted)
        return self.domain.concatenate([(self.domain.constant(0, wanted - width), wanted - width), (value, width)])

    def _choice(self, args: list[Any], width: int) -> Any:
        known = self.domain.known(args[0])
        return self.domain.choose(args[0], args[2], args[1], width) if known is None else args[1 + known]
