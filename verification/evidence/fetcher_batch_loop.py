"""The compiled loop of `fetcher_batch`: a netlist, an adversarial memory, and every comparison, cycle by cycle."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numba
import numpy as np

from models.memory.compilation import Array, compiled

RANDOM, YOUNGEST, OLDEST = range(3)
BURST_WORDS = 8
"""32-bit words of a burst."""
IDLE, SILENT = 0, 2
Player = Callable[..., tuple[int, int, int, int]]

FAULTS = (
    "nothing",
    "a tag is under way twice",
    "a burst was asked of a channel that does not have it",
    "a channel owes more answers than it has room for",
    "a stalled word changed",
    "a word more than was asked for",
    "a wrong word",
    "bursts asked for are not those needed, once each",
    "words are missing at the limit of cycles",
    "the watchdog found a channel silent",
    "a request behind the last word",
)
(
    *_NONE,
    TWICE,
    MISROUTED,
    CROWDED,
    CHANGED,
    SURPLUS,
    WRONG,
    UNASKED,
    MISSING,
    STOPPED,
    BEHIND,
) = range(len(FAULTS))


class Sizes(NamedTuple):
    """What the loop needs to know of the machine, and where its ports are in a row of words."""

    channels: int
    queues: int
    half_turn: int  # queues by which a list that is turned begins later
    slots: int  # tags in all
    address_bits: int
    tag_bits: int
    id_bits: int
    words: int  # of a burst
    word_bits: int
    offset_bits: int
    depth: int  # requests that a channel may owe
    limit_cycles: int
    ids: int
    id_count: int
    last: int
    turned: int
    base: int
    stride: int
    length: int
    in_valid: int
    out_ready: int
    request_ready: int
    answer_tag: int
    answer_data: int
    answer_valid: int
    in_words: int
    in_ready: int
    request_address: int
    request_tag: int
    request_valid: int
    word: int
    offset: int
    word_first: int
    word_last: int
    out_valid: int
    status: int
    out_words: int


class Lists(NamedTuple):
    """Lists of all patterns: ids of list i are `ids[at[i] : at[i + 1]]`; those of pattern p `first[p]` to the next."""

    first: Array
    at: Array
    ids: Array
    base: Array
    stride: Array
    length: Array
    turned: Array


class Weather(NamedTuple):
    """A pattern's memory and stalls, [patterns]: chances, latencies, order of the answers."""

    accept: Array
    answer: Array
    offer: Array
    take: Array
    least: Array
    most: Array
    order: Array


@compiled
def put(row: Array, port: int, low: int, width: int, value: int) -> None:
    """Set bits of a port that are 0."""
    while width > 0:
        word, bit = low >> 5, low & 31
        here = min(width, 32 - bit)
        row[port + word] |= np.uint32((value & ((1 << here) - 1)) << bit)
        value >>= here
        low += here
        width -= here


@compiled
def get(row: Array, port: int, low: int, width: int) -> int:
    """Bits of a port."""
    value: int = 0
    at = 0
    while at < width:
        word, bit = (low + at) >> 5, (low + at) & 31
        here = min(width - at, 32 - bit)
        value |= int((np.int64(row[port + word]) >> bit) & ((1 << here) - 1)) << at
        at += here
    return value


@compiled
def content(address: int, word: int) -> int:
    """A 32-bit word of a burst in DRAM: the finalizer of SplitMix64 over its number."""
    z = np.uint64(address * BURST_WORDS + word) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((z ^ (z >> np.uint64(31))) & np.uint64(0xFFFFFFFF))


@compiled
def expected(s: Sizes, lists: Lists, pattern: int, words: Array, flags: Array, counts: Array, needed: Array) -> int:
    """Words of every queue (place in DRAM; first, last, offset), and the bursts needed; returns how many those are."""
    counts[:] = 0
    total = 0
    for one in range(lists.first[pattern], lists.first[pattern + 1]):
        before = -1
        for i in range(lists.at[one], lists.at[one + 1]):
            from_bit = lists.base[one] * 4096 + lists.ids[i] * lists.stride[one]
            to_bit = from_bit + lists.length[one] - 1
            q = (i - lists.at[one] + lists.turned[one] * s.half_turn) % s.queues
            first, last = from_bit // s.word_bits, to_bit // s.word_bits
            for place in range(first, last + 1):
                words[q, counts[q]] = place
                flags[q, counts[q]] = (place == first) | (place == last) << 1 | (from_bit % s.word_bits) << 2
                counts[q] += 1
            for burst in range(from_bit // 256, to_bit // 256 + 1):
                if burst != before:
                    needed[total] = burst
                    total += 1
                before = burst
    return total


@compiled
def answered(pending: Array, count: int, now: int, weather: Weather, pattern: int, rng: Any) -> int:
    """Position in `pending` (cycle, tag; oldest first) of the request that a channel answers now, or -1."""
    if count == 0:
        return -1
    if now - pending[0, 0] >= weather.most[pattern]:
        return 0
    ripe = 0
    while ripe < count and now - pending[ripe, 0] >= weather.least[pattern]:
        ripe += 1
    if ripe == 0 or rng.random() >= weather.answer[pattern]:
        return -1
    if weather.order[pattern] == RANDOM:
        return int(rng.integers(0, ripe))
    return ripe - 1 if weather.order[pattern] == YOUNGEST else 0


@compiled
def offer_row(s: Sizes, lists: Lists, one: int, start: int, row: Array) -> bool:
    """Drive the row of list `one` that begins with its id at `start`; whether it is the list's last."""
    there = min(s.channels, lists.at[one + 1] - start)
    for i in range(there):
        put(row, s.ids, i * s.id_bits, s.id_bits, lists.ids[start + i])
    is_last: bool = start + s.channels >= lists.at[one + 1]
    put(row, s.id_count, 0, 32, there)
    put(row, s.last, 0, 1, 1 if is_last else 0)
    put(row, s.turned, 0, 1, lists.turned[one])
    put(row, s.base, 0, 62, lists.base[one])
    put(row, s.stride, 0, 32, lists.stride[one])
    put(row, s.length, 0, 32, lists.length[one])
    put(row, s.in_valid, 0, 1, 1)
    return is_last


@compiled
def right_word(s: Sizes, seen: Array, q: int, place: int, flags: int) -> bool:
    """Whether queue `q` shows this word of DRAM and these flags."""
    parts = s.word_bits // 32
    burst, part = place // s.words, place % s.words * parts
    for j in range(parts):
        if np.int64(seen[s.word + q * parts + j]) != content(burst, part + j):
            return False
    shown = get(seen, s.word_first, q, 1) | get(seen, s.word_last, q, 1) << 1
    same: bool = shown | get(seen, s.offset, q * s.offset_bits, s.offset_bits) << 2 == flags
    return same


def player(step: Callable[..., Any]) -> Player:
    """The loop around a netlist's `step`(handle, inputs, outputs, cycles)."""

    def play(handle: int, s: Sizes, lists: Lists, weather: Weather, rng: Any, swap_answer: int) -> Any:
        """Run all patterns: (pattern, fault, bursts, cycles); answer `swap_answer` is that of the burst behind."""
        inputs, seen = np.zeros(s.in_words, np.uint32), np.zeros(s.out_words, np.uint32)
        most = lists.length.max() // s.word_bits + 2
        room = (np.diff(lists.first).max() * np.diff(lists.at).max() + 1) * most
        words, flags = np.zeros((s.queues, room), np.int64), np.zeros((s.queues, room), np.int64)
        counts, taken = np.zeros(s.queues, np.int64), np.zeros(s.queues, np.int64)
        needed, asked = np.zeros(s.queues * room, np.int64), np.zeros(s.queues * room, np.int64)
        stalled = np.zeros(s.queues, np.bool_)
        pending, owed = np.zeros((s.channels, s.slots, 2), np.int64), np.zeros(s.channels, np.int64)
        port = np.full((s.channels, 2), -1)  # the address and tag that the memory has not accepted
        address_of, under_way = np.zeros(s.slots, np.int64), np.zeros(s.slots, np.bool_)
        bursts = cycles = answers = 0
        for pattern in range(len(lists.first) - 1):
            total = expected(s, lists, pattern, words, flags, counts, needed)
            one, start = lists.first[pattern], lists.at[lists.first[pattern]]
            taken[:] = 0
            requests, now, quiet, offering, accepts = 0, 0, 0, False, 0
            busy = True
            while busy or quiet < 4:
                quiet = 0 if busy else quiet + 1
                if now >= s.limit_cycles:
                    return pattern, MISSING, bursts, cycles
                inputs[:] = 0
                is_last = False
                if one < lists.first[pattern + 1]:
                    offering = offering or rng.random() < weather.offer[pattern]
                    if offering:
                        is_last = offer_row(s, lists, one, start, inputs)
                accepts = 0
                for q in range(s.queues):
                    if rng.random() < weather.take[pattern]:
                        accepts |= 1 << q
                put(inputs, s.out_ready, 0, s.queues, accepts)
                for c in range(s.channels):
                    chosen = answered(pending[c], owed[c], now, weather, pattern, rng)
                    if chosen >= 0:
                        tag = pending[c, chosen, 1]
                        pending[c, chosen : owed[c] - 1] = pending[c, chosen + 1 : owed[c]].copy()
                        owed[c] -= 1
                        under_way[tag] = False
                        put(inputs, s.answer_valid, c, 1, 1)
                        put(inputs, s.answer_tag, c * s.tag_bits, s.tag_bits, tag)
                        answers += 1
                        source = address_of[tag] + (answers == swap_answer)
                        for j in range(BURST_WORDS):
                            inputs[s.answer_data + c * BURST_WORDS + j] = np.uint32(content(source, j))
                    if port[c, 1] >= 0 and rng.random() < weather.accept[pattern]:
                        pending[c, owed[c], 0], pending[c, owed[c], 1] = now, port[c, 1]
                        owed[c] += 1
                        port[c, 1] = -1
                    if port[c, 1] < 0:
                        put(inputs, s.request_ready, c, 1, 1)
                step(handle, inputs.ctypes.data, seen.ctypes.data, 1)
                now += 1
                cycles += 1
                for c in range(s.channels):
                    if port[c, 1] >= 0 or not get(seen, s.request_valid, c, 1):
                        continue
                    address = get(seen, s.request_address, c * s.address_bits, s.address_bits)
                    tag = get(seen, s.request_tag, c * s.tag_bits, s.tag_bits)
                    if under_way[tag]:
                        return pattern, TWICE, bursts, cycles
                    if address % s.channels != c:
                        return pattern, MISROUTED, bursts, cycles
                    if owed[c] >= s.depth:
                        return pattern, CROWDED, bursts, cycles
                    if requests == total:
                        return pattern, UNASKED if busy else BEHIND, bursts, cycles
                    port[c, 0], port[c, 1] = address, tag
                    address_of[tag], under_way[tag] = address, True
                    asked[requests] = address
                    requests += 1
                if seen[s.status] == SILENT:
                    return pattern, STOPPED, bursts, cycles
                if offering and seen[s.in_ready]:
                    offering = False
                    start = lists.at[one + 1] if is_last else start + s.channels
                    one += is_last
                for q in range(s.queues):
                    if not get(seen, s.out_valid, q, 1):
                        if stalled[q]:
                            return pattern, CHANGED, bursts, cycles
                        continue
                    if taken[q] == counts[q]:
                        return pattern, SURPLUS, bursts, cycles
                    if not right_word(s, seen, q, words[q, taken[q]], flags[q, taken[q]]):
                        return pattern, CHANGED if stalled[q] else WRONG, bursts, cycles
                    stalled[q] = not accepts >> q & 1
                    taken[q] += not stalled[q]
                rows_left = one < lists.first[pattern + 1]
                busy = bool(rows_left or seen[s.status] != IDLE or (taken < counts).any())
            if requests != total or (np.sort(asked[:total]) != np.sort(needed[:total])).any():
                return pattern, UNASKED, bursts, cycles
            bursts += total
        return -1, 0, bursts, cycles

    return cast(Player, numba.njit(play))  # what it calls is an address, which no cache can keep
