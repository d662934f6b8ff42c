"""Recorded workloads: the counts of a decoder run, in the columns that were released with the paper's simulator.

One row per generated token (`iteration_id`), layer and head that ran, in that order; every token starts again from
all keys, and a pruned head has no row. -1 means: not quantized, no threshold, no top-k here. The last line may be a
comment: text in the first column, the others empty. In the order of the file:

    iteration_id, layer_id, head_id          rising: tokens and layers without gaps, heads without repetition
    embedding_length_D                       D, written as a float ("64.0"), the same in every row
    sentence_length_L                        keys there are: the same for a token, one more for the next
    key_fetch_num                            keys that the cascade left, 1 to L
    quant_key_bit, quant_query_bit           bits of K (most significant plane) and Q, or -1
    auto_requant_thres                       threshold of progressive quantization, or -1
    if_requant                               whether the row was flat, so that the least significant plane was fetched
    auto_requant_incre                       bits of that plane, or -1
    value_fetch_num                          values that local pruning left, 1 to key_fetch_num
    quant_value_bit                          bits of V, or -1
    if_accumulate_importance                 whether the row's probabilities were added to the importance
    if_rescale_previous_importance           whether the importance was rescaled
    if_topk, topk                            whether a selection followed, and of how many keys, else -1
"""

import codecs
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from traces.archive import open_regular
from traces.atomic import write_atomically
from traces.trace import TraceError, check_text

ABSENT = -1
MAX_BITS = 32
MAX_COUNT = (1 << 31) - 1
MAX_FILE_BYTES = 1 << 28


class Kind(NamedTuple):
    """How the cells of a column are written: a pattern, its description, and the type of the array."""

    pattern: re.Pattern[str]
    wanted: str
    dtype: type[np.int64 | np.float64 | np.bool_]


_INTEGER = Kind(re.compile(r"0|[1-9][0-9]{0,11}"), "an integer", np.int64)
_COUNT = Kind(re.compile(r"-1|0|[1-9][0-9]{0,11}"), "an integer", np.int64)
_LENGTH = Kind(re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.0)?"), "an integer, written as a float,", np.int64)
_NUMBER = Kind(re.compile(r"-1(?:\.0)?|[0-9]{1,12}(?:\.[0-9]{1,40})?(?:e-[0-9]{1,3})?"), "a number", np.float64)
_FLAG = Kind(re.compile(r"True|False"), "True or False", np.bool_)


class Column(NamedTuple):
    """A column: its name in the file, its attribute here, how it is written, and the range of its values."""

    name: str
    field: str
    kind: Kind
    least: int = 0
    most: int = MAX_COUNT


COLUMNS = (
    Column("iteration_id", "iteration", _INTEGER),
    Column("layer_id", "layer", _INTEGER),
    Column("head_id", "head", _INTEGER),
    Column("embedding_length_D", "head_dim", _LENGTH, 1),
    Column("sentence_length_L", "length", _INTEGER, 1),
    Column("key_fetch_num", "keys", _INTEGER, 1),
    Column("quant_key_bit", "key_bits", _COUNT, 1, MAX_BITS),
    Column("quant_query_bit", "query_bits", _COUNT, 1, MAX_BITS),
    Column("auto_requant_thres", "threshold", _NUMBER, 0, 1),
    Column("if_requant", "requant", _FLAG),
    Column("auto_requant_incre", "lsb_bits", _COUNT, 1, MAX_BITS),
    Column("value_fetch_num", "values", _INTEGER, 1),
    Column("quant_value_bit", "value_bits", _COUNT, 1, MAX_BITS),
    Column("if_accumulate_importance", "accumulate", _FLAG),
    Column("if_rescale_previous_importance", "rescale", _FLAG),
    Column("if_topk", "selects", _FLAG),
    Column("topk", "topk", _COUNT, 1),
)
HEADER = ",".join(column.name for column in COLUMNS)
_NAMES = {column.field: column.name for column in COLUMNS}
_CACHED_CELLS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedWorkload:
    """Counts of a decoder run: one array for each column, one element for each row, read-only.

    Integers are int64 with -1 where the file has it, `threshold` is float64 (-1.0 where absent), flags are bool.
    `comment` is the first cell of the last line ("" if there is none), usually the recorded configuration.
    Raises `TraceError` naming line (the header is line 1) and column of a row that cannot be.
    """

    iteration: NDArray[np.int64]
    layer: NDArray[np.int64]
    head: NDArray[np.int64]
    head_dim: NDArray[np.int64]
    length: NDArray[np.int64]
    keys: NDArray[np.int64]
    key_bits: NDArray[np.int64]
    query_bits: NDArray[np.int64]
    threshold: NDArray[np.float64]
    requant: NDArray[np.bool_]
    lsb_bits: NDArray[np.int64]
    values: NDArray[np.int64]
    value_bits: NDArray[np.int64]
    accumulate: NDArray[np.bool_]
    rescale: NDArray[np.bool_]
    selects: NDArray[np.bool_]
    topk: NDArray[np.int64]
    comment: str = ""

    def __post_init__(self) -> None:
        for column in COLUMNS:
            object.__setattr__(self, column.field, _checked_column(getattr(self, column.field), column))
            if getattr(self, column.field).shape != self.iteration.shape:
                raise TraceError(
                    f"has {getattr(self, column.field).size} rows; should have {self.rows} like the others",
                    where=f"column {column.name}",
                )
        check_text(self.comment, "comment")
        if self.comment and not _is_comment(self.comment):
            raise TraceError("should be one line without comma and quote, and not a number", where="comment")
        _check_order(self)
        _check_counts(self)

    @property
    def rows(self) -> int:
        """Rows: one for each generated token, layer and head that ran."""
        return int(self.iteration.size)

    @property
    def iterations(self) -> int:
        """Generated tokens."""
        return int(self.iteration[-1]) + 1

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return int(self.layer[-1]) + 1

    @property
    def heads(self) -> int:
        """Heads of a layer: one more than the largest id that ran."""
        return int(self.head.max()) + 1


def read_workload(path: str | os.PathLike[str]) -> RecordedWorkload:
    """Read a recorded workload; every defect is a `TraceError` that names the file, the line and the column."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise TraceError(f"has {size} bytes; should have {MAX_FILE_BYTES} at most: split it")
            return parse_workload(stream.read())
    except TraceError as error:
        raise error.inside(os.fspath(path)) from None


def write_workload(path: str | os.PathLike[str], workload: RecordedWorkload) -> None:
    """Write a recorded workload as the released files are written, whole or not at all."""
    write_atomically(path, format_workload(workload))


def format_workload(workload: RecordedWorkload) -> bytes:
    """The released formatting: D as a float, -1 for what is absent, True and False, a bare line feed."""
    columns: list[list[str]] = []
    for column in COLUMNS:
        cells = getattr(workload, column.field).tolist()
        if column.kind is _LENGTH:
            cells = [float(cell) for cell in cells]
        columns.append([str(ABSENT) if cell == ABSENT else str(cell) for cell in cells])
    lines = [HEADER, *(",".join(cells) for cells in zip(*columns, strict=True))]
    if workload.comment:
        lines.append(workload.comment + "," * (len(COLUMNS) - 1))
    return "".join(line + "\n" for line in lines).encode()


def parse_workload(content: bytes) -> RecordedWorkload:
    """Read a recorded workload from the bytes of its file; raises `TraceError` without a path."""
    lines = io.BytesIO(content.removeprefix(codecs.BOM_UTF8))
    _check_header(_text(lines.readline(), 1))
    count = content.count(b"\n")
    if not content.endswith(b"\n"):
        raise TraceError("has no line end; the file is truncated", where=f"line {count + 1}")
    comment = _comment(_text(content[content.rfind(b"\n", 0, -1) + 1 :], count))
    rows = count - 1 - bool(comment)
    if rows < 1:
        raise TraceError("is missing; there should be a row for each token, layer and head", where="line 2")
    # Where the line ends are too close for so many rows, a short line is found before the arrays are full.
    room = min(rows, len(content) // (2 * len(COLUMNS)))
    arrays: dict[str, NDArray[Any]] = {column.field: np.empty(room, column.kind.dtype) for column in COLUMNS}
    for row, values in enumerate(_parsed_rows(lines, rows)):
        for array, value in zip(arrays.values(), values, strict=True):
            array[row] = value
    return RecordedWorkload(**arrays, comment=comment)


def _parsed_rows(lines: io.BytesIO, rows: int) -> Iterator[list[Any]]:
    known: list[dict[str, int | float | bool]] = [{} for _ in COLUMNS]  # a column repeats few different cells
    for number in range(2, rows + 2):
        line = _text(lines.readline(), number)
        cells = line.split(",", len(COLUMNS))
        if len(cells) != len(COLUMNS):
            raise TraceError(f"has {line.count(',') + 1} cells; should have {len(COLUMNS)}", where=f"line {number}")
        values = []
        for cell, column, cache in zip(cells, COLUMNS, known, strict=True):
            value = cache.get(cell)
            if value is None:
                if len(cache) >= _CACHED_CELLS:
                    cache.clear()
                value = cache[cell] = _value(cell, column, number)
            values.append(value)
        yield values


def _text(line: bytes, number: int) -> str:
    """A line without its end; an empty one is an error except in place of the header, which has its own."""
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise TraceError(f"is not UTF-8 text ({error.reason})", where=f"line {number}") from None
    if not text.strip() and number > 1:
        raise TraceError("is empty; should be a row", where=f"line {number}")
    return text


def _check_header(line: str) -> None:
    names = line.split(",", len(COLUMNS))
    for index, column in enumerate(COLUMNS):
        if index >= len(names) or names[index] != column.name:
            found = f"is named {_shown(names[index])}" if index < len(names) else "is missing"
            raise TraceError(f"{found}; should be named {column.name}", where=f"line 1, column {index + 1}")
    if len(names) > len(COLUMNS):
        raise TraceError(f"has more columns than the {len(COLUMNS)} known", where="line 1")


def _is_comment(text: str) -> bool:
    return re.fullmatch(r"[-+.0-9]*|.*[,\"\n\r].*", text, re.DOTALL) is None


def _comment(line: str) -> str:
    """The comment in the last line, "" if the line is a row of counts."""
    text = line.removesuffix("," * (len(COLUMNS) - 1))
    return text if text != line and _is_comment(text) else ""


def _value(cell: str, column: Column, line: int) -> int | float | bool:
    if column.kind.pattern.fullmatch(cell) is None:
        hint = "; only the last line may be a comment" if column is COLUMNS[0] and _is_comment(cell) else ""
        raise TraceError(
            f"is {_shown(cell)}; should be {_wanted(column)}{hint}", where=f"line {line}, column {column.name}"
        )
    if column.kind is _FLAG:
        return cell == "True"
    return float(cell) if column.kind is _NUMBER else int(cell.removesuffix(".0"))


def _wanted(column: Column) -> str:
    if column.kind is _FLAG:
        return column.kind.wanted
    absent = f", or {ABSENT}" if column.kind in (_COUNT, _NUMBER) else ""
    return f"{column.kind.wanted} from {column.least} to {column.most}{absent}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _checked_column(array: Any, column: Column) -> NDArray[Any]:
    """A column with its dtype, read-only, all values in range."""
    given = np.asarray(array)
    wanted = np.dtype(column.kind.dtype)
    if (
        given.ndim != 1
        or not np.can_cast(given.dtype, wanted, "same_kind")
        or (given.dtype.kind == "b") != (wanted.kind == "b")
    ):
        raise TraceError(
            f"has dtype {given.dtype} and shape {given.shape}; should be {wanted} in one dimension",
            where=f"column {column.name}",
        )
    if column.kind is not _FLAG:
        good = (given >= column.least) & (given <= column.most)
        if column.kind in (_COUNT, _NUMBER):
            good |= given == ABSENT
        _require(good, column.field, given, f"should be {_wanted(column)}")
    result = given.astype(wanted, copy=False).view()
    result.flags.writeable = False
    return result


def _require(good: NDArray[np.bool_], field: str, found: NDArray[Any], advice: str) -> None:
    """Raise `TraceError` at the first row that is not good."""
    if not good.all():
        row = int(good.argmin())
        raise TraceError(f"is {found[row]}; {advice}", where=f"line {row + 2}, column {_NAMES[field]}")


def _check_order(w: RecordedWorkload) -> None:
    """Tokens and layers without gaps, heads rising, every token through all layers, one key more per token."""
    if not w.rows:
        raise TraceError("holds no row; should hold one for each token, layer and head")
    for field in ("iteration", "layer"):
        first = getattr(w, field)[:1]
        _require(first == 0, field, first, "should be 0 in the first row")
    before, now = slice(None, -1), slice(1, None)
    d_iteration, d_layer = np.diff(w.iteration), np.diff(w.layer)
    same_token = d_iteration == 0

    def require(good: NDArray[np.bool_], field: str, advice: str) -> None:
        _require(np.concatenate(([True], good)), field, getattr(w, field), advice)

    require((d_iteration == 0) | (d_iteration == 1), "iteration", "should be that of the row before, or one more")
    require(
        np.where(same_token, (d_layer == 0) | (d_layer == 1), w.layer[now] == 0),
        "layer",
        "should be that of the row before or one more, and 0 where a token begins",
    )
    ends = np.append(~same_token, True)
    whole = ~ends | (w.layer == w.layer[ends].max())
    _require(whole, "layer", w.layer, f"should be {w.layer[ends].max()} where a token ends, as for the others")
    require(~same_token | (d_layer != 0) | (w.head[now] > w.head[before]), "head", "should rise within a layer")
    require(w.head_dim[now] == w.head_dim[0], "head_dim", f"should be {w.head_dim[0]}, as in the first row")
    require(
        w.length[now] == w.length[before] + d_iteration,
        "length",
        "should be the same for all rows of a token, and one more for the next token",
    )


def _check_counts(w: RecordedWorkload) -> None:
    """Counts within the counts that they are taken from, and flags that agree with the columns beside them."""
    _require(w.keys <= w.length, "keys", w.keys, "should be at most sentence_length_L")
    _require(w.values <= w.keys, "values", w.values, "should be at most key_fetch_num")
    _require(w.topk <= w.length, "topk", w.topk, "should be at most sentence_length_L")
    _require((w.topk != ABSENT) == w.selects, "topk", w.topk, "should be -1 exactly where if_topk is False")
    both = (w.threshold != ABSENT) == (w.lsb_bits != ABSENT)
    _require(both, "lsb_bits", w.lsb_bits, "should be -1 exactly where auto_requant_thres is")
    quantized = (w.lsb_bits != ABSENT) & (w.key_bits != ABSENT)
    _require(
        ~w.requant | quantized, "requant", w.requant, "should be False where quant_key_bit or auto_requant_incre is -1"
    )
