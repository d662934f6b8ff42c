"""Evidence for the zero eliminator at its published size: 16 lanes, values of 12 bits (and of 32, in its own module).

Specification, written from what packing means and not from shifts: output lane j carries the valid item that has
exactly j valid items before it; it is valid if there are more than j valid items; else it is zero.
"""

from dataclasses import replace
from functools import partial, reduce

import numpy as np
import pyrtl

from hls.datapaths.number_formats import PROBABILITY_BITS
from hls.datapaths.zero_eliminator import build, id_bits
from hls.lower import Netlist
from hls.simulate import SimulatorError, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate, total
from verification.equivalence.pipeline import prove_pipeline
from verification.equivalence.problem import Operands, Specification
from verification.equivalence.synthesis import prove_synthesized
from verification.equivalence.verdict import Kind, Verdict, refuted, sampled
from verification.evidence.planted import all_refuted, faults, gate_faults_refuted, sampled_mutants
from verification.evidence.zero_eliminator_model import expected, observed, random_rows
from verification.mutation import Detector
from verification.results import Check, Settings

FULL = AcceleratorConfig.preset("spatten")
EIGHT_LANES = replace(AcceleratorConfig.preset("tiny"), top_k_lanes=8)
"""The size of the mutants and of the faults among gates: three rounds of shifts."""


def packing(lanes: int, value_bits: int, ident_bits: int) -> Specification:
    """The specification of the module, for inputs at cycle 0."""

    def specification(operands: Operands) -> dict[str | tuple[str, int], Bits]:
        valid = operands["valid"]
        count_bits = lanes.bit_length()
        none = operands.constant(0, count_bits)
        before = [total([none, *(valid[j] for j in range(i))], count_bits) for i in range(lanes)]
        count = total([none, *(valid[j] for j in range(lanes))], count_bits)

        def lane(words: Bits, width: int, j: int) -> Bits:
            nothing = operands.constant(0, width)
            found = [
                choose(valid[i] & (before[i] == j), words[i * width : (i + 1) * width], nothing)
                for i in range(j, lanes)
            ]
            return reduce(lambda a, b: a | b, found)

        descending = range(lanes - 1, -1, -1)
        return {
            "packed_value": concatenate(*[lane(operands["value"], value_bits, j) for j in descending]),
            "packed_id": concatenate(*[lane(operands["id"], ident_bits, j) for j in descending]),
            "packed_valid": concatenate(*[count > j for j in descending]),
        }

    return specification


def proof(config: AcceleratorConfig, value_bits: int, block: pyrtl.Block, latency: int, settings: Settings) -> Verdict:
    """The whole pipeline against the specification, for every stall pattern."""
    specification = packing(config.top_k_lanes, value_bits, id_bits(config))
    return prove_pipeline(
        block,
        specification,
        latency,
        claim=f"zero eliminator {value_bits}",
        limits=settings.limits,
        folder=settings.folder,
    )


def differs(config: AcceleratorConfig, value_bits: int, netlist: Netlist, rows: int, seed: int) -> bool:
    """Whether a stream of random rows, free at first and then under stalls, differs from the reference or its rate."""
    sizes = (config.top_k_lanes, value_bits, id_bits(config))
    sent, rng = random_rows(*sizes, rows, seed), np.random.default_rng(seed)
    free = np.ones(rows // 4, dtype=np.bool_)
    stalls = np.concatenate([free, rng.random(rows) < 0.7]), np.concatenate([free, rng.random(2 * rows) < 0.6])
    with open_simulator(netlist, "fast") as simulator:
        try:
            result = simulator.stream(sent.ports(*sizes[1:]), *stalls)
        except SimulatorError:
            return True
    if len(result.sent_at) < rows:  # results of nothing
        return True
    early = rows // 4 - netlist.latency_cycles
    if not (result.received_at - result.sent_at == netlist.latency_cycles)[:early].all():
        return True
    wanted, seen = expected(sent), observed(result.outputs, *sizes)
    return any(not np.array_equal(seen[port], wanted[port]) for port in wanted)


def mutants(config: AcceleratorConfig, value_bits: int, settings: Settings) -> Verdict:
    """Mutants of the netlist against streams and the proof."""
    netlist = build(config, value_bits=value_bits)

    def proved(block: pyrtl.Block) -> Verdict:
        return proof(config, value_bits, block, netlist.latency_cycles, replace(settings, folder=None))

    def streamed(block: pyrtl.Block) -> bool:
        return differs(config, value_bits, Netlist("mutant", block, netlist.latency_cycles), 60, settings.seed)

    return sampled_mutants(netlist.block, [Detector("stream", streamed)], proved, settings)


def checks(value_bits: int) -> tuple[Check, ...]:
    """The evidence for values of `value_bits` bits."""

    def function(settings: Settings) -> Verdict:
        netlist = build(FULL, value_bits=value_bits)
        return proof(FULL, value_bits, netlist.block, netlist.latency_cycles, settings)

    def function_with_faults(settings: Settings) -> Verdict:
        netlist = build(FULL, value_bits=value_bits)
        planted = faults(
            netlist.block,
            ("operator", "", "+ becomes -"),
            ("operator", "", "& becomes |"),
            ("mux arms", "", "swapped"),
            ("inversion", "", "dropped"),
            ("enable", "packed_valid|valid", "never loads"),
        )
        return all_refuted(planted, lambda block: proof(FULL, value_bits, block, netlist.latency_cycles, settings))

    def gates(settings: Settings) -> Verdict:
        netlist = build(FULL, value_bits=value_bits)
        return prove_synthesized(netlist.block, limits=settings.limits, folder=settings.folder)

    def gates_with_faults(settings: Settings) -> Verdict:
        block = build(EIGHT_LANES, value_bits=value_bits).block
        return gate_faults_refuted(block, settings, ("operator", "", "& becomes |"), ("inversion", "", "dropped"))

    def against_the_reference(settings: Settings) -> Verdict:
        netlist, rows = build(FULL, value_bits=value_bits), 20 * settings.samples
        if differs(FULL, value_bits, netlist, rows, settings.seed):
            return refuted(f"a stream of {rows} random rows, seed {settings.seed}, differs from the reference")
        return sampled(rows, f"seed {settings.seed}, with stalls")

    return (
        Check("function, handshake and stalls", "SMT, all states", function),
        Check("function with planted faults", "SMT, must be refuted", function_with_faults, least=Kind.TESTED),
        Check("gates equal the netlist", "SMT", gates),
        Check("gates with planted faults", "SMT, must be refuted", gates_with_faults, least=Kind.TESTED),
        Check("against the reference", "simulation", against_the_reference, least=Kind.TESTED),
        Check("mutants", "mutation", partial(mutants, EIGHT_LANES, value_bits), least=Kind.TESTED),
    )


CHECKS = checks(PROBABILITY_BITS)
