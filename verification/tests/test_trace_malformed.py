"""Every kind of bad trace file gives one clear error, in bounded time and memory."""

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from traces.npz import read_trace
from traces.trace import TraceError
from verification.tests.trace_forging import (
    Build,
    array_header,
    bounded,
    contents,
    forged,
    header,
    huge_everywhere,
    manifest,
    member,
    npy,
    plain,
    poked,
    remove,
    sealed,
    two_sequences,
    valid,
    zipped,
)


def directory_patch(offset: int, new: bytes, entry: int = 1) -> Build:
    """Overwrite bytes of one entry of the central directory (offset in the record)."""

    def build() -> bytes:
        content = bytearray(valid())
        at = int.from_bytes(content[-6:-2], "little")
        for _ in range(entry):
            at += 46 + int.from_bytes(content[at + 28 : at + 30], "little")
        assert content[at : at + 4] == b"PK\x01\x02"
        content[at + offset : at + offset + len(new)] = new
        return bytes(content)

    return build


def repeated_name() -> bytes:
    members = sealed(contents(two_sequences()))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in [*members.items(), ("s0.q.npy", members["s0.q.npy"])]:
            archive.writestr(name, content)
    return buffer.getvalue()


def overlapping_members() -> bytes:
    """Every large member is listed with the stored bytes of the largest: a quoted-overlap bomb."""
    content = bytearray(plain({f"s{i}.q.npy": b"\0" * (50_000 if i == 0 else 10) for i in range(60)}))
    at = int.from_bytes(content[-6:-2], "little")
    while content[at : at + 4] == b"PK\x01\x02":
        content[at + 20 : at + 28] = struct.pack("<LL", 50_000, 50_000)
        at += 46 + int.from_bytes(content[at + 28 : at + 30], "little")
    return bytes(content)


def bomb() -> bytes:
    members = sealed(contents(two_sequences()))
    members["s0.q.npy"] = members["s0.q.npy"][:128] + bytes(64 << 20)
    return zipped(members)


def with_end(**fields: int) -> bytes:
    names = ["disk", "start", "here", "entries", "size", "offset", "comment"]
    content = valid()
    values = dict(zip(names, struct.unpack("<4H2LH", content[-18:]), strict=True)) | fields
    return content[:-18] + struct.pack("<4H2LH", *values.values())


BAD: dict[str, tuple[Build, str]] = {
    "empty": (lambda: b"", "truncated, or not a trace"),
    "not a zip": (lambda: b"PK not really" * 10, "truncated, or not a trace"),
    "first half": (lambda: valid()[: len(valid()) // 2], "truncated"),
    "last byte missing": (lambda: valid()[:-1], "truncated"),
    "bytes before": (lambda: b"#!/bin/sh\n" + valid(), "bytes before its first member"),
    "bytes cut out": (lambda: valid()[:200] + valid()[300:], "bytes before its first member"),
    "comment": (lambda: with_end(comment=3), "no comment"),
    "two parts": (lambda: with_end(disk=1), "one part"),
    "entries without end": (lambda: with_end(here=65535, entries=65535), "directory of 65535 members"),
    "long directory": (lambda: with_end(here=1, entries=1), "directory of 1 members"),
    "directory too early": (lambda: with_end(offset=10), "bytes before"),
    "64-bit directory": (
        lambda: valid()[:-22] + b"PK\x06\x07" + bytes(16) + valid()[-22:],
        "32-bit sizes",
    ),
    "bad directory entry": (directory_patch(0, b"XXXX"), "damaged zip directory"),
    "encrypted": (directory_patch(8, b"\x01"), "s0.q.npy: is encrypted"),
    "bzip2": (lambda: zipped(sealed(contents(two_sequences())), compression=zipfile.ZIP_BZIP2), "stored or deflated"),
    "size of 4 GB in the directory": (directory_patch(24, b"\xff\xff\xff\xff"), "would grow from"),
    "size one larger": (directory_patch(24, b"\x81"), "s0.q.npy: (claims|holds)"),
    "wrong CRC": (directory_patch(16, b"\0\0\0\0"), "s0.q.npy: cannot be decompressed .*CRC"),
    "other local name": (lambda: valid().replace(b"s0.q.npy", b"s0.z.npy", 1), "s0.q.npy: cannot be decompressed"),
    "long local name": (
        lambda: valid().replace(b"\x0d\0\0\0manifest.json", b"\xff\x0f\0\0manifest.json", 1),
        "manifest.json: cannot be decompressed .File name in directory",
    ),
    "zip bomb": (bomb, "s0.q.npy: would grow from .* more than 4 times"),
    "overlapping members": (overlapping_members, "members that overlap"),
    "member twice": (repeated_name, "s0.q.npy: is there twice"),
    "stranger": (member("notes.txt", lambda _: b"hello"), "unexpected member 'notes.txt'; members are manifest.json"),
    "parent folder": (member("../../evil.npy", lambda _: b"x"), "unexpected member '../../evil.npy'"),
    "absolute path": (member("/tmp/evil.npy", lambda _: b"x"), "unexpected member '/tmp/evil.npy'"),
    "zero byte in a name": (
        lambda: plain(sealed(contents(two_sequences())) | {"s0.q.npyX.txt": b"x"}).replace(b"npyX.txt", b"npy\0.txt"),
        r"unexpected member 's0.q.npy\\x00.txt'",
    ),
    "leading zero": (member("s01.q.npy", lambda _: b"x"), "s01.q.npy: unexpected member; the manifest lists 2"),
    "sequence too many": (member("s2.q.npy", lambda _: b"x"), "s2.q.npy: .*members are s0 to s1"),
    "no manifest": (lambda: plain({"s0.q.npy": b"x"}), "manifest.json: is missing"),
    "no values": (forged(lambda m: remove(m, "s1.v.npy")), "s1.v.npy: is missing"),
    "manifest too large": (manifest("made_by", value="x" * 70_000), "manifest.json: has .* 65536 at most"),
    "manifest of bytes": (member("manifest.json", lambda _: b"\xff\xfe"), "manifest.json: is not valid JSON"),
    "manifest cut": (member("manifest.json", lambda _: b'{"format": '), "manifest.json: is not valid JSON"),
    "manifest nested": (member("manifest.json", lambda _: b"[" * 60_000), "manifest.json: is not valid JSON"),
    "manifest with long number": (member("manifest.json", lambda _: b"1" * 60_000), "is not valid JSON"),
    "manifest with NaN": (manifest("model", "softmax_scale", value=float("nan")), "NaN is no number here"),
    "manifest with a key twice": (member("manifest.json", lambda _: b'{"a": 1, "a": 2}'), "has a key twice"),
    "manifest list": (member("manifest.json", lambda _: b"[1]"), '"format": "spatten-trace"'),
    "other format": (manifest("format", value="other"), '"format": "spatten-trace"'),
    "future version": (manifest("version", value=2), "version 2, newer than this program reads"),
    "far future version": (manifest("version", value=10**30), "newer than this program reads"),
    "version zero": (manifest("version", value=0), "manifest.json: version: is 0; .*nearest: 1"),
    "version text": (manifest("version", value="1"), "version: is '1'; should be an integer"),
    "unknown key": (manifest("made_bye", value=""), "unknown key 'made_bye'; did you mean 'made_by'"),
    "missing key": (forged(lambda m: remove(m["manifest.json"], "made_by")), "misses the key 'made_by'"),
    "bad checksum": (manifest("sha256", value="0" * 64), "has sha256 '000.* the content gives"),
    "checksum of another type": (manifest("sha256", value=["x"] * 9000), "the content gives"),
    "changed value": (
        lambda: plain(sealed(contents(two_sequences())) | {"s0.token_ids.npy": npy(np.arange(1, 7, dtype=np.int32))}),
        "the content gives",
    ),
    "sequences of another type": (manifest("sequences", value={}), "sequences: should be a list of 1 to 64"),
    "no sequences": (manifest("sequences", value=[]), "sequences: should be a list of 1 to 64"),
    "too many sequences": (manifest("sequences", value=[{}] * 65), "sequences: should be a list of 1 to 64"),
    "sequence of another type": (manifest("sequences", 0, value=3), r"sequences\[0\]: should be an object"),
    "same name": (manifest("sequences", 1, "name", value="first"), r"sequences\[1\]: has the name 'first'"),
    "unknown kind": (manifest("sequences", 0, "kind", value="encodre"), r"sequences\[0\].kind: is 'encodre'"),
    "kind of another type": (manifest("sequences", 0, "kind", value=[[]]), r"sequences\[0\].kind: is a list"),
    "float64 in manifest": (manifest("sequences", 0, "dtype", value="float64"), "float16 or float32"),
    "no tokens": (manifest("sequences", 0, "tokens", value=0), "tokens: is 0; .*nearest: 1"),
    "negative tokens": (manifest("sequences", 0, "tokens", value=-6), "tokens: is -6; .*nearest: 1"),
    "endless tokens": (manifest("sequences", 0, "tokens", value=10**40), "tokens: is an integer of 133 bits"),
    "tokens in all": (
        manifest("sequences", 0, "tokens", value=65530),
        "65541 tokens in all; a file holds 64 and 65536",
    ),
    "fractional tokens": (manifest("sequences", 0, "tokens", value=6.0), "tokens: is 6.0; should be an integer"),
    "true tokens": (manifest("sequences", 0, "tokens", value=True), "tokens: is True; should be an integer"),
    "prompt above length": (manifest("sequences", 0, "prompt_length", value=7), "prompt_length: is 7; .*nearest: 6"),
    "negative generated": (manifest("sequences", 1, "generated", value=-1), r"sequences\[1\].generated: is -1"),
    "counts that do not add up": (manifest("sequences", 1, "generated", value=4), "prompt_length should be 7"),
    "decoder that looks ahead": (manifest("sequences", 1, "causal", value=False), "causal: is false; a decoder"),
    "negative heads": (manifest("model", "heads", value=-4), "model.heads: is -4; .*nearest: 1"),
    "heads that do not group": (manifest("model", "kv_heads", value=3), "model.kv_heads: 3 K/V heads do not divide 4"),
    "endless dimension": (manifest("model", "head_dim", value=10**30), "model.head_dim: is an integer of 100 bits"),
    "scale zero": (manifest("model", "softmax_scale", value=0.0), "model.softmax_scale: 0.0 is not a positive"),
    "lone surrogate": (manifest("model", "licence", value="\ud800"), "model.licence: .*surrogate"),
    "10 GB in an array header": (
        member("s0.q.npy", lambda _: header(array_header("(2, 4, 6, 100000000)"), b"\0" * 999)),
        r"s0.q.npy: has shape \(2, 4, 6, 100000000\); should be float16 of shape \(2, 4, 6, 8\)",
    ),
    "1 TB in manifest and array header": (forged(huge_everywhere), "s0.q.npy: claims 1258291200000 bytes .*holds 4096"),
    "40 digits in an array header": (
        member("s0.texts.npy", lambda _: header(array_header(f"({'9' * 40},)", "'|u1'"))),
        "s0.texts.npy: has no plain array header",
    ),
    "texts of 10 GB": (
        member("s0.texts.npy", lambda _: header(array_header("(10000000000,)", "'|u1'"), b"x\xff")),
        "s0.texts.npy: claims 10000000000 bytes .*holds 2",
    ),
    "array shorter than its shape": (
        member("s0.q.npy", lambda a: npy(a)[:-2]),
        "s0.q.npy: claims 768 bytes of data in its array header, but holds 766",
    ),
    "array longer than its shape": (member("s0.q.npy", lambda a: npy(a) + b"\0\0"), "claims 768 bytes .*holds 770"),
    "wrong dtype": (member("s0.q.npy", lambda a: a.astype(np.float64)), "s0.q.npy: has dtype '<f8'; should be '<f2'"),
    "other float": (member("s0.k.npy", lambda a: a.astype(np.float32)), "s0.k.npy: has dtype '<f4'; should be '<f2'"),
    "big-endian": (member("s0.q.npy", lambda a: a.astype(">f2")), "s0.q.npy: has dtype '>f2'; should be '<f2'"),
    "integers as tensors": (member("s0.v.npy", lambda a: a.astype(np.int16)), "has dtype '<i2'; should be '<f2'"),
    "wrong shape": (member("s0.k.npy", lambda a: a[:, :1]), r"has shape \(2, 1, 6, 8\); .*\(2, 2, 6, 8\)"),
    "fewer dimensions": (member("s0.k.npy", lambda a: a[0]), r"has shape \(2, 6, 8\); .*\(2, 2, 6, 8\)"),
    "scalar": (member("s0.texts.npy", lambda _: np.array(3, np.uint8)), r"has shape \(\); .*\(any\)"),
    "Fortran order": (member("s0.q.npy", lambda a: np.asfortranarray(a)), "is in Fortran order"),
    "structured array": (
        member("s0.protected.npy", lambda _: np.zeros(1, [("a", "<i4")])),
        "s0.protected.npy: has no plain array header",
    ),
    "not an array": (member("s0.q.npy", lambda _: b"hello"), "s0.q.npy: is not a NumPy array"),
    "array version 2": (
        member("s0.q.npy", lambda a: npy(a).replace(b"NUMPY\x01", b"NUMPY\x02")),
        "s0.q.npy: is not a NumPy array",
    ),
    "code in an array header": (
        member("s0.q.npy", lambda _: header("__import__('os').system('false')")),
        "s0.q.npy: has no plain array header",
    ),
    "parentheses in an array header": (
        member("s0.q.npy", lambda _: header("(" * 1000)),
        "s0.q.npy: has no plain array header",
    ),
    "array header cut": (member("s0.q.npy", lambda _: b"\x93NUMPY\x01\x00\xff"), "s0.q.npy: is not a NumPy array"),
    "NaN": (member("s0.q.npy", poked(np.nan)), "s0.q.npy: is nan at layer 0, head 0, token 0, element 3"),
    "infinite": (member("s1.k.npy", poked(-np.inf)), "s1.k.npy: is -inf at .*should be finite"),
    "negative token id": (member("s0.token_ids.npy", poked(-3)), "s0.token_ids.npy: is -3 at token 3"),
    "text missing": (member("s0.texts.npy", lambda a: a[a != 0xFF]), "s0.texts.npy: should hold 6 texts"),
    "text without end": (member("s0.texts.npy", lambda a: np.append(a, a[:1])), "s0.texts.npy: should hold 6 texts"),
    "text that is not UTF-8": (member("s0.texts.npy", poked(0xFE)), "s0.texts.npy: is not valid UTF-8"),
    "protected id above length": (
        member("s0.protected.npy", lambda _: np.array([6], np.int32)),
        "s0.protected.npy: is 6; should be an integer from 0 to 5; nearest: 5",
    ),
    "negative protected id": (
        member("s0.protected.npy", lambda _: np.array([-1], np.int32)),
        "s0.protected.npy: is -1; .*nearest: 0",
    ),
    "more protected ids than tokens": (
        member("s0.protected.npy", lambda _: np.zeros(7, np.int32)),
        "s0.protected.npy: has 7 ids; should have 6 at most",
    ),
    "unordered protected ids": (
        member("s0.protected.npy", lambda _: np.array([2, 1], np.int32)),
        "s0.protected.npy: ids .* should rise",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_gives_one_clear_error(tmp_path, case):
    build, message = BAD[case]
    path = tmp_path / "bad.npz"
    path.write_bytes(build())
    with bounded(path), pytest.raises(TraceError, match=message) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 400
