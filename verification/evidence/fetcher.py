"""Evidence for the fetcher at `tiny`: runs beside memories that refuse, delay and reorder, and mutants.

What its crossbars and FIFOs promise is proved where they are. Here they are together: every word of every vector is
compared, every request counted, every stalled output watched.
"""

import re
from dataclasses import replace

import pyrtl

from hls.datapaths.fetcher import build
from hls.lower import Netlist
from models.config import AcceleratorConfig
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.fetcher_batch import fetch_batch
from verification.evidence.fetcher_model import (
    FetchList,
    SilentMemoryError,
    fetch,
    fetch_patterns,
    first_silence,
)
from verification.evidence.fetcher_mutants import PAYLOAD, SMALL, recorded_runs, view
from verification.evidence.planted import all_noticed, faults
from verification.evidence.same_behaviour import (
    first_broken_promise,
    first_difference,
    mutants_in_view,
    prove_claims,
    refute_claims,
)
from verification.mutation import Detector, MutationReport
from verification.results import Check, Settings

TINY = AcceleratorConfig.preset("tiny")
PATIENCE_CYCLES = 300
FULL_PATTERNS = 100_000
_NAMES_WHO_WAITS = r"channels \[.+\] are silent; queue \d+ waits for place \d+, burst 0x\w+, asked of channel \d+"


def _patterns(settings: Settings) -> Verdict:
    """Three patterns a sample; in a full run 100,000, in the compiled loop."""
    if settings.full:
        done = fetch_batch(TINY, build(TINY), FULL_PATTERNS, settings.seed)
        patterns, bursts = done.patterns, done.bursts
    else:
        patterns = 3 * settings.samples
        bursts = fetch_patterns(TINY, build(TINY), patterns, settings.seed, longest=5)
    return sampled(patterns, f"patterns of lists, memory and stalls, {bursts} bursts, seed {settings.seed}")


def _watchdog(settings: Settings) -> Verdict:
    """Memories that stop answering after 0, 1, 2, ... requests."""
    netlist, lists = build(TINY, patience_cycles=PATIENCE_CYCLES), [FetchList(tuple(range(40)), 0, 96, 96)]
    for silent_after in range(12):
        memory = AdversarialMemory(2, settings.seed, max_latency_cycles=40, silent_after=silent_after)
        try:
            fetch(TINY, netlist, memory, lists)
        except SilentMemoryError as error:
            if not re.search(_NAMES_WHO_WAITS, str(error)):
                return refuted(f"silent after {silent_after} requests: {error}")
        else:
            return refuted(f"silent after {silent_after} requests, and no error")
    fetch(TINY, netlist, AdversarialMemory(2, settings.seed, answer=0.05, max_latency_cycles=200), lists)
    return sampled(13, "12 silent memories are named, a slow one is not")


def _detectors(patterns: int, seed: int) -> list[Detector]:
    """What a faulty netlist is given: recorded and random ones, long lists, a silent memory."""

    def lists(block: pyrtl.Block) -> bool:
        netlist = Netlist("mutant", block)
        long = [FetchList(tuple(range(0, 90, step)), 512 * 7 * step, 96, 96) for step in (1, 2, 5)]
        long += [
            FetchList((1, 2, 3, 5, 8, 13), 512 * 4095, 384, 384),
            FetchList(tuple(range(505, 512)), 512 * 4_190_000, 383, 383),
        ]
        memory = AdversarialMemory(2, seed, accept=0.8, answer=0.7, max_latency_cycles=60)
        fetch(SMALL, netlist, memory, long, seed, limit_cycles=3000)
        fetch(SMALL, netlist, IdealMemory(2, 4), long, seed, accept=0.7, limit_cycles=2000)
        return False

    recorded = recorded_runs(build(SMALL, patience_cycles=PATIENCE_CYCLES), seed)

    def otherwise(block: pyrtl.Block) -> bool:
        return first_difference(block, recorded, PAYLOAD) is not None

    def random(block: pyrtl.Block) -> bool:
        return fetch_patterns(SMALL, Netlist("mutant", block), patterns, seed, longest=12, limit_cycles=4000) < 1

    def silent(block: pyrtl.Block) -> bool:
        if any(first_silence(Netlist("mutant", block), 3 * c, 400) != (PATIENCE_CYCLES, 1 << c, 1) for c in (0, 1)):
            return True
        try:
            fetch(
                SMALL,
                Netlist("mutant", block),
                AdversarialMemory(2, seed, silent_after=2),
                [FetchList((0, 9), 0, 96, 96)],
            )
        except SilentMemoryError as error:
            return re.search(_NAMES_WHO_WAITS, str(error)) is None
        return True

    return [
        Detector("recorded runs", otherwise),
        Detector("long lists", lists),
        Detector("silent memory", silent),
        Detector("patterns", random),
    ]


def _planted(settings: Settings) -> Verdict:
    """Faults that lose, double or misplace a burst."""
    netlist = build(TINY)
    wrong = faults(
        netlist.block,
        ("enable", "lane_1_collect_offer", "never"),
        ("memory write", "lane_0_bank_2", "never"),
        ("reset value", "lane_1_filled", ""),
        ("enable", "row_shared", "never"),
    )

    def run(faulty: pyrtl.Block) -> int:
        return fetch_patterns(TINY, replace(netlist, block=faulty), 60, settings.seed, limit_cycles=4000)

    return all_noticed(wrong, run)


def _claims(settings: Settings) -> Verdict:
    return prove_claims(build(SMALL).block, view(), settings)


def _claims_with_faults(settings: Settings) -> Verdict:
    return refute_claims(
        build(SMALL).block,
        view(),
        settings,
        ("reset value", "channel_0_room", "bit 0"),
        ("reset value", "data_0_granted_1", ""),
    )


def _promises(settings: Settings) -> Verdict:
    """What the proof takes for granted of memories, in all recorded runs."""
    netlist = build(SMALL, patience_cycles=PATIENCE_CYCLES)
    runs = recorded_runs(netlist, settings.seed)
    for number, run in enumerate(runs):
        broken = first_broken_promise(netlist.block, view(), [inputs for inputs, _ in run])
        if broken is not None:
            return refuted(f"recorded run {number}, cycle {broken}: an answer that is not owed, or is here already")
    return sampled(len(runs), f"recorded runs, {sum(map(len, runs))} cycles")


def mutation_report(samples: int, seed: int) -> MutationReport:
    """Mutants against runs; survivors only where they are proved to behave the same."""
    block = build(SMALL, patience_cycles=PATIENCE_CYCLES).block
    return mutants_in_view(block, view(), _detectors(20, seed), samples, seed)


def _mutants(settings: Settings) -> Verdict:
    return mutation_report(settings.samples, settings.seed).verdict()


CHECKS = (
    Check("any response order", "co-simulation", _patterns, least=Kind.TESTED),
    Check("planted faults", "co-simulation, must fail", _planted, least=Kind.TESTED),
    Check("watchdog", "co-simulation", _watchdog, least=Kind.TESTED),
    Check("what the proof of equal behaviour takes for granted", "induction", _claims),
    Check("planted faults: taken for granted", "bounded, must be refuted", _claims_with_faults, least=Kind.TESTED),
    Check("memories keep what is taken for granted", "co-simulation", _promises, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
