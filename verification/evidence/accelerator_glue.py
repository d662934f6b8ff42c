"""Evidence for the glue of the accelerator: do recorded layers notice small faults in its control?

Whole layers are run beside the reference (`glue_runs`, `glue_recording`), some of them again with stalls on the streams
between parts (`glue_throttles`); a mutant of a module is given what the module got, cycle by cycle, and is killed where
an output that means something differs (`glue_outputs`, `glue_replay`). That is stricter than the scoreboard in time and
laxer nowhere: until the first difference, the mutant in the accelerator would have got just this. Inputs that mean
nothing are random instead, some modules get their items again in crowds (`glue_crowds`), and most run alone among
neighbours that do all they may (`ALONE`). What need not be run is decided on all steps at once (`glue_steps`); what no
run shows is proved to be equivalent where it is (`glue_equivalence`). Equally many mutants are taken of each module,
with those that make up for the rounding from the first ones.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import pyrtl

from hls.lower import Netlist
from verification.cosimulation import accelerator_of
from verification.equivalence.netlist import Netlist as Nets
from verification.equivalence.netlist import read_block
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence import glue_rigid
from verification.evidence.glue_checks import checks_replay
from verification.evidence.glue_control_reads import control_reads_alone
from verification.evidence.glue_crowds import CROWDS, crowded
from verification.evidence.glue_dispatch import dispatch_alone
from verification.evidence.glue_equivalence import same_step, unseen
from verification.evidence.glue_head_walk import head_walk_alone
from verification.evidence.glue_landing import landing_alone, lane_alone
from verification.evidence.glue_loader import loader_alone
from verification.evidence.glue_modules import CONTROLLER_CHECKS, MODULES, PARTS, Module, module
from verification.evidence.glue_port import port_alone
from verification.evidence.glue_recording import REQUESTS, SELECTIONS, SMALL_LAYERS, Recording, record
from verification.evidence.glue_replay import Replay, at_random
from verification.evidence.glue_rows import rows_alone
from verification.evidence.glue_runs import RUNS, TINY
from verification.evidence.glue_selection import selection_alone
from verification.evidence.glue_sequencer import sequencer_alone
from verification.evidence.glue_sparse import sparse_alone
from verification.evidence.glue_steps import Mutated, Steps
from verification.evidence.glue_throttles import throttled
from verification.evidence.glue_value_side import PARTS as VALUE_SIDE
from verification.evidence.glue_value_side import values_alone
from verification.evidence.glue_windows import Recorded, Run
from verification.mutants.netlist import Mutant
from verification.mutation import Fate, MutationReport
from verification.results import Check, Settings

LEAST_RATE = 0.99
"""Measured, 200 mutants of 20 modules each: seeds 1, 2, 5, 6: 0.995, 0.995, 0.98, 1.0 (0.9925 of 800)."""
THROTTLED = (
    *(
        "grouped, replays, pruned values",
        "encoder, flat rows, sparse",
        "four parts, replays",
        "more flat rows than wait",
    ),
    *("cascade, halved, protected", "long lists", "long rows", "two parts, late queries"),
    *("twelve heads of one K", "sixteen heads"),
)
"""Runs that are recorded with throttles too."""
SLOW = ", throttled"
REQUESTS_OF: Mapping[str, Sequence[str]] = {
    "controller": REQUESTS,
    "selection": (SELECTIONS, "refused", *SMALL_LAYERS),
    "control_read": (SELECTIONS,),
    "control_write": (SELECTIONS, *SMALL_LAYERS),
    "head_walk": ("refused",),
}
"""Recordings of requests that are looked at in a module; in all others they show nothing."""
RANDOM_CYCLES = 2000
FIRST = (
    *(f"grouped, replays, pruned values{SLOW}", "cascade, halved, protected", "four parts, replays"),
    *("encoder, flat rows, sparse", "7 elements", *SMALL_LAYERS),
)
"""Recordings that most mutants do not outlive."""
FEW_STEPS = (400, 6000)
"""Of runs of mutants in a recording, and in all of a stage, before proofs are tried."""
MORE_NETS, MORE_SHARE, MOST_STEPS = 30_000_000, 4, 40_000
"""Nets that are evaluated in runs in a stage behind proofs, which share of that in a recording, and steps at most."""
PROOF_S = 10.0
RECORDED = "recorded layers"
ALONE: Mapping[str, Callable[[Netlist, int], Sequence[Replay]]] = {
    CONTROLLER_CHECKS: checks_replay,
    "memory_port": port_alone,
    "control_read": control_reads_alone,
    "head_walk": head_walk_alone,
    "list_sequencer": sequencer_alone,
    "operand_loader": lambda netlist, seed: [*loader_alone(netlist, seed), *rows_alone(netlist, seed)],
    **dict.fromkeys(("row_issue", "row_queues"), rows_alone),
    "landing_write": landing_alone,
    "selection": selection_alone,
    "landing_lane": lane_alone,
    **dict.fromkeys(VALUE_SIDE, values_alone),
    "value_dispatch": lambda netlist, seed: [*dispatch_alone(netlist, seed), *values_alone(netlist, seed)],
    "value_sparse": lambda netlist, seed: [*sparse_alone(netlist, seed), *values_alone(netlist, seed)],
}
"""Further runs of modules alone."""


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


class Stage:
    """Some recordings of a module."""

    def __init__(self, of: Module, replays: Sequence[Replay], seed: int) -> None:
        self._of, self._replays, self._seed = of, tuple(replays), seed

    @cached_property
    def steps(self) -> Steps:
        """Of the recordings."""
        return Steps(self._of, self._replays, self._seed)

    @cached_property
    def recorded(self) -> Recorded:
        """What runs look up."""
        return Recorded(self.steps)

    def shows(self, faulty: Nets, block: pyrtl.Block, most_steps: tuple[int, int]) -> str | None:
        """Where a mutant shows, with runs of at most this many steps in a recording, and about as many in all."""
        mutated = Mutated(self.steps, faulty)
        found = Run(self.recorded, mutated, block).shows(*most_steps)[0]
        return None if found is None else self.steps.place(found)


def fate(mutant: Mutant, of: Module, stages: Sequence[Stage]) -> Fate:
    """Killed where a recorded step, or a run from one, shows it; or proved equivalent; or alive."""
    block = mutant.build()
    faulty, original, limits = read_block(block), stages[0].steps.netlist, Limits(time_s=PROOF_S)
    if stages[0].shows(faulty, block, FEW_STEPS):
        return Fate(mutant, killed_by=RECORDED)
    if same_step(faulty, original, of.meaning, limits):
        return Fate(mutant, equivalent=True, note="the same step from any state")
    if unseen(faulty, original, of.meaning, limits, of.promises):
        assert all(stage.steps.count for stage in stages if of.promises)  # which are checked there
        return Fate(mutant, equivalent=True, note="an inductive relation")
    if any(stage.shows(faulty, block, FEW_STEPS) for stage in stages[1:]):
        return Fate(mutant, killed_by=RECORDED)
    more = min(MOST_STEPS, MORE_NETS // len(original.nets))
    if any(stage.shows(faulty, block, (more // MORE_SHARE, more)) for stage in stages):
        return Fate(mutant, killed_by=RECORDED)
    return Fate(mutant)


def module_report(of: Module, recordings: Sequence[Recording], count: int, seed: int) -> MutationReport:
    """`count` mutants of one module.

    Raises:
        AssertionError: if the module itself does not do what was recorded.
    """
    every, steps = of.mutants(), stages(of, recordings, seed)
    fates = [fate(mutant, of, steps) for mutant in chosen_mutants(every, count, seed)]
    named = [replace(f, mutant=replace(f.mutant, where=f"{of.name}, {f.mutant.where}")) for f in fates]
    return MutationReport(tuple(named), len(every), (RECORDED,))


def stages(of: Module, recordings: Sequence[Recording], seed: int) -> list[Stage]:
    """What was recorded, and its crowds: few recordings first, which kill most mutants, those with throttles last."""
    passed_over = set(REQUESTS) - set(REQUESTS_OF.get(of.name, ()))
    recorded = of.replays([r for r in recordings if r.name.removesuffix(SLOW) not in passed_over])
    alone = list[Replay]()
    if of.name in ALONE:
        alone += ALONE[of.name](of.netlist, seed)
    if of.name in CROWDS:
        crowd = CROWDS[of.name]
        alone += [crowded(r, of.netlist, crowd, seed) for r in recorded if r.name in crowd.runs]
    if not of.netlist.block.wirevector_subset(pyrtl.Register):
        alone.append(at_random("random inputs", of.netlist, RANDOM_CYCLES, seed))
    first = alone + [r for r in recorded if r.name in FIRST]
    rest = [r for r in recorded if r.name not in FIRST]
    quick, slow = ([r for r in rest if r.name.endswith(SLOW) == is_slow] for is_slow in (False, True))
    return [Stage(of, part, seed) for part in (first, quick, slow) if part]


def record_all() -> list[Recording]:
    """Runs of the accelerator as it is, with the requests, and runs with throttles on its streams."""
    return [*record(PARTS), *record_slow(PARTS, SMALL_LAYERS[::2])]


def record_slow(parts: Sequence[str], requests: Sequence[str] = ()) -> Iterator[Recording]:
    """Runs, and some of `REQUESTS`, with throttles."""
    runs = {name: replace(RUNS[name], memory="hbm2") for name in THROTTLED}
    for recording in record(parts, runs, requests, change=throttled):
        yield replace(recording, name=f"{recording.name}{SLOW}")


def report(count: int, seed: int) -> MutationReport:
    """`count` mutants of all modules together."""
    recordings, design = record_all(), accelerator_of(TINY)
    fates: list[Fate] = []
    population = 0
    for name in MODULES:
        found = module_report(module(design, name), recordings, shares(count)[name], seed)
        fates += found.fates
        population += found.population
    return MutationReport(tuple(fates), population, (RECORDED,))


def _recorded(settings: Settings) -> Verdict:
    """Every module, alone, does what it did in the whole."""
    runs = dict(itertools.islice(RUNS.items(), 4))
    recordings, design = list(record(PARTS, runs, requests=())), accelerator_of(TINY)
    cycles = 0
    for name in (name for name, instances in MODULES.items() if instances):
        of = module(design, name)
        Steps(of, of.replays(recordings), settings.seed)
        cycles += sum(len(r) for r in recordings)
    return sampled(cycles, "cycles of modules alone, equal to those in the whole, which equals the reference")


def _rigid(settings: Settings) -> Verdict:
    """Streams without a throttle do what is taken for granted of them; some importance waits."""
    del settings
    cycles = waiting = 0
    for recording in itertools.chain(record(glue_rigid.PARTS, requests=()), record_slow(glue_rigid.PARTS)):
        if found := glue_rigid.broken(recording):
            return refuted(found)
        cycles, waiting = cycles + len(recording), waiting + glue_rigid.waits(recording)
    return sampled(cycles, f"cycles; in {waiting} an importance waits") if waiting else refuted("no importance waits")


def _rigid_with_faults(settings: Settings) -> Verdict:
    """A bit of one cycle is wrong, for each claim."""
    del settings
    name = FIRST[2]
    (recording,) = record(glue_rigid.PARTS, {name: RUNS[name]}, requests=())
    planted = list(glue_rigid.planted(recording))
    for claim, changed in planted:
        if claim not in (glue_rigid.broken(changed) or ""):
            return refuted(f"nobody notices that {claim!r} breaks")
    return sampled(len(planted), "claims broken in one cycle, all noticed")


def _mutants(settings: Settings) -> Verdict:
    return report(2 * settings.samples, settings.seed).verdict(LEAST_RATE)


CHECKS = (
    Check("modules alone and in the whole", "simulation", _recorded, least=Kind.TESTED),
    Check("streams without throttle", "simulation", _rigid, least=Kind.TESTED),
    Check("planted faults: streams without throttle", "simulation, must fail", _rigid_with_faults, least=Kind.TESTED),
    Check(f"mutants, {round(100 * LEAST_RATE)} %", "mutation", _mutants, least=Kind.TESTED),
)
