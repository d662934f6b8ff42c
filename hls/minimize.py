"""Register-minimizing stage assignment: a system of difference constraints, solved as a linear program.

    minimize    sum_n width(n) * (e(n) - s(n))             register bits over all boundaries
    subject to  s(n) >= s(a),  e(a) >= s(n)                for every argument a of n
                s(v) >= s(u) + 1                           if the longest path from u to v exceeds the budget
                s(input) = 0,  s <= stages - 1,  e(output) = latency

Each row has one +1 and one -1, so the matrix is totally unimodular: the simplex optimum is integral.
(The formulation of Cong and Zhang, "An efficient and versatile scheduling algorithm based on SDC formulation", 2006.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from hls.graph import Graph
from hls.types import HlsError


def _separated_pairs(graph: Graph, delays_ps: tuple[int, ...], budget_ps: int) -> set[tuple[int, int]]:
    """Pairs (u, v) that cannot share a stage, and whose separation implies that of every farther pair."""
    pairs: set[tuple[int, int]] = set()
    longest: list[dict[int, int]] = []  # per node: start of a path that still fits -> its length up to here
    for index, node in enumerate(graph.nodes):
        here = {index: delays_ps[index]} if delays_ps[index] else {}
        beyond: set[int] = set()
        for arg in node.args:
            for start, length in longest[arg].items():
                total = length + delays_ps[index]
                if total > budget_ps:
                    beyond.add(start)
                elif total > here.get(start, -1):
                    here[start] = total
        for start in beyond:
            pairs.add((start, index))
            here.pop(start, None)
        longest.append(here)
    return pairs


def minimize_registers(
    graph: Graph, delays_ps: tuple[int, ...], budget_ps: int, stage_count: int, output_register: bool
) -> list[int]:
    """The stage of every node with the fewest register bits in `stage_count` stages."""
    count = len(graph.nodes)
    latency = stage_count if output_register else stage_count - 1
    rows: list[tuple[int, int, int]] = []  # x[low] - x[high] <= bound
    for index, node in enumerate(graph.nodes):
        for arg in node.args:
            rows.append((arg, index, 0))
            if graph.nodes[arg].kind != "const":
                rows.append((index, count + arg, 0))
    rows.extend((u, v, -1) for u, v in _separated_pairs(graph, delays_ps, budget_ps))
    lower, upper = np.zeros(2 * count), np.full(2 * count, stage_count - 1.0)
    upper[count:] = latency
    for index, node in enumerate(graph.nodes):
        if node.kind == "input":
            upper[index] = 0
        rows.append((index, count + index, 0))
    for port in graph.outputs:
        for index in port.nodes:
            if graph.nodes[index].kind != "const":
                lower[count + index] = latency
    widths = np.array([0 if n.kind == "const" else n.width_bits for n in graph.nodes], dtype=float)
    indices = np.array([(low, high) for low, high, _ in rows]).reshape(-1)
    values = np.tile([1.0, -1.0], len(rows))
    starts = np.arange(0, 2 * len(rows) + 1, 2)
    cost = np.concatenate([-widths, widths])
    program: dict[str, Any] = {
        "A_ub": csr_array((values, indices, starts), shape=(len(rows), 2 * count)),
        "b_ub": np.array([bound for _, _, bound in rows], dtype=float),
        "bounds": np.stack([lower, upper], axis=1),
    }
    solution = linprog(cost, method="highs-ds", **program)
    if solution.x is None:
        raise HlsError(f"{graph.name}: the register-minimizing program has no solution: {solution.message}")
    return [round(x) for x in solution.x[:count]]
