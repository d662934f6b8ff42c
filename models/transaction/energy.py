"""Energy of a run: actions counted by the model, times the energy of one action; DRAM and leakage beside them.

An action is one cycle in which a part of a datapath takes data, or one access to an operand SRAM. Its energy is that of
the part's operators on random data and of its pipeline registers, from the same schedules as its latency
(`hls.estimate`, per cycle of activity), or that of the SRAM's macros. Registers clocked without data, FIFOs, crossbars
and control are no actions and are left out. `ACTIONS` says what each is.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from hls import technology as technologies
from hls.datapaths import flat_decision, head_importance, probability_value, query_key, softmax, token_importance
from hls.datapaths import top_k_graphs as top_k
from hls.datapaths.fetcher_parts import locate_graph
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.operand_sram import OperandSramSize
from hls.estimate import estimate_schedule
from hls.quantity import Quantity, total
from hls.schedule import Schedule, schedule
from hls.technology import Technology
from models.config import AcceleratorConfig
from models.memory.energy import EnergyBreakdown

ACTIONS = {
    "qk_row": "Q x K: a row of the Key SRAM times the query",
    "pv_row": "prob x V: a row of the Value SRAM times its probabilities, into the accumulators",
    "out_row": "prob x V: the accumulators of a row rounded",
    "score_beat": "softmax: a cycle of scores into the maximum",
    "exponential_beat": "softmax: a cycle of scores scaled, exponentiated and summed",
    "reciprocal_row": "softmax: the reciprocal of a row's sum",
    "probability_beat": "softmax: a cycle of exponentials normalized; the flat decision",
    "token_beat": "token importance: a cycle of probabilities added",
    "head_beat": "head importance: a cycle of outputs added",
    "top_k_a_fill_row": "top-k A: a row of items packed into the buffer",
    "top_k_a_pass_row": "top-k A: a row of candidates compared with the pivot and packed",
    "top_k_a_filter_row": "top-k A: a row of items compared with the threshold and packed",
    "top_k_b_fill_row": "top-k B: as A",
    "top_k_b_pass_row": "top-k B: as A",
    "top_k_b_filter_row": "top-k B: as A",
    "address": "fetcher: the bursts of one vector located",
    "key_read": "Key SRAM: one row read",
    "key_write": "Key SRAM: one vector of the native head dimension written",
    "value_read": "Value SRAM: one slot read",
    "value_write": "Value SRAM: one vector of the native head dimension written",
}


class ActionError(ValueError):
    """A count of an action that is not known, or negative."""


@dataclass(frozen=True)
class UnitEnergies:
    """Energy in pJ of one action each, and leakage in mW of all parts that actions are counted of."""

    actions: Mapping[str, Quantity]
    leakage: Quantity


@dataclass(frozen=True)
class Energy:
    """Energy of a run in pJ: on chip by action with its error bar, leakage, and DRAM by what spends it."""

    actions: Mapping[str, Quantity]
    leakage: Quantity
    dram: EnergyBreakdown

    @property
    def on_chip(self) -> Quantity:
        """Actions and leakage."""
        return total((*self.actions.values(), self.leakage), "pJ", "on chip")

    @property
    def total_pj(self) -> float:
        """Everything."""
        return self.on_chip.value + self.dram.total_pj


def unit_energies(machine: AcceleratorConfig, technology: Technology | None = None) -> UnitEnergies:
    """Energies of one action each in `machine`.

    Raises:
        ScheduleError: if the clock is too fast for the technology.
    """
    library = technology or technologies.load()
    soft, flat = softmax.plan(machine, library), flat_decision.plan(machine, library)
    pv, tokens = probability_value.plan(machine, library), token_importance.plan(machine, library)
    heads = head_importance.plan(machine, library)
    parts: dict[str, list[tuple[Schedule, int]]] = {
        "qk_row": [(query_key.plan(machine, library), 1)],
        "pv_row": [(pv.weigh, 1), (pv.accumulate, 1)],
        "out_row": [(pv.round_row, 1)],
        "score_beat": [(soft.lane_maximum, 1), (soft.running_maximum, 1)],
        "exponential_beat": [(soft.scale, 1), (soft.exponential, 1), (soft.lane_sum, 1), (soft.running_sum, 1)],
        "reciprocal_row": [(soft.reciprocal, 1)],
        "probability_beat": [(soft.normalize, 1), (flat.decide, 1)],
        "token_beat": [(tokens.place, 1), (tokens.add, machine.softmax_lanes)],
        "head_beat": [(heads.magnitude, 1), (heads.sum_row, 1)],
        "address": [(schedule(locate_graph(machine), library, machine.clock_period_ps), 1)],
    }
    for name, made in (
        ("top_k_a", top_k.plan(machine, library, HEAD_SCORE_BITS)),
        ("top_k_b", top_k.plan(machine, library, PROBABILITY_BITS)),
    ):
        one = made.one_cycle
        parts[f"{name}_fill_row"] = [(made.fill_pack, 1), (made.fill_tally, 1)]
        parts[f"{name}_pass_row"] = [(one["partition"], 1), (made.candidate_pack, 2), (made.candidate_tally, 3)]
        parts[f"{name}_filter_row"] = [(one["compare"], 1), (one["admit"], 1), (made.kept_pack, 1)]
    energies, leakages = {}, []
    for action, schedules in parts.items():
        estimates = [(estimate_schedule(made, library), copies) for made, copies in schedules]
        energies[action] = total((e.energy.scaled(copies) for e, copies in estimates), "pJ", ACTIONS[action])
        leakages += [e.leakage.scaled(copies) for e, copies in estimates]
    for name, sram_bytes in (("key", machine.key_sram_bytes), ("value", machine.value_sram_bytes)):
        size = OperandSramSize.of(machine, sram_bytes)
        slot = library.sram(2 * size.rows, size.slot_bits, "1r1w")
        row_slots = size.slots if name == "key" else 1
        energies[f"{name}_read"] = slot.read.scaled(row_slots)
        energies[f"{name}_write"] = slot.write
        leakages.append(slot.leakage.scaled(size.slots))
    return UnitEnergies(energies, total(leakages, "mW", "parts that actions are counted of"))


def energy(counts: Mapping[str, int], units: UnitEnergies, seconds: float, dram: EnergyBreakdown) -> Energy:
    """Energy of a run of so many actions and of this length.

    Raises:
        ActionError: for an action without an energy, or a negative count.
    """
    spent = {}
    for action, count in counts.items():
        if action not in units.actions:
            close = difflib.get_close_matches(action, units.actions, n=1, cutoff=0.0)
            raise ActionError(f"no action {action!r}; did you mean {close[0]!r}?")
        if count < 0:
            raise ActionError(f"{count} actions {action!r}; a count is 0 or more")
        spent[action] = units.actions[action].scaled(count)
    return Energy(spent, units.leakage.scaled(seconds * 1e9, "pJ"), dram)
