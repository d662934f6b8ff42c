"""Operand SRAM: a plain array under random accesses, and what holds of every row whatever is in the memories."""

from collections.abc import Sequence

import numpy as np

from hls.datapaths.bitwidth_converter import LSB_BITS
from hls.datapaths.operand_sram import OperandSramSize
from hls.lower import Netlist
from hls.simulate import from_words, open_simulator
from verification.equivalence.bits import Bits, choose, concatenate, conjunction
from verification.equivalence.sequential import Invariant, Predicate, Signals
from verification.evidence.words import joined, nth
from verification.ports import to_port

APART = (1, 2, 3)
"""Cycles between the two reads that an invariant compares."""


def run_accesses(netlist: Netlist, size: OperandSramSize, cycles: int, seed: int, hot_rows: int = 4) -> int:
    """Random writes of banks and reads of slots on `hot_rows` rows at both ends; returns the slots that were compared.

    Raises:
        AssertionError: for data or lanes that a plain array would not give.
    """
    rng = np.random.default_rng(seed)
    last = (1 << size.row_bits) - 1
    rows = np.unique(np.concatenate([np.arange(hot_rows), last - np.arange(hot_rows)]) & last)
    known = np.zeros((2, last + 1, size.slots, size.elements), dtype=np.int64)
    compared = 0
    pending: tuple[np.ndarray, list[list[int]]] | None = None
    lanes = np.zeros(size.slots, dtype=bool)
    with open_simulator(netlist, "fast") as simulator:
        for buffer in (0, 1):
            for half in np.unique(rows // 2):
                where = joined([(buffer << (size.write_bits - 1)) | int(half)] * size.banks, size.write_bits)
                simulator.step({"write_valid": (1 << size.banks) - 1, "write_address": where})
        for _ in range(cycles):
            read_row, read_buffer = rng.choice(rows, size.slots), rng.integers(0, 2, size.slots)
            asked = rng.random(size.slots) < rng.choice([0.0, 0.5, 1.0])
            reads = bool(rng.random() < 0.8)
            write_row = rng.choice(rows, size.banks) // 2 * 2 + np.arange(size.banks) // size.slots
            write_buffer = rng.integers(0, 2, size.banks)
            if rng.random() < 0.3:
                write_row = np.tile(read_row, 2) // 2 * 2 + np.arange(size.banks) // size.slots
                write_buffer = np.tile(read_buffer, 2)
            writes = rng.random(size.banks) < rng.choice([0.0, 0.5, 1.0])
            lsb = rng.random(size.banks) < rng.choice([0.0, 0.7])
            data = rng.integers(0, 1 << size.bits, (size.banks, size.elements))
            seen = simulator.step(
                {
                    "write_valid": joined(writes, 1),
                    "write_address": joined(
                        (write_buffer << (size.write_bits - 1)) | (write_row // 2), size.write_bits
                    ),
                    "write_data": from_words(to_port(data.reshape(1, -1), size.bits))[0],
                    "write_lsb": joined(lsb, 1),
                    "read_valid": int(reads),
                    "read_lanes": joined(asked, 1),
                    "read_address": joined((read_buffer << size.row_bits) | read_row, size.read_bits),
                }
            )
            assert seen["out_valid"] == (pending is not None), "valid is not that of a read"
            assert seen["out_lanes"] == joined(lanes, 1), "not the lanes that were asked for"
            if pending is not None:
                for s in np.flatnonzero(pending[0]):
                    slot = nth(seen["out_data"], size.slot_bits, int(s))
                    assert slot == joined(pending[1][s], size.bits), f"slot {s}: not what was written"
                    compared += 1
            pending = None
            if reads:
                lanes = asked
                pending = asked, [list(known[read_buffer[s], read_row[s], s]) for s in range(size.slots)]
            for bank in np.flatnonzero(writes):
                bits = (1 << (LSB_BITS if lsb[bank] else size.bits)) - 1
                cell = known[write_buffer[bank], write_row[bank], bank % size.slots]
                cell[:] = (cell & ~bits) | (data[bank] & bits)
    return compared


def invariants(size: OperandSramSize) -> list[Invariant]:
    """Two reads of one place differ by the writes between them alone; what is not read stays."""
    found = [Invariant("answers", _answers, 2)]
    for s in range(size.slots):
        found.append(Invariant(f"slot {s}: what is not read stays", _held(size, s), 2))
        for apart in APART:
            claim = f"slot {s}: two reads {apart} cycles apart"
            found.append(Invariant(claim, _written_between(size, s, apart), apart + 2))
    return found


def _answers(window: Sequence[Signals]) -> Bits:
    now, then = window
    lanes = choose(now["read_valid"], now["read_lanes"], now["out_lanes"])
    return conjunction([then["out_valid"] == now["read_valid"], then["out_lanes"] == lanes])


def _reads(now: Signals, s: int) -> Bits:
    return now["read_valid"] & now["read_lanes"][s]


def _slot(now: Signals, size: OperandSramSize, s: int) -> Bits:
    return now["out_data"][s * size.slot_bits : (s + 1) * size.slot_bits]


def _held(size: OperandSramSize, s: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        now, then = window
        return _reads(now, s) | (_slot(then, size, s) == _slot(now, size, s))

    return holds


def _written_between(size: OperandSramSize, s: int, apart: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        first, second = window[0], window[apart]
        place = slice(s * size.read_bits, (s + 1) * size.read_bits)
        address = first["read_address"][place]
        value = _slot(window[1], size, s)
        for now in window[:apart]:
            for parity in range(2):
                bank = s + parity * size.slots
                written = now["write_address"][bank * size.write_bits : (bank + 1) * size.write_bits]
                hits = now["write_valid"][bank] & (written == address[1:]) & (address[0] == parity)
                data = now["write_data"][bank * size.slot_bits : (bank + 1) * size.slot_bits]
                high = hits & ~now["write_lsb"][bank]
                element = [hits if bit < LSB_BITS else high for bit in range(size.bits)]
                mask = concatenate(*reversed(element * size.elements))
                value = (data & mask) | (value & ~mask)
        same = second["read_address"][place] == address
        return ~(_reads(first, s) & _reads(second, s) & same) | (_slot(window[-1], size, s) == value)

    return holds
