"""Every number of the golden vectors, written by an independent hand in Python integers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare

GOLDEN = Path(__file__).parent / "golden"
CASES = ("encoder_static12", "encoder_progressive_8_4", "decoder_step")


def golden_run(name):
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        q, k, v = (tuple(torch.from_numpy(arrays[f"{t}{i}"]) for i in range(case["layers"])) for t in "qkv")
    quantization = QuantizationConfig(case["msb"], case["lsb"], case["threshold"])
    pruning = PruningConfig(
        tokens=KeepSchedule(ratios=tuple(case["keep"])),
        heads=KeepSchedule(ratios=tuple(case["heads_keep"])),
        value_ratio=case["value_ratio"],
        scope=case.get("scope", "step"),
        rescale=case.get("rescale", False),
    )
    sequence = Sequence(q, k, v, case.get("prompt"))
    run = prepare(sequence, IntegerArithmetic(quantization, case["w"]), pruning, quantization, case["w"])
    return list(run.passes()), case["steps"]


def as_golden(result):
    """One layer in the form of the golden files."""
    attention = result.attention
    rows: dict[str, list[dict[str, object]]] = {}
    for h, head in enumerate(result.heads.tolist()):
        rows[str(head)] = []
        for r, row in enumerate(result.rows.tolist()):
            visible = attention.visible[0, r]
            rows[str(head)].append(
                {
                    "row": row,
                    "keys": result.tokens[visible].tolist(),
                    "score": attention.score[h, r][visible].tolist(),
                    "prob": attention.prob[h, r][visible].tolist(),
                    "flat": bool(attention.flat[h, r]),
                    "kept": result.tokens[attention.kept[h, r]].tolist(),
                    "out": attention.out[h, r].tolist(),
                }
            )
    return {
        "layer": result.layer,
        "alive": result.tokens.tolist(),
        "heads": result.heads.tolist(),
        "rows": rows,
        "s_t": result.importance.tokens.tolist(),
        "s_h": result.importance.heads.tolist(),
    }


@pytest.mark.parametrize("name", CASES)
def test_every_number(name):
    results, expected = golden_run(name)
    assert [result.step for result in results] == [layer.pop("step", 0) for layer in expected]
    assert [as_golden(result) for result in results] == expected


def test_the_cases_reach_flat_rows_pruned_values_and_pruned_heads():
    _, expected = golden_run("encoder_progressive_8_4")
    flat = [row["flat"] for layer in expected for rows in layer["rows"].values() for row in rows]
    assert 0 < sum(flat) < len(flat)
    assert len(expected[-1]["heads"]) < len(expected[0]["heads"])
    assert len(expected[-1]["alive"]) < len(expected[0]["alive"])
