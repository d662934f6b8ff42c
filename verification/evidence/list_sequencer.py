"""Evidence for the list sequencer: random lists, requests, stalls and landings beside a plain model; mutants.

95 % of the mutants are asked for: the upper bits of counters are for lists longer than those of the runs.
"""

from dataclasses import replace

from hls.datapaths.list_sequencer import build
from hls.lower import Netlist
from models.config import AcceleratorConfig
from verification.evidence.landing_checks import TINY, checks
from verification.evidence.list_sequencer_model import run_sequencers

WINDOW = 30
"""Small, so that it is reached."""


SMALL = replace(TINY, context_keys=32, key_sram_bytes=768, value_sram_bytes=768, softmax_fifo_rows=8, top_k_fifo_rows=8)
"""Buffers of 8 rows, so that lists reach all their segments."""


def _build(config: AcceleratorConfig) -> Netlist:
    return build(config, window=WINDOW)


CHECKS = checks(_build, lambda config, simulator, seeds: run_sequencers(config, simulator, seeds, WINDOW), 0.95, SMALL)
