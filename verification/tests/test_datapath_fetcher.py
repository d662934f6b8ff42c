"""Fetcher: whatever the memory does, every word of every vector, once, in order; every burst asked for once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import bitwidth_converter, fetcher
from hls.datapaths.bitwidth_converter import BitwidthConverterTypes, Plane
from hls.datapaths.fetcher_parts import FetcherTypes
from hls.estimate_block import estimate_block
from hls.simulate import open_simulator, to_words
from hls.types import HlsError
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.equivalence.sequential import check_bounded, prove_by_induction
from verification.equivalence.verdict import Kind
from verification.evidence.fetcher_batch import fetch_batch
from verification.evidence.fetcher_model import (
    FetchList,
    HoardingMemory,
    SilentMemoryError,
    burst_content,
    expected_bursts,
    expected_words,
    fetch,
    fetch_patterns,
    fetch_with,
    first_silence,
    random_lists,
    random_memory,
)
from verification.evidence.fetcher_mutants import INPUTS, SMALL, LopsidedMemory, view
from verification.evidence.planted import MUTANT_LIMITS, faults
from verification.evidence.same_behaviour import Recorder, first_broken_promise, prove_same_behaviour
from verification.ports import from_port
from verification.streaming import drain
from verification.tests.datapath_machines import machine, seeds

TINY = machine("tiny")
PLANTED = (
    ("enable", "lane_1_collect_offer", "never"),
    ("memory write", "lane_0_bank_2", "never"),
    ("reset value", "lane_1_filled", ""),
    ("enable", "row_shared", "never"),
)


@pytest.fixture(scope="module")
def tiny():
    return fetcher.build(TINY)


@pytest.fixture(scope="module")
def simulator(tiny):
    with open_simulator(tiny, "fast") as opened:
        yield opened


@pytest.fixture(scope="module")
def full_size():
    with open_simulator(fetcher.build(machine("spatten"))) as opened:
        yield opened


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.3, 1.0]), st.sampled_from([0.3, 1.0]))
def test_any_list_through_any_memory(simulator, seed, offer, accept):
    simulator.reset()
    lists = random_lists(TINY, np.random.default_rng(seed))
    fetch_with(TINY, simulator, random_memory(TINY, seed), lists, seed, offer, accept)


def test_patterns(tiny):
    assert fetch_patterns(TINY, tiny, 200, seed=1, longest=5) > 500


@pytest.mark.full
def test_a_hundred_thousand_patterns(tiny):
    done = fetch_batch(TINY, tiny, 100_000, seed=2)
    assert done.patterns == 100_000
    assert done.bursts > 300_000


@pytest.mark.full
def test_the_compiled_loop_notices_faults(tiny):
    """A wrong answer of the memory, and faults of the netlist; and it takes what the slow loop takes."""
    assert fetch_batch(TINY, tiny, 300, seed=3).cycles > 3000
    with pytest.raises(AssertionError, match="a wrong word"):
        fetch_batch(TINY, tiny, 300, seed=3, swap_answer=100)
    for fault in faults(tiny.block, *PLANTED):
        with pytest.raises(AssertionError, match=r"pattern \d+ of seed 3"):
            fetch_batch(TINY, replace(tiny, block=fault.build()), 300, seed=3)


@pytest.mark.parametrize("order", ["reverse", "random", "oldest"])
def test_long_lists_in_every_order(tiny, order):
    lists = [FetchList(tuple(range(0, 200, step)), 512 * step, 96, 96) for step in (1, 2, 3)]
    fetch(TINY, tiny, AdversarialMemory(2, 5, accept=0.5, answer=0.3, max_latency_cycles=300, order=order), lists)


def test_neighbours_share_a_burst():
    """Eight vectors of 96 bits in three bursts; every second one, six bursts of twelve vectors; far apart, one each."""
    assert list(expected_bursts([FetchList(tuple(range(8)), 0, 96, 96)])) == [0, 1, 2]
    assert list(expected_bursts([FetchList((0, 2, 4, 6), 512, 96, 96)])) == [16, 17, 18]
    assert list(expected_bursts([FetchList((0, 8, 16), 0, 96, 96)])) == [0, 3, 6]
    assert list(expected_bursts([FetchList((7, 8), 0, 96, 96), FetchList((8,), 0, 96, 96)])) == [2, 3, 3]


@pytest.mark.parametrize(("bits", "dimension"), [(4, 8), (6, 5), (10, 8), (12, 32)])
def test_words_are_what_a_converter_lane_takes(bits, dimension):
    """The words of queue 1 through a converter lane: the elements of vectors 1, 5, 9, ... as DRAM holds them."""
    vectors = FetchList(tuple(range(3, 40)), 512, dimension * bits, dimension * bits)
    words, types = expected_words(TINY, [vectors])[1], FetcherTypes.of(TINY)
    mask = (1 << types.word.width) - 1
    content = [
        burst_content(w.place // types.words) >> (w.place % types.words * types.word.width) & mask for w in words
    ]
    columns = {
        "word": to_words(content, types.word.width),
        "first": to_words([int(w.first) for w in words], 1),
        "last": to_words([int(w.last) for w in words], 1),
        "offset": to_words([w.offset for w in words], types.word.width.bit_length() - 1),
    }
    converter = bitwidth_converter.build(TINY)
    row = {"count": dimension, "format": (bits - 4) // 2, "plane": Plane.WHOLE, "held": 0}
    columns |= {name: to_words([int(value)] * len(words), converter.inputs[name]) for name, value in row.items()}
    mine = vectors.ids[1 :: TINY.fetch_queues]
    with open_simulator(converter, "fast") as opened:
        operands = drain(opened, columns, len(mine)).outputs["operand"]
    seen = from_port(operands, BitwidthConverterTypes.of(TINY).row, 12, signed=False)[:, :dimension]
    for ident, elements in zip(mine, seen, strict=True):
        first, _ = vectors.bits_of(ident)
        packed = sum(burst_content(first // 256 + n) << (256 * n) for n in range(3))
        packed >>= first % 256
        wanted = [(packed >> (i * bits) & ((1 << bits) - 1)) << (12 - bits) for i in range(dimension)]
        assert elements.tolist() == wanted


def test_planes_follow_each_other_without_waiting(tiny):
    """MSB plane, LSB plane, query: lists of other widths behind each other, one memory latency in all."""
    one = [FetchList(tuple(range(8)), 0, 64, 64)]
    three = [*one, FetchList(tuple(range(8)), 4096, 32, 32), FetchList((3,), 8192, 96, 96)]
    alone = fetch(TINY, tiny, IdealMemory(2, 60), one).cycles
    assert fetch(TINY, tiny, IdealMemory(2, 60), three).cycles < alone + 30


@pytest.mark.parametrize("rows_of_a_list", [2, 16])
def test_a_row_a_cycle_within_and_between_lists(simulator, rows_of_a_list):
    """Lists of two rows, which fill all queues alike, are taken as fast as one long list: no bubble between them."""
    simulator.reset()
    taken = 0
    for _ in range(16):
        row = {
            "ids": (16 * taken) | (16 * taken + 8) << 9,
            "count": 2,
            "last": taken % rows_of_a_list == rows_of_a_list - 1,
        }
        seen = simulator.step({**row, "stride": 96, "length": 96, "in_valid": 1, "request_ready": 3})
        taken += seen["in_ready"]
    assert taken == 16


def test_hbm2(tiny):
    rng = np.random.default_rng(3)
    memory = Hbm2Memory(channels=2)
    with open_simulator(tiny, "fast") as opened:
        for _ in range(4):
            fetch_with(TINY, opened, memory, random_lists(TINY, rng, 60))


@pytest.mark.full
def test_full_size_fetches_every_width():
    config = machine("spatten")
    lists = [
        FetchList(tuple(range(0, 70, 1 + n % 3)), 512 * 40 * n, 64 * b, 64 * b) for n, b in enumerate((4, 6, 10, 12))
    ]
    fetch(config, fetcher.build(config), AdversarialMemory(16, 1, answer=0.8, max_latency_cycles=40), lists)


@pytest.mark.full
@pytest.mark.parametrize("bits", [4, 6, 8, 10, 12])
@pytest.mark.parametrize("keep", [1.0, 0.95, 0.9, 0.8, 0.5, 0.2, 0.1])
def test_requests_a_channel_and_cycle(full_size, bits, keep):
    """Lists of survivors of 1024 tokens of 64 elements behind each other; the middle of the run, queues full."""
    least = 0.95 if keep == 1 else 0.75
    config, rng, bursts = machine("spatten"), np.random.default_rng(bits), 0
    lists: list[FetchList] = []
    while bursts < 10_000:
        ids = np.flatnonzero(rng.random(1024) < keep)
        lists.append(FetchList(tuple(map(int, ids)), (1 << 17) * len(lists), 64 * bits, 64 * bits))
        bursts += len(ids) * 64 * bits // 256
    fetched = fetch_with(config, full_size, IdealMemory(16, 30), lists)
    assert fetched.rate(16) >= least


@pytest.mark.parametrize("silent_after", [0, 3, 10])
def test_a_memory_that_never_answers_is_named(silent_after):
    netlist = fetcher.build(TINY, patience_cycles=300)
    memory = AdversarialMemory(2, 1, max_latency_cycles=40, silent_after=silent_after)
    said = r"channels \[.*\] are silent; queue \d waits for place \d, burst 0x\w+, asked of channel \d in cycle \d+; .*"
    with pytest.raises(SilentMemoryError, match=said + r"channel \d owes \d+ answers"):
        fetch(TINY, netlist, memory, [FetchList(tuple(range(40)), 0, 96, 96)])


@pytest.mark.parametrize("channel", [0, 1])
def test_a_memory_that_never_accepts_is_named(channel):
    netlist = fetcher.build(TINY, patience_cycles=200)
    assert first_silence(netlist, 3 * channel, 300) == (200, 1 << channel, 1)
    assert first_silence(netlist, 3 * channel, 200) is None


def test_a_slow_consumer_is_no_silence():
    netlist = fetcher.build(TINY, patience_cycles=60)
    fetch(TINY, netlist, IdealMemory(2, 40), [FetchList(tuple(range(60)), 0, 96, 96)], accept=0.02)


def test_planted_faults_are_noticed(tiny):
    """A bit of a reorder buffer's state, a tag, a place, and the offered burst."""
    for fault in faults(tiny.block, *PLANTED):
        with pytest.raises(AssertionError):
            fetch_patterns(TINY, replace(tiny, block=fault.build()), 30, seed=4)


@pytest.mark.parametrize("preset", ["tiny", "spatten"])
def test_machines_meet_their_clock(preset):
    config = machine(preset)
    estimate = estimate_block(fetcher.build(config).block, technology.load(), config.clock_period_ps)
    assert estimate.stages[0].delay.value <= config.clock_period_ps


def test_words_that_cannot_be_built_are_refused():
    with pytest.raises(HlsError, match="1, 2, 4, 8 or 16 work"):
        fetcher.build(replace(TINY, data_queue_bytes=32))


def test_what_the_proof_of_equal_behaviour_takes_for_granted():
    seen, block = view(), fetcher.build(SMALL).block
    assert prove_by_induction(block, seen.claims, environment=seen.environment).kind is Kind.PROVED
    for fault in faults(block, ("reset value", "channel_0_room", "bit 0"), ("reset value", "data_0_granted_1", "")):
        assert check_bounded(fault.build(), seen.claims, 2, environment=seen.environment).kind is Kind.REFUTED
    (overwrites,) = faults(block, ("enable", "answer_0_0_skid_main$", "always"))
    assert prove_by_induction(overwrites.build(), seen.claims, environment=seen.environment).kind is Kind.UNKNOWN


@pytest.mark.parametrize("silent", range(SMALL.hbm_channels))
def test_a_channel_is_silent_while_the_other_answers(silent):
    netlist, memory = fetcher.build(SMALL, patience_cycles=200), LopsidedMemory(2, silent, 60)
    with pytest.raises(SilentMemoryError, match=rf"channels \[{silent}\] are silent"):
        fetch(SMALL, netlist, memory, [FetchList(tuple(range(90)), 0, 96, 96)])


def test_memories_keep_what_the_proof_takes_for_granted():
    """In a crowded run; a memory that answers twice, or more than it owes, is caught."""
    netlist, seen = fetcher.build(SMALL), view()
    with open_simulator(netlist, "fast") as simulator:
        recorder = Recorder(simulator, INPUTS, 1)
        fetch_with(SMALL, recorder, HoardingMemory(2), [FetchList(tuple(range(0, 300, 8)), 0, 96, 96)])
    run = [inputs for inputs, _ in recorder.rows]
    assert first_broken_promise(netlist.block, seen, run) is None
    last = max(cycle for cycle, inputs in enumerate(run) if inputs["answer_valid"])
    again = {name: run[last][name] for name in ("answer_valid", "answer_tag", "answer_data")}
    assert first_broken_promise(netlist.block, seen, [*run[: last + 1], run[last + 1] | again]) == last + 1
    assert first_broken_promise(netlist.block, seen, [run[0] | {"answer_valid": 1}]) == 0


def test_equal_behaviour_is_not_proved_of_visible_faults():
    seen, block = view(), fetcher.build(SMALL).block
    assert prove_same_behaviour(block, block, seen, MUTANT_LIMITS).kind is Kind.PROVED
    for fault in faults(block, ("memory write", "lane_0_bank_2", "never")):
        assert prove_same_behaviour(block, fault.build(), seen, MUTANT_LIMITS).kind is Kind.UNKNOWN
