"""Evidence for the write-back at `tiny`: DRAM afterwards, beside memories that refuse, delay and reorder; mutants."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyrtl

from hls.datapaths.crossbar import ADDRESS_BITS
from hls.datapaths.watchdog import Status
from hls.datapaths.write_back import BURST_ELEMENTS, STREAMS, build
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from models.memory.address_map import AddressMap
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.equivalence.bits import Bits, choose, conjunction
from verification.equivalence.sequential import Environment, Invariant, Signals
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.fetcher_model import random_memory
from verification.evidence.planted import all_noticed, faults
from verification.evidence.same_behaviour import (
    Read,
    Recorder,
    Run,
    View,
    first_difference,
    mutants_in_view,
    prove_claims,
    refute_claims,
    under,
    within,
)
from verification.evidence.stream_contracts import fills_in_order, holds_at_most, implies, now
from verification.evidence.write_back_model import SilentMemoryError, WrittenRows, random_streams, write, write_with
from verification.mutation import Detector, MutationReport
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
    return all_noticed(wrong, lambda faulty: write_patterns(replace(netlist, block=faulty), 20, settings.seed, 3000))


def silence(netlist: Netlist, channel: int, limit_cycles: int) -> tuple[int, int] | None:
    """Cycles from the first write of a channel that never accepts to SILENT, and `silent`; the other one works."""
    row = {"element": 0, "count": 32, "last": 1, "base": 1, "in_valid": 1}
    asked, accepted = None, 0
    with open_simulator(netlist, "fast") as simulator:
        for cycle in range(limit_cycles):
            works = {"write_ready": 3 & ~(1 << channel), "write_done": accepted}
            seen = simulator.step({**({} if asked is not None else row), **works})
            accepted = seen["write_valid"] & works["write_ready"]
            if asked is None and seen["write_valid"] >> channel & 1:
                asked = cycle
            if seen["status"] == Status.SILENT and asked is not None:
                return cycle - asked, seen["silent"]
    return None


def recorded_runs(netlist: Netlist, seed: int) -> tuple[Run, ...]:
    """Runs at any address: many writes under way, refused now and then, refused nearly always, rows of every length."""
    rng, high = np.random.default_rng(seed), 1 << (TINY.datapath_bits - 1)
    every = AddressMap((("channel", 1), ("row", ADDRESS_BITS - 6)))

    def streams(*shapes: tuple[int, int]) -> list[WrittenRows]:
        last = 1 << ADDRESS_BITS
        return [WrittenRows(rng.integers(-high, high, s), last - (1 << (14 + 5 * n))) for n, s in enumerate(shapes)]

    every_length = [
        WrittenRows(rng.integers(-high, high, (rows, length)), (1 << 14) * (4 * length + rows))
        for length in range(1, TINY.max_head_dim + 1)
        for rows in (1, 2, 3)
    ]

    def patient(accept: float) -> AdversarialMemory:
        return AdversarialMemory(2, seed, accept=accept, max_latency_cycles=60, address_map=every)

    found = []
    for memory, given, offer in (
        (IdealMemory(2, 4, every), streams((9, 32), (5, 7), (1, 1), (8, 16)), 1.0),
        (IdealMemory(2, 190, every), streams((90, 32)), 1.0),
        (AdversarialMemory(2, seed, address_map=every), streams((20, 20), (9, 3)), 0.7),
        (patient(0.1), streams((7, 5), (1, 16), (1, 17), (30, 32), (3, 1)), 1.0),
        (patient(1.0), every_length, 1.0),
        (patient(0.4), streams((1, 3), (1, 16), (1, 1), (21, 30), (9, 31)), 0.5),
    ):
        with open_simulator(netlist, "fast") as simulator:
            recorder = Recorder(simulator, dict.fromkeys(("element", "count", "last", "base"), "in_valid"), seed)
            write_with(TINY, recorder, memory, given, seed, offer, 3000)
            found.append(tuple(recorder.rows))
    return tuple(found)


def view() -> View:
    """What can be seen of the write-back: payload under its valid; memories acknowledge only what they have taken."""

    def owes(channel: int) -> Read:
        return lambda s: (s[f"owed_{channel}"] != 0) | (s[f"write_{channel}_count"] != 0)

    channels = range(TINY.hbm_channels)
    queues = [("bases", STREAMS), *((f"write_{c}", 2) for c in channels)]
    read: dict[str, Read] = {
        f"{name}_{place}": under(f"{name}_{place}_valid") for name in ("beat", "packed") for place in ("main", "spare")
    }
    read |= {f"{name}_entry_{i}": within(f"{name}_count", i) for name, depth in queues for i in range(depth)}
    read |= {f"pack_held_{i}": within("pack_filled", i) for i in range(BURST_ELEMENTS - 1)}
    read |= {f"silence_{c}": owes(c) for c in channels}
    read |= {"remaining": lambda s: s["beat"] != 0, "address": under("within")}

    def only_taken(s: Signals) -> Bits:
        return conjunction([~s["write_done"][c] | (s[f"owed_{c}"] != 0) for c in channels])

    return View(
        {"write_address": "write_valid", "write_data": "write_valid"},
        read,
        _invariants(queues),
        Environment(assume=only_taken),
    )


def _invariants(queues: Sequence[tuple[str, int]]) -> tuple[Invariant, ...]:
    """FIFOs do not overflow; skid buffers fill in order; a stream that has ended is still seen in what is behind it."""

    def ended(s: Signals) -> Bits:
        """Where no stream is open, the youngest beat is the last of its stream."""
        main, spare = s["beat_main"], s["beat_spare"]
        youngest = choose(s["beat_spare_valid"], spare[spare.width - 1], main[main.width - 1])
        return implies(s["beat_main_valid"] & ~s["is_open"], youngest)

    return (
        *(holds_at_most(name, depth) for name, depth in queues),
        fills_in_order("beat"),
        fills_in_order("packed"),
        now("what stalls beats is a packed row", lambda s: implies(s["beat_spare_valid"], s["packed_main_valid"])),
        now("a rest follows its row", lambda s: implies(s["pack_flushing"], s["packed_main_valid"])),
        now("a stream that is not open has ended", ended),
    )


def _claims(settings: Settings) -> Verdict:
    return prove_claims(build(TINY).block, view(), settings)


def _claims_with_faults(settings: Settings) -> Verdict:
    return refute_claims(
        build(TINY).block,
        view(),
        settings,
        ("reset value", "beat_spare_valid", ""),
        ("reset value", "pack_flushing", ""),
    )


def mutation_report(samples: int, seed: int) -> MutationReport:
    """Mutants against runs alone; survivors only where they are proved to behave the same."""
    netlist = build(TINY, patience_cycles=PATIENCE_CYCLES)
    runs, seen = recorded_runs(netlist, seed), view()
    silences = [silence(netlist, c, 2 * PATIENCE_CYCLES) for c in range(2)]

    def otherwise(faulty: pyrtl.Block) -> bool:
        return first_difference(faulty, runs, seen.payload) is not None

    def waits(faulty: pyrtl.Block) -> bool:
        return [silence(Netlist("mutant", faulty), c, 2 * PATIENCE_CYCLES) for c in range(2)] != silences

    def written(faulty: pyrtl.Block) -> bool:
        return write_patterns(Netlist("mutant", faulty), 25, seed, 4000) < 1

    detectors = [Detector("recorded runs", otherwise), Detector("silence", waits), Detector("patterns", written)]
    return mutants_in_view(netlist.block, seen, detectors, samples, seed)


def _mutants(settings: Settings) -> Verdict:
    return mutation_report(settings.samples, settings.seed).verdict()


CHECKS = (
    Check("any memory", "co-simulation", _patterns, least=Kind.TESTED),
    Check("planted faults", "co-simulation, must fail", _planted, least=Kind.TESTED),
    Check("watchdog", "co-simulation", _watchdog, least=Kind.TESTED),
    Check("what the proof of equal behaviour takes for granted", "induction", _claims),
    Check("planted faults: taken for granted", "bounded, must be refuted", _claims_with_faults, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
