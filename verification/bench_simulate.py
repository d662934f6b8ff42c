"""Speed of the transaction model: whole workloads in CPU seconds of one core, and rows a second beside the netlist.

`python -m verification.bench_simulate` prints them. The workloads are the recorded one (where it lies beside the
checkout), 32 tokens of GPT-2-medium behind a prompt of 992, and BERT-Large at 384 tokens; beside each the time that the
model of the memory alone takes for as many bursts. The netlist is the small machine's, on Verilator, as its
co-simulation runs it; the model runs the same layers. Compilation and elaboration are outside.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths import accelerator
from hls.datapaths.crossbar import BURST_BYTES
from hls.simulate import open_simulator
from models.config import AcceleratorConfig, Config, PruningConfig, QuantizationConfig
from models.memory.hbm2 import Hbm2Memory
from models.reference.integer import IntegerArithmetic
from models.reference.stack import Sequence, prepare
from models.transaction.replay import replay
from models.transaction.system import SystemResult, simulate
from verification.cosimulation import Lockstep, make_memory
from verification.report_job import RECORDED
from verification.simulate_job import usual_setting, workloads_of

LIMIT_SECONDS = {"gpt2-medium:992+32": 8.0, "gpt2-medium-wikitext2": 8.0, "bert-large:384": 60.0}
RECORDED_LIMIT_SECONDS = 3.0
GROUP_BURSTS = 50_000


@dataclass(frozen=True)
class SimulateSpeed:
    """A workload: rows, CPU seconds, those of the memory alone for as many bursts, and the most that it should take."""

    workload: str
    rows: int
    seconds: float
    memory_seconds: float
    limit_seconds: float


@dataclass(frozen=True)
class LevelSpeeds:
    """Rows a second of CPU time, of the model and of the netlist, for the same rows."""

    rows: int
    model: float
    netlist: float


def _memory_seconds(bursts: int, channels: int) -> float:
    """Of a stream of so many bursts, some at a time."""
    memory, start = Hbm2Memory(channels), time.process_time()
    for first in range(0, bursts, GROUP_BURSTS):
        memory.run(np.arange(first, min(bursts, first + GROUP_BURSTS)) * BURST_BYTES)
    return time.process_time() - start


def _rows(result: SystemResult) -> int:
    return sum(layer.work.flat.size for layer in result.layers)


def bench_simulate() -> Iterator[SimulateSpeed]:
    """Speeds of every workload that is there; numbers only, it asserts nothing."""
    machine = AcceleratorConfig()
    names = ({str(RECORDED): RECORDED_LIMIT_SECONDS} if RECORDED.exists() else {}) | LIMIT_SECONDS
    for workload in workloads_of("bert-base:4", usual_setting(machine)):
        simulate(workload, machine)
    for name, limit in names.items():
        for workload in workloads_of(name, usual_setting(machine)):
            start = time.process_time()
            result = simulate(workload, machine)
            seconds = time.process_time() - start
            bursts = sum(sum(layer.bursts.values()) for layer in result.layers)
            alone = _memory_seconds(bursts, machine.hbm_channels)
            yield SimulateSpeed(workload.name, _rows(result), seconds, alone, limit)


def bench_levels(tokens: int = 24) -> LevelSpeeds | None:
    """An encoder's rows on both levels; None without Verilator. Numbers only, it asserts nothing."""
    if shutil.which("verilator") is None:
        return None
    machine, bits, pruning = AcceleratorConfig.preset("tiny"), QuantizationConfig(10, 0, 0.0), PruningConfig()
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        tuple(torch.randn(4, tokens, 16, generator=generator, dtype=torch.float64) for _ in range(2)) for _ in range(3)
    )
    run = prepare(Sequence(q, k, v, None), IntegerArithmetic(bits), pruning, bits)
    config = Config(machine, pruning, bits)
    with open_simulator(accelerator.build(machine), "verilator") as simulator:
        simulator.reset()
        start = time.process_time()
        Lockstep(run, config, simulator, make_memory("hbm2", machine), "hbm2").layers()
        netlist = time.process_time() - start
    workload = replay(run, "compared", "the run of the netlist", machine.top_k_lanes)
    simulate(workload, machine)
    start = time.process_time()
    simulate(workload, machine)
    seconds = time.process_time() - start
    rows = 2 * 4 * tokens
    return LevelSpeeds(rows, rows / seconds, rows / netlist)


def main() -> None:
    """Print the tables."""
    for speed in bench_simulate():
        print(
            f"{speed.workload:28} {speed.rows:7,} rows   {speed.seconds:6.2f} s CPU (limit {speed.limit_seconds:g})   "
            f"memory alone {speed.memory_seconds:.2f} s"
        )
    levels = bench_levels()
    if levels is not None:
        print(
            f"{levels.rows} rows on the small machine: model {levels.model:,.0f} rows/s, netlist {levels.netlist:,.0f} "
            f"rows/s, ratio {levels.model / levels.netlist:.1f}"
        )


if __name__ == "__main__":
    main()
