"""From Python to netlist: dataflow graphs, scheduling, lowering to PyRTL, simulation, export."""
