"""Checks a trace of HBM2 commands against the memory's rules, command by command and pair by pair.

Written from the JEDEC meaning of every timing, slowly and literally, and sharing no code with the engine: it reads
`Hbm2Timing`'s raw numbers, never the delays derived from them. Each rule has a name, which starts every message.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from models.memory.hbm2 import Command
from models.memory.timing import Hbm2Timing

ROW_COMMANDS = ("ACTIVATE", "PRECHARGE", "PRECHARGE_ALL", "REFRESH")


class Rule(NamedTuple):
    """After `first`, `second` in the same `scope` (bank, group, pseudo_channel) comes `cycles` later or more."""

    name: str
    first: str
    second: str
    scope: str
    cycles: int


def rules(t: Hbm2Timing) -> list[Rule]:
    """Rules between two commands of one pseudo-channel. PRECHARGE_ALL counts as a PRECHARGE of every open bank."""
    read_to_precharge = t.read_to_precharge_short_cycles if t.bank_groups == 1 else t.read_to_precharge_long_cycles
    write_data_end = t.write_latency_cycles + t.burst_cycles
    found = [
        Rule("tRCDRD", "ACTIVATE", "READ", "bank", t.activate_to_read_cycles),
        Rule("tRCDWR", "ACTIVATE", "WRITE", "bank", t.activate_to_write_cycles),
        Rule("tRAS", "ACTIVATE", "PRECHARGE", "bank", t.row_active_cycles),
        Rule("tRC", "ACTIVATE", "ACTIVATE", "bank", t.row_active_cycles + t.precharge_cycles),
        Rule("tRRD_L", "ACTIVATE", "ACTIVATE", "group", t.activate_to_activate_long_cycles),
        Rule("tRRD_S", "ACTIVATE", "ACTIVATE", "pseudo_channel", t.activate_to_activate_short_cycles),
        Rule("tRP", "PRECHARGE", "ACTIVATE", "bank", t.precharge_cycles),
        Rule("tRTP", "READ", "PRECHARGE", "bank", read_to_precharge),
        Rule("tWR", "WRITE", "PRECHARGE", "bank", write_data_end + t.write_recovery_cycles),
        Rule("tWTR_L", "WRITE", "READ", "group", write_data_end + t.write_to_read_long_cycles),
        Rule("tWTR_S", "WRITE", "READ", "pseudo_channel", write_data_end + t.write_to_read_short_cycles),
        Rule("tRP before refresh", "PRECHARGE", "REFRESH", "pseudo_channel", t.precharge_cycles),
        Rule("tRC before refresh", "ACTIVATE", "REFRESH", "pseudo_channel", t.row_active_cycles + t.precharge_cycles),
    ]
    for kind in ("READ", "WRITE"):
        found.append(Rule(f"tCCD_L {kind}", kind, kind, "group", t.column_to_column_long_cycles))
        found.append(Rule(f"tCCD_S {kind}", kind, kind, "pseudo_channel", t.column_to_column_short_cycles))
    return found + [
        Rule("tRFC", "REFRESH", later, "pseudo_channel", t.refresh_cycles) for later in ("ACTIVATE", "REFRESH")
    ]


def violations(trace: Sequence[Command], t: Hbm2Timing) -> list[str]:
    """Every rule broken by a trace (sorted by cycle) that begins at cycle 0 with all rows closed; empty if none."""
    by_channel: dict[int, list[Command]] = defaultdict(list)
    by_pseudo_channel: dict[tuple[int, int], list[Command]] = defaultdict(list)
    for command in trace:
        by_channel[command.channel].append(command)
        by_pseudo_channel[command.channel, command.pseudo_channel].append(command)
    found: list[str] = []
    for commands in by_channel.values():
        found += _buses(commands, t)
    for commands in by_pseudo_channel.values():
        found += _rows(commands)
        found += _pairs(list(_one_bank_at_a_time(commands)), t)
        found += _four_activates(commands, t)
        found += _data_bus(commands, t)
        found += _refreshes(commands, t)
    return found


def _buses(commands: Iterable[Command], t: Hbm2Timing) -> Iterator[str]:
    """One column command a cycle in a channel; a row command only when the last one is off the bus."""
    column_free = row_free = 0
    for c in commands:
        if c.name in ROW_COMMANDS:
            if c.cycle < row_free:
                yield f"row bus: {c} while an earlier command holds it until {row_free}"
            row_free = c.cycle + (t.activate_bus_cycles if c.name == "ACTIVATE" else 1)
        else:
            if c.cycle < column_free:
                yield f"column bus: {c} beside another"
            column_free = c.cycle + 1


def _rows(commands: Iterable[Command]) -> Iterator[str]:
    """Commands find the bank as they need it: closed for ACTIVATE and REFRESH, this row open for the others."""
    open_row: dict[int, int] = {}
    for c in commands:
        if c.name == "ACTIVATE":
            if c.bank in open_row:
                yield f"row state: {c} finds row {open_row[c.bank]} open"
            open_row[c.bank] = c.row
        elif c.name == "PRECHARGE":
            if open_row.pop(c.bank, None) != c.row:
                yield f"row state: {c} finds another row or none"
        elif c.name == "PRECHARGE_ALL":
            open_row.clear()
        elif c.name == "REFRESH":
            if open_row:
                yield f"row state: {c} finds banks {sorted(open_row)} open"
        elif open_row.get(c.bank) != c.row:
            yield f"row state: {c} finds row {open_row.get(c.bank)}"


def _one_bank_at_a_time(commands: Iterable[Command]) -> Iterator[Command]:
    open_banks: set[int] = set()
    for c in commands:
        if c.name == "PRECHARGE_ALL":
            for bank in sorted(open_banks):
                yield c._replace(name="PRECHARGE", bank=bank)
            open_banks.clear()
            continue
        if c.name == "ACTIVATE":
            open_banks.add(c.bank)
        elif c.name == "PRECHARGE":
            open_banks.discard(c.bank)
        yield c


def _pairs(commands: Sequence[Command], t: Hbm2Timing) -> Iterator[str]:
    table: dict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules(t):
        table[rule.first, rule.second].append(rule)
    longest = max(rule.cycles for rule in rules(t))
    for j, second in enumerate(commands):
        for first in reversed(commands[:j]):
            gap = second.cycle - first.cycle
            if gap >= longest:
                break
            for rule in table[first.name, second.name]:
                same_bank = first.bank == second.bank
                same_group = first.bank // t.banks_per_group == second.bank // t.banks_per_group
                within = {"bank": same_bank, "group": same_group, "pseudo_channel": True}[rule.scope]
                if within and gap < rule.cycles:
                    yield f"{rule.name}: {second} is {gap} cycles after {first}, needs {rule.cycles}"


def _four_activates(commands: Iterable[Command], t: Hbm2Timing) -> Iterator[str]:
    activates = [c for c in commands if c.name == "ACTIVATE"]
    for first, fifth in zip(activates, activates[4:], strict=False):
        if fifth.cycle - first.cycle < t.four_activate_window_cycles:
            yield f"tFAW: {fifth} is the fifth ACTIVATE since {first}"


def _data_bus(commands: Iterable[Command], t: Hbm2Timing) -> Iterator[str]:
    """Bursts do not overlap on the data bus, and write data leave a gap after read data."""
    bursts = []
    for c in commands:
        if c.name in ("READ", "WRITE"):
            latency = t.read_latency_cycles if c.name == "READ" else t.write_latency_cycles
            bursts.append((c.cycle + latency, c))
    for (start, first), (later, second) in pairwise(sorted(bursts)):
        gap = t.read_to_write_gap_cycles if (first.name, second.name) == ("READ", "WRITE") else 0
        if later < start + t.burst_cycles + gap:
            yield f"data bus: {second} from cycle {later} meets {first} from cycle {start}"


def _refreshes(commands: Sequence[Command], t: Hbm2Timing) -> Iterator[str]:
    """The k-th refresh comes at k * tREFI, later only by what closing the rows takes, and nothing else in between."""
    close = max(t.row_active_cycles, t.write_latency_cycles + t.burst_cycles + t.write_recovery_cycles)
    close = max(close, t.read_to_precharge_long_cycles, t.read_to_precharge_short_cycles)
    bus = 4 * t.pseudo_channels * t.activate_bus_cycles
    slack = close + t.precharge_cycles + bus
    due = t.refresh_interval_cycles
    for c in commands:
        if c.name == "REFRESH":
            if not due <= c.cycle <= due + slack:
                yield f"tREFI: {c} is due in cycle {due}, at the latest {due + slack}"
            due += t.refresh_interval_cycles
        elif c.cycle >= due and not c.name.startswith("PRECHARGE"):
            yield f"tREFI: {c} while the refresh of cycle {due} is due"
        elif c.cycle >= due and c.name != "PRECHARGE_ALL":
            yield f"tREFI: {c} instead of PRECHARGE_ALL for the refresh of cycle {due}"
