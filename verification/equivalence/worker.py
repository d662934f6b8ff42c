"""The solver process: reads queries as JSON lines, answers each with a JSON line.

It runs as a script in its own process, so that a solver that is killed, aborts or runs out
of memory takes no proof with it; `solver.py` turns that into "unknown". Query: `script`,
`names`, `limit_ms`. Answer: `status` (unsat, sat, unknown), `model`, `reason`.
"""

import json
import resource
import sys
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


def answer(query: dict[str, Any]) -> dict[str, Any]:
    """Solve one query."""
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    options.set(bitwuzla.Option.TIME_LIMIT_PER, query["limit_ms"])
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    parser.parse(query["script"], False, False)
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


def main() -> None:
    """Answer the queries of standard input; the argument is the memory limit in MiB."""
    limit_bytes = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except (bitwuzla.BitwuzlaException, MemoryError) as error:
            reply = {"status": "unknown", "reason": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
