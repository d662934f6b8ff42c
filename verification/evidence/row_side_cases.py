"""Cases and records of the model of what surrounds the row side (`verification.evidence.row_side_model`)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hls.compose import Composer
from hls.datapaths import operand_loader, query_buffer, row_issue, row_queues
from hls.datapaths.machine_sizes import MachineSizes
from hls.flatten import flatten
from hls.lower import Netlist
from models.config import AcceleratorConfig


@dataclass(frozen=True)
class LayerCase:
    """A layer: `groups` K/V heads of so many query heads each; `flat[row]` over all rows of the layer in order."""

    generation: bool
    causal: bool
    progressive: bool
    keys: int
    dimension: int
    groups: tuple[int, ...]
    flat: tuple[bool, ...]

    @property
    def rows(self) -> int:
        """Of a head."""
        return 1 if self.generation else self.keys

    @property
    def heads(self) -> int:
        """Query heads."""
        return sum(self.groups)


@dataclass(frozen=True)
class Timing:
    """Probabilities that things are ready, and cycles that they take.

    `late_query_cycles`: one line of every query, another one in each round of the ring, comes so much after that of the
    query before.
    """

    ready: float = 1.0
    offer: float = 1.0
    accept: float = 1.0
    landing_cycles: tuple[int, int] = (1, 1)
    multiply_cycles: int = 7
    softmax_cycles: int = 58
    decide_cycles: int = 1
    cycles_per_vector: float = 0.0
    value_vectors: int = 0
    latency_cycles: int = 0
    late_query_cycles: int = 0


@dataclass
class Row:
    """A row of the layer and how far it is."""

    index: int
    head: int
    kv: int
    number: int
    visible: int
    beats: int
    ends_key: bool
    flat: bool
    first_beats: int = 0
    replay_beats: int = 0
    decided: bool = False


@dataclass
class Buffer:
    """What a K buffer holds: how many segments have landed, and with LSBs; `pending`: lists on their way by segment."""

    kv: int = -1
    landed: int = 0
    lsb_requested: bool = False
    lsb_landed: int = 0
    pending: list[int] = field(default_factory=list)
    before: int = -1
    requested_at: int = 0


@dataclass
class Measured:
    """Cycles of the events of a layer, by row (`retired`: last beat) or by K/V head."""

    key_requested: list[int] = field(default_factory=list)
    key_landed: dict[int, int] = field(default_factory=dict)
    lsb_landed: dict[int, int] = field(default_factory=dict)
    first_issued: dict[int, int] = field(default_factory=dict)
    replay_issued: dict[int, int] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)
    decided: dict[int, int] = field(default_factory=dict)
    retired: list[int] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)


def composed(config: AcceleratorConfig) -> Netlist:
    """The modules as one netlist: signals of one name are one; all outputs are outputs of the whole."""
    composer = Composer("row_side")
    modules = {"loader": operand_loader, "lines": query_buffer, "issue": row_issue, "queues": row_queues}
    netlists = {name: module.build(config) for name, module in modules.items()}
    parts = [composer.part(name, netlist) for name, netlist in netlists.items()]
    driven = {port for part in parts for port in part.outputs}
    whole: dict[str, int] = {}
    for part in parts:
        whole |= {port: bits for port, bits in part.inputs.items() if port not in driven}
    sources = {port: composer.input(port, bits) for port, bits in whole.items()}
    for part in parts:
        for port in part.inputs:
            composer.connect(
                part.name, port, sources[port] if port in sources else next(p[port] for p in parts if port in p.outputs)
            )
        for port in part.outputs:
            composer.output(port, part[port])
    return flatten(composer.build())


def token(bits: int, *what: int) -> int:
    """Some `bits` bits that stand for `what`."""
    return random.Random(repr(what)).getrandbits(bits)


def rows_of(case: LayerCase, sizes: MachineSizes) -> list[Row]:
    """All rows of a layer in order."""
    found: list[Row] = []
    head = 0
    for kv, group in enumerate(case.groups):
        for member in range(group):
            for number in range(case.rows):
                visible = number + 1 if case.causal and not case.generation else case.keys
                beats = -(-visible * sizes.parts[case.dimension] // sizes.slots)
                ends = member == group - 1 and number == case.rows - 1
                index = len(found)
                flat = case.progressive and case.flat[index % len(case.flat)]
                found.append(Row(index, head, kv, number, visible, beats, ends, flat))
            head += 1
    return found


def jobs_of(case: LayerCase, layer: int) -> list[dict[str, int]]:
    """The jobs of a layer, field by field."""
    jobs: list[dict[str, int]] = []
    for kv, group in enumerate(case.groups):
        for member in range(group):
            number = len(jobs)
            jobs.append(
                {
                    "head": number % 64,
                    "kv_first": int(member == 0),
                    "kv_last": int(member == group - 1),
                    "last": int(number == case.heads - 1),
                    **{
                        name: token(25, layer, number if name == "query_base" else kv, len(name))
                        for name in ("query_base", "key_base", "key_lsb_base", "value_base", "value_lsb_base")
                    },
                    "mantissa": token(16, layer, number),
                    "exponent": token(7, layer, number, 7),
                    "value_mantissa": 0,
                    "value_shift": 0,
                }
            )
    return jobs
