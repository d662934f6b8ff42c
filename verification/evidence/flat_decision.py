"""Evidence for the flat-row decision at its published size, 8 lanes.

Three proofs cover the netlist: the maximum of the lanes from the inputs to the registers behind them, one step of the
decision from there, from any state of the row so far, to the outputs, and the stalls of both.
"""

from functools import partial, reduce

import numpy as np
import pyrtl

from hls.datapaths.flat_decision import FlatDecisionPlan, build, plan
from hls.lower import Netlist
from hls.simulate import SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate
from verification.equivalence.function import prove
from verification.equivalence.netlist import NetlistError
from verification.equivalence.pipeline import prove_stalls
from verification.equivalence.problem import Operands, Problem
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, unknown, weakest
from verification.evidence.flat_decision_model import (
    DecisionBeats,
    expected,
    extreme_beats,
    observed,
    random_beats,
)
from verification.evidence.named_faults import named_faults
from verification.evidence.planted import all_refuted, gate_faults_refuted, sampled_mutants
from verification.evidence.shared import elements
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
Claims = dict[str | tuple[str, int], Bits]


def _registers(made: FlatDecisionPlan, port: str) -> list[str]:
    """The registers behind the maximum of the lanes that give an output of it, element 0 first."""
    part = made.lane_maximum
    nodes = next(p for p in part.graph.outputs if p.name == port).nodes
    return [f"lane_maximum_{part.graph.label(node)}_s{part.latency_cycles}" for node in nodes]


def lane_maximum(made: FlatDecisionPlan, operands: Operands) -> Claims:
    """The largest valid probability as a fold over the lanes; all else is passed."""
    cycle, valid = made.lane_maximum.latency_cycles, operands["lane_valid"]
    prob = elements(operands, "prob", operands["prob"].width // valid.width)

    def larger(held: Bits, i: int) -> Bits:
        return choose(valid[i] & (held < prob[i]), prob[i], held)

    values = {
        "beat_maximum": [reduce(larger, range(valid.width), prob[0].constant(0))],
        "beat_any": [valid.any()],
        "beat_prob": prob,
        "beat_valid": [valid[i] for i in range(valid.width)],
        "beat_last": [operands["last"]],
        "row_threshold": [operands["threshold"]],
    }
    claims: Claims = {(f"lane_maximum_valid_s{cycle}", cycle): operands["in_valid"]}
    for port, given in values.items():
        claims |= {(name, cycle): value for name, value in zip(_registers(made, port), given, strict=True)}
    return claims


def decision(made: FlatDecisionPlan, operands: Operands) -> Claims:
    """The row so far with one more cycle, and what then stands at the outputs."""

    def given(port: str) -> Bits:
        return concatenate(*(operands[name] for name in reversed(_registers(made, port))))

    valid = operands[f"lane_maximum_valid_s{made.lane_maximum.latency_cycles}"]
    first, held, seen = operands["first"], operands["row_maximum"], operands["row_any"]
    beat, last = given("beat_maximum"), given("beat_last")
    largest = choose(first | (held < beat), beat, held)
    some = given("beat_any") | (seen & ~first)
    return {
        ("row_maximum", 1): choose(valid, largest, held),
        ("row_any", 1): choose(valid, some, seen),
        ("first", 1): choose(valid, last, first),
        ("passed_prob", 1): given("beat_prob"),
        ("passed_valid", 1): given("beat_valid"),
        ("passed_last", 1): last,
        ("flat", 1): last & some & (largest.zext(13) < given("row_threshold")),
        ("out_valid", 1): valid,
    }


def proof(config: AcceleratorConfig, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The whole netlist, from any state, for every stall pattern."""
    made, limits, folder = plan(config), settings.limits, settings.folder
    problems = [
        Problem("flat decision, lanes", block, partial(lane_maximum, made), fixed={"out_ready": 1}),
        Problem("flat decision", block, partial(decision, made), fixed={"out_ready": 1}),
    ]
    stalls = prove_stalls(block, made.latency_cycles, limits=limits, folder=folder)
    return weakest([*(prove(problem, limits=limits, folder=folder) for problem in problems), stalls])


def differs(config: AcceleratorConfig, block: pyrtl.Block, beats: DecisionBeats, seed: int | None) -> bool:
    """Whether a stream differs from the reference; without a seed of stalls, also from its schedule."""
    latency, rng, cycles = plan(config).latency_cycles, np.random.default_rng(seed), len(beats.last)
    offer, accept = (rng.random(cycles) < 0.7, rng.random(2 * cycles) < 0.6) if seed is not None else (None, None)
    with open_simulator(Netlist("flat_decision", block, latency), "fast") as simulator:
        try:
            result = simulator.stream(beats.ports(), offer, accept)
        except SimulatorError:
            return True
    wanted, seen = expected(beats), observed(config.softmax_lanes, result.outputs)
    if any(not np.array_equal(seen[port], wanted[port]) for port in wanted):
        return True
    return seed is None and not np.array_equal(result.received_at, np.arange(cycles) + latency)


def _function(settings: Settings) -> Verdict:
    return proof(FULL, build(FULL).block, settings)


def _function_with_faults(settings: Settings) -> Verdict:
    block = build(FULL).block
    planted = named_faults(
        block,
        ("comparison", "decide_below", "< becomes <="),
        ("mux arms", "lane_maximum_largest_1_0", "swapped"),
        ("enable", "row_any", "always loads"),
        ("enable", "passed_last_held", "always loads"),
    )
    return all_refuted(planted, lambda faulty: proof(FULL, faulty, settings))


def _gates(settings: Settings) -> Verdict:
    return prove_synthesized(build(FULL).block, limits=settings.limits, folder=settings.folder)


def _gates_with_faults(settings: Settings) -> Verdict:
    return gate_faults_refuted(build(TINY).block, settings, ("operator", "", "& becomes |"))


def _against_the_reference(settings: Settings) -> Verdict:
    block, lanes, tried = build(FULL).block, FULL.softmax_lanes, 0
    for beats in (extreme_beats(lanes), random_beats(lanes, 2 * settings.samples, settings.seed)):
        for seed in (None, settings.seed):
            if differs(FULL, block, beats, seed):
                return refuted(f"a stream of {len(beats.last)} cycles, seed {seed}, differs from the reference")
        tried += len(beats.last)
    return sampled(tried, f"cycles, at the rate of the schedule and with stalls, seed {settings.seed}")


def _mutants(settings: Settings) -> Verdict:
    block, lanes = build(TINY).block, TINY.softmax_lanes
    streams = [random_beats(lanes, 60, settings.seed), extreme_beats(lanes)]

    def streamed(faulty: pyrtl.Block) -> bool:
        return any(differs(TINY, faulty, beats, seed) for beats in streams for seed in (None, settings.seed))

    def proved(faulty: pyrtl.Block) -> Verdict:
        try:
            return proof(TINY, faulty, settings)
        except NetlistError as error:
            return unknown(f"the mutant lacks a register of the specification: {error}")

    return sampled_mutants(block, [Detector("stream", streamed)], proved, settings)


CHECKS = (
    Check("function, handshake and stalls", "SMT, any state", _function),
    Check("function with planted faults", "SMT, must be refuted", _function_with_faults, least=Kind.TESTED),
    Check("gates equal the netlist", "SMT", _gates),
    Check("gates with planted faults", "SMT, must be refuted", _gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
