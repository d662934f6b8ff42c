"""Small generated workloads for the transaction model, and a Hypothesis strategy over them."""

from hypothesis import strategies as st

from models.config import KeepSchedule, PruningConfig, QuantizationConfig
from models.transaction.generated import Profile, generate
from models.transaction.workload import ModelShape, Workload


def small_workload(
    tokens: int, generated: int, value_ratio: float, lsb_bits: int, dim: int = 8, seed: int = 0
) -> Workload:
    """Two layers of two heads; an encoder's where nothing is generated."""
    return generate(
        Profile(
            name="small",
            model=ModelShape("small", 2, 2, 2, dim),
            tokens=tokens,
            generated=generated,
            encoder=generated == 0,
            prompt_pass=generated > 0,
            pruning=PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.7)), value_ratio=value_ratio),
            quantization=QuantizationConfig(6, lsb_bits, 0.2 if lsb_bits else 0.0),
            flat_share=0.25 if lsb_bits else 0.0,
            seed=seed,
        )
    )


def small_workloads(most_tokens: int, most_seed: int = 0) -> st.SearchStrategy[Workload]:
    """Any of them."""
    return st.builds(
        small_workload,
        st.integers(2, most_tokens),
        st.integers(0, 2),
        st.sampled_from([1.0, 0.5]),
        st.sampled_from([0, 4]),
        st.sampled_from([8, 16]),
        st.integers(0, most_seed),
    )
