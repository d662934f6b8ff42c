"""HBM2 memory: both faces are one engine, what it reaches, what it counts, what it refuses."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.memory import engine
from models.memory.address_map import AddressMap
from models.memory.energy import Hbm2Energy
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import NONE
from models.memory.timing import Hbm2Timing, provenance
from models.memory.variants import PortDriven
from verification.bench_memory import patterns

TIMING = Hbm2Timing.default()
WAKES = {"wake", "column_wake", "row_wake", "activate_wake", "precharge_wake"}
TECHNOLOGY = Path(__file__).resolve().parents[3] / "shared" / "spec" / "technology.json"


class Stepped(PortDriven):
    """The same memory driven one cycle at a time through its ports; `eager` looks for commands in every cycle."""

    def __init__(self, memory, eager=False):
        super().__init__(memory.channels, memory.address_map)
        self.memory, self.eager = memory, eager

    def _cycle(self, offers):
        if self.eager:
            channel = self.memory._state.channel
            for wakes in (channel, channel["pseudo_channel"], channel["port"]):
                for name in set(wakes.dtype.names or ()) & WAKES:
                    wakes[name] = 0
        valid = [offer is not None for offer in offers]
        address, tag, write = zip(*(offer or (0, 0, False) for offer in offers), strict=True)
        return self.memory.step(valid, address, tag, write)

    def waiting(self):
        return self.memory.waiting()


REQUESTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1 << 9), st.integers(0, 3), st.booleans()), min_size=1, max_size=200
)


def stream(drawn):
    """Addresses over two channels with a few rows, cycles that grow now and then by much, and writes."""
    waits, low, row, writes = (np.array(column) for column in zip(*drawn, strict=True))
    cycles = np.cumsum(np.where(waits == 6, 300, waits // 4))
    return (low + (row << 13)) * 32, cycles, writes


@settings(max_examples=25, deadline=None)
@given(REQUESTS, st.booleans())
def test_ports_and_groups_give_equal_results(drawn, eager):
    addresses, cycles, writes = stream(drawn)
    grouped, stepped = Hbm2Memory(2), Hbm2Memory(2)
    a = grouped.run(addresses, cycles, writes)
    b = Stepped(stepped, eager).run(addresses, cycles, writes)
    assert a.accepted_cycles.tolist() == b.accepted_cycles.tolist()
    assert a.done_cycles.tolist() == b.done_cycles.tolist()
    one, other = grouped.statistics(), stepped.statistics()
    for name in ("reads", "writes", "activates", "row_hits", "queue_cycles", "queue_cycles_max", "energy"):
        assert getattr(one, name) == getattr(other, name)


def test_a_difference_between_the_faces_is_seen():
    addresses = np.arange(400) * 32
    shorter = Hbm2Memory(2, replace(TIMING, read_latency_cycles=13))
    a = Hbm2Memory(2).run(addresses)
    b = Stepped(shorter).run(addresses)
    assert a.done_cycles.tolist() != b.done_cycles.tolist()


@settings(max_examples=20, deadline=None)
@given(REQUESTS, st.integers(1, 5))
def test_groups_in_pieces_equal_one_group(drawn, pieces):
    addresses, cycles, writes = stream(drawn)
    whole = Hbm2Memory(2).run(addresses, cycles, writes).done_cycles
    memory = Hbm2Memory(2)
    parts = np.array_split(np.arange(len(addresses)), pieces)
    tickets = []
    for part in parts:
        if len(part):
            memory.advance(int(cycles[part[0]]))
            tickets.append(memory.submit(addresses[part], cycles[part], writes[part]))
    done = np.concatenate([memory.finish(ticket).done_cycles for ticket in tickets])
    assert done.tolist() == whole.tolist()
    assert memory.statistics().late_requests == 0


def test_many_cycles_in_one_call_equal_single_steps():
    random = np.random.default_rng(3)
    cycles = 4500
    channel = np.arange(4)
    address = (random.integers(0, 1 << 12, (cycles, 4)) * 4 + channel) * 32
    valid = random.random((cycles, 4)) < 0.4
    write = random.random((cycles, 4)) < 0.3
    tags = np.arange(cycles)[:, None].repeat(4, axis=1)
    batch = Hbm2Memory(4).steps(valid, address, tags, write)
    single = Hbm2Memory(4)
    one_by_one = [single.step(valid[i], address[i], tags[i], write[i]) for i in range(cycles)]
    assert (batch.accepted == [c.accepted for c in one_by_one]).all()
    assert (batch.read_tag == [c.read_tag for c in one_by_one]).all()
    assert (batch.write_tag == [c.write_tag for c in one_by_one]).all()
    for c in range(4):
        taken = tags[:, c][batch.accepted[:, c] & ~write[:, c]]
        answered = batch.read_tag[:, c][batch.read_tag[:, c] != NONE]
        assert set(answered.tolist()) <= set(taken.tolist())
        assert len(answered) == len(set(answered.tolist())) > 500


def test_deep_queue_stream_reaches_92_percent_of_peak():
    statistics = run_pattern("stream", 1_000_000)
    assert statistics.peak_bytes_per_cycle == 512
    assert 0.915 < statistics.efficiency < 0.93


def run_pattern(name, bursts):
    memory = Hbm2Memory()
    memory.run(*patterns(bursts)[name])
    return memory.statistics()


def test_stream_through_one_bank_group_is_halved():
    """Why the map rotates over bank groups: a stream that stays in one meets tCCD_L at every burst."""
    segments = (("channel", 4), ("pseudo_channel", 1), ("column", 5), ("bank", 2), ("row", 15), ("bank_group", 2))
    memory = Hbm2Memory(address_map=AddressMap(segments))
    memory.run(np.arange(100_000) * 32)
    assert 0.4 < memory.statistics().efficiency < 0.5


def test_random_bursts_are_limited_by_the_activation_window():
    statistics = run_pattern("random", 100_000)
    bound = 4 * TIMING.burst_cycles / TIMING.four_activate_window_cycles
    assert 0.85 * bound < statistics.efficiency < bound
    assert statistics.row_hit_rate < 0.01


def test_statistics_of_a_few_bursts():
    memory = Hbm2Memory(1)
    row_bits = AddressMap.default(1, TIMING).capacity_bytes.bit_length() - 1 - 15
    done = memory.run([0, 0, 1 << row_bits, 1 << row_bits], [0, 0, 100, 200], [False, False, False, True])
    assert done.accepted_cycles.tolist() == [0, 1, 100, 200]
    # ACTIVATE in cycle 1, READ in 15 and 19; PRECHARGE 101, ACTIVATE 115, READ 129; WRITE 201.
    assert done.done_cycles.tolist() == [31, 35, 145, 207]
    s = memory.statistics()
    assert (s.reads, s.writes, s.activates, s.precharges, s.row_hits, s.refreshes) == (3, 1, 2, 1, 2, 0)
    assert s.cycles == 207
    assert s.bytes_per_cycle == 4 * 32 / 207
    assert s.queue_cycles == 15 + 18 + 29 + 1
    assert s.queue_cycles_max == 29
    assert s.energy.activate_pj == 2 * 909
    assert s.energy.read_pj == pytest.approx(3 * 256 * (1.51 + 1.17))
    assert s.energy.write_pj == pytest.approx(256 * (1.51 + 1.17))
    assert s.energy.io_pj == pytest.approx(4 * 256 * 0.8)
    assert s.energy.total_pj == pytest.approx(1818 + 4 * 256 * (1.51 + 1.17 + 0.8))


def test_energy_follows_the_toggle_rate():
    still, half = Hbm2Energy.default(toggle=0.0).of(1, 32, 32), Hbm2Energy.default().of(1, 32, 32)
    assert still.total_pj == still.activate_pj == half.activate_pj
    assert Hbm2Energy.default(toggle=1.0).of(0, 32, 32).io_pj == pytest.approx(2 * half.io_pj)
    with pytest.raises(ValueError, match=r"toggle = 1\.5 .* 1\.0 works"):
        Hbm2Energy.default(toggle=1.5)


def test_late_requests_are_counted():
    memory = Hbm2Memory(1)
    memory.run([0], [1000])
    late = memory.run([64], [10])
    assert memory.statistics().late_requests == 1
    assert late.accepted_cycles[0] > 1000


@pytest.mark.skipif(not TECHNOLOGY.exists(), reason="the specification is not beside the checkout")
def test_numbers_are_those_of_the_specification():
    facts = json.loads(TECHNOLOGY.read_text(encoding="utf-8"))
    given_timing = facts["hbm2_timing"]["value"]
    names = {
        "CL": "read_latency_cycles",
        "CWL": "write_latency_cycles",
        "tRCDRD": "activate_to_read_cycles",
        "tRCDWR": "activate_to_write_cycles",
        "tRP": "precharge_cycles",
        "tRAS": "row_active_cycles",
        "tRFC": "refresh_cycles",
        "tREFI": "refresh_interval_cycles",
        "tRRD_S": "activate_to_activate_short_cycles",
        "tRRD_L": "activate_to_activate_long_cycles",
        "tWTR_S": "write_to_read_short_cycles",
        "tWTR_L": "write_to_read_long_cycles",
        "tFAW": "four_activate_window_cycles",
        "tWR": "write_recovery_cycles",
        "tCCD_S": "column_to_column_short_cycles",
        "tCCD_L": "column_to_column_long_cycles",
        "tRTP_S": "read_to_precharge_short_cycles",
        "tRTP_L": "read_to_precharge_long_cycles",
        "bankgroups": "bank_groups",
        "banks_per_group": "banks_per_group",
        "rows": "rows",
        "row_bytes_per_pseudo_channel": "row_bytes",
        "burst_bytes": "burst_bytes",
        "pseudo_channels_per_channel": "pseudo_channels",
    }
    assert set(given_timing) == {*names, "tCK_ns"}
    assert {name: getattr(TIMING, ours) for name, ours in names.items()} == {n: given_timing[n] for n in names}
    assert TIMING.clock_period_ps == 1000 * given_timing["tCK_ns"]
    energy = Hbm2Energy.default()
    assert energy.activate_pj == facts["hbm2.act_pJ_per_1KB_row"]["value"]
    assert energy.pre_gsa_pj_per_bit == facts["hbm2.pre_gsa"]["value"]
    assert energy.post_gsa_pj_per_bit == facts["hbm2.post_gsa"]["value"]
    assert energy.io_pj_per_bit == facts["hbm2.io"]["value"]


def test_every_number_has_a_source():
    for name, table in provenance().items():
        assert table["source"], name
        assert table["confidence"], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bank_groups": 3}, "bank_groups = 3 is not a power of two; 2 works"),
        ({"precharge_cycles": 0}, "precharge_cycles = 0 is too small; the least that works is 1"),
        ({"row_bytes": 16}, "row_bytes = 16 holds no burst; 32 works"),
        ({"write_low_watermark": 30}, "low < high <= queue_depth = 32 works"),
        ({"refresh_interval_cycles": 300}, "leaves no time between refreshes; 323 is the least"),
        ({"write_latency_cycles": 18}, "lets a write overtake the read before it; 14 works"),
    ],
)
def test_impossible_timing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TIMING, **changes)
    with pytest.raises(ValueError, match="queue_depth = 65536 is too large; 65535 works"):
        Hbm2Memory(1, replace(TIMING, queue_depth=1 << 16))
    with pytest.raises(TypeError, match=r"rows is an integer, got 1\.5"):
        replace(TIMING, rows=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["default", "hashed", "split"])
def test_ports_and_groups_put_bursts_where_the_map_says(kind):
    """A map of whole fields, one that hashes banks, and one with a field in two pieces, which is found by a loop."""
    segments = AddressMap.default(2, TIMING).segments
    if kind == "split":
        segments = (*segments[:-1], ("row", 3), ("column", 2), ("row", 12))
        segments = tuple((name, bits - 2) if name == "column" and bits > 2 else (name, bits) for name, bits in segments)
    address_map = AddressMap(segments, hash_bank=kind == "hashed")
    burst = np.random.default_rng(1).permutation(address_map.capacity_bytes // 32 // 997)[:200] * 997
    where = address_map.decode(burst * 32)
    bank = where.bank_group * TIMING.banks_per_group + where.bank
    wanted = sorted(
        zip(*(a.tolist() for a in (where.channel, where.pseudo_channel, bank, where.row, where.column)), strict=True)
    )
    for through_ports in (False, True):
        memory = Hbm2Memory(2, TIMING, address_map, trace_capacity=4000)
        (Stepped(memory) if through_ports else memory).run(burst * 32)
        reads = [c for c in memory.trace() if c.name == "READ"]
        assert sorted((c.channel, c.pseudo_channel, c.bank, c.row, c.column) for c in reads) == wanted
        assert memory._state.channel["is_split"].all() == (kind == "split")


def test_misuse_is_refused_with_the_way_out():
    memory = Hbm2Memory(2, trace_capacity=1)
    with pytest.raises(ValueError, match="port 0 was offered address 0x20, which channel 1 serves"):
        memory.step([True, False], [32, 0], [0, 0])
    with pytest.raises(ValueError, match="tag -1; 0 is the least that works"):
        memory.step([True, False], [0, 0], [-1, 0])
    with pytest.raises(ValueError, match="2 channels wide"):
        memory.step([True], [0], [0])
    assert memory.step([True, False], [0, 0], [5, 0]).accepted.tolist() == [True, False]
    assert memory.waiting() == ["channel 0 owes 1 answers"]
    with pytest.raises(RuntimeError, match="the ports owe answers"):
        memory.submit([0])
    idle = memory.steps(np.zeros((40, 2), bool), np.zeros((40, 2)), np.zeros((40, 2)))
    assert idle.read_tag[:, 0].tolist().index(5) == 30, "accepted in 0, read in 15, done in 31"
    assert memory.waiting() == []
    with pytest.raises(RuntimeError, match="2 commands did not fit trace_capacity = 1; 2 works"):
        memory.trace()
    ticket = memory.submit([0, 32])
    with pytest.raises(RuntimeError, match=r"unfinished; finish\(\) it"):
        memory.step([False, False], [0, 0], [0, 0])
    memory.finish(ticket)
    with pytest.raises(KeyError, match=f"no group has ticket {ticket}; unfinished: none"):
        memory.finish(ticket)


@pytest.mark.full
def test_install_without_a_place_for_the_cache(tmp_path):
    """Compiles anew in every process, and works, where neither the package nor the user's cache can be written."""
    for package in ("models", "hls"):
        source = Path(engine.__file__).parents[2] / package
        shutil.copytree(source, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models" / "memory" / "__pycache__").touch()
    code = (
        "import numpy; from models.memory import engine; from models.memory.hbm2 import Hbm2Memory; "
        "print(type(engine.commands._cache).__name__, Hbm2Memory().run(numpy.arange(64) * 32).last_cycle)"
    )
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=nowhere,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["NullCache", str(Hbm2Memory().run(np.arange(64) * 32).last_cycle)]


def test_empty_group_is_done():
    assert Hbm2Memory(2).run([]).last_cycle == NONE
