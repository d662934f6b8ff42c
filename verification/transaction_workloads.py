"""Workloads of the transaction model from files: a trace run by the integer reference, or recorded counts.

A recorded workload has counts alone. Its heads all have K and V of their own, its survivors are drawn, and its columns
give the bits: what a machine cannot convert or hold is an error that names line and column.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hls.datapaths.descriptor import MAX_HEADS
from models.config import MSB_BITS, AcceleratorConfig, Config
from models.reference.integer import IntegerArithmetic
from models.reference.stack import prepare
from models.transaction.replay import replay
from models.transaction.survivors import narrow, ranks
from models.transaction.workload import IntArray, LayerWork, ModelShape, Selection, Workload
from traces.trace import Trace, TraceError
from traces.workload import ABSENT, RecordedWorkload, read_workload
from verification.runs import own_softmax_scale, sequence_of


def trace_workload(trace: Trace, config: Config, with_passes: bool = True) -> Workload:
    """The workload of `trace` under `config`, with all that the integer reference decides.

    Args:
        trace: to run.
        config: machine, pruning and quantization; the ids that the trace protects are added.
        with_passes: also find the passes of every quick-select, which takes about as long as all else.

    Raises:
        ConfigError: for a schedule of another number of layers, a head that the machine cannot hold, too many keys.
    """
    machine, bits = config.accelerator, config.quantization
    protected = tuple(sorted({*config.pruning.protected_ids, *trace.protected}))
    pruning = replace(config.pruning, protected_ids=protected)
    arithmetic = IntegerArithmetic(bits, machine.datapath_bits, own_softmax_scale(trace))
    run = prepare(sequence_of(trace), arithmetic, pruning, bits, machine.datapath_bits)
    workload = replay(run, trace.name, f"trace {trace.name}", machine.top_k_lanes if with_passes else None)
    workload.check(machine)
    return workload


def read_recorded(path: str | os.PathLike[str], machine: AcceleratorConfig, seed: int = 0) -> Workload:
    """The recorded workload in a file; every defect is a `TraceError` that names the file, the line and the column."""
    recorded = read_workload(path)
    try:
        return recorded_workload(recorded, machine, os.path.basename(path), seed)
    except TraceError as error:
        raise error.inside(os.fspath(path)) from None


def recorded_workload(w: RecordedWorkload, machine: AcceleratorConfig, name: str, seed: int = 0) -> Workload:
    """The workload that recorded counts ask for.

    Where K and V are not quantized they take all bits of the datapath; Q is fetched in the bits recorded.

    Raises:
        TraceError: for bits that the machine cannot convert, more keys than it holds, or heads of a layer that see
            different numbers of keys.
    """
    _check(w, machine)
    model = ModelShape(name, w.layers, w.heads, w.heads, int(w.head_dim[0]))
    m, low = _bits(w, machine)
    pairs = tuple(sorted({(int(a), int(b)) for a, b in zip(m, low, strict=True)}))
    source = f"recorded counts{f' of {w.comment}' if w.comment else ''}"
    return Workload(
        name, source, model, int(w.length.max()), pairs, lambda: _layers(w, model, m, low, seed, machine.datapath_bits)
    )


def _bits(w: RecordedWorkload, machine: AcceleratorConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """M and L of every row."""
    return (
        np.where(w.key_bits == ABSENT, min(machine.datapath_bits, MSB_BITS[-1]), w.key_bits),
        np.where((w.lsb_bits == ABSENT) | (w.key_bits == ABSENT), 0, w.lsb_bits),
    )


def _check(w: RecordedWorkload, machine: AcceleratorConfig) -> None:
    m, low = _bits(w, machine)
    longest = machine.max_keys(int(w.head_dim[0])) if w.head_dim[0] <= machine.max_head_dim else 0
    first = np.append(True, (np.diff(w.iteration) != 0) | (np.diff(w.layer) != 0))
    start = np.maximum.accumulate(np.where(first, np.arange(w.rows), 0))
    for column, found, good, advice in (
        (
            "embedding_length_D",
            w.head_dim,
            w.head_dim <= machine.max_head_dim,
            f"this machine takes D up to {machine.max_head_dim}",
        ),
        ("head_id", w.head, w.head < MAX_HEADS, f"this machine takes {MAX_HEADS} heads, 0 to {MAX_HEADS - 1}"),
        ("key_fetch_num", w.keys, w.keys <= longest, f"this machine holds {longest} keys"),
        (
            "key_fetch_num",
            w.keys,
            w.keys == w.keys[start],
            "the heads of a layer see the same keys; should be as in the first",
        ),
        ("quant_key_bit", w.key_bits, np.isin(m, MSB_BITS), f"the machine converts {MSB_BITS}"),
        ("auto_requant_incre", w.lsb_bits, np.isin(low, (0, 4)), "the machine converts 4 bits more, or none (-1)"),
        (
            "auto_requant_incre",
            w.lsb_bits,
            m + low <= machine.datapath_bits,
            f"with quant_key_bit it is wider than the {machine.datapath_bits}-bit datapath",
        ),
        ("quant_key_bit", w.key_bits, m == m[start], "the heads of a layer have the same bits"),
        ("auto_requant_incre", w.lsb_bits, low == low[start], "the heads of a layer have the same bits"),
        (
            "quant_value_bit",
            w.value_bits,
            w.value_bits == w.key_bits,
            "K and V have the same bits; should be as quant_key_bit",
        ),
        (
            "quant_query_bit",
            w.query_bits,
            w.query_bits == w.query_bits[start],
            "the heads of a layer have the same bits",
        ),
    ):
        if not good.all():
            row = int(good.argmin())
            raise TraceError(f"is {found[row]}; {advice}", where=f"line {row + 2}, column {column}")
    _check_heads(w, start)


def _check_heads(w: RecordedWorkload, start: IntArray) -> None:
    """A head that did not run in a layer does not in the next ones of its token.

    Args:
        w: a workload with heads that the machine takes.
        start: the first row of each row's layer.
    """
    ran = np.zeros((w.rows, MAX_HEADS), np.bool_)
    ran[start, w.head] = True
    before = np.where(start > 0, start[start - 1], 0)
    gone = (w.layer > 0) & ~ran[before, w.head]
    if gone.any():
        row = int(gone.argmax())
        raise TraceError(
            f"is {w.head[row]}, which did not run in layer {w.layer[row] - 1} of this token; a pruned head stays away, "
            f"so should this row, or a row is missing there",
            where=f"line {row + 2}, column head_id",
        )


class _Rows(NamedTuple):
    """Rows of one layer of one token: the first, and one past the last."""

    first: int
    end: int


def _layers(
    w: RecordedWorkload,
    model: ModelShape,
    m: NDArray[np.int64],
    low: NDArray[np.int64],
    seed: int,
    datapath_bits: int,
) -> Iterator[LayerWork]:
    rank = ranks(int(w.length.max()), seed)
    changes = np.flatnonzero((np.diff(w.iteration) != 0) | (np.diff(w.layer) != 0)) + 1
    ids, heads = np.arange(0), np.arange(0)
    for here in (_Rows(*pair) for pair in pairwise([0, *changes.tolist(), w.rows])):
        rows, layer, length = slice(*here), int(w.layer[here.first]), int(w.length[here.first])
        if layer == 0:
            ids, heads = np.arange(length), np.arange(model.heads)
        protected = np.zeros(length, np.bool_)
        protected[-1] = True
        present, count = ids, int(w.keys[here.first])
        # a recorded layer may see more keys than the one before it, which no cascade does
        ids = narrow(ids if count <= len(ids) else np.arange(length), count, protected, rank)
        before, heads = heads, w.head[rows]
        query_bits = int(w.query_bits[here.first])
        yield LayerWork(
            model=model,
            step=int(w.iteration[here.first]) + 1,
            layer=layer,
            causal=True,
            tokens=length,
            key_ids=ids,
            row_ids=np.array([length - 1]),
            heads=heads,
            kept=w.values[rows][:, None],
            flat=w.requant[rows][:, None],
            msb_bits=int(m[here.first]),
            lsb_bits=int(low[here.first]),
            query_bits=datapath_bits if query_bits == ABSENT else query_bits,
            token_selection=Selection(len(present) - 1, count - 1) if 1 < count < len(present) else None,
            head_selection=Selection(len(before), len(heads)) if len(heads) < len(before) else None,
            seed=seed,
        )
