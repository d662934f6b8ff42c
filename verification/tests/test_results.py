"""Results and the runner: what passes, what the files say, and what happens to a check that dies."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from verification import evidence, runner
from verification.equivalence.verdict import Kind, bounded, proved, refuted, sampled, unknown
from verification.results import Check, Result, Settings, write_json, write_junit
from verification.runner import available_blocks, checks_of, rich_progress, run_check, run_checks

FAKE = '''
"""Checks of a block that does not exist."""
import os, signal
from verification.equivalence.verdict import Kind, proved, refuted, sampled, unknown
from verification.results import Check

def raises(settings):
    raise MemoryError("no room")

def dies(settings):
    os.kill(os.getpid(), signal.SIGKILL)

CHECKS = (
    Check("adds", "SMT", lambda s: proved("3 obligations")),
    Check("counts", "simulation", lambda s: sampled(s.samples, f"seed {s.seed}"), least=Kind.TESTED),
    Check("claims too much", "simulation", lambda s: sampled(5, "")),
    Check("is wrong", "SMT", lambda s: refuted("out differs <&> \\x07")),
    Check("gives up", "SMT", lambda s: unknown("no answer within 60 s")),
    Check("raises", "Python", raises),
) + ((Check("dies", "Python", dies),) if "SPATTEN_TEST_DIES" in os.environ else ())
'''
PASSING = """
from verification.equivalence.verdict import proved
from verification.results import Check
CHECKS = (Check("holds", "SMT", lambda s: proved()),)
"""


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """Two blocks beside the real ones, for this process and those it starts."""
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "fake_block.py").write_text(FAKE)
    (folder / "good_block.py").write_text(PASSING)
    (folder / "good_block_model.py").write_text("raise ImportError('a helper is not a block')")
    monkeypatch.setattr(evidence, "__path__", [str(folder)])
    yield ["fake-block", "good_block"]
    for name in ("fake_block", "good_block"):
        sys.modules.pop(f"verification.evidence.{name}", None)


def test_checks_are_run_in_order_and_none_stops_the_others(blocks):
    seen = []
    results = run_checks(blocks, 7, 40, lambda done, total, result: seen.append((done, total, result.name)))
    assert [(r.name, str(r.verdict), r.passed) for r in results] == [
        ("adds", "PROVED", True),
        ("counts", "TESTED(40)", True),
        ("claims too much", "TESTED(5)", False),
        ("is wrong", "REFUTED", False),
        ("gives up", "UNKNOWN", False),
        ("raises", "UNKNOWN", False),
        ("holds", "PROVED", True),
    ]
    assert seen == [(i + 1, 7, r.name) for i, r in enumerate(results)]
    assert results[1].verdict.detail == "seed 7"
    assert results[5].verdict.detail == "raised MemoryError: no room"
    assert {r.block for r in results} == {"fake_block", "good_block"}


def test_result_files(blocks, tmp_path):
    results = run_checks(blocks, 7, 40)
    write_json(results, tmp_path / "out" / "results.json", Settings(7, 40))
    write_junit(results, tmp_path / "out" / "results.xml")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["results.json", "results.xml"]
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (document["seed"], document["samples"], document["passed"]) == (7, 40, False)
    counted = document["results"][1]
    assert (counted["verdict"], counted["count"], counted["passed"]) == ("TESTED", 40, True)
    suites = ElementTree.parse(tmp_path / "out" / "results.xml").getroot().findall("testsuite")
    assert [(s.get("name"), s.get("tests"), s.get("failures"), s.get("errors")) for s in suites] == [
        ("fake_block", "6", "2", "2"),
        ("good_block", "1", "0", "0"),
    ]
    cases = {c.get("name"): c for c in suites[0]}
    assert [child.tag for child in cases["adds"]] == ["system-out"]
    failure = cases["is wrong"].find("failure")
    assert failure is not None
    assert failure.get("message") == "REFUTED by SMT: out differs <&> ?"
    weak = cases["claims too much"].find("failure")
    assert weak is not None
    assert "PROVED is required" in str(weak.get("message"))
    assert cases["gives up"].find("error") is not None


def test_a_file_that_cannot_be_written_leaves_nothing(blocks, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("disk full")

    results = run_checks(["good-block"])
    write_json(results, tmp_path / "results.json", Settings())
    before = (tmp_path / "results.json").read_text()
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_json(results, tmp_path / "results.json", Settings(seed=2))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == before


def test_no_results_do_not_pass(tmp_path):
    write_json([], tmp_path / "results.json", Settings())
    assert json.loads((tmp_path / "results.json").read_text())["passed"] is False


@pytest.mark.parametrize(
    ("verdict", "least", "passed"),
    [
        (proved(), Kind.PROVED, True),
        (bounded(5), Kind.PROVED, False),
        (bounded(5), Kind.BOUNDED, True),
        (sampled(5, ""), Kind.BOUNDED, False),
        (sampled(5, ""), Kind.TESTED, True),
        (unknown("why"), Kind.TESTED, False),
        (refuted("how"), Kind.TESTED, False),
    ],
)
def test_a_result_passes_if_its_verdict_is_strong_enough(verdict, least, passed):
    assert Result("block", "name", "method", verdict, least, 0.1).passed is passed


def test_unknown_blocks_and_empty_or_ambiguous_modules_are_refused(blocks, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'fake_block'"):
        checks_of("fake_blok")
    folder = Path(evidence.__path__[0])
    (folder / "empty_block.py").write_text("CHECKS = ()\n")
    twice = PASSING.replace("CHECKS = (", "CHECKS = 2 * (")
    (folder / "twice_block.py").write_text(twice)
    with pytest.raises(ValueError, match="CHECKS is empty"):
        checks_of("empty_block")
    with pytest.raises(ValueError, match=r"named twice: \['holds'\]"):
        checks_of("twice_block")
    for name in ("empty_block", "twice_block"):
        sys.modules.pop(f"verification.evidence.{name}", None)


def test_modules_without_checks_are_helpers(blocks):
    assert available_blocks() == ("fake_block", "good_block")


def test_registered_blocks_have_well_formed_checks():
    for block in available_blocks():
        for check in checks_of(block):
            assert isinstance(check, Check)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_what_does_not_pass_and_without_a_terminal_every_check(blocks, terminal):
    shown = io.StringIO()
    with rich_progress(Console(width=120, file=shown, force_terminal=terminal)) as report:
        run_checks(blocks, progress=report)
    text = shown.getvalue()
    assert "fake_block: is wrong: REFUTED: out differs" in text
    assert ("1/7 fake_block: adds: PROVED in 0.0 s" in text) is not terminal


def test_samples_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        run_checks(samples=0)


def test_a_check_is_timed():
    def slow(settings):
        time.sleep(0.05)
        return proved()

    result = run_check("block", Check("slow", "waiting", slow), Settings())
    assert 0.04 < result.seconds < 5


PARALLEL = """
import sys
from verification import evidence, runner
evidence.__path__ = [sys.argv[1]]
if __name__ == "__main__":
    for result in runner.run_checks(["fake_block"], jobs=2):
        print(result.name, result.verdict, result.verdict.detail)
"""


def test_processes_share_the_work_and_a_killed_one_is_unknown(blocks, tmp_path, monkeypatch):
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    root = Path(runner.__file__).parents[1]

    def run(**extra):
        command = [sys.executable, str(script), evidence.__path__[0]]
        environment = {**os.environ, "PYTHONPATH": str(root), **extra}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    assert run()[:2] == ["adds PROVED 3 obligations", "counts TESTED(100) seed 1"]
    dying = run(SPATTEN_TEST_DIES="1")
    assert len(dying) == 7
    assert dying[-1] == "dies UNKNOWN the process that ran it died (killed, or out of memory)"
