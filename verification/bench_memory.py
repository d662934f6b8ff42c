"""Speed of the HBM2 model: bursts a second of one core, and the bandwidth that each pattern reaches.

`python -m verification.bench_memory` prints them. Compilation is outside the measurement; group size is that of a
transaction model that hands over many rows at a time.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.memory.hbm2 import Hbm2Memory

Requests = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]
TOKEN_BYTES = 96  # 64 elements of 12 bits: 3 bursts


@dataclass(frozen=True)
class MemorySpeed:
    """One pattern's speed (CPU seconds of one core, best of the repetitions), bandwidth over peak, and row hits."""

    bursts: int
    bursts_per_second: float
    efficiency: float
    row_hit_rate: float


def patterns(bursts: int, seed: int = 0) -> dict[str, Requests]:
    """Addresses, issue cycles and writes of `bursts` bursts: streams, survivor lists, random bursts."""
    random = np.random.default_rng(seed)
    reads, always = np.zeros(bursts, np.bool_), np.zeros(bursts, np.int64)
    stream = np.arange(bursts) * 32
    found = {
        "stream": (stream, always, reads),
        "stream of writes": (stream, always, ~reads),
        "stream, 30 % writes": (stream, always, random.random(bursts) < 0.3),
        "random": (random.integers(0, 1 << 29, bursts) * 32, always, reads),
    }
    for keep in (0.1, 0.5):
        tokens = np.cumsum(random.geometric(keep, -(-bursts // 3)))
        gather = (tokens[:, None] * TOKEN_BYTES + np.arange(0, TOKEN_BYTES, 32)).ravel()[:bursts]
        found[f"gather, keep {keep}"] = (gather, always, reads)
    return found


def bench_memory(bursts: int = 400_000, group: int = 50_000, repetitions: int = 3) -> dict[str, MemorySpeed]:
    """Speeds of every pattern; numbers only, it asserts nothing."""
    Hbm2Memory().run(np.arange(64) * 32)
    result = {}
    for name, (addresses, cycles, writes) in patterns(bursts).items():
        seconds = []
        for _ in range(repetitions):
            memory = Hbm2Memory()
            start = time.process_time()
            for first in range(0, bursts, group):
                part = slice(first, first + group)
                memory.run(addresses[part], cycles[part], writes[part])
            seconds.append(time.process_time() - start)
        memory = Hbm2Memory()
        memory.run(addresses, cycles, writes)
        statistics = memory.statistics()
        result[name] = MemorySpeed(bursts, bursts / min(seconds), statistics.efficiency, statistics.row_hit_rate)
    return result


def main() -> None:
    """Print the table."""
    for name, speed in bench_memory().items():
        print(
            f"{name:22} {speed.bursts_per_second / 1e6:6.2f} M bursts/s   "
            f"{speed.efficiency:6.1%} of peak   {speed.row_hit_rate:6.1%} row hits"
        )


if __name__ == "__main__":
    main()
