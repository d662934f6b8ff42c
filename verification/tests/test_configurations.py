"""All configurations of a command are for one machine: that of the preset, or the one that a file gives."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import spatten
from models.config import AcceleratorConfig, ConfigError
from verification.configurations import load_on

TINY = AcceleratorConfig.preset("tiny")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {
        "plain": "[pruning]\nvalue_ratio = 0.25\n",
        "other": "[accelerator]\nhbm_channels = 8\n",
        "third": "[accelerator]\nhbm_channels = 4\n",
    }
    found = {name: tmp_path / f"{name}.toml" for name in texts}
    for name, path in found.items():
        path.write_text(texts[name])
    return found


def test_a_file_without_a_machine_takes_the_preset(files: dict[str, Path]) -> None:
    (config,), machine, name = load_on([files["plain"]], "tiny")
    assert (config.accelerator, config.pruning.value_ratio, machine, name) == (TINY, 0.25, TINY, "tiny")
    assert load_on([], "tiny") == ([], TINY, "tiny")


@pytest.mark.parametrize("order", [("plain", "other"), ("other", "plain")])
def test_a_machine_in_a_file_is_that_of_all(files: dict[str, Path], order: tuple[str, str]) -> None:
    configs, machine, name = load_on([files[one] for one in order], "spatten")
    assert (machine.hbm_channels, name) == (8, "other")
    assert [config.accelerator for config in configs] == [machine, machine]


@pytest.mark.parametrize(
    ("given", "preset", "than"), [(("other",), "tiny", "tiny"), (("other", "third"), "spatten", "other")]
)
def test_two_machines_are_refused(files: dict[str, Path], given: tuple[str, ...], preset: str, than: str) -> None:
    with pytest.raises(ConfigError, match=f"accelerator: is another machine than {than}; leave one of them out"):
        load_on([files[one] for one in given], preset)


@pytest.mark.parametrize("command", ["run", "simulate", "verify"])
def test_every_command_refuses_two_machines(files: dict[str, Path], tmp_path: Path, command: str) -> None:
    arguments = {"run": [], "simulate": ["bert-base:12"], "verify": ["--trace", "trace.npz"]}[command]
    arguments += ["--config", str(files["other"]), "--preset", "tiny", "--out", str(tmp_path / "out")]
    called = CliRunner().invoke(spatten.app, [command, *arguments])
    assert called.exit_code == 2
    assert "other.toml: accelerator: is another machine than tiny" in called.output
    assert not (tmp_path / "out").exists()


def test_the_result_names_the_machine_that_ran(files: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["simulate", "bert-base:4", "--config", str(files["other"]), "--out", str(tmp_path), "--json"]
    called = CliRunner().invoke(spatten.app, arguments)
    assert called.exit_code == 0
    assert json.loads(called.stdout)["machine"] == "other"
