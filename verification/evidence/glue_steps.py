"""Recorded steps of a glue module, all at once: what would a mutant do differently from the states of the original?

The module runs what was recorded once more, with random bits where an input means nothing, and its state is seen
(`glue_observed`). So every cycle is a step from a known state. A mutant is evaluated on all of them, 64 to a machine
word (`verification.equivalence.sliced`), and only where its fault reaches. In a recording, up to the first step in
which something is different the mutant has been in the same state:

    an output that means something differs    the mutant is killed there
    only its next state differs               it has to be run from there to see what becomes of that (`glue_windows`)
    no step differs                           it has done what the original did, for ever
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, reduce
from operator import or_
from typing import Any

import numpy as np

from hls.simulate import Words, open_simulator
from verification.equivalence.bits import Bits
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.sliced import Planes, Sliced
from verification.equivalence.unrolling import Sources, Unrolling
from verification.evidence.glue_modules import Module
from verification.evidence.glue_observed import Observed, observed
from verification.evidence.glue_outputs import Meaning
from verification.evidence.glue_planes import (
    WORD_BITS,
    cases_of,
    cycles_in,
    one_plane,
    plane_words,
    planes_of,
    words_of,
)
from verification.evidence.glue_reach import reached
from verification.evidence.glue_replay import Replay

ZERO = np.uint64(0)


class Steps:
    """Recorded steps of a module, with random bits where an input means nothing.

    Attributes:
        of: the module.
        netlist: of it.
        names: of the recordings.
        ends: step behind the last one of each recording.
        count: of all steps.
        words: of inputs, outputs, registers and memory reads, by name: [count, words].

    Raises:
        AssertionError: if the module itself does not do what was recorded.
    """

    def __init__(self, of: Module, replays: Sequence[Replay], seed: int) -> None:
        self.of, self.netlist = of, read_block(of.netlist.block)
        self.names = tuple(replay.name for replay in replays)
        self.ends = np.cumsum([len(replay) for replay in replays])
        self.count = int(self.ends[-1])
        self.reads = tuple(n.dest for n in self.netlist.nets if n.op == "m" and n.dest and self._written(n.memory))
        recorded = {port: np.concatenate([r.inputs[port] for r in replays]) for port in of.netlist.inputs}
        wanted = {port: np.concatenate([r.outputs[port] for r in replays]) for port in of.netlist.outputs}
        inputs = self._scrambled(recorded, wanted, seed)
        self.words: dict[str, Words] = {**inputs, **self._run(inputs)}
        self._given = {name: planes_of(self.words[name], self.netlist.widths[name]) for name in self._sources}
        self.original = self.unrolled(self.netlist, lambda name: None, {})
        self._check(wanted)

    @property
    def _sources(self) -> tuple[str, ...]:
        return (*self.netlist.inputs, *self.netlist.registers, *self.reads)

    def _written(self, memory: str | None) -> bool:
        return self.netlist.memories[memory or ""].contents is None

    def _scrambled(self, inputs: Mapping[str, Words], outputs: Mapping[str, Words], seed: int) -> dict[str, Words]:
        """The inputs with random bits where they mean nothing."""
        rng, bits, known = np.random.default_rng(seed), {**self.of.netlist.inputs, **self.of.netlist.outputs}, {}

        def value(port: str) -> Bits:
            if port not in known:
                known[port] = planes_of({**inputs, **outputs}[port], bits[port])
            return Bits(Sliced(), known[port], bits[port])

        changed = dict(inputs)
        for port, means in self.of.given.items():
            planes = list(value(port).value)
            for at, condition in means.parts(bits[port], value):
                meant = condition.value[0] if condition is not None else ~ZERO
                for i in range(*at.indices(bits[port])):
                    noise = rng.integers(0, 1 << 64, plane_words(self.count), np.uint64)
                    planes[i] = planes[i] & meant | noise & ~meant
            changed[port] = words_of(planes, self.count)
        return changed

    def _run(self, inputs: Mapping[str, Words]) -> dict[str, Words]:
        """Outputs and state of the module, recording by recording from reset."""
        parts = []
        with open_simulator(self._observed.netlist, "auto") as simulator:
            for low, high in zip((0, *self.ends), self.ends, strict=False):
                simulator.reset()
                parts.append(simulator.run({port: words[low:high] for port, words in inputs.items()}))
        seen = {port: np.concatenate([part[port] for part in parts]) for port in parts[0]}
        names = {**self._observed.registers, **self._observed.reads, **{port: port for port in self.of.netlist.outputs}}
        return {name: seen[port] for name, port in names.items()}

    @cached_property
    def _observed(self) -> Observed:
        return observed(self.of.netlist)

    def _check(self, wanted: Mapping[str, Words]) -> None:
        for port, means in self.meant.items():
            looked_at = np.zeros_like(self.words[port])
            for at, meant in means:
                ones = np.uint32(0) - cycles_in(meant, self.count).astype(np.uint32)
                for word in range(at.start // WORD_BITS, -(-at.stop // WORD_BITS)):
                    low, high = (min(max(bit - word * WORD_BITS, 0), WORD_BITS) for bit in (at.start, at.stop))
                    looked_at[:, word] |= ones & np.uint32((1 << high) - (1 << low))
            wrong = np.flatnonzero(np.any((self.words[port] ^ wanted[port]) & looked_at, axis=1))
            assert not len(wrong), f"{self.of.name}: {port} differs in {self.place(int(wrong[0]))}"

        for promise in self.of.promises:
            broken = ~promise.holds(self.original.bits, self.netlist).value[0]
            found = cases_of(broken, self.count)
            assert not len(found), f"{self.of.name}: not so in {self.place(int(found[0]))}: {promise.name}"

    def place(self, case: int) -> str:
        """Cycle and recording of a step."""
        number = int(np.searchsorted(self.ends, case, "right"))
        return f"cycle {case - self.start(number)} of {self.names[number]!r}"

    def start(self, number: int) -> int:
        """First step of a recording."""
        return int(self.ends[number - 1]) if number else 0

    @cached_property
    def meant(self) -> Mapping[str, Sequence[tuple[slice, Any]]]:
        """Slices of every output, and the plane of the steps in which they mean something."""
        found = {}
        for port, bits in self.of.netlist.outputs.items():
            means = self.of.meaning.get(port, Meaning())
            parts = means.parts(bits, lambda name: self.original.bits(name))
            window = self._window(means) if means.since else ~ZERO
            found[port] = [(at, window if c is None else window & c.value[0]) for at, c in parts]
        return found

    def _window(self, means: Meaning) -> Any:
        """Steps from one of the pulses `since` on, up to and with `until`, in each recording."""
        index = np.arange(self.count)
        begun, ended = np.full(self.count, -1), np.full(self.count, -1)
        for port in means.since:
            pulse = self.words[port][:, 0] != 0
            begun[pulse] = index[pulse]
        over = self.words[means.until][:, 0] != 0
        ended[1:][over[:-1]] = index[1:][over[:-1]]
        starts = np.array([self.start(number) for number in range(len(self.ends))])
        ended[starts] = starts
        opened = np.maximum.accumulate(begun) >= np.maximum.accumulate(ended)
        return one_plane(opened)

    def unrolled(
        self, netlist: Netlist, known: Callable[[str], Planes | None], extra: Mapping[str, Planes]
    ) -> Unrolling:
        """A netlist on these steps; `known` gives values that are not computed, `extra` those of further registers."""

        def given(name: str) -> Planes:
            found: Planes = extra[name] if name in extra else self._given[name]
            return found

        def refuse(name: str) -> Planes:
            raise NetlistError(f"memory {name!r} has no planes")

        def cut(name: str, cycle: int) -> Planes | None:
            del cycle
            return self._given[name] if name in self.reads else known(name)

        def table(name: str) -> Any:
            memory, domain = netlist.memories[name], Sliced()
            return [domain.constant(word, memory.data_bits) for word in memory.contents or ()]

        return Unrolling(netlist, Sliced(), Sources(lambda name, cycle: given(name), given, refuse, table, cut))

    def before(self, wire: str, reset: int) -> Words:
        """Words of a wire of the original a step earlier; `reset` in the first step of a recording."""
        words = np.roll(words_of(self.original.value(wire), self.count), 1, axis=0)
        first = np.frombuffer(reset.to_bytes(4 * words.shape[1], "little"), "<u4")
        words[[self.start(number) for number in range(len(self.ends))]] = first
        return words


class Mutated:
    """A mutant on recorded steps: where it shows, and after which steps its state differs.

    Attributes:
        steps: of the original.
        netlist: of the mutant.
        apart: the steps are those from states with other bits in some registers, by name which; the state behind a
            step differs if it is not just so.
        extra: words of the registers that the original has not: what they hold until something is different.
        shown, changed: steps in which an output that means something differs; after which state does, or in which
            something else is read from a memory.
        reset: it begins in another state.

    Raises:
        NetlistError: for a mutant of another kind.
    """

    def __init__(self, steps: Steps, faulty: Netlist, apart: Mapping[str, int] | None = None) -> None:
        self.steps, self.netlist, self.apart, original = steps, faulty, dict(apart or {}), steps.netlist
        self.extra = {
            name: steps.before(faulty.drivers[name].args[0], reset or 0)
            for name, reset in faulty.registers.items()
            if name not in original.registers
        }
        self.reset = any(original.registers.get(name, reset) != reset for name, reset in faulty.registers.items())
        self._reached = reached(faulty, original, self.apart)
        given = {name: planes_of(words, faulty.widths[name]) for name, words in self.extra.items()}
        given |= {name: self._moved(name, steps.original.value(name)) for name in self.apart}
        self._run = steps.unrolled(faulty, self._as_in_original, given)
        self.shown = cases_of(self._shown(), steps.count)
        self.changed = cases_of(self._changed(), steps.count)

    def _as_in_original(self, name: str) -> Planes | None:
        if name in self._reached or name in self.extra:
            return None
        found: Planes = self.steps.original.value(name)
        return found

    def _moved(self, register: str, planes: Planes) -> Planes:
        """What a register that is apart holds where the original's holds this."""
        bits = self.apart.get(register, 0)
        return tuple(~plane if bits >> i & 1 else plane for i, plane in enumerate(planes))

    def _differs(self, mine: str, its: str, at: slice = slice(None), register: str = "") -> Any:
        """Plane of the steps in which a wire of the original and one of the mutant differ: what a register takes in."""
        if mine == its and its not in self._reached and its not in self.extra and register not in self.apart:
            return ZERO
        a, b = self._moved(register, self.steps.original.value(mine)[at]), self._run.value(its)[at]
        return reduce(or_, (p ^ q for p, q in zip(a, b, strict=True)))

    def _shown(self) -> Any:
        found: Any = ZERO
        for port, parts in self.steps.meant.items():
            if port in self._reached:
                for at, meant in parts:
                    found = found | self._differs(port, port, at) & meant
        return found

    def _changed(self) -> Any:
        found: Any = ZERO
        original, faulty = self.steps.netlist, self.netlist
        for name in faulty.registers:
            its = faulty.drivers[name].args[0]
            mine = its if name in self.extra else original.drivers[name].args[0]
            found = found | self._differs(mine, its, register=name)
        for name in self.steps.reads:
            if name in faulty.drivers:
                found = found | self._differs(original.drivers[name].args[0], faulty.drivers[name].args[0])
        for memory, nets in original.writers.items():
            for net, other in zip(nets, faulty.writers.get(memory, ()), strict=False):
                writes = self.steps.original.value(net.args[2])[0]
                found = found | self._differs(net.args[2], other.args[2])
                for i in (0, 1):
                    found = found | writes & self._differs(net.args[i], other.args[i])
        return found
