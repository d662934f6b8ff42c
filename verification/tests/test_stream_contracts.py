"""Contracts of streams: proved at small sizes, refuted where a fault is planted (full sizes: `spatten verify`)."""

import pyrtl
import pytest

from hls.lower import building
from hls.stream import Stream, sink_ports, source_ports
from verification.equivalence.verdict import Kind
from verification.evidence.stream_contracts import valid_never_waits, watched_fifo, watched_skid
from verification.evidence.stream_contracts_flow import (
    watched_arbiter,
    watched_fork,
    watched_join,
    watched_packer,
    watched_width,
)
from verification.evidence.stream_mutants import UNITS, unit_mutants, unit_report
from verification.evidence.streams import PLANTED, proof
from verification.results import Settings

SMALL = {
    "skid": lambda: watched_skid(4),
    "memory": lambda: watched_fifo(4, 64, "memory"),
    "ring of 3": lambda: watched_fifo(4, 3, "memory"),
    "registers": lambda: watched_fifo(4, 3, "registers"),
    "fork": lambda: watched_fork(4, 3),
    "join": lambda: watched_join(4, 2),
    "arbiter": lambda: watched_arbiter(4, 3),
    "widen": lambda: watched_width(2, 6),
    "narrow": lambda: watched_width(6, 2),
    "packer": lambda: watched_packer(4, 3),
}


@pytest.mark.parametrize("name", SMALL)
def test_contract(name, tmp_path):
    verdict = proof(SMALL[name], Settings(folder=tmp_path))
    assert verdict.kind is Kind.PROVED, verdict.detail


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_refuted(name, tmp_path):
    verdict = PLANTED[name](Settings(folder=tmp_path))
    assert verdict.kind is Kind.TESTED, verdict.detail
    assert list(tmp_path.iterdir()), "each refutation leaves its run"


def test_a_valid_that_waits_is_refuted():
    block = pyrtl.Block()
    source = source_ports(4, block)
    late = pyrtl.WireVector(1, "late", block=block)
    with building(block):
        sink_ports(Stream(source.data, source.valid & late, late), block)
    verdict = valid_never_waits(block)
    assert verdict.kind is Kind.REFUTED
    assert verdict.detail == "out_valid depends on out_ready"


def test_mutants_are_of_the_unit_alone_and_die():
    make, prefix = UNITS["FIFO in registers"]
    places = {mutant.where for mutant in unit_mutants(make().block, prefix)}
    assert places >= {"fifo_count", "fifo_entry_0"}
    assert not places & {"inside", "ahead", "tracking", "expected", "mark", "in_kept"}
    report = unit_report("join", 10, Settings())
    assert (report.rate, report.population) == (1, 10)
    assert any(fate.killed_by for fate in report.fates)
