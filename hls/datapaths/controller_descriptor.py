"""The controller's registers of a descriptor, burst by burst as it comes in, and the layer that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyrtl

from hls.datapaths.control_read import KIND_BITS, ReadKind
from hls.datapaths.controller_checks import CHECKED
from hls.datapaths.crossbar import BURST_BITS
from hls.datapaths.descriptor import ADDRESS_BITS, ADDRESS_FIELDS, ALIGNMENT_BITS, DESCRIPTOR
from hls.lower import building, instantiate
from hls.netlist import Wire
from hls.schedule import Schedule
from hls.stream import payload_register, register

DESCRIPTOR_BURSTS = 8 * DESCRIPTOR.size_bytes // BURST_BITS
FLAGS = ("clear_tokens", "clear_heads", "halve")


@dataclass(frozen=True, eq=False)
class Bursts:
    """What the control reads give in a cycle."""

    data: Wire
    kind: Wire
    last: Wire
    valid: Wire


@dataclass(frozen=True, eq=False)
class Request:
    """What a descriptor asks for.

    Attributes:
        fields: its fields as they are; addresses and strides in 512 bytes.
        layer: the layer, by the names of `checks_graph`; holds from `checked` until the next descriptor comes in.
        checked: pulse; `layer` and its `status` are there.
    """

    fields: Mapping[str, Wire]
    layer: Mapping[str, Wire]
    checked: Wire


def burst_ports() -> Bursts:
    """Ports `read_...`."""
    return Bursts(
        pyrtl.Input(BURST_BITS, "read_data"),
        pyrtl.Input(KIND_BITS, "read_kind"),
        pyrtl.Input(1, "read_last"),
        pyrtl.Input(1, "read_valid"),
    )


def descriptor_registers(checks: Schedule, start: Wire, bursts: Bursts, block: pyrtl.Block) -> Request:
    """Take a descriptor in after `start` (pulse), and check its fields."""
    with building(block):
        arrives = bursts.valid & (bursts.kind == ReadKind.DESCRIPTOR)
        index = register((DESCRIPTOR_BURSTS - 1).bit_length(), "descriptor_burst", block)
        following = pyrtl.select(bursts.last, pyrtl.Const(0, len(index)), (index + 1)[: len(index)])
        index.next <<= pyrtl.select(arrives, following, index)
        here = [arrives & (index == i) for i in range(DESCRIPTOR_BURSTS)]

        def loaded(name: str, low: int, bits: int) -> Wire:
            burst, at = divmod(low, BURST_BITS)
            held = register(bits, f"field_{name}", block)
            held.next <<= pyrtl.select(here[burst], bursts.data[at : at + bits], held)
            return held

        fields = {
            name: loaded(name, DESCRIPTOR.field(name).offset, DESCRIPTOR.field(name).bits)
            for name in (*CHECKED, *FLAGS)
        }
        for name, _ in ADDRESS_FIELDS:
            low = DESCRIPTOR.field(name).offset + ALIGNMENT_BITS
            fields[name] = loaded(name, low, ADDRESS_BITS - ALIGNMENT_BITS)
        found = {}
        for name, bits in _suspects().items():
            fault = pyrtl.rtl_any(*(here[i] & _some(bursts.data, each) for i, each in bits.items()))
            sticky = payload_register(1, f"found_{name}", block)
            sticky.next <<= ~start & (sticky | fault)
            found[name] = sticky
        complete = register(1, "descriptor_complete", block)
        complete.next <<= arrives & bursts.last
        inputs = {**{name: fields[name] for name in CHECKED}, **found}
        checked = instantiate(checks, inputs, block, valid=complete, prefix="checks_")
        done = register(1, "descriptor_checked", block)
        done.next <<= checked.out_valid
        return Request(fields, checked.outputs, done)  # as the fields stay, so does what follows from them


def _some(data: Wire, bits: Sequence[int]) -> Wire:
    """Whether one of some bits is 1."""
    rising = sorted(bits)
    starts = [i for i in range(len(rising)) if i == 0 or rising[i] != rising[i - 1] + 1]
    runs = [rising[low:high] for low, high in zip(starts, (*starts[1:], len(rising)), strict=True)]
    return pyrtl.concat_list([data[run[0] : run[-1] + 1] for run in runs]) != 0


def _suspects() -> dict[str, dict[int, list[int]]]:
    """Bits that must be 0, by what it means if they are not, and by burst."""
    unaligned: list[int] = []
    outside: list[int] = []
    for name, _ in ADDRESS_FIELDS:
        field = DESCRIPTOR.field(name)
        unaligned += range(field.offset, field.offset + ALIGNMENT_BITS)
        outside += range(field.offset + ADDRESS_BITS, field.offset + field.bits)
    found = {"reserved": DESCRIPTOR.reserved_bits, "unaligned": unaligned, "outside": outside}
    return {
        name: {
            burst: [bit % BURST_BITS for bit in bits if bit // BURST_BITS == burst]
            for burst in sorted({bit // BURST_BITS for bit in bits})
        }
        for name, bits in found.items()
    }
