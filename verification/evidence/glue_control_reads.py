"""The control reads alone, from reset again and again: answers in any order, from the first burst on.

In the machine the descriptor is always read first, and the banks of a real memory answer nearly in order. Here random
requests come one behind the other, the memory takes bursts and answers them at random times, each channel in random
order, and whoever waits for a list takes it at random times. Bursts must come out in order, each as it was answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from hls.datapaths.control_read import ControlReadSize, ReadKind
from hls.datapaths.crossbar import BURST_ADDRESS_BITS, BURST_BITS
from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, WatchedSimulator, replay_of
from verification.evidence.glue_runs import TINY

SHORT_RUNS, SHORT_CYCLES, LONG_CYCLES = 24, 60, 2000
MOST_BURSTS = 20
CHANCES = (0.1, 0.4, 0.8, 1.0)
"""Of a request, of room in the memory, of an answer, of room for a list: each is one of these in a run's phase."""
PHASE_CYCLES = 100


@dataclass
class _Memory:
    """What is under way: slots by channel, and what is to come out, by slot the burst that it will hold."""

    asked: list[list[tuple[int, int]]]
    wanted: deque[tuple[int, int, int]] = field(default_factory=deque)
    bursts: dict[int, int] = field(default_factory=dict)


def control_reads_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """Short runs from reset, and a long one.

    Raises:
        AssertionError: if another burst comes out than is due.
    """
    simulator, found = WatchedSimulator(netlist), []
    lengths = [SHORT_CYCLES] * SHORT_RUNS + [LONG_CYCLES]
    for number, cycles in enumerate(lengths):
        simulator.reset()
        _run(simulator, Random(f"{seed} {number}"), cycles)
        found.append(replay_of(f"answers in any order, {number}", netlist, simulator.rows))
    return found


def _run(simulator: WatchedSimulator, random: Random, cycles: int) -> None:
    size = ControlReadSize.of(TINY)
    memory, request = _Memory([[] for _ in range(size.channels)]), Row()
    chances: list[float] = []
    for cycle in range(cycles):
        if cycle % PHASE_CYCLES == 0:
            chances = random.choices(CHANCES, k=4)
        asks, takes, answers, lists = (random.random() < chance for chance in chances)
        row = dict.fromkeys(simulator.netlist.inputs, 0)
        if not request and asks:
            request = {
                "read_request_address": random.getrandbits(BURST_ADDRESS_BITS),
                "read_request_count": random.randint(1, MOST_BURSTS),
                "read_request_kind": random.choice(list(ReadKind)),
            }
        row.update(request, read_request_valid=int(bool(request)), control_read_ready=int(takes), list_ready=int(lists))
        for c, under_way in enumerate(memory.asked):
            if under_way and (answers or random.random() < chances[2]):
                slot, address = under_way.pop(random.randrange(len(under_way)))
                row["control_answer_valid"] |= 1 << c
                row["control_answer_tag"] |= slot << c * size.slot_bits
                row["control_answer_data"] |= memory.bursts[address] << c * BURST_BITS
        seen = simulator.step(row)
        if request and seen["read_request_ready"]:
            _ask(memory, request, random)
            request = {}
        if seen["control_read_valid"] and takes:
            address = seen["control_read_address"]
            assert address % size.channels == seen["control_read_tag"] % size.channels
            memory.asked[address % size.channels].append((seen["control_read_tag"], address))
        if seen["read_valid"] and (lists or seen["read_kind"] < ReadKind.SURVIVORS):
            due = memory.wanted.popleft()
            assert (memory.bursts[due[0]], *due[1:]) == (seen["read_data"], seen["read_kind"], seen["read_last"])


def _ask(memory: _Memory, request: Row, random: Random) -> None:
    count = request["read_request_count"]
    for i in range(count):
        address = (request["read_request_address"] + i) % (1 << BURST_ADDRESS_BITS)
        memory.bursts.setdefault(address, random.getrandbits(BURST_BITS))
        memory.wanted.append((address, request["read_request_kind"], int(i == count - 1)))
