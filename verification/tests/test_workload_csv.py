"""Recorded workloads: byte-exact round trips, and errors that name line and column."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces.npz import write_trace
from traces.reading import describe, read
from traces.synthetic import synthetic_trace
from traces.trace import TraceError, TraceFile
from traces.workload import (
    ABSENT,
    COLUMNS,
    HEADER,
    RecordedWorkload,
    format_workload,
    parse_workload,
    read_workload,
    write_workload,
)
from verification.tests.trace_forging import bounded, two_sequences

RELEASED = Path(__file__).resolve().parents[3] / "shared" / "workloads" / "gpt2-small-wikitext2.csv"
COMMENT = "configs/gpt2/example+pstart1.yml"


def small_text() -> str:
    """Two tokens, two layers; head 1 is pruned in layer 1; formatted as the released files are."""
    rows = [
        "0,0,0,64.0,10,10,6,16,0.05,True,4,4,6,True,False,False,-1",
        "0,0,1,64.0,10,10,6,16,0.05,False,4,4,6,True,False,True,5",
        "0,1,0,64.0,10,5,6,16,0.05,False,4,2,6,True,False,False,-1",
        "0,1,2,64.0,10,5,-1,-1,-1,False,-1,5,-1,False,True,False,-1",
        "1,0,0,64.0,11,11,12,16,-1,False,-1,4,8,True,False,False,-1",
        "1,1,1,64.0,11,11,12,16,1e-05,False,4,4,8,True,False,False,-1",
    ]
    return "\n".join([HEADER, *rows, COMMENT + "," * 16, ""])


def edited(line: int, column: str, value: str) -> bytes:
    """The small workload with one cell replaced; line 1 is the header."""
    lines = small_text().split("\n")
    cells = lines[line - 1].split(",")
    cells[[c.name for c in COLUMNS].index(column)] = value
    lines[line - 1] = ",".join(cells)
    return "\n".join(lines).encode()


def replaced(workload: RecordedWorkload, **fields: Any) -> RecordedWorkload:
    return dataclasses.replace(workload, **fields)


def test_the_released_file_round_trips_to_the_byte(tmp_path):
    if not RELEASED.exists():
        pytest.skip("the released workload is not beside this checkout")
    workload = read_workload(RELEASED)
    assert (workload.rows, workload.iterations, workload.layers, workload.heads) == (4608, 32, 12, 12)
    assert workload.keys.sum() / workload.length.sum() == pytest.approx(0.276, abs=1e-3)
    assert int(workload.requant.sum()) == 323
    write_workload(tmp_path / "copy.csv", workload)
    assert (tmp_path / "copy.csv").read_bytes() == RELEASED.read_bytes()
    with bounded(RELEASED):
        read_workload(RELEASED)


def test_the_columns_arrive_where_they_belong():
    w = parse_workload(small_text().encode())
    assert (w.rows, w.iterations, w.layers, w.heads, w.comment) == (6, 2, 2, 3, COMMENT)
    assert w.head.tolist() == [0, 1, 0, 2, 0, 1]
    assert w.head_dim.tolist() == [64] * 6
    assert w.length.tolist() == [10, 10, 10, 10, 11, 11]
    assert w.keys.tolist() == [10, 10, 5, 5, 11, 11]
    assert w.key_bits.tolist() == [6, 6, 6, ABSENT, 12, 12]
    assert w.query_bits.tolist() == [16, 16, 16, ABSENT, 16, 16]
    assert w.threshold.tolist() == [0.05, 0.05, 0.05, -1.0, -1.0, 1e-05]
    assert w.requant.tolist() == [True] + [False] * 5
    assert w.lsb_bits.tolist() == [4, 4, 4, ABSENT, ABSENT, 4]
    assert w.values.tolist() == [4, 4, 2, 5, 4, 4]
    assert w.value_bits.tolist() == [6, 6, 6, ABSENT, 8, 8]
    assert w.accumulate.tolist() == [True, True, True, False, True, True]
    assert w.rescale.tolist() == [False, False, False, True, False, False]
    assert w.selects.tolist() == [False, True, False, False, False, False]
    assert w.topk.tolist() == [ABSENT, 5, ABSENT, ABSENT, ABSENT, ABSENT]
    with pytest.raises(ValueError, match="read-only"):
        w.keys[0] = 1


def test_released_formatting_is_kept():
    assert format_workload(parse_workload(small_text().encode())).decode() == small_text()
    without = small_text().replace(COMMENT + "," * 16 + "\n", "")
    assert format_workload(parse_workload(without.encode())).decode() == without


@pytest.mark.parametrize(
    "variant",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("64.0", "64"),
        lambda text: text.replace(",-1,False,-1,4,8", ",-1.0,False,-1,4,8"),
        lambda text: text.replace("1e-05", "0.00001"),
    ],
)
def test_what_spreadsheets_make_of_it_reads_the_same(variant):
    changed = variant(small_text())
    assert changed != small_text()
    assert format_workload(parse_workload(changed.encode())).decode() == small_text()


@pytest.mark.parametrize(
    ("line", "column", "value", "message"),
    [
        (2, "iteration_id", "1", "is 1; should be 0 in the first row"),
        (2, "iteration_id", "x", "is 'x'; should be an integer from 0 .*only the last line may be a comment"),
        (6, "iteration_id", "2", "is 2; should be that of the row before, or one more"),
        (2, "layer_id", "1", "is 1; should be 0 in the first row"),
        (4, "layer_id", "2", "is 2; should be that of the row before or one more"),
        (6, "layer_id", "1", "is 1; .*0 where a token begins"),
        (7, "layer_id", "0", "is 0; should be 1 where a token ends"),
        (3, "head_id", "0", "is 0; should rise within a layer"),
        (3, "head_id", "-1", "is '-1'; should be an integer from 0"),
        (3, "head_id", "1.0", "is '1.0'; should be an integer"),
        (2, "embedding_length_D", "0.0", "is 0; should be .* from 1"),
        (2, "embedding_length_D", "64.5", "is '64.5'; should be an integer, written as a float"),
        (5, "embedding_length_D", "32.0", "is 32; should be 64, as in the first row"),
        (2, "sentence_length_L", "0", "is 0; should be an integer from 1"),
        (3, "sentence_length_L", "11", "is 11; should be the same for all rows of a token, and one more"),
        (6, "sentence_length_L", "12", "is 12; should be the same"),
        (2, "key_fetch_num", "-5", "is '-5'; should be an integer from 1"),
        (2, "key_fetch_num", "-1", "is '-1'; should be an integer from 1"),
        (2, "key_fetch_num", "0", "is 0; should be an integer from 1"),
        (2, "key_fetch_num", "11", "is 11; should be at most sentence_length_L"),
        (2, "key_fetch_num", "99999999999999999999", "is '99999999999999999999'; should be an integer"),
        (2, "key_fetch_num", "4294967297", "is 4294967297; should be an integer from 1 to 2147483647"),
        (2, "key_fetch_num", "\u0661\u0660", "should be an integer"),
        (2, "key_fetch_num", " 10", "is ' 10'; should be an integer"),
        (2, "key_fetch_num", "010", "is '010'; should be an integer"),
        (2, "key_fetch_num", "", "is ''; should be an integer"),
        (2, "quant_key_bit", "0", "is 0; should be an integer from 1 to 32, or -1"),
        (2, "quant_key_bit", "33", "is 33; should be an integer from 1 to 32, or -1"),
        (2, "quant_query_bit", "-2", "is '-2'; should be an integer from 1 to 32, or -1"),
        (2, "auto_requant_thres", "nan", "is 'nan'; should be a number from 0 to 1, or -1"),
        (2, "auto_requant_thres", "inf", "is 'inf'"),
        (2, "auto_requant_thres", "1.5", "is 1.5; should be a number from 0 to 1, or -1"),
        (2, "auto_requant_thres", "-0.5", "is '-0.5'"),
        (2, "if_requant", "true", "is 'true'; should be True or False"),
        (2, "if_requant", "1", "is '1'; should be True or False"),
        (6, "if_requant", "True", "is True; should be False where quant_key_bit or auto_requant_incre is -1"),
        (2, "auto_requant_incre", "-1", "is -1; should be -1 exactly where auto_requant_thres is"),
        (6, "auto_requant_incre", "4", "is 4; should be -1 exactly where auto_requant_thres is"),
        (2, "value_fetch_num", "-3", "is '-3'; should be an integer from 1"),
        (4, "value_fetch_num", "6", "is 6; should be at most key_fetch_num"),
        (2, "quant_value_bit", "x" * 9999, "is 'x{37}...'; should be an integer"),
        (2, "if_accumulate_importance", "", "is ''; should be True or False"),
        (2, "if_rescale_previous_importance", "TRUE", "is 'TRUE'"),
        (3, "if_topk", "False", "is 5; should be -1 exactly where if_topk is False"),
        (2, "if_topk", "True", "is -1; should be -1 exactly where if_topk is False"),
        (3, "topk", "11", "is 11; should be at most sentence_length_L"),
        (3, "topk", "0", "is 0; should be an integer from 1"),
    ],
)
def test_an_error_names_line_and_column(tmp_path, line, column, value, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(edited(line, column, value))
    with bounded(path), pytest.raises(TraceError, match=message) as caught:
        read_workload(path)
    named = "topk" if column == "if_topk" else column
    assert caught.value.where == f"line {line}, column {named}"
    assert caught.value.path == str(path)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (lambda t: "", "line 1, column 1", "is named ''; should be named iteration_id"),
        (lambda t: t.replace("layer_id", "layer"), "line 1, column 2", "is named 'layer'; should be named layer_id"),
        (lambda t: t.replace(",topk\n", "\n", 1), "line 1, column 17", "is missing; should be named topk"),
        (lambda t: t.replace(",topk\n", ",topk,x\n", 1), "line 1", "more columns than the 17"),
        (lambda t: HEADER, "line 1", "has no line end; the file is truncated"),
        (lambda t: HEADER + "\n", "line 2", "is missing; there should be a row"),
        (lambda t: HEADER + "\n" + COMMENT + "," * 16 + "\n", "line 2", "is missing; there should be a row"),
        (lambda t: t[:-1], "line 8", "has no line end; the file is truncated"),
        (lambda t: t[:300], "line 2", "has no line end; the file is truncated"),
        (lambda t: t[:333] + "\n", "line 3", "has 6 cells; should have 17"),
        (lambda t: t + "\n", "line 9", "is empty; should be a row"),
        (lambda t: t.replace("\n0,1,0", "\n\n0,1,0"), "line 4", "is empty; should be a row"),
        (lambda t: t.replace(COMMENT, f"a\n{COMMENT}"), "line 8", "has 1 cells; should have 17"),
        (lambda t: t.replace("," * 16, "," * 15), "line 8", "has 16 cells; should have 17"),
        (lambda t: t.replace(COMMENT, "31"), "line 8, column layer_id", "is ''; should be an integer"),
        (lambda t: t.replace(COMMENT, '"a"'), "line 8, column iteration_id", "is '\"a\"'; should be an integer"),
        (lambda t: t.replace("0,1,0,64", "1,1,0,64"), "line 5, column iteration_id", "is 0; should be that of the row"),
        (lambda t: t + t.split("\n")[1] + "\n", "line 8, column iteration_id", "only the last line may be a comment"),
        (lambda t: t.replace("True", "True,1", 1), "line 2", "has 18 cells; should have 17"),
        (lambda t: t.replace("False", "Fa\udcffse", 1), "line 2", "is not UTF-8 text"),
    ],
)
def test_a_bad_structure_names_its_line(tmp_path, change, where, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(change(small_text()).encode(errors="surrogateescape"))
    with bounded(path), pytest.raises(TraceError, match=message) as caught:
        read_workload(path)
    assert caught.value.where == where


def test_a_huge_bad_file_stays_in_the_limits(tmp_path):
    path = tmp_path / "bad.csv"
    for content in [b"\n" * 2_000_000, b"," * 2_000_000, b"x" * 2_000_000, HEADER.encode() + b"\n" * 2_000_000]:
        path.write_bytes(content)
        with bounded(path), pytest.raises(TraceError):
            read_workload(path)


@st.composite
def workloads(draw) -> RecordedWorkload:
    """Any valid recorded workload of a few tokens, layers and heads."""
    layers, start = draw(st.integers(1, 3)), draw(st.integers(1, 40))
    rows: list[dict[str, Any]] = []
    for iteration in range(draw(st.integers(1, 3))):
        length = start + iteration
        for layer in range(layers):
            for head in sorted(draw(st.sets(st.integers(0, 5), min_size=1, max_size=3))):
                keys = draw(st.integers(1, length))
                progressive, selects = draw(st.booleans()), draw(st.booleans())
                key_bits = draw(st.sampled_from([ABSENT, 4, 12]))
                rows.append(
                    {
                        "iteration": iteration,
                        "layer": layer,
                        "head": head,
                        "head_dim": 64,
                        "length": length,
                        "keys": keys,
                        "key_bits": key_bits,
                        "query_bits": draw(st.sampled_from([ABSENT, 12, 16])),
                        "threshold": draw(st.floats(0, 1)) if progressive else ABSENT,
                        "requant": progressive and key_bits != ABSENT and draw(st.booleans()),
                        "lsb_bits": 4 if progressive else ABSENT,
                        "values": draw(st.integers(1, keys)),
                        "value_bits": draw(st.sampled_from([ABSENT, 8])),
                        "accumulate": draw(st.booleans()),
                        "rescale": draw(st.booleans()),
                        "selects": selects,
                        "topk": draw(st.integers(1, length)) if selects else ABSENT,
                    }
                )
    columns = {column.field: np.array([row[column.field] for row in rows]) for column in COLUMNS}
    comment = draw(st.sampled_from(["", COMMENT, "a b", "1 of 2", "déjà vu"]))
    return RecordedWorkload(**columns, comment=comment)


@given(workloads())
@settings(max_examples=60, deadline=None)
def test_every_workload_survives_writing(workload):
    back = parse_workload(format_workload(workload))
    assert back.comment == workload.comment
    for column in COLUMNS:
        assert np.array_equal(getattr(back, column.field), getattr(workload, column.field))
        assert getattr(back, column.field).dtype == column.kind.dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": [1.0] * 6}, "column key_fetch_num: has dtype float64"),
        ({"keys": [[1]] * 6}, "should be int64 in one dimension"),
        ({"keys": [True] * 6}, "column key_fetch_num: has dtype bool"),
        ({"requant": [1] * 6}, "column if_requant: has dtype int64"),
        ({"threshold": [np.nan] * 6}, "line 2, column auto_requant_thres: is nan"),
        ({"values": [1] * 5}, "column value_fetch_num: has 5 rows; should have 6"),
        ({"comment": "a,b"}, "comment: should be one line"),
        ({"comment": "-1"}, "comment: .*not a number"),
        ({"comment": "a\nb"}, "comment: should be one line"),
        ({"comment": "\ud800"}, "surrogate"),
    ],
)
def test_arrays_that_make_no_workload(change, message):
    workload = parse_workload(small_text().encode())
    with pytest.raises(TraceError, match=message):
        replaced(workload, **{k: v if k == "comment" else np.array(v) for k, v in change.items()})


def test_no_rows_make_no_workload():
    none = {column.field: np.empty(0, column.kind.dtype) for column in COLUMNS}
    with pytest.raises(TraceError, match="holds no row"):
        RecordedWorkload(**none)  # type: ignore[arg-type]


def test_reading_chooses_by_content(tmp_path):
    write_trace(tmp_path / "trace.csv", two_sequences())
    write_workload(tmp_path / "workload.npz", parse_workload(small_text().encode()))
    assert isinstance(read(tmp_path / "trace.csv"), TraceFile)
    assert isinstance(read(tmp_path / "workload.npz"), RecordedWorkload)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; should be a trace, a zip archive that starts with 'PK'"),
        (b"\x7fELF\0\0", "is binary; .*starts with 'iteration_id'"),
        (b"\x93NUMPY\x01\0", "is a NumPy array or a pickle"),
        (b"\x80\x04K\x01.", "is a NumPy array or a pickle"),
        (b"PK\x03\x04", "truncated, or not a trace"),
        (b"a,b\n1,2\n", "line 1, column 1: is named 'a'"),
    ],
)
def test_reading_neither_kind(tmp_path, content, message):
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as caught:
        read(path)
    assert caught.value.path == str(path)


def test_a_workload_is_described_in_plain_facts():
    facts = describe(parse_workload(small_text().encode()))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["generated"] == facts["layers"] == 2
    assert facts["length"] == [10, 11]
    assert facts["key_bits"] == [6, 12]
    assert facts["threshold"] == [1e-05, 0.05]
    assert facts["keep_keys"] == pytest.approx(52 / 62)
    assert facts["flat_rows"] == pytest.approx(1 / 6)
    assert facts["by_layer"]["heads"] == [1.5, 1.5]
    assert facts["by_layer"]["keep_keys"] == pytest.approx([1.0, 2 / 3])
    bare = parse_workload(small_text().encode())
    bare = replaced(bare, value_bits=np.full(6, ABSENT))
    assert describe(bare)["value_bits"] is None


def test_a_trace_is_described_in_plain_facts():
    trace = two_sequences()
    facts = describe(trace)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["model"]["kv_heads"] == 2
    assert [s["tokens"] for s in facts["sequences"]] == [6, 11]
    assert facts["sequences"][1]["generated"] == 3
    assert facts["sequences"][0]["largest"]["q"] == float(np.abs(trace.sequences[0].q).max())
    assert len(facts["sha256"]) == 64
    other = describe(TraceFile(sequences=(synthetic_trace(9),)))
    assert other["sha256"] != facts["sha256"]
