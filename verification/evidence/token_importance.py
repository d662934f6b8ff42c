"""Evidence for token importance at its published size: 16 banks of 64 partial sums, 64 rows of 16 totals.

The claims are about one slot and one row of ids that never change and may be any (registers without a reset value that
are added to the netlist, with ports to read the memories there). V, the value of a slot, is the word in its bank, or
what is being written to it. From any state whatever, in consecutive cycles:

    adding      V after the beat of a cycle is min(2^32 - 1, V before + its probability for the slot), if the beat was
                accepted and has one; 0 if a sweep empties the slot; else as before. Beats in every cycle, so hazards
                between them are in it.
    sweeping    the row of a cycle gives (total + V of the slots of its survivors), saturated, halved or cleared, and
                empties just these slots; its results are what is written back. A survivor's slot: survivors before it.
    exclusion   no sweep is under way where a beat is, and the other way round.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyrtl

from hls.datapaths.token_importance import build, plan
from hls.datapaths.token_importance_parts import PROBABILITY, SCORE, TokenImportanceTypes
from hls.lower import building, lower
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, conjunction, total
from verification.equivalence.netlist import NetlistError, read_block, write_block
from verification.equivalence.sequential import Invariant, Signals, prove_by_induction
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.forgotten_reset import prove_reset_forgotten
from verification.evidence.planted import all_refuted, faults, gate_faults_refuted
from verification.evidence.token_importance_model import LIMIT, exercise
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")


def probed(block: pyrtl.Block, config: AcceleratorConfig) -> pyrtl.Block:
    """The block with `watched_row` and `watched_ids` that never change, and what the memories hold there."""
    types = TokenImportanceTypes.of(config)
    memories = {net.op_param[1].name: net.op_param[1] for net in block.logic_subset("m@")}
    with building(block):
        for name, width in (("watched_row", types.bank_row.width), ("watched_ids", types.id_row.width)):
            register = pyrtl.Register(width, name)
            register.next <<= register
        for name, memory in memories.items():
            at = block.get_wirevector_by_name("watched_ids" if name == "total" else "watched_row")
            port = pyrtl.Output(memory.bitwidth, f"watched_{name}")
            port <<= memory[at]
    return block


def saturating(a: Bits, b: Bits) -> Bits:
    """min(2^32 - 1, a + b)."""
    both = a.zext(SCORE.width + 1) + b.zext(SCORE.width + 1)
    return choose(both[SCORE.width], both.constant(LIMIT), both)[: SCORE.width]


def value_of(cycle: Signals, bank: int) -> Bits:
    """V of the watched slot of a bank."""
    pending = cycle[f"writing_{bank}"] & (cycle[f"write_row_{bank}"] == cycle["watched_row"])
    return choose(pending, cycle[f"written_{bank}"], cycle[f"watched_partial_{bank}"])


def adding(config: AcceleratorConfig, bank: int) -> Invariant:
    """The claim "adding" of the module for a bank."""
    types, latency = TokenImportanceTypes.of(config), plan(config).place.latency_cycles

    def holds(window: Sequence[Signals]) -> Bits:
        beat, before, after = window[0], window[latency], window[latency + 1]
        first = beat["slot"]
        slot = beat["watched_row"].zext(first.width).shifted_left(types.bank_bits) | first.constant(bank)
        accepted = beat["in_valid"] & beat["in_ready"]
        old = value_of(before, bank)
        emptied = before[f"emptied_{bank}"] & (before[f"read_row_{bank}"] == before["watched_row"])
        new = choose(emptied, old.constant(0), old)
        for lane in range(types.lanes):
            prob = beat["prob"][lane * PROBABILITY.width : (lane + 1) * PROBABILITY.width]
            hit = accepted & beat["lane_valid"][lane] & (first + first.constant(lane) == slot)
            new = choose(hit, saturating(old, prob.zext(SCORE.width)), new)
        return value_of(after, bank) == new

    return Invariant(f"adding in bank {bank}", holds, window_cycles=latency + 2)


class _Row:
    """What the sweep claims say about the row that is taken in a cycle of a window: its slots, and when they are read.

    `taken` also says that nothing stalls it in the window.
    """

    def __init__(self, config: AcceleratorConfig, window: Sequence[Signals], cycle: int) -> None:
        self.types, parts = TokenImportanceTypes.of(config), plan(config)
        counted = cycle + parts.count.latency_cycles
        read = counted + parts.locate.latency_cycles
        start = window[cycle]
        moving = conjunction([w["advance"] for w in window[cycle:]])
        self.taken = start["sweep_valid"] & start["sweep_ready"] & moving
        self.start, self.read, self.out = start, window[read], window[cycle + parts.sweep_latency_cycles :]
        self.first, self.next_first = window[counted]["first_slot"], window[counted + 1]["first_slot"]
        self.survivors = [start["survivor"][i] for i in range(self.types.ids)]

    def slot(self, index: int) -> Bits:
        """Where the survivor at an index of the row has its partial sum; behind the last index: the next free slot."""
        none = self.first.constant(0)
        return self.first + total([none, *(s.zext(none.width) for s in self.survivors[:index])], none.width)

    def is_watched(self, slot: Bits) -> Bits:
        """Whether a slot is in the watched row of its bank."""
        return slot[self.types.bank_bits :] == self.read["watched_row"]


def sweeping(config: AcceleratorConfig, index: int) -> Invariant:
    """The claim "sweeping" of the module for the results of one id of a row, on the words in the banks."""

    def holds(window: Sequence[Signals]) -> Bits:
        row = _Row(config, window, 0)
        survivor, slot, start, out = row.survivors[index], row.slot(index), row.start, row.out[0]
        old = row.read["watched_total"][index * SCORE.width : (index + 1) * SCORE.width]
        partial_sum = old.constant(0)
        for bank in range(row.types.banks):
            here = survivor & (slot[: row.types.bank_bits] == bank)
            partial_sum = choose(here, row.read[f"watched_partial_{bank}"], partial_sum)
        both = saturating(old, partial_sum)
        score = choose(start["halve"], both.shifted_right(1), both)
        score = choose(start["clear"], both.constant(0), score)
        right = conjunction(
            [
                out["out_valid"],
                out["score"][index * SCORE.width : (index + 1) * SCORE.width] == score,
                out["score_survivor"][index] == survivor,
                out["score_row"] == start["id_row"],
                out["score_last"] == start["sweep_last"],
            ]
        )
        watched = (start["id_row"] == start["watched_ids"]) & (~survivor | row.is_watched(slot))
        return ~(row.taken & watched) | right

    return Invariant(f"sweeping id {index}", holds, window_cycles=plan(config).sweep_latency_cycles + 1)


def settled(config: AcceleratorConfig, bank: int) -> Invariant:
    """The word that a sweep reads is the value of its slot: the row before, of the same sweep, is not writing there."""

    def holds(window: Sequence[Signals]) -> Bits:
        row = _Row(config, window, 1)
        taken = window[0]["sweep_valid"] & window[0]["sweep_ready"]
        same_sweep = window[0]["advance"] & (~taken | (window[0]["clear"] == row.start["clear"]))
        reads = row.first[0].constant(0)
        for index, survivor in enumerate(row.survivors):
            slot = row.slot(index)
            reads = reads | (survivor & (slot[: row.types.bank_bits] == bank) & row.is_watched(slot))
        writes = row.read[f"writing_{bank}"] & (row.read[f"write_row_{bank}"] == row.read["watched_row"])
        return ~(row.taken & same_sweep & ~row.start["clear"] & reads & writes)

    return Invariant(f"settled bank {bank}", holds, window_cycles=plan(config).sweep_latency_cycles + 2)


def emptying(config: AcceleratorConfig, bank: int) -> Invariant:
    """A row empties the slots of its survivors and no others; one that clears, the banks' row of its own number."""

    def holds(window: Sequence[Signals]) -> Bits:
        row = _Row(config, window, 0)
        slots = [row.slot(i) for i in range(row.types.ids)]
        used = row.start["clear"] & (row.start["id_row"][: row.types.bank_row.width] == row.read["watched_row"])
        for survivor, slot in zip(row.survivors, slots, strict=True):
            mine = survivor & (slot[: row.types.bank_bits] == bank) & row.is_watched(slot)
            used = used | (mine & ~row.start["clear"])
        empties = row.read[f"emptied_{bank}"] & (row.read[f"read_row_{bank}"] == row.read["watched_row"])
        return ~row.taken | (empties == used)

    parts = plan(config)
    return Invariant(f"emptying in bank {bank}", holds, parts.count.latency_cycles + parts.locate.latency_cycles + 1)


_SWEEP_STATE = ("count_", "locate_", "merge_", "fetched", "total_read", "partial_read", "id_row", "first_slot")


def order(config: AcceleratorConfig, block: pyrtl.Block) -> tuple[Invariant, ...]:
    """How rows of a sweep follow each other, what is written back, how they stall, and exclusion."""
    parts, types = plan(config), TokenImportanceTypes.of(config)
    registers = sorted(wire.name for wire in block.wirevector_subset(pyrtl.Register))
    held = [name for name in registers if name.startswith(_SWEEP_STATE)]

    def slots_follow(window: Sequence[Signals]) -> Bits:
        row = _Row(config, window, 0)
        after = choose(row.start["sweep_last"], row.first.constant(0), row.slot(types.ids))
        idle = ~(row.start["sweep_valid"] & row.start["sweep_ready"]) & conjunction([w["advance"] for w in window])
        return (~row.taken | (row.next_first == after)) & (~idle | (row.next_first == row.first))

    def rows_follow(window: Sequence[Signals]) -> Bits:
        now, later = window
        after = choose(now["sweep_last"], now["id_row"].constant(0), now["id_row"] + now["id_row"].constant(1))
        taken = now["sweep_valid"] & now["sweep_ready"]
        return later["id_row"] == choose(taken, after, now["id_row"])

    def written_back(window: Sequence[Signals]) -> Bits:
        now, later = window
        written = now["out_valid"] & now["out_ready"] & (now["score_row"] == now["watched_ids"])
        return later["watched_total"] == choose(written, now["score"], now["watched_total"])

    def stalled(window: Sequence[Signals]) -> Bits:
        now, later = window
        same = conjunction([now[n] == later[n] for n in held])
        return (now["advance"] == (now["out_ready"] | ~now["out_valid"])) & (
            now["advance"] | (same & ~now["sweep_ready"])
        )

    def exclusion(window: Sequence[Signals]) -> Bits:
        (now,) = window
        adds = [now[f"writing_{bank}"] & ~now[f"emptying_{bank}"] for bank in range(types.banks)]
        adds += [now[f"place_valid_s{stage + 1}"] for stage in range(parts.place.latency_cycles)]
        return conjunction([~((now["sweeping"] | now["sweep_moves"]) & add) for add in adds])

    reach = parts.count.latency_cycles + 2
    return (
        Invariant("slots follow each other", slots_follow, reach),
        Invariant("rows follow each other", rows_follow, 2),
        Invariant("results are written back", written_back, 2),
        Invariant("a stalled sweep holds", stalled, 2),
        Invariant("exclusion", exclusion),
    )


def _adding(config: AcceleratorConfig, block: pyrtl.Block) -> list[Invariant]:
    return [adding(config, bank) for bank in range(TokenImportanceTypes.of(config).banks)]


def _sweeping(config: AcceleratorConfig, block: pyrtl.Block) -> list[Invariant]:
    return [sweeping(config, index) for index in range(TokenImportanceTypes.of(config).ids)]


def _slots(config: AcceleratorConfig, block: pyrtl.Block) -> list[Invariant]:
    return [*(emptying(config, b) for b in range(TokenImportanceTypes.of(config).banks)), *order(config, block)]


def _settled(config: AcceleratorConfig, block: pyrtl.Block) -> list[Invariant]:
    return [settled(config, bank) for bank in range(TokenImportanceTypes.of(config).banks)]


Claims = Callable[[AcceleratorConfig, pyrtl.Block], list[Invariant]]


def holds(claims: Claims, config: AcceleratorConfig, block: pyrtl.Block, settings: Settings) -> Verdict:
    """Whether the claims hold of a block of `config`, which gets probes."""
    with_probes = probed(block, config)
    invariants = claims(config, with_probes)
    return prove_by_induction(with_probes, invariants, limits=settings.limits, folder=settings.folder)


def _proved(claims: Claims, settings: Settings) -> Verdict:
    return holds(claims, FULL, build(FULL).block, settings)


def _results(settings: Settings) -> Verdict:
    """At full size this takes minutes."""
    config = FULL if settings.full else TINY
    return holds(_sweeping, config, build(config).block, settings)


def _faulty(claims: Claims, planted: Sequence[tuple[str, str, str]], settings: Settings) -> Verdict:
    """The claims must be refuted of a machine with each of the faults."""
    config = FULL if settings.full else TINY
    return all_refuted(faults(build(config).block, *planted), lambda block: holds(claims, config, block, settings))


def _mutants(settings: Settings) -> Verdict:
    """Mutants of the small machine against the reference in simulation, and those it does not notice against proofs."""

    def simulated(block: pyrtl.Block) -> bool:
        for seed in range(settings.seed, settings.seed + 3):
            exercise(block, TINY, seed)
        return False

    block = build(TINY).block
    every = netlist_mutants(block)
    chosen = sample_mutants(every, settings.samples, settings.seed)
    detectors = [Detector("reference", simulated)] + [
        Detector(name, partial(_refuted, claims, settings)) for name, claims in (("adding", _adding), ("rows", _rows))
    ]
    depth, limits = plan(TINY).sweep_latency_cycles, settings.limits

    def forgotten(faulty: pyrtl.Block) -> Verdict:
        return prove_reset_forgotten(faulty, block, depth, _PAYLOAD, limits)

    return kill_rate(block, chosen, detectors, prover=forgotten, population=len(every)).verdict()


_PAYLOAD = ("score", "score_survivor", "score_row", "score_last")


def _rows(config: AcceleratorConfig, block: pyrtl.Block) -> list[Invariant]:
    return [*_slots(config, block), *_settled(config, block), *_sweeping(config, block)]


def _refuted(claims: Claims, settings: Settings, block: pyrtl.Block) -> bool:
    """Whether the claims are refuted of a mutant of the small machine, which stays as it is."""
    copy = write_block(read_block(block))
    try:
        return holds(claims, TINY, copy, replace(settings, folder=None)).kind is Kind.REFUTED
    except NetlistError:  # the fault took away a wire that a claim is about: no conclusion
        return False


def _gates(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    return prove_synthesized(build(config).block, limits=settings.limits, folder=settings.folder)


def _gates_with_faults(settings: Settings) -> Verdict:
    """Faults among the gates that count survivors."""
    block = lower(plan(TINY).count).block
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("inversion", "", "dropped"))


def _against_the_reference(settings: Settings) -> Verdict:
    layers = max(1, settings.samples // 20)
    try:
        exercise(build(FULL).block, FULL, settings.seed, layers)
    except AssertionError as error:
        return refuted(f"seed {settings.seed}: {error}")
    return sampled(layers, f"layers of random survivors, seed {settings.seed}, with stalls")


_IN_ADDING = (
    ("mux arms", "", "swapped"),
    ("mux select", "", "stuck at arm 0"),
    ("constant", "", "flipped"),
    ("stage removed", "write_row_2", ""),
    ("stage added", "amount_1", ""),
)
_IN_SLOTS = (
    ("stage added", "first_slot", ""),
    ("enable", "^(first_slot|id_row)$", "always loads"),
    ("stage removed", "count_survivors_s1", ""),
)
_IN_ORDER_OF_ROWS = (("inversion", "", "dropped"), ("stage added", "first_slot", ""))
_IN_SWEEPING = (
    ("stage removed", "fetched_source", ""),
    ("enable", "merge_", "never loads"),
    ("stage removed", "total_read", ""),
)

CHECKS = (
    Check("adding: every beat, whatever came before", "SMT, induction", partial(_proved, _adding)),
    Check("slots, rows, stalls and exclusion", "SMT, induction", partial(_proved, _slots)),
    Check("sweeping: nothing is being written to what is read", "SMT, induction", partial(_proved, _settled)),
    Check("sweeping: results", "SMT, induction", _results),
    Check("adding with faults", "SMT, must be refuted", partial(_faulty, _adding, _IN_ADDING), least=Kind.TESTED),
    Check("slots with faults", "SMT, must be refuted", partial(_faulty, _slots, _IN_SLOTS), least=Kind.TESTED),
    Check("rows with faults", "SMT, must be refuted", partial(_faulty, _settled, _IN_ORDER_OF_ROWS), least=Kind.TESTED),
    Check("results with faults", "SMT, must be refuted", partial(_faulty, _sweeping, _IN_SWEEPING), least=Kind.TESTED),
    Check("gates equal the netlist", "SMT", _gates),
    Check("gates with planted faults", "SMT, must be refuted", _gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
