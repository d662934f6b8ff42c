"""The main job: tables and page from result files, published figures beside ours; `spatten simulate`."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

import spatten
from reports import combined, markdown, page, tables

AREA = {"value": 2e6, "unit": "um2", "error": 0.5, "provenance": "fitted", "source": "here"}
POWER = {"value": 300.0, "unit": "mW", "error": 1.0, "provenance": "assumed", "source": "here"}
DELAY = {"value": 940.0, "unit": "ps", "error": 0.2, "provenance": "fitted", "source": "here"}


@pytest.fixture
def results() -> dict[str, Any]:
    groups = combined.published()["area_mm2"]
    del groups["source"]
    module = {"module": "query_key", "group": "softmax", "instances": 2, "register_bits": 10, "slack_ps": 60.0}
    module |= {"area": AREA, "delay": DELAY, "power": POWER}
    compared = {"score": 100, "prob": 20}
    run = {"name": "step 0, layer 0", "cycles": 500, "rows": 4, "heads": 1, "keys": 4, "flat": 0}
    equal = {"trace": "t", "setting": "s", "memory": "hbm2", "tokens": 4, "generated": 0, "layers": 1, "equal": True}
    equal |= {
        "compared": compared,
        "differing": {},
        "mismatches": [],
        "reproducer": None,
        "coverage": [],
        "runs": [run],
    }
    wrong = {**equal, "equal": False, "differing": {"score": 3}, "mismatches": ["score there: 1, not 2"]}
    return {
        "run": None,
        "simulate": None,
        "equivalence": {
            "machine": "tiny",
            "backend": "verilator",
            "left_out": ["wide: head dimension 64, the machine takes 32"],
            "unreached": ["stage: step"],
            "results": [equal, {**wrong, "reproducer": "folder"}],
        },
        "estimate": {
            "machine": "spatten",
            "technology": "generic 40 nm",
            "clock_period_ps": 1000,
            "modules": [module],
            "area_by_group": dict.fromkeys(groups, AREA),
            "power_by_group": dict.fromkeys(groups, POWER),
            "area": AREA,
            "power": POWER,
            "slowest": module,
        },
    }


def test_groups_of_silicon_stand_beside_the_published(results: dict[str, Any]) -> None:
    rows = combined.silicon_rows(results["estimate"])
    assert [row.group for row in rows][-1] == "all"
    first = rows[0]
    assert (first.group, first.area_mm2, first.published_area_mm2) == ("Q x K with Key SRAM", 2.0, 7.12)
    assert first.area_low == pytest.approx(2 / 1.5)
    assert first.area_high == pytest.approx(3.0)
    assert sum(row.published_area_mm2 for row in rows[:-1]) == pytest.approx(rows[-1].published_area_mm2, abs=0.01)


def test_a_difference_is_seen_in_every_form(results: dict[str, Any]) -> None:
    text = markdown.render_evidence(results)
    assert "| 120 | 0 |" in text
    assert "| 120 | **3** |" in text
    html = page.render(results)
    assert 'class="bad">3</td>' in html
    shown = [str(part) for part in tables.mismatches(results["equivalence"])]
    assert shown == ["t, s: score there: 1, not 2", "reproducer: folder"]


def test_the_page_needs_nothing_from_elsewhere(results: dict[str, Any]) -> None:
    html = page.render(results)
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in html
    assert "Not reached in this run: stage: step." in html


def test_simulate_writes_results_and_a_timeline(tmp_path: Path) -> None:
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-base:12", "--out", str(tmp_path), "--json"])
    assert called.exit_code == 0, called.output
    data = json.loads((tmp_path / "simulate.json").read_text())
    (result,) = data["results"]
    assert result["total"]["cycles"] == sum(layer["cycles"] for layer in result["layers"]) > 0
    timeline = json.loads((tmp_path / "bert-base-12.trace.json").read_text())
    assert any(event["ph"] == "X" for event in timeline["traceEvents"])
    both = {"run": None, "equivalence": None, "estimate": None, "simulate": data}
    assert "<svg" in page.render(both)
    assert "bert-base:12" in markdown.render_evidence(both)


def test_what_dram_streams_stands_beside_the_bottleneck(tmp_path: Path) -> None:
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-base:12", "--out", str(tmp_path), "--json"])
    assert called.exit_code == 0, called.output
    data = json.loads((tmp_path / "simulate.json").read_text())
    total = data["results"][0]["total"]
    stream = total["dram_stream"] = {**total["dram_stream"], "share": 0.4321, "share_with_serial": 0.8765}
    all_of_it = {"run": None, "equivalence": None, "estimate": None, "simulate": data}
    (row,) = combined.simulate_rows(data)
    assert (row.streaming, row.streaming_with_serial) == (stream["share"], stream["share_with_serial"])
    assert "<td>43.2 %</td><td>87.6 %</td>" in page.render(all_of_it)
    assert "| 43.2 % | 87.6 % |" in markdown.render_evidence(all_of_it)
    assert "43/88%" in _terminal(tables.simulate_table(data))
    total["dram_stream"] = None
    assert "<td>-</td><td>-</td>" in page.render(all_of_it)
    assert "| - | - |" in markdown.render_evidence(all_of_it)
    assert "43/88%" not in _terminal(tables.simulate_table(data))


def _terminal(table: Table, width: int = 80) -> str:
    """A table as it is printed; nothing of it is cut."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    shown = console.export_text()
    assert "uJ" in shown
    return shown


def test_a_workload_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-bse:12", "--out", str(tmp_path)])
    assert called.exit_code == 2
    assert "Traceback" not in called.output
