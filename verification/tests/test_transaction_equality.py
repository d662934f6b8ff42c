"""Transaction model and netlist of the whole machine, row by row, on `tiny`."""

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from hls.datapaths import accelerator
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from models.reference.stack import Run, Sequence, prepare
from models.transaction import machine_timing
from models.transaction.machine_timing import MachineTiming
from verification.cosimulation import LayerRun, Lockstep, make_memory
from verification.transaction_equality import compare

pytestmark = pytest.mark.full
MACHINE = AcceleratorConfig.preset("tiny")
ENCODER, DECODER = None, 9


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    if shutil.which("verilator") is None:
        pytest.skip("Verilator is not installed")
    with open_simulator(accelerator.build(MACHINE), "verilator") as opened:
        yield opened


def _run(
    prompt: int | None, dim: int, value_ratio: float, bits: QuantizationConfig, tokens: int = 11
) -> tuple[Run[Planes], Config]:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        tuple(torch.randn(count, tokens, dim, generator=generator, dtype=torch.float64) for _ in range(2))
        for count in (4, 2, 2)
    )
    pruning = PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.7)), value_ratio=value_ratio, scope="step")
    run = prepare(Sequence(q, k, v, prompt), IntegerArithmetic(bits), pruning, bits)
    return run, Config(MACHINE, pruning, bits)


def _netlist(run: Run[Planes], config: Config, simulator: Simulator, memory: str) -> list[LayerRun]:
    simulator.reset()
    return Lockstep(run, config, simulator, make_memory(memory, MACHINE), memory).layers()


@pytest.mark.parametrize("prompt", [ENCODER, DECODER])
@pytest.mark.parametrize("dim", [8, 16])
@pytest.mark.parametrize("bits", [QuantizationConfig(10, 0, 0.0), QuantizationConfig(6, 4, 0.001)])
def test_rows_come_and_go_in_the_same_cycle(
    prompt: int | None, dim: int, bits: QuantizationConfig, simulator: Simulator
) -> None:
    run, config = _run(prompt, dim, 1.0, bits)
    layers = _netlist(run, config, simulator, "ideal")
    assert all(layer.equal for layer in layers)
    for found in compare(run, config, layers, "ideal"):
        assert found.equal, found


@pytest.mark.parametrize("prompt", [ENCODER, 30])
@pytest.mark.parametrize("dim", [8, 16])
@pytest.mark.parametrize("bits", [QuantizationConfig(8, 0, 0.0), QuantizationConfig(6, 4, 0.3)])
def test_rows_with_pruned_values_come_and_go_in_the_same_cycle(
    prompt: int | None, dim: int, bits: QuantizationConfig, simulator: Simulator
) -> None:
    run, config = _run(prompt, dim, 0.4, bits, tokens=32)
    for found in compare(run, config, _netlist(run, config, simulator, "ideal"), "ideal"):
        assert found.equal, found


def test_hbm2_gives_the_same_cycles(simulator: Simulator) -> None:
    run, config = _run(ENCODER, 8, 1.0, QuantizationConfig(8, 0, 0.0))
    for found in compare(run, config, _netlist(run, config, simulator, "hbm2"), "hbm2"):
        assert found.equal, found


def test_a_wrong_latency_is_caught(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = _run(ENCODER, 8, 1.0, QuantizationConfig(8, 0, 0.0))
    layers = _netlist(run, config, simulator, "ideal")
    right = MachineTiming.of(MACHINE)
    monkeypatch.setattr(machine_timing, "_timing", lambda machine: replace(right, sums=right.sums + 1))
    assert not any(found.equal for found in compare(run, config, layers, "ideal"))
