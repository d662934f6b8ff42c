"""Area, delay and power of a raw PyRTL block, net by net: ``estimate_block(block, technology, clock_period_ps)``.

Every net is one operator of the technology; the zeros that operands are extended by before they are added, compared
or multiplied are not counted, since synthesis removes them. A multiplexer counts by the bits it selects, not by its
select bit (as `pyrtl.area_estimation` does); one that feeds a register its own output is that register's enable. The
subtractions that correct an unsigned product for the signs of its factors are part of the multiplier, as the
technology's signed multipliers are.
Memories with at most one port to read
and one to write are SRAM macros where the technology's fit reaches, else flip-flops with a multiplexer tree to read.
The netlist has one stage: paths run from registers, inputs and memories to registers and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import pyrtl

from hls.costs import WIRING, Cost, Ports, TechnologyError
from hls.estimate import (
    Estimate,
    MemoryEstimate,
    StageEstimate,
    by_kind,
    enable_delay,
    leakage,
    overhead,
    registers,
)
from hls.quantity import Quantity, exactly, total
from hls.technology import Technology

_KINDS = {
    "&": "and", "|": "or", "^": "xor", "n": "and", "~": "not", "+": "add", "-": "sub", "*": "mul", "<": "lt", ">": "lt",
    "=": "eq", "x": "mux", "c": "concat", "s": "slice", "w": "slice",
}  # fmt: skip


NARROWEST_MACRO_BITS = 32
"""A memory of narrower words is a macro of words as wide as this, some bits of which are not used."""

Makers: TypeAlias = dict[pyrtl.WireVector, pyrtl.LogicNet]
"""The net that drives each wire."""


@dataclass(frozen=True)
class _Path:
    """Longest path to a wire: its delay, and the operators on it."""

    delay: Quantity
    kinds: tuple[str, ...] = ()

    def through(self, delay: Quantity, kind: str) -> _Path:
        """The path behind one more operator; wiring leaves it as it is."""
        if not delay.value:
            return self
        return _Path(total((self.delay, delay), "ps", "longest path"), (*self.kinds, kind))


def _latest(paths: Iterable[_Path]) -> _Path:
    return max(paths, key=lambda path: path.delay.value)


def _cost(technology: Technology, net: pyrtl.LogicNet, makers: Makers) -> tuple[str, Cost]:
    """Operator and cost of one combinational net."""
    if net.op == "m":
        memory = net.op_param[1]
        if isinstance(memory, pyrtl.RomBlock):
            return "table", technology.cost(
                "table", (memory.addrwidth,), memory.bitwidth, entries=1 << memory.addrwidth
            )
        return "memory", WIRING
    kind = _KINDS[net.op]
    attributes: dict[str, int] = {}
    constants = [a.val for a in net.args if isinstance(a, pyrtl.Const)]
    if kind == "mul" and constants:
        attributes["constant"] = constants[0]
    out_bits = len(net.dests[0])
    in_bits = tuple(map(len, net.args))
    if net.op in "+-*<>=":
        in_bits = tuple(len(a) - _leading_zeros(a, makers) for a in net.args)
        out_bits = min(out_bits, {"*": sum(in_bits), "+": max(in_bits) + 1}.get(net.op, out_bits))
    return kind, technology.cost(kind, in_bits, out_bits, **attributes)


def _leading_zeros(wire: pyrtl.WireVector, makers: Makers) -> int:
    """Constant zeros that a wire was extended by, at most all bits but one."""
    maker = makers.get(wire)
    zeros = 0
    if maker is not None and maker.op == "c":
        for part in maker.args:
            if not _is_zero(part):
                break
            zeros += len(part)
    return min(zeros, len(wire) - 1)


def _memories(technology: Technology, block: pyrtl.Block) -> dict[str, MemoryEstimate]:
    reads: Counter[pyrtl.MemBlock] = Counter(n.op_param[1] for n in block.logic_subset("m"))
    writes: Counter[pyrtl.MemBlock] = Counter(n.op_param[1] for n in block.logic_subset("@"))
    found: dict[str, MemoryEstimate] = {}
    for memory in sorted({*reads, *writes}, key=lambda m: m.name):
        if not isinstance(memory, pyrtl.RomBlock):
            found[memory.name] = _memory(technology, memory, reads[memory], writes[memory])
    return found


def _memory(technology: Technology, memory: pyrtl.MemBlock, reads: int, writes: int) -> MemoryEstimate:
    rows, width_bits = 1 << memory.addrwidth, memory.bitwidth
    ports: Ports = "1r1w"
    if reads <= 1 and writes <= 1:
        try:
            macro = technology.sram(rows, max(width_bits, NARROWEST_MACRO_BITS), ports)
        except TechnologyError:  # smaller than any macro of the fit
            pass
        else:
            built_as = f"SRAM {ports}, {macro.row_tiles} x {macro.width_tiles} macros"
            energy = total((macro.read.scaled(reads), macro.write.scaled(writes)), "pJ", "read and write")
            return MemoryEstimate(memory.name, rows, width_bits, built_as, macro.area, energy, macro.leakage)
    bits = rows * width_bits
    cells = registers(technology, bits, bits * writes)
    select = technology.cost("mux", (1, width_bits, width_bits), width_bits)
    area = total((cells, select.area.scaled(reads * (rows - 1))), "um2", "flip-flops and read multiplexers")
    energy = total(
        (technology.flip_flop.energy.scaled(bits), select.energy.scaled(reads * (rows - 1))), "pJ", "flip-flops"
    )
    built_as = f"flip-flops, {reads} read, {writes} write"
    return MemoryEstimate(memory.name, rows, width_bits, built_as, area, energy, leakage(technology, area))


def _access(technology: Technology, memory: pyrtl.MemBlock, estimate: MemoryEstimate) -> Quantity:
    """Delay from address to data."""
    if estimate.built_as.startswith("SRAM"):
        return technology.sram(estimate.rows, max(estimate.width_bits, NARROWEST_MACRO_BITS), "1r1w").access
    select = technology.cost("mux", (1, memory.bitwidth, memory.bitwidth), memory.bitwidth)
    return select.delay.scaled(memory.addrwidth)


def estimate_block(block: pyrtl.Block, technology: Technology, clock_period_ps: int, name: str = "block") -> Estimate:
    """Estimate of a PyRTL block as it stands, before or after PyRTL's own synthesis.

    Args:
        block: any block without combinational loops.
        technology: costs of the nets.
        clock_period_ps: the clock that power and slack are given for.
        name: what reports call it.

    Raises:
        TechnologyError: if the technology has no cost for a net.
        pyrtl.PyrtlError: if the block has a combinational loop.
    """
    makers = {wire: net for net in block.logic for wire in net.dests}
    enables, corrections = _enables(block, makers), _sign_corrections(block, makers)
    memories = _memories(technology, block)
    costs: list[tuple[str, Cost]] = []
    zero = exactly(0.0, "ps", "start of a path")
    paths: dict[pyrtl.WireVector, _Path] = {}
    longest = _Path(zero)
    for net in block:  # in topological order
        before = _latest(paths.get(a, _Path(zero)) for a in net.args)
        if net.op in "r@":
            longest = _latest((longest, before))
            continue
        kind, cost = ("enable", WIRING) if net in enables else _cost(technology, net, makers)
        if net in corrections:
            cost = WIRING
        costs.append((kind, cost))
        delay = cost.delay
        if net in enables:
            delay = enable_delay(technology)
        elif kind == "memory":
            memory = net.op_param[1]
            delay = _access(technology, memory, memories[memory.name])
        after = before.through(delay, kind)
        if net.op == "x":
            # Only the select bit drives every bit's multiplexer; data pass through one.
            select, *data = (paths.get(a, _Path(zero)) for a in net.args)
            after = _latest((select.through(delay, kind), _latest(data).through(enable_delay(technology), kind)))
        for wire in net.dests:
            paths[wire] = after
            longest = _latest((longest, after))
    bits = sum(len(r) for r in block.wirevector_subset(pyrtl.Register))
    register_area = registers(technology, bits, sum(len(n.dests[0]) for n in enables))
    kinds = by_kind(costs)
    logic_area = total((*(k.area for k in kinds), register_area), "um2", "standard cells")
    delay = total((longest.delay, overhead(technology)), "ps", "register to register")
    return Estimate(
        name,
        technology.name,
        clock_period_ps,
        bits,
        register_area,
        technology.flip_flop.energy.scaled(bits),
        leakage(technology, logic_area),
        kinds,
        (StageEstimate(0, delay, total((k.area for k in kinds), "um2", "operators"), bits, longest.kinds),),
        tuple(memories.values()),
    )


def _enables(block: pyrtl.Block, makers: Makers) -> set[pyrtl.LogicNet]:
    """Multiplexers between a register's own value and its next: the register's enable."""
    found: set[pyrtl.LogicNet] = set()
    for register in block.logic_subset("r"):
        maker = makers.get(register.args[0])
        while maker is not None and maker.op == "w":
            maker = makers.get(maker.args[0])
        if maker is not None and maker.op == "x" and any(choice is register.dests[0] for choice in maker.args[1:]):
            found.add(maker)
    return found


def _sign_corrections(block: pyrtl.Block, makers: Makers) -> set[pyrtl.LogicNet]:
    """What `hls.netlist` adds to an unsigned product for each signed factor: `- ((sign & other factor) << width)`."""

    def made_by(wire: pyrtl.WireVector, wiring: str) -> pyrtl.LogicNet | None:
        maker = makers.get(wire)
        while maker is not None and maker.op in wiring:
            maker = makers.get(maker.args[0])
        return maker

    found: set[pyrtl.LogicNet] = set()
    for net in block:
        if net.op != "-":
            continue
        shifted = makers.get(net.args[1])
        if shifted is None or shifted.op != "c" or not _is_zero(shifted.args[-1]):
            continue
        product, mask = made_by(net.args[0], "ws"), makers.get(shifted.args[0])
        if product is not None and mask is not None and mask.op == "&" and (product.op == "*" or product in found):
            found |= {net, mask}
    return found


def _is_zero(wire: pyrtl.WireVector) -> bool:
    return isinstance(wire, pyrtl.Const) and wire.val == 0
