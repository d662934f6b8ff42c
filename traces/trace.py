"""Open-loop traces: what an accelerator needs to replay a dense run under any pruning schedule.

A trace holds, for one sequence, the queries, keys and values of every token, layer and head of the dense model:
after rotary embedding, before the softmax scale, not quantized (quantization happens at replay). The visible range
of a row follows from `causal` (section 1 of the algorithm page): ids up to its own, or every id. Which tokens and
heads survive is decided at replay, so one trace serves all schedules.

A `TraceFile` is one or more such sequences of the same model, each with its own length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["encoder", "decoder"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_DIMENSION = 1 << 16
"""Largest number of layers, of heads and of elements of a head."""
FloatArray = NDArray[np.floating[Any]]


class TraceError(ValueError):
    """A trace or workload that cannot be used; says in which file and where, what is wrong and what would be right.

    `path` is the file ("" for an object that was never in one) and `where` the place in it: the member of a trace,
    or the line and column of a workload.
    """

    def __init__(self, problem: str, *, where: str = "", path: str = "") -> None:
        super().__init__(": ".join(part for part in (path, where, problem) if part))
        self.problem = problem
        self.where = where
        self.path = path

    def inside(self, path: str) -> Self:
        """The same error, naming the file that it was found in."""
        printable = path.encode(errors="backslashreplace").decode()
        return type(self)(self.problem, where=self.where, path=printable)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """The model a trace was taken from.

    `softmax_scale` multiplies `q . k`: 1/sqrt(head_dim) in nearly every model. `source` says where the weights came
    from, `licence` under what terms, `notes` anything else a reader of the file should know.
    """

    name: str
    source: str
    licence: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    softmax_scale: float
    architecture: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "source", "licence", "architecture", "notes"):
            check_text(getattr(self, field), f"model.{field}")
        for field in ("layers", "heads", "kv_heads", "head_dim"):
            check_count(getattr(self, field), f"model.{field}", least=1, most=MAX_DIMENSION)
        if self.heads % self.kv_heads:
            divisors = [n for n in range(1, self.heads + 1) if self.heads % n == 0]
            nearest = min(divisors, key=lambda n: abs(n - self.kv_heads))
            raise TraceError(
                f"{self.kv_heads} K/V heads do not divide {self.heads} query heads; nearest that does: {nearest}",
                where="model.kv_heads",
            )
        scale = self.softmax_scale
        if not isinstance(scale, float) or not math.isfinite(scale) or scale <= 0:
            usual = 1 / math.sqrt(self.head_dim)
            raise TraceError(
                f"{_shown(scale)} is not a positive finite float; 1/sqrt(head_dim) is {usual:.6g}",
                where="model.softmax_scale",
            )


class LayerTensors(NamedTuple):
    """Q (heads x tokens x D), K and V (kv_heads x tokens x D) of one layer."""

    q: NDArray[np.float64]
    k: NDArray[np.float64]
    v: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Q, K, V of one sequence through the dense model.

    `q` has shape layers x heads x tokens x D, `k` and `v` layers x kv_heads x tokens x D; all three float16 or all
    float32, finite, and read-only here. Query heads `g * group_size ... (g + 1) * group_size - 1` use K/V head `g`.
    `tokens = prompt_length + generated`: an encoder generates none, each generated token of a decoder is one row.
    `protected` are the ids that token pruning must keep ([CLS] of an encoder; the current token of a decoder is
    protected by the algorithm and not listed). Raises `TraceError` for anything that does not fit together.
    """

    name: str
    kind: Kind
    model: ModelFacts
    q: FloatArray
    k: FloatArray
    v: FloatArray
    token_ids: NDArray[np.int32]
    token_texts: tuple[str, ...]
    prompt_length: int
    generated: int = 0
    causal: bool = False
    protected: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field, dtype in (("q", None), ("k", None), ("v", None), ("token_ids", np.dtype("<i4"))):
            object.__setattr__(self, field, _read_only(getattr(self, field), field, dtype))
        object.__setattr__(self, "token_texts", tuple(self.token_texts))
        object.__setattr__(self, "protected", tuple(self.protected))
        check_text(self.name, "name")
        if not self.name:
            raise TraceError("is empty; every sequence has a name", where="name")
        check_layout(
            self.model,
            kind=self.kind,
            tokens=self.token_ids.shape[0] if self.token_ids.ndim == 1 else 0,
            prompt_length=self.prompt_length,
            generated=self.generated,
            causal=self.causal,
            protected=self.protected,
        )
        self._check_arrays()
        self._check_tokens()

    def _check_arrays(self) -> None:
        for field, shape in expected_shapes(self.model, self.tokens).items():
            array = getattr(self, field)
            if array.shape != shape:
                raise TraceError(f"has shape {array.shape}; should be {shape}", where=field)
        for field in ("q", "k", "v"):
            array = getattr(self, field)
            if array.dtype.str not in ("<f2", "<f4"):
                raise TraceError(f"has dtype {array.dtype}; should be float16 or float32", where=field)
            if array.dtype != self.q.dtype:
                raise TraceError(f"has dtype {array.dtype}; should be {self.q.dtype}, like q", where=field)
            finite = np.isfinite(array)
            if not finite.all():
                layer, head, token, d = (int(i) for i in np.unravel_index(int(finite.argmin()), array.shape))
                value = array[layer, head, token, d]
                advice = "; float32 holds larger values" if array.dtype == np.float16 and np.isinf(value) else ""
                raise TraceError(
                    f"is {value} at layer {layer}, head {head}, token {token}, element {d}; should be finite{advice}",
                    where=field,
                )

    def _check_tokens(self) -> None:
        if self.tokens and int(self.token_ids.min()) < 0:
            at = int(self.token_ids.argmin())
            raise TraceError(f"is {self.token_ids[at]} at token {at}; should be 0 or more", where="token_ids")
        if len(self.token_texts) != self.tokens:
            raise TraceError(
                f"{len(self.token_texts)} texts for {self.tokens} tokens; should be one each", where="token_texts"
            )
        for i, text in enumerate(self.token_texts):
            check_text(text, f"token_texts[{i}]")

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.model.layers

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.model.heads

    @property
    def kv_heads(self) -> int:
        """Number of K/V heads."""
        return self.model.kv_heads

    @property
    def group_size(self) -> int:
        """Query heads that share one K/V head."""
        return self.model.heads // self.model.kv_heads

    @property
    def head_dim(self) -> int:
        """Dimension D of a head."""
        return self.model.head_dim

    @property
    def softmax_scale(self) -> float:
        """Factor between `q . k` and the argument of the softmax."""
        return self.model.softmax_scale

    @property
    def tokens(self) -> int:
        """Number of tokens, prompt and generated."""
        return int(self.token_ids.shape[0])

    @cached_property
    def nbytes(self) -> int:
        """Bytes of Q, K and V in memory."""
        return self.q.nbytes + self.k.nbytes + self.v.nbytes

    def visible(self, row: int) -> range:
        """Token ids that query row `row` may see, before any pruning."""
        if not 0 <= row < self.tokens:
            raise IndexError(f"row {row} of {self.tokens} tokens; rows are 0 to {self.tokens - 1}")
        return range(row + 1 if self.causal else self.tokens)

    def layer(self, index: int) -> LayerTensors:
        """Q, K, V of one layer as fresh float64 copies, the form in which the host computes scales."""
        if not 0 <= index < self.layers:
            raise IndexError(f"layer {index} of {self.layers}; layers are 0 to {self.layers - 1}")
        return LayerTensors(
            self.q[index].astype(np.float64), self.k[index].astype(np.float64), self.v[index].astype(np.float64)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceFile:
    """One or more sequences of one model, as they lie in a file; `made_by` names the program that took them."""

    sequences: tuple[Trace, ...]
    made_by: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sequences", tuple(self.sequences))
        check_text(self.made_by, "made_by")
        if not self.sequences:
            raise TraceError("holds no sequence; should hold one or more", where="sequences")
        check_unique_names([trace.name for trace in self.sequences])
        for i, trace in enumerate(self.sequences):
            if trace.model != self.model:
                raise TraceError(
                    f"sequence {trace.name!r} has other model facts than {self.sequences[0].name!r}; "
                    "write one file for each model",
                    where=f"sequences[{i}]",
                )

    @property
    def model(self) -> ModelFacts:
        """Facts of the model, the same for all sequences."""
        return self.sequences[0].model

    def sequence(self, name: str) -> Trace:
        """The sequence with this name; `KeyError` lists the names there are."""
        for trace in self.sequences:
            if trace.name == name:
                return trace
        raise KeyError(f"no sequence {name!r}; there are {', '.join(t.name for t in self.sequences)}")


def expected_shapes(model: ModelFacts, tokens: int) -> dict[str, tuple[int, ...]]:
    """Shape of each array of a sequence of `tokens` tokens."""
    keys = (model.layers, model.kv_heads, tokens, model.head_dim)
    return {"q": (model.layers, model.heads, tokens, model.head_dim), "k": keys, "v": keys, "token_ids": (tokens,)}


def check_layout(
    model: ModelFacts,
    *,
    kind: str,
    tokens: int,
    prompt_length: int,
    generated: int,
    causal: bool,
    protected: Sequence[int],
) -> None:
    """Check the counts and ids of a sequence, without its arrays; raises `TraceError`."""
    if not isinstance(model, ModelFacts):
        raise TraceError(f"is a {type(model).__name__}; should be ModelFacts", where="model")
    if kind not in KINDS:
        raise TraceError(f"is {_shown(kind)}; should be one of {', '.join(KINDS)}", where="kind")
    if not isinstance(causal, bool):
        raise TraceError(f"is {_shown(causal)}; should be true or false", where="causal")
    check_count(tokens, "tokens", least=1)
    check_count(prompt_length, "prompt_length", least=1, most=tokens)
    check_count(generated, "generated", least=0, most=tokens)
    if prompt_length + generated != tokens:
        raise TraceError(
            f"{prompt_length} prompt tokens and {generated} generated ones make {prompt_length + generated}, "
            f"but there are {tokens} tokens; prompt_length should be {tokens - generated}",
            where="prompt_length",
        )
    if kind == "encoder" and generated:
        raise TraceError(f"is {generated}; an encoder generates none, so it should be 0", where="generated")
    if kind == "decoder" and not causal:
        raise TraceError("is false; a decoder is causal, so it should be true", where="causal")
    for i, token in enumerate(protected):
        check_count(token, f"protected[{i}]", least=0, most=tokens - 1)
        if i and token <= protected[i - 1]:
            raise TraceError(f"ids {list(protected)} should rise without repetition", where="protected")


def check_unique_names(names: Sequence[str]) -> None:
    """Raise `TraceError` where two sequences of a file have the same name."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise TraceError(f"has the name {name!r} of an earlier sequence; names differ", where=f"sequences[{i}]")
        seen.add(name)


def check_count(value: object, where: str, *, least: int, most: int | None = None) -> None:
    """Raise `TraceError` unless `value` is an int in the given range."""
    bounds = f"an integer of {least} or more" if most is None else f"an integer from {least} to {most}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TraceError(f"is {_shown(value)}; should be {bounds}", where=where)
    if value < least or (most is not None and value > most):
        nearest = least if value < least else most
        raise TraceError(f"is {_shown(value)}; should be {bounds}; nearest: {nearest}", where=where)


def check_text(value: object, where: str) -> None:
    """Raise `TraceError` unless `value` is a string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise TraceError(f"is {_shown(value)}; should be text", where=where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TraceError(f"{_shown(value)} holds a lone surrogate; should be valid Unicode", where=where) from None


def _shown(value: object) -> str:
    # A hostile manifest can hold a value of any size, and the message must not.
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _read_only(array: object, where: str, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise TraceError(f"is a {type(array).__name__}; should be a NumPy array", where=where)
    if dtype is not None and array.dtype != dtype:
        limits = np.iinfo(np.int32)
        if array.dtype.kind not in "iu" or (
            array.size and (int(array.max()) > limits.max or int(array.min()) < limits.min)
        ):
            raise TraceError(f"has dtype {array.dtype}; should be {dtype}", where=where)
        array = array.astype(dtype)
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
