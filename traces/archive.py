"""A zip archive of plain NumPy arrays that can be read from anybody.

Every size that decides an allocation is checked before it: the number of members and the size of the directory
against the file, each member's size against `MAX_RATIO` times its compressed size, the sum of compressed sizes
against the file, and the bytes that an array header claims against the member's size. So reading allocates at most
`MAX_RATIO` times the file for the arrays. Nothing is unpickled or extracted, and array headers are matched, not
evaluated. The writer stores a member that would compress better than `MAX_RATIO`, so that what it writes can be read.
"""

import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traces.trace import TraceError

MAX_RATIO = 4
"""Uncompressed bytes of a member per compressed byte; real float16 tensors reach 1.2, float32 ones 2.5."""
MAX_MEMBERS = 512
"""Members of an archive."""
MAX_FILE_BYTES = (1 << 31) - 1
"""Bytes of an archive: what the zip format holds without its 64-bit extension."""

_END = struct.Struct("<4s4H2LH")  # signature, disk, start disk, entries here, entries, size, offset, comment length
_ENTRY_BYTES = 512  # of one directory entry: 46, the name, and room for the extra fields of common zip programs
_HEADER_BYTES = 1024  # of an array header; NumPy writes 118 for arrays like ours
_HEADER = re.compile(
    r"\{'descr': '(?P<descr>[^']{1,16})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,19}, )*(?:\d{1,19},?)?)\), \} *\n"
)
_MAGIC = b"\x93NUMPY\x01\x00"
_CHUNK_BYTES = 1 << 18
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile and zlib raise on damaged archives."""


def _shortened(error: Exception) -> str:
    # zipfile quotes names from the file, which can be 65535 bytes long.
    return ascii(str(error)[:120])[1:-1]


@dataclass(frozen=True)
class Archive:
    """An open archive whose directory has been checked; `members` maps names to directory entries."""

    members: MappingProxyType[str, zipfile.ZipInfo]
    _zip: zipfile.ZipFile

    def read_bytes(self, name: str, *, limit_bytes: int) -> bytes:
        """Content of a member of at most `limit_bytes` bytes; raises `TraceError`."""
        size = self._entry(name).file_size
        if size > limit_bytes:
            raise TraceError(f"has {size} bytes; should have {limit_bytes} at most", where=name)
        return self._content(name, b"").tobytes()

    def read_array(self, name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
        """The array in member `name`, of exactly this dtype and shape (None: any length); raises `TraceError`."""
        entry = self._entry(name)
        with self._open(name) as stream:
            head = stream.read(len(_MAGIC) + 2)
            length = int.from_bytes(head[len(_MAGIC) :], "little")
            if len(head) < len(_MAGIC) + 2 or not head.startswith(_MAGIC) or length > _HEADER_BYTES:
                raise TraceError("is not a NumPy array; should start with a version 1.0 array header", where=name)
            head += stream.read(length)
        claimed = _checked_header(head[len(_MAGIC) + 2 :], name, dtype, shape)
        claimed_bytes = dtype.itemsize
        for dimension in claimed:
            claimed_bytes *= dimension
        if claimed_bytes != entry.file_size - len(head):
            raise TraceError(
                f"claims {claimed_bytes} bytes of data in its array header, but holds {entry.file_size - len(head)}",
                where=name,
            )
        return self._content(name, head).view(dtype).reshape(claimed)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        entry = self.members.get(name)
        if entry is None:
            raise TraceError("is missing from the archive", where=name)
        return entry

    @contextmanager
    def _open(self, name: str) -> Iterator[io.BufferedIOBase]:
        try:
            with self._zip.open(self.members[name]) as stream:
                yield stream  # type: ignore[misc]  # the stub of ZipExtFile knows only its own base
        except TraceError:
            raise
        except _DAMAGE as error:
            raise TraceError(f"cannot be decompressed ({_shortened(error)}); the file is damaged", where=name) from None

    def _content(self, name: str, head: bytes) -> NDArray[np.uint8]:
        """Bytes of a member after `head`, which it must begin with."""
        content = np.empty(self.members[name].file_size - len(head), np.uint8)
        with self._open(name) as stream:
            if stream.read(len(head)) != head:
                raise TraceError("changed while it was read", where=name)
            filled = 0
            while chunk := stream.read(_CHUNK_BYTES):
                content[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
                filled += len(chunk)
        if filled != content.size:
            raise TraceError(
                f"holds {len(head) + filled} bytes, but the directory says {len(head) + content.size}", where=name
            )
        return content


def _checked_header(text: bytes, name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> tuple[int, ...]:
    wanted = f"{dtype.name} of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
    match = _HEADER.fullmatch(text.decode("latin-1"))
    if match is None:
        raise TraceError(f"has no plain array header; should be {wanted}", where=name)
    if "O" in match["descr"]:
        raise TraceError(f"holds pickled objects, which are never loaded; should be {wanted}", where=name)
    if match["descr"] != dtype.str:
        raise TraceError(f"has dtype {match['descr']!r}; should be {dtype.str!r}, {wanted}", where=name)
    if match["fortran"] == "True":
        raise TraceError("is in Fortran order; should be in C order", where=name)
    claimed = tuple(int(n) for n in match["shape"].replace(",", " ").split())
    if len(claimed) != len(shape) or any(want not in (None, n) for n, want in zip(claimed, shape, strict=True)):
        raise TraceError(f"has shape {claimed}; should be {wanted}", where=name)
    return claimed


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file to read; raises `TraceError` for anything else (opening a pipe would wait for ever)."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
    except (OSError, ValueError) as error:
        raise TraceError(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    raise TraceError("is not a regular file")


@contextmanager
def open_archive(path: str | os.PathLike[str], allowed: re.Pattern[str], known: str) -> Iterator[Archive]:
    """Open an archive whose member names match `allowed`, in words `known`; raises `TraceError` without the path."""
    with open_regular(path) as stream:
        _check_end(stream)
        size = stream.seek(0, os.SEEK_END)
        try:
            archive = zipfile.ZipFile(stream)
        except _DAMAGE as error:
            raise TraceError(f"has a damaged zip directory ({_shortened(error)})") from None
        with archive:
            yield Archive(MappingProxyType(_checked_entries(archive.infolist(), size, allowed, known)), archive)


def _check_end(stream: io.BufferedReader) -> None:
    """Check the last record of the file, which decides how much zipfile reads."""
    file_bytes = stream.seek(0, os.SEEK_END)
    if file_bytes > MAX_FILE_BYTES:
        raise TraceError(f"has {file_bytes} bytes; should have {MAX_FILE_BYTES} at most: split its sequences")
    tail_bytes = min(file_bytes, 20 + _END.size)  # 20: the locator of a 64-bit directory
    stream.seek(-tail_bytes, os.SEEK_END)
    tail = stream.read(tail_bytes)
    if len(tail) < _END.size or tail[-_END.size :][:4] != b"PK\x05\x06":
        raise TraceError("does not end with a zip directory; the file is truncated, or not a trace")
    _, disk, start, here, entries, size, offset, comment = _END.unpack(tail[-_END.size :])
    if tail[: -_END.size].startswith(b"PK\x06\x07") or disk or start or comment or here != entries:
        raise TraceError("is a zip archive of another form; should have one part, no comment and 32-bit sizes")
    if entries > MAX_MEMBERS or size > entries * _ENTRY_BYTES:
        raise TraceError(f"has a directory of {entries} members in {size} bytes; should have {MAX_MEMBERS} at most")
    if offset + size + _END.size != file_bytes:
        raise TraceError("has bytes before its first member or after its last; the file is damaged")


def _checked_entries(
    entries: Iterable[zipfile.ZipInfo], file_bytes: int, allowed: re.Pattern[str], known: str
) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.orig_filename
        if not allowed.fullmatch(name) or name != entry.filename:
            shown = ascii(name if len(name) <= 60 else name[:57] + "...")
            raise TraceError(f"unexpected member {shown}; members are {known}")
        if name in members:
            raise TraceError("is there twice; should be there once", where=name)
        if entry.flag_bits & 0x1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise TraceError("is encrypted or compressed in an uncommon way; should be stored or deflated", where=name)
        if entry.file_size > MAX_RATIO * entry.compress_size:
            raise TraceError(
                f"would grow from {entry.compress_size} to {entry.file_size} bytes, more than {MAX_RATIO} times; "
                "store such a member uncompressed",
                where=name,
            )
        members[name] = entry
    if sum(entry.compress_size for entry in members.values()) > file_bytes:
        raise TraceError("has members that overlap or reach past its end; the file is damaged")
    return members


def array_bytes(array: NDArray[Any]) -> bytes:
    """`array` in C order with a version 1.0 array header, the content of an `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def archive_bytes(members: Sequence[tuple[str, bytes]]) -> bytes:
    """A zip archive of `members` in order, the same bytes for the same members (and zlib); raises `TraceError`."""
    total_bytes = sum(len(content) for _, content in members)
    if len(members) > MAX_MEMBERS or total_bytes + len(members) * 2 * _ENTRY_BYTES > MAX_FILE_BYTES:
        raise TraceError(
            f"{len(members)} members of {total_bytes} bytes do not fit into a file of {MAX_MEMBERS} members "
            f"and {MAX_FILE_BYTES} bytes; split the sequences"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", allowZip64=False) as archive:
        for name, content in members:
            # A constant date, system and mode: the bytes depend on the content alone.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            compressed_bytes = len(zlib.compress(content, 9))
            deflate = len(content) <= MAX_RATIO * (compressed_bytes - 6) and compressed_bytes < len(content)
            method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
            archive.writestr(entry, content, compress_type=method, compresslevel=9)
    return buffer.getvalue()
