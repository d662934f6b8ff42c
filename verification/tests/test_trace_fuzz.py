"""Whatever the bytes, a reader gives a valid object or one `TraceError`, in bounded time and memory."""

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces.npz import content_sha256, write_trace
from traces.reading import describe, read
from traces.trace import TraceError, TraceFile
from traces.workload import COLUMNS, RecordedWorkload, format_workload, parse_workload
from verification.tests.test_workload_csv import small_text
from verification.tests.trace_forging import bounded, contents, header, plain, sealed, two_sequences, zipped

Reader = Callable[[Path], Any]
fuzz = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "input"


def read_safely(place: Path, content: bytes, reader: Reader = read) -> Any:
    """What the reader makes of `content`, None for an error; fails on other errors and on costs."""
    place.write_bytes(content)
    refusal: TraceError | None = None
    with bounded(place):
        try:
            result = reader(place)
        except TraceError as error:
            refusal = error
    if refusal is None:
        json.dumps(describe(result), allow_nan=False)
        return result
    assert refusal.path == str(place)
    assert refusal.problem
    assert len(str(refusal).encode()) < len(str(place)) + 500
    return None


def stored() -> bytes:
    return plain(sealed(contents(two_sequences())))


def deflated() -> bytes:
    return zipped(sealed(contents(two_sequences())))


@st.composite
def mutated(draw, originals: list[bytes]) -> bytes:
    """A valid file with bytes changed, cut out, doubled or inserted, near the ends and the records as often as not."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        marks = [i for i in range(len(content) - 1) if content[i : i + 2] == b"PK"] or [0]
        at = draw(
            st.integers(0, len(content))
            | st.builds(lambda mark, offset: mark + offset, st.sampled_from(marks), st.integers(0, 60))
        )
        length = draw(st.integers(0, 40) | st.integers(0, len(content)))
        action = draw(st.sampled_from(["poke", "cut", "double", "insert", "truncate"]))
        if action == "poke":
            new = draw(
                st.sampled_from([b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f"]) | st.binary(min_size=1, max_size=8)
            )
            content[at : at + len(new)] = new
        elif action == "cut":
            del content[at : at + length]
        elif action == "double":
            content[at:at] = content[at : at + length]
        elif action == "insert":
            content[at:at] = draw(st.binary(max_size=40))
        else:
            del content[at:]
    return bytes(content)


@given(content=mutated([stored(), deflated()]))
@fuzz
def test_a_mutated_trace_is_refused_or_means_the_same(place, content):
    result = read_safely(place, content)
    assert result is None or content_sha256(result) == content_sha256(two_sequences())


@given(content=st.binary(max_size=400), start=st.sampled_from([b"", b"PK\x03\x04", b"iteration_id", b"PK\x05\x06"]))
@fuzz
def test_random_bytes_are_refused(place, content, start):
    assert read_safely(place, start + content) is None
    assert read_safely(place, start + content + b"PK\x05\x06" + bytes(18)) is None


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
HOSTILE = st.sampled_from(
    [-1, 0, 1, 2, 5, 7, 2**31, 2**63, 10**400, -(10**400), 1e308, "encoder", "decoder", "float32"]
)
VALUES = HOSTILE | st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@given(data=st.data())
@fuzz
def test_any_value_in_the_manifest_is_refused_or_consistent(place, data):
    """The checksum is right, so that only validation stands between the value and the object."""
    members = contents(two_sequences())
    manifest = copy.deepcopy(members["manifest.json"])
    node: Any = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.integers(0, 9)) == 0:
            break
        node = node[key]
    before, node[key] = node[key], data.draw(VALUES)
    result = read_safely(place, plain(sealed({**members, "manifest.json": manifest})))
    if result is not None:
        assert isinstance(result, TraceFile)
        assert isinstance(before, type(node[key])), "only text and numbers can be exchanged for others"
        write_trace(place, result)
        assert content_sha256(read_safely(place, place.read_bytes())) == content_sha256(result)


@given(
    name=st.sampled_from(["q", "k", "v", "token_ids", "texts", "protected"]),
    dtype=st.sampled_from(
        ["<f2", "<f4", "<f8", ">f2", "<i4", "|u1", "|i1", "|O", "|b1", "<c8", "|V4", "<U3", "|S9", ""]
    ),
    shape=st.lists(st.integers(0, 12) | st.integers(0, 10**22), max_size=6),
    order=st.sampled_from(["True", "False", "None"]),
    payload=st.binary(max_size=200) | st.just(b"\0" * 768),
)
@fuzz
def test_any_array_header_is_refused_or_true(place, name, dtype, shape, order, payload):
    text = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({''.join(f'{n}, ' for n in shape)}), }}"
    members = contents(two_sequences())
    members[f"s0.{name}.npy"] = header(text, payload)
    assert read_safely(place, plain(sealed(members))) is None, "the checksum does not cover this member"


@given(
    name=st.sampled_from(["q", "k", "v"]), dtype=st.sampled_from([np.float16, np.float32]), raw=st.binary(min_size=64)
)
@fuzz
def test_any_tensor_values_are_read_exactly_or_refused(place, name, dtype, raw):
    trace = two_sequences(dtype)
    members = contents(trace)
    old = members[f"s0.{name}.npy"]
    repeated = (raw * (old.nbytes // len(raw) + 1))[: old.nbytes]
    members[f"s0.{name}.npy"] = new = np.frombuffer(repeated, old.dtype).reshape(old.shape)
    result = read_safely(place, plain(sealed(members)))
    assert (result is not None) == bool(np.isfinite(new).all())
    if result is not None:
        assert np.array_equal(getattr(result.sequences[0], name), new)


@given(raw=st.binary(max_size=60), ends=st.integers(0, 8))
@fuzz
def test_any_texts_are_read_exactly_or_refused(place, raw, ends):
    members = contents(two_sequences())
    content = raw + b"\xff" * ends
    members["s0.texts.npy"] = np.frombuffer(content, np.uint8)
    result = read_safely(place, plain(sealed(members)))
    if result is not None:
        assert b"".join(text.encode() + b"\xff" for text in result.sequences[0].token_texts) == content
    elif content.count(b"\xff") == 6 and content.endswith(b"\xff"):
        with pytest.raises(UnicodeDecodeError):
            content.replace(b"\xff", b"").decode()


CELLS = st.sampled_from(
    ["", "-1", "0", "1", "5", "10", "11", "True", "False", "64.0", "nan", "1e400", "9" * 30, "-0", '"']
)


@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(["cell", "drop", "repeat", "swap"]),
            st.integers(0, 8),
            st.integers(0, 16),
            CELLS | st.text(max_size=6) | st.floats().map(str) | st.integers().map(str),
        ),
        min_size=1,
        max_size=4,
    )
)
@fuzz
def test_an_edited_workload_is_refused_or_round_trips(place, edits):
    lines = small_text().split("\n")
    for action, line, column, text in edits:
        at = line % len(lines)
        if action == "cell":
            cells = lines[at].split(",")
            cells[column % len(cells)] = text
            lines[at] = ",".join(cells)
        elif action == "drop" and len(lines) > 1:
            del lines[at]
        elif action == "repeat":
            lines.insert(at, lines[at])
        else:
            lines[at], lines[column % len(lines)] = lines[column % len(lines)], lines[at]
    check_workload(read_safely(place, "\n".join(lines).encode(errors="surrogatepass")))


@given(content=mutated([small_text().encode()]))
@fuzz
def test_a_mutated_workload_is_refused_or_round_trips(place, content):
    check_workload(read_safely(place, content))


def check_workload(result: RecordedWorkload | None) -> None:
    if result is None:
        return
    again = parse_workload(format_workload(result))
    assert again.comment == result.comment
    assert all(np.array_equal(getattr(again, c.field), getattr(result, c.field)) for c in COLUMNS)
    assert (result.keys <= result.length).all()
    assert (result.values >= 1).all()


@pytest.mark.parametrize(
    ("careless", "fault"),
    [
        pytest.param(lambda path: np.load(io.BytesIO(path.read_bytes()))["s0.q"], zipfile.BadZipFile, id="other error"),
        pytest.param(lambda path: bytes(16 << 20), AssertionError, id="allocates without looking"),
    ],
)
def test_a_careless_reader_does_not_pass(place, careless, fault):
    with pytest.raises(fault):
        read_safely(place, stored()[:-30], careless)


def test_the_mutations_reach_the_checks(place):
    """An unchanged file passes the same way, so that refusals come from the mutations."""
    for content in (stored(), deflated()):
        assert content_sha256(read_safely(place, content)) == content_sha256(two_sequences())
    check_workload(read_safely(place, small_text().encode()))
