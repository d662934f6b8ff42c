"""What was seen of a layer at the ports of the value side, against the naive layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hls.datapaths.machine_sizes import MachineSizes
from models.config import AcceleratorConfig
from verification.evidence.value_side_layer import Layer


@dataclass
class Seen:
    """What came out.

    Attributes:
        importance: added up, by position.
        main_lists, lsb_lists: K/V head and tokens of every list, in the order of requests.
        weighed: of every row, what prob x V took (K/V head, token, probability), sorted; its cycles; `value_full`.
        outputs: of every row, its elements, `output_last`, `output_base`.
        heads: of every row, its elements, head, mantissa, shift.
        weighed_at: cycle of the last operands of every row.
        requested_at: cycle of every main list.
    """

    importance: dict[int, int] = field(default_factory=dict)
    main_lists: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    lsb_lists: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    weighed: list[tuple[list[tuple[int, int, int]], int, int]] = field(default_factory=list)
    outputs: list[tuple[list[int], int, int]] = field(default_factory=list)
    heads: list[tuple[list[int], int, int, int]] = field(default_factory=list)
    weighed_at: list[int] = field(default_factory=list)
    requested_at: list[int] = field(default_factory=list)


def check(config: AcceleratorConfig, layer: Layer, seen: Seen) -> None:
    """Everything that came out against the naive layer.

    Raises:
        AssertionError: for the first difference.
    """
    sizes = MachineSizes.of(config)
    assert seen.importance == layer.importance()
    assert seen.main_lists == layer.main_lists()
    assert seen.lsb_lists == layer.lsb_lists()
    rows = [(job, row) for job in layer.jobs for row in job.rows]
    assert len(seen.weighed) == len(rows)
    lanes = sizes.slots >> layer.dimension
    for i, ((job, row), (entries, cycles, full)) in enumerate(zip(rows, seen.weighed, strict=True)):
        kept = layer.kept(row)
        assert entries == sorted((job.group, layer.survivors[j], row.probs[j]) for j in kept), f"row {i}"
        assert full == layer.is_full(row), f"row {i}"
        by_lane = np.bincount([place % lanes for place in layer.places(row).values()], minlength=lanes)
        assert cycles == max(by_lane), f"row {i}: {cycles} cycles, the fullest lane has {max(by_lane)}"
    for i, (job, row) in enumerate(rows):
        out = layer.output(job, row, sizes.width).tolist()
        assert seen.outputs[i] == (out, int(i == len(rows) - 1), layer.output_base), f"row {i}"
        padded = [
            x
            for part in range(layer.parts)
            for x in [
                *out[part * layer.elements : (part + 1) * layer.elements],
                *[0] * (sizes.native - layer.elements),
            ]
        ]
        assert seen.heads[i] == (padded, job.head, job.mantissa, job.shift), f"row {i}"
