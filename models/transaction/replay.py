"""Workloads from runs of the integer reference: exact counts, survivors, kept values and quick-select passes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from models.reference.attention import Attention, kept_values
from models.reference.cascade import Cascade, PassKind, PassPlan, begin_pass, end_pass, enter_layer, plan_pass
from models.reference.stack import LayerResult, Run
from models.reference.top_k import lfsr_pivots, quick_select
from models.transaction.workload import LayerWork, ModelShape, Passes, Selection, Workload


def replay(run: Run[Any], name: str, source: str, lanes: int | None = None) -> Workload:
    """The workload of a prepared integer run, computed layer by layer as it is asked for.

    Args:
        run: with integer arithmetic.
        name: of the model and the workload.
        source: where Q, K and V are from, in words.
        lanes: of the top-k engines, to know the passes of every selection; None leaves them out.
    """
    s = run.sequence
    model = ModelShape(name, s.layers, s.heads, len(s.k[0]), s.head_dim)
    bits = ((run.quantization.msb_bits, run.quantization.lsb_bits),)
    return Workload(name, source, model, s.tokens, bits, lambda: _layers(run, model, lanes))


def _layers(run: Run[Any], model: ModelShape, lanes: int | None) -> Iterator[LayerWork]:
    s, pruning = run.sequence, run.pruning
    cascade = Cascade.start(s.layers, s.heads, run.arithmetic.importance_dtype)
    first = s.tokens if s.prompt is None else s.prompt
    for step, length in enumerate(range(first, s.tokens + 1)):
        kind: PassKind = "step" if step else "encoder" if s.prompt is None else "prompt"
        plan = plan_pass(pruning, kind, step, length, s.layers, s.heads)
        cascade = begin_pass(cascade, plan)
        for layer in range(s.layers):
            before = cascade
            cascade = enter_layer(cascade, plan, pruning, layer)
            result = run.layer(cascade, step, layer)
            yield replace(
                layer_work(run, model, length, result, lanes),
                present_ids=_present(before, layer).numpy() if pruning.scope == "sequence" else None,
                token_selection=_token_selection(before, cascade, plan, layer, lanes, pruning.selection),
                head_selection=_head_selection(before, cascade, lanes),
            )
            cascade = replace(cascade, importance=result.importance)
        cascade = end_pass(cascade, plan, pruning)


def layer_work(run: Run[Any], model: ModelShape, tokens: int, result: LayerResult, lanes: int | None) -> LayerWork:
    """A layer of a run that was computed, without what was selected on entering it.

    Args:
        run: with integer arithmetic.
        model: its shape.
        tokens: of the sequence in this pass.
        result: of the layer.
        lanes: as for `replay`.
    """
    attention, ratio16 = result.attention, run.pruning.value_ratio16
    return LayerWork(
        model=model,
        step=result.step,
        layer=result.layer,
        causal=run.sequence.prompt is not None,
        tokens=tokens,
        key_ids=result.tokens.numpy(),
        row_ids=result.rows.numpy(),
        heads=result.heads.numpy(),
        kept=attention.kept.sum(-1).numpy(),
        flat=attention.flat.numpy(),
        msb_bits=run.quantization.msb_bits,
        lsb_bits=run.quantization.lsb_bits,
        query_bits=run.datapath_bits,
        kept_mask=attention.kept.numpy(),
        value_passes=None if lanes is None else _value_passes(attention, ratio16, lanes),
        exact=True,
    )


def selection(values: torch.Tensor, kept: int, lanes: int) -> Selection:
    """The largest `kept` of `values`, as an engine of `lanes` lanes selects them."""
    return Selection(len(values), kept, _passes(values, kept, lanes))


def _present(before: Cascade, layer: int) -> torch.Tensor:
    """Tokens that the survivors of a layer are chosen from."""
    return before.tokens[~before.freed[layer, before.tokens]]


def _token_selection(
    before: Cascade, after: Cascade, plan: PassPlan, layer: int, lanes: int | None, rule: str
) -> Selection | None:
    present = _present(before, layer)
    free = present[~plan.protected[present]]
    kept = int((~plan.protected[after.tokens]).sum())
    if len(present) == len(after.tokens) or kept == 0:
        return None
    by_importance = lanes is not None and rule == "importance"
    passes = _passes(before.importance.tokens[free], kept, lanes) if by_importance and lanes else None
    return Selection(len(free), kept, passes)


def _head_selection(before: Cascade, after: Cascade, lanes: int | None) -> Selection | None:
    if len(before.heads) == len(after.heads):
        return None
    passes = None if lanes is None else _passes(before.importance.heads[before.heads], len(after.heads), lanes)
    return Selection(len(before.heads), len(after.heads), passes)


def _value_passes(attention: Attention, value_ratio16: int, lanes: int) -> tuple[tuple[Passes, ...], ...]:
    heads, rows, keys = attention.prob.shape
    visible = attention.visible.expand(heads, rows, keys)
    counts = kept_values(attention.visible, value_ratio16)[..., 0].expand(heads, rows)
    return tuple(
        tuple(
            _passes(attention.prob[head, row][visible[head, row]], int(counts[head, row]), lanes) for row in range(rows)
        )
        for head in range(heads)
    )


def _passes(values: torch.Tensor, kept: int, lanes: int) -> Passes:
    return quick_select(values.tolist(), kept, lfsr_pivots(lanes)).candidates
