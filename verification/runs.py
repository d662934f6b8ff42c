"""Runs of a trace under a setting, in integers and in float, with the errors between them held to their bounds.

The integer path decides; for every layer it computes, exact arithmetic on the same operands and plain float attention
on the unquantized ones compute the same survivors, so that errors do not mix with different decisions. A float run
of its own shows how far the decisions agree.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.config import AcceleratorConfig, Config, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.floating import FloatArithmetic
from models.reference.integer import IntegerArithmetic
from models.reference.payload import Payload, dense_payload
from models.reference.stack import LayerResult, Run, Sequence, prepare
from traces.trace import Trace
from verification.bounds import layer_errors

Progress = Callable[[int, int, str], None]
"""Called with what is done, the total and what is being done."""


@dataclass(frozen=True)
class Setting:
    """A named configuration to run a trace under."""

    name: str
    config: Config


def strengths(accelerator: AcceleratorConfig) -> tuple[Setting, ...]:
    """Settings from keeping everything to strong pruning and few bits, by the published rule with shares of our own."""

    def setting(name: str, tokens: float, heads: float, values: float, bits: tuple[int, int]) -> Setting:
        spread = min(tokens / 2, 1 - tokens)
        pruning = PruningConfig(
            tokens=KeepSchedule(average=tokens, start=tokens + spread),
            heads=KeepSchedule(average=heads, start=1.0),
            value_ratio=values,
        )
        return Setting(name, Config(accelerator, pruning, QuantizationConfig(*bits, 0.1)))

    return (
        Setting("dense 12", Config(accelerator)),
        setting("light 8+4", 0.8, 0.95, 0.8, (8, 4)),
        setting("medium 8+4", 0.5, 0.9, 0.5, (8, 4)),
        setting("strong 6+4", 0.3, 0.8, 0.3, (6, 4)),
    )


def sequence_of(trace: Trace) -> Sequence:
    """Read a trace as a sequence of the reference, in float64."""
    layers = [trace.layer(i) for i in range(trace.layers)]
    q, k, v = (tuple(torch.from_numpy(layer[i]) for layer in layers) for i in range(3))
    return Sequence(q, k, v, None if trace.kind == "encoder" else trace.prompt_length)


def own_softmax_scale(trace: Trace) -> float | None:
    """Return the trace's score factor where it is not the usual 1 / sqrt(D)."""
    usual = math.isclose(trace.softmax_scale, 1 / math.sqrt(trace.head_dim), rel_tol=1e-12)
    return None if usual else trace.softmax_scale


@dataclass(frozen=True)
class LayerCounts:
    """What one layer kept and asked for, over all summarization passes, or all generation steps, of a run.

    Attributes:
        stage: "summarization" or "generation".
        layer: from 0.
        passes: how many.
        tokens: mean number of surviving tokens.
        heads: mean number of surviving heads.
        rows: query rows of all heads.
        flat_rows: of these, recomputed with all bits.
        payload: bits asked for.
        dense12: what keeping everything in 12 bits would ask for.
        fp32: what keeping everything in 32 bits would ask for.
    """

    stage: str
    layer: int
    passes: int
    tokens: float
    heads: float
    rows: int
    flat_rows: int
    payload: Payload
    dense12: Payload
    fp32: Payload


@dataclass(frozen=True)
class LayerSummary(LayerCounts):
    """The counts of a layer, and how far its numbers are off.

    Attributes:
        agreement: share of surviving (token, head) pairs that a float run of its own has too, mean over passes.
        prob_error: largest error of a probability against exact arithmetic, units of 2^-12.
        out_error: largest error of an output against exact arithmetic, units of the integer output.
        bound_use: largest share of its bound that an error takes; above 1 is evidence against the integer path.
        float_error: RMS difference of outputs from float attention on unquantized Q, K, V, over its RMS.
    """

    agreement: float
    prob_error: float
    out_error: float
    bound_use: float
    float_error: float


@dataclass(frozen=True)
class RunSummary:
    """A trace under a setting.

    Attributes:
        trace: its name.
        setting: what it ran under.
        layers: every layer of every stage.
        survivors: for the last pass, the ids of the tokens alive in each layer.
        last_length: tokens of that pass.
    """

    trace: str
    setting: Setting
    layers: tuple[LayerSummary, ...]
    survivors: tuple[tuple[int, ...], ...]
    last_length: int

    @property
    def within_bounds(self) -> bool:
        """No error of the integer path exceeds its derived bound."""
        return all(layer.bound_use <= 1 for layer in self.layers)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a result file."""
        return {
            "trace": self.trace,
            "setting": self.setting.name,
            "pruning": asdict(self.setting.config.pruning),
            "quantization": asdict(self.setting.config.quantization),
            "within_bounds": self.within_bounds,
            "layers": [asdict(layer) for layer in self.layers],
            "survivors": self.survivors,
            "last_length": self.last_length,
        }


@dataclass(frozen=True)
class _Observation:
    result: LayerResult
    length: int
    dense12: Payload
    fp32: Payload
    agreement: float
    prob_error: float
    out_error: float
    bound_use: float
    difference: Tensor
    reference: Tensor


def summarize(trace: Trace, setting: Setting, progress: Progress | None = None) -> RunSummary:
    """Run `trace` under `setting` in every kind of number.

    Raises:
        ConfigError: for a schedule of another number of layers, a head that the machine cannot hold, too many keys.
    """
    trace_config = _checked(trace, setting.config)
    sequence = sequence_of(trace)
    total = sequence.layers * (1 + trace.generated)
    observations = []
    for observation in _observe(sequence, trace_config, own_softmax_scale(trace)):
        observations.append(observation)
        if progress is not None:
            progress(len(observations), total, f"{trace.name}, {setting.name}")
    stages = {"summarization": False, "generation": True}
    layers = tuple(
        _summary(stage, layer, chosen)
        for stage, generating in stages.items()
        for layer in range(sequence.layers)
        if (chosen := [o for o in observations if o.result.layer == layer and (o.result.step > 0) == generating])
    )
    last = observations[-sequence.layers :]
    survivors = tuple(tuple(o.result.tokens.tolist()) for o in last)
    return RunSummary(trace.name, setting, layers, survivors, last[0].length)


def _checked(trace: Trace, config: Config) -> Config:
    machine = config.accelerator
    machine.check_sequence(trace.head_dim, trace.tokens)
    protected = tuple(sorted({*config.pruning.protected_ids, *trace.protected}))
    return replace(config, pruning=replace(config.pruning, protected_ids=protected))


def _observe(sequence: Sequence, config: Config, softmax_scale: float | None) -> Iterator[_Observation]:
    pruning, bits, w = config.pruning, config.quantization, config.accelerator.datapath_bits
    integer = prepare(sequence, IntegerArithmetic(bits, w, softmax_scale), pruning, bits, w)
    exact = prepare(sequence, FloatArithmetic(torch.float64, bits, w, softmax_scale), pruning, bits, w)
    plain = prepare(sequence, FloatArithmetic(torch.float64, None, w, softmax_scale), pruning, bits, w)
    for result, free in zip(integer.passes(), plain.passes(), strict=True):
        yield _observation(integer, exact, plain, result, free)


def _observation(
    integer: Run[Any], exact: Run[Any], plain: Run[Any], result: LayerResult, free: LayerResult
) -> _Observation:
    sequence, layer, step = integer.sequence, result.layer, result.step
    _, v = integer.key_value(layer, result.tokens, result.heads)
    right, _ = exact.attention(layer, step, result.tokens, result.heads)
    unquantized, _ = plain.attention(layer, step, result.tokens, result.heads)
    errors = layer_errors(result.attention, right, v, integer.datapath_bits)
    length = len(result.importance.tokens)
    rows = 1 if step else length
    dense12, fp32 = (
        dense_payload(sequence.heads, len(sequence.k[layer]), rows, length, sequence.head_dim, bits, step > 0)
        for bits in (12, 32)
    )
    return _Observation(
        result,
        length,
        dense12,
        fp32,
        _agreement(result, free),
        float(errors.prob.max()),
        float(errors.out.max()),
        max(
            float((errors.prob / errors.prob_bound.clamp(min=1e-9)).max()), float((errors.out / errors.out_bound).max())
        ),
        (result.real_out - unquantized.out).square().sum(),
        unquantized.out.square().sum(),
    )


def _agreement(a: LayerResult, b: LayerResult) -> float:
    both = int(torch.isin(a.tokens, b.tokens).sum()) * int(torch.isin(a.heads, b.heads).sum())
    return both / (len(a.tokens) * len(a.heads))


def _summary(stage: str, layer: int, seen: list[_Observation]) -> LayerSummary:
    count = len(seen)
    reference = float(sum(o.reference for o in seen))
    return LayerSummary(
        stage=stage,
        layer=layer,
        passes=count,
        tokens=sum(len(o.result.tokens) for o in seen) / count,
        heads=sum(len(o.result.heads) for o in seen) / count,
        rows=sum(o.result.attention.flat.numel() for o in seen),
        flat_rows=sum(int(o.result.attention.flat.sum()) for o in seen),
        payload=sum((o.result.payload for o in seen), Payload()),
        dense12=sum((o.dense12 for o in seen), Payload()),
        fp32=sum((o.fp32 for o in seen), Payload()),
        agreement=sum(o.agreement for o in seen) / count,
        prob_error=max(o.prob_error for o in seen),
        out_error=max(o.out_error for o in seen),
        bound_use=max(o.bound_use for o in seen),
        float_error=math.sqrt(float(sum(o.difference for o in seen)) / reference) if reference else 0.0,
    )
