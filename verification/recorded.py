"""Payload of a recorded workload: the bits that its counts ask for, by the machine's rules (section 10).

A recorded workload has no values, so nothing is computed and nothing compared. A row that was flat asks for the LSBs of
its K and of the V it keeps (section 5); every head is taken to have K and V of its own, as the columns cannot say more.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from models.reference.payload import OUTPUT_BITS, Payload, dense_payload
from traces.workload import RecordedWorkload
from verification.runs import LayerCounts


def recorded_layers(workload: RecordedWorkload) -> tuple[LayerCounts, ...]:
    """Sum up each layer of `workload`."""
    return tuple(_layer(workload, int(layer)) for layer in np.unique(workload.layer))


def _layer(w: RecordedWorkload, layer: int) -> LayerCounts:
    here = w.layer == layer
    d, keys, values, flat = (x[here] for x in (w.head_dim, w.keys, w.values, w.requant))
    low = np.where(flat, w.lsb_bits[here], 0)
    steps, first = np.unique(w.iteration[here], return_index=True)
    heads = int(w.head.max()) + 1

    def dense(bits: int) -> Payload:
        lengths = w.length[here][first]
        return sum(
            (dense_payload(heads, heads, 1, int(n), int(d[0]), bits, generation=True) for n in lengths), Payload()
        )

    return LayerCounts(
        stage="generation",
        layer=layer,
        passes=len(steps),
        tokens=float(keys.mean()),
        heads=float(here.sum() / len(steps)),
        rows=int(here.sum()),
        flat_rows=int(flat.sum()),
        payload=Payload(
            q_bits=int((d * w.query_bits[here]).sum()),
            k_msb_bits=int((keys * d * w.key_bits[here]).sum()),
            k_lsb_bits=int((keys * d * low).sum()),
            v_msb_bits=int((values * d * w.value_bits[here]).sum()),
            v_lsb_bits=int((values * d * low).sum()),
            out_bits=int(d.sum()) * OUTPUT_BITS,
        ),
        dense12=dense(12),
        fp32=dense(32),
    )


def recorded_as_json(name: str, workload: RecordedWorkload) -> dict[str, Any]:
    """Plain values for a result file."""
    return {
        "trace": name,
        "setting": workload.comment or "as recorded",
        "layers": [asdict(layer) for layer in recorded_layers(workload)],
    }
