"""Small wiring that the units of the top-k engine share."""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.netlist import Wire


@dataclass(frozen=True, eq=False)
class Chosen:
    """What select hands to the filter in the cycle in which `valid` is 1, which the filter must be free for.

    `count` is n, of which `row_count` and `rest_lanes` are the shape; `status` other than 0 refuses the request.
    """

    valid: Wire
    row_count: Wire
    rest_lanes: Wire
    threshold: Wire
    num_equal: Wire
    status: Wire


def hold(target: pyrtl.Register, enable: Wire, following: Wire) -> None:
    """Load a register where `enable` is 1."""
    target.next <<= pyrtl.select(enable, following, target)


def align(wire: Wire, cycles: int, name: str, enable: Wire | None = None) -> Wire:
    """The wire some clock edges later; registers move where `enable` is 1 (None: always)."""
    for cycle in range(cycles):
        later = pyrtl.Register(len(wire), f"{name}_d{cycle + 1}", reset_value=0)
        later.next <<= wire if enable is None else pyrtl.select(enable, wire, later)
        wire = later
    return wire


def remove_unread(block: pyrtl.Block) -> None:
    """Take out what no output and no memory depends on, as valid bits of packed rows whose counts are used instead."""
    drivers = {net.dests[0]: net for net in block.logic if net.dests}
    waiting = [*block.wirevector_subset(pyrtl.Output), *(arg for net in block.logic_subset("@") for arg in net.args)]
    needed: set[Wire] = set()
    while waiting:
        wire = waiting.pop()
        if wire not in needed:
            needed.add(wire)
            waiting.extend(drivers[wire].args if wire in drivers else ())
    block.logic = {net for net in block.logic if not net.dests or net.dests[0] in needed}
    for wire in list(block.wirevector_set):
        if wire not in needed and not isinstance(wire, pyrtl.Input):
            block.remove_wirevector(wire)
