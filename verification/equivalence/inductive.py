"""The largest part of a set of candidates that is inductive: what no step breaks from states in which all of it holds.

All candidates are assumed before a step; those that a model breaks behind it are dropped, before as behind, until no
model breaks any. Candidates that hold at reset hold for ever, then. One solver process does it on one set of clauses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from verification.equivalence.formula import Formula, definitions
from verification.equivalence.solver import Limits, Worker


@dataclass(frozen=True)
class Candidate:
    """A claim as two one-bit terms.

    Attributes:
        before, after: it holds before the step, and behind it.
        must: if it is broken, nothing else is of use.
    """

    before: int
    after: int
    must: bool = False


def inductive(
    formula: Formula, candidates: Sequence[Candidate], assumptions: Sequence[int], limits: Limits
) -> list[bool]:
    """Which candidates remain, under one-bit terms that hold before the step; none when the time is out.

    `limits.time_s` is for all together.
    """
    open_ones = [c for c in candidates if formula.known(c.after) != 1 or formula.known(c.before) != 1]
    if not any(formula.known(c.after) != 1 for c in open_ones):
        return [True] * len(candidates)
    roots = [*assumptions, *(term for c in open_ones for term in (c.before, c.after))]
    text, called, _ = definitions(formula, roots)
    script = text + "".join(f"(assert (= {called[term]} #b1))\n" for term in assumptions)
    worker = Worker(limits)
    try:
        pairs = [(called[c.before], called[c.after], c.must) for c in open_ones]
        found = worker.tell({"script": script, "candidates": pairs}, limits).get("holds", [False] * len(open_ones))
    finally:
        worker.close()
    holds = dict(zip(map(id, open_ones), found, strict=True))
    failed = any(c.must and not holds[id(c)] for c in open_ones)
    return [not failed and holds.get(id(c), True) for c in candidates]
