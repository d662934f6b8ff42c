"""Co-simulation with memories: what is in DRAM at the end, the same cycles in every simulator, the rules of ports."""

import shutil

import numpy as np
import pytest

from hls.session import Tap
from hls.simulate import from_words, open_simulator
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.cosimulation_loop import cosimulate
from verification.tests.memory_units import CHANNELS, OFFSET, copier

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")
MEMORIES = {
    "ideal": lambda: IdealMemory(CHANNELS, 7),
    "hbm2": lambda: Hbm2Memory(CHANNELS),
    "random": lambda: AdversarialMemory(CHANNELS, seed=3, accept=0.4, answer=0.3, max_latency_cycles=40),
    "reverse": lambda: AdversarialMemory(CHANNELS, seed=4, order="reverse", min_latency_cycles=5),
}
COUNT = 9
TAPS = (Tap("landing", ("landed0",), ("number0", "status")), Tap("any", ("memory_valid",)))


def image(bursts=256):
    return np.random.default_rng(0).integers(0, 256, 32 * bursts).astype(np.uint8)


def copied(before, count):
    """What the copier leaves: burst `OFFSET` places on is the burst plus its number, in 256 bits."""
    after = before.copy()
    for channel in range(CHANNELS):
        for number in range(count):
            at, to = (32 * (CHANNELS * (number + offset) + channel) for offset in (0, OFFSET))
            value = (int.from_bytes(before[at : at + 32].tobytes(), "little") + number) % 2**256
            after[to : to + 32] = np.frombuffer(value.to_bytes(32, "little"), np.uint8)
    return after


def run(backend, memory, fault="", count=COUNT, dram=None, **options):
    dram = image() if dram is None else dram
    with open_simulator(copier(fault), backend) as simulator:
        settings = {"inputs": {"count": count, "go": 1}, "until": "finished", "limit_cycles": 3000, **options}
        return dram, cosimulate(simulator, memory, dram, taps=TAPS, **settings)


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_copy_is_in_dram_at_the_end(memory):
    dram, result = run("fast", MEMORIES[memory](), trace_requests=True)
    assert np.array_equal(dram, copied(image(), COUNT))
    assert result.outputs["finished"] == 1
    assert [from_words(result.taps["landing"].words["number0"])] == [list(range(COUNT))]
    requests = result.requests
    assert requests is not None
    assert len(requests) == 2 * CHANNELS * COUNT
    assert np.array_equal(requests.addresses // 32 % CHANNELS, requests.channels)
    for channel in range(CHANNELS):
        mine = requests.channels == channel
        assert list(requests.writes[mine]) == [False, True] * COUNT
        places = [n + OFFSET * w for n in range(COUNT) for w in (0, 1)]
        assert list(requests.addresses[mine] // 32) == [CHANNELS * place + channel for place in places]
        assert (np.diff(requests.cycles[mine]) > 0).all()


def test_an_ideal_memory_takes_the_cycles_that_it_should():
    """Read and write take the latency each; idle, the two requests' cycles are in it, and one more after each answer."""
    _, result = run("fast", IdealMemory(CHANNELS, 7))
    assert list(np.diff(result.taps["landing"].cycles)) == [17] * (COUNT - 1)
    _, slower = run("fast", IdealMemory(CHANNELS, 8))
    assert list(np.diff(slower.taps["landing"].cycles)) == [19] * (COUNT - 1)


@needs_verilator
@pytest.mark.parametrize("memory", MEMORIES)
def test_every_simulator_sees_the_same_cycles(memory):
    (dram, fast), (other, compiled) = (run(b, MEMORIES[memory](), trace_requests=True) for b in ("fast", "verilator"))
    assert np.array_equal(dram, other)
    assert (fast.cycles, fast.outputs) == (compiled.cycles, compiled.outputs)
    assert fast.requests is not None
    assert compiled.requests is not None
    for name in ("cycles", "channels", "addresses", "writes"):
        assert np.array_equal(getattr(fast.requests, name), getattr(compiled.requests, name))
    for name, tapped in fast.taps.items():
        assert len(tapped)
        assert np.array_equal(tapped.cycles, compiled.taps[name].cycles)
        for port, words in tapped.words.items():
            assert np.array_equal(words, compiled.taps[name].words[port])
