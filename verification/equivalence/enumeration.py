"""Deciding an obligation by trying every value of its variables.

Solvers do not prove multipliers; the 2^24 values of a 12 x 12 one take a second in the
bit-sliced domain. This decides the same formula that the solver would get.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from verification.equivalence.formula import Formula, Node
from verification.equivalence.sliced import Planes, Sliced, all_cases, case_value, first_case
from verification.equivalence.solver import Answer, Limits

MAX_FREE_BITS = 26
_METHODS = {"not": "invert", "and": "conjunction", "or": "disjunction", "xor": "exclusive", "sub": "subtract"}


def _free(formula: Formula, cone: Sequence[int]) -> dict[int, int] | None:
    """Widths of the variables in a cone, None if it has an array that is not a table."""
    variables = {}
    for term in cone:
        node = formula.nodes[term]
        if node.address_bits and node.op != "table":
            return None
        if node.op == "variable":
            variables[term] = node.width
    return variables


def worth_enumerating(formula: Formula, roots: Sequence[int]) -> bool:
    """Whether the roots contain a product of variables and few enough free bits to try them all."""
    cone = formula.cone(roots)
    free = _free(formula, cone)
    if free is None or sum(free.values()) > MAX_FREE_BITS:
        return False
    return any(
        formula.nodes[t].op == "mul" and all(formula.known(a) is None for a in formula.nodes[t].args) for t in cone
    )


def _planes(domain: Sliced, node: Node, args: list[Any], widths: list[int]) -> Any:
    match node.op:
        case "constant":
            return domain.constant(node.params[0], node.width)
        case "table":
            return [domain.constant(word, node.width) for word in node.params]
        case "select":
            return domain.select(args[0], args[1])
        case "choose":
            return domain.choose(args[0], args[1], args[2], node.width)
        case "concat":
            return domain.concatenate(list(zip(args, widths, strict=True)))
        case "extract":
            return domain.extract(args[0], widths[0], node.params[0], node.width)
        case "mul":
            return domain.multiply(args[0], args[1], node.width)
        case "add" | "equal" | "below":
            return getattr(domain, node.op)(*args, widths[0])
    return getattr(domain, _METHODS[node.op])(*args, node.width)


def enumerate_all(formula: Formula, roots: Sequence[int], limits: Limits) -> Answer:
    """The solver's answer, found by trying: "sat" with values that make all roots 1, or "unsat".

    "unknown" after the time limit. Raises ValueError above 26 free bits or with a writable memory.
    """
    started = time.monotonic()
    cone = formula.cone(roots)
    free = _free(formula, cone)
    if free is None or sum(free.values()) > MAX_FREE_BITS:
        bits = "a memory" if free is None else f"{sum(free.values())} free bits"
        raise ValueError(f"{bits} cannot be enumerated, at most {MAX_FREE_BITS} bits can: ask the solver")
    domain = Sliced()
    for block in all_cases(free):
        if time.monotonic() - started > limits.time_s:
            return Answer("unknown", time.monotonic() - started, reason=f"not all values tried in {limits.time_s:g} s")
        values: dict[int, Planes] = dict(block)
        for term in cone:
            if term not in values:
                node = formula.nodes[term]
                widths = [formula.nodes[a].width for a in node.args]
                values[term] = _planes(domain, node, [values[a] for a in node.args], widths)
        wrong = domain.constant(1, 1)
        for root in roots:
            wrong = domain.conjunction(wrong, values[root], 1)
        if np.any(wrong[0]):
            word, bit = first_case(wrong[0])
            model = {str(formula.nodes[t].params[0]): case_value(block[t], word, bit) for t in free}
            return Answer("sat", time.monotonic() - started, model)
    return Answer("unsat", time.monotonic() - started)
