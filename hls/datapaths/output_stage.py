"""Rows of outputs to write-back and to head importance (algorithm page, sections 3 and 8).

    prob x V -> FIFO -> fork -> write-back          a row as it is, D of its elements; `last` ends the layer
                             -> head importance     `native_head_dim` elements a cycle, n cycles a row

Elements from D on are zeros for head importance: in first passes the missing bits of a value read as their middle, in
its padding too, so prob x V gives them. Jobs (`output_job`) come in the order of their rows, `layer_rows` rows each.
`rows_done` rises when both have got the last row of the layer, and falls with `layer_start`.
"""

from __future__ import annotations

import pyrtl

from hls.datapaths.machine_sizes import HEAD_BITS, MachineSizes
from hls.datapaths.top_k_wires import hold
from hls.datapaths.value_wires import OUTPUT_JOB, by_dimension, fitted, shifted_up
from hls.datapaths.write_back import WriteBackSize
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire, lanes_of, split
from hls.stream import Stream, drive, fifo, produced, register, skid_buffer, source_ports
from hls.stream_flow import fork
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

JOBS = 8
OUTPUT_ROWS = 2


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist; `technology` changes nothing."""
    del technology
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        element_bits = sizes.native.bit_length()
        layer_rows = pyrtl.Input(sizes.count_bits, "layer_rows")
        dimension = pyrtl.Input(sizes.dimension_bits, "layer_dimension")
        elements = pyrtl.Input(element_bits, "layer_elements")
        base = pyrtl.Input(sizes.base_bits, "layer_output_base")
        start = pyrtl.Input(1, "layer_start")

        weighed = source_ports(sizes.max_dim * sizes.width, block, "weighed_")
        jobs = fifo(source_ports(OUTPUT_JOB.bits, block, "output_job_"), JOBS, block=block, prefix="jobs_").stream
        job = OUTPUT_JOB.unpack(jobs.data)
        rows = _queue(sizes, weighed, block)
        offered = produced(rows.data, rows.valid & jobs.valid, block, "offered_")
        drive(rows.ready, offered.ready & jobs.valid)
        to_memory, to_heads = fork(offered, 2, block=block)

        row = register(sizes.count_bits, "row", block)
        is_last = row == (layer_rows - 1)[: len(row)]
        done = offered.valid & offered.ready
        hold(row, done, pyrtl.select(is_last, pyrtl.Const(0, len(row)), (row + 1)[: len(row)]))
        drive(jobs.ready, done & is_last)
        ends = is_last & job["last"]
        all_done = register(1, "all_done", block)
        all_done.next <<= (all_done | (done & ends)) & ~start

        size = WriteBackSize.of(config)
        output_ports(
            {
                "output_element": fitted(to_memory.data, size.elements * sizes.width),
                "output_count": fitted(
                    by_dimension(
                        dimension,
                        [
                            shifted_up(elements, code, element_bits + len(sizes.parts) - 1)
                            for code in range(len(sizes.parts))
                        ],
                    ),
                    size.elements.bit_length(),
                ),
                "output_last": ends,
                "output_base": base,
                "output_valid": to_memory.valid,
                "rows_done": all_done,
            }
        )
        drive(to_memory.ready, pyrtl.Input(1, "output_ready"))
        _heads(sizes, to_heads, job, dimension, elements, block)
    block.sanity_check()
    return Netlist("output_stage", block)


def _queue(sizes: MachineSizes, weighed: Stream, block: pyrtl.Block) -> Stream:
    """A FIFO of two rows; every part has controls of its own, which so drive no more bits than a part has."""
    parts = [
        produced(data, weighed.valid, block, f"weighed_{i}_")
        for i, data in enumerate(lanes_of(weighed.data, sizes.max_dim // sizes.native))
    ]
    queued = [fifo(part, OUTPUT_ROWS, block=block, prefix=f"rows_{i}_").stream for i, part in enumerate(parts)]
    drive(weighed.ready, parts[0].ready)
    rows = produced(pyrtl.concat_list([part.data for part in queued]), queued[0].valid, block, "rows_")
    for part in queued:
        drive(part.ready, rows.ready)
    return rows


def _heads(
    sizes: MachineSizes, rows: Stream, job: dict[str, Wire], dimension: Wire, elements: Wire, block: pyrtl.Block
) -> None:
    """Rows to head importance in parts."""
    parts = lanes_of(rows.data, sizes.max_dim // sizes.native)
    part_bits = max(1, (len(parts) - 1).bit_length())
    part = register(part_bits, "part", block)
    is_last = part == by_dimension(dimension, [pyrtl.Const(n - 1, part_bits) for n in sizes.parts])
    chosen = parts[0] if len(parts) == 1 else pyrtl.mux(part, *parts, default=parts[-1])
    # a row has at least one element
    first, *others = lanes_of(chosen, sizes.native)
    if others:
        exists = register(len(others), "others_exist", block)
        exists.next <<= pyrtl.concat_list([elements > i for i in range(1, sizes.native)])
        others = [element & exists[i].sign_extended(sizes.width) for i, element in enumerate(others)]
    masked = pyrtl.concat_list([first, *others])
    arriving = produced(
        pyrtl.concat(is_last, job["shift"], job["mantissa"], job["head"], masked), rows.valid, block, "part_"
    )
    drive(rows.ready, arriving.ready & is_last)
    moves = rows.valid & arriving.ready
    hold(part, moves, pyrtl.select(is_last, pyrtl.Const(0, part_bits), (part + 1)[:part_bits]))
    out = skid_buffer(arriving, block=block, prefix="head_skid_")
    names = ("element", "index", "mantissa", "shift", "last")
    fields = split(out.data, (sizes.native * sizes.width, HEAD_BITS, 16, 7, 1))
    output_ports({f"head_{name}": wire for name, wire in zip(names, fields, strict=True)} | {"head_valid": out.valid})
    drive(out.ready, pyrtl.Input(1, "head_ready"))
