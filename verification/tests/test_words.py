"""Elements and records as words of a port, and back."""

from hypothesis import given
from hypothesis import strategies as st

from hls.datapaths.machine_sizes import Record
from verification.evidence.words import joined, nth, pack, split, unpack


@given(st.integers(1, 40).flatmap(lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, (1 << bits) - 1)))))
def test_elements_come_back(case: tuple[int, list[int]]) -> None:
    bits, elements = case
    word = joined(elements, bits)
    assert split(word, bits, len(elements)) == elements
    assert split(word, 1, bits * len(elements)) == [e >> i & 1 for e in elements for i in range(bits)]


def test_negative_elements_leave_their_neighbours_alone() -> None:
    assert joined([-1, 2, -8], 4) == 0x82F
    assert nth(0x82F, 4, 2) == 8


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, (1 << 120) - 1))
def test_records_come_back_their_first_field_lowest(widths: list[int], bits: int) -> None:
    record = Record(tuple((f"field_{i}", width) for i, width in enumerate(widths)))
    word = bits & ((1 << record.bits) - 1)
    fields = unpack(record, word)
    assert pack(record, fields) == word
    assert fields["field_0"] == word & ((1 << widths[0]) - 1)
    assert fields[f"field_{len(widths) - 1}"] == word >> (record.bits - widths[-1])
