"""Layers for the value side of the accelerator, and naively what must come out of it (algorithm page, 2 to 5).

Values are by (K/V head, token): the integers q of B bits; operands are q << (W - B), in first passes with 8 in the
lowest four bits of q. A row is its probabilities by position in the survivor list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hls.datapaths.machine_sizes import MachineSizes

KEEP_ALL = 65536
LSB_BITS = 4


@dataclass(frozen=True)
class Row:
    """A row of probabilities over the visible survivors."""

    probs: tuple[int, ...]
    flat: bool


@dataclass(frozen=True)
class Job:
    """An alive head: its K/V head, rows, and the scale of its values."""

    head: int
    group: int
    rows: tuple[Row, ...]
    mantissa: int
    shift: int


@dataclass(frozen=True)
class Layer:
    """A layer as the value side sees it.

    Attributes:
        generation, ratio16, survivors, jobs: as the controller gives them.
        dimension: code of D.
        elements: of a fetched vector.
        msb_bits: M; `progressive` says whether there are 4 more bits.
        values: q by K/V head and token, D elements.
        output_base: of write-back.
    """

    generation: bool
    ratio16: int
    survivors: tuple[int, ...]
    jobs: tuple[Job, ...]
    dimension: int
    elements: int
    msb_bits: int
    progressive: bool
    values: NDArray[np.int64]
    output_base: int

    @cached_property
    def parts(self) -> int:
        """Fetched vectors of a value."""
        return 1 << self.dimension

    @property
    def keys(self) -> int:
        """Survivors."""
        return len(self.survivors)

    @property
    def head_dim(self) -> int:
        """D."""
        return self.elements * self.parts

    def kept(self, row: Row) -> list[int]:
        """Positions of the values that a row keeps."""
        if self.ratio16 == KEEP_ALL:
            return list(range(len(row.probs)))
        k = max(1, (len(row.probs) * self.ratio16) >> 16)
        return sorted(sorted(range(len(row.probs)), key=lambda j: (-row.probs[j], j))[:k])

    def places(self, row: Row) -> dict[int, int]:
        """Kept position to place in the Value SRAM."""
        kept = self.kept(row)
        compact = self.generation and self.ratio16 != KEEP_ALL
        return {j: i if compact else j for i, j in enumerate(kept)}

    def is_full(self, row: Row) -> bool:
        """Whether the row reads all bits."""
        return row.flat or not self.progressive

    def operands(self, group: int, token: int, width: int, full: bool) -> NDArray[np.int64]:
        """A value as prob x V has to see it."""
        bits = self.msb_bits + (LSB_BITS if self.progressive else 0)
        q: NDArray[np.int64] = self.values[group, token]
        if not full:
            q = (q >> LSB_BITS << LSB_BITS) | (1 << (LSB_BITS - 1))
        return q << (width - bits)

    def output(self, job: Job, row: Row, width: int) -> NDArray[np.int64]:
        """The outputs of a row."""
        total = np.zeros(self.head_dim, dtype=np.int64)
        for j in self.kept(row):
            total += row.probs[j] * self.operands(job.group, self.survivors[j], width, self.is_full(row))
        limit = 1 << (width - 1)
        rounded: NDArray[np.int64] = np.clip((total + (1 << 11)) >> 12, -limit, limit - 1)
        return rounded

    def importance(self) -> dict[int, int]:
        """What all rows add up to, by position."""
        sums: dict[int, int] = {}
        for job in self.jobs:
            for row in job.rows:
                for j, p in enumerate(row.probs):
                    sums[j] = sums.get(j, 0) + p
        return sums

    def is_kv_first(self, i: int) -> bool:
        """Whether job i is the first of its K/V head."""
        return i == 0 or self.jobs[i - 1].group != self.jobs[i].group

    def is_kv_last(self, i: int) -> bool:
        """Whether job i is the last of its K/V head."""
        return i == len(self.jobs) - 1 or self.jobs[i + 1].group != self.jobs[i].group

    def main_lists(self) -> list[tuple[int, tuple[int, ...]]]:
        """Lists of values, K/V head and tokens, in the order of their requests."""
        if self.generation:
            return [(job.group, tuple(self.survivors[j] for j in self.kept(job.rows[0]))) for job in self.jobs]
        return [(job.group, self.survivors) for i, job in enumerate(self.jobs) if self.is_kv_first(i)]

    def lsb_lists(self) -> list[tuple[int, tuple[int, ...]]]:
        """Lists of LSBs, in the order of their requests: each value of a K/V head once in summarization."""
        lists: list[tuple[int, tuple[int, ...]]] = []
        asked: set[int] = set()
        for i, job in enumerate(self.jobs):
            if self.is_kv_first(i):
                asked = set()
            for row in job.rows:
                kept = self.kept(row) if row.flat else []
                missing = [j for j in kept if self.generation or j not in asked]
                asked |= set(missing)
                if missing:
                    lists.append((job.group, tuple(self.survivors[j] for j in missing)))
        return lists


def random_layer(
    sizes: MachineSizes,
    rng: np.random.Generator,
    *,
    generation: bool,
    keys: int,
    ratio16: int,
    progressive: bool,
    dimension: int = 0,
    jobs: int = 3,
    group_jobs: int = 1,
    causal: bool = False,
    flat_share: float = 0.5,
    elements: int | None = None,
    rows: int | None = None,
) -> Layer:
    """A layer with random survivors, probabilities with ties, values and scales."""
    tokens = np.sort(rng.choice(sizes.context, keys, replace=False))
    msb_bits = int(rng.choice([4, 6, 8] if progressive else [4, 6, 8, 10, 12]))
    bits = msb_bits + (LSB_BITS if progressive else 0)
    elements = elements or sizes.native
    groups = -(-jobs // group_jobs)
    limit = (1 << (bits - 1)) - 1
    values = rng.integers(-limit, limit + 1, (groups, sizes.context, elements << dimension))
    row_count = 1 if generation else rows or keys

    def row(visible: int) -> Row:
        top = int(rng.choice([2, 30, 4096]))
        return Row(tuple(rng.integers(0, top, visible).tolist()), progressive and bool(rng.random() < flat_share))

    heads = np.sort(rng.choice(64, jobs, replace=False))
    made = tuple(
        Job(
            head=int(head),
            group=i // group_jobs,
            rows=tuple(row(r + 1 if causal and not generation else keys) for r in range(row_count)),
            mantissa=int(rng.integers(1 << 15, 1 << 16)),
            shift=int(rng.integers(-64, 64)),
        )
        for i, head in enumerate(heads)
    )
    return Layer(
        generation=generation,
        ratio16=ratio16,
        survivors=tuple(tokens.tolist()),
        jobs=made,
        dimension=dimension,
        elements=elements,
        msb_bits=msb_bits,
        progressive=progressive,
        values=values,
        output_base=int(rng.integers(0, 1 << 20)),
    )


def flat_layer(layer: Layer, flat: bool) -> Layer:
    """The same layer with all rows flat, or none."""
    jobs = tuple(replace(job, rows=tuple(replace(row, flat=flat) for row in job.rows)) for job in layer.jobs)
    return replace(layer, jobs=jobs)
