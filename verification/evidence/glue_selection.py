"""The selection alone: lists that are in no order too, as many protected ids as stay, neighbours that take their time.

In the machine a layer whose lists are not in order is refused, so nobody sees there that the mask of an id that comes
twice is that of the set. Here the layer goes on. One that is in order must select what the reference selects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np

from hls.datapaths.control_read import ReadKind
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.datapaths.selection_lists import LIST_ID_BITS
from hls.lower import Netlist
from verification.evidence.controller_model import HostLayer, Scores, random_layer, survivors_of
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import joined, split

RUNS, REGION, MOST_CYCLES = 40, 1 << 16, 10_000
CHANCES = (0.1, 0.5, 1.0)
"""Of a stream to move in a cycle, one for each stream of a run."""
SCORE_BITS = 32
SIZES = MachineSizes.of(TINY)
T, ID_BITS = SIZES.top_k_lanes, SIZES.id_bits
READY = ("sweep_ready", "select_ready", "token_row_ready", "list_row_ready", "head_word_ready", "head_clear_ready")


def selection_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Layers from reset, one each.

    Raises:
        AssertionError: if other tokens or heads are selected, or an id is not seen as it is.
    """
    simulator, found = WatchedSimulator(netlist), []
    for number in range(RUNS):
        simulator.reset()
        run = _Run(simulator, _layer(seed, number), Random(f"{seed} {number}"))
        run.run()
        run.check()
        found.append(replay_of(f"selection, run {number}", netlist, simulator.rows))
    return found


def _layer(seed: int, number: int) -> HostLayer:
    """Every second one in order; in some as many ids are protected as stay, in others ids come twice or are beyond."""
    rng, random = np.random.default_rng((seed, number)), Random(f"{number} {seed}")
    if number % 5:
        layer = random_layer(TINY, rng, REGION)
    else:
        layer = random_layer(TINY, rng, REGION, head_dim=8, position=int(rng.integers(100, 300)), heads=4)
    kept = len(set(layer.protected) & set(layer.survivors))
    if kept and random.random() < 0.5:
        layer = layer.with_fields(next_keys=kept)
    if number % 2:
        ids = list(layer.survivors)
        for i in range(1, len(ids)):
            if random.random() < 0.4:
                ids[i] = ids[i - 1]
        beyond = random.randrange(min(T + 1, len(ids)))
        ids[len(ids) - beyond :] = range(layer.fields["position"], layer.fields["position"] + beyond)
        layer = replace(layer, survivors=tuple(ids))
    return layer


@dataclass
class _Stream:
    """Items that a neighbour offers, each until it is taken."""

    valid: str
    ready: str
    chance: float
    items: list[Row]
    offered: bool = False


class _Run:
    """A layer, with the neighbours of the selection."""

    def __init__(self, simulator: WatchedSimulator, layer: HostLayer, random: Random) -> None:
        self.simulator, self.layer, self.random = simulator, layer, random
        f = layer.fields
        last = f["position"] - 1
        self.bus = {
            **{f"layer_{name}": f[name] for name in ("keys", "position", "protected_count", "halve", "head_mask")},
            **{f"layer_{name}": f[name] for name in ("next_keys", "next_heads")},
            "layer_clear_tokens": random.randrange(2),
            "layer_clear_heads": random.randrange(2),
            "layer_last_row": last // T,
            "layer_last_lane": last % T,
            "layer_last_head": f["heads"] - 1,
            "layer_select_tokens": int(f["next_keys"] < f["keys"]),
            "layer_select_heads": int(f["next_heads"] < len(layer.heads)),
        }
        self.scores = Scores(
            np.array(random.sample(range(1 << SCORE_BITS), SIZES.context)),
            np.array(random.sample(range(1 << HEAD_SCORE_BITS), 64)),
        )
        self.chances = {port: random.choice(CHANCES) for port in (*READY, "head_idle")}
        self.bursts = _Stream("read_valid", "list_ready", random.choice(CHANCES), list(self._bursts()))
        self.swept = _Stream("sweep_score_valid", "sweep_score_ready", random.choice(CHANCES), [])
        self.results = _Stream("select_result_valid", "select_result_ready", random.choice(CHANCES), [])
        self.candidates: list[tuple[int, int]] = []
        self.sweep_row, self.head_score = 0, 0
        self.masks: list[int] = []
        self.listed: list[int] = []

    def _bursts(self) -> Iterator[Row]:
        each = BURST_BITS // LIST_ID_BITS
        for kind, ids in ((ReadKind.SURVIVORS, self.layer.survivors), (ReadKind.PROTECTED, self.layer.protected)):
            for at in range(0, len(ids), each):
                data = joined(ids[at : at + each], LIST_ID_BITS)
                yield {"read_data": data, "read_kind": kind, "read_last": int(at + each >= len(ids))}

    def run(self) -> None:
        """From `lists_begin` to `selection_done`."""
        self.step(lists_begin=1)
        self.until("survivors_checked")
        if self.layer.protected:
            self.until("protected_checked")
        self.step(layer_start=1)
        self.until("lists_held")
        self.pause()
        self.step(selection_start=1)
        self.pause()
        self.step(head_selection_start=1)
        self.until("selection_done")

    def pause(self) -> None:
        """Some cycles."""
        for _ in range(self.random.choice((0, 1, 40))):
            self.step()

    def until(self, port: str) -> None:
        """Cycles up to the one in which an output is 1."""
        while not self.step()[port]:
            assert len(self.simulator.rows) < MOST_CYCLES, f"{port} does not come"

    def step(self, **pulses: int) -> Row:
        """One cycle of all neighbours."""
        row = {**self.bus, **pulses, "head_read_score": self.head_score}
        row |= {port: int(self.random.random() < chance) for port, chance in self.chances.items()}
        streams = (self.bursts, self.swept, self.results)
        for stream in streams:
            stream.offered |= bool(stream.items) and self.random.random() < stream.chance
            row |= {**stream.items[0], stream.valid: 1} if stream.offered else {}
        seen = self.simulator.step(row)
        for stream in streams:
            if stream.offered and seen[stream.ready]:
                stream.items.pop(0)
                stream.offered = False
        self.head_score = int(self.scores.heads[seen["head_read"]])
        if seen["sweep_valid"] and row["sweep_ready"]:
            self._sweep(seen)
        if seen["select_request"] and row["select_ready"]:
            self._select(seen)
        if seen["list_row_valid"] and row["list_row_ready"]:
            self.listed += split(seen["list_row_data"], LIST_ID_BITS, T)
        return seen

    def _sweep(self, seen: Row) -> None:
        first = T * self.sweep_row
        scores = [0 if seen["sweep_clear"] else int(s) for s in self.scores.tokens[first : first + T]]
        self.swept.items.append(
            {
                "sweep_score": joined(scores, SCORE_BITS),
                "sweep_score_survivor": seen["sweep_survivor"],
                "sweep_score_row": self.sweep_row,
                "sweep_score_last": seen["sweep_last"],
            }
        )
        if not seen["sweep_clear"]:
            self.masks.append(seen["sweep_survivor"])
        self.sweep_row = 0 if seen["sweep_last"] else self.sweep_row + 1

    def _select(self, seen: Row) -> None:
        """The k largest, in the order of their ids."""
        ids, values = split(seen["select_id"], ID_BITS, T), split(seen["select_value"], HEAD_SCORE_BITS, T)
        self.candidates += [(values[i], ids[i]) for i in range(T) if seen["select_valid"] >> i & 1]
        if seen["select_last"]:
            kept = sorted(number for _, number in sorted(self.candidates, reverse=True)[: seen["select_k"]])
            for at in range(0, max(1, len(kept)), T):
                row = kept[at : at + T]
                self.results.items.append(
                    {
                        "engine_a_kept_id": joined(row, ID_BITS),
                        "engine_a_kept_count": len(row),
                        "engine_a_kept_last": int(at + T >= len(kept)),
                    }
                )
            self.candidates = []

    def check(self) -> None:
        """What was found against the lists and the reference."""
        layer, seen = self.layer, self.simulator.rows[-1]
        position, ids = layer.fields["position"], layer.survivors
        mask = [i for row, bits in enumerate(self.masks) for i in range(T * row, T * row + T) if bits >> i % T & 1]
        assert mask == sorted({i for i in ids if i < position}), "another mask of survivors"
        unordered, beyond = any(a >= b for a, b in pairwise(ids)), max(ids) >= position
        assert (seen["survivors_unordered"], seen["survivors_beyond"]) == (unordered, beyond), "wrong about the list"
        if unordered or beyond:
            return
        tokens, heads = survivors_of(layer, self.scores)
        assert self.listed[: len(tokens)] == tokens, "another list of the next survivors"
        assert not any(self.listed[len(tokens) :]), "more than zeros behind the list"
        assert seen["next_survivors"] == len(tokens)
        assert seen["next_head_mask"] == sum(1 << head for head in heads), "another mask of heads"
