"""The host of the accelerator: lays out DRAM for a run of the reference, writes layer descriptors, reads the answers.

Keys and values of all layers are in DRAM from the start; Q, the lists and the descriptor of a layer are written before
it. The loop is closed: survivors and heads of the next layer are those that the machine has answered, and are compared
with the reference's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from torch import Tensor

from hls.datapaths import descriptor
from hls.datapaths.descriptor import ANSWER, DESCRIPTOR, HEAD_ENTRY, Stage
from hls.datapaths.machine_sizes import QUERY_LINES
from models.config import AcceleratorConfig
from models.memory.operand_layout import OperandLayout, operand_layout
from models.reference.arithmetic import hold_scale
from models.reference.cascade import PassKind, PassPlan, plan_pass
from models.reference.integer import IntegerArithmetic
from models.reference.quantization import Planes
from models.reference.stack import LayerResult, Run
from verification.expectation import Array, LayerExpectation, expectation, query_planes
from verification.memory_image import BURST_BYTES, MemoryImage, Region, list_bursts, packed, unpacked
from verification.scoreboard import Scoreboard

SHIFT_LIMITS = (-64, 63)
MANTISSA_ONE = 1 << 15


@dataclass(frozen=True)
class Operand:
    """K or V of one layer in DRAM: its planes, a part for each K/V head."""

    msb: Region
    lsb: Region | None


@dataclass(frozen=True)
class Request:
    """A descriptor in DRAM, and what must come of it.

    Attributes:
        name: for messages.
        address: of the descriptor.
        fields: of the descriptor.
        result: of the reference; None where only the selection runs.
        expected: what the netlist shows; None where only the selection runs.
        plan: of the pass.
        tokens: that survive when it begins.
        next_tokens: survivors of the next layer.
        next_heads: surviving heads of the next layer.
        halve: the scores are halved after the layer.
    """

    name: str
    address: int
    fields: dict[str, int]
    result: LayerResult
    expected: LayerExpectation | None
    plan: PassPlan
    tokens: Array
    next_tokens: Array
    next_heads: Array
    halve: bool


def _ids(tensor: Tensor) -> Array:
    return np.asarray(tensor.numpy(), np.int64)


def _mask(heads: Array) -> int:
    return sum(1 << int(head) for head in heads)


class Host:
    """The host's side of a run on a machine.

    Args:
        run: of the integer reference.
        machine: that computes it.

    Raises:
        ConfigError: for a sequence that the machine cannot hold.
        ValueError: for a run whose survivors the machine cannot select (another rule than the accumulated importance).
    """

    def __init__(self, run: Run[Planes], machine: AcceleratorConfig) -> None:
        sequence = run.sequence
        machine.check_sequence(sequence.head_dim, sequence.tokens)
        if run.pruning.selection != "importance" or run.pruning.importance != "cumulative":
            raise ValueError(
                "the machine selects by cumulative importance; set pruning.selection = 'importance' and "
                "pruning.importance = 'cumulative'"
            )
        self.run, self.machine = run, machine
        queries = sequence.heads * (sequence.tokens * sequence.head_dim * machine.datapath_bits // 8 + 512)
        layouts = [self._layout(k, v) for k, v in zip(run.k, run.v, strict=True)]
        outputs = sequence.heads * sequence.tokens * sequence.head_dim * 2
        self.image = MemoryImage(queries + sum(layout.end for layout in layouts) + outputs + (1 << 18))
        self._control = self._regions()
        self.operands_from = self.image.allocate(1).address
        self._query = self.image.allocate(
            -(-sequence.tokens * sequence.head_dim * machine.datapath_bits // 8), sequence.heads
        )
        operands = [self._operands(*planes) for planes in zip(run.k, run.v, layouts, strict=True)]
        self._keys, self._values = [keys for keys, _ in operands], [values for _, values in operands]
        self.operands_to = self.image.allocate(1).address
        self._outputs = self.image.allocate(outputs)

    def _regions(self) -> dict[str, Region]:
        tokens, heads = self.run.sequence.tokens, self.run.sequence.heads
        sizes = {
            "descriptor": DESCRIPTOR.size_bytes,
            "survivors": 2 * tokens,
            "head_table": HEAD_ENTRY.size_bytes * heads,
            "protected": 2 * tokens,
            "token_scores": 4 * tokens,
            "head_scores": 8 * heads,
            "next_survivors": 2 * tokens,
            "answer": ANSWER.size_bytes,
        }
        return {name: self.image.allocate(-(-size // BURST_BYTES) * BURST_BYTES) for name, size in sizes.items()}

    def _layout(self, keys: Planes, values: Planes) -> OperandLayout:
        """Where K and V of a layer go."""

        def sizes(planes: Planes) -> list[int]:
            _, tokens, dim = planes.q.shape
            widths = (planes.msb_bits, *((planes.lsb_bits,) if planes.lsb_bits else ()))
            return [-(-tokens * dim * width // 8) for width in widths]

        return operand_layout(sizes(keys), sizes(values), len(keys.q), self.run.pruning.prunes_values)

    def _operands(self, keys: Planes, values: Planes, layout: OperandLayout) -> tuple[Operand, Operand]:
        """Write K and V of a layer."""
        address, heads = self.image.allocate(layout.end).address, len(keys.q)

        def written(planes: Planes, offsets: tuple[int, ...], stride: int) -> Operand:
            regions = [Region(address + offset, stride, heads) for offset in offsets]
            for head in range(heads):
                self.image.write(regions[0].part(head), packed(planes.msb[head].numpy(), planes.msb_bits))
                if planes.lsb_bits:
                    self.image.write(regions[1].part(head), packed(planes.lsb[head].numpy(), planes.lsb_bits))
            return Operand(regions[0], regions[1] if planes.lsb_bits else None)

        return written(keys, layout.keys, layout.key_stride), written(values, layout.values, layout.value_stride)

    def requests(self) -> Iterator[Request]:
        """A descriptor after the other, in DRAM when it is yielded; the answer is read when the next one is asked for.

        Raises:
            ValueError: if the machine answered with other survivors than the reference, for then the runs part.
        """
        first = True
        results = list(self.run.passes())
        for result, following in pairwise([*results, None]):
            assert result is not None
            plan = self._plan(result)
            present = self._present(result, results)
            if len(present) != len(result.tokens):
                yield self._select_only(result, plan, present, first)
                first = False
            yield self._layer(result, following, plan, first)
            first = False

    def alone(self, result: LayerResult) -> Request:
        """The descriptor of one layer by itself, scores cleared before it: for measurements."""
        return self._layer(result, None, self._plan(result), first=True)

    def _plan(self, result: LayerResult) -> PassPlan:
        s = self.run.sequence
        kind: PassKind = "step" if result.step else "encoder" if s.prompt is None else "prompt"
        length = (s.tokens if s.prompt is None else s.prompt) + result.step
        return plan_pass(self.run.pruning, kind, result.step, length, s.layers, s.heads)

    def _present(self, result: LayerResult, results: list[LayerResult]) -> Array:
        """Tokens of which the survivors are selected on entering a layer; the survivors where that is done already."""
        by_step = self.run.pruning.scope == "step"
        if by_step and result.layer > 0:
            return _ids(result.tokens)
        before = [r for r in results if r.step == result.step and r.layer == result.layer - 1]
        alive = _ids(before[0].tokens) if before else np.arange(self._plan(result).length)
        if by_step:
            return alive
        for r in results:
            if r.step < result.step and r.layer <= result.layer:
                gone = np.setdiff1d(np.arange(self._plan(r).length), _ids(r.tokens))
                alive = np.setdiff1d(alive, gone)
        return alive

    def _common(self, result: LayerResult, plan: PassPlan, first: bool) -> dict[str, int]:
        s, c = self.run.sequence, self._control
        quantization = self.run.quantization
        layer = result.layer
        protected = np.flatnonzero(plan.protected.numpy())
        self.image.write(c["protected"].address, packed(protected, 16))
        fields = {
            "head_dim": s.head_dim,
            "width": self.machine.datapath_bits,
            "msb_bits": quantization.msb_bits,
            "lsb_bits": quantization.lsb_bits,
            "heads": s.heads,
            "group": s.heads // len(s.k[layer]),
            "position": plan.length,
            "ratio16": self.run.pruning.value_ratio16,
            "threshold": quantization.threshold12,
            "protected_count": len(protected),
            "clear_tokens": int(first),
            "clear_heads": int(first),
            "query_address": self._query.address,
            "query_stride": self._query.stride_bytes,
            "output_address": self._outputs.address,
        }
        for name in ("survivors", "head_table", "protected", "token_scores", "head_scores", "next_survivors", "answer"):
            fields[f"{name}_address"] = c[name].address
        for name, operand in (("key", self._keys[layer]), ("value", self._values[layer])):
            for plane, region in (("", operand.msb), ("_lsb", operand.lsb)):
                if region is not None:
                    fields[f"{name}{plane}_address"] = region.address
                    fields[f"{name}{plane}_stride"] = region.stride_bytes
        return fields

    def _write(self, fields: dict[str, int], survivors: Array) -> int:
        """Lists and descriptor into DRAM; what the answer will overwrite is made unreadable."""
        c = self._control
        for name in ("token_scores", "head_scores", "next_survivors", "answer"):
            self.image.data[c[name].address : c[name].address + c[name].stride_bytes] = 0xFF
        self.image.write(c["survivors"].address, packed(survivors, 16))
        content = np.frombuffer(descriptor.pack(**fields), np.uint8)
        self.image.write(c["descriptor"].address, content)
        return c["descriptor"].address

    def _select_only(self, result: LayerResult, plan: PassPlan, present: Array, first: bool) -> Request:
        """On entering a layer: no attention, the survivors of `present`."""
        heads = _ids(result.heads)
        fields = self._common(result, plan, first) | {
            "stage": Stage.SUMMARIZATION,
            "keys": len(present),
            "rows": 0,
            "next_keys": plan.token_counts[result.layer],
            "next_heads": self.run.sequence.heads,
            "head_mask": _mask(heads),
        }
        name = f"step {result.step}, on entering layer {result.layer}"
        address = self._write(fields, present)
        return Request(name, address, fields, result, None, plan, present, _ids(result.tokens), heads, halve=False)

    def _layer(self, result: LayerResult, following: LayerResult | None, plan: PassPlan, first: bool) -> Request:
        expected = expectation(self.run, result)
        goes_on = following is not None and following.step == result.step
        by_machine = goes_on and self.run.pruning.scope == "step"
        tokens, heads = expected.tokens, expected.heads
        next_tokens = _ids(following.tokens) if by_machine and following else tokens
        next_heads = _ids(following.heads) if goes_on and following else heads
        halve = not goes_on and self.run.pruning.rescale and plan.kind == "step"
        self._write_query(result)
        self._write_head_table(result)
        fields = self._common(result, plan, first) | {
            "stage": Stage.GENERATION if result.step else Stage.SUMMARIZATION,
            "causal": int(self.run.sequence.prompt is not None),
            "halve": int(halve),
            "keys": len(tokens),
            "rows": expected.rows,
            "next_keys": plan.token_counts[result.layer + 1] if by_machine else plan.length,
            "next_heads": plan.head_counts[result.layer + 1] if goes_on else self.run.sequence.heads,
            "head_mask": _mask(heads),
        }
        name = f"step {result.step}, layer {result.layer}"
        address = self._write(fields, tokens)
        return Request(name, address, fields, result, expected, plan, tokens, next_tokens, next_heads, halve)

    def _write_query(self, result: LayerResult) -> None:
        planes = query_planes(self.run, result)
        heads, rows, dim = planes.q.shape
        length = self._plan(result).length
        for head in range(heads):
            vectors = np.zeros((length, dim), np.int64)
            vectors[length - rows :] = planes.q[head].numpy()
            self.image.write(self._query.part(head), packed(vectors, self.machine.datapath_bits))

    def _write_head_table(self, result: LayerResult) -> None:
        """Scales of the surviving heads; those of the others are not read."""
        run, arithmetic = self.run, self.run.arithmetic
        assert isinstance(arithmetic, IntegerArithmetic)
        k, v = run.key_value(result.layer, result.tokens, result.heads)
        q = query_planes(run, result)
        q = replace(q, q=q.q[result.heads], scale=q.scale[result.heads])
        scores = arithmetic.score_scale(q, k)
        values = hold_scale(v.operand_scale(self.machine.datapath_bits))
        entries = [HEAD_ENTRY.pack({"mantissa": MANTISSA_ONE, "value_mantissa": MANTISSA_ONE})] * run.sequence.heads
        for i, head in enumerate(result.heads.tolist()):
            entries[head] = HEAD_ENTRY.pack(
                {
                    "mantissa": int(scores.mantissa.reshape(-1)[i]),
                    "exponent": int(np.clip(int(scores.exponent.reshape(-1)[i]), *SHIFT_LIMITS)),
                    "value_mantissa": int(values.mantissa.reshape(-1)[i]),
                    "value_shift": int(np.clip(3 - int(values.exponent.reshape(-1)[i]), *SHIFT_LIMITS)),
                }
            )
        self.image.write(self._control["head_table"].address, np.frombuffer(b"".join(entries), np.uint8))

    def check(self, board: Scoreboard, request: Request) -> None:
        """Compare what the machine has written with the reference."""
        name, c, s = request.name, self._control, self.run.sequence
        answer = ANSWER.unpack(self.image.read(c["answer"].address, ANSWER.size_bytes).tobytes())
        wanted = {
            "status": 0,
            "survivors": len(request.next_tokens),
            "heads": len(request.next_heads),
            "head_mask": _mask(request.next_heads),
        }
        for field, value in wanted.items():
            board.numbers("answer", f"{name}, {field}", [value], [answer[field]])
        survivors = unpacked(
            self.image.read(c["next_survivors"].address, 2 * len(request.next_tokens)), len(request.next_tokens), 16
        )
        board.numbers("survivors", name, request.next_tokens, survivors)
        if request.expected is None:
            return
        e, length = request.expected, request.plan.length
        tokens = e.token_importance >> 1 if request.halve else e.token_importance
        found = unpacked(self.image.read(c["token_scores"].address, 4 * length), length, 32)
        board.numbers("token importance", name, tokens, found)
        found = unpacked(self.image.read(c["head_scores"].address, 8 * s.heads), s.heads, 64)
        board.numbers("head importance", name, e.head_importance, found)
        size = e.out.size
        outputs = self.image.read(self._outputs.address, 2 * size).view("<i2").astype(np.int64)
        board.numbers("outputs in DRAM", name, e.out, outputs)

    def operand_bursts(self, request: Request) -> Iterator[Array]:
        """Bursts of every list of operands that a layer must fetch (sections 5, 9, 10)."""
        e = request.expected
        if e is None:
            return
        machine, dim = self.machine, self.run.sequence.head_dim
        parts = max(1, machine.padded_head_dim(dim) // machine.native_head_dim)
        elements = dim // parts
        layer = request.result.layer
        key, value = self._keys[layer], self._values[layer]
        msb, low, width = self.run.quantization.msb_bits, self.run.quantization.lsb_bits, machine.datapath_bits

        def bursts(ids: Array, address: int, bits: int) -> Array:
            expanded = (ids[:, None] * parts + np.arange(parts)).reshape(-1)
            return list_bursts(expanded, address, elements * bits)

        flat_groups = e.flat_key_lists()
        for g in e.key_lists():
            yield bursts(e.tokens, key.msb.part(g), msb)
            if g in flat_groups and key.lsb is not None:
                yield bursts(e.tokens, key.lsb.part(g), low)
            if not request.result.step:
                yield bursts(e.tokens, value.msb.part(g), msb)
                if value.lsb is not None:
                    for slots in e.sparse_lists(g):
                        yield bursts(e.tokens[slots], value.lsb.part(g), low)
        rows = _ids(request.result.rows)
        chunk = QUERY_LINES // 2 // parts
        for i, head in enumerate(e.heads):
            for start in range(0, len(rows), chunk):
                yield bursts(rows[start : start + chunk], self._query.part(int(head)), width)
            if request.result.step:
                ids = e.tokens[e.kept[i, 0]]
                g = int(e.kv_heads[i])
                yield bursts(ids, value.msb.part(g), msb)
                if e.flat[i, 0] and value.lsb is not None:
                    yield bursts(ids, value.lsb.part(g), low)
