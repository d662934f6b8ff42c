"""Machines and stall patterns that the tests of the datapaths share."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from hls.simulate import Streamed
from models.config import AcceleratorConfig

EVERY_MACHINE = [(preset, bits) for preset in ("tiny", "spatten-1-8", "spatten") for bits in (12, 14, 16)]


def machine(preset: str = "spatten", datapath_bits: int = 12) -> AcceleratorConfig:
    """A preset with another width of the datapath; the SRAMs keep their rows."""
    config = AcceleratorConfig.preset(preset)
    scaled = {name: getattr(config, name) * datapath_bits // 12 for name in ("key_sram_bytes", "value_sram_bytes")}
    return replace(config, datapath_bits=datapath_bits, **scaled)


patterns = st.lists(st.booleans(), max_size=60).map(lambda bits: np.array(bits, dtype=np.bool_))
seeds = st.integers(0, 2**32 - 1)


def assert_full_rate(result: Streamed, latency_cycles: int) -> None:
    """Nothing was stalled: an item went in every cycle, and each result came out `latency_cycles` later."""
    assert (np.diff(result.sent_at.astype(np.int64)) == 1).all()
    assert (result.received_at - result.sent_at == latency_cycles).all()
