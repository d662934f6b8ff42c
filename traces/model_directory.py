"""A local Hugging Face directory: which models can be captured from it, its tokenizer and its weights.

Everything that can be wrong with a directory is found before its weights are read, where it can be.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from traces.trace import TraceError

ENCODERS = ("bert",)
DECODERS = ("gpt2", "llama")
"""Values of `model_type`; what each computes is checked layer by layer during the capture all the same."""

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model")
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Facts:
    """A directory without its weights.

    Attributes:
        directory: the directory.
        model_type: one of `ENCODERS` or `DECODERS`.
        layers: number of layers.
        positions: longest sequence that the model has positions for.
        vocabulary: number of its token ids.
        tokenizer: of the same directory, with offsets into the text.
        licence: what the directory's README.md declares, else "not stated".
    """

    directory: Path
    model_type: str
    layers: int
    positions: int
    vocabulary: int
    tokenizer: Any
    licence: str


def open_directory(directory: Path, generate: int) -> Facts:
    """Read configuration and tokenizer; raises `TraceError` for a directory that cannot be captured from."""
    where = str(directory)
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise TraceError(f"{what}; give a local directory with config.json, a tokenizer and weights", path=where)
    _require_file(directory, ("config.json",), "is no Hugging Face model")
    with _translated(where, "config.json cannot be used"):
        kind = json.loads((directory / "config.json").read_bytes()).get("model_type")
    _check_type(kind, where, generate)
    with _translated(where, "config.json cannot be used"):
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    if getattr(config, "add_cross_attention", False) or (kind in ENCODERS and config.is_decoder):
        raise TraceError(
            "attends to another sequence or decodes; supported are plain encoders and decoders", path=where
        )
    _require_file(directory, _TOKENIZER_FILES, "has no tokenizer")
    with _translated(where, "the tokenizer cannot be loaded"):
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    if not tokenizer.is_fast:
        raise TraceError("the tokenizer does not know where its tokens lie in the text; add tokenizer.json", path=where)
    _require_file(directory, _WEIGHT_FILES, "has no weights")
    return Facts(
        directory,
        config.model_type,
        config.num_hidden_layers,
        config.max_position_embeddings,
        config.vocab_size,
        tokenizer,
        _licence(directory / "README.md"),
    )


def load_model(facts: Facts, generate: int) -> Any:
    """Load the weights, in float32 and in evaluation mode; raises `TraceError` if any are missing or do not fit."""
    where = str(facts.directory)
    options: dict[str, Any] = {"add_pooling_layer": False} if facts.model_type == "bert" else {}
    auto = AutoModelForCausalLM if generate else AutoModel
    with _translated(where, "the weights cannot be loaded"):
        model, report = auto.from_pretrained(
            facts.directory, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    if missing := sorted(report["missing_keys"]):
        raise TraceError(
            f"the weights lack {len(missing)} tensors of a {type(model).__name__}, the first {missing[0]!r}; "
            "is this the right config.json?",
            path=where,
        )
    return model.eval()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the library's own progress bars and remarks out of ours."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_type(kind: object, where: str, generate: int) -> None:
    if kind not in (*ENCODERS, *DECODERS):
        raise TraceError(
            f"is a model of type {str(kind)[:60]!r}; supported are {', '.join(ENCODERS)} (encoders) and "
            f"{', '.join(DECODERS)} (decoders)",
            path=where,
        )
    if generate and kind in ENCODERS:
        raise TraceError(
            f"is an encoder ({kind}) and generates nothing; leave --generate out, or take a decoder "
            f"({', '.join(DECODERS)})",
            path=where,
        )


def _require_file(directory: Path, patterns: tuple[str, ...], problem: str) -> None:
    if not any(any(directory.glob(pattern)) for pattern in patterns):
        raise TraceError(f"{problem}: there is no {' or '.join(patterns)}", path=str(directory))


@contextmanager
def _translated(where: str, problem: str) -> Iterator[None]:
    # A damaged directory makes the libraries below raise anything, down to a bare Exception.
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TraceError(f"{problem}: {reason[:300]}", path=where) from error


def _licence(readme: Path) -> str:
    """The `license` of the YAML that begins a model card."""
    if not readme.is_file():
        return "not stated"
    header = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    stated = re.search(r"^license:[ \t]*([\w.+-]+)", header[1], re.MULTILINE) if header else None
    return stated[1] if stated else "not stated"
