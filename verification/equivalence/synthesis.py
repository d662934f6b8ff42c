"""The same after gate-level synthesis: `pyrtl.synthesize()` against the block it came from.

Synthesis splits every register into one-bit ones and, in PyRTL 1.0.3, forgets their reset values;
`synthesized` puts them back. It also computes the top bit of `a - b` wrongly, which is why the
proof is made for every block and not once for the tool.
"""

from pathlib import Path

import pyrtl

from verification.equivalence.equality import prove_equal
from verification.equivalence.solver import Limits
from verification.equivalence.verdict import Verdict


def synthesized(block: pyrtl.Block) -> tuple[pyrtl.PostSynthBlock, dict[str, tuple[str, ...]]]:
    """The gate-level block, and for each register its one-bit registers, lowest first.

    The working block is left alone; reset values are those of `block`.
    """
    gates = pyrtl.synthesize(update_working_block=False, block=block)
    correspondence = {}
    for register, bits in gates.reg_map.items():
        correspondence[register.name] = tuple(bit.name for bit in bits)
        for i, bit in enumerate(bits):
            bit.reset_value = None if register.reset_value is None else (register.reset_value >> i) & 1
    return gates, correspondence


def prove_synthesized(
    block: pyrtl.Block, *, claim: str = "synthesized", limits: Limits | None = None, folder: Path | None = None
) -> Verdict:
    """PROVED if gates and block compute the same outputs and next state from any state.

    Reset values are equal by construction of `synthesized`. Memories stay memories.
    """
    gates, correspondence = synthesized(block)
    return prove_equal(gates, block, claim=claim, correspondence=correspondence, limits=limits, folder=folder)
