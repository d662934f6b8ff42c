"""Transaction model and netlist of the whole machine, row by row, on `tiny`."""

import shutil
from collections import abc
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from hls.datapaths import accelerator
from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.memory.interface import Memory, PortCycles
from models.memory.variants import IdealMemory
from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from models.reference.stack import Run, Sequence, prepare
from models.transaction import machine_timing, register_timing
from models.transaction.machine_timing import MachineTiming
from models.transaction.register_timing import ControlTiming, RowTiming
from verification.cosimulation import Lockstep, make_memory
from verification.strategies import SmallRun, small_runs
from verification.transaction_equality import LayerEquality

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
    prompt: int | None,
    dim: int,
    value_ratio: float,
    bits: QuantizationConfig,
    tokens: int = 11,
    heads: tuple[float, float] = (1.0, 1.0),
    kept: tuple[float, float] = (1.0, 0.7),
    scope: Literal["step", "sequence"] = "step",
    rescale: bool = False,
) -> tuple[Run[Planes], Config]:
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        tuple(torch.randn(count, tokens, dim, generator=generator, dtype=torch.float64) for _ in range(2))
        for count in (4, 2, 2)
    )
    tokens_kept, heads_kept = KeepSchedule(ratios=kept), KeepSchedule(ratios=heads)
    pruning = PruningConfig(tokens_kept, heads_kept, value_ratio=value_ratio, scope=scope, rescale=rescale)
    run = prepare(Sequence(q, k, v, prompt), IntegerArithmetic(bits), pruning, bits)
    return run, Config(MACHINE, pruning, bits)


def _levels(
    run: Run[Planes], config: Config, simulator: Simulator, memory: str | Memory, seed: int = 0
) -> list[LayerEquality]:
    simulator.reset()
    name = memory if isinstance(memory, str) else "ideal"
    behind = make_memory(memory, MACHINE, seed) if isinstance(memory, str) else memory
    pair = Lockstep(run, config, simulator, behind, name, timing=True)
    found = [layer.timing for layer in pair.layers()]
    assert pair.board.equal, pair.board.report()
    assert None not in found
    return [timing for timing in found if timing is not None]


@pytest.mark.parametrize("prompt", [ENCODER, DECODER])
@pytest.mark.parametrize("dim", [8, 16])
@pytest.mark.parametrize("bits", [QuantizationConfig(10, 0, 0.0), QuantizationConfig(6, 4, 0.001)])
def test_rows_come_and_go_in_the_same_cycle(
    prompt: int | None, dim: int, bits: QuantizationConfig, simulator: Simulator
) -> None:
    run, config = _run(prompt, dim, 1.0, bits)
    for found in _levels(run, config, simulator, "ideal"):
        assert found.equal, found


@pytest.mark.parametrize("prompt", [ENCODER, 30])
@pytest.mark.parametrize("dim", [8, 16, 32])
@pytest.mark.parametrize("bits", [QuantizationConfig(8, 0, 0.0), QuantizationConfig(6, 4, 0.3)])
def test_rows_with_pruned_values_come_and_go_in_the_same_cycle(
    prompt: int | None, dim: int, bits: QuantizationConfig, simulator: Simulator
) -> None:
    run, config = _run(prompt, dim, 0.4, bits, tokens=32)
    for found in _levels(run, config, simulator, "ideal"):
        assert found.equal, found


@pytest.mark.parametrize("value_ratio", [1.0, 0.4])
@pytest.mark.parametrize("prompt", [ENCODER, 30])
def test_hbm2_gives_the_same_cycles(prompt: int | None, value_ratio: float, simulator: Simulator) -> None:
    run, config = _run(prompt, 8, value_ratio, QuantizationConfig(6, 4, 0.3), tokens=32)
    for found in _levels(run, config, simulator, "hbm2"):
        assert found.equal, found


@pytest.mark.parametrize("prompt", [ENCODER, 116])
@pytest.mark.parametrize("bits", [QuantizationConfig(8, 0, 0.0), QuantizationConfig(6, 4, 0.02)])
def test_keys_and_values_that_land_beside_their_rows_give_the_same_cycles(
    prompt: int | None, bits: QuantizationConfig, simulator: Simulator
) -> None:
    run, config = _run(prompt, 32, 1.0, bits, tokens=120)
    for found in _levels(run, config, simulator, "hbm2"):
        assert found.equal, found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=small_runs(MACHINE))
def test_random_runs_are_within_the_bound_and_equal_on_memories_that_do_not_stall_at_random(
    case: SmallRun, simulator: Simulator
) -> None:
    run = case.run()
    for found in _levels(run, case.config, simulator, case.memory, case.seed):
        assert found.within_bound, found
        assert found.equal or case.memory == "adversarial", found


def test_a_wrong_latency_is_caught(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = _run(ENCODER, 8, 1.0, QuantizationConfig(8, 0, 0.0))
    right = MachineTiming.of(MACHINE)
    monkeypatch.setattr(machine_timing, "_timing", lambda machine: replace(right, sums=right.sums + 1))
    assert not any(found.equal for found in _levels(run, config, simulator, "ideal"))


def test_a_latency_that_is_far_off_is_an_error_of_the_run(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = _run(ENCODER, 8, 1.0, QuantizationConfig(8, 0, 0.0))
    right = MachineTiming.of(MACHINE)
    monkeypatch.setattr(machine_timing, "_timing", lambda machine: replace(right, sums=right.sums + 50))
    simulator.reset()
    pair = Lockstep(run, config, simulator, make_memory("ideal", MACHINE), "ideal", timing=True)
    assert not pair.layers()[-1].equal
    assert set(pair.board.differing) == {"row cycles", "output cycles", "layer cycles"}


@pytest.mark.parametrize("memory", ["ideal", "hbm2", "adversarial"])
@pytest.mark.parametrize("value_ratio", [1.0, 0.4])
@pytest.mark.parametrize("prompt", [ENCODER, 30])
def test_layers_behind_which_tokens_and_heads_are_selected_end_in_the_same_cycle(
    prompt: int | None, value_ratio: float, memory: str, simulator: Simulator
) -> None:
    run, config = _run(prompt, 8, value_ratio, QuantizationConfig(6, 4, 0.3), 32, heads=(1.0, 0.5))
    for found in _levels(run, config, simulator, memory):
        assert found.equal, found


def test_survivors_that_hold_up_the_engine_are_known_in_the_same_cycle(simulator: Simulator) -> None:
    # ids 2 .. 64: each row of results lies in two rows of the mask, so the engine waits; behind them few, and the last
    kept = torch.tensor([i == 0 or 2 <= i <= 64 or i % 16 == 4 or i == 119 for i in range(120)])
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        tuple(torch.randn(heads, 120, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        for heads in (4, 2, 2)
    )
    q = tuple(torch.cat([torch.full((4, 120, 1), 2.0), rest[..., 1:]], -1) for rest in q)
    side = torch.where(kept, 6.0, -6.0)[None, :, None].expand(2, -1, 1)
    k = tuple(torch.cat([side, rest[..., 1:] / 4], -1) for rest in k)
    bits, schedule = QuantizationConfig(8, 0, 0.0), KeepSchedule(ratios=(1.0, int(kept.sum()) / 120))
    pruning = PruningConfig(tokens=schedule, heads=KeepSchedule(ratios=(1.0, 1.0)), value_ratio=1.0, scope="step")
    run = prepare(Sequence(q, k, v, 119), IntegerArithmetic(bits), pruning, bits)
    for found in _levels(run, Config(MACHINE, pruning, bits), simulator, "hbm2"):
        assert found.equal, found


@pytest.mark.parametrize("latency", ["first_read", "lists_asked", "launched", "importance_told"])
def test_a_wrong_latency_at_either_end_of_a_layer_is_caught(
    latency: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = _run(ENCODER, 8, 1.0, QuantizationConfig(8, 0, 0.0), heads=(1.0, 0.5))
    assert all(found.equal for found in _levels(run, config, simulator, "ideal"))
    right = ControlTiming.of(MACHINE)
    wrong = replace(right, **{latency: getattr(right, latency) + 3})
    monkeypatch.setattr(register_timing, "_control", lambda machine: wrong)
    assert not all(found.equal for found in _levels(run, config, simulator, "ideal"))


@pytest.mark.parametrize("latency", ["head_found", "eligible", "lsb_asked", "first_query"])
def test_a_wrong_latency_of_jobs_and_rows_is_caught(
    latency: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = _run(ENCODER, 16, 1.0, QuantizationConfig(6, 4, 0.3), tokens=32)
    assert all(found.equal for found in _levels(run, config, simulator, "ideal"))
    right = RowTiming.of(MACHINE)
    wrong = replace(right, **{latency: getattr(right, latency) + 3})
    monkeypatch.setattr(register_timing, "_rows", lambda machine: wrong)
    assert not all(found.equal for found in _levels(run, config, simulator, "ideal"))


@pytest.mark.parametrize("memory", ["ideal", "hbm2", "adversarial"])
@pytest.mark.parametrize("scope", ["step", "sequence"])
@pytest.mark.parametrize("prompt", [ENCODER, 29])
@pytest.mark.parametrize("kept", [(0.6, 0.3), (0.04, 0.04)])
def test_survivors_that_are_selected_without_rows_are_known_in_the_same_cycle(
    kept: tuple[float, float],
    prompt: int | None,
    scope: Literal["step", "sequence"],
    memory: str,
    simulator: Simulator,
) -> None:
    bits = QuantizationConfig(6, 4, 0.3)
    run, config = _run(prompt, 8, 1.0, bits, 32, (1.0, 0.5), kept, scope, rescale=prompt is not None)
    found = _levels(run, config, simulator, memory)
    assert any(one.rows.size == 0 for one in found)
    for one in found:
        assert one.equal, one


class _Stalling(IdealMemory):
    """Takes requests for some cycles, then none for as many."""

    def __init__(self, cycles: int, begins: int) -> None:
        super().__init__(MACHINE.hbm_channels)
        self.cycles, self.begins = cycles, begins

    def _cycle(self, offers: abc.Sequence[tuple[int, int, bool] | None]) -> PortCycles:
        stalls = (self.now_cycle + self.begins) // self.cycles % 2 == 1
        return super()._cycle([None] * len(offers) if stalls else offers)


@pytest.mark.parametrize("begins", [0, 50])
@pytest.mark.parametrize("value_ratio", [1.0, 0.4])
def test_survivors_wait_for_a_memory_that_takes_nothing_for_long(
    value_ratio: float, begins: int, simulator: Simulator
) -> None:
    run, config = _run(116, 8, value_ratio, QuantizationConfig(8, 0, 0.0), 120, (1.0, 0.5), (0.9, 0.5))
    for found in _levels(run, config, simulator, _Stalling(100, begins)):
        assert found.equal, found
