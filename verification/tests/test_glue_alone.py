"""Glue modules alone among random neighbours: the benches notice faults, fill what can be filled; invariants hold."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from hls.compose import Composition
from hls.lower import Netlist
from verification.cosimulation import accelerator_of
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind
from verification.evidence import glue_rows
from verification.evidence.glue_invariants import INVARIANTS, prove_invariants
from verification.evidence.glue_landing import landing_alone, lane_alone
from verification.evidence.glue_loader import loader_alone
from verification.evidence.glue_modules import SHOWN, module
from verification.evidence.glue_promises import Promise
from verification.evidence.glue_replay import Replay
from verification.evidence.glue_rows import rows_alone
from verification.evidence.glue_runs import TINY
from verification.evidence.glue_sparse import sparse_alone
from verification.evidence.glue_steps import Steps
from verification.evidence.glue_value_side import PARTS, values_alone
from verification.mutants.netlist import netlist_mutants

LIMITS = Limits(time_s=30)


@pytest.fixture(scope="module")
def design() -> Composition:
    return accelerator_of(TINY)


def planted(netlist: Netlist, operator: str, where: str, what: str = "") -> Netlist:
    """The netlist with the first mutant of this kind."""
    mutants = netlist_mutants(netlist.block)
    found = next(m for m in mutants if m.operator == operator and where in m.where and what in m.what)
    return Netlist(netlist.name, found.build())


@pytest.mark.parametrize(
    ("name", "alone", "fault"),
    [
        ("operand_loader", loader_alone, ("enable", "query_jobs_entry_7", "never")),
        ("landing_write", landing_alone, ("inversion", "", "")),
        ("landing_lane", lane_alone, ("selection", "", "moved by +1")),
        ("value_sparse", sparse_alone, ("enable", "packer_held_0", "always")),
        ("value_sparse", sparse_alone, ("memory write", "asked", "never")),
    ],
)
def test_a_bench_notices_a_fault(
    design: Composition,
    name: str,
    alone: Callable[[Netlist, int], Sequence[Replay]],
    fault: tuple[str, str, str],
) -> None:
    of = module(design, name)
    assert Steps(of, alone(of.netlist, 1), 1).count > 500
    with pytest.raises(AssertionError):
        alone(planted(of.netlist, *fault), 1)


def test_rows_fill_all_that_can_be_full(design: Composition) -> None:
    """FIFO of jobs, m and x of rows in Q x K, places for rows, lines of queries, both queues."""
    seen = {}
    for name in ("operand_loader", "row_issue"):
        of = module(design, name)
        steps = Steps(of, rows_alone(of.netlist, 1), 1)
        seen |= {register.rpartition(".")[2]: steps.words[register] for register in steps.netlist.registers}
    highest = {name: int(seen[name].max()) for name in ("query_jobs_count", "scales_count", "rows_count")}
    assert highest == {"query_jobs_count": 8, "scales_count": 16, "rows_count": 63}
    assert {int(seen[name].min()) for name in ("rows_free", "lines_free")} == {0}
    assert int(seen["first_room"].min()) < 128
    assert int(seen["replay_room"].min()) < 128


def test_rows_that_are_not_what_was_recorded(design: Composition) -> None:
    of = module(design, "row_queues")
    with pytest.raises(AssertionError, match="differs in cycle"):
        Steps(replace(of, netlist=planted(of.netlist, "mux arms", "")), rows_alone(of.netlist, 1), 1)


@pytest.mark.parametrize("name", PARTS)
def test_modules_of_the_value_side_do_what_they_did_together(design: Composition, name: str) -> None:
    of = module(design, name)
    assert Steps(of, values_alone(of.netlist, 1), 1).count > 3000
    if name == "value_sparse":
        with pytest.raises(AssertionError, match="differs in cycle"):
            Steps(replace(of, netlist=planted(of.netlist, "inversion", "")), values_alone(of.netlist, 1), 1)


def test_signals_between_parts_that_always_mean_something_are_compared(design: Composition) -> None:
    assert set(SHOWN) <= set(module(design, "row_issue").netlist.outputs)


def test_a_bus_that_moves_under_a_job_breaks_its_promise(design: Composition) -> None:
    of = module(design, "operand_loader")
    replay = loader_alone(of.netlist, 1)[0]
    Steps(of, [replay], 1)
    moved = replay.inputs["layer_dimension"].copy()
    moved[40] ^= 1
    steady = [promise for promise in of.promises if promise.name.startswith("parts stands still")]
    assert len(steady) == 1
    with pytest.raises(AssertionError, match=r"parts stands still|differs in cycle"):
        Steps(replace(of, promises=steady), [replace(replay, inputs={**replay.inputs, "layer_dimension": moved})], 1)
    assert np.any(moved != replay.inputs["layer_dimension"])


@pytest.mark.parametrize("name", INVARIANTS)
def test_what_is_always_so_is_proved(design: Composition, name: str) -> None:
    assert prove_invariants(module(design, name).netlist, INVARIANTS[name], LIMITS).kind is Kind.PROVED


def test_what_is_not_always_so_is_not_proved(design: Composition) -> None:
    """Beats that never read behind row 1; and a row whose first beat waits."""
    of, always = module(design, "row_issue"), INVARIANTS["row_issue"]
    wrong = Promise("rows of one beat", lambda value, netlist: value("row_issue.beat_may") == 0)
    assert not prove_invariants(of.netlist, [*always, wrong], LIMITS).passes
    waits = planted(of.netlist, "stage added", "row_issue.beat_may")
    assert not prove_invariants(waits, always, LIMITS).passes


def test_row_side_layers_are_named_by_what_they_fill() -> None:
    assert {"queue 1 is full", "most rows wait", "late queries of 4 lines"} <= set(glue_rows.RUNS)
