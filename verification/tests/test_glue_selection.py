"""The selection and the value dispatch alone notice what the machine's layers do not bring."""

import pytest

from hls.compose import Composition
from hls.lower import Netlist
from verification.cosimulation import accelerator_of
from verification.equivalence.netlist import read_block
from verification.evidence.glue_dispatch import dispatch_alone
from verification.evidence.glue_modules import Module, module
from verification.evidence.glue_runs import TINY
from verification.evidence.glue_selection import RUNS, selection_alone
from verification.mutants.netlist import Mutant


@pytest.fixture(scope="module")
def design() -> Composition:
    return accelerator_of(TINY)


def faulty(of: Module, operator: str, what: str, where: str) -> Netlist:
    """A mutant at a wire, by its name."""
    found: Mutant = next(m for m in of.mutants() if (m.operator, m.what, m.where) == (operator, what, where))
    return Netlist(of.netlist.name, found.build())


def test_the_selection_alone_selects_what_the_reference_selects(design: Composition) -> None:
    of = module(design, "selection")
    runs = selection_alone(of.netlist, 1)
    assert len(runs) == RUNS
    wrong = [run for run in runs if run.outputs["survivors_unordered"][-1] or run.outputs["survivors_beyond"][-1]]
    assert 0 < len(wrong) < RUNS


@pytest.mark.parametrize(
    ("operator", "what", "where"),
    [
        ("enable", "always loads", "mask_out_data"),
        ("reset value", "bit 0 of 0 flipped", "walking"),
        ("reset value", "bit 0 of 0 flipped", "tokens_not_all_in"),
    ],
)
def test_the_selection_alone_notices_a_fault(design: Composition, operator: str, what: str, where: str) -> None:
    with pytest.raises(AssertionError):
        selection_alone(faulty(module(design, "selection"), operator, what, where), 1)


@pytest.mark.parametrize("lane", range(TINY.softmax_lanes))
def test_the_dispatch_alone_notices_that_a_lane_overflows(design: Composition, lane: int) -> None:
    of = module(design, "value_dispatch")
    assert dispatch_alone(of.netlist, 1)
    nets = read_block(of.netlist.block)
    full = next(net.dest for net in nets.nets if net.dest and net.op == "=" and f"level_{lane}" in net.args)
    with pytest.raises(AssertionError, match="other entries"):
        dispatch_alone(faulty(of, "operator", "= becomes >", full), 1)
