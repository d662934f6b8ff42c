"""Evidence for a landing lane: random lists and words beside a converter that is a row of places; mutants."""

from hls.datapaths.landing_lane import build
from verification.evidence.landing_checks import checks
from verification.evidence.landing_model import run_lanes

CHECKS = checks(build, run_lanes, 0.99)
