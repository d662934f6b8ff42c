"""The value side of the accelerator as a composition of its modules, both engines, prob x V and its operand mask.

What its modules do not give each other comes in and goes out under the signals' names; `see_` ports show what prob x V
is offered.
"""

from __future__ import annotations

from hls.compose import Composer, Composition
from hls.datapaths import (
    kept_beats,
    operand_mask,
    output_stage,
    probability_value,
    row_values,
    top_k,
    value_dispatch,
    value_lists,
    value_sparse,
)
from hls.datapaths.number_formats import HEAD_SCORE_BITS
from hls.lower import Netlist
from models.config import AcceleratorConfig

MODULES = (row_values, kept_beats, value_lists, value_sparse, value_dispatch, output_stage)
SEEN = ("weigh_prob", "weigh_lane_valid", "weigh_last", "weigh_valid", "value_full")


def netlists(config: AcceleratorConfig) -> dict[str, Netlist]:
    """The parts by name."""
    parts = {module.__name__.rsplit(".", 1)[1]: module.build(config) for module in MODULES}
    return parts | {
        "engine_a": top_k.build(config, value_bits=HEAD_SCORE_BITS),
        "engine_b": top_k.build_probability(config),
        "probability_value": probability_value.build(config),
        "operand_mask": operand_mask.build(config),
    }


def compose(parts: dict[str, Netlist]) -> Composition:
    """The value side: inputs and outputs are the signals that its modules have not among themselves."""
    c = Composer("value_side")
    placed = {name: c.part(name, netlist) for name, netlist in parts.items()}
    ours = [module.__name__.rsplit(".", 1)[1] for module in MODULES]
    given = {port for name in ours for port in parts[name].outputs}
    for engine in ("engine_a", "engine_b"):
        given |= {f"{engine}_{port}" for port in parts[engine].outputs}
    given |= {"weighed_data", "weighed_valid", "weigh_ready"}
    outside = {p: b for name in ours for p, b in parts[name].inputs.items() if p not in given}
    for port, bits in sorted(outside.items()):
        c.input(port, bits)
    c.input("value_data", parts["operand_mask"].inputs["data"])
    c.input("layer_format", parts["operand_mask"].inputs["format"])
    for engine in ("engine_a", "engine_b"):
        for port in parts[engine].inputs:
            c.connect(engine, port, c.signal(f"{engine}_{port}"))
        for name in ours:
            for port in parts[name].inputs:
                if port.startswith(f"{engine}_") and port[len(engine) + 1 :] in parts[engine].outputs:
                    c.connect(name, port, placed[engine][port[len(engine) + 1 :]])
    mask, weigh = placed["operand_mask"], placed["probability_value"]
    c.connect_all(
        "operand_mask",
        {
            "data": c.signal("value_data"),
            "full": c.signal("value_full"),
            **{name: c.signal(f"layer_{name}") for name in ("format", "progressive")},
        },
    )
    c.connect_all(
        "probability_value",
        {
            "prob": c.signal("weigh_prob"),
            "lane_valid": c.signal("weigh_lane_valid"),
            "value": mask["masked"],
            "dimension": c.signal("layer_dimension"),
            "last": c.signal("weigh_last"),
            "in_valid": c.signal("weigh_valid"),
            "out_ready": c.signal("weighed_ready"),
        },
    )
    c.connect("value_dispatch", "weigh_ready", weigh["in_ready"])
    c.connect_all("output_stage", {"weighed_data": weigh["out"], "weighed_valid": weigh["out_valid"]})
    for name in ours:
        c.by_name(name)
    inner = {port for name in ours for port in parts[name].inputs} | {
        f"{engine}_{port}" for engine in ("engine_a", "engine_b") for port in parts[engine].inputs
    }
    for name in ours:
        for port in parts[name].outputs:
            if (port not in inner and port != "weighed_ready") or port in SEEN:
                c.output(f"{port}" if port not in SEEN else f"see_{port}", placed[name][port])
    c.output("see_weigh_ready", weigh["in_ready"])
    for port in ("kept_value", "kept_id", "kept_count", "kept_last", "status"):
        c.output(f"engine_a_{port}_out", placed["engine_a"][port])
    return c.build()
