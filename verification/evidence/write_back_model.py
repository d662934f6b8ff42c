"""Write-back beside a memory: DRAM afterwards holds the rows as int16, and nothing else has been written."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hls.datapaths.crossbar import BURST_ADDRESS_BITS
from hls.datapaths.watchdog import Status
from hls.datapaths.write_back import BURST_ELEMENTS, WriteBackSize
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from models.memory.interface import Memory
from verification.evidence.same_behaviour import Stepped
from verification.evidence.words import joined
from verification.ports import Integers

BURST_BYTES = 32
BURST_BITS = 8 * BURST_BYTES


@dataclass(frozen=True)
class WrittenRows:
    """One stream: rows of D elements, shape (rows, D), to byte address `base_bytes` (a multiple of 512)."""

    rows: Integers
    base_bytes: int

    def bursts(self) -> dict[int, bytes]:
        """Contents of DRAM by burst: int16, little-endian, filled up with zeros."""
        stored = self.rows.astype("<i2").tobytes()
        first = self.base_bytes // BURST_BYTES
        count = -(-len(stored) // BURST_BYTES)
        padded = stored.ljust(count * BURST_BYTES, b"\0")
        return {first + i: padded[i * BURST_BYTES : (i + 1) * BURST_BYTES] for i in range(count)}


class SilentMemoryError(AssertionError):
    """The watchdog has ended a run; the message names who waits for whom."""


def write(
    config: AcceleratorConfig,
    netlist: Netlist,
    memory: Memory,
    streams: Sequence[WrittenRows],
    seed: int = 0,
    offer: float = 1.0,
    limit_cycles: int = 20_000,
) -> int:
    """Write all streams, rows coming with chance `offer` a cycle; returns the cycles until all are acknowledged.

    Raises:
        SilentMemoryError: if the watchdog ends the run.
        AssertionError: for a burst that is lost, doubled, misplaced or wrong, or a stalled one that changes.
    """
    with open_simulator(netlist, "fast") as simulator:
        return write_with(config, simulator, memory, streams, seed, offer, limit_cycles)


def write_with(
    config: AcceleratorConfig,
    simulator: Stepped,
    memory: Memory,
    streams: Sequence[WrittenRows],
    seed: int,
    offer: float,
    limit_cycles: int,
) -> int:
    """As `write`, in a simulator that is as after reset."""
    size, rng = WriteBackSize.of(config), np.random.default_rng(seed)
    channels = range(size.channels)
    wanted: dict[int, bytes] = {}
    for one in streams:
        wanted |= one.bursts()
    bits = size.element_bits

    def element(row: Integers) -> int:
        """A row, and anything behind its elements."""
        behind = rng.integers(0, 1 << bits, size.elements - len(row))
        return joined((*row, *behind), bits)

    rows = deque(
        {
            "element": element(row),
            "count": len(row),
            "last": int(n == len(one.rows) - 1),
            "base": one.base_bytes // 512,
        }
        for one in streams
        for n, row in enumerate(one.rows)
    )
    held: list[tuple[int, int] | None] = [None] * size.channels
    shown: dict[int, tuple[int, int]] = {}
    offering, status, cycle, tags = False, int(Status.BUSY), 0, 0
    written: dict[int, bytes] = {}
    while rows or status != Status.IDLE:
        assert cycle < limit_cycles, f"{len(wanted) - len(written)} bursts missing after {limit_cycles} cycles"
        reply = memory.step(
            [entry is not None for entry in held],
            [BURST_BYTES * entry[0] if entry else 0 for entry in held],
            [entry[1] if entry else 0 for entry in held],
            [True] * size.channels,
        )
        held = [None if accepted else entry for accepted, entry in zip(reply.accepted, held, strict=True)]
        offering = bool(rows) and (offering or bool(rng.random() < offer))
        inputs = {**rows[0], "in_valid": 1} if offering else {}
        inputs["write_ready"] = sum(1 << c for c in channels if held[c] is None)
        inputs["write_done"] = sum(1 << c for c in channels if reply.write_tag[c] >= 0)
        seen = simulator.step(inputs)
        status = seen["status"]
        if status == Status.SILENT:
            silent = [c for c in channels if seen["silent"] >> c & 1]
            raise SilentMemoryError(f"channels {silent} are silent; " + "; ".join(memory.waiting()))
        if offering and seen["in_ready"]:
            rows.popleft()
            offering = False
            status = int(Status.BUSY)  # what was seen is the state before the row was taken
        for c in channels:
            if not seen["write_valid"] >> c & 1:
                assert c not in shown, f"channel {c}: a stalled write went away"
                continue
            address = seen["write_address"] >> (c * BURST_ADDRESS_BITS) & ((1 << BURST_ADDRESS_BITS) - 1)
            data = seen["write_data"] >> (c * BURST_BITS) & ((1 << BURST_BITS) - 1)
            assert shown.get(c, (address, data)) == (address, data), f"channel {c}: a stalled write changed"
            if held[c] is not None:
                shown[c] = (address, data)
                continue
            shown.pop(c, None)
            assert address in wanted, f"burst {address:#x} is nobody's"
            assert address not in written, f"burst {address:#x} is written twice"
            written[address] = data.to_bytes(BURST_BYTES, "little")
            assert written[address] == wanted[address], f"burst {address:#x}: not the elements of its rows"
            assert address % size.channels == c, f"burst {address:#x} at channel {c}"
            held[c] = (address, tags)
            tags += 1
        cycle += 1
    assert written == wanted, f"{len(wanted) - len(written)} bursts were never written"
    return cycle


def random_streams(config: AcceleratorConfig, rng: np.random.Generator) -> list[WrittenRows]:
    """A few streams of any D, far apart."""
    high = 1 << (config.datapath_bits - 1)
    streams = []
    for n in range(int(rng.integers(1, 4))):
        dimension = int(rng.choice([1, 3, config.native_head_dim, config.max_head_dim, BURST_ELEMENTS]))
        dimension = min(dimension, config.max_head_dim)
        rows = rng.integers(-high, high, (int(rng.integers(1, 12)), dimension))
        streams.append(WrittenRows(rows, (1 << 14) * (2 * n + 1) + 512 * int(rng.integers(0, 16))))
    return streams
