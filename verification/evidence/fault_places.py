"""Where a mutant differs from its original: which registers and outputs can see it in the next cycle."""

from verification.equivalence.netlist import Netlist


def next_state(faulty: Netlist, original: Netlist) -> frozenset[str]:
    """Registers and outputs of either that depend, through wires only, on a net that the other does not have."""
    found: set[str] = set()
    for ours, theirs in ((faulty, original), (original, faulty)):
        readers: dict[str, list[str]] = {}
        for net in ours.nets:
            for arg in net.args if net.dest is not None else ():
                readers.setdefault(arg, []).append(net.dest or "")
        stops = {*ours.registers, *ours.outputs}
        changed = set(ours.nets) - set(theirs.nets)
        changed |= {net for net in ours.nets if any(ours.constants.get(a) != theirs.constants.get(a) for a in net.args)}
        waiting = [net.dest for net in changed if net.dest is not None]
        seen = set(waiting)
        while waiting:
            wire = waiting.pop()
            if wire in stops:
                found.add(wire)
                continue
            waiting += (fresh := [reader for reader in readers.get(wire, ()) if reader not in seen])
            seen.update(fresh)
    return frozenset(found)
