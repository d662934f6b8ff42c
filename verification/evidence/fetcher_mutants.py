"""Mutants of the fetcher: runs that must show them, and a proof that those which none shows behave the same.

The machine is smaller than `tiny` in the depth of its answer FIFOs and larger in places of a queue, so that the answers
of two channels can crowd one queue long enough to fill what can be filled.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyrtl

from hls.datapaths.crossbar import ADDRESS_BITS, BURST_BITS, OUTPUT_DEPTH, data_parts, data_size, slot_bits
from hls.datapaths.fetch_lane import BURSTS_AHEAD, VECTORS_AHEAD
from hls.datapaths.fetcher import build
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from models.memory.address_map import AddressMap
from models.memory.interface import NONE, Memory, PortCycles
from models.memory.variants import AdversarialMemory, IdealMemory, PortDriven
from verification.equivalence.bits import Bits, concatenate, conjunction, total
from verification.equivalence.sequential import Environment, Invariant, Signals
from verification.evidence.fetcher_model import FetchList, HoardingMemory, SilentMemoryError, fetch_with
from verification.evidence.same_behaviour import Read, Recorder, Run, View, under, within
from verification.evidence.stream_contracts import fills_in_order, holds_at_most, implies, now

SMALL = replace(AcceleratorConfig.preset("tiny"), address_queue_depth=4, data_queue_depth=8)
PARTS, PART_QUEUES = data_parts(SMALL), data_size(SMALL).outputs
FIFOS = tuple(f"answer_{c}_{part}" for c in range(SMALL.hbm_channels) for part in range(PARTS))
"""Of answers."""
LONG_CYCLES = 600
"""More than a watchdog of the recorded runs counts before it begins again."""
PAYLOAD = {
    **dict.fromkeys(("request_address", "request_tag"), "request_valid"),
    **dict.fromkeys(("word", "offset", "word_first", "word_last"), "out_valid"),
}
INPUTS = {
    **dict.fromkeys(("ids", "count", "last", "turned", "base", "stride", "length"), "in_valid"),
    **dict.fromkeys(("answer_tag", "answer_data"), "answer_valid"),
}


class LopsidedMemory(PortDriven):
    """Accepts everything; `silent` never answers, the others one request every `period_cycles`."""

    def __init__(self, channels: int, silent: int, period_cycles: int) -> None:
        super().__init__(channels)
        self._silent, self._period_cycles, self._cycles = silent, period_cycles, 0
        self._held: list[list[int]] = [[] for _ in range(channels)]

    def _cycle(self, offers: Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        self._cycles += 1
        tags = np.full((2, self._channels), NONE)
        for c, (held, offer) in enumerate(zip(self._held, offers, strict=True)):
            if held and c != self._silent and self._cycles % self._period_cycles == 0:
                tags[0, c] = held.pop(0)
            if offer is not None:
                held.append(offer[1])
        return PortCycles(np.array([offer is not None for offer in offers]), tags[0], tags[1])

    def waiting(self) -> Sequence[str]:
        """One line a channel that owes an answer."""
        return [f"channel {c} owes {len(held)} answers" for c, held in enumerate(self._held) if held]


def recorded_runs(netlist: Netlist, seed: int) -> tuple[Run, ...]:
    """Answers in crowds, late, at once; a memory that refuses, words that nobody takes; vectors of every place.

    Two begin with requests of all queues for one channel. Two in which a channel falls silent and the other does not,
    and remains so for longer than the watchdog can count. In the last two nothing is left of a list before the next one
    comes; words of one wait for long.
    """
    spread = [
        FetchList(tuple(range(0, 300, 8)), 0, 96, 96),
        FetchList(tuple(range(0, 90, 3)), 1 << 20, 384, 384),
        FetchList(tuple(range(0, 400, 16)), 1 << 21, 96, 96),
        FetchList(tuple(range(8, 400, 16)), 1 << 22, 96, 96),
    ]
    shared = FetchList(tuple(range(60)), 1 << 20, 384, 384)
    pairs = [FetchList((n, n + 9), 1 << 22, 384, 384) for n in range(0, 90, 3)]
    crowd = [FetchList(tuple(range(0, 60, 2)), 1 << 20, 384, 384)]
    near = [FetchList(tuple(range(0, 90, step)), 512 * 7 * step, 96, 96) for step in (1, 2, 5)]
    ends = [
        FetchList((1, 2, 3, 5, 8, 13), 512 * 4095, 384, 384),
        FetchList((), 0, 96, 96),
        FetchList(tuple(range(505, 512)), 512 * 4_190_000, 383, 383),
        FetchList((511,), 512 * ((1 << 25) - 1), 1, 1),
    ]
    lengths = [FetchList((3, 4, 5 + n % 7, 400 + n % 5), 512 * 513 * n, n, n) for n in range(1, 384, 13)]

    every = AddressMap((("channel", 1), ("row", ADDRESS_BITS - 6)))

    def weather(accept: float, answer: float, latency: int, order: str = "random") -> Memory:
        return AdversarialMemory(
            2, seed, accept=accept, answer=answer, max_latency_cycles=latency, order=order, address_map=every
        )

    found = []
    places = 1 << slot_bits(SMALL)
    half = places * PART_QUEUES
    for memory, lists, offer, accept in (
        (HoardingMemory(2, hoarded=range(half)), spread, 1.0, 1.0),
        (HoardingMemory(2, hoarded=range(half, 2 * half)), spread, 1.0, 1.0),
        (HoardingMemory(2, hoarded=range(places, 2 * places)), [shared], 1.0, 1.0),
        (HoardingMemory(2, hoarded=range(3 * places, 4 * places)), [shared], 1.0, 1.0),
        (HoardingMemory(2), pairs, 1.0, 1.0),
        (HoardingMemory(2, 30), pairs[1:], 1.0, 1.0),
        (IdealMemory(2, 2), spread[2:3], 1.0, 1.0),
        (IdealMemory(2, 2), spread[3:], 1.0, 1.0),
        (HoardingMemory(2), spread, 1.0, 1.0),
        (HoardingMemory(2, 3), spread, 1.0, 1.0),
        (HoardingMemory(2), crowd, 1.0, 1.0),
        (IdealMemory(2, 40), spread, 1.0, 1.0),
        (IdealMemory(2, 4, every), [*near, *ends], 1.0, 0.7),
        (weather(0.15, 1.0, 5), [*ends, *near], 1.0, 1.0),
        (IdealMemory(2, 2), [*spread[:2], *near], 1.0, 0.1),
        (weather(0.8, 0.7, 60), [*lengths, *near], 0.8, 0.8),
        (weather(1.0, 0.3, 120, "reverse"), [*near, *ends], 0.3, 1.0),
    ):
        with open_simulator(netlist, "fast") as simulator:
            recorder = Recorder(simulator, INPUTS, seed)
            fetch_with(SMALL, recorder, memory, lists, seed, offer, accept)
            found.append(tuple(recorder.rows))
    for silent in range(SMALL.hbm_channels):
        with open_simulator(netlist, "fast") as simulator:
            recorder = Recorder(simulator, INPUTS, seed)
            with suppress(SilentMemoryError):
                fetch_with(SMALL, recorder, LopsidedMemory(2, silent, 100), near, seed)
            for _ in range(LONG_CYCLES):
                recorder.step({})
            found.append(tuple(recorder.rows))
    for accept in (1.0, 0.05):
        found.append(_short_lists(netlist, seed, accept))
    return tuple(found)


def _short_lists(netlist: Netlist, seed: int, accept: float) -> Run:
    """Lists of few vectors, each when nothing is left of the one before."""
    with open_simulator(netlist, "fast") as simulator:
        recorder = Recorder(simulator, INPUTS, seed)
        for count in range(1, 2 * SMALL.fetch_queues + 1):
            short = FetchList(tuple(range(0, 8 * count, 8)), 512 * count, 96, 96)
            for order in ("random", "random", "reverse"):
                last = AdversarialMemory(2, len(recorder.rows), answer=0.15, max_latency_cycles=20, order=order)
                fetch_with(SMALL, recorder, last, [short], accept=accept)
        return tuple(recorder.rows)


def _answer_places(s: Signals, channel: int) -> tuple[list[Bits], int]:
    """What takes room of a channel's answers, but for those that the memory owes; bits of the sum."""
    parts = [s[f"channel_{channel}_room"]]
    for part in range(PARTS):
        names = ("count", "skid_main_valid", "skid_spare_valid")
        parts += [s[f"answer_{channel}_{part}_{name}"] for name in names]
    bits = parts[0].width + 2
    return [part.zext(bits) for part in parts], bits


def _answers_here(s: Signals) -> list[tuple[Bits, Bits]]:
    """Where an answer can be on its way to its queue: whether there is one, and its tag."""
    places = []
    for part in range(PARTS):
        for c in range(SMALL.hbm_channels):
            name = f"answer_{c}_{part}"
            held = [(s[f"{name}_count"] > i, s[f"{name}_entry_{i}"]) for i in range(SMALL.address_queue_depth - 2)]
            held += [(s[f"{name}_skid_{place}_valid"], s[f"{name}_skid_{place}"]) for place in ("main", "spare")]
            # within a part the lowest bits of a queue's number tell it
            places += [(valid, _tag(s, part * PART_QUEUES, item[BURST_BITS:])) for valid, item in held]
        for o in range(PART_QUEUES):
            crossbar = f"data_{part}"
            to_queue = [(s[f"{crossbar}_grant_{o}"][c], s[f"{crossbar}_item_{c}"]) for c in range(SMALL.hbm_channels)]
            to_queue.append((s[f"{crossbar}_{o}_out_valid"], s[f"{crossbar}_{o}_out"]))
            places += [(valid, _tag(s, part * PART_QUEUES + o, item[BURST_BITS:])) for valid, item in to_queue]
    return places


def _tag(s: Signals, queue: int, place: Bits) -> Bits:
    """The tag of a place of a queue, or of one behind it where the number of that is above the place."""
    bits = s["answer_tag"].width // SMALL.hbm_channels
    return place.zext(bits) | place.constant(queue << slot_bits(SMALL), bits)


def _has_come(s: Signals, tag: Bits) -> Bits:
    """Whether the answer with this tag is in its queue."""
    filled = concatenate(*[s[f"lane_{q}_filled"] for q in reversed(range(SMALL.fetch_queues))])
    return filled.shifted_right(tag.zext(filled.width))[0]


def _apart(s: Signals, answers: Sequence[tuple[Bits, Bits]], others: Sequence[tuple[Bits, Bits]]) -> Bits:
    """No two of `answers`, and none of them and of `others`, have the same tag; none has come."""
    pairs = [*combinations(answers, 2), *((a, b) for a in answers for b in others)]
    return conjunction(
        [~(a & b & (tag == other)) for (a, tag), (b, other) in pairs]
        + [~(there & _has_come(s, tag)) for there, tag in answers]
    )


def view() -> View:
    """What can be seen of the fetcher: payload under its valid; memories answer only what they owe, and once."""
    channels, queues, depth = range(SMALL.hbm_channels), range(SMALL.fetch_queues), SMALL.address_queue_depth

    def granted(crossbar: str, outputs: Sequence[int], source: int) -> Read:
        return lambda s: ~conjunction([~s[f"{crossbar}_grant_{o}"][source] for o in outputs])

    def owes(channel: int) -> Read:
        return lambda s: (s[f"channel_{channel}_room"] != depth) | (s[f"address_{channel}_fifo_count"] != 0)

    skids = [f"{name}_skid" for name in FIFOS]
    skids += [f"lane_{q}_{name}" for q in queues for name in ("asked", "next", "words")]
    shifting = [(name, depth) for name in FIFOS] + [(f"address_{c}_fifo", OUTPUT_DEPTH) for c in channels]
    shifting += [(f"lane_{q}_vectors", VECTORS_AHEAD) for q in queues]
    shifting += [(f"lane_{q}_ahead", BURSTS_AHEAD) for q in queues]
    read: dict[str, Read] = {
        f"{skid}_{place}": under(f"{skid}_{place}_valid") for skid in skids for place in ("main", "spare")
    }
    read |= {f"{name}_entry_{i}": within(f"{name}_count", i) for name, places in shifting for i in range(places)}
    read |= {f"lane_{q}_oldest": under(f"lane_{q}_oldest_valid") for q in queues}
    read |= {f"lane_{q}_collect_offer": under(f"lane_{q}_collect_offered") for q in queues}
    read |= {f"lane_{q}_emit_word": under(f"lane_{q}_emit_begun") for q in queues}
    outputs = [f"data_{part}_{o}_out" for part in range(PARTS) for o in range(PART_QUEUES)]
    read |= {name: under(f"{name}_valid") for name in outputs}
    read |= {f"address_item_{q}": granted("address", channels, q) for q in queues}
    for part in range(PARTS):
        read |= {f"data_{part}_item_{c}": granted(f"data_{part}", range(PART_QUEUES), c) for c in channels}
    read |= {f"silence_{c}": owes(c) for c in channels}
    for register in build(SMALL).block.wirevector_subset(pyrtl.Register):
        if register.name.startswith("locate_") and not register.name.startswith("locate_valid"):
            read[register.name] = under(f"locate_valid_s{register.name[-1]}")
        elif register.name.startswith("row_") and register.name not in ("row_valid", "row_group", "row_shared"):
            read[register.name] = under("row_valid")

    def only_owed(s: Signals) -> Bits:
        places = [_answer_places(s, c) for c in channels]
        tags, tag_bits = s["answer_tag"], s["answer_tag"].width // SMALL.hbm_channels
        new = [(s["answer_valid"][c], tags[c * tag_bits : (c + 1) * tag_bits]) for c in channels]
        owed = [~s["answer_valid"][c] | (total(parts, bits) < depth) for c, (parts, bits) in enumerate(places)]
        return conjunction([*owed, _apart(s, new, _answers_here(s))])

    return View(PAYLOAD, read, _invariants(skids, shifting), Environment(assume=only_owed))


def _invariants(skids: Sequence[str], shifting: Sequence[tuple[str, int]]) -> tuple[Invariant, ...]:
    """Skid buffers fill in order, FIFOs do not overflow, room is counted right, grants go to one."""
    channels, depth = range(SMALL.hbm_channels), SMALL.address_queue_depth

    def answers(channel: int, part: int) -> Invariant:
        """Where a FIFO has two answers, a third waits behind it and a fourth was just taken: none waits twice."""

        def holds(s: Signals) -> Bits:
            parts, bits = _answer_places(s, channel)
            count, skid = s[f"answer_{channel}_{part}_count"], f"answer_{channel}_{part}_skid"
            just_taken = ~s[f"{skid}_spare_valid"] & (s[f"channel_{channel}_room"] != 0)
            behind_skid = implies(count >= 2, s[f"{skid}_main_valid"] & just_taken)
            return (total(parts, bits) <= depth) & (count <= depth - 2) & behind_skid

        return now(f"channel {channel}, part {part}: answers have room", holds)

    def next_in_turn(channel: int, part: int) -> Invariant:
        """Of two channels: who has waited is the next one of its queue."""

        def holds(s: Signals) -> Bits:
            skid = f"answer_{channel}_{part}_skid"
            queue = s[f"{skid}_main"][BURST_BITS + slot_bits(SMALL) :]
            places = [s[f"data_{part}_behind_{o}"][1] for o in range(PART_QUEUES)]
            first = [place if channel else ~place for place in places]
            turn = conjunction([implies(queue == o, first[o]) for o in range(PART_QUEUES)])
            return implies(s[f"{skid}_spare_valid"], s[f"{skid}_main_valid"] & turn)

        return now(f"channel {channel}, part {part}: an answer waits once", holds)

    def room(channel: int) -> Invariant:
        def holds(s: Signals) -> Bits:
            names = ("credit", "fifo_count")
            parts = [s[f"address_{channel}_{name}"] for name in names] + [s[f"address_granted_{channel}"]]
            bits = parts[0].width + 2
            return total([part.zext(bits) for part in parts], bits) == OUTPUT_DEPTH

        return now(f"channel {channel}: requests have room", holds)

    def one(crossbar: str, output: int) -> Invariant:
        def holds(s: Signals) -> Bits:
            grant = s[f"{crossbar}_grant_{output}"]
            bits = grant.width.bit_length()
            count = total([grant[i].zext(bits) for i in range(grant.width)], bits)
            return count == s[f"{crossbar}_granted_{output}"].zext(bits)

        return now(f"{crossbar} crossbar, output {output}: at most one grant", holds)

    def in_turn(crossbar: str, output: int) -> Invariant:
        def holds(s: Signals) -> Bits:
            turn = s[f"{crossbar}_behind_{output}"]
            return conjunction([~turn[i] | turn[i + 1] for i in range(turn.width - 1)] + [~turn[0]])

        return now(f"{crossbar} crossbar, output {output}: its place is a place", holds)

    fifos = [(c, part) for c in channels for part in range(PARTS)]
    outputs = [("address", c) for c in channels]
    outputs += [(f"data_{part}", o) for part in range(PARTS) for o in range(PART_QUEUES)]
    return (
        *map(fills_in_order, skids),
        *(holds_at_most(name, places) for name, places in shifting),
        *(answers(*fifo) for fifo in fifos),
        *(next_in_turn(*fifo) for fifo in fifos),
        now("no answer is here twice", lambda s: _apart(s, _answers_here(s), ())),
        *map(room, channels),
        *(one(*output) for output in outputs),
        *(in_turn(*output) for output in outputs),
    )
