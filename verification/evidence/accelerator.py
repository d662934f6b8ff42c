"""Evidence of the whole accelerator at `tiny` size: equal to the reference on real traces and on random small runs.

Everything that shows is compared (`verification.scoreboard`). The sibling plants wrong wires between the modules, each
of which must be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis

from hls.compose import Composition, Source, constant
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, PruningConfig, QuantizationConfig
from verification.cosimulation import Lockstep, accelerator_of, make_memory
from verification.cosimulation_loop import CosimulationError
from verification.coverage import Coverage, bins
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.equivalence_job import EquivalenceJob
from verification.results import Check, Settings
from verification.run_job import shipped_workloads, traces_of
from verification.runs import strengths
from verification.strategies import SmallRun, small_runs
from verification.trace_evidence import Excerpt

MACHINE = "tiny"
TINY = AcceleratorConfig.preset(MACHINE)
LIMIT_CYCLES = 200_000
EXCERPT = Excerpt(tokens=32, generated=3)
SHORT = Excerpt(tokens=10, generated=2, layers=2)


def _planted_run(memory: str = "hbm2") -> SmallRun:
    """A run in which every module has work: replays, sparse lists, grouped queries, selection."""
    config = Config(TINY, PruningConfig(value_ratio=0.6, prune_prompt=True), QuantizationConfig(6, 4, 0.5))
    return SmallRun(config, 2, 2, 2, 11, 8, 8, memory, 3, 1.0)


def _traces(settings: Settings, memories: tuple[str, ...], excerpt: Excerpt) -> Verdict:
    paths = [path for path in shipped_workloads() if path.suffix == ".npz"]
    job = EquivalenceJob(traces_of(paths), strengths(TINY), TINY, MACHINE, memories, excerpt, settings.seed)
    with TemporaryDirectory() as scratch:
        data = job.run(settings.folder or Path(scratch))
    compared = sum(sum(result["compared"].values()) for result in data["results"])
    wrong = [
        f"{r['trace']}, {r['setting']}, {r['memory']}: {r['mismatches'][:1]}" for r in data["results"] if not r["equal"]
    ]
    if wrong:
        return refuted("; ".join(wrong))
    cycles = sum(run["cycles"] for result in data["results"] for run in result["runs"])
    return sampled(compared, f"{len(data['results'])} runs, {cycles} cycles; numbers compared")


def _real_traces(settings: Settings) -> Verdict:
    return _traces(settings, ("hbm2",), EXCERPT)


def _real_traces_adversarial(settings: Settings) -> Verdict:
    return _traces(settings, ("adversarial",), SHORT)


@contextmanager
def _simulator(netlist: Composition | None = None) -> Iterator[Simulator]:
    with open_simulator(netlist or accelerator_of(TINY), "auto") as simulator:
        yield simulator


def _run(simulator: Simulator, run: SmallRun, coverage: Coverage | None = None) -> Lockstep:
    simulator.reset()
    memory = make_memory(run.memory, run.config.accelerator, run.seed)
    pair = Lockstep(run.run(), run.config, simulator, memory, run.memory, coverage=coverage, limit_cycles=LIMIT_CYCLES)
    pair.layers()
    return pair


def _random_runs(settings: Settings) -> Verdict:
    coverage = Coverage(bins(TINY))
    compared = 0
    with _simulator() as simulator:

        @hypothesis.seed(settings.seed)
        @hypothesis.settings(max_examples=settings.samples, deadline=None, database=None, derandomize=False)
        @hypothesis.given(small_runs(TINY))
        def equal(run: SmallRun) -> None:
            nonlocal compared
            pair = _run(simulator, run, coverage)
            assert pair.board.equal, f"{run}: {pair.board.report()}"
            compared += sum(pair.board.compared.values())

        try:
            equal()
        except (AssertionError, CosimulationError) as error:
            return refuted(str(error)[:2000])
    missed = coverage.unreached()
    return sampled(settings.samples, f"{compared} numbers; not reached: {', '.join(missed) or 'nothing'}")


def with_wire(netlist: Composition, part: str, port: str, source: Source) -> Composition:
    """The composition with another source at one input."""
    connections = {name: dict(ports) for name, ports in netlist.connections.items()}
    connections[part][port] = source
    return replace(netlist, connections=connections)


def with_swap(netlist: Composition, part: str, port: str, lanes: int) -> Composition:
    """The composition with the first two of the lanes of an input in each other's place."""
    first, second, *rest = netlist.connections[part][port].chunks(lanes)
    pieces = (*second.pieces, *first.pieces, *(piece for chunk in rest for piece in chunk.pieces))
    return with_wire(netlist, part, port, Source(pieces))


def _wrong_wires(netlist: Composition) -> Iterator[tuple[str, Composition]]:
    """Compositions with one wrong wire."""
    yield "second passes without LSBs", with_wire(netlist, "key_mask", "full", constant(0, 1))
    yield "values always with LSBs", with_wire(netlist, "value_mask", "full", constant(1, 1))
    yield "two lanes of the landing swapped", with_swap(netlist, "landing_write", "landing_tag", TINY.fetch_queues)
    yield "two lanes of probabilities swapped", with_swap(netlist, "probability_value", "prob", TINY.softmax_lanes)
    yield "two slots of the Key SRAM swapped", with_swap(netlist, "key_mask", "data", TINY.softmax_lanes)
    yield "no row is flat", with_wire(netlist, "flat_decision", "threshold", constant(0, 13))
    yield "scores are not halved or cleared", with_wire(netlist, "token_importance", "clear", constant(0, 1))
    yield (
        "importance of heads by another mantissa",
        with_wire(netlist, "head_importance", "mantissa", constant(1 << 15, 16)),
    )


def _planted(settings: Settings) -> Verdict:
    unnoticed, count = [], 0
    for what, broken in _wrong_wires(accelerator_of(TINY)):
        count += 1
        with _simulator(broken) as simulator:
            try:
                noticed = any(not _run(simulator, _planted_run(memory)).board.equal for memory in ("hbm2", "ideal"))
            except CosimulationError:
                noticed = True
        if not noticed:
            unnoticed.append(what)
    if unnoticed:
        return refuted(f"not noticed: {', '.join(unnoticed)}")
    return sampled(count, "wrong wires, all noticed")


CHECKS = (
    Check("shipped traces, HBM2", "co-simulation", _real_traces, least=Kind.TESTED),
    Check("shipped traces, adversarial memory", "co-simulation", _real_traces_adversarial, least=Kind.TESTED),
    Check("random small runs", "co-simulation", _random_runs, least=Kind.TESTED),
    Check("wrong wires between modules", "co-simulation, must be noticed", _planted, least=Kind.TESTED),
)
