"""The compiled engine schedules as the naive one does, cycle by cycle."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.memory.address_map import AddressMap
from models.memory.hbm2 import Hbm2Memory
from models.memory.timing import Hbm2Timing
from verification.hbm2_naive import NaiveChannel, Request

TIMING = Hbm2Timing.default()
MAP = AddressMap.default(1, TIMING)


def both(stream, timing, engine_changes=None):
    """(accepted, done) cycles of the engine and of the naive scheduler."""
    addresses, cycles, writes = stream
    memory = Hbm2Memory(1, timing)
    for name, change in (engine_changes or {}).items():
        memory._state.channel["delays"][name] += change
    fast = memory.run(addresses, cycles, writes)
    where = MAP.decode(addresses)
    bank = where.bank_group * TIMING.banks_per_group + where.bank
    columns = (cycles, where.pseudo_channel, bank, where.row, where.column, writes, np.arange(len(cycles)))
    requests = [Request._make(row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    slow = NaiveChannel(timing).run(requests)
    return (
        list(zip(fast.accepted_cycles.tolist(), fast.done_cycles.tolist(), strict=True)),
        [slow[tag] for tag in range(len(requests))],
    )


def random_stream(seed, count):
    """Bursts whose spread over banks and rows, pace and share of writes the seed chooses."""
    random = np.random.default_rng(seed)
    banks, rows, columns = random.integers(1, 17), random.integers(1, 4), random.integers(1, 33)
    bank = random.integers(0, banks, count)
    run = int(random.integers(1, 9))
    burst = (random.integers(0, 2, count), bank % 4, np.arange(count) // run % columns, bank // 4)
    row = np.repeat(random.integers(0, rows, count), run)[:count]
    address = burst[0] + 2 * (burst[1] + 4 * (burst[2] + 32 * (burst[3] + 4 * row)))
    gaps = random.geometric(random.choice([0.1, 0.5, 1.0]), count) - 1
    writes = random.random(count) < random.choice([0.0, 0.1, 0.5, 1.0])
    return address * 32, np.cumsum(gaps), writes


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 160), st.sampled_from([3900, 500]))
def test_engine_equals_the_naive_scheduler(seed, count, refresh_interval):
    timing = replace(TIMING, refresh_interval_cycles=refresh_interval)
    fast, slow = both(random_stream(seed, count), timing)
    assert fast == slow


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.fixed_dictionaries(
        {
            "write_high_watermark": st.integers(4, 32),
            "write_low_watermark": st.integers(0, 3),
            "row_hit_cap": st.integers(1, 9),
            "activate_bus_cycles": st.integers(1, 3),
            "refresh_interval_cycles": st.integers(330, 700),
            "four_activate_window_cycles": st.integers(1, 60),
            "row_active_cycles": st.integers(1, 34),
        }
    ),
)
def test_engine_equals_the_naive_scheduler_of_another_controller(seed, changes):
    fast, slow = both(random_stream(seed, 120), replace(TIMING, **changes))
    assert fast == slow


@pytest.mark.full
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([3900, 500]))
def test_engine_equals_the_naive_scheduler_at_length(seed, refresh_interval):
    timing = replace(TIMING, refresh_interval_cycles=refresh_interval)
    fast, slow = both(random_stream(seed, 400), timing)
    assert fast == slow


@pytest.mark.parametrize("name", ["row_hit_cap", "write_low", "column_long", "queue_depth"])
def test_another_engine_is_told_apart(name):
    streams = (random_stream(seed, 160) for seed in range(20))
    assert any(fast != slow for fast, slow in (both(stream, TIMING, {name: -1}) for stream in streams))
