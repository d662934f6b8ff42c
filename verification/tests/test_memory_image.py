"""DRAM as the host lays it out: packing, regions, and the bursts of a list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verification.memory_image import ALIGNMENT_BYTES, MemoryImage, list_bursts, packed, unpacked


@given(st.integers(1, 16), st.data())
def test_packing_comes_back(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=40))
    assert unpacked(packed(values, bits), len(values), bits).tolist() == values


def test_packing_is_least_significant_bit_first() -> None:
    assert packed([0b0011, -1, 0b0101], 4).tolist() == [0b11110011, 0b0101]


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit in 4 bits"):
        packed([16], 4)


def test_regions_are_aligned_and_do_not_meet() -> None:
    image = MemoryImage(1 << 14)
    first, second = image.allocate(700, 3), image.allocate(1)
    assert first.part(1) == first.address + 2 * ALIGNMENT_BYTES
    assert second.address == first.address + 6 * ALIGNMENT_BYTES
    with pytest.raises(IndexError, match="part 3"):
        first.part(3)
    with pytest.raises(MemoryError, match="are needed"):
        image.allocate(1 << 14)


def test_written_bytes_are_read() -> None:
    image = MemoryImage(1024)
    image.write(512, packed([1, 2, 3], 8))
    assert image.read(511, 5).tolist() == [0xFF, 1, 2, 3, 0xFF]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True).map(sorted), st.integers(1, 800))
def test_bursts_of_a_list_are_those_of_its_vectors_with_shared_ones_once(ids: list[int], vector_bits: int) -> None:
    wanted: list[int] = []
    for ident in ids:
        touched = sorted({bit // 256 for bit in range(ident * vector_bits, (ident + 1) * vector_bits)})
        wanted += touched[1:] if wanted and wanted[-1] == touched[0] else touched
    assert list_bursts(ids, 0, vector_bits).tolist() == wanted
    assert (list_bursts(ids, 512, vector_bits) - 16).tolist() == wanted
