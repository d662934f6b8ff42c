"""Evidence for the glue of the accelerator: do recorded layers notice small faults in its control?

Whole layers are run beside the reference (`glue_runs`, `glue_recording`), some of them again with stalls on the streams
between parts (`glue_throttles`); a mutant of a module is given what the module got, cycle by cycle, and is killed where
an output that means something differs (`glue_outputs`, `glue_replay`). That is stricter than the scoreboard in time and
laxer nowhere: until the first difference, the mutant in the accelerator would have got just this. Inputs that mean
nothing are random instead, and some modules get their items again in crowds (`glue_crowds`). What need not be run is
decided on all steps at once (`glue_steps`). Equally many mutants are taken of each module, with those that make up for
the rounding from the first ones.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pyrtl

from verification.cosimulation import accelerator_of
from verification.equivalence.netlist import NetlistError, read_block
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict, sampled
from verification.evidence.glue_crowds import CROWDS, crowded
from verification.evidence.glue_equivalence import unseen
from verification.evidence.glue_modules import CONTROL, MODULES, PARTS, Module, module
from verification.evidence.glue_recording import REQUESTS, Recording, record
from verification.evidence.glue_replay import Replay, at_random, first_difference
from verification.evidence.glue_runs import RUNS, TINY
from verification.evidence.glue_steps import Steps
from verification.evidence.glue_throttles import throttled
from verification.mutants.netlist import Mutant, netlist_mutants
from verification.mutation import Fate, MutationReport, same_machine
from verification.results import Check, Settings

LEAST_RATE = 0.8
"""A floor, not the goal of 0.99. Measured with all runs, seed 1, on the share of 200 mutants of 13 modules (value_*,
row_values, kept_beats, row_queues, output_stage, operand_loader, operand_mask, control_read, control_write,
landing_write, list_sequencer): 0.95, seven alive of 136. The others have not been measured since throttles and crowds
came; row_issue had 0.52 before."""
QUICK_RUNS, QUICK_THROTTLED = 6, 4
THROTTLED = (
    *(
        "grouped, replays, pruned values",
        "encoder, flat rows, sparse",
        "four parts, replays",
        "more flat rows than wait",
    ),
    *("cascade, halved, protected", "long lists", "long rows", "two parts, late queries"),
)
"""Runs that are recorded with throttles too."""
RANDOM_CYCLES = 2000
CROWDED = ("long lists", "twelve heads of one K", "four parts, replays")
"""Runs of one layer whose items come again in crowds."""
PROOF_S, INDUCTION_S = 10.0, 3.0
RECORDED = "recorded layers"
FULL_MUTANTS = 200


def shares(samples: int) -> dict[str, int]:
    """Mutants of each module, `samples` in all, but at least one of each."""
    names = sorted(MODULES)
    return {name: max(1, (samples + len(names) - 1 - i) // len(names)) for i, name in enumerate(names)}


def chosen_mutants(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them, operators in turn, so that each has its share whatever its number of places."""
    generator = random.Random(seed)
    order = list(mutants)
    generator.shuffle(order)
    by_operator: dict[str, list[Mutant]] = {}
    for mutant in order:
        by_operator.setdefault(mutant.operator, []).append(mutant)
    operators = sorted(by_operator)
    generator.shuffle(operators)
    turns = max(map(len, by_operator.values()))
    in_turn = [by_operator[o][i] for i in range(turns) for o in operators if i < len(by_operator[o])]
    return in_turn[:count]


def fate(mutant: Mutant, of: Module, steps: Steps) -> Fate:
    """Killed where a recorded step, or a run from one, shows it; or proved equivalent; or alive."""
    block = mutant.build()
    faulty = read_block(block)
    found = steps.difference(faulty)
    if found.shown is not None:
        return Fate(mutant, killed_by=RECORDED)
    try:
        if same_machine(faulty, steps.netlist, Limits(time_s=PROOF_S)):
            return Fate(mutant, equivalent=True, note="same reset, and same step from any state")
    except NetlistError as error:
        return Fate(mutant, note=str(error))
    if first_difference(block, found.open) is not None:
        return Fate(mutant, killed_by=RECORDED)
    if unseen(faulty, steps.netlist, of.meaning, Limits(time_s=INDUCTION_S), of.exclusive):
        return Fate(mutant, equivalent=True, note="an inductive relation")
    return Fate(mutant)


def module_report(of: Module, recordings: Sequence[Recording], count: int, seed: int) -> MutationReport:
    """`count` mutants of one module.

    Raises:
        AssertionError: if the module itself does not do what was recorded.
    """
    steps = Steps(of.netlist.block, replays(of, recordings, seed))
    every = netlist_mutants(of.netlist.block)
    fates = [fate(mutant, of, steps) for mutant in chosen_mutants(every, count, seed)]
    named = [replace(f, mutant=replace(f.mutant, where=f"{of.name}, {f.mutant.where}")) for f in fates]
    return MutationReport(tuple(named), len(every), (RECORDED,))


def replays(of: Module, recordings: Sequence[Recording], seed: int) -> list[Replay]:
    """What was recorded, with random bits where an input means nothing, and its crowds.

    Raises:
        AssertionError: if the module itself does not do what was recorded.
    """
    block, recorded = of.netlist.block, of.replays(recordings)
    for a, b in of.exclusive:
        broken = [r.name for r in recorded if any(row[a] & row[b] for row in r.inputs)]
        assert not broken, f"{of.name}: {a} and {b} are 1 together in {broken}"
    crowds = []
    if of.name in CROWDS:
        crowds = [crowded(r, block, CROWDS[of.name], seed) for r in recorded if r.name in CROWDED]
    if not block.wirevector_subset(pyrtl.Register):
        crowds.append(at_random("random inputs", block, RANDOM_CYCLES, seed))
    return [replay.scrambled(block, of.given, seed) for replay in recorded] + crowds


def record_all(runs: Sequence[str], throttled_runs: Sequence[str]) -> list[Recording]:
    """Runs of the accelerator as it is, with the requests, and runs with throttles on its streams."""
    found = list(record(PARTS, {name: RUNS[name] for name in runs}))
    slow = record(PARTS, {name: RUNS[name] for name in throttled_runs}, with_requests=False, change=throttled)
    return found + [replace(recording, name=f"{recording.name}, throttled") for recording in slow]


def report(count: int, seed: int, runs: Sequence[str], throttled_runs: Sequence[str]) -> MutationReport:
    """`count` mutants of all modules together."""
    recordings, design = record_all(runs, throttled_runs), accelerator_of(TINY)
    fates: list[Fate] = []
    population = 0
    for name in MODULES:
        seen = [r for r in recordings if r.name not in REQUESTS or name in CONTROL]
        found = module_report(module(design, name), seen, shares(count)[name], seed)
        fates += found.fates
        population += found.population
    return MutationReport(tuple(fates), population, (RECORDED,))


def _recorded(settings: Settings) -> Verdict:
    """Every module, alone, does what it did in the whole."""
    del settings
    runs = dict(itertools.islice(RUNS.items(), 4))
    recordings, design = list(record(PARTS, runs, with_requests=False)), accelerator_of(TINY)
    cycles = 0
    for name in MODULES:
        of = module(design, name)
        wrong = first_difference(of.netlist.block, of.replays(recordings))
        assert wrong is None, f"{name}: {wrong}"
        cycles += sum(len(r) for r in recordings)
    return sampled(cycles, "cycles of modules alone, equal to those in the whole, which equals the reference")


def _mutants(settings: Settings) -> Verdict:
    if settings.full:
        return report(FULL_MUTANTS, settings.seed, list(RUNS), THROTTLED).verdict(LEAST_RATE)
    count = max(1, min(FULL_MUTANTS, settings.samples // 2))
    return report(count, settings.seed, list(RUNS)[:QUICK_RUNS], THROTTLED[:QUICK_THROTTLED]).verdict(LEAST_RATE)


CHECKS = (
    Check("modules alone and in the whole", "simulation", _recorded, least=Kind.TESTED),
    Check(f"mutants, {round(100 * LEAST_RATE)} %", "mutation", _mutants, least=Kind.TESTED),
)
