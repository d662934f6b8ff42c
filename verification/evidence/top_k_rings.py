"""The ring of items never overflows: every row that is used belongs to exactly one request on its way (induction).

    rows used = rows of the request being filled + of those that wait + of the one that select has + of those the
                filter has yet to read                                                            <= rows of the ring

What select keeps in its FIFOs is never more than a request's rows; that the engine gives right answers whatever they
hold before is `top_k_bounded`.
"""

import pyrtl

from hls.datapaths.top_k import WAITING_REQUESTS
from hls.datapaths.top_k_graphs import TopKPlan
from verification.equivalence.bits import Bits, choose, total
from verification.equivalence.sequential import Invariant, Signals, prove_by_induction
from verification.equivalence.verdict import Verdict
from verification.evidence.stream_contracts import implies, now
from verification.evidence.top_k_control import control_claims
from verification.results import Settings


def ring_claims(made: TopKPlan) -> tuple[Invariant, ...]:
    """What holds of the rows in the ring of items."""
    types = made.types
    bits = types.row_count.width + 3

    def rows_of(count: Bits) -> Bits:
        """Rows that so many items fill."""
        wide = count.zext(max(count.width, bits) + 1)
        return (wide + (types.lanes - 1)).shifted_right(types.lane_bits)[:bits]

    def of_request(s: Signals, i: int) -> Bits:
        count = rows_of(s[f"requests_entry_{i}"][: types.count.width])
        return choose(s["requests_count"] > i, count, count.constant(0))

    def unread(s: Signals) -> Bits:
        left = s["filter_last_row"].zext(bits) - s["filter_index"].zext(bits) + 1
        return choose(s["filter_reading"] & (s["filter_status"] == 0), left, left.constant(0))

    def selecting(s: Signals) -> Bits:
        rows = s["request_row_count"].zext(bits)
        return choose(s["waiting"], rows.constant(0), rows)

    def used(s: Signals) -> Bits:
        return s["write_pointer"] - s["filter_read_pointer"]

    def accounted(s: Signals) -> Bits:
        waiting = [of_request(s, i) for i in range(WAITING_REQUESTS)]
        return total([s["fill_written"].zext(bits), *waiting, selecting(s), unread(s)], bits) == used(s).zext(bits)

    return (
        now("no more rows are used than there are", lambda s: used(s) <= types.rows),
        now("every row that is used belongs to one request", accounted),
        now("a request in select has rows", lambda s: implies(~s["waiting"], s["request_row_count"] != 0)),
        now("the filter reads its rows in order", lambda s: implies(s["filter_reading"], _in_order(s))),
        now("no more requests wait than there is room for", lambda s: s["requests_count"] <= WAITING_REQUESTS),
    )


def _in_order(s: Signals) -> Bits:
    return s["filter_index"] <= s["filter_last_row"]


def prove_rings(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """PROVED if they hold for ever, with what the engine's control keeps."""
    claims = [*ring_claims(made), *control_claims(block, made)]
    return prove_by_induction(block, claims, limits=settings.limits, folder=settings.folder)
