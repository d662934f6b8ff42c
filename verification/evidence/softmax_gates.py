"""The softmax after synthesis to gates, at full size.

Parts without products equal the netlist from every state. No solver compares gates of a multiplier with a product: one
lane of the parts with products is held to the definition on random arguments.
"""

from dataclasses import replace

from hls.datapaths.softmax import plan
from hls.datapaths.softmax_arithmetic import exponential_graph, normalize_graph, scale_graph
from hls.lower import lower
from models.config import AcceleratorConfig
from verification.equivalence.exhaustive import sample
from verification.equivalence.problem import Problem
from verification.equivalence.synthesis import prove_synthesized, synthesized
from verification.equivalence.verdict import Verdict, weakest
from verification.evidence import softmax_lane
from verification.evidence.planted import all_refuted, gate_faults, gate_faults_refuted
from verification.results import Settings

FULL = AcceleratorConfig.preset("spatten")
_CASES = 1 << 14


def parts(settings: Settings) -> Verdict:
    """The parts without products."""
    made = plan(FULL)
    schedules = (made.lane_maximum, made.running_maximum, made.lane_sum, made.running_sum, made.reciprocal)
    blocks = [lower(part).block for part in schedules]
    return weakest([prove_synthesized(b, limits=settings.limits, folder=settings.folder) for b in blocks])


def parts_with_faults(settings: Settings) -> Verdict:
    """Faulty gates of the running sum."""
    block = lower(plan(FULL).running_sum).block
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("operator", "", "^ becomes |"))


def _product(name: str) -> Problem:
    """One lane of a part with products, synthesized, against the definition."""
    graphs = {"argument": scale_graph, "probability": normalize_graph, "exponential": exponential_graph}
    block = synthesized(softmax_lane.single_lane(FULL, graphs[name]))[0]
    if name == "exponential":
        return Problem(name, block, softmax_lane.exponential_of_a_lane())
    if name == "probability":
        return Problem(name, block, softmax_lane.probability_of_a_lane(nodes=False))
    claims = softmax_lane.argument_of_a_lane(nodes=False)
    return Problem(name, block, claims, assume=lambda operands: operands["mantissa"][15])


def _sampled(problem: Problem, settings: Settings) -> Verdict:
    return sample(problem, _CASES, settings.seed, folder=settings.folder)


def products(settings: Settings) -> Verdict:
    """The parts with products."""
    return weakest([_sampled(_product(name), settings) for name in ("argument", "exponential", "probability")])


def product_with_faults(settings: Settings) -> Verdict:
    """Faulty gates of the normalization."""
    problem = _product("probability")
    planted = gate_faults(problem.block, ("operator", "", "& becomes |"), ("operator", "", "^ becomes &"))
    return all_refuted(planted, lambda faulty: _sampled(replace(problem, block=faulty), settings))
