"""Trace files: exact round trips, and one clear error, in bounded time and memory, for every kind of bad file."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import npz
from traces.archive import MAX_MEMBERS, archive_bytes
from traces.npz import content_sha256, read_trace, write_trace
from traces.synthetic import synthetic_trace
from traces.trace import Trace, TraceError, TraceFile
from verification.tests.trace_forging import bounded, contents, equal, sealed, two_sequences

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_written_file_reads_back_exactly(tmp_path, dtype):
    path, trace = tmp_path / "t.npz", two_sequences(dtype)
    checksum = write_trace(path, trace)
    back = read_trace(path)
    assert back.made_by == trace.made_by
    assert len(back.sequences) == 2
    assert all(equal(a, b) for a, b in zip(back.sequences, trace.sequences, strict=True))
    assert checksum == content_sha256(back) == content_sha256(trace)
    assert checksum == json.loads(sealed(contents(trace))["manifest.json"])["sha256"]


@given(
    texts=st.lists(st.text(), min_size=1, max_size=12),
    name=st.text(min_size=1),
    made_by=st.text(),
    protected=st.sets(st.integers(0, 11)),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_any_text_survives(tmp_path_factory, texts, name, made_by, protected, seed):
    base = synthetic_trace(seed, tokens=len(texts), layers=1, heads=1, head_dim=3, name=name)
    kept = tuple(sorted(i for i in protected if i < len(texts)))
    fields = {field: getattr(base, field) for field in base.__dataclass_fields__}
    trace = Trace(**{**fields, "token_texts": tuple(texts), "protected": kept})
    path = tmp_path_factory.mktemp("texts") / "t.npz"
    write_trace(path, TraceFile(sequences=(trace,), made_by=made_by))
    back = read_trace(path)
    assert equal(back.sequences[0], trace)
    assert back.made_by == made_by


def test_the_same_trace_gives_the_same_bytes_and_another_does_not(tmp_path):
    paths = [tmp_path / f"{i}.npz" for i in range(3)]
    write_trace(paths[0], two_sequences())
    write_trace(paths[1], two_sequences())
    write_trace(paths[2], two_sequences(np.float32))
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second != third
    assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in zipfile.ZipFile(paths[0]).infolist())


def test_numpy_reads_it_without_pickle(tmp_path):
    path, trace = tmp_path / "t.npz", two_sequences()
    write_trace(path, trace)
    with np.load(path, allow_pickle=False) as loaded:
        assert np.array_equal(loaded["s1.q"], trace.sequences[1].q)
        assert json.loads(loaded["manifest.json"])["format"] == "spatten-trace"


def test_a_compressible_trace_can_be_read_again(tmp_path):
    trace = synthetic_trace(0, tokens=200)
    fields = {field: getattr(trace, field) for field in trace.__dataclass_fields__}
    flat = Trace(**{**fields, "q": np.zeros_like(trace.q), "k": np.ones_like(trace.k)})
    path = tmp_path / "t.npz"
    write_trace(path, flat)
    with bounded(path):
        assert equal(read_trace(path).sequences[0], flat)


def test_real_values_are_compressed(tmp_path):
    path, trace = tmp_path / "t.npz", synthetic_trace(0, tokens=120)
    write_trace(path, trace)
    assert path.stat().st_size < 0.97 * trace.nbytes


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    write_trace(path, two_sequences())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_trace(path, two_sequences(np.float32))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["t.npz"]


def test_what_the_format_cannot_hold_is_refused_before_writing(tmp_path):
    small = synthetic_trace(0, tokens=2, layers=1, heads=1, head_dim=1)
    fields = {field: getattr(small, field) for field in small.__dataclass_fields__}
    many = tuple(Trace(**{**fields, "name": str(i)}) for i in range(npz.MAX_SEQUENCES + 1))
    with pytest.raises(TraceError, match="65 sequences"):
        write_trace(tmp_path / "t.npz", TraceFile(sequences=many))
    with pytest.raises(TraceError, match="shorten"):
        write_trace(tmp_path / "t.npz", TraceFile(sequences=many[:1], made_by="x" * npz.MAX_MANIFEST_BYTES))
    with pytest.raises(TraceError, match="do not fit"):
        archive_bytes([("m", b"")] * (MAX_MEMBERS + 1))
    assert os.listdir(tmp_path) == []
    write_trace(tmp_path / "t.npz", TraceFile(sequences=many[:-1]))
    assert len(read_trace(tmp_path / "t.npz").sequences) == npz.MAX_SEQUENCES


def test_reading_needs_neither_torch_nor_transformers():
    script = "import sys, traces.reading; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)
