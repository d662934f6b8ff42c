"""Operand SRAM: a plain array under random accesses, and what holds of every row whatever is in the memories."""

from collections.abc import Iterable, Sequence

import numpy as np

from hls.datapaths.operand_sram import PLANE_BITS, OperandSramSize
from hls.lower import Netlist
from hls.simulate import from_words, open_simulator
from verification.equivalence.bits import Bits, choose, concatenate, conjunction
from verification.equivalence.sequential import Invariant, Predicate, Signals
from verification.ports import to_port


def run_accesses(netlist: Netlist, size: OperandSramSize, cycles: int, seed: int, hot_rows: int = 3) -> int:
    """Random writes, reads, stalls and swaps on `hot_rows` rows at both ends; returns the reads that were compared.

    Raises:
        AssertionError: for data, lanes or a handshake that a plain array would not give.
    """
    rng = np.random.default_rng(seed)
    rows = np.unique(np.concatenate([np.arange(hot_rows), size.rows - 1 - np.arange(hot_rows)]) % size.rows)
    known = np.zeros((2, size.slots, size.rows, size.elements), dtype=np.int64)
    mask_of = np.array([3 << (PLANE_BITS * p) for p in range(size.planes)])
    front, compared = 0, 0
    pending: tuple[list[bool], list[list[int]]] | None = None
    with open_simulator(netlist, "fast") as simulator:
        everything = {"write_slots": (1 << size.slots) - 1, "write_planes": (1 << size.planes) - 1}
        for buffer in (0, 1):
            for row in rows:
                where = sum(int(row) << (s * size.row_bits) for s in range(size.slots))
                simulator.step({**everything, "write_row": where, "write_front": 1 - buffer})
        for _ in range(cycles):
            write_row, read_row = rng.choice(rows, size.slots), rng.choice(rows, size.slots)
            if rng.random() < 0.3:
                read_row = write_row
            writes, lanes = (rng.random(size.slots) < rng.choice([0.0, 0.5, 1.0]) for _ in range(2))
            planes = rng.random(size.planes) < rng.choice([0.3, 1.0])
            data = rng.integers(0, 1 << size.bits, (size.slots, size.elements))
            to_front, swap, valid, ready = (bool(b) for b in rng.random(4) < [0.4, 0.2, 0.8, 0.7])
            seen = simulator.step(
                {
                    "write_slots": _mask(writes),
                    "write_row": _fields(write_row, size.row_bits),
                    "write_data": from_words(to_port(data.reshape(1, -1), size.bits))[0],
                    "write_planes": _mask(planes),
                    "write_front": int(to_front),
                    "swap": int(swap),
                    "read_row": _fields(read_row, size.row_bits),
                    "read_lanes": _mask(lanes),
                    "in_valid": int(valid),
                    "out_ready": int(ready),
                }
            )
            assert seen["out_valid"] == (pending is not None), "valid is not that of a read"
            assert seen["in_ready"] == (ready or pending is None), "ready is not that of the handshake"
            if pending is not None:
                asked, wanted = pending
                assert seen["out_lanes"] == _mask(asked), "not the lanes that were asked for"
                for s in np.flatnonzero(asked):
                    slot = seen["out_data"] >> (int(s) * size.slot_bits) & ((1 << size.slot_bits) - 1)
                    assert slot == _fields(wanted[s], size.bits), f"slot {s}: not what was written"
                    compared += 1
                if ready:
                    pending = None
            if valid and seen["in_ready"]:
                pending = (
                    [bool(lane) for lane in lanes],
                    [list(known[front, s, read_row[s]]) for s in range(size.slots)],
                )
            target = front if to_front else 1 - front
            bits = int(mask_of[planes].sum())
            for s in np.flatnonzero(writes):
                cell = known[target, s, write_row[s]]
                cell[:] = (cell & ~bits) | (data[s] & bits)
            front ^= int(swap)
    return compared


def _mask(bits: Iterable[bool]) -> int:
    return sum(int(bit) << i for i, bit in enumerate(bits))


def _fields(values: Iterable[int], bits: int) -> int:
    return sum(int(value) << (i * bits) for i, value in enumerate(values))


def invariants(size: OperandSramSize) -> list[Invariant]:
    """Two reads of one place differ by the writes between them alone; handshake; nothing else is read."""
    found = [
        Invariant("handshake", _handshake(size), 2),
        Invariant("a swap exchanges the buffers", lambda w: w[1]["front"] == (w[0]["front"] ^ w[0]["swap"]), 2),
    ]
    for s in range(size.slots):
        found.append(Invariant(f"slot {s}: what is not read stays", _held(size, s), 2))
        for apart in (1, 2, 3):
            claim = f"slot {s}: two reads {apart} cycles apart"
            found.append(Invariant(claim, _written_between(size, s, apart), apart + 2))
    return found


def _handshake(size: OperandSramSize) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        now, then = window
        moves = now["out_ready"] | ~now["out_valid"]
        valid = choose(moves, now["in_valid"], now["out_valid"])
        lanes = choose(moves, now["read_lanes"], now["out_lanes"])
        return conjunction([now["in_ready"] == moves, then["out_valid"] == valid, then["out_lanes"] == lanes])

    return holds


def _accepted(now: Signals, s: int) -> Bits:
    return now["in_valid"] & now["in_ready"] & now["read_lanes"][s]


def _slot(now: Signals, size: OperandSramSize, s: int) -> Bits:
    return now["out_data"][s * size.slot_bits : (s + 1) * size.slot_bits]


def _held(size: OperandSramSize, s: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        now, then = window
        return _accepted(now, s) | (_slot(then, size, s) == _slot(now, size, s))

    return holds


def _written_between(size: OperandSramSize, s: int, apart: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        first, second = window[0], window[apart]
        rows = slice(s * size.row_bits, (s + 1) * size.row_bits)
        row, buffer = first["read_row"][rows], first["front"]
        same = (second["read_row"][rows] == row) & (second["front"] == buffer)
        value = _slot(window[1], size, s)
        for now in window[:apart]:
            target = choose(now["write_front"], now["front"], ~now["front"])
            hits = now["write_slots"][s] & (now["write_row"][rows] == row) & (target == buffer)
            data = now["write_data"][s * size.slot_bits : (s + 1) * size.slot_bits]
            planes = [now["write_planes"][p] & hits for p in range(size.planes)]
            element = [planes[bit // PLANE_BITS] for bit in range(size.bits)]
            mask = concatenate(*reversed(element * size.elements))
            value = (data & mask) | (value & ~mask)
        return ~(_accepted(first, s) & _accepted(second, s) & same) | (_slot(window[-1], size, s) == value)

    return holds
