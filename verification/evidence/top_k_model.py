"""Requests to the top-k engine, the reference's answers, and a driver that stalls (algorithm page, section 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hls.simulate import Simulator
from models.reference.top_k import lfsr_pivots, quick_select
from verification.evidence.words import joined, nth
from verification.ports import Integers

KINDS = ("random", "sorted", "reversed", "constant", "few")
PASS_OVERHEAD_CYCLES = 8


@dataclass(frozen=True)
class Request:
    """Items in lanes, row by row; `valid` marks those that count. All of shape (rows, lanes), rows at least 1."""

    value: Integers
    id: Integers
    valid: NDArray[np.bool_]
    k: int

    @property
    def items(self) -> list[tuple[int, int]]:
        """(value, id) of the valid items in input order."""
        return list(zip(self.value[self.valid].tolist(), self.id[self.valid].tolist(), strict=True))


@dataclass(frozen=True)
class Answer:
    """What comes out for a request: kept (value, id), status, T and num_eq (None: not determined), items a row."""

    kept: tuple[tuple[int, int], ...]
    status: int
    threshold: int | None
    num_equal: int | None
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """Answers in order; candidates and start of every pass; cycles of the last row of every request and answer."""

    answers: tuple[Answer, ...]
    candidates: tuple[int, ...]
    pass_at: tuple[int, ...]
    complete_at: tuple[int, ...]
    answered_at: tuple[int, ...]


class EngineError(AssertionError):
    """The engine broke the handshake, changed a stalled row, or did not answer in time."""


def dense(values: Sequence[int], ids: Sequence[int], k: int, lanes: int) -> Request:
    """A request whose rows are full but the last."""
    rows = max(1, -(-len(values) // lanes))
    padded = np.zeros((3, rows * lanes), dtype=np.int64)
    padded[0, : len(values)], padded[1, : len(ids)], padded[2, : len(values)] = values, ids, 1
    value, ident, valid = padded.reshape(3, rows, lanes)
    return Request(value, ident, valid.astype(np.bool_), k)


def with_gaps(request: Request, lanes: int, share: float, generator: np.random.Generator) -> Request:
    """The same items spread over more lanes and rows; the gaps hold others of the request's values and ids."""
    items = request.items
    rows: list[tuple[Integers, Integers, NDArray[np.bool_]]] = []
    while items or not rows:
        valid = generator.random(lanes) < share
        value, ident = (generator.choice(column.ravel(), lanes) for column in (request.value, request.id))
        for lane in np.flatnonzero(valid):
            if not items:
                valid[lane] = False
            else:
                value[lane], ident[lane] = items.pop(0)
        rows.append((value, ident, valid))
    value, ident, valid = (np.array(column) for column in zip(*rows, strict=True))
    return Request(value.astype(np.int64), ident.astype(np.int64), valid.astype(np.bool_), request.k)


def values_of(kind: str, count: int, bits: int, generator: np.random.Generator) -> Integers:
    """`count` values of one of the `KINDS`."""
    values = generator.integers(0, 1 << bits, count)
    if kind == "sorted":
        return np.sort(values)
    if kind == "reversed":
        return np.sort(values)[::-1].copy()
    if kind == "constant":
        return np.full(count, int(generator.integers(0, 1 << bits)))
    if kind == "few":
        return generator.choice(generator.integers(0, 1 << bits, 3), count)
    return values


def random_request(
    lanes: int, most: int, value_bits: int, id_bits: int, generator: np.random.Generator, count: int | None = None
) -> Request:
    """A dense request of 1 to `most` items of a random kind; k from 1 to a little beyond n."""
    n = count or int(generator.integers(1, most + 1))
    values = values_of(str(generator.choice(KINDS)), n, value_bits, generator)
    ids = generator.permutation(max(n, 1 << id_bits))[:n] % (1 << id_bits)
    k = int(generator.integers(1, n + 2)) if generator.random() < 0.7 else max(1, n // 2)
    return dense(values.tolist(), ids.tolist(), min(k, most), lanes)


def expected(request: Request, lanes: int, capacity: int) -> tuple[Answer, tuple[int, ...]]:
    """The reference's answer, and the candidates of each pass."""
    items = request.items
    if not items or request.k < 1 or len(items) > capacity:
        status = 2 if not items else 1 if request.k < 1 else 3
        return Answer((), status, None, None, (0,)), ()
    found = quick_select([value for value, _ in items], request.k, lfsr_pivots(lanes))
    kept = tuple(items[i] for i in found.kept)
    rows = row_counts(found.kept, len(items), lanes)
    if not found.candidates:
        return Answer(kept, 0, None, None, rows), ()
    return Answer(kept, 0, int(found.threshold), found.equal, rows), found.candidates


def row_counts(kept: Sequence[int], count: int, lanes: int) -> tuple[int, ...]:
    """Items of each result row, from the positions kept of `count` items: full rows, and a last one with the rest.

    The last row is empty where the last row of items adds nothing to full rows, since that is known too late.
    """
    last_items = (count - 1) // lanes * lanes
    full, rest = divmod(len(kept), lanes)
    late = rest == 0 and not any(position >= last_items for position in kept)
    return (lanes,) * full + ((rest,) if rest or late else ())


def longest(count: int, k: int, lanes: int, *, up: bool) -> Request:
    """As many passes as items: every pivot is the smallest (`up`) or the largest of the candidates.

    k = 1 goes up all the way, k = count - 1 down as far as can be.
    """
    pick, left, values = lfsr_pivots(lanes), list(range(count)), [0] * count
    for rank in range(count):
        values[left.pop(pick(len(left)))] = rank + 1 if up else count - rank
    return dense(values, list(range(count)), k, lanes)


def pass_cycles(requests: Sequence[Request], served: Served, lanes: int, capacity: int) -> list[tuple[int, int]]:
    """(rows, cycles) of every pass that another pass of its request follows."""
    found, first = [], 0
    for request in requests:
        _, candidates = expected(request, lanes, capacity)
        starts = served.pass_at[first : first + len(candidates)]
        found += [(-(-c // lanes), b - a) for c, a, b in zip(candidates, starts, starts[1:], strict=False)]
        first += len(candidates)
    return found


def bound_cycles(request: Request, lanes: int) -> int:
    """ceil(candidates / lanes) + 8 a pass and ceil(n / lanes) for the filter; 8 in all where there is no pass."""
    _, candidates = expected(request, lanes, len(request.items))
    rows = [-(-count // lanes) for count in (*candidates, len(request.items))]
    return sum(rows) + PASS_OVERHEAD_CYCLES * max(1, len(candidates))


def _rows(requests: Sequence[Request], value_bits: int, id_bits: int) -> list[tuple[int, dict[str, int]]]:
    """Every row of every request with its request's number, as port values."""
    rows = []
    for number, request in enumerate(requests):
        for i, (value, ident, valid) in enumerate(zip(request.value, request.id, request.valid, strict=True)):
            last = int(i == len(request.value) - 1)
            row = {
                "value": joined(value.tolist(), value_bits),
                "id": joined(ident.tolist(), id_bits),
                "valid": joined(valid.tolist(), 1),
                "last": last,
                "k": request.k if last else 0,
                "in_valid": 1,
            }
            rows.append((number, row))
    return rows


def serve(
    simulator: Simulator,
    requests: Sequence[Request],
    lanes: int,
    offer: Sequence[bool] = (),
    accept: Sequence[bool] = (),
    limit_cycles: int | None = None,
) -> Served:
    """Send the requests back to back; beyond the end of a pattern it is always 1.

    Raises:
        EngineError: for a missing, additional or changing row.
    """
    value_bits, id_bits = (simulator.netlist.inputs[name] // lanes for name in ("value", "id"))
    waiting = _rows(requests, value_bits, id_bits)
    limit = limit_cycles or len(offer) + len(accept) + 200 + 20 * sum(40 + len(r.value) for r in requests)
    position, held, kept = 0, None, []
    answers, sizes, pass_at, complete_at, answered_at = [], [], [], [], []
    counts: list[int] = []
    quiet = 0
    for cycle in range(limit):
        ready = cycle >= len(accept) or bool(accept[cycle])
        step = {"out_ready": int(ready)}
        offered = position < len(waiting) and (cycle >= len(offer) or bool(offer[cycle]))
        if offered:
            step |= waiting[position][1]
        seen = simulator.step(step)
        if offered and seen["in_ready"]:
            if waiting[position][1]["last"]:
                complete_at.append(cycle)
            position += 1
        if seen["pass_starts"]:
            sizes.append(seen["pass_candidates"])
            pass_at.append(cycle)
        row = {n: v for n, v in seen.items() if n.startswith("kept_") or n in ("status", "threshold", "num_equal")}
        if held is not None and (not seen["out_valid"] or row != held):
            raise EngineError(f"cycle {cycle}: a stalled row changed")
        held = row if seen["out_valid"] and not ready else None
        if seen["out_valid"] and ready:
            counts.append(row["kept_count"])
            if row["kept_value"] >> (row["kept_count"] * value_bits) or row["kept_id"] >> (row["kept_count"] * id_bits):
                raise EngineError(f"cycle {cycle}: lanes from {row['kept_count']} on are not zeros")
            for lane in range(min(row["kept_count"], lanes)):
                value = nth(row["kept_value"], value_bits, lane)
                kept.append((value, nth(row["kept_id"], id_bits, lane)))
            if row["kept_last"]:
                found = (row["status"], row["threshold"], row["num_equal"])
                answers.append(Answer(tuple(kept), *found, tuple(counts)))
                answered_at.append(cycle)
                kept, counts = [], []
        quiet = quiet + 1 if len(answers) >= len(requests) else 0
        if quiet > 20:
            break
    if len(answers) != len(requests) or counts:
        raise EngineError(f"{len(answers)} answers to {len(requests)} requests after {cycle + 1} cycles")
    return Served(tuple(answers), tuple(sizes), tuple(pass_at), tuple(complete_at), tuple(answered_at))


def difference(requests: Sequence[Request], served: Served, lanes: int, capacity: int) -> str | None:
    """What differs from the reference in answers, passes or the shape of rows; None if nothing does."""
    passes: list[int] = []
    for number, (request, answer) in enumerate(zip(requests, served.answers, strict=True)):
        wanted, candidates = expected(request, lanes, capacity)
        passes.extend(candidates)
        if (answer.kept, answer.status) != (wanted.kept, wanted.status):
            return f"request {number}: {answer} instead of {wanted}"
        found = (answer.threshold, answer.num_equal)
        if wanted.threshold is not None and found != (wanted.threshold, wanted.num_equal):
            return f"request {number}: T, num_eq {found} instead of {(wanted.threshold, wanted.num_equal)}"
        if answer.rows != wanted.rows:
            return f"request {number}: rows of {answer.rows} items instead of {wanted.rows}"
    return None if served.candidates == tuple(passes) else f"passes of {served.candidates} instead of {tuple(passes)}"
