"""Mutants of the streams' units: small faults against the contracts, monitors left as they are.

A mutant is killed where a run from reset breaks the unit's contract, or where a `valid` comes to wait for a `ready`;
it is equivalent where the contract is proved for it by induction.
"""

from collections.abc import Callable
from dataclasses import replace

import pyrtl

from verification.equivalence.netlist import NetlistError, read_block
from verification.equivalence.sequential import check_bounded, prove_by_induction
from verification.equivalence.verdict import Kind, Verdict, unknown
from verification.evidence.stream_contracts import Watched, valid_never_waits, watched_fifo, watched_skid
from verification.evidence.stream_contracts_flow import (
    watched_arbiter,
    watched_fork,
    watched_join,
    watched_packer,
    watched_width,
)
from verification.mutants.netlist import Mutant, netlist_mutants
from verification.mutation import Detector, Fate, MutationReport, kill_rate, sample_mutants
from verification.results import Settings

UNITS: dict[str, tuple[Callable[[], Watched], str]] = {
    "skid buffer": (lambda: watched_skid(2), "skid_"),
    "FIFO in memory": (lambda: watched_fifo(2, 3, "memory"), "fifo_"),
    "FIFO in registers": (lambda: watched_fifo(2, 3, "registers"), "fifo_"),
    "fork": (lambda: watched_fork(2, 3), "fork_"),
    "join": (lambda: watched_join(2, 2), "join_"),
    "arbiter": (lambda: watched_arbiter(2, 3), "arbiter_"),
    "widening": (lambda: watched_width(2, 6), "width_"),
    "narrowing": (lambda: watched_width(6, 2), "width_"),
    "row packer": (lambda: watched_packer(2, 2), "pack_"),
}
"""The smallest units that have every kind of logic, and how their wires' names begin."""
DEPTH_CYCLES = 8
_MONITORS = ("tracked_word", "winner")


def unit_mutants(block: pyrtl.Block, prefix: str) -> list[Mutant]:
    """Mutants of what the unit's ports, registers and memory depend on; those of the monitors are left out."""
    netlist = read_block(block)
    state = [name for name in (*netlist.registers, *netlist.memories) if name.startswith(prefix)]
    own = set(state)
    waiting = [name for name in netlist.outputs if name not in _MONITORS]
    waiting += [netlist.drivers[name].args[0] for name in state if name in netlist.registers]
    waiting += [arg for name in state for net in netlist.writers.get(name, ()) for arg in net.args]
    while waiting:
        name = waiting.pop()
        if name in own or name in netlist.registers:
            continue
        own.add(name)
        waiting.extend(netlist.drivers[name].args if name in netlist.drivers else ())
    return [mutant for mutant in netlist_mutants(netlist) if mutant.where in own]


def unit_report(name: str, count: int, settings: Settings) -> MutationReport:
    """`count` mutants of one unit."""
    make, prefix = UNITS[name]
    watched, limits = make(), settings.limits

    def breaks(block: pyrtl.Block) -> bool:
        if valid_never_waits(block).kind is Kind.REFUTED:
            return True
        found = check_bounded(block, watched.contract, DEPTH_CYCLES, environment=watched.environment, limits=limits)
        return found.kind is Kind.REFUTED

    def proved(block: pyrtl.Block) -> Verdict:
        """The contract by induction, with all that is said of the inside, or all but one: a mutant may do without."""
        verdict = unknown("nothing is claimed")
        for left_out in (None, *watched.internal):
            claims = [*watched.contract, *(claim for claim in watched.internal if claim is not left_out)]
            try:
                verdict = prove_by_induction(block, claims, environment=watched.environment, limits=limits)
            except NetlistError as error:
                return unknown(str(error))
            if verdict.kind is Kind.PROVED:
                break
        return verdict

    every = unit_mutants(watched.block, prefix)
    chosen = sample_mutants(every, count, settings.seed)
    contract = Detector("contract from reset", breaks)
    return kill_rate(watched.block, chosen, [contract], prover=proved, population=len(every), limits=limits)


def stream_mutants(settings: Settings) -> Verdict:
    """`settings.samples` mutants of all units together, as many of each as it has of all."""
    populations = {}
    for name, (make, prefix) in UNITS.items():
        populations[name] = len(unit_mutants(make().block, prefix))
    total = sum(populations.values())
    fates: list[Fate] = []
    for name, population in populations.items():
        report = unit_report(name, max(1, round(settings.samples * population / total)), settings)
        fates += [replace(f, mutant=replace(f.mutant, where=f"{name}, {f.mutant.where}")) for f in report.fates]
    return MutationReport(tuple(fates), total, ("contract from reset",)).verdict()
