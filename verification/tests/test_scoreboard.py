"""Scoreboard and coverage: what is as the reference has it is equal; every planted difference is seen."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from models.config import AcceleratorConfig, Config, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from verification.coverage import Coverage, Situation, bins
from verification.expectation import LayerExpectation, expectation
from verification.scoreboard import Observed, Scoreboard, compare_layer, compare_requests, lanes_of, rows_of

QUANTIZATION = QuantizationConfig(4, 4, 0.35)
PRUNING = PruningConfig(value_ratio=0.6)


@pytest.fixture(scope="module")
def expected() -> LayerExpectation:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 9, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    arithmetic = IntegerArithmetic(QUANTIZATION)
    run = prepare(Sequence((q,), (k,), (v,)), arithmetic, PRUNING, QUANTIZATION)
    return expectation(run, next(run.passes()))


def perfect(e: LayerExpectation) -> Observed:
    """What a right netlist shows, all first passes first."""
    rows = [(h, r) for h in range(len(e.heads)) for r in range(e.rows)]
    again = [(h, r) for h, r in rows if e.flat[h, r]]
    slots = [np.flatnonzero(e.kept[h, r]) for h, r in rows]
    return Observed(
        pass_full=np.array([0] * len(rows) + [1] * len(again)),
        score=[e.first_score[h, r, : e.visible[r]] for h, r in rows]
        + [e.score[h, r, : e.visible[r]] for h, r in again],
        prob=[e.first_prob[h, r, : e.visible[r]] for h, r in rows] + [e.prob[h, r, : e.visible[r]] for h, r in again],
        flat=np.array([e.flat[h, r] for h, r in rows] + [False] * len(again), np.int64),
        retired_prob=[e.prob[h, r, : e.visible[r]] for h, r in rows],
        retired_flat=np.array([e.flat[h, r] for h, r in rows], np.int64),
        kept=[(kept, e.prob[h, r, kept]) for (h, r), kept in zip(rows, slots, strict=True)],
        output=[e.out[h, r] for h, r in rows],
    )


def test_what_the_reference_has_is_equal(expected: LayerExpectation) -> None:
    assert expected.flat.any()
    assert not expected.flat.all()
    board = Scoreboard()
    compare_layer(board, "layer 0", expected, perfect(expected), progressive=True)
    assert board.equal, board.report()
    assert board.compared["score"] == expected.prob.size + expected.flat.sum() * len(expected.tokens)


def test_nothing_compared_is_not_equal() -> None:
    assert not Scoreboard().equal


@pytest.mark.parametrize("name", [f.name for f in fields(Observed)])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_every_planted_difference_is_seen(expected: LayerExpectation, name: str, how: str) -> None:
    seen = perfect(expected)
    value = getattr(seen, name)
    if how == "missing":
        planted = value[:-1]
    elif isinstance(value, np.ndarray):
        planted = value.copy()
        planted[2] ^= 1
    elif name == "kept":
        planted = [*value[:4], (value[4][0], value[4][1] + 1), *value[5:]]
    else:
        planted = [*value[:4], value[4] + (np.arange(len(value[4])) == 1), *value[5:]]
    board = Scoreboard()
    compare_layer(board, "layer 0", expected, replace(seen, **{name: planted}), progressive=True)
    assert not board.equal
    assert "layer 0" in board.report()


def test_a_burst_too_many_is_seen() -> None:
    for found, equal in (([5, 4, 9, 4], True), ([5, 4, 9], False), ([5, 4, 9, 9], False)):
        board = Scoreboard()
        compare_requests(board, "layer 0", iter([np.array([4, 5]), np.array([4, 9])]), found)
        assert board.equal == equal


def test_lanes_and_rows_are_unpacked() -> None:
    words = np.array([[0xFFFFF_001 & 0xFFFFFFFF, 0x1], [0x00200_003, 0x0]], np.uint32)
    assert lanes_of(words, 2, 12).tolist() == [[0x001, 0xFFF], [0x003, 0x200]]
    assert lanes_of(words, 2, 12, signed=True).tolist() == [[1, -1], [3, 0x200]]
    rows = rows_of(np.array([[1, 2], [3, 4], [5, 6]]), np.array([[1, 1], [1, 0], [0, 1]]), np.array([0, 1, 1]))
    assert [row.tolist() for row in rows] == [[1, 2, 3], [6]]


def test_coverage_counts_what_was_reached_and_names_what_was_not(expected: LayerExpectation) -> None:
    machine = AcceleratorConfig.preset("tiny")
    coverage = Coverage(bins(machine))
    situation = Situation(
        Config(machine, PRUNING, QUANTIZATION), "encoder", 8, 2, 2, expected, None, None, "ideal", stalled=False
    )
    coverage.sample(situation)
    hits = dict(coverage.hits)
    assert hits["replay", "some rows are flat"] == 1
    assert hits["width", "4+4"] == hits["stage", "encoder"] == hits["rows", "padded tail"] == 1
    assert "memory: hbm2" in coverage.unreached()
    assert "width: 4+4" not in coverage.unreached()
    assert len(coverage.rows()) == len({(group, name) for group, name, _ in coverage.rows()})
