"""The LSBs of values alone: rows of kept values in any pattern, whose beats come one by one with pauses.

In the machine the beats of a row mostly follow each other. The sparse list must hold the kept values that no row before
it of the same K/V head has asked for, in order.
"""

from __future__ import annotations

from random import Random

from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.value_wires import kept_beat
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.words import joined, pack, split

SIZES = MachineSizes.of(TINY)
LAYERS = ((9, 0, 14), (37, 1, 12), (SIZES.context // 4, 2, 4), (SIZES.context, 0, 3), (70, 0, 12))
"""Keys, dimension, rows that are flat."""
OFFERS = (0.4, 1.0, 0.7, 0.9, 0.3)
"""Chances of a beat in a cycle, by layer."""
PATIENCE_CYCLES = 20


def sparse_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Each layer from reset.

    Raises:
        AssertionError: for another list than is wanted.
    """
    simulator, found = WatchedSimulator(netlist), []
    for (keys, dimension, rows), offers in zip(LAYERS, OFFERS, strict=True):
        simulator.reset()
        bench = _Bench(simulator, Random(f"{seed} {keys}"), keys, dimension)
        bench.layer(rows, offers)
        found.append(replay_of(f"missing ones of {keys}", netlist, simulator.rows))
    return found


class _Bench:
    def __init__(self, simulator: WatchedSimulator, random: Random, keys: int, dimension: int) -> None:
        self.random, self.keys, self.lanes = random, keys, SIZES.slots >> dimension
        self.simulator = simulator
        self.bus = {"layer_keys": keys, "layer_dimension": dimension}
        self.survivors = sorted(random.sample(range(SIZES.context), keys))
        self.listed: dict[int, tuple[list[int], list[int]]] = {}

    def layer(self, rows: int, offers: float) -> None:
        lanes, bits = SIZES.top_k_lanes, SIZES.id_bits
        for start in range(0, self.keys, lanes):
            ids = joined(self.survivors[start : start + lanes], bits)
            self.step({"survivor_write": 1, "survivor_row": start // lanes, "survivor_ids": ids})
        asked: set[int] = set()
        for number in range(rows):
            clear = number == 0 or self.random.random() < 0.3
            share = self.random.choice((0.05, 0.3, 0.9))
            kept = [i for i in range(self.keys) if self.random.random() < share] or [self.keys - 1]
            asked = set() if clear else asked
            self._row(kept, clear, offers)
            missing = [i for i in kept if i not in asked]
            asked |= set(kept)
            self._check(missing)

    def _row(self, kept: list[int], clear: bool, offers: float) -> None:
        self.listed = {}
        self.step({"sparse_go": 1, "sparse_clear": int(clear)})
        numbers = sorted({i // self.lanes for i in kept})
        for number in numbers:
            values = {name: self.random.getrandbits(bits) for name, bits in kept_beat(SIZES).fields}
            values["lanes"] = sum(1 << i % self.lanes for i in kept if i // self.lanes == number)
            values |= {"number": number, "last": int(number == numbers[-1])}
            while self.random.random() >= offers:
                self.step({})
            beat = {"sparse_beat_valid": 1, "sparse_beat_data": pack(kept_beat(SIZES), values)}
            while not self.step(beat)["sparse_beat_ready"]:
                pass
        waited = 0
        while not self.step({})["missing_total_valid"]:
            waited += 1
            assert waited <= PATIENCE_CYCLES, "the list never ends"

    def step(self, ports: Row) -> Row:
        """One cycle; what is written is put into the list."""
        noise = {"sparse_beat_data": self.random.getrandbits(kept_beat(SIZES).bits)}
        seen = self.simulator.step({**self.bus, **noise, **ports})
        if seen["missing_write"]:
            ids, slots = (split(seen[f"missing_{name}"], SIZES.id_bits, SIZES.top_k_lanes) for name in ("ids", "slots"))
            self.listed[seen["missing_row"]] = ids, slots
        return seen

    def _check(self, missing: list[int]) -> None:
        total, lanes = self.simulator.rows[-1]["missing_total"], SIZES.top_k_lanes
        assert total == len(missing), f"{total} are missing, not {len(missing)}"
        assert sorted(self.listed) == list(range(-(-total // lanes))), "not the rows of the list"
        ids, slots = ([one for row in sorted(self.listed) for one in self.listed[row][k]][:total] for k in (0, 1))
        assert slots == missing, f"{slots} are listed, not {missing}"
        assert ids == [self.survivors[i] for i in missing], "ids of other tokens"
