"""The contracts of streams that split, meet, share or change shape; see `stream_contracts`."""

from collections.abc import Callable
from functools import reduce

import pyrtl

from hls.lower import building
from hls.stream import Stream, sink_ports, source_ports
from hls.stream_flow import fork, join, round_robin
from hls.stream_rows import as_rows, as_stream, row_bits, row_packer, width_adapter
from verification.equivalence.bits import Bits, choose, concatenate, conjunction
from verification.equivalence.sequential import Environment, Invariant, Signals
from verification.evidence.stream_contracts import Watched, implies, kept, now, stable


def _fires(s: Signals, prefix: str) -> Bits:
    return s[f"{prefix}valid"] & s[f"{prefix}ready"]


def each(count: int, claim: str, holds: Callable[[Signals, int], Bits]) -> list[Invariant]:
    """The claim about number 0 .. count - 1, whose `{}` is the number."""

    def about(i: int) -> Invariant:
        return now(claim.format(i), lambda s: holds(s, i))

    return [about(i) for i in range(count)]


def watched_fork(bits: int, ways: int) -> Watched:
    """A fork into `ways` streams."""
    block = pyrtl.Block()
    source = source_ports(bits, block)
    outputs = fork(source, ways, block=block)
    for i, out in enumerate(outputs):
        sink_ports(out, block, f"out{i}_")
    with building(block):
        leaves = source.valid & source.ready
        for i, out in enumerate(outputs):
            had = pyrtl.Register(1, f"had_{i}", reset_value=0)
            had.next <<= ~leaves & (had | (out.valid & out.ready))
    every = range(ways)

    def leaves_when_had(s: Signals) -> Bits:
        have_it = [s[f"had_{i}"] | s[f"out{i}_ready"] for i in every]
        return implies(s["in_valid"], s["in_ready"] == conjunction(have_it))

    contract = [
        *(stable(f"out{i}_") for i in every),
        *each(ways, "way {} is offered the item", lambda s, i: s[f"out{i}_data"] == s["in_data"]),
        *each(
            ways,
            "way {} is offered it until it has had it, then no more",
            lambda s, i: s[f"out{i}_valid"] == (s["in_valid"] & ~s[f"had_{i}"]),
        ),
        now("the item leaves when every way has it or takes it", leaves_when_had),
    ]
    internal = [
        *each(ways, "what way {} has had is remembered", lambda s, i: s[f"fork_served_{i}"] == s[f"had_{i}"]),
        *each(ways, "way {} has had only what is offered", lambda s, i: implies(s[f"had_{i}"], s["in_kept"])),
    ]
    return Watched(block, tuple(contract), tuple(internal), kept({"in_": source}, block))


def watched_join(bits: int, count: int) -> Watched:
    """A join of `count` streams."""
    block = pyrtl.Block()
    sources = {f"in{i}_": source_ports(bits, block, f"in{i}_") for i in range(count)}
    sink_ports(join(list(sources.values()), block=block), block)
    parts = [f"in{i}_" for i in range(count)]

    def together(s: Signals) -> Bits:
        return conjunction([_fires(s, p) == _fires(s, "out_") for p in parts])

    contract = (
        stable("out_"),
        now("offered when all are", lambda s: s["out_valid"] == conjunction([s[f"{p}valid"] for p in parts])),
        now("all move together", together),
        now("side by side", lambda s: s["out_data"] == concatenate(*[s[f"{p}data"] for p in reversed(parts)])),
    )
    return Watched(block, contract, (), kept(sources, block))


def watched_arbiter(bits: int, count: int) -> Watched:
    """A round-robin arbiter of `count` sources; `waited_i` counts the items of others while source i waits."""
    block = pyrtl.Block()
    sources = {f"in{i}_": source_ports(bits, block, f"in{i}_") for i in range(count)}
    made = round_robin(list(sources.values()), block=block)
    sink_ports(made.stream, block)
    winner_bits, wide = len(made.winner), len(made.winner) + 2
    with building(block):
        port = pyrtl.Output(winner_bits, "winner")
        port <<= made.winner
        leaves = made.stream.valid & made.stream.ready
        for i, source in enumerate(sources.values()):
            waited = pyrtl.Register(wide, f"waited_{i}", reset_value=0)
            still = pyrtl.select(leaves, (waited + 1)[:wide], waited)
            waited.next <<= pyrtl.select(source.valid & ~source.ready, still, pyrtl.Const(0, wide))
    every = range(count)

    def one_moves(s: Signals) -> Bits:
        moved = [_fires(s, f"in{i}_") == (_fires(s, "out_") & (s["winner"] == i)) for i in every]
        return conjunction(moved)

    def passed_on(s: Signals) -> Bits:
        same = [implies(s["winner"] == i, s[f"in{i}_valid"] & (s["out_data"] == s[f"in{i}_data"])) for i in every]
        return implies(s["out_valid"], (s["winner"].zext(wide) < count) & conjunction(same))

    def distance(s: Signals, i: int) -> Bits:
        """How many sources come before source i in turn."""
        first = s["arbiter_first"].zext(wide)
        return choose(first <= i, first.constant(i) - first, first.constant(i + count) - first)

    def any_offered(s: Signals) -> Bits:
        return s["out_valid"] == reduce(lambda a, b: a | b, [s[f"in{i}_valid"] for i in every])

    most = count - 1
    contract = [
        stable("out_"),
        now("offered when any is", any_offered),
        now("the winner moves, alone", one_moves),
        now("its item is passed on", passed_on),
        *each(count, f"source {{}} waits for at most {most} items", lambda s, i: s[f"waited_{i}"] <= most),
    ]
    internal = [
        now("in the ring", lambda s: s["arbiter_first"].zext(wide) < count),
        *each(
            count,
            "source {} waits for those before it in turn",
            lambda s, i: implies(s[f"waited_{i}"] != 0, s[f"waited_{i}"] + distance(s, i) <= most),
        ),
        *each(
            count,
            "source {} has waited only while it offers",
            lambda s, i: implies(s[f"waited_{i}"] != 0, s[f"in{i}_kept"]),
        ),
    ]
    return Watched(block, tuple(contract), tuple(internal), kept(sources, block))


def watched_width(in_bits: int, out_bits: int) -> Watched:
    """A width adapter; the monitor counts parts and remembers the last words itself."""
    block = pyrtl.Block()
    source = source_ports(in_bits, block)
    out = width_adapter(source, out_bits, block=block)
    sink_ports(out, block)
    widens = out_bits >= in_bits
    parts = max(in_bits, out_bits) // min(in_bits, out_bits)
    narrow, counted = min(in_bits, out_bits), source if widens else out
    with building(block):
        phase = pyrtl.Register(parts.bit_length(), "phase", reset_value=0)
        moved = counted.valid & counted.ready
        wraps = moved & (phase == parts - 1)
        stepped = pyrtl.select(moved, (phase + 1)[: len(phase)], phase)
        phase.next <<= pyrtl.select(wraps, pyrtl.Const(0, len(phase)), stepped)
        word = source.data
        for i in range(parts - 1 if widens else 0):
            recent = pyrtl.Register(narrow, f"recent_{i}", reset_value=0)
            recent.next <<= pyrtl.select(moved, word, recent)
            word = recent
    internal = (
        now("its part is the phase", lambda s: s["width_part"].zext(len(phase)) == s["phase"]),
        now("the phase is a part", lambda s: s["phase"] < parts),
    )
    environment = kept({"in_": source}, block)
    if widens:
        recents = [f"recent_{i}" for i in range(parts - 1)]

        def held(s: Signals) -> Bits:
            claims = [
                implies(s["phase"] == p, s[f"width_held_{i}"] == s[f"recent_{p - 1 - i}"])
                for p in range(1, parts)
                for i in range(p)
            ]
            return conjunction(claims) if claims else s["phase"] == 0

        def moves(s: Signals) -> Bits:
            return implies(s["in_valid"], s["in_ready"] == (s["out_ready"] | (s["phase"] != parts - 1)))

        def in_order(s: Signals) -> Bits:
            return implies(s["out_valid"], s["out_data"] == concatenate(s["in_data"], *[s[r] for r in recents]))

        def with_last(s: Signals) -> Bits:
            return s["out_valid"] == (s["in_valid"] & (s["phase"] == parts - 1))

        widening = (
            stable("out_"),
            now("offered with the last part", with_last),
            now("parts in order", in_order),
            now("moves with its last part", moves),
        )
        return Watched(block, widening, (*internal, now("held words", held)), environment)

    def part_of(s: Signals) -> Bits:
        claims = [
            implies(s["phase"] == p, s["out_data"] == s["in_data"][p * narrow : (p + 1) * narrow]) for p in range(parts)
        ]
        return conjunction(claims)

    def leaves(s: Signals) -> Bits:
        return s["in_ready"] == (s["out_ready"] & (s["phase"] == parts - 1))

    narrowing = (
        stable("out_"),
        now("offered while its word is", lambda s: s["out_valid"] == s["in_valid"]),
        now("parts in order", part_of),
        now("the word leaves with its last part", leaves),
    )
    return Watched(block, narrowing, internal, environment)


def watched_packer(lanes: int, bits: int) -> Watched:
    """A row packer with one tracked element: the free inputs `mark` and `mark_lane` pick it.

    `balance` is elements in minus elements out.
    """
    block = pyrtl.Block()
    source = source_ports(row_bits(lanes, bits), block)
    rows = as_rows(source, lanes, block)
    packed = row_packer(rows, block=block)
    sink_ports(as_stream(packed, block), block)
    wide = lanes.bit_length() + 1
    with building(block):
        mark, lane = pyrtl.Input(1, "mark"), pyrtl.Input(max(1, lanes.bit_length() - 1), "mark_lane")
        balance, ahead = (pyrtl.Register(wide, name, reset_value=0) for name in ("balance", "ahead"))
        tracking = pyrtl.Register(1, "tracking", reset_value=0)
        expected = pyrtl.Register(bits, "expected", reset_value=0)
        enters, leaves = rows.valid & rows.ready, packed.valid & packed.ready
        incoming = pyrtl.select(enters, rows.count, pyrtl.Const(0, len(rows.count)))
        outgoing = pyrtl.select(leaves, packed.count, pyrtl.Const(0, len(packed.count)))
        balance.next <<= (balance + incoming - outgoing)[:wide]
        begins = enters & mark & ~tracking & (lane < rows.count)
        place = pyrtl.select(tracking, ahead, (balance + lane)[:wide])
        out_now = leaves & (place < packed.count)
        tracking.next <<= (tracking | begins) & ~out_now
        ahead.next <<= (place - outgoing)[:wide]
        marked = rows.elements[0]
        for i in range(1, lanes):
            marked = pyrtl.select(lane == i, rows.elements[i], marked)
        value = pyrtl.select(tracking, expected, marked)
        expected.next <<= value
        for name, wire in {"place": place, "follows": tracking | begins, "value": value}.items():
            port = pyrtl.Output(len(wire), name)
            port <<= wire
    return Watched(block, *_packer_claims(lanes, bits, wide), _whole_rows(source, lanes, bits, block))


def _whole_rows(source: Stream, lanes: int, bits: int, block: pyrtl.Block) -> Environment:
    """The source keeps its offers, and no row has more elements than lanes."""
    promise = kept({"in_": source}, block).assume
    assert promise is not None
    return Environment(assume=lambda s: promise(s) & (s["in_data"][lanes * bits : -1] <= lanes))


def _packer_claims(lanes: int, bits: int, wide: int) -> tuple[tuple[Invariant, ...], tuple[Invariant, ...]]:
    """Contract and internal invariants."""

    def count(s: Signals) -> Bits:
        return s["out_data"][lanes * bits : -1].zext(wide)

    def tracked(s: Signals) -> Bits:
        word = s["out_data"][:bits]
        for i in range(1, lanes):
            word = choose(s["place"] == i, s["out_data"][i * bits : (i + 1) * bits], word)
        inside = s["follows"] & s["out_valid"] & (s["place"] < count(s))
        return implies(inside, word == s["value"])

    def available(s: Signals) -> Bits:
        entering = choose(
            s["in_valid"] & ~s["pack_flushing"], s["in_data"][lanes * bits : -1].zext(wide), s["balance"].constant(0)
        )
        return s["balance"] + entering

    def emits(s: Signals) -> Bits:
        ends = s["in_valid"] & s["in_data"][-1]
        return s["out_valid"] == (s["pack_flushing"] | ends | (s["in_valid"] & (available(s) >= lanes)))

    def whole(s: Signals) -> Bits:
        full = choose(available(s) >= lanes, s["balance"].constant(lanes), available(s))
        return implies(s["out_valid"], count(s) == full)

    def ends(s: Signals) -> Bits:
        over = s["pack_flushing"] | (s["in_data"][-1] & (available(s) <= lanes))
        return implies(s["out_valid"], s["out_data"][-1] == over)

    def held(s: Signals) -> Bits:
        word = s["expected"]
        for i in range(lanes - 1):
            word = choose(s["ahead"] == i, s[f"pack_held_{i}"], word)
        return implies(s["tracking"], (s["ahead"] < s["balance"]) & (word == s["expected"]))

    contract = (
        stable("out_"),
        now("a row is offered when it is full or ends its group", emits),
        now("no element is lost: rows are full, the last has the rest", whole),
        now("one last row a group, with its last element", ends),
        now("the tracked element comes out in its place", tracked),
    )
    internal = (
        now("held elements make no full row", lambda s: s["balance"] < lanes if lanes > 1 else s["balance"] == 0),
        now("filled is true", lambda s: s["pack_filled"].zext(wide) == s["balance"]),
        now("flushing holds a rest", lambda s: implies(s["pack_flushing"], s["balance"] != 0)),
        now("where the tracked element is", held),
    )
    return contract, internal
