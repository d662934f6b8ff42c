"""Every netlist meets its clock by the estimate of its nets, made apart from the schedules that it came from."""

import pytest

from hls import technology
from hls.datapaths.catalog import BLOCKS
from hls.estimate_block import estimate_block
from models.config import AcceleratorConfig


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    "preset", ["tiny", *(pytest.param(p, marks=pytest.mark.full) for p in ("spatten", "spatten-1-8"))]
)
def test_a_datapath_meets_its_clock(name, preset):
    config = AcceleratorConfig.preset(preset)
    estimate = estimate_block(BLOCKS[name](config).block, technology.load(), config.clock_period_ps, name)
    assert estimate.slack_ps >= 0, str(estimate.delay)


def test_a_datapath_misses_a_faster_clock():
    block = BLOCKS["query_key"](AcceleratorConfig.preset("tiny")).block
    assert estimate_block(block, technology.load(), 500, "query_key").slack_ps < 0
