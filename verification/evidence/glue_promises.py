"""What the neighbours of a glue module promise: proofs assume it, every recorded step is checked for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hls.datapaths.control_read import ControlReadSize
from verification.equivalence.bits import Bits, conjunction
from verification.equivalence.netlist import Netlist
from verification.evidence.glue_runs import TINY

Value = Callable[[str], Bits]


@dataclass(frozen=True)
class Promise:
    """One bit of a netlist's wires in a cycle that is always 1."""

    name: str
    holds: Callable[[Value, Netlist], Bits]


def exclusive(a: str, b: str) -> Promise:
    """Two wires of one bit are never 1 together."""
    return Promise(f"{a} and {b} are never 1 together", lambda value, netlist: ~(value(a) & value(b)))


def steady(register: str, count: str) -> Promise:
    """A register that follows the layer bus holds what it would load, but where `count` is 0."""

    def holds(value: Value, netlist: Netlist) -> Bits:
        return (value(register) == value(netlist.drivers[register].args[0])) | (value(count) == 0)

    return Promise(f"{register} stands still while {count} is not 0", holds)


def answered_once() -> Promise:
    """Control reads: a burst is answered into a slot that is free."""
    size = ControlReadSize.of(TINY)
    row_bits = size.slot_bits - size.channel_bits

    def holds(value: Value, netlist: Netlist) -> Bits:
        del netlist
        found = []
        for c in range(size.channels):
            tag = value("control_answer_tag")[c * size.slot_bits + size.channel_bits : (c + 1) * size.slot_bits]
            arrives = value("control_answer_valid")[c]
            found += [~(arrives & (tag == i) & value(f"filled_{c}_{i}")) for i in range(1 << row_bits)]
        return conjunction(found)

    return Promise("a control read is answered once", holds)


def fetched_when_draining() -> Promise:
    """The fetcher is idle when all rows are done."""
    return Promise(
        "no fetches are under way while a layer drains",
        lambda value, netlist: ~value("state_draining") | (value("fetch_status") == 0),
    )


def taken_at_once(stream: str) -> Promise:
    """An item of a stream never waits."""
    return Promise(
        f"{stream} is taken at once", lambda value, netlist: ~value(f"{stream}_valid") | value(f"{stream}_ready")
    )


PROMISES: Mapping[str, tuple[Promise, ...]] = {
    "value_lists": (exclusive("missing_write", "kept_list_valid"),),  # generation and summarization
    "output_stage": (steady("others_exist", "rows_0_count"), taken_at_once("head")),
    "control_read": (answered_once(),),
    "controller": (fetched_when_draining(),),
}
"""By module."""
