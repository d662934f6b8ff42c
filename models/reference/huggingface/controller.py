"""SpAtten as the attention of an unmodified `transformers` model: put on, taken off, and what it recorded.

A hook before every layer gathers the hidden rows, rotary tables and cached K/V of the surviving tokens, the registered
attention computes on them, and a hook behind the layer puts its rows back: a pruned token keeps the hidden state with
which it left, in the states between layers and in the final output, and costs no later layer anything.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from models.config import PruningConfig, QuantizationConfig
from models.reference.attention import Arithmetic
from models.reference.cascade import PassKind
from models.reference.floating import FloatArithmetic
from models.reference.huggingface.attention import compute_layer, largest, sequence_result, with_softmax_scale
from models.reference.huggingface.cache import PrunedLayer, Sequences, adopt
from models.reference.huggingface.family import find_target
from models.reference.huggingface.slots import gather_rows, scatter_rows
from models.reference.huggingface.state import Batch, LayerView, Pass, begin, enter, finish, real_columns, view_layer
from models.reference.integer import IntegerArithmetic
from models.reference.stack import LayerResult

PREFIX = "spatten"


@dataclass(frozen=True)
class PassRecord:
    """One call of the model.

    Attributes:
        kind: encoder, prompt or step.
        index: of the call on these sequences, from 0.
        sequences: for each sequence of the batch its layers; none where the call brought it only padding. Token ids
            count real tokens, so they do not depend on padding.
    """

    kind: PassKind
    index: int
    sequences: tuple[tuple[LayerResult, ...], ...]


@dataclass
class _Call:
    """A call of the model that is under way."""

    active: Pass
    shared: Sequences | None
    mask: Tensor | None
    results: tuple[list[LayerResult], ...]
    layer: int = 0
    view: LayerView | None = None
    hidden: Tensor | None = None
    stored: PrunedLayer | None = None


class Controller:
    """SpAtten attached to one model; made by `attach` or `spatten_attention`.

    Attributes:
        pruning: what leaves when.
        arithmetic: in which numbers; the scale of the scores is the model's own.
        passes: every call so far, in order; stays empty with `record=False`.
    """

    def __init__(
        self,
        model: Any,
        pruning: PruningConfig,
        arithmetic: FloatArithmetic | IntegerArithmetic | None,
        quantization: QuantizationConfig | None,
        record: bool,
    ) -> None:
        if str(model.config._attn_implementation).startswith(PREFIX):
            raise ValueError("SpAtten is attached to this model already; detach it first")
        self._target = find_target(model, pruning)
        self.pruning = pruning
        self.arithmetic = arithmetic or FloatArithmetic(dtype=self._target.dtype)
        if self.arithmetic.softmax_scale is not None:
            raise ValueError("arithmetic.softmax_scale is the model's own here; leave it None")
        if isinstance(self.arithmetic, FloatArithmetic) and self.arithmetic.dtype != self._target.dtype:
            raise ValueError(
                f"arithmetic in {self.arithmetic.dtype} for a model in {self._target.dtype}; give both the same"
            )
        self._quantization = quantization or self.arithmetic.quantization or QuantizationConfig()
        self._record = record
        self.passes: list[PassRecord] = []
        self._call: _Call | None = None
        self._wants_attentions = self._wants_hidden_states = False
        self._model = model
        self._previous = model.config._attn_implementation
        self._name = f"{PREFIX}_{id(self):x}"
        self._handles: list[Any] = []
        self._put_on()

    def _put_on(self) -> None:
        AttentionInterface.register(self._name, self._attend)
        AttentionMaskInterface.register(self._name, eager_mask)
        try:
            self._model.set_attn_implementation(self._name)
            base = self._target.base
            self._handles.append(base.register_forward_pre_hook(self._before_model, with_kwargs=True))
            for index, layer in enumerate(self._target.layers):
                self._handles += [
                    layer.register_forward_pre_hook(self._before_layer(index, layer), with_kwargs=True),
                    # Ahead of the hooks by which transformers collects hidden states, which expect full rows.
                    layer.register_forward_hook(self._behind_layer, prepend=True),
                ]
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Take SpAtten off; the model is what it was before. Once off, does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._call = None
        if AttentionInterface._global_mapping.pop(self._name, None) is not None:
            self._model.set_attn_implementation(self._previous)
        AttentionMaskInterface._global_mapping.pop(self._name, None)

    def results(self, sequence: int = 0) -> Iterator[LayerResult]:
        """Every layer of every recorded pass of one sequence of the batch."""
        for record in self.passes:
            yield from record.sequences[sequence]

    def _before_model(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(part.training for part in module.modules()):
            raise ValueError("SpAtten prunes trained models and the model is in training mode; call model.eval()")
        for name in ("attentions", "hidden_states"):
            option = f"output_{name}"
            setattr(self, f"_wants_{name}", bool(kwargs.get(option, getattr(module.config, option, False))))

    def _before_layer(self, index: int, layer: Any) -> Any:
        signature = inspect.signature(layer.forward)

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            hidden, cache = given["hidden_states"], given.get("past_key_values")
            if index == 0:
                self._call = self._begin(hidden, given.get("attention_mask"), cache)
            call = self._current()
            call.layer, call.hidden = index, hidden
            call.active = enter(call.active, self.pruning, index)
            call.view = view = view_layer(call.active, call.mask, self.pruning)
            call.stored = None
            if cache is not None:
                call.stored = cache.layers[index]
                call.stored.view = view
            self._check_outputs(view, call.active)
            given["hidden_states"] = gather_rows(hidden, view.rows.columns)
            if given.get("position_embeddings") is not None:
                tables = given["position_embeddings"]
                given["position_embeddings"] = tuple(gather_rows(table, view.rows.columns) for table in tables)
            return bound.args, bound.kwargs

        return hook

    def _begin(self, hidden: Tensor, mask: Tensor | None, cache: Any) -> _Call:
        target = self._target
        layers, (rows, columns) = len(target.layers), hidden.shape[:2]
        shared = None if cache is None else adopt(cache, layers, self)
        batch = None if shared is None else shared.batch
        if batch is None:
            batch = Batch.start(rows, layers, target.heads, self.arithmetic.importance_dtype)
        past = batch.real.shape[1]
        real = real_columns(mask, past, (rows, columns), target.family.causal)
        if not torch.equal(real[:, :past], batch.real):
            raise ValueError("attention_mask differs from earlier calls on this cache; extend the earlier one")
        active = begin(batch, target.family.causal, real, layers, self.pruning)
        return _Call(active, shared, mask, tuple([] for _ in range(rows)))

    def _current(self) -> _Call:
        if self._call is None:
            raise RuntimeError("a layer ran outside a call of the model that SpAtten is attached to")
        return self._call

    def _check_outputs(self, view: LayerView, active: Pass) -> None:
        shrunk = view.rows.columns.shape[1] < active.real.shape[1] - active.past
        if self._wants_attentions:
            whole = view.heads.shape[1] == self._target.heads and view.keys.columns.shape[1] == active.real.shape[1]
            if isinstance(self.arithmetic, IntegerArithmetic) or not whole:
                raise ValueError(
                    "output_attentions needs float arithmetic and nothing pruned; "
                    "read the attention of survivors from controller.passes"
                )
        if self._wants_hidden_states and shrunk and self._call is not None and self._call.layer == 0:
            raise ValueError("output_hidden_states with tokens pruned on entering layer 0; let layer 0 keep all tokens")

    def _behind_layer(self, module: Any, args: tuple[Any, ...], output: Tensor) -> Tensor:
        call = self._current()
        assert call.view is not None
        assert call.hidden is not None
        hidden = scatter_rows(call.hidden, call.view.rows, output)
        if call.layer == len(self._target.layers) - 1:
            batch = finish(call.active, self.pruning)
            if call.shared is not None:
                call.shared.batch = batch
            if self._record:
                results = tuple(tuple(layers) for layers in call.results)
                self.passes.append(PassRecord(call.active.kind, call.active.batch.passes, results))
            self._call = None
        return hidden

    def _attend(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The attention function that `transformers` calls; the mask it brings is in the view already."""
        call = self._current()
        assert call.view is not None
        if dropout > 0:
            raise ValueError(f"SpAtten has no dropout and the model asks for {dropout}; call model.eval()")
        view, active = call.view, call.active
        arithmetic: Arithmetic[Any] = self.arithmetic
        arithmetic = with_softmax_scale(arithmetic, query.shape[-1] ** -0.5 if scaling is None else scaling)
        scales = None
        if self.arithmetic.quantization is not None:
            scales = call.stored.scales if call.stored is not None else None
            if scales is None:
                scales = (largest(key, view.keys.real), largest(value, view.keys.real))
            if call.stored is not None:
                call.stored.scales = scales
        out, attention, held_v = compute_layer(arithmetic, query, key, value, view, scales, self.pruning.value_ratio16)
        with torch.no_grad():
            for sequence, plan in enumerate(active.plans):
                if plan is None:
                    continue
                result = sequence_result(
                    arithmetic,
                    active,
                    view,
                    attention,
                    held_v,
                    key.shape[1],
                    sequence,
                    call.layer,
                    self._quantization,
                    self.arithmetic.datapath_bits,
                )
                active = active.with_importance(sequence, result.importance)
                if self._record:
                    call.results[sequence].append(result)
        call.active = active
        weights = attention.prob.view(len(query), -1, *attention.prob.shape[1:]) if self._wants_attentions else None
        return out.transpose(1, 2).contiguous(), weights


def attach(
    model: Any,
    pruning: PruningConfig | None = None,
    arithmetic: FloatArithmetic | IntegerArithmetic | None = None,
    *,
    quantization: QuantizationConfig | None = None,
    record: bool = True,
) -> Controller:
    """Make SpAtten the attention of a BERT-, GPT-2- or Llama-type model, until `Controller.detach`.

    Without a cache, every call of a decoder is a prompt. With one, a call of one column continues the sequences by a
    generation step. The sequences of a batch are pruned independently; padding never counts. In the last hidden state,
    as in all others, a pruned token has the state with which it left; the first token of an encoder input never does.
    With everything kept and float32, all outputs are bitwise those of the model's own eager attention.

    Args:
        model: of `transformers`, in float32 or float64, on the CPU, in evaluation mode, with or without a head.
        pruning: what leaves when; default nothing.
        arithmetic: default floating point in the model's own format. K and V are quantized with the scales of the
            prompt (an encoder's call), of the tokens that exist there; Q with that of the call.
        quantization: by which the payload is counted; default the arithmetic's, or static 12 bits.
        record: keep what every layer computed, in `Controller.passes`. It grows with every call.

    Raises:
        ValueError: for a model that SpAtten does not fit, with what would.
        ConfigError: for a schedule written for another number of layers.
    """
    return Controller(model, pruning or PruningConfig(), arithmetic, quantization, record)


@contextmanager
def spatten_attention(
    model: Any,
    pruning: PruningConfig | None = None,
    arithmetic: FloatArithmetic | IntegerArithmetic | None = None,
    *,
    quantization: QuantizationConfig | None = None,
    record: bool = True,
) -> Iterator[Controller]:
    """`attach` for the duration of a `with` block; its arguments and errors are the same."""
    controller = attach(model, pruning, arithmetic, quantization=quantization, record=record)
    try:
        yield controller
    finally:
        controller.detach()
