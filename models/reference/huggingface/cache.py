"""A KV cache of `transformers` whose layers give up what is pruned (algorithm page, section 2, `scope`).

`generate()` makes its own `DynamicCache`; its layers are exchanged in place while they are still empty. A layer
reports its logical length, so that positions and masks go on counting pruned tokens.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from models.reference.huggingface.slots import gather_heads
from models.reference.huggingface.state import Batch, LayerView


class Sequences:
    """What the layers of one cache share: the state of its sequences, and whose it is."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.batch: Batch | None = None


class PrunedLayer(DynamicLayer):  # type: ignore[misc]
    """K and V of one layer: for each sequence only the columns that have not been given up.

    Attributes:
        keys: shape (batch, K/V heads, stored columns, D).
        values: as `keys`.
        columns: int64, shape (batch, stored columns): which column a slot holds; -1 is filler.
        length: logical length, with pruned columns and padding.
        scales: largest |K| and |V| of the prompt, each of shape (batch, K/V heads): fixes their quantization.
    """

    is_croppable = False
    keys: Tensor
    values: Tensor

    def __init__(self, index: int, shared: Sequences) -> None:
        super().__init__()
        self.index = index
        self.shared = shared
        self._clear()

    def _clear(self) -> None:
        self.columns = torch.zeros(0, 0, dtype=torch.int64)
        self.length = 0
        self.scales: tuple[Tensor, Tensor] | None = None
        self.view: LayerView | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the call's K and V, shape (batch, K/V heads, row slots, D); return those of the key slots.

        Raises:
            RuntimeError: outside a call of the model that SpAtten is attached to.
        """
        view, self.view = self.view, None
        if view is None:
            raise RuntimeError("this cache was filled under SpAtten; attach it again, or start from an empty cache")
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.columns = self.columns.new_zeros(len(key_states), 0)
        new_columns = torch.where(view.rows.live, view.row_columns, -1)
        columns = torch.cat([self.columns, new_columns], dim=1)
        keys = torch.cat([self.keys, key_states], dim=-2) if self.columns.shape[1] else key_states
        values = torch.cat([self.values, value_states], dim=-2) if self.columns.shape[1] else value_states
        total = int(view.row_columns.max()) + 1
        self.length = max(self.length, total)
        slot = _slot_of_column(columns, self.length).gather(1, view.keys.columns)
        stored = slot >= 0
        slot = slot.clamp(min=0)
        used_keys, used_values = gather_heads(keys, slot), gather_heads(values, slot)
        if view.frees:
            self.keys, self.values = used_keys, used_values
            self.columns = torch.where(stored & view.keys.live, view.keys.columns, -1)
        else:
            self.keys, self.values, self.columns = keys, values, columns
        return used_keys, used_values

    def get_seq_length(self) -> int:
        """Logical length."""
        return self.length

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._clear()
        self.shared.batch = None

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to take tokens back: their importance is spread over the state.

        Raises:
            ValueError: for a number other than 0.
        """
        if tokens_to_remove != 0:
            raise ValueError("SpAtten cannot take tokens back; generate without assistant, speculation or rollback")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the sequences `beam_idx`, in that order, with their pruning state."""
        if not self.is_initialized:
            return
        index = beam_idx.to(torch.int64)
        self.keys, self.values, self.columns = self.keys[index], self.values[index], self.columns[index]
        if self.scales is not None:
            self.scales = (self.scales[0][index], self.scales[1][index])
        if self.index == 0 and self.shared.batch is not None:
            self.shared.batch = self.shared.batch.take(index)

    def batch_select_indices(self, indices: Tensor) -> None:
        """As `reorder_cache`."""
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence, with its pruning state."""
        if self.is_initialized:
            self.reorder_cache(torch.arange(len(self.keys)).repeat_interleave(repeats))


def _slot_of_column(columns: Tensor, length: int) -> Tensor:
    """Invert `PrunedLayer.columns`: shape (batch, length), -1 where a column is not stored."""
    batch, stored = columns.shape
    slot = torch.full((batch, length + 1), -1)
    index = torch.where(columns < 0, length, columns)
    return slot.scatter(1, index, torch.arange(stored).expand(batch, stored))[:, :length]


def adopt(cache: Any, layers: int, owner: object) -> Sequences:
    """Make `cache` one of ours, if it is not yet.

    Args:
        cache: what the model was called with.
        layers: of the model.
        owner: who prunes it.

    Raises:
        ValueError: for a kind of cache that cannot prune, and for one filled without SpAtten or with other settings.
    """
    if cache.layers and isinstance(cache.layers[0], PrunedLayer):
        shared: Sequences = cache.layers[0].shared
        if shared.owner is not owner:
            raise ValueError("this cache was filled under an earlier SpAtten attachment; start from an empty cache")
        return shared
    plain = type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)
    if not plain or cache.offloading:
        raise ValueError(f"a {type(cache).__name__} cannot prune; use the default DynamicCache, not offloaded")
    if cache.get_seq_length() > 0:
        raise ValueError("this cache was filled without SpAtten; start from an empty cache")
    shared = Sequences(owner)
    cache.layers = [PrunedLayer(index, shared) for index in range(layers)]
    cache.layer_class_to_replicate = None
    return shared
