"""Token importance: adds probabilities to the scores of their tokens (architecture page, datapath 1; algorithm, 2).

    S_t[id] = min(2^32 - 1, S_t[id] + prob)                                               ufix(32, 12)

Scores live by id over layers and passes, but the keys of a row are the survivors of the layer, whose ids are scattered:
of any banks by id, the eight of a cycle may need the same one. So there are two memories of `context_keys` words:

    partial    what the layer has added, by slot (position in the layer's survivor list):  bank = slot mod banks
    total      S_t, by id, a word holds the `top_k_lanes` scores of neighbouring ids

The ids of a row rise, whatever tokens have been pruned, so a row walks through the slots 0, 1, 2, ...; the lanes of a
cycle are slots s .. s + lanes - 1, in lanes <= banks different banks: no order that occurs has a conflict, none stalls.

Between layers a sweep goes through all ids, `top_k_lanes` a cycle, and brings both together. Slots rise with ids, so
the survivors among the ids of a cycle are the next slots, and again in different banks:

    slot of id i = p + (survivors among the ids of this cycle before i)         p += survivors in each cycle
    S_t[id] = min(2^32 - 1, S_t[id] + partial[slot of id]) for survivors;       partial[slot of id] = 0
    then S_t[id] >> 1 with `halve` (the option `rescale`); 0, and all partial sums of the sweep's rows 0, with `clear`

The sum of the partial sums saturates to the same as one by one, as all terms are >= 0. What a sweep writes it also puts
out: it is what the top-k engine selects from on entering the next layer. Memories come up undefined: clear first.

Adding is a cycle for `place` or more, one to read, one to add. A row of one cycle follows another in the next: what the
one before has just added is not in the word that was read, and is taken from the adder's own output instead:

    cycle      0        1        2        3
    row a      place    read     add
    row b               place    read     add to what a added, in the banks where it is the same slot

Ports: `prob`, `lane_valid`, `slot` (of lane 0) in under in_valid, in_ready; never stalled but by a sweep. `survivor`
(of the layer that ends), `halve`, `clear`, `sweep_last` in under sweep_valid, sweep_ready, from id 0 on up to the last
token; `score`, `score_survivor`, `score_row` (ids from score_row * top_k_lanes on), `score_last` out under out_valid,
out_ready. A sweep begins when all that was accepted before is added, and nothing is accepted until its last result is
out. `idle`: neither is under way.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyrtl

from hls import technology as technologies
from hls.datapaths.token_importance_parts import (
    PROBABILITY,
    SCORE,
    TokenImportanceTypes,
    add_graph,
    count_graph,
    graphs,
    locate_graph,
    merge_graph,
    place_graph,
)
from hls.lower import Instance, Netlist, building, instantiate, output_ports
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from hls.trace import HlsError
from models.config import AcceleratorConfig

__all__ = ["TokenImportancePlan", "TokenImportanceTypes", "build", "graphs", "plan"]


@dataclass(frozen=True)
class TokenImportancePlan:
    """The schedules of the parts."""

    place: Schedule
    add: Schedule
    count: Schedule
    locate: Schedule
    merge: Schedule

    @property
    def latency_cycles(self) -> int:
        """From the cycle that takes probabilities to the one that has them in its partial sums."""
        return self.place.latency_cycles + 2

    @property
    def sweep_latency_cycles(self) -> int:
        """From survivors to their scores."""
        return self.count.latency_cycles + self.locate.latency_cycles + 1 + self.merge.latency_cycles


def plan(config: AcceleratorConfig, technology: Technology | None = None) -> TokenImportancePlan:
    """The pipelines of `config` at its clock.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
        HlsError: if it is too fast for the adder, which takes one cycle.
    """
    library, period = technology or technologies.load(), config.clock_period_ps
    add = schedule(add_graph(), library, period, output_register=False)
    if add.latency_cycles:
        shortest = sum(add.stage_delays_ps) + add.overhead_ps
        raise HlsError(f"token importance: add needs one cycle of about {shortest} ps, not {period}")
    return TokenImportancePlan(
        place=schedule(place_graph(config), library, period),
        add=add,
        count=schedule(count_graph(config), library, period),
        locate=schedule(locate_graph(config), library, period),
        merge=schedule(merge_graph(config), library, period),
    )


def build(config: AcceleratorConfig, technology: Technology | None = None) -> Netlist:
    """The whole datapath as a netlist.

    Raises:
        HlsError: if the clock is too fast for the technology, or the context too small for the banks.
    """
    types, parts = TokenImportanceTypes.of(config), plan(config, technology)
    block = pyrtl.Block()
    with building(block):
        ports = {port.name: pyrtl.Input(port.type.total_bits, port.name) for port in parts.place.graph.inputs}
        sweep = {
            port.name: pyrtl.Input(port.type.total_bits, port.name)
            for port in parts.count.graph.inputs
            if port.name != "id_row"
        }
        in_valid, sweep_valid, out_ready = (pyrtl.Input(1, n) for n in ("in_valid", "sweep_valid", "out_ready"))
        in_ready, sweep_ready, advance = (pyrtl.WireVector(1, n) for n in ("taking", "sweeping_on", "advance"))

        placed = instantiate(parts.place, ports, block, valid=in_valid & in_ready, prefix="place_")
        sweep_taken = sweep_valid & sweep_ready
        located, locating = _locate(types, parts, block, sweep, sweep_taken, advance)
        at = located.outputs

        banks = [_bank(types, parts, block, b, placed, located, advance) for b in range(types.banks)]

        total = pyrtl.MemBlock(types.ids * SCORE.width, types.id_row.width, "total", asynchronous=True, block=block)
        fetched = _held(located.out_valid, "fetched", advance, reset_value=0)
        merge_inputs = {
            "total": _held(total[at["located_row"]], "total_read", advance),
            "partial": [_held(word, f"partial_read_{b}", advance) for b, (word, _) in enumerate(banks)],
            **{name: _held(at[f"located_{name}"], f"fetched_{name}", advance) for name in _PASSING},
            "source": _held(at["source"], "fetched_source", advance),
        }
        merged = instantiate(parts.merge, merge_inputs, block, enable=advance, valid=fetched, prefix="merge_")
        out = merged.outputs
        total[out["score_row"]] <<= pyrtl.MemBlock.EnabledWrite(out["score"], enable=merged.out_valid & out_ready)

        sweeping = pyrtl.Register(1, "sweeping", reset_value=0)
        sweeping.next <<= pyrtl.select(sweep_taken, ~sweep["sweep_last"], sweeping)
        sweep_moves, add_moves = (pyrtl.WireVector(1, n) for n in ("sweep_moves", "add_moves"))
        sweep_moves <<= pyrtl.rtl_any(locating, *merged.valids)
        add_moves <<= pyrtl.rtl_any(*placed.valids[1:], *(writing for _, writing in banks))
        advance <<= out_ready | ~merged.out_valid
        sweep_ready <<= advance & (sweeping | ~(sweep_moves | add_moves))
        in_ready <<= ~(sweep_valid | sweeping | sweep_moves)
        outputs = {
            **out,
            "out_valid": merged.out_valid,
            "in_ready": in_ready,
            "sweep_ready": sweep_ready,
            "idle": ~(sweeping | sweep_moves | add_moves),
        }
        output_ports(outputs)
    block.sanity_check()
    return Netlist("token_importance", block, parts.latency_cycles)


_PASSING = ("survivor", "row", "halve", "clear", "last")


def _locate(
    types: TokenImportanceTypes,
    parts: TokenImportancePlan,
    block: pyrtl.Block,
    sweep: dict[str, pyrtl.WireVector],
    taken: pyrtl.WireVector,
    advance: pyrtl.WireVector,
) -> tuple[Instance, pyrtl.WireVector]:
    """The first stages of a sweep, up to the addresses of what it reads, and whether anything is in them."""
    id_row = pyrtl.Register(types.id_row.width, "id_row", reset_value=0)
    after = pyrtl.select(sweep["sweep_last"], pyrtl.Const(0, len(id_row)), (id_row + 1)[: len(id_row)])
    id_row.next <<= pyrtl.select(taken, after, id_row)
    counted = instantiate(parts.count, {**sweep, "id_row": id_row}, block, advance, taken, "count_")
    row = counted.outputs

    first_slot = pyrtl.Register(types.slot.width, "first_slot", reset_value=0)
    passed = (first_slot + row["survivors"])[: len(first_slot)]
    after = pyrtl.select(row["counted_last"], pyrtl.Const(0, len(first_slot)), passed)
    first_slot.next <<= pyrtl.select(counted.out_valid & advance, after, first_slot)
    located_inputs = {
        "first_slot": first_slot,
        "rank": row["rank"],
        "survivors": row["survivors"],
        **{name: row[f"counted_{name}"] for name in _PASSING},
    }
    located = instantiate(parts.locate, located_inputs, block, advance, counted.out_valid, "locate_")
    return located, pyrtl.rtl_any(*counted.valids[1:], *located.valids[1:])


def _bank(
    types: TokenImportanceTypes,
    parts: TokenImportancePlan,
    block: pyrtl.Block,
    index: int,
    placed: Instance,
    located: Instance,
    advance: pyrtl.WireVector,
) -> tuple[pyrtl.WireVector, pyrtl.WireVector]:
    """One bank of partial sums: what it reads, and whether it writes. It writes in the cycle after it has read."""

    def part(instance: Instance, name: str, bits: int) -> pyrtl.WireVector:
        return instance.outputs[name][index * bits : (index + 1) * bits]

    row_bits = types.bank_row.width
    memory = pyrtl.MemBlock(SCORE.width, row_bits, f"partial_{index}", asynchronous=True, block=block)
    read_row = pyrtl.WireVector(row_bits, f"read_row_{index}")
    read_row <<= pyrtl.select(located.out_valid, part(located, "bank_row", row_bits), part(placed, "row", row_bits))
    read = memory[read_row]
    touched, emptied = (pyrtl.WireVector(1, f"{name}_{index}") for name in ("touched", "emptied"))
    touched <<= placed.out_valid & part(placed, "touched", 1)
    emptied <<= located.out_valid & advance & part(located, "emptied", 1)

    writing = _held(touched | emptied, f"writing_{index}", reset_value=0)
    emptying = _held(emptied, f"emptying_{index}", reset_value=0)
    write_row = _held(read_row, f"write_row_{index}")
    written = pyrtl.WireVector(SCORE.width, f"written_{index}")
    add_inputs = {
        "stored": _held(read, f"stored_{index}"),
        "recent": _held(written, f"recent_{index}"),
        "same_slot": _held(writing & (read_row == write_row), f"same_slot_{index}"),
        "amount": _held(part(placed, "amount", PROBABILITY.width), f"amount_{index}"),
    }
    added = instantiate(parts.add, add_inputs, block, prefix=f"add_{index}_").outputs["added"]
    written <<= pyrtl.select(emptying, pyrtl.Const(0, SCORE.width), added)
    memory[write_row] <<= pyrtl.MemBlock.EnabledWrite(written, enable=writing)
    return read, writing


def _held(
    wire: pyrtl.WireVector, name: str, enable: pyrtl.WireVector | None = None, reset_value: int | None = None
) -> pyrtl.Register:
    """A register that takes the wire in every cycle, or where `enable` is 1; payload needs no reset."""
    register = pyrtl.Register(len(wire), name, reset_value=reset_value)
    register.next <<= wire if enable is None else pyrtl.select(enable, wire, register)
    return register
