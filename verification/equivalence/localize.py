"""An obligation on the bits that it reads, instead of on whole vectors.

A lane of a wide port reads 12 of 6144 bits. Splitting such a variable at the boundaries of all
extractions makes the lanes' obligations equal in shape, and their free bits few enough to count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from verification.equivalence.formula import Formula


@dataclass(frozen=True)
class Local:
    """The rewritten roots, and where each new variable lies: (variable, lowest bit)."""

    roots: tuple[int, ...]
    pieces: Mapping[str, tuple[str, int]]

    def model(self, local: Mapping[str, Any]) -> dict[str, Any]:
        """A model of the roots in terms of the whole variables; bits that are not read are 0."""
        whole: dict[str, Any] = {}
        for name, value in local.items():
            if name in self.pieces:
                source, low = self.pieces[name]
                whole[source] = whole.get(source, 0) | (value << low)
            else:
                whole[name] = value
        return whole


def _boundaries(formula: Formula, cone: Sequence[int]) -> dict[int, list[int]]:
    """For each vector variable that is only extracted from, the bits at which its parts begin and end."""
    ends: dict[int, set[int]] = {}
    whole: set[int] = set()
    for term in cone:
        node = formula.nodes[term]
        for arg in node.args:
            if formula.nodes[arg].op != "variable":
                continue
            if node.op == "extract":
                ends.setdefault(arg, set()).update((node.params[0], node.params[0] + node.width))
            else:
                whole.add(arg)
    return {term: sorted(e) for term, e in ends.items() if term not in whole}


def localized(formula: Formula, roots: Sequence[int]) -> Local:
    """The roots with every variable that is only extracted from split into its parts."""
    cone = formula.cone(roots)
    boundaries = _boundaries(formula, cone)
    moved: dict[int, int] = {}
    pieces: dict[str, tuple[str, int]] = {}
    for term in cone:
        node = formula.nodes[term]
        if node.op == "extract" and node.args[0] in boundaries:
            moved[term] = _parts(formula, term, boundaries[node.args[0]], pieces)
        elif any(moved.get(a, a) != a for a in node.args):
            moved[term] = formula.rebuilt(node, tuple(moved[a] for a in node.args))
        else:
            moved[term] = term
    return Local(tuple(moved[r] for r in roots), pieces)


def _parts(formula: Formula, term: int, ends: Sequence[int], pieces: dict[str, tuple[str, int]]) -> int:
    """An extraction as the concatenation of the parts that it covers."""
    node = formula.nodes[term]
    low, high = node.params[0], node.params[0] + node.width
    source = str(formula.nodes[node.args[0]].params[0])
    parts = []
    for start, stop in pairwise(ends):
        if low <= start and stop <= high:
            name = f"{source}[{start}:{stop}]"
            pieces[name] = (source, start)
            parts.append((formula.variable(name, stop - start), stop - start))
    return formula.concatenate(parts[::-1])
