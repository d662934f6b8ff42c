"""The whole top-k engine, at its smallest, from reset: bounded model checking against the definition of top-k.

2 lanes, memories of 2 rows, values of 2 bits; any values, ids, valid bits and k, any content of the memories; with any
stall on both sides, or deeper without. The first request's rows are remembered beside the engine. Item i is kept if it
is valid and fewer than k valid items come before it in the order (larger value first, then earlier place): nothing of
quick-select is in that.
"""

import pyrtl

from hls.datapaths.top_k_select import STATUS_EMPTY, STATUS_OK, STATUS_ZERO_K
from hls.lower import Netlist, building
from hls.netlist import Wire
from verification.equivalence.bits import Bits, choose, conjunction, total
from verification.equivalence.sequential import Environment, Invariant, Signals, check_bounded
from verification.equivalence.verdict import Verdict
from verification.evidence.stream_contracts import implies, now
from verification.evidence.top_k_exhaustive import ITEMS, LANES, ROWS, VALUE_BITS
from verification.results import Settings

ID_BITS, COUNT_BITS = (ITEMS - 1).bit_length(), ITEMS.bit_length()
ANSWER_CYCLES = 44
"""The longest request of four items: fill, four passes, filter."""


def _behind(block: pyrtl.Block, port: str) -> Wire:
    """The wire that drives an output, which a monitor may read."""
    output = block.wirevector_by_name[port]
    driver: Wire = next(net.args[0] for net in block.logic_subset("w") if net.dests[0] is output)
    return driver


def watch_request(block: pyrtl.Block) -> None:
    """Add monitors: rows of the first request, how many of its result rows have left, cycles since it was complete."""
    ready, out_valid, last_out = (_behind(block, name) for name in ("in_ready", "out_valid", "kept_last"))
    ports = {name: block.wirevector_by_name[name] for name in ("value", "id", "valid", "k", "last", "in_valid")}
    out_ready = block.wirevector_by_name["out_ready"]
    with building(block):
        complete = pyrtl.Register(1, "seen_complete", reset_value=0)
        enters = ports["in_valid"] & ready & ~complete
        entered = pyrtl.Register(2, "seen_entered", reset_value=0)
        entered.next <<= pyrtl.select(enters, (entered + 1)[:2], entered)
        complete.next <<= complete | (enters & ports["last"])
        for name, bits in (("value", VALUE_BITS), ("id", ID_BITS), ("valid", 1)):
            for i in range(ITEMS):
                held = pyrtl.Register(bits, f"seen_{name}_{i}", reset_value=0)
                lane = i % LANES
                mine = enters & (entered == i // LANES)
                held.next <<= pyrtl.select(mine, ports[name][lane * bits : (lane + 1) * bits], held)
        k = pyrtl.Register(COUNT_BITS, "seen_k", reset_value=0)
        k.next <<= pyrtl.select(enters & ports["last"], ports["k"], k)
        left = pyrtl.Register(2, "seen_left", reset_value=0)
        done = pyrtl.Register(1, "seen_done", reset_value=0)
        leaves = out_valid & out_ready & ~done
        left.next <<= pyrtl.select(leaves, (left + 1)[:2], left)
        done.next <<= done | (leaves & last_out)
        age = pyrtl.Register(6, "seen_age", reset_value=0)
        age.next <<= pyrtl.select(complete & ~done & out_ready, (age + 1)[:6], age)


def _kept(s: Signals) -> list[Bits]:
    """Which items of the request are to be kept, by the definition."""
    values, valid = ([s[f"seen_{name}_{i}"] for i in range(ITEMS)] for name in ("value", "valid"))
    kept = []
    for i in range(ITEMS):
        before = [
            valid[j] & ((values[j] > values[i]) | (values[j] == values[i]) if j < i else (values[j] > values[i]))
            for j in range(ITEMS)
            if j != i
        ]
        kept.append(valid[i] & (total(before, COUNT_BITS) < s["seen_k"]))
    return kept


def right_row(s: Signals) -> Bits:
    """Whether the row at the output is the next of the first request's result."""
    kept = _kept(s)
    bits = COUNT_BITS + 1
    gone = total([s["seen_left"]] * LANES, bits)
    count = total(kept, bits)
    rest = choose(count > gone, count - gone, count.constant(0))
    here = choose(rest > LANES, rest.constant(LANES), rest)
    valid = total([s[f"seen_valid_{i}"] for i in range(ITEMS)], bits)
    status = choose(s["seen_k"] == 0, s["status"].constant(STATUS_ZERO_K), s["status"].constant(STATUS_OK))
    status = choose(valid == 0, s["status"].constant(STATUS_EMPTY), status)
    right = [
        s["seen_complete"],
        s["kept_count"].zext(bits) == here,
        # behind a full row may come an empty one that is the last
        choose(s["kept_last"], rest <= LANES, here == LANES),
        implies(s["kept_last"], s["status"] == status),
    ]
    for lane in range(LANES):
        value = s["kept_value"][lane * VALUE_BITS : (lane + 1) * VALUE_BITS]
        ident = s["kept_id"][lane * ID_BITS : (lane + 1) * ID_BITS]
        for i in range(ITEMS):
            place = total([gone.constant(0), *kept[:i]], bits)
            same = (value == s[f"seen_value_{i}"]) & (ident == s[f"seen_id_{i}"])
            right.append(implies(kept[i] & (place == gone + lane), same))
    return conjunction(right)


def claims() -> tuple[Invariant, ...]:
    """What the first request must get."""
    return (
        now("a row at the output is right", lambda s: implies(s["out_valid"] & ~s["seen_done"], right_row(s))),
        now("the answer comes in time", lambda s: implies(~s["seen_done"], s["seen_age"] <= ANSWER_CYCLES)),
    )


def two_rows(s: Signals) -> Bits:
    """The first request has at most as many rows as the memories."""
    return implies(s["in_valid"] & ~s["seen_complete"] & (s["seen_entered"] == ROWS - 1), s["last"])


def at_once(s: Signals) -> Bits:
    """As `two_rows`, and the first request comes without a gap and alone."""
    return two_rows(s) & (s["in_valid"] == ~s["seen_complete"])


def check_engine(netlist: Netlist, depth_cycles: int, settings: Settings, *, stalls: bool) -> Verdict:
    """BOUNDED(depth), or REFUTED with the shortest run; `stalls`: any on both sides, and other requests behind.

    Adds the monitors to the netlist.
    """
    watch_request(netlist.block)
    return check_bounded(
        netlist.block,
        claims(),
        depth_cycles,
        environment=Environment(assume=two_rows) if stalls else Environment({"out_ready": 1}, at_once),
        limits=settings.limits,
        folder=settings.folder,
    )
