"""Crossbars: a naive model under random traffic, the next state from any state, and what holds in every state.

The naive model keeps a list an output. It knows nothing of cycles but this: an item goes to the output that it names,
items of one input and output come out in order, an output grants its inputs in turn.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hls.datapaths.crossbar import CrossbarSize
from hls.lower import Netlist
from hls.simulate import open_simulator
from verification.equivalence.bits import Bits, choose, concatenate, conjunction, total
from verification.equivalence.problem import Operands, Specification, Target
from verification.equivalence.sequential import Invariant, Predicate, Signals
from verification.evidence.words import nth

TRAFFIC = ("uniform", "one output", "own output", "in turn", "two outputs")


def destination(kind: str, size: CrossbarSize, source: int, number: int, rng: np.random.Generator) -> int:
    """The output of the `number`-th item of an input, for a kind of traffic."""
    match kind:
        case "one output":
            return size.outputs - 1
        case "own output":
            return source % size.outputs
        case "in turn":
            return (source + number) % size.outputs
        case "two outputs":
            return int(rng.integers(0, min(2, size.outputs)))
    return int(rng.integers(0, size.outputs))


@dataclass(frozen=True)
class Traffic:
    """What went through: items an output and cycle, and the most items of others that one waited for."""

    moved: int
    cycles: int
    longest_wait_items: int


def run_traffic(
    netlist: Netlist, size: CrossbarSize, kind: str, items: int, seed: int, offer: float, accept: float
) -> Traffic:
    """Send `items` items from every input; offers and accepts come with these chances in a cycle.

    Raises:
        AssertionError: if an item is lost, doubled, misplaced, changed or late, or an input waits for too many others.
    """
    rng = np.random.default_rng(seed)
    width, place = size.item_bits, size.destination_bits
    numbers = rng.permutation(size.inputs * items)
    waiting = [
        deque((destination(kind, size, i, n, rng), int(numbers[i * items + n])) for n in range(items))
        for i in range(size.inputs)
    ]
    payload = {int(n): int.from_bytes(rng.bytes(width // 8 + 1), "little") % (1 << width) for n in numbers}
    arrival_order: list[deque[tuple[int, int]]] = [deque() for _ in range(size.outputs)]
    offered = [False] * size.inputs
    passed = [0] * size.inputs
    held: dict[int, int] = {}
    moved = cycle = worst = 0
    limit = 40 + int(8 * size.inputs * items / (offer * accept))
    with open_simulator(netlist, "fast") as simulator:
        while moved < size.inputs * items:
            assert cycle < limit, f"{moved} of {size.inputs * items} items after {cycle} cycles"
            for i, queue in enumerate(waiting):
                offered[i] = bool(queue) and (offered[i] or bool(rng.random() < offer))
            accepts = rng.random(size.outputs) < accept if size.depth else np.ones(size.outputs, dtype=np.bool_)
            row = {"in_valid": sum(int(o) << i for i, o in enumerate(offered))}
            row["in_item"] = sum(payload[q[0][1]] << (i * width) for i, q in enumerate(waiting) if offered[i])
            row["in_destination"] = sum(q[0][0] << (i * place) for i, q in enumerate(waiting) if offered[i])
            if size.depth:
                row["out_ready"] = sum(int(a) << o for o, a in enumerate(accepts))
            seen = simulator.step(row)
            taken = [i for i in range(size.inputs) if offered[i] and seen["in_ready"] >> i & 1]
            for o in range(size.outputs):
                valid, item = seen["out_valid"] >> o & 1, nth(seen["out_item"], width, o)
                assert o not in held or (valid and item == held[o]), f"output {o}: a stalled item changed"
                held.pop(o, None)
                if valid and accepts[o]:
                    assert arrival_order[o], f"output {o}: an item that nobody sent"
                    i, number = arrival_order[o].popleft()
                    assert item == payload[number], f"output {o}: not the item of input {i}"
                    moved += 1
                elif valid:
                    held[o] = item
            winners = [waiting[i][0][0] for i in taken]
            assert len(set(winners)) == len(winners), f"two items for one output: {winners}"
            for i in range(size.inputs):
                if offered[i] and i not in taken and waiting[i][0][0] in winners:
                    passed[i] += 1
                    worst = max(worst, passed[i])
            for i in taken:
                o, number = waiting[i].popleft()
                arrival_order[o].append((i, number))
                offered[i], passed[i] = False, 0
            cycle += 1
        for _ in range(4):
            assert not simulator.step({})["out_valid"], "an item more than was sent"
    assert worst < size.inputs, f"an input waited for {worst} items of others"
    return Traffic(moved, cycle, worst)


def _parts(size: CrossbarSize, whole: Bits, width: int, count: int) -> list[Bits]:
    return [whole[i * width : (i + 1) * width] for i in range(count)]


def next_state(size: CrossbarSize) -> Specification:
    """Every register after one cycle, from any state, and who is taken."""

    def specification(operands: Operands) -> Mapping[Target, Bits]:
        inputs = range(size.inputs)
        items = _parts(size, operands["in_item"], size.item_bits, size.inputs)
        wanted = _parts(size, operands["in_destination"], size.destination_bits, size.inputs)
        values: dict[Target, Bits] = {(f"item_{i}", 1): items[i] for i in inputs}
        taken = [operands.constant(0, 1) for _ in inputs]
        for o in range(size.outputs):
            behind, yes = operands[f"behind_{o}"], operands.constant(1, 1)
            free = (operands[f"{o}_credit"] != 0) if size.depth else yes
            asks = [operands["in_valid"][i] & (wanted[i] == o) & free for i in inputs]
            # i comes before j in the circle that starts at the first input behind the last winner
            wins = [
                conjunction(
                    [asks[i]]
                    + [
                        ~asks[j] | (behind[i] & ~behind[j]) | ((behind[i] == behind[j]) if i < j else ~yes)
                        for j in inputs
                        if j != i
                    ]
                )
                for i in inputs
            ]
            any_ask = concatenate(*asks).any()
            above = [concatenate(*wins[:i]).any() if i else ~yes for i in inputs]
            taken = [t | w for t, w in zip(taken, wins, strict=True)]
            values[(f"grant_{o}", 1)] = concatenate(*reversed(wins))
            values[(f"granted_{o}", 1)] = any_ask
            values[(f"behind_{o}", 1)] = choose(any_ask, concatenate(*reversed(above)), behind)
            values |= _output(size, operands, o, any_ask)
        values["in_ready"] = concatenate(*reversed(taken))
        return values

    return specification


def _output(size: CrossbarSize, operands: Operands, o: int, any_ask: Bits) -> dict[Target, Bits]:
    """What an output holds after a cycle."""
    grant, nothing = operands[f"grant_{o}"], operands.constant(0, size.item_bits)
    arrival = nothing
    for i in range(size.inputs):
        arrival = arrival | choose(grant[i], operands[f"item_{i}"], nothing)
    arrives = operands[f"granted_{o}"]
    if not size.depth:
        return {(f"{o}_out", 1): arrival, (f"{o}_out_valid", 1): arrives}
    count, credit = operands[f"{o}_fifo_count"], operands[f"{o}_credit"]
    push, pop = arrives & (count != size.depth), operands["out_ready"][o] & (count != 0)
    place = count - pop.zext(count.width)
    values: dict[Target, Bits] = {}
    for k in range(size.depth):
        entry = operands[f"{o}_fifo_entry_{k}"]
        below = choose(pop, operands[f"{o}_fifo_entry_{k + 1}"], entry) if k + 1 < size.depth else entry
        values[(f"{o}_fifo_entry_{k}", 1)] = choose(push & (place == k), arrival, below)
    values[(f"{o}_fifo_count", 1)] = place + push.zext(count.width)
    values[(f"{o}_credit", 1)] = credit - any_ask.zext(credit.width) + pop.zext(credit.width)
    return values


def invariants(size: CrossbarSize) -> list[Invariant]:
    """No loss, no duplicate, one grant an output, no overflow, and the fairness bound."""
    found = [
        Invariant(f"input {i}: taken whole, once and to its output", _taken(size, i), 2) for i in range(size.inputs)
    ]
    for o in range(size.outputs):
        found.append(Invariant(f"output {o}: at most one grant", _one_hot(size, o)))
        found.append(Invariant(f"output {o}: its place is a place", _place(size, o)))
        found.append(Invariant(f"output {o}: who waits comes nearer", _nearer(size, o), 2))
        if size.depth:
            found.append(Invariant(f"output {o}: room for what is on its way", _room(size, o)))
    return found


def _taken(size: CrossbarSize, i: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        now, then = window
        place = now["in_destination"][i * size.destination_bits : (i + 1) * size.destination_bits]
        item = now["in_item"][i * size.item_bits : (i + 1) * size.item_bits]
        taken = now["in_ready"][i]
        grants = [then[f"grant_{o}"][i] == (taken & (place == o)) for o in range(size.outputs)]
        return conjunction([*grants, then[f"item_{i}"] == item, ~taken | now["in_valid"][i]])

    return holds


def _one_hot(size: CrossbarSize, o: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        grant, granted = window[0][f"grant_{o}"], window[0][f"granted_{o}"]
        bits = size.inputs.bit_length()
        return total([grant[i].zext(bits) for i in range(size.inputs)], bits) == granted.zext(bits)

    return holds


def _place(size: CrossbarSize, o: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        behind = window[0][f"behind_{o}"]
        return conjunction([~behind[0], *(~behind[i] | behind[i + 1] for i in range(size.inputs - 1))])

    return holds


def _room(size: CrossbarSize, o: int) -> Predicate:
    def holds(window: Sequence[Signals]) -> Bits:
        now = window[0]
        credit, count, granted = now[f"{o}_credit"], now[f"{o}_fifo_count"], now[f"granted_{o}"]
        bits = credit.width + 2
        return total([credit.zext(bits), count.zext(bits), granted.zext(bits)], bits) == size.depth

    return holds


def _nearer(size: CrossbarSize, o: int) -> Predicate:
    """An input that asks while another is granted has fewer inputs before it in the next cycle."""

    def holds(window: Sequence[Signals]) -> Bits:
        now, then = window
        bits = (2 * size.inputs).bit_length()

        def before(behind: Bits, i: int) -> Bits:
            within = total([behind[j].zext(bits) for j in range(i)], bits) if i else behind[0].zext(bits) * 0
            wrapped = total([behind[j].zext(bits) for j in range(size.inputs)], bits) + i
            return choose(behind[i], within, wrapped)

        fewer = []
        for i in range(size.inputs):
            place = now["in_destination"][i * size.destination_bits : (i + 1) * size.destination_bits]
            waits = now["in_valid"][i] & (place == o) & ~now["in_ready"][i] & then[f"granted_{o}"]
            fewer.append(~waits | (before(then[f"behind_{o}"], i) < before(now[f"behind_{o}"], i)))
        return conjunction(fewer)

    return holds
