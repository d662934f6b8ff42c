"""What is always so in a glue module by itself: proved by induction, then used in proofs that a fault does not matter.

`keys_there` says that all keys of the row whose beats are read have landed. A row's first beat goes at once, so by then
it is gone, and beats never run past the last one. Jobs enter both FIFOs of the operand loader where both have room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hls.datapaths.operand_loader import KEY_JOBS, QUERY_JOBS
from hls.datapaths.output_stage import OUTPUT_ROWS
from hls.lower import Netlist
from verification.equivalence.bits import Bits
from verification.equivalence.netlist import Netlist as Nets
from verification.equivalence.netlist import read_block
from verification.equivalence.sequential import Invariant, prove_by_induction
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Verdict
from verification.evidence.glue_promises import Promise, Value
from verification.evidence.glue_runs import TINY

LANE_BITS = TINY.softmax_lanes.bit_length() - 1


def _beats_in_row(value: Value, netlist: Nets) -> Bits:
    del netlist
    last = value("row_issue.beat_span")[LANE_BITS:]
    return ~value("row_issue.beat_there") | ~(last < value("row_issue.beat"))


def _first_beat_goes(value: Value, netlist: Nets) -> Bits:
    del netlist
    first = value("row_issue.beat_there") & (value("row_issue.beat") == 0)
    return ~first | (value("row_issue.beat_may") & ~value("row_issue.keys_there"))


def _at_most(prefix: str, depth: int) -> Promise:
    return Promise(f"{prefix}count is {depth} at most", lambda value, netlist: value(f"{prefix}count") <= depth)


INVARIANTS: Mapping[str, tuple[Promise, ...]] = {
    "operand_loader": (_at_most("key_jobs_", KEY_JOBS), _at_most("query_jobs_", QUERY_JOBS)),
    "output_stage": tuple(
        _at_most(f"rows_{i}_", OUTPUT_ROWS) for i in range(TINY.max_head_dim // TINY.native_head_dim)
    ),
    "row_issue": (
        Promise("a beat is one of its row", _beats_in_row),
        Promise("the first beat of a row goes at once", _first_beat_goes),
    ),
}
"""By module."""


def prove_invariants(netlist: Netlist, invariants: Sequence[Promise], limits: Limits) -> Verdict:
    """All of them together, from reset, whatever the neighbours do."""
    nets = read_block(netlist.block)

    def claim(promise: Promise) -> Invariant:
        return Invariant(promise.name, lambda window: promise.holds(window[0].__getitem__, nets))

    return prove_by_induction(netlist.block, [claim(one) for one in invariants], limits=limits)
