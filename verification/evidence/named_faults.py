"""Planted faults chosen by the names that a datapath gives to its values and registers."""

import pyrtl

from verification.evidence.planted import faults
from verification.mutants.netlist import Mutant

Fault = tuple[str, str, str]


def named_faults(block: pyrtl.Block, *wanted: Fault) -> list[Mutant]:
    """Faults by (operator, wire, what): in the register of that name, or in the logic that the name stands for.

    Raises:
        ValueError: as `planted.faults`.
    """
    copies = {net.dests[0].name: net.args[0].name for net in block.logic if net.op in "ws"}

    def behind(wire: str) -> str:
        """The wire whose bits this one takes."""
        return behind(copies[wire]) if wire in copies else wire

    return faults(block, *((operator, f"^{behind(wire)}$", what) for operator, wire, what in wanted))
