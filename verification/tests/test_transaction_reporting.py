import json
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import query_key
from hls.estimate import estimate_schedule
from models.config import AcceleratorConfig
from models.memory.energy import EnergyBreakdown, Hbm2Energy
from models.transaction.channel import Fifo
from models.transaction.energy import ACTIONS, ActionError, energy, unit_energies
from models.transaction.kernel import Simulation
from models.transaction.monitor import Monitor
from models.transaction.roofline import Roof, RooflinePoint
from models.transaction.timeline import Timeline

MACHINE = AcceleratorConfig()
TINY = AcceleratorConfig.preset("tiny")
slice_cycles = st.integers(1, 5000)
slices = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 10)), max_size=30)


def by_kind(timeline):
    events = defaultdict(list)
    for event in json.loads(timeline.as_json())["traceEvents"]:
        events[event["ph"]].append(event)
    return events


@given(slices=slices)
def test_every_slice_is_drawn_once_and_no_two_of_a_lane_overlap(slices):
    timeline = Timeline("test", 1000)
    for number, (track, start, length) in enumerate(slices):
        timeline.slice(track, f"slice {number}", start, start + length, number=number)
    events = by_kind(timeline)
    names = {e["tid"]: e["args"]["name"] for e in events["M"] if e["name"] == "thread_name"}
    drawn = {e["args"]["number"]: e for e in events["X"]}
    assert sorted(drawn) == list(range(len(slices))) == sorted(e["args"]["number"] for e in events["X"])
    for number, (track, start, length) in enumerate(slices):
        event = drawn[number]
        assert (event["ts"], event["dur"]) == (start / 1000, length / 1000)
        assert names[event["tid"]] == track or names[event["tid"]].startswith(f"{track} (")
    lanes = defaultdict(list)
    for e in events["X"]:
        lanes[e["tid"]].append((slices[e["args"]["number"]][1], slices[e["args"]["number"]][2]))
    for pieces in lanes.values():
        for (start, length), (following, _) in zip(sorted(pieces), sorted(pieces)[1:], strict=False):
            assert start + length <= following
    at_once = max(sum(track == "a" and start <= t < start + n for track, start, n in slices) for t in range(41))
    assert sum(name == "a" or name.startswith("a (") for name in names.values()) >= at_once


def test_the_file_is_a_trace_event_object():
    timeline = Timeline("tiny, film", 800)
    timeline.track("Q x K")
    timeline.track("softmax")
    timeline.slice("softmax", "row 0", 5, 9, head=1)
    timeline.counter("scores, items", 5, items=3)
    data = json.loads(timeline.as_json())
    assert data["displayTimeUnit"] == "ns"
    assert data["otherData"] == {"clock_period_ps": 800, "slices_dropped": 0}
    assert {e["ph"] for e in data["traceEvents"]} == {"M", "X", "C"}
    for event in data["traceEvents"]:
        assert {"ph", "name", "pid", "ts"} <= set(event)
        assert event["ph"] == "C" or "tid" in event
    order = [e["args"]["name"] for e in data["traceEvents"] if e["name"] == "thread_name"]
    assert order == ["Q x K", "softmax"]
    slice_, counter = by_kind(timeline)["X"][0], by_kind(timeline)["C"][0]
    assert (slice_["ts"], slice_["dur"], slice_["args"]) == (0.004, 0.0032, {"head": 1})
    assert (counter["ts"], counter["args"]) == (0.004, {"items": 3})


def test_a_window_and_a_limit_keep_the_file_small_and_say_what_they_dropped():
    timeline = Timeline("w", 1000, first_cycle=10, end_cycle=20, most_slices=2)
    for start in (0, 9, 12, 15, 19, 20):
        timeline.slice("a", str(start), start, start + 2)
        timeline.counter("c", start, v=start)
    assert [e["name"] for e in by_kind(timeline)["X"]] == ["9", "12"]
    assert [e["args"]["v"] for e in by_kind(timeline)["C"]] == [12, 15, 19]
    assert timeline.dropped == 2
    with pytest.raises(ValueError, match="ends in cycle 3, before it starts in 4"):
        timeline.slice("a", "backwards", 4, 3)


@given(
    period=st.sampled_from([333, 800, 1000, 1250]), start=st.integers(0, 10**9), lengths=st.tuples(*[slice_cycles] * 2)
)
def test_slices_do_not_overlap_in_a_viewer_that_cuts_times_to_nanoseconds(period, start, lengths):
    """As Perfetto does: `int64(1000.0 * ts)`, and the same of `dur`."""
    timeline = Timeline("t", period)
    for name, begin, length in (("a", start, lengths[0]), ("b", start + lengths[0], lengths[1])):
        timeline.slice("track", name, begin, begin + length)
    first, second = by_kind(timeline)["X"]
    assert first["tid"] == second["tid"]
    shown = [int(1000.0 * time) for time in (first["ts"], first["dur"], second["ts"])]
    assert shown == [start * period // 1000, lengths[0] * period // 1000, (start + lengths[0]) * period // 1000]
    assert shown[0] + shown[1] <= shown[2]


def test_cutting_a_plain_quotient_would_make_slices_overlap():
    """The sibling of the test above."""
    assert int(1000.0 * (1000 / 1000)) + int(1000.0 * (1 / 1000)) > int(1000.0 * (1001 / 1000))


def test_occupancy_and_bandwidth_are_counters():
    simulation = Simulation()
    fifo = Fifo(simulation, "scores", 4)
    monitor = Monitor(fifo)

    def writer():
        for n in range(3):
            yield fifo.put(n)
            yield simulation.wait(2)

    def reader():
        yield simulation.wait(5)
        for _ in range(3):
            yield fifo.get()

    simulation.start(writer(), "writer")
    simulation.start(reader(), "reader")
    simulation.run()
    timeline = Timeline("counters", 500)
    timeline.occupancy(monitor)
    timeline.bandwidth("reads", np.array([0, 1, 1, 7]), bytes_each=32, window_cycles=4)
    counters = defaultdict(list)
    for e in by_kind(timeline)["C"]:
        counters[e["name"]].append((e["ts"], *e["args"].values()))
    assert counters["scores, items"] == [(0.0, 1), (0.001, 2), (0.002, 3), (0.0025, 0)]
    # 3 x 32 bytes in 4 cycles of 0.5 ns are 48 GB/s
    assert counters["reads, GB/s"] == [(0.0, 48.0), (0.002, 16.0), (0.004, 0.0)]
    with pytest.raises(ValueError, match="1 is the shortest"):
        timeline.bandwidth("reads", np.array([0]), 32, 0)


def test_the_published_roofs():
    roof = Roof.of(MACHINE)
    assert (roof.peak_operations_per_s, roof.peak_bytes_per_s) == (2.048e12, 512e9)
    assert Roof.of(replace(MACHINE, clock_period_ps=2000)).peak_operations_per_s == 1.024e12
    assert roof.ridge == 4.0
    # the published points: intensity 2.1 below the bandwidth roof, 83 below the compute roof
    assert roof.attainable(2.1) == pytest.approx(1.075e12, rel=1e-3)
    assert roof.attainable(83) == 2.048e12


@given(operations=st.integers(0, 10**15), dram=st.integers(1, 10**12), slower=st.floats(1.0, 100.0))
def test_no_run_is_above_its_roof(operations, dram, slower):
    roof = Roof.of(MACHINE)
    least = roof.least_seconds(operations, dram)
    point = RooflinePoint(roof, operations, dram, least * slower)
    assert point.share <= 1 + 1e-9
    assert point.share == pytest.approx(1 / slower)
    if operations:
        assert point.share == pytest.approx(point.operations_per_s / roof.attainable(point.operations_per_byte))
    assert point.bound == ("memory" if operations < 4 * dram else "multipliers")
    assert json.loads(json.dumps(point.as_json()))["share"] == point.share


def test_a_run_without_bytes_has_no_place():
    with pytest.raises(ValueError, match="above 0"):
        RooflinePoint(Roof.of(MACHINE), 1, 0, 1.0)


@pytest.fixture(scope="module")
def units():
    return unit_energies(TINY)


def test_every_action_has_an_energy_with_its_error(units):
    assert set(units.actions) == set(ACTIONS)
    assert all(q.value > 0 and q.error > 0 and q.unit == "pJ" for q in units.actions.values())
    assert units.leakage.unit == "mW"


def test_the_energy_of_an_action_is_that_of_its_schedule(units):
    made = estimate_schedule(query_key.plan(TINY), technology.load())
    assert units.actions["qk_row"].value == pytest.approx(made.energy.value)


def test_more_multipliers_take_more_energy_a_row_and_wider_top_k_more_than_narrow(units):
    full = unit_energies(MACHINE)
    ratio = full.actions["qk_row"].value / units.actions["qk_row"].value
    assert 512 / 32 * 0.8 < ratio < 512 / 32 * 1.2
    for part in ("fill_row", "pass_row", "filter_row"):
        assert full.actions[f"top_k_a_{part}"].value > full.actions[f"top_k_b_{part}"].value


@given(
    counts=st.dictionaries(st.sampled_from(sorted(ACTIONS)), st.integers(0, 10**9), max_size=5),
    seconds=st.floats(0, 1),
)
def test_energy_is_counts_times_units_and_leakage_times_time(units, counts, seconds):
    dram = Hbm2Energy.default().of(activates=3, read_bytes=64, write_bytes=32)
    spent = energy(counts, units, seconds, dram)
    on_chip = math.fsum(n * units.actions[a].value for a, n in counts.items())
    assert spent.on_chip.value == pytest.approx(on_chip + units.leakage.value * 1e-3 * seconds * 1e12)
    assert spent.total_pj == pytest.approx(spent.on_chip.value + dram.total_pj)


@pytest.mark.parametrize(("counts", "message"), [({"qk_rows": 1}, "mean 'qk_row'"), ({"qk_row": -1}, "0 or more")])
def test_a_count_that_cannot_be_is_refused(units, counts, message):
    with pytest.raises(ActionError, match=message):
        energy(counts, units, 0.0, EnergyBreakdown(0, 0, 0, 0))
