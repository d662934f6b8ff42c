"""What a check may conclude, and nothing else (design.md, "Style").

| verdict    | meaning                                                          | passes |
| ---------- | ---------------------------------------------------------------- | ------ |
| PROVED     | holds for every input and state that the statement quantifies    | yes    |
| BOUNDED(k) | holds for every run of k cycles from reset                       | yes    |
| TESTED(n)  | held in n simulated cases                                        | yes    |
| REFUTED    | fails; the counterexample was replayed in simulation             | no     |
| UNKNOWN    | no conclusion: time, memory, a dead solver, a failed induction   | no     |
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """The five conclusions, by strength."""

    PROVED = "PROVED"
    BOUNDED = "BOUNDED"
    TESTED = "TESTED"
    UNKNOWN = "UNKNOWN"
    REFUTED = "REFUTED"


_STRENGTH = {Kind.PROVED: 3, Kind.BOUNDED: 2, Kind.TESTED: 1, Kind.UNKNOWN: 0, Kind.REFUTED: 0}


@dataclass(frozen=True)
class Verdict:
    """A conclusion with its extent.

    `count` is k of BOUNDED(k) in cycles, or n of TESTED(n) in cases; None otherwise.
    `detail` is one line for a reader; `counterexample` the file of a REFUTED.
    """

    kind: Kind
    count: int | None = None
    detail: str = ""
    counterexample: Path | None = None

    def __post_init__(self) -> None:
        counted = self.kind in (Kind.BOUNDED, Kind.TESTED)
        if counted and (self.count is None or self.count < 1):
            raise ValueError(f"{self.kind} needs a count of at least 1, got {self.count}: nothing was checked")
        if not counted and self.count is not None:
            raise ValueError(f"{self.kind} takes no count, got {self.count}")
        if self.counterexample is not None and self.kind is not Kind.REFUTED:
            raise ValueError(f"only REFUTED has a counterexample, this is {self.kind}")

    @property
    def passes(self) -> bool:
        """Whether the evidence supports the claim; UNKNOWN and REFUTED never do."""
        return _STRENGTH[self.kind] > 0

    def at_least(self, kind: Kind) -> bool:
        """Whether the verdict passes and is as strong as `kind` (PROVED > BOUNDED > TESTED)."""
        if _STRENGTH[kind] == 0:
            raise ValueError(f"{kind} is no strength of evidence; use PROVED, BOUNDED or TESTED")
        return _STRENGTH[self.kind] >= _STRENGTH[kind]

    def __bool__(self) -> bool:
        raise TypeError("a verdict has no truth value: ask .passes or .kind")

    def __str__(self) -> str:
        return f"{self.kind}({self.count})" if self.count is not None else str(self.kind)


def proved(detail: str = "") -> Verdict:
    """PROVED."""
    return Verdict(Kind.PROVED, detail=detail)


def refuted(detail: str, counterexample: Path | None = None) -> Verdict:
    """REFUTED, with the file of the counterexample where one was asked for."""
    return Verdict(Kind.REFUTED, detail=detail, counterexample=counterexample)


def bounded(cycles: int, detail: str = "") -> Verdict:
    """BOUNDED(cycles)."""
    return Verdict(Kind.BOUNDED, count=cycles, detail=detail)


def sampled(cases: int, detail: str) -> Verdict:
    """TESTED(cases)."""
    return Verdict(Kind.TESTED, count=cases, detail=detail)


def unknown(detail: str) -> Verdict:
    """UNKNOWN, with the reason."""
    return Verdict(Kind.UNKNOWN, detail=detail)


def weakest(verdicts: "list[Verdict]") -> Verdict:
    """The conclusion of a conjunction: any REFUTED, else any UNKNOWN, else the weakest evidence.

    Raises ValueError for an empty list: no evidence is no conclusion.
    """
    if not verdicts:
        raise ValueError("no verdict to combine: a check with no parts proves nothing")
    for kind in (Kind.REFUTED, Kind.UNKNOWN, Kind.TESTED, Kind.BOUNDED):
        found = [v for v in verdicts if v.kind is kind]
        if found:
            return min(found, key=lambda v: v.count or 0)
    return verdicts[0]
