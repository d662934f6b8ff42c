"""Listening to the attention of an unmodified `transformers` model.

Every model of the library asks a registry for its attention function by the name in its configuration. While a
recording is on, that name is ours: the function calls the model's own eager computation, passes its result on and
reports the operands it was given, which are those of section 1 of the algorithm page: Q and K after rotary embedding,
before the softmax scale, K and V not repeated for the query heads of a group. The mask is looked up by the same name,
and a name without a mask function means no mask at all, so the eager one is registered beside it.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from traces.trace import TraceError

NAME = "spatten_record"
TOLERANCE = 1e-3
"""Largest deviation of a model's attention from softmax(scaling * Q K^T) V, relative to its largest output."""


class AttentionCall(NamedTuple):
    """One call of one layer's attention on a single sequence.

    `q` has shape heads x rows x D, `k` and `v` K/V heads x keys x D with the cached keys first, `out` heads x rows x D;
    row r stands for token `keys - rows + r`. `scaling` multiplies `q . k`.
    """

    layer: int
    q: Tensor
    k: Tensor
    v: Tensor
    scaling: float
    out: Tensor


@contextmanager
def recorded_attention(model: Any, on_call: Callable[[AttentionCall], None]) -> Iterator[None]:
    """Report every attention call of `model` (batches of one sequence) to `on_call` until the block ends.

    The model computes what it computes with its eager attention, and is left as it was. One recording at a time in a
    process. Raises `TraceError` for a model whose attention cannot be listened to.
    """
    if model.training:
        raise TraceError(
            "is in training mode, where dropout changes every call; call model.eval() first", where="model"
        )
    if NAME in ALL_ATTENTION_FUNCTIONS:
        raise TraceError("another recording is on in this process; end it first", where="model")

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        result = _eager_attention(module)(module, query, key, value, mask, **kwargs)
        scaling = kwargs.get("scaling")
        scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        on_call(AttentionCall(module.layer_idx, query[0], key[0], value[0], scaling, result[0][0].transpose(0, 1)))
        return result

    previous = model.config._attn_implementation
    # The registry's instance can forget a function again; masks are looked up in the class, which cannot, so that the
    # library's own eager mask stays known under this name.
    AttentionMaskInterface.register(NAME, eager_mask)
    ALL_ATTENTION_FUNCTIONS[NAME] = attend
    try:
        model.set_attn_implementation(NAME)
        if model.config._attn_implementation != NAME:
            raise TraceError(f"a {type(model).__name__} does not let its attention be exchanged", where="model")
        yield
    finally:
        model.set_attn_implementation(previous)
        del ALL_ATTENTION_FUNCTIONS[NAME]


def plain_attention(call: AttentionCall, causal: bool) -> Tensor:
    """softmax(scaling * Q K^T) V of a call's operands, shape heads x rows x D: what a replay of the trace computes."""
    group = len(call.q) // len(call.k)
    k, v = (x.repeat_interleave(group, dim=0) for x in (call.k, call.v))
    score = call.scaling * (call.q @ k.transpose(-1, -2))
    rows, keys = score.shape[-2:]
    if causal:
        hidden = torch.arange(keys) > torch.arange(keys - rows, keys)[:, None]
        score = score.masked_fill(hidden, -torch.inf)
    return torch.softmax(score, dim=-1) @ v


def check_explains(call: AttentionCall, causal: bool) -> None:
    """Raise `TraceError` if the operands of a call do not account for its output.

    They do not in a model with position biases, soft caps, attention sinks or a sliding window shorter than the text.
    """
    largest = float(call.out.abs().max())
    if not math.isfinite(largest):
        raise TraceError(
            "gives infinite or undefined numbers; are the weights whole?", where=f"attention of layer {call.layer}"
        )
    error = float((plain_attention(call, causal) - call.out).abs().max())
    if not error <= TOLERANCE * largest:
        raise TraceError(
            f"computes something other than softmax(scale * Q K^T) V: off by {error:.3g} where outputs reach "
            f"{largest:.3g}; a trace cannot stand for position biases, soft caps or a sliding window",
            where=f"attention of layer {call.layer}",
        )


def _eager_attention(module: Any) -> Callable[..., Any]:
    for cls in type(module).__mro__:
        function = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    raise TraceError(f"{type(module).__name__} has no eager attention of its own to record", where="model")
