"""Controller: one layer after the other, from descriptor to answer (architecture page, datapath 15 and "Request").

    idle -> reading -> listing -> launching -> running -> ending -> selecting -> answering -> draining -> idle
              |           |
              '-----------'--> idle: what is wrong is the status, nothing has been written

    reading     the descriptor is read and checked
    listing     head table, survivors and protected ids are read (one behind the other, all under way) and checked
    launching   one cycle: layer_start; the head walk begins if there are rows
    running     until the last row has told its importance (`hls.datapaths.controller_tally`); at once without rows
    ending      one cycle: selection_start
    selecting   `hls.datapaths.selection` writes S_t and the next survivors; S_h when the last row's output has been
                handed over, which may still come: head_selection_start
    answering   the answer is handed over
    draining    until the memory has acknowledged all that was written, and everything is idle

If the memory stops answering (of the fetcher, of the write-back, or here: `hls.datapaths.watchdog`), the layer ends
with MEMORY_SILENT, and nothing starts until reset.

Ports. Host: `start_descriptor` (its address / 512) with `start_valid`, `start_ready`; `done_valid` (pulse),
`done_status`. Control reads: `read_request_...`, and bursts `read_...` as they pass by, `read_waits`, `read_moves`. The
layer: `layer_...` (the layer bus), constant from `layer_start` to `done_valid`; `walk_...`, `walk_start`,
`table_begin`, `lists_begin`, `selection_start`, `head_selection_start`; bases of what is written. From others:
`table_bad`, the lists' `..._checked`, `..._unordered`, `..._beyond`, `lists_held`, `row_added`, `row_kept` (pulses),
`rows_done`, `selection_done`, `next_survivors`, `next_head_mask`; idle means `write_busy`, `writes_pending`,
`walk_busy` 0 and `fetch_status`, `write_back_status` IDLE. The answer is `answer_row_data` under `answer_row_valid`,
`answer_row_ready`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls.datapaths.control_read import ControlReadSize, ReadKind
from hls.datapaths.controller_checks import STATUS_BITS, checks_graph, plan
from hls.datapaths.controller_descriptor import (
    DESCRIPTOR_BURSTS,
    FLAGS,
    Request,
    burst_ports,
    descriptor_registers,
)
from hls.datapaths.controller_tally import rows_told
from hls.datapaths.descriptor import ANSWER, MAX_HEADS, LayerStatus
from hls.datapaths.fetcher_parts import BASE_ALIGNMENT_BITS
from hls.datapaths.head_walk import KV_PLANES
from hls.datapaths.machine_sizes import MachineSizes
from hls.datapaths.watchdog import PATIENCE_CYCLES, Channel, Status, watchdog
from hls.lower import Netlist, building, output_ports
from hls.netlist import Wire
from hls.stream import payload_register, register
from hls.technology import Technology
from hls.trace import Graph
from models.config import AcceleratorConfig

CYCLE_BITS = 32
STATUS_PORT_BITS = 2
LISTS = ("survivors", "protected")
INNER = ("status", "layer_survivor_bursts", "layer_protected_bursts", "layer_table_bursts", "layer_heads")
"""Results of the checks that stay here."""
BASES = {
    "layer_output_base": "output_address",
    "token_scores_base": "token_scores_address",
    "head_scores_base": "head_scores_address",
    "next_survivors_base": "next_survivors_address",
    "answer_base": "answer_address",
    **{f"walk_{plane}_base": f"{plane}_address" for plane in ("query", *KV_PLANES)},
    **{f"walk_{plane}_stride": f"{plane}_stride" for plane in ("query", *KV_PLANES)},
}
"""Ports that are addresses or strides of the descriptor."""


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced part."""
    return {"checks": checks_graph(config)}


@dataclass(frozen=True, eq=False)
class _States:
    """A register each; at most one is 1."""

    idle: pyrtl.Register
    reading: pyrtl.Register
    listing: pyrtl.Register
    launching: pyrtl.Register
    running: pyrtl.Register
    ending: pyrtl.Register
    selecting: pyrtl.Register
    answering: pyrtl.Register
    draining: pyrtl.Register

    @classmethod
    def of(cls, block: pyrtl.Block) -> _States:
        """All of them, in reset idle."""
        names = list(cls.__dataclass_fields__)
        return cls(*(register(1, f"state_{name}", block, int(name == "idle")) for name in names))


def build(
    config: AcceleratorConfig, technology: Technology | None = None, patience_cycles: int = PATIENCE_CYCLES
) -> Netlist:
    """The controller as a netlist.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    sizes = MachineSizes.of(config)
    block = pyrtl.Block()
    with building(block):
        state = _States.of(block)
        bursts = burst_ports()
        start = pyrtl.Input(1, "start_valid") & state.idle
        address = register(sizes.base_bits, "descriptor_base", block)
        address.next <<= pyrtl.select(start, pyrtl.Input(sizes.base_bits, "start_descriptor"), address)
        request = descriptor_registers(plan(config, technology), start, bursts, block)
        has_rows = request.layer["layer_rows"] != 0
        accepted = request.checked & (request.layer["status"] == LayerStatus.OK)
        _reads(config, request, address, start, accepted, has_rows, block)
        arrived, list_status = _lists(request, has_rows)
        quiet, silent = _memory(state.idle, patience_cycles, block)
        lists_held = pyrtl.Input(1, "lists_held")
        lists_ok = list_status == LayerStatus.OK
        # a layer that is refused leaves nothing under way
        listed = arrived & (lists_ok | lists_held)
        launch = state.listing & listed & lists_ok
        fails = (request.checked & ~accepted) | (state.listing & listed & ~lists_ok)
        finishes = state.draining & quiet
        over = {
            "listing": listed,
            "running": (~has_rows | rows_told(request.layer, state.launching, block)) & lists_held,
            "selecting": pyrtl.Input(1, "selection_done"),
            "answering": _answer(state.answering, request, start, block),
            "draining": quiet,
        }
        stays = {name: getattr(state, name) & ~end for name, end in over.items()}
        leaves = {name: getattr(state, name) & end for name, end in over.items()}
        following = {
            "reading": start | (state.reading & ~request.checked),
            "listing": accepted | stays["listing"],
            "launching": launch,
            "running": state.launching | stays["running"],
            "ending": leaves["running"],
            "selecting": state.ending | stays["selecting"],
            "answering": leaves["selecting"] | stays["answering"],
            "draining": leaves["answering"] | stays["draining"],
        }
        under_way = pyrtl.rtl_any(*(getattr(state, name) for name in following))
        stopped = silent & under_way
        state.idle.next <<= (state.idle & ~start) | ((fails | finishes) & ~stopped)
        for name, wire in following.items():
            getattr(state, name).next <<= wire & ~stopped
        heads_wait = register(1, "heads_wait", block)
        heads_go = heads_wait & (pyrtl.Input(1, "rows_done") | ~has_rows)
        heads_wait.next <<= state.ending | (heads_wait & ~heads_go)
        done, status = register(1, "done", block), register(STATUS_BITS, "final_status", block)
        done.next <<= fails | finishes | stopped
        wrong = pyrtl.select(state.listing, list_status, request.layer["status"])
        ended = pyrtl.select(finishes, pyrtl.Const(LayerStatus.OK, STATUS_BITS), wrong)
        status.next <<= pyrtl.select(stopped, pyrtl.Const(LayerStatus.MEMORY_SILENT, STATUS_BITS), ended)
        output_ports(
            {
                "start_ready": state.idle,
                "done_valid": done,
                "done_status": status,
                "layer_start": state.launching,
                "walk_start": state.launching & has_rows,
                "selection_start": state.ending,
                "head_selection_start": heads_go,
                "lists_begin": accepted,
                "table_begin": accepted,
                "layer_head_mask": request.fields["head_mask"],
                **{f"layer_{name}": request.fields[name] for name in FLAGS},
                **{name: wire for name, wire in request.layer.items() if name not in INNER},
                **{port: request.fields[field] for port, field in BASES.items()},
            }
        )
    block.sanity_check()
    return Netlist("controller", block)


def _reads(
    config: AcceleratorConfig,
    request: Request,
    address: Wire,
    start: Wire,
    accepted: Wire,
    has_rows: Wire,
    block: pyrtl.Block,
) -> None:
    """Ports `read_request_...`: the descriptor after `start`, what it names after `accepted`."""
    size = ControlReadSize.of(config)
    layer, fields = request.layer, request.fields
    wanted = {
        ReadKind.DESCRIPTOR: (start, address, pyrtl.Const(DESCRIPTOR_BURSTS, size.count_bits)),
        ReadKind.HEAD_TABLE: (accepted & has_rows, fields["head_table_address"], layer["layer_table_bursts"]),
        ReadKind.SURVIVORS: (accepted, fields["survivors_address"], layer["layer_survivor_bursts"]),
        ReadKind.PROTECTED: (
            accepted & (layer["layer_protected_count"] != 0),
            fields["protected_address"],
            layer["layer_protected_bursts"],
        ),
    }
    ready = pyrtl.Input(1, "read_request_ready")
    waits = {kind: register(1, f"asks_{kind.name.lower()}", block) for kind in wanted}
    chosen: dict[str, Wire] = {}
    earlier: list[Wire] = []
    for kind, (asked, base, count) in wanted.items():
        first = waits[kind] & ~pyrtl.rtl_any(*earlier) if earlier else waits[kind]
        earlier.append(waits[kind])
        waits[kind].next <<= asked | (waits[kind] & ~(first & ready))
        for name, wire in {"address": base, "count": count, "kind": pyrtl.Const(kind, 2)}.items():
            masked = wire & first.sign_extended(len(wire))
            chosen[name] = chosen[name] | masked if name in chosen else masked
    below = pyrtl.Const(0, BASE_ALIGNMENT_BITS - 5)
    output_ports(
        {
            "read_request_address": pyrtl.concat(chosen["address"], below),
            "read_request_count": chosen["count"],
            "read_request_kind": chosen["kind"],
            "read_request_valid": pyrtl.rtl_any(*earlier),
        }
    )


def _lists(request: Request, has_rows: Wire) -> tuple[Wire, Wire]:
    """Whether head table and lists are in and checked, and what they are: a status.

    The head table has come when the survivors have: bursts come out in the order of their requests.
    """
    survivors_in, protected_in = (pyrtl.Input(1, f"{name}_checked") for name in LISTS)
    no_protected = request.layer["layer_protected_count"] == 0
    arrived = survivors_in & (protected_in | no_protected)
    # the lowest code comes last: it overrides
    faults = [
        (LayerStatus.PROTECTED_RANGE, pyrtl.Input(1, "protected_beyond") & ~no_protected),
        (LayerStatus.PROTECTED_ORDER, pyrtl.Input(1, "protected_unordered") & ~no_protected),
        (LayerStatus.SURVIVOR_RANGE, pyrtl.Input(1, "survivors_beyond")),
        (LayerStatus.SURVIVOR_ORDER, pyrtl.Input(1, "survivors_unordered")),
        (LayerStatus.HEAD_TABLE, pyrtl.Input(1, "table_bad") & has_rows),
    ]
    status: Wire = pyrtl.Const(LayerStatus.OK, STATUS_BITS)
    for code, fault in faults:
        status = pyrtl.select(fault, pyrtl.Const(code, STATUS_BITS), status)
    return arrived, status


def _memory(idle: Wire, patience_cycles: int, block: pyrtl.Block) -> tuple[Wire, Wire]:
    """Whether all that goes to and from memory is over, and whether the memory has stopped answering."""
    writes = pyrtl.Input(1, "write_busy") | pyrtl.Input(1, "writes_pending")
    channels = [
        Channel(pyrtl.Input(1, "read_waits"), pyrtl.Input(1, "read_moves")),
        Channel(writes, pyrtl.Input(1, "writes_move")),
    ]
    mine, _ = watchdog(channels, patience_cycles, ~idle, block)
    statuses = [pyrtl.Input(STATUS_PORT_BITS, f"{name}_status") for name in ("fetch", "write_back")]
    silent = pyrtl.rtl_any(*(status == Status.SILENT for status in (mine, *statuses)))
    busy = pyrtl.rtl_any(writes, pyrtl.Input(1, "walk_busy"), *(status != Status.IDLE for status in statuses))
    return ~busy, silent


def _answer(answering: Wire, request: Request, start: Wire, block: pyrtl.Block) -> Wire:
    """Ports `answer_row_...`; whether the answer is taken."""
    cycles = payload_register(CYCLE_BITS, "cycles", block)
    cycles.next <<= pyrtl.select(start, pyrtl.Const(0, CYCLE_BITS), (cycles + 1)[:CYCLE_BITS])
    mask = pyrtl.Input(MAX_HEADS, "next_head_mask")
    survivors = pyrtl.Input(len(request.layer["layer_keys"]), "next_survivors")
    values = {
        "cycles": cycles,
        "survivors": survivors,
        "heads": request.layer["layer_next_heads"],
        "head_mask": mask,
    }
    parts = []
    for field in reversed(ANSWER.fields):
        wire = values.get(field.name, pyrtl.Const(LayerStatus.OK, field.bits))
        parts.append(wire.zero_extended(field.bits))
    row = pyrtl.concat(*parts)
    output_ports({"answer_row_data": row.zero_extended(8 * ANSWER.size_bytes), "answer_row_valid": answering})
    return pyrtl.Input(1, "answer_row_ready")
