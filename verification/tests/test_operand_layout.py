"""Where K and V of a layer go in DRAM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memory.operand_layout import ALIGNMENT_BYTES, operand_layout

sizes = st.integers(1, 3000)


@pytest.mark.parametrize("prunes_values", [False, True])
@given(st.lists(sizes, min_size=2, max_size=2), st.lists(sizes, min_size=2, max_size=2), st.integers(1, 9), st.data())
def test_planes_are_aligned_and_do_not_overlap(prunes_values, key_bytes, value_bytes, heads, data):
    planes = data.draw(st.sampled_from((1, 2)))
    key_bytes, value_bytes = key_bytes[:planes], value_bytes[:planes]
    layout = operand_layout(key_bytes, value_bytes, heads, prunes_values)
    parts = sorted(
        (offset + head * stride, size)
        for offsets, stride, of_planes in (
            (layout.keys, layout.key_stride, key_bytes),
            (layout.values, layout.value_stride, value_bytes),
        )
        for offset, size in zip(offsets, of_planes, strict=True)
        for head in range(heads)
    )
    assert all(begin % ALIGNMENT_BYTES == 0 for begin, _ in parts)
    ends = [begin + size for begin, size in parts]
    assert all(end <= begin for end, (begin, _) in zip(ends, parts[1:], strict=False))
    assert parts[0][0] == 0
    assert max(ends) <= layout.end
