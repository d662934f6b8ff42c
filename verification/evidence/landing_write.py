"""Evidence for the landing: every row in its place, once, counted, in turn; mutants.

90 % of the mutants are asked for: what is left is in the arbiters, whose grants are one-hot (proved with the streams),
so that an exclusive or is an or, and in who is first after reset.
"""

from hls.datapaths.landing_write import build
from verification.evidence.landing_checks import SMALL, checks
from verification.evidence.landing_model import run_landings

CHECKS = checks(build, run_landings, 0.9, SMALL)
