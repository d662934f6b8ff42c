"""Which values are fetched, when, and into which buffer of the Value SRAM (algorithm page, sections 4 and 9).

    summarization                 survivors (MSB plane, or whole) once per K/V head, as soon as a buffer is free
      flat row                    LSBs of kept values that have not been asked for: `hls.datapaths.value_sparse`
    generation, all kept          survivors once per head, as soon as a buffer is free: before its row's softmax
      flat row                    the same again, LSB plane, as soon as it is decided: before its second pass
    generation, values pruned     ids of the kept list, when it is written and a buffer is free
      flat row                    the same list again, LSB plane

Three parts share the port `value_request`: `prefetch` takes jobs from the controller ahead of their rows, by up to the
jobs of `JOBS_AHEAD` and two buffers; `decided`, where all is kept in generation, holds each job until its row is
decided, and asks for its LSBs if it is flat; `rows` takes what is known of each row (`kept_row`), asks for what the row
needs, and then says that the row may start when it has landed (`value_row`). `rows` goes first, then `decided`. A
request is in one register; `value_row` of a row comes after the sequencer has accepted all its requests, so that
`value_pending` includes them.

The kept list has two halves, used in turn: the third list is written when the first one's values have landed
(`value_started`). Buffers are used in turn too, and free again with `value_release`. From an input to an output there
are two paths, of a gate each: `output_job_ready` to `job_value_ready`, `sparse_pending` to `sparse_go`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.bitwidth_converter import Plane
from hls.datapaths.machine_sizes import LINE_BITS, Destination, MachineSizes, Record, Source
from hls.datapaths.row_queues import PENDING_ROWS
from hls.datapaths.top_k_wires import align, hold
from hls.datapaths.value_wires import KEEP_ALL, OUTPUT_JOB, RATIO_BITS, VALUE_ROW, kept_list, kept_row, vectors
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import Stream, drive, fifo, payload_register, produced, register, sink_ports, source_ports
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

JOBS_AHEAD = 4
BUFFERS = 2
DECISIONS_AHEAD = 2 * PENDING_ROWS
"""Rows that are decided before their values are asked for: those in `row_queues`, and less than as many behind it."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """No part is arithmetic."""
    del config
    return {}


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the module reads of the layer; `whole` is all keys as vectors."""

    generation: Wire
    dimension: Wire
    keys: Wire
    rows: Wire
    progressive: Wire
    keeps_all: Wire
    whole: Wire

    @property
    def asks_when_decided(self) -> Wire:
        """Whether LSBs are asked for when a row is decided, since it will keep all its values."""
        return self.generation & self.keeps_all & self.progressive


@dataclass(frozen=True, eq=False)
class _Asking:
    """A part's claim on the request register: `loads` is the answer, `pending` that its request is not accepted yet."""

    wants: Wire
    data: Wire
    loads: Wire
    accepted: Wire
    pending: Wire


def _job(sizes: MachineSizes) -> Record:
    """What `rows` needs of a job; the buffer is known where `prefetch` has asked for values."""
    base = sizes.base_bits
    return Record((("kv_first", 1), ("kv_last", 1), ("value_base", base), ("value_lsb_base", base), ("buffer", 1)))


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The module as a netlist; `technology` changes nothing."""
    del technology
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        names = {
            "generation": 1,
            "dimension": sizes.dimension_bits,
            "keys": sizes.count_bits,
            "rows": sizes.count_bits,
            "progressive": 1,
        }
        of_layer = {name: pyrtl.Input(bits, f"layer_{name}") for name, bits in names.items()}
        ratio16 = pyrtl.Input(RATIO_BITS, "layer_ratio16")
        whole = align(vectors(of_layer["keys"], of_layer["dimension"], sizes), 1, "whole")
        layer = _Layer(**of_layer, keeps_all=ratio16[KEEP_ALL], whole=whole)

        request_bits = sizes.list_request.bits
        by_rows, by_decided, by_prefetch = (
            _Asking(
                pyrtl.WireVector(1, f"{name}_wants"),
                pyrtl.WireVector(request_bits, f"{name}_request"),
                pyrtl.WireVector(1, f"{name}_loads"),
                pyrtl.WireVector(1, f"{name}_accepted"),
                pyrtl.WireVector(1, f"{name}_pending"),
            )
            for name in ("rows", "decided", "prefetch")
        )
        _requests([by_rows, by_decided, by_prefetch], request_bits, block)

        used, following = register(BUFFERS.bit_length(), "buffers_used", block), register(1, "next_buffer", block)
        is_free = used != BUFFERS
        prefetched = _prefetch(sizes, layer, by_prefetch, is_free, following, block)
        jobs = _decided(sizes, layer, by_decided, prefetched, block)
        taken_by_rows = _rows(sizes, layer, by_rows, jobs, is_free, following, block)

        # `rows` takes a buffer only where `prefetch` does not: pruned values in generation
        takes_buffer = by_prefetch.loads | taken_by_rows
        release = pyrtl.Input(1, "value_release")
        one_more = pyrtl.select(takes_buffer & ~release, (used + 1)[: len(used)], used)
        used.next <<= pyrtl.select(release & ~takes_buffer, (used - 1)[: len(used)], one_more)
        hold(following, takes_buffer, ~following)
    block.sanity_check()
    return Netlist("value_lists", block)


def _requests(parts: Sequence[_Asking], bits: int, block: pyrtl.Block) -> None:
    """The request register; the first part goes first."""
    occupied, data = register(1, "request_occupied", block), payload_register(bits, "request", block)
    owner = register(len(parts), "request_owner", block)
    accepted = occupied & pyrtl.Input(1, "value_request_ready")
    free: Wire = ~occupied
    chosen = parts[-1].data
    for part, mine in zip(parts, owner, strict=True):
        drive(part.pending, occupied & mine)
        drive(part.accepted, accepted & mine)
        drive(part.loads, part.wants & free)
        free = free & ~part.wants
    for part in reversed(parts[:-1]):
        chosen = pyrtl.select(part.wants, part.data, chosen)
    loads = [part.loads for part in parts]
    loaded = pyrtl.rtl_any(*loads)
    occupied.next <<= loaded | (occupied & ~accepted)
    hold(owner, loaded, pyrtl.concat_list(loads))
    hold(data, loaded, chosen)
    output_ports({"value_request_data": data, "value_request_valid": occupied})


def _request(
    sizes: MachineSizes, source: Wire, count: Wire, base: Wire, plane: Wire, destination: Wire, buffer: Wire
) -> Wire:
    return sizes.list_request.pack(
        {
            "source": source,
            "first": pyrtl.Const(0, sizes.count_bits),
            "count": count,
            "base": base,
            "plane": plane,
            "destination": destination,
            "place": buffer.zero_extended(LINE_BITS + 1),
        }
    )


def _plane(layer: _Layer) -> Wire:
    """The plane that is fetched first."""
    return pyrtl.select(layer.progressive, pyrtl.Const(Plane.MSB, 2), pyrtl.Const(Plane.WHOLE, 2))


def _prefetch(
    sizes: MachineSizes, layer: _Layer, asking: _Asking, is_free: Wire, following: Wire, block: pyrtl.Block
) -> Stream:
    """Jobs from the controller to `rows` and to the output stage, after their values have been asked for."""
    arriving = source_ports(sizes.job.bits, block, "job_value_")
    job = sizes.job.unpack(arriving.data)
    needs_list = pyrtl.select(layer.generation, layer.keeps_all, job["kv_first"])
    kept = {name: job[name] for name in ("kv_first", "kv_last", "value_base", "value_lsb_base")}
    # the list that was asked for last is this job's, or in summarization its K/V head's
    granted = register(1, "job_granted", block)
    there = arriving.valid & (granted | ~needs_list)
    outputs = {"head": job["head"], "mantissa": job["value_mantissa"], "shift": job["value_shift"], "last": job["last"]}
    to_rows = produced(
        _job(sizes).pack({**kept, "buffer": ~following}), pyrtl.WireVector(1, "job_there"), block, "job_"
    )
    to_output = produced(OUTPUT_JOB.pack(outputs), there & to_rows.ready, block, "output_")
    drive(to_rows.valid, there & to_output.ready)
    passes = there & to_rows.ready & to_output.ready
    drive(arriving.ready, passes)
    granted.next <<= (granted | asking.accepted) & ~passes
    # a cycle after it came: the first keys of a layer are asked for in that one, and go before
    seen = register(1, "job_seen", block)
    seen.next <<= arriving.valid & ~passes
    drive(asking.wants, arriving.valid & seen & needs_list & is_free & ~asking.pending & ~granted)
    request = _request(
        sizes,
        pyrtl.Const(Source.SURVIVORS, 2),
        layer.whole,
        job["value_base"],
        _plane(layer),
        pyrtl.Const(Destination.VALUE, 2),
        following,
    )
    drive(asking.data, request)
    sink_ports(to_output, block, "output_job_")
    return fifo(to_rows, JOBS_AHEAD, block=block, storage="memory", prefix="jobs_").stream


def _decided(sizes: MachineSizes, layer: _Layer, asking: _Asking, jobs: Stream, block: pyrtl.Block) -> Stream:
    """Jobs to `rows`: as they come, or where LSBs are asked for when a row is decided, after that."""
    here = layer.asks_when_decided
    decision = Stream(
        pyrtl.Input(1, "row_flat"), pyrtl.Input(1, "row_decided") & here, pyrtl.WireVector(1, "decision_room")
    )
    decisions = fifo(decision, DECISIONS_AHEAD, block=block, storage="memory", prefix="decisions_").stream
    job, asked = _job(sizes).unpack(jobs.data), register(1, "decided_asked", block)
    there = jobs.valid & decisions.valid & here
    settled = ~decisions.data | (asked & ~asking.pending)
    after = produced(jobs.data, there & settled, block, "decided_")
    passes = there & settled & after.ready
    drive(decisions.ready, passes)
    drive(asking.wants, there & decisions.data & ~asked)
    asked.next <<= (asked | asking.loads) & ~passes
    request = _request(
        sizes,
        pyrtl.Const(Source.SURVIVORS, 2),
        layer.whole,
        job["value_lsb_base"],
        pyrtl.Const(Plane.LSB, 2),
        pyrtl.Const(Destination.VALUE, 2),
        job["buffer"],
    )
    drive(asking.data, request)
    held = fifo(after, BUFFERS, block=block, prefix="decided_jobs_").stream
    taken = pyrtl.WireVector(1, "job_taken")
    drive(held.ready, taken & here)
    drive(jobs.ready, pyrtl.select(here, passes, taken))
    return Stream(pyrtl.select(here, held.data, jobs.data), pyrtl.select(here, held.valid, jobs.valid), taken)


def _lists(sizes: MachineSizes, started: Wire, block: pyrtl.Block) -> tuple[Wire, Wire]:
    """Writes lists, kept ones into their halves; whether one is there that `rows` has not dealt with, and `dealt`.

    The caller drives `dealt` where it has dealt with the oldest.
    """
    lists = source_ports(kept_list(sizes).bits, block, "kept_list_")
    row = kept_list(sizes).unpack(lists.data)
    held, written = (register(BUFFERS.bit_length(), f"lists_{name}", block) for name in ("held", "written"))
    half, number = register(1, "written_half", block), register(sizes.list_row_bits, "written_row", block)
    room = held != BUFFERS
    drive(lists.ready, room)
    takes = lists.valid & room
    ends = takes & row["last"]
    hold(half, ends, ~half)
    hold(number, takes, pyrtl.select(row["last"], pyrtl.Const(0, len(number)), (number + 1)[: len(number)]))
    dealt = pyrtl.WireVector(1, "list_dealt")
    for count, leaves in ((held, started), (written, dealt)):
        one_more = pyrtl.select(ends & ~leaves, (count + 1)[: len(count)], count)
        count.next <<= pyrtl.select(leaves & ~ends, (count - 1)[: len(count)], one_more)
    missing_write = pyrtl.Input(1, "missing_write")
    ids_bits = sizes.top_k_lanes * sizes.id_bits
    which = pyrtl.select(half, pyrtl.Const(Source.KEPT_SECOND, 2), pyrtl.Const(Source.KEPT_FIRST, 2))
    writes = {
        "which": pyrtl.select(missing_write, pyrtl.Const(Source.SPARSE, 2), which),
        "row": pyrtl.select(missing_write, pyrtl.Input(sizes.list_row_bits, "missing_row"), number),
        "ids": pyrtl.select(missing_write, pyrtl.Input(ids_bits, "missing_ids"), row["ids"]),
    }
    output_ports({f"kept_{name}": align(wire, 1, f"kept_{name}_register") for name, wire in writes.items()})
    output_ports(
        {
            "sparse_slots": align(pyrtl.Input(ids_bits, "missing_slots"), 1, "slots_register"),
            "kept_write": align(missing_write | (takes & (row["count"] != 0)), 1, "kept_write_register"),
        }
    )
    return written != 0, dealt


def _rows(
    sizes: MachineSizes,
    layer: _Layer,
    asking: _Asking,
    jobs: Stream,
    is_free: Wire,
    following: Wire,
    block: pyrtl.Block,
) -> Wire:
    """What every row needs, one row after another; where it takes a buffer."""
    events = source_ports(kept_row(sizes).bits, block, "kept_row_")
    event, job = kept_row(sizes).unpack(events.data), _job(sizes).unpack(jobs.data)
    here = events.valid & jobs.valid
    pruned = layer.generation & ~layer.keeps_all
    flat = event["flat"]

    started = pyrtl.Input(1, "value_started") & pruned
    is_written, dealt = _lists(sizes, started, block)
    main_done, extra_done = register(1, "main_done", block), register(1, "extra_done", block)
    went, cleared = register(1, "went", block), register(1, "cleared", block)
    half, own_buffer = register(1, "read_half", block), register(1, "own_buffer", block)
    buffer = pyrtl.select(pruned, own_buffer, job["buffer"])

    # values of the kept list
    wants_main = here & pruned & ~main_done & is_written & is_free
    main_loads = pyrtl.WireVector(1, "main_loads")
    main_loads <<= wants_main & asking.loads
    # LSBs: in generation the same list, unless `decided` has asked for them; in summarization the sparse one
    sparse = flat & ~layer.generation
    total, is_counted = pyrtl.Input(sizes.count_bits, "missing_total"), pyrtl.Input(1, "missing_total_valid")
    sparse_pending = pyrtl.Input(1, "sparse_pending")
    goes = here & sparse & ~went & ~sparse_pending
    counted = sparse & went & is_counted
    has_missing = total != 0
    may_ask = pyrtl.select(layer.generation, main_done, counted & has_missing)
    wants_extra = here & flat & ~extra_done & may_ask
    list_source = pyrtl.select(half, pyrtl.Const(Source.KEPT_SECOND, 2), pyrtl.Const(Source.KEPT_FIRST, 2))
    count = pyrtl.select(layer.generation, event["count"], total)
    extra = ~wants_main
    drive(asking.wants, wants_main | wants_extra)
    request = _request(
        sizes,
        pyrtl.select(layer.generation, list_source, pyrtl.Const(Source.SPARSE, 2)),
        vectors(count, layer.dimension, sizes),
        pyrtl.select(extra, job["value_lsb_base"], job["value_base"]),
        pyrtl.select(extra, pyrtl.Const(Plane.LSB, 2), _plane(layer)),
        pyrtl.select(sparse, pyrtl.Const(Destination.SPARSE, 2), pyrtl.Const(Destination.VALUE, 2)),
        pyrtl.select(wants_main, following, buffer),
    )
    drive(asking.data, request)
    extra_loads = asking.loads & extra

    all_asked = (main_done | ~pruned) & (extra_done | ~flat | layer.asks_when_decided) & ~asking.pending
    row = register(sizes.count_bits, "row", block)
    is_last = row == (layer.rows - 1)[: len(row)]
    permit = produced(
        VALUE_ROW.pack(
            {
                "buffer": buffer,
                "release": is_last & (layer.generation | job["kv_last"]),
                "full": flat | ~layer.progressive,
                "sparse": sparse,
            }
        ),
        here & all_asked,
        block,
        "permit_",
    )
    done = permit.valid & permit.ready
    drive(events.ready, done)
    drive(jobs.ready, done & is_last)
    dealt <<= done & pruned
    hold(row, done, pyrtl.select(is_last, pyrtl.Const(0, len(row)), (row + 1)[: len(row)]))
    main_done.next <<= (main_done | main_loads) & ~done
    extra_done.next <<= (extra_done | extra_loads | (here & counted & ~has_missing)) & ~done
    went.next <<= (went | goes) & ~done
    hold(own_buffer, main_loads, following)
    hold(half, dealt, ~half)
    # `asked` is forgotten before the first flat row of every K/V head
    kv_ends = done & is_last & job["kv_last"]
    cleared.next <<= (cleared | goes) & ~kv_ends
    output_ports({"sparse_go": goes, "sparse_clear": ~cleared})
    sink_ports(permit, block, "value_row_")
    return main_loads
