"""Which models SpAtten can be attached to, and where their layers are."""

from dataclasses import dataclass
from typing import Any

import torch

from models.config import FRONT_HEADS, FRONT_TOKENS, PruningConfig


@dataclass(frozen=True)
class Family:
    """One type of model.

    Attributes:
        layers: path from the base model to its list of layers.
        causal: a decoder, whose rows see no later token.
    """

    layers: str
    causal: bool


FAMILIES = {
    "bert": Family("encoder.layer", causal=False),
    "gpt2": Family("h", causal=True),
    "llama": Family("layers", causal=True),
}
DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Target:
    """A model that SpAtten fits.

    Attributes:
        base: the model below its head.
        layers: its layers.
        family: its type.
        heads: H.
        dtype: of its numbers.
    """

    base: Any
    layers: tuple[Any, ...]
    family: Family
    heads: int
    dtype: torch.dtype


def find_target(model: Any, pruning: PruningConfig) -> Target:
    """Find the layers of `model` and check that SpAtten fits it.

    Raises:
        ValueError: for a type of model, a feature, a number format or a device that is not supported.
        ConfigError: for a schedule written for another number of layers.
    """
    config = model.config
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ValueError(f"model type {config.model_type!r} is not supported; there are {', '.join(FAMILIES)}")
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
        raise ValueError("cross-attention is not supported; use a model with add_cross_attention = False")
    if not family.causal and getattr(config, "is_decoder", False):
        raise ValueError(f"a {config.model_type} decoder is not supported; set is_decoder = False, or take gpt2")
    if getattr(config, "reorder_and_upcast_attn", False):
        raise ValueError("reorder_and_upcast_attn computes other scores; set it to False")
    base = model.base_model
    dtypes = {p.dtype for p in base.parameters()}
    if len(dtypes) != 1 or not dtypes <= set(DTYPES):
        found = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        raise ValueError(
            f"a model in {found} is not supported; load it with dtype=torch.float32, or call model.float()"
        )
    devices = {p.device.type for p in base.parameters()}
    if devices != {"cpu"}:
        raise ValueError(f"a model on {', '.join(sorted(devices))} is not supported; call model.cpu()")
    layers = tuple(base.get_submodule(family.layers))
    heads = config.num_attention_heads
    pruning.tokens.layer_counts(len(layers), 1, FRONT_TOKENS)
    pruning.heads.layer_counts(len(layers), heads, FRONT_HEADS)
    return Target(base, layers, family, heads, dtypes.pop())
