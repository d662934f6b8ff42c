"""Evidence for the write-back at `tiny`: DRAM afterwards, beside memories that refuse, delay and reorder; mutants."""

from dataclasses import replace

import numpy as np
import pyrtl

from hls.datapaths.write_back import build
from hls.lower import Netlist
from models.config import AcceleratorConfig
from models.memory.variants import AdversarialMemory
from verification.equivalence.equality import prove_equal
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.fetcher_model import random_memory
from verification.evidence.planted import faults, sampled_mutants
from verification.evidence.write_back_model import SilentMemoryError, random_streams, write
from verification.mutation import Detector
from verification.results import Check, Settings

TINY = AcceleratorConfig.preset("tiny")
PATIENCE_CYCLES = 300


def write_patterns(netlist: Netlist, patterns: int, seed: int, limit_cycles: int = 20_000) -> int:
    """Random streams to random memories; returns the cycles. AssertionError as `write`."""
    cycles = 0
    for pattern in range(patterns):
        rng = np.random.default_rng((seed, pattern))
        memory, offer = random_memory(TINY, int(rng.integers(1 << 31))), float(rng.choice([0.3, 1.0]))
        cycles += write(TINY, netlist, memory, random_streams(TINY, rng), pattern, offer, limit_cycles)
    return cycles


def is_named(netlist: Netlist, seed: int, silent_after: int) -> bool:
    """Whether the watchdog of a netlist of `PATIENCE_CYCLES` ends a run with such a memory, naming channels."""
    streams = random_streams(TINY, np.random.default_rng(5))
    memory = AdversarialMemory(2, seed, max_latency_cycles=40, silent_after=silent_after)
    try:
        write(TINY, netlist, memory, streams)
    except SilentMemoryError as error:
        return "are silent; channel" in str(error) and "channels []" not in str(error)
    return False


def _patterns(settings: Settings) -> Verdict:
    cycles = write_patterns(build(TINY), settings.samples, settings.seed)
    return sampled(settings.samples, f"patterns of streams and memory, {cycles} cycles, seed {settings.seed}")


def _watchdog(settings: Settings) -> Verdict:
    netlist = build(TINY, patience_cycles=PATIENCE_CYCLES)
    for silent_after in range(3):
        if not is_named(netlist, settings.seed, silent_after):
            return refuted(f"silent after {silent_after} writes, and nobody is named")
    return sampled(3, "silent memories are named")


def _planted(settings: Settings) -> Verdict:
    netlist = build(TINY)
    wrong = faults(
        netlist.block,
        ("enable", "pack_held_3", "never"),
        ("enable", "^address", "never"),
        ("reset value", "owed_1", ""),
        ("selection", "", ""),
    )
    for fault in wrong:
        try:
            write_patterns(replace(netlist, block=fault.build()), 20, settings.seed, 3000)
        except AssertionError:
            continue
        return refuted(f"{fault.operator} at {fault.where} ({fault.what}) goes unnoticed")
    return sampled(len(wrong), "; ".join(f"{f.operator} at {f.where}: {f.what}" for f in wrong))


def _mutants(settings: Settings) -> Verdict:
    block = build(TINY, patience_cycles=PATIENCE_CYCLES).block

    def written(faulty: pyrtl.Block) -> bool:
        return write_patterns(Netlist("mutant", faulty), 25, settings.seed, 4000) < 1

    def silent(faulty: pyrtl.Block) -> bool:
        return not is_named(Netlist("mutant", faulty), settings.seed, 1)

    return sampled_mutants(
        block,
        [Detector("patterns", written), Detector("silent memory", silent)],
        lambda faulty: prove_equal(faulty, block, limits=settings.limits),
        settings,
    )


CHECKS = (
    Check("any memory", "co-simulation", _patterns, least=Kind.TESTED),
    Check("planted faults", "co-simulation, must fail", _planted, least=Kind.TESTED),
    Check("watchdog", "co-simulation", _watchdog, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
