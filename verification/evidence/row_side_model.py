"""What surrounds the row side of the accelerator, written naively: fetches, Q x K, softmax and decision as delays.

`RowSide` steps `operand_loader`, `query_buffer`, `row_issue` and `row_queues` together. Every cycle it gives them what
the machine around would, and checks what they do: each key row and query line that is read holds what the row needs, in
full where it is a second pass, and the rows that leave are the right passes in the right order, whole. Contents are
tokens: a query line is a hash of (layer, row, part), the probabilities of a beat one of (layer, row, pass, beat).
"""

from __future__ import annotations

import random
from collections import deque

from hls.datapaths.machine_sizes import MachineSizes
from hls.lower import Netlist
from models.config import AcceleratorConfig
from verification.evidence.glue_replay import WatchedSimulator
from verification.evidence.row_side_cases import Buffer, LayerCase, Measured, Row, Timing, jobs_of, rows_of, token
from verification.evidence.words import pack, unpack

LINES = 64
HANG_CYCLES = 1500


class RowSide:
    """The netlist and everything around it; `run` does a layer."""

    def __init__(self, config: AcceleratorConfig, netlist: Netlist, seed: int = 0) -> None:
        self.sizes = MachineSizes.of(config)
        self.rows_deep = config.softmax_fifo_rows
        self.simulator = WatchedSimulator(netlist)
        self.random = random.Random(seed)
        self.layer_number = self.lists = 0

    # -- a layer ------------------------------------------------------------------------------------------------------

    def run(self, case: LayerCase, timing: Timing) -> Measured:
        """A layer from its start until all is quiet; AssertionError for whatever is wrong."""
        self.case, self.timing = case, timing
        self.layer_number += 1
        self.parts = self.sizes.parts[case.dimension]
        self.table = rows_of(case, self.sizes)
        self.jobs = jobs_of(case, self.layer_number)
        self.measured = Measured()
        self.cycle = 0
        self.streams = {name: deque(self.jobs) for name in ("job_rows", "job_fetch")}
        self.offered = dict.fromkeys(self.streams, False)
        self.line_there = [False] * LINES
        self.line_busy = [False] * LINES
        self.next_line = 0
        half_rows = self.sizes.rows // 2
        self.half_rows = half_rows if case.keys * self.parts <= self.sizes.slots * half_rows else 0
        self.buffers = [Buffer(pending=[0] * self.sizes.segments) for _ in range(4 if self.half_rows else 2)]
        self.loads = 0
        self.query_next = self.late_at = 0
        self.landings: list[tuple[int, int, object]] = []
        self.list_end = 0
        self.memory_free = 0
        self.read: tuple[int, int] | None = None
        self.first_next = self.replay_next = 0
        self.current: tuple[Row, int, int] | None = None
        self.passes: list[tuple[Row, int]] = []
        self.scores: deque[tuple[int, int, int]] = deque()
        self.probabilities: deque[tuple[int, dict[str, int]]] = deque()
        self.softmax_free = 0
        self.expected_scale = (0, 0)
        self.leaving = [0, 0]
        self.stalled: dict[str, int] | None = None
        self.retired = 0
        quiet = last_progress = 0
        progress: object = None
        while quiet < 20:
            self._cycle()
            now = (self.retired, len(self.measured.beats), self.first_next, self.replay_next, len(self.landings))
            if now != progress:
                progress, last_progress = now, self.cycle
            assert self.cycle - last_progress < HANG_CYCLES, f"hangs: {now}"
            quiet = quiet + 1 if self.retired == len(self.table) else 0
            self.cycle += 1
        self._at_rest()
        return self.measured

    def _chance(self, probability: float) -> bool:
        return probability >= 1 or self.random.random() < probability

    # -- a cycle ------------------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        case, timing, give = self.case, self.timing, dict.fromkeys(self.simulator.netlist.inputs, 0)
        give["layer_start"] = int(self.cycle == 0)
        give["layer_generation"], give["layer_causal"] = int(case.generation), int(case.causal)
        give["layer_progressive"], give["layer_keys"] = int(case.progressive), case.keys
        give["layer_rows"], give["layer_dimension"] = case.rows, case.dimension
        for name, jobs in self.streams.items():
            offered = bool(jobs) and self.cycle > 0 and (self.offered[name] or self._chance(timing.offer))
            self.offered[name] = offered
            give[f"{name}_valid"] = int(offered)
            give[f"{name}_data"] = pack(self.sizes.job, jobs[0]) if offered else self.random.getrandbits(60)
        self._land(give)
        give["key_pending"] = self._pending()
        for name in ("key_request", "query_request", "key_lsb_request"):
            give[f"{name}_ready"] = int(self._chance(timing.ready))
        give["beat_ready"] = int(self._chance(timing.accept))
        self._pipeline(give)
        out = self.simulator.step(give)
        for name, jobs in self.streams.items():
            if give[f"{name}_valid"] and out[f"{name}_ready"]:
                jobs.popleft()
                self.offered[name] = False
        self._issue(out)
        self._requests(give, out)
        self._leave(give, out)
        if out["key_release"]:
            self.measured.released.append(self.cycle)
        for line_number in range(LINES):
            if out["query_clear"] >> line_number & 1:
                assert self.line_there[line_number], f"line {line_number} cleared, but empty"
                self.line_there[line_number] = self.line_busy[line_number] = False

    def _pending(self) -> int:
        """A bit for each segment of both buffers; a place that is a half has the first segments of its list."""
        segments, found = self.sizes.segments, 0
        for place, held in enumerate(self.buffers):
            first = (place & 1) * segments + (place >> 1) * segments // 2
            found |= sum(int(count > 0) << first + i for i, count in enumerate(held.pending))
        return found

    def _landing_time(self, vectors: int, share: float = 1.0) -> int:
        """When a list has landed, from its acceptance: after those before it on a memory of limited rate."""
        timing = self.timing
        if not timing.cycles_per_vector:
            return self.cycle + self.random.randint(*timing.landing_cycles)
        self.memory_free = max(self.memory_free, self.cycle) + round(vectors * timing.cycles_per_vector * share)
        return self.memory_free + timing.latency_cycles

    def _fetch_keys(self, buffer: Buffer, place: int, plane: str, share: float) -> None:
        """Lands the segments of a list one after another, none before its last vector can be with the fetcher."""
        sizes, vectors = self.sizes, self.case.keys * self.parts
        per_segment = sizes.slots * sizes.segment_rows
        for segment in range(-(-vectors // per_segment)):
            these = min(per_segment, vectors - segment * per_segment)
            given_at = self.cycle + 1 + (segment * per_segment + these - 1) // sizes.fetch_lanes
            self.list_end = max(self.list_end, given_at, self._landing_time(these, share))
            self.landings.append((self.list_end, place, (plane, segment)))
            buffer.pending[segment] += 1

    def _land(self, give: dict[str, int]) -> None:
        """What is due lands; of the query lines one in a cycle."""
        due = [landing for landing in self.landings if landing[0] <= self.cycle]
        self.landings = [landing for landing in self.landings if landing[0] > self.cycle]
        lines = [landing for landing in due if isinstance(landing[2], int)]
        self.landings[:0] = lines[1:]
        give["query_write_line"], give["query_write_data"] = self.random.getrandbits(6), self.random.getrandbits(48)
        for _, place, what in (landing for landing in due if landing not in lines[1:]):
            if isinstance(what, tuple):
                plane, segment = what
                buffer = self.buffers[place]
                buffer.pending[segment] -= 1
                if plane == "msb":
                    buffer.landed += 1
                    self.measured.key_landed[buffer.kv] = self.cycle
                else:
                    buffer.lsb_landed += 1
                    self.measured.lsb_landed[buffer.kv] = self.cycle
            else:
                assert isinstance(what, int)
                give["query_write"], give["query_write_line"], give["query_write_data"] = 1, place, what
                self.line_there[place] = True

    def _requests(self, give: dict[str, int], out: dict[str, int]) -> None:
        case, n = self.case, self.parts
        taken = {
            name: unpack(self.sizes.list_request, out[f"{name}_data"])
            for name in ("key_request", "query_request", "key_lsb_request")
            if out[f"{name}_valid"] and give[f"{name}_ready"]
        }
        firsts = [job for job in self.jobs if job["kv_first"]]
        if "key_request" in taken:
            asked, kv = taken["key_request"], self.loads
            wanted = {"source": 0, "first": 0, "count": case.keys * n, "base": firsts[kv]["key_base"], "destination": 0}
            assert wanted.items() <= asked.items(), (wanted, asked)
            assert asked["plane"] == (1 if case.progressive else 0)
            place = asked["place"]
            assert place == self.lists % len(self.buffers)
            assert not any(self.buffers[place].pending)
            old = self.buffers[place].kv
            for row in self.table:
                if row.kv == old:
                    assert row.first_beats == row.beats or not case.progressive, "K still needed"
                    assert not row.flat or row.replay_beats > 0, "K still needed by a second pass"
            self.buffers[place] = Buffer(kv=kv, pending=[0] * self.sizes.segments, before=old, requested_at=self.cycle)
            self._fetch_keys(self.buffers[place], place, "msb", 1.0)
            self.measured.key_requested.append(self.cycle)
            self.loads += 1
            self.lists += 1
        if "key_lsb_request" in taken:
            asked = taken["key_lsb_request"]
            buffer = self.buffers[asked["place"]]
            wanted = {"source": 0, "first": 0, "count": case.keys * n, "plane": 2, "destination": 0}
            assert wanted.items() <= asked.items()
            assert asked["base"] == firsts[buffer.kv]["key_lsb_base"]
            assert buffer.landed, "LSBs before any MSBs"
            assert not buffer.lsb_requested, "LSBs twice"
            assert any(row.kv == buffer.kv and row.flat and row.decided for row in self.table), (
                "LSBs without a flat row"
            )
            buffer.lsb_requested = True
            self._fetch_keys(buffer, asked["place"], "lsb", 0.5)
        if "query_request" in taken:
            self._query_request(taken["query_request"])

    def _query_request(self, asked: dict[str, int]) -> None:
        case, n = self.case, self.parts
        head, row = divmod(self.query_next // n, case.rows)
        first = (case.keys - 1) * n if case.generation else row * n
        assert asked["source"] == 0
        assert asked["plane"] == 0
        assert asked["destination"] == 2
        assert asked["base"] == self.jobs[head]["query_base"]
        assert asked["first"] == first
        assert 0 < asked["count"] <= min(LINES // 2, case.rows * n - row * n)
        assert asked["count"] % n == 0
        assert asked["first"] % self.sizes.fetch_lanes == 0 or asked["count"] <= n
        assert asked["place"] == self.next_line
        for i in range(asked["count"]):
            line = (asked["place"] + i) % LINES
            assert not self.line_busy[line], f"line {line} is in use"
            self.line_busy[line] = True
            part = self.query_next % n
            content = token(self.sizes.line_bits, self.layer_number, self.query_next // n, part)
            lands_at = self._landing_time(1)
            if self.timing.late_query_cycles and part == self.query_next // LINES % n:
                self.late_at = lands_at = max(self.late_at, lands_at) + self.timing.late_query_cycles
            self.landings.append((lands_at, line, content))
            self.query_next += 1
        self.next_line = (asked["place"] + asked["count"]) % LINES

    # -- Q x K, softmax, decision -------------------------------------------------------------------------------------

    def _issue(self, out: dict[str, int]) -> None:
        """The reads of keys, and a cycle later what goes into Q x K."""
        assert out["query_key_valid"] == (self.read is not None), "beat and key row are not side by side"
        if self.read is not None:
            self._beat(out, *self.read)
        self.read = (out["key_read_address"], out["key_read_lanes"]) if out["key_read_valid"] else None

    def _beat(self, out: dict[str, int], address: int, lanes: int) -> None:
        case, n, slots = self.case, self.parts, self.sizes.slots
        if self.current is None:
            replay = bool(out["key_full"]) and case.progressive
            if replay:
                flats = [row for row in self.table if row.flat]
                row = flats[self.replay_next]
                assert row.decided, "second pass before the decision"
                self.replay_next += 1
                self.measured.replay_issued[row.index] = self.cycle
            else:
                row = self.table[self.first_next]
                self.first_next += 1
                self.measured.first_issued[row.index] = self.cycle
            self.current = (row, 2 if replay else 1, 0)
        row, number, beat = self.current
        assert out["key_full"] == (number == 2 or not case.progressive)
        number_of_buffer, key_row = divmod(address, 1 << self.sizes.row_bits)
        half, key_row = divmod(key_row, self.half_rows or 1 << self.sizes.row_bits)
        buffer = self.buffers[2 * half + number_of_buffer]
        if buffer.before == row.kv:
            # a list may land as fast as the fetcher is given it: the row must be read before it is written
            written_at = buffer.requested_at + 1 + beat * slots // self.sizes.fetch_lanes
            assert number == 2 or not case.progressive, f"row {row} reads keys of {buffer}"
            assert self.cycle - 1 < written_at, f"row {row} reads keys that may be written in cycle {written_at}"
        else:
            segment = beat // self.sizes.segment_rows
            assert buffer.kv == row.kv, f"row {row} reads keys of {buffer}"
            assert segment < buffer.landed, f"row {row} reads keys of {buffer} before they have landed"
            assert number == 1 or segment < buffer.lsb_landed, "second pass without LSBs"
        assert key_row == beat
        used = min(slots, row.visible * n - beat * slots)
        assert lanes == (1 << used) - 1
        assert out["query_key_lane_valid"] == (1 << used // n) - 1
        query = sum(
            token(self.sizes.line_bits, self.layer_number, row.index, part) << (part * self.sizes.line_bits)
            for part in range(n)
        )
        assert out["query_key_query"] & ((1 << (n * self.sizes.line_bits)) - 1) == query, f"query of row {row}"
        last = beat == row.beats - 1
        assert out["query_key_last"] == last
        self.scores.append((self.cycle + self.timing.multiply_cycles, int(last), row.head))
        if number == 1:
            row.first_beats += 1
        else:
            row.replay_beats += 1
        self.current = None if last else (row, number, beat + 1)
        if last:
            self._through_softmax(row, number)

    def _through_softmax(self, row: Row, number: int) -> None:
        timing, slots = self.timing, self.sizes.slots
        first_score = self.cycle - row.beats + 1 + timing.multiply_cycles
        start = max(first_score + 2 * (row.beats - 1) + timing.softmax_cycles, self.softmax_free)
        self.softmax_free = start + row.beats
        for beat in range(row.beats):
            used = min(slots // self.parts, row.visible - beat * (slots // self.parts))
            last = beat == row.beats - 1
            # what the decision says of a second pass, or without progressive quantization, must not matter
            matters = self.case.progressive and number == 1 and beat == 0
            says = row.flat if matters else self.random.random() < 0.5
            self.probabilities.append(
                (
                    start + beat + timing.decide_cycles,
                    {
                        "passed_prob": self._probabilities(row, number, beat),
                        "passed_valid": (1 << used) - 1,
                        "passed_last": int(last),
                        "flat": int(says),
                        "decided_valid": 1,
                        "_row": row.index,
                        "_decides": int(beat == 0 and number == 1),
                    },
                )
            )

    def _probabilities(self, row: Row, number: int, beat: int) -> int:
        return token(12 * self.sizes.slots, self.layer_number, row.index, number, beat)

    def _pipeline(self, give: dict[str, int]) -> None:
        if self.scores and self.scores[0][0] == self.cycle:
            _, last, head = self.scores.popleft()
            give["score_valid"], give["score_last"] = 1, last
            if last:
                job = self.jobs[head]
                self.expected_scale = (job["mantissa"], job["exponent"])
        elif self.random.random() < 0.5:
            give["score_last"] = 1
        if self.probabilities and self.probabilities[0][0] == self.cycle:
            _, beat = self.probabilities.popleft()
            row = self.table[beat["_row"]]
            give.update({name: value for name, value in beat.items() if not name.startswith("_")})
            if beat["_decides"]:
                row.decided = True
                self.measured.decided[row.index] = self.cycle
        elif self.random.random() < 0.5:
            give["passed_last"] = give["flat"] = 1
            give["passed_prob"] = self.random.getrandbits(12)

    # -- what leaves --------------------------------------------------------------------------------------------------

    def _leave(self, give: dict[str, int], out: dict[str, int]) -> None:
        if give["score_valid"] and give["score_last"]:
            assert (out["softmax_mantissa"], out["softmax_exponent"]) == self.expected_scale, "scale of another head"
        beat = {name: value for name, value in out.items() if name.startswith("beat_")}
        if self.stalled is not None:
            assert beat == self.stalled, "a stalled beat changed"
        self.stalled = beat if beat["beat_valid"] and not give["beat_ready"] else None
        if not beat["beat_valid"] or not give["beat_ready"]:
            return
        row = self.table[self.leaving[0]]
        number, per_beat = self.leaving[1], self.sizes.slots // self.parts
        wanted = {
            "beat_prob": self._probabilities(row, 2 if row.flat else 1, number),
            "beat_lanes": (1 << min(per_beat, row.visible - number * per_beat)) - 1,
            "beat_number": number,
            "beat_last": int(number == row.beats - 1),
            "beat_flat": int(row.flat),
            "beat_visible": row.visible,
            "beat_valid": 1,
        }
        assert beat == wanted, f"row {row}, beat {number}: {beat}, not {wanted}"
        self.measured.beats.append(self.cycle)
        self.leaving = [self.leaving[0], number + 1]
        if wanted["beat_last"]:
            self.leaving = [self.leaving[0] + 1, 0]
            self.retired += 1
            self.measured.retired.append(self.cycle)
            if self.timing.value_vectors:
                self._landing_time(self.timing.value_vectors)

    def _at_rest(self) -> None:
        """All is back at its start: no room lost, nothing left over, nothing asked for too much."""
        assert self.leaving[0] == len(self.table)
        assert not self.landings
        assert not any(self.streams.values())
        assert self.loads == len(self.case.groups)
        assert len(self.measured.released) == self.loads
        assert not any(self.line_busy)
        at_start = {
            "issue.first_room": 4 * self.rows_deep,
            "issue.replay_room": 2 * self.rows_deep,
            "issue.rows_free": 64,
            "issue.lines_free": LINES,
            "loader.query_room": LINES,
            "loader.key_places_used": 0,
            "issue.row_there": 0,
            "issue.oldest_there": 0,
            "issue.scales_count": 0,
            "queues.order_count": 0,
        }
        assert {name: self.simulator.register(name) for name in at_start} == at_start
        for name in ("beat_valid", "key_request_valid", "query_request_valid", "key_lsb_request_valid"):
            assert self.simulator.rows[-1][name] == 0, name
