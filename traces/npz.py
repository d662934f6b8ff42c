"""The file format of open-loop traces: a NumPy `.npz` with a JSON manifest, version 1.

Members, in this order:

    manifest.json        format, version, sha256, made_by, model facts, and the facts of each sequence
    s<i>.q.npy           layers x heads x tokens x D, float16 or float32 (`dtype` in the manifest)
    s<i>.k.npy, .v.npy   layers x kv_heads x tokens x D
    s<i>.token_ids.npy   tokens, int32
    s<i>.texts.npy       UTF-8 of every token's text, each followed by the byte 0xFF (which UTF-8 never uses), uint8
    s<i>.protected.npy   ids that token pruning must keep, int32

`numpy.load(path)` reads it too, since nothing is pickled. `sha256` covers the manifest without that key (JSON, sorted
keys, no spaces, ASCII) and then, for each array in the order above, a line `name dtype shape` and its bytes: it does
not depend on how the archive is compressed. The reader trusts nothing: see `traces.archive` for the limits.
"""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.archive import Archive, archive_bytes, array_bytes, open_archive
from traces.atomic import write_atomically
from traces.trace import (
    ModelFacts,
    Trace,
    TraceError,
    TraceFile,
    check_count,
    check_layout,
    check_text,
    check_unique_names,
    expected_shapes,
)

FORMAT = "spatten-trace"
VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 16
MAX_SEQUENCES = 64
MAX_TOKENS = 1 << 16
"""Tokens of all sequences of a file: 64 times the keys that the machine holds."""

_MEMBERS = "manifest.json and s<i>. followed by q, k, v, token_ids, texts or protected and .npy"
_MEMBER = re.compile(r"manifest\.json|s[0-9]{1,3}\.(?:q|k|v|token_ids|texts|protected)\.npy")
_DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}
_INT32, _UINT8 = np.dtype("<i4"), np.dtype("|u1")
_TEXT_END = 0xFF
_KEYS = {"format", "version", "sha256", "made_by", "model", "sequences"}
_SEQUENCE_KEYS = {"name", "kind", "dtype", "tokens", "prompt_length", "generated", "causal"}
_MODEL_KEYS = {field.name for field in fields(ModelFacts)}

_Arrays = dict[str, NDArray[Any]]


def write_trace(path: str | os.PathLike[str], trace: TraceFile | Trace) -> str:
    """Write a trace file, whole or not at all, and return its sha256; the same trace gives the same bytes.

    Raises `TraceError` for a trace that the format cannot hold, `OSError` where the file cannot be written.
    """
    whole = trace if isinstance(trace, TraceFile) else TraceFile(sequences=(trace,))
    manifest, arrays = _manifest(whole), _arrays(whole)
    _check_limits(manifest["sequences"])
    checksum = _checksum(manifest, arrays)
    text = json.dumps({**manifest, "sha256": checksum}, indent=1, ensure_ascii=True).encode()
    if len(text) > MAX_MANIFEST_BYTES:
        raise TraceError(
            f"needs {len(text)} bytes for names and notes; shorten them to {MAX_MANIFEST_BYTES}", where=MANIFEST
        )
    members = [(MANIFEST, text), *((name, array_bytes(array)) for name, array in arrays.items())]
    write_atomically(path, archive_bytes(members))
    return checksum


def read_trace(path: str | os.PathLike[str]) -> TraceFile:
    """Read a trace file; every defect is a `TraceError` that names the file, the member and what would be right.

    Allocates at most `traces.archive.MAX_RATIO` times the file for its arrays, half of that again to check them, and
    a few MiB for the manifest and the texts.
    """
    try:
        with open_archive(path, _MEMBER, _MEMBERS) as archive:
            manifest = _parsed(archive.read_bytes(MANIFEST, limit_bytes=MAX_MANIFEST_BYTES))
            model = _checked_model(manifest)
            sequences: list[Mapping[str, Any]] = manifest["sequences"]
            _check_member_names(archive, len(sequences))
            arrays = _read_arrays(archive, model, sequences)
        stored = manifest.pop("sha256")
        computed = _checksum(manifest, arrays)
        if computed != stored:
            raise TraceError(
                f"has sha256 {str(stored)[:64]!r}, but the content gives {computed}; the file is damaged",
                where=MANIFEST,
            )
        traces = tuple(_trace(i, model, facts, arrays) for i, facts in enumerate(sequences))
        return TraceFile(sequences=traces, made_by=manifest["made_by"])
    except TraceError as error:
        raise error.inside(os.fspath(path)) from None


def content_sha256(trace: TraceFile | Trace) -> str:
    """The checksum that `write_trace` stores for this trace."""
    whole = trace if isinstance(trace, TraceFile) else TraceFile(sequences=(trace,))
    return _checksum(_manifest(whole), _arrays(whole))


def _manifest(trace: TraceFile) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": trace.made_by,
        "model": asdict(trace.model),
        "sequences": [
            {
                "name": s.name,
                "kind": s.kind,
                "dtype": s.q.dtype.name,
                "tokens": s.tokens,
                "prompt_length": s.prompt_length,
                "generated": s.generated,
                "causal": s.causal,
            }
            for s in trace.sequences
        ],
    }


def _arrays(trace: TraceFile) -> _Arrays:
    arrays: _Arrays = {}
    for i, s in enumerate(trace.sequences):
        texts = b"".join(text.encode() + bytes([_TEXT_END]) for text in s.token_texts)
        arrays[f"s{i}.q.npy"] = s.q
        arrays[f"s{i}.k.npy"] = s.k
        arrays[f"s{i}.v.npy"] = s.v
        arrays[f"s{i}.token_ids.npy"] = s.token_ids
        arrays[f"s{i}.texts.npy"] = np.frombuffer(texts, _UINT8)
        arrays[f"s{i}.protected.npy"] = np.array(s.protected, _INT32)
    return arrays


def _checksum(manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())
    for name, array in arrays.items():
        digest.update(f"\n{name} {array.dtype.str} {'x'.join(map(str, array.shape))}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _parsed(content: bytes) -> dict[str, Any]:
    """The manifest with the right keys at the top and in `model`, and right facts of every sequence."""
    try:
        manifest = json.loads(content.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TraceError(f"is not valid JSON ({reason[:200]})", where=MANIFEST) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TraceError(f'should be an object with "format": "{FORMAT}"', where=MANIFEST)
    version = manifest.get("version")
    if isinstance(version, int) and version > VERSION:
        shown = version if version < 10**9 else "far above"
        raise TraceError(f"has version {shown}, newer than this program reads ({VERSION}); update it", where=MANIFEST)
    try:
        check_count(version, "version", least=1, most=VERSION)
        _check_keys(manifest, _KEYS, "")
        check_text(manifest["made_by"], "made_by")
        sequences = manifest["sequences"]
        if not isinstance(sequences, list) or not 1 <= len(sequences) <= MAX_SEQUENCES:
            raise TraceError(f"should be a list of 1 to {MAX_SEQUENCES} sequences", where="sequences")
        for i, facts in enumerate(sequences):
            _check_keys(facts, _SEQUENCE_KEYS, f"sequences[{i}]")
            check_text(facts["name"], f"sequences[{i}].name")
            if facts["dtype"] not in ("float16", "float32"):
                raise TraceError("should be float16 or float32", where=f"sequences[{i}].dtype")
            check_count(facts["tokens"], f"sequences[{i}].tokens", least=1, most=MAX_TOKENS)
        _check_limits(sequences)
    except TraceError as error:
        raise _in_manifest(error) from None
    return manifest


def _checked_model(manifest: Mapping[str, Any]) -> ModelFacts:
    try:
        _check_keys(manifest["model"], _MODEL_KEYS, "model")
        model = ModelFacts(**manifest["model"])
        check_unique_names([facts["name"] for facts in manifest["sequences"]])
    except TraceError as error:
        raise _in_manifest(error) from None
    for i, facts in enumerate(manifest["sequences"]):
        layout = {key: facts[key] for key in _SEQUENCE_KEYS - {"name", "dtype"}}
        try:
            check_layout(model, **layout, protected=())
        except TraceError as error:
            raise _in_manifest(error, f"sequences[{i}].") from None
    return model


def _in_manifest(error: TraceError, prefix: str = "") -> TraceError:
    return TraceError(error.problem, where=": ".join(filter(None, (MANIFEST, prefix + error.where))))


def _check_limits(sequences: Sequence[Mapping[str, Any]]) -> None:
    tokens = sum(facts["tokens"] for facts in sequences)
    if len(sequences) > MAX_SEQUENCES or tokens > MAX_TOKENS:
        raise TraceError(
            f"{len(sequences)} sequences of {tokens} tokens in all; a file holds {MAX_SEQUENCES} and {MAX_TOKENS}: "
            "split it",
            where="sequences",
        )


def _check_keys(value: object, keys: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise TraceError(f"should be an object with the keys {', '.join(sorted(keys))}", where=where)
    for key in value:
        if key not in keys:
            near = difflib.get_close_matches(key[:40], sorted(keys), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(keys))}"
            raise TraceError(f"unknown key {key[:40]!a}{hint}", where=where)
    if missing := sorted(keys - value.keys()):
        raise TraceError(f"misses the key {missing[0]!r}", where=where)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has a key twice")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number here")


def _check_member_names(archive: Archive, sequences: int) -> None:
    for name in archive.members:
        if name == MANIFEST:
            continue
        index = name[1 : name.index(".")]
        if index != str(int(index)) or int(index) >= sequences:
            raise TraceError(
                f"unexpected member; the manifest lists {sequences} sequences, so members are s0 to s{sequences - 1}",
                where=name,
            )


def _read_arrays(archive: Archive, model: ModelFacts, sequences: Sequence[Mapping[str, Any]]) -> _Arrays:
    arrays: _Arrays = {}
    for i, facts in enumerate(sequences):
        shapes: dict[str, tuple[int | None, ...]] = {**expected_shapes(model, facts["tokens"])}
        shapes |= {"texts": (None,), "protected": (None,)}
        dtypes = dict.fromkeys(shapes, _DTYPES[facts["dtype"]])
        dtypes |= {"token_ids": _INT32, "texts": _UINT8, "protected": _INT32}
        for field, shape in shapes.items():
            name = f"s{i}.{field}.npy"
            arrays[name] = archive.read_array(name, dtypes[field], shape)
    return arrays


def _trace(index: int, model: ModelFacts, facts: Mapping[str, Any], arrays: _Arrays) -> Trace:
    tokens, protected = facts["tokens"], arrays[f"s{index}.protected.npy"]
    try:
        if protected.size > tokens:
            raise TraceError(f"has {protected.size} ids; should have {tokens} at most", where="protected")
        return Trace(
            name=facts["name"],
            kind=facts["kind"],
            model=model,
            q=arrays[f"s{index}.q.npy"],
            k=arrays[f"s{index}.k.npy"],
            v=arrays[f"s{index}.v.npy"],
            token_ids=arrays[f"s{index}.token_ids.npy"],
            token_texts=_texts(arrays[f"s{index}.texts.npy"], tokens),
            prompt_length=facts["prompt_length"],
            generated=facts["generated"],
            causal=facts["causal"],
            protected=tuple(int(i) for i in protected),
        )
    except TraceError as error:
        field = error.where.partition("[")[0].replace("token_texts", "texts")
        member = f"s{index}.{field}.npy"
        if member in arrays:
            raise TraceError(error.problem, where=member) from None
        raise _in_manifest(error, f"sequences[{index}].") from None


def _texts(array: NDArray[np.uint8], tokens: int) -> tuple[str, ...]:
    ends = np.flatnonzero(array == _TEXT_END) if np.count_nonzero(array == _TEXT_END) == tokens else None
    if ends is None or array.size != int(ends[-1]) + 1:
        raise TraceError(f"should hold {tokens} texts, each followed by the byte 0xFF", where="texts")
    content = array.tobytes()
    starts = (0, *(int(end) + 1 for end in ends[:-1]))
    try:
        return tuple(content[start:end].decode() for start, end in zip(starts, ends, strict=True))
    except UnicodeDecodeError as error:
        raise TraceError(f"is not valid UTF-8 ({error.reason})", where="texts") from None
