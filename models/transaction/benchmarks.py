"""The 30 published benchmarks as generated workloads. Numbers, provenance and reasons are in `benchmarks.toml`.

The paper prints names and results and leaves out most lengths and every pruning ratio: a benchmark here stands for
one of the paper's as far as its table of assumptions goes. The tasks of a GPT-2 model have the same lengths and,
for want of printed ratios, are the same workload.
"""

import difflib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.transaction.generated import Profile
from models.transaction.workload import ModelShape, WorkloadError


@cache
def table() -> dict[str, Any]:
    """The table as it is written."""
    return tomllib.loads(files("models.transaction").joinpath("benchmarks.toml").read_text("utf-8"))


def benchmark_names() -> tuple[str, ...]:
    """The names, in the order of the published figure."""
    return tuple(entry["name"] for entry in table()["benchmark"])


def benchmark(name: str) -> Profile:
    """The benchmark called `name`.

    Raises:
        WorkloadError: for another name; the message has the closest.
    """
    entry = next((entry for entry in table()["benchmark"] if entry["name"] == name), None)
    if entry is None:
        close = difflib.get_close_matches(name[:80], benchmark_names(), n=1, cutoff=0.0)[0]
        raise WorkloadError(f"no benchmark {name[:80]!r}; did you mean {close!r}? There are {len(benchmark_names())}")
    shape = {key: value for key, value in table()["models"][entry["model"]].items() if key != "provenance"}
    model = ModelShape(entry["model"], **shape)
    settings = table()[entry["model"].split("-")[0]]
    bits = settings["bits"]
    origins = ", ".join(f"{what} {setting['provenance']}" for what, setting in settings.items())
    return Profile(
        name,
        model,
        entry["tokens"],
        entry.get("generated", 0),
        encoder="generated" not in entry,
        pruning=PruningConfig(
            tokens=_schedule(settings["tokens"], model.layers),
            heads=_schedule(settings["heads"], model.layers),
            value_ratio=settings["value_ratio"]["value"],
        ),
        quantization=QuantizationConfig(bits["msb_bits"], bits["lsb_bits"], bits["threshold"]),
        flat_share=settings["flat_share"]["value"],
        source=f"length {entry['provenance']}, {origins}",
    )


def _schedule(setting: dict[str, Any], layers: int) -> KeepSchedule:
    """A schedule of the published rule, or of stages that each take a share of the layers."""
    if "stages" not in setting:
        return KeepSchedule(average=setting["average"], start=setting["start"])
    ends, total = [], 0.0
    for share, _ in setting["stages"]:
        total += share
        ends.append(round(total * layers))
    keeps = [keep for _, keep in setting["stages"]]
    return KeepSchedule(
        ratios=tuple(next(k for k, end in zip(keeps, ends, strict=True) if layer < end) for layer in range(layers))
    )
