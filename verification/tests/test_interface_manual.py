"""The interface manual says what the netlist does: its tables are those of the descriptor, its driver runs."""

import re
from pathlib import Path

import pytest

from hls.datapaths.descriptor import ANSWER, DESCRIPTOR, HEAD_ENTRY, STATUS_MESSAGES

MANUAL = Path(__file__).parents[2] / "docs" / "accelerator.md"


@pytest.fixture(scope="module")
def manual() -> str:
    return MANUAL.read_text(encoding="utf-8")


def test_tables_are_those_of_the_descriptor(manual: str) -> None:
    for layout in (DESCRIPTOR, HEAD_ENTRY, ANSWER):
        assert layout.table() in manual, layout.name
    for status, message in STATUS_MESSAGES.items():
        assert f"| {int(status)} | {status.name} | {message} |" in manual


def test_the_driver_runs(manual: str, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    assert len(code.splitlines()) <= 40
    exec(compile(code, str(MANUAL), "exec"), {})
    status, cycles, survivors = map(int, capsys.readouterr().out.split())
    assert (status, survivors) == (0, 2)
    assert 200 < cycles < 1000
