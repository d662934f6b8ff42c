"""What each part of the whole softmax does, from the registers in front of it to those behind (architecture page, 8).

The specifications read the whole netlist while its output is free: the registers in front of a part at cycle 0, the
part's nodes at their stages. Together they are the datapath from its inputs to its outputs, but for the two buffers.
"""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import pyrtl

from hls.datapaths import softmax_arithmetic as arithmetic
from hls.datapaths.softmax import SoftmaxPlan
from hls.datapaths.softmax_arithmetic import SoftmaxTypes
from models.config import AcceleratorConfig
from verification.equivalence.bits import Bits, choose, concatenate
from verification.equivalence.netlist import Netlist, NetlistError, read_block
from verification.equivalence.problem import IntegerSpecification, Operands, Problem, Specification
from verification.equivalence.unrolling import Sources, Unrolling
from verification.evidence.shared import elements, named_stages
from verification.evidence.softmax_lane import Claims, single_lane


def output_register(plan: SoftmaxPlan, part: str, port: str, lane: int = 0) -> str:
    """The register that gives an output of a part of the whole netlist."""
    made = getattr(plan, part)
    node = next(p for p in made.graph.outputs if p.name == port).nodes[lane]
    return f"{part}_{made.graph.label(node)}_s{made.latency_cycles}"


def valid_register(plan: SoftmaxPlan, part: str) -> str:
    """The register of a part's valid bit beside its outputs."""
    return f"{part}_valid_s{getattr(plan, part).latency_cycles}"


def _buffered(operands: Operands, buffer: str, lanes: int, lane: int) -> Bits:
    """A lane in the output register of a buffer: above the last bit and below the valid bits."""
    beat = operands[f"{buffer}_beat"][1:]
    width = beat.width // lanes - 1
    return beat[lane * width : (lane + 1) * width]


def _buffered_flags(operands: Operands, buffer: str, lanes: int) -> Bits:
    """The flags there: the last bit above the valid bits."""
    beat = operands[f"{buffer}_beat"]
    return concatenate(beat[0], beat[beat.width - lanes :])


def _given(part: Netlist, inputs: Mapping[str, Bits], wire: str, known: Mapping[str, Bits]) -> Bits:
    """A wire of a combinational netlist for the given inputs, else 0, where it is known what some nodes are."""
    domain = next(iter(inputs.values())).domain

    def value(name: str, _: int) -> object:
        return inputs[name].value if name in inputs else domain.constant(0, part.width(name))

    def state(name: str) -> object:
        raise NetlistError(f"{name!r} is state: only a combinational netlist is a function")

    def replaced(name: str, _: int) -> object:
        return known[name].value if name in known else None

    return Unrolling(part, domain, Sources(value, state, state, state, replaced)).bits(wire)


def valid_bits(plan: SoftmaxPlan) -> Specification:
    """The valid bit of every part is that in front of it, `latency_cycles` later."""

    def specification(operands: Operands) -> Claims:
        claims: Claims = {}
        for part, valid in (
            ("lane_maximum", "in_valid"),
            ("scale", "score_buffer_valid"),
            ("exponential", valid_register(plan, "scale")),
            ("lane_sum", valid_register(plan, "exponential")),
            ("reciprocal", "running_sum_done"),
            ("normalize", "exponential_buffer_valid"),
        ):
            claims[(valid_register(plan, part), getattr(plan, part).latency_cycles)] = operands[valid]
        return claims

    return specification


def pipeline(config: AcceleratorConfig, plan: SoftmaxPlan, part: str) -> Specification:
    """Every lane of scale, exponential or normalize is the single lane, `latency_cycles` later; its flags pass by.

    So is the largest probability, which normalize has once.
    """
    lanes, score_bits = config.softmax_lanes, SoftmaxTypes.of(config).score.width
    graphs = {"scale": arithmetic.scale_graph, "exponential": arithmetic.exponential_graph}
    single = read_block(single_lane(config, graphs.get(part, arithmetic.normalize_graph)))
    made = getattr(plan, part)
    stage = named_stages(made, f"{part}_")
    series = [f"taylor_{k}" for k in range(4, -1, -1)]
    nodes = {"scale": ("distance", "product"), "exponential": ("multiple", "rest", *series), "normalize": ("weighted",)}
    outputs = {"scale": "u", "exponential": "e", "normalize": "prob"}

    def lane(operands: Operands, i: int, inputs: Mapping[str, Bits]) -> Bits:
        """The output of the single lane, node by node."""
        known: dict[str, Bits] = {}
        for node in nodes[part]:
            value = _given(single, inputs, f"{node}_0", known)
            name = f"{part}_{node}_{i}"
            known[f"{node}_0"] = operands.cut(name, value, cycle=stage[name])
        return _given(single, inputs, outputs[part], known)

    def given(operands: Operands, i: int, flags: Bits) -> dict[str, Bits]:
        """The inputs of a lane."""
        if part == "exponential":
            return {"u": operands[output_register(plan, "scale", "u", i)]}
        if part == "normalize":
            result, e = operands["exponential_buffer_row"], _buffered(operands, "exponential_buffer", lanes, i)
            return {"e": e, "e_flags": flags[i].zext(2), "inverse": result[:26], "shift": result[26:]}
        row = operands["score_buffer_row"]
        return {
            "score": _buffered(operands, "score_buffer", lanes, i),
            "row_maximum": row[:score_bits],
            "mantissa": row[score_bits : score_bits + 16],
            "exponent": row[score_bits + 16 :],
        }

    def specification(operands: Operands) -> Claims:
        if part == "exponential":
            flags = operands[output_register(plan, "scale", "u_flags")]
        else:
            flags = _buffered_flags(operands, {"scale": "score", "normalize": "exponential"}[part] + "_buffer", lanes)
        cycle, port = made.latency_cycles, outputs[part]
        claims: Claims = {(output_register(plan, part, f"{port}_flags"), cycle): flags}
        for i in range(lanes):
            claims[(output_register(plan, part, port, i), cycle)] = lane(operands, i, given(operands, i, flags))
        if part == "normalize":
            claims[(output_register(plan, part, "peak"), cycle)] = _given(single, given(operands, 0, flags), "peak", {})
        return claims

    return specification


def wiring(config: AcceleratorConfig, plan: SoftmaxPlan) -> Specification:
    """What goes into the buffers, and from the last registers to the outputs."""

    def specification(operands: Operands) -> Claims:
        def joined(part: str, *ports: str) -> Bits:
            """Output registers side by side, the first port's first element lowest."""
            outputs = {port.name: len(port.nodes) for port in getattr(plan, part).graph.outputs}
            names = [output_register(plan, part, port, i) for port in ports for i in range(outputs[port])]
            return concatenate(*(operands[name] for name in reversed(names)))

        inputs = concatenate(operands["lane_valid"], operands["score"], operands["last"])
        maximum = [operands[n] for n in ("running_maximum_held", "row_mantissa", "row_exponent")]
        e_flags = operands[output_register(plan, "exponential", "e_flags")]
        lanes = e_flags.width - 1
        prob_flags = operands[output_register(plan, "normalize", "prob_flags")]
        valids = [operands[valid_register(plan, part)] for part in ("exponential", "reciprocal", "normalize")]
        return {
            "score_buffer_beat_in": inputs,
            "score_buffer_beat_writing": operands["in_valid"],
            "score_buffer_row_in": concatenate(*reversed(maximum)),
            "score_buffer_row_writing": operands["running_maximum_done"],
            "exponential_buffer_beat_in": concatenate(e_flags[:lanes], joined("exponential", "e"), e_flags[lanes]),
            "exponential_buffer_beat_writing": valids[0],
            "exponential_buffer_row_in": joined("reciprocal", "inverse", "shift"),
            "exponential_buffer_row_writing": valids[1],
            "prob": joined("normalize", "prob"),
            "prob_valid": prob_flags[:lanes],
            "prob_last": prob_flags[lanes],
            "peak": joined("normalize", "peak"),
            "out_valid": valids[2],
        }

    return specification


def buffer_control(config: AcceleratorConfig, plan: SoftmaxPlan) -> Specification:
    """One step of both buffers' pointers and valid bits, from any state."""
    slack = {"score_buffer": plan.score_buffer_slack, "exponential_buffer": plan.exponential_buffer_slack}

    def specification(operands: Operands) -> Claims:
        claims: Claims = {}
        writing = {
            "score_buffer_beat": operands["in_valid"],
            "score_buffer_row": operands["running_maximum_done"],
            "exponential_buffer_beat": operands[valid_register(plan, "exponential")],
            "exponential_buffer_row": operands[valid_register(plan, "reciprocal")],
        }
        for name, cycles in slack.items():
            depth = config.softmax_fifo_rows + cycles

            def moved(pointer: str, where: Bits, last: int = depth - 1) -> None:
                now = operands[pointer]
                following = choose(now == last, operands.constant(0, now.width), now + 1)
                claims[(pointer, 1)] = choose(where, following, now)

            within_row = operands[f"{name}_valid"] & ~operands[f"{name}_beat"][0]
            waiting = operands[f"{name}_row_written"] != operands[f"{name}_row_read"]
            starting = ~within_row & waiting
            moved(f"{name}_beat_written", writing[f"{name}_beat"])
            moved(f"{name}_row_written", writing[f"{name}_row"])
            moved(f"{name}_beat_read", within_row | starting)
            moved(f"{name}_row_read", starting)
            claims[(f"{name}_valid", 1)] = within_row | starting
        return claims

    return specification


def lane_maximum(plan: SoftmaxPlan) -> Specification:
    """The largest valid score of a cycle, as a fold over the lanes from the lowest number; last, m and x."""

    def specification(operands: Operands) -> Claims:
        valid = operands["lane_valid"]
        width = operands["score"].width // valid.width
        score = elements(operands, "score", width)
        lowest = operands.constant(1 << (width - 1), width)

        def larger(held: Bits, i: int) -> Bits:
            return choose(valid[i] & held.signed_below(score[i]), score[i], held)

        values = {"beat_maximum": reduce(larger, range(valid.width), lowest), "row_end": operands["last"]}
        values |= {"row_mantissa": operands["mantissa"], "row_exponent": operands["exponent"]}
        cycle = plan.lane_maximum.latency_cycles
        return {(output_register(plan, "lane_maximum", port), cycle): value for port, value in values.items()}

    return specification


def lane_sum(plan: SoftmaxPlan, lanes: int) -> Specification:
    """The sum of the exponentials of a cycle, pair by pair."""
    stage = named_stages(plan.lane_sum, "lane_sum_")

    def specification(operands: Operands) -> Claims:
        flags = operands[output_register(plan, "exponential", "e_flags")]
        e = [operands[output_register(plan, "exponential", "e", i)] for i in range(lanes)]
        level = [choose(flags[i], e[i], e[i].constant(0)) for i in range(lanes)]
        while len(level) > 1:
            pairs = [(a.zext(a.width + 1), b.zext(b.width + 1)) for a, b in zip(level[::2], level[1::2], strict=True)]
            names = [f"lane_sum_sum_{len(pairs)}_{i}" for i in range(len(pairs))]
            level = [operands.cut(n, a + b, cycle=stage[n]) for n, (a, b) in zip(names, pairs, strict=True)]
        cycle = plan.lane_sum.latency_cycles
        ends: Claims = {(output_register(plan, "lane_sum", "row_end"), cycle): flags[lanes]}
        return {(output_register(plan, "lane_sum", "partial"), cycle): level[0], **ends}

    return specification


def _row_step(operands: Operands, name: str, valid: str, last: str, so_far: Bits) -> Claims:
    """The next state of a running part."""
    taken, end = operands[valid], operands[last]
    return {
        (f"{name}_held", 1): choose(taken, so_far, operands[f"{name}_held"]),
        (f"{name}_first", 1): choose(taken, end, operands[f"{name}_first"]),
        (f"{name}_done", 1): taken & end,
    }


def running(plan: SoftmaxPlan) -> Specification:
    """Maximum and sum of a row with one more cycle, m and x beside the maximum."""

    def specification(operands: Operands) -> Claims:
        def given(part: str, port: str) -> Bits:
            return operands[output_register(plan, part, port)]

        def step(name: str, part: str, so_far: Bits) -> Claims:
            return _row_step(operands, name, valid_register(plan, part), output_register(plan, part, "row_end"), so_far)

        held, beat = operands["running_maximum_held"], given("lane_maximum", "beat_maximum")
        keep = ~operands["running_maximum_first"] & ~held.signed_below(beat)
        total = operands["running_sum_held"]
        before = choose(operands["running_sum_first"], operands.constant(0, total.width), total)
        return {
            **step("running_maximum", "lane_maximum", choose(keep, held, beat)),
            **step("running_sum", "lane_sum", before + given("lane_sum", "partial").zext(total.width)),
            ("row_mantissa", 1): given("lane_maximum", "row_mantissa"),
            ("row_exponent", 1): given("lane_maximum", "row_exponent"),
        }

    return specification


def sums(operands: Operands) -> Bits:
    """The sums that occur: 2^24 of the largest score at least, or 0 of a row without a valid lane."""
    total = operands["running_sum_held"]
    return (total == 0) | (total >= 1 << 24)


def reciprocal(plan: SoftmaxPlan) -> Specification:
    """Step 7: t, and the long division of 2^49 by the divisor D.

    Every step satisfies 2 remainder' = bit_k D + remainder_k and remainder_k < D (a fact with a proof of its own);
    summed up, 2^49 = R D + remainder_0 with remainder_0 < D, which is what floor means.
    """
    stage = named_stages(plan.reciprocal, "reciprocal_")

    def specification(operands: Operands) -> Claims:
        total = operands["running_sum_held"]
        least = operands.constant(1 << 24, total.width)
        raised = choose(total < least, least, total)
        shift = operands.constant(0, operands.width(output_register(plan, "reciprocal", "shift")))
        for t in range(1, total.width - 24):
            shift = choose(raised[24 + t], operands.constant(t, shift.width), shift)
        shifted = raised.shifted_right(shift.zext(6))[:25]
        divisor = operands.cut("reciprocal_divisor", shifted, fact=lambda v: v[24])
        doubled, bits = operands.constant(1 << 24, 26), []
        for k in range(arithmetic.RECIPROCAL.width - 1, -1, -1):
            name = f"reciprocal_remainder_{k}"
            above = doubled < divisor.zext(26)
            remainder = choose(above, doubled, doubled - divisor.zext(26))[:25]
            if name in stage:  # nobody reads the last
                remainder = operands.cut(name, remainder, cycle=stage[name], fact=lambda v: v < divisor)
            bits.append(~above)
            doubled = concatenate(remainder, operands.constant(0, 1))
        cycle = plan.reciprocal.latency_cycles
        values = {"inverse": concatenate(*bits), "shift": shift}
        return {(output_register(plan, "reciprocal", port), cycle): value for port, value in values.items()}

    return specification


def reciprocal_of_a_divisor(plan: SoftmaxPlan) -> IntegerSpecification:
    """R = floor(2^49 / divisor), from the register of the divisor behind the first stage."""
    register, latency = "reciprocal_divisor_s1", plan.reciprocal.latency_cycles
    target = (output_register(plan, "reciprocal", "inverse"), latency - 1)
    return IntegerSpecification(
        lambda v: {target: (1 << 49) // np.maximum(v[register], 1 << 24)}, (register,), (target,)
    )


def parts(config: AcceleratorConfig, plan: SoftmaxPlan) -> dict[str, Specification]:
    """The specifications by name."""
    return {
        "wiring": wiring(config, plan),
        "valid bits": valid_bits(plan),
        "buffer control": buffer_control(config, plan),
        "maximum of the lanes": lane_maximum(plan),
        "running maximum and sum": running(plan),
        "sum of the lanes": lane_sum(plan, config.softmax_lanes),
        "reciprocal": reciprocal(plan),
        **{f"lanes of {part}": pipeline(config, plan, part) for part in ("scale", "exponential", "normalize")},
    }


def part_problem(
    name: str, block: pyrtl.Block, specification: Specification, fixed: Mapping[str, int] | None = None
) -> Problem:
    """The claim of a part about the whole netlist, where the output is free; of the reciprocal, about `sums`."""
    assume = sums if name == "reciprocal" else None
    return Problem(f"softmax {name}", block, specification, fixed=fixed or {"out_ready": 1}, assume=assume)
