"""Random sequences for tests of the reference, and Hypothesis strategies for schedules."""

import torch
from hypothesis import strategies as st

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.stack import Sequence


def random_sequence(seed, layers=3, heads=4, tokens=12, head_dim=8, group=1, prompt=None, spread=1.5):
    """Gaussian Q, K, V; `spread` above 1 makes attention peaked enough that rankings differ."""
    generator = torch.Generator().manual_seed(seed)

    def draw(h):
        return tuple(
            spread * torch.randn(h, tokens, head_dim, generator=generator, dtype=torch.float64) for _ in range(layers)
        )

    return Sequence(draw(heads), draw(heads // group), draw(heads // group), prompt)


quantizations = st.builds(
    lambda m, low, threshold: QuantizationConfig(m, low, threshold if low else 0.0),
    st.sampled_from([4, 6, 8]),
    st.sampled_from([0, 4]),
    st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
) | st.just(QuantizationConfig(12))

shares = st.sampled_from([1.0, 0.9, 0.7, 0.5, 0.3, 0.1])


@st.composite
def schedules(draw, layers):
    return KeepSchedule(ratios=tuple(draw(st.lists(shares, min_size=layers, max_size=layers))))


@st.composite
def prunings(draw, layers=3):
    return PruningConfig(
        tokens=draw(schedules(layers)),
        heads=draw(schedules(layers)),
        value_ratio=draw(shares),
        scope=draw(st.sampled_from(["step", "sequence"])),
        prune_prompt=draw(st.booleans()),
        rescale=draw(st.booleans()),
        importance=draw(st.sampled_from(["cumulative", "per_query"])),
    )


@st.composite
def cases(draw, layers=3):
    """A sequence and a pruning for it."""
    tokens = draw(st.integers(1, 12))
    prompt = draw(st.none() | st.integers(1, tokens))
    sequence = random_sequence(
        draw(st.integers(0, 2**32 - 1)),
        layers=layers,
        tokens=tokens,
        group=draw(st.sampled_from([1, 2, 4])),
        prompt=prompt,
    )
    return sequence, draw(prunings(layers))
