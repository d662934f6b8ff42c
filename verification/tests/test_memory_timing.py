"""HBM2 timing: every rule at its cycle and one before, in the engine and in the checker; random streams."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.memory.address_map import AddressMap, Location
from models.memory.hbm2 import Command, Hbm2Memory
from models.memory.timing import Hbm2Timing
from verification.hbm2_checker import rules, violations

TIMING = Hbm2Timing.default()
MAP = AddressMap.default(1, TIMING)
TRACE = 20_000


def at(bank, row=0, column=0, pseudo_channel=0):
    """Byte address; `bank` counts over all bank groups: bank 5 is bank 1 of group 1."""
    group, inner = divmod(bank, TIMING.banks_per_group)
    return int(MAP.encode(Location(*map(np.array, (0, pseudo_channel, group, inner, row, column)))))


def commands_of(requests, timing=TIMING):
    """Trace of requests (cycle, address, write) on one channel, and the cycles in which they are done."""
    memory = Hbm2Memory(1, timing, trace_capacity=TRACE)
    cycles, addresses, writes = zip(*requests, strict=True)
    done = memory.run(addresses, cycles, writes).done_cycles
    return memory.trace(), done.tolist()


def cycles_of(trace, name, bank=None):
    return [c.cycle for c in trace if c.name == name and bank in (None, c.bank)]


OPEN_0_AND_4 = [(0, at(0), False), (1, at(4), False)]
OPEN_0_AND_1 = [(0, at(0), False), (1, at(1), False)]

GAPS = {
    "tRCDRD": ([(0, at(0), False)], {}, "ACTIVATE", "READ", 14),
    "tRCDRD longer": ([(0, at(0), False)], {"activate_to_read_cycles": 21}, "ACTIVATE", "READ", 21),
    "tRCDWR": ([(0, at(0), True)], {"activate_to_write_cycles": 9}, "ACTIVATE", "WRITE", 9),
    "tRRD_S": ([(0, at(0), False), (1, at(4), False)], {}, "ACTIVATE", "ACTIVATE", 4),
    "tRRD_L": ([(0, at(0), False), (1, at(1), False)], {}, "ACTIVATE", "ACTIVATE", 6),
    "tRAS": ([(0, at(0, 0), False), (1, at(0, 1), False)], {}, "ACTIVATE", "PRECHARGE", 34),
    "tRP": ([(0, at(0, 0), False), (1, at(0, 1), False)], {}, "PRECHARGE", "ACTIVATE", 14),
    "tRC": ([(0, at(0, 0), False), (1, at(0, 1), False)], {}, "ACTIVATE", "ACTIVATE", 48),
    "tRTP_L": (
        [(0, at(0, 0), False), (1, at(0, 1), False)],
        {"row_active_cycles": 1},
        "READ",
        "PRECHARGE",
        6,
    ),
    "tWR": ([(0, at(0, 0), True), (1, at(0, 1), True)], {}, "WRITE", "PRECHARGE", 22),
    "tCCD_L in a bank": ([(0, at(0), False), (1, at(0, 0, 1), False)], {}, "READ", "READ", 4),
    "tCCD_L writes": ([(0, at(0), True), (1, at(0, 0, 1), True)], {}, "WRITE", "WRITE", 4),
}


@pytest.mark.parametrize("name", GAPS)
def test_second_command_comes_exactly_when_the_rule_allows(name):
    requests, changes, first, second, cycles = GAPS[name]
    trace, _ = commands_of(requests, replace(TIMING, **changes))
    assert cycles_of(trace, second)[-1] - cycles_of(trace, first)[0] == cycles


@pytest.mark.parametrize(
    ("opened", "requests", "first", "second", "cycles"),
    [
        pytest.param(OPEN_0_AND_4, [(at(0, 0, 1), 0), (at(4, 0, 1), 0)], "READ", "READ", 2, id="tCCD_S"),
        pytest.param(OPEN_0_AND_1, [(at(0, 0, 1), 0), (at(1, 0, 1), 0)], "READ", "READ", 4, id="tCCD_L"),
        pytest.param(OPEN_0_AND_4, [(at(0, 0, 1), 1), (at(4, 0, 1), 1)], "WRITE", "WRITE", 2, id="tCCD_S-write"),
        pytest.param(OPEN_0_AND_1, [(at(0, 0, 1), 1), (at(1, 0, 1), 1)], "WRITE", "WRITE", 4, id="tCCD_L-write"),
        pytest.param(OPEN_0_AND_4, [(at(0, 0, 1), 1), (at(4, 0, 1), 0)], "WRITE", "READ", 12, id="tWTR_S"),
        pytest.param(OPEN_0_AND_1, [(at(0, 0, 1), 1), (at(1, 0, 1), 0)], "WRITE", "READ", 14, id="tWTR_L"),
        pytest.param(OPEN_0_AND_4, [(at(0, 0, 1), 0), (at(4, 0, 1), 1)], "READ", "WRITE", 14, id="read-to-write"),
    ],
)
def test_column_commands_in_open_rows(opened, requests, first, second, cycles):
    later = [(200 + i, address, bool(write)) for i, (address, write) in enumerate(requests)]
    trace, done = commands_of(opened + later)
    columns = [c for c in trace if c.name in ("READ", "WRITE") and c.cycle > 200]
    assert [c.name for c in columns] == [first, second]
    assert columns[0].cycle == 201, "one cycle from the port to the command"
    assert columns[1].cycle - columns[0].cycle == cycles
    latency = {"READ": 16, "WRITE": 6}
    assert done[2:] == [c.cycle + latency[c.name] for c in columns]


def test_fifth_activate_waits_for_the_window():
    banks = [0, 4, 8, 12, 1]
    trace, _ = commands_of([(i, at(bank), False) for i, bank in enumerate(banks)])
    assert cycles_of(trace, "ACTIVATE") == [1, 5, 9, 13, 31]
    trace, _ = commands_of(
        [(i, at(bank), False) for i, bank in enumerate(banks)], replace(TIMING, four_activate_window_cycles=40)
    )
    assert cycles_of(trace, "ACTIVATE")[-1] == 41


@pytest.mark.parametrize("held", [1, 2])
def test_activate_holds_the_row_bus_of_both_pseudo_channels(held):
    requests = [(0, at(0), False), (1, at(0, pseudo_channel=1), False)]
    trace, _ = commands_of(requests, replace(TIMING, activate_bus_cycles=held))
    assert cycles_of(trace, "ACTIVATE") == [1, 1 + held]


def test_idle_memory_refreshes_at_every_interval():
    memory = Hbm2Memory(1, trace_capacity=TRACE)
    memory.advance(3900)
    assert memory.trace() == []
    memory.advance(3 * 3900 + 2)
    assert [(c.cycle, c.pseudo_channel) for c in memory.trace()] == [
        (3900 * k + p, p) for k in (1, 2, 3) for p in (0, 1)
    ], "the second pseudo-channel waits a cycle for the row bus"


def test_refresh_closes_rows_first_and_blocks_what_follows():
    trace, done = commands_of([(3000, at(0), False), (3899, at(0, 1), False)])
    sequence = [(c.cycle, c.name) for c in trace if c.pseudo_channel == 0]
    assert sequence == [
        (3001, "ACTIVATE"),
        (3015, "READ"),
        (3900, "PRECHARGE_ALL"),
        (3914, "REFRESH"),
        (3914 + 260, "ACTIVATE"),
        (3914 + 260 + 14, "READ"),
    ]
    assert done == [3015 + 16, 3914 + 260 + 14 + 16]


def test_refresh_waits_for_the_row_to_be_closable():
    trace, _ = commands_of([(3880, at(0), False), (3899, at(0, 1), False)])
    assert cycles_of(trace, "PRECHARGE_ALL") == [3881 + 34]


def test_one_bank_group_uses_the_short_read_to_precharge():
    one_group = replace(TIMING, bank_groups=1, banks_per_group=16, row_active_cycles=1)
    assert one_group.delays().read_to_precharge == 4


# The checker, planted faults: each rule holds at its cycle and is broken one before.


def command(cycle, name, bank=0, row=0, pseudo_channel=0):
    return Command(cycle, 0, pseudo_channel, name, bank, row, -1, -1)


def opened(banks):
    return [command(10 * i, "ACTIVATE", bank) for i, bank in enumerate(banks)]


BOTH_OPEN = [*opened([0]), command(2, "ACTIVATE", pseudo_channel=1)]
SCOPE_BANK = {"bank": 0, "group": 1, "pseudo_channel": 4}


@pytest.mark.parametrize("rule", rules(TIMING), ids=lambda rule: f"{rule.name}-{rule.second}")
def test_checker_takes_the_cycle_and_refuses_the_one_before(rule):
    start = 3900 if rule.first == "REFRESH" else 300
    other = SCOPE_BANK[rule.scope]
    first_bank = -1 if rule.first == "REFRESH" else 0
    second_bank = -1 if rule.second == "REFRESH" else other
    before = []
    if rule.first not in ("ACTIVATE", "REFRESH"):
        before = opened([0])
    if rule.second not in ("ACTIVATE", "REFRESH") and other:
        before += [command(20, "ACTIVATE", other)]

    def trace(gap):
        pair = [command(start, rule.first, first_bank), command(start + gap, rule.second, second_bank)]
        return before + pair

    broken = {v.split(":")[0] for v in violations(trace(rule.cycles - 1), TIMING)}
    held = {v.split(":")[0] for v in violations(trace(rule.cycles), TIMING)}
    assert rule.name in broken
    assert rule.name not in held


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "tFAW",
            [command(c, "ACTIVATE", b) for c, b in ((0, 0), (7, 4), (14, 8), (21, 12), (30, 1))],
            [command(c, "ACTIVATE", b) for c, b in ((0, 0), (7, 4), (14, 8), (21, 12), (29, 1))],
        ),
        (
            "row bus",
            [command(0, "ACTIVATE"), command(2, "ACTIVATE", pseudo_channel=1)],
            [command(0, "ACTIVATE"), command(1, "ACTIVATE", pseudo_channel=1)],
        ),
        (
            "column bus",
            [*BOTH_OPEN, command(50, "READ"), command(51, "READ", pseudo_channel=1)],
            [*BOTH_OPEN, command(50, "READ"), command(50, "READ", pseudo_channel=1)],
        ),
        (
            "data bus",
            [*opened([0, 4]), command(50, "READ"), command(64, "WRITE", 4)],
            [*opened([0, 4]), command(50, "READ"), command(63, "WRITE", 4)],
        ),
        ("row state", [*opened([0]), command(50, "READ")], [*opened([0]), command(50, "READ", row=1)]),
        ("row state", [*opened([0]), command(50, "PRECHARGE")], [command(50, "PRECHARGE")]),
        ("row state", opened([0, 1]), opened([0, 0])),
        ("row state", [command(3900, "REFRESH", -1)], [*opened([0]), command(3900, "REFRESH", -1)]),
        ("tREFI", [command(3900, "REFRESH", -1)], [command(3899, "REFRESH", -1)]),
        ("tREFI", [command(3964, "REFRESH", -1)], [command(3965, "REFRESH", -1)]),
        ("tREFI", [command(3899, "ACTIVATE")], [command(3900, "ACTIVATE")]),
        ("tREFI", [*opened([0]), command(3899, "PRECHARGE")], [*opened([0]), command(3900, "PRECHARGE")]),
    ],
)
def test_checker_sees_the_planted_fault(name, good, bad):
    def named(trace):
        return {v.split(":")[0] for v in violations(trace, TIMING)}

    assert name not in named(good)
    assert name in named(bad)


def test_checker_sees_a_command_moved_in_a_long_trace():
    """Any ACTIVATE, READ or WRITE of a busy bank, issued a cycle early, is seen."""
    random = np.random.default_rng(5)
    requests = [
        (0, at(int(b), int(r), int(c)), False)
        for b, r, c in zip(
            random.integers(0, 4, 120), random.integers(0, 2, 120), random.integers(0, 32, 120), strict=True
        )
    ]
    trace, _ = commands_of(requests)
    assert violations(trace, TIMING) == []
    starts = [i for i, c in enumerate(trace) if c.name == "ACTIVATE" and i > 10]
    assert starts
    for i in starts:
        precharged = max(c.cycle for c in trace[:i] if c.name == "PRECHARGE" and c.bank == trace[i].bank)
        moved = sorted([*trace[:i], trace[i]._replace(cycle=precharged + 13), *trace[i + 1 :]])
        assert violations(moved, TIMING)


# Random streams.

BANKS = st.sampled_from([0, 1, 4, 5, 8, 15])
REQUESTS = st.lists(
    st.tuples(st.integers(0, 12), BANKS, st.integers(0, 2), st.integers(0, 3), st.integers(0, 1), st.booleans()),
    min_size=1,
    max_size=150,
)


def stream(drawn):
    """Requests at growing cycles; the first column says how long after the last."""
    cycle, requests = 0, []
    for wait, bank, row, column, pseudo_channel, write in drawn:
        cycle += {11: 60, 12: 900}.get(wait, wait // 4)
        requests.append((cycle, at(bank, row, column, pseudo_channel), write))
    return requests


def check(requests, timing):
    trace, done = commands_of(requests, timing)
    assert violations(trace, timing) == []
    served = {c.tag: c for c in trace if c.name in ("READ", "WRITE")}
    assert len(served) == len(requests) == len([c for c in trace if c.tag >= 0])
    latest: dict[int, list[tuple[bool, int]]] = {}
    for i, (issued, address, write) in enumerate(requests):
        c, where = served[i], MAP.decode(address)
        assert c.name == ("WRITE" if write else "READ")
        assert c.pseudo_channel == where.pseudo_channel
        assert c.bank == where.bank_group * TIMING.banks_per_group + where.bank
        assert (c.row, c.column) == (where.row, where.column)
        assert c.cycle > issued
        latency = timing.write_latency_cycles if write else timing.read_latency_cycles
        assert done[i] == c.cycle + latency + timing.burst_cycles
        for earlier_write, cycle in latest.get(address, []):
            if write or earlier_write:
                assert cycle < c.cycle, "a request overtook a hazard"
        latest.setdefault(address, []).append((write, c.cycle))


@settings(max_examples=60, deadline=None)
@given(REQUESTS)
def test_random_streams_keep_every_rule(drawn):
    check(stream(drawn), TIMING)


SHORT = st.integers(1, 12)


@settings(max_examples=60, deadline=None)
@given(
    REQUESTS,
    st.fixed_dictionaries(
        {
            "read_latency_cycles": st.integers(8, 20),
            "write_latency_cycles": st.integers(1, 8),
            "activate_to_read_cycles": SHORT,
            "activate_to_write_cycles": SHORT,
            "precharge_cycles": SHORT,
            "row_active_cycles": st.integers(1, 40),
            "refresh_cycles": st.integers(1, 60),
            "refresh_interval_cycles": st.integers(200, 500),
            "activate_to_activate_short_cycles": st.integers(1, 6),
            "activate_to_activate_long_cycles": st.integers(6, 9),
            "write_to_read_short_cycles": st.integers(1, 6),
            "write_to_read_long_cycles": st.integers(6, 12),
            "four_activate_window_cycles": st.integers(1, 50),
            "write_recovery_cycles": st.integers(1, 30),
            "column_to_column_short_cycles": st.integers(1, 4),
            "column_to_column_long_cycles": st.integers(4, 6),
            "read_to_precharge_long_cycles": SHORT,
            "activate_bus_cycles": st.integers(1, 3),
            "read_to_write_gap_cycles": st.integers(0, 3),
            "write_high_watermark": st.integers(6, 32),
            "write_low_watermark": st.integers(0, 5),
            "row_hit_cap": st.integers(1, 8),
        }
    ),
)
def test_random_streams_keep_every_rule_of_random_timing(drawn, changes):
    check(stream(drawn), replace(TIMING, **changes))


# An engine that takes one delay a cycle too short is caught.

SHORTENED = (
    *("activate_to_read", "activate_to_write", "activate_to_precharge", "activate_short", "activate_long"),
    *("four_activates", "column_short", "column_long", "read_to_write", "write_to_read_short"),
    *("write_to_read_long", "read_to_precharge", "write_to_precharge", "precharge", "refresh"),
    "activate_bus",
)
# Rules that others hide at the default numbers get numbers at which they bind.
BINDING = {
    "read_to_precharge": {"row_active_cycles": 1},
}


def busy_requests():
    """Reads with a burst of writes now and then, over few rows of many banks, and two refreshes."""
    random = np.random.default_rng(1)
    requests = []
    for i in range(1500):
        bank, row, column = int(random.integers(16)), int(random.integers(2)), int(random.integers(32))
        requests.append((6 * i, at(bank, row, column, int(random.integers(2))), bool(i % 40 < 8)))
    for i, bank in enumerate((0, 4, 8, 12, 1, 5)):
        requests.append((9400 + i, at(bank), False))
    return requests


@pytest.mark.parametrize("name", [None, *SHORTENED])
def test_engine_with_one_delay_too_short_is_caught(name):
    timing = replace(TIMING, **BINDING.get(name, {}))
    memory = Hbm2Memory(1, timing, trace_capacity=TRACE)
    if name is not None:
        memory._state.channel["delays"][name] -= 1
    cycles, addresses, writes = zip(*busy_requests(), strict=True)
    memory.run(addresses, cycles, writes)
    found = violations(memory.trace(), timing)
    assert bool(found) == (name is not None)
