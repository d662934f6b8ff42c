"""`spatten export`: a datapath, or the whole machine, as Verilog with a self-checking testbench."""

from __future__ import annotations

from pathlib import Path

from hls.export import export, random_inputs, record
from hls.simulate import open_simulator
from models.config import AcceleratorConfig
from traces.atomic import write_atomically
from verification.evidence_job import build_block
from verification.recorded_layer import record_layer, request_lines

REQUESTS = "memory_requests.txt"


def export_block(name: str, preset: str, out: Path, cycles: int, seed: int) -> list[str]:
    """Write a datapath with a testbench of random stimuli; returns the files.

    Raises:
        ConfigError: for an unknown block or preset.
    """
    netlist = build_block(name, preset)
    with open_simulator(netlist, "fast") as simulator:
        vectors = record(simulator, random_inputs(netlist, cycles, seed))
    return [str(file) for file in export(netlist, out, vectors)]


def export_accelerator(preset: str, out: Path) -> list[str]:
    """Write the machine with a testbench that replays a recorded layer, and its memory requests; returns the files.

    Raises:
        ConfigError: for an unknown preset.
    """
    recorded = record_layer(AcceleratorConfig.preset(preset))
    files = [str(file) for file in export(recorded.netlist, out, recorded.vectors)]
    write_atomically(out / REQUESTS, request_lines([recorded.requests]).encode())
    return [*files, str(out / REQUESTS)]
