"""Capturing a trace: one dense run of a local Hugging Face model, with Q, K and V of every token written down.

An encoder sees each text once. A decoder sees the prompt, then one greedily chosen token at a time against its KV
cache: every generated token is fed back, so that it has its own row of Q, K and V (its successor, which the last one
would choose, has none and is not part of the trace). An end-of-text token is a token like any other: as many are
generated as were asked for. Nothing is loaded from a network, and no code from the model's directory is run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from transformers import DynamicCache

from traces.model_directory import ENCODERS, load_model, open_directory, quiet_transformers
from traces.record import AttentionCall, check_explains, recorded_attention
from traces.tokens import Tokens, generated_text, tokenize
from traces.trace import Kind, ModelFacts, Trace, TraceError, TraceFile

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what was done last."""


def capture(
    model_dir: Path,
    text: str | Mapping[str, str],
    generate: int = 0,
    *,
    dtype: DTypeLike = np.float16,
    progress: Progress | None = None,
    name: str | None = None,
    source: str | None = None,
    licence: str | None = None,
    notes: str = "",
    made_by: str = "spatten capture",
) -> TraceFile:
    """Run the model in `model_dir` densely on one or several texts and keep Q, K and V.

    `text` is a text, or several by the names that their sequences get. `generate` tokens follow each prompt (decoders
    only). Computed in float32, kept as `dtype`, float16 or float32. `name`, `source`, `licence` and `notes` describe
    the model; the defaults are the directory's name and what its README.md says. Raises `TraceError` for a directory
    without a usable model or tokenizer, a text that does not fit, and values that `dtype` cannot hold.
    """
    if np.dtype(dtype) not in (np.float16, np.float32):
        raise TraceError(f"is {np.dtype(dtype).name}; should be float16 or float32", where="dtype")
    if type(generate) is not int or generate < 0:
        raise TraceError(f"is {generate!r}; should be an integer of 0 or more", where="generate")
    texts = {"text": text} if isinstance(text, str) else dict(text)
    if not texts:
        raise TraceError("there is none; give at least one", where="text")
    with quiet_transformers():
        facts = open_directory(Path(model_dir), generate)
        prompts = {key: tokenize(facts, value, key, generate) for key, value in texts.items()}
        steps = _Steps(progress, 1 + len(texts) * (facts.layers + generate))
        model = load_model(facts, generate)
        steps.done("loaded the model")
        runs = {key: run_dense(model, prompt.ids, generate, steps.done, key) for key, prompt in prompts.items()}
    first = next(iter(runs.values()))
    model_facts = ModelFacts(
        name=facts.directory.resolve().name if name is None else name,
        source=f"local directory {facts.directory.resolve().name}" if source is None else source,
        licence=facts.licence if licence is None else licence,
        layers=len(first.q),
        heads=len(first.q[0]),
        kv_heads=len(first.k[0]),
        head_dim=first.q[0].shape[-1],
        softmax_scale=first.softmax_scale,
        architecture=facts.model_type,
        notes=notes,
    )
    kind: Kind = "encoder" if facts.model_type in ENCODERS else "decoder"
    sequences = tuple(
        _trace(key, kind, model_facts, prompts[key], run, facts.tokenizer, np.dtype(dtype)) for key, run in runs.items()
    )
    return TraceFile(sequences=sequences, made_by=f"{made_by}; transformers {transformers.__version__}")


class DenseRun(NamedTuple):
    """Operands of one run: for each layer Q (heads x tokens x D), K and V (K/V heads x tokens x D), float32.

    `ids` are the prompt's and the generated tokens. `q` is such that one `softmax_scale` serves all layers.
    """

    ids: tuple[int, ...]
    q: tuple[Tensor, ...]
    k: tuple[Tensor, ...]
    v: tuple[Tensor, ...]
    softmax_scale: float


def run_dense(
    model: Any,
    ids: tuple[int, ...],
    generate: int = 0,
    done: Callable[[str], None] = lambda what: None,
    name: str = "text",
) -> DenseRun:
    """Run a model (in evaluation mode) on one sequence, choosing `generate` further tokens greedily.

    `done` is called after every layer of the prompt and every generated token. The model is left as it was. Raises
    `TraceError` if the model's attention is not what a trace can stand for.
    """
    causal = model.config.model_type not in ENCODERS
    layers = model.config.num_hidden_layers
    calls: list[list[AttentionCall]] = [[] for _ in range(layers)]
    prompt_layers = iter(range(1, layers + 1))

    def on_call(call: AttentionCall) -> None:
        check_explains(call, causal)
        rows = call.q.shape[1]
        new = call._replace(q=call.q.clone(), k=call.k[:, -rows:].clone(), v=call.v[:, -rows:].clone())
        calls[call.layer].append(new)
        if rows == len(ids) and len(calls[call.layer]) == 1:
            done(f"{name}: layer {next(prompt_layers)} of {layers}, {len(ids)} tokens")

    with torch.inference_mode(), recorded_attention(model, on_call):
        if generate:
            all_ids = _generate(model, ids, generate, done, name)
        else:
            model(input_ids=torch.tensor([ids]), use_cache=False)
            all_ids = ids
    if not all(calls):
        silent = ", ".join(str(i) for i, of_layer in enumerate(calls) if not of_layer)
        raise TraceError(f"layers {silent} computed no attention that could be recorded", where="model")
    scale = calls[0][0].scaling
    # A model may scale its layers differently (GPT-2's scale_attn_by_inverse_layer_idx); a trace has one scale.
    q = [torch.cat([call.q * (call.scaling / scale) for call in of_layer], dim=1) for of_layer in calls]
    k = [torch.cat([call.k for call in of_layer], dim=1) for of_layer in calls]
    v = [torch.cat([call.v for call in of_layer], dim=1) for of_layer in calls]
    return DenseRun(all_ids, tuple(q), tuple(k), tuple(v), scale)


def _generate(
    model: Any, ids: tuple[int, ...], generate: int, done: Callable[[str], None], name: str
) -> tuple[int, ...]:
    cache = DynamicCache(config=model.config)
    chosen: list[int] = []
    call = ids
    for step in range(generate + 1):
        output = model(input_ids=torch.tensor([call]), past_key_values=cache, use_cache=True)
        if step:
            done(f"{name}: generated token {step} of {generate}")
        if step < generate:
            chosen.append(int(output.logits[0, -1].argmax()))
            call = (chosen[-1],)
    return (*ids, *chosen)


def _trace(
    name: str, kind: Kind, model: ModelFacts, prompt: Tokens, run: DenseRun, tokenizer: Any, dtype: np.dtype[Any]
) -> Trace:
    return Trace(
        name=name,
        kind=kind,
        model=model,
        q=_stored(run.q, "q", name, dtype),
        k=_stored(run.k, "k", name, dtype),
        v=_stored(run.v, "v", name, dtype),
        token_ids=np.array(run.ids, dtype=np.int32),
        token_texts=(*prompt.texts, *generated_text(tokenizer, run.ids, len(prompt.ids))),
        prompt_length=len(prompt.ids),
        generated=len(run.ids) - len(prompt.ids),
        causal=kind == "decoder",
        protected=(0,) if kind == "encoder" else (),
    )


def _stored(layers: tuple[Tensor, ...], field: str, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = torch.stack(layers).numpy()
    largest = float(np.abs(array).max())
    limit = float(np.finfo(dtype).max)
    if largest > limit:
        raise TraceError(
            f"reaches {largest:.6g} in {name!r}, and {dtype.name} ends at {limit:.6g}; use --dtype float32",
            where=field,
        )
    return array.astype(dtype)


class _Steps:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def done(self, what: str) -> None:
        self._count += 1
        if self._progress is not None:
            self._progress(self._count, self._total, what)
