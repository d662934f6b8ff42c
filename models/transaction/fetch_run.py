"""The fetch side and the memory behind it, run up to a cycle or to the next thing that the row side must know.

HBM2 is stepped in compiled code; any other memory takes the same steps from Python. While nothing is under way no cycle
is stepped, only the memory's clock moves on.
"""

import inspect
import zlib
from collections.abc import Callable

import numpy as np

from models.config import AcceleratorConfig
from models.memory import engine, ports
from models.memory.compilation import Array, Record, compiled
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory
from models.transaction import fetch_channels, fetch_lanes, fetch_loop, fetch_state
from models.transaction.fetch_loop import BURST_BYTES, add_list, settle
from models.transaction.fetch_state import RING, new_state


def _loop(fingerprint: int) -> Callable[..., None]:
    @compiled
    def run_hbm2(states: Array, until: int, channels: Record, trace: Array, traced: Array) -> None:
        """Cycles up to, not including, `until`, or the first after which something has happened."""
        _ = fingerprint
        f = states[0]
        now = ports.clock(channels)
        f.event = 0
        while f.now < until and f.event == 0 and f.idle == 0:
            for c in range(channels.shape[0]):
                f.accepted[c], f.read_tag[c], f.write_tag[c] = ports.port(
                    channels[c],
                    now,
                    f.memory_n[c] > 0,
                    f.memory[c, 0, 0] * BURST_BYTES,
                    f.memory[c, 0, 1],
                    f.memory[c, 0, 2] != 0,
                )
                if trace.shape[0]:
                    ports.log_commands(channels[c], c, now, trace, traced)
            settle(f)
            now += 1

    return run_hbm2


_COMPILED = (engine, ports, fetch_loop, fetch_channels, fetch_lanes, fetch_state)
_FINGERPRINT = "".join(inspect.getsource(module) for module in _COMPILED)
run_hbm2 = _loop(zlib.crc32(_FINGERPRINT.encode()))


@compiled
def settle_one(states: Array) -> None:
    """`settle` for callers that hold the array, not the record."""
    settle(states[0])


class FetchRun:
    """A fetch side in front of a memory.

    Attributes:
        state: the record (`models.transaction.fetch_state`).
        events: bits of the last run (`models.transaction.fetch_loop`).
    """

    def __init__(self, machine: AcceleratorConfig, memory: Memory) -> None:
        if memory.channels != machine.hbm_channels:
            raise ValueError(f"a memory of {memory.channels} channels; the machine has {machine.hbm_channels}")
        self.machine, self.memory = machine, memory
        self.states = new_state(machine)
        self.state: Record = self.states[0]
        self.events = 0
        self.start_cycle = memory.now_cycle

    def run(self, until: int) -> int:
        """Run to `until` or to the end of a cycle in which something happened; the next cycle."""
        f = self.state
        if f["idle"]:
            self._skip(until)
            self.events = 0
            return until
        if isinstance(self.memory, Hbm2Memory):
            run_hbm2(self.states, until, *self.memory._state)
        else:
            self._in_python(until)
        self.events = int(f["event"])
        return int(f["now"])

    def _skip(self, until: int) -> None:
        self.memory.advance(self.start_cycle + until)
        self.state["now"] = until

    def _in_python(self, until: int) -> None:
        f = self.state
        f["event"] = 0
        while f["now"] < until and not f["event"] and not f["idle"]:
            valid, (burst, tag, write, _) = f["memory_n"] > 0, f["memory"][:, 0].T
            reply = self.memory.step(valid, np.where(valid, BURST_BYTES * burst, 0), tag, (write != 0) & valid)
            f["accepted"], f["read_tag"], f["write_tag"] = reply.accepted, reply.read_tag, reply.write_tag
            settle_one(self.states)

    def offer(
        self, stream: int, ids: Array, parts: int, first: int, count: int, base_bytes: int, bits: int, **to: int
    ) -> None:
        """Offer a list on a stream that has none, now; `to`: destination, buffer, place, purpose."""
        order = (to["destination"], to["buffer"], to["place"], to["purpose"])
        add_list(self.states, stream, ids, parts, first, count, base_bytes >> 5, bits, *order)

    def read(self, address_bytes: int, bursts: int, cycle: int) -> None:
        """Control reads, one a cycle from `cycle` on."""
        self._queue("read", "reads_made", address_bytes, bursts, cycle)

    def read_cycles(self, end: int, count: int) -> list[int]:
        """When the `count` control reads before the one numbered `end` were answered."""
        at = (end - count + np.arange(count)) % RING
        found: list[int] = self.state["read_cycle"][at].tolist()
        return found

    def write(self, kind: str, address_bytes: int, bursts: int, cycle: int) -> None:
        """Writes from `cycle` on: `out` of the write-back, `end` of the controller."""
        self._queue(kind, f"{kind}_made", address_bytes, bursts, cycle)
        self.state["owed_back" if kind == "out" else "owed_control"] += bursts

    def _queue(self, kind: str, made: str, address_bytes: int, bursts: int, cycle: int) -> None:
        f = self.state
        at = (int(f[made]) + np.arange(bursts)) % RING
        f[f"{kind}_address"][at] = (address_bytes >> 5) + np.arange(bursts)
        f[f"{kind}_cycle"][at] = cycle + np.arange(bursts)
        f[made] += bursts
        f["idle"] = 0
