"""The solver process: reads queries as JSON lines, answers each with a JSON line.

It runs as a script in its own process, so that a solver that is killed, aborts or runs out
of memory takes no proof with it; `solver.py` turns that into "unknown". Every query has a `script` and its
`limit_ms`, and is one of two kinds:

    `names`       of variables; answer: `status` (unsat, sat, unknown), `model`, `reason`
    `candidates`  terms [before, after, must] of `inductive.py`, behind definitions and assumptions; the limit is for
                  all together; answer: `holds`, a truth value for each, or `reason`, why there is none
"""

import json
import resource
import sys
import time
from typing import Any

import bitwuzla


def word(instance: Any, term: Any) -> int:
    """The value of a bit-vector term as an unsigned integer."""
    return int(instance.get_value(term).value(10))


def contents(instance: Any, term: Any) -> dict[str, Any]:
    """The value of an array term: default word and [address, word] pairs."""
    value = instance.get_value(term)
    words: dict[int, int] = {}
    while value.kind() == bitwuzla.Kind.ARRAY_STORE:
        array, address, data = value.children()
        words.setdefault(int(address.value(10)), int(data.value(10)))
        value = array
    return {"default": int(value.children()[0].value(10)), "words": sorted(words.items())}


def parsed(query: dict[str, Any], manager: Any) -> Any:
    """A parser that has read the script of a query: the terms by name, and the solver."""
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    options.set(bitwuzla.Option.TIME_LIMIT_PER, query["limit_ms"])
    parser = bitwuzla.Parser(manager, options)
    parser.parse(query["script"], True, False)
    return parser


def answer(query: dict[str, Any]) -> dict[str, Any]:
    """Solve one query."""
    parser = parsed(query, bitwuzla.TermManager())
    instance = parser.bitwuzla()
    result = instance.check_sat()
    if result == bitwuzla.Result.UNSAT:
        return {"status": "unsat"}
    if result != bitwuzla.Result.SAT:
        return {"status": "unknown", "reason": f"no answer within {query['limit_ms'] / 1000:g} s"}
    model = {}
    for name in query["names"]:
        term = parser.parse_term(f"|{name}|")
        model[name] = contents(instance, term) if term.sort().is_array() else word(instance, term)
    return {"status": "sat", "model": model}


def holds(query: dict[str, Any]) -> dict[str, Any]:
    """Drop what a model of a step breaks until no model breaks anything."""
    manager = bitwuzla.TermManager()
    parser = parsed(query, manager)
    instance = parser.bitwuzla()
    one = manager.mk_bv_value(manager.mk_bv_sort(1), 1)

    def is_one(name: str) -> Any:
        return manager.mk_term(bitwuzla.Kind.EQUAL, [parser.parse_term(name), one])

    def switch(name: str, term: Any) -> Any:
        """A variable that, where it is true, makes the term true."""
        variable = manager.mk_const(manager.mk_bool_sort(), name)
        instance.assert_formula(manager.mk_term(bitwuzla.Kind.IMPLIES, [variable, term]))
        return variable

    candidates = query["candidates"]
    assumed = [switch(f"assumed_{i}", is_one(before)) for i, (before, _, _) in enumerate(candidates)]
    after = [is_one(claim) for _, claim, _ in candidates]
    left = list(range(len(candidates)))
    deadline = time.monotonic() + query["limit_ms"] / 1000
    while left:
        if time.monotonic() > deadline:
            return {"reason": "out of time"}
        broken = [manager.mk_term(bitwuzla.Kind.NOT, [after[i]]) for i in left]
        some = switch(f"some_{len(left)}", manager.mk_term(bitwuzla.Kind.OR, broken) if broken[1:] else broken[0])
        result = instance.check_sat(some, *(assumed[i] for i in left))
        if result == bitwuzla.Result.UNSAT:
            break
        if result != bitwuzla.Result.SAT:
            return {"reason": "out of time"}
        dropped = {i for i in left if not instance.get_value(after[i]).value()}
        if not dropped or any(candidates[i][2] for i in dropped):
            return {"holds": [False] * len(candidates)}
        left = [i for i in left if i not in dropped]
    kept = set(left)
    return {"holds": [i in kept for i in range(len(candidates))]}


def main() -> None:
    """Answer the queries of standard input; the argument is the memory limit in MiB."""
    limit_bytes = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        try:
            query = json.loads(line)
            reply = holds(query) if "candidates" in query else answer(query)
        except (bitwuzla.BitwuzlaException, MemoryError) as error:
            reply = {"status": "unknown", "reason": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
