"""Evidence for the softmax at its published size: 8 lanes, rows of up to 1024 keys.

The proofs follow the data through the whole netlist, part by part (`softmax_specification`): every part from the
registers in front of it, whatever they hold. Lanes are all one lane; that one is proved against section 7 of the
algorithm page, its exponential by every argument, its reciprocal step by step. Between the parts stand the two
buffers: their control is proved step by step at full size, and that they give back what they took in, with the result
of its row, is shown on a small one for every input of some cycles (`row_buffer_harness`).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pyrtl

from hls.datapaths.softmax import build, plan
from hls.datapaths.softmax_arithmetic import (
    SoftmaxTypes,
    exponential_graph,
    normalize_graph,
    scale_graph,
)
from hls.graph import Graph
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.exhaustive import exhaust, sample
from verification.equivalence.function import prove
from verification.equivalence.pipeline import prove_stalls
from verification.equivalence.problem import Operands, Problem
from verification.equivalence.sequential import check_bounded
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, weakest
from verification.evidence import softmax_gates, softmax_lane, softmax_mutants
from verification.evidence import softmax_specification as specification
from verification.evidence.named_faults import Fault, named_faults
from verification.evidence.planted import all_refuted, faults
from verification.evidence.row_buffer_harness import INVARIANTS, ROWS, harness, slack_cycles
from verification.evidence.softmax_model import (
    beats_of,
    extreme_rows,
    random_rows,
)
from verification.evidence.softmax_mutants import differs
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
FREE = {"out_ready": 1}
_SAMPLES = 1 << 18
_LONGEST, _RESULT_CYCLES = 3, 1


def _proof(name: str, block: pyrtl.Block, settings: Settings) -> Verdict:
    claims = specification.parts(FULL, plan(FULL))[name]
    problem = specification.part_problem(name, block, claims)
    return prove(problem, limits=settings.limits, seed=settings.seed, folder=settings.folder)


def _stalled(block: pyrtl.Block, settings: Settings, config: AcceleratorConfig = FULL) -> Verdict:
    """Nothing moves or is written where the output waits; the rest of the claims as of any pipeline."""

    def nothing_written(operands: Operands) -> softmax_lane.Claims:
        names = [f"{buffer}_{ring}" for buffer in ("score_buffer", "exponential_buffer") for ring in ("beat", "row")]
        return {f"{name}_writing": operands.constant(0, 1) for name in names}

    waiting = specification.valid_register(plan(config), "normalize")
    held = Problem(
        "softmax writes", block, nothing_written, fixed={"out_ready": 0}, assume=lambda operands: operands[waiting]
    )
    return weakest(
        [
            prove_stalls(block, plan(config).latency_cycles, limits=settings.limits, folder=settings.folder),
            prove(held, limits=settings.limits, folder=settings.folder),
        ]
    )


def _lane(name: str, block: pyrtl.Block, settings: Settings) -> Verdict:
    """One lane's scale or normalize against the definition."""
    if name == "scale":
        claims = softmax_lane.argument_of_a_lane()
        problem = Problem("argument", block, claims, assume=lambda operands: operands["mantissa"][15])
    else:
        problem = Problem("probability", block, softmax_lane.probability_of_a_lane())
    return prove(problem, limits=settings.limits, folder=settings.folder)


def _exponential(block: pyrtl.Block, settings: Settings) -> Verdict:
    """Every argument in the full run, else a share."""
    problem = Problem("exponential", block, softmax_lane.exponential_of_a_lane())
    if settings.full:
        return exhaust(problem, folder=settings.folder)
    return sample(problem, _SAMPLES, settings.seed, folder=settings.folder)


def _division(block: pyrtl.Block, settings: Settings) -> Verdict:
    """The divider against integer division, by every divisor."""
    problem = Problem(
        "floor(2^49 / divisor)",
        block,
        specification.reciprocal_of_a_divisor(plan(FULL)),
        fixed=FREE,
        assume=lambda operands: operands["reciprocal_divisor_s1"][24],
    )
    return exhaust(problem, folder=settings.folder)


def _buffer(block: pyrtl.Block, settings: Settings) -> Verdict:
    cycles = 16 if settings.full else 11
    limits = replace(settings.limits, time_s=max(settings.limits.time_s, 300))
    return check_bounded(block, INVARIANTS, cycles, environment=ROWS, limits=limits, folder=settings.folder)


def _small_buffer(depth: int) -> pyrtl.Block:
    return harness(_LONGEST, _RESULT_CYCLES, depth)


def buffers(settings: Settings) -> Verdict:
    """A buffer exactly as deep as the longest row and the turn-around."""
    return _buffer(_small_buffer(_LONGEST + slack_cycles(_RESULT_CYCLES)), settings)


def buffers_with_faults(settings: Settings) -> Verdict:
    """A buffer a beat too short, and faults in one that is not."""
    short = _buffer(_small_buffer(_LONGEST + slack_cycles(_RESULT_CYCLES) - 1), settings)
    if short.kind is not Kind.REFUTED:
        return refuted(f"a buffer that is a beat too short is not refuted: {short}")
    block = _small_buffer(_LONGEST + slack_cycles(_RESULT_CYCLES))
    planted = faults(block, ("reset value", "buffer_row_written", ""), ("enable", "^buffer_beat$", "always loads"))
    return all_refuted(planted, lambda faulty: _buffer(faulty, settings))


def against_the_reference(settings: Settings) -> Verdict:
    """Random rows at full size, under stalls."""
    rows = settings.samples
    beats = beats_of(FULL, random_rows(FULL, rows, settings.seed, longest_cycles=24), settings.seed)
    with open_simulator(build(FULL), "fast") as simulator:
        wrong = differs(FULL, simulator, beats, settings.seed, plan(FULL))
    if wrong:
        return refuted(f"{rows} random rows, seed {settings.seed}, differ from the reference")
    return sampled(rows, f"rows with stalls, seed {settings.seed}")


def at_the_rate_of_the_schedule(settings: Settings) -> Verdict:
    """Extreme rows at full size: values, and the cycle in which every beat comes out."""
    beats = beats_of(FULL, extreme_rows(FULL), settings.seed)
    with open_simulator(build(FULL), "fast") as simulator:
        wrong = differs(FULL, simulator, beats, None, plan(FULL))
    if wrong:
        return refuted("extreme rows differ from the reference or from the schedule")
    return sampled(len(beats.last), "beats taken every cycle, each out in the cycle of the schedule")


def _checked(name: str, *wanted: Fault) -> tuple[Check, Check]:
    """A part of the whole netlist at full size, and the same with planted faults."""

    def proof(settings: Settings) -> Verdict:
        return _proof(name, build(FULL).block, settings)

    def with_faults(settings: Settings) -> Verdict:
        planted = named_faults(build(FULL).block, *wanted)
        return all_refuted(planted, lambda faulty: _proof(name, faulty, settings))

    return (
        Check(name, "SMT, any state", proof),
        Check(f"{name} with planted faults", "SMT, must be refuted", with_faults, least=Kind.TESTED),
    )


def _on(
    block: Callable[[], pyrtl.Block],
    check: Callable[[pyrtl.Block, Settings], Verdict],
    *wanted: Fault,
) -> tuple[Callable[[Settings], Verdict], Callable[[Settings], Verdict]]:
    """The check on a block, and on the block with planted faults."""

    def plain(settings: Settings) -> Verdict:
        return check(block(), settings)

    def with_faults(settings: Settings) -> Verdict:
        return all_refuted(named_faults(block(), *wanted), lambda faulty: check(faulty, settings))

    return plain, with_faults


def _one_lane(graph: Callable[[SoftmaxTypes], Graph]) -> Callable[[], pyrtl.Block]:
    return lambda: softmax_lane.single_lane(FULL, graph)


_STALLS = _on(
    lambda: build(FULL).block,
    _stalled,
    ("enable", "exponential_u_flags_s3", "always loads"),
    ("enable", "running_sum_held", "always loads"),
    ("operator", "score_buffer_beat_writing", "& becomes |"),
)
_SCALE = _on(
    _one_lane(scale_graph),
    partial(_lane, "scale"),
    ("mux arms", "argument_0", "swapped"),
    ("operator", "distance_0", "- becomes +"),
)
_NORMALIZE = _on(_one_lane(normalize_graph), partial(_lane, "normalize"), ("mux arms", "prob_0", "swapped"))
_EXPONENTIAL = _on(
    _one_lane(exponential_graph),
    _exponential,
    ("operator", "taylor_4_0", "+ becomes -"),
    ("width", "taylor_0_0", "top bit"),
)
_DIVISION = _on(
    lambda: build(FULL).block,
    _division,
    ("operator", "reciprocal_trial_0", "- becomes +"),
    ("mux arms", "reciprocal_remainder_9", "swapped"),
)

CHECKS = (
    *_checked(
        "wiring", ("concatenation", "score_buffer_beat_in", ""), ("concatenation", "exponential_buffer_row_in", "")
    ),
    *_checked(
        "buffer control",
        ("operator", "score_buffer_leaving", "| becomes &"),
        ("operator", "exponential_buffer_starting", "& becomes |"),
        ("enable", "exponential_buffer_row_read", "never loads"),
    ),
    *_checked("maximum of the lanes", ("mux arms", "lane_maximum_largest_1_0", "swapped")),
    *_checked(
        "running maximum and sum",
        ("mux select", "running_maximum_so_far", "stuck at arm 0"),
        ("enable", "running_sum_first", "always loads"),
    ),
    *_checked("sum of the lanes", ("operator", "lane_sum_sum_4_2", "+ becomes -"), ("width", "lane_sum_sum_2_0", "")),
    *_checked(
        "reciprocal",
        ("operator", "reciprocal_trial_3", "- becomes +"),
        ("mux arms", "reciprocal_remainder_20", "swapped"),
    ),
    *_checked("valid bits", ("stage removed", "exponential_valid_s5", "")),
    *_checked("lanes of scale", ("mux select", "scale_argument_7", "stuck")),
    *_checked("lanes of exponential", ("stage removed", "exponential_u_flags_s5", "")),
    *_checked("lanes of normalize", ("mux arms", "normalize_prob_5", "swapped")),
    Check("stalls", "SMT, any state", _STALLS[0]),
    Check("stalls with planted faults", "SMT, must be refuted", _STALLS[1], least=Kind.TESTED),
    Check("a lane's argument", "SMT, node by node", _SCALE[0]),
    Check("a lane's argument with planted faults", "SMT, must be refuted", _SCALE[1], least=Kind.TESTED),
    Check("a lane's probability", "SMT, node by node", _NORMALIZE[0]),
    Check("a lane's probability with planted faults", "SMT, must be refuted", _NORMALIZE[1], least=Kind.TESTED),
    Check("a lane's exponential", "every argument (full), a share", _EXPONENTIAL[0], least=Kind.TESTED),
    Check("a lane's exponential with planted faults", "must be refuted", _EXPONENTIAL[1], least=Kind.TESTED),
    Check("division by every divisor", "simulation of all", _DIVISION[0]),
    Check("division with planted faults", "must be refuted", _DIVISION[1], least=Kind.TESTED),
    Check("a small buffer", "bounded model checking", buffers, least=Kind.BOUNDED),
    Check("a small buffer with planted faults", "must be refuted", buffers_with_faults, least=Kind.TESTED),
    Check("gates equal the netlist", "SMT", softmax_gates.parts),
    Check("gates with planted faults", "SMT, must be refuted", softmax_gates.parts_with_faults, least=Kind.TESTED),
    Check("gates of products", "random arguments", softmax_gates.products, least=Kind.TESTED),
    Check("gates of a product with planted faults", "must be refuted", softmax_gates.product_with_faults, Kind.TESTED),
    Check("against the reference", "simulation", against_the_reference, least=Kind.TESTED),
    Check("at the rate of the schedule", "simulation", at_the_rate_of_the_schedule, least=Kind.TESTED),
    Check("mutants", "mutation", softmax_mutants.mutants, least=Kind.TESTED),
)
