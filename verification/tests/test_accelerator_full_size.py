"""The accelerator at its published size: shipped traces, all layers, several settings, equal to the bit."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.cascade import Cascade, begin_pass, enter_layer, plan_pass
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from verification.cosimulation import LayerRun, Lockstep, accelerator_of, make_memory
from verification.equivalence_job import EquivalenceJob, all_equal
from verification.run_job import shipped_workloads, traces_of
from verification.runs import strengths
from verification.strategies import SmallRun

SPATTEN = AcceleratorConfig.preset("spatten")


@pytest.mark.full
def test_shipped_traces_are_equal_to_the_bit(tmp_path: Path) -> None:
    traces = traces_of([path for path in shipped_workloads() if path.suffix == ".npz"])
    data = EquivalenceJob(traces, strengths(SPATTEN), SPATTEN, "spatten").run(tmp_path)
    assert not data["left_out"]
    assert all(result["whole_trace"] for result in data["results"])
    assert all_equal(data), [result["mismatches"] for result in data["results"] if not result["equal"]]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with open_simulator(accelerator_of(SPATTEN), "auto") as opened:
        yield opened


@pytest.mark.full
@pytest.mark.parametrize("prompt", [None, 26])
@pytest.mark.parametrize("head_dim", [32, 64, 128, 256, 512])
def test_every_dimension_is_equal_to_the_bit(simulator: Simulator, head_dim: int, prompt: int | None) -> None:
    pruning = PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.7)), value_ratio=0.6)
    config = Config(SPATTEN, pruning, QuantizationConfig(6, 4, 0.2))
    run = SmallRun(config, 2, 1, 2, 30, head_dim, prompt, "hbm2", head_dim, 0.5)
    simulator.reset()
    pair = Lockstep(run.run(), config, simulator, make_memory(run.memory, SPATTEN, run.seed), run.memory)
    pair.layers()
    assert pair.board.equal, pair.board.report()


def one_layer(simulator: Simulator, heads: int, keys: int, prompt: int | None, bits: QuantizationConfig) -> LayerRun:
    """A layer of D = 64 that keeps everything, on HBM2, compared with the reference."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = ((torch.randn(heads, keys, 64, generator=generator, dtype=torch.float64),) for _ in range(3))
    pruning = PruningConfig()
    run = prepare(Sequence(q, k, v, prompt), IntegerArithmetic(bits), pruning, bits)
    plan = plan_pass(pruning, "encoder" if prompt is None else "step", 0 if prompt is None else 1, keys, 1, heads)
    cascade = enter_layer(begin_pass(Cascade.start(1, heads, torch.int64), plan), plan, pruning, 0)
    simulator.reset()
    pair = Lockstep(run, Config(SPATTEN, pruning, bits), simulator, make_memory("hbm2", SPATTEN), "hbm2")
    layer = pair.alone(run.layer(cascade, plan.index, 0))
    assert pair.board.equal, pair.board.report()
    return layer


@pytest.mark.full
def test_cycles_of_an_encoder_row_and_head(simulator: Simulator) -> None:
    layer = one_layer(simulator, 8, 128, None, QuantizationConfig())
    assert np.median(np.diff(layer.output_cycles)) <= 17
    assert layer.cycles / 8 <= 2200


@pytest.mark.full
@pytest.mark.parametrize(
    ("heads", "bits", "most_cycles"),
    [
        *((heads, QuantizationConfig(8), 290) for heads in (16, 24, 64)),
        *((heads, QuantizationConfig(4), 155) for heads in (16, 24, 64)),
        # 384 are the bytes at DRAM's peak rate, 417 where it refreshes
        *((heads, QuantizationConfig(12), 430) for heads in (24, 64)),
        # with the layer begun in other cycles, so that refreshes fall elsewhere, it takes up to 439
        *((heads, QuantizationConfig(8, 4, 1.0), 440) for heads in (16, 24, 48, 64)),
    ],
)
def test_cycles_of_a_steady_generation_row(
    simulator: Simulator, heads: int, bits: QuantizationConfig, most_cycles: int
) -> None:
    layer = one_layer(simulator, heads, 1024, 1023, bits)
    assert np.diff(layer.output_cycles)[8:-2].mean() <= most_cycles


@pytest.mark.full
@pytest.mark.parametrize(
    ("keys", "bits", "most_cycles"),
    [
        # no row is flat, or all are
        *((keys, QuantizationConfig(6, 4, 0.001), cycles) for keys, cycles in ((512, 125), (204, 75), (102, 60))),
        *((keys, QuantizationConfig(6, 4, 1.0), cycles) for keys, cycles in ((512, 220), (204, 110))),
        (204, QuantizationConfig(8), 75),
    ],
)
def test_cycles_of_a_generation_row_of_few_keys(
    simulator: Simulator, keys: int, bits: QuantizationConfig, most_cycles: int
) -> None:
    """Four heads are under way, in halves of the buffers: with two, 204 keys of 6 + 4 bits would take 109 cycles."""
    layer = one_layer(simulator, 24, keys, keys - 1, bits)
    assert np.diff(layer.output_cycles)[4:-2].mean() <= most_cycles
