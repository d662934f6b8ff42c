"""What the machine is asked to do, layer by layer: the one form of workload that the transaction model takes.

A `LayerWork` is a layer of one pass (an encoder input, a prompt, or one generation step): which tokens and heads are
alive, how many keys each row sees, how many values it keeps, which rows are flat, what was selected on entering. It
holds no payload, but where a run of the reference is behind it, it holds which values were kept and how many
candidates each pass of a quick-select had. Where only counts are known, ids and kept values are drawn with a fixed
seed (`exact` is False), because bursts and banks depend on them. Algorithm page, sections 1 to 5; the request of one
layer is the last section of the architecture page.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hls.datapaths.descriptor import MAX_HEADS
from models.config import MSB_BITS, AcceleratorConfig, QuantizationConfig

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Passes = tuple[int, ...]
"""Candidates of each pass of a quick-select."""


class WorkloadError(ValueError):
    """A workload that cannot be, or that a machine cannot run; says which layer and which count."""


@dataclass(frozen=True)
class ModelShape:
    """A model's attention: layers, query heads, K/V heads and D."""

    name: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.kv_heads, self.head_dim) < 1 or self.heads % self.kv_heads:
            raise WorkloadError(
                f"model {self.name}: {self.layers} layers, {self.heads} heads, {self.kv_heads} K/V heads, "
                f"D = {self.head_dim}; all at least 1, and the heads a multiple of the K/V heads"
            )


@dataclass(frozen=True)
class Selection:
    """One request to top-k engine A: the `kept` largest of `candidates`; `passes` where the values are known."""

    candidates: int
    kept: int
    passes: Passes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWork:
    """A layer of one pass.

    Attributes:
        model: of which it is a layer.
        step: 0 for an encoder input or a prompt, then the generation step.
        layer: from 0.
        causal: rows see survivors up to their own id.
        tokens: N, tokens of the sequence in this pass, the current one included.
        key_ids: rising ids of the surviving tokens, shape (keys,).
        row_ids: rising ids of the query rows, shape (rows,); one row where `step` is above 0; none where survivors are
            selected only (`selection_on_entering`).
        heads: rising ids of the surviving heads, shape (heads,).
        kept: k_v of every row, shape (heads, rows).
        flat: the row was recomputed with all bits, shape (heads, rows).
        msb_bits: M.
        lsb_bits: L, 0 for static quantization.
        query_bits: bits of an element of Q.
        token_selection: made on entering the layer, None where nothing left.
        present_ids: tokens that a pass of its own chose from, as with scope `sequence`, shape (tokens,); None: chosen
            behind the layer before, from its survivors; before the first layer by a pass of its own, from all.
        head_selection: the same of heads.
        kept_mask: which values are kept, by slot, shape (heads, rows, keys); None where not known.
        value_passes: candidates of the passes of engine B, [head][row]; None where not known.
        exact: ids are those of a run, not drawn.
        seed: of what is drawn.
    """

    model: ModelShape
    step: int
    layer: int
    causal: bool
    tokens: int
    key_ids: IntArray
    row_ids: IntArray
    heads: IntArray
    kept: IntArray
    flat: BoolArray
    msb_bits: int
    lsb_bits: int
    query_bits: int
    token_selection: Selection | None = None
    present_ids: IntArray | None = None
    head_selection: Selection | None = None
    kept_mask: BoolArray | None = None
    value_passes: tuple[tuple[Passes, ...], ...] | None = None
    exact: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        shape = (len(self.heads), len(self.row_ids))
        self._require(0 <= self.layer < self.model.layers, f"layer {self.layer} of {self.model.layers}")
        for what, ids, limit, least in (
            ("key ids", self.key_ids, self.tokens, 1),
            ("row ids", self.row_ids, self.tokens, 0),
            ("heads", self.heads, self.model.heads, 1),
        ):
            self._require(
                len(ids) >= least and bool((np.diff(ids, prepend=-1, append=limit) > 0).all()),
                f"{what} must be rising numbers below {limit}, at least {least}",
            )
        self._require(self.step == 0 or len(self.row_ids) <= 1, f"{len(self.row_ids)} rows in a generation step, not 1")
        self._require(
            self.kept.shape == self.flat.shape == shape, f"kept {self.kept.shape}, flat {self.flat.shape}, not {shape}"
        )
        self._require(
            bool(((self.kept >= 1) & (self.kept <= self.visible)).all()),
            "values kept by a row must be 1 to the keys it sees",
        )
        self._require(self.lsb_bits > 0 or not self.flat.any(), "flat rows without LSBs to fetch")
        if self.kept_mask is not None:
            self._require(
                self.kept_mask.shape == (*shape, self.keys) and bool((self.kept_mask.sum(2) == self.kept).all()),
                "the mask of kept values must agree with their number",
            )

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise WorkloadError(f"{self.model.name}, step {self.step}, layer {self.layer}: {message}")

    def selection_on_entering(self) -> "LayerWork | None":
        """The pass without rows that selects this layer's tokens; None where there is none."""
        present = self.present_ids
        if present is None:
            present = np.arange(self.tokens) if self.layer == 0 else self.key_ids
        if len(present) <= self.keys:
            return None
        nothing = np.zeros((len(self.heads), 0), np.int64)
        return replace(
            self,
            key_ids=present,
            row_ids=nothing[0],
            kept=nothing,
            flat=nothing > 0,
            kept_mask=None,
            value_passes=None,
            token_selection=None,
            present_ids=None,
            head_selection=None,
        )

    @cached_property
    def prunes_values(self) -> bool:
        """Some row keeps not all values that it sees."""
        return bool((self.kept != self.visible).any())

    @property
    def generation(self) -> bool:
        """One row against the cache."""
        return self.step > 0

    @property
    def keys(self) -> int:
        """Surviving keys."""
        return len(self.key_ids)

    @property
    def rows(self) -> int:
        """Query rows of each head."""
        return len(self.row_ids)

    @property
    def head_dim(self) -> int:
        """D."""
        return self.model.head_dim

    @property
    def kv_heads(self) -> IntArray:
        """K/V head that each surviving head reads, shape (heads,)."""
        return self.heads // (self.model.heads // self.model.kv_heads)

    @cached_property
    def visible(self) -> IntArray:
        """Keys that each row sees, shape (rows,); they are the first slots."""
        if not self.causal:
            return np.full(self.rows, self.keys, np.int64)
        return np.searchsorted(self.key_ids, self.row_ids, "right").astype(np.int64)

    def kept_slots(self, index: int) -> BoolArray:
        """Slots of the values that each row of the head at `index` keeps, shape (rows, keys)."""
        if self.kept_mask is not None:
            return np.asarray(self.kept_mask[index])
        if self.generation:
            return np.asarray(self._kept_in_generation[index])
        kept, visible, slots = self.kept[index], self.visible, np.arange(self.keys)
        seen = slots < visible[:, None]
        if (kept == visible).all():
            return np.asarray(seen)
        random = np.random.default_rng([self.seed, self.step, self.layer, int(self.heads[index])])
        merit = _merits(random, self.rows, self.keys)
        merit[~seen] = 1 << 62
        return _smallest(merit, kept)

    @cached_property
    def _kept_in_generation(self) -> BoolArray:
        """Slots of the values that the one row of each head keeps, drawn for all heads at once: (heads, 1, keys)."""
        random = np.random.default_rng([self.seed, self.step, self.layer])
        merit = _merits(random, len(self.heads), self.keys)
        return _smallest(merit, self.kept[:, 0])[:, None]

    def flat_value_slots(self, kv_head: int) -> BoolArray:
        """Slots of `kv_head` whose V is used by a flat row, so that its LSBs are fetched, shape (keys,)."""
        used = np.zeros(self.keys, np.bool_)
        for index in np.flatnonzero(self.kv_heads == kv_head):
            if self.flat[index].any():
                used |= self.kept_slots(int(index))[self.flat[index]].any(axis=0)
        return used


def _merits(random: np.random.Generator, rows: int, keys: int) -> IntArray:
    """Of each key in each row one of 2^31 merits, no two of a row equal: those drawn alike go by the key.

    A whole word of 32 bits is drawn: a range below takes four times as long, for the same numbers.
    """
    words = random.integers(0, 1 << 32, (rows, keys), np.uint32)
    return np.asarray((words >> 1).astype(np.int64) << 31 | np.arange(keys), np.int64)


def _smallest(merit: IntArray, count: IntArray) -> BoolArray:
    """Where the `count` smallest of each row are; no two are equal."""
    last, alike = count - 1, bool((count == count[:1]).all())
    ordered = np.partition(merit, last[0], axis=1) if alike and len(last) else np.sort(merit, axis=1)
    least = ordered[np.arange(len(last)), last]
    return np.asarray(merit <= least[:, None], np.bool_)


@dataclass(frozen=True)
class Workload:
    """Layers in the order in which they run; each call of `layers` starts again.

    Attributes:
        name: to be shown.
        source: where the counts are from, in words.
        model: its shape.
        longest: most tokens of a pass.
        bits: pairs (M, L) that occur.
        layers: makes the iterator.
    """

    name: str
    source: str
    model: ModelShape
    longest: int
    bits: tuple[tuple[int, int], ...]
    layers: Callable[[], Iterator[LayerWork]]

    def check(self, machine: AcceleratorConfig) -> None:
        """Refuse what `machine` cannot hold or convert.

        Raises:
            ConfigError: naming what would fit.
            WorkloadError: for more heads than it takes, or bits that the bitwidth converter does not take.
        """
        if self.model.heads > MAX_HEADS:
            raise WorkloadError(f"{self.name}: {self.model.heads} heads of a layer; the machine takes {MAX_HEADS}")
        machine.check_sequence(self.model.head_dim, self.longest)
        for m, low in self.bits:
            if m not in MSB_BITS or low not in (0, 4):
                raise WorkloadError(
                    f"{self.name}: {m}+{low} bits are not converted; M is one of {MSB_BITS}, L is 0 or 4"
                )
            QuantizationConfig(m, low).check_fits(machine.datapath_bits)
