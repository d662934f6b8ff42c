"""What of a layer no stage can be busy in, at the least, where layers follow one another: its chain of dependencies.

    before   descriptor -> fields checked -> lists -> ids checked -> first request for keys
    behind   last row decided -> its beats -> top-k -> values fetched -> prob x V -> S_h -> answer -> acknowledged
                                          '-> S_t swept and written  ------------------'

Every step is counted with the latency that the schedules of `hls` give it and with a memory that has the right row open
and nothing else to do; so no machine with these datapaths, a layer at a time, is faster, and the one that is modelled
mostly is slower. The buffers of the Key SRAM rest in both parts; other stages of the rows in the first. DRAM rests in
the first, and from the last value fetched until its row is acknowledged.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.number_formats import IMPORTANCE_BITS
from hls.stream import STORED_CYCLES
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory
from models.transaction.layer_plan import LayerPlan
from models.transaction.machine_timing import MachineTiming
from models.transaction.register_timing import ControlTiming
from models.transaction.value_state import B, ValueSizes

PORT = 2 * STORED_CYCLES
"""A request waits before the memory port, and in it."""


@dataclass(frozen=True)
class SerialChain:
    """Least cycles of a layer: before the first keys, behind the last row's decision, and behind the last value."""

    before: int
    behind: int
    drain: int


@dataclass(frozen=True)
class RoundTrip:
    """Least cycles from a request to the answer of a read, or of a write."""

    read: int
    write: int

    @classmethod
    def of(cls, memory: Memory) -> "RoundTrip":
        """That of HBM2 at its ports and of the memory port; of another memory only the latter."""
        return _hbm2() if isinstance(memory, Hbm2Memory) else cls(PORT, PORT)


@cache
def _hbm2() -> RoundTrip:
    memory = Hbm2Memory(1)
    _answered(memory, False)
    # the row is open now
    return RoundTrip(PORT + _answered(memory, False), PORT + _answered(memory, True))


def _answered(memory: Memory, write: bool) -> int:
    """Cycles from the acceptance of a request to its answer."""
    valid, accepted, cycle = np.ones(1, np.bool_), 0, 0
    zero = np.zeros(1, np.int64)
    while True:
        reply = memory.step(valid, zero, zero, np.full(1, write) & valid)
        if reply.accepted[0]:
            valid, accepted = np.zeros(1, np.bool_), cycle
        if (reply.write_tag if write else reply.read_tag)[0] >= 0:
            return cycle - accepted
        cycle += 1


def behind(plan: LayerPlan, trip: RoundTrip, pass_rows: int, passes: int) -> int:
    """From the decision of the last row, whose quick-select takes these passes, until the layer is done."""
    work, machine = plan.work, plan.machine
    timing, sizes = MachineTiming.of(machine), ValueSizes.of(machine)
    scores = ControlTiming.of(machine).sweep_begun + timing.sweep + -(-IMPORTANCE_BITS * work.tokens // BURST_BITS)
    if not work.rows:
        return scores + trip.write
    engine, beats = timing.engines[B], plan.beats[-1]
    outputs = beats + sizes.weigh_cycles + timing.heads + work.model.heads
    if plan.prunes:
        outputs += engine.fill_cycles + pass_rows + passes * engine.pass_overhead_cycles
        outputs += trip.read if work.generation else 0
    return max(outputs, beats + scores) + trip.write


def drain(plan: LayerPlan, trip: RoundTrip) -> int:
    """From the last value of the last row until the layer is done."""
    if not plan.work.rows:
        return 0
    timing, sizes = MachineTiming.of(plan.machine), ValueSizes.of(plan.machine)
    return sizes.weigh_cycles + timing.heads + plan.work.model.heads + trip.write
