"""The memory port alone, with all that asks it at once: in the machine they take turns by what they are for.

Fetches, control reads, write-backs and control writes are offered at random times, the memory is ready and acknowledges
writes at random, in phases; in one of them it acknowledges nothing, until no more writes may be owed. Requests of one
source must come out in order, each once, on the channel of its address.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.memory_port import MemoryPortSize
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import nth

PHASE_CYCLES = 250
PHASES = ((0.9, 0.9, 0.0), (0.5, 0.5, 0.5), (0.2, 1.0, 0.3), (0.9, 0.2, 0.9), (1.0, 1.0, 1.0), (0.05, 0.5, 0.1))
"""Chances, in a cycle, that a source offers a request, the memory is ready, it acknowledges the oldest write."""
CYCLES = 4000


@dataclass
class _Source:
    """A source of requests for a channel, or (None) for that of the address."""

    name: str
    channel: int | None
    offered: dict[str, int] | None = None
    sent: list[deque[tuple[int, ...]]] = field(default_factory=lambda: [deque() for _ in range(TINY.hbm_channels)])


def port_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """A random run of the memory port.

    Raises:
        AssertionError: if a request gets lost, comes twice, or in another order.
    """
    size, random = MemoryPortSize.of(TINY), Random(seed)
    channels = size.channels
    bits = {
        "request": size.fetch_tag,
        "write": BURST_BITS,
        "control_read": size.control_tag,
        "control_write": BURST_BITS,
    }
    sources = [_Source(name, c) for name in ("request", "write") for c in range(channels)]
    sources += [_Source(name, None) for name in ("control_read", "control_write")]
    owed: list[int] = [0] * channels
    simulator = WatchedSimulator(netlist)
    for cycle in range(CYCLES):
        offers, takes, acknowledges = PHASES[cycle // PHASE_CYCLES % len(PHASES)]
        row = dict.fromkeys(netlist.inputs, 0)
        row["memory_ready"] = _bits(random, channels, takes)
        done = [owed[c] > 0 and random.random() < acknowledges for c in range(channels)]
        row["write_done"] = sum(d << c for c, d in enumerate(done))
        row["answer_valid"] = _bits(random, channels, 0.3)
        row["answer_tag"] = random.getrandbits(netlist.inputs["answer_tag"])
        row["answer_data"] = random.getrandbits(netlist.inputs["answer_data"])
        for source in sources:
            _offer(source, row, random, offers, bits[source.name])
        seen = simulator.step(row)
        for c, acknowledged in enumerate(done):
            owed[c] -= acknowledged
        for source in sources:
            if source.offered is not None and seen[f"{source.name}_ready"] >> (source.channel or 0) & 1:
                at = source.offered["address"] % channels
                source.sent[at].append((source.offered["address"], source.offered["rest"]))
                source.offered = None
        for c in range(channels):
            if seen["memory_valid"] >> c & 1 and row["memory_ready"] >> c & 1:
                owed[c] += _taken(sources, seen, c, size)
    return [replay_of("all at once", netlist, simulator.rows)]


def _bits(random: Random, count: int, chance: float) -> int:
    return sum((random.random() < chance) << i for i in range(count))


def _offer(source: _Source, row: dict[str, int], random: Random, chance: float, rest_bits: int) -> None:
    if source.offered is None and random.random() < chance:
        address = random.getrandbits(BURST_ADDRESS_BITS)
        if source.channel is not None:
            address = address // TINY.hbm_channels * TINY.hbm_channels + source.channel
        source.offered = {"address": address, "rest": random.getrandbits(rest_bits)}
    if source.offered is not None:
        at, rest = source.channel or 0, "data" if rest_bits == BURST_BITS else "tag"
        row[f"{source.name}_address"] |= source.offered["address"] << at * BURST_ADDRESS_BITS
        row[f"{source.name}_{rest}"] |= source.offered["rest"] << at * rest_bits
        row[f"{source.name}_valid"] |= 1 << at


def _taken(sources: list[_Source], seen: dict[str, int], c: int, size: MemoryPortSize) -> bool:
    """Find where the request that the memory takes on a channel comes from; whether it is a write."""

    def part(name: str, bits: int) -> int:
        return nth(seen[f"memory_{name}"], bits, c)

    address, is_write = part("address", BURST_ADDRESS_BITS), bool(part("write", 1))
    tag, data = part("tag", size.tag), part("data", BURST_BITS)
    of_control, rest = (tag >> size.tag - 1, tag & (1 << size.tag - 1) - 1)
    names = ("write", "control_write") if is_write else (("control_read",) if of_control else ("request",))
    wanted = (address, data if is_write else rest)
    for source in sources:
        if source.name in names and source.sent[c] and source.sent[c][0] == wanted:
            source.sent[c].popleft()
            return is_write
    raise AssertionError(f"channel {c}: nobody waits for {address:#x}, {'write' if is_write else 'read'}")
