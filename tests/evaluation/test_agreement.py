"""Figures of agreement against closed forms."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.evaluation.agreement import Opinion, agreement, opinion
from dar_jax.records import Distribution, Verdict

LEVELS = (1.0, 2.0, 3.0)


def _verdict(*probabilities, **more):
    return Verdict(status="ok", distribution=Distribution(levels=LEVELS, probabilities=probabilities), **more)


NONE = Verdict(status="failed", reason="broken")


def test_rewards_become_an_opinion():
    """P(above) + P(even) / 2 of two independent draws: 0.5 x 0.7 + 0.5 x 0.7 / 2 + ... by hand."""
    found = opinion(_verdict(0.0, 0.5, 0.5), _verdict(0.7, 0.3, 0.0), (10, 4))
    assert found == Opinion(won=1.0, belief=pytest.approx(0.925), longer=True)
    assert opinion(_verdict(0.0, 1.0, 0.0), _verdict(0.0, 1.0, 0.0), (4, 4)) == Opinion(won=0.5, belief=0.5)
    assert opinion(_verdict(1.0, 0.0, 0.0), NONE, (1, 2)) is None


def test_comparisons_become_an_opinion():
    met = {"consistency": 0.0, "chose_first": 1.0}
    chosen, rejected = _verdict(0.0, 1.0, 0.0, belief=0.4, **met), _verdict(0.0, 1.0, 0.0, belief=0.6, **met)
    expected = Opinion(won=0.5, belief=0.4, agreed=False, chose_first=1.0, longer=False)
    assert opinion(chosen, rejected, (1, 2)) == expected


def test_shares_of_a_set_whose_answers_are_known():
    right, wrong = Opinion(won=1.0, belief=0.95, longer=True), Opinion(won=0.0, belief=0.35, longer=False)
    tied = Opinion(won=0.5, belief=0.5, longer=True)
    found = agreement([*[right] * 6, *[wrong] * 2, *[tied] * 2, None])
    assert (found.pairs, found.judged, found.wins, found.ties, found.losses) == (11, 10, 6, 2, 2)
    assert found.accuracy == pytest.approx(0.7)
    # Wilson at 0.7 of 10: (0.7 + z^2/20 -+ z sqrt(0.021 + z^2/400)) / (1 + z^2/10), z = 1.959964.
    assert (found.low, found.high) == pytest.approx((0.396777, 0.892209), abs=1e-5)
    assert found.kappa == pytest.approx((0.6 - 0.4) / 0.6)
    # All decided pairs went to the longer one; people chose it in 6 of 8.
    assert (found.longer, found.longer_people, found.length_bias) == pytest.approx((1.0, 0.75, 0.25))
    assert found.brier == pytest.approx((6 * 0.05**2 + 2 * 0.65**2 + 2 * 0.25) / 10)
    assert math.isnan(found.flip_rate)
    assert [(each.count, each.accuracy) for each in found.calibration if each.count] == [(2, 0.5), (2, 0.0), (6, 1.0)]


def test_order_shows_in_flips_and_in_what_was_named_first():
    steady = Opinion(won=1.0, belief=1.0, agreed=True, chose_first=0.5)
    swayed = Opinion(won=0.5, belief=0.5, agreed=False, chose_first=1.0)
    found = agreement([steady, steady, steady, swayed])
    assert (found.flip_rate, found.chose_first) == (0.25, 0.625)


def test_nothing_judged_is_no_number():
    found = agreement([None])
    figures = dataclasses.asdict(found)
    assert all(math.isnan(figures[name]) for name in ("accuracy", "low", "kappa", "brier", "length_bias"))


@given(st.lists(st.sampled_from([1.0, 0.0]), min_size=1))
def test_kappa_without_ties_is_twice_the_accuracy_less_one(won):
    found = agreement([Opinion(won=each, belief=each) for each in won])
    assert found.kappa == pytest.approx(2 * found.accuracy - 1)
