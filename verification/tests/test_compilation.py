"""What is compiled is kept, and is compiled again when anything that is compiled into it changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALLER = """
from models.memory.compilation import compiled
from callee import FACTOR, shifted
import callee

@compiled
def scaled(value):
    return _sum(value) * FACTOR

@compiled
def _sum(value):
    return shifted(value) + callee.by_module(value)
"""
CALLEE = """
from models.memory.compilation import compiled

FACTOR = {factor}

@compiled
def shifted(value):
    return value + {shift}

@compiled
def by_module(value):
    return {module} * value
"""


def run_caller(folder, **parts):
    """Result of the caller for 1, and how many of the functions that it compiled were in the cache."""
    (folder / "caller.py").write_text(CALLER, encoding="utf-8")
    (folder / "callee.py").write_text(CALLEE.format(**parts), encoding="utf-8")
    code = "from caller import scaled; print(scaled(1), sum(scaled.stats.cache_hits.values()))"
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder), root)),
        "SPATTEN_CACHE": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    result, hits = map(int, run.stdout.split())
    return result, hits


BEFORE = {"factor": 2, "shift": 3, "module": 5}


@pytest.mark.parametrize("changed", [{"factor": 7}, {"shift": 7}, {"module": 7}], ids=lambda change: next(iter(change)))
def test_a_change_in_another_file_is_seen(tmp_path, changed):
    assert run_caller(tmp_path, **BEFORE) == (18, 0)
    now = BEFORE | changed
    assert run_caller(tmp_path, **now) == ((1 + now["shift"] + now["module"]) * now["factor"], 0)


def test_what_has_not_changed_is_not_compiled_again(tmp_path):
    assert run_caller(tmp_path, **BEFORE) == (18, 0)
    assert run_caller(tmp_path, **BEFORE) == (18, 1)
