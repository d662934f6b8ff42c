"""One reader for every kind of input, chosen by what the file holds and not by its name; and plain facts about it."""

import os
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.archive import open_regular
from traces.npz import FORMAT, VERSION, content_sha256, read_trace
from traces.trace import Trace, TraceError, TraceFile
from traces.workload import ABSENT, HEADER, RecordedWorkload, read_workload

_LOOK_BYTES = 512


def read(path: str | os.PathLike[str]) -> TraceFile | RecordedWorkload:
    """Read a trace or a recorded workload.

    Raises `TraceError`, which names the file, the place in it, what is wrong and what would be right; nothing else
    escapes, however damaged or hostile the file is.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(_LOOK_BYTES)
        if start.startswith(b"PK"):
            return read_trace(path)
        if start.startswith((b"\x93NUMPY", b"\x80")):
            raise TraceError("is a NumPy array or a pickle; should be a trace (.npz) or a recorded workload (.csv)")
        if not start or b"\0" in start:
            raise TraceError(
                f"is {'binary' if start else 'empty'}; should be a trace, a zip archive that starts with 'PK', or a "
                f"recorded workload, text that starts with {HEADER.partition(',')[0]!r}"
            )
        return read_workload(path)
    except TraceError as error:
        raise error.inside(os.fspath(path)) from None


def describe(content: TraceFile | RecordedWorkload) -> dict[str, Any]:
    """Facts about a trace file or workload for people and for JSON: str, int, float, bool, None, list and dict only."""
    return _describe_trace(content) if isinstance(content, TraceFile) else _describe_workload(content)


def _describe_trace(file: TraceFile) -> dict[str, Any]:
    return {
        "content": "open-loop trace",
        "format": f"{FORMAT} {VERSION}",
        "sha256": content_sha256(file),
        "made_by": file.made_by,
        "model": asdict(file.model),
        "sequences": [_describe_sequence(trace) for trace in file.sequences],
    }


def _describe_sequence(trace: Trace) -> dict[str, Any]:
    return {
        "name": trace.name,
        "kind": trace.kind,
        "tokens": trace.tokens,
        "prompt_length": trace.prompt_length,
        "generated": trace.generated,
        "causal": trace.causal,
        "protected": list(trace.protected),
        "dtype": trace.q.dtype.name,
        "tensor_bytes": trace.nbytes,
        "largest": {field: float(np.abs(getattr(trace, field)).max()) for field in ("q", "k", "v")},
        "text": list(trace.token_texts),
    }


def _describe_workload(w: RecordedWorkload) -> dict[str, Any]:
    heads = np.bincount(w.layer) / w.iterations
    rows_of_layer = np.bincount(w.layer)
    return {
        "content": "recorded workload",
        "configuration": w.comment,
        "rows": w.rows,
        "generated": w.iterations,
        "layers": w.layers,
        "heads": w.heads,
        "head_dim": int(w.head_dim[0]),
        "length": _range(w.length),
        "keys": _range(w.keys),
        "values": _range(w.values),
        "key_bits": _range(w.key_bits),
        "lsb_bits": _range(w.lsb_bits),
        "query_bits": _range(w.query_bits),
        "value_bits": _range(w.value_bits),
        "threshold": _range(w.threshold),
        "keep_keys": float(w.keys.sum() / w.length.sum()),
        "keep_values": float(w.values.sum() / w.length.sum()),
        "flat_rows": float(w.requant.mean()),
        "selections": int(w.selects.sum()),
        "by_layer": {
            "heads": heads.tolist(),
            "keep_keys": (np.bincount(w.layer, w.keys / w.length) / rows_of_layer).tolist(),
            "flat_rows": (np.bincount(w.layer, w.requant) / rows_of_layer).tolist(),
        },
    }


def _range(array: NDArray[Any]) -> list[Any] | None:
    """Smallest and largest of the values that are present."""
    present = array[array != ABSENT]
    return [present.min().item(), present.max().item()] if present.size else None
