import math

import numpy as np
import pytest

from dar_jax.experiments.intervals import annotations_to, over_seeds, ratio_to_level, to_level

X = np.array([0, 10, 20, 30])


def test_a_mean_with_students_interval():
    # t(0.975, 2) = 4.302653, s = 1, n = 3.
    found = over_seeds([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx(
        (2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-5
    )


def test_one_seed_has_no_interval_and_a_share_stays_one():
    assert math.isnan(over_seeds([4.0]).low)
    found = over_seeds([0.9, 1.0], share=True)
    assert (found.value, found.high) == (pytest.approx(0.95), 1.0)
    assert found.low == pytest.approx(0.95 - 12.706205 * 0.05, abs=1e-5)


@pytest.mark.parametrize(
    ("level", "reward", "wanted"),
    [
        (2.0, [1, 3, 5, 7], 5.0),  # half way from 0 to 10
        (5.0, [1, 3, 5, 7], 20.0),  # at a point
        (1.0, [1, 3, 5, 7], 0.0),  # from the start on
        (4.0, [1, 5, 2, 9], 7.5),  # the first time counts
        (7.5, [1, 3, 5, 7], math.inf),  # never
        (4.0, [1, math.nan, 5, 7], 15.0),  # an evaluation without a number is passed over
    ],
)
def test_annotations_to_a_level(level, reward, wanted):
    assert annotations_to(level, X, np.array(reward, float)) == pytest.approx(wanted)


def test_to_a_level_over_seeds():
    same = np.array([[1.0, 3, 5, 7]] * 3)
    found = to_level(4.0, X, same)
    assert (found.value, found.low, found.high) == (15.0, 15.0, 15.0)
    assert math.isnan(to_level(4.0, X, same[:1]).low)


def test_draws_that_never_get_there_are_in_the_interval():
    found = to_level(3.0, X, np.array([[0.0, 2, 4, 6], [0.0, 1, 1, 1]]))
    # The mean curve 0, 1.5, 2.5, 3.5 crosses half way to the last point; the second seed alone never does.
    assert found.value == pytest.approx(25.0)
    assert (found.low, found.high) == (15.0, math.inf)


def test_the_ratio_pairs_seeds():
    first = np.array([[0.0, 1, 2, 3], [0.0, 2, 4, 6]])
    # At the same rewards for twice the annotations, each seed takes twice as many, whichever are drawn.
    found = ratio_to_level(1.5, 2 * X, first, X, first)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_ratio_where_one_or_none_gets_there():
    reaches, never = np.array([[0.0, 1, 2, 3]] * 2), np.zeros((2, 4))
    assert ratio_to_level(1.5, X, never, X, reaches).value == math.inf
    assert ratio_to_level(1.5, X, reaches, X, never).value == 0.0
    neither = ratio_to_level(1.5, X, never, X, never)
    assert math.isnan(neither.value)
    assert math.isnan(neither.low)
