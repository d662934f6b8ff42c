"""Evidence for the top-k engine of local value pruning: that of `top_k` at 12-bit values.

What does not depend on the width of a value, and the mutants, which are of a small engine of 12-bit values, are there.
"""

from hls.datapaths.number_formats import PROBABILITY_BITS
from verification.equivalence.verdict import Kind, Verdict
from verification.evidence.top_k import against_reference, proof_checks
from verification.results import Check, Settings


def _reference(settings: Settings) -> Verdict:
    return against_reference(settings, PROBABILITY_BITS)


CHECKS = (
    *proof_checks(PROBABILITY_BITS),
    Check("against the reference, cycles within the bound", "simulation", _reference, least=Kind.TESTED),
)
