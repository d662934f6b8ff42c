"""Landing: lanes that know their vectors, ports that take many rows a cycle, query ring, mask of first passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import landing_lane, landing_write, operand_mask, query_buffer
from hls.datapaths.machine_sizes import QUERY_LINES, Destination, MachineSizes
from hls.simulate import from_words, open_simulator
from verification.equivalence.verdict import Kind
from verification.evidence import landing_lane as lane_evidence
from verification.evidence import landing_write as write_evidence
from verification.evidence.landing_model import Landing, random_queues, rows_of, run_landings, run_lane
from verification.evidence.words import joined
from verification.ports import to_port
from verification.results import Settings
from verification.tests.datapath_machines import EVERY_MACHINE, machine, seeds

TINY = machine("tiny")
SIZES = MachineSizes.of(TINY)


def opened(module, config=TINY):
    return open_simulator(module.build(config), "fast")


@pytest.fixture(scope="module")
def lane():
    with opened(landing_lane) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def writes():
    with opened(landing_write) as simulator:
        yield simulator


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_lane_knows_its_vectors(lane, seed):
    lane.reset()
    run_lane(TINY, lane, 150, seed)


@pytest.mark.parametrize("preset", ["spatten", "spatten-1-8"])
def test_lanes_of_published_machines(preset):
    config = machine(preset)
    vectors = 0
    with opened(landing_lane, config) as simulator:
        for seed in range(6):
            simulator.reset()
            vectors += run_lane(config, simulator, 150, seed)
    assert vectors > 50


def test_a_lane_passes_a_word_a_cycle_from_list_to_list(lane):
    """Lists of keys: four, nine and one vectors; lane 0 of 4 has one, three and one of them, a word each."""
    lane.reset()
    bits = landing_lane.list_entry(SIZES).bits
    table = joined((4, 9, 1), bits)
    ports = {"list_table": table, "list_next": 3, "word_valid": 1, "word_first": 1, "word_last": 1, "convert_ready": 1}
    assert [lane.step(ports)["word_ready"] for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]


def test_a_list_without_vectors_for_a_lane_costs_a_cycle(lane):
    lane.reset()
    bits = landing_lane.list_entry(SIZES).bits
    table = joined((4, 3, 4), bits)
    ports = {"lane": 3, "list_table": table, "list_next": 3, "word_valid": 1, "word_last": 1, "convert_ready": 1}
    assert [lane.step(ports)["word_ready"] for _ in range(5)] == [1, 0, 1, 0, 0]


def test_eight_lists_may_be_shown(lane):
    """A list is added in every cycle in which the lane, which waits for a word of the first, is not behind."""
    lane.reset()
    bits, shown = landing_lane.list_entry(SIZES).bits, 1
    table = joined([4] * landing_lane.LISTS, bits)
    for _ in range(20):
        shown += not lane.step({"list_table": table, "list_next": shown})["lane_behind"]
    assert shown == landing_lane.LISTS


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.2, 0.7, 1.0]))
def test_every_row_lands_once(writes, seed, supply):
    writes.reset()
    rng = np.random.default_rng(seed)
    dimension = int(rng.integers(0, len(SIZES.parts)))
    landing = Landing(TINY, writes, dimension)
    queues, slots = random_queues(SIZES, rng, 12, 20, dimension)
    landing.write_slots(slots)
    landing.run(queues, rng, supply)


@pytest.mark.parametrize("preset", ["spatten", "spatten-1-8"])
def test_rows_of_published_machines(preset):
    config, rng = machine(preset), np.random.default_rng(4)
    sizes = MachineSizes.of(config)
    with opened(landing_write, config) as simulator:
        for _ in range(3):
            simulator.reset()
            landing = Landing(config, simulator, 0)
            queues, slots = random_queues(sizes, rng, 6, 200, 0)
            landing.write_slots(slots)
            landing.run(queues, rng)


def test_sixteen_rows_land_a_cycle():
    """The published machine, 4-bit elements: 32 lanes with a row every second cycle each."""
    config = machine("spatten")
    with opened(landing_write, config) as simulator:
        run = Landing(config, simulator, 0).run(
            rows_of(Destination.KEY, MachineSizes.of(config), 640), np.random.default_rng(0)
        )
    assert run.most == 16
    assert run.cycles == 40


def test_a_row_a_cycle_through_the_slow_port():
    config = machine("spatten")
    with opened(landing_write, config) as simulator:
        run = Landing(config, simulator, 0).run(
            rows_of(Destination.QUERY, MachineSizes.of(config), 64), np.random.default_rng(0)
        )
    assert run.cycles <= 64


def test_queries_come_in_turn(writes):
    assert run_landings(TINY, writes, range(1)) > QUERY_LINES


@pytest.mark.parametrize("evidence", [lane_evidence, write_evidence])
def test_faults_are_noticed(evidence):
    verdict = evidence.CHECKS[1].run(Settings(samples=40))
    assert verdict.kind is Kind.TESTED, str(verdict)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_query_ring(seed):
    rng = np.random.default_rng(seed)
    lines: dict[int, int] = {}
    there, read = 0, None
    with opened(query_buffer) as simulator:
        for _ in range(80):
            line, asked = (int(n) for n in rng.integers(0, QUERY_LINES, 2) & int(rng.choice([3, 63])))
            data = int.from_bytes(rng.bytes(SIZES.line_bits // 8), "little")
            clear = int.from_bytes(rng.bytes(QUERY_LINES // 8), "little") if rng.random() < 0.3 else 0
            write = int(rng.random() < 0.5)
            ports = {"query_write": write, "query_write_line": line, "query_write_data": data, "query_clear": clear}
            seen = simulator.step(ports | {"query_read_line": asked})
            assert seen["query_valid"] == there
            assert read is None or seen["query_line"] == read
            read = lines.get(asked)
            there = (there & ~clear) | (write << line)
            if write:
                lines[line] = data


@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_mask(preset, bits):
    config, rng = machine(preset, bits), np.random.default_rng(bits)
    values = rng.integers(0, 1 << bits, (1, config.qk_multipliers))

    def port(words: np.ndarray) -> int:
        return from_words(to_port(words, bits))[0]

    with opened(operand_mask, config) as simulator:

        def masked(msb_bits: int, **ports: int) -> int:
            seen: int = simulator.step({"data": port(values), "format": (msb_bits - 4) // 2, **ports})["masked"]
            return seen

        for msb_bits in range(4, bits - 3, 2):
            low = bits - msb_bits - 4
            msbs = values >> (low + 4) << 4
            assert masked(msb_bits, progressive=1) == port((msbs | 8) << low)
            assert masked(msb_bits, progressive=1, full=1) == port((msbs | (values & 15)) << low)
        for msb_bits in range(4, bits + 1, 2):
            assert masked(msb_bits, full=1) == port(values)
