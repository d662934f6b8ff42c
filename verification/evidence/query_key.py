"""Evidence for Q x K at its published size, 512 multipliers.

The specification is the definition: lane j is the sum over d < D of query[d] * key[j D + d], written node by node (each
operand, product and partial sum is a cut point with a proof of its own), for every D and stall pattern. All products
are one multiplier, proved by all 2^24 inputs against integers; the solver sees it as the same function on both sides.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pyrtl

from hls import technology
from hls.datapaths.query_key import QueryKeyTypes, build, multiplier_graph, plan, reduction_graph
from hls.lower import Netlist, lower
from hls.schedule import Schedule, schedule
from hls.simulate import Simulator, SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, concatenate
from verification.equivalence.netlist import read_block
from verification.equivalence.pipeline import prove_pipeline, prove_reset
from verification.equivalence.problem import Assumption, IntegerSpecification, Operands, Problem, Specification
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.planted import (
    MUTANT_LIMITS,
    ProductCase,
    all_refuted,
    faults,
    gate_faults_refuted,
    product_checks,
    sampled_mutants,
)
from verification.evidence.query_key_model import QueryKeyRows, expected, extreme_rows, observed, random_rows
from verification.evidence.shared import SMALLEST, applied, by_dimension, combinational, elements, named_stages
from verification.mutation import Detector
from verification.ports import Integers
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")


def node_by_node(config: AcceleratorConfig, schedules: Schedule, *, products_given: bool = False) -> Specification:
    """The specification of the module; `products_given`: of the adder tree alone."""
    types, stage = QueryKeyTypes.of(config), named_stages(schedules)
    width, dims = config.datapath_bits, types.head_dims
    multiplier = read_block(combinational(multiplier_graph(config)))

    def specification(operands: Operands) -> dict[str | tuple[str, int], Bits]:
        dimension = operands["dimension"]

        def cut(name: str, value: Bits) -> Bits:
            return operands.cut(name, value, cycle=stage[name]) if name in stage else value  # a plain input has no node

        if products_given:
            level = elements(operands, "product", 2 * width)
        else:
            query, key = elements(operands, "query", width), elements(operands, "key", width)
            choices = [[query[i % d] for d in dims] for i in range(len(key))]
            operand = [cut(f"operand_{i}", by_dimension(dimension, choice)) for i, choice in enumerate(choices)]
            level = [
                cut(f"product_{i}", applied(multiplier, {"a": key[i], "b": operand[i]}, "product"))
                for i in range(len(key))
            ]
        taps, size = {1: level}, 1
        while size < dims[-1]:
            size *= 2
            pairs = [(a.sext(a.width + 1), b.sext(b.width + 1)) for a, b in zip(level[::2], level[1::2], strict=True)]
            level = [cut(f"sum_{len(pairs)}_{j}", a + b) for j, (a, b) in enumerate(pairs)]
            taps[size] = level
        nothing = operands.constant(0, types.score.width)

        def lane(j: int) -> tuple[Bits, Bits]:
            found = [taps[d][j].sext(types.score.width) if j < len(taps[d]) else nothing for d in dims]
            exists = [operands.constant(int(j < len(taps[d])), 1) for d in dims]
            return by_dimension(dimension, found), operands["lane_valid"][j] & by_dimension(dimension, exists)

        lanes = [lane(j) for j in range(types.lanes - 1, -1, -1)]
        values: dict[str | tuple[str, int], Bits] = {
            "score": concatenate(*[score for score, _ in lanes]),
            "score_valid": concatenate(*[valid for _, valid in lanes]),
        }
        return values if products_given else {**values, "score_last": operands["last"]}

    return specification


def proof(config: AcceleratorConfig, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The whole pipeline against the specification, for every stall pattern."""
    schedules = plan(config)
    return prove_pipeline(
        block,
        node_by_node(config, schedules),
        schedules.latency_cycles,
        claim="query key",
        assume=dimension_exists(config),
        limits=settings.limits,
        folder=settings.folder,
    )


def dimension_exists(config: AcceleratorConfig) -> Assumption:
    """What the sender promises: `dimension` is an index of `head_dims`."""
    count = len(QueryKeyTypes.of(config).head_dims)
    return lambda operands: operands["dimension"] <= count - 1


def differs(config: AcceleratorConfig, simulator: Simulator, rows: QueryKeyRows, seed: int) -> bool:
    """Whether a stream of rows after reset, free at first and then under stalls, is not the reference's, or late."""
    count, rng = len(rows.last), np.random.default_rng(seed)
    free = np.ones(count // 4, dtype=np.bool_)
    stalls = np.concatenate([free, rng.random(count) < 0.7]), np.concatenate([free, rng.random(2 * count) < 0.6])
    simulator.reset()
    try:
        result = simulator.stream(rows.ports(config), *stalls)
    except SimulatorError:
        return True
    if len(result.sent_at) < count:  # results of nothing
        return True
    latency = simulator.netlist.latency_cycles
    early = max(0, count // 4 - latency)
    if not (result.received_at - result.sent_at == latency)[:early].all():
        return True
    wanted, seen = expected(config, rows), observed(config, result.outputs)
    return any(not np.array_equal(seen[port], wanted[port]) for port in wanted)


def _product(config: AcceleratorConfig, block: pyrtl.Block) -> Problem:
    """The multiplier against NumPy's product of the signed operands."""
    width = config.datapath_bits

    def signed(x: Integers) -> Integers:
        return x - ((x >> (width - 1)) << width)

    specification = IntegerSpecification(
        lambda v: {"product": (signed(v["a"]) * signed(v["b"])) & ((1 << 2 * width) - 1)}, ("a", "b"), ("product",)
    )
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
        ("mux arms", "", "swapped"),
        ("stage removed", "sum_", "becomes a wire"),
    )
    return all_refuted(planted, lambda faulty: proof(config, faulty, settings))


def _reduction(config: AcceleratorConfig) -> Schedule:
    return schedule(reduction_graph(config), technology.load(), config.clock_period_ps)


def _tree_gates(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    return prove_synthesized(lower(_reduction(config)).block, limits=settings.limits, folder=settings.folder)


def _tree_gates_with_faults(settings: Settings) -> Verdict:
    block = lower(_reduction(SMALLEST)).block
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("inversion", "", "dropped"))


def _against_the_reference(settings: Settings) -> Verdict:
    netlist, tried = build(FULL), 0
    with open_simulator(netlist, "fast") as simulator:
        for rows in (extreme_rows(FULL), random_rows(FULL, 2 * settings.samples, settings.seed)):
            if differs(FULL, simulator, rows, settings.seed):
                return refuted(f"a stream of {len(rows.last)} rows, seed {settings.seed}, differs from the reference")
            tried += len(rows.last)
    return sampled(tried, f"extremes and random rows, seed {settings.seed}, with stalls")


def _mutants(settings: Settings) -> Verdict:
    netlist = build(TINY)
    streams = random_rows(TINY, 60, settings.seed), extreme_rows(TINY)

    def streamed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("mutant", block, netlist.latency_cycles), "fast") as simulator:
            return any(differs(TINY, simulator, rows, settings.seed) for rows in streams)

    quiet = replace(settings, folder=None, limits=MUTANT_LIMITS)
    return sampled_mutants(
        netlist.block,
        [Detector("stream", streamed)],
        lambda block: proof(TINY, block, quiet),
        settings,
        prove_reset=lambda block: prove_reset(block, netlist.latency_cycles, limits=MUTANT_LIMITS),
    )


CHECKS = (
    *product_checks(
        _multiplier,
        in_netlist=(("operator", "", "* becomes +"), ("operator", "", "- becomes +"), ("width", "", "top bit")),
        in_gates=(("operator", "", "& becomes |"), ("inversion", "", "dropped")),
    ),
    Check("function, handshake and stalls", "SMT, node by node, all states", _function),
    Check("function with planted faults", "SMT, must be refuted", _function_with_faults, least=Kind.TESTED),
    Check("gates of the adder tree equal the netlist", "SMT", _tree_gates),
    Check("gates with planted faults", "SMT, must be refuted", _tree_gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
