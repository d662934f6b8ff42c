"""What reading a trace file may cost and touch; and that the checks of those limits can fail."""

import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from traces.archive import MAX_FILE_BYTES, MAX_RATIO
from traces.npz import read_trace, write_trace
from traces.synthetic import synthetic_trace
from traces.trace import Trace, TraceError
from verification.tests.trace_forging import (
    ALLOWED_SECONDS,
    array_header,
    bounded,
    contents,
    equal,
    forged,
    header,
    member,
    npy,
    sealed,
    two_sequences,
    zipped,
)


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_the_unchanged_forgery_is_accepted(tmp_path):
    path = tmp_path / "good.npz"
    path.write_bytes(forged(lambda _: None)())
    assert all(equal(a, b) for a, b in zip(read_trace(path).sequences, two_sequences().sequences, strict=True))


@pytest.mark.parametrize("as_member", ["s0.q.npy", "s0.protected.npy", "evil.pkl"])
def test_a_pickle_is_never_loaded(tmp_path, as_member):
    target, path = tmp_path / "touched", tmp_path / "bad.npz"
    objects = np.empty(1, object)
    objects[0] = Evil(target)
    content = npy(objects) if as_member.endswith("npy") else pickle.dumps(Evil(target))
    path.write_bytes(member(as_member, lambda _: content)())
    with pytest.raises(TraceError, match=r"pickled objects, which are never loaded|unexpected member"):
        read_trace(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Evil(target)))
    assert target.exists(), "the pickle would have had an effect"


@pytest.mark.parametrize("naive", [lambda path: np.load(path)["s0.q"], lambda path: bytearray(64 << 20)])
def test_the_memory_limit_catches_a_naive_reader(tmp_path, naive):
    path = tmp_path / "bad.npz"
    members = sealed(contents(two_sequences()))
    members["s0.q.npy"] = header(array_header(f"({32 << 20},)"), bytes(64 << 20))
    path.write_bytes(zipped(members))
    with pytest.raises(AssertionError, match="allocated"), bounded(path):
        naive(path)


def test_the_time_limit_catches_a_slow_reader(tmp_path):
    path = tmp_path / "any"
    path.write_bytes(b"")
    with pytest.raises(AssertionError, match="took"), bounded(path, limit_seconds=0.05):
        spin(0.06)


def spin(seconds: float) -> None:
    begin = time.process_time()
    while time.process_time() < begin + seconds:
        pass


def test_the_worst_file_that_is_accepted_stays_in_the_limits(tmp_path):
    """As compressible as allowed, with as many short texts as possible: the most memory for each byte of file."""
    tokens = 20_000
    base = synthetic_trace(0, tokens=tokens, layers=1, heads=1, head_dim=4)
    fields = {field: getattr(base, field) for field in base.__dataclass_fields__}
    values = np.zeros_like(base.q)
    values[..., 0] = base.q[..., 0]
    trace = Trace(**{**fields, "q": values, "k": values, "v": values, "token_texts": ("ab",) * tokens})
    path = tmp_path / "t.npz"
    write_trace(path, trace)
    ratio = max(entry.file_size / entry.compress_size for entry in zipfile.ZipFile(path).infolist())
    assert MAX_RATIO / 2 < ratio <= MAX_RATIO
    with bounded(path):
        read_trace(path)


def test_files_that_are_none(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in [
        (tmp_path, "is not a regular file"),
        (pipe, "is not a regular file"),
        (tmp_path / "absent.npz", "cannot be opened .No such file"),
        (tmp_path / ("x" * 5000), "cannot be opened .File name too long"),
        ("zero\0byte", "cannot be opened .embedded null byte"),
        ("surrogate\ud800", r"surrogate\\ud800: cannot be opened"),
    ]:
        with pytest.raises(TraceError, match=message) as caught:
            read_trace(path)
        str(caught.value).encode()


def test_a_sparse_file_beyond_the_format_is_refused_at_once(tmp_path):
    path = tmp_path / "t.npz"
    with open(path, "wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    begin = time.perf_counter()
    with pytest.raises(TraceError, match="split its sequences"):
        read_trace(path)
    assert time.perf_counter() - begin < ALLOWED_SECONDS
