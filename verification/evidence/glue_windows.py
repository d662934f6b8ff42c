"""Runs of a mutant from recorded steps after which its state differs: does that ever show?

A run goes on until an output that means something differs, or until all state, memories included, is again what it is
in the original: then nothing can be different before the next step that differs by itself (`glue_steps`). Where some
registers have differed by the same bits for a while, all steps are looked at from states that differ so, and what is
run next is the one behind which they do not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pyrtl
from numpy.typing import NDArray

from hls.simulate import Words
from verification.equivalence.sliced import case_value
from verification.evidence.glue_planes import cases_of, integers_of, words_of
from verification.evidence.glue_steps import Mutated, Steps

CHUNK_STEPS = 64
MOST = 8
"""Ways to be apart that are followed for each mutant."""
Contents = dict[str, dict[int, int]]
Apart = dict[str, int]
"""Bits by which registers differ from the original's."""


class Recorded:
    """What a run looks up of the original: ports and state, step by step, and what is written to memories."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    @cached_property
    def writes(self) -> Mapping[int, list[tuple[str, int, int]]]:
        """Memory, address and data of all writes, by step."""
        steps, found = self.steps, dict[int, list[tuple[str, int, int]]]()
        for memory, nets in steps.netlist.writers.items():
            for net in nets:
                address, data, enable = (steps.original.value(arg) for arg in net.args)
                cases = cases_of(enable[0], steps.count)
                columns = [integers_of(words_of(planes, steps.count)[cases]) for planes in (address, data)]
                for case, at, value in zip(cases.tolist(), *columns, strict=True):
                    found.setdefault(case, []).append((memory, at, value))
        return found

    @cached_property
    def _written(self) -> list[int]:
        return sorted(self.writes)

    @cached_property
    def starts(self) -> list[Contents]:
        """What is in the memories when each recording begins: what the one before has left."""
        contents: Contents = {name: {} for name in self.steps.netlist.writers}
        found = []
        for number, end in enumerate(self.steps.ends):
            found.append({name: dict(words) for name, words in contents.items()})
            self.write(contents, self.steps.start(number), int(end))
        return found

    def write(self, contents: Contents, low: int, high: int) -> list[tuple[str, int]]:
        """Write what the original does in steps [low, high): memories and addresses."""
        touched = []
        for at in range(bisect_left(self._written, low), bisect_left(self._written, high)):
            for memory, address, value in self.writes[self._written[at]]:
                contents[memory][address] = value
                touched.append((memory, address))
        return touched


class Run:
    """A mutant's run through the windows of its recordings.

    Attributes:
        lasting: steps in which a difference that lasts does not, or shows, by the bits that differ.
    """

    def __init__(self, recorded: Recorded, mutated: Mutated, block: pyrtl.Block) -> None:
        self.recorded, self.mutated, self.steps = recorded, mutated, mutated.steps
        simulation = pyrtl.FastSimulation(tracer=None, block=block)
        self._step, self._fixed = simulation.sim_func, dict(simulation.mems)
        names = {net.op_param[1].name: f"fs_mem{net.op_param[0]}" for net in block.logic if net.op in "m@"}
        self._key_of = {name: names[name] for name in self.steps.netlist.writers if name in names}
        self._name_of = {key: name for name, key in self._key_of.items()}
        self._inputs, self._outputs = self.steps.netlist.inputs, self.steps.netlist.outputs
        self._registers = tuple(mutated.netlist.registers)
        self._count = 0
        self.lasting: dict[frozenset[tuple[str, int]], NDArray[np.int64]] = {}

    def shows(self, most_steps: int, most_in_all: int) -> tuple[int | None, bool]:
        """A step that shows it, if one is found; and whether all has been run: `most_steps` in a recording at most.

        When `most_in_all` steps have been run, no other recording is begun.
        """
        whole, runs = True, []
        for number in range(len(self.steps.ends)):
            low, high = self.steps.start(number), int(self.steps.ends[number])
            shown, changed = (e[np.searchsorted(e, low) : np.searchsorted(e, high)] for e in self._events)
            first = low if self.mutated.reset else int(changed[0]) if len(changed) else high
            if len(shown) and shown[0] <= first and not self.mutated.reset:
                return int(shown[0]), True
            if first < high:
                runs.append((number, first, shown, changed))
        for number, first, shown, changed in runs:
            if self._count >= most_in_all:
                return None, False
            found, ended = self._recording(number, first, shown, changed, most_steps)
            whole = whole and ended
            if found is not None:
                return found, True
        return None, whole

    @property
    def _events(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.mutated.shown, self.mutated.changed

    def _recording(
        self,
        number: int,
        first: int,
        shown: NDArray[np.int64],
        changed: NDArray[np.int64],
        most_steps: int,
    ) -> tuple[int | None, bool]:
        contents = {name: dict(words) for name, words in self.recorded.starts[number].items()}
        low, high = self.steps.start(number), int(self.steps.ends[number])
        written, case, steps = low, first, 0
        while case < high:
            self.recorded.write(contents, written, case)
            self.reset = self.mutated.reset and case == low
            count = self._count
            found, end = self._window(contents, case, high, most_steps - steps)
            if found:
                return end, True
            steps += self._count - count
            if steps >= most_steps and end < high:
                return None, False
            written = end
            following = [int(e[i]) for e in (shown, changed) if (i := int(np.searchsorted(e, end))) < len(e)]
            if not following:
                return None, True
            case = min(following)
            i = int(np.searchsorted(shown, case))
            if i < len(shown) and shown[i] == case:
                return case, True
        return None, True

    def _window(self, contents: Contents, first: int, high: int, most: int) -> tuple[bool, int]:
        """From a step on: whether it shows, and in which step, or before which the state is the original's again."""
        mine = {name: dict(words) for name, words in contents.items()}
        state = {**self._fixed, **{key: mine[name] for key, name in self._name_of.items()}}
        names = self._registers
        registers: dict[str, int] = {}
        differs: set[tuple[str, int]] = set()
        low, before = first, Apart()
        while low < high and most > 0:
            end = min(high, low + most, low + CHUNK_STEPS)
            given = self._columns(self._inputs, low, end)
            wanted = self._columns(self._outputs, low, end)
            following = self._columns(names, low, min(end + 1, high))
            if low == first:
                registers = {n: following[n][0] for n in names}
                if self.reset:
                    registers = {n: v or 0 for n, v in self.mutated.netlist.registers.items()}
            apart = {n: registers[n] ^ following[n][0] for n in names if registers[n] != following[n][0]}
            event = self._next_event(apart, low, high) if apart == before and not differs else low
            before = apart
            if event > low:
                for memory, address in self.recorded.write(contents, low, event):
                    mine[memory][address] = contents[memory][address]
                if event >= high:
                    return False, high
                there = self._columns(names, event, event + 1)
                registers = {n: there[n][0] ^ apart.get(n, 0) for n in names}
                low, before = event, Apart()
                continue
            for i in range(end - low):
                row = {port: column[i] for port, column in given.items()}
                registers, seen, writes = self._step({**row, **registers, **state})
                self._count += 1
                for port, column in wanted.items():
                    if seen[port] != column[i] and self._means(port, low + i, seen[port] ^ column[i]):
                        return True, low + i
                touched = self.recorded.write(contents, low + i, low + i + 1)
                for key, address, value in writes:
                    state[key][address] = value
                    touched.append((self._name_of[key], address))
                for memory, address in touched:
                    same = contents[memory].get(address, 0) == mine[memory].get(address, 0)
                    (differs.discard if same else differs.add)((memory, address))
                if differs or low + i + 1 >= high:
                    continue
                if all(registers[n] == following[n][i + 1] for n in names):
                    return False, low + i + 1
            most -= end - low
            low = end
        return False, low

    def _next_event(self, apart: Apart, low: int, high: int) -> int:
        """The step from which on the registers are not just so much apart, or something shows; `high` if there is none.

        Such a difference may last very long: it is followed on all steps at once.
        """
        key = frozenset(apart.items())
        if set(apart) - set(self.steps.netlist.registers) or (key not in self.lasting and len(self.lasting) >= MOST):
            return low
        if key not in self.lasting:
            lasting = Mutated(self.steps, self.mutated.netlist, apart)
            self.lasting[key] = np.union1d(lasting.shown, lasting.changed)
        events = self.lasting[key]
        i = int(np.searchsorted(events, low))
        return min(high, int(events[i])) if i < len(events) else high

    def _columns(self, names: tuple[str, ...], low: int, high: int) -> dict[str, list[int]]:
        words: Mapping[str, Words] = self.steps.words
        extra = self.mutated.extra
        return {n: integers_of((extra[n] if n in extra else words[n])[low:high]) for n in names}

    def _means(self, port: str, case: int, difference: int) -> bool:
        """Whether a difference in an output means something."""
        word, bit = divmod(case, 64)
        for at, meant in self.steps.meant[port]:
            part = difference >> at.start & (1 << at.stop - at.start) - 1
            if part and case_value((meant,), word, bit):
                return True
        return False
