"""Where a workload's operands and lists are in DRAM (algorithm page, section 11): what a host would do.

Planes of K and V of all layers follow one another, a part a K/V head, all in units of 512 bytes; Q, outputs and lists
have one place that each layer uses again. K and V of neighbouring heads are fetched at the same time, so their planes
begin banks apart (`PLANE_BANKS`): that saves 5 to 7 % of the cycles of a dense generation step.
Heads of a plane stay packed: a gathered list then finds rows open that the head before it opened. Addresses decide
banks and channels, so a comparison with a netlist gives those of its own host instead.
"""

from collections.abc import Callable, Mapping

from hls.datapaths.descriptor import ANSWER, DESCRIPTOR, HEAD_ENTRY
from models.config import AcceleratorConfig
from models.memory.address_map import AddressMap
from models.memory.timing import Hbm2Timing
from models.transaction.workload import LayerWork, Workload

ALIGNMENT_BYTES = 512
PLANE_BANKS = {"key": 0, "key_lsb": 1, "value": 3, "value_lsb": 2}
"""Bank (of a bank group) in which a layer's plane begins."""
Placement = Mapping[str, int]
"""Addresses and strides in bytes, by the field of the descriptor; `descriptor_address` itself too."""
PlacementOf = Callable[[LayerWork], Placement]


def _up(size: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    return -(-size // alignment_bytes) * alignment_bytes


def bank_bytes(machine: AcceleratorConfig) -> tuple[int, int]:
    """Addresses that share a bank of every bank group in a row, and after which the banks come round again."""
    address_map = AddressMap.default(machine.hbm_channels, Hbm2Timing.default())
    bits = sum(address_map.bits_of(field) for field in ("channel", "pseudo_channel", "bank_group", "column"))
    return address_map.burst_bytes << bits, address_map.burst_bytes << bits + address_map.bits_of("bank")


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
    bank, row = bank_bytes(machine)
    at = _up(at, row)
    planes, each = {}, 0
    for name, bits in (("key", widest), ("key_lsb", 4), ("value", widest), ("value_lsb", 4)):
        stride = _up(-(-elements * bits // 8))
        planes[name] = (each + PLANE_BANKS[name] * bank, stride)
        each += _up(PLANE_BANKS[name] * bank + model.kv_heads * stride, row)

    def of_layer(work: LayerWork) -> Placement:
        found = dict(fixed)
        for name, (offset, stride) in planes.items():
            found[f"{name}_address"] = at + work.layer * each + offset
            found[f"{name}_stride"] = stride
        return found

    return of_layer
