"""Fits the operators' formulas to synthesis: ``python -m hls.characterize [--write] [kind ...]``.

Every operator is written as a Verilog module, synthesized at a range of widths onto the library's own gates
(:mod:`hls.synthesis`), and its area (in NAND2 equivalents) and delay (in FO4) fitted by non-negative least squares on
relative deviations.  Of several candidate formulas the one with the smallest leave-one-out error is kept.  That error
(root mean square; the largest as `worst`) is printed and stored with the formula in the library file.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hls.costs import closest, evaluate_term
from hls.synthesis import Synthesized, synthesize, yosys_version
from hls.technology import DEFAULT_LIBRARY, Technology, load

MARKER = "# ---- operators"
Widths = Mapping[str, int]


@dataclass(frozen=True)
class Experiment:
    """How one operator is characterized.

    Args:
        energy: the class of its energy formula in the library.
        verilog: gives the module for some widths.
        widths: the sample points.
        area_terms: candidate formulas of the area.
        delay_terms: candidate formulas of the delay.
    """

    energy: str
    verilog: Callable[[Widths], str]
    widths: tuple[Widths, ...]
    area_terms: tuple[tuple[str, ...], ...]
    delay_terms: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Fitted:
    """A fitted formula: leave-one-out relative error, root mean square and largest."""

    terms: tuple[str, ...]
    coefficients: tuple[float, ...]
    error: float
    worst: float


def _binary(expression: str, out: Callable[[int], int], signed: str = "") -> Callable[[Widths], str]:
    def verilog(w: Widths) -> str:
        n, m = w["n"], w.get("m", w["n"])
        return (
            f"module top(input {signed} [{n - 1}:0] a, input {signed} [{m - 1}:0] b, "
            f"output {signed} [{out(n + m if 'm' in w else n) - 1}:0] y); assign y = {expression}; endmodule"
        )

    return verilog


def _unary(expression: str, out: Callable[[int], int]) -> Callable[[Widths], str]:
    def verilog(w: Widths) -> str:
        n = w["n"]
        return f"module top(input [{n - 1}:0] a, output [{out(n) - 1}:0] y); assign y = {expression}; endmodule"

    return verilog


def _bitwise(expression: str) -> Callable[[Widths], str]:
    binary = _binary(expression, lambda n: n)
    return lambda w: binary({"n": w["o"]})


def _mux(w: Widths) -> str:
    o = w["o"] - 1
    return f"module top(input s, input [{o}:0] a, b, output [{o}:0] y); assign y = s ? a : b; endmodule"


def _shift(operator: str, width: str) -> Callable[[Widths], str]:
    def verilog(w: Widths) -> str:
        n = w[width] - 1
        return (
            f"module top(input [{n}:0] a, input [{w['s'] - 1}:0] k, output [{n}:0] y); "
            f"assign y = a {operator} k; endmodule"
        )

    return verilog


def _table(w: Widths) -> str:
    entries, o = w["e"], w["o"]
    contents = random.Random(entries * 1000 + o)
    arms = " ".join(f"{i}: y = {o}'d{contents.getrandbits(o)};" for i in range(entries - 1))
    return (
        f"module top(input [{(entries - 1).bit_length() - 1}:0] a, output reg [{o - 1}:0] y); "
        f"always @* case (a) {arms} default: y = {o}'d{contents.getrandbits(o)}; endcase endmodule"
    )


WIDTHS = (2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
PAIRS = (
    (3, 3), (4, 4), (6, 6), (8, 8), (12, 12), (16, 16), (20, 20), (24, 24), (32, 32), (8, 4), (12, 4), (12, 8), (16, 8),
    (24, 8), (32, 8), (24, 12), (32, 12), (32, 16), (27, 26), (25, 21), (32, 24), (12, 2), (24, 3),
)  # fmt: skip


def _n(widths: Sequence[int] = WIDTHS, name: str = "n") -> tuple[Widths, ...]:
    return tuple({name: w} for w in widths)


def experiments() -> dict[str, Experiment]:
    """The experiment of every operator kind."""
    linear = (("1", "n"), ("n", "n*log2(n)"), ("1", "n", "n*log2(n)"))
    deep = (("1", "log2(n)"), ("1", "log2(n)", "n"), ("1", "log2(n)", "log2(n)*log2(n)"), ("1", "sqrt(n)"))
    flat = ((("o",),), (("1",),))
    wide = (("o",), ("1", "o"))
    fanout = (("1", "log2(o)"), ("1", "sqrt(o)"), ("1", "log2(o)", "o"))
    shifts = tuple(
        {"w": w, "s": s} for w in (4, 8, 12, 16, 24, 32, 48, 64) for s in (1, 2, 3, 4, 5, 6) if 2**s <= 2 * w
    )

    def shift(operator: str, v: str) -> Experiment:
        return Experiment(
            "shift",
            _shift(operator, v),
            tuple({v: p["w"], "s": p["s"]} for p in shifts),
            ((f"{v}*s",), (v, f"{v}*s"), (v, f"{v}*s", "1")),
            (("1", "s"), ("1", "s", f"log2({v})"), ("1", "s", f"s*log2({v})"), ("1", "s", f"sqrt({v})")),
        )

    return {
        "add": Experiment("add", _binary("a + b", lambda n: n + 1), _n(), linear, deep),
        "sub": Experiment("add", _binary("a - b", lambda n: n + 1, "signed"), _n(), linear, deep),
        "neg": Experiment("add", _unary("-a", lambda n: n + 1), _n(), linear, deep),
        "mul": Experiment(
            "mul",
            _binary("a * b", lambda n: n, "signed"),
            tuple({"n": n, "m": m} for n, m in PAIRS),
            (("m*n",), ("m*n", "n", "m"), ("m*n", "n*log2(n)", "m*log2(m)"), ("m*n", "n*log2(n)", "m", "1")),
            (
                ("1", "log2(m)", "log2(n)"),
                ("1", "log2(m)", "log2(n)", "m"),
                ("1", "log2(m)", "log2(n)", "m", "n"),
                ("1", "log2(m)*log2(m)", "log2(n)", "log2(m)"),
                ("1", "sqrt(m)", "log2(n)", "log2(m)"),
            ),
        ),
        "eq": Experiment("logic", _binary("a == b", lambda n: 1), _n(), linear, deep),
        "lt": Experiment("logic", _binary("a < b", lambda n: 1), _n(), linear, deep),
        "mux": Experiment("logic", _mux, _n((1, *WIDTHS), "o"), wide, fanout),
        "table": Experiment(
            "logic",
            _table,
            tuple({"e": e, "o": o} for e in (8, 16, 32, 64, 128, 256, 512) for o in (4, 8, 16)),
            (("e*o",), ("e*o", "o"), ("e*o", "e"), ("e*o", "e", "o"), ("sqrt(e)*o", "e*o"), ("sqrt(e)*o", "e*o", "e")),
            (("1", "log2(e)"), ("1", "log2(e)", "log2(o)"), ("1", "sqrt(e)", "log2(o)"), ("1", "sqrt(e)", "log2(e)")),
        ),
        "shift_left": shift("<<", "o"),
        "shift_right": shift(">>", "n"),
        "and": Experiment("bitwise", _bitwise("a & b"), _n((1, 8, 32), "o"), *flat),
        "or": Experiment("bitwise", _bitwise("a | b"), _n((1, 8, 32), "o"), *flat),
        "xor": Experiment("bitwise", _bitwise("a ^ b"), _n((1, 8, 32), "o"), *flat),
        "not": Experiment("bitwise", _bitwise("~a"), _n((1, 8, 32), "o"), *flat),
        "reduce_and": Experiment("logic", _unary("&a", lambda n: 1), _n(), linear, deep),
        "reduce_or": Experiment("logic", _unary("|a", lambda n: 1), _n(), linear, deep),
        "reduce_xor": Experiment("logic", _unary("^a", lambda n: 1), _n(), linear, deep),
        "priority": Experiment("logic", _unary("a & (-a)", lambda n: n), _n(), linear, deep),
    }


def _solve(matrix: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative coefficients of least squared relative deviation."""
    return np.asarray(nnls(matrix / values[:, None], np.ones(len(values)))[0], dtype=np.float64)


def fit(terms: tuple[str, ...], widths: Sequence[Widths], values: Sequence[float]) -> Fitted:
    """Fit ``sum(coefficient * term)`` to samples, with its leave-one-out error.

    Terms whose coefficient comes out zero are dropped.

    Raises:
        ValueError: with fewer samples than terms and one to spare.
    """
    if len(values) <= len(terms):
        raise ValueError(
            f"{len(values)} samples cannot cross-validate {len(terms)} terms; take at least {len(terms) + 1}"
        )
    matrix = np.array([[evaluate_term(t, w) for t in terms] for w in widths])
    target = np.array(values, dtype=np.float64)
    coefficients = _solve(matrix, target)
    deviations = np.empty(len(target))
    for i in range(len(target)):
        others = np.arange(len(target)) != i
        deviations[i] = matrix[i] @ _solve(matrix[others], target[others]) / target[i] - 1
    kept = [i for i, c in enumerate(coefficients) if c > 0]
    return Fitted(
        tuple(terms[i] for i in kept),
        tuple(float(coefficients[i]) for i in kept),
        float(np.sqrt(np.mean(deviations**2))),
        float(np.max(np.abs(deviations))),
    )


def best_fit(candidates: Sequence[tuple[str, ...]], widths: Sequence[Widths], values: Sequence[float]) -> Fitted:
    """The candidate formula with the smallest leave-one-out error."""
    return min((fit(terms, widths, values) for terms in candidates), key=lambda f: f.error)


def measure(kind: str, technology: Technology) -> list[Synthesized]:
    """Synthesize one operator at all its sample points."""
    experiment = experiments()[kind]
    return [synthesize(experiment.verilog(widths), technology) for widths in experiment.widths]


def in_library_units(result: Synthesized, technology: Technology) -> tuple[float, float]:
    """Area in NAND2 equivalents and delay in FO4."""
    return result.area_um2 / technology.nand2_area.value, result.delay_ps / technology.fo4.value


def _toml(kind: str, quantity: str, fitted: Fitted, widths: Sequence[Widths]) -> str:
    names = [
        v
        for v in widths[0]
        if any(v in (f, f.partition("(")[2].rstrip(")")) for t in fitted.terms for f in t.split("*"))
    ]
    domain = ", ".join(f"{v} = [{min(w[v] for w in widths)}, {max(w[v] for w in widths)}]" for v in names)
    terms = ", ".join(f'"{t}"' for t in fitted.terms)
    return "\n".join(
        (
            f"[operators.{kind}.{quantity}]",
            f"terms = [{terms}]",
            f"coefficients = [{', '.join(f'{c:.4g}' for c in fitted.coefficients)}]",
            f"domain = {{ {domain} }}" if domain else "domain = {}",
            f"error = {max(fitted.error, 0.001):.3f}",
            f"worst = {max(fitted.worst, 0.001):.3f}",
            f"samples = {len(widths)}",
            'provenance = "fitted"',
            'source = "synthesis"',
        )
    )


def characterize(kind: str, technology: Technology) -> str:
    """The library file's tables of one operator; prints the errors of its fits."""
    experiment = experiments()[kind]
    results = [in_library_units(r, technology) for r in measure(kind, technology)]
    area = best_fit(experiment.area_terms, experiment.widths, [a for a, _ in results])
    delay = best_fit(experiment.delay_terms, experiment.widths, [d for _, d in results])
    for name, fitted in (("area", area), ("delay", delay)):
        formula = " + ".join(f"{c:.4g}*{t}" for c, t in zip(fitted.coefficients, fitted.terms, strict=True))
        print(
            f"{kind:11} {name:5} rms {fitted.error:6.1%} worst {fitted.worst:6.1%} of {len(results):2}: {formula}",
            flush=True,
        )
    return "\n".join(
        (
            f"[operators.{kind}]",
            f'energy = "{experiment.energy}"',
            _toml(kind, "area_ge", area, experiment.widths),
            _toml(kind, "delay_fo4", delay, experiment.widths),
            "",
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Characterize the named kinds (all without a name); with ``--write`` replace the library's operators."""
    kinds = list(experiments())
    parser = argparse.ArgumentParser(prog="python -m hls.characterize", description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="*", help=f"operators, of {', '.join(kinds)}; default: all")
    parser.add_argument("--library", type=Path, default=DEFAULT_LIBRARY, help="library file (TOML)")
    parser.add_argument(
        "--write", action="store_true", help="replace the operators of the library file (all kinds only)"
    )
    options = parser.parse_args(arguments)
    for kind in options.kind:
        if kind not in kinds:
            parser.error(f"no operator {kind!r}{closest(kind, kinds)}")
    if options.write and options.kind:
        parser.error("--write replaces all operators: name none")
    technology = load(options.library)
    version = yosys_version()
    print(f"{technology.name}; {version}")
    tables = [characterize(kind, technology) for kind in options.kind or kinds]
    if options.write:
        text = options.library.read_text(encoding="utf-8").partition(MARKER)[0]
        heading = f"{MARKER}: written by `python -m hls.characterize --write`, {version}\n"
        options.library.write_text(text + heading + "\n".join(tables), encoding="utf-8")
        load(options.library)
    return 0


if __name__ == "__main__":
    sys.exit(main())
