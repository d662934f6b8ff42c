"""Liberty files: what we write is read back, and a user's library replaces gates, flip-flop and scales."""

import re
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hls.costs import TechnologyError
from hls.gates import COMPLEX_GATES, drive_area, gate_inputs, write_liberty
from hls.liberty import Function, LibertyError, LookupTable, lookup_table, parse_liberty
from hls.technology import load
from hls.user_library import load_liberty

TECHNOLOGY = load()
NO_WIRES = replace(TECHNOLOGY, wire_load=replace(TECHNOLOGY.wire_load, value=0.0))
FLIP_FLOP = """
  cell (DFF_R) { area : 4.0; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; clear : "!R"; }
    pin (D) { direction : input; capacitance : 1.0; } pin (CK) { direction : input; capacitance : 1.0; }
    pin (Q) { direction : output; function : "IQ"; } }
  cell (DFF_X1) { area : 5.0; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (D) { direction : input; capacitance : 1.0;
      timing () { related_pin : "CK"; timing_type : setup_rising;
        rise_constraint (scalar) { values ("15.0"); } fall_constraint (scalar) { values ("18.0"); } } }
    pin (CK) { direction : input; capacitance : 1.0; clock : true; }
    pin (Q) { direction : output; function : "IQ";
      timing () { related_pin : "CK"; timing_type : rising_edge;
        cell_rise (scalar) { values ("31.0"); } cell_fall (scalar) { values ("33.0"); }
        rise_transition (scalar) { values ("9.0"); } fall_transition (scalar) { values ("9.0"); } } } }
}
"""


def own_library() -> str:
    return write_liberty(NO_WIRES).rstrip().removesuffix("}") + FLIP_FLOP


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "own.lib"
    path.write_text(own_library(), encoding="utf-8")
    return path


def test_what_we_write_reads_back_as_the_same_gates(library):
    read = load_liberty(library)
    assert read.nand2_area.value == pytest.approx(TECHNOLOGY.nand2_area.value)
    assert read.fo4.value == pytest.approx(TECHNOLOGY.fo4.value, rel=1e-4)
    for name, gate in TECHNOLOGY.gates.items():
        if name not in COMPLEX_GATES:
            assert read.gates[name].area_ge.value == pytest.approx(gate.area_ge.value, rel=1e-3)
            assert read.gates[name].effort.value == pytest.approx(gate.effort.value, rel=1e-3)
            assert read.gates[name].parasitic.value == pytest.approx(gate.parasitic.value, rel=1e-3)
            assert read.gates[name].area_ge.provenance == "published"
            assert "own.lib" in read.gates[name].area_ge.source
    flip_flop = read.flip_flop  # DFF_R is smaller, but has a reset
    assert (flip_flop.setup_ps, flip_flop.clock_to_q_ps, flip_flop.area_um2) == (18, 32, 5.0)


def test_costs_follow_the_users_library(library):
    text = library.read_text(encoding="utf-8").replace('time_unit : "1ps"', 'time_unit : "10ps"')
    library.write_text(text, encoding="utf-8")
    read, own = load_liberty(library), TECHNOLOGY
    cost = read.cost("mul", (12, 12), 24)
    assert cost.delay.value == pytest.approx(10 * own.cost("mul", (12, 12), 24).delay.value, rel=1e-4)
    assert cost.area_um2 == pytest.approx(own.cost("mul", (12, 12), 24).area_um2, rel=1e-4)
    assert cost.area.error < own.cost("mul", (12, 12), 24).area.error
    assert read.flip_flop.setup_ps == 180
    assert read.sram(64, 64, "1rw") == own.sram(64, 64, "1rw")


def test_the_smallest_usable_cell_of_a_function_counts(library):
    text = library.read_text(encoding="utf-8")
    cell = "  cell (TINY) { area : 0.1; DONT pin (P) { direction : input; capacitance : 1.0; }\n"
    cell += "    pin (N) { direction : input; capacitance : 1.0; }\n"
    cell += '    pin (Z) { direction : output; function : "P\' + N\'"; timing () { related_pin : "P";\n'
    cell += '      cell_rise (scalar) { values ("5"); } rise_transition (scalar) { values ("5"); } } } }\n}'
    body = text.rstrip().removesuffix("}")
    library.write_text(body + cell.replace("DONT", ""), encoding="utf-8")
    assert load_liberty(library).nand2_area.value == 0.1
    library.write_text(body + cell.replace("DONT", "dont_use : true;"), encoding="utf-8")
    assert load_liberty(library).nand2_area.value == pytest.approx(TECHNOLOGY.nand2_area.value)


@pytest.mark.parametrize(
    ("old", "new", "lines_on", "message"),
    [
        ("library (", "librarian (", 0, "'library'"),
        ("delay_model :", "delay_model", 0, "'table_lookup'|':'"),
        ("area : 0.7100;", "area : large;", 0, "area of cell NAND2_X1 is 'large'"),
        ('function : "!(A&B)"', 'function : "!(A&B"', 0, "parenthesis"),
        ('function : "!(A&B)"', 'function : "!(A%B)"', 0, "not understood"),
        ("next_state", "next_state : ;", 0, "';' where"),
        ("index_2", "index_7", 7, "4 values for 2 x 1"),
    ],
)
def test_errors_name_file_and_line(library, old, new, lines_on, message):
    text = library.read_text(encoding="utf-8")
    line = text[: text.index(old)].count("\n") + 1 + lines_on
    library.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LibertyError, match=message) as caught:
        load_liberty(library)
    assert str(caught.value).startswith(f"{library}:{line}: ")


def test_an_unknown_time_unit_is_refused(library):
    text = library.read_text(encoding="utf-8").replace('"1ps"', '"1 fortnight"')
    library.write_text(text, encoding="utf-8")
    with pytest.raises(LibertyError, match=r"1 fortnight.*known are"):
        load_liberty(library)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("INV_X", "no inverter"), ("NAND2_X", "no 2-input NAND"), ("DFF_X1", "no plain D flip-flop")],
)
def test_missing_cells_are_named(library, missing, message):
    text = library.read_text(encoding="utf-8")
    functions = {"INV_X": '"!A"', "NAND2_X": '"!(A&B)"', "DFF_X1": 'clocked_on : "CK"; next_state : "D"; }'}
    replacement = 'clocked_on : "CK"; next_state : "D"; clear : "R"; }' if missing == "DFF_X1" else '"A&!A"'
    library.write_text(text.replace(functions[missing], replacement), encoding="utf-8")
    with pytest.raises(LibertyError, match=message):
        load_liberty(library)


def test_an_unfinished_file_says_where_it_ends():
    text = own_library()
    with pytest.raises(LibertyError, match=rf"^cut\.lib:{text[:2000].rstrip().count(chr(10)) + 1}: "):
        parse_liberty(text[:2000], "cut.lib")
    with pytest.raises(LibertyError, match=r"^cut\.lib:1: the file ends"):
        parse_liberty("", "cut.lib")
    with pytest.raises(LibertyError, match="after the end"):
        parse_liberty("library (a) { } }")
    with pytest.raises(LibertyError, match="string without end"):
        parse_liberty('library (a) { b : "c }')


@given(st.text(alphabet='library(){}:;,"\\ab1 \n/*', max_size=60))
def test_any_text_parses_or_is_refused_with_a_line(text):
    refused = ""
    try:
        parse_liberty("library" + text, "fuzz.lib")
    except LibertyError as error:
        refused = str(error)
    assert not refused or re.match(r"fuzz\.lib:\d+: .", refused)


def test_comments_continuations_and_missing_semicolons():
    group = parse_liberty('library (a) { /* x\n y */ b : 1 // z\n c : "d e"; f ("1, 2", \\\n "3"); g (h) { } }')
    assert group.attributes == {"b": "1", "c": "d e"}
    assert group.complex_attributes == {"f": ("1, 2", "3")}
    assert [g.where for g in group.all("g")] == ["liberty:4"]


FUNCTIONS = [
    ("!(A&B)", lambda a, b: not (a and b)),
    ("A' + B'", lambda a, b: not (a and b)),
    ("(A*!B) | (!A B)", lambda a, b: a != b),
    ("A ^ B ^ 1", lambda a, b: a == b),
    ("A&B|!A&!B", lambda a, b: a == b),
    ("!A'", lambda a, b: a),
]


@pytest.mark.parametrize(("text", "meaning"), FUNCTIONS)
def test_functions(text, meaning):
    table = Function(text, "here").truth_table(("A", "B"))
    assert table == tuple(bool(meaning(a, b)) for a, b in product((False, True), repeat=2))


def test_interpolation_and_axes():
    library = parse_liberty(
        "library (a) { lu_table_template (t) { variable_1 : total_output_net_capacitance; "
        'variable_2 : input_net_transition; index_1 ("0, 10"); index_2 ("0, 1, 2"); } '
        'cell_rise (t) { values ("0, 1, 2", "100, 101, 102"); } }'
    )
    table = lookup_table(library.groups[1], library)
    assert table(0.5, 5.0) == pytest.approx(50.5)
    assert table(3.0, 20.0) == pytest.approx(203.0)  # beyond the axes
    assert LookupTable((0.0,), (0.0,), ((7.0,),))(3.0, 9.0) == 7.0


def test_drive_strengths_grow_in_area_and_load():
    text = write_liberty(TECHNOLOGY)
    cells = {c.name: c for c in parse_liberty(text).all("cell")}
    assert len(cells) == 4 * (len(TECHNOLOGY.gates) - len(COMPLEX_GATES))
    for name in ("INV", "NAND2", "XOR2"):
        areas = [cells[f"{name}_X{d}"].number("area") for d in (1, 2, 4, 8)]
        assert areas == pytest.approx([drive_area(TECHNOLOGY, name, d) for d in (1, 2, 4, 8)], abs=1e-4)
        assert areas == sorted(areas)
    assert gate_inputs(TECHNOLOGY.gates["MUX2"].function) == ["S", "B", "A"]


def test_errors_are_those_of_the_library():
    assert issubclass(LibertyError, TechnologyError)
