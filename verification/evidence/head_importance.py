"""Evidence for head importance at its published size, 64 heads of 48 bits.

Claims, each from any state unless it says otherwise, giving together `S_h += ((sum |out|) * m_v) >> sh_v`, saturated,
for rows that end in every cycle:

1. magnitude: the sum of |element| of a cycle, node by node, and what travels beside it;
2. sum of a row: a cycle that has arrived adds to its row or begins it; the last one hands the row on;
3. scale: sum times mantissa, shifted and saturated; its products are a multiplier proved by all inputs;
4. update: two cycles after it leaves 3, a contribution has been added, saturating, to the score of its head as all
   earlier ones left it, and to no other;
5. ports: a clear waits until nothing is under way and then makes all scores 0; nothing enters beside it; reading shows
   a score one cycle later; from reset, scores are 0 and the first cycle begins a row.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce

import numpy as np
import pyrtl

from hls import technology
from hls.datapaths.head_importance import (
    HEADS,
    MANTISSA,
    SCORE,
    SHIFT,
    HeadImportanceTypes,
    add_graph,
    build,
    bytes_of,
    magnitude_graph,
    multiplier_graph,
    plan,
    read_graph,
    shift_graph,
    sum_row_graph,
)
from hls.lower import Netlist, lower
from hls.schedule import Schedule, schedule
from hls.simulate import from_words, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose
from verification.equivalence.function import prove
from verification.equivalence.netlist import read_block
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, Specification, Target
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, weakest
from verification.evidence.head_importance_model import OutputBeats, expected, extreme_beats, random_beats
from verification.evidence.planted import (
    MUTANT_LIMITS,
    ProductCase,
    all_refuted,
    faults,
    gate_faults_refuted,
    product_checks,
    sampled_mutants,
)
from verification.evidence.shared import applied, combinational, elements, named_stages
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
TINY_HEADS = 8
TOP = SCORE.full_range.high


class _Parts:
    """Names and cycles of a machine's wires that the proofs speak of."""

    def __init__(self, config: AcceleratorConfig, heads: int) -> None:
        self.config, self.heads = config, heads
        self.types = HeadImportanceTypes.of(config, heads)
        self.plan = plan(config, heads=heads)
        self.entered = self._outputs(self.plan.magnitude, "magnitude_")
        self.scaled = self._outputs(self.plan.scale, "scale_")
        self.entered_at = self.plan.magnitude.latency_cycles
        self.scaled_at = self.plan.scale.latency_cycles
        self.valids = [f"magnitude_valid_s{i + 1}" for i in range(self.entered_at)]
        self.valids += ["row_done", *(f"scale_valid_s{i + 1}" for i in range(self.scaled_at)), "adding"]

    @staticmethod
    def _outputs(schedules: Schedule, prefix: str) -> dict[str, str]:
        """The register of each output port."""
        graph, at = schedules.graph, schedules.latency_cycles
        return {port.name: f"{prefix}{graph.label(port.nodes[0])}_s{at}" for port in graph.outputs}


def magnitude(parts: _Parts) -> Specification:
    """Claim 1."""
    at, stage = parts.entered_at, named_stages(parts.plan.magnitude, "magnitude_")

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        def cut(name: str, value: Bits) -> Bits:
            return operands.cut(f"magnitude_{name}", value, cycle=stage[f"magnitude_{name}"])

        level = [
            cut(f"magnitude_{i}", choose(x[-1], -x, x))
            for i, x in enumerate(elements(operands, "element", parts.config.datapath_bits))
        ]
        while len(level) > 1:
            half = len(level) // 2
            pairs = zip(level[::2], level[1::2], strict=True)
            wide = [operands.width(f"magnitude_total_{half}_{i}") for i in range(half)]
            level = [
                cut(f"total_{half}_{i}", a.zext(w) + b.zext(w))
                for i, ((a, b), w) in enumerate(zip(pairs, wide, strict=True))
            ]
        beside = {"row_head": "head", "row_mantissa": "mantissa", "row_shift": "shift", "row_end": "last"}
        return {
            (parts.entered["partial"], at): level[0],
            (f"magnitude_valid_s{at}", at): operands["in_valid"] & ~operands["clear_valid"],
            **{(parts.entered[port], at): operands[name] for port, name in beside.items()},
        }

    return specification


def sum_row(parts: _Parts) -> Specification:
    """Claim 2, one step."""
    width = parts.types.magnitude.width

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        arrived = operands[f"magnitude_valid_s{parts.entered_at}"]
        last, held = operands[parts.entered["row_end"]], operands["magnitude"]
        before = choose(operands["first"], operands.constant(0, width), held)
        return {
            ("magnitude", 1): choose(arrived, before + operands[parts.entered["partial"]].zext(width), held),
            ("first", 1): choose(arrived, last, operands["first"]),
            ("row_done", 1): arrived & last,
            **{(name, 1): operands[parts.entered[name]] for name in ("row_head", "row_mantissa", "row_shift")},
        }

    return specification


def scale(parts: _Parts) -> Specification:
    """Claim 3."""
    at, stage, bits = parts.scaled_at, named_stages(parts.plan.scale, "scale_"), parts.types.magnitude.width
    parts_of = bytes_of(bits)
    multipliers = {high - low: read_block(combinational(multiplier_graph(high - low))) for low, high in parts_of}

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        held, mantissa, shift = operands["magnitude"], operands["row_mantissa"], operands["row_shift"]
        product = operands.constant(0, bits + MANTISSA.width)
        for i, (low, high) in enumerate(parts_of):
            wire = f"scale_product_{i}"
            value = applied(multipliers[high - low], {"a": held[low:high], "b": mantissa}, "product")
            found = operands.cut(wire, value[: operands.width(wire)], cycle=stage[wire])
            product = product + found.zext(product.width).shifted_left(low)
        negative, room = shift[-1], SCORE.width + (1 << (SHIFT.width - 1))
        wide = product.zext(max(room, product.width + (1 << (SHIFT.width - 1))))
        scaled = choose(negative, wide.shifted_left(-shift), wide.shifted_right(shift))
        limited = choose(scaled > TOP, scaled.constant(TOP), scaled)[: SCORE.width]
        return {
            (parts.scaled["contribution"], at): limited,
            (parts.scaled["add_head"], at): operands["row_head"],
            (f"scale_valid_s{at}", at): operands["row_done"],
        }

    return specification


def _added(score: Bits, contribution: Bits) -> Bits:
    """Their sum, saturated."""
    total = score.zext(SCORE.width + 1) + contribution.zext(SCORE.width + 1)
    return choose(total > TOP, total.constant(TOP), total)[: SCORE.width]


def _idle(parts: _Parts, operands: Operands) -> Bits:
    return ~reduce(lambda a, b: a | b, [operands[name] for name in parts.valids])


def _scores_after_one(parts: _Parts, operands: Operands) -> list[Bits]:
    """Every score one cycle later, whatever happens."""
    before = choose(operands["same_head"], operands["recent"], operands["stored"])
    older, nothing = _added(before, operands["contribution"]), operands.constant(0, SCORE.width)
    cleared = operands["clear_valid"] & _idle(parts, operands)
    return [
        choose(
            cleared,
            nothing,
            choose(operands["adding"] & (operands["add_head"] == i), older, operands[f"score_{i}"]),
        )
        for i in range(parts.heads)
    ]


def update(parts: _Parts) -> Specification:
    """Claim 4: two steps, of which the second is the contribution's; `valid` is assumed, a clear may wait beside it."""

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        head, contribution = operands[parts.scaled["add_head"]], operands[parts.scaled["contribution"]]
        return {
            (f"score_{i}", 2): choose(head == i, _added(score, contribution), score)
            for i, score in enumerate(_scores_after_one(parts, operands))
        }

    return specification


def ports(parts: _Parts) -> Specification:
    """Claim 5 but for reset, and one step of every score."""

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        idle, read = _idle(parts, operands), operands["score_0"]
        for i in range(1, parts.heads):
            read = choose(operands["read_head"] == i, operands[f"score_{i}"], read)
        return {
            "idle": idle,
            "clear_ready": idle,
            "in_ready": ~operands["clear_valid"],
            ("read_score", 1): read,
            ("adding", 1): operands[f"scale_valid_s{parts.scaled_at}"],
            **{(f"score_{i}", 1): score for i, score in enumerate(_scores_after_one(parts, operands))},
        }

    return specification


def proof(config: AcceleratorConfig, heads: int, block: pyrtl.Block, settings: Settings) -> Verdict:
    """Claims 1 to 5."""
    parts, resets = _Parts(config, heads), read_block(block).registers
    zero = [*(f"score_{i}" for i in range(heads)), *parts.valids]
    if resets["first"] != 1 or any(resets[name] != 0 for name in zero):
        return refuted("reset does not leave scores of 0, an empty pipeline and the beginning of a row")
    problems = (
        Problem("magnitude", block, magnitude(parts)),
        Problem("sum of a row", block, sum_row(parts)),
        Problem("scale", block, scale(parts)),
        Problem("update", block, update(parts), assume=lambda operands: operands[f"scale_valid_s{parts.scaled_at}"]),
        Problem("ports", block, ports(parts)),
    )
    verdicts = []
    for problem in problems:
        verdicts.append(prove(problem, limits=settings.limits, folder=settings.folder))
        if verdicts[-1].kind is Kind.REFUTED:
            return verdicts[-1]
    return weakest(verdicts)


def differs(config: AcceleratorConfig, heads: int, block: pyrtl.Block, beats: OutputBeats, seed: int) -> bool:
    """Whether rows with gaps between them, a clear, and the same rows again without gaps leave other scores.

    Also seen: a wrong score right after reset, a clear that is never granted, `idle` too early or too late.
    """
    netlist, rng = (
        Netlist("head_importance", block, plan(config, heads=heads).latency_cycles),
        np.random.default_rng(seed),
    )
    columns = {name: from_words(words) for name, words in beats.ports(config, heads).items()}
    rows = [{name: column[i] for name, column in columns.items()} | {"in_valid": 1} for i in range(len(beats.last))]
    wanted = expected(beats, heads).tolist()
    with open_simulator(netlist, "fast") as simulator:

        def scores() -> list[int]:
            seen = [simulator.step({"read_head": head % heads})["read_score"] for head in range(heads + 1)]
            return seen[1:]

        def settled() -> int:
            """Cycles until idle."""
            return next((i for i in range(2 * netlist.latency_cycles) if simulator.step({})["idle"]), -1)

        if scores() != [0] * heads:
            return True
        for gaps in (rng.random(len(rows)) < 0.4, np.zeros(len(rows), dtype=np.bool_)):
            for row, gap in zip(rows, gaps, strict=True):
                if gap:
                    simulator.step({**row, "in_valid": 0})
                if not simulator.step(row)["in_ready"]:
                    return True
            if settled() != netlist.latency_cycles - 1 or scores() != wanted:
                return True
            simulator.step(rows[-1])
            refused = [simulator.step({**rows[-1], "clear_valid": 1}) for _ in range(netlist.latency_cycles)]
            granted = [seen["clear_ready"] for seen in refused]
            if any(seen["in_ready"] for seen in refused) or granted != [0] * (len(granted) - 1) + [1]:
                return True
            if scores() != [0] * heads:
                return True
    return False


def _product(bits: int, block: pyrtl.Block) -> Problem:
    """A multiplier of `bits` x 16 bits against NumPy's product."""
    specification = IntegerSpecification(lambda v: {"product": v["a"] * v["b"]}, ("a", "b"), ("product",))
    return Problem(f"product {bits}", block, specification, fixed={"in_valid": 1, "out_ready": 1})


def _widths(config: AcceleratorConfig) -> tuple[int, ...]:
    return tuple({high - low for low, high in bytes_of(HeadImportanceTypes.of(config).magnitude.width)})


def _multipliers() -> list[ProductCase]:
    """The narrowest first."""
    return [(combinational(multiplier_graph(n)), partial(_product, n)) for n in sorted(_widths(FULL))]


def _function(settings: Settings) -> Verdict:
    return proof(FULL, HEADS, build(FULL).block, settings)


def _function_with_faults(settings: Settings) -> Verdict:
    planted = faults(
        build(FULL).block,
        ("operator", "", "+ becomes -"),
        ("inversion", "", "dropped"),
        ("enable", "magnitude$", "always loads"),
        ("reset value", "first", "flipped"),
        ("stage added", "same_head", "one more"),
        ("mux select", "", "stuck at arm 1"),
    )
    return all_refuted(planted, lambda faulty: proof(FULL, HEADS, faulty, settings))


def _gate_parts() -> tuple[pyrtl.Block, ...]:
    """All parts, `scale` without its multipliers."""
    library, period = technology.load(), FULL.clock_period_ps
    graphs = (magnitude_graph(FULL), add_graph(), sum_row_graph(FULL), shift_graph(FULL), read_graph())
    return tuple(lower(schedule(graph, library, period)).block for graph in graphs)


def _gates(settings: Settings) -> Verdict:
    return weakest(
        [prove_synthesized(block, limits=settings.limits, folder=settings.folder) for block in _gate_parts()]
    )


def _gates_with_faults(settings: Settings) -> Verdict:
    block = _gate_parts()[1]
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("inversion", "", "dropped"))


def _against_the_reference(settings: Settings) -> Verdict:
    block, tried = build(FULL).block, 0
    for beats in (extreme_beats(FULL, HEADS), random_beats(FULL, HEADS, 2 * settings.samples, settings.seed)):
        if differs(FULL, HEADS, block, beats, settings.seed):
            return refuted(f"the scores after {len(beats.last)} cycles, seed {settings.seed}, are not the reference's")
        tried += int(beats.last.sum())
    return sampled(tried, f"extremes and random rows, seed {settings.seed}, with gaps and clears")


def _mutants(settings: Settings) -> Verdict:
    block = build(TINY, heads=TINY_HEADS).block
    streams = random_beats(TINY, TINY_HEADS, 60, settings.seed), extreme_beats(TINY, TINY_HEADS)

    def streamed(mutant: pyrtl.Block) -> bool:
        return any(differs(TINY, TINY_HEADS, mutant, beats, settings.seed) for beats in streams)

    quiet = replace(settings, folder=None, limits=MUTANT_LIMITS)
    detectors = [Detector("stream", streamed)]
    return sampled_mutants(block, detectors, lambda mutant: proof(TINY, TINY_HEADS, mutant, quiet), settings)


CHECKS = (
    *product_checks(
        _multipliers,
        in_netlist=(("operator", "", "* becomes +"),),
        in_gates=(("operator", "", "& becomes |"), ("concatenation", "", "swapped")),
    ),
    Check("function, update, ports and reset", "SMT, node by node, all states", _function),
    Check("function with planted faults", "SMT, must be refuted", _function_with_faults, least=Kind.TESTED),
    Check("gates of all parts but the multipliers equal the netlist", "SMT", _gates),
    Check("gates with planted faults", "SMT, must be refuted", _gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
