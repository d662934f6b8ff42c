"""What share of its peak a memory gives to a stream of reads: the bound of a machine that does nothing but fetch.

Refreshes and the rows that a stream opens take the rest. And how long the memory rests before and behind a stream, as
its first burst is on its way from the request, and its last one on its way to where it is used. Both are measured on
the models, not known by heart.
"""

from functools import cache

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from models.config import AcceleratorConfig
from models.memory.hbm2 import Hbm2Memory
from models.transaction.fetch_run import FetchRun
from models.transaction.fetch_state import KEY, LANDED, NOTHING, PURPOSES, TO_KEY

REFRESH_INTERVALS = 10
"""Length of the stream that is measured, were it read at the peak: long enough that its ends do not count."""


@cache
def stream_rate(channels: int) -> float:
    """Share of the peak that HBM2 of so many channels reaches on consecutive bursts."""
    memory = Hbm2Memory(channels)
    cycles = REFRESH_INTERVALS * memory.timing.refresh_interval_cycles
    bursts = int(cycles * channels * memory.timing.peak_bytes_per_cycle) // BURST_BYTES
    memory.run(np.arange(bursts) * BURST_BYTES)
    found = memory.statistics()
    return bursts * BURST_BYTES / (found.peak_bytes_per_cycle * found.cycles)


@cache
def fetch_cycles(machine: AcceleratorConfig) -> int:
    """Least cycles from the request for a list of one key until the key is there; its row of DRAM is open."""
    run, ids = FetchRun(machine, Hbm2Memory(machine.hbm_channels)), np.zeros(1, np.int64)
    bits, purpose, taken = machine.native_head_dim * machine.datapath_bits, PURPOSES.index("k_msb"), 0
    # the first time opens the row
    for _ in range(2):
        begins = int(run.state["now"])
        run.offer(KEY, begins, ids, 1, 0, 1, 0, bits, destination=TO_KEY, buffer=0, place=0, purpose=purpose)
        run.watched |= LANDED
        run.state["segments_watched"] = 1
        while run.state["offer"][KEY] != NOTHING or run.state["left"][TO_KEY, 0, 0]:
            run.run(int(run.state["now"]) + 1)
        taken = int(run.state["landed_at"][TO_KEY, 0, 0]) - begins
    return taken
