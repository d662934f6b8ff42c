"""Where a workload's operands and lists are in DRAM (algorithm page, section 11): what a host would do.

K and V of the layers follow one another, each laid out by `models.memory.operand_layout`; Q, outputs and lists have
one place that each layer uses again. Addresses decide banks and channels, so a comparison with a netlist gives
those of its own host instead.
"""

from collections.abc import Callable, Mapping

from hls.datapaths.descriptor import ANSWER, DESCRIPTOR, HEAD_ENTRY
from models.config import AcceleratorConfig
from models.memory.operand_layout import operand_layout
from models.transaction.workload import LayerWork, Workload

ALIGNMENT_BYTES = 512
Placement = Mapping[str, int]
"""Addresses and strides in bytes, by the field of the descriptor; `descriptor_address` itself too."""
PLANES = ("", "_lsb")
PlacementOf = Callable[[LayerWork], Placement]


def _up(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def standard_placement(workload: Workload, machine: AcceleratorConfig) -> PlacementOf:
    """One place for each operand of `workload`."""
    model, tokens = workload.model, workload.longest
    fixed, at = {}, 0
    elements = tokens * model.head_dim
    for name, size in (
        ("descriptor", DESCRIPTOR.size_bytes),
        ("survivors", 2 * tokens),
        ("head_table", HEAD_ENTRY.size_bytes * model.heads),
        ("protected", 2 * tokens),
        ("token_scores", 4 * tokens),
        ("head_scores", 8 * model.heads),
        ("next_survivors", 2 * tokens),
        ("answer", ANSWER.size_bytes),
        ("output", 2 * model.heads * elements),
    ):
        fixed[f"{name}_address"] = at
        at += _up(size)
    fixed["query_address"], fixed["query_stride"] = at, _up(elements * machine.datapath_bits // 8)
    at += model.heads * fixed["query_stride"]
    widest = max(m for m, _ in workload.bits)
    widths = (widest, 4) if any(low for _, low in workload.bits) else (widest,)
    sizes = [-(-elements * bits // 8) for bits in widths]
    layouts = {prunes: operand_layout(sizes, sizes, model.kv_heads, prunes) for prunes in (False, True)}
    layer_bytes = max(_up(layout.end) for layout in layouts.values())

    def of_layer(work: LayerWork) -> Placement:
        layout, first = layouts[work.prunes_values], at + work.layer * layer_bytes
        placement = dict(fixed)
        for name, offsets, stride in (
            ("key", layout.keys, layout.key_stride),
            ("value", layout.values, layout.value_stride),
        ):
            placement |= {f"{name}{p}_address": first + offset for p, offset in zip(PLANES, offsets, strict=False)}
            placement |= {f"{name}{p}_stride": stride for p in PLANES}
        return placement

    return of_layer
