"""Surroundings of the value side of the accelerator, which check it cycle by cycle.

They are naive: they offer beats and jobs, take what comes out, and land lists some time after their requests, segment
by segment. Lists are walked as the sequencer does at its fastest: where it has walked over a vector of a list that
fills a buffer of the Value SRAM, the place is empty until that lands; ids are read from the lists only when they land:
what is read too early, or is overwritten too early, is noticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import Destination, MachineSizes, Source
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.row_queues import PENDING_ROWS
from hls.simulate import Simulator
from models.config import AcceleratorConfig
from verification.evidence.value_side_check import Seen
from verification.evidence.value_side_layer import Layer
from verification.evidence.words import joined, nth, pack, split, unpack

LANDING_BASE = 64
"""Bases of lists begin here: an even one a K/V head, the odd one after it for its LSBs."""
Vector: TypeAlias = tuple[int, int, int, bool]
"""What a place of the Value SRAM holds: K/V head, token, part of its value, whether its LSBs have landed."""


@dataclass
class Pace:
    """How fast the surroundings are: shares of cycles in which they offer and accept; cycles until a list lands.

    Between two segments of a list there are less than `segment_cycles`.
    """

    offer: float = 1.0
    accept: float = 1.0
    landing_cycles: tuple[int, int] = (5, 40)
    segment_cycles: int = 3


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


class Surroundings:
    """Runs layers through one simulator of the composition."""

    def __init__(self, config: AcceleratorConfig, simulator: Simulator, seed: int, pace: Pace) -> None:
        self.sizes, self.simulator, self.pace = MachineSizes.of(config), simulator, pace
        self.rng = np.random.default_rng(seed)
        self.lists: dict[tuple[int, int], int] = {}
        self.slots: dict[int, int] = {}
        self.sram: list[dict[tuple[int, int], Vector]] = [{}, {}]
        self.before: list[dict[tuple[int, int], Vector]] = [{}, {}]
        self.walked = [0, 0]
        self.cycle = 0

    def run(self, layer: Layer, limit_cycles: int = 20_000) -> Seen:
        """One layer from the survivor list to `rows_done`.

        Raises:
            AssertionError: for anything that is not as it must be, or if it is not done in time.
        """
        self.layer, self.seen = layer, Seen()
        self._constants = self._layer_bus(layer)
        ids, lanes = list(layer.survivors), self.sizes.top_k_lanes
        for row in range(-(-len(ids) // lanes)):
            chunk = ids[row * lanes : (row + 1) * lanes]
            self._step({"survivor_write": 1, "survivor_row": row, "survivor_ids": joined(chunk, self.sizes.id_bits)})
        self._step({"layer_start": 1})
        self._start()
        begun = self.cycle
        while not (self.done and self._complete()):
            assert self.cycle - begun < limit_cycles, f"not done after {limit_cycles} cycles: {self._progress()}"
            self._cycle()
        for _ in range(4):
            self._cycle()
        assert not self.landing
        return self.seen

    def _progress(self) -> str:
        seen = self.seen
        return (
            f"{len(seen.weighed)} rows weighed, {len(seen.outputs)} out, {len(seen.heads)} to heads, done {self.done}"
        )

    def _complete(self) -> bool:
        rows = sum(len(job.rows) for job in self.layer.jobs)
        return len(self.seen.outputs) == rows and len(self.seen.heads) == rows and not self.beats

    def _layer_bus(self, layer: Layer) -> dict[str, int]:
        return {
            "layer_generation": int(layer.generation),
            "layer_keys": layer.keys,
            "layer_rows": len(layer.jobs[0].rows),
            "layer_dimension": layer.dimension,
            "layer_elements": layer.elements,
            "layer_format": (layer.msb_bits - 4) // 2,
            "layer_progressive": int(layer.progressive),
            "layer_ratio16": layer.ratio16,
            "layer_output_base": layer.output_base,
        }

    def _step(self, inputs: dict[str, int]) -> dict[str, int]:
        self.cycle += 1
        return self.simulator.step({**self._constants, **inputs})

    def _start(self) -> None:
        self.beats, self.jobs = deque(self._all_beats()), deque(self._all_jobs())
        self.decisions = deque(int(row.flat) for job in self.layer.jobs for row in job.rows)
        self.decided = self.begun = 0
        self.offered: dict[str, dict[str, int] | None] = {"beat": None, "job": None}
        self.pending, self.sparse_pending = [0] * (2 * self.sizes.segments), 0
        self.landing: list[tuple[int, dict[str, int], int]] = []
        self.walking: list[dict[str, int]] = []
        self.unread: tuple[int, int, int] = (0, 0, 0)
        self.data = 0
        self.read = [(-1, -1, -1, False)] * self.sizes.slots
        self.current: list[tuple[int, int, int]] = []
        self.current_cycles = 0
        self.head_part: list[int] = []
        self.done = False

    def _all_beats(self) -> Iterator[dict[str, int]]:
        lanes = self.sizes.slots >> self.layer.dimension
        for job in self.layer.jobs:
            for row in job.rows:
                for number in range(-(-len(row.probs) // lanes)):
                    probs = row.probs[number * lanes : (number + 1) * lanes]
                    yield {
                        "beat_prob": joined(probs, PROBABILITY_BITS),
                        "beat_lanes": (1 << len(probs)) - 1,
                        "beat_number": number,
                        "beat_last": int((number + 1) * lanes >= len(row.probs)),
                        "beat_flat": int(row.flat),
                        "beat_visible": len(row.probs),
                        "beat_valid": 1,
                    }

    def _all_jobs(self) -> Iterator[dict[str, int]]:
        for i, job in enumerate(self.layer.jobs):
            fields = {
                "head": job.head,
                "kv_first": int(self.layer.is_kv_first(i)),
                "kv_last": int(self.layer.is_kv_last(i)),
                "last": int(i == len(self.layer.jobs) - 1),
                "value_base": 2 * (LANDING_BASE + job.group),
                "value_lsb_base": 2 * (LANDING_BASE + job.group) + 1,
                "value_mantissa": job.mantissa,
                "value_shift": job.shift & 127,
            }
            job_fields = dict.fromkeys(dict(self.sizes.job.fields), 0) | fields
            yield {"job_value_data": pack(self.sizes.job, job_fields), "job_value_valid": 1}

    def _offer(self, name: str, queue: deque[dict[str, int]]) -> dict[str, int]:
        if self.offered[name] is None and queue and self.rng.random() < self.pace.offer:
            self.offered[name] = queue[0]
        return self.offered[name] or {}

    def _decides(self) -> dict[str, int]:
        """Rows are decided in order, before their beats come, at times long before."""
        may = self.decided - self.begun < PENDING_ROWS
        must = bool(self.beats) and self.beats[0]["beat_number"] == 0 and self.decided == self.begun
        if not self.decisions or not may or not (must or self.rng.random() < self.pace.offer / 4):
            return {"row_flat": int(self.rng.integers(0, 2))}
        self.decided += 1
        return {"row_decided": 1, "row_flat": self.decisions.popleft()}

    def _accepts(self) -> int:
        return int(self.rng.random() < self.pace.accept)

    def _cycle(self) -> None:
        inputs = {
            **self._decides(),
            **self._offer("beat", self.beats),
            **self._offer("job", self.jobs),
            "importance_ready": self._accepts(),
            "value_request_ready": self._accepts(),
            "output_ready": self._accepts(),
            "head_ready": self._accepts(),
            "value_pending": sum((count > 0) << place for place, count in enumerate(self.pending)),
            "sparse_pending": int(self.sparse_pending > 0),
            "value_data": self.data,
        }
        out = self._step(inputs)
        for name, queue, ready in (("beat", self.beats, "beat_ready"), ("job", self.jobs, "job_value_ready")):
            if self.offered[name] is not None and out[ready]:
                self.begun += queue[0].get("beat_number") == 0
                queue.popleft()
                self.offered[name] = None
        if out["importance_valid"] and inputs["importance_ready"]:
            self._importance(out)
        self._weigh(out)
        if out["value_read_valid"]:
            self._read(out)
        if out["kept_write"]:
            key = (out["kept_which"], out["kept_row"])
            self.lists[key] = out["kept_ids"]
            self.slots[out["kept_row"]] = out["sparse_slots"]
        self._land()
        self._walk()
        self.unread = (out["unread_valid"], out["unread_buffer"], out["unread_row"])
        if out["value_request_valid"] and inputs["value_request_ready"]:
            self._request(out["value_request_data"])
        self._outputs(out, inputs)
        self.done = bool(out["rows_done"] and not out["importance_valid"])

    def _importance(self, out: dict[str, int]) -> None:
        for lane in range(self.sizes.slots):
            if out["importance_lanes"] >> lane & 1:
                slot = out["importance_slot"] + lane
                prob = nth(out["importance_prob"], PROBABILITY_BITS, lane)
                self.seen.importance[slot] = self.seen.importance.get(slot, 0) + prob

    def _request(self, data: int) -> None:
        """Accept a list: its places hold nothing until it has landed."""
        request = unpack(self.sizes.list_request, data)
        assert request["first"] == 0
        assert request["count"] % self.layer.parts == 0
        group, is_lsb = divmod(request["base"], 2)
        assert is_lsb == (request["plane"] == Plane.LSB)
        request["group"] = group - LANDING_BASE
        buffer = request["place"]
        assert buffer in (0, 1)
        if request["destination"] == Destination.SPARSE:
            assert request["source"] == Source.SPARSE
            assert not self.layer.generation
            assert not self.sparse_pending
            self.sparse_pending += 1
        else:
            assert request["destination"] == Destination.VALUE
            for segment in range(self._segments(request)):
                self.pending[buffer * self.sizes.segments + segment] += 1
        lists = self.seen.lsb_lists if is_lsb else self.seen.main_lists
        request["number"] = len(lists)
        lists.append((-1, ()))
        if not is_lsb:
            assert request["plane"] == (Plane.MSB if self.layer.progressive else Plane.WHOLE)
            self.before[buffer], self.sram[buffer], self.walked[buffer] = self.sram[buffer], {}, 0
            self.seen.requested_at.append(self.cycle)
        ready_at = self.cycle + int(self.rng.integers(*self.pace.landing_cycles))
        ready_at = max([ready_at, *(at for at, other, _ in self.landing if other["place"] == buffer)])
        for segment in range(self._segments(request)):
            self.landing.append((ready_at, request, segment))
            ready_at += int(self.rng.integers(0, self.pace.segment_cycles))

        request["walked"] = 0
        self.walking.append(request)

    def _walk(self) -> None:
        """A row of the fetcher, of each list, unless it has vectors for rows that are still to be read."""
        valid, buffer, row = self.unread
        for request in self.walking:
            ends = min(request["count"], request["walked"] + self.sizes.fetch_lanes)
            fills = request["destination"] == Destination.VALUE
            if valid and fills and request["place"] == buffer and (ends - 1) // self.sizes.slots >= row:
                continue
            request["walked"] = ends
            if fills and request["plane"] != Plane.LSB:
                self.walked[request["place"]] = ends
        self.walking = [request for request in self.walking if request["walked"] < request["count"]]

    @property
    def _per_segment(self) -> int:
        return self.sizes.slots * self.sizes.segment_rows

    def _segments(self, request: dict[str, int]) -> int:
        """Parts of a list that land one after another; a sparse one lands as a whole."""
        if request["destination"] == Destination.SPARSE:
            return 1
        return -(-request["count"] // self._per_segment)

    def _land(self) -> None:
        """Write what has landed by now; it is read in later cycles."""
        due = [item for item in self.landing if item[0] <= self.cycle and self._is_walked(item[1], item[2])]
        for item in due:
            self.landing.remove(item)
            self._write(item[1], item[2])

    def _is_walked(self, request: dict[str, int], segment: int) -> bool:
        """Whether the fetcher has been given all of a segment."""
        last = (segment + 1) * self._per_segment if self._segments(request) > 1 else request["count"]
        return request["walked"] >= min(last, request["count"])

    def _tokens(self, request: dict[str, int]) -> list[int]:
        count = request["count"] // self.layer.parts
        if request["source"] == Source.SURVIVORS:
            assert count == self.layer.keys
            return list(self.layer.survivors)
        lanes = self.sizes.top_k_lanes
        return [nth(self.lists[request["source"], i // lanes], self.sizes.id_bits, i % lanes) for i in range(count)]

    def _write(self, request: dict[str, int], segment: int) -> None:
        tokens, buffer, parts = self._tokens(request), request["place"], self.layer.parts
        is_lsb, group = request["plane"] == Plane.LSB, request["group"]
        lists = self.seen.lsb_lists if is_lsb else self.seen.main_lists
        lists[request["number"]] = (group, tuple(tokens))
        lanes, is_sparse = self.sizes.top_k_lanes, request["destination"] == Destination.SPARSE
        for i, token in enumerate(tokens):
            place = i
            if is_sparse:
                place = nth(self.slots[i // lanes], self.sizes.id_bits, i % lanes)
            for part in range(parts):
                if not is_sparse and (i * parts + part) // self._per_segment != segment:
                    continue
                row, slot = divmod(place * parts + part, self.sizes.slots)
                if is_lsb:
                    assert self.sram[buffer].get((row, slot)) == (group, token, part, False), "LSBs meet other MSBs"
                self.sram[buffer][row, slot] = (group, token, part, is_lsb or not self.layer.progressive)
        if is_sparse:
            self.sparse_pending -= 1
        else:
            self.pending[buffer * self.sizes.segments + segment] -= 1

    def _read(self, out: dict[str, int]) -> None:
        data = self.data
        vector_bits = self.sizes.native * self.sizes.width
        for slot in range(self.sizes.slots):
            if not out["value_read_lanes"] >> slot & 1:
                continue
            address = nth(out["value_read_address"], 1 + self.sizes.row_bits, slot)
            buffer, row = divmod(address, 1 << self.sizes.row_bits)
            is_old = row * self.sizes.slots + slot >= self.walked[buffer]
            old = self.before[buffer].get((row, slot)) if is_old else None
            found = old or self.sram[buffer].get((row, slot))
            assert found is not None, f"slot {slot}, row {row} of buffer {buffer} is read before it has landed"
            self.read[slot] = found
            mask = ((1 << vector_bits) - 1) << (slot * vector_bits)
            data = (data & ~mask) | (self._vector(found) << (slot * vector_bits))
        self.data = data

    def _vector(self, found: Vector) -> int:
        """What the SRAM holds: LSBs lowest, anything where they have not landed, and between them and the MSBs."""
        group, token, part, has_lsb = found
        width, elements = self.sizes.width, self.layer.elements
        whole = self.layer.operands(group, token, width, full=True)[part * elements : (part + 1) * elements]
        if self.layer.progressive:
            low = width - self.layer.msb_bits - 4
            lsbs = whole >> low & 15 if has_lsb else self.rng.integers(0, 16, elements)
            whole = (whole >> (low + 4) << (low + 4)) | (self.rng.integers(0, 1 << low, elements) << 4) | lsbs
        return joined(whole, width)

    def _weigh(self, out: dict[str, int]) -> None:
        """What prob x V takes in this cycle, beside what was read for it."""
        if not (out["see_weigh_valid"] and out["see_weigh_ready"]):
            return
        parts = self.layer.parts
        for lane in range(self.sizes.slots):
            if not out["see_weigh_lane_valid"] >> lane & 1:
                continue
            held = self.read[lane * parts : (lane + 1) * parts]
            assert [h[2] for h in held] == list(range(parts)), "parts of a value out of order"
            assert len({h[:2] for h in held}) == 1
            assert all(h[3] for h in held) or not out["see_value_full"], "LSBs are used before they have landed"
            prob = nth(out["see_weigh_prob"], PROBABILITY_BITS, lane)
            self.current.append((held[0][0], held[0][1], prob))
        self.current_cycles += 1
        if out["see_weigh_last"]:
            self.seen.weighed.append((sorted(self.current), self.current_cycles, out["see_value_full"]))
            self.seen.weighed_at.append(self.cycle)
            self.current, self.current_cycles = [], 0

    def _outputs(self, out: dict[str, int], inputs: dict[str, int]) -> None:
        width = self.sizes.width
        if out["output_valid"] and inputs["output_ready"]:
            count = out["output_count"]
            elements = [_signed(one, width) for one in split(out["output_element"], width, count)]
            self.seen.outputs.append((elements, out["output_last"], out["output_base"]))
        if out["head_valid"] and inputs["head_ready"]:
            elements = [_signed(one, width) for one in split(out["head_element"], width, self.sizes.native)]
            self.head_part += elements
            if out["head_last"]:
                scale = (out["head_index"], out["head_mantissa"], _signed(out["head_shift"], 7))
                self.seen.heads.append((self.head_part, *scale))
                self.head_part = []
