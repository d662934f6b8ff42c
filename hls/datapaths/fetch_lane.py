"""One queue of the fetcher: requests for its vectors, a reorder buffer for the answers, words in order.

The vectors at places q, q + Q, q + 2Q, ... of an id list are those of queue q of Q. Four parts that run apart:

- request: bursts of each vector, one a cycle, into the address queue; where the vector shares its first burst with
  the one before, that burst is left out, for the neighbour has asked for it;
- reorder buffer: a place is taken when a request leaves the address queue, its number goes along as tag, and the
  answer is written there whenever it comes; a bit a place says that it has come;
- collection: the bursts of each vector in order, from the reorder buffer, or the first one from the queue before. A
  final burst that the next vector shares is then offered to the next queue, and the next such burst waits until it
  has been taken;
- emission: the words of each burst, one a cycle.

Collection is a few bursts ahead of emission. Were it not, a vector would be emitted only behind the one that it shares
a burst with, and delays would go round the queues: measured, 0.71 requests a channel and cycle where most are kept.

Nothing can wait in a circle: a vector waits only for vectors before it in the list, and for answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.crossbar import BURST_BITS, burst_slots, queue_bits, slot_bits
from hls.datapaths.fetcher_parts import FetcherTypes
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.stream import Stream, drive, fifo, produced, register, ring_next, skid_buffer
from models.config import AcceleratorConfig

BANK_BITS = 64
"""Of a bank of the reorder buffer: a wider word would be too slow to select where its rows are flip-flops."""
VECTORS_AHEAD = 4
"""Vectors that wait in front of a queue, so that queues of a row may differ."""
BURSTS_AHEAD = 2
"""Bursts that are collected and not yet emitted."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """What a vector's descriptor holds: its first burst, bursts but one, first and last word, sharing, offset."""

    first: Wire
    span: Wire
    first_word: Wire
    last_word: Wire
    shares_before: Wire
    shares_after: Wire
    offset: Wire

    def packed(self) -> Wire:
        """As one wire, `first` lowest."""
        fields = (self.first, *self.emission())
        return pyrtl.concat_list(fields)

    def emission(self) -> tuple[Wire, ...]:
        """All but `first`: what emission needs."""
        return self.span, self.first_word, self.last_word, self.shares_before, self.shares_after, self.offset


def unpacked(wire: Wire, types: FetcherTypes) -> Vectors:
    """The inverse of `Vectors.packed`."""
    in_word = types.offset.width - types.word_bits
    widths = (types.address.width, types.span.width, types.word_bits, types.word_bits, 1, 1, in_word)
    return Vectors(*split(wire, widths))


@dataclass(frozen=True, eq=False)
class Lane:
    """A queue as the fetcher connects it.

    Attributes:
        vectors: descriptors in, driven by the fetcher (`Vectors.packed`).
        requests: addresses with tags out, for the address crossbar.
        words: words out: data, then `offset`, `first`, `last`.
        offered, offered_burst, taken: a burst that the next queue shares; it drives `taken`.
        waits: collection waits for an answer.
        busy: there is something in the queue.
    """

    vectors: Stream
    requests: Stream
    words: Stream
    offered: Wire
    offered_burst: Wire
    taken: Wire
    waits: Wire
    busy: Wire


def lane(
    number: Wire,
    config: AcceleratorConfig,
    answer: Stream,
    before: tuple[Wire, Wire, Wire],
    *,
    block: pyrtl.Block,
    prefix: str,
) -> Lane:
    """Build queue `number`. `answer`: burst with its place above, always taken; `before`: what the queue before offers.

    `before` is (offered, burst, taken); this queue drives the last.
    """
    types = FetcherTypes.of(config)
    with building(block):
        vectors = Stream(
            pyrtl.WireVector(types.vector_bits, f"{prefix}vector"),
            pyrtl.WireVector(1, f"{prefix}vector_valid"),
            pyrtl.WireVector(1, f"{prefix}vector_ready"),
        )
        waiting = fifo(vectors, VECTORS_AHEAD, block=block, prefix=f"{prefix}vectors_").stream
        addresses, emissions = _request(waiting, types, block, f"{prefix}request_")
        asked = fifo(addresses, config.address_queue_depth, block=block, storage="memory", prefix=f"{prefix}queue_")
        expected = fifo(
            emissions, config.address_queue_depth, block=block, storage="memory", prefix=f"{prefix}expected_"
        )
        first_asked = skid_buffer(asked.stream, block=block, prefix=f"{prefix}asked_")
        first_expected = skid_buffer(expected.stream, block=block, prefix=f"{prefix}next_")
        requests, bursts = _reorder(number, config, first_asked, answer, block, prefix)
        collected = _collect(first_expected, bursts, before, types, block, f"{prefix}collect_")
        ahead = fifo(collected.bursts, BURSTS_AHEAD, block=block, prefix=f"{prefix}ahead_").stream
        words = skid_buffer(_emit(ahead, types, block, f"{prefix}emit_"), block=block, prefix=f"{prefix}words_")
        busy = pyrtl.rtl_any(*[s.valid for s in (vectors, waiting, expected.stream, first_expected, ahead, words)])
        return Lane(
            vectors,
            requests,
            words,
            collected.offered,
            collected.offered_burst,
            collected.taken,
            collected.waits,
            busy,
        )


def build(config: AcceleratorConfig) -> Netlist:
    """A queue as a netlist; which one it is comes in as `number`.

    From the switch `descriptor` with `descriptor_valid`, `descriptor_ready`, and `answer` with `answer_valid`; to it
    `asking` with `asking_valid`, `asking_ready`, and `busy`. From the queue before `before_offered`, `before_burst`,
    to it `before_taken`; to the next one `offered`, `offered_burst`, from it `offer_taken`. Words as the fetcher's:
    `word`, `offset`, `word_first`, `word_last` with `word_valid`, `word_ready`; `waiting`.

    Raises:
        HlsError: for words that cannot be built.
    """
    types = FetcherTypes.of(config)
    block = pyrtl.Block()
    with building(block):
        number = pyrtl.Input(queue_bits(config), "number")
        answer = Stream(
            pyrtl.Input(BURST_BITS + slot_bits(config), "answer"),
            pyrtl.Input(1, "answer_valid"),
            pyrtl.Const(1, 1),
        )
        taken = pyrtl.WireVector(1)
        before = pyrtl.Input(1, "before_offered"), pyrtl.Input(BURST_BITS, "before_burst"), taken
        one = lane(number, config, answer, before, block=block, prefix="")
        drive(one.vectors.data, pyrtl.Input(types.vector_bits, "descriptor"))
        drive(one.vectors.valid, pyrtl.Input(1, "descriptor_valid"))
        drive(one.requests.ready, pyrtl.Input(1, "asking_ready"))
        drive(one.words.ready, pyrtl.Input(1, "word_ready"))
        drive(one.taken, pyrtl.Input(1, "offer_taken"))
        word, in_word = types.word.width, types.offset.width - types.word_bits
        outputs = {
            "descriptor_ready": one.vectors.ready,
            "asking": one.requests.data,
            "asking_valid": one.requests.valid,
            "before_taken": taken,
            "offered": one.offered,
            "offered_burst": one.offered_burst,
            "word": one.words.data[:word],
            "offset": one.words.data[word : word + in_word],
            "word_first": one.words.data[word + in_word],
            "word_last": one.words.data[word + in_word + 1],
            "word_valid": one.words.valid,
            "waiting": one.waits,
            "busy": one.busy,
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("fetch_lane", block)


def _request(waiting: Stream, types: FetcherTypes, block: pyrtl.Block, prefix: str) -> tuple[Stream, Stream]:
    """Addresses of the bursts to ask for, and the vectors for emission."""
    vector = unpacked(waiting.data, types)
    done = register(types.span.width, f"{prefix}done", block)
    skips = vector.shares_before & (done == 0)
    is_final = done == vector.span
    address = (vector.first + done)[: types.address.width]
    addresses = produced(address, pyrtl.WireVector(1, f"{prefix}asks"), block, f"{prefix}address_")
    emissions = produced(
        waiting.data[types.address.width :], pyrtl.WireVector(1, f"{prefix}passes"), block, f"{prefix}emission_"
    )
    steps = waiting.valid & (addresses.ready | skips) & (emissions.ready | ~is_final)
    drive(addresses.valid, waiting.valid & ~skips & (emissions.ready | ~is_final))
    drive(emissions.valid, waiting.valid & is_final & (addresses.ready | skips))
    drive(waiting.ready, steps & is_final)
    following = pyrtl.select(is_final, pyrtl.Const(0, len(done)), (done + 1)[: len(done)])
    done.next <<= pyrtl.select(steps, following, done)
    return addresses, emissions


def _reorder(
    number: Wire, config: AcceleratorConfig, asked: Stream, answer: Stream, block: pyrtl.Block, prefix: str
) -> tuple[Stream, Stream]:
    """Requests with their places as tags; the answers in the order of the requests."""
    slots, bits = burst_slots(config), slot_bits(config)
    head, tail = register(bits, f"{prefix}head", block), register(bits, f"{prefix}tail", block)
    taken = register(slots.bit_length(), f"{prefix}taken", block)
    filled = register(slots, f"{prefix}filled", block)
    banks = [
        pyrtl.MemBlock(BANK_BITS, bits, f"{prefix}bank_{i}", max_read_ports=1, max_write_ports=1, asynchronous=False)
        for i in range(BURST_BITS // BANK_BITS)
    ]
    place = answer.data[BURST_BITS:]
    for i, bank in enumerate(banks):
        part = answer.data[i * BANK_BITS : (i + 1) * BANK_BITS]
        bank[place] <<= pyrtl.MemBlock.EnabledWrite(part, answer.valid)

    def at(pointer: Wire, enable: Wire) -> Wire:
        return pyrtl.concat_list([enable & (pointer == slot) for slot in range(slots)])

    oldest, oldest_valid = register(BURST_BITS, f"{prefix}oldest", block), register(1, f"{prefix}oldest_valid", block)
    bursts = produced(oldest, oldest_valid, block, f"{prefix}burst_")
    moves = bursts.ready | ~oldest_valid
    arrived = pyrtl.rtl_any(*[filled[slot] & (head == slot) for slot in range(slots)])
    pop = arrived & moves
    oldest.next <<= pyrtl.select(pop, pyrtl.concat_list([bank[head] for bank in banks]), oldest)
    oldest_valid.next <<= pyrtl.select(moves, arrived, oldest_valid)
    filled.next <<= (filled | at(place, answer.valid)) & ~at(head, pop)
    head.next <<= pyrtl.select(pop, ring_next(head, slots), head)

    room = taken != slots
    data = pyrtl.concat(number, tail, asked.data)
    requests = produced(data, asked.valid & room, block, f"{prefix}granted_")
    drive(asked.ready, requests.ready & room)
    grows = requests.valid & requests.ready
    tail.next <<= pyrtl.select(grows, ring_next(tail, slots), tail)
    more, fewer = grows & ~pop, pop & ~grows
    after = pyrtl.select(more, (taken + 1)[: len(taken)], taken)
    taken.next <<= pyrtl.select(fewer, (taken - 1)[: len(taken)], after)
    return requests, bursts


@dataclass(frozen=True, eq=False)
class _Collected:
    bursts: Stream
    offered: Wire
    offered_burst: Wire
    taken: Wire
    waits: Wire


def _collect(
    expected: Stream,
    bursts: Stream,
    before: tuple[Wire, Wire, Wire],
    types: FetcherTypes,
    block: pyrtl.Block,
    prefix: str,
) -> _Collected:
    """Bursts of vectors in order, from the reorder buffer and from what the queue before offers.

    An item is the burst, its first and last word that belong to the vector, the vector's offset, and whether the burst
    is the vector's first, its last.
    """
    vector = unpacked(pyrtl.concat(expected.data, pyrtl.Const(0, types.address.width)), types)
    burst = register(types.span.width, f"{prefix}burst", block)
    offered, offer = register(1, f"{prefix}offered", block), register(BURST_BITS, f"{prefix}offer", block)
    taken = pyrtl.WireVector(1, f"{prefix}taken")

    is_first, is_final = burst == 0, burst == vector.span
    from_before = vector.shares_before & is_first
    source = pyrtl.select(from_before, before[1], bursts.data)
    passes_on = is_final & vector.shares_after
    there = pyrtl.select(from_before, before[0], bursts.valid)
    can_go = expected.valid & there & ~(passes_on & offered)

    first_word = pyrtl.select(is_first, vector.first_word, pyrtl.Const(0, types.word_bits))
    last_word = pyrtl.select(is_final, vector.last_word, pyrtl.Const(types.words - 1, types.word_bits))
    data = pyrtl.concat(is_final, is_first, vector.offset, last_word, first_word, source)
    collected = produced(data, can_go, block, f"{prefix}item_")
    moves = can_go & collected.ready
    drive(expected.ready, moves & is_final)
    drive(before[2], moves & from_before)
    drive(bursts.ready, moves & ~from_before)
    following = pyrtl.select(is_final, pyrtl.Const(0, len(burst)), (burst + 1)[: len(burst)])
    burst.next <<= pyrtl.select(moves, following, burst)
    offer.next <<= pyrtl.select(moves & passes_on, source, offer)
    offered.next <<= (offered & ~taken) | (moves & passes_on)
    return _Collected(collected, offered, offer, taken, expected.valid & ~from_before & ~bursts.valid)


def _emit(bursts: Stream, types: FetcherTypes, block: pyrtl.Block, prefix: str) -> Stream:
    """Words of bursts: data, offset, first of the vector, last of the vector."""
    bits = types.word_bits
    word, begun = register(bits, f"{prefix}word", block), register(1, f"{prefix}begun", block)
    burst, rest = bursts.data[:BURST_BITS], bursts.data[BURST_BITS:]
    first_word, last_word, offset = rest[:bits], rest[bits : 2 * bits], rest[2 * bits : -2]
    is_first, is_final = rest[-2], rest[-1]
    place = pyrtl.select(begun, word, first_word)
    ends = place == last_word
    chosen = pyrtl.mux(place, *lanes_of(burst, types.words))
    words = produced(pyrtl.concat(ends & is_final, is_first & ~begun, offset, chosen), bursts.valid, block, prefix)
    moves = bursts.valid & words.ready
    drive(bursts.ready, words.ready & ends)
    begun.next <<= pyrtl.select(moves, ~ends, begun)
    word.next <<= pyrtl.select(moves, (place + 1)[:bits], word)
    return words
