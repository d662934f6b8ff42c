"""One self-contained HTML page from the result files of the main job, published figures beside ours."""

from __future__ import annotations

import io
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports import combined, layout


def render(data: dict[str, Any]) -> str:
    """The page of `combined.load`; results that are not there are left out."""
    environment = Environment(
        loader=PackageLoader("reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    environment.globals.update(layout=layout, combined=combined, published=combined.published())
    picture = roofline(data["simulate"]) if data["simulate"] else ""
    return environment.get_template("page.html.j2").render(**data, roofline=picture)


def roofline(simulate: dict[str, Any]) -> str:
    """Operations a second over operations a byte, with the machine's roofs, as SVG without a header."""
    from matplotlib.figure import Figure

    known, reached = combined.published()["total"], combined.published()["roofline"]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    points = [(s["workload"], s["total"]["roofline"]) for s in simulate["results"]]
    ridge = known["peak_tflops"] * 1e12 / (known["bandwidth_gb_per_s"] * 1e9)
    span = [0.1, ridge, max([100.0, *(1.5 * p["operations_per_byte"] for _, p in points)])]
    roof = [min(known["peak_tflops"], x * known["bandwidth_gb_per_s"] / 1e3) for x in span]
    axes.loglog(span, roof, color="black", label="roof")
    for i, (name, point) in enumerate(points):
        # colours repeat after ten
        marker = "os^vD"[i // 10 % 5]
        axes.loglog([point["operations_per_byte"]], [point["operations_per_s"] / 1e12], marker, label=name)
    for marker, name in (("k*", "BERT"), ("kP", "GPT-2")):
        point = reached[name]
        axes.loglog([point["operations_per_byte"]], [point["tflops"]], marker, label=f"published, {name}")
    axes.set_xlabel("operations a byte of DRAM")
    axes.set_ylabel("TFLOP/s")
    figure.legend(fontsize=7, loc="outside right upper")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
