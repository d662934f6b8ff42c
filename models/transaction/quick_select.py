"""How long a quick-select of the top-k engine takes (section 6; architecture page, "Top-k engine").

A pass over c candidates in P lanes takes `ceil(c / P) + overhead` cycles, the overhead being that of the engine's
schedule (`hls.datapaths.top_k_graphs.TopKPlan.pass_overhead_cycles`). From k = n on there is no pass. The filter of
`ceil(n / P)` rows overlaps with the next selection.

With the values at hand the passes are exact (`models.reference.top_k.quick_select`). Without them they are drawn from
what was measured on real values, `quick_select.toml`: for requests of like n and k / n, passes at equal steps of the
distribution of the time, each as shares of n. Pivots were those of 16 lanes; other lanes pick other ones, of no other
distribution. `python -m verification.transaction_quick_select` measures them.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from models.transaction.workload import Passes

FloatArray = NDArray[np.float64]
Values = Literal["probability", "importance"]
"""What is selected from: a row's 12-bit probabilities (engine B) or accumulated importance (engine A)."""


def select_cycles(passes: Sequence[int], lanes: int, pass_overhead_cycles: int) -> int:
    """Cycles from the first pass of a request to its threshold."""
    return sum(-(-candidates // lanes) + pass_overhead_cycles for candidates in passes)


def filter_rows(candidates: int, lanes: int) -> int:
    """Rows that the filter reads, one a cycle."""
    return -(-candidates // lanes)


@dataclass(frozen=True)
class PassClass:
    """Requests of like size.

    Attributes:
        values: what was selected from.
        least: smallest n.
        most: largest n.
        ratio: k / n.
        samples: requests measured.
        shares: passes as shares of n at equal steps of the distribution of the time, shortest first.
    """

    values: Values
    least: int
    most: int
    ratio: float
    samples: int
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PassTable:
    """The measured distribution, and where it is from."""

    source: str
    classes: tuple[PassClass, ...]

    def nearest(self, values: Values, n: int, k: int) -> PassClass:
        """The class of requests most like this one: first in n, then in k / n."""
        least, most, ratio, classes = self._columns[values]
        outside = np.maximum(0.0, np.maximum(np.log(least / n), np.log(n / most)))
        return classes[int(np.lexsort((np.abs(ratio - k / n), outside))[0])]

    @cached_property
    def _columns(self) -> dict[Values, tuple[FloatArray, FloatArray, FloatArray, list[PassClass]]]:
        """Of what was selected from: least and most items, k / n, and the classes they belong to."""
        found: dict[Values, tuple[FloatArray, FloatArray, FloatArray, list[PassClass]]] = {}
        for values in get_args(Values):
            classes = [c for c in self.classes if c.values == values]
            least, most, ratio = (
                np.array([getattr(c, of) for c in classes], float) for of in ("least", "most", "ratio")
            )
            found[values] = (least, most, ratio, classes)
        return found

    def passes(self, values: Values, n: int, k: int, quantile: float) -> Passes:
        """Passes of a request at a `quantile` (0 to below 1) of the distribution of its time.

        Raises:
            ValueError: for k below 1, no items, or a quantile outside.
        """
        if n < 1 or k < 1 or not 0 <= quantile < 1:
            raise ValueError(
                f"k = {k} of {n} items at quantile {quantile}: k and n from 1 on, quantile from 0 to below 1"
            )
        if k >= n:
            return ()
        shares = self.nearest(values, n, k).shares
        return tuple(max(1, round(share * n)) for share in shares[int(quantile * len(shares))])


class PassDraws:
    """Passes of one request after the other, drawn with a fixed seed."""

    def __init__(self, seed: int = 0, table: PassTable | None = None) -> None:
        self.table = table or measured()
        self._random = np.random.default_rng(seed)
        self._known: dict[tuple[Values, int, int], list[Passes]] = {}

    def draw(self, values: Values, n: int, k: int) -> Passes:
        """Passes of the next request for the `k` largest of `n`."""
        found = self._known.get((values, n, k))
        if found is None:
            steps = 1 if k >= n else len(self.table.nearest(values, n, k).shares)
            found = [self.table.passes(values, n, k, i / steps) for i in range(steps)]
            self._known[values, n, k] = found
        return found[int(self._random.random() * len(found))]


@cache
def measured() -> PassTable:
    """The shipped distribution."""
    data: dict[str, Any] = tomllib.loads(files("models.transaction").joinpath("quick_select.toml").read_text("utf-8"))
    return PassTable(
        data["source"],
        tuple(
            PassClass(
                c["values"], c["least"], c["most"], c["ratio"], c["samples"], tuple(tuple(s) for s in c["shares"])
            )
            for c in data["class"]
        ),
    )
