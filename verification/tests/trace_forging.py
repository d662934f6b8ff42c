"""Trace files made by hand: the documented format a second time, forged in any detail; and the limits on reading."""

import hashlib
import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.synthetic import synthetic_trace
from traces.trace import Trace, TraceFile

Members = dict[str, Any]
Build = Callable[[], bytes]
ALLOWED_MULTIPLE = 8
ALLOWED_BYTES = 4 << 20
ALLOWED_SECONDS = 1.0


@contextmanager
def bounded(path: Path, limit_seconds: float = ALLOWED_SECONDS) -> Iterator[None]:
    """Fail unless the block takes under `limit_seconds` of processor time and allocates a small multiple of the file.

    Processor time, because the machine may be busy with other tests.
    """
    tracemalloc.start()
    begin = time.process_time()
    try:
        yield
        seconds = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    limit = ALLOWED_MULTIPLE * path.stat().st_size + ALLOWED_BYTES
    assert peak <= limit, f"allocated {peak} bytes for a file of {path.stat().st_size}"
    assert seconds < limit_seconds, f"took {seconds} s"


def two_sequences(dtype: Any = np.float16) -> TraceFile:
    common: dict[str, Any] = {"layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "dtype": dtype}
    return TraceFile(
        sequences=(
            synthetic_trace(1, tokens=6, name="first", **common),
            synthetic_trace(1, tokens=11, kind="decoder", generated=3, name="second", **common),
        ),
        made_by="a test",
    )


def contents(trace: TraceFile) -> Members:
    """Members of a trace file, the manifest as an object: the documented format, written down a second time."""
    members: Members = {
        "manifest.json": {
            "format": "spatten-trace",
            "version": 1,
            "made_by": trace.made_by,
            "model": {name: getattr(trace.model, name) for name in trace.model.__dataclass_fields__},
            "sequences": [
                {
                    "name": s.name,
                    "kind": s.kind,
                    "dtype": str(s.q.dtype),
                    "tokens": s.tokens,
                    "prompt_length": s.prompt_length,
                    "generated": s.generated,
                    "causal": s.causal,
                }
                for s in trace.sequences
            ],
        }
    }
    for i, s in enumerate(trace.sequences):
        for field in ("q", "k", "v", "token_ids"):
            members[f"s{i}.{field}.npy"] = getattr(s, field)
        members[f"s{i}.texts.npy"] = np.frombuffer(b"".join(t.encode() + b"\xff" for t in s.token_texts), np.uint8)
        members[f"s{i}.protected.npy"] = np.array(s.protected, np.int32)
    return members


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def sealed(members: dict[str, Any]) -> dict[str, bytes]:
    """Members as bytes, with the right checksum wherever one can be computed."""
    manifest = members["manifest.json"]
    if isinstance(manifest, dict) and "sha256" not in manifest:
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode())
        for name, array in members.items():
            if isinstance(array, np.ndarray):
                digest.update(f"\n{name} {array.dtype.str} {'x'.join(str(n) for n in array.shape)}\n".encode())
                digest.update(array.tobytes())
        manifest = {**manifest, "sha256": digest.hexdigest()}
    parts = {**members, "manifest.json": manifest}
    return {
        name: npy(part)
        if isinstance(part, np.ndarray)
        else part
        if isinstance(part, bytes)
        else json.dumps(part).encode()
        for name, part in parts.items()
    }


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **{"compression": zipfile.ZIP_DEFLATED, **options}) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def plain(members: dict[str, bytes]) -> bytes:
    return zipped(members, compression=zipfile.ZIP_STORED)


def valid() -> bytes:
    return plain(sealed(contents(two_sequences())))


def equal(left: Trace, right: Trace) -> bool:
    facts = ("name", "kind", "model", "token_texts", "prompt_length", "generated", "causal", "protected")
    arrays = ("q", "k", "v", "token_ids")
    return all(getattr(left, f) == getattr(right, f) for f in facts) and all(
        getattr(left, a).dtype == getattr(right, a).dtype and np.array_equal(getattr(left, a), getattr(right, a))
        for a in arrays
    )


def forged(edit: Callable[[Members], object]) -> Build:
    """A file with consistent checksum after `edit` changed its members."""

    def build() -> bytes:
        members = contents(two_sequences())
        edit(members)
        return plain(sealed(members))

    return build


def manifest(*path: str | int, value: object) -> Build:
    def edit(members: Members) -> None:
        node: Any = members["manifest.json"]
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return forged(edit)


def member(name: str, change: Callable[[Any], object]) -> Build:
    def edit(members: Members) -> None:
        members[name] = change(members.get(name))

    return forged(edit)


def poked(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        result = np.array(array)
        result.flat[3] = value
        return result

    return change


def header(text: str, payload: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    line = text.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(line)) + line + payload


def array_header(shape: str, descr: str = "'<f2'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def remove(members: Members, name: str) -> None:
    del members[name]


def huge_everywhere(members: Members) -> None:
    sequence = members["manifest.json"]["sequences"][0]
    sequence["tokens"] = sequence["prompt_length"] = 60000
    members["manifest.json"]["model"].update(heads=4096, kv_heads=4096, head_dim=64, layers=40)
    members["s0.q.npy"] = header(array_header("(40, 4096, 60000, 64)"), b"\0" * 4096)
