"""Records the counts of a decoder's generation as a workload.

    python -m verification.recording --trace traces/gpt2-lighthouse.npz --out traces/gpt2-lighthouse.csv

One row for each generated token, layer and surviving head, in the columns of the released workloads
(`traces.workload`). What each says of our run:

    iteration_id                     generation step, from 0; the prompt pass has no rows
    sentence_length_L                N of that step, the current token included
    key_fetch_num                    keys alive in the layer, the same for all of its heads
    quant_key_bit, quant_value_bit   M, bits of the most significant plane of K and of V
    quant_query_bit                  W, bits of the datapath: Q has one plane
    auto_requant_thres, _incre       threshold and L of progressive quantization; -1 if static
    if_requant                       the row was flat: K of the resident keys was fetched with its L bits
    value_fetch_num                  k_v, values that local pruning kept
    if_accumulate_importance         True: every row adds to the importance
    if_rescale_previous_importance   in a token's last row, whether the importance was halved after it
    if_topk, topk                    in the last row before a selection among the keys, how many it left, the protected
                                     ones among them: what the next layer, or the next token, then fetches

The released form has no column for the selection of heads: a pruned head has no row. It holds generation in `step`
scope, where every token starts again from all keys (section 2 of the algorithm page).
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from models.config import Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.stack import LayerResult, prepare
from traces.npz import read_trace
from traces.trace import Trace
from traces.workload import ABSENT, RecordedWorkload, write_workload
from verification.runs import own_softmax_scale, sequence_of

SHIPPED = Config(
    pruning=PruningConfig(
        tokens=KeepSchedule(average=0.5, start=0.7),
        heads=KeepSchedule(average=0.75, start=0.875),
        value_ratio=0.4,
    ),
    quantization=QuantizationConfig(msb_bits=6, lsb_bits=4, threshold=0.1),
)
"""Of the shipped workload: the published rules for tokens and heads, 6+4 bits."""


def recorded_workload(results: Iterable[LayerResult], config: Config, comment: str = "") -> RecordedWorkload:
    """Counts of the generation steps among `results`, which are those of a whole decoder run.

    Args:
        results: every layer of every pass, in order; the prompt pass is passed over.
        config: that the run had.
        comment: last line of the file, without comma and quote.

    Raises:
        ValueError: for a run in `sequence` scope, which the released form cannot hold, and one without a step.
    """
    if config.pruning.scope != "step":
        raise ValueError("a recorded workload starts every token from all keys; record a run with scope = 'step'")
    steps = [result for result in results if result.step]
    if not steps:
        raise ValueError("the run generated no token; record a decoder trace with at least one")
    rows: list[dict[str, Any]] = []
    for result, following in zip_longest(steps, steps[1:]):
        rows.extend(_rows(result, following, config))
    return RecordedWorkload(**{field: np.array([row[field] for row in rows]) for field in rows[0]}, comment=comment)


def _rows(result: LayerResult, following: LayerResult | None, config: Config) -> list[dict[str, Any]]:
    quantization = config.quantization
    progressive = quantization.lsb_bits > 0
    keys, length = len(result.tokens), _length(result)
    rows: list[dict[str, Any]] = [
        {
            "iteration": result.step - 1,
            "layer": result.layer,
            "head": head,
            "head_dim": result.attention.out.shape[-1],
            "length": length,
            "keys": keys,
            "key_bits": quantization.msb_bits,
            "query_bits": config.accelerator.datapath_bits,
            "threshold": quantization.threshold if progressive else float(ABSENT),
            "requant": bool(result.attention.flat[slot, 0]),
            "lsb_bits": quantization.lsb_bits if progressive else ABSENT,
            "values": int(result.attention.kept[slot, 0].sum()),
            "value_bits": quantization.msb_bits,
            "accumulate": True,
            "rescale": False,
            "selects": False,
            "topk": ABSENT,
        }
        for slot, head in enumerate(result.heads.tolist())
    ]
    ends_token = following is None or following.step != result.step
    rows[-1]["rescale"] = config.pruning.rescale and ends_token
    if following is not None:
        chosen_from = _length(following) if ends_token else keys
        if len(following.tokens) < chosen_from:
            rows[-1] |= {"selects": True, "topk": len(following.tokens)}
    return rows


def _length(result: LayerResult) -> int:
    # The row of a generation step is its newest token, which is never pruned.
    return int(result.rows[-1]) + 1


def record_trace(trace: Trace, config: Config, comment: str = "") -> RecordedWorkload:
    """Run a decoder trace in integers under `config` and record it.

    Raises:
        ValueError: as `recorded_workload`.
        ConfigError: if the schedule is for another number of layers.
    """
    bits = config.accelerator.datapath_bits
    arithmetic = IntegerArithmetic(config.quantization, bits, own_softmax_scale(trace))
    run = prepare(sequence_of(trace), arithmetic, config.pruning, config.quantization, bits)
    return recorded_workload(run.passes(), config, comment)


def shipped_workload(trace_path: Path) -> RecordedWorkload:
    """The first sequence of a trace file, recorded under `SHIPPED`; the comment names the file and the schedule."""
    pruning, quantization = SHIPPED.pruning, SHIPPED.quantization
    comment = "; ".join(
        (
            trace_path.name,
            f"tokens average {pruning.tokens.average} start {pruning.tokens.start}",
            f"heads average {pruning.heads.average} start {pruning.heads.start}",
            f"values {pruning.value_ratio}",
            f"{quantization.msb_bits}+{quantization.lsb_bits} bits",
            f"threshold {quantization.threshold}",
            f"scope {pruning.scope}",
        )
    )
    return record_trace(read_trace(trace_path).sequences[0], SHIPPED, comment)


def main(arguments: Sequence[str] | None = None) -> None:
    """Record a trace under the shipped schedule into a CSV file."""
    parser = argparse.ArgumentParser(prog="python -m verification.recording", description="Record a workload.")
    parser.add_argument("--trace", type=Path, required=True, help="decoder trace to run")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    options = parser.parse_args(arguments)
    write_workload(options.out, shipped_workload(options.trace))


if __name__ == "__main__":
    main()
