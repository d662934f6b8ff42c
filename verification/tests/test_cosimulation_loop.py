"""Co-simulation with memories: what is in DRAM at the end, the same cycles in every simulator, the rules of ports."""

import shutil

import numpy as np
import pytest

from hls.session import SessionPorts, Tap, open_session
from hls.simulate import SimulatorError, from_words, open_simulator
from hls.types import HlsError
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.cosimulation_loop import CosimulationError, cosimulate
from verification.tests.composed import two_counters
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
    """A burst: the latency twice, a cycle to take each request, and one in which the lane is idle."""
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


# ---- what is refused ----


BACKENDS = ["fast", pytest.param("verilator", marks=needs_verilator)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("withdraws", "channel [01], address 0x[0-9a-f]+: the request changed or went away before it was taken"),
        ("depends", "copier, cycle [0-9]+: the memory request depends on ready or on an answer"),
        ("elsewhere", "channel 0, address 0x20: another channel serves this address"),
    ],
)
def test_a_netlist_that_breaks_the_rules_of_its_ports_is_caught(backend, memory, fault, message):
    memories = {"hbm2": lambda: Hbm2Memory(CHANNELS), "ideal": lambda: IdealMemory(CHANNELS, 7)}
    made = memories[memory]() if fault != "withdraws" else AdversarialMemory(CHANNELS, seed=1, accept=0.2)
    with pytest.raises(CosimulationError, match=message):
        run(backend, made, fault)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stuck_netlist_says_what_it_waits_for(backend):
    with pytest.raises(CosimulationError, match=r"'finished' was not set in 500 cycles\n  status = 0"):
        run(backend, Hbm2Memory(CHANNELS), "forgets", limit_cycles=500)
    with pytest.raises(
        CosimulationError, match=r"channel 0 owes 1 answers, the oldest since cycle \d+\n.*\n  status = 0"
    ):
        run(backend, AdversarialMemory(CHANNELS, silent_after=6), limit_cycles=500)


@pytest.mark.parametrize("backend", BACKENDS)
def test_requests_outside_the_image_are_refused(backend):
    with pytest.raises(CosimulationError, match=r"address 0x880: the DRAM image ends before 0x880"):
        run(backend, Hbm2Memory(CHANNELS), dram=image(68))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": {"coun": 3}}, "no input 'coun' to hold; it has .*'count', 'go'"),
        ({"inputs": {"memory_ready": 3}}, "no input 'memory_ready' to hold"),
        ({"inputs": {"count": 256}}, "256 does not fit in input 'count' of 8 bits"),
        ({"dram": np.zeros(40, np.uint8)}, r"is uint8 \(40,\): contiguous bytes, a multiple of 32"),
        ({"dram": np.zeros(32, np.int8)}, "is int8"),
    ],
)
def test_wrong_runs_are_refused(settings, message):
    with pytest.raises(CosimulationError, match=message):
        run("fast", IdealMemory(CHANNELS), **settings)


def test_ports_that_do_not_fit_are_refused():
    with pytest.raises(HlsError, match=r"'memory_valid' of 4 channels needs 4 bits, but has 2"):
        run("fast", IdealMemory(4))
    with open_simulator(two_counters(), "fast") as simulator:
        with pytest.raises(HlsError, match=r"two: memory port 'memory_valid' of 2 channels needs 2 bits, but is none"):
            cosimulate(simulator, IdealMemory(2), image())
        for ports, message in (
            (SessionPorts(("sum",)), r"two has no output \['sum'\]; it has \['digits', 'sums'\]"),
            (SessionPorts((), (Tap("a", ("sums",)), Tap("a", ("digits",)))), "two have one name"),
            (SessionPorts((), (Tap("a", ()),)), "no port that makes them fire"),
        ):
            with pytest.raises(SimulatorError, match=message):
                open_session(simulator, ports)


# ---- the run ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_offer_is_taken_once(backend):
    """`go` is 1 in the first cycle alone; the ready output of the netlist falls after it."""
    dram, result = run(backend, IdealMemory(CHANNELS), inputs={"count": 2}, offer=("go", "go_ready"))
    assert np.array_equal(dram, copied(image(), 2))
    assert result.outputs["go_ready"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_go_on_where_the_last_one_ended(backend):
    dram, memory = image(), IdealMemory(CHANNELS)
    with open_simulator(copier(), backend) as simulator:
        parts = [
            cosimulate(simulator, memory, dram, {"count": COUNT, "go": 1}, limit_cycles=limit, until=until)
            for limit, until in ((0, None), (1000, "finished"))
        ]
    assert parts[0].cycles == 0
    assert np.array_equal(dram, copied(image(), COUNT))
    _, whole = run(backend, IdealMemory(CHANNELS))
    assert parts[1].cycles == whole.cycles


def test_a_memory_that_owes_answers_is_refused():
    memory = IdealMemory(CHANNELS, 50)
    run("fast", memory, limit_cycles=20, until=None)
    with pytest.raises(CosimulationError, match=r"owes answers to an earlier run: channel 0 owes 1 answers"):
        run("fast", memory)


def test_a_read_sees_a_write_from_its_acknowledgement_on():
    """One channel writes where it reads later: the copy of the copy."""
    dram = image()
    _, result = run("fast", AdversarialMemory(CHANNELS, seed=9), count=OFFSET + 3, dram=dram)
    assert result.cycles < 3000
    expected = copied(image(), OFFSET)
    assert np.array_equal(dram, _again(expected))


def _again(before):
    """The numbers from `OFFSET` on read what the first ones wrote."""
    after = before.copy()
    for number in range(OFFSET, OFFSET + 3):
        for channel in range(CHANNELS):
            at, to = (32 * (CHANNELS * (number + offset) + channel) for offset in (0, OFFSET))
            value = (int.from_bytes(before[at : at + 32].tobytes(), "little") + number) % 2**256
            after[to : to + 32] = np.frombuffer(value.to_bytes(32, "little"), np.uint8)
    return after
