"""Evidence for the operand mask: every element, in every format, is proved; so any mutant is killed or equivalent."""

import pyrtl

from hls.datapaths.operand_mask import build
from models.config import MSB_BITS, AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate
from verification.equivalence.function import prove
from verification.equivalence.problem import Operands, Problem, Target
from verification.equivalence.verdict import Kind, Verdict, weakest
from verification.mutants.netlist import netlist_mutants
from verification.mutation import Detector, kill_rate, sample_mutants
from verification.results import Check, Settings

LSB_BITS = 4
PRESETS = ("tiny", "spatten-1-8", "spatten")


def specified(width: int) -> dict[int, int]:
    """Lowest bit of the plane of LSBs, by format, where there is one."""
    return {(bits - 4) // 2: width - bits - LSB_BITS for bits in MSB_BITS if bits + LSB_BITS <= width}


def problem(block: pyrtl.Block, width: int) -> Problem:
    """Every element as it is, or of its planes: M bits, then the LSBs, or 1000 in a first pass (algorithm page, 5)."""

    def specification(op: Operands) -> dict[Target, Bits]:
        data = op["data"]
        elements = []
        for low in range(0, data.width, width):
            element = data[low : low + width]
            value = element
            for code, plane in specified(width).items():
                lsbs = choose(op["full"], element[0:LSB_BITS], op.constant(8, LSB_BITS))
                parts = [element[plane + LSB_BITS : width], lsbs]
                parts += [op.constant(0, plane)] if plane else []
                value = choose(op["progressive"] & (op["format"] == code), concatenate(*parts), value)
            elements.append(value)
        return {"masked": concatenate(*reversed(elements))}

    return Problem("operand mask", block, specification)


def checked(block: pyrtl.Block, config: AcceleratorConfig, settings: Settings) -> Verdict:
    """A block against the specification."""
    return prove(problem(block, config.datapath_bits), folder=settings.folder, limits=settings.limits)


def _function(settings: Settings) -> Verdict:
    configs = [AcceleratorConfig.preset(preset) for preset in PRESETS]
    return weakest([checked(build(config).block, config, settings) for config in configs])


def _mutants(settings: Settings) -> Verdict:
    config = AcceleratorConfig.preset("tiny")
    block = build(config).block
    every = netlist_mutants(block)
    detector = Detector("proof", lambda mutant: not checked(mutant, config, Settings(limits=settings.limits)).passes)
    chosen = sample_mutants(every, settings.samples, settings.seed)
    report = kill_rate(
        *(block, chosen, [detector]),
        prover=lambda mutant: checked(mutant, config, settings),
        population=len(every),
        limits=settings.limits,
    )
    return report.verdict()


CHECKS = (
    Check("function", "SMT", _function),
    Check("mutants", "mutation", _mutants, least=Kind.TESTED),
)
