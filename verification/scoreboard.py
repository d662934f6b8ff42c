"""Scoreboard of the accelerator: all that the netlist shows of a layer against the integer reference, number by number.

    score      every score of every pass                      in the order in which the rows were issued
    prob       every probability of every pass, the flat decision of every first pass
    retired    the rows that count, in order, with their slots and flat bit
    kept       what local value pruning lets pass
    output     every output element, in order
    memory     outputs, importance, survivors, answer block, as they lie in DRAM after the layer
    requests   every burst that was read, how often

A mismatch does not end the comparison; all are collected, the first ones of each kind in full.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from verification.expectation import Array, LayerExpectation

Words = npt.NDArray[np.uint32]
SHOWN_OF_A_KIND = 8


@dataclass(frozen=True)
class Mismatch:
    """One number that differs: what it is, where, and both values."""

    kind: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}: the reference has {self.expected}, the netlist {self.found}"


@dataclass
class Scoreboard:
    """What was compared, and what differed."""

    compared: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Something was compared, and nothing differed."""
        return bool(self.compared) and not self.differing

    def numbers(self, kind: str, where: str, expected: npt.ArrayLike, found: npt.ArrayLike) -> None:
        """Compare two lists of numbers, element by element and in their length."""
        wanted, seen = np.asarray(expected).reshape(-1), np.asarray(found).reshape(-1)
        self.compared[kind] += len(wanted)
        if len(wanted) != len(seen):
            self._differ(kind, where, f"{len(wanted)} numbers", f"{len(seen)}")
        shared = min(len(wanted), len(seen))
        for i in np.flatnonzero(wanted[:shared] != seen[:shared]):
            self._differ(kind, f"{where}[{i}]", str(wanted[i]), str(seen[i]))

    def _differ(self, kind: str, where: str, expected: str, found: str) -> None:
        self.differing[kind] += 1
        if self.differing[kind] <= SHOWN_OF_A_KIND:
            self.mismatches.append(Mismatch(kind, where, expected, found))

    def report(self) -> str:
        """A line a kind, and the first mismatches."""
        lines = [
            f"{kind}: {count} compared, {self.differing[kind]} differ" for kind, count in sorted(self.compared.items())
        ]
        return "\n".join([*lines, *map(str, self.mismatches)])


def lanes_of(words: Words, lanes: int, bits: int, signed: bool = False) -> Array:
    """Elements of a packed port, element 0 lowest.

    Args:
        words: (cycles, 32-bit words).
        lanes: elements.
        bits: of each, at most 63.
        signed: whether they are two's complement.

    Returns:
        (cycles, lanes), int64.
    """
    raw = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    single = np.unpackbits(raw, axis=1, bitorder="little")[:, : lanes * bits]
    weights = np.int64(1) << np.arange(bits, dtype=np.int64)
    values = single.reshape(len(words), lanes, bits).astype(np.int64) @ weights
    return np.where(values >> (bits - 1) & 1, values - (np.int64(1) << bits), values) if signed else values


def rows_of(values: Array, valid: Array, last: Array) -> list[Array]:
    """Beats (cycles x lanes) as rows: the valid elements of all beats up to each that is marked last."""
    ends = np.flatnonzero(last) + 1
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return [values[a:b][valid[a:b] != 0] for a, b in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Observed:
    """What the taps saw of one layer, decoded; rows are lists of numbers.

    Attributes:
        pass_full: of each issued row, whether it read all bits (a second pass).
        score: rows at the output of Q x K.
        prob: rows behind the flat decision.
        flat: of each of these.
        retired_prob: rows that count.
        retired_flat: of each of these.
        kept: of each row that went through a top-k engine, the ids and probabilities that are kept.
        output: rows of output elements.
    """

    pass_full: Array
    score: list[Array]
    prob: list[Array]
    flat: Array
    retired_prob: list[Array]
    retired_flat: Array
    kept: list[tuple[Array, Array]]
    output: list[Array]


def compare_layer(board: Scoreboard, where: str, expected: LayerExpectation, seen: Observed, progressive: bool) -> None:
    """Compare all that was observed of a layer, except DRAM.

    Args:
        board: where mismatches go.
        where: name of the layer, for messages.
        expected: from the reference.
        seen: from the netlist.
        progressive: whether rows can have a second pass; otherwise each has one, which reads all there is.
    """
    second = seen.pass_full.astype(bool) if progressive else np.zeros(len(seen.score), np.bool_)
    rows = [(h, r) for h in range(len(expected.heads)) for r in range(expected.rows)]
    again = [(h, r) for h, r in rows if expected.flat[h, r]]
    for kind, observed in (("score", seen.score), ("prob", seen.prob)):
        board.numbers(f"{kind} rows", where, [len(rows) + len(again)], [len(observed)])
        board.numbers("passes", where, [len(observed)], [len(second)])
        first_of = expected.first_score if kind == "score" else expected.first_prob
        final_of = expected.score if kind == "score" else expected.prob
        passes = _split(observed, second)
        for which, order, values, found in zip(
            ("first", "second"), (rows, again), (first_of, final_of), passes, strict=True
        ):
            for (h, r), row in zip(order, found, strict=False):
                n = expected.visible[r]
                board.numbers(kind, f"{where}, head {expected.heads[h]}, row {r}, {which} pass", values[h, r, :n], row)
    board.numbers("decisions", where, [len(seen.prob)], [len(seen.flat)])
    decided = [flat for flat, again in zip(seen.flat, second, strict=False) if not again]
    board.numbers("flat", where, [expected.flat[h, r] for h, r in rows], decided)
    board.numbers("retired rows", where, [len(rows)], [len(seen.retired_prob)])
    board.numbers("retired flat", where, [expected.flat[h, r] for h, r in rows], seen.retired_flat)
    for (h, r), row in zip(rows, seen.retired_prob, strict=False):
        name = f"{where}, head {expected.heads[h]}, row {r}"
        board.numbers("retired prob", name, expected.prob[h, r, : expected.visible[r]], row)
    _compare_kept(board, where, expected, seen, rows)
    board.numbers("output rows", where, [len(rows)], [len(seen.output)])
    for (h, r), row in zip(rows, seen.output, strict=False):
        board.numbers("output", f"{where}, head {expected.heads[h]}, row {r}", expected.out[h, r], row)


def _split(rows: Sequence[Array], second: npt.NDArray[np.bool_]) -> tuple[list[Array], list[Array]]:
    pairs = list(zip(rows, second, strict=False))
    return [row for row, again in pairs if not again], [row for row, again in pairs if again]


def _compare_kept(
    board: Scoreboard, where: str, expected: LayerExpectation, seen: Observed, rows: Sequence[tuple[int, int]]
) -> None:
    if not seen.kept:
        return
    board.numbers("kept rows", where, [len(rows)], [len(seen.kept)])
    for (h, r), (ids, probs) in zip(rows, seen.kept, strict=False):
        slots = np.flatnonzero(expected.kept[h, r])
        name = f"{where}, head {expected.heads[h]}, row {r}"
        board.numbers("kept ids", name, slots, ids)
        board.numbers("kept prob", name, expected.prob[h, r, slots], probs)


def compare_requests(board: Scoreboard, where: str, expected: Iterator[Array], found: npt.ArrayLike) -> None:
    """Compare how often every burst was read.

    Args:
        board: where mismatches go.
        where: name of the layer.
        expected: bursts of every list that must be fetched.
        found: bursts that were read, in any order.
    """
    wanted = np.concatenate([np.zeros(0, np.int64), *expected])
    board.numbers("requests", f"{where}, bursts by rising address", np.sort(wanted), np.sort(np.asarray(found)))
