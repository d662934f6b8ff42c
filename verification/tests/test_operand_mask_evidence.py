"""The operand mask's proof holds, and a planted fault in it is refuted with a counterexample that replays."""

import pyrtl

from hls.datapaths.operand_mask import build
from models.config import AcceleratorConfig
from verification.equivalence.counterexample import load, replay
from verification.equivalence.verdict import Kind
from verification.evidence.operand_mask import checked
from verification.mutants.netlist import netlist_mutants
from verification.results import Settings

TINY = AcceleratorConfig.preset("tiny")


def test_the_mask_is_proved() -> None:
    assert checked(build(TINY).block, TINY, Settings()).kind is Kind.PROVED


def test_a_planted_fault_is_refuted(tmp_path) -> None:
    faulty: pyrtl.Block = next(m for m in netlist_mutants(build(TINY).block) if m.operator == "inversion").build()
    verdict = checked(faulty, TINY, Settings(folder=tmp_path))
    assert verdict.kind is Kind.REFUTED
    assert verdict.counterexample is not None
    assert replay(faulty, load(verdict.counterexample))
