"""The datapaths' proofs at tiny size: PROVED as built, REFUTED by a run that replays where a fault is planted.

The evidence at full size is in `verification.evidence`; this keeps the proofs themselves working.
"""

import pytest

from hls.datapaths import head_importance as head_importance_datapath
from hls.datapaths import probability_value as probability_value_datapath
from hls.datapaths import query_key as query_key_datapath
from hls.datapaths import zero_eliminator as zero_eliminator_datapath
from models.config import AcceleratorConfig
from verification.equivalence.counterexample import load, replay
from verification.equivalence.verdict import Kind
from verification.evidence import head_importance, probability_value, query_key, zero_eliminator
from verification.evidence.planted import all_refuted, faults
from verification.results import Settings

TINY = AcceleratorConfig.preset("tiny")
ELIMINATOR = zero_eliminator_datapath.plan(TINY).latency_cycles
BLOCKS = {
    "query_key": (
        lambda: query_key_datapath.build(TINY).block,
        lambda block, settings: query_key.proof(TINY, block, settings),
        ("stage removed", "sum_", "becomes a wire"),
    ),
    "probability_value": (
        lambda: probability_value_datapath.build(TINY).block,
        lambda block, settings: probability_value.proof(TINY, block, settings),
        ("enable", "sum_3", "always loads"),
    ),
    "head_importance": (
        lambda: head_importance_datapath.build(TINY, heads=8).block,
        lambda block, settings: head_importance.proof(TINY, 8, block, settings),
        ("stage added", "recent", "one more"),
    ),
    "zero_eliminator": (
        lambda: zero_eliminator_datapath.build(TINY).block,
        lambda block, settings: zero_eliminator.proof(TINY, 12, block, ELIMINATOR, settings),
        ("mux arms", "", "swapped"),
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_proved_as_built_and_refuted_with_a_fault(name, tmp_path):
    build, proof, fault = BLOCKS[name]
    settings = Settings(folder=tmp_path)
    assert proof(build(), settings).kind is Kind.PROVED
    (planted,) = faults(build(), fault)
    block = planted.build()
    verdict = proof(block, settings)
    assert verdict.kind is Kind.REFUTED
    assert verdict.counterexample is not None
    assert replay(block, load(verdict.counterexample))


def test_a_fault_that_a_check_lets_pass_is_reported():
    build, proof, _ = BLOCKS["zero_eliminator"]
    planted = faults(build(), ("reset value", "packed_valid_2", "flipped"))
    verdict = all_refuted(planted, lambda block: proof(block, Settings()))
    assert verdict.kind is Kind.REFUTED
    assert "is not refuted: PROVED" in verdict.detail
    with pytest.raises(ValueError, match="no 'enable' fault at 'nowhere'"):
        faults(build(), ("enable", "nowhere", "always loads"))


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("preset", ["tiny", "spatten-1-8", "spatten"])
def test_a_row_of_prob_x_v_cannot_leave_its_accumulator(preset, bits):
    """The claim behind the modular sums: the largest row fits."""
    config = AcceleratorConfig.preset(preset)
    largest = config.context_keys * ((1 << 12) - 1) << (bits - 1)
    assert largest <= 1 << (12 + bits + (config.context_keys - 1).bit_length() - 1)
