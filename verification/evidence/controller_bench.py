"""The netlist of `controller_netlist` beside a memory and rows that are made up.

The netlists of both importances, of engine A and of the write-back are the real ones; in place of what computes rows
there is a process that takes the jobs, and for each of them adds probabilities, head outputs and an output row.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.descriptor import ANSWER, LayerStatus
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.memory_port import MemoryPortSize
from hls.simulate import Simulator
from models.config import AcceleratorConfig
from models.memory.interface import Memory
from verification.evidence.controller_model import (
    HostLayer,
    Scores,
    bus_of,
    jobs_of,
    status_of,
    survivors_of,
)
from verification.evidence.controller_netlist import STREAMS
from verification.evidence.words import joined, nth, pack, unpack

BURST_BYTES = 32
TOLD = ("row_added", "row_kept")
"""Pulses, one a row."""


@dataclass
class Offered:
    """Items that a process offers at an input, each until it is taken."""

    prefix: str
    items: deque[dict[str, int]] = field(default_factory=deque)
    offering: bool = False

    def inputs(self, chance: bool) -> dict[str, int]:
        """This cycle's inputs."""
        self.offering = bool(self.items) and (self.offering or chance)
        if not self.offering:
            return {}
        return {f"{self.prefix}_{name}": value for name, value in self.items[0].items()} | {
            f"{self.prefix}_in_valid": 1
        }

    def after(self, seen: Mapping[str, int]) -> None:
        """What the outputs of the cycle mean for it."""
        if self.offering and seen[f"see_{self.prefix}_ready"]:
            self.items.popleft()
            self.offering = False


@dataclass(frozen=True)
class LayerRun:
    """How a layer ended: status, cycles from start to done, and the answer in DRAM."""

    status: LayerStatus
    cycles: int
    answer: Mapping[str, int]


class Bench:
    """A machine and its memory, layer after layer; every layer is compared with the model.

    Attributes:
        late_outputs: outputs of a layer come when all S_t have been written.
    """

    def __init__(
        self, config: AcceleratorConfig, simulator: Simulator, memory: Memory, seed: int, chance: float = 0.7
    ) -> None:
        self.late_outputs = False
        self.config, self.simulator, self.memory = config, simulator, memory
        self.sizes, self.tag_bits = MachineSizes.of(config), MemoryPortSize.of(config).tag
        self.random, self.chance = np.random.default_rng(seed), chance
        self.image: dict[int, bytes] = {}
        self.expected_image: dict[int, bytes] = {}
        self.scores = Scores()
        self.held: list[tuple[int, int] | None] = [None] * config.hbm_channels
        self.under_way: dict[int, tuple[str, int, bytes]] = {}
        self.tags = 0
        self.writes = 0

    def place(self, contents: Mapping[int, bytes]) -> None:
        """The host writes to memory."""
        for address, data in contents.items():
            for image in (self.image, self.expected_image):
                _store(image, address, data)

    def _memory_inputs(self) -> dict[str, int]:
        """A cycle of the memory: a read gives what was there when it was accepted, a write shows with its answer."""
        channels = range(self.config.hbm_channels)
        offers = [self.under_way[entry[1]] if entry else None for entry in self.held]
        reply = self.memory.step(
            [entry is not None for entry in self.held],
            [BURST_BYTES * entry[0] if entry else 0 for entry in self.held],
            [entry[1] if entry else 0 for entry in self.held],
            [offer is not None and offer[0] == "write" for offer in offers],
        )
        for c in channels:
            entry = self.held[c]
            if entry is not None and reply.accepted[c]:
                kind, tag, _ = self.under_way[entry[1]]
                if kind == "read":
                    self.under_way[entry[1]] = (kind, tag, self.image.get(entry[0], bytes(BURST_BYTES)))
                else:
                    self.under_way[entry[1]] = (kind, entry[0], self.under_way[entry[1]][2])
                self.held[c] = None
        inputs = {"memory_ready": sum(1 << c for c in channels if self.held[c] is None)}
        inputs |= dict.fromkeys(("answer_valid", "answer_tag", "answer_data", "write_done"), 0)
        for c in channels:
            if reply.read_tag[c] >= 0:
                _, tag, data = self.under_way.pop(int(reply.read_tag[c]))
                inputs["answer_valid"] |= 1 << c
                inputs["answer_tag"] |= tag << (c * self.tag_bits)
                inputs["answer_data"] |= int.from_bytes(data, "little") << (c * BURST_BITS)
            if reply.write_tag[c] >= 0:
                _, address, data = self.under_way.pop(int(reply.write_tag[c]))
                inputs["write_done"] |= 1 << c
                self.image[address] = data
        return inputs

    def _memory_outputs(self, seen: Mapping[str, int]) -> None:
        for c in range(self.config.hbm_channels):
            if self.held[c] is None and seen["see_memory_valid"] >> c & 1:
                address = nth(seen["see_memory_address"], BURST_ADDRESS_BITS, c)
                data = nth(seen["see_memory_data"], BURST_BITS, c).to_bytes(BURST_BYTES, "little")
                tag = nth(seen["see_memory_tag"], self.tag_bits, c)
                assert address % self.config.hbm_channels == c, f"burst {address:#x} at channel {c}"
                is_write = bool(seen["see_memory_write"] >> c & 1)
                self.writes += is_write
                self.held[c] = (address, self.tags)
                self.under_way[self.tags] = ("write", address, data) if is_write else ("read", tag, b"")
                self.tags += 1

    def run(self, layer: HostLayer, descriptor_address: int, limit_cycles: int = 20_000) -> LayerRun:
        """Run a layer and compare all that it does with the model.

        Raises:
            AssertionError: for the first difference.
        """
        self.place({**layer.contents(), descriptor_address: layer.descriptor()})
        wanted = status_of(self.config, layer)
        jobs = jobs_of(layer) if wanted == LayerStatus.OK and layer.fields["rows"] else []
        rows = _Rows(self, layer, jobs)
        started, begun, ended, writes, copies = None, False, False, self.writes, {}
        for cycle in range(limit_cycles):
            inputs = self._memory_inputs() | rows.inputs()
            if started is None:
                inputs |= {"start_valid": 1, "start_descriptor": descriptor_address // 512}
            seen = self.simulator.step(inputs)
            self._memory_outputs(seen)
            if started is None and seen["see_start_ready"]:
                started = cycle
            if seen["see_survivor_write"]:
                copies[seen["see_survivor_row"]] = seen["see_survivor_ids"]
            if seen["see_layer_start"]:
                begun = True
                for name, value in bus_of(self.config, layer).items():
                    assert seen[f"see_{name}"] == value, f"{name} is {seen[f'see_{name}']}, not {value}"
                assert self._copied(copies, len(layer.survivors)) == list(layer.survivors)
                self._begin(layer)
            rows.after(seen)
            ended = ended or bool(begun and seen["see_layer_selecting"])
            if seen["see_done_valid"]:
                break
        else:
            raise AssertionError(f"not done after {limit_cycles} cycles")
        assert started is not None
        status = LayerStatus(seen["see_done_status"])
        assert status == wanted, f"{status!r} instead of {wanted!r}"
        answer: Mapping[str, int] = {}
        if status == LayerStatus.OK:
            assert begun
            assert ended
            assert not rows.left(), "rows were left when the layer ended"
            answer = self._finish(layer, rows, cycle - started)
        else:
            assert not begun, "a bad descriptor has begun"
            assert self.writes == writes, "a bad descriptor has written"
        assert self.image == self.expected_image, _difference(self.image, self.expected_image)
        assert not self.under_way, "done before all was acknowledged"
        return LayerRun(status, cycle - started, answer)

    def _copied(self, copies: Mapping[int, int], count: int) -> list[int]:
        lanes, bits = self.sizes.top_k_lanes, self.sizes.id_bits
        return [nth(copies[i // lanes], bits, i % lanes) for i in range(count)]

    def _begin(self, layer: HostLayer) -> None:
        if layer.fields["clear_tokens"]:
            self.scores.tokens = np.zeros(self.config.context_keys, np.int64)
        if layer.fields["clear_heads"]:
            self.scores.heads[:] = 0

    def _finish(self, layer: HostLayer, rows: "_Rows", cycles: int) -> Mapping[str, int]:
        """What the layer must have written, in `expected_image`; gives the answer."""
        f = layer.fields
        if f["halve"]:
            # ids beyond the sequence are swept only where they share a row with the last one
            lanes = self.sizes.top_k_lanes
            self.scores.tokens[: -(-f["position"] // lanes) * lanes] >>= 1
        tokens, heads = survivors_of(layer, self.scores)
        writes = {
            "token_scores_address": self.scores.tokens[: f["position"]].astype("<u4").tobytes(),
            "head_scores_address": self.scores.heads[: f["heads"]].astype("<u8").tobytes(),
            "next_survivors_address": np.array(tokens, dtype="<u2").tobytes(),
            "output_address": np.array(rows.outputs, dtype="<i2").tobytes(),
        }
        for name, data in writes.items():
            _store(self.expected_image, f[name], data.ljust(-(-len(data) // BURST_BYTES) * BURST_BYTES, b"\0"))
        found = ANSWER.unpack(self.image[f["answer_address"] // BURST_BYTES])
        wanted = {
            "status": LayerStatus.OK,
            "survivors": len(tokens),
            "heads": len(heads),
            "head_mask": sum(1 << h for h in heads),
        }
        assert {**found, **wanted} == found, f"answer {found}, not {wanted}"
        assert 0 < found["cycles"] <= cycles
        _store(self.expected_image, f["answer_address"], ANSWER.pack({**wanted, "cycles": found["cycles"]}))
        return found


class _Rows:
    """What computes rows: takes jobs, adds to both importances, writes outputs, says when it has finished."""

    def __init__(self, bench: Bench, layer: HostLayer, jobs: list[dict[str, int]]) -> None:
        self.bench, self.layer = bench, layer
        self.missing = {way: deque(jobs) for way in STREAMS}
        self.feeds = {prefix: Offered(prefix) for prefix in ("prob", "row", "out")}
        self.outputs: list[int] = []
        self.ready: dict[str, int] = {}
        self.started = False
        self.told = dict.fromkeys(TOLD, layer.fields["rows"] * len(jobs))

    def left(self) -> bool:
        """Whether anything of the layer is still to come."""
        return (
            any(self.missing.values()) or any(feed.items for feed in self.feeds.values()) or self.told["row_added"] > 0
        )

    def inputs(self) -> dict[str, int]:
        """This cycle's inputs."""
        random, chance = self.bench.random, self.bench.chance
        self.ready = {f"job_{way}_ready": int(random.random() < chance) for way in STREAMS}
        found = {**self.ready, "rows_done": int(self.started and not self.left())}
        for name in TOLD:
            # the last row is added when nothing is left to add, and then leaves its engine
            last = self.told[name] == 1 and bool(self.missing["rows"] or self.feeds["prob"].items)
            found[name] = int(self.started and self.told[name] > 0 and not last and random.random() < chance)
            self.told[name] -= found[name]
        for name, feed in self.feeds.items():
            if name == "prob" or not self.bench.late_outputs or self._scores_written():
                found |= feed.inputs(bool(random.random() < chance))
        return found

    def _scores_written(self) -> bool:
        """Whether memory holds S_t of all ids of the layer."""
        f, first = self.layer.fields, self.layer.fields["token_scores_address"] // BURST_BYTES
        return all(first + i in self.bench.image for i in range(-(-4 * f["position"] // BURST_BYTES)))

    def after(self, seen: Mapping[str, int]) -> None:
        """What the outputs of the cycle mean."""
        for feed in self.feeds.values():
            feed.after(seen)
        self.started |= bool(seen["see_layer_start"])
        for way in STREAMS:
            if self.ready[f"job_{way}_ready"] and seen[f"see_job_{way}_valid"]:
                assert self.missing[way], f"a job too many in {way}"
                job = self.missing[way].popleft()
                self._compare(job, seen[f"see_job_{way}_data"])
                if way == "rows":
                    self._compute(job)

    def _compare(self, job: Mapping[str, int], word: int) -> None:
        record = self.bench.sizes.job
        found, wanted = unpack(record, word), unpack(record, pack(record, job))
        for name, value in wanted.items():
            assert found[name] == value, f"head {job['head']}: {name}"

    def _compute(self, job: Mapping[str, int]) -> None:
        bench, config, f = self.bench, self.bench.config, self.layer.fields
        ids = self.layer.survivors
        for _ in range(min(f["rows"], 2)):
            probabilities = bench.random.integers(0, 4096, len(ids)).tolist()
            bench.scores.add_row(ids, probabilities)
            for slot in range(0, len(ids), config.softmax_lanes):
                lanes = probabilities[slot : slot + config.softmax_lanes]
                beat = {"prob": joined(lanes, 12), "lane_valid": (1 << len(lanes)) - 1, "slot": slot}
                self.feeds["prob"].items.append(beat)
        width = config.datapath_bits
        elements = bench.random.integers(-(1 << (width - 1)), 1 << (width - 1), f["head_dim"]).tolist()
        bench.scores.add_output(job["head"], elements, job["value_mantissa"], job["value_shift"])
        for first in range(0, len(elements), config.native_head_dim):
            part = elements[first : first + config.native_head_dim]
            row = {"element": joined(part, width), "head": job["head"], "mantissa": job["value_mantissa"]}
            row |= {"shift": job["value_shift"] & 127, "last": int(first + len(part) == len(elements))}
            self.feeds["row"].items.append(row)
        self.outputs += elements
        out = {"element": joined(elements, width), "count": len(elements), "last": job["last"]}
        self.feeds["out"].items.append({**out, "base": f["output_address"] // 512})


def _store(image: dict[int, bytes], address: int, data: bytes) -> None:
    """Bytes from a burst's begin on; what they do not fill of the last burst is kept."""
    for i in range(0, len(data), BURST_BYTES):
        part = data[i : i + BURST_BYTES]
        burst = (address + i) // BURST_BYTES
        image[burst] = part + image.get(burst, bytes(BURST_BYTES))[len(part) :]


def _difference(found: Mapping[int, bytes], wanted: Mapping[int, bytes]) -> str:
    bad = sorted(b for b in {*found, *wanted} if found.get(b) != wanted.get(b))
    first = bad[0] if bad else 0
    return f"{len(bad)} bursts differ, first {first:#x}: {found.get(first)!r}, not {wanted.get(first)!r}"
