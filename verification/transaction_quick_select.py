"""Measures the passes of quick-selects on real values, for `models/transaction/quick_select.toml`.

    python -m verification.transaction_quick_select --out FILE TRACE...

Every trace is run by the integer reference, unpruned and with half of the tokens pruned, in 8+4 bits. Requests are the
probabilities of rows, a fixed number of rows drawn from each head of each layer, and the importance of the tokens after
each layer, each with every k / n of `RATIOS`. Requests of like size are put in order of the time they take in the
published engine, and `STEPS` of them at equal steps are written down.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from models.config import AcceleratorConfig, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.stack import LayerResult, prepare
from models.reference.top_k import lfsr_pivots, quick_select
from models.transaction.quick_select import PassClass, Values
from models.transaction.workload import Passes
from traces.atomic import write_atomically
from traces.reading import read
from traces.trace import Trace, TraceFile
from verification.runs import own_softmax_scale, sequence_of

RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
SIZES = ((2, 15), (16, 31), (32, 63), (64, 127), (128, 255), (256, 511), (512, 1024))
STEPS = 16
ROWS_OF_A_HEAD = 16
PASS_OVERHEAD_CYCLES = 8
BITS = QuantizationConfig(8, 4, 0.1)
PRUNINGS = (PruningConfig(), PruningConfig(tokens=KeepSchedule(average=0.5, start=0.9)))


def results_of(trace: Trace) -> Iterator[LayerResult]:
    """Every layer of every pass, under every pruning of `PRUNINGS`."""
    sequence, arithmetic = sequence_of(trace), IntegerArithmetic(BITS, softmax_scale=own_softmax_scale(trace))
    for pruning in PRUNINGS:
        yield from prepare(sequence, arithmetic, pruning, BITS).passes()


def value_lists(result: LayerResult, random: np.random.Generator) -> Iterator[tuple[Values, list[int]]]:
    """What could be selected from in a layer: some rows' probabilities, and the importance of its tokens."""
    attention = result.attention
    heads, rows, _ = attention.prob.shape
    for head in range(heads):
        for row in random.choice(rows, min(rows, ROWS_OF_A_HEAD), replace=False):
            yield "probability", attention.prob[head, row][attention.visible[0, row]].tolist()
    yield "importance", result.importance.tokens[result.tokens].tolist()


def measure(results: Iterable[LayerResult], lanes: int, seed: int = 0) -> dict[tuple[Values, int, float], list[Passes]]:
    """Passes of requests by what they select from, the index of their size in `SIZES`, and their k / n."""
    random = np.random.default_rng(seed)
    found: dict[tuple[Values, int, float], list[Passes]] = defaultdict(list)
    for result in results:
        for kind, values in value_lists(result, random):
            for ratio in RATIOS:
                n, k = len(values), max(1, int(len(values) * ratio))
                size = next((i for i, (least, most) in enumerate(SIZES) if least <= n <= most), None)
                if size is not None and k < n:
                    found[kind, size, ratio].append(quick_select(values, k, lfsr_pivots(lanes)).candidates)
    return found


def condense(found: dict[tuple[Values, int, float], list[Passes]], lanes: int) -> list[PassClass]:
    """`STEPS` requests of every class, at equal steps of the order of their times over n."""
    classes = []
    for (kind, size, ratio), requests in sorted(found.items()):
        middle = math.sqrt(math.prod(SIZES[size]))

        def time(passes: Passes, n: float = middle) -> float:
            """Cycles that such shares take with a number of candidates in the middle of the class."""
            return sum(n * c / passes[0] / lanes + PASS_OVERHEAD_CYCLES for c in passes)

        ordered = sorted(requests, key=time)
        chosen = [ordered[int((i + 0.5) * len(ordered) / STEPS)] for i in range(STEPS)]
        shares = tuple(tuple(round(c / passes[0], 3) for c in passes) for passes in chosen)
        classes.append(PassClass(kind, *SIZES[size], ratio, len(ordered), shares))
    return classes


def as_toml(source: str, classes: Iterable[PassClass]) -> str:
    """The table as `models.transaction.quick_select` reads it."""
    lines = [
        "# Passes as shares of n. Made by `python -m verification.transaction_quick_select`.",
        f"source = {json.dumps(source)}",
    ]
    for c in classes:
        lines += ["", "[[class]]", f'values = "{c.values}"', f"least = {c.least}", f"most = {c.most}"]
        lines += [f"ratio = {c.ratio}", f"samples = {c.samples}", "shares = ["]
        lines += [f"  {json.dumps(s)}," for s in c.shares]
        lines.append("]")
    return "\n".join(lines) + "\n"


def sequences(path: Path) -> tuple[Trace, ...]:
    """The traces in a file.

    Raises:
        ValueError: for a file of recorded counts, which have no values.
    """
    held = read(path)
    if not isinstance(held, TraceFile):
        raise ValueError(f"{path}: holds counts and no values; give a trace")
    return held.sequences


def main() -> None:
    """Measure the traces of the command line and write the table."""
    parser = argparse.ArgumentParser(description="passes of quick-selects on the values of traces")
    parser.add_argument("traces", type=Path, nargs="+", help="trace files")
    parser.add_argument("--out", type=Path, required=True, help="TOML file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lanes = AcceleratorConfig().top_k_lanes
    traces = [trace for path in arguments.traces for trace in sequences(path)]
    found = measure((result for trace in traces for result in results_of(trace)), lanes)
    names = ", ".join(f"{t.name} ({t.model.name}, {t.tokens} tokens)" for t in traces)
    source = f"measured with {lanes} lanes, 8+4 bits, unpruned and half of the tokens pruned, on {names}"
    write_atomically(arguments.out, as_toml(source, condense(found, lanes)).encode())


if __name__ == "__main__":
    main()
