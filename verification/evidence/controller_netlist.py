"""The controller, its reads, writes, head walk and selection, both importances, engine A and the write-back, as one.

Its ports are those of the memory and of the host, the job streams, and what rows would do: `prob_...` adds
probabilities, `row_...` outputs to the head importance, `out_...` outputs to memory.
"""

from collections.abc import Mapping

from hls.compose import Composer
from hls.datapaths import (
    control_read,
    control_write,
    controller,
    head_importance,
    head_walk,
    memory_port,
    selection,
    token_importance,
    top_k,
    write_back,
)
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.memory_port import MemoryPortSize
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.datapaths.watchdog import PATIENCE_CYCLES
from hls.flatten import flatten
from hls.lower import Netlist
from models.config import AcceleratorConfig

STREAMS = ("rows", "fetch", "value")
SEEN = (
    *("start_ready", "done_valid", "done_status", "layer_start", "layer_selecting", "select_request", "select_ready"),
    *("survivor_write", "survivor_row", "survivor_ids"),
    *(f"memory_{name}" for name in ("address", "tag", "write", "data", "valid")),
    *(f"job_{way}_{name}" for way in STREAMS for name in ("data", "valid")),
    *("layer_generation", "layer_causal", "layer_keys", "layer_rows", "layer_dimension", "layer_elements"),
    *("layer_format", "layer_progressive", "layer_threshold", "layer_ratio16", "layer_output_base"),
    *(f"layer_{name}_length" for name in ("msb", "lsb", "query")),
)


def build(config: AcceleratorConfig, patience_cycles: int = PATIENCE_CYCLES) -> Netlist:
    """All of it as one netlist."""
    c = Composer("controller_bench")
    sizes, port = MachineSizes.of(config), MemoryPortSize.of(config)
    inputs = {
        "start_valid": 1,
        "start_descriptor": sizes.base_bits,
        "memory_ready": config.hbm_channels,
        "answer_valid": config.hbm_channels,
        "answer_tag": config.hbm_channels * port.tag,
        "answer_data": config.hbm_channels * BURST_BITS,
        "write_done": config.hbm_channels,
        **dict.fromkeys(("row_added", "row_kept", "rows_done"), 1),
        **{f"job_{way}_ready": 1 for way in STREAMS},
    }
    for name, bits in inputs.items():
        c.input(name, bits)
    for module in (memory_port, control_read, control_write, head_walk, selection):
        c.part(module.__name__.rpartition(".")[2], module.build(config))
    c.part("controller", controller.build(config, patience_cycles=patience_cycles))
    tokens = c.part("token_importance", token_importance.build(config))
    heads = c.part("head_importance", head_importance.build(config))
    engine = c.part("engine_a", top_k.build(config, value_bits=HEAD_SCORE_BITS))
    written = c.part("write_back", write_back.build(config, patience_cycles=patience_cycles))

    def outside(part: str, prefix: str, ports: Mapping[str, int]) -> None:
        for name, bits in ports.items():
            c.connect(part, name, c.input(f"{prefix}_{name}", bits))

    outside("token_importance", "prob", {n: tokens.inputs[n] for n in ("prob", "lane_valid", "slot", "in_valid")})
    outside("head_importance", "row", {
        n: heads.inputs[n] for n in ("element", "head", "mantissa", "shift", "last", "in_valid")
    })  # fmt: skip
    outside("write_back", "out", {n: written.inputs[n] for n in ("element", "count", "last", "base", "in_valid")})
    for port_name in ("survivor", "halve", "clear", "sweep_last", "sweep_valid"):
        c.connect("token_importance", port_name, c.signal(f"sweep_{port_name.removeprefix('sweep_')}"))
    c.connect("token_importance", "out_ready", c.signal("sweep_score_ready"))
    c.connect_all("head_importance", {"clear_valid": c.signal("head_clear_valid"), "read_head": c.signal("head_read")})
    for port_name in ("value", "id", "valid", "last", "k"):
        c.connect("engine_a", port_name, c.signal(f"select_{port_name}"))
    c.connect_all("engine_a", {"in_valid": c.signal("select_request"), "out_ready": c.signal("select_result_ready")})
    c.connect_all("write_back", {"write_ready": c.signal("write_ready"), "write_done": c.signal("write_back_done")})
    c.connect_all(
        "selection",
        {
            **{f"sweep_{n}": tokens[n] for n in ("score", "score_survivor", "score_row", "score_last")},
            "sweep_score_valid": tokens["out_valid"],
            "sweep_ready": tokens["sweep_ready"],
            "head_clear_ready": heads["clear_ready"],
            "head_idle": heads["idle"],
            "head_read_score": heads["read_score"],
            "select_ready": engine["in_ready"],
            "select_result_valid": engine["out_valid"],
            **{f"engine_a_{n}": engine[n] for n in ("kept_id", "kept_count", "kept_last")},
        },
    )
    c.connect_all("controller", {"fetch_status": 0, "write_back_status": written["status"]})
    c.connect_all("memory_port", {"request_valid": 0, "request_address": 0, "request_tag": 0})
    for part in ("memory_port", "control_read", "control_write", "head_walk", "selection", "controller"):
        c.by_name(part)
    for name in SEEN:
        if name == "select_ready":
            c.output("see_select_ready", engine["in_ready"])
        else:
            c.output(f"see_{name}", c.signal(name))
    for name, source in (
        ("see_prob_ready", tokens["in_ready"]),
        ("see_row_ready", heads["in_ready"]),
        ("see_out_ready", written["in_ready"]),
    ):
        c.output(name, source)
    return flatten(c.build())
