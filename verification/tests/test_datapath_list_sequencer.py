"""List sequencer: every row of ids, the order of requests, the window, pending bits; latency and rate."""

from itertools import pairwise

import pytest
from hypothesis import given, settings

from hls.datapaths import list_sequencer
from hls.datapaths.fetcher_parts import FetcherTypes
from hls.datapaths.list_sequencer import STREAMS
from hls.datapaths.machine_sizes import Destination, MachineSizes, Source
from hls.simulate import open_simulator
from verification.equivalence.verdict import Kind
from verification.evidence import list_sequencer as evidence
from verification.evidence.list_sequencer_model import fetch_rows, run_sequencer
from verification.evidence.words import joined, pack
from verification.results import Settings
from verification.tests.datapath_machines import EVERY_MACHINE, machine, seeds

TINY = machine("tiny")
WINDOW = 30


@pytest.fixture(scope="module")
def tiny():
    return list_sequencer.build(TINY, window=WINDOW)


@pytest.fixture(scope="module")
def simulator(tiny):
    with open_simulator(tiny, "fast") as opened:
        yield opened


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_any_lists(simulator, seed):
    simulator.reset()
    run_sequencer(TINY, simulator, 300, seed, WINDOW)


@pytest.mark.parametrize("preset", ["spatten", "spatten-1-8"])
def test_published_machines(preset):
    config = machine(preset)
    with open_simulator(list_sequencer.build(config, window=200), "fast") as opened:
        rows = 0
        for seed in range(4):
            opened.reset()
            rows += run_sequencer(config, opened, 200, seed, 200, tokens=120)
        assert rows > 100


def request_of(**fields):
    zero = {"source": 0, "first": 0, "count": 1, "base": 0, "plane": 0, "destination": 0, "place": 0}
    return zero | fields


def write_survivors(simulator, ids):
    sizes = MachineSizes.of(TINY)
    for start in range(0, len(ids), sizes.top_k_lanes):
        row = ids[start : start + sizes.top_k_lanes]
        packed = joined(row, sizes.id_bits)
        ports = {"survivor_write": 1, "survivor_row": start // sizes.top_k_lanes, "survivor_ids": packed}
        simulator.step(ports)


def test_first_row_after_three_cycles_then_one_a_cycle(simulator):
    """Three lists of five vectors of a machine that fetches two ids a cycle: rows follow without a gap."""
    simulator.reset()
    sizes = MachineSizes.of(TINY)
    write_survivors(simulator, list(range(10, 30)))
    requests = [request_of(count=5, base=7 * i, place=i & 1) for i in range(3)]
    accepted, valid = [], []
    for cycle in range(20):
        ports = {"fetch_ready": 1}
        if requests:
            ports |= {"key_request_valid": 1, "key_request_data": pack(sizes.list_request, requests[0])}
        seen = simulator.step(ports)
        if requests and seen["key_request_ready"]:
            accepted.append(cycle)
            requests.pop(0)
        if seen["fetch_valid"]:
            valid.append(cycle)
    assert valid[0] == accepted[0] + 3
    assert len(valid) == 9
    assert all(after == before + 1 for before, after in pairwise(valid))


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_ports_are_those_of_the_fetcher(preset, bits):
    config = machine(preset, bits)
    types, ports = FetcherTypes.of(config), list_sequencer.build(config).outputs
    for name in ("ids", "count", "base", "stride", "length"):
        assert ports[f"fetch_{name}"] == getattr(types, name).total_bits


def test_most_urgent_stream_first(simulator):
    simulator.reset()
    sizes = MachineSizes.of(TINY)
    data = {f"{s}_data": pack(sizes.list_request, request_of(destination=Destination.QUERY)) for s in STREAMS}
    order, left = [], list(reversed(STREAMS))
    for _ in range(12):
        seen = simulator.step(data | {f"{s}_valid": 1 for s in left} | {"fetch_ready": 1})
        taken = [s for s in left if seen[f"{s}_ready"]]
        order += taken
        left = [s for s in left if s not in taken]
    assert order == list(STREAMS)


def test_one_token_begins_anywhere():
    """The current token of a generation step: place 5 of the survivors in three machines and dimensions."""
    sizes = MachineSizes.of(machine("spatten"))
    ids = list(range(100, 120))
    row = fetch_rows(sizes, request_of(source=Source.SURVIVORS, first=5, count=1), ids, 0, 64)
    assert row == [{"ids": 105, "count": 1, "last": 1, "turned": 0, "base": 0, "stride": 64, "length": 64}]
    wide = fetch_rows(sizes, request_of(first=10, count=2), ids, 1, 64)[0]
    assert wide["ids"] == 210 | 211 << sizes.id_bits


def test_faults_are_noticed():
    verdict = evidence.CHECKS[1].run(Settings(samples=40))
    assert verdict.kind is Kind.TESTED, str(verdict)
