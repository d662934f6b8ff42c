"""What streams promise, as invariants over their ports and over monitors built beside them.

A queue is watched by one tracked item: the free input `mark` picks it at any entry, the monitor remembers its data and
how many items are ahead of it. Since the choice is free, what holds for the tracked item holds for every item: it comes
out unchanged, after all that entered before it and before all that entered later, once. Sources are assumed to keep
what they offer until it is taken (`kept`). What is internal in an invariant only makes it inductive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyrtl

from hls.lower import building
from hls.netlist import Wire
from hls.stream import Storage, Stream, fifo, sink_ports, skid_buffer, source_ports
from verification.equivalence.bits import Bits, choose, conjunction
from verification.equivalence.netlist import Netlist, read_block
from verification.equivalence.sequential import Environment, Invariant, Predicate, Signals
from verification.equivalence.verdict import Verdict, proved, refuted


@dataclass(frozen=True)
class Watched:
    """A unit with its monitors; what is claimed of its ports, and of its inside so that the claims are inductive."""

    block: pyrtl.Block
    contract: tuple[Invariant, ...]
    internal: tuple[Invariant, ...]
    environment: Environment = field(default_factory=Environment)


def implies(condition: Bits, then: Bits) -> Bits:
    """One bit."""
    return ~condition | then


def now(claim: str, holds: Callable[[Signals], Bits]) -> Invariant:
    """An invariant of a single cycle."""
    return Invariant(claim, lambda window: holds(window[0]))


def stable(prefix: str) -> Invariant:
    """A stalled item stays, unchanged."""

    def holds(window: Sequence[Signals]) -> Bits:
        before, after = window
        stalled = before[f"{prefix}valid"] & ~before[f"{prefix}ready"]
        return implies(stalled, after[f"{prefix}valid"] & (after[f"{prefix}data"] == before[f"{prefix}data"]))

    predicate: Predicate = holds
    return Invariant(f"{prefix}: a stalled item stays", predicate, window_cycles=2)


def holds_at_most(name: str, places: int) -> Invariant:
    """A FIFO does not overflow."""
    return now(f"{name} holds at most {places}", lambda s: s[f"{name}_count"] <= places)


def fills_in_order(name: str) -> Invariant:
    """A skid buffer has a spare item only behind its main one."""
    return now(f"{name}: nothing is spare alone", lambda s: implies(s[f"{name}_spare_valid"], s[f"{name}_main_valid"]))


def remember(name: str, following: Wire, reset_value: int = 0) -> pyrtl.Register:
    """A monitor's register, loaded in every cycle."""
    register = pyrtl.Register(len(following), name, reset_value=reset_value)
    register.next <<= following
    return register


def kept(streams: Mapping[str, Stream], block: pyrtl.Block) -> Environment:
    """Monitors of the sources, by prefix of their ports; the promise that none withdraws or changes an offer."""
    with building(block):
        for prefix, stream in streams.items():
            remember(f"{prefix}kept", stream.valid & ~stream.ready)
            remember(f"{prefix}kept_data", stream.data)

    def promise(signals: Signals) -> Bits:
        return conjunction(
            [
                implies(signals[f"{p}kept"], signals[f"{p}valid"] & (signals[f"{p}data"] == signals[f"{p}kept_data"]))
                for p in streams
            ]
        )

    return Environment(assume=promise)


def watch_queue(source: Stream, out: Stream, capacity: int, block: pyrtl.Block) -> tuple[Invariant, ...]:
    """Monitor of the tracked item; the contract of a queue of at most `capacity` items."""
    bits = capacity.bit_length()
    with building(block):
        mark = pyrtl.Input(1, "mark")
        inside, ahead = (pyrtl.Register(bits, name, reset_value=0) for name in ("inside", "ahead"))
        tracking = pyrtl.Register(1, "tracking", reset_value=0)
        expected = pyrtl.Register(source.bits, "expected", reset_value=0)
        enters, leaves = source.valid & source.ready, out.valid & out.ready
        stay = (inside - leaves)[:bits]
        inside.next <<= (stay + enters)[:bits]
        begins = enters & mark & ~tracking
        tracking.next <<= begins | (tracking & ~(leaves & (ahead == 0)))
        ahead.next <<= pyrtl.select(begins, stay, (ahead - leaves)[:bits])
        expected.next <<= pyrtl.select(begins, source.data, expected)
    return (
        now("nothing is lost, nothing comes of nothing", lambda s: s["out_valid"] == (s["inside"] != 0)),
        now("room is used", lambda s: s["in_ready"] == (s["inside"] != capacity)),
        now("never more than its capacity", lambda s: s["inside"] <= capacity),
        now("the tracked item is not lost", lambda s: implies(s["tracking"], s["ahead"] < s["inside"])),
        now(
            "the tracked item is the next one out when none is ahead",
            lambda s: implies(s["tracking"] & (s["ahead"] == 0), s["out_data"] == s["expected"]),
        ),
        stable("out_"),
    )


def watched_skid(bits: int) -> Watched:
    """A skid buffer of `bits` bits."""
    block = pyrtl.Block()
    source = source_ports(bits, block)
    out = skid_buffer(source, block=block)
    sink_ports(out, block)

    def places(s: Signals) -> Bits:
        word = choose(s["ahead"] == 0, s["skid_main"], s["skid_spare"])
        return implies(s["tracking"], word == s["expected"])

    internal = (
        now("the spare is used last", lambda s: implies(s["skid_spare_valid"], s["skid_main_valid"])),
        now("one full", lambda s: implies(s["skid_main_valid"] & ~s["skid_spare_valid"], s["inside"] == 1)),
        now("both full", lambda s: implies(s["skid_spare_valid"], s["inside"] == 2)),
        now("where the tracked item is", places),
    )
    return Watched(block, watch_queue(source, out, 2, block), internal)


def watched_fifo(bits: int, depth: int, storage: Storage) -> Watched:
    """A FIFO of `depth` items of `bits` bits."""
    block = pyrtl.Block()
    source = source_ports(bits, block)
    out = fifo(source, depth, block=block, storage=storage).stream
    sink_ports(out, block)
    contract = watch_queue(source, out, depth, block)
    same = now("its count is true", lambda s: s["fifo_count"] == s["inside"])
    internal = _ring(block, depth) if storage == "memory" else _shifting(depth)
    return Watched(block, contract, (same, *internal))


def _shifting(depth: int) -> tuple[Invariant, ...]:
    def places(s: Signals) -> Bits:
        word = s["fifo_entry_0"]
        for i in range(1, depth):
            word = choose(s["ahead"] == i, s[f"fifo_entry_{i}"], word)
        return implies(s["tracking"], word == s["expected"])

    return (now("where the tracked item is", places),)


def _ring(block: pyrtl.Block, depth: int) -> tuple[Invariant, ...]:
    """The memory gets a port through which the monitor sees the tracked item."""
    head, ahead = (block.wirevector_by_name[name] for name in ("fifo_head", "ahead"))
    memory = block.get_memblock_by_name("fifo_memory")
    bits = len(head)
    with building(block):
        place = (head + ahead)[: bits + 2]
        wrapped = pyrtl.select(place >= depth, (place - depth)[:bits], place[:bits])
        probe = pyrtl.Output(memory.bitwidth, "tracked_word")
        probe <<= memory[wrapped]

    def tail_follows(s: Signals) -> Bits:
        place = s["fifo_head"].zext(bits + 2) + s["fifo_count"].zext(bits + 2)
        return s["fifo_tail"].zext(bits + 2) == choose(place >= depth, place - depth, place)

    pointers = [] if depth == 1 << bits else [now("in the ring", lambda s: s["fifo_head"] < depth)]
    return (
        *pointers,
        now("the tail follows from head and count", tail_follows),
        now("where the tracked item is", lambda s: implies(s["tracking"], s["tracked_word"] == s["expected"])),
    )


def combinational_sources(block: pyrtl.Block | Netlist, wire: str) -> frozenset[str]:
    """Inputs and registers that a wire depends on within a cycle."""
    netlist = block if isinstance(block, Netlist) else read_block(block)
    seen: set[str] = set()
    waiting = [wire]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        net = netlist.drivers.get(name)
        if net is not None and net.op != "r":
            waiting.extend(net.args)
    return frozenset(seen & ({*netlist.inputs} | {*netlist.registers}))


def valid_never_waits(block: pyrtl.Block) -> Verdict:
    """PROVED by structure if no `..._valid` or `..._data` output depends on a `..._ready` input within the cycle."""
    netlist = read_block(block)
    offers = [name for name in netlist.outputs if name.endswith(("_valid", "_data"))]
    for offer in offers:
        late = sorted(name for name in combinational_sources(netlist, offer) if name.endswith("_ready"))
        if late:
            return refuted(f"{offer} depends on {', '.join(late)}")
    return proved(f"{len(offers)} outputs") if offers else refuted("no output ends in _valid or _data")
