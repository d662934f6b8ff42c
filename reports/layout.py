"""What a run's result file says, arranged for reading: rows of the tables, totals, struck text."""

from collections.abc import Iterator
from typing import Any

READ = ("q_bits", "k_msb_bits", "k_lsb_bits", "v_msb_bits", "v_lsb_bits")


def read_bits(payload: dict[str, int]) -> int:
    """Bits of Q, K and V asked for."""
    return sum(payload[name] for name in READ)


def reduction(run: dict[str, Any], baseline: str) -> float:
    """How many times fewer bits a run reads than `baseline` ("dense12" or "fp32")."""
    layers = run["layers"]
    baseline_bits, bits = (sum(read_bits(x[kind]) for x in layers) for kind in (baseline, "payload"))
    return baseline_bits / bits


def shortened(name: str, longest: int = 24) -> str:
    """Return a name, cut to fit a column."""
    return name if len(name) <= longest else name[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share in percent, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def flat_share(run: dict[str, Any]) -> float:
    """Share of query rows that were recomputed with all bits."""
    flat, rows = (sum(int(x[kind]) for x in run["layers"]) for kind in ("flat_rows", "rows"))
    return flat / rows


def stages(run: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the stages that a run has, each with its layers."""
    for stage in ("summarization", "generation"):
        layers = [x for x in run["layers"] if x["stage"] == stage]
        if layers:
            yield stage, layers


def words(texts: list[str]) -> list[tuple[str, bool]]:
    """Token texts as they read: each with whether a space goes before it.

    Texts that carry their own spaces say themselves where a word begins; others stand apart.
    """
    own_spaces = any(text.startswith(" ") for text in texts)
    line_end = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
    return [(text.strip(" ").replace("\n", line_end), not own_spaces or text.startswith(" ")) for text in texts]


def phrases(texts: list[str], alive: list[int], length: int) -> Iterator[tuple[str, bool, bool]]:
    """Yield runs of neighbouring tokens of one fate: text, whether they survive, whether a space goes before."""
    survivors = set(alive)
    text, fate, spaced = "", None, False
    for token, (shown, space) in enumerate(words(texts[:length])):
        survives = token in survivors
        if survives == fate:
            text += " " * space + shown
            continue
        if fate is not None:
            yield text, fate, spaced
        text, fate, spaced = shown, survives, space
    if fate is not None:
        yield text, fate, spaced
