"""The glue of the accelerator by module: which parts of the composition it is, and what of its outputs is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hls.compose import Composer, Composition
from hls.flatten import flatten
from hls.lower import Netlist
from verification.equivalence.netlist import read_block
from verification.evidence.glue_checks import checks_alone, checks_meaning, in_checks
from verification.evidence.glue_invariants import INVARIANTS
from verification.evidence.glue_outputs import Meaning, inputs_alone, inputs_of, meanings
from verification.evidence.glue_promises import PROMISES, Promise
from verification.evidence.glue_recording import Recording
from verification.evidence.glue_replay import Replay
from verification.evidence.glue_runs import TINY
from verification.mutants.netlist import Mutant, netlist_mutants

CONTROLLER_CHECKS = "controller_checks"
MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    **{
        name: ((name,),)
        for name in (
            *("operand_loader", "row_queues", "row_values", "kept_beats", "value_lists", "value_sparse"),
            *("value_dispatch", "output_stage", "list_sequencer", "landing_write", "head_walk", "control_read"),
            *("control_write", "memory_port", "selection", "controller"),
        )
    },
    "row_issue": (("row_issue", "query_buffer"),),
    "landing_lane": (("landing_lane_0",), ("landing_lane_3",)),
    "operand_mask": (("key_mask",), ("value_mask",)),
    CONTROLLER_CHECKS: (),
}
"""Parts of a module's netlist in the composition, for each of its instances that is looked at.

The controller's checks of a descriptor are a module of their own here, without recordings. The query buffer is in one
netlist with the row issue: what it gives means something only where the row issue takes it.
"""
SHOWN = ("query_clear",)
"""Signals between parts of one module that always mean something: they are compared too."""
PARTS = tuple(part for instances in MODULES.values() for parts in instances for part in parts)


@dataclass(frozen=True)
class Module:
    """A module of the glue.

    Attributes:
        name: in `MODULES`.
        netlist: of it.
        instances: its inputs and outputs, with the part to which they belong, for each instance.
        meaning: of outputs that do not always mean something.
        given: the same of inputs.
        promises: of its neighbours, and what is always so.
        elsewhere: wires that belong to another module of `MODULES`.
    """

    name: str
    netlist: Netlist
    instances: Sequence[Mapping[str, str]]
    meaning: Mapping[str, Meaning]
    given: Mapping[str, Meaning]
    promises: Sequence[Promise]
    elsewhere: frozenset[str] = frozenset()

    def mutants(self) -> list[Mutant]:
        """Of its own wires."""
        return [mutant for mutant in netlist_mutants(self.netlist.block) if mutant.where not in self.elsewhere]

    def replays(self, recordings: Sequence[Recording]) -> list[Replay]:
        """What was recorded of all instances."""
        return [self._replay(recording, part_of) for recording in recordings for part_of in self.instances]

    def _replay(self, recording: Recording, part_of: Mapping[str, str]) -> Replay:
        inputs, outputs = (
            {port: recording.words[part_of[port], port] for port in ports}
            for ports in (self.netlist.inputs, self.netlist.outputs)
        )
        return Replay(recording.name, inputs, outputs)


def module(design: Composition, name: str) -> Module:
    """A module of the glue of `tiny`."""
    if name == CONTROLLER_CHECKS:
        alone = checks_alone()
        return Module(name, alone, (), checks_meaning(alone), {}, ())
    means, netlists, owners = meanings(TINY), design.parts, []
    for parts in MODULES[name]:
        owners.append({port: p for p in reversed(parts) for port in (*netlists[p].inputs, *netlists[p].outputs)})
    parts = MODULES[name][0]
    netlist = netlists[parts[0]] if len(parts) == 1 else _together(design, parts)
    meaning = means.get(name, {})
    outputs = {port: m for port, m in meaning.items() if port in netlist.outputs}
    known = {port: m for of_module in means.values() for port, m in of_module.items()}
    known |= {**inputs_alone(TINY), **inputs_of(TINY).get(name, {})}
    ports = {*netlist.inputs, *netlist.outputs}
    given = {port: m for port, m in known.items() if port in netlist.inputs and m.ports and m.ports <= ports}
    elsewhere = in_checks(read_block(netlist.block)) if name == "controller" else frozenset()
    return Module(
        name, netlist, owners, outputs, given, (*PROMISES.get(name, ()), *INVARIANTS.get(name, ())), elsewhere
    )


def _together(design: Composition, parts: Sequence[str]) -> Netlist:
    """Parts as one netlist: signals that pass between them are inside, but for `SHOWN`."""
    c = Composer("_".join(parts))
    placed = {part: c.part(part, design.parts[part]) for part in parts}
    passed = {port for p in parts for port in design.parts[p].inputs} & {
        port for p in parts for port in design.parts[p].outputs
    }
    for part in parts:
        for port, bits in placed[part].inputs.items():
            if port not in passed:
                c.input(port, bits)
    for part in parts:
        c.by_name(part)
        for port in placed[part].outputs:
            if port not in passed or port in SHOWN:
                c.output(port, placed[part][port])
    return flatten(c.build())
