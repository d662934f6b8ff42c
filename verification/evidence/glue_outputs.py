"""When an output of a glue part means something: only then is it compared.

Valid and ready bits, pulses and levels always do. A payload does under its valid bit, a lane of it under the lane's
bit; the layer bus from the moment at which it is first read until the layer is done. An output that is not named always
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.datapaths.landing_lane import landing_tag
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.memory_port import MemoryPortSize
from hls.datapaths.number_formats import PROBABILITY_BITS
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, conjunction


@dataclass(frozen=True)
class Lanes:
    """Which lanes mean something.

    Attributes:
        port: whose bits say so, lane 0 the lowest.
        low, bits: of the port, which ones.
        counted: they are a number, that of the lanes that mean something, from lane 0 on.
        both, unless: another port whose bits must be 1, or 0, too.
    """

    port: str
    low: int
    bits: int
    counted: bool = False
    both: str = ""
    unless: str = ""

    def any_of(self, lane: int, value: Callable[[str], Bits]) -> Bits:
        """One bit: a lane means something."""
        found = value(self.port)[self.low : self.low + self.bits]
        if self.counted:
            return ~(found < lane + 1) if (lane + 1) >> self.bits == 0 else found != found
        bit = found[lane]
        if self.both:
            bit = bit & value(self.both)[lane]
        return bit & ~value(self.unless)[lane] if self.unless else bit


@dataclass(frozen=True)
class Meaning:
    """When an output means something.

    Attributes:
        under: ports, outputs or inputs, that must be other than 0.
        lanes: which lanes mean something; the output's lowest bits are the lanes.
        lane_bits: of a lane.
        lane_count: of lanes.
        since: pulses; the output means something from one of them on ...
        until: ... up to and with this pulse.
    """

    under: tuple[str, ...] = ()
    lanes: Lanes | None = None
    lane_bits: int = 0
    lane_count: int = 0
    since: tuple[str, ...] = ()
    until: str = ""

    @property
    def ports(self) -> frozenset[str]:
        """Ports that say whether it means something; none where a pulse does."""
        lanes = () if self.lanes is None else (self.lanes.port, self.lanes.both, self.lanes.unless)
        return frozenset() if self.since else frozenset(port for port in (*self.under, *lanes) if port)

    def parts(self, bits: int, value: Callable[[str], Bits]) -> Iterator[tuple[slice, Bits | None]]:
        """Slices of the output, and one bit for each: it means something (None: it always does). Without `since`.

        `value`: of a port.
        """
        under = [value(port).any() for port in self.under]

        def all_of(conditions: Sequence[Bits]) -> Bits | None:
            return conjunction(conditions) if conditions else None

        if self.lanes is None:
            yield slice(0, bits), all_of(under)
            return
        for i in range(self.lane_count):
            yield (
                slice(i * self.lane_bits, (i + 1) * self.lane_bits),
                all_of([*under, self.lanes.any_of(i, value)]),
            )
        if self.lane_count * self.lane_bits < bits:
            yield slice(self.lane_count * self.lane_bits, bits), all_of(under)


def _under(valid: str, *ports: str) -> dict[str, Meaning]:
    return {port: Meaning((valid,)) for port in ports}


def _lanes(valid: str, lanes: str, count: int, **bits: int) -> dict[str, Meaning]:
    """Outputs with a lane for every bit of `lanes`."""
    return {name: Meaning((valid,), Lanes(lanes, 0, count), width, count) for name, width in bits.items()}


def _streams(*names: str) -> dict[str, Meaning]:
    return {f"{name}_data": Meaning((f"{name}_valid",)) for name in names}


def _by_channel(valid: str, count: int, **bits: int) -> dict[str, Meaning]:
    return {name: Meaning((), Lanes(valid, 0, count), width, count) for name, width in bits.items()}


def meanings(config: AcceleratorConfig) -> dict[str, dict[str, Meaning]]:
    """By module, for its outputs that do not always mean something."""
    s = MachineSizes.of(config)
    slots, lanes, ids, probs = s.slots, s.top_k_lanes, s.id_bits, PROBABILITY_BITS
    banks = 2 * s.slots

    def beats(name: str) -> dict[str, Meaning]:
        inside = Lanes(f"{name}_data", slots * probs, slots)
        return {f"{name}_data": Meaning((f"{name}_valid",), inside, probs, slots)}

    def engine(name: str, value_bits: int) -> dict[str, Meaning]:
        valid, mask = f"engine_{name}_in_valid", f"engine_{name}_valid"
        under = _under(valid, mask, f"engine_{name}_last", f"engine_{name}_k")
        return under | _lanes(valid, mask, lanes, **{f"engine_{name}_value": value_bits, f"engine_{name}_id": ids})

    def sram(name: str) -> dict[str, Meaning]:
        address = s.row_bits
        bits = {"address": address, "data": s.line_bits, "lsb": 1}
        return _by_channel(f"{name}_write_valid", banks, **{f"{name}_write_{n}": b for n, b in bits.items()})

    return {
        "operand_loader": _streams("key_request", "query_request"),
        "row_issue": {
            **_streams("key_lsb_request"),
            **_under("issued_valid", "issued_replay", "issued_visible", "issued_place"),
            **_under("key_read_valid", "key_read_address", "key_read_lanes"),
            **_under("query_key_valid", "query_key_last", "query_key_lane_valid", "key_full", "query_key_query"),
            **_under("score_valid", "softmax_mantissa", "softmax_exponent"),
        },
        "row_queues": {
            **_under("beat_valid", "beat_lanes", "beat_number", "beat_last", "beat_flat", "beat_visible"),
            **_lanes("beat_valid", "beat_lanes", slots, beat_prob=probs),
            **_under("row_decided", "row_flat", "row_place"),
        },
        "list_sequencer": {
            **_under(
                "fetch_valid", "fetch_base", "fetch_count", "fetch_last", "fetch_length", "fetch_stride", "fetch_turned"
            ),
            "fetch_ids": Meaning(
                ("fetch_valid",), Lanes("fetch_count", 0, s.fetch_lanes.bit_length(), counted=True), ids, s.fetch_lanes
            ),
        },
        "landing_lane": _under(
            "convert_valid",
            *(f"convert_{name}" for name in ("first", "format", "last", "offset", "plane", "word")),
        ),
        "landing_write": {
            **sram("key"),
            **sram("value"),
            **_under("query_write", "query_write_data", "query_write_line"),
        },
        "query_buffer": {},
        "operand_mask": {},
        "row_values": {
            **engine("a", 48),
            **engine("b", probs),
            **_under("importance_valid", "importance_lanes", "importance_slot"),
            **_lanes("importance_valid", "importance_lanes", slots, importance_prob=probs),
            **_streams("pruned_flat"),
            **beats("whole_beat"),
        },
        "kept_beats": {
            **_streams("kept_row"),
            "kept_list_data": Meaning(
                ("kept_list_valid",), Lanes("kept_list_data", lanes * ids, lanes.bit_length(), counted=True), ids, lanes
            ),
            **beats("sparse_beat"),
            **beats("value_beat"),
        },
        "value_lists": {
            **_under("kept_write", "kept_ids", "kept_row", "kept_which"),
            "sparse_slots": Meaning(("kept_write",), Lanes("kept_which", 1, 1, both="kept_which"), lanes * ids, 1),
            **_streams("output_job", "value_request", "value_row"),
            "sparse_clear": Meaning(("sparse_go",)),
        },
        "value_sparse": {
            **_under("missing_write", "missing_ids", "missing_row", "missing_slots"),
            **_under("missing_total_valid", "missing_total"),
        },
        "value_dispatch": {
            "value_read_lanes": Meaning(("value_read_valid",)),
            "value_read_address": Meaning(
                ("value_read_valid",), Lanes("value_read_lanes", 0, slots), s.row_bits + 1, slots
            ),
            **_under("weigh_valid", "weigh_lane_valid", "weigh_last", "value_full"),
            **_lanes("weigh_valid", "weigh_lane_valid", slots, weigh_prob=probs),
            **_under("unread_valid", "unread_buffer", "unread_row"),
        },
        "output_stage": {
            **_under("head_valid", "head_element", "head_index", "head_last", "head_mantissa", "head_shift"),
            **_under("output_valid", "output_base", "output_count", "output_last"),
            "output_element": Meaning(
                ("output_valid",), Lanes("output_count", 0, s.max_dim.bit_length(), counted=True), s.width, s.max_dim
            ),
        },
        "head_walk": _streams("job_fetch", "job_rows", "job_value"),
        "control_read": {
            **_under("control_read_valid", "control_read_address", "control_read_tag"),
            **_under("read_valid", "read_data", "read_kind", "read_last"),
        },
        "control_write": _under("control_write_valid", "control_write_address", "control_write_data"),
        "memory_port": _memory_port(MemoryPortSize.of(config)),
        "controller": _controller(),
        "selection": {
            **_under("head_word_valid", "head_word_data", "head_word_last"),
            **_under("list_row_valid", "list_row_data", "list_row_last"),
            **_under("token_row_valid", "token_row_data", "token_row_last"),
            **_under("protected_checked", "protected_beyond", "protected_unordered"),
            **_under("survivors_checked", "survivors_beyond", "survivors_unordered"),
            **_under("select_request", "select_k", "select_last", "select_valid"),
            **_lanes("select_request", "select_valid", lanes, select_id=ids, select_value=48),
            **_under("survivor_write", "survivor_ids", "survivor_row"),
            **_under("sweep_valid", "sweep_clear", "sweep_halve", "sweep_last", "sweep_survivor"),
            **{
                name: Meaning(since=("selection_done",), until="lists_begin")
                for name in ("next_head_mask", "next_survivors")
            },
        },
    }


def inputs_of(config: AcceleratorConfig) -> dict[str, dict[str, Meaning]]:
    """By module, for its inputs that mean less to it than to others."""
    s = MachineSizes.of(config)
    lanes = s.top_k_lanes
    kept = Lanes("engine_a_kept_count", 0, lanes.bit_length(), counted=True)
    return {
        "selection": {
            "engine_a_kept_id": Meaning(("select_result_valid",), kept, s.id_bits, lanes),
            **_under("select_result_valid", "engine_a_kept_count", "engine_a_kept_last"),
        }
    }


def inputs_alone(config: AcceleratorConfig) -> dict[str, Meaning]:
    """Inputs from parts that are none of the glue, and lists whose whole rows are passed on."""
    s, port = MachineSizes.of(config), MemoryPortSize.of(config)
    channels = config.hbm_channels
    engines = [f"engine_{name}" for name in "ab"]
    return {
        **{
            f"{name}_{what}": Meaning((f"{name}_out_valid",))
            for name in engines
            for what in ("kept_value", "kept_id", "kept_count", "kept_last")
        },
        **_under("weighed_valid", "weighed_data"),
        **_streams("kept_list"),
        "list_ready": Meaning(("read_valid",), Lanes("read_kind", 1, 1), 1, 1),  # kinds 2 and 3 are lists
        **_under("word_valid", "word", "offset", "word_first", "word_last"),
        **_under("decided_valid", "passed_prob", "passed_last", "decided_flat"),
        **_under("score_valid", "score_last"),
        **_under("sweep_score_valid", "sweep_score", "sweep_score_row", "sweep_score_last", "sweep_score_survivor"),
        **_by_channel("landing_valid", s.queues, landing_data=s.line_bits, landing_tag=landing_tag(s).bits),
        **_by_channel("request_valid", channels, request_address=BURST_ADDRESS_BITS, request_tag=port.fetch_tag),
        **_by_channel("write_valid", channels, write_address=BURST_ADDRESS_BITS, write_data=BURST_BITS),
        **_by_channel("answer_valid", channels, answer_tag=port.tag, answer_data=BURST_BITS),
    }


def _memory_port(port: MemoryPortSize) -> dict[str, Meaning]:
    channels = port.channels
    reads = Lanes("memory_valid", 0, channels, unless="memory_write")
    writes = Lanes("memory_valid", 0, channels, both="memory_write")
    return {
        **_by_channel("memory_valid", channels, memory_address=29, memory_write=1),
        "memory_tag": Meaning((), reads, port.tag, channels),
        "memory_data": Meaning((), writes, BURST_BITS, channels),
        **_by_channel(
            "control_answer_valid", channels, control_answer_data=BURST_BITS, control_answer_tag=port.control_tag
        ),
        **_by_channel("fetch_answer_valid", channels, fetch_answer_data=BURST_BITS, fetch_answer_tag=port.fetch_tag),
    }


def _controller() -> dict[str, Meaning]:
    bus = (
        *("causal", "clear_heads", "clear_tokens", "dimension", "elements", "format", "generation", "group", "halve"),
        *("head_mask", "keys", "last_head", "last_lane", "last_row", "lsb_length", "msb_length", "next_heads"),
        *("next_keys", "output_base", "position", "progressive", "protected_count", "query_length", "ratio16", "rows"),
        *("select_heads", "select_tokens", "threshold"),
    )
    walk = tuple(
        f"{plane}_{what}" for plane in ("key", "key_lsb", "query", "value", "value_lsb") for what in ("base", "stride")
    )
    read = Meaning(since=("lists_begin", "table_begin"), until="done_valid")
    names = (*(f"layer_{name}" for name in bus), *(f"walk_{name}" for name in walk))
    names += ("answer_base", "head_scores_base", "next_survivors_base", "token_scores_base")
    return {
        **dict.fromkeys(names, read),
        **_streams("answer_row"),
        "done_status": Meaning(("done_valid",)),
        **_under("read_request_valid", "read_request_address", "read_request_count", "read_request_kind"),
    }
