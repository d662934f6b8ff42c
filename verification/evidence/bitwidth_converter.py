"""Evidence for a lane of the bitwidth converter at its published size: words of 128 bits, rows of 64 elements.

For every format, plane, offset and content, from any state whatever:

    arriving     n words of a row in consecutive cycles, n = 1 to the most: each chunk holds 128 bits of
                     row = (word[n-1], word[n-1], ..., word[1], word[0]) >> offset           word[0] lowest
                 so below bit 128 * n - offset, where the last word is repeated, the bits of the row; and `count`,
                 `format`, `plane`, `held` are those of the last word
    pausing      a cycle without a word changes none of this
    unpacking    operands of a complete row, written as the algorithm page has them
    stalls       `in_ready`, and that a stalled lane is the free one with its clock stopped; nothing out after reset
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyrtl

from hls.datapaths.bitwidth_converter import LSB_BITS, BitwidthConverterTypes, Plane, build, plan
from hls.lower import Netlist, lower
from hls.simulate import Pattern, Simulator, Words, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate, conjunction
from verification.equivalence.function import prove
from verification.equivalence.netlist import NetlistError
from verification.equivalence.pipeline import prove_reset, prove_stalls
from verification.equivalence.problem import Operands, Problem, Target
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled, unknown, weakest
from verification.evidence.bitwidth_converter_model import Row, expected, extreme_rows, observed, ports, random_row
from verification.evidence.planted import all_refuted, faults, gate_faults_refuted, sampled_mutants
from verification.mutation import Detector
from verification.ports import Integers
from verification.results import Check, Settings
from verification.streaming import StreamError, drain

FULL = AcceleratorConfig.preset("spatten")
TINY = AcceleratorConfig.preset("tiny")
_WITH_LAST = ("count", "format", "plane", "held")


def arriving(config: AcceleratorConfig, block: pyrtl.Block, words: int) -> Problem:
    """The claim "arriving" of the module for rows of so many words."""
    types, turning = BitwidthConverterTypes.of(config), plan(config).turn.latency_cycles
    width, done = types.word.width, words + turning

    def specification(operands: Operands) -> dict[Target, Bits]:
        shift, received = operands["offset"], [operands.at("word", cycle) for cycle in range(words)]
        claims: dict[Target, Bits] = {(f"row_{n}", done): operands.at(n, words - 1) for n in _WITH_LAST}
        claims["complete", done] = operands.constant(1, 1)
        for j in range(min(words, types.chunks)):
            pair = concatenate(received[min(j + 1, words - 1)], received[j])
            claims[f"chunk_{j}", done] = pair.shifted_right(shift.zext(2 * width))[:width]
        return claims

    def one_row(operands: Operands) -> Bits:
        marks = [operands.at("first", cycle) == int(cycle == 0) for cycle in range(words)]
        same = [operands.at("offset", cycle) == operands["offset"] for cycle in range(1, words)]
        return conjunction([*marks, *same, operands.at("last", words - 1)])

    fixed = {"out_ready": 1, "in_valid": 1}
    return Problem(f"{words} words", block, specification, fixed, assume=one_row)


def pausing(config: AcceleratorConfig, block: pyrtl.Block) -> Problem:
    """The claim "pausing" of the module."""
    types, turning = BitwidthConverterTypes.of(config), plan(config).turn.latency_cycles

    def specification(operands: Operands) -> dict[Target, Bits]:
        kept = [*(f"chunk_{j}" for j in range(types.chunks)), "next_place", *(f"row_{n}" for n in _WITH_LAST)]
        return {(name, 1): operands[name] for name in kept}

    def nothing(operands: Operands) -> Bits:
        return ~operands[f"turn_valid_s{turning}"]

    return Problem("pausing", block, specification, {"out_ready": 1}, assume=nothing)


def completing(config: AcceleratorConfig, block: pyrtl.Block) -> Problem:
    """A row is complete with its last word, and only then."""
    done = plan(config).turn.latency_cycles + 1

    def specification(operands: Operands) -> dict[Target, Bits]:
        return {("complete", done): operands["in_valid"] & operands["last"]}

    return Problem("completing", block, specification, {"out_ready": 1})


def unpacking(config: AcceleratorConfig, block: pyrtl.Block) -> Problem:
    """The claim "unpacking" of the module."""
    types, latency = BitwidthConverterTypes.of(config), plan(config).unpack.latency_cycles
    width = config.datapath_bits

    def specification(operands: Operands) -> dict[Target, Bits]:
        row = concatenate(*[operands[f"chunk_{j}"] for j in reversed(range(types.chunks))])
        form, plane, count = (operands[f"row_{name}"] for name in ("format", "plane", "count"))

        def operand(i: int) -> Bits:
            held = operands["row_held"][i * width : (i + 1) * width]
            value = held.constant(0)
            for index, msb_bits in enumerate(types.formats):
                element = row[i * msb_bits : (i + 1) * msb_bits].zext(width).shifted_left(width - msb_bits)
                if msb_bits + LSB_BITS <= width:
                    low = width - msb_bits - LSB_BITS
                    first_pass = element + held.constant(1 << (LSB_BITS - 1) << low)
                    lsb = row[i * LSB_BITS : (i + 1) * LSB_BITS].zext(width).shifted_left(low)
                    joined = (held & held.constant(~(15 << low) & ((1 << width) - 1))) | lsb
                    element = choose(plane == Plane.MSB, first_pass, choose(plane == Plane.LSB, joined, element))
                value = choose(form == index, element, value)
            value = choose(count > i, value, value.constant(0))
            return operands.cut(f"unpack_operand_{i}_s{latency}", value, cycle=latency)

        return {
            ("operand", latency): concatenate(*[operand(i) for i in reversed(range(types.row))]),
            ("out_valid", latency): operands["complete"],
        }

    def sent(operands: Operands) -> Bits:
        """Formats that exist, planes only where both fit, no more elements than a row has."""
        form, plane, count = (operands[f"row_{name}"] for name in ("format", "plane", "count"))
        joinable = sum(msb_bits + LSB_BITS <= width for msb_bits in types.formats)
        planes = (plane == Plane.WHOLE) | ((plane <= Plane.LSB) & (form < joinable))
        return (form <= len(types.formats) - 1) & planes & (count <= types.row)

    return Problem("unpacking", block, specification, {"out_ready": 1}, assume=sent)


def problems(config: AcceleratorConfig, block: pyrtl.Block) -> list[Problem]:
    """All claims of the module but for the stalls."""
    most = BitwidthConverterTypes.of(config).chunks + 1
    rows = [arriving(config, block, words) for words in range(1, most + 1)]
    return [*rows, pausing(config, block), completing(config, block), unpacking(config, block)]


def proof(config: AcceleratorConfig, block: pyrtl.Block, settings: Settings) -> Verdict:
    """All claims of the module, up to the first that fails."""
    verdicts = []
    for problem in problems(config, block):
        verdicts.append(prove(problem, limits=settings.limits, folder=settings.folder))
        if verdicts[-1].kind is not Kind.PROVED:
            return verdicts[-1]
    latency = plan(config).latency_cycles
    return weakest([*verdicts, prove_stalls(block, latency, limits=settings.limits, folder=settings.folder)])


@dataclass(frozen=True)
class Stream:
    """Rows for a lane of `config`, when they are offered and accepted, and what the reference makes of them.

    Attributes:
        items: the words as the lane's ports take them.
        ends: index of the last word of each row.
        operands: the reference's.
        offer, accept: by cycle; None: always, then the latency is looked at too.
    """

    config: AcceleratorConfig
    items: dict[str, Words]
    ends: Integers
    operands: Integers
    offer: Pattern | None
    accept: Pattern | None

    @classmethod
    def random(cls, config: AcceleratorConfig, rows: int, seed: int, *, stalled: bool) -> Stream:
        """Half of the rows of the directed extremes, half random."""
        rng, every = np.random.default_rng(seed), extreme_rows(config)
        sent = [every[i] for i in rng.integers(0, len(every), rows // 2)]
        sent += [random_row(config, rng) for _ in range(rows - len(sent))]
        return cls._of(config, sent, rng, stalled=stalled)

    @classmethod
    def every_offset(cls, config: AcceleratorConfig, seed: int, *, stalled: bool) -> Stream:
        """A random row at every offset, in any order, with every number of elements among them."""
        rng, types = np.random.default_rng(seed), BitwidthConverterTypes.of(config)
        sent = []
        for offset in rng.permutation(types.word.width):
            row = random_row(config, rng)
            sent.append(replace(row, offset=int(offset), q=np.resize(row.q, 1 + offset % types.row)))
        return cls._of(config, sent, rng, stalled=stalled)

    @classmethod
    def _of(cls, config: AcceleratorConfig, sent: list[Row], rng: np.random.Generator, *, stalled: bool) -> Stream:
        words = [len(row.words(BitwidthConverterTypes.of(config).word.width)) for row in sent]
        offer, accept = (rng.random(3 * sum(words)) < 0.7 for _ in range(2)) if stalled else (None, None)
        return cls(config, ports(config, sent), np.cumsum(words) - 1, expected(config, sent), offer, accept)

    def differs(self, simulator: Simulator) -> bool:
        """Whether a lane, after reset, gives something else, or in other cycles."""
        limit = 20 * (int(self.ends[-1]) + 1)
        simulator.reset()
        try:
            result = drain(simulator, self.items, len(self.ends), self.offer, self.accept, limit)
        except StreamError:
            return True
        if not np.array_equal(observed(self.config, result.outputs["operand"]), self.operands):
            return True
        sent, received = np.array(result.sent_at), np.array(result.received_at)
        free = (np.diff(sent) == 1).all() and (received == sent[self.ends] + simulator.netlist.latency_cycles).all()
        return self.offer is None and not free


def _proved(settings: Settings) -> Verdict:
    return proof(FULL, build(FULL).block, settings)


_FAULTS = (
    ("selection", "", "moved by +1"),
    ("mux arms", "", "swapped"),
    ("mux select", "", "stuck at arm 0"),
    ("constant", "", "flipped"),
    ("concatenation", "", "swapped"),
    ("enable", "complete", "never loads"),
    ("stage removed", "complete", ""),
    ("enable", "next_place", "always loads"),
    ("operator", "", "& becomes |"),
)


def _faulty(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    planted = faults(build(config).block, *_FAULTS)
    return all_refuted(planted, lambda block: proof(config, block, settings))


def _mutants(settings: Settings) -> Verdict:
    """Mutants of the small lane against the reference in simulation, and those it does not notice against the proof."""
    netlist = build(TINY)
    quiet = replace(settings, folder=None)
    streams = [
        Stream.random(TINY, rows, settings.seed, stalled=stalled) for rows in (6, 40) for stalled in (False, True)
    ]
    streams += [Stream.every_offset(TINY, settings.seed + i, stalled=i == 0) for i in range(4)]

    def streamed(block: pyrtl.Block) -> bool:
        with open_simulator(Netlist("mutant", block, netlist.latency_cycles), "fast") as simulator:
            return any(stream.differs(simulator) for stream in streams)

    def proved(block: pyrtl.Block) -> Verdict:
        try:
            return proof(TINY, block, quiet)
        except NetlistError as error:  # the fault took away a wire that a claim is about
            return unknown(str(error))

    def reset_proved(block: pyrtl.Block) -> Verdict:
        return prove_reset(block, netlist.latency_cycles, limits=quiet.limits)

    return sampled_mutants(netlist.block, [Detector("reference", streamed)], proved, settings, reset_proved)


def _gates(settings: Settings) -> Verdict:
    config = FULL if settings.full else TINY
    return prove_synthesized(build(config).block, limits=settings.limits, folder=settings.folder)


def _gates_with_faults(settings: Settings) -> Verdict:
    """Faults among the gates that put a word into a chunk."""
    block = lower(plan(TINY).put).block
    return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("inversion", "", "dropped"))


def _against_the_reference(settings: Settings) -> Verdict:
    rows, netlist = 2 * settings.samples, build(FULL)
    for stalled in (False, True):
        with open_simulator(netlist, "fast") as simulator:
            wrong = Stream.random(FULL, rows, settings.seed, stalled=stalled).differs(simulator)
        if wrong:
            return refuted(f"{rows} rows, seed {settings.seed}, stalled: {stalled}, differ from the reference")
    return sampled(2 * rows, f"rows, seed {settings.seed}, half of them with stalls")


CHECKS = (
    Check("rows at any bit, formats, planes, stalls", "SMT, all states", _proved),
    Check("the same with planted faults", "SMT, must be refuted", _faulty, least=Kind.TESTED),
    Check("gates equal the netlist", "SMT", _gates),
    Check("gates with planted faults", "SMT, must be refuted", _gates_with_faults, least=Kind.TESTED),
    Check("against the reference", "simulation", _against_the_reference, least=Kind.TESTED),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
