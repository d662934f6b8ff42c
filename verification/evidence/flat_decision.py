"""Evidence for the flat-row decision at its published size, 8 lanes.

Two proofs cover the netlist: one step of the decision from any state to its outputs, and the stalls. That the peak
which the softmax gives is the largest probability of its row is among the evidence of the softmax.
"""

from functools import partial

import numpy as np
import pyrtl

from hls.datapaths.flat_decision import FlatDecisionPlan, build, plan
from hls.lower import Netlist
from hls.simulate import SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose
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
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
Claims = dict[str | tuple[str, int], Bits]


def decision(made: FlatDecisionPlan, operands: Operands) -> Claims:
    """What stands at the outputs `latency_cycles` later, and whether a row begins after this cycle."""
    valid, last, first = operands["in_valid"], operands["last"], operands["first"]
    cycle = made.latency_cycles
    flat = first & operands["lane_valid"].any() & (operands["peak"].zext(13) < operands["threshold"])
    return {
        ("first", 1): choose(valid, last, first),
        ("passed_prob", cycle): operands["prob"],
        ("passed_valid", cycle): operands["lane_valid"],
        ("passed_last", cycle): last,
        ("flat", cycle): flat,
        ("out_valid", cycle): valid,
    }


def proof(config: AcceleratorConfig, block: pyrtl.Block, settings: Settings) -> Verdict:
    """The whole netlist, from any state, for every stall pattern."""
    made, limits, folder = plan(config), settings.limits, settings.folder
    problem = Problem("flat decision", block, partial(decision, made), fixed={"out_ready": 1})
    stalls = prove_stalls(block, made.latency_cycles, limits=limits, folder=folder)
    return weakest([prove(problem, limits=limits, folder=folder), stalls])


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
        ("enable", "first", "always loads"),
        ("enable", "decide_last_s1", "always loads"),
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
