"""Speeds, each measured beside a baseline in the same run: `python -m verification.bench` (what `tox -e bench` runs).

A ratio travels between machines, seconds do not; both are printed, and the target where there is one. Nothing fails.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from hls.datapaths import query_key
from hls.export import random_inputs
from hls.lower import Netlist
from hls.simulate import open_simulator
from models.config import AcceleratorConfig, PruningConfig, QuantizationConfig
from models.reference.attention import Arithmetic, H
from models.reference.cascade import Cascade, begin_pass, enter_layer, plan_pass
from models.reference.floating import FloatArithmetic
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from traces.atomic import write_atomically
from verification.bench_memory import bench_memory
from verification.bench_simulate import bench_levels, bench_simulate
from verification.bench_transaction import NEEDED_STEPS_PER_SECOND, bench_transaction

OUT = Path("reports/out/bench.json")


@dataclass(frozen=True)
class Speed:
    """What was measured, how fast, against which baseline in the same run, and the target.

    `value` and `baseline_value` are in `unit`; `target` is the most (seconds) or least (rates) that `value` should be.
    """

    what: str
    value: float
    unit: str
    baseline: str
    baseline_value: float
    target: float | None = None

    @property
    def ratio(self) -> float:
        """Value over baseline."""
        return self.value / self.baseline_value


def best_of(repetitions: int, work: Callable[[], object]) -> float:
    """Shortest time of some calls, in seconds; one call before them warms up."""
    work()
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def gaussian_sequence(layers: int, heads: int, tokens: int, head_dim: int, prompt: int | None = None) -> Sequence:
    """Seeded Gaussian Q, K and V."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(heads, tokens, head_dim, generator=generator) for _ in range(layers))

    return Sequence(draw(), draw(), draw(), prompt)


def bert_base() -> list[Speed]:
    """Attention of BERT-Base's size, 12 layers x 12 heads x 128 tokens, scales and quantization included."""
    sequence, pruning = gaussian_sequence(12, 12, 128, 64), PruningConfig(value_ratio=0.5)
    eager = best_of(3, lambda: list(prepare(sequence, FloatArithmetic(), PruningConfig()).passes()))
    speeds = []
    for bits in (QuantizationConfig(), QuantizationConfig(8, 4, 0.1)):
        work = lambda bits=bits: list(prepare(sequence, IntegerArithmetic(bits), pruning, bits).passes())  # noqa: E731
        name = f"BERT-Base attention, integers, {bits.msb_bits}+{bits.lsb_bits}"
        speeds.append(Speed(name, best_of(3, work), "s", "float32, all kept", eager, 4.0))
    return speeds


def step_seconds(sequence: Sequence, arithmetic: Arithmetic[H]) -> float:
    """Time of the first generation step, K and V already held, half of the values pruned."""
    pruning = PruningConfig(value_ratio=0.5)
    run = prepare(sequence, arithmetic, pruning)
    plan = plan_pass(pruning, "step", 1, sequence.tokens, sequence.layers, sequence.heads)
    start = begin_pass(Cascade.start(sequence.layers, sequence.heads, arithmetic.importance_dtype), plan)

    def step() -> None:
        cascade = start
        for layer in range(sequence.layers):
            cascade = enter_layer(cascade, plan, pruning, layer)
            cascade = replace(cascade, importance=run.layer(cascade, 1, layer).importance)

    return best_of(3, step)


def gpt2_medium_step() -> list[Speed]:
    """One generation step of GPT-2-Medium's size, 24 layers x 16 heads x 1024 keys."""
    sequence = gaussian_sequence(24, 16, 1024, 64, prompt=1023)
    integers = step_seconds(sequence, IntegerArithmetic(QuantizationConfig(8, 4, 0.1)))
    floats = step_seconds(sequence, FloatArithmetic())
    return [Speed("GPT-2-Medium step, integers, 8+4", integers, "s", "float32", floats, 1.0)]


def query_key_simulation() -> list[Speed]:
    """Elaboration and simulation of the full-size Q x K: Verilator in batches, beside PyRTL's FastSimulation."""
    tiny, full = (best_of(2, partial(query_key.build, AcceleratorConfig.preset(name))) for name in ("tiny", "spatten"))
    netlist = query_key.build(AcceleratorConfig())
    compiled = cycles_per_second(netlist, "verilator", 20_000)
    interpreted = cycles_per_second(netlist, "fast", 200)
    return [
        Speed("Q x K, elaboration", full, "s", "the tiny preset", tiny, 2.0),
        Speed("Q x K, batched", compiled, "cycles/s", "FastSimulation", interpreted, 100_000),
    ]


def cycles_per_second(netlist: Netlist, back_end: Literal["fast", "verilator"], cycles: int) -> float:
    """Speed of a simulation of `cycles` cycles of random inputs, the build not counted."""
    inputs = random_inputs(netlist, cycles, seed=1)
    with open_simulator(netlist, back_end) as simulator:
        return cycles / best_of(2, partial(simulator.run, inputs))


def memory() -> list[Speed]:
    """Bursts a second of the HBM2 model, pattern by pattern."""
    speeds = bench_memory()
    stream = speeds["stream"].bursts_per_second
    return [
        Speed(f"HBM2, {name}", speed.bursts_per_second, "bursts/s", "stream", stream, 5e6)
        for name, speed in speeds.items()
    ]


def transaction_kernel() -> list[Speed]:
    """Steps a second of the transaction kernel, our channels on SimPy, beside SimPy's store and bare generators."""
    speeds = bench_transaction()
    ours = speeds["SimPy, our channels"].steps_per_second
    return [
        Speed("transaction kernel", ours, "steps/s", name, speed.steps_per_second, NEEDED_STEPS_PER_SECOND)
        for name, speed in speeds.items()
        if name != "SimPy, our channels"
    ]


def transaction_model() -> list[Speed]:
    """Whole workloads on the transaction model, and rows a second beside the netlist of the small machine."""
    speeds = [
        Speed(
            f"simulate {s.workload}, {s.rows} rows", s.seconds, "s", "memory alone", s.memory_seconds, s.limit_seconds
        )
        for s in bench_simulate()
    ]
    levels = bench_levels()
    if levels is not None:
        what = f"transaction model, small machine, {levels.rows} rows"
        speeds.append(Speed(what, levels.model, "rows/s", "netlist on Verilator, same rows", levels.netlist))
    return speeds


MEASUREMENTS: tuple[Callable[[], list[Speed]], ...] = (
    bert_base,
    gpt2_medium_step,
    query_key_simulation,
    memory,
    transaction_kernel,
    transaction_model,
)


def main() -> None:
    """Measure everything on one thread, print a table, write `reports/out/bench.json`."""
    torch.set_num_threads(1)
    console = Console()
    table = Table("what", "value", "target", "baseline", "its value", "ratio")
    speeds = []
    for measure in MEASUREMENTS:
        with console.status(measure.__doc__ or measure.__name__):
            found = measure()
        for s in found:
            target = "" if s.target is None else f"{s.target:g} {s.unit}"
            table.add_row(
                s.what,
                f"{s.value:.3g} {s.unit}",
                target,
                s.baseline,
                f"{s.baseline_value:.3g} {s.unit}",
                f"{s.ratio:.3g}",
            )
        speeds.extend(found)
    console.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(OUT, json.dumps([asdict(s) | {"ratio": s.ratio} for s in speeds], indent=1).encode())


if __name__ == "__main__":
    main()
