import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.reference.top_k import eliminate_zeros, filter_kept, largest_k, lfsr_pivots, quick_select

values_lists = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), min_size=1, max_size=60)


def kept_by_sort(values, k):
    return tuple(sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]))


def kept_by_tensor(values, k, valid=None):
    mask = torch.ones(len(values), dtype=torch.bool) if valid is None else torch.tensor(valid)
    return tuple(torch.nonzero(largest_k(torch.tensor(values), mask, torch.tensor([k]))).flatten().tolist())


def test_every_short_list_and_every_k():
    for n in range(1, 6):
        for values in itertools.product(range(4), repeat=n):
            for k in range(1, n + 2):
                expected = kept_by_sort(values, k)
                assert quick_select(values, k, lfsr_pivots(2)).kept == expected
                assert kept_by_tensor(list(values), k) == expected


@given(values=values_lists, data=st.data())
def test_the_selection_does_not_depend_on_the_pivots(values, data):
    k = data.draw(st.integers(1, len(values)))
    chosen = quick_select(values, k, lambda count: data.draw(st.integers(0, count - 1)))
    assert chosen.kept == kept_by_sort(values, k) == kept_by_tensor(values, k)
    assert chosen.threshold == sorted(values, reverse=True)[k - 1]
    assert chosen.equal == k - sum(v > chosen.threshold for v in values)


@given(values=values_lists, lanes=st.sampled_from([1, 2, 4, 16, 32]), data=st.data())
def test_the_machine_s_pivots_shrink_the_candidates_every_pass(values, lanes, data):
    k = data.draw(st.integers(1, len(values)))
    chosen = quick_select(values, k, lfsr_pivots(lanes))
    assert chosen.kept == kept_by_sort(values, k)
    assert all(b < a for a, b in itertools.pairwise(chosen.candidates))
    assert chosen.passes <= len(set(values))
    assert chosen.candidates[:1] == (() if k == len(values) else (len(values),))


@given(values=values_lists, data=st.data())
def test_invalid_lanes_are_never_chosen(values, data):
    valid = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(1, len(values) + 3))
    present = [i for i, v in enumerate(valid) if v]
    expected = tuple(present[i] for i in kept_by_sort([values[i] for i in present], k))
    assert kept_by_tensor(values, k, valid) == expected


def test_a_row_of_a_batch_has_its_own_k():
    values = torch.tensor([[1, 5, 3], [9, 9, 9]])
    kept = largest_k(values, torch.ones(2, 3, dtype=torch.bool), torch.tensor([[1], [2]]))
    assert kept.tolist() == [[False, True, False], [True, True, False]]


def test_the_published_example():
    values = [0.6, 0.1, 0.5, 1.2, 0.6]
    for pivot_rule in (lambda count: 0, lambda count: count - 1):
        chosen = quick_select(values, 3, pivot_rule)
        assert (chosen.threshold, chosen.equal) == (0.6, 2)
        assert [values[i] for i in chosen.kept] == [0.6, 1.2, 0.6]


def test_passes_are_counted_on_a_list_worked_by_hand():
    pivots = iter([2, 0, 1])  # 5: larger {9, 7, 8} are 3; 9: none larger, 1 equal; then 8 among {7, 8}
    chosen = quick_select([1, 9, 5, 7, 8], 2, lambda count: next(pivots))
    assert chosen.candidates == (5, 3, 2)
    assert (chosen.threshold, chosen.equal, chosen.kept) == (8, 1, (1, 4))


def test_the_lfsr_walks_its_full_period():
    pick, seen = lfsr_pivots(256), set()
    state = 0xACE1
    for _ in range(65535):
        state = (state >> 1) ^ (0xB400 if state & 1 else 0)
        seen.add(state)
        assert pick(65536) == (((state >> 8) * 256) >> 8) * 256 + (((state & 255) * 256) >> 8)
    assert len(seen) == 65535


@given(count=st.integers(1, 1024), lanes=st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_a_pivot_is_one_of_the_candidates(count, lanes):
    pick = lfsr_pivots(lanes)
    assert all(0 <= pick(count) < count for _ in range(20))


@pytest.mark.parametrize(("values", "k"), [([0, 0, 0], 2), ([7] * 33, 33), ([2**32 - 1, 0], 1), ([0], 1)])
def test_zeros_equals_and_extremes(values, k):
    assert quick_select(values, k, lfsr_pivots(16)).kept == kept_by_sort(values, k) == kept_by_tensor(values, k)


def test_k_of_zero_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        quick_select([1, 2], 0, lfsr_pivots(16))
    with pytest.raises(ValueError, match="at least 1"):
        kept_by_tensor([1, 2], 0)
    with pytest.raises(ValueError, match="0 items"):
        quick_select([], 1, lfsr_pivots(16))


def test_the_filter_admits_the_first_equals():
    assert filter_kept([5, 3, 5, 9, 5], 5, 2) == (0, 2, 3)


def test_the_published_zero_eliminator_example():
    rounds = eliminate_zeros(["a", 0, "b", 0, "c", "d", 0, "e"], [True, False, True, False, True, True, False, True])
    shown = [[item if valid else 0 for item, valid in row] for row in rounds]
    assert shown[0] == ["a", "b", 0, 0, "c", "d", "e", 0]
    assert shown[1] == shown[2] == ["a", "b", "c", "d", "e", 0, 0, 0]


def test_the_zero_eliminator_packs_every_pattern_of_eight_lanes():
    for pattern in itertools.product([False, True], repeat=8):
        packed = eliminate_zeros(range(8), pattern)[-1]
        kept = [i for i in range(8) if pattern[i]]
        assert [item for item, valid in packed if valid] == kept
        assert [valid for _, valid in packed] == [True] * len(kept) + [False] * (8 - len(kept))
