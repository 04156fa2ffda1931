"""The order of the prompts."""

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.data import prompt_ids

sizes = st.integers(1, 300)
seeds = st.integers(-(2**40), 2**70)


@given(sizes, seeds, st.integers(0, 5))
def test_each_pass_is_a_permutation(size: int, seed: int, number: int) -> None:
    assert sorted(prompt_ids(size, seed, number * size, size)) == list(range(size))


@given(sizes, seeds, st.integers(0, 2000), st.integers(0, 50), st.integers(0, 50))
def test_prompts_do_not_depend_on_how_the_run_got_there(
    size: int, seed: int, start: int, first: int, second: int
) -> None:
    whole = prompt_ids(size, seed, start, first + second)
    assert whole == prompt_ids(size, seed, start, first) + prompt_ids(size, seed, start + first, second)


def test_passes_and_seeds_differ() -> None:
    streams = [prompt_ids(50, seed, start, 50) for seed in (0, 1) for start in (0, 50)]
    assert len({tuple(stream) for stream in streams}) == 4


def test_small_permutations_are_all_about_equally_likely() -> None:
    seen = Counter(tuple(prompt_ids(4, seed, 0, 4)) for seed in range(4800))
    expected = 4800 / 24
    chi_square = sum((seen[order] - expected) ** 2 / expected for order in permutations(range(4)))
    assert chi_square < 60  # 23 degrees of freedom: 1 in 30,000


def test_the_stream_is_fixed_for_all_time() -> None:
    """A checkpoint holds a position, not an order: a change here would break resuming."""
    assert prompt_ids(10, 0, 0, 20) == [6, 0, 4, 3, 2, 7, 8, 9, 5, 1, 7, 1, 4, 3, 6, 0, 8, 9, 2, 5]
    assert prompt_ids(1_000_003, 7, 123_456_789, 4) == [509124, 851891, 720242, 213637]


def test_many_rows_cost_nothing() -> None:
    ids = prompt_ids(10**12, 0, 10**15, 1000)
    assert len(set(ids)) == 1000
    assert all(0 <= row < 10**12 for row in ids)


@pytest.mark.parametrize("wrong", [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_positions(wrong: tuple[int, int, int]) -> None:
    size, start, count = wrong
    with pytest.raises(ValueError, match="no such positions"):
        prompt_ids(size, 0, start, count)
