"""Every datapath as Verilog: clean in Verilator's lint, and the recorded run again in Icarus, without X after reset."""

import shutil

import pytest

from hls.datapaths.catalog import BLOCKS
from hls.export import ExportError, export, lint, random_inputs, record, run_icarus
from hls.simulate import open_simulator
from models.config import AcceleratorConfig

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="Verilator is not installed")
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")


def exported(name, preset, folder, cycles):
    netlist = BLOCKS[name](AcceleratorConfig.preset(preset))
    with open_simulator(netlist, "fast") as simulator:
        export(netlist, folder, record(simulator, random_inputs(netlist, cycles, seed=1)))
    return netlist


@needs_verilator
@needs_icarus
@pytest.mark.parametrize("name", BLOCKS)
def test_a_tiny_datapath_is_clean_and_runs_in_icarus(name, tmp_path):
    netlist = exported(name, "tiny", tmp_path, cycles=60)
    lint(netlist)
    run_icarus(netlist, tmp_path)


@needs_icarus
def test_a_wrong_vector_fails_in_icarus(tmp_path):
    netlist = exported("zero_eliminator", "tiny", tmp_path, cycles=20)
    expected = tmp_path / f"{netlist.name}_out.hex"
    lines = expected.read_text().splitlines()
    lines[10] = f"{int(lines[10], 16) ^ 1:0{len(lines[10])}x}"
    expected.write_text("\n".join(lines) + "\n")
    with pytest.raises(ExportError, match="FAIL"):
        run_icarus(netlist, tmp_path)


@pytest.mark.full
@needs_verilator
@needs_icarus
@pytest.mark.parametrize("name", BLOCKS)
def test_a_full_size_datapath_is_clean_and_runs_in_icarus(name, tmp_path):
    netlist = exported(name, "spatten", tmp_path, cycles=40)
    lint(netlist)
    run_icarus(netlist, tmp_path)
