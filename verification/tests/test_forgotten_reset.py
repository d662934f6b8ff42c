"""Mutants of reset values: equivalent where the first cycles forget them, and only there."""

import pyrtl
import pytest

from hls.lower import building
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind
from verification.evidence.forgotten_reset import prove_reset_forgotten
from verification.mutants.netlist import netlist_mutants


@pytest.fixture(scope="module")
def block():
    """Two stages of payload beside their valid bits, and a counter."""
    made = pyrtl.Block()
    with building(made):
        value, valid = pyrtl.Input(1, "value"), pyrtl.Input(1, "in_valid")
        for stage in (1, 2):
            payload, marker = (pyrtl.Register(1, f"{n}_{stage}", reset_value=0) for n in ("payload", "valid"))
            payload.next <<= value
            marker.next <<= valid
            value, valid = payload, marker
        count = pyrtl.Register(2, "count", reset_value=0)
        count.next <<= (count + 1)[:2]
        for name, wire in (("out", value), ("out_valid", valid), ("count_out", count)):
            port = pyrtl.Output(len(wire), name)
            port <<= wire
    return made


@pytest.mark.parametrize(
    ("operator", "where", "cycles", "kind"),
    [
        ("reset value", "payload_1", 2, Kind.PROVED),
        ("reset value", "payload_2", 1, Kind.PROVED),
        ("reset value", "payload_1", 1, Kind.UNKNOWN),
        ("reset value", "valid_1", 2, Kind.UNKNOWN),
        ("reset value", "valid_2", 2, Kind.UNKNOWN),
        ("reset value", "count", 2, Kind.UNKNOWN),
        ("stage added", "payload_1", 2, Kind.UNKNOWN),
        ("operator", "", 2, Kind.UNKNOWN),
        ("width", "", 2, Kind.PROVED),  # the sum is cut to two bits anyway
    ],
)
def test_only_reset_values_that_nobody_sees_are_equivalent(block, operator, where, cycles, kind):
    mutant = next(m for m in netlist_mutants(block) if m.operator == operator and where in m.where)
    assert prove_reset_forgotten(mutant.build(), block, cycles, ("out",), Limits()).kind is kind


def test_payload_that_counts_is_seen(block):
    mutant = next(m for m in netlist_mutants(block) if m.operator == "reset value" and m.where == "payload_2")
    assert prove_reset_forgotten(mutant.build(), block, 2, (), Limits()).kind is Kind.UNKNOWN
