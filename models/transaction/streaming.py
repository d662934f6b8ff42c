"""What share of its peak a memory gives to a stream of reads: the bound of a machine that does nothing but fetch.

Refreshes and the rows that a stream opens take the rest. Measured on the memory model, not known by heart.
"""

from functools import cache

import numpy as np

from hls.datapaths.crossbar import BURST_BYTES
from models.memory.hbm2 import Hbm2Memory

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
