"""Ideal and adversarial memories behind the interface; what every memory promises."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import NONE, Memory
from models.memory.variants import AdversarialMemory, IdealMemory

MEMORIES: dict[str, Callable[[], Memory]] = {
    "hbm2": lambda: Hbm2Memory(4),
    "ideal": lambda: IdealMemory(4, latency_cycles=7),
    "random": lambda: AdversarialMemory(4, seed=3),
    "reverse": lambda: AdversarialMemory(4, seed=3, order="reverse", answer=0.1),
    "oldest": lambda: AdversarialMemory(4, seed=3, order="oldest", accept=0.2),
}


@pytest.mark.parametrize("name", MEMORIES)
@settings(max_examples=10, deadline=None)
@given(bursts=st.lists(st.tuples(st.integers(0, 500), st.booleans()), min_size=1, max_size=60))
def test_ports_answer_every_request_once(name, bursts):
    """Driven by hand: each accepted tag comes back once, on its port and lane, after it was accepted."""
    memory = MEMORIES[name]()
    address = np.array([b[0] * 32 for b in bursts])
    waiting = {c: [i for i in range(len(bursts)) if memory.channel_of(address[i]) == c] for c in range(4)}
    accepted: dict[int, int] = {}
    answered: dict[int, int] = {}
    while len(answered) < len(bursts):
        now = memory.now_cycle
        assert now < 20_000, memory.waiting()
        offer = [waiting[c][0] if waiting[c] else None for c in range(4)]
        reply = memory.step(
            [i is not None for i in offer],
            [0 if i is None else address[i] for i in offer],
            [0 if i is None else i for i in offer],
            [i is not None and bursts[i][1] for i in offer],
        )
        for c in range(4):
            for lane, tag in ((False, reply.read_tag[c]), (True, reply.write_tag[c])):
                if tag != NONE:
                    assert accepted[tag] < now
                    assert memory.channel_of(address[tag]) == c
                    assert bursts[tag][1] == lane
                    assert tag not in answered
                    answered[tag] = now
            if reply.accepted[c]:
                accepted[waiting[c].pop(0)] = now
    assert memory.waiting() == []


@pytest.mark.parametrize("name", MEMORIES)
def test_groups_are_served_in_any_memory(name):
    memory = MEMORIES[name]()
    first = memory.submit(np.arange(40) * 32, np.arange(40))
    second = memory.submit(np.arange(40) * 64, 20, np.arange(40) % 2 == 0)
    memory.advance(10)
    early = memory.completions(first)
    assert (early.accepted_cycles < 10).all()
    assert (early.accepted_cycles == NONE).any()
    done = memory.finish(second)
    assert (done.accepted_cycles >= 20).all()
    assert (done.done_cycles > done.accepted_cycles).all()
    assert memory.finish(first).last_cycle > 16
    with pytest.raises(KeyError, match="no group has ticket"):
        memory.completions(first)


def test_ideal_memory_takes_a_request_a_cycle():
    memory = IdealMemory(2, latency_cycles=5)
    done = memory.run(np.arange(20) * 32, 3)
    assert done.accepted_cycles.tolist() == [3 + i // 2 for i in range(20)]
    assert (done.done_cycles - done.accepted_cycles == 5).all()


def test_several_cycles_equal_single_steps():
    valid = np.ones((30, 1), bool)
    tags = np.arange(30)[:, None]
    several = AdversarialMemory(1, seed=1).steps(valid, np.zeros((30, 1)), tags)
    memory = AdversarialMemory(1, seed=1)
    single = [memory.step([True], [0], [i]) for i in range(30)]
    assert several.accepted[:, 0].tolist() == [bool(c.accepted[0]) for c in single]
    assert several.read_tag[:, 0].tolist() == [int(c.read_tag[0]) for c in single]


def test_adversary_reorders_and_bounds_the_latency():
    memory = AdversarialMemory(1, seed=2, accept=1.0, answer=0.3, max_latency_cycles=50)
    done = memory.run(np.arange(100) * 32)
    latency = done.done_cycles - done.accepted_cycles
    assert (np.diff(done.done_cycles) < 0).any()
    assert latency.min() >= 1
    assert latency.max() > 10
    assert len(set(done.done_cycles.tolist())) == 100, "one answer a cycle"


def test_reverse_order_answers_the_youngest_first():
    memory = AdversarialMemory(1, accept=1.0, answer=1.0, min_latency_cycles=10, order="reverse")
    done = memory.run([0, 32, 64, 96], [0, 0, 0, 0]).done_cycles
    assert done[0] == 10, "the only one ripe"
    memory = AdversarialMemory(1, seed=1, accept=1.0, answer=0.2, order="reverse")
    done = memory.run(np.arange(30) * 32).done_cycles
    assert (np.diff(done) < 0).any()


def test_same_seed_same_run():
    runs = [AdversarialMemory(4, seed=s).run(np.arange(64) * 32).done_cycles.tolist() for s in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_silent_memory_says_who_waits():
    memory = AdversarialMemory(2, accept=1.0, answer=1.0, silent_after=3)
    memory.submit([0, 32, 64, 96])
    memory.advance(500)
    assert memory.waiting() == [
        "channel 0 owes 1 answers, the oldest since cycle 1",
        "channel 1 owes 2 answers, the oldest since cycle 0",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IdealMemory(2, 0), "latency_cycles = 0 answers before the request; 1 is the least"),
        (lambda: AdversarialMemory(2, accept=0.0), "accept = 0.0 is not a chance above 0"),
        (lambda: AdversarialMemory(2, min_latency_cycles=9, max_latency_cycles=8), "latencies 9 to 8 do not fit"),
        (lambda: AdversarialMemory(2, order="worst"), "order = 'worst' is none of"),
        (lambda: IdealMemory(2).step([True], [0], [0]), "2 channels wide"),
        (lambda: IdealMemory(2).step([True, False], [32, 0], [0, 0]), "which channel 1 serves"),
        (lambda: IdealMemory(2).step([True, False], [0, 0], [-1, 0]), "a tag is negative"),
    ],
)
def test_misuse_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
