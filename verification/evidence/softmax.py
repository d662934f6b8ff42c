"""Evidence for the softmax at its published size: 8 lanes, rows of up to 1024 keys.

The proofs follow the data through the whole netlist, part by part (`softmax_specification`): every part from the
registers in front of it, whatever they hold. Lanes are all one lane; that one is proved against section 7 of the
algorithm page, its exponential by every argument, its reciprocal step by step. Between the parts stand the two
buffers: their control is proved step by step at full size, and that they give back what they took in, with the result
of its row, is shown on a small one for every input of some cycles (`row_buffer_harness`).
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pyrtl

from hls.datapaths.softmax import SoftmaxPlan, build, plan
from hls.datapaths.softmax_arithmetic import (
    SoftmaxTypes,
    exponential_graph,
    normalize_graph,
    scale_graph,
)
from hls.graph import Graph
from hls.lower import Netlist
from hls.simulate import Simulator, SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.exhaustive import exhaust, sample
from verification.equivalence.function import prove
from verification.equivalence.netlist import Net, NetlistError, read_block
from verification.equivalence.netlist import Netlist as ReadNetlist
from verification.equivalence.pipeline import prove_reset, prove_stalls
from verification.equivalence.problem import Operands, Problem, Specification
from verification.equivalence.sequential import check_bounded
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, unknown, weakest
from verification.evidence import softmax_gates, softmax_lane
from verification.evidence import softmax_specification as specification
from verification.evidence.fault_places import next_state
from verification.evidence.named_faults import Fault, named_faults
from verification.evidence.planted import FULL_SAMPLES, all_refuted, faults, sampled_mutants
from verification.evidence.row_buffer_harness import INVARIANTS, ROWS, harness, slack_cycles
from verification.evidence.shared import SMALLEST
from verification.evidence.softmax_model import (
    SoftmaxBeats,
    beats_of,
    expected,
    extreme_rows,
    observed,
    random_rows,
    scheduled_cycles,
)
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
TINY = replace(SMALLEST, context_keys=32, softmax_fifo_rows=16)
"""Two lanes and short rows, so that a few hundred cycles fill its buffers and go round in them."""
FREE = {"out_ready": 1}
_CONTROL = re.compile(r"_(valid|first|done|written|read|valid_s\d+)$")
_MEMORY_REGISTERS = [f"{part}_buffer_{ring}" for part in ("score", "exponential") for ring in ("beat", "row")]
_SAMPLES = 1 << 18
_MUTANT_SECONDS = 10
_LONGEST, _RESULT_CYCLES = 3, 1
_PART_OF = {
    "lane_maximum": "maximum of the lanes",
    "running": "running maximum and sum",
    "lane_sum": "sum of the lanes",
    "reciprocal": "reciprocal",
    "scale": "lanes",
    "exponential_buffer": "buffer control",
    "exponential": "lanes",
    "normalize": "lanes",
    "score_buffer": "buffer control",
}


def _flow(config: AcceleratorConfig, made: SoftmaxPlan) -> dict[str, tuple[Specification, bool]]:
    """The specifications of the whole netlist by name, and whether they are about sums that can occur."""
    return {
        "wiring": (specification.wiring(config, made), False),
        "buffer control": (specification.buffer_control(config, made), False),
        "maximum of the lanes": (specification.lane_maximum(made), False),
        "running maximum and sum": (specification.running(made), False),
        "sum of the lanes": (specification.lane_sum(made, config.softmax_lanes), False),
        "reciprocal": (specification.reciprocal(made), True),
        "lanes": (specification.pipelines(config, made), False),
    }


def _problem(name: str, block: pyrtl.Block, flow: dict[str, tuple[Specification, bool]]) -> Problem:
    claims, occurring = flow[name]
    return Problem(f"softmax {name}", block, claims, fixed=FREE, assume=specification.sums if occurring else None)


def _proof(name: str, block: pyrtl.Block, settings: Settings) -> Verdict:
    problem = _problem(name, block, _flow(FULL, plan(FULL)))
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
    if settings.samples >= FULL_SAMPLES:
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
    cycles = 16 if settings.samples >= FULL_SAMPLES else 11
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


def differs(
    config: AcceleratorConfig, simulator: Simulator, beats: SoftmaxBeats, seed: int | None, made: SoftmaxPlan
) -> bool:
    """Whether a stream after reset differs from the reference; without a seed of stalls, also from its schedule."""
    rng, cycles = np.random.default_rng(seed), len(beats.last)
    offer, accept = (rng.random(cycles) < 0.7, rng.random(2 * cycles) < 0.6) if seed is not None else (None, None)
    simulator.reset()
    try:
        result = simulator.stream(beats.ports(config), offer, accept, limit_cycles=4 * cycles + 400)
    except SimulatorError:
        return True
    wanted, seen = expected(beats), observed(config, result.outputs)
    if any(not np.array_equal(seen[port], wanted[port]) for port in wanted):
        return True
    if seed is not None:
        return False
    punctual = np.array_equal(result.received_at, scheduled_cycles(made, result.sent_at, beats.last))
    return not (punctual and np.array_equal(result.sent_at, np.arange(cycles)))


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


def _beyond_the_parts_equal(faulty: pyrtl.Block, original: pyrtl.Block) -> bool:
    """Whether what no part proves is the same in both: the reading of the memories, and the reset of control.

    The reset of data is not read: what the parts do with data, they do where a valid bit, reset to 0, is 1.
    """
    ours, theirs = read_block(faulty), read_block(original)
    reset = [{n: v for n, v in x.registers.items() if _CONTROL.search(n)} for x in (ours, theirs)]
    return reset[0] == reset[1] and _memory_nets(ours) == _memory_nets(theirs)


def _memory_nets(netlist: ReadNetlist) -> set[Net]:
    """The nets of the memories, and those between them, their enables and the registers that they are read into."""
    found = {net for net in netlist.nets if net.op in "m@"}
    waiting = [*_MEMORY_REGISTERS, *(wire for net in found for wire in net.args)]
    while waiting:
        net = netlist.drivers.get(waiting.pop())
        if net is not None and net not in found:
            found.add(net)
            waiting += [wire for wire in net.args if wire.startswith("tmp") or wire.endswith("_writing")]
    return found


def mutants(settings: Settings) -> Verdict:
    """Mutants at tiny size: streams, then the part of the proofs that the fault is in, then all of them."""
    netlist, made = build(TINY), plan(TINY)
    flow, original = _flow(TINY, made), read_block(netlist.block)
    # the first row is of negative scores, so that it notices what the running maximum holds after reset
    rows = extreme_rows(TINY)[:1] + random_rows(TINY, 40, settings.seed, 16) + extreme_rows(TINY)[:16]
    beats = beats_of(TINY, rows, settings.seed)

    def streamed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("softmax", block, netlist.latency_cycles), "fast") as simulator:
            return any(differs(TINY, simulator, beats, seed, made) for seed in (None, settings.seed))

    limits = replace(settings.limits, time_s=_MUTANT_SECONDS)

    def part(block: pyrtl.Block, name: str) -> Verdict:
        try:
            return prove(_problem(name, block, flow), limits=limits)
        except NetlistError as error:
            return unknown(f"the mutant lacks a register of the specification: {error}")

    def wrong_part(block: pyrtl.Block) -> bool:
        touched = {name for wire in next_state(read_block(block), original) if (name := _part_of(wire))}
        return any(part(block, name).kind is Kind.REFUTED for name in touched)

    def reset_proved(block: pyrtl.Block) -> Verdict:
        if not _beyond_the_parts_equal(block, netlist.block):
            return unknown("the reset of control differs")
        return prove_reset(block, netlist.latency_cycles, limits=limits)

    def proved(block: pyrtl.Block) -> Verdict:
        found = [prove_stalls(block, netlist.latency_cycles, limits=limits)]
        for name in flow:
            if found[-1].kind is Kind.REFUTED:
                return found[-1]
            found.append(part(block, name))
        if found[-1].kind is not Kind.REFUTED and not _beyond_the_parts_equal(block, netlist.block):
            return unknown("no part is wrong, but not all of the netlist is in the parts")
        return weakest(found)

    detectors = [Detector("stream", streamed), Detector("part", wrong_part)]
    return sampled_mutants(netlist.block, detectors, proved, settings, reset_proved)


def _part_of(wire: str) -> str | None:
    """The specification that a register is in, if its name tells."""
    return next((name for prefix, name in _PART_OF.items() if wire.startswith(prefix)), None)


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
    *_checked(
        "lanes",
        ("mux arms", "normalize_prob_5", "swapped"),
        ("mux select", "scale_argument_7", "stuck"),
        ("stage removed", "exponential_u_flags_s5", ""),
    ),
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
    Check("mutants", "mutation", mutants, least=Kind.TESTED),
)
