"""Types, ranges, and the packing of values into port bits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.evaluate import pack, unflatten, unpack
from hls.names import check_identifier
from hls.types import Bool, Fixed, HlsError, Range, SInt, UFixed, UInt, Vec, leaves, smallest_type, to_raw

ranges = st.tuples(st.integers(-(2**70), 2**70), st.integers(0, 2**70)).map(lambda p: Range(p[0], p[0] + p[1]))


@settings(deadline=None)
@given(ranges)
def test_the_smallest_type_holds_the_range_and_one_bit_less_does_not(range_):
    type_ = smallest_type(range_)
    assert type_.full_range.covers(range_)
    if type_.width > 1:
        assert not Fixed(type_.width - 1, 0, type_.signed).full_range.covers(range_)


@pytest.mark.parametrize(
    ("range_", "expected"),
    [
        (Range(0, 0), UInt(1)),
        (Range(0, 1), Bool),
        (Range(0, 255), UInt(8)),
        (Range(0, 256), UInt(9)),
        (Range(-1, 0), SInt(1)),
        (Range(-1, 1), SInt(2)),
        (Range(-128, 127), SInt(8)),
        (Range(-129, 0), SInt(9)),
        (Range(-5, -5), SInt(4)),
    ],
)
def test_widths_by_hand(range_, expected):
    assert smallest_type(range_) == expected


@settings(deadline=None)
@given(ranges, ranges)
def test_union_covers_both_and_intersection_is_covered(a, b):
    assert a.union(b).covers(a)
    assert a.union(b).covers(b)
    if max(a.low, b.low) <= min(a.high, b.high):
        assert a.covers(a.intersect(b))
    else:
        with pytest.raises(HlsError, match="empty range"):
            a.intersect(b)


@settings(deadline=None)
@given(st.integers(-(2**20), 2**20), st.integers(1, 24), st.booleans())
def test_to_raw_is_the_residue_that_the_type_holds(bits, width, signed):
    raw = to_raw(bits, width, signed)
    assert raw in Fixed(width, 0, signed).full_range
    assert (raw - bits) % 2**width == 0


@st.composite
def typed_values(draw):
    type_ = draw(st.builds(Fixed, st.integers(1, 70), st.integers(-3, 20), st.booleans()))
    for length in draw(st.lists(st.integers(1, 4), max_size=2)):
        type_ = Vec(type_, length)
    scalars = [draw(st.integers(t.range.low, t.range.high)) for t in leaves(type_)]
    return type_, unflatten(type_, scalars)


@settings(deadline=None)
@given(typed_values())
def test_packing_is_invertible_and_fits(typed):
    type_, value = typed
    bits = pack(type_, value)
    assert 0 <= bits < 2**type_.total_bits
    assert unpack(type_, bits) == value


def test_element_0_is_in_the_least_significant_bits():
    assert pack(Vec(SInt(4), 3), [1, -1, 2]) == 0x2F1
    assert pack(Vec(Vec(UInt(4), 2), 2), [[1, 2], [3, 4]]) == 0x4321


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SInt(0), "at least 1 bit"),
        (lambda: Vec(SInt(3), 0), "at least 1 element"),
        (lambda: SInt(4).within(-9, 0), r"holds \[-8, 7\], not the asserted \[-9, 0\]"),
        (lambda: Range(3, 2), "empty range"),
        (lambda: pack(SInt(4), 8), r"8 is outside \[-8, 7\] of SInt\(4\)"),
        (lambda: pack(SInt(4).within(0, 3), 4), r"outside \[0, 3\]"),
        (lambda: pack(Vec(SInt(4), 2), [1]), "a sequence of 1"),
        (lambda: pack(Vec(SInt(4), 2), 1), "got 1"),
        (lambda: pack(SInt(4), [1]), "expected one"),
        (lambda: check_identifier("reg", "port"), "'reg_' would do"),
        (lambda: check_identifier("a b", "port"), "'a_b' would do"),
        (lambda: check_identifier("9x", "port"), "'n9x' would do"),
        (lambda: check_identifier("", "port"), "'port' would do"),
    ],
)
def test_errors_say_what_would_work(make, message):
    with pytest.raises(HlsError, match=message):
        make()


def test_names_of_types():
    assert [str(t) for t in (SInt(3), UInt(4), Fixed(12, 4), UFixed(12, 12), Vec(Bool, 2))] == [
        "SInt(3)",
        "UInt(4)",
        "Fixed(12, 4)",
        "UFixed(12, 12)",
        "Vec(UInt(1), 2)",
    ]


def test_asserted_bounds_take_no_part_in_equality():
    assert SInt(8).within(0, 3) == SInt(8)
    assert SInt(8).within(0, 3).range == Range(0, 3)
