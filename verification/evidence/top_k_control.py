"""Invariants of the whole top-k engine's control, inductive together, and equality of engines that they let us prove.

Select is in one state at a time; the rows of a pass follow each other without a gap, so a packer that holds elements is
given a row or flushes. In the filter nothing follows the last row of a request until it has left, so a free filter is
empty. A stalled result stays.
"""

from collections.abc import Mapping

import pyrtl

from hls.datapaths.top_k import WAITING_REQUESTS
from hls.datapaths.top_k_graphs import TopKPlan
from verification.equivalence.bits import Bits, choose, concatenate, conjunction, total
from verification.equivalence.equality import prove_equal
from verification.equivalence.formula import Formula
from verification.equivalence.function import prove
from verification.equivalence.netlist import Netlist, read_block
from verification.equivalence.problem import Operands, Problem, Target
from verification.equivalence.sequential import Invariant, Signals, signals_at
from verification.equivalence.symbolic import Obligation, Start, SymbolicRun, discharge
from verification.equivalence.verdict import Verdict, proved, unknown, weakest
from verification.evidence.stream_contracts import implies, now
from verification.results import Settings

_PACKERS = ("fill_pack", "smaller_pack", "larger_pack", "filter_rows")
RESET_CYCLES = 3
"""After so many cycles from reset an idle pipeline has forgotten its registers' reset values."""


def control_claims(block: pyrtl.Block, made: TopKPlan) -> tuple[Invariant, ...]:
    """All of them."""
    return (*_select_claims(made), *_filter_claims(made), *_result_claims(block))


def _select_claims(made: TopKPlan) -> list[Invariant]:
    depth = made.partition_latency_cycles
    stages = [("row_valid", "row_last"), *((f"judged_valid_d{i}", f"judged_last_d{i}") for i in range(1, depth + 1))]
    states = ["waiting", "rowing", "fetching", "picking", "streaming", *(last for _, last in stages), "deciding"]

    def one_state(s: Signals) -> Bits:
        return total([s[state] for state in states], 5) == 1

    def follows(i: int) -> Invariant:
        """Behind a row that is not the last there is another; rows are under way only in the states for that."""
        (valid, last), behind = stages[i], stages[i - 1][0] if i else "streaming"

        def holds(s: Signals) -> Bits:
            on_its_way = s["streaming"]
            for _, later in stages[: i + 1]:
                on_its_way = on_its_way | s[later]
            return implies(s[valid] & ~s[last], s[behind]) & implies(s[last], s[valid]) & implies(s[valid], on_its_way)

        return now(f"rows follow each other at stage {i}", holds)

    def fed(side: str) -> Invariant:
        def holds(s: Signals) -> Bits:
            flushes = s[f"{side}_pack_flushing"]
            holding = s[f"{side}_pack_filled"] != 0
            return implies(holding & ~flushes, s[stages[-1][0]]) & implies(flushes, s["deciding"])

        return now(f"{side} packer holds elements only while rows come, or flushes", holds)

    return [
        now("select is in exactly one state", one_state),
        now("streaming follows a row", lambda s: implies(s["streaming"], s["row_valid"])),
        *(follows(i) for i in range(len(stages))),
        fed("smaller"),
        fed("larger"),
    ]


def _filter_claims(made: TopKPlan) -> list[Invariant]:
    depth = made.kept_pack.latency_cycles
    stages = [
        ("filter_row_valid_d1", "filter_row_last_d1"),
        ("filter_judged_valid_d1", "filter_judged_last_d1"),
        *((f"filter_pack_valid_s{i}", f"filter_kept_last_d{i}") for i in range(1, depth + 1)),
    ]

    def nothing_before(s: Signals, stage: int) -> Bits:
        return ~s["filter_reading"] & conjunction([~s["filter_reading"], *(~s[valid] for valid, _ in stages[:stage])])

    def last_is_last(i: int) -> Invariant:
        valid, last = stages[i]
        return now(
            f"nothing follows a last row at stage {i}", lambda s: implies(s[valid] & s[last], nothing_before(s, i))
        )

    def free_is_empty(s: Signals) -> Bits:
        empty = ~s["filter_rows_flushing"] & (s["filter_rows_filled"] == 0)
        return implies(s["filter_idle"], nothing_before(s, len(stages)) & empty)

    return [
        *(last_is_last(i) for i in range(len(stages))),
        now("a flush is last", lambda s: implies(s["filter_rows_flushing"], nothing_before(s, len(stages)))),
        now("a free filter is empty", free_is_empty),
    ]


def _result_claims(block: pyrtl.Block) -> list[Invariant]:
    fields = sorted(w.name for w in block.wirevector_subset(pyrtl.Output) if w.name.startswith("kept_"))
    fields += ["status", "threshold", "num_equal"]

    def stays(before: Signals, after: Signals) -> Bits:
        same = conjunction([after[name] == before[name] for name in fields])
        return implies(before["out_valid"] & ~before["out_ready"], after["out_valid"] & same)

    def in_turn(s: Signals) -> Bits:
        return (s["result_count"] <= 2) & (s["result_tail"] == (s["result_head"] ^ s["result_count"][0]))

    return [
        Invariant("a stalled result stays", lambda window: stays(window[0], window[1]), window_cycles=2),
        now("results are queued in turn", in_turn),
    ]


def _packed(operands: Operands, items: list[Bits], valid: list[Bits]) -> list[Bits]:
    """What a zero eliminator makes of the items: lane j has the valid item before which there are j."""
    lanes = len(items)
    bits = lanes.bit_length()
    none, nothing = operands.constant(0, bits), operands.constant(0, items[0].width)
    before = [total([none, *valid[:i]], bits) for i in range(lanes)]
    packed = []
    for j in range(lanes):
        lane = nothing
        for i in range(j, lanes):
            lane = lane | choose(valid[i] & (before[i] == j), items[i], nothing)
        packed.append(lane)
    return packed


def prove_packing(made: TopKPlan, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The zero eliminators in their places: what is packed of a row, from any state. For pipelines of one stage."""
    types = made.types
    lanes, width, bits = types.lanes, types.value.width, types.ahead.width

    def words(wire: Bits, element_bits: int) -> list[Bits]:
        return [wire[i * element_bits : (i + 1) * element_bits] for i in range(lanes)]

    def targets(prefix: str, packed: list[Bits], low: int) -> dict[Target, Bits]:
        """The packed lanes by register; the eliminator's id is above `low` bits, or, for low = 0, the lowest bit."""
        found: dict[Target, Bits] = {}
        for i, lane in enumerate(packed):
            value, ident = (lane[:low], lane[low:]) if low else (lane[1:], lane[:1])
            found[(f"{prefix}packed_value_{i}_s1", 1)] = value
            found[(f"{prefix}packed_id_{i}_s1", 1)] = ident
        return found

    def fill(op: Operands) -> dict[Target, Bits]:
        pairs = zip(words(op["value"], width), words(op["id"], types.id.width), strict=True)
        items = [concatenate(ident, value) for value, ident in pairs]
        return targets("fill_", _packed(op, items, words(op["valid"], 1)), width)

    def survivors(op: Operands) -> dict[Target, Bits]:
        values, pivot = words(op["row"], width), op["pivot"]
        valid = [~op["row_last"] | rest for rest in words(op["rest_lanes"], 1)]
        smaller = [v & (x < pivot) for x, v in zip(values, valid, strict=True)]
        larger = [v & (x > pivot) for x, v in zip(values, valid, strict=True)]
        found = targets("smaller_", _packed(op, values, smaller), 0)
        return found | targets("larger_", _packed(op, values, larger), 0)

    def kept(op: Operands) -> dict[Target, Bits]:
        above, equal = words(op["filter_above_d1"], 1), words(op["filter_equal_d1"], 1)
        ahead = [a.zext(types.count.width) for a in words(op["filter_ahead_d1"], bits)]
        valid = [a | (e & (n < op["filter_remaining"])) for a, e, n in zip(above, equal, ahead, strict=True)]
        items = words(op["filter_judged_row_d1"], types.item_bits)
        return targets("filter_pack_", _packed(op, items, valid), width)

    def counted(op: Operands) -> Bits:
        ahead = words(op["filter_ahead_d1"], bits)
        return conjunction([~op["filter_pack_valid_s1"], *(a <= i for i, a in enumerate(ahead))])

    problems = (
        Problem("fill packs", block, fill, assume=lambda op: ~op["fill_valid_s1"]),
        Problem("survivors are packed", block, survivors),
        Problem("kept items are packed", block, kept, assume=counted),
    )
    return weakest([prove(problem, limits=settings.limits, folder=settings.folder) for problem in problems])


def prove_same(original: pyrtl.Block, other: pyrtl.Block, made: TopKPlan, settings: Settings) -> Verdict:
    """PROVED if two engines behave the same from reset, for ever.

    One step from any state that the claims allow is the same; or, where only reset values differ, the first cycles,
    after which all state is the same.
    """
    ours, theirs = read_block(original), read_block(other)
    if ours.nets == theirs.nets and ours.constants == theirs.constants:
        return _merge(ours, theirs, settings)
    if ours.registers != theirs.registers:
        return prove_equal(original, other, limits=settings.limits)
    formula = Formula()
    # what a packer or the FIFO of requests holds may differ where nothing reads it
    held_by = {
        f"{packer}_held_{i}": (f"{packer}_filled", i) for packer in _PACKERS for i in range(made.types.lanes - 1)
    }
    held_by |= {f"requests_entry_{i}": ("requests_count", i) for i in range(WAITING_REQUESTS)}
    apart = {name: formula.variable(f"reg:other.{name}", ours.widths[name]) for name in held_by}
    runs = [SymbolicRun(ours, formula), SymbolicRun(theirs, formula, registers=apart)]
    claims = [claim for claim in control_claims(original, made) if claim.window_cycles == 1]
    held = tuple(claim.holds([signals_at(runs[0].unrolling, 0)]).value for claim in claims)

    def read_alike(name: str, cycle: int) -> Bits:
        (filled, i), ours_at = held_by[name], runs[0].unrolling
        same = ours_at.bits(name, cycle) == runs[1].unrolling.bits(name, cycle)
        return implies(ours_at.bits(filled, cycle) > i, same)

    held += tuple(read_alike(name, 0).value for name in held_by)
    return _agree(formula, runs, 1, held, settings, {name: read_alike(name, 1) for name in held_by})


def _merge(ours: Netlist, theirs: Netlist, settings: Settings) -> Verdict:
    formula = Formula()
    runs = [SymbolicRun(netlist, formula, start=Start.RESET) for netlist in (ours, theirs)]
    return _agree(formula, runs, RESET_CYCLES, (), settings)


def _agree(
    formula: Formula,
    runs: list[SymbolicRun],
    cycles: int,
    assumptions: tuple[int, ...],
    settings: Settings,
    weaker: Mapping[str, Bits] | None = None,
) -> Verdict:
    """Equal outputs in all cycles, and equal registers and memories behind them; `weaker` claims replace equality."""
    weaker = weaker or {}
    ours, theirs = (run.unrolling for run in runs)
    netlist = runs[0].netlist
    pairs = [(name, cycle) for cycle in range(cycles) for name in netlist.outputs]
    pairs += [(name, cycles) for name in netlist.registers]
    if runs[1].netlist.writers != netlist.writers:
        return unknown("other write ports")

    def same(name: str, cycle: int) -> Bits:
        return ours.bits(name, cycle) == theirs.bits(name, cycle)

    claims = [(name, cycle, weaker.get(name, same(name, cycle))) for name, cycle in pairs]
    for memory, nets in netlist.writers.items():
        for (address, data, enable), cycle in ((net.args, cycle) for net in nets for cycle in range(cycles)):
            written = implies(ours.bits(enable, cycle), same(address, cycle) & same(data, cycle))
            claims.append((f"write to {memory}", cycle, same(enable, cycle) & written))
    obligations = [Obligation(f"{name} at cycle {cycle}", claim.value, assumptions) for name, cycle, claim in claims]
    for obligation, answer in zip(obligations, discharge(formula, obligations, settings.limits), strict=True):
        if answer.status != "unsat":
            return unknown(f"{obligation.name} may differ: {answer.reason}")
    return proved(f"{len(obligations)} obligations")
