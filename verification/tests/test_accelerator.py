"""The whole accelerator, at `tiny` size: equal to the reference on random small runs; what is planted is noticed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from typer.testing import CliRunner

import spatten
from hls.compose import Composition, constant
from hls.datapaths.descriptor import DESCRIPTOR, LayerStatus
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from verification.accelerator_host import Host
from verification.cosimulation import Lockstep, accelerator_of, make_memory, start
from verification.cosimulation_loop import CosimulationError
from verification.evidence.accelerator import with_swap, with_wire
from verification.reproducer import read_sequence, reproduce, write_reproducer
from verification.run_job import SHIPPED
from verification.strategies import SmallRun, small_runs

TINY = AcceleratorConfig.preset("tiny")
LIMIT_CYCLES = 100_000
GROUPED = SmallRun(
    Config(TINY, PruningConfig(value_ratio=0.6, prune_prompt=True), QuantizationConfig(6, 4, 0.5)),
    *(2, 2, 2, 11, 8, 8, "hbm2", 3, 1.0),
)


@pytest.fixture(scope="module")
def netlist() -> Composition:
    return accelerator_of(TINY)


@pytest.fixture(scope="module")
def simulator(netlist: Composition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    # One worker builds the simulator, the others wait and find it in the cache.
    with FileLock(tmp_path_factory.getbasetemp().parent / "accelerator.lock"):
        opened = open_simulator(netlist, "auto")
    with opened:
        yield opened


def lockstep(run: SmallRun, simulator: Simulator) -> Lockstep:
    simulator.reset()
    memory = make_memory(run.memory, run.config.accelerator, run.seed)
    return Lockstep(run.run(), run.config, simulator, memory, run.memory, limit_cycles=LIMIT_CYCLES, timing=True)


class TestEqual:
    """Every number that the netlist shows is the reference's."""

    @given(small_runs(TINY, most_tokens=20))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_random_small_runs(self, simulator: Simulator, run: SmallRun) -> None:
        pair = lockstep(run, simulator)
        pair.layers()
        assert pair.board.equal, pair.board.report()

    @pytest.mark.parametrize("memory", ["hbm2", "ideal", "adversarial"])
    def test_grouped_queries_with_replays_and_pruned_values(self, simulator: Simulator, memory: str) -> None:
        pair = lockstep(replace(GROUPED, memory=memory), simulator)
        layers = pair.layers()
        assert pair.board.equal, pair.board.report()
        assert len(layers) == 2 * (1 + 3)
        assert pair.coverage is not None
        for group, name in (("replay", "some rows are flat"), ("heads", "grouped queries"), ("stage", "step")):
            assert pair.coverage.hits[group, name], (group, name)

    def test_as_many_keys_as_the_sram_holds(self, simulator: Simulator) -> None:
        config = Config(TINY, PruningConfig(), QuantizationConfig(4))
        keys = TINY.max_keys(32)
        run = SmallRun(config, 1, 1, 1, keys, 32, keys - 1, "ideal", 1, 1.0)
        pair = lockstep(run, simulator)
        pair.layers()
        assert pair.board.equal, pair.board.report()


@pytest.mark.full
class TestMany:
    """Many random runs, one behind the other in one simulator without reset between layers of a run."""

    @given(small_runs(TINY))
    @settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_thousand_random_runs(self, simulator: Simulator, run: SmallRun) -> None:
        pair = lockstep(run, simulator)
        pair.layers()
        assert pair.board.equal, pair.board.report()


class TestBadDescriptors:
    """A bad descriptor ends in its status, and leaves memory untouched."""

    @pytest.mark.parametrize(
        ("field", "value", "status"),
        [
            ("next_keys", 0, LayerStatus.NEXT_KEYS),
            ("next_heads", 0, LayerStatus.NEXT_HEADS),
            ("keys", TINY.max_keys(8) + 1, LayerStatus.TOO_MANY_KEYS),
            ("head_dim", 12, LayerStatus.HEAD_DIM),
            ("msb_bits", 12, LayerStatus.TOO_WIDE),
            ("width", 14, LayerStatus.WIDTH),
            ("key_address", 8, LayerStatus.ALIGNMENT),
            ("rows", 2, LayerStatus.ROWS),
        ],
    )
    def test_status(self, simulator: Simulator, field: str, value: int, status: LayerStatus) -> None:
        found = self._refused(simulator, {field: value})
        assert LayerStatus(found) == status

    @pytest.mark.parametrize(
        ("survivors", "status"),
        [([0, 1, 1, 3], LayerStatus.SURVIVOR_ORDER), ([0, 2, 1, 3], LayerStatus.SURVIVOR_ORDER)],
    )
    def test_survivors(self, simulator: Simulator, survivors: list[int], status: LayerStatus) -> None:
        assert LayerStatus(self._refused(simulator, {}, survivors)) == status

    @staticmethod
    def _refused(simulator: Simulator, changes: dict[str, int], survivors: list[int] | None = None) -> int:
        simulator.reset()
        host = Host(GROUPED.run(), TINY)
        request = next(iter(host.requests()))
        fields = {"version": 1, **request.fields, **changes}
        host.image.write(request.address, np.frombuffer(DESCRIPTOR.pack(fields), np.uint8))
        if survivors is not None:
            listed = np.array(survivors, "<u2").view(np.uint8)
            host.image.write(request.fields["survivors_address"], listed)
        before = host.image.data.copy()
        found = start(simulator, make_memory("ideal", TINY), host.image.data, request.address)
        assert np.array_equal(before, host.image.data)
        return found.outputs["done_status"]


class TestPlanted:
    """A wrong wire of the composition is noticed, and leaves a reproducer."""

    def test_second_passes_that_never_read_all_bits(self, netlist: Composition, tmp_path: Path) -> None:
        broken = with_wire(netlist, "key_mask", "full", constant(0, 1))
        with open_simulator(broken, "auto") as simulator:
            pair = lockstep(GROUPED, simulator)
            pair.layers()
            assert not pair.board.equal
            assert pair.board.differing["score"]
            folder = write_reproducer(
                tmp_path / "found", GROUPED.sequence(), GROUPED.config, simulator, GROUPED.memory, GROUPED.seed
            )
        smallest = read_sequence(folder / "sequence.npz")
        assert smallest.tokens < GROUPED.tokens
        assert "the netlist" in (folder / "report.txt").read_text()
        assert compile((folder / "reproduce.py").read_text(), "reproduce.py", "exec")

    def test_a_reproducer_says_when_nothing_differs_any_more(self, simulator: Simulator, tmp_path: Path) -> None:
        small = replace(GROUPED, tokens=2, prompt=1, layers=1)
        folder = write_reproducer(tmp_path, small.sequence(), small.config, simulator, "ideal", 0)
        assert "not from reset" in (folder / "report.txt").read_text()
        assert reproduce(folder, "ideal", 0) == "nothing differs"

    def test_lanes_that_land_for_each_other_never_end(self, netlist: Composition) -> None:
        swapped = with_swap(netlist, "landing_write", "landing_tag", TINY.fetch_queues)
        with open_simulator(swapped, "auto") as simulator:
            pair = lockstep(GROUPED, simulator)
            with pytest.raises(CosimulationError, match="'done_valid' was not set"):
                pair.layers(most=1)


def test_a_schedule_by_layer_narrows_tokens_and_heads(simulator: Simulator) -> None:
    pruning = PruningConfig(
        tokens=KeepSchedule(ratios=(1.0, 0.5)), heads=KeepSchedule(ratios=(1.0, 0.5)), prune_prompt=True
    )
    run = replace(GROUPED, config=Config(TINY, pruning, QuantizationConfig(8)))
    pair = lockstep(run, simulator)
    layers = pair.layers()
    assert pair.board.equal, pair.board.report()
    last = layers[-1].request.expected
    assert last is not None
    assert (len(last.tokens), len(last.heads)) == (5, 2)


def test_verify_trace_writes_its_result_into_a_new_folder(tmp_path: Path) -> None:
    out = tmp_path / "new"
    arguments = ["verify", "--trace", SHIPPED / "minilm-film-station.npz", "--tokens", 3, "--layers", 1, "--out", out]
    called = CliRunner().invoke(spatten.app, [*map(str, arguments), "--json"])
    assert called.exit_code == 0, called.output
    results = json.loads((out / "equivalence.json").read_text())["results"]
    assert len(results) == 2 * 4
    assert all(result["equal"] and result["tokens"] == 3 for result in results)
