"""A recorded layer: the exported testbench replays its vectors; its requests are a trace for DRAM simulators."""

from pathlib import Path

import pytest

from hls.export import ExportError, export, run_icarus
from models.config import AcceleratorConfig
from verification.recorded_layer import RecordedLayer, record_layer, request_lines

TINY = AcceleratorConfig.preset("tiny")


@pytest.fixture(scope="module")
def recorded() -> RecordedLayer:
    return record_layer(TINY)


def test_requests_are_a_line_each(recorded: RecordedLayer) -> None:
    lines = request_lines([recorded.requests, recorded.requests]).splitlines()
    assert len(lines) == 2 * len(recorded.requests)
    cycle, channel, address, kind = lines[0].split()
    assert (int(channel), int(address, 16), kind) == (0, 0, "R")
    assert int(lines[len(recorded.requests)].split()[0]) > int(cycle)
    assert {line.split()[3] for line in lines} == {"R", "W"}


@pytest.mark.full
def test_icarus_replays_it(recorded: RecordedLayer, tmp_path: Path) -> None:
    export(recorded.netlist, tmp_path, recorded.vectors)
    assert "PASS" in run_icarus(recorded.netlist, tmp_path)


@pytest.mark.full
def test_icarus_notices_a_wrong_answer(recorded: RecordedLayer, tmp_path: Path) -> None:
    wrong = {name: words.copy() for name, words in recorded.vectors.outputs.items()}
    wrong["see_prob"][recorded.vectors.cycles // 2] ^= 1
    export(recorded.netlist, tmp_path, type(recorded.vectors)(recorded.vectors.inputs, wrong))
    with pytest.raises(ExportError):
        run_icarus(recorded.netlist, tmp_path)
