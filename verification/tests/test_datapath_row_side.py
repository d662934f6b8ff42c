"""Row side: operand loader, row issue and row queues together, under every order of landings, stalls and flat rows."""

import functools
from collections.abc import Iterable
from dataclasses import replace

import pyrtl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import operand_loader, row_issue, row_issue_walk, row_queues
from hls.datapaths.machine_sizes import MachineSizes, key_place, pending_of_place
from hls.estimate_block import estimate_block
from hls.types import HlsError
from models.config import AcceleratorConfig
from verification.evidence.row_side_cases import LayerCase, Timing, composed
from verification.evidence.row_side_model import RowSide
from verification.tests.datapath_machines import machine, seeds

MODULES = (operand_loader, row_issue, row_queues)


def layers(config: AcceleratorConfig, most: int) -> st.SearchStrategy[LayerCase]:
    """Layers of at most `most` beats or so; keys up to what the Key SRAM holds."""

    @st.composite
    def draw_layer(draw):
        generation, dimension = draw(st.booleans()), draw(st.integers(0, len(MachineSizes.of(config).parts) - 1))
        groups = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
        longest = config.max_keys(config.native_head_dim << dimension)
        per_key = sum(groups) * MachineSizes.of(config).parts[dimension] / config.softmax_lanes
        bound = most / per_key if generation else (most / per_key) ** 0.5
        return LayerCase(
            generation=generation,
            causal=draw(st.booleans()),
            progressive=draw(st.booleans()),
            keys=draw(st.integers(1, max(2, min(longest, int(bound))))),
            dimension=dimension,
            groups=groups,
            flat=tuple(draw(st.lists(st.booleans(), min_size=1, max_size=20))),
        )

    return draw_layer()


share = st.sampled_from([1.0, 0.7, 0.3])
timings = st.builds(
    Timing,
    ready=share,
    offer=share,
    accept=st.sampled_from([1.0, 0.7, 0.2]),
    landing_cycles=st.sampled_from([(1, 1), (1, 20), (30, 31), (1, 90)]),
    multiply_cycles=st.integers(2, 9),
    softmax_cycles=st.sampled_from([10, 30, 60]),
)


@functools.cache
def built(name: str):
    """A machine and its netlist.

    `shallow` has queues of a few beats, so that most rows wait for room; `wide` a fetcher of 16 channels.
    """
    config = machine("tiny")
    if name == "wide":
        config = replace(config, hbm_channels=16, fetch_queues=16, top_k_lanes=16)
    elif name != "tiny":
        small = {"key_sram_bytes": 384, "value_sram_bytes": 384, "softmax_fifo_rows": 4, "top_k_fifo_rows": 4}
        config = replace(config, context_keys=16, **small)
    return config, composed(config)


def run(name: str, seed: int, runs: Iterable[tuple[LayerCase, Timing]]) -> None:
    """Layers one after another: after each of them nothing is left over and no room is lost."""
    config, netlist = built(name)
    side = RowSide(config, netlist, seed)
    for case, timing in runs:
        side.run(case, timing)


def several(config: AcceleratorConfig, most: int) -> st.SearchStrategy[list[tuple[LayerCase, Timing]]]:
    return st.lists(st.tuples(layers(config, most), timings), min_size=1, max_size=3)


@pytest.mark.parametrize("name", ["tiny", "shallow"])
@settings(max_examples=8)
@given(st.data())
def test_every_row_leaves_once_with_its_right_pass(name, data):
    run(name, data.draw(seeds), data.draw(several(built(name)[0], most=50)))


@pytest.mark.full
@pytest.mark.parametrize("name", ["tiny", "shallow"])
@settings(max_examples=60)
@given(st.data())
def test_many_layers(name, data):
    run(name, data.draw(seeds), data.draw(several(built(name)[0], most=200)))


def test_rows_follow_without_a_gap():
    """128 keys at full size are 16 beats: a row every 16 cycles, from head to head too."""
    config, netlist = built("tiny")
    keys = 16 * config.softmax_lanes
    case = LayerCase(False, False, False, keys, 0, groups=(1, 1), flat=(False,))
    beats = RowSide(config, netlist).run(case, Timing()).beats
    assert len(beats) == 2 * keys * 16
    assert beats[-1] - beats[0] == len(beats) - 1


def test_short_rows_follow_every_two_cycles():
    config, netlist = built("tiny")
    case = LayerCase(False, False, False, 2 * config.softmax_lanes, 0, groups=(8,), flat=(False,))
    issued = RowSide(config, netlist).run(case, Timing()).first_issued
    assert all(issued[i + 1] - issued[i] == 2 for i in range(case.keys - 1))


def test_generation_without_replays_is_bound_by_memory():
    """1024 keys of 8 bits at full size: K takes 128 cycles of the memory, V too, and they never wait for the rows."""
    config, netlist = built("tiny")
    case = LayerCase(True, False, False, config.context_keys, 0, groups=(1,) * 7, flat=(False,))
    timing = Timing(cycles_per_vector=0.25, latency_cycles=60, value_vectors=config.context_keys)
    retired = RowSide(config, netlist).run(case, timing).retired
    assert (retired[6] - retired[2]) / 4 <= 258


def test_lsbs_of_the_next_head_come_beside_second_passes():
    """All rows flat: a head's LSBs are asked for when it is decided, whatever heads before it still wait for."""
    config, netlist = built("wide")
    case = LayerCase(True, False, True, config.context_keys, 0, groups=(1,) * 6, flat=(True,))
    measured = RowSide(config, netlist).run(case, Timing(landing_cycles=(60, 60)))
    for kv in range(case.heads):
        assert measured.lsb_landed[kv] - measured.decided[kv] <= 60 + 5
        assert measured.replay_issued[kv] - measured.lsb_landed[kv] <= 128 + 10
    retired = measured.retired
    assert (retired[5] - retired[1]) / 4 <= 440


def faulty(monkeypatch, target: str, value: object) -> RowSide:
    """The row side with something of its source replaced."""
    config, _ = built("shallow")
    monkeypatch.setattr(target, value)
    return RowSide(config, composed(config), seed=3)


OPENED, MOVED = row_issue_walk.Opened, row_issue_walk.moved


def opened_without_pending(now, place, lsb_base, pending):
    """A K/V head as it begins, but its LSBs count as landed as soon as they are asked for."""
    return OPENED(now, place, lsb_base, [pyrtl.Const(0, len(one), block=one._block) for one in pending])


def never_upper(sizes, halves, pending):
    """Segments of the places, but those of an upper half are never pending."""
    lower = pending_of_place(sizes, halves, pending)[:2]
    return [*lower, *(pyrtl.Const(0, len(one)) for one in lower)]


BUSY = LayerCase(False, False, True, 16, 0, groups=(1, 2, 1), flat=(True, False, True, True, False))
HALVES = replace(BUSY, keys=8, groups=(1, 2, 1, 1, 3, 1))
SLOW = Timing(accept=0.2, landing_cycles=(1, 60), softmax_cycles=30)


def run_halves(side: RowSide) -> None:
    """Layers of more K/V heads than there are halves of buffers, of many rows and of one."""
    side.run(HALVES, SLOW)
    side.run(replace(HALVES, generation=True, groups=(1,) * 12), Timing(landing_cycles=(1, 90), softmax_cycles=10))


def test_planted_faults_begin_from_a_row_side_that_works(monkeypatch):
    faulty(monkeypatch, "hls.datapaths.row_issue.queue_beats", row_queues.queue_beats).run(BUSY, SLOW)
    run_halves(faulty(monkeypatch, "hls.datapaths.row_issue.queue_beats", row_queues.queue_beats))


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("hls.datapaths.row_issue.queue_beats", lambda config: (32, 8)),
        ("hls.datapaths.row_issue.queue_beats", lambda config: (16, 32)),
        ("hls.datapaths.row_issue_walk.PENDING_ROWS", 63),
        ("hls.datapaths.row_issue_walk.Opened", opened_without_pending),
        ("hls.datapaths.row_issue_walk.moved", lambda counter, fewer, more: MOVED(counter, fewer, more & 0)),
    ],
    ids=["queue 1 overrun", "queue 2 overrun", "a place lost", "second pass before the LSBs", "room never comes back"],
)
def test_a_planted_fault_is_found(monkeypatch, target, value):
    with pytest.raises(AssertionError):
        faulty(monkeypatch, target, value).run(BUSY, SLOW)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("hls.datapaths.row_issue._in_half", lambda row, half: row | half & 0),
        ("hls.datapaths.row_issue_walk.pending_of_place", never_upper),
        ("hls.datapaths.row_issue_walk.key_place", lambda halves, number: key_place(halves & 0, number)),
        ("hls.datapaths.operand_loader.key_place", lambda halves, number: key_place(halves & 0, number)),
    ],
    ids=["rows of the lower half", "upper half never pending", "lower half is read", "lower half is written"],
)
def test_a_fault_in_half_buffers_is_found(monkeypatch, target, value):
    with pytest.raises(AssertionError):
        run_halves(faulty(monkeypatch, target, value))


@pytest.mark.parametrize(
    "preset", ["tiny", *(pytest.param(p, marks=pytest.mark.full) for p in ("spatten", "spatten-1-8"))]
)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_meets_the_clock(module, preset):
    config = AcceleratorConfig.preset(preset)
    estimate = estimate_block(module.build(config).block, technology.load(), config.clock_period_ps)
    assert estimate.slack_ps >= 0


def test_a_fetcher_wider_than_half_the_ring_is_refused():
    config = replace(machine(), hbm_channels=64, fetch_queues=64, top_k_lanes=64)
    with pytest.raises(HlsError, match="at most 32"):
        operand_loader.build(config)


@pytest.mark.parametrize("dimension", [0, 1, 2])
def test_every_line_of_the_ring(dimension):
    """More heads of one row each than the ring has queries; their lines land in any order."""
    config, netlist = built("shallow")
    groups = (8,) * (1 + 64 // MachineSizes.of(config).parts[dimension] // 8)
    case = LayerCase(True, False, True, 4, dimension, groups, flat=(False, True, False))
    RowSide(config, netlist, seed=dimension).run(case, Timing(ready=0.7, landing_cycles=(1, 60), softmax_cycles=20))


def test_a_buffer_is_free_before_the_last_rows_are_read():
    """The fetcher is given four vectors for a slot: a quarter of the rows is read before a new list can reach them.

    The model checks that every row is read before it can be written; here, that the buffer is free as early as that.
    """
    config, netlist = built("wide")
    beats = 64
    case = LayerCase(True, False, True, beats * config.softmax_lanes, 0, groups=(1, 1, 1), flat=(True,))
    measured = RowSide(config, netlist).run(case, Timing())
    for kv in range(case.heads):
        assert measured.released[kv] - measured.replay_issued[kv] <= beats - beats // 4 + 3


@pytest.mark.parametrize(
    ("preset", "dimension"),
    [("spatten-1-8", 0), ("spatten", 3), *(pytest.param("spatten", d, marks=pytest.mark.full) for d in range(3))],
)
def test_full_size(preset, dimension):
    config = machine(preset)
    side, timing = RowSide(config, composed(config), seed=1), Timing(0.7, 0.7, 0.7, (1, 40))
    for generation, causal in ((False, True), (True, False)):
        side.run(LayerCase(generation, causal, True, 9, dimension, (1, 2), (True, False, False)), timing)
