"""Transaction model and netlist at the published size, row by row: one encoder layer and one generation step."""

import shutil
from collections.abc import Iterator

import pytest
import torch

from hls.simulate import Simulator, open_simulator
from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.cascade import Cascade, begin_pass, enter_layer, plan_pass
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from verification.cosimulation import Lockstep, accelerator_of, make_memory
from verification.transaction_equality import LayerEquality

pytestmark = pytest.mark.full
SPATTEN = AcceleratorConfig.preset("spatten")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    if shutil.which("verilator") is None:
        pytest.skip("Verilator is not installed")
    with open_simulator(accelerator_of(SPATTEN), "verilator") as opened:
        yield opened


def _layer(
    simulator: Simulator,
    heads: int,
    keys: int,
    prompt: int | None,
    value_ratio: float,
    memory: str,
    flat_below: float = 0.1,
) -> LayerEquality:
    generator = torch.Generator().manual_seed(1)
    q, k, v = ((torch.randn(heads, keys, 64, generator=generator, dtype=torch.float64),) for _ in range(3))
    pruning, bits = PruningConfig(value_ratio=value_ratio), QuantizationConfig(6, 4, flat_below)
    run = prepare(Sequence(q, k, v, prompt), IntegerArithmetic(bits), pruning, bits)
    plan = plan_pass(pruning, "encoder" if prompt is None else "step", 0 if prompt is None else 1, keys, 1, heads)
    cascade = enter_layer(begin_pass(Cascade.start(1, heads, torch.int64), plan), plan, pruning, 0)
    simulator.reset()
    pair = Lockstep(run, Config(SPATTEN, pruning, bits), simulator, make_memory(memory, SPATTEN), memory, timing=True)
    timing = pair.alone(run.layer(cascade, plan.index, 0)).timing
    assert pair.board.equal, pair.board.report()
    assert timing is not None
    return timing


@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
@pytest.mark.parametrize("value_ratio", [1.0, 0.3])
def test_rows_of_an_encoder_layer_are_equal(simulator: Simulator, value_ratio: float, memory: str) -> None:
    found = _layer(simulator, 4, 128, None, value_ratio, memory)
    assert found.equal, found


@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
@pytest.mark.parametrize("heads_kept", [1.0, 0.5])
def test_a_layer_with_a_selection_behind_it_ends_in_the_same_cycle(
    simulator: Simulator, heads_kept: float, memory: str
) -> None:
    generator = torch.Generator().manual_seed(2)
    q, k, v = (tuple(torch.randn(4, 200, 64, generator=generator, dtype=torch.float64) for _ in "12") for _ in range(3))
    kept = KeepSchedule(ratios=(1.0, 0.4)), KeepSchedule(ratios=(1.0, heads_kept))
    pruning, bits = PruningConfig(tokens=kept[0], heads=kept[1], value_ratio=0.5), QuantizationConfig(8)
    run = prepare(Sequence(q, k, v, None), IntegerArithmetic(bits), pruning, bits)
    simulator.reset()
    pair = Lockstep(run, Config(SPATTEN, pruning, bits), simulator, make_memory(memory, SPATTEN), memory, timing=True)
    found = [layer.timing for layer in pair.layers()]
    assert pair.board.equal, pair.board.report()
    assert [one.equal for one in found if one is not None] == [True, True], found


@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
@pytest.mark.parametrize("value_ratio", [1.0, 0.3])
def test_rows_of_a_generation_step_are_equal(simulator: Simulator, value_ratio: float, memory: str) -> None:
    found = _layer(simulator, 8, 1000, 999, value_ratio, memory)
    assert found.equal, found


@pytest.mark.parametrize("memory", ["hbm2", "ideal"])
@pytest.mark.parametrize(("keys", "flat_below"), [(102, 0.001), (204, 0.03), (513, 0.001)])
def test_rows_of_few_keys_are_equal(simulator: Simulator, keys: int, flat_below: float, memory: str) -> None:
    """Where half a buffer of the Key SRAM holds a head's keys, and where not quite."""
    found = _layer(simulator, 12, keys, keys - 1, 0.3, memory, flat_below)
    assert found.equal, found
