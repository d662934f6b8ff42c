import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import spatten
from models.config import Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.huggingface.evaluate import RULES
from traces.npz import read_trace, write_trace
from traces.synthetic import synthetic_trace
from traces.trace import TraceFile
from traces.workload import read_workload
from verification import runs
from verification.recorded import recorded_layers
from verification.recording import SHIPPED
from verification.run_job import SHIPPED as SHIPPED_FILES
from verification.tests.tiny_models import TEXT, save_model


def call(*arguments):
    return CliRunner().invoke(spatten.app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trace_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.npz"
    encoder = synthetic_trace(1, tokens=12, layers=2, heads=2, kv_heads=1, head_dim=8, name="encoder")
    decoder = synthetic_trace(
        1, kind="decoder", tokens=14, generated=2, layers=2, heads=2, kv_heads=1, head_dim=8, name="decoder"
    )
    write_trace(path, TraceFile(sequences=(encoder, decoder)))
    return path


@pytest.fixture
def config_path(tmp_path):
    path = tmp_path / "half.toml"
    path.write_text(Config(pruning=PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.5)))).to_toml())
    return path


def test_run_writes_json_and_markdown_and_shows_tables(trace_path, tmp_path):
    result = call("run", trace_path, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    data = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(r["trace"], r["setting"]) for r in data["runs"]] == [
        (trace, setting)
        for trace in ("encoder", "decoder")
        for setting in ("dense 12", "light 8+4", "medium 8+4", "strong 6+4")
    ]
    dense = data["runs"][0]["layers"][0]
    assert dense["payload"] == dense["dense12"]
    assert "~~" in (tmp_path / "out" / "run.md").read_text()
    assert "All runs" in result.output
    assert "decoder, strong 6+4, generation" in result.output


def test_run_takes_a_configuration_and_prints_json(trace_path, config_path, tmp_path):
    result = call("run", trace_path, "--config", config_path, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert {r["setting"] for r in data["runs"]} == {"half"}
    encoder = data["runs"][0]
    assert [layer["tokens"] for layer in encoder["layers"]] == [12, 6]
    assert [len(alive) for alive in encoder["survivors"]] == [12, 6]


def test_quiet_prints_nothing(trace_path, config_path, tmp_path):
    assert call("run", trace_path, "-c", config_path, "--out", tmp_path, "--quiet").output == ""
    assert call("info", "--quiet").output == ""


def test_an_error_beyond_its_bound_is_evidence_against(trace_path, config_path, tmp_path, monkeypatch):
    monkeypatch.setattr("models.reference.integer.rshift", lambda x, bits: (x >> bits) - 40)
    result = call("run", trace_path, "-c", config_path, "--out", tmp_path)
    assert result.exit_code == 1
    assert not json.loads((tmp_path / "run.json").read_text())["runs"][0]["within_bounds"]
    assert "NO" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "missing.npz"), "missing.npz: cannot be opened"),
        (("run", "--preset", "spaten"), "did you mean 'spatten'"),
        (("run", "--config", "missing.toml"), "missing.toml: cannot be read"),
        (("info", "missing.csv"), "missing.csv"),
        (("info", "[bold]brackets[/red].csv"), "[bold]brackets[/red].csv"),
    ],
)
def test_a_user_s_mistake_is_one_line_and_exit_code_2(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_schedule_for_other_layers_names_both_numbers(trace_path, tmp_path):
    (tmp_path / "three.toml").write_text("[pruning.tokens]\nratios = [1.0, 1.0, 0.5]\n")
    result = call("run", trace_path, "-c", tmp_path / "three.toml", "--out", tmp_path)
    assert result.exit_code == 2
    assert "3 ratios for 2 layers" in result.output


def test_a_head_that_the_machine_cannot_hold_is_refused(tmp_path):
    write_trace(tmp_path / "wide.npz", synthetic_trace(1, tokens=4, layers=1, heads=1, head_dim=64))
    result = call("run", tmp_path / "wide.npz", "--preset", "tiny", "--out", tmp_path)
    assert result.exit_code == 2
    assert "it takes 1 to 32" in result.output


def test_a_sequence_longer_than_the_memories_is_refused(tmp_path):
    write_trace(tmp_path / "long.npz", synthetic_trace(1, tokens=130, layers=1, heads=1, head_dim=32))
    result = call("run", tmp_path / "long.npz", "--preset", "tiny", "--out", tmp_path)
    assert result.exit_code == 2
    assert "it holds 128" in result.output


def test_info_describes_machine_traces_and_configurations(trace_path, config_path):
    facts = json.loads(call("info", "--json").stdout)
    assert facts["accelerator spatten"]["qk_multipliers"] == 512
    facts = json.loads(call("info", trace_path, config_path, "--json").stdout)
    assert facts[str(config_path)]["pruning"]["tokens"]["ratios"] == [1.0, 0.5]
    assert [s["name"] for s in facts[str(trace_path)]["sequences"]] == ["encoder", "decoder"]
    assert "qk_multipliers" in call("info").output


def test_help_names_every_command_and_teaches_by_example():
    top = call("--help").output
    for command in ("run", "info", "capture", "evaluate", "verify", "estimate", "export"):
        assert command in top
        assert "Example" in call(command, "--help").output
    assert call("--version").output.strip()


def test_python_m_spatten_is_the_same_command():
    result = subprocess.run([sys.executable, "-m", "spatten", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == call("--version").output


def test_progress_is_reported_for_every_layer():
    seen = []
    trace = synthetic_trace(1, kind="decoder", tokens=8, generated=2, layers=2, heads=1, head_dim=8)
    runs.summarize(trace, runs.Setting("all", Config()), lambda done, total, what: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_an_unusual_softmax_scale_reaches_the_arithmetic():
    usual = synthetic_trace(1, tokens=4, layers=1, heads=1, head_dim=8)
    assert runs.own_softmax_scale(usual) is None
    flatter = replace(usual, model=replace(usual.model, softmax_scale=0.01))
    config = Config(quantization=QuantizationConfig(8, 4, 0.5))
    flat = [runs.summarize(t, runs.Setting("all", config)).layers[0].flat_rows for t in (usual, flatter)]
    assert flat[0] < flat[1] == 4


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in ("bert", "gpt2"):
        save_model(folder / kind, kind)
    return {kind: folder / kind for kind in ("bert", "gpt2")}


def test_a_captured_trace_runs(directories, tmp_path):
    (tmp_path / "review.txt").write_text(TEXT)
    call_capture = ("capture", "--model", directories["gpt2"], "--text", tmp_path / "review.txt")
    result = call(*call_capture, "--generate", 2, "--out", tmp_path / "t.npz", "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.stdout).values()
    assert [(s["name"], s["generated"]) for s in facts["sequences"]] == [("review", 2)]
    assert call("run", tmp_path / "t.npz", "--out", tmp_path, "--quiet").exit_code == 0


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [("bert", b"\xff\xfe", "not UTF-8 text at byte 0"), ("bert", b" \n", "is empty"), ("none", b"a", "does not exist")],
)
def test_what_cannot_be_captured_is_named(directories, tmp_path, model, text, message):
    (tmp_path / "t.txt").write_bytes(text)
    arguments = ("--model", directories.get(model, tmp_path / "none"), "--text", tmp_path / "t.txt")
    for command in (("capture", *arguments, "--out", tmp_path / "t.npz"), ("evaluate", *arguments)):
        result = call(*command)
        assert result.exit_code == 2
        assert message in result.output.replace("\n", "")
    assert not (tmp_path / "t.npz").exists()


def test_evaluate_measures_every_rule_beside_the_dense_model(directories, tmp_path):
    (tmp_path / "t.txt").write_text(f"{TEXT}\n{TEXT}\n")
    for kind, options in (("bert", ()), ("gpt2", ("--prompt", 4, "--window", 8, "--windows", 1))):
        arguments = ("--model", directories[kind], "--text", tmp_path / "t.txt", "--keep", 0.5, *options)
        result = call("evaluate", *arguments, "--json")
        assert result.exit_code == 0, result.output
        points = json.loads(result.stdout)["points"]
        assert [p["rule"] for p in points] == ["dense", *RULES]
        assert points[0]["payload_share"] == 1
        assert all(p["payload_share"] < 1 for p in points[1:])
        assert "importance" in call("evaluate", *arguments, "--integers").output


def test_a_recorded_workload_is_run_by_its_counts(tmp_path):
    result = call("run", SHIPPED_FILES / "gpt2-lighthouse.csv", "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    (recorded,) = json.loads(result.stdout)["recorded"]
    assert recorded["trace"] == "gpt2-lighthouse.csv"
    assert "gpt2-lighthouse.csv, recorded" in (tmp_path / "run.md").read_text()


def test_the_payload_of_a_recorded_workload_is_that_of_the_run_it_records():
    (trace,) = read_trace(SHIPPED_FILES / "gpt2-lighthouse.npz").sequences
    recorded = recorded_layers(read_workload(SHIPPED_FILES / "gpt2-lighthouse.csv"))
    summary = runs.summarize(trace, runs.Setting("recorded", SHIPPED))
    generation = [layer for layer in summary.layers if layer.stage == "generation"]
    for ours, theirs in zip(recorded, generation, strict=True):
        for field in ("layer", "passes", "tokens", "heads", "rows", "flat_rows", "payload", "dense12", "fp32"):
            assert getattr(ours, field) == getattr(theirs, field), field


def test_a_datapath_is_estimated_and_exported(tmp_path):
    facts = json.loads(call("estimate", "--block", "zero_eliminator", "--preset", "tiny", "--json").stdout)
    assert facts["totals"]["area"]["value"] > 0
    result = call("export", "--block", "zero-eliminator", "--preset", "tiny", "--out", tmp_path, "--cycles", 5)
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} >= {"zero_eliminator.v", "zero_eliminator_tb.v"}


@pytest.mark.parametrize("command", [("verify",), ("estimate",), ("export", "--out", "x")])
def test_an_unknown_datapath_names_the_closest(command):
    result = call(*command, "--block", "zero_elimnator")
    assert result.exit_code == 2
    assert "did you mean 'zero_eliminator'" in result.output.replace("\n", " ")
