"""Vectors of a real model at full size: one head of a shipped trace through Q x K, prob x V and head importance."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hls.datapaths import head_importance, probability_value, query_key
from hls.simulate import from_words, open_simulator
from models.config import AcceleratorConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from traces.npz import read_trace
from verification.evidence.head_importance_model import OutputBeats
from verification.evidence.probability_value_model import ProbabilityValueBeats
from verification.evidence.probability_value_model import observed as observed_out
from verification.evidence.query_key_model import QueryKeyRows
from verification.evidence.query_key_model import observed as observed_scores
from verification.streaming import drain

TRACES = Path(__file__).resolve().parents[2] / "traces"
SHIPPED = sorted(path.name for path in TRACES.glob("*.npz"))
ROWS = 6
pytestmark = pytest.mark.full


def beats_of(elements: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Vectors of D <= 64 elements as rows of an SRAM: padded to the native D, and to whole rows, with zeros."""
    lanes, native = config.qk_multipliers // config.native_head_dim, config.native_head_dim
    padded = np.zeros((-(-len(elements) // lanes) * lanes, native), dtype=np.int64)
    padded[: len(elements), : elements.shape[1]] = elements
    return padded.reshape(-1, lanes * native)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("bits", [(8, 4), (4, 4)])
def test_a_head_of_a_real_model(name, bits):
    trace, config = read_trace(TRACES / name).sequences[0], AcceleratorConfig.preset("spatten")
    arithmetic = IntegerArithmetic(QuantizationConfig(*bits))
    layer = trace.layer(trace.layers - 1)
    q = arithmetic.hold_query(torch.from_numpy(layer.q))
    k, v = (
        arithmetic.hold_key_value(torch.from_numpy(x).repeat_interleave(trace.group_size, dim=0), None)
        for x in (layer.k, layer.v)
    )
    score = arithmetic.score(q, k, full=True)
    visible = torch.ones_like(score, dtype=torch.bool)
    prob = arithmetic.softmax(score, q, k, visible, None)
    out = arithmetic.weigh(prob, v, full=True)
    importance = arithmetic.head_importance(out, v)
    head, tokens = trace.heads - 1, trace.tokens
    lanes = config.lanes(trace.head_dim)

    keys = beats_of(k.operand(12, True)[head].numpy(), config)
    values = beats_of(v.operand(12, True)[head].numpy(), config)
    query = np.zeros((ROWS, config.max_head_dim), dtype=np.int64)
    query[:, : trace.head_dim] = q.operand(12, True)[head, :ROWS].numpy()
    cycles = len(keys)
    valid = np.tile((np.arange(cycles * lanes) < tokens).reshape(cycles, lanes), (ROWS, 1)).astype(np.int64)
    last = np.tile(np.arange(cycles) == cycles - 1, ROWS).astype(np.int64)
    nothing = np.zeros(ROWS * cycles, dtype=np.int64)

    rows = QueryKeyRows(np.repeat(query, cycles, axis=0), np.tile(keys, (ROWS, 1)), nothing, valid, last)
    with open_simulator(query_key.build(config), "fast") as simulator:
        seen = observed_scores(config, simulator.stream(rows.ports(config)).outputs)["score"]
    np.testing.assert_array_equal(seen.reshape(ROWS, -1)[:, :tokens], score[head, :ROWS].numpy())

    packed = np.zeros((ROWS, cycles * lanes), dtype=np.int64)
    packed[:, :tokens] = prob[head, :ROWS].numpy()
    beats = ProbabilityValueBeats(packed.reshape(-1, lanes), np.tile(values, (ROWS, 1)), valid, nothing, last)
    with open_simulator(probability_value.build(config), "fast") as simulator:
        outputs = observed_out(config, drain(simulator, beats.ports(config), ROWS).outputs["out"])
    np.testing.assert_array_equal(outputs[:, : trace.head_dim], out[head, :ROWS].numpy())
    assert not outputs[:, trace.head_dim :].any()

    scale = float(v.operand_scale(12)[head].flatten()[0])
    exponent = int(np.frexp(scale)[1]) - 1
    whole = OutputBeats(
        outputs[:, : config.native_head_dim],
        np.full(ROWS, head),
        np.full(ROWS, round(scale / 2.0 ** (exponent - 15))),
        np.full(ROWS, 3 - exponent),
        np.ones(ROWS, dtype=np.int64),
    )
    with open_simulator(head_importance.build(config), "fast") as simulator:
        columns = {port: from_words(words) for port, words in whole.ports(config, head_importance.HEADS).items()}
        for row in range(ROWS):
            simulator.step({port: column[row] for port, column in columns.items()} | {"in_valid": 1})
        while not simulator.step({"read_head": head})["idle"]:
            pass
        simulator.step({"read_head": head})
        assert simulator.step({})["read_score"] == int(importance[head, :ROWS].sum())
