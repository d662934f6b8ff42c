"""Fetch side of the transaction model beside others that wake it: nothing that it has to tell may be lost."""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import simpy

from models.config import AcceleratorConfig
from models.memory.variants import IdealMemory
from models.transaction.fetch_run import FetchRun
from models.transaction.fetch_state import KEY, PURPOSES, TO_KEY
from models.transaction.fetching import FetchSide
from models.transaction.kernel import Simulation

TINY = AcceleratorConfig.preset("tiny")
LATEST = 80
"""Cycles in which the list of keys has landed for long."""


def landing(woken: int) -> tuple[int, int]:
    """When a list of keys lands and when that is told, where another module wakes the fetch side in a cycle."""
    simulation = Simulation()
    fetch = FetchSide(simulation, TINY, IdealMemory(TINY.hbm_channels))
    found: list[tuple[int, int]] = []

    def asks() -> Generator[simpy.Event, Any, None]:
        keys = np.arange(12)
        to = {"destination": TO_KEY, "buffer": 0, "place": 0, "purpose": PURPOSES.index("k_msb")}
        yield from fetch.request(KEY, 3, keys, 1, 0, len(keys), 0, 64, **to)
        landed = yield from fetch.landed(0, 0)
        found.append((landed, simulation.now_cycle))

    def wakes() -> Generator[simpy.Event, Any, None]:
        yield simulation.wait(woken)
        fetch.wake()

    simulation.start(asks(), "asks")
    simulation.start(wakes(), "wakes")
    simulation.run()
    return found[0]


def test_a_landing_is_told_in_its_cycle_whenever_the_fetch_side_is_woken() -> None:
    told = [landing(woken) for woken in range(1, LATEST)]
    assert len(set(told)) == 1
    landed, cycle = told[0]
    assert 3 < landed == cycle < LATEST


def test_an_event_that_is_lost_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FetchRun.run

    def forgets(self: FetchRun, until: int) -> int:
        now = run(self, until)
        self.events = 0 if self.rests else self.events
        return now

    monkeypatch.setattr(FetchRun, "run", forgets)
    with pytest.raises(Exception, match="asks"):
        landing(LATEST)
