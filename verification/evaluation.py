"""What pruning costs a local model on a text: the method beside the rules it is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from models.config import Config
from models.reference.huggingface.evaluate import RULES, embedding_agreement, perplexity
from models.reference.integer import IntegerArithmetic
from traces.model_directory import ENCODERS, load_model, open_directory, quiet_transformers
from traces.tokens import tokenize
from traces.trace import TraceError

Progress = Callable[[int, int, str], None]


def evaluate_model(
    model_dir: Path,
    text: str,
    keeps: Sequence[float],
    config: Config,
    *,
    integers: bool = False,
    prompt: int = 64,
    window: int = 256,
    windows: int = 8,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Perplexity of a decoder on `text`, or agreement of an encoder's embeddings of its lines with the dense model's.

    Args:
        model_dir: local Hugging Face directory.
        text: a stream for a decoder; for an encoder every line that is not empty is an input.
        keeps: shares of tokens kept behind the front layers.
        config: heads, values, scope, quantization of the pruned runs.
        integers: compute attention in the machine's integers instead of float32.
        prompt: for a decoder, tokens of each window that are read at once and not scored.
        window: for a decoder, tokens of a window.
        windows: for a decoder, how many windows of the text to use.
        progress: called with calls of the model done and to do.

    Returns:
        plain values: the model, the measure and one point for each rule and share, the dense one first.

    Raises:
        TraceError: for a directory or a text that cannot be used.
        ConfigError: for a share outside (0, 1].
    """
    with quiet_transformers():
        facts = open_directory(model_dir, generate=0)
        encoder = facts.model_type in ENCODERS
        model = load_model(facts, generate=0 if encoder else 1)
    name = facts.directory.resolve().name

    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, name)

    arithmetic = IntegerArithmetic(config.quantization, config.accelerator.datapath_bits) if integers else None
    options: dict[str, Any] = {
        "pruning": config.pruning,
        "arithmetic": arithmetic,
        "progress": report,
    }
    try:
        if encoder:
            lines = [line for line in text.splitlines() if line.strip()]
            inputs = [tokenize(facts, line, f"line {i}", 0).ids for i, line in enumerate(lines, 1)]
            if not inputs:
                raise TraceError("is empty; give at least one line", where="text")
            points: Sequence[Any] = embedding_agreement(model, inputs, keeps, RULES, **options)
        else:
            unlimited = replace(facts, positions=len(text) + 1)
            ids = torch.tensor(tokenize(unlimited, text, "stream", 0).ids)
            points = perplexity(model, ids, keeps, RULES, prompt=prompt, window=window, windows=windows, **options)
    except ValueError as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(str(error), path=str(model_dir)) from None
    return {
        "schema": "spatten-evaluate-1",
        "model": name,
        "measure": "embedding agreement" if encoder else "perplexity",
        "points": [asdict(point) for point in points],
    }
