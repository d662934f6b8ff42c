"""A layer on the whole accelerator, recorded: vectors for an exported testbench, and its requests to the memory.

The testbench replays, cycle by cycle, what host and memory did, and expects what the netlist answered; the run that is
recorded has been compared with the reference. Requests are written one a line, `cycle channel address R|W`, with the
byte address in hexadecimal: what other DRAM simulators take as a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hls.compose import Composition, Piece, Source, constant
from hls.export import Vectors
from hls.session import Tap
from hls.simulate import Backend, open_simulator
from models.config import AcceleratorConfig, Config, PruningConfig, QuantizationConfig
from verification.accelerator_host import Host
from verification.cosimulation import LIMIT_CYCLES, accelerator_of, make_memory
from verification.cosimulation_loop import RequestTrace, cosimulate
from verification.memory_image import ALIGNMENT_BYTES
from verification.scoreboard import Scoreboard
from verification.strategies import SmallRun

INPUT = "input_"
ALWAYS = "always"


@dataclass(frozen=True)
class RecordedLayer:
    """A layer as it went.

    Attributes:
        netlist: that computed it.
        vectors: every port in every cycle, from reset on.
        requests: to the memory.
    """

    netlist: Composition
    vectors: Vectors
    requests: RequestTrace


def small_run(machine: AcceleratorConfig) -> SmallRun:
    """A short layer with replays, grouped queries and value pruning."""
    config = Config(machine, PruningConfig(value_ratio=0.6), QuantizationConfig(6, 4, 0.5))
    return SmallRun(config, 1, 1, 2, 9, machine.native_head_dim, None, "hbm2", 3, 1.0)


def record_layer(machine: AcceleratorConfig, run: SmallRun | None = None, backend: Backend = "auto") -> RecordedLayer:
    """Run the first layer of a small run and record it.

    Args:
        machine: whose netlist computes it.
        run: whose first layer; default `small_run`.
        backend: simulator.

    Raises:
        ValueError: if the netlist differs from the reference.
    """
    run = run or small_run(machine)
    netlist = accelerator_of(machine)
    shown = {f"{INPUT}{name}": Source((Piece("", name, 0, bits),)) for name, bits in netlist.inputs.items()}
    probed = replace(netlist, drivers={**netlist.drivers, **shown, ALWAYS: constant(1, 1)})
    host = Host(run.run(), machine)
    request = next(iter(host.requests()))
    with open_simulator(probed, backend) as simulator:
        found = cosimulate(
            simulator,
            make_memory(run.memory, machine, run.seed),
            host.image.data,
            inputs={"start_descriptor": request.address // ALIGNMENT_BYTES},
            until="done_valid",
            limit_cycles=LIMIT_CYCLES,
            taps=(Tap("ports", (ALWAYS,), (*shown, *netlist.drivers)),),
            offer=("start_valid", "start_ready"),
            trace_requests=True,
        )
    board = Scoreboard()
    host.check(board, request)
    if not board.equal:
        raise ValueError(f"the layer differs from the reference and is not recorded:\n{board.report()}")
    words = found.taps["ports"].words
    assert found.requests is not None
    inputs = {name: words[f"{INPUT}{name}"] for name in netlist.inputs}
    return RecordedLayer(netlist, Vectors(inputs, {name: words[name] for name in netlist.drivers}), found.requests)


def request_lines(traces: Sequence[RequestTrace]) -> str:
    """The requests of some layers, one behind the other, a line each."""
    lines = []
    start = 0
    for trace in traces:
        kinds = np.where(trace.writes, "W", "R")
        columns = zip(trace.cycles.tolist(), trace.channels.tolist(), trace.addresses.tolist(), kinds, strict=True)
        lines += [f"{start + cycle} {channel} {address:#x} {kind}" for cycle, channel, address, kind in columns]
        start += int(trace.cycles[-1]) + 1 if len(trace) else 0
    return "\n".join(lines) + "\n"
