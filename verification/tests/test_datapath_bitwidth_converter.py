"""Bitwidth converter: equal to the reference for every format, plane and alignment, a word a cycle, under stalls."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.datapaths import bitwidth_converter
from hls.datapaths.bitwidth_converter import BitwidthConverterTypes, Plane
from hls.schedule import ScheduleError
from hls.simulate import from_words, open_simulator
from hls.types import HlsError
from verification.evidence.bitwidth_converter_model import (
    Row,
    expected,
    extreme_rows,
    observed,
    packed_bits,
    ports,
    random_row,
    words_of,
)
from verification.streaming import Drained, drain
from verification.tests.datapath_machines import EVERY_MACHINE, machine, patterns, seeds


@pytest.fixture(scope="module")
def tiny():
    with open_simulator(bitwidth_converter.build(machine("tiny")), "fast") as simulator:
        yield simulator


def assert_full_rate(rows: list[Row], result: Drained, latency_cycles: int, word_bits: int) -> None:
    """A word went in every cycle, and each row came out `latency_cycles` after its last."""
    ends = np.cumsum([len(row.words(word_bits)) for row in rows]) - 1
    assert (np.diff(result.sent_at) == 1).all()
    assert (np.array(result.received_at) == np.array(result.sent_at)[ends] + latency_cycles).all()


@settings(max_examples=30)
@given(seeds, st.integers(1, 12), patterns, patterns)
def test_tiny_equals_the_reference_under_stalls(tiny, seed, count, offer, accept):
    config, rng = machine("tiny"), np.random.default_rng(seed)
    rows = [random_row(config, rng) for _ in range(count)]
    result = drain(tiny, ports(config, rows), count, offer, accept)
    np.testing.assert_array_equal(observed(config, result.outputs["operand"]), expected(config, rows))


@pytest.mark.parametrize(("preset", "bits"), [m for m in EVERY_MACHINE if m[0] != "spatten-1-8"])
def test_every_format_and_alignment_at_every_size(preset, bits):
    """Also the rate: a word in every cycle. A lane of spatten-1-8 is a lane of spatten."""
    config = machine(preset, bits)
    rows = extreme_rows(config)
    rng = np.random.default_rng(bits)
    chosen = [rows[i] for i in np.sort(rng.permutation(len(rows))[: 120 if preset == "spatten" else 200])]
    chosen += [random_row(config, rng) for _ in range(30)]
    latency_cycles = bitwidth_converter.plan(config).latency_cycles
    with open_simulator(bitwidth_converter.build(config), "fast") as simulator:
        result = drain(simulator, ports(config, chosen), len(chosen))
    np.testing.assert_array_equal(observed(config, result.outputs["operand"]), expected(config, chosen))
    assert_full_rate(chosen, result, latency_cycles, BitwidthConverterTypes.of(config).word.width)


@pytest.mark.full
@pytest.mark.parametrize(("preset", "bits"), EVERY_MACHINE)
def test_everything_at_every_size(preset, bits):
    config = machine(preset, bits)
    rows = extreme_rows(config)
    rng = np.random.default_rng(bits)
    rows += [random_row(config, rng) for _ in range(500)]
    with open_simulator(bitwidth_converter.build(config), "fast") as simulator:
        result = drain(simulator, ports(config, rows), len(rows), rng.random(3000) < 0.7, rng.random(3000) < 0.7)
    np.testing.assert_array_equal(observed(config, result.outputs["operand"]), expected(config, rows))


@pytest.mark.parametrize(("msb_bits", "head_dim"), [(6, 64), (10, 40), (12, 7)])
def test_vectors_of_survivors_out_of_a_dram_image(msb_bits, head_dim):
    """Vectors of all tokens back to back by id; those of the survivors converted, MSBs and then joined with LSBs."""
    config, rng = machine("spatten", 16), np.random.default_rng(msb_bits)
    bits, word_bits, tokens = msb_bits + 4, 128, 40
    q = rng.integers(-(1 << (bits - 1)) + 1, 1 << (bits - 1), (tokens, head_dim))
    survivors = np.flatnonzero(rng.random(tokens) < 0.4)
    with open_simulator(bitwidth_converter.build(config), "fast") as simulator:
        for plane, of_plane, values in ((Plane.MSB, msb_bits, q >> 4), (Plane.LSB, 4, q & 15)):
            image = packed_bits(values.reshape(-1), of_plane)
            image = np.concatenate([image, np.zeros(-len(image) % word_bits, dtype=np.int64)])
            words = words_of(image, word_bits)
            rows = [Row(q[i], msb_bits, plane, i * head_dim * of_plane % word_bits) for i in survivors]
            stream = ports(config, rows)
            at = 0
            for i, row in zip(survivors, rows, strict=True):
                start = int(i) * head_dim * of_plane // word_bits
                for word in range(start, start + len(row.words(word_bits))):
                    stream["word"][at] = np.frombuffer(words[word].to_bytes(16, "little"), dtype="<u4")
                    at += 1
            result = drain(simulator, stream, len(rows))
            np.testing.assert_array_equal(observed(config, result.outputs["operand"]), expected(config, rows))


@pytest.mark.parametrize("msb_bits", [4, 6, 8, 10, 12])
def test_neighbours_at_full_size_share_no_word(msb_bits):
    """Dense rows of 64 elements, aligned as DRAM bases are: as many words as bits, so all of the bandwidth is used."""
    rows = [Row(np.full(64, -1), msb_bits, Plane.WHOLE, i * 64 * msb_bits % 128) for i in range(10)]
    assert sum(len(row.words(128)) for row in rows) * 128 == 10 * 64 * msb_bits


def test_the_array_takes_all_of_the_bandwidth():
    """512 bytes a cycle at full size: 32 lanes, a word of 16 bytes each in every cycle, none waiting for another."""
    config = machine()
    assert config.fetch_queues * config.data_queue_bytes == 512 == config.hbm_bytes_per_s // 10**9
    config = machine("tiny")
    netlist, lanes = bitwidth_converter.build_array(config), config.fetch_queues
    lane = bitwidth_converter.build(config)
    assert netlist.inputs == {name: bits * lanes for name, bits in lane.inputs.items()}
    assert netlist.outputs == {name: bits * lanes for name, bits in lane.outputs.items()}
    rng = np.random.default_rng(4)
    rows = [[random_row(config, rng) for _ in range(20)] for _ in range(lanes)]
    columns = [{name: from_words(words) for name, words in ports(config, r).items()} for r in rows]
    seen: list[list[int]] = [[] for _ in range(lanes)]
    with open_simulator(netlist, "fast") as simulator:
        for cycle in range(200):
            inputs = {"out_ready": (1 << lanes) - 1}
            for i, column in enumerate(columns):
                if cycle < len(column["word"]):
                    for name, values in {**column, "in_valid": [1] * len(column["word"])}.items():
                        inputs[name] = inputs.get(name, 0) | values[cycle] << lane.inputs[name] * i
            out = simulator.step(inputs)
            assert out["in_ready"] == (1 << lanes) - 1
            for i in range(lanes):
                if out["out_valid"] >> i & 1:
                    bits = lane.outputs["operand"]
                    seen[i].append(out["operand"] >> bits * i & ((1 << bits) - 1))
    for i in range(lanes):
        words = np.array([list(s.to_bytes(lane.outputs["operand"] // 8, "little")) for s in seen[i]], dtype=np.uint8)
        np.testing.assert_array_equal(observed(config, words.view("<u4")), expected(config, rows[i]))


def test_words_that_cannot_be_turned_are_refused():
    with pytest.raises(HlsError, match=r"words of 12 bytes: a power of two works; use 8$"):
        bitwidth_converter.build(replace(machine("tiny"), data_queue_bytes=12))


@pytest.mark.parametrize(("period_ps", "error"), [(150, ScheduleError), (500, HlsError)])
def test_an_impossible_clock_is_refused(period_ps, error):
    with pytest.raises(error, match=r"shortest possible period|put needs one cycle of about \d+ ps, not 500"):
        bitwidth_converter.build(replace(machine("tiny"), clock_period_ps=period_ps))
