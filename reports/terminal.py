"""Terminal output from a run's result file."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from reports import layout

_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}


def struck(texts: list[str], alive: list[int], length: int, styled: bool) -> Text:
    """Return the text with pruned tokens struck through; between `~~` where the output has no styles."""
    line = Text()
    for text, survives, space in layout.phrases(texts, alive, length):
        line.append(" " * (space and len(line) > 0))
        marked = text if styled or survives else f"~~{text}~~"
        line.append(marked, style="bold" if survives else "strike dim")
    return line


def overview(data: dict[str, Any]) -> Table:
    """One row for each run."""
    caption = "reads: bits of Q, K, V, times fewer; off float: RMS; errors: the largest layer"
    table = Table(title="All runs", caption=caption, **_STYLE)
    table.add_column("workload", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for heading in ("reads vs\n12 bits", "vs\nfp32", "flat\nrows", "off\nfloat", "error\nin bound", "ok"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in data["runs"] + data["recorded"]:
        counted: list[RenderableType] = [
            layout.shortened(run["trace"], 16),
            layout.shortened(run["setting"], 11),
            f"{layout.reduction(run, 'dense12'):.2f}x",
            f"{layout.reduction(run, 'fp32'):.2f}x",
            f"{100 * layout.flat_share(run):.1f}%",
        ]
        if "within_bounds" in run:
            layers = run["layers"]
            counted.append(f"{100 * max(x['float_error'] for x in layers):.2f}%")
            counted.append(f"{100 * max(x['bound_use'] for x in layers):.0f}%")
            counted.append("yes" if run["within_bounds"] else Text("NO", style="bold red"))
        table.add_row(*counted)
    return table


def points_table(data: dict[str, Any]) -> Table:
    """What `spatten evaluate` measured: a row for each rule and share."""
    points = data["points"]
    names = [name for name in points[0] if name not in ("rule", "keep")]
    table = Table(title=f"{data['model']}: {data['measure']}", **_STYLE)
    table.add_column("rule")
    for heading in ["keep", *(name.replace("_", " ") for name in names)]:
        table.add_column(heading, justify="right")
    for point in points:
        values = [point[name] for name in names]
        table.add_row(
            point["rule"], f"{point['keep']:g}", *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
        )
    return table


def layers_table(run: dict[str, Any], stage: str, layers: list[dict[str, Any]]) -> Table:
    """One row for each layer of a stage of a run."""
    table = Table(title=f"{run['trace']}, {layout.shortened(run['setting'])}, {stage}", **_STYLE)
    headings = ["layer", "tokens", "heads", "flat\nrows", "all\nrows", "reads\nkbit", "of dense\n12 bits", "of\nfp32"]
    computed = "agreement" in layers[0]
    for heading in headings + ["decided\nas float", "RMS off\nfloat"] * computed:
        table.add_column(heading, justify="right", no_wrap=True)
    for x in layers:
        bits = layout.read_bits(x["payload"])
        table.add_row(
            str(x["layer"]),
            f"{x['tokens']:.1f}",
            f"{x['heads']:.1f}",
            str(x["flat_rows"]),
            str(x["rows"]),
            f"{bits / 1000:.1f}",
            f"{100 * bits / layout.read_bits(x['dense12']):.1f}%",
            f"{100 * bits / layout.read_bits(x['fp32']):.1f}%",
            *([f"{100 * x['agreement']:.1f}%", f"{100 * x['float_error']:.2f}%"] if computed else []),
        )
    return table


def render(data: dict[str, Any], styled: bool) -> Iterator[RenderableType]:
    """Yield what `spatten run` shows: the layers of each run, its struck text, and an overview at the end."""
    texts = {workload["name"]: workload["texts"] for workload in data["workloads"]}
    for run in data["runs"]:
        for stage, layers in layout.stages(run):
            yield layers_table(run, stage, layers)
        if any(len(alive) < run["last_length"] for alive in run["survivors"]):
            grid = Table.grid(padding=(0, 2))
            for layer, alive in enumerate(run["survivors"]):
                grid.add_row(str(layer), struck(texts[run["trace"]], alive, run["last_length"], styled))
            yield grid
    for recorded in data["recorded"]:
        for stage, layers in layout.stages(recorded):
            yield layers_table(recorded, stage, layers)
    yield overview(data)


def facts_table(title: str, facts: dict[str, Any]) -> Table:
    """Nested plain values as two columns."""
    table = Table(title=title, show_header=False, **_STYLE)
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for name, value in _flattened(facts, ""):
        table.add_row(name, Text(str(value)))
    return table


def _flattened(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flattened(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for i, inner in enumerate(value):
            yield from _flattened(inner, f"{name}[{i}]")
    else:
        yield name, value


def evidence_table(data: dict[str, Any]) -> Table:
    """What `spatten verify` found: a row for each check."""
    table = Table(title="Evidence", **_STYLE)
    for heading in ("block", "check", "method", "verdict"):
        table.add_column(heading)
    table.add_column("s", justify="right")
    for result in data["results"]:
        verdict = Text(str(result["verdict"]), style="green" if result["passed"] else "bold red")
        table.add_row(result["block"], result["name"], result["method"], verdict, f"{result['seconds']:.1f}")
    return table
