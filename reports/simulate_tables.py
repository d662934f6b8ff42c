"""Terminal tables of `spatten simulate`, for 80 columns: names give way, by taking more lines, and no number is cut."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

from reports import combined, layout

COLUMNS = 80
"""That the tables need."""
_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def console() -> Console:
    """Of at least so many columns: a narrower terminal wraps lines, where a table would cut its numbers."""
    made = Console()
    made.width = max(made.width, COLUMNS)
    return made


def _table(title: str, caption: str | None, headings: tuple[str, ...], names: tuple[str, ...] = ()) -> Table:
    """A table whose first column and `names` are words, and all else numbers."""
    table = Table(title=title, caption=caption, **_STYLE)
    for heading in headings:
        if heading == headings[0] or heading in names:
            table.add_column(heading, overflow="fold", min_width=8)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    return table


def time_table(data: dict[str, Any]) -> Table:
    """One row for each workload: how long it takes, and what bounds it."""
    caption = (
        "of all: share of all cycles; in layers: of those in which it could work\n"
        "DRAM: of a stream of the memory alone, and with what layers in series take"
    )
    shares = ("of\nall", "in\nlayers", "DRAM\nstream", "in\nseries")
    headings = ("workload", "cycles", "time\nus", "bottle-\nneck", *shares)
    table = _table(f"Transaction model of {data['machine']}: time", caption, headings, ("bottle-\nneck",))
    table.columns[3].width = 8
    for row in combined.simulate_rows(data):
        table.add_row(
            *(row.workload, f"{row.cycles:,}", f"{row.time_us:,.1f}", row.bottleneck),
            *(layout.percent(share) for share in (row.share, row.share_within_layers)),
            *(layout.percent(share, 1) for share in (row.streaming, row.streaming_with_serial)),
        )
    return table


def traffic_table(data: dict[str, Any]) -> Table:
    """One row for each workload: arithmetic, DRAM and energy."""
    caption = (
        "dense: TFLOP/s of the layers with all kept in the same time\n"
        "of peak: multipliers, bandwidth; against: times fewer bytes than dense layers"
    )
    headings = (
        *("workload", "TFLOP/s", "dense", "of\npeak", "DRAM\nMB", "of\npeak", "against\n12 bits", "\nfp32"),
        *("energy\nuJ", "of it\nDRAM"),
    )
    table = _table(f"Transaction model of {data['machine']}: arithmetic, traffic, energy", caption, headings)
    for row in combined.simulate_rows(data):
        table.add_row(
            *(row.workload, f"{row.tflops:.3f}", f"{row.dense_tflops:.3f}", layout.percent(row.multipliers)),
            *(f"{row.dram_mb:,.1f}", layout.percent(row.bandwidth)),
            *(f"{row.less_than_12_bits:.1f}x", f"{row.less_than_fp32:.1f}x"),
            *(f"{row.energy_uj:,.0f}", layout.percent(row.dram_energy)),
        )
    return table


def detail_table(result: dict[str, Any]) -> Table:
    """Of one workload: busy and stall cycles by module, and DRAM bytes by purpose and plane."""
    total = result["total"]
    table = _table(f"{result['workload']}, in detail", None, ("", "cycles", "of all"))
    for name, cycles in total["busy_cycles"].items():
        table.add_row(f"busy: {name}", f"{cycles:,}", layout.percent(cycles / total["cycles"], 1))
    for name, cycles in total["stall_cycles"].items():
        table.add_row(f"stall: {name}", f"{cycles:,}", layout.percent(cycles / total["cycles"], 1))
    table.add_section()
    table.add_row("", "bytes", "of all")
    for name, found in total["dram_bytes_by_purpose"].items():
        table.add_row(f"DRAM: {name}", f"{found:,}", layout.percent(found / total["dram_bytes"], 1))
    return table


def published_table(data: dict[str, Any]) -> Table:
    """One row for each figure that was published of such a workload."""
    headings = ("workload", "figure", "here", "published", "of")
    table = _table("Published figures beside these", None, headings, ("figure", "of"))
    for row in combined.published_rows(data):
        table.add_row(row.workload, row.measure, f"{row.ours:.2f}", f"{row.published:g}", row.of)
    return table


def render(data: dict[str, Any]) -> Iterator[RenderableType]:
    """All of a result file; where there is one workload, in detail."""
    yield time_table(data)
    yield traffic_table(data)
    if len(data["results"]) == 1:
        yield detail_table(data["results"][0])
