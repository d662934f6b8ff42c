"""The accelerator at its published size: shipped traces, all layers, several settings, equal to the bit."""

from pathlib import Path

import pytest

from models.config import AcceleratorConfig
from verification.equivalence_job import EquivalenceJob, all_equal
from verification.run_job import shipped_workloads, traces_of
from verification.runs import strengths

SPATTEN = AcceleratorConfig.preset("spatten")


@pytest.mark.full
def test_shipped_traces_are_equal_to_the_bit(tmp_path: Path) -> None:
    traces = traces_of([path for path in shipped_workloads() if path.suffix == ".npz"])
    data = EquivalenceJob(traces, strengths(SPATTEN), SPATTEN, "spatten").run(tmp_path)
    assert not data["left_out"]
    assert all(result["whole_trace"] for result in data["results"])
    assert all_equal(data), [result["mismatches"] for result in data["results"] if not result["equal"]]
