"""Checks that the modules of the fetch side share: random runs beside a plain model, and mutants of the module."""

from collections.abc import Callable
from dataclasses import replace

import pyrtl

from hls.lower import Netlist
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.verdict import Kind, Verdict, sampled
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.results import Check, Settings

Runs = Callable[[AcceleratorConfig, Simulator, range], int]
"""Runs by seed in a simulator of a machine; returns what was compared, raises AssertionError for a difference."""

TINY = AcceleratorConfig.preset("tiny")
SMALL = replace(TINY, context_keys=32, key_sram_bytes=768, value_sram_bytes=768, softmax_fifo_rows=8, top_k_fifo_rows=8)
"""Buffers of 8 rows, so that short lists reach all their segments."""
PRESETS = ("tiny", "spatten-1-8", "spatten")
MUTANT_SEEDS = range(60)


def checks(
    build: Callable[[AcceleratorConfig], Netlist], runs: Runs, least_rate: float, mutated: AcceleratorConfig = TINY
) -> tuple[Check, ...]:
    """The evidence for a module: runs of every preset, and a share of mutants of `mutated` that the runs notice."""

    def random_runs(settings: Settings) -> Verdict:
        compared, count = 0, max(1, settings.samples // 20)
        for preset in PRESETS:
            config = AcceleratorConfig.preset(preset)
            with open_simulator(build(config), "fast") as simulator:
                compared += runs(config, simulator, range(settings.seed, settings.seed + count))
        return sampled(compared, f"{count} runs of each of {', '.join(PRESETS)}, seed {settings.seed}")

    def noticed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("mutant", block), "fast") as simulator:
            return runs(mutated, simulator, MUTANT_SEEDS) < 1

    def mutants(settings: Settings) -> Verdict:
        block = build(mutated).block
        every = netlist_mutants(block)
        count = settings.samples if settings.full else max(1, settings.samples // 2)
        chosen = sample_mutants(every, count, settings.seed)
        report = kill_rate(block, chosen, [Detector("runs", noticed)], population=len(every), limits=settings.limits)
        return report.verdict(least_rate)

    return (
        Check("runs beside a plain model", "simulation", random_runs, least=Kind.TESTED),
        Check(f"mutants, {round(100 * least_rate)} %", "mutation", mutants, least=Kind.TESTED),
    )
