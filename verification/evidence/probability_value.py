"""Evidence for prob x V at its published size, 512 multipliers and 512 accumulators.

Four proofs, each from any state, that together say: every row comes out once, in order, as
`saturate(rshift(sum_j prob[j] * value[j D + d], 12))` over its valid lanes, for every D and stall pattern.

1. weigh: what reaches the accumulators is the cycle's sum over its lanes, node by node; all products are one
   multiplier, proved by all 2^24 inputs against integers;
2. accumulate: a cycle that is taken adds to the row's sums, or begins them after the last of a row; `row_done` follows
   a last cycle; from reset, the first cycle begins a row;
3. round: sums that are done come out rounded half up and saturated;
4. stalls: where the output is not free nothing moves, else everything moves as if it were.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pyrtl

from hls import technology
from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.probability_value import (
    ProbabilityValueTypes,
    accumulate_graph,
    build,
    multiplier_graph,
    plan,
    reduction_graph,
    round_row_graph,
)
from hls.graph import Graph
from hls.lower import Netlist, lower
from hls.schedule import schedule
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate
from verification.equivalence.function import prove
from verification.equivalence.netlist import read_block
from verification.equivalence.pipeline import prove_reset, prove_stalls
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, Specification, Target
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, weakest
from verification.evidence.planted import (
    MUTANT_LIMITS,
    ProductCase,
    all_refuted,
    faults,
    gate_faults_refuted,
    product_checks,
    sampled_mutants,
)
from verification.evidence.probability_value_model import (
    ProbabilityValueBeats,
    expected,
    extreme_beats,
    observed,
    random_beats,
)
from verification.evidence.shared import SMALLEST, applied, by_dimension, combinational, elements, named_stages
from verification.mutation import Detector
from verification.ports import Integers
from verification.results import Check, Settings
from verification.streaming import StreamError, drain

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")


class _Parts:
    """Names and cycles of a machine's wires that the proofs speak of."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.types = ProbabilityValueTypes.of(config)
        self.plan = plan(config)
        self.stage = named_stages(self.plan.weigh, "weigh_")
        self.weighed_at = self.plan.weigh.latency_cycles
        graph = self.plan.weigh.graph
        ports = {port.name: port.nodes for port in graph.outputs}

        def register(node: int) -> str:
            return f"weigh_{graph.label(node)}_s{self.weighed_at}"

        self.partial = [register(node) for node in ports["partial"]]
        self.row_end = register(ports["row_end"][0])
        self.valid = f"weigh_valid_s{self.weighed_at}"


def _fitted(value: Bits, width: int) -> Bits:
    """A signed value in fewer or more bits."""
    return value.sext(width) if width > value.width else value[:width]


def weigh(parts: _Parts) -> Specification:
    """Claim 1."""
    dims = parts.types.head_dims
    multiplier = read_block(combinational(multiplier_graph(parts.config)))

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        dimension, valid = operands["dimension"], operands["lane_valid"]
        nothing = operands.constant(0, PROBABILITY_BITS)
        prob = elements(operands, "prob", PROBABILITY_BITS)
        value = elements(operands, "value", parts.config.datapath_bits)

        def cut(name: str, value: Bits) -> Bits:
            known = parts.stage.get(f"weigh_{name}")
            return value if known is None else operands.cut(f"weigh_{name}", value, cycle=known)

        weight = [cut(f"weight_{j}", choose(valid[j], p, nothing)) for j, p in enumerate(prob)]
        broadcast: dict[tuple[int, ...], Bits] = {}  # multipliers with the same choice of lanes share their operand
        for i in range(len(value)):
            lanes = tuple(i // d for d in dims)
            if lanes not in broadcast:
                broadcast[lanes] = cut(f"operand_{i}", by_dimension(dimension, [weight[j] for j in lanes]))
        operand = [broadcast[tuple(i // d for d in dims)] for i in range(len(value))]
        level = [
            cut(f"product_{i}", applied(multiplier, {"a": value[i], "b": operand[i]}, "product"))
            for i in range(len(value))
        ]
        taps = {len(level): level}
        while len(level) > dims[0]:
            half, width = len(level) // 2, level[0].width + 1
            level = [cut(f"sum_{half}_{i}", level[i].sext(width) + level[i + half].sext(width)) for i in range(half)]
            taps[half] = level
        targets: dict[Target, Bits] = {
            (parts.row_end, parts.weighed_at): operands["last"],
            (parts.valid, parts.weighed_at): operands["in_valid"],
        }
        for i, register in enumerate(parts.partial):
            width = operands.width(register)
            zero = operands.constant(0, width)
            chosen = by_dimension(dimension, [_fitted(taps[d][i], width) if i < d else zero for d in dims])
            targets[(register, parts.weighed_at)] = chosen
        return targets

    return specification


def accumulate(parts: _Parts) -> Specification:
    """Claim 2, one step from any state."""
    width = parts.types.sum.width
    done = f"round_valid_s{parts.plan.round_row.latency_cycles}"

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        moves = operands["out_ready"] | ~operands[done]
        taken = moves & operands[parts.valid]
        nothing = operands.constant(0, width)
        targets: dict[Target, Bits] = {
            ("first", 1): choose(taken, operands[parts.row_end], operands["first"]),
            ("row_done", 1): choose(moves, operands[parts.valid] & operands[parts.row_end], operands["row_done"]),
        }
        for i, register in enumerate(parts.partial):
            held = operands[f"sum_{i}"]
            total = choose(operands["first"], nothing, held) + operands[register].sext(width)
            targets[(f"sum_{i}", 1)] = choose(taken, total, held)
        return targets

    return specification


def round_row(parts: _Parts) -> Specification:
    """Claim 3."""
    bits, width, at = parts.config.datapath_bits, parts.types.sum.width, parts.plan.round_row.latency_cycles

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        outputs = []
        for i in range(parts.types.out.length):
            half = operands.constant(1 << (PROBABILITY_BITS - 1), width + 1)
            rounded = (operands[f"sum_{i}"].sext(width + 1) + half)[PROBABILITY_BITS:]
            low, high = (rounded.constant(limit) for limit in (-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
            limited = choose(rounded.signed_below(low), low, choose(high.signed_below(rounded), high, rounded))
            outputs.append(limited[:bits])
        return {("out", at): concatenate(*outputs[::-1]), ("out_valid", at): operands["row_done"]}

    return specification


def reset(parts: _Parts, block: pyrtl.Block, settings: Settings) -> Verdict:
    """What depends on reset values: that nothing comes out before something went in, and claim 2's first cycle."""
    if read_block(block).registers["first"] != 1:
        return refuted("after reset, the first cycle does not begin a row")
    return prove_reset(block, parts.plan.latency_cycles, limits=settings.limits)


def proof(config: AcceleratorConfig, block: pyrtl.Block, settings: Settings, parts: _Parts | None = None) -> Verdict:
    """Claims 1 to 4; `parts` are those of `config`, to find them once for many blocks."""
    parts = parts or _Parts(config)
    largest = len(parts.types.head_dims) - 1
    problems = (
        Problem("weigh", block, weigh(parts), {"out_ready": 1}, lambda operands: operands["dimension"] <= largest),
        Problem("accumulate", block, accumulate(parts)),
        Problem("round", block, round_row(parts), {"out_ready": 1}),
    )
    verdicts = [reset(parts, block, settings)]
    for problem in problems:
        if verdicts[-1].kind is Kind.REFUTED:
            return verdicts[-1]
        verdicts.append(prove(problem, limits=settings.limits, folder=settings.folder))
    latency = parts.plan.latency_cycles
    return weakest([*verdicts, prove_stalls(block, latency, limits=settings.limits, folder=settings.folder)])


def differs(config: AcceleratorConfig, simulator: Simulator, beats: ProbabilityValueBeats, seed: int) -> bool:
    """Whether a stream after reset, free at first and then under stalls, differs from the reference or its rate."""
    count, rng = len(beats.last), np.random.default_rng(seed)
    free = np.ones(count // 3, dtype=np.bool_)
    stalls = np.concatenate([free, rng.random(count) < 0.7]), np.concatenate([free, rng.random(2 * count) < 0.6])
    simulator.reset()
    try:
        result = drain(simulator, beats.ports(config), int(beats.last.sum()), *stalls)
    except StreamError:
        return True
    sent, received = np.array(result.sent_at)[beats.last == 1], np.array(result.received_at)
    early = received < len(free)
    if not (received - sent == simulator.netlist.latency_cycles)[early].all():
        return True
    return not np.array_equal(observed(config, result.outputs["out"]), expected(config, beats))


def _product(config: AcceleratorConfig, block: pyrtl.Block) -> Problem:
    """The multiplier against NumPy's product of a signed value and an unsigned probability."""
    width = config.datapath_bits

    def product(v: Mapping[str, Integers]) -> dict[Target, Integers]:
        value = v["a"] - ((v["a"] >> (width - 1)) << width)
        return {"product": (value * v["b"]) & ((1 << (width + PROBABILITY_BITS)) - 1)}

    specification = IntegerSpecification(product, ("a", "b"), ("product",))
    return Problem("product", block, specification, fixed={"in_valid": 1, "out_ready": 1})


def _multiplier() -> list[ProductCase]:
    return [(combinational(multiplier_graph(FULL)), partial(_product, FULL))]


def _function(settings: Settings) -> Verdict:
    return proof(FULL, build(FULL).block, settings)


def _function_with_faults(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    planted = faults(
        build(config).block,
        ("operator", "", "+ becomes -"),
        ("constant", "", "flipped"),
        ("enable", "sum_0", "always loads"),
        ("enable", "first", "never loads"),
        ("reset value", "first", "flipped"),
    )
    return all_refuted(planted, lambda faulty: proof(config, faulty, settings))


def _part_graphs(config: AcceleratorConfig) -> tuple[Graph, ...]:
    return reduction_graph(config), accumulate_graph(config), round_row_graph(config)


def _part(graph: Graph, config: AcceleratorConfig) -> pyrtl.Block:
    return lower(schedule(graph, technology.load(), config.clock_period_ps)).block


def _gates(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    parts = [_part(graph, config) for graph in _part_graphs(config)]
    return weakest([prove_synthesized(part, limits=settings.limits, folder=settings.folder) for part in parts])


def _gates_with_faults(settings: Settings) -> Verdict:
    block = _part(reduction_graph(SMALLEST), SMALLEST)
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("operator", "", "^ becomes |"))


def _against_the_reference(settings: Settings) -> Verdict:
    netlist, tried = build(FULL), 0
    streams = [random_beats(FULL, settings.samples, settings.seed)]
    if settings.full:
        streams.append(extreme_beats(FULL))
    with open_simulator(netlist, "fast") as simulator:
        for beats in streams:
            if differs(FULL, simulator, beats, settings.seed):
                return refuted(f"a stream of {len(beats.last)} cycles, seed {settings.seed}, is not the reference's")
            tried += int(beats.last.sum())
    return sampled(tried, f"rows of 1 cycle and more, seed {settings.seed}, with stalls")


def _mutants(settings: Settings) -> Verdict:
    netlist = build(TINY)
    streams = random_beats(TINY, 30, settings.seed), extreme_beats(TINY)

    def streamed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("mutant", block, netlist.latency_cycles), "fast") as simulator:
            return any(differs(TINY, simulator, beats, settings.seed) for beats in streams)

    quiet, parts = replace(settings, folder=None, limits=MUTANT_LIMITS), _Parts(TINY)
    return sampled_mutants(
        netlist.block,
        [Detector("stream", streamed)],
        lambda block: proof(TINY, block, quiet, parts),
        settings,
        prove_reset=lambda block: reset(parts, block, quiet),
    )


CHECKS = (
    *product_checks(
        _multiplier,
        in_netlist=(("operator", "", "* becomes +"), ("operator", "", "- becomes +")),
        in_gates=(("operator", "", "& becomes |"), ("inversion", "", "dropped")),
    ),
    Check("function, accumulation, rounding and stalls", "SMT, node by node, all states", _function),
    Check("function with planted faults", "SMT, must be refuted", _function_with_faults, least=Kind.TESTED),
    Check("gates of tree, accumulators and rounding equal the netlist", "SMT", _gates),
    Check("gates with planted faults", "SMT, must be refuted", _gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
