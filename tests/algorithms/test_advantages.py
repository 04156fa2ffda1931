import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_jax.algorithms.base import advantages

REWARD_PG = np.array([[7.0, 8.0, 6.0, 7.0], [3.0, 9.0, 4.0, 5.0]], np.float32)
ALL_PG = np.ones((2, 4), bool)
few = settings(max_examples=30, deadline=None)


def given_rewards(reward_PG=REWARD_PG, valid_PG=ALL_PG, **options):
    advantage_PG, used_PG = advantages(jnp.asarray(reward_PG), jnp.asarray(valid_PG), **options)
    return np.asarray(advantage_PG), np.asarray(used_PG)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("prompt", [[0, 1, -1, 0], [-2.25, 3.75, -1.25, -0.25]]),
        ("batch", REWARD_PG - 6.125),
        ("leave_one_out", np.array([[0, 1, -1, 0], [-2.25, 3.75, -1.25, -0.25]]) * 4 / 3),
    ],
)
def test_baselines(baseline, expected):
    advantage_PG, used_PG = given_rewards(baseline=baseline, normalize="none")
    np.testing.assert_allclose(advantage_PG, expected, atol=1e-6)
    assert used_PG.all()


@pytest.mark.parametrize(("deviation", "ddof"), [("population", 0), ("sample", 1)])
@pytest.mark.parametrize(("normalize", "axis"), [("batch", None), ("prompt", 1)])
def test_normalisation_is_the_named_deviation(normalize, axis, deviation, ddof):
    centred_PG = REWARD_PG - REWARD_PG.mean(1, keepdims=True)
    advantage_PG, _ = given_rewards(normalize=normalize, deviation=deviation)
    np.testing.assert_allclose(advantage_PG, centred_PG / centred_PG.std(axis, ddof=ddof, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("normalize", ["batch", "prompt", "none"])
@pytest.mark.parametrize("baseline", ["prompt", "leave_one_out", "batch"])
def test_statistics_are_over_the_scored_members(baseline, normalize):
    """A failed judgement stands for no number: what is left is as if it had never been asked for."""
    holed_PG = np.concatenate([REWARD_PG, np.full((2, 1), np.nan, np.float32)], 1)
    valid_PG = np.concatenate([ALL_PG, np.zeros((2, 1), bool)], 1)
    options = {"baseline": baseline, "normalize": normalize}
    advantage_PG, used_PG = given_rewards(holed_PG, valid_PG, **options)
    np.testing.assert_allclose(advantage_PG[:, :4], given_rewards(**options)[0], rtol=1e-5, atol=1e-6)
    assert (advantage_PG[:, 4] == 0).all()
    assert not used_PG[:, 4].any()


def test_a_group_with_one_scored_member_has_no_advantage_and_moves_no_other():
    valid_PG = np.array([[True] * 4, [False, True, False, False]])
    advantage_PG, used_PG = given_rewards(valid_PG=valid_PG)
    np.testing.assert_allclose(advantage_PG[0], given_rewards(REWARD_PG[:1], ALL_PG[:1])[0][0], rtol=1e-5)
    assert not used_PG[1].any()
    assert (advantage_PG[1] == 0).all()


def test_a_legitimate_zero_is_a_reward():
    advantage_PG, used_PG = given_rewards(np.array([[0.0, 1.0]], np.float32), np.ones((1, 2), bool))
    np.testing.assert_allclose(advantage_PG, [[-1.0, 1.0]], rtol=1e-6)
    assert used_PG.all()


@pytest.mark.parametrize("baseline", ["prompt", "leave_one_out", "batch"])
@pytest.mark.parametrize("normalize", ["batch", "prompt"])
def test_equal_rewards_have_no_advantage(baseline, normalize):
    for reward in (0.0, 7.1, 1e6, -3.3e-3):
        advantage_PG, _ = given_rewards(np.full((2, 3), reward, np.float32), np.ones((2, 3), bool), normalize=normalize)
        np.testing.assert_array_equal(advantage_PG, 0.0)


@pytest.mark.parametrize("baseline", ["prompt", "leave_one_out", "batch"])
def test_equal_rewards_have_no_advantage_of_their_rounding(baseline):
    advantage_PG, _ = given_rewards(
        np.full((2, 3), 0.1, np.float32), np.ones((2, 3), bool), baseline=baseline, normalize="none"
    )
    np.testing.assert_array_equal(advantage_PG, 0.0)


def test_nothing_scored_gives_zeros():
    advantage_PG, used_PG = given_rewards(np.full((2, 4), np.nan, np.float32), np.zeros((2, 4), bool))
    assert (advantage_PG == 0).all()
    assert not used_PG.any()


@few
@given(st.integers(0, 2**31), st.sampled_from([(3, 4), (5, 1), (1, 1)]))
def test_batch_normalised_advantages_have_mean_zero_and_spread_one(seed, shape):
    reward_PG = np.random.default_rng(seed).uniform(1, 10, shape).astype(np.float32)
    advantage_PG, used_PG = given_rewards(reward_PG, np.ones_like(reward_PG, bool))
    assert used_PG.all()
    assert abs(advantage_PG.mean()) < 1e-4
    assert advantage_PG.std() == pytest.approx(0.0 if shape == (1, 1) else 1.0, abs=1e-3)
