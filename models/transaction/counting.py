"""What a layer asks for, counted from its `LayerWork`: bits by tensor and plane, and arithmetic (section 10).

`payload` equals the reference's count for the same survivors. Operations are two a multiplication with its addition.
"""

import numpy as np

from models.reference.payload import OUTPUT_BITS, Payload, dense_payload
from models.transaction.workload import LayerWork


def payload(work: LayerWork) -> Payload:
    """Bits that a layer reads and writes; none where survivors are selected only."""
    if work.rows == 0:
        return Payload()
    d, m, low = work.head_dim, work.msb_bits, work.lsb_bits
    groups = np.unique(work.kv_heads)
    if work.generation:
        values, flat_values = int(work.kept.sum()), int(work.kept[work.flat].sum())
    else:
        values = len(groups) * work.keys
        flat_values = sum(int(work.flat_value_slots(int(g)).sum()) for g in groups) if work.flat.any() else 0
    flat_groups = len(np.unique(work.kv_heads[work.flat.any(axis=1)]))
    rows = work.flat.size
    return Payload(
        q_bits=rows * d * work.query_bits,
        k_msb_bits=len(groups) * work.keys * d * m,
        k_lsb_bits=flat_groups * work.keys * d * low,
        v_msb_bits=values * d * m,
        v_lsb_bits=flat_values * d * low,
        out_bits=rows * d * OUTPUT_BITS,
    )


def dense(work: LayerWork, bits: int) -> Payload:
    """Bits of the same layer with everything kept and every element in `bits` bits."""
    if work.rows == 0:
        return Payload()
    rows = 1 if work.generation else work.tokens
    model = work.model
    return dense_payload(model.heads, model.kv_heads, rows, work.tokens, model.head_dim, bits, work.generation)


def performed_operations(work: LayerWork) -> int:
    """Operations on real elements: scores of what a row sees, twice if it is flat, and the values it keeps."""
    scores = int((work.visible * (1 + work.flat)).sum())
    return 2 * work.head_dim * (scores + int(work.kept.sum()))


def dense_operations(work: LayerWork) -> int:
    """Operations of the same layer with everything kept and nothing recomputed."""
    n = work.tokens if work.rows else 0
    pairs = n if work.generation else n * (n + 1) // 2 if work.causal else n * n
    return 4 * work.head_dim * work.model.heads * pairs
