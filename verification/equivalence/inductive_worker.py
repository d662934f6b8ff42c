"""The solver process of `inductive.py`: one query of candidates on standard input, answered with a JSON line.

Query: `script` (definitions and assumptions), `candidates` (terms [before, after, must]), `limit_ms` for all together.
Answer: `holds`, a truth value for each; or `reason`, why there is none.
"""

import json
import resource
import sys
import time
from typing import Any

import bitwuzla


def holds(query: dict[str, Any]) -> dict[str, Any]:
    """Drop what a model of a step breaks until no model breaks anything."""
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    options.set(bitwuzla.Option.TIME_LIMIT_PER, query["limit_ms"])
    manager = bitwuzla.TermManager()
    parser = bitwuzla.Parser(manager, options)
    parser.parse(query["script"], True, False)
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
            reply = holds(json.loads(line))
        except (bitwuzla.BitwuzlaException, MemoryError) as error:
            reply = {"reason": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
