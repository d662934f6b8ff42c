"""Mutants of the softmax at tiny size, and what notices them, cheapest first.

1. Streams: a short one, then random and extreme rows, with and without stalls, each against reference and schedule.
2. Parts on random operands: the specification of the part that the fault is in (`softmax_specification`), thousands of
   cases at once from the registers in front of it. This reaches what streams of rows seldom or never bring there.
3. Proofs: stalls, then every part whose nets are not those of the original; the others' verdicts stand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyrtl

from hls.datapaths.softmax import SoftmaxPlan, build, plan
from hls.lower import Netlist
from hls.simulate import Simulator, SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.exhaustive import sample
from verification.equivalence.formula import Formula
from verification.equivalence.function import prove
from verification.equivalence.netlist import Net, NetlistError, read_block, write_block
from verification.equivalence.netlist import Netlist as ReadNetlist
from verification.equivalence.pipeline import prove_reset, prove_stalls
from verification.equivalence.problem import Operands, Specification, at_cycle
from verification.equivalence.solver import Limits
from verification.equivalence.symbolic import SymbolicRun
from verification.equivalence.verdict import Kind, Verdict, unknown, weakest
from verification.evidence.planted import sampled_mutants
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
from verification.evidence.softmax_specification import part_problem, parts
from verification.mutants.rewriting import pruned, same_wire
from verification.mutation import Detector
from verification.results import Settings

TINY = replace(SMALLEST, context_keys=32, softmax_fifo_rows=16)
"""Two lanes and short rows, so that a few hundred cycles fill its buffers and go round in them."""
_MUTANT_LIMITS = Limits(time_s=2)
_CASES = 1 << 14
_CONTROL = re.compile(r"_(valid|first|done|written|read|valid_s\d+)$")
_MEMORY_REGISTERS = [f"{part}_buffer_{ring}" for part in ("score", "exponential") for ring in ("beat", "row")]
_FLOWING = {"advance": 1}


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
    if len(result.sent_at) < cycles:  # results of nothing
        return True
    wanted, seen = expected(beats), observed(config, result.outputs)
    if any(not np.array_equal(seen[port], wanted[port]) for port in wanted):
        return True
    if seed is not None:
        return False
    punctual = np.array_equal(result.received_at, scheduled_cycles(made, result.sent_at, beats.last))
    return not (punctual and np.array_equal(result.sent_at, np.arange(cycles)))


def flowing(netlist: ReadNetlist) -> ReadNetlist:
    """The netlist without stalls: `advance` an input, to be fixed at 1, and nothing that holds where it is 0."""
    nets = []
    for net in netlist.nets:
        if net.dest == "advance":
            continue
        loads = net.op == "x" and same_wire(netlist, net.args[0], "advance")
        nets.append(Net("w", (net.args[2],), net.dest) if loads else net)
    inputs = (*(name for name in netlist.inputs if name != "out_ready"), "advance")
    return pruned(replace(netlist, inputs=inputs, nets=tuple(nets)))


@dataclass(frozen=True)
class _Cone:
    """The nets and constants that the targets of a part are computed with, and the widths of their wires."""

    nets: frozenset[Net]
    values: frozenset[tuple[str, int, int | None]]


def _cone(netlist: ReadNetlist, targets: Sequence[tuple[str, int]]) -> _Cone:
    """Of wires at cycles, back to the state at cycle 0."""
    waiting, seen, nets = list(targets), set(targets), set()
    while waiting:
        wire, cycle = waiting.pop()
        net = netlist.drivers.get(wire)
        if net is None or (net.op == "r" and not cycle):
            continue
        nets.add(net)
        before = cycle - 1 if net.op == "r" else cycle
        fresh = {(arg, before) for arg in net.args} - seen
        seen |= fresh
        waiting += fresh
    values = ((wire, netlist.widths[wire], netlist.constants.get(wire)) for wire, _ in seen if wire in netlist.widths)
    return _Cone(frozenset(nets), frozenset(values))


class Parts:
    """The parts of the netlist, each with its specification, and what a mutant makes of them."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.netlist, self.plan = build(config), plan(config)
        self.specifications = parts(config, self.plan)
        self._original = read_block(self.netlist.block)
        self._flowing = flowing(self._original)
        self._advance = _cone(self._original, [("advance", 0)])
        self._targets = {name: self._targets_of(s) for name, s in self.specifications.items()}
        self._cones = {name: _cone(self._flowing, targets) for name, targets in self._targets.items()}
        if any(net.op == "m" for cone in self._cones.values() for net in cone.nets):
            raise NetlistError("softmax: a part reads a memory, so its nets are not all that it depends on")

    def _targets_of(self, specification: Specification) -> list[tuple[str, int]]:
        operands = Operands(SymbolicRun(self._flowing, Formula(), fixed=_FLOWING).unrolling)
        claimed = [at_cycle(target) for target in specification(operands)]
        return [*claimed, *((point.wire, point.cycle) for point in operands.cut_points)]

    def touched(self, block: pyrtl.Block) -> list[str]:
        """The parts that the block does not compute with the same nets as the original."""
        faulty = read_block(block)
        if _cone(faulty, [("advance", 0)]) != self._advance:
            return list(self.specifications)
        running = flowing(faulty)
        return [name for name, targets in self._targets.items() if _cone(running, targets) != self._cones[name]]

    def sampled(self, block: pyrtl.Block, name: str, seed: int) -> Verdict:
        """A part on random operands."""
        running = write_block(flowing(read_block(block)), checked=False)
        problem = part_problem(name, running, self.specifications[name], _FLOWING)
        try:
            return sample(problem, _CASES, seed)
        except NetlistError as error:
            return unknown(f"the mutant lacks a wire of the specification: {error}")

    def proved(self, block: pyrtl.Block, name: str, limits: Limits = _MUTANT_LIMITS) -> Verdict:
        """A part by proof."""
        try:
            return prove(part_problem(name, block, self.specifications[name]), limits=limits)
        except NetlistError as error:
            return unknown(f"the mutant lacks a wire of the specification: {error}")

    def sampled_touched(self, block: pyrtl.Block, seed: int) -> bool:
        """Whether random operands show that a touched part is wrong."""
        return any(self.sampled(block, name, seed).kind is Kind.REFUTED for name in self.touched(block))

    def all_proved(self) -> Verdict:
        """Every part of the original, by proof."""
        return weakest([self.proved(self.netlist.block, name, Limits()) for name in self.specifications])

    def proved_touched(self, block: pyrtl.Block) -> Verdict:
        """All claims, those of untouched parts as of the original (`all_proved`); it stops at what is not PROVED."""
        verdict = prove_stalls(block, self.netlist.latency_cycles, limits=_MUTANT_LIMITS)
        for name in self.touched(block):
            if verdict.kind is not Kind.PROVED:
                return verdict
            verdict = self.proved(block, name)
        if verdict.kind is Kind.PROVED and not self._beyond_the_parts_equal(block):
            return unknown("no part is wrong, but not all of the netlist is in the parts")
        return verdict

    def reset_proved(self, block: pyrtl.Block) -> Verdict:
        """What depends on reset values."""
        if not self._beyond_the_parts_equal(block):
            return unknown("the reset of control differs")
        return prove_reset(block, self.netlist.latency_cycles, limits=_MUTANT_LIMITS)

    def _beyond_the_parts_equal(self, block: pyrtl.Block) -> bool:
        """Whether what no part proves is the same in both: the reading of the memories, and the reset of control.

        The reset of data is not read: what the parts do with data, they do where a valid bit, reset to 0, is 1.
        """
        ours, theirs = read_block(block), self._original
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
    """At least 99 % of the sampled mutants killed or proved equivalent."""
    whole = Parts(TINY)
    if (original := whole.all_proved()).kind is not Kind.PROVED:
        return unknown(f"without a mutant, the parts are {original}: {original.detail}")
    short = beats_of(TINY, random_rows(TINY, 12, settings.seed, 4), settings.seed)
    # the first row is of negative scores, so that it notices what the running maximum holds after reset
    rows = extreme_rows(TINY)[:1] + random_rows(TINY, 40, settings.seed, 16) + extreme_rows(TINY)[:16]
    streams = [(short, None), *((beats_of(TINY, rows, settings.seed), stalls) for stalls in (None, settings.seed))]

    def streamed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("softmax", block, whole.netlist.latency_cycles), "fast") as simulator:
            return any(differs(TINY, simulator, beats, seed, whole.plan) for beats, seed in streams)

    detectors = [
        Detector("stream", streamed),
        Detector("random operands", lambda block: whole.sampled_touched(block, settings.seed)),
    ]
    return sampled_mutants(whole.netlist.block, detectors, whole.proved_touched, settings, whole.reset_proved)
