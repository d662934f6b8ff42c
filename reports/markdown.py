"""Markdown from a run's result file."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reports import combined, layout

_MARKUP = str.maketrans({c: "\\" + c for c in "\\`*_{}[]<>()#+-.!|~"})


def struck(texts: list[str], alive: list[int], length: int) -> str:
    """Return the text with pruned tokens struck through."""
    pieces = []
    for text, survives, space in layout.phrases(texts, alive, length):
        safe = text.translate(_MARKUP)
        pieces.append(" " * space + (safe if survives else f"~~{safe}~~"))
    return "".join(pieces).strip()


def render(data: dict[str, Any]) -> str:
    """Render the result of `spatten run` (the content of its JSON file)."""
    return _environment().get_template("run.md.j2").render(data)


def render_evidence(data: dict[str, Any]) -> str:
    """Render what of `combined.load` is there beside the runs."""
    return _environment().get_template("report.md.j2").render(data)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.globals.update(layout=layout, struck=struck, combined=combined)
    return environment
