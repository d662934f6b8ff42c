"""Evidence for the list sequencer: random lists, requests, stalls and landings beside a plain model; mutants.

95 % of the mutants are asked for: the upper bits of counters are for lists longer than those of the runs.
"""

from hls.datapaths.list_sequencer import build
from hls.lower import Netlist
from models.config import AcceleratorConfig
from verification.evidence.landing_checks import SMALL, checks
from verification.evidence.list_sequencer_model import run_sequencers

WINDOW = 30
"""Small, so that it is reached."""


def _build(config: AcceleratorConfig) -> Netlist:
    return build(config, window=WINDOW)


CHECKS = checks(_build, lambda config, simulator, seeds: run_sequencers(config, simulator, seeds, WINDOW), 0.95, SMALL)
