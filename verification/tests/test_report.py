"""The main job: tables and page from result files, published figures beside ours; `spatten simulate`."""

import copy
import io
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

import spatten
from models.transaction.summary import simulate_as_timeline
from reports import combined, markdown, page, simulate_tables, tables
from verification import simulate_job

PAPER = Path(__file__).resolve().parents[3] / "shared" / "spec" / "paper.json"
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
    assert "43.2 %  87.6 %" in _terminal(simulate_tables.time_table(data))
    total["dram_stream"] = None
    assert "<td>-</td><td>-</td>" in page.render(all_of_it)
    assert "| - | - |" in markdown.render_evidence(all_of_it)
    assert "43.2 %" not in _terminal(simulate_tables.time_table(data))


def _terminal(table: Table, width: int = 80) -> str:
    """A table as it is printed."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A result file of two workloads of one name."""
    out = tmp_path_factory.mktemp("simulated")
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-base:12", "bert-base:12", "--out", str(out), "--json"])
    assert called.exit_code == 0, called.output
    assert sorted(path.name for path in out.iterdir()) == [
        *("bert-base-12-2.trace.json", "bert-base-12.trace.json", "simulate.json")
    ]
    found: dict[str, Any] = json.loads(called.stdout)
    assert found["config"]["quantization"] == {"msb_bits": 8, "lsb_bits": 4, "threshold": 0.1}
    return found


def _much(data: dict[str, Any]) -> dict[str, Any]:
    """The same of a workload with a long name that takes very long."""
    found: dict[str, Any] = copy.deepcopy(data)
    for result in found["results"]:
        result["workload"] = "gpt2-medium-of-a-long-name-wikitext103.csv"
        total = result["total"]
        total |= {"cycles": 12_345_678_901, "seconds": 12.345678901, "bandwidth_utilization": 1.0}
        total |= {"compute_utilization": 1.0, "dram_bytes": 98_765_432_109, "dense_12_bit_bytes": 12_300_000_000_000}
        total["dense_fp32_bytes"] = 45_600_000_000_000
        total["energy_pj"]["total"] = 1.23456789e13
        total["bottleneck"] |= {"share": 1.0, "share_within_layers": 1.0, "stage": "top-k engine A"}
        total["dram_stream"] |= {"share": 1.0, "share_with_serial": 1.0}
    return found


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_no_number_of_simulate_is_cut(
    simulated: dict[str, Any], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    console = simulate_tables.console()
    for part in simulate_tables.render(_much(simulated)):
        console.print(part)
    shown = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    for number in ("12,345,678,901", "12,345,678.9", "100 %", "100.0 %", "98,765.4", "124.5x", "461.7x", "12,345,679"):
        assert number in shown


def test_a_table_that_is_too_wide_would_cut_numbers(simulated: dict[str, Any]) -> None:
    """The sibling of the test above."""
    assert "12,345,678,901" not in _terminal(simulate_tables.time_table(_much(simulated)), 40)


def test_one_workload_is_shown_in_detail(simulated: dict[str, Any]) -> None:
    alone = {**simulated, "results": simulated["results"][:1]}
    (detail,) = (part for part in simulate_tables.render(alone) if "in detail" in str(getattr(part, "title", "")))
    total = simulated["results"][0]["total"]
    shown = _terminal(cast("Table", detail))
    for name, cycles in (total["busy_cycles"] | total["stall_cycles"]).items():
        assert f"{name} " in shown
        assert f"{cycles:,}" in shown
    for name, found in total["dram_bytes_by_purpose"].items():
        assert re.search(f"DRAM: {name} +{found:,} ", shown)


def test_published_figures_stand_beside_those_of_their_workloads(simulated: dict[str, Any]) -> None:
    assert combined.published_rows(simulated) == []
    result = simulated["results"][0]
    data = {**simulated, "results": [{**result, "workload": "gpt2-medium-ptb"}, result]}
    rows = {row.measure: row for row in combined.published_rows(data)}
    assert {row.workload for row in rows.values()} == {"gpt2-medium-ptb"}
    assert set(rows) == set(combined.MEASURES)
    assert (rows["time, ms"].published, rows["TFLOP/s"].published) == (2.13, 0.43)
    assert rows["time, ms"].ours == result["total"]["seconds"] * 1e3
    everything = {"run": None, "equivalence": None, "estimate": None, "simulate": data}
    for text in (page.render(everything), markdown.render_evidence(everything)):
        assert "eight GPT-2 (section V-B)" in text
    assert result["source"] in page.render(everything)
    assert any("Published" in str(getattr(part, "title", "")) for part in tables.render(everything))


def test_published_figures_are_those_of_the_publication() -> None:
    if not PAPER.exists():
        pytest.skip("the published facts are not beside this checkout")
    paper = json.loads(PAPER.read_text(encoding="utf-8"))
    headline, table4, points = paper["headline"], paper["table4"]["spatten_e2e"], paper["fig18"]["points"]
    power = paper["table2_power"]
    published = {(f["measure"], f["workloads"][0].split("-")[0]): f["value"] for f in combined.published()["simulate"]}
    assert published == {
        ("time, ms", "gpt2"): table4["attn_ms"],
        ("performed, GFLOP", "gpt2"): table4["attn_gflops"],
        ("TFLOP/s", "gpt2"): headline["gpt2_tflops_8_models"]["value"],
        ("operations a byte", "gpt2"): points["spatten_gpt2"]["op_intensity"],
        ("TFLOP/s", "bert"): headline["bert_tflops_22_models"]["value"],
        ("operations a byte", "bert"): points["spatten_bert"]["op_intensity"],
        ("DRAM, times less than fp32", "gpt2"): headline["dram_access_reduction_all30"]["value"],
        ("power, W", "gpt2"): headline["power_w"]["value"],
        ("DRAM, share of power", "gpt2"): pytest.approx(power["dram_w"] / power["overall_w"], abs=0.005),
    }
    for name, point in (("BERT", points["spatten_bert"]), ("GPT-2", points["spatten_gpt2"])):
        ours = combined.published()["roofline"][name]
        assert (ours["operations_per_byte"], ours["tflops"]) == (point["op_intensity"], point["tflops"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bert-bse:12"], "no model 'bert-bse'; did you mean 'bert-base'?"),
        ([""], "is called ''; did you mean"),
        (["bert-base:12", "--preset", "tiny"], "bert-base:12: head dimension 64 does not fit this machine"),
        (["bert-base:2000"], "bert-base:2000: a sequence of 2000 tokens"),
        (["bert-base:12", "--out", __file__], f"{__file__}: File exists"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, arguments: list[str], message: str) -> None:
    called = CliRunner().invoke(spatten.app, ["simulate", "--out", str(tmp_path), *arguments])
    assert called.exit_code == 2
    assert called.output.splitlines() == [called.output.strip()]
    assert called.output.startswith("error: ")
    assert message in called.output


def test_a_wrong_workload_is_told_before_the_first_one_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a workload was run")

    monkeypatch.setattr(simulate_job, "simulate", refuse)
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-base:12", "bert-bse:12", "--out", str(tmp_path)])
    assert called.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_timeline_that_ends_early_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_job, "simulate_as_timeline", lambda result: simulate_as_timeline(result, 100))
    called = CliRunner().invoke(spatten.app, ["simulate", "bert-base:12", "--out", str(tmp_path)])
    assert called.exit_code == 0, called.output
    (result,) = json.loads((tmp_path / "simulate.json").read_text())["results"]
    assert result["timeline"]["file"] == "bert-base-12.trace.json"
    assert result["timeline"]["slices_dropped"] > 0
    assert f"bert-base-12.trace.json ends early: {result['timeline']['slices_dropped']:,} slices" in called.output
