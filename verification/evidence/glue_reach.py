"""How far a mutant's fault reaches within a cycle: of all other wires the values are the original's."""

from __future__ import annotations

from collections.abc import Collection

from verification.equivalence.netlist import Net, Netlist


def reached(
    faulty: Netlist, original: Netlist, state: Collection[str] = (), memories: Collection[str] = ()
) -> set[str]:
    """Wires of a mutant that are not driven as in the original, registers in `state`, and all that depends on them.

    Registers stop it: what they take in may differ, what they hold does not, but for those in `state`; memories too,
    but for those in `memories`.
    """
    tables = {name for name, memory in faulty.memories.items() if original.memories.get(name) != memory} | {*memories}
    users: dict[str, list[Net]] = {}
    for net in faulty.nets:
        if net.op != "r":
            for arg in net.args:
                users.setdefault(arg, []).append(net)
    found = {
        net.dest
        for net in faulty.nets
        if net.dest and net.op != "r" and (original.drivers.get(net.dest) != net or net.memory in tables)
    }
    found |= {name for name, value in faulty.constants.items() if original.constants.get(name) != value}
    found |= set(state)
    stack = list(found)
    while stack:
        for net in users.get(stack.pop(), ()):
            if net.dest and net.dest not in found:
                found.add(net.dest)
                stack.append(net.dest)
    return found
