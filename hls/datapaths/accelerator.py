"""The whole accelerator: all datapaths and their control, connected (architecture page).

    memory <-> memory_port <-> fetch side --> Key SRAM, Value SRAM, query lines
                 ^   ^                             |          |
                 |   write_back    row_issue --> Q x K --> softmax --> flat_decision --> row_queues
                 |   ^                             |                                        |
                 |   output_stage <-- prob x V <-- value_dispatch <-- kept_beats <-- row_values --> token_importance
                 |        '--> head_importance                           '-- top-k engines --'
                 '-- controller: descriptors, jobs, sweep of the scores, selection, answers

Every part is a module of its own; nothing but wires is added here. Parts that were written for the whole have ports
named by the signal that they carry, and are connected by name; the others are connected one by one.

Ports. Host: `start_descriptor` (address / 512) with `start_valid`, `start_ready`; `done_valid`, `done_status`
(`hls.datapaths.descriptor.LayerStatus`). Memory, a channel each: `memory_address` (in bursts), `memory_tag`,
`memory_write`, `memory_data` with `memory_valid`, `memory_ready`; `answer_tag`, `answer_data`, `answer_valid` for
reads, in any order; `write_done`, one for each write. What a verification run compares is seen at the `see_` ports.
"""

from __future__ import annotations

from collections.abc import Mapping

from hls.compose import Composer, Composition, Source, concat
from hls.datapaths import (
    control_read,
    control_write,
    controller,
    fetch_side,
    flat_decision,
    head_importance,
    head_walk,
    kept_beats,
    memory_port,
    operand_loader,
    operand_mask,
    output_stage,
    probability_value,
    query_key,
    row_issue,
    row_queues,
    row_values,
    selection,
    softmax,
    token_importance,
    top_k,
    value_dispatch,
    value_lists,
    value_sparse,
    write_back,
)
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.memory_port import MemoryPortSize
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.technology import Technology
from models.config import AcceleratorConfig

OF_THE_WHOLE = (
    *(operand_loader, row_issue, row_queues, row_values, kept_beats, value_lists, value_sparse, value_dispatch),
    *(output_stage, head_walk, control_read, control_write, memory_port, controller, selection),
)
"""Parts whose ports are signals."""
SEEN = (
    *("query_key_valid", "query_key_last", "key_full", "beat_valid", "beat_ready", "beat_prob", "beat_lanes"),
    *("beat_last", "beat_flat", "output_valid", "output_element", "output_last"),
)
"""Signals that verification looks at, as they are."""


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Composition:
    """The accelerator of `config`.

    Raises:
        HlsError: if the clock is too fast for a part, or lists of ids do not fit together (`MachineSizes.of`).
    """
    sizes, port = MachineSizes.of(config), MemoryPortSize.of(config)
    channels = config.hbm_channels
    c = Composer("accelerator")
    c.input("start_descriptor", sizes.base_bits)
    c.input("start_valid", 1)
    answers = {
        name: c.input(f"answer_{name}", channels * bits)
        for name, bits in (("tag", port.tag), ("data", BURST_BITS), ("valid", 1))
    }
    c.input("memory_ready", channels)
    c.input("write_done", channels)
    for module in OF_THE_WHOLE:
        c.part(module.__name__.rpartition(".")[2], module.build(config, technology))
    fetches = fetch_side.add(c, config, technology)
    mask = operand_mask.build(config, technology)
    key, value = (c.part(f"{name}_mask", mask)["masked"] for name in ("key", "value"))
    _rows(c, config, technology, fetches, key)
    _values(c, config, technology, fetches, value)
    _memory(c, answers, fetches)
    for name in (fetches.fetcher.name, "list_sequencer", "landing_write", "query_buffer"):
        c.by_name(name)
    for q in range(sizes.queues):
        c.by_name(f"landing_lane_{q}")
    for module in OF_THE_WHOLE:
        c.by_name(module.__name__.rpartition(".")[2])
    for name in ("start_ready", "done_valid", "done_status"):
        c.output(name, c.signal(name))
    for name in ("address", "tag", "write", "data", "valid"):
        c.output(f"memory_{name}", c.signal(f"memory_{name}"))
    for name in SEEN:
        c.output(f"see_{name}", c.signal(name))
    return c.build()


def _quantized(c: Composer) -> dict[str, Source]:
    """Inputs of an operand mask: how the layer's keys and values are quantized."""
    return {name: c.signal(f"layer_{name}") for name in ("format", "progressive")}


def _rows(
    c: Composer,
    config: AcceleratorConfig,
    technology: Technology | None,
    fetches: fetch_side.FetchSide,
    operands: Source,
) -> None:
    """Key SRAM to flat-row decision; nothing stalls there."""
    key = fetches.srams["key"]
    for port in ("valid", "lanes"):
        c.connect(key.name, f"read_{port}", c.signal(f"key_read_{port}"))
    address = c.signal("key_read_address")
    c.connect(key.name, "read_address", concat(*[address] * config.softmax_lanes))
    c.connect_all("key_mask", {"data": key["out_data"], "full": c.signal("key_full"), **_quantized(c)})
    products = c.part("query_key", query_key.build(config, technology))
    c.connect_all(
        "query_key",
        {
            "query": c.signal("query_key_query"),
            "key": operands,
            "dimension": c.signal("layer_dimension"),
            "lane_valid": c.signal("query_key_lane_valid"),
            "last": c.signal("query_key_last"),
            "in_valid": c.signal("query_key_valid"),
            "out_ready": 1,
        },
    )
    for name, wire in (("score_valid", products["out_valid"]), ("score_last", products["score_last"])):
        c.connect("row_issue", name, wire)
    probabilities = c.part("softmax", softmax.build(config, technology))
    c.connect_all(
        "softmax",
        {
            "score": products["score"],
            "lane_valid": products["score_valid"],
            "last": products["score_last"],
            "in_valid": products["out_valid"],
            "mantissa": c.signal("softmax_mantissa"),
            "exponent": c.signal("softmax_exponent"),
            "out_ready": 1,
        },
    )
    decided = c.part("flat_decision", flat_decision.build(config, technology))
    c.connect_all(
        "flat_decision",
        {
            "prob": probabilities["prob"],
            "lane_valid": probabilities["prob_valid"],
            "last": probabilities["prob_last"],
            "peak": probabilities["peak"],
            "in_valid": probabilities["out_valid"],
            "threshold": c.signal("layer_threshold"),
            "out_ready": 1,
        },
    )
    c.connect("row_queues", "decided_valid", decided["out_valid"])
    for name, source in (
        ("score", products["score"]),
        ("score_lanes", products["score_valid"]),
        ("score_last", products["score_last"]),
        ("score_valid", products["out_valid"]),
        ("prob", decided["passed_prob"]),
        ("prob_lanes", decided["passed_valid"]),
        ("prob_last", decided["passed_last"]),
        ("prob_flat", decided["flat"]),
        ("prob_valid", decided["out_valid"]),
    ):
        c.output(f"see_{name}", source)


def _values(
    c: Composer,
    config: AcceleratorConfig,
    technology: Technology | None,
    fetches: fetch_side.FetchSide,
    operands: Source,
) -> None:
    """Importance, both top-k engines, Value SRAM, prob x V, output."""
    sizes = MachineSizes.of(config)
    scores = c.part("token_importance", token_importance.build(config, technology))
    from_sweep = {name: c.signal(f"sweep_{name}") for name in ("survivor", "halve", "clear", "last", "valid")}
    c.connect_all(
        "token_importance",
        {
            "prob": c.signal("importance_prob"),
            "lane_valid": c.signal("importance_lanes"),
            "slot": c.signal("importance_slot"),
            "in_valid": c.signal("importance_valid"),
            "survivor": from_sweep["survivor"],
            "halve": from_sweep["halve"],
            "clear": from_sweep["clear"],
            "sweep_last": from_sweep["last"],
            "sweep_valid": from_sweep["valid"],
            "out_ready": c.signal("sweep_score_ready"),
        },
    )
    c.connect("row_values", "importance_ready", scores["in_ready"])
    swept = {
        "": "score",
        "_survivor": "score_survivor",
        "_row": "score_row",
        "_last": "score_last",
        "_valid": "out_valid",
    }
    c.connect_all("selection", {f"sweep_score{name}": scores[port] for name, port in swept.items()})
    c.connect("selection", "sweep_ready", scores["sweep_ready"])
    engines = {
        "a": top_k.build(config, technology, HEAD_SCORE_BITS),
        "b": top_k.build_probability(config, technology),
    }
    for name, netlist in engines.items():
        engine = c.part(f"engine_{name}", netlist)
        requests = ("value", "id", "valid", "last", "k", "in_valid")
        c.connect_all(engine.name, {port: c.signal(f"engine_{name}_{port}") for port in requests})
        c.connect(engine.name, "out_ready", c.signal(f"engine_{name}_out_ready"))
        c.connect("row_values", f"engine_{name}_in_ready", engine["in_ready"])
        for port in ("kept_value", "kept_id", "kept_count", "kept_last", "out_valid"):
            c.connect("kept_beats", f"engine_{name}_{port}", engine[port])
            if name == "a" and port in ("kept_id", "kept_count", "kept_last"):
                c.connect("selection", f"engine_a_{port}", engine[port])
            c.output(f"see_engine_{name}_{port}", engine[port])
        c.output(f"see_engine_{name}_out_ready", c.signal(f"engine_{name}_out_ready"))
    value = fetches.srams["value"]
    c.connect_all(value.name, {f"read_{p}": c.signal(f"value_read_{p}") for p in ("valid", "lanes", "address")})
    c.connect_all("value_mask", {"data": value["out_data"], "full": c.signal("value_full"), **_quantized(c)})
    weighed = c.part("probability_value", probability_value.build(config, technology))
    c.connect_all(
        "probability_value",
        {
            "prob": c.signal("weigh_prob"),
            "value": operands,
            "lane_valid": c.signal("weigh_lane_valid"),
            "dimension": c.signal("layer_dimension"),
            "last": c.signal("weigh_last"),
            "in_valid": c.signal("weigh_valid"),
            "out_ready": c.signal("weighed_ready"),
        },
    )
    c.connect("value_dispatch", "weigh_ready", weighed["in_ready"])
    elements = c.signal("layer_elements")[: sizes.native.bit_length()]
    output = {"weighed_data": weighed["out"], "weighed_valid": weighed["out_valid"], "layer_elements": elements}
    c.connect_all("output_stage", output)
    heads = c.part("head_importance", head_importance.build(config, technology))
    c.connect_all(
        "head_importance",
        {
            **{port: c.signal(f"head_{port}") for port in ("element", "mantissa", "shift", "last")},
            "head": c.signal("head_index"),
            "in_valid": c.signal("head_valid"),
            "clear_valid": c.signal("head_clear_valid"),
            "read_head": c.signal("head_read"),
        },
    )
    c.connect("output_stage", "head_ready", heads["in_ready"])
    of_heads = {"head_clear_ready": "clear_ready", "head_idle": "idle", "head_read_score": "read_score"}
    c.connect_all("selection", {name: heads[port] for name, port in of_heads.items()})
    written = c.part("write_back", write_back.build(config, technology))
    c.connect_all(
        "write_back",
        {
            **{port: c.signal(f"output_{port}") for port in ("element", "count", "last", "base")},
            "in_valid": c.signal("output_valid"),
            "write_ready": c.signal("write_ready"),
            "write_done": c.signal("write_back_done"),
        },
    )
    c.connect("output_stage", "output_ready", written["in_ready"])
    c.output("see_output_ready", written["in_ready"])
    c.connect("controller", "write_back_status", written["status"])


def _memory(c: Composer, answers: Mapping[str, Source], fetches: fetch_side.FetchSide) -> None:
    """The memory's answers, and those of the memory port to the fetcher."""
    c.connect_all("memory_port", {f"answer_{name}": source for name, source in answers.items()})
    c.connect("controller", "fetch_status", fetches.fetcher["status"])
    for name in ("tag", "data", "valid"):
        c.connect(fetches.fetcher.name, f"answer_{name}", c.signal(f"fetch_answer_{name}"))
    c.connect(fetches.fetcher.name, "request_ready", c.signal("request_ready"))
