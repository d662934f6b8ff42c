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


def steady(register: str, *busy: str) -> Promise:
    """A register that follows the layer bus holds what it would load, but where all of `busy` are 0."""

    def holds(value: Value, netlist: Netlist) -> Bits:
        idle = conjunction([value(wire) == 0 for wire in busy])
        return (value(register) == value(netlist.drivers[register].args[0])) | idle

    return Promise(f"{register} stands still while not all of {', '.join(busy)} are 0", holds)


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


def rows_tell_while_running() -> Promise:
    """Rows tell their importance after `layer_start`, and until all have."""
    return Promise(
        "rows tell their importance while a layer runs",
        lambda value, netlist: value("state_running") | ~(value("row_added") | value("row_kept")),
    )


def steady_layer(*registers: str) -> Promise:
    """Registers behind the layer bus hold what they would load, from `layer_start` until all rows have been told."""

    def holds(value: Value, netlist: Netlist) -> Bits:
        still = [value(name) == value(netlist.drivers[name].args[0]) for name in registers]
        return conjunction(still) | ~(value("state_launching") | value("state_running"))

    return Promise(f"{', '.join(registers)} stand still while a layer runs", holds)


def nothing_owed_when_idle() -> Promise:
    """Between layers the memory owes nothing."""

    def holds(value: Value, netlist: Netlist) -> Bits:
        del netlist
        return ~value("state_idle") | ~(value("write_busy") | value("writes_pending") | value("read_waits"))

    return Promise("nothing is owed between layers", holds)


def never_full(prefix: str) -> Promise:
    """A FIFO of 2^n items never holds so many: its source has no more under way."""
    return Promise(f"{prefix}memory is never full", lambda value, netlist: ~value(f"{prefix}count")[-1])


def last_row_waits_alone() -> Promise:
    """A list of the next survivors is taken whole before the next one is made."""
    return Promise(
        "nothing comes behind the last row of a list",
        lambda value, netlist: ~(value("held_row_valid") & value("held_row_last")) | (value("next_list_count") == 0),
    )


def room_left(prefix: str) -> Promise:
    """A queue of beats never holds as many as there are places."""
    return Promise(
        f"{prefix}beats has a place left",
        lambda value, netlist: value(f"{prefix}written") + 1 != value(f"{prefix}read"),
    )


def taken_at_once(stream: str) -> Promise:
    """An item of a stream never waits."""
    return Promise(
        f"{stream} is taken at once", lambda value, netlist: ~value(f"{stream}_valid") | value(f"{stream}_ready")
    )


_ROWS = (
    *("row_issue.job_there", "row_issue.row_there", "row_issue.rows_count", "row_issue.oldest_there"),
    *("row_issue.cleared_0", "row_issue.cleared_1"),
)
"""Something of a row is in the row issue."""
PROMISES: Mapping[str, tuple[Promise, ...]] = {
    # generation and summarization
    "value_lists": (exclusive("missing_write", "kept_list_valid"), never_full("decisions_")),
    "selection": (
        never_full("checked_"),
        steady("selects_heads", "selection_starts", "part_3_left"),
        last_row_waits_alone(),
    ),
    "row_issue": (
        never_full("row_issue.rows_"),
        never_full("row_issue.flats_"),
        steady("row_issue.parts", *_ROWS),
        steady("row_issue.halves", *_ROWS),
        steady("row_issue.key_vectors", "row_issue.lsb_there", *_ROWS),
    ),
    "row_queues": (never_full("issued_"), room_left("first_"), room_left("replay_")),
    "output_stage": (steady("others_exist", "rows_0_count"), taken_at_once("head")),
    # a row begins after the list of the one before it is whole
    "value_sparse": (exclusive("packer_flushing", "packed_1_d4"),),
    "operand_loader": tuple(
        steady(register, "key_jobs_count", "query_jobs_count", "query_active", "query_freed")
        for register in ("key_vectors", "row_vectors", "parts", "key_plane", "halves")
    ),
    "control_read": (answered_once(),),
    "controller": (
        fetched_when_draining(),
        nothing_owed_when_idle(),
        rows_tell_while_running(),
        steady_layer("last_of_layer_rows", "last_of_layer_heads"),
    ),
}
"""By module."""
