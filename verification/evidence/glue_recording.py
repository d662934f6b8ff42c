"""Recordings of the accelerator's glue: all ports of every glue part, cycle by cycle, while whole layers run.

The netlist runs beside the reference as in `verification.cosimulation`, and the scoreboard finds nothing, so what is
recorded is right to the bit; the cycles are those that the netlist takes. Layers of one run follow each other without
reset. To see the ports, outputs are added to the composition: its modules are those of the accelerator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hls.compose import Composition, Piece, Source, constant
from hls.datapaths.descriptor import ANSWER, LayerStatus
from hls.session import Tap, Tapped
from hls.simulate import Simulator, Words, from_words, open_simulator
from models.memory.interface import Memory
from models.memory.variants import AdversarialMemory
from verification.cosimulation import Lockstep, accelerator_of, make_memory, start
from verification.evidence.controller_model import HostLayer, Scores, bus_of, status_of, survivors_of
from verification.evidence.glue_requests import (
    DESCRIPTOR_ADDRESS,
    IMAGE_BYTES,
    at_limits,
    each_bit,
    refusals,
    selections,
    small_layers,
)
from verification.evidence.glue_runs import RUNS, TINY
from verification.strategies import SmallRun

ALWAYS = "always"
TAP = "glue"
SELECTIONS = "layers without rows"
_SMALL = {f"small layer {number}": partial(small_layers, number) for number in range(24)}
SMALL_LAYERS = tuple(_SMALL)
"""One layer from reset each: so runs of mutants see many."""
ANSWERED: Mapping[str, Callable[[], Iterator[HostLayer]]] = {
    SELECTIONS: selections,
    **_SMALL,
    "refused": refusals,
    "fields at limits": at_limits,
    "each bit": each_bit,
}
"""Recordings of requests to a memory that answers."""
SILENT = {f"silent after {count}": count for count in (5, 22)}
"""Recordings of a request to a memory that answers no more after so many requests: reading lists, writing results."""
REQUESTS = (*ANSWERED, *SILENT)
"""Recordings that are no runs."""


@dataclass(frozen=True)
class Recording:
    """The ports of some parts during a run from reset: words [cycles, words] by (part, port)."""

    name: str
    words: Mapping[tuple[str, str], Words]

    def __len__(self) -> int:
        return len(next(iter(self.words.values())))


def observed(design: Composition, parts: Sequence[str]) -> Composition:
    """The design with an output for every port of the parts, and one that is always 1."""
    drivers = {ALWAYS: constant(1, 1)}
    for part in parts:
        drivers |= {port_name(part, port): source for port, source in design.connections[part].items()}
        outputs = design.parts[part].outputs
        drivers |= {port_name(part, port): Source((Piece(part, port, 0, bits),)) for port, bits in outputs.items()}
    return replace(design, drivers={**design.drivers, **drivers})


def port_name(part: str, port: str) -> str:
    """Name of the output that shows a port of a part."""
    return f"{part}__{port}"


def record(
    parts: Sequence[str],
    runs: Mapping[str, SmallRun] = RUNS,
    requests: Sequence[str] = REQUESTS,
    change: Callable[[Composition], Composition] = lambda design: design,
) -> Iterator[Recording]:
    """A recording of each run, and of some of `REQUESTS`.

    Raises:
        AssertionError: if the netlist does not do what the reference does.
    """
    design = change(accelerator_of(TINY))
    ports = [(p, port) for p in parts for port in (*design.parts[p].inputs, *design.parts[p].outputs)]
    tap = Tap(TAP, (ALWAYS,), tuple(port_name(*port) for port in ports))

    def joined(name: str, layers: Iterable[Tapped]) -> Recording:
        logs = list(layers)
        return Recording(name, {port: np.concatenate([log.words[port_name(*port)] for log in logs]) for port in ports})

    with open_simulator(observed(design, parts), "auto") as simulator:
        for name, run in runs.items():
            yield joined(name, _layers(run, simulator, tap))
        for name in requests:
            if name in SILENT:
                memory = AdversarialMemory(TINY.hbm_channels, accept=1.0, answer=1.0, silent_after=SILENT[name])
                yield joined(name, _requests(itertools.islice(selections(), 1), simulator, tap, memory))
            else:
                yield joined(name, _requests(ANSWERED[name](), simulator, tap, make_memory("hbm2", TINY)))


def _layers(run: SmallRun, simulator: Simulator, tap: Tap) -> Iterator[Tapped]:
    simulator.reset()
    memory = make_memory(run.memory, run.config.accelerator, run.seed)
    pair = Lockstep(run.run(), run.config, simulator, memory, run.memory, more_taps=(tap,))
    pair.layers()
    assert pair.board.equal, pair.board.report()
    yield from (taps[TAP] for taps in pair.tapped)


def _requests(layers: Iterable[HostLayer], simulator: Simulator, tap: Tap, memory: Memory) -> Iterator[Tapped]:
    """Requests one behind the other."""
    simulator.reset()
    silent = isinstance(memory, AdversarialMemory)
    for layer in layers:
        image = np.zeros(IMAGE_BYTES, np.uint8)
        for address, content in {DESCRIPTOR_ADDRESS: layer.descriptor(), **layer.contents()}.items():
            image[address : address + len(content)] = np.frombuffer(content, np.uint8)
        before = image.copy()
        found = start(simulator, memory, image, DESCRIPTOR_ADDRESS, (tap,))
        status = LayerStatus(found.outputs["done_status"])
        wanted = LayerStatus.MEMORY_SILENT if silent else status_of(TINY, layer)
        assert status == wanted, f"{status.name} instead of {wanted.name} for {dict(layer.fields)}"
        if status == LayerStatus.OK:
            _check_answer(layer, image)
        elif not silent:
            assert np.array_equal(before, image), f"memory has changed: {wanted.name}"
        if LayerStatus.ADDRESS < wanted < LayerStatus.MEMORY_SILENT or status == LayerStatus.OK:
            _check_bus(layer, found.taps[tap.name])
        yield found.taps[tap.name]


def _check_bus(layer: HostLayer, seen: Tapped) -> None:
    """What the controller says of a layer whose fields are in order."""
    for name, value in bus_of(TINY, layer).items():
        words = seen.words.get(port_name("controller", name))
        assert words is None or from_words(words[-1:]) == [value], f"{name} is not {value} for {dict(layer.fields)}"


def _check_answer(layer: HostLayer, image: np.typing.NDArray[np.uint8]) -> None:
    """All scores have been cleared, so those survive that come first."""
    at = layer.fields["answer_address"]
    answer = ANSWER.unpack(image[at : at + ANSWER.size_bytes].tobytes())
    tokens, heads = survivors_of(layer, Scores(np.zeros(layer.fields["position"], np.int64)))
    assert answer["survivors"] == len(tokens)
    assert answer["head_mask"] == sum(1 << head for head in heads)
    at = layer.fields["next_survivors_address"]
    assert image[at : at + 2 * len(tokens)].view("<u2").tolist() == tokens
