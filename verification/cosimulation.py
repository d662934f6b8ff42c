"""Reference, transaction model and netlist run the same trace in lockstep, layer by layer.

The host (`verification.accelerator_host`) writes the descriptor of a layer into DRAM, the netlist computes it against
a memory, and the host reads the answer, from which it makes the next descriptor. The scoreboard compares all that shows
with the reference, and with the transaction model the cycles in which rows and their outputs arrive
(`verification.transaction_equality`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hls.compose import Composition
from hls.datapaths.descriptor import STATUS_MESSAGES, LayerStatus
from hls.datapaths.number_formats import HEAD_SCORE_BITS, PROBABILITY_BITS
from hls.datapaths.query_key import QueryKeyTypes
from hls.datapaths.zero_eliminator import id_bits
from hls.session import Tap, Tapped
from hls.simulate import Simulator
from models.config import AcceleratorConfig, Config, require_choice
from models.memory.hbm2 import Hbm2Memory
from models.memory.interface import Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from models.reference.quantization import Planes
from models.reference.stack import LayerResult, Run
from verification.accelerator_host import Host, Request
from verification.cosimulation_loop import Cosimulation, RequestTrace, cosimulate
from verification.coverage import Coverage, Situation, bins
from verification.expectation import Array
from verification.memory_image import ALIGNMENT_BYTES, BURST_BYTES
from verification.scoreboard import Observed, Scoreboard, compare_layer, compare_requests, lanes_of, rows_of
from verification.transaction_equality import LayerEquality, TransactionLevel

MEMORIES = ("hbm2", "ideal", "adversarial")
ENGINE_BITS = {"a": HEAD_SCORE_BITS, "b": PROBABILITY_BITS}
LIMIT_CYCLES = 20_000_000
_KEPT = ("kept_value", "kept_id", "kept_count", "kept_last")

TAPS = (
    Tap("pass", ("see_query_key_valid", "see_query_key_last"), ("see_key_full",)),
    Tap("score", ("see_score_valid",), ("see_score", "see_score_lanes", "see_score_last")),
    Tap("prob", ("see_prob_valid",), ("see_prob", "see_prob_lanes", "see_prob_last", "see_prob_flat")),
    Tap("offered", ("see_beat_valid",)),
    Tap(
        "beat",
        ("see_beat_valid", "see_beat_ready"),
        ("see_beat_prob", "see_beat_lanes", "see_beat_last", "see_beat_flat"),
    ),
    *(
        Tap(
            f"engine_{e}",
            (f"see_engine_{e}_out_valid", f"see_engine_{e}_out_ready"),
            tuple(f"see_engine_{e}_{port}" for port in _KEPT),
        )
        for e in ENGINE_BITS
    ),
    Tap("output", ("see_output_valid", "see_output_ready"), ("see_output_element",)),
)


def make_memory(kind: str, machine: AcceleratorConfig, seed: int = 0) -> Memory:
    """A memory behind the machine's channels.

    Raises:
        ConfigError: for a kind that there is not.
    """
    require_choice(kind, MEMORIES, "memory")
    if kind == "hbm2":
        return Hbm2Memory(machine.hbm_channels)
    if kind == "ideal":
        return IdealMemory(machine.hbm_channels)
    return AdversarialMemory(machine.hbm_channels, seed)


@dataclass(frozen=True)
class LayerRun:
    """One layer that was run.

    Attributes:
        request: what was asked.
        cycles: clock cycles until `done`.
        row_cycles: cycle in which each row retired, from the start of the layer; rows in order.
        output_cycles: cycle in which each row of outputs was handed to the write-back.
        equal: nothing differed.
        timing: the same layer on the transaction model; None where that did not run it.
    """

    request: Request
    cycles: int
    row_cycles: Array
    output_cycles: Array
    equal: bool
    timing: LayerEquality | None = None


@dataclass
class Lockstep:
    """A reference run and a netlist, side by side.

    Attributes:
        run: of the integer reference.
        config: that it runs under.
        simulator: an open simulator of the accelerator of `config`.
        memory: behind it, new.
        memory_kind: its name.
        board: what was compared.
        coverage: what was reached.
        traces: requests to the memory of every layer.
        limit_cycles: after which a layer that has not ended is stuck.
        more_taps: looked at too, for no comparison.
        tapped: what those saw of every layer.
        timing: the transaction model runs too, and the cycles of rows are compared.
    """

    run: Run[Planes]
    config: Config
    simulator: Simulator
    memory: Memory
    memory_kind: str
    board: Scoreboard = field(default_factory=Scoreboard)
    coverage: Coverage | None = None
    traces: list[RequestTrace] = field(default_factory=list)
    more_taps: tuple[Tap, ...] = ()
    limit_cycles: int = LIMIT_CYCLES
    tapped: list[Mapping[str, Tapped]] = field(default_factory=list)
    timing: bool = False

    def __post_init__(self) -> None:
        self._pruned_rows = 0
        self.host = Host(self.run, self.config.accelerator)
        self.coverage = self.coverage or Coverage(bins(self.config.accelerator))
        self._model = TransactionLevel(self.run, self.config, self.memory) if self.timing else None

    def layers(self, observe: Callable[[LayerRun], None] | None = None, most: int | None = None) -> list[LayerRun]:
        """Run layer after layer.

        Args:
            observe: called after each, for progress.
            most: layers after which to stop; None runs all.

        Raises:
            CosimulationError: if the netlist does not come to its end, or breaks the rules of the memory's ports.
        """
        done: list[LayerRun] = []
        for request in self.host.requests():
            done.append(self._layer(request))
            if observe is not None:
                observe(done[-1])
            if not done[-1].equal or len(done) == most:
                break
        return done

    def alone(self, result: LayerResult) -> LayerRun:
        """Run one layer of one pass by itself; its scores are the only ones."""
        return self._layer(self.host.alone(result))

    def _layer(self, request: Request) -> LayerRun:
        before = sum(self.board.differing.values())
        memory = copy.deepcopy(self.memory) if self._model is not None else None
        taps, image = (*TAPS, *self.more_taps), self.host.image.data
        found = start(self.simulator, self.memory, image, request.address, taps, self.limit_cycles)
        self.tapped.append({tap.name: found.taps[tap.name] for tap in self.more_taps})
        status = LayerStatus(found.outputs["done_status"])
        self.board.numbers("status", f"{request.name}: {STATUS_MESSAGES[status]}", [LayerStatus.OK], [status])
        assert found.requests is not None
        self.traces.append(found.requests)
        if status == LayerStatus.OK:
            self.host.check(self.board, request)
            if request.expected is not None:
                self._compare(request, found)
        beats, outputs = found.taps["beat"], found.taps["output"]
        last = beats.words["see_beat_last"][:, 0] == 1
        row_cycles, output_cycles = beats.cycles[last].astype(np.int64), outputs.cycles.astype(np.int64)
        timing = None
        if self._model is not None and memory is not None:
            starts = found.taps["score"].cycles[:1].astype(np.int64)
            timing = self._model.compare(request, memory, found.cycles, starts, row_cycles, output_cycles)
            self._compare_arrivals(timing)
        equal = sum(self.board.differing.values()) == before
        return LayerRun(request, found.cycles, row_cycles, output_cycles, equal, timing)

    def _compare_arrivals(self, timing: LayerEquality) -> None:
        """A row or the end of the layer that is further off than the bound in the model is an error as any other."""
        far = timing.far_cycles
        layer = np.array([timing.cycles])
        for kind, differences in (
            ("start cycles", timing.starts),
            ("row cycles", timing.rows),
            ("output cycles", timing.outputs),
            ("layer cycles", layer),
        ):
            beyond = np.where(np.abs(differences) <= far, 0, differences)
            self.board.numbers(kind, f"{timing.name}, cycles of the model beyond", np.zeros_like(beyond), beyond)

    def _compare(self, request: Request, found: Cosimulation) -> None:
        assert request.expected is not None
        assert found.requests is not None
        seen = observed(found, self.run, self.config.accelerator, request, self._pruned_rows)
        if self.run.pruning.prunes_values:
            self._pruned_rows += request.expected.flat.size
        progressive = self.run.quantization.lsb_bits > 0
        compare_layer(self.board, request.name, request.expected, seen, progressive)
        reads = found.requests.addresses[~found.requests.writes]
        of_operands = reads[(reads >= self.host.operands_from) & (reads < self.host.operands_to)]
        compare_requests(self.board, request.name, self.host.operand_bursts(request), of_operands // BURST_BYTES)
        self._cover(request, found)

    def _cover(self, request: Request, found: Cosimulation) -> None:
        assert request.expected is not None
        assert self.coverage is not None
        s, keys, heads = self.run.sequence, len(request.expected.tokens), len(request.expected.heads)
        self.coverage.sample(
            Situation(
                config=self.config,
                stage=request.plan.kind,
                head_dim=s.head_dim,
                heads=s.heads,
                kv_heads=len(s.k[request.result.layer]),
                expected=request.expected,
                count_after=request.fields["next_keys"] if request.fields["next_keys"] < keys else None,
                heads_after=request.fields["next_heads"] if request.fields["next_heads"] < heads else None,
                memory=self.memory_kind,
                stalled=len(found.taps["offered"]) > len(found.taps["beat"]),
            )
        )


def start(
    simulator: Simulator,
    memory: Memory,
    image: np.typing.NDArray[np.uint8],
    address: int,
    taps: Sequence[Tap] = (),
    limit_cycles: int = LIMIT_CYCLES,
) -> Cosimulation:
    """Give the accelerator a descriptor and run it until it is done."""
    return cosimulate(
        simulator,
        memory,
        image,
        inputs={"start_descriptor": address // ALIGNMENT_BYTES},
        until="done_valid",
        limit_cycles=limit_cycles,
        taps=tuple(taps),
        offer=("start_valid", "start_ready"),
        trace_requests=True,
    )


def observed(
    found: Cosimulation, run: Run[Planes], machine: AcceleratorConfig, request: Request, pruned_rows: int
) -> Observed:
    """What the taps saw, as rows of numbers; `pruned_rows` have gone through the top-k engines before."""
    lanes, taps = machine.softmax_lanes, found.taps
    score_bits = QueryKeyTypes.of(machine).score.width
    score, prob, beat = taps["score"].words, taps["prob"].words, taps["beat"].words
    prob_last = numbers_of(prob["see_prob_last"])
    beat_last = numbers_of(beat["see_beat_last"])
    output = lanes_of(
        taps["output"].words["see_output_element"], machine.max_head_dim, machine.datapath_bits, signed=True
    )
    return Observed(
        pass_full=numbers_of(taps["pass"].words["see_key_full"]),
        score=rows_of(
            lanes_of(score["see_score"], lanes, score_bits, signed=True),
            lanes_of(score["see_score_lanes"], lanes, 1),
            numbers_of(score["see_score_last"]),
        ),
        prob=rows_of(
            lanes_of(prob["see_prob"], lanes, PROBABILITY_BITS), lanes_of(prob["see_prob_lanes"], lanes, 1), prob_last
        ),
        flat=numbers_of(prob["see_prob_flat"])[np.concatenate([[1], prob_last])[:-1] == 1],
        retired_prob=rows_of(
            lanes_of(beat["see_beat_prob"], lanes, PROBABILITY_BITS),
            lanes_of(beat["see_beat_lanes"], lanes, 1),
            beat_last,
        ),
        retired_flat=numbers_of(beat["see_beat_flat"])[beat_last == 1],
        kept=_kept(taps, machine, request, pruned_rows) if run.pruning.prunes_values else [],
        output=list(output[:, : run.sequence.head_dim]),
    )


def numbers_of(words: np.typing.NDArray[np.uint32]) -> Array:
    """A port of at most 32 bits as numbers."""
    return words[:, 0].astype(np.int64)


def _kept(
    taps: Mapping[str, Tapped], machine: AcceleratorConfig, request: Request, pruned_rows: int
) -> list[tuple[Array, Array]]:
    """Results of both engines in the order of the rows, the very first of B; what follows in A selects survivors."""
    assert request.expected is not None
    rows = request.expected.flat.size
    turns = "ba" if pruned_rows % 2 == 0 else "ab"
    results = {name: _results(taps[f"engine_{name}"], machine, name, bits) for name, bits in ENGINE_BITS.items()}
    found = []
    for i in range(rows):
        of_engine = results[turns[i % 2]]
        if i // 2 < len(of_engine):
            ids, probs = of_engine[i // 2]
            slots = np.searchsorted(request.expected.tokens, ids) if request.result.step else ids
            found.append((slots, probs))
    return found


def _results(tap: Tapped, machine: AcceleratorConfig, name: str, bits: int) -> list[tuple[Array, Array]]:
    lanes = machine.top_k_lanes
    words = {port: tap.words[f"see_engine_{name}_{port}"] for port in _KEPT}
    values, ids = lanes_of(words["kept_value"], lanes, bits), lanes_of(words["kept_id"], lanes, id_bits(machine))
    count, last = numbers_of(words["kept_count"]), numbers_of(words["kept_last"])
    valid = (np.arange(lanes) < count[:, None]).astype(np.int64)
    return list(zip(rows_of(ids, valid, last), rows_of(values, valid, last), strict=True))


def accelerator_of(machine: AcceleratorConfig) -> Composition:
    """The netlist of a machine."""
    from hls.datapaths import accelerator

    return accelerator.build(machine)
