"""Token importance as the reference adds it up, and a driver of the netlist (algorithm page, section 2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyrtl
import torch
from numpy.typing import NDArray

from hls.datapaths.token_importance import plan
from hls.datapaths.token_importance_parts import PROBABILITY, SCORE, TokenImportanceTypes
from models.config import AcceleratorConfig, QuantizationConfig
from models.reference.attention import Attention
from models.reference.importance import Importance, accumulate
from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from verification.evidence.words import joined, split
from verification.ports import Integers

Pattern = Sequence[bool] | Integers | NDArray[np.bool_]
LIMIT = SCORE.full_range.high


@dataclass(frozen=True)
class Layer:
    """The rows of a layer.

    Attributes:
        ids: of the survivors, rising, shape (keys,).
        prob: shape (rows, keys).
        visible: how many of the first keys each row sees, 1 or more, shape (rows,).
        stride: keys that a cycle brings, at most the lanes.
    """

    ids: Integers
    prob: Integers
    visible: Integers
    stride: int

    def beats(self, lanes: int) -> Iterator[dict[str, int]]:
        """The cycles of the rows as the netlist's input ports take them; lanes that are not valid carry noise."""
        for row, (prob, visible) in enumerate(zip(self.prob, self.visible, strict=True)):
            for slot in range(0, int(visible), self.stride):
                used = min(self.stride, int(visible) - slot)
                values = [int(p) for p in prob[slot : slot + used]] + [(row * 977 + slot) % 4096] * (lanes - used)
                yield {"prob": joined(values, PROBABILITY.width), "lane_valid": (1 << used) - 1, "slot": slot}


def random_layer(config: AcceleratorConfig, tokens: int, rows: int, rng: np.random.Generator) -> Layer:
    """Survivors of `tokens` tokens: all, few, or many of one bank of ids; rows that see all or their own past."""
    spacing = int(rng.choice([1, 1, config.top_k_lanes]))
    keep = rng.random(tokens) < rng.choice([0.1, 0.5, 1.0])
    ids = np.flatnonzero(keep & (np.arange(tokens) % spacing == 0))
    ids = ids if len(ids) else np.array([int(rng.integers(tokens))])
    prob = rng.integers(0, 4096, (rows, len(ids)))
    prob = np.where(rng.random(prob.shape) < 0.3, rng.choice([0, 1, 4095], prob.shape), prob)
    causal = rng.integers(1, len(ids) + 1, rows)
    stride = 1 << int(rng.integers(0, config.softmax_lanes.bit_length()))
    return Layer(ids, prob, causal if rng.random() < 0.5 else np.full(rows, len(ids)), stride)


def added(scores: Integers, layer: Layer) -> Integers:
    """Scores by id after a layer, as the reference accumulates them."""
    rows, keys = layer.prob.shape
    prob = torch.from_numpy(layer.prob)[None]
    visible = torch.arange(keys) < torch.from_numpy(layer.visible)[:, None]
    nothing = torch.zeros(1, rows, 1, dtype=torch.int64)
    attention = Attention(prob, prob, torch.zeros(1, rows), visible, nothing, visible)
    values = Planes(torch.zeros(1, keys, 1, dtype=torch.int32), torch.ones(1, 1, 1, dtype=torch.float64), 8)
    seen = torch.zeros(len(scores), dtype=torch.int64)
    importance = Importance(torch.from_numpy(scores), torch.zeros(1, dtype=torch.int64), seen)
    ids, heads = torch.from_numpy(layer.ids), torch.zeros(1, dtype=torch.int64)
    arithmetic = IntegerArithmetic(QuantizationConfig(msb_bits=8))
    return accumulate(importance, arithmetic, attention, values, ids, heads).tokens.numpy()


def halved(scores: Integers) -> Integers:
    """Scores after `rescale`, as the reference halves them."""
    nothing = torch.zeros(1, dtype=torch.int64)
    return Importance(torch.from_numpy(scores), nothing, nothing).halve().tokens.numpy()


@dataclass(frozen=True)
class Swept:
    """What a sweep gave: scores by id, the survivors that came with them, and the cycles of rows in and out."""

    scores: Integers
    survivors: Integers
    sent_at: tuple[int, ...]
    received_at: tuple[int, ...]


class Driver:
    """The netlist in simulation; memories start as `memories` says ({name: {address: word}}), elsewhere 0.

    Every method ends after a bounded number of cycles, or raises AssertionError.
    """

    def __init__(
        self, block: pyrtl.Block, config: AcceleratorConfig, memories: Mapping[str, Mapping[int, int]] | None = None
    ) -> None:
        found = {net.op_param[1].name: net.op_param[1] for net in block.logic_subset("m@")}
        contents = {found[name]: dict(words) for name, words in (memories or {}).items() if name in found}
        self._simulation = pyrtl.FastSimulation(tracer=None, block=block, memory_value_map=contents)
        self._inputs = {wire.name for wire in block.wirevector_subset(pyrtl.Input)}
        self._outputs = {wire.name for wire in block.wirevector_subset(pyrtl.Output)}
        self.types = TokenImportanceTypes.of(config)
        self.schedules = plan(config)
        self.cycle = 0

    def step(self, **inputs: int) -> dict[str, int]:
        """One cycle; inputs not given are 0."""
        given = {**dict.fromkeys(self._inputs, 0), **inputs}
        self._simulation.step({name: given[name] for name in self._inputs})
        self.cycle += 1
        return {name: self._simulation.inspect(name) for name in self._outputs}

    def add(self, layer: Layer, offer: Pattern = ()) -> list[int]:
        """Send the rows, a cycle where `offer` says so (then always); the cycles in which they went in."""
        beats, start = list(layer.beats(self.types.lanes)), self.cycle
        sent: list[int] = []
        while len(sent) < len(beats):
            valid = self.cycle - start >= len(offer) or bool(offer[self.cycle - start])
            seen = self.step(**beats[len(sent)], in_valid=int(valid)) if valid else self.step()
            adding = bool(sent) and self.cycle - 1 - sent[-1] < self.schedules.latency_cycles
            assert seen["idle"] == int(not adding), "idle between probabilities"
            assert seen["in_ready"], "probabilities were stalled"
            if valid:
                sent.append(self.cycle - 1)
            self._check(start, len(beats) + len(offer))
        return sent

    def sweep(
        self, ids: Integers, tokens: int, offer: Pattern = (), accept: Pattern = (), halve: int = 0, clear: int = 0
    ) -> Swept:
        """Sweep over `tokens` tokens of which `ids` survived the layer before."""
        lanes, start = self.types.ids, self.cycle
        rows = -(-tokens // lanes)
        alive = np.zeros(rows * lanes, dtype=np.int64)
        alive[ids] = 1
        sent: list[int] = []
        received: list[int] = []
        scores: list[int] = []
        survivors: list[int] = []
        held: dict[str, int] | None = None
        while len(received) < rows:
            now = self.cycle - start
            row: dict[str, int] = {"out_ready": int(now >= len(accept) or bool(accept[now]))}
            if len(sent) < rows and (now >= len(offer) or offer[now]):
                mask = joined([int(a) for a in alive[len(sent) * lanes : (len(sent) + 1) * lanes]], 1)
                last = int(len(sent) == rows - 1)
                row |= {"survivor": mask, "halve": halve, "clear": clear, "sweep_last": last, "sweep_valid": 1}
            seen = self.step(**row)
            assert not (sent and (seen["in_ready"] or seen["idle"])), "takes probabilities during a sweep"
            if "sweep_valid" in row and seen["sweep_ready"]:
                sent.append(self.cycle - 1)
            result = {n: seen[n] for n in ("score", "score_survivor", "score_row", "score_last")}
            assert held is None or (seen["out_valid"] and result == held), "a stalled result changed"
            held = result if seen["out_valid"] and not row["out_ready"] else None
            if seen["out_valid"] and row["out_ready"]:
                assert result["score_row"] == len(received), "rows out of order"
                assert result["score_last"] == int(len(received) == rows - 1), "end of the sweep"
                received.append(self.cycle - 1)
                scores += split(result["score"], SCORE.width, lanes)
                survivors += split(result["score_survivor"], 1, lanes)
            self._check(start, rows + len(offer) + len(accept))
        return Swept(
            np.array(scores[:tokens], dtype=np.int64),
            np.flatnonzero(np.array(survivors)),
            tuple(sent),
            tuple(received),
        )

    def clear(self) -> None:
        """Set everything to 0."""
        self.sweep(np.array([], dtype=np.int64), self.types.ids << self.types.id_row.width, clear=1)

    def _check(self, start: int, events: int) -> None:
        assert self.cycle - start < 2 * events + 100, f"not ready within {self.cycle - start} cycles"


def noise(config: AcceleratorConfig, seed: int) -> dict[str, dict[int, int]]:
    """Memories as they may come up: any words."""
    types, rng = TokenImportanceTypes.of(config), np.random.default_rng(seed)
    words = {f"partial_{b}": (types.bank_row.width, 1) for b in range(types.banks)}
    words["total"] = (types.id_row.width, types.ids)
    return {
        name: {a: joined([int(x) for x in rng.integers(0, 1 << 32, lanes)], 32) for a in range(1 << bits)}
        for name, (bits, lanes) in words.items()
    }


def exercise(block: pyrtl.Block, config: AcceleratorConfig, seed: int, layers: int = 3) -> None:
    """Layers of random rows and sweeps, from reset and from a clear, with and without stalls.

    Raises:
        AssertionError: where scores, order, handshake, rate or latency are not those of the reference and the schedule.
    """
    types, rng = TokenImportanceTypes.of(config), np.random.default_rng(seed)
    tokens = config.context_keys
    start = LIMIT - rng.integers(0, 3 * 4095, tokens)
    start[::3] = rng.integers(0, LIMIT, len(start[::3]))
    start[: types.banks] = 0  # so that the limit of a partial sum shows
    rows = start.reshape(-1, types.ids)
    totals = {row: joined([int(s) for s in ids], SCORE.width) for row, ids in enumerate(rows)}
    partials = {f"partial_{b}": {0: LIMIT - 5000 * (b % 2)} for b in range(types.banks)}

    driver = Driver(block, config, {"total": totals, **partials})
    first = driver.step()
    assert (first["idle"], first["in_ready"], first["out_valid"]) == (1, 1, 0), "not idle after reset"
    everything = Layer(np.arange(tokens), rng.integers(4000, 4096, (2, tokens)), np.full(2, tokens), types.lanes)
    driver.add(everything)
    left = np.zeros(tokens, dtype=np.int64)
    left[: types.banks] = [partials[f"partial_{b}"][0] for b in range(types.banks)]
    scores = np.minimum(start + np.minimum(added(left, everything), LIMIT), LIMIT)
    assert np.array_equal(driver.sweep(everything.ids, tokens).scores, scores), "saturated scores"
    _banks_busy(driver)
    _handshakes(driver)

    driver = Driver(block, config, noise(config, seed))
    driver.clear()
    scores = np.zeros(tokens, dtype=np.int64)
    for _ in range(layers):
        layer, halve = random_layer(config, tokens, 3, rng), int(rng.integers(0, 2))
        driver.add(layer, rng.random(60) < 0.7)
        stalls = rng.random(400) < 0.7, rng.random(400) < 0.6
        swept = driver.sweep(layer.ids, tokens, *stalls, halve=halve)
        scores = halved(added(scores, layer)) if halve else added(scores, layer)
        assert np.array_equal(swept.scores, scores), "scores"
        assert np.array_equal(swept.survivors, layer.ids), "survivors"
    assert np.array_equal(driver.sweep(np.arange(tokens), tokens).scores, scores), "a partial sum was left"


def _banks_busy(driver: Driver) -> None:
    """No pair of banks that are written hides that they are; what is added is 0."""
    lanes, latency = driver.types.lanes, driver.schedules.latency_cycles
    for lane_valid in {1 << i | 1 << j for i in range(lanes) for j in range(i + 1)}:
        for slot in range(0, driver.types.banks, lanes):
            driver.step(lane_valid=lane_valid, slot=slot, in_valid=1)
            idle = [driver.step()["idle"] for _ in range(latency)]
            assert idle == [0] * (latency - 1) + [1], "idle while banks are written"


def _handshakes(driver: Driver) -> None:
    """Rows of one cycle, and who waits for whom, cycle by cycle."""
    latency, sweep_latency = driver.schedules.latency_cycles, driver.schedules.sweep_latency_cycles
    beat = {"prob": 9, "lane_valid": 1, "in_valid": 1}
    sweep = {"survivor": 1, "sweep_valid": 1, "out_ready": 1}
    assert all(driver.step(**beat)["in_ready"] for _ in range(5)), "probabilities were stalled"
    waiting = [driver.step(**beat, **sweep) for _ in range(latency)]
    assert not any(s["in_ready"] for s in waiting), "took probabilities before a sweep"
    for name in ("sweep_ready", "idle"):
        assert [s[name] for s in waiting] == [0] * (latency - 1) + [1], f"{name} before a sweep"
    unfinished = [driver.step(**beat, out_ready=1) for _ in range(sweep_latency + 2)]
    assert not any(s["in_ready"] or s["idle"] for s in unfinished), "took probabilities in an unfinished sweep"
    resumed = driver.step(**beat, **sweep, sweep_last=1)
    assert (resumed["sweep_ready"], resumed["in_ready"]) == (1, 0), "an unfinished sweep goes on, and nothing else"
    ending = [driver.step(**beat, **sweep) for _ in range(sweep_latency)]
    assert not any(s["in_ready"] or s["sweep_ready"] or s["idle"] for s in ending), "began within a sweep"
    assert [s["out_valid"] for s in ending] == [0] * (sweep_latency - 1) + [1], "latency of a sweep"
    after = driver.step()
    assert (after["idle"], after["in_ready"], after["out_valid"]) == (1, 1, 0), "not idle after a sweep"
