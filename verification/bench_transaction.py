"""Speed of the transaction kernel: steps of a module a second, on SimPy and on a kernel of generators and `heapq`.

Ten modules in a row with a bounded channel of two items between neighbours; a step is one item read, held for 3 to 6
cycles and written by one module. `python -m verification.bench_transaction` prints the rates; all three run the same
model, which the end of the run proves: it must be the same cycle.
"""

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import simpy

from models.transaction.channel import Fifo
from models.transaction.kernel import Simulation, Steps

MODULES, SLOTS = 10, 2
NEEDED_STEPS_PER_SECOND = 147_456 * MODULES / 60  # BERT-Large at 384 tokens in 60 s


@dataclass(frozen=True)
class KernelSpeed:
    """Steps of a module a second (CPU seconds of one core, best of the repetitions), and the cycle of the end."""

    steps_per_second: float
    end_cycle: int


def hold_cycles(module: int) -> int:
    """Cycles that a module holds an item."""
    return 3 + module % 4


def on_channels(rows: int) -> int:
    """The model on `Simulation` and `Fifo`; returns the cycle of the end."""
    simulation = Simulation()
    channels: list[Fifo[int]] = [Fifo(simulation, f"channel {i}", SLOTS) for i in range(MODULES - 1)]

    def module(index: int) -> Steps:
        for row in range(rows):
            if index > 0:
                row = yield channels[index - 1].get()
            yield simulation.wait(hold_cycles(index))
            if index < MODULES - 1:
                yield channels[index].put(row)

    for index in range(MODULES):
        simulation.start(module(index), f"module {index}")
    return simulation.run()


def on_stores(rows: int) -> int:
    """The model on SimPy's own bounded store."""
    env = simpy.Environment()
    stores = [simpy.Store(env, SLOTS) for _ in range(MODULES - 1)]

    def module(index: int) -> Steps:
        for row in range(rows):
            if index > 0:
                row = yield stores[index - 1].get()
            yield env.timeout(hold_cycles(index))
            if index < MODULES - 1:
                yield stores[index].put(row)

    for index in range(MODULES):
        env.process(module(index))
    env.run()
    return int(env.now)


class _SmallFifo:
    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.reader: Any = None
        self.writer: Any = None


def on_generators(rows: int) -> int:
    """The model on the smallest kernel that can run it: generators in a heap; blocked ones in their channel."""
    channels = [_SmallFifo() for _ in range(MODULES - 1)]
    queue: list[tuple[int, int, Generator[int, None, None]]] = []
    now = order = 0
    running: Any = None

    def wake(process: Any) -> None:
        nonlocal order
        order += 1
        heappush(queue, (now, order, process))

    def module(index: int) -> Generator[int, None, None]:
        before = channels[index - 1] if index > 0 else None
        behind = channels[index] if index < MODULES - 1 else None
        for row in range(rows):
            if before is not None:
                while not before.items:
                    before.reader = running
                    yield -1
                row = before.items.popleft()
                if before.writer is not None:
                    wake(before.writer)
                    before.writer = None
            yield hold_cycles(index)
            if behind is not None:
                while len(behind.items) >= SLOTS:
                    behind.writer = running
                    yield -1
                behind.items.append(row)
                if behind.reader is not None:
                    wake(behind.reader)
                    behind.reader = None

    for index in range(MODULES):
        wake(module(index))
    while queue:
        now, _, running = heappop(queue)
        held = next(running, None)
        if held is not None and held >= 0:
            order += 1
            heappush(queue, (now + held, order, running))
    return now


KERNELS: dict[str, Callable[[int], int]] = {
    "SimPy, our channels": on_channels,
    "SimPy, its store": on_stores,
    "generators and a heap": on_generators,
}


def bench_transaction(rows: int = 20_000, repetitions: int = 3) -> dict[str, KernelSpeed]:
    """Speeds of every kernel; numbers only, it asserts nothing."""
    result = {}
    for name, kernel in KERNELS.items():
        seconds = []
        end = 0
        for _ in range(repetitions):
            start = time.process_time()
            end = kernel(rows)
            seconds.append(time.process_time() - start)
        result[name] = KernelSpeed(rows * MODULES / min(seconds), end)
    return result


def main() -> None:
    """Print the table."""
    for name, speed in bench_transaction().items():
        print(
            f"{name:22} {speed.steps_per_second / 1e3:7.1f} k steps/s   {NEEDED_STEPS_PER_SECOND / 1e3:.1f} k needed   "
            f"ends in cycle {speed.end_cycle}"
        )


if __name__ == "__main__":
    main()
