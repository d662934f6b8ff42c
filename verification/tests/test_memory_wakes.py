"""What the engine keeps to search little (candidates' keys, wakes) equals what its queues and delays say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.memory.engine import BANK_BITS, NEVER, NO_SLOT, NONE, READ, WRITE
from models.memory.hbm2 import Hbm2Memory
from models.memory.timing import Hbm2Timing

TIMING = replace(Hbm2Timing.default(), refresh_interval_cycles=330)


def queued(channel, p, direction, bank):
    """(row, cycle of acceptance) of a bank's requests, oldest first, by the links between the slots."""
    slots, found = channel["slot"][p, direction], []
    i = int(channel["queue"][p, direction, bank]["head"])
    while i != NO_SLOT:
        found.append((int(slots[i]["row"]), int(slots[i]["accepted"])))
        i = int(slots[i]["next"])
    return found


def wanted_keys(channel, p, direction, bank):
    """Keys of the bank's candidates by kind, from its queue and its open row alone."""
    requests = queued(channel, p, direction, bank)
    open_row, hits = (int(channel["bank"][p, bank][name]) for name in ("open_row", "hits"))
    ages = {"hit_key": NEVER, "closed_key": NEVER, "conflict_key": NEVER}
    if requests and open_row == NONE:
        ages["closed_key"] = requests[0][1]
    elif requests:
        wanting = [age for row, age in requests if row == open_row]
        if wanting:
            ages["hit_key"] = wanting[0]
        if requests[0][0] != open_row and (not wanting or hits >= TIMING.row_hit_cap):
            ages["conflict_key"] = requests[0][1]
    return {name: age if age == NEVER else (age << BANK_BITS) + bank for name, age in ages.items()}


def wanted_direction(channel, p):
    """What the pseudo-channel serves next, by the watermarks."""
    reads, writes = (int(channel["port"][p, d]["count"]) for d in (READ, WRITE))
    if channel["pseudo_channel"][p]["direction"] == READ:
        return WRITE if writes >= TIMING.write_high_watermark or (writes and not reads) else READ
    return READ if not writes or (writes <= TIMING.write_low_watermark and reads) else WRITE


def first_commands(channel, p, direction):
    """First cycle from now on in which some bank may get each kind of command, the pseudo-channel's limits aside."""
    ready = {
        "column_wake": ("hit_key", channel["column_ready"][p, direction]),
        "activate_wake": ("closed_key", channel["activate_ready"][p]),
        "precharge_wake": ("conflict_key", channel["precharge_ready"][p]),
    }
    first = {}
    for wake, (key, times) in ready.items():
        waiting = times[channel[key][p, direction] != NEVER].tolist()
        first[wake] = max(int(channel["now"]), min(waiting)) if waiting else NEVER
    return first


def broken(channel):
    """What in a channel's record is not as its queues say; wakes may be too early, not too late."""
    found, event = [], NEVER
    now, row_bus_free = int(channel["now"]), int(channel["row_bus_free"])
    for p, pc in enumerate(channel["pseudo_channel"]):
        for direction in (READ, WRITE):
            for bank in range(TIMING.banks):
                for name, key in wanted_keys(channel, p, direction, bank).items():
                    if channel[name][p, direction, bank] != key:
                        found.append(f"{name} of {p, direction, bank}")
            first = first_commands(channel, p, direction)
            found += [f"{w} of {p, direction}" for w, at in first.items() if channel["port"][p, direction][w] > at]
        first = first_commands(channel, p, int(pc["direction"]))
        column = max(first["column_wake"], int(channel["port"][p, pc["direction"]]["column_ready"]))
        row = max(min(max(first["activate_wake"], int(pc["activate_ready"])), first["precharge_wake"]), row_bus_free)
        turn = now if wanted_direction(channel, p) != pc["direction"] else NEVER
        refresh = max(int(pc["refresh_due"]), row_bus_free, now)
        if now < pc["refresh_due"]:
            event = min(event, column, row, turn, refresh)
    if channel["wake"] > event:
        found.append("wake")
    return found


def driven(seed, cycles):
    """The channel's record after each of so many cycles of random offers to its port."""
    random = np.random.default_rng(seed)
    memory = Hbm2Memory(1, TIMING)
    rows, runs, pace, writes = random.integers(1, 5), random.integers(1, 9), random.random(), random.random()
    burst = np.repeat(random.integers(0, 1 << 10, cycles), runs)[:cycles] + (random.integers(0, rows, cycles) << 15)
    for i in range(cycles):
        memory.step([random.random() < pace], [burst[i] * 32], [i], [random.random() < writes])
        yield memory._state.channel[0]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1 << 32))
def test_keys_and_wakes_are_those_of_the_queues(seed):
    for cycle, channel in enumerate(driven(seed, 340)):
        if cycle % 6 == 0:
            assert broken(channel) == [], cycle


@pytest.mark.parametrize(
    ("field", "name"),
    [
        *((None, name) for name in ("wake", "hit_key", "closed_key", "conflict_key")),
        *(("port", name) for name in ("column_wake", "activate_wake", "precharge_wake")),
    ],
)
def test_a_key_or_a_wake_that_is_too_late_is_seen(field, name):
    """Each is put off by a cycle wherever it stands, until the check sees it."""
    seen: list[str] = []
    for seed in range(20):
        for channel in driven(seed, 200):
            planted = np.array(channel)
            late = (planted if field is None else planted[field])[name]
            late += (late != NEVER) * (1 if name.endswith("wake") else 1 << BANK_BITS)
            seen = [found for found in broken(planted) if found.startswith(name)]
            if seen:
                return
    pytest.fail(f"{name} was put off and nothing said so")
