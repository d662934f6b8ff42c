"""The technology library: provenance of every number, agreement with its sources, and shape of the formulas."""

import json
import re
import statistics
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.costs import evaluate_term
from hls.quantity import PROVENANCES, Quantity, total
from hls.technology import DEFAULT_LIBRARY, OPERATOR_KINDS, WIRING_KINDS, TechnologyError, load, nonzero_digits

FACTS = Path(__file__).resolve().parents[3] / "shared" / "spec" / "technology.json"
LIBRARY = load()
SRAM_NAMES = {"area": "area", "read": "rd_pJ", "write": "wr_pJ", "leakage": "leak_mW", "access": "acc"}
widths = st.integers(1, 64)
operators = st.sampled_from(OPERATOR_KINDS)


@pytest.fixture(scope="module")
def technology():
    return LIBRARY


@pytest.fixture(scope="module")
def facts():
    if not FACTS.exists():
        pytest.skip("the collected facts are not beside this checkout")
    return {name: entry["value"] for name, entry in json.loads(FACTS.read_text(encoding="utf-8")).items()}


@pytest.fixture(scope="module")
def library():
    return tomllib.loads(DEFAULT_LIBRARY.read_text(encoding="utf-8"))


def numbers_without_provenance(data: Any, path: str = "") -> Iterator[str]:
    """Paths of numbers that no provenance, source and error covers."""
    if isinstance(data, dict):
        if {"provenance", "source", "error"} <= set(data):
            return
        for name, value in data.items():
            if name != "per_ge":
                yield from numbers_without_provenance(value, f"{path}.{name}" if path else name)
    elif isinstance(data, (int, float)):
        yield path
    elif isinstance(data, list):
        for value in data:
            yield from numbers_without_provenance(value, path)


def entries(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        if "provenance" in data:
            yield data
        for value in data.values():
            yield from entries(value)


def operand_widths(kind: str, n: int, m: int) -> tuple[int, ...]:
    return {"mux": (1, n, n), "neg": (n,), "not": (n,), "table": (min(n, 12),), "priority": (n,)}.get(
        kind, (n + 1,) if kind.startswith("reduce") else (n, min(m, 6)) if kind.startswith("shift") else (n, m)
    )


def test_every_number_has_provenance_source_and_error(library):
    assert list(numbers_without_provenance(library)) == []
    for entry in entries(library):
        assert entry["provenance"] in PROVENANCES
        assert entry["source"] in library["sources"]
        assert entry["error"] > 0


def test_every_source_is_used(library):
    assert {entry["source"] for entry in entries(library)} == set(library["sources"])


def test_a_number_without_provenance_is_noticed(library):
    broken = {**library, "scale": {**library["scale"], "fo4_ps": {"value": 20.0}}}
    assert list(numbers_without_provenance(broken)) == ["scale.fo4_ps.value"]


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"(fo4_ps = .*), source = \"fo4\"", r"\1", "no source"),
        (r"fo4_ps = .*", "", r"no scale\.fo4_ps"),
        (r"(fo4_ps = \{ value = 20\.0, error = 0\.15, provenance = )\"assumed\"", r'\1"guessed"', "'guessed'"),
        (r"(fo4_ps = \{ value = )20\.0", r"\1-1", r"scale\.fo4_ps.*-1"),
        (r"(\[operators\.eq\.area_ge\]\nterms = )\[.*\]", r'\1["n"]', r"operators\.eq\.area_ge.*coefficient"),
        (r"\[library\]", "[library", "line|at"),
    ],
)
def test_a_malformed_library_is_refused_with_file_and_entry(tmp_path, pattern, replacement, message):
    text, count = re.subn(pattern, replacement, DEFAULT_LIBRARY.read_text(encoding="utf-8"), count=1)
    assert count == 1
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TechnologyError, match=message) as caught:
        load(path)
    assert "own.toml" in str(caught.value)


def test_scales_and_gates_are_the_collected_facts(technology, facts):
    assert technology.nand2_area.value == facts["nand2_area_40nm"]
    assert technology.fo4.value == facts["fo4_delay_40nm"]
    equivalents = dict(facts["gate_equivalents"])
    flip_flop = equivalents.pop("DFF")
    assert technology.flip_flop.area_um2 == pytest.approx(flip_flop * facts["nand2_area_40nm"])
    assert {n: g.area_ge.value for n, g in technology.gates.items() if n != "BUF"} == equivalents
    assert technology.flip_flop.energy_pj == facts["aladdin40.reg_bit"]["energy_pJ"]


@pytest.mark.parametrize("ports", ["1rw", "1r1w"])
@pytest.mark.parametrize(("name", "fact"), SRAM_NAMES.items())
@pytest.mark.parametrize(("rows", "width"), [(64, 32), (128, 512), (2048, 1024)])
def test_sram_formulas_are_the_collected_fits(technology, facts, ports, name, fact, rows, width):
    bits, picoseconds = rows * width, 1000 if name == "access" else 1
    values = {
        "1": 1, "bits": bits, "width": width, "width^2": width**2, "rows": rows, "width^2/1e3": width**2 / 1e3,
        "bits/1e3": bits / 1e3, "width*sqrt(rows)/100": width * rows**0.5 / 100, "width/1e3": width / 1e3,
        "sqrt(rows)/100": rows**0.5 / 100, "bits/1e6": bits / 1e6,
    }  # fmt: skip
    fit = facts[f"cacti_fit.{ports}|0.04|{fact}"]
    expected = sum(values[term] * c for term, c in fit["coef"].items()) * picoseconds
    got = technology.srams[ports][name]({"rows": rows, "width": width})
    assert got.value == pytest.approx(expected, rel=1e-4)
    assert got.error == fit["rms"]


@pytest.mark.parametrize("ports", ["1rw", "1r1w"])
@pytest.mark.parametrize(
    ("run", "rows", "width"),
    [
        ("F64x64", 64, 64), ("F64x128", 64, 128), ("F64x192", 64, 192), ("F128x256", 128, 256), ("R1024x32", 1024, 32),
        ("A98K/48 128b", 128, 128), ("A98K/12 512bx128", 128, 512),
    ],
)  # fmt: skip
def test_sram_fit_meets_single_cacti_runs(technology, facts, ports, run, rows, width):
    point = facts[f"cacti.{run}.40nm.{ports}.ED2.Global_30"]
    macro = technology.sram(rows, width, ports)
    fits = technology.srams[ports]
    for got, expected, fit in (
        (macro.area_um2, point["area_mm2"] * 1e6, fits["area"]),
        (macro.read_pj, point["read_pJ"], fits["read"]),
        (macro.write_pj, point["write_pJ"], fits["write"]),
        (macro.leakage_mw, point["leak_mW"], fits["leakage"]),
        (macro.access_ps, point["access_ns"] * 1e3, fits["access"]),
    ):
        assert abs(got / expected - 1) <= fit.worst


def test_operator_areas_meet_published_40_nm_synthesis(technology, facts):
    """The same operators synthesized commercially at 1 ns; ours are sized for speed, bitwise logic most of all."""
    for kind, in_bits, out_bits, row, bound in (
        ("add", (32, 32), 32, "int_add32", 1.10),
        ("mul", (32, 32), 64, "int_mul32", 1.25),
        ("shift_right", (32, 5), 32, "shift32", 1.15),
        ("and", (32, 32), 32, "bitop32", 1.60),
    ):
        ratio = technology.cost(kind, in_bits, out_bits).area_um2 / facts[f"aladdin40.{row}"]["area_um2"]
        assert 1 / bound <= ratio <= bound, (kind, ratio)
    flip_flop = technology.flip_flop
    ratio = (flip_flop.area_um2 + flip_flop.enable_area_um2) / facts["aladdin40.reg_bit"]["area_um2"]
    assert 0.9 <= ratio <= 1.1


def test_multiplier_of_12_bits_is_plausible_at_40_nm(technology, facts):
    """Published 32-bit multipliers scaled by bits squared; one fits a 1 GHz stage."""
    cost = technology.cost("mul", (12, 12), 24)
    scale = (12 / 32) ** 2
    assert 0.9 <= cost.area_um2 / (facts["aladdin40.int_mul32"]["area_um2"] * scale) <= 1.25
    energies = [
        facts["aladdin40.int_mul32"]["energy_pJ"] * scale,
        facts["horowitz45.mul32"] * facts["scale.energy_45_40"]["HP_same_V"] * scale,
        facts["horowitz45.mul8"] * facts["scale.energy_45_40"]["HP_same_V"] * (12 / 8) ** 2,
    ]
    assert min(energies) < cost.energy_pj < max(energies)
    assert cost.energy.low <= min(energies)
    assert cost.energy.high >= max(energies)
    overhead_ps = technology.flip_flop.setup_ps + technology.flip_flop.clock_to_q_ps + technology.clock_uncertainty_ps
    assert cost.delay_ps + overhead_ps <= 1000
    # 512 of them against the published 7.12 mm2 of the Q x K array with its memory, adders and registers
    assert 0.05 < 512 * cost.area_um2 / 7.12e6 < 0.5


@pytest.mark.parametrize(("kind", "bits"), [("add", 8), ("add", 32), ("mul", 8), ("mul", 32)])
def test_operator_energies_cover_both_published_tables(technology, facts, kind, bits):
    energy = technology.cost(kind, (bits, bits), bits + 1).energy
    assert energy.low <= facts[f"horowitz45.{kind}{bits}"] * facts["scale.energy_45_40"]["HP_same_V"] <= energy.high
    if bits == 32:
        assert energy.low <= facts[f"aladdin40.int_{kind}32"]["energy_pJ"] <= energy.high


def test_fitted_energies_and_leakage_are_means_of_the_published_rows(technology, facts):
    scale = facts["scale.energy_45_40"]["HP_same_V"]
    rows = {name: facts[f"aladdin40.{name}"] for name in ("reg_bit", "int_add32", "int_mul32", "shift32", "bitop32")}
    mean = statistics.geometric_mean
    for kind, units_8, units_32 in (("add", 8, 32), ("mul", 64, 1024)):
        horowitz = [
            facts[f"horowitz45.{kind}8"] * scale * 1e3 / units_8,
            facts[f"horowitz45.{kind}32"] * scale * 1e3 / units_32,
        ]
        aladdin = rows[f"int_{kind}32"]["energy_pJ"] * 1e3 / units_32
        energy = technology.operators[kind].energy_fj
        assert energy.coefficients[0] == pytest.approx(mean([mean(horowitz), aladdin]), rel=1e-3)
        farthest = max(max(e / energy.coefficients[0], energy.coefficients[0] / e) for e in (*horowitz, aladdin))
        assert energy.quality.error == pytest.approx(farthest - 1, abs=0.02)
    logic = [row for name, row in rows.items() if name != "reg_bit"]
    per_gate = [row["energy_pJ"] * 1e3 / (row["area_um2"] / facts["nand2_area_40nm"]) for row in logic]
    assert technology.operators["mux"].energy_fj.coefficients[0] == pytest.approx(mean(per_gate), rel=1e-3)
    for kind, row, bits in (("shift_left", "shift32", 160), ("xor", "bitop32", 32)):
        expected = rows[row]["energy_pJ"] * 1e3 / bits
        assert technology.operators[kind].energy_fj.coefficients[0] == pytest.approx(expected, rel=1e-3)
    densities = [row["leak_uW"] * 1e3 / row["area_um2"] for row in rows.values()]
    assert technology.leakage_nw_per_um2.value == pytest.approx(mean(densities), rel=0.01)
    assert technology.leakage_nw_per_um2.low <= min(densities)
    assert technology.leakage_nw_per_um2.high >= max(densities)


@given(operators, widths, widths, widths)
def test_costs_are_positive_and_carry_error_and_provenance(kind, n, m, o):
    cost = LIBRARY.cost(kind, operand_widths(kind, n, m), o)
    assert isinstance(cost.delay_ps, int)
    assert cost.delay_ps >= 1
    for quantity in (cost.delay, cost.area, cost.energy):
        assert quantity.value > 0
        assert quantity.error > 0
        assert quantity.provenance in PROVENANCES
        assert quantity.source


@given(operators, widths, widths, st.integers(0, 8), st.integers(0, 8))
def test_costs_never_fall_with_width(kind, n, m, more_n, more_m):
    small = LIBRARY.cost(kind, operand_widths(kind, n, m), n)
    large = LIBRARY.cost(kind, operand_widths(kind, n + more_n, m + more_m), n + more_n)
    assert large.delay_ps >= small.delay_ps
    assert large.area_um2 >= small.area_um2 * (1 - 1e-12)
    assert large.energy_pj >= small.energy_pj * (1 - 1e-12)


def test_every_kind_is_in_the_library(technology):
    assert set(technology.operators) == set(OPERATOR_KINDS)


@pytest.mark.parametrize("kind", sorted(WIRING_KINDS))
def test_wiring_is_free(technology, kind):
    cost = technology.cost(kind, (12, 12), 24)
    assert (cost.delay_ps, cost.area_um2, cost.energy_pj) == (0, 0.0, 0.0)


def test_shift_by_a_constant_is_wiring(technology):
    assert technology.cost("shift_left", (12,), 14).area_um2 == 0
    assert technology.cost("shift_left", (12, 4), 27).area_um2 > 0


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        (("adder", (4, 4), 5), {}, "'add'"),
        (("add", (4, 0), 5), {}, "at least 1 bit"),
        (("add", (4, 4), 0), {}, "at least 1 bit"),
        (("add", (), 5), {}, "at least 1 bit"),
        (("add", (4, 4), 5), {"entries": 3}, "'entries'"),
        (("table", (4,), 5), {"entry": 3}, "'entry'"),
    ],
)
def test_bad_questions_are_refused(technology, arguments, attributes, message):
    with pytest.raises(TechnologyError, match=message):
        technology.cost(*arguments, **attributes)


def test_beyond_the_fitted_range_the_error_doubles(technology):
    fit = technology.operators["add"].area_ge
    assert fit({"n": 65}).error == 2 * fit({"n": 64}).error
    assert "extrapolated (n = 65 not in 2..64)" in fit({"n": 65}).source


def test_tree_of_adders(technology):
    pair = technology.cost("add", (12, 12), 13)
    second = technology.cost("add", (13, 13), 14)
    four = technology.cost("add", (12, 12, 12, 12), 14)
    assert four.area_um2 == pytest.approx(2 * pair.area_um2 + second.area_um2)
    assert four.delay.value == pytest.approx(pair.delay.value + second.delay.value)
    three = technology.cost("and", (8, 8, 8), 8)
    assert three.area_um2 == pytest.approx(2 * technology.cost("and", (8, 8), 8).area_um2)


@given(st.integers(-(2**40), 2**40))
def test_signed_digits_are_never_more_than_ones(constant):
    digits = nonzero_digits(constant)
    assert digits <= abs(constant).bit_count()
    assert digits <= abs(constant).bit_length() // 2 + 1
    assert (digits == 0) == (constant == 0)
    assert nonzero_digits(2 * constant) == digits


def test_product_with_a_constant_is_cheaper(technology):
    free = technology.cost("mul", (25, 21), 46)
    constant = technology.cost("mul", (25, 21), 46, constant=1512775)
    assert constant.area_um2 < free.area_um2
    assert constant.delay_ps < free.delay_ps
    assert technology.cost("mul", (25, 9), 34, constant=256).area_um2 == 0
    three = technology.cost("mul", (25, 2), 27, constant=3)
    assert three.area_um2 == pytest.approx(technology.cost("add", (26,), 27).area_um2)


def test_product_with_one_bit_is_a_mask(technology):
    mask = technology.cost("mul", (12, 1), 12)
    assert mask == technology.cost("mux", (1, 12, 12), 12)
    assert mask.area_um2 < technology.cost("mul", (12, 2), 14).area_um2


def test_large_memories_are_tiled(technology):
    macro = technology.sram(128, 6144, "1rw")
    assert macro.row_tiles == 1
    assert macro.width_tiles >= 6
    tile = technology.sram(128, -(-6144 // macro.width_tiles), "1rw")
    assert macro.area_um2 == pytest.approx(tile.area_um2 * macro.width_tiles)
    assert macro.read_pj == pytest.approx(tile.read_pj * macro.width_tiles)
    assert macro.access_ps == tile.access_ps
    tall = technology.sram(8192, 64, "1rw")
    assert tall.row_tiles >= 4
    assert tall.read_pj == pytest.approx(technology.sram(-(-8192 // tall.row_tiles), 64, "1rw").read_pj)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((32, 64, "1rw"), r"64\.\.2048 rows.*64 x 64"), ((64, 8, "1rw"), "64 x 32"), ((64, 64, "2rw"), "'1rw'")],
)
def test_memories_below_the_fit_are_refused(technology, arguments, message):
    with pytest.raises(TechnologyError, match=message):
        technology.sram(*arguments)


@pytest.mark.parametrize("term", ["x", "n*", "log10(n)", "log2(n", "n)", "n+1", "log2(1)"])
def test_unknown_terms_are_refused(term):
    with pytest.raises(TechnologyError, match="term"):
        evaluate_term(term, {"n": 4})


def test_terms():
    assert evaluate_term("n*log2(n)*sqrt(n)", {"n": 16}) == 256
    assert evaluate_term("1", {}) == 1
    assert evaluate_term("log2(n)", {"n": 1}) == 0


def test_error_propagation():
    a = Quantity(10.0, "ps", 0.3, "measured", "a")
    b = Quantity(20.0, "ps", 0.4, "assumed", "b")
    both = total((a, b), "ps", "sum")
    assert (both.value, both.provenance) == (30.0, "assumed")
    assert both.error == pytest.approx((3 + 8) / 30)
    assert a.times(b, "ps2").error == pytest.approx(0.5)
    assert a.low == pytest.approx(10 / 1.3)
    assert a.high == pytest.approx(13)
    assert Quantity.from_dict(a.as_dict()) == a
    with pytest.raises(ValueError, match="um2"):
        total((replace(a, unit="um2"),), "ps", "sum")
    with pytest.raises(ValueError, match="finite"):
        replace(a, value=float("nan"))
    with pytest.raises(ValueError, match="error"):
        replace(a, error=-0.1)
