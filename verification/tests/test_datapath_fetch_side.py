"""Fetch side: requests for lists to operands in the SRAMs, with every part and a memory that answers as it likes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import Destination, MachineSizes, Source
from hls.simulate import open_simulator
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.evidence.fetch_side_lists import Layer, Request, random_layer, random_requests
from verification.evidence.fetch_side_model import (
    Bench,
    Expected,
    compose,
    elements_in_dram,
    run_layer,
)
from verification.evidence.fetcher_model import burst_content
from verification.tests.datapath_machines import machine, seeds

TINY = machine("tiny")


@pytest.fixture(scope="module")
def side():
    """A simulator, and what its memories hold, which no reset changes."""
    with open_simulator(compose(TINY), "fast") as simulator:
        yield simulator, Expected(MachineSizes.of(TINY), TINY.datapath_bits)


def memory_of(seed):
    if seed % 2:
        return IdealMemory(TINY.hbm_channels, 1 + seed % 40)
    return AdversarialMemory(TINY.hbm_channels, seed, max_latency_cycles=60)


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_every_vector_lands_where_it_belongs(side, seed):
    simulator, expected = side
    simulator.reset()
    rng = np.random.default_rng(seed)
    layer = random_layer(TINY, rng, 20)
    rounds = random_requests(TINY, layer, rng, 2)
    run = run_layer(Bench(TINY, simulator, memory_of(seed)), expected, layer, rounds)
    assert run.vectors == sum(request.count for requests in rounds for request in requests)


@pytest.mark.full
def test_many_layers_without_a_reset(side):
    simulator, expected = side
    simulator.reset()
    rng = np.random.default_rng(5)
    bench = Bench(TINY, simulator, Hbm2Memory(channels=TINY.hbm_channels))
    most = 0
    for _ in range(60):
        layer = random_layer(TINY, rng, 40)
        most = max(most, run_layer(bench, expected, layer, random_requests(TINY, layer, rng, 4)).lists_at_once)
    assert most >= 4


@pytest.mark.full
@pytest.mark.parametrize("preset", ["spatten", "spatten-1-8"])
def test_published_machines_fit_together(preset):
    config = machine(preset)
    assert len(compose(config).parts) == 6 + 3 * config.fetch_queues


def test_elements_are_bits_of_dram():
    """Vector 3 of 8 elements of 12 bits behind byte 1024: bits 288 .. 383, so of the second burst."""
    packed = burst_content(1024 // 32 + 1) >> 32
    assert elements_in_dram(2, 3, 8, 12) == [packed >> (12 * i) & 4095 for i in range(8)]


class OtherAddress(Expected):
    """A machine that takes its vectors from 512 bytes further on."""

    def land(self, layer, request):
        super().land(layer, replace(request, base=request.base + 1))


@pytest.mark.parametrize("destination", [Destination.KEY, Destination.VALUE, Destination.QUERY])
def test_a_wrong_address_is_noticed(side, destination):
    simulator, expected = side
    simulator.reset()
    layer = Layer(0, 8, 8, True, (1, 2, 5, 7, 11))
    stream = {Destination.KEY: "key_request", Destination.VALUE: "value_request"}.get(destination, "query_request")
    plane = Plane.WHOLE if destination is Destination.QUERY else Plane.MSB
    request = Request(stream, Source.SURVIVORS, destination, plane, layer.survivors, 0, 5, 7, 0)
    wrong = OtherAddress(expected.sizes, expected.width)
    with pytest.raises(AssertionError, match="line 0" if destination is Destination.QUERY else "row 0"):
        run_layer(Bench(TINY, simulator, IdealMemory(TINY.hbm_channels, 5)), wrong, layer, [[request]])
    expected.land(layer, request)
