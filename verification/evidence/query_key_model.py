"""Rows of Q x K as the reference computes them, and stimuli for the netlist (algorithm page, section 1, step 1)."""

from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths.query_key import QueryKeyTypes
from hls.simulate import Words
from models.config import AcceleratorConfig
from models.reference.arithmetic import exact_matmul
from verification.ports import Integers, from_port, to_port


@dataclass(frozen=True)
class QueryKeyRows:
    """Inputs of consecutive cycles.

    Attributes:
        query: shape (rows, largest D).
        key: shape (rows, multipliers).
        dimension: index of each row's D.
        lane_valid: 0 or 1, shape (rows, lanes).
        last: 0 or 1, shape (rows,).
    """

    query: Integers
    key: Integers
    dimension: Integers
    lane_valid: Integers
    last: Integers

    def ports(self, config: AcceleratorConfig) -> dict[str, Words]:
        """The rows as the netlist's input ports take them."""
        types, bits = QueryKeyTypes.of(config), config.datapath_bits
        return {
            "query": to_port(self.query, bits),
            "key": to_port(self.key, bits),
            "dimension": to_port(self.dimension, types.dimension.width),
            "lane_valid": to_port(self.lane_valid, 1),
            "last": to_port(self.last, 1),
        }


def random_rows(config: AcceleratorConfig, count: int, seed: int) -> QueryKeyRows:
    """`count` rows, every D among them, a third of the elements at an end of their range."""
    types, rng = QueryKeyTypes.of(config), np.random.default_rng(seed)
    high = (1 << (config.datapath_bits - 1)) - 1

    def elements(length: int) -> Integers:
        values = rng.integers(-high - 1, high + 1, (count, length))
        extreme = rng.choice([-high - 1, -high, -1, 0, 1, high], (count, length))
        return np.where(rng.random((count, 1)) < rng.choice([0.0, 0.5, 1.0], (count, 1)), extreme, values)

    return QueryKeyRows(
        query=elements(types.query.length),
        key=elements(types.key.length),
        dimension=rng.integers(0, len(types.head_dims), count),
        lane_valid=rng.integers(0, 2, (count, types.lanes)),
        last=rng.integers(0, 2, count),
    )


def extreme_rows(config: AcceleratorConfig) -> QueryKeyRows:
    """For every D: largest and smallest sums, alternating signs, and a single one walking through all multipliers."""
    types = QueryKeyTypes.of(config)
    low, high = -(1 << (config.datapath_bits - 1)), (1 << (config.datapath_bits - 1)) - 1
    multipliers, elements = types.key.length, types.query.length
    signs = np.where(np.arange(multipliers) % 2, low, high)
    pairs = [(np.full(elements, q), np.full(multipliers, k)) for q in (low, high) for k in (low, high)]
    pairs += [(signs[:elements], signs), (signs[:elements], -1 - signs)]
    rows = [(d, *pair) for d in range(len(types.head_dims)) for pair in pairs]
    counting = np.arange(1, elements + 1)
    for i in range(multipliers):
        one = np.zeros(multipliers, dtype=np.int64)
        one[i] = 1
        rows += [(i % len(types.head_dims), counting, one)]
    count = len(rows)
    return QueryKeyRows(
        query=np.array([q for _, q, _ in rows]),
        key=np.array([k for _, _, k in rows]),
        dimension=np.array([d for d, _, _ in rows]),
        lane_valid=np.ones((count, types.lanes), dtype=np.int64),
        last=np.arange(count) % 2,
    )


def expected(config: AcceleratorConfig, rows: QueryKeyRows) -> dict[str, Integers]:
    """What the reference says: `score` and `score_valid` of shape (rows, lanes), `score_last` of shape (rows, 1)."""
    types, count = QueryKeyTypes.of(config), len(rows.dimension)
    score = np.zeros((count, types.lanes), dtype=np.int64)
    valid = np.zeros((count, types.lanes), dtype=np.int64)
    for index, dim in enumerate(types.head_dims):
        chosen = np.flatnonzero(rows.dimension == index)
        if not len(chosen):
            continue
        keys = torch.from_numpy(rows.key[chosen]).reshape(len(chosen), -1, dim)
        query = torch.from_numpy(rows.query[chosen, :dim, None])
        used = keys.shape[1]
        score[chosen, :used] = exact_matmul(keys, query)[..., 0].numpy()
        valid[chosen, :used] = rows.lane_valid[chosen, :used]
    return {"score": score, "score_valid": valid, "score_last": rows.last[:, None]}


def observed(config: AcceleratorConfig, outputs: dict[str, Words]) -> dict[str, Integers]:
    """The netlist's outputs in the form of `expected`."""
    types = QueryKeyTypes.of(config)
    return {
        "score": from_port(outputs["score"], types.lanes, types.score.width, signed=True),
        "score_valid": from_port(outputs["score_valid"], types.lanes, 1, signed=False),
        "score_last": from_port(outputs["score_last"], 1, 1, signed=False),
    }
