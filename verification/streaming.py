"""Streams through a netlist whose results are fewer than its inputs, under stall patterns.

`hls.simulate`'s own `stream` gives one result for each item; here the netlist decides when a result comes out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hls.simulate import Pattern, Simulator, Words, from_words, to_words


@dataclass(frozen=True)
class Drained:
    """Results in order, and the cycles in which the items went in and the results came out."""

    outputs: dict[str, Words]
    sent_at: tuple[int, ...]
    received_at: tuple[int, ...]


class StreamError(AssertionError):
    """The netlist broke the handshake, or did not give all results in time."""


def drain(
    simulator: Simulator,
    items: Mapping[str, Words],
    results: int,
    offer: Pattern | None = None,
    accept: Pattern | None = None,
    limit_cycles: int | None = None,
) -> Drained:
    """Send all items, take `results` results, and watch a little longer that no other comes out.

    An item is offered where `offer[cycle]`, a result accepted where `accept[cycle]`; None, and beyond the end of a
    pattern: always. A stalled result must not change.

    Raises:
        StreamError: for a missing, changing or additional result.
    """
    columns = {name: from_words(words) for name, words in items.items()}
    count = len(next(iter(columns.values())))
    patterns = [np.asarray([] if p is None else p, dtype=np.bool_) for p in (offer, accept)]
    offers, accepts = ([bool(b) for b in p] for p in patterns)
    tail = simulator.netlist.latency_cycles + 2
    limit = limit_cycles or len(offers) + len(accepts) + 2 * (count + tail) + 100
    sent: list[int] = []
    received: list[int] = []
    rows: list[dict[str, int]] = []
    held: dict[str, int] | None = None
    for cycle in range(limit):
        ready = cycle >= len(accepts) or accepts[cycle]
        row = {"out_ready": int(ready)}
        if len(sent) < count and (cycle >= len(offers) or offers[cycle]):
            row |= {name: column[len(sent)] for name, column in columns.items()} | {"in_valid": 1}
        seen = simulator.step(row)
        payload = {n: v for n, v in seen.items() if n not in ("in_ready", "out_valid")} if seen["out_valid"] else None
        if held is not None and payload != held:
            raise StreamError(f"cycle {cycle}: a stalled result changed")
        held = None if ready else payload
        if row.get("in_valid") and seen["in_ready"]:
            sent.append(cycle)
        if payload is not None and ready:
            rows.append(payload)
            received.append(cycle)
        if (
            len(sent) == count
            and len(rows) >= results
            and cycle >= max(sent[-1], received[-1] if received else 0) + tail
        ):
            break
    if len(rows) != results or len(sent) != count:
        raise StreamError(f"{len(rows)} results of {results}, {len(sent)} items of {count} after {cycle + 1} cycles")
    widths = {name: simulator.netlist.outputs[name] for name in rows[0]} if rows else {}
    return Drained({n: to_words([r[n] for r in rows], b) for n, b in widths.items()}, tuple(sent), tuple(received))
