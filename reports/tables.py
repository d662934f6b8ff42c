"""Terminal tables of the main job's evidence: equivalence, silicon, cycles, with the published figures."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from reports import combined, layout, simulate_tables

_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def _table(title: str, caption: str | None, *headings: str) -> Table:
    table = Table(title=title, caption=caption, **_STYLE)
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    return table


def equivalence_table(data: dict[str, Any]) -> Table:
    """One row for each trace, setting and memory."""
    title = f"Netlist of {data['machine']} against the integer reference ({data['backend']})"
    headings = ("trace", "setting", "memory", "tokens", "cycles", "compared", "differ")
    table = _table(title, "; ".join(f"left out: {line}" for line in data["left_out"]) or None, *headings)
    for row in combined.equivalence_rows(data):
        differ = str(row.differing) if row.equal else Text(str(row.differing), style="bold red")
        table.add_row(
            *(layout.shortened(row.trace, 14), layout.shortened(row.setting, 11), row.memory, row.tokens),
            *(f"{row.cycles:,}", f"{row.compared:,}", differ),
        )
    return table


def arrivals_table(data: dict[str, Any]) -> Table:
    """One row for each trace, setting and memory that the transaction model has run beside the netlist."""
    rows = combined.arrival_rows(data)
    bound = f"a row that is more than {100 * rows[0].bound:g} % of its layer off is an error" if rows else None
    headings = ("trace", "setting", "memory", "rows", "in the same cycles", "worst", "of its layer")
    table = _table("Transaction model against the netlist: cycles of rows", bound, *headings)
    for row in rows:
        same = f"{row.equal_rows:,}"
        table.add_row(
            *(layout.shortened(row.trace, 14), layout.shortened(row.setting, 11), row.memory, f"{row.rows:,}"),
            *(same if row.equal_rows == row.rows else Text(same, style="bold"), f"{row.worst_cycles:,}"),
            f"{100 * row.worst_share:.2f} %",
        )
    return table


def mismatches(data: dict[str, Any]) -> Iterator[RenderableType]:
    """The first mismatches of each result, and where a reproducer is."""
    for result in data["results"]:
        for line in result["mismatches"]:
            yield Text(f"{result['trace']}, {result['setting']}: {line}", style="red")
        if result["reproducer"]:
            yield Text(f"reproducer: {result['reproducer']}")


def silicon_table(data: dict[str, Any]) -> Table:
    """One row for each group of the published figure."""
    slowest = data["slowest"]
    caption = (
        f"power: every cycle active; slowest module: {slowest['module']}, {slowest['delay']['value']:.0f} ps "
        f"of {data['clock_period_ps']}"
    )
    table = _table(
        f"Area and power of {data['machine']}, {data['technology']}",
        caption,
        *("group", "mm2", "within", "published", "W", "published"),
    )
    for row in combined.silicon_rows(data):
        within = f"{row.area_low:.2f} - {row.area_high:.2f}"
        areas = f"{row.area_mm2:.2f}", within, f"{row.published_area_mm2:.2f}"
        table.add_row(row.group, *areas, f"{row.power_w:.2f}", f"{row.published_power_w:.2f}")
    return table


def render(data: dict[str, Any]) -> Iterator[RenderableType]:
    """What of `combined.load` is there beside the runs."""
    if data["equivalence"]:
        yield equivalence_table(data["equivalence"])
        if combined.arrival_rows(data["equivalence"]):
            yield arrivals_table(data["equivalence"])
        yield from mismatches(data["equivalence"])
    if data["estimate"]:
        yield silicon_table(data["estimate"])
    if data["simulate"]:
        yield from simulate_tables.render(data["simulate"])
        if combined.published_rows(data["simulate"]):
            yield simulate_tables.published_table(data["simulate"])
